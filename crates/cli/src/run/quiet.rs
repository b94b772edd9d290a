//! [`Quiet`]: when files that change have become quiet.

use cardinal_base::Tick;

/// Files that change together have this long to become quiet.
const QUIET_MS: u64 = 200;
/// After so long they are read even if they never do.
const QUIET_MS_MAX: u64 = 1_000;

/// When files that change have become quiet.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    first: Option<Tick>,
    last: Option<Tick>,
}

impl Quiet {
    pub(super) fn disturb(&mut self, now: Tick) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    pub(super) fn wait_ms(&self, now: Tick) -> Option<u64> {
        let (first, last) = (self.first?, self.last?);
        let quiet = QUIET_MS.saturating_sub(now.millis_since(last));
        Some(quiet.min(QUIET_MS_MAX.saturating_sub(now.millis_since(first))))
    }

    pub(super) fn is_over(&self, now: Tick) -> bool {
        self.wait_ms(now) == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_changes_is_one_change() {
        let mut quiet = Quiet::default();
        assert_eq!(quiet.wait_ms(Tick::from_millis(0)), None);
        quiet.disturb(Tick::from_millis(1_000));
        assert_eq!(quiet.wait_ms(Tick::from_millis(1_050)), Some(150));
        quiet.disturb(Tick::from_millis(1_150));
        assert_eq!(quiet.wait_ms(Tick::from_millis(1_200)), Some(150));
        assert!(quiet.is_over(Tick::from_millis(1_350)));
    }

    #[test]
    fn changes_that_never_end_are_looked_at_all_the_same() {
        let mut quiet = Quiet::default();
        for at in (0..=990).step_by(10) {
            quiet.disturb(Tick::from_millis(at));
            assert!(!quiet.is_over(Tick::from_millis(at)), "{at}");
        }
        assert!(quiet.is_over(Tick::from_millis(1_000)));
    }
}
