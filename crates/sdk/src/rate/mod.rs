//! Rate limits: calendar windows, token buckets, in-memory counters of this node, and the rate limit headers.
//!
//! Shared by the rate limit policy of the engine and by plugins that store counters elsewhere.

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

/// The key by which a request is counted. Long enough for the usual keys, so that they are not allocated on the heap.
pub type Key = SmallVec<[u8; 128]>;
