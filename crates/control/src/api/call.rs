//! [`Call`]: what an operation gets of a request.

use std::sync::Arc;

use crate::dao::{Dao, Fields, Tenant};
use crate::proxies::Proxies;
use crate::rbac::{Access, Identity};
use crate::source::SourceStatus;

use super::budget::Budget;
use super::message::{AdminSettings, Declarative, Request};
use super::metrics::AdminMetrics;

/// What the API works with.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) dao: Dao,
    pub(super) proxies: Arc<dyn Proxies>,
    pub(super) settings: AdminSettings,
    pub(super) budget: Budget,
    /// The settings that entities are lowered with, to compare generations.
    pub(super) lowering: Arc<cardinal_kong::Settings>,
    /// The configuration without a database.
    pub(super) declarative: Option<Arc<dyn Declarative>>,
    pub(super) metrics: Arc<AdminMetrics>,
    /// What follows the store on this node.
    pub(super) source: Option<Arc<SourceStatus>>,
    /// Users and their roles.
    pub(super) access: Access,
}

/// What an operation gets of a request.
pub(super) struct Call<'r> {
    pub(super) admin: &'r Parts,
    pub(super) tenant: Tenant,
    /// Name of the workspace.
    pub(super) workspace: &'r str,
    /// Who sends the request; `None` if everybody may.
    pub(super) identity: Option<&'r Identity>,
    /// What the path has before the part that is described in `path`: empty, or `/` and the name of a workspace.
    pub(super) prefix: String,
    pub(super) request: &'r Request,
    pub(super) query: Fields,
}
