//! The context for building a policy, and the checks of its records.

use cardinal_ir::{Id, Scope};
use cardinal_sdk::{BuildError, Services};

/// The input for building a policy.
pub(crate) struct PolicyCx<'x> {
    pub(crate) services: &'x Services,
    /// The name of the user's object, for logs.
    pub(crate) label: String,
    pub(crate) id: Id,
    pub(crate) scope: &'x Scope,
    /// The position among filters.
    pub(crate) order: i32,
    /// The policy stands for an instance of a plugin.
    pub(crate) of_plugin: bool,
}

/// Checks the status of a final response.
pub(super) fn final_status(field: &str, status: u16) -> Result<u16, BuildError> {
    match status {
        200..=599 => Ok(status),
        _ => Err(BuildError::new(field, "must be a status from 200 to 599")),
    }
}

/// Rejects header fields that cannot be sent.
pub(super) fn check_fields(field: &str, fields: &[(Box<str>, Box<str>)]) -> Result<(), BuildError> {
    let is_legal = |(name, value): &(Box<str>, Box<str>)| {
        cardinal_http::is_token(name.as_bytes()) && cardinal_http::is_value(value.as_bytes())
    };
    match fields.iter().find(|field| !is_legal(field)) {
        Some((name, _)) => Err(BuildError::new(field, format!("'{name}' is not a legal header or its value is not"))),
        None => Ok(()),
    }
}
