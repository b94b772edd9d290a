//! [`Plan`]: a generation in the form that requests are served from. Built off the request path, never changed.
//!
//! A plan is made from the one before it: what did not change is shared, be it routes, chains, backends, credentials or
//! TLS. The work grows with what changed ([`Changes`]).

mod backend;
mod chain;
mod planner;
mod routes;
mod scopes;
mod tls;
mod validate;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cardinal_ir::{
    Code, Delta, Diagnostic, Diagnostics, Id, Ir, IrDelta, NodeSettings, Route, Severity, Traffic, Verified,
};
use cardinal_route::Router;
use cardinal_sdk::{Directory, PluginDef, Services};
use cardinal_sync::Update;

pub(crate) use backend::News;
pub use backend::{BackendPlan, BackendTls, Registry};
pub(crate) use chain::{Chain, NOT_CHOSEN, Phase};
pub use routes::{RoutePlan, RoutePlans};
pub use tls::TlsPlan;
pub(crate) use validate::validate;

use backend::Backends;
use chain::ChainBuilder;
use planner::{Chains, Planner};

use crate::configuration::Configuration;

/// A generation, ready to serve.
pub struct Plan {
    /// Number of the generation, from 1.
    pub generation: u64,
    /// The generation that it was planned from. It shares the records that did not change with the one before it.
    pub ir: Arc<Ir>,
    /// The settings of this node that it was planned from.
    pub node: Arc<NodeSettings>,
    /// Routes of HTTP requests.
    pub http: Router,
    /// What to do with a match of [`Plan::http`], by [`Match::slot`](cardinal_route::Match::slot).
    pub http_routes: RoutePlans,
    /// Routes of connections.
    pub stream: Router,
    /// What to do with a match of [`Plan::stream`].
    pub stream_routes: RoutePlans,
    /// Global filters, for requests that match no route.
    pub(crate) unrouted: Arc<Chain>,
    /// Principals and credentials.
    pub directory: Directory,
    /// The node, as filters see it.
    pub services: Services,
    /// TLS with clients.
    pub tls: TlsPlan,
    /// How many groups went since the node started, for those who keep something about groups.
    pub(crate) groups_gone: u64,
    verified: Verified,
    backends: Backends,
    chains: Chains,
    /// What is wrong with routes that were left out.
    route_problems: BTreeMap<Id, Vec<Diagnostic>>,
}

/// What planning needs besides the IR.
#[derive(Clone)]
pub struct PlanCx<'x> {
    /// All plugins of the program.
    pub plugins: &'x [&'static PluginDef],
    /// The node, as filters see it.
    pub services: Services,
    /// What outlives generations: balanced groups, TLS settings.
    pub registry: &'x Registry,
    /// The generation that is served now: what did not change is taken from it.
    pub previous: Option<&'x Plan>,
}

impl Plan {
    /// Settings of the node.
    pub fn node(&self) -> &NodeSettings {
        &self.node
    }

    /// Plans `ir` for a node with these settings. Records that cannot be used are left out and reported; the others are
    /// served.
    ///
    /// # Errors
    /// The diagnostics, when the generation breaks an invariant or the node's own TLS cannot be set up.
    pub fn build(
        Configuration { ir, node }: Configuration,
        generation: u64,
        cx: &PlanCx<'_>,
    ) -> Result<(Self, Vec<Diagnostic>), Diagnostics> {
        if let Some(previous) = cx.previous {
            return previous.advance(Update::between(&previous.ir, &ir).with_node(node), generation, cx);
        }
        let delta = Ir::default().diff(&ir);
        let verified = Verified::new(Arc::clone(&ir))?;
        Self::of_changes((verified, node), Changes { node: true, delta }, generation, cx)
    }

    /// Plans the generation of an update, from this plan and what changes.
    ///
    /// # Errors
    /// Those of [`Plan::build`].
    pub fn advance(
        &self,
        update: Update,
        generation: u64,
        cx: &PlanCx<'_>,
    ) -> Result<(Self, Vec<Diagnostic>), Diagnostics> {
        let (ir, delta, node) = update.rebased(&self.ir).into_parts();
        let verified = self.verified.advance(ir, &delta)?;
        let node = node.unwrap_or_else(|| Arc::clone(&self.node));
        let changes = Changes { node: self.node != node, delta };
        Self::of_changes((verified, node), changes, generation, &PlanCx { previous: Some(self), ..cx.clone() })
    }

