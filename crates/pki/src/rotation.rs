//! When to renew a certificate.

use cardinal_base::{Rng, UnixMillis};

/// When to renew a leaf certificate that was received at `received` and expires at `not_after`: at a random moment
/// between half and two thirds of that time, always before two thirds. The spread keeps the workloads of a mesh that
/// started together from renewing together, and a third of the lifetime is left for retries.
///
/// The time at which the certificate was received counts, not its `notBefore`, which lies in the past to tolerate clocks
/// that differ. A certificate that has expired is to be renewed at once.
pub fn renewal_time(received: UnixMillis, not_after: UnixMillis, rng: &mut dyn Rng) -> UnixMillis {
    let lifetime = not_after.0.saturating_sub(received.0);
    UnixMillis(received.0.saturating_add(lifetime / 2).saturating_add(rng.below(lifetime / 6)))
}

#[cfg(test)]
mod tests {
    use cardinal_base::SeededRng;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_day_is_renewed_between_12_and_16_hours() {
        const HOUR: u64 = 3_600_000;
        let mut rng = SeededRng::new(1);
        let start = UnixMillis(1_000 * HOUR);
        let times: Vec<_> =
            (0..1_000).map(|_| renewal_time(start, UnixMillis(1_024 * HOUR), &mut rng).0 - start.0).collect();
        assert!(times.iter().all(|at| (12 * HOUR..16 * HOUR).contains(at)));
        let spread = times.iter().max().unwrap() - times.iter().min().unwrap();
        assert!(spread > 3 * HOUR, "{spread}");
        assert_eq!(renewal_time(start, start, &mut rng), start);
        assert_eq!(renewal_time(start, UnixMillis(0), &mut rng), start, "expired before it came");
    }

    proptest! {
        #[test]
        fn renewal_is_before_two_thirds(received: u64, not_after: u64, seed: u64) {
            let at = renewal_time(UnixMillis(received), UnixMillis(not_after), &mut SeededRng::new(seed)).0;
            prop_assert!(at >= received);
            if not_after >= received.saturating_add(6) {
                let lifetime = u128::from(not_after - received);
                prop_assert!(u128::from(at - received) * 3 < lifetime * 2);
                prop_assert!(u128::from(at - received) * 2 + 1 >= lifetime);
            }
        }
    }
}
