//! [`Plan`]: the immutable run-time form of a generation, built off the request path.
//!
//! A plan is built from the previous one: unchanged routes, chains, backends, credentials and TLS configurations are
//! shared. The cost grows with the number of changes ([`Changes`]).

mod backend;
mod chain;
mod changes;
mod client_pair;
mod groups;
mod identities;
mod listeners;
mod planner;
mod routes;
mod scopes;
mod tls;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use cardinal_ir::{
    Code, Diagnostic, Diagnostics, Id, Ir, IrDelta, Listener, NodeSettings, Secrets, Severity, Verified,
};
use cardinal_net::ConnectionProperties;
use cardinal_sdk::{Directory, PluginDef, RouteInfo, Services, Tenants};
use cardinal_sync::{Update, UpdateParts};

pub(crate) use backend::News;
pub use backend::{BackendPlan, BackendTls, Registry};
pub(crate) use chain::{Chain, Instance, NOT_CHOSEN, Phase};
pub(crate) use client_pair::client_pair;
pub use groups::GroupPlan;
pub(crate) use listeners::{ListenerPlan, Listeners, TlsPolicy, is_same_socket, own_identity};
pub(crate) use routes::Destination;
pub use routes::{RoutePlan, RoutePlans};
pub use tls::TlsPlan;
pub(crate) use validate::validate;

use backend::{Backends, Records};
use chain::ChainBuilder;
use changes::Changes;
use groups::{Groups, RouteProblems};
use identities::Prepared;
use listeners::ListenersCx;
use planner::{Before, Chains, Planner};

use crate::configuration::Configuration;
use crate::policy::telemetry::TelemetryPlans;

/// A generation, ready to serve.
pub struct Plan {
    /// Number of the generation, from 1.
    pub generation: u64,
    /// The generation from which the plan was built. It shares unchanged records with the previous one.
    pub ir: Arc<Ir>,
    /// The node settings from which the plan was built.
    pub node: Arc<NodeSettings>,
    /// The route tables of each group of listeners.
    groups: Groups,
    /// Listeners defined by the generation.
    pub(crate) listeners: Listeners,
    /// Principals and credentials.
    pub directory: Directory,
    /// The node's services for filters.
    pub services: Services,
    /// Downstream TLS.
    pub tls: TlsPlan,
    /// Tracing; `None` if no record configures it.
    pub(crate) telemetry: Option<Arc<TelemetryPlans>>,
    /// Number of groups removed since the node started, so that caches of group data can detect removals.
    pub(crate) groups_gone: u64,
    verified: Verified,
    backends: Backends,
    chains: Chains,
    /// The secrets that the records refer to.
    secrets: Secrets,
    /// Whether a referenced secret is missing.
    has_unresolved: bool,
    /// Problems of identities and trust bundles that were left out.
    identity_problems: identities::Problems,
    /// Problems of routes that were left out.
    route_problems: RouteProblems,
}

/// The input for planning besides the IR.
#[derive(Clone)]
pub struct PlanCx<'x> {
    /// All plugins of the binary.
    pub plugins: &'x [&'static PluginDef],
    /// The node's services for filters.
    pub services: Services,
    /// State that persists across generations: balanced groups, TLS settings.
    pub registry: &'x Registry,
    /// The active plan, whose unchanged parts are reused.
    pub previous: Option<&'x Plan>,
}

/// The names of the tenants of a generation, shared with the previous one if it has the same.
fn tenants(ir: &Ir, delta: &IrDelta, previous: Option<&Plan>) -> Arc<Tenants> {
    match previous {
        Some(previous) if delta.listener_groups.is_empty() => Arc::clone(&previous.services.tenants),
        _ => Arc::new(ir.listener_groups.iter().map(|(id, group)| (*id, group.name.clone())).collect()),
    }
}

impl Plan {
    /// The settings of the node.
    pub fn node(&self) -> &NodeSettings {
        &self.node
    }

    /// The secrets that the records refer to.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The route tables of a group of listeners; `None` is the default group.
    pub fn group(&self, group: Option<Id>) -> &GroupPlan {
        self.groups.get(group)
    }

