//! Rate limits: windows of the calendar, token buckets, counters in the memory of this node, and what the client is told.
//!
//! Shared by the rate limit policy of the engine and by plugins that keep counters elsewhere.

mod counters;
mod identifier;
mod quota;
#[cfg(test)]
mod tests;
mod window;

use smallvec::SmallVec;

pub use counters::Counters;
pub use identifier::{push_address, push_identifier};
pub use quota::{Limits, Quota, Usage, is_used_up, limited, limits};
pub use window::{PERIODS, Period};

/// Text that a request is counted by. Long enough for what counters are named by, so that it stays off the heap.
pub type Key = SmallVec<[u8; 128]>;
