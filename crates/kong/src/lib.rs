//! The Kong front end: entities, declarative files and settings, to the IR; texts of replies, and the form of `/status`.
//!
//! *Must not know*: HTTP servers, stores, the engine, plugins by name (they are given as descriptions).
//!
//! Start at [`load`] (files to a [`Snapshot`]), then [`lower`](fn@lower) (a snapshot to the IR); [`Lowered`] is for edits.

pub mod check;
pub mod declarative;
pub mod entities;
mod explain;
mod known;
mod lower;
mod packed;
mod pcre;
mod rank;
pub mod secrets;
pub mod settings;
mod source_map;
mod status;

pub use declarative::{Entity, LoadErrors, Snapshot, Source, load};
pub use entities::Registry;
pub use explain::scope_text;
pub use lower::{Edit, Lowered, lower, lower_owned, lower_strict};
pub use settings::Settings;
pub use source_map::SourceMap;
pub use status::KongStatus;
