//! The matcher built from IR routes, with a naive matcher as its oracle; the expression language.
//!
//! *Must not know*: sockets, HTTP codecs, front ends. It reads a [`Request`] view that its caller fills, and names no
//! entity of any front end; the order among routes arrives computed, as [`Rank`](cardinal_ir::Rank).
//!
//! Start at [`Router::build`] and [`Router::find`]; [`naive`] is the reference implementation.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod checks;
mod explain;
pub mod expression;
mod index;
mod keys;
mod kinds;
pub mod naive;
mod path;
mod pattern;
mod predicate;
mod query;
mod request;
mod router;
mod rule;
mod slots;
pub mod upstream_uri;

pub use explain::{Explanation, Kind, Loser, Reason};
pub use path::{is_sound_path, normalize_path};
pub use pattern::Captures;
pub use request::{Headers, NoHeaders, Request, split_host};
pub use router::{Match, RouteTable, Router};
