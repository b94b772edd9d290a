//! Which part of the requests each priority gets, and each affinity within it: Envoy's rules, as a pure function.

use cardinal_ir::policy::LocalityPolicy;

/// Addresses of one affinity of one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Priority, from 0 without gaps; parts are in this order.
    pub(crate) level: u32,
    /// Weight within the priority.
    pub(crate) weight: u32,
    /// Addresses.
    pub(crate) total: u64,
    /// Those of them that are healthy and not ejected.
    pub(crate) available: u64,
}

/// What a part gets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Share {
    /// Of all requests, from 0 to 1.
    pub(crate) share: f64,
    /// All its addresses are used, available or not.
    pub(crate) panic: bool,
}

/// A priority.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    total: u64,
    available: u64,
    /// Percent of the requests that it can take.
    capacity: u64,
    panic: bool,
    load: f64,
}

/// The share of each part. All are 0 when nothing can be served.
pub(crate) fn spread(parts: &[Part], policy: &LocalityPolicy) -> Vec<Share> {
    let mut levels = levels(parts, policy);
    load(&mut levels, policy);
    let factor = f64::from(policy.overprovisioning_percent) / 100.0;
    let weight = |part: &Part| {
        let panic = level(&levels, part).panic;
        let suffices = match (part.total, part.available) {
            (0, _) => 0.0,
            _ if panic => 1.0,
            (_, available) if factor == 0.0 => f64::from(u8::from(available > 0)),
            (total, available) => (factor * ratio(available, total)).min(1.0),
        };
        f64::from(part.weight) * suffices
    };
    let mut sums = vec![0.0; levels.len()];
    for part in parts {
        if let Some(sum) = sums.get_mut(part.level as usize) {
            *sum += weight(part);
        }
    }
    let share = |part: &Part| {
        let (level, sum) = (level(&levels, part), sums.get(part.level as usize).copied().unwrap_or(0.0));
        let share = if sum > 0.0 { level.load * weight(part) / sum } else { 0.0 };
        Share { share, panic: level.panic }
    };
    parts.iter().map(share).collect()
}

fn level(levels: &[Level], part: &Part) -> Level {
    levels.get(part.level as usize).copied().unwrap_or_default()
}

fn levels(parts: &[Part], policy: &LocalityPolicy) -> Vec<Level> {
    let count = parts.last().map_or(0, |last| last.level as usize + 1);
    let mut levels = vec![Level::default(); count];
    for part in parts.iter().filter(|part| part.weight > 0) {
        if let Some(level) = levels.get_mut(part.level as usize) {
            level.total += part.total;
            level.available += part.available;
        }
    }
    for level in levels.iter_mut().filter(|level| level.total > 0) {
        level.capacity = match u64::from(policy.overprovisioning_percent) {
            0 => 100 * u64::from(level.available > 0),
            factor => (factor * level.available / level.total).min(100),
        };
    }
    levels
}

