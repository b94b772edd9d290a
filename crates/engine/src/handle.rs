//! [`NodeHandle`]: a running node, as the APIs of the control plane in the same process see it.

use std::net::SocketAddr;
use std::sync::Arc;

use cardinal_balance::{Group, GroupStatus};
use cardinal_ir::Id;
use serde_json::Value;

use crate::health::group_name;
use crate::node::Node;
use crate::status;

/// A running node, for APIs.
#[derive(Clone)]
pub struct NodeHandle(Arc<Node>);

/// Why the health of a target cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetHealthError {
    /// No upstream of this name is served.
    #[error("no upstream of this name is served")]
    NoUpstream,
    /// The upstream has no such target.
    #[error("target not found")]
    NoTarget,
    /// Health checks are off, so that nothing would make the target healthy again.
    #[error("health checks are off")]
    ChecksOff,
}

impl std::fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeHandle").field("id", &self.id()).finish()
    }
}

impl NodeHandle {
    pub(crate) fn new(node: &Arc<Node>) -> Self {
        Self(Arc::clone(node))
    }

    /// The id of the node.
    pub fn id(&self) -> Id {
        self.0.services.node_id
    }

    /// The state of the node in the form of the front end, for a query string, without the hash of its configuration.
    ///
    /// # Errors
    /// The query is wrong: a message for the client.
    pub fn status(&self, query: &[u8]) -> Result<Value, String> {
        status::form(&self.0, query, None)
    }

    /// The metrics of the node in Prometheus exposition format, as `/metrics` shows them.
    pub fn metrics(&self) -> String {
        status::metrics_text(&self.0)
    }

    /// The hash of the configuration that is served.
    pub async fn configuration_hash(&self) -> Option<String> {
        let plan = self.0.plan()?;
        Some(self.0.digests.of(&plan).await.to_string())
    }

    /// The state of an upstream, by its id.
    pub fn upstream(&self, id: Id) -> Option<GroupStatus> {
        Some(self.group(id)?.status())
    }

    /// Marks a target of an upstream, or one of its addresses, healthy or unhealthy.
    ///
    /// # Errors
    /// See [`SetHealthError`].
    pub fn set_target_health(
        &self,
        upstream: Id,
        target: &str,
        address: Option<SocketAddr>,
        healthy: bool,
    ) -> Result<(), SetHealthError> {
        let group = self.group(upstream).ok_or(SetHealthError::NoUpstream)?;
        let members = group.status().members;
        let member = members.iter().find(|member| format!("{}:{}", member.host, member.port) == target);
        let endpoint = member.ok_or(SetHealthError::NoTarget)?.endpoint;
        let now = self.0.services.clock.tick();
        group.set_health(endpoint, address, healthy, now).map_err(|_| SetHealthError::ChecksOff)
    }

    fn group(&self, id: Id) -> Option<Arc<Group>> {
        let groups = self.0.shared.registry.groups();
        groups.into_iter().find(|group| {
            let spec = group.spec();
            group_name(&spec).is_some() && spec.origin.id == id
        })
    }
}
