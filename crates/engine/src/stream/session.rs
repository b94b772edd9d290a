//! [`Session`]: one client's session with one upstream, from its connection info to its log record.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use cardinal_balance::{Group, Outcome, Picked};
use cardinal_base::Permit;
use cardinal_http::{Failure, FailureKind, Retry};
use cardinal_ir::{Id, Listener, Rank, Wire};
use cardinal_net::Stage;
use cardinal_route::{NoHeaders, Request};
use cardinal_sdk::{Admit, Client, ConnectCx, Exchange, Phases, Services, Source, Try};

use crate::exchange::{
    Scratch, TunnelLimits, choose_all, connect_timeout, is_trusted, log_end, note, pick, picked_text, report_failure,
};
use crate::plan::{BackendPlan, Chain, Destination, GroupPlan, NOT_CHOSEN, Phase, RoutePlan};
use crate::policy::circuit::{self, Connection, Full};
use crate::worker::{PlanRef, Worker};

/// One client's session. It holds the plan it started with only until bytes are forwarded: a session may last for days
/// and would otherwise keep a whole plan, with all routes of a generation, in memory.
pub(super) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) plan: PlanRef,
    pub(super) scratch: Box<Scratch>,
    /// The listener's group.
    group: Option<Id>,
    /// Slot of its route in the group, and the index of the chosen destination.
    route: Option<(usize, usize)>,
}

/// A session that forwards bytes, with the parts of the plan that its end needs.
pub(super) struct Flowing {
    pub(super) worker: Rc<Worker>,
    pub(super) scratch: Box<Scratch>,
    chain: Arc<Chain>,
    services: Services,
}

/// A matching route.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) rank: (Rank, Id),
    slot: usize,
}

/// An upstream connection of a session.
pub(super) struct AcquiredConnection<T> {
    pub(super) transport: T,
    pub(super) endpoint: Chosen,
}

/// The endpoint of a session; counts as in use until dropped.
pub(super) struct Chosen {
    picked: Picked,
    group: Arc<Group>,
    /// The connection permit of a TCP session.
    _connection: Option<Permit>,
}

impl Chosen {
    /// Reports success to the balancer (Kong: the status of a proxied session is 200).
    pub(super) fn succeeded(&self, flowing: &Flowing) {
        self.group.report(&self.picked, Outcome::Status(200), flowing.worker.now());
    }

    /// Reports to the balancer that the upstream is unreachable after all.
    pub(super) fn failed(&self, flowing: &mut Flowing, failure: &Failure) {
        report_failure(&flowing.worker, &self.group, &self.picked, &mut flowing.scratch, failure);
    }
}

impl Session {
    /// Starts a session of a client that uses the protocol `wire`; only the client's addresses are known yet.
    pub(super) fn start(worker: &Rc<Worker>, client: &Client, wire: Wire, listener: &Listener) -> Self {
        let mut scratch = worker.take_scratch();
        scratch.start(client);
        let exchange = &mut scratch.exchange;
        exchange.id = worker.request_id();
        exchange.original.port = listener.mapped_port.unwrap_or(client.local.port());
        exchange.client.wire = wire;
        let plan = worker.plan();
        exchange.client.trusted = is_trusted(&plan.node().real_ip, client.peer.ip());
        if !exchange.client.trusted {
            // The source address of a PROXY protocol header is ignored.
            (exchange.client.ip, exchange.client.port) = (client.peer.ip(), client.peer.port());
        }
        exchange.client.ip = exchange.client.ip.to_canonical();
        exchange.timing.started = worker.now();
        exchange.timing.filtered = exchange.timing.started;
        exchange.timing.started_unix = worker.node.services.clock.unix();
        Self { worker: Rc::clone(worker), plan, scratch, group: listener.group, route: None }
    }

    /// The exchange data of the session.
    pub(super) fn exchange(&mut self) -> &mut Exchange {
        &mut self.scratch.exchange
    }

