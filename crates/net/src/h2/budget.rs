//! Limits the useless work that a peer may cause: frames without effect, and streams that are reset early. Without a
//! limit, a peer could keep the node busy at little cost (RFC 9113 section 10.5; CVE-2023-44487).

use super::error::{Code, H2Error};

/// Maximum budget.
const FULL: u32 = 20_000;

/// Refill per second.
const PER_SECOND: u64 = 2_000;

/// Refill for each stream that was served completely.
const PER_STREAM: u32 = 20;

/// The cost of an event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cost {
    /// A frame without effect by itself.
    Frame = 1,
    /// A stream that was reset early, by the peer or because of a peer error. At most 2,000 at once and 200 per second.
    Stream = 10,
}

/// The remaining budget.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    /// Time of the last refill, milliseconds.
    since_ms: Option<u64>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: FULL, since_ms: None }
    }
}

impl Budget {
    /// Refills the budget by the elapsed time.
    pub(super) fn refill(&mut self, now_ms: u64) {
        if self.left == FULL {
            self.since_ms = Some(now_ms);
            return;
        }
        let passed = now_ms.saturating_sub(*self.since_ms.get_or_insert(now_ms));
        let back = u32::try_from(passed.saturating_mul(PER_SECOND) / 1_000).unwrap_or(FULL);
        if back > 0 {
            self.left = FULL.min(self.left.saturating_add(back));
            self.since_ms = Some(now_ms);
        }
    }

    /// Refills the budget for a served stream.
    pub(super) fn served(&mut self) {
        self.left = FULL.min(self.left + PER_STREAM);
    }

    /// Deducts a cost; the connection ends if the budget is exhausted.
    pub(super) fn spend(&mut self, cost: Cost) -> Result<(), H2Error> {
        self.left = self
            .left
            .checked_sub(cost as u32)
            .ok_or(H2Error::Connection(Code::ENHANCE_YOUR_CALM, "too many useless frames and streams"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_no_use_is_bounded_and_forgiven_in_time() {
        let mut budget = Budget::default();
        budget.refill(5);
        let spent = (0..).take_while(|_| budget.spend(Cost::Stream).is_ok()).count();
        assert_eq!(spent, 2_000);
        budget.refill(5);
        assert!(budget.spend(Cost::Frame).is_err());
        for ms in 5..=1_005 {
            budget.refill(ms);
        }
        assert_eq!((0..).take_while(|_| budget.spend(Cost::Stream).is_ok()).count(), 200);
        budget.served();
        assert_eq!((0..).take_while(|_| budget.spend(Cost::Frame).is_ok()).count(), 20);
        budget.refill(u64::MAX);
        budget.served();
        assert_eq!(budget.left, FULL);
    }
}