    fn of_changes(
        (verified, node): (Verified, Arc<NodeSettings>),
        changes: Changes,
        generation: u64,
        cx: &PlanCx<'_>,
    ) -> Result<(Self, Vec<Diagnostic>), Diagnostics> {
        let (previous, ir) = (cx.previous, Arc::clone(verified.ir()));
        let tls = match previous {
            Some(previous) if !changes.touches_tls() => previous.tls.share(),
            _ => TlsPlan::build(&ir, &node, cx.registry, previous.map(|previous| &previous.tls))?,
        };
        if let Err(error) = backend::read_system_authorities(&ir, &node) {
            return Err(tls::node_error(Code::Shortage, error.to_string()).into());
        }
        let mut builder = ChainBuilder::new(cx);
        builder.build_all(&changes.delta.filter_sets)?;
        // From here on nothing fails: the registry follows.
        let nothing = Directory::default();
        let directory = previous.map_or(&nothing, |previous| &previous.directory);
        let directory = directory.rebuild(&changes.delta, &ir, cx.plugins);
        let mut route_problems = previous.map_or_else(BTreeMap::new, |previous| previous.route_problems.clone());
        for change in &changes.delta.routes {
            route_problems.remove(&change.id);
        }
        let http = router(previous.map(|p| &p.http), &ir, &changes.delta.routes, Traffic::Http, &mut route_problems);
        let stream =
            router(previous.map(|p| &p.stream), &ir, &changes.delta.routes, Traffic::Stream, &mut route_problems);
        let nothing = Backends::default();
        let backends = previous.map_or(&nothing, |previous| &previous.backends);
        let (backends, concerned) = cx.registry.backends((&ir, &node), generation, &changes, backends, &cx.services);
        let (mut planner, unrouted) = Planner::new(cx, builder, &changes, &backends, concerned);
        let http_routes = planner.routes(&http, previous.map(|p| (&p.http, &p.http_routes)));
        let stream_routes = planner.routes(&stream, previous.map(|p| (&p.stream, &p.stream_routes)));
        let chains = planner.finish();
        let services = cx.services.clone();
        let plan = Self {
            generation,
            ir,
            node,
            http,
            http_routes,
            stream,
            stream_routes,
            unrouted,
            directory,
            services,
            tls,
            groups_gone: cx.registry.groups_gone(),
            verified,
            backends,
            chains,
            route_problems,
        };
        let diagnostics = plan.diagnostics();
        Ok((plan, diagnostics))
    }

    /// What was left out of the generation, and why.
    fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut all = self.directory.diagnostics();
        all.extend(self.tls.diagnostics());
        all.extend(self.route_problems.values().flatten().cloned());
        all.extend(self.backends.diagnostics());
        all.extend(self.chains.diagnostics());
        all
    }

    /// Whether anything was refused.
    pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
        diagnostics.iter().any(|d| d.severity == Severity::Error)
    }
}

/// What differs between two generations and the settings of the node. The work of planning follows from it.
pub(crate) struct Changes {
    /// The settings of the node differ.
    node: bool,
    delta: IrDelta,
}

impl Changes {
    /// Whether key material differs: certificates, authorities, settings of the node.
    fn touches_tls(&self) -> bool {
        self.node || !self.delta.certificates.is_empty() || !self.delta.trust_bundles.is_empty()
    }
}

/// The router after these changes.
fn router(
    previous: Option<&Router>,
    ir: &Ir,
    changes: &Delta<Route>,
    traffic: Traffic,
    problems: &mut BTreeMap<Id, Vec<Diagnostic>>,
) -> Router {
    let (router, found) = match previous {
        Some(previous) => previous.update(changes.iter().map(|change| (change.id, change.new.clone())), traffic),
        None => Router::build(ir, traffic),
    };
    note_unmatchable(&found, changes.put(), traffic, problems);
    router
}

/// Notes which of the records the matcher cannot use. `found` names their origins; several records may share one.
fn note_unmatchable<'r>(
    found: &[Diagnostic],
    routes: impl Iterator<Item = (Id, &'r Arc<Route>)>,
    traffic: Traffic,
    problems: &mut BTreeMap<Id, Vec<Diagnostic>>,
) {
    if found.is_empty() {
        return;
    }
    let bad: HashSet<Id> = found.iter().map(|problem| problem.origin.id).collect();
    for (id, route) in routes.filter(|(_, r)| r.traffic == traffic && bad.contains(&r.origin.id)) {
        // Parts of a route are told apart by trying them alone.
        let (_, found) = Router::from_routes([(id, Arc::clone(route))]);
        if !found.is_empty() {
            problems.insert(id, found);
        }
    }
}

#[cfg(test)]
mod tests;
