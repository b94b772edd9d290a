//! Configuration updates: their sources and their results.
//!
//! A [`ConfigSource`] supplies [`Update`]s and receives an [`Ack`] for each. [`MemorySource`] is a source in memory,
//! the files of the command line are another, and the engine does not depend on the kind of source. [`ConfigStatus`]
//! contains the result of the last change for status pages. The last active generation is saved in a file
//! ([`LastGood`]), with the secrets to which its records refer, so that a node can restart without its source.
//!
//! [`stream`] is the protocol by which control planes send generations to data planes.
//!
//! *Must not know*: the meaning of records, front ends, the engine.
//!
//! Start at [`ConfigSource`], then [`MemorySource`], the smallest one.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod ack;
mod backoff;
mod last_good;
mod memory;
mod restricting;
mod source;
mod status;
pub mod stream;
mod update;

pub use ack::{Ack, RecordResult, Refusal};
pub use backoff::Backoff;
pub use last_good::{Keeper, LastGood, LoadError, Loaded, SaveError, Saved};
pub use memory::{Ended, MemoryHandle, MemorySource};
pub use source::{ConfigSource, Next};
pub use status::{ConfigOutcome, ConfigProblem, ConfigState, ConfigStatus, Incomplete, ProblemList};
pub use update::{Update, UpdateParts};
