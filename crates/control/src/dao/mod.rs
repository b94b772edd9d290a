//! [`Dao`]: entities in a store, by their schemas. Kong: `kong/db/dao/init.lua`.
//!
//! `write` has the operations that change something, `read` the others; `document` is the form of an entity in the store,
//! `rules` has the checks that need other entities, `workspaces` the tenants, `fault` the errors in Kong's form.

mod access;
mod batch;
mod default_workspace;
pub(crate) mod document;
mod fault;
pub(crate) mod health;
mod import;
mod lua;
pub(crate) mod members;
mod overlay;
mod read;
mod rules;
mod stored;
pub(crate) mod workspaces;
mod write;

pub use access::{DEFAULT_WORKSPACE, Dao, Fields, FutureOf, Tenant};
pub use batch::BatchDone;
pub(crate) use default_workspace::DEFAULT_NAME;
pub use fault::Fault;
pub use import::Import;
pub(crate) use read::parse_tags;
pub use read::{Listing, Selector, Tags};
