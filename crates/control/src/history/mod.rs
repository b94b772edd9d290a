//! The change log as users see it: revisions, what they changed, comparisons with their effect on routes, and rollbacks.
//!
//! What is shown has no secrets, unless they are asked for.

mod action;
mod compare;
mod effects;
mod revisions;
mod rollback;
#[cfg(test)]
mod tests;

pub use action::Action;
pub use compare::{Comparison, EntityChange, FieldChange, Shown, diff};
pub use effects::{RouteEffect, effects};
pub use revisions::{Revision, RevisionChanges, revision_changes, revisions, time_text};
pub use rollback::{Rollback, rollback};

use cardinal_store::StoreError;

use crate::Fault;

/// A revision that the log does not have is no fault of the store.
fn fault(error: StoreError) -> Fault {
    match error {
        StoreError::TooLarge(text) => Fault::message(404, &text),
        error => error.into(),
    }
}