    /// Finds the route of a session that uses the protocol `wire`.
    pub(super) fn find(&self, wire: Wire, sni: Option<&str>) -> Option<Found> {
        let exchange = &self.scratch.exchange;
        let found = self.plan.group(self.group).stream.find(&Request {
            wire,
            method: "",
            host: None,
            host_port: None,
            path: b"",
            query: b"",
            headers: &NoHeaders,
            sni,
            source: SocketAddr::new(exchange.client.ip, exchange.client.port),
            destination: SocketAddr::new(exchange.client.local.ip(), exchange.original.port),
        });
        found.map(|found| Found { rank: found.rank(), slot: found.slot })
    }

    /// Uses a route that [`Session::find`] found; fails if there is none.
    pub(super) fn take_route(&mut self, wire: Wire, found: Option<Found>) -> Result<(), Failure> {
        let exchange = &mut self.scratch.exchange;
        exchange.client.wire = wire;
        let route =
            found.and_then(|found| Some((found.slot, self.plan.group(self.group).stream_routes.get(found.slot)?)));
        let Some((slot, route)) = route else {
            return Err(Failure::new(FailureKind::NoRoute, "no stream route matches"));
        };
        exchange.route = Some(route.info());
        let place = route.choose(|bound| self.worker.random_below(bound));
        let to = route.destination(place);
        exchange.backend = to.backend.as_ref().map(|backend| Arc::clone(&backend.info));
        self.route = Some((slot, place));
        Ok(())
    }

    /// Runs the connect phase of the route's filters. The first rejection is decisive.
    pub(super) fn admit(&mut self) -> Admit {
        let Self { worker, plan, scratch, group, route } = self;
        let chain = chain(plan.group(*group), *route);
        choose_all(chain, scratch);
        for slot in chain.list(Phase::Connect) {
            let choice = scratch.choices.get(usize::from(*slot)).copied().unwrap_or(NOT_CHOSEN);
            let Some(filter) = chain.filter(*slot, choice, Phases::CONNECT) else { continue };
            let slot_number = usize::from(*slot);
            let mut cx = ConnectCx { exchange: &mut scratch.exchange, services: &plan.services, slot: slot_number };
            if filter.on_connect(&mut cx) == Admit::No {
                let (request_id, client) = (scratch.exchange.id, scratch.exchange.client.ip);
                tracing::info!(plugin = chain.name(*slot), %request_id, %client, "a filter closed the session");
                return Admit::No;
            }
        }
        scratch.exchange.timing.filtered = worker.now();
        Admit::Yes
    }

    /// Connects to an endpoint of the backend; tries other endpoints while connecting fails and retries remain.
    pub(super) async fn acquire_connection<T>(
        &mut self,
        open: impl AsyncFn(&RoutePlan, &BackendPlan, &Picked, &Exchange, &Stage) -> Result<T, Failure>,
    ) -> Result<AcquiredConnection<T>, Failure> {
        let Self { worker, plan, scratch, group, route } = self;
        let no_backend = || Failure::new(FailureKind::NoBackend, "the route has no service");
        let (route, to) = routed(plan.group(*group), *route).ok_or_else(no_backend)?;
        let backend = to.backend.as_ref().ok_or_else(no_backend)?;
        let mut _retrying = None;
        let mut retries = route.retry(backend).map_or(0, |retry| retry.attempts);
        let connect_max_ms = route.timeouts(backend).connect_ms;
        loop {
            let begun = worker.now();
            let picked = pick(worker, backend, scratch).await?;
            let tick = worker.now();
            scratch.tried.push(picked.key());
            scratch.exchange.tries.push(Try {
                address: picked.address(),
                started: worker.node.services.clock.unix(),
                tick,
                balancer_us: tick.0.saturating_sub(begun.0),
                state: None,
                status: None,
            });
            let (permit, connect_ms) = match connection(worker, backend, &picked, (scratch, connect_max_ms)).await {
                Ok(place) => place,
                Err(failure) => {
                    report_failure(worker, &backend.group, &picked, scratch, &failure);
                    return Err(failure);
                }
            };
            let stage = Stage::default();
            let opening = open(route, backend, &picked, &scratch.exchange, &stage);
            let failure = match scratch.up_timer.limit(connect_ms, opening).await {
                Some(Ok(transport)) => {
                    let group = Arc::clone(&backend.group);
                    group.report(&picked, Outcome::Connected, worker.now());
                    group.report(&picked, Outcome::Ok { latency: worker.now().since(tick) }, worker.now());
                    scratch.exchange.source = Source::Upstream;
                    return Ok(AcquiredConnection {
                        transport,
                        endpoint: Chosen { picked, group, _connection: permit },
                    });
                }
                Some(Err(failure)) => failure,
                None => connect_timeout(connect_ms, &stage),
            };
            report_failure(worker, &backend.group, &picked, scratch, &failure);
            let failure = failure.with_target(|| picked_text(&picked));
            if retries == 0 || failure.retry() != Retry::Safe {
                return Err(failure);
            }
            if _retrying.is_none() {
                let Ok(place) = circuit::retry(worker, &backend.group) else { return Err(failure) };
                _retrying = place;
            }
            retries -= 1;
        }
    }

