//! The configuration stream: where generations come from, and what became of each.
//!
//! A [`ConfigSource`] gives [`Update`]s and receives an [`Ack`] for each. Memory ([`MemorySource`]) is a source, the files
//! of the command line are another, and the engine does not know which one it follows. [`ConfigStatus`] holds the result
//! of the last change for status pages. The last generation that was served is kept in a file ([`LastGood`]), with the
//! secrets that its records refer to, so that a node restarts without its source.
//!
//! *Must not know*: what the records mean, front ends, the engine.
//!
//! Start at [`ConfigSource`], then [`MemorySource`], the smallest one.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod ack;
mod backoff;
mod last_good;
mod memory;
mod source;
mod status;
mod update;

pub use ack::{Ack, RecordResult, Refusal};
pub use backoff::Backoff;
pub use last_good::{Keeper, LastGood, LoadError, Loaded, SaveError, Saved};
pub use memory::{Ended, MemoryHandle, MemorySource};
pub use source::{ConfigSource, Next};
pub use status::{ConfigFacts, ConfigOutcome, ConfigProblem, ConfigStatus};
pub use update::{Update, UpdateParts};
