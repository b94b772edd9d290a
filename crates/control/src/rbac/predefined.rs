//! The roles that a store starts with: those of Kong Enterprise.

use crate::permissions::{Action, Actions};

/// The name of the role that may do everything.
pub(super) const SUPER_ADMIN: &str = "super-admin";

/// A role that a store starts with.
#[derive(Debug)]
pub(super) struct Predefined {
    pub(super) name: &'static str,
    pub(super) comment: &'static str,
    /// What it may do with all endpoints and entities of all workspaces.
    pub(super) actions: fn() -> Actions,
    /// Endpoints that it may not use.
    pub(super) denied: &'static [&'static str],
}

/// The roles.
pub(super) const ROLES: [Predefined; 3] = [
    Predefined {
        name: "read-only",
        comment: "Reads all endpoints of all workspaces",
        actions: || [Action::Read].into_iter().collect(),
        denied: &[],
    },
    Predefined {
        name: "admin",
        comment: "Uses all endpoints of all workspaces, except those of users and roles",
        actions: Actions::all,
        // The endpoint of a rule is one segment: see `api::rbac`.
        denied: &["/rbac", "/rbac/*", "/rbac/*/*", "/rbac/*/*/*", "/rbac/*/*/*/*", "/rbac/*/*/*/*/*"],
    },
    Predefined {
        name: SUPER_ADMIN,
        comment: "Uses all endpoints of all workspaces",
        actions: Actions::all,
        denied: &[],
    },
];