    /// Whether requests may be served on a connection that a listener (`None` for a listener of the node's settings)
    /// accepted with this verification (`None` for clear text) from a peer with this identity. Clients have to
    /// reconnect if clients are now verified differently, or if the listener was moved or serves other routes.
    pub(crate) fn admits(
        &self,
        listener: Option<&(Id, Arc<Listener>)>,
        verification: Option<u64>,
        peer: Option<&str>,
    ) -> bool {
        match listener {
            None => self.tls.admits(verification),
            Some((id, was)) => self.listeners.admits((id, was), &self.tls, verification, peer),
        }
    }

    /// Whether the listener of a connection would accept its peer now. Connections of removed listeners are not closed
    /// by this check.
    pub(crate) fn allows(&self, connection: &ConnectionProperties) -> bool {
        let listener = connection.listener.and_then(|id| self.listeners.get(&id));
        listener.is_none_or(|listener| listener.tls.allows(connection.peer_identity.as_deref()))
    }

    /// Whether a connection may continue although its listener has changed: like [`Self::admits`], for connections
    /// without requests. Connections of a removed listener are ended with it.
    pub(crate) fn serves(&self, connection: &ConnectionProperties) -> bool {
        let listener = connection.listener.and_then(|id| self.listeners.get(&id));
        listener.is_none_or(|now| {
            let ConnectionProperties { verification, peer_identity, .. } = connection;
            now.listener.group == connection.group && now.tls.admits(&self.tls, *verification, peer_identity.as_deref())
        })
    }

    /// Plans `ir` for a node with these settings. Records that cannot be used are left out and reported; the others are
    /// served.
    ///
    /// # Errors
    /// The diagnostics, if the generation breaks an invariant or the node's own TLS cannot be set up.
    pub fn build(
        Configuration { ir, secrets, node }: Configuration,
        generation: u64,
        cx: &PlanCx<'_>,
    ) -> Result<(Self, Vec<Diagnostic>), Diagnostics> {
        if let Some(previous) = cx.previous {
            let update = Update::between(&previous.ir, &ir).with_secrets(secrets).with_node(node);
            return previous.advance(update, generation, cx);
        }
        let delta = Ir::default().diff(&ir);
        let verified = Verified::new(Arc::clone(&ir))?;
        Self::of_changes((verified, secrets, node), Changes { node: true, delta }, generation, cx)
    }

    /// Plans the generation of an update from this plan and the changes.
    ///
    /// # Errors
    /// See [`Plan::build`].
    pub fn advance(
        &self,
        update: Update,
        generation: u64,
        cx: &PlanCx<'_>,
    ) -> Result<(Self, Vec<Diagnostic>), Diagnostics> {
        let UpdateParts { generation: ir, mut delta, secrets, node } = update.rebased(&self.ir).into_parts();
        let verified = self.verified.advance(ir, &delta)?;
        let secrets = secrets.unwrap_or_else(|| self.secrets.clone());
        if self.has_unresolved {
            // Records left out because of a missing secret are planned again when the secret arrives.
            let has_come = |reference| self.secrets.get(reference).is_none() && secrets.get(reference).is_some();
            delta = verified.ir().with_affected(delta, &has_come);
        }
        let node = node.unwrap_or_else(|| Arc::clone(&self.node));
        let changes = Changes { node: self.node != node, delta };
        let cx = PlanCx { previous: Some(self), ..cx.clone() };
        Self::of_changes((verified, secrets, node), changes, generation, &cx)
    }