fn load(levels: &mut [Level], policy: &LocalityPolicy) {
    let capacity = levels.iter().map(|level| level.capacity).sum::<u64>().min(100);
    if capacity < 100 {
        for level in levels.iter_mut() {
            level.panic = ratio(level.available, level.total) * 100.0 < f64::from(policy.panic_percent);
        }
    }
    let total: u64 = levels.iter().map(|level| level.total).sum();
    if levels.iter().all(|level| level.panic) {
        levels.iter_mut().for_each(|level| level.load = ratio(level.total, total));
        return;
    }
    let mut left = 100;
    for level in levels {
        let taken = level.capacity.min(left);
        left -= taken;
        level.load = ratio(taken, capacity);
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share of counts")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Shares in percent, rounded, of priorities with so many of 100 addresses available.
    fn shares(available: &[u64], policy: &LocalityPolicy) -> Vec<(u64, bool)> {
        let part = |(level, available): (u32, &u64)| Part { level, weight: 1, total: 100, available: *available };
        let parts: Vec<Part> = (0..).zip(available).map(part).collect();
        spread(&parts, policy).iter().map(|s| ((s.share * 100.0).round() as u64, s.panic)).collect()
    }

    #[test]
    fn a_priority_gets_what_its_availability_suffices_for() {
        let policy = LocalityPolicy { panic_percent: 0, ..LocalityPolicy::default() };
        for (available, expect) in [
            (&[100, 100][..], &[100, 0][..]),
            (&[72, 100], &[100, 0]),
            (&[71, 100], &[99, 1]),
            (&[50, 100], &[70, 30]),
            (&[25, 100], &[35, 65]),
            (&[0, 100], &[0, 100]),
            (&[25, 25], &[50, 50]),
            (&[25, 0, 25], &[50, 0, 50]),
            (&[50, 20, 100], &[70, 28, 2]),
            (&[5], &[100]),
            (&[0, 0], &[0, 0]),
        ] {
            let percents: Vec<u64> = shares(available, &policy).iter().map(|(share, _)| *share).collect();
            assert_eq!(percents, expect, "{available:?}");
        }
        let strict = LocalityPolicy { overprovisioning_percent: 0, ..policy };
        assert_eq!(shares(&[1, 100], &strict), [(100, false), (0, false)]);
        assert_eq!(shares(&[0, 3, 100], &strict), [(0, false), (100, false), (0, false)]);
    }

    #[test]
    fn priorities_panic_only_while_they_do_not_suffice() {
        let policy = LocalityPolicy::default();
        for (available, expect) in [
            (&[49][..], &[(100, true)][..]),
            (&[50], &[(100, false)]),
            (&[0], &[(100, true)]),
            // The second one takes everything: there is no reason to.
            (&[0, 100], &[(0, false), (100, false)]),
            (&[10, 40], &[(50, true), (50, true)]),
            (&[10, 50], &[(17, true), (83, false)]),
        ] {
            assert_eq!(shares(available, &policy), expect, "{available:?}");
        }
    }

    #[test]
    fn affinities_lose_weight_with_their_addresses() {
        let part = |weight, available| Part { level: 0, weight, total: 10, available };
        let policy = LocalityPolicy { panic_percent: 0, ..LocalityPolicy::default() };
        let shares = |parts: &[Part]| -> Vec<u64> {
            spread(parts, &policy).iter().map(|s| (s.share * 1000.0).round() as u64).collect()
        };
        assert_eq!(shares(&[part(9, 10), part(1, 10)]), [900, 100]);
        assert_eq!(shares(&[part(9, 8), part(1, 10)]), [900, 100]);
        assert_eq!(shares(&[part(9, 5), part(1, 10)]), [863, 137]);
        assert_eq!(shares(&[part(9, 0), part(1, 10)]), [0, 1000]);
        assert_eq!(shares(&[part(0, 10), part(1, 10)]), [0, 1000]);
        assert_eq!(shares(&[part(0, 10), part(0, 10)]), [0, 0]);
    }

    /// One request after the other, for each of the 100 percents: the first priority that still has capacity takes it.
    fn naive(available: &[u64], policy: &LocalityPolicy) -> Vec<f64> {
        let factor = u64::from(policy.overprovisioning_percent);
        let capacity = |a: &u64| if factor == 0 && *a > 0 { 100 } else { (a * factor / 100).min(100) };
        let mut room: Vec<u64> = available.iter().map(capacity).collect();
        let mut taken = vec![0; available.len()];
        for _ in 0..100 {
            if let Some(at) = room.iter().position(|room| *room > 0) {
                room[at] -= 1;
                taken[at] += 1;
            }
        }
        let sum: u64 = taken.iter().sum();
        taken.iter().map(|t| if sum == 0 { 0.0 } else { *t as f64 / sum as f64 }).collect()
    }

    proptest! {
        #[test]
        fn equals_the_naive_spread(
            available in prop::collection::vec(0_u64..=100, 1..5),
            overprovisioning_percent in prop::sample::select(vec![0, 100, 140, 200, 300]),
        ) {
            let policy = LocalityPolicy { overprovisioning_percent, panic_percent: 0, zones: None };
            let part = |(level, available): (u32, &u64)| Part { level, weight: 3, total: 100, available: *available };
            let parts: Vec<Part> = (0..).zip(&available).map(part).collect();
            for (share, expect) in spread(&parts, &policy).iter().zip(naive(&available, &policy)) {
                prop_assert!((share.share - expect).abs() < 1e-9, "{share:?} {expect}");
            }
        }

        #[test]
        fn shares_add_up_and_go_to_what_can_serve(
            parts in prop::collection::vec((0_u32..3, 0_u32..4, 0_u64..9, 0_u64..9), 1..8),
            panic_percent in 0_u32..=100,
            overprovisioning_percent in 0_u32..400,
        ) {
            let mut parts: Vec<Part> = parts
                .into_iter()
                .map(|(level, weight, total, gone)| Part { level, weight, total, available: total.saturating_sub(gone) })
                .collect();
            parts.sort_by_key(|part| part.level);
            let policy = LocalityPolicy { overprovisioning_percent, panic_percent, zones: None };
            let shares = spread(&parts, &policy);
            let sum: f64 = shares.iter().map(|s| s.share).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9 || sum.abs() < 1e-9, "{sum}");
            for (part, share) in parts.iter().zip(&shares) {
                if share.share > 0.0 {
                    prop_assert!(part.weight > 0 && part.total > 0);
                    prop_assert!(share.panic || part.available > 0, "{part:?}");
                }
                prop_assert!(panic_percent > 0 || !share.panic);
            }
            // As long as anything with a weight is available, and the factor leaves it a percent, it is used.
            let serves = parts.iter().any(|p| p.weight > 0 && p.available > 0) && overprovisioning_percent >= 100;
            prop_assert!(!serves || sum > 0.5, "{parts:?}");
        }
    }
}
