//! [`Plan`]: a generation in the form that requests are served from. Built off the request path, never changed.

mod backend;
mod chain;
mod tls;

use std::collections::HashMap;
use std::sync::Arc;

use cardinal_ir::resolve::Index;
use cardinal_ir::{Diagnostic, Id, Ir, Node, Route, Severity, Traffic};
use cardinal_route::Router;
use cardinal_sdk::{Directory, PluginDef, RouteInfo, Services};

pub use backend::{BackendPlan, BackendTls, Registry};
pub(crate) use chain::{Chain, NOT_CHOSEN, Phase};
pub use tls::TlsPlan;

use chain::ChainBuilder;

/// A generation, ready to serve.
pub struct Plan {
    /// Number of the generation, from 1.
    pub generation: u64,
    /// What it was planned from.
    pub ir: Arc<Ir>,
    /// Routes of HTTP requests.
    pub http: Router,
    /// What to do with a match of [`Plan::http`], by [`Match::slot`](cardinal_route::Match::slot).
    pub http_routes: Vec<Option<RoutePlan>>,
    /// Routes of connections.
    pub stream: Router,
    /// What to do with a match of [`Plan::stream`].
    pub stream_routes: Vec<Option<RoutePlan>>,
    /// Global filters, for requests that match no route.
    pub(crate) unrouted: Arc<Chain>,
    /// Principals and credentials.
    pub directory: Directory,
    /// The node, as filters see it.
    pub services: Services,
    /// TLS with clients.
    pub tls: TlsPlan,
}

/// What to do with a match.
pub struct RoutePlan {
    /// The route.
    pub route: Arc<Route>,
    /// The route, as filters and logs see it.
    pub info: Arc<RouteInfo>,
    /// Where requests go.
    pub backend: Option<Arc<BackendPlan>>,
    /// Filters.
    pub(crate) chain: Arc<Chain>,
}

/// What planning needs besides the IR.
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
    pub fn node(&self) -> &Node {
        &self.ir.node
    }

    /// Plans `ir`. Records that cannot be used are left out and said; the others work.
    ///
    /// # Errors
    /// The diagnostics, when the generation breaks an invariant or the node's own TLS cannot be made.
    pub fn build(ir: Arc<Ir>, generation: u64, cx: &PlanCx<'_>) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let broken = ir.verify();
        if !broken.is_empty() {
            return Err(broken);
        }
        let (directory, mut diagnostics) = Directory::build(&ir, cx.plugins);
        let (tls, found) = TlsPlan::build(&ir, cx.registry)?;
        diagnostics.extend(found);
        let empty = Router::default();
        let (http, found) = cx.previous.map_or(&empty, |p| &p.http).rebuild(&ir, Traffic::Http);
        diagnostics.extend(found);
        let (stream, found) = cx.previous.map_or(&empty, |p| &p.stream).rebuild(&ir, Traffic::Stream);
        diagnostics.extend(found);
        let (backends, found) = cx.registry.backends(&ir, &cx.services);
        diagnostics.extend(found);
        let mut planner = Planner {
            index: Index::new(&ir),
            chains: HashMap::new(),
            builder: ChainBuilder::new(cx),
            backends,
            infos: HashMap::new(),
        };
        let http_routes = planner.routes(&http);
        let stream_routes = planner.routes(&stream);
        let unrouted = planner.chain(None, None);
        diagnostics.extend(planner.builder.into_diagnostics());
        let services = cx.services.clone();
        let plan =
            Self { generation, ir, http, http_routes, stream, stream_routes, unrouted, directory, services, tls };
        Ok((plan, diagnostics))
    }

    /// Whether anything was refused.
    pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
        diagnostics.iter().any(|d| d.severity == Severity::Error)
    }
}

/// Plans routes, sharing what is equal.
struct Planner<'x> {
    index: Index,
    chains: HashMap<(Option<Id>, Option<Id>), Arc<Chain>>,
    builder: ChainBuilder<'x>,
    backends: HashMap<Id, Arc<BackendPlan>>,
    infos: HashMap<Id, Arc<RouteInfo>>,
}

impl Planner<'_> {
    /// Plans by slot.
    fn routes(&mut self, router: &Router) -> Vec<Option<RoutePlan>> {
        (0..router.slots()).map(|slot| router.route(slot).map(|(_, route)| self.route(route))).collect()
    }

    fn route(&mut self, route: &Arc<Route>) -> RoutePlan {
        let info = self.infos.entry(route.origin.id).or_insert_with(|| {
            Arc::new(RouteInfo {
                id: route.origin.id,
                name: route.origin.name.clone(),
                document: Arc::clone(&route.document),
            })
        });
        let info = Arc::clone(info);
        let backend = route.backend.and_then(|id| self.backends.get(&id)).map(Arc::clone);
        let chain = self.chain(Some(route.origin.id), route.backend);
        RoutePlan { route: Arc::clone(route), info, backend, chain }
    }

    /// The chain of a route and a backend; shared by all that have no filters of their own.
    fn chain(&mut self, route: Option<Id>, backend: Option<Id>) -> Arc<Chain> {
        let key = (
            route.filter(|id| self.index.has_route(id)),
            backend.filter(|id| self.index.has_backend(id) || route.is_some_and(|r| self.index.has_route(&r))),
        );
        if let Some(chain) = self.chains.get(&key) {
            return Arc::clone(chain);
        }
        let chain = Arc::new(self.builder.chain(self.index.resolve(key.0, key.1)));
        self.chains.insert(key, Arc::clone(&chain));
        chain
    }
}