    fn of_changes(
        (verified, secrets, node): (Verified, Secrets, Arc<NodeSettings>),
        changes: Changes,
        generation: u64,
        cx: &PlanCx<'_>,
    ) -> Result<(Self, Vec<Diagnostic>), Diagnostics> {
        let (previous, ir) = (cx.previous, Arc::clone(verified.ir()));
        let tls = match previous {
            Some(previous) if !changes.touches_tls() => previous.tls.share(),
            _ => TlsPlan::build((&ir, &secrets, &node), cx.registry, previous.map(|previous| &previous.tls))?,
        };
        if let Err(error) = backend::read_system_authorities(&ir, &node) {
            return Err(tls::node_error(Code::Shortage, error.to_string()).into());
        }
        let mut identity_problems = previous.map_or_else(BTreeMap::new, |previous| previous.identity_problems.clone());
        let identities = Prepared::new((&ir, &secrets), &changes, &mut identity_problems);
        let listeners = ListenersCx { ir: &ir, node: &node, tls: &tls, registry: cx.registry, changes: &changes };
        let listeners = Listeners::build(&listeners, previous.map(|previous| &previous.listeners));
        let mut builder = ChainBuilder::new(cx.plugins, &cx.services, &secrets);
        builder.build_all(&changes.delta)?;
        // Nothing fails from here on: the registry is updated.
        let nothing = Directory::default();
        let directory = previous.map_or(&nothing, |previous| &previous.directory);
        let directory = directory.rebuild(&changes.delta, (&ir, &secrets), cx.plugins);
        let nothing = Backends::default();
        let backends = previous.map_or(&nothing, |previous| &previous.backends);
        let records = Records { ir: &ir, secrets: &secrets, node: &node };
        let (backends, concerned) = cx.registry.backends(records, generation, &changes, backends, &cx.services);
        let mut planner =
            Planner::new(previous.map(Self::before), builder, &changes, &backends, (groups::ids(&ir), concerned));
        let mut route_problems = previous.map_or_else(BTreeMap::new, |previous| previous.route_problems.clone());
        let routes = &changes.delta.routes;
        let groups = Groups::build(previous.map(|p| &p.groups), &ir, routes, &mut planner, &mut route_problems);
        let chains = planner.finish();
        let services = Services { tenants: tenants(&ir, &changes.delta, previous), ..cx.services.clone() };
        identities.store(cx.registry.identities(), &mut identity_problems, &ir);
        let telemetry = match previous {
            Some(previous) if changes.delta.telemetry.is_empty() => previous.telemetry.clone(),
            _ => {
                let previous = previous.and_then(|previous| previous.telemetry.as_ref());
                TelemetryPlans::build((&ir, &secrets), previous, &services)
            }
        };
        let mut plan = Self {
            generation,
            ir,
            node,
            groups,
            listeners,
            directory,
            services,
            tls,
            telemetry,
            groups_gone: cx.registry.groups_gone(),
            verified,
            backends,
            chains,
            secrets,
            has_unresolved: false,
            identity_problems,
            route_problems,
        };
        let diagnostics = plan.diagnostics();
        plan.has_unresolved = diagnostics.iter().any(|diagnostic| diagnostic.code == Code::Secret);
        Ok((plan, diagnostics))
    }

    /// The principals and credentials that requests through a route are authenticated by.
    pub(crate) fn directory_of(&self, route: Option<&RouteInfo>) -> &Directory {
        self.directory.of(route.and_then(RouteInfo::tenant))
    }

    /// The parts from which the chains of the next generation are built.
    fn before(&self) -> Before<'_> {
        Before { chains: &self.chains, backends: &self.backends }
    }

    /// A usable backend.
    pub(crate) fn backend(&self, id: &Id) -> Option<&Arc<BackendPlan>> {
        self.backends.get(id)
    }

    /// The entities that were left out of the generation, with the reasons.
    fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut all = self.directory.diagnostics();
        all.extend(self.tls.diagnostics());
        all.extend(self.listeners.diagnostics());
        all.extend(self.identity_problems.values().cloned());
        all.extend(self.route_problems.values().flatten().cloned());
        all.extend(self.backends.diagnostics());
        all.extend(self.chains.diagnostics());
        all.extend(self.telemetry.iter().flat_map(|telemetry| telemetry.diagnostics()));
        all
    }

    /// Whether the diagnostics contain errors.
    pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
        diagnostics.iter().any(|d| d.severity == Severity::Error)
    }
}

#[cfg(test)]
mod tests;
