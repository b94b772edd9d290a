//! How much useless work a peer may make: frames that carry nothing, and streams that are ended before they gave
//! anything. Without a bound a peer keeps us busy at little cost (RFC 9113 section 10.5; CVE-2023-44487).

use super::error::{Code, H2Error};

/// What a peer may spend at once.
const FULL: u32 = 20_000;

/// What it gets back a second.
const PER_SECOND: u64 = 2_000;

/// What it gets back for each stream that is served to its end.
const PER_STREAM: u32 = 20;

/// What something costs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cost {
    /// A frame that is of no use by itself.
    Frame = 1,
    /// A stream that was opened and is ended early, by the peer or because of what it sent. At most 2,000 at once and
    /// 200 a second.
    Stream = 10,
}

/// What is left.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    /// When some was last given back; milliseconds.
    since_ms: Option<u64>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: FULL, since_ms: None }
    }
}

impl Budget {
    /// Gives back what time gives back.
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

    /// Gives back what a stream that was served gives back.
    pub(super) fn served(&mut self) {
        self.left = FULL.min(self.left + PER_STREAM);
    }

    /// Takes what something costs; the connection is over when nothing is left.
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
