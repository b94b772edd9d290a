//! The weighted wheel of round-robin: each member has entries in proportion to its weight, in shuffled order.
//!
//! As in Kong the wheel is as small as the weights' greatest common divisor allows. Unlike Kong its size has a limit:
//! beyond it weights are rounded to the wheel's resolution, and each member keeps at least one entry.

use cardinal_base::Rng;

/// Largest wheel, unless there are more members than that.
const ENTRIES_MAX: u64 = 1 << 16;

/// Member indexes in the order of turns. `slots` is the resolution that the user asked for. Weights are above zero.
pub(crate) fn build(weights: &[u64], slots: u32, rng: &mut dyn Rng) -> Box<[u32]> {
    let total: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
    let limit = u64::from(slots).clamp(1_000, ENTRIES_MAX).max(weights.len() as u64);
    let exact = total / u128::from(divisor) <= u128::from(limit);
    let mut wheel = Vec::new();
    for (index, weight) in (0_u32..).zip(weights) {
        let entries = if exact { weight / divisor } else { share(*weight, total, limit) };
        wheel.extend(std::iter::repeat_n(index, usize::try_from(entries).unwrap_or(usize::MAX)));
    }
    for at in (1..wheel.len()).rev() {
        let other = usize::try_from(rng.below(at as u64 + 1)).unwrap_or(0);
        wheel.swap(at, other);
    }
    wheel.into()
}

/// `weight / total` of `limit`, rounded, at least 1.
fn share(weight: u64, total: u128, limit: u64) -> u64 {
    let rounded = (u128::from(weight) * u128::from(limit) + total / 2) / total;
    u64::try_from(rounded).unwrap_or(limit).clamp(1, limit)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use cardinal_base::SeededRng;
    use proptest::prelude::*;

    use super::*;

    fn counts(weights: &[u64], slots: u32) -> Vec<u64> {
        let wheel = build(weights, slots, &mut SeededRng::new(1));
        let mut counts = vec![0; weights.len()];
        for entry in &wheel {
            counts[*entry as usize] += 1;
        }
        counts
    }

    #[test]
    fn is_as_small_as_the_common_divisor_allows() {
        assert_eq!(counts(&[100, 50, 50], 10_000), [2, 1, 1]);
        assert_eq!(counts(&[100], 10_000), [1]);
    }

    #[test]
    fn a_large_wheel_is_rounded_and_nobody_falls_off() {
        let counts = counts(&[65_535, 1, 32_768], 1_000);
        assert_eq!(counts[1], 1);
        assert!((counts[0] as i64 - 667).abs() <= 2, "{counts:?}");
        assert!(counts.iter().sum::<u64>() <= 1_003);
    }

    proptest! {
        #[test]
        fn entries_follow_the_weights(weights in prop::collection::vec(1_u64..70_000, 1..40), slots in 10_u32..70_000) {
            let counts = counts(&weights, slots);
            let total: u64 = weights.iter().sum();
            let entries: u64 = counts.iter().sum();
            prop_assert!(entries <= ENTRIES_MAX + 40);
            for (weight, count) in weights.iter().zip(&counts) {
                let ideal = *weight as f64 / total as f64 * entries as f64;
                // Rounding moves each member by half an entry, and lifting the small ones to one entry moves the sum.
                prop_assert!((*count as f64 - ideal).abs() <= 1.0 + 40.0 * ideal / entries as f64, "{count} {ideal}");
            }
        }
    }
}
