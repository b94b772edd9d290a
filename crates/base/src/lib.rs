//! Foundations of all crates: clocks, randomness, supervised tasks, sizes, log set-up, metrics text, memory budgets,
//! limits that threads share.
//!
//! *Must not know*: anything about proxying.
//!
//! Start at [`Clock`] and [`Rng`]: state machines take them as arguments, so that they run in simulation. Code that waits
//! does so by a [`Clock`], too.

mod budget;
pub mod civil;
pub mod descriptors;
mod limit;
pub mod log;
pub mod memory;
pub mod metrics;
mod object_pool;
mod one_or_many;
mod rng;
mod sharded;
mod size;
pub mod task;
mod time;

pub use budget::{Budget, Exhausted, Reservation};
pub use limit::{Permit, Seat, SharedLimit, Waiting};
pub use object_pool::ObjectPool;
pub use one_or_many::OneOrMany;
pub use rng::{Rng, SeededRng, SystemRng};
pub use sharded::{Keyed, Sharded};
pub use size::{ParseSizeError, Size};
pub use time::{Clock, Elapsed, ManualClock, Sleep, SystemClock, Tick, Timeout, UnixMillis, timeout};

/// Identifies an object of a user or of the program.
pub type Id = uuid::Uuid;

/// A unique id.
pub fn random_id() -> Id {
    Id::new_v4()
}
