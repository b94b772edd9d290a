//! [`Call`]: what an operation gets of a request.

use std::sync::Arc;

use crate::dao::{Dao, Fields, Tenant};
use crate::proxies::Proxies;
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
}

/// What an operation gets of a request.
pub(super) struct Call<'r> {
    pub(super) admin: &'r Parts,
    pub(super) tenant: Tenant,
    pub(super) request: &'r Request,
    pub(super) query: Fields,
}