    /// The idle timeout and the maximum lifetime.
    pub(super) fn tunnel_limits(&self) -> TunnelLimits {
        let routed = routed(self.plan.group(self.group), self.route);
        let timeouts = routed.and_then(|(route, to)| Some(route.timeouts(to.backend.as_ref()?))).unwrap_or_default();
        TunnelLimits {
            idle_ms: timeouts.tunnel_idle_ms(),
            lifetime_ms: timeouts.stream_ms,
            stream_ms: timeouts.stream_ms,
        }
    }

    /// Releases the plan: from here on, the session only forwards bytes and ends.
    pub(super) fn flow(self) -> Flowing {
        let Self { worker, plan, mut scratch, group, route } = self;
        let group = plan.group(group);
        let chain = routed(group, route).map_or(&group.unrouted, |(_, to)| &to.chain);
        if scratch.choices.is_empty() {
            choose_all(chain, &mut scratch);
        }
        Flowing { worker, scratch, chain: Arc::clone(chain), services: plan.services.clone() }
    }

    /// Ends the session before bytes were forwarded, with the given failure.
    pub(super) fn end(self, failure: Option<&Failure>) {
        let mut flowing = self.flow();
        if let Some(failure) = failure {
            flowing.fail(failure);
        }
        flowing.finish();
    }
}

impl Flowing {
    /// The exchange data of the session.
    pub(super) fn exchange(&mut self) -> &mut Exchange {
        &mut self.scratch.exchange
    }

    /// Records a failure that ends the session early.
    pub(super) fn fail(&mut self, failure: &Failure) {
        note(&self.worker, &mut self.scratch, failure);
    }

    /// Runs the log phase.
    pub(super) fn finish(self) {
        let Self { worker, mut scratch, chain, services } = self;
        scratch.exchange.timing.ended = worker.now();
        log_end(&worker, &services, &chain, &scratch, false);
        worker.give_scratch(scratch);
    }
}

/// Acquires the connection permit of a TCP session; returns it with the connect timeout in milliseconds.
async fn connection(
    worker: &Worker,
    backend: &BackendPlan,
    picked: &Picked,
    (scratch, connect_ms): (&Scratch, u64),
) -> Result<(Option<Permit>, u64), Failure> {
    if scratch.exchange.client.wire == Wire::Udp {
        return Ok((None, connect_ms));
    }
    match circuit::connection(worker, &backend.group, picked) {
        Ok(permit) => Ok((permit, connect_ms)),
        Err(Full) => {
            let nothing = || None::<Permit>;
            let timer = (&*scratch.up_timer, connect_ms);
            match Box::pin(circuit::wait(worker, &backend.group, timer, nothing)).await? {
                Connection::New(permit, left_ms) => Ok((Some(permit), left_ms)),
                Connection::Existing(permit) => Ok((Some(permit), connect_ms)),
            }
        }
    }
}

fn routed(group: &GroupPlan, route: Option<(usize, usize)>) -> Option<(&RoutePlan, &Destination)> {
    let (slot, place) = route?;
    let route = group.stream_routes.get(slot)?;
    Some((route, route.destination(place)))
}

/// The filters of the route, or the global filters without a route.
fn chain(group: &GroupPlan, route: Option<(usize, usize)>) -> &Chain {
    routed(group, route).map_or(&*group.unrouted, |(_, to)| &*to.chain)
}
