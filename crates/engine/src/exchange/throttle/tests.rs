use cardinal_base::{Rng as _, SeededRng};
use proptest::prelude::*;

use super::*;

proptest! {
    /// In any period, at most the rate plus one part is sent; a body that always has data reaches its rate.
    #[test]
    fn bodies_pass_at_their_rate(rate in 1_u64..10_000_000, seed in any::<u64>()) {
        let mut rng = SeededRng::new(seed);
        let (mut now, mut moved) = (Tick(7), 0);
        let mut pace = Pace::new(NonZeroU64::new(rate).unwrap(), now);
        let burst = pace.burst;
        while now.0 < 20 * MICROS_PER_SECOND {
            let wait_ms = pace.wait_ms(now);
            if wait_ms > 0 {
                // Timers come late, never early.
                now.0 += wait_ms * 1_000 + rng.below(30_000);
                continue;
            }
            let count = 1 + rng.below(pace.allowance());
            prop_assert!(count <= burst);
            pace.took(count);
            moved += count;
            let ideal = u128::from(rate) * u128::from(now.0 - 7) / u128::from(MICROS_PER_SECOND);
            prop_assert!(u128::from(moved) <= ideal + u128::from(burst), "{moved} bytes after {now:?}");
        }
        let ideal = rate * (now.0 - 7) / MICROS_PER_SECOND;
        prop_assert!(moved * 10 >= ideal * 8, "{moved} of {ideal} bytes");
    }
}

#[test]
fn time_that_was_not_used_is_lost() {
    let mut pace = Pace::new(NonZeroU64::new(1_000).unwrap(), Tick(0));
    assert_eq!((pace.allowance(), pace.wait_ms(Tick(3_600_000_000))), (100, 0));
    assert_eq!(pace.allowance(), 100);
    pace.took(100);
    assert_eq!(pace.wait_ms(Tick(3_600_000_000)), 50);
    let mut slow = Pace::new(NonZeroU64::MIN, Tick(0));
    slow.took(1);
    assert_eq!(slow.wait_ms(Tick(0)), 1_000);
    assert_eq!(Pace::new(NonZeroU64::MAX, Tick(0)).wait_ms(Tick(u64::MAX)), 0);
}
