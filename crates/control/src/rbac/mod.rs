//! Role-based access control of the Admin API: users with tokens, roles, sessions of browsers. Kong has it in its Enterprise
//! edition.
//!
//! [`Access`] finds out who sends a request and what the roles of that user are; [`crate::permissions`] decides by them.
//! `kinds` has the schemas of the documents, `token` and `session` the cryptography, `keys` what the store starts with,
//! `bootstrap` the way in for the first user.

mod access;
mod bootstrap;
mod hashing;
mod keys;
mod kinds;
mod limit;
mod predefined;
mod session;
mod token;

pub(crate) use access::{Access, Identity};
pub use bootstrap::{FIRST_USER, bootstrap, first_user};
pub use kinds::is_internal;
pub(crate) use kinds::{hide, kind, kinds};
pub use session::SessionTimes;
pub(crate) use session::{Session, cookie};
