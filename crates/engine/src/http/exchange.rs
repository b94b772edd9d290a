//! The life of a request, from its head to its log record.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use cardinal_balance::{Group, Outcome, Picked};
use cardinal_base::{Budget, Reservation};
use cardinal_http::h1::Framing;
use cardinal_http::{Failure, FailureKind};
use cardinal_ir::Limits;
use cardinal_net::h1::H1;
use cardinal_net::h2::Code;
use cardinal_net::{NetError, Peer};
use cardinal_sdk::{BodyMode, Reply, Services};

use super::Scratch;
use super::call_state::CallState;
use super::decide::{Decided, Stage, Steps, decide};
use super::facts::{ConnectionInfo, route_request};
use super::failure_log::{self, Line};
use super::filters::{choose_all, run_log};
use super::forward::{REQUEST_BODY_STALL, Stall, TransferError, client_gone};
use super::halt::Halt;
use super::reply::{error_reply, send_continue, send_reply};
use super::tunnel::{TunnelLimits, tunnel};
use super::upstream::picked_text;
use super::upstream_call::UpstreamCall;
use crate::plan::{Chain, GroupPlan, Plan, RoutePlan};
use crate::policy::telemetry;
use crate::worker::Worker;

/// The client's side of one request.
pub(super) struct Session {
    /// How the request body ends.
    pub(super) framing: Framing,
    /// The client waits for `100 Continue`.
    pub(super) expects_continue: bool,
    /// The connection may serve another request.
    pub(super) keep_alive: bool,
    /// A response head was sent.
    pub(super) answered: bool,
    /// The response was cut short: the connection must not look as if it were complete.
    pub(super) aborted: bool,
    /// The client and an upstream have left HTTP.
    pub(super) switched: Option<Box<Switched>>,
}

impl Session {
    pub(super) fn new(framing: Framing, expects_continue: bool, keep_alive: bool) -> Self {
        Self { framing, expects_continue, keep_alive, answered: false, aborted: false, switched: None }
    }
}

/// A request body that can be had whole.
pub(crate) trait Body {
    /// Its length, 0 without one; `None` when only its end will tell.
    fn length(&self) -> Option<u64>;

    /// All of it, up to `max` bytes.
    fn whole<'a>(
        &'a mut self,
        plan: &'a Plan,
        s: &'a mut Scratch,
        max: u64,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + 'a>>;

    /// Waits so many milliseconds, at least 1, as long as the client stays.
    fn pause<'a>(&'a mut self, s: &'a Scratch, ms: u64) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

    /// 64 random bits, the next of the series whose state is given.
    fn random(&self, series: &Cell<u64>) -> u64 {
        splitmix(series)
    }
}

/// The body on a client's connection.
pub(super) struct ClientBody<'x> {
    pub(super) down: &'x mut Peer,
    pub(super) session: &'x mut Session,
}

impl Body for ClientBody<'_> {
    fn length(&self) -> Option<u64> {
        match self.session.framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }

    fn whole<'a>(
        &'a mut self,
        plan: &'a Plan,
        s: &'a mut Scratch,
        max: u64,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + 'a>> {
        Box::pin(async move {
            if self.session.framing == Framing::None {
                return Ok(Bytes::new());
            }
            send_continue(plan, self.down, self.session, s).await?;
            let limits = &plan.node().limits;
            let max = max.min(limits.buffered_body_bytes_max).min(body_max(limits, s));
            let too_large = || Failure::new(FailureKind::BodyTooLarge, "request body over its limit");
            if matches!(self.session.framing, Framing::Length(length) if length > max) {
                return Err(too_large());
            }
            let expected = match self.session.framing {
                Framing::Length(length) => length,
                _ => max,
            };
            let terms = Terms {
                max,
                expected,
                timeout_ms: limits.body_timeout_ms,
                late: REQUEST_BODY_STALL,
                slowest: BODY_RATE_MIN,
                budget: &plan.services.memory,
            };
            let read = collect(self.down, &terms, &s.down_timer, &mut s.exchange.held, |_, _, _| Ok(())).await;
            let whole = read.map_err(|error| match error {
                Collect::TooLarge => too_large(),
                Collect::NoRoom => Failure::new(FailureKind::Overloaded, NO_ROOM),
                Collect::TransferError(error) => TransferError::Client(error).failure(),
                Collect::Halted(halt) => halt.into_failure(),
            })?;
            s.exchange.bytes.received += whole.len() as u64;
            Ok(whole)
        })
    }

    fn pause<'a>(&'a mut self, s: &'a Scratch, ms: u64) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>> {
        let (timer, client) = (&s.down_timer, &mut *self.down);
        timer.arm(ms.max(1));
        Box::pin(async move {
            let outcome = poll_fn(|cx| {
                if timer.poll_expired(cx) {
                    return Poll::Ready(Ok(()));
                }
                let is_gone = client.poll_gone(cx).is_ready();
                if is_gone { Poll::Ready(Err(client_gone("while the request was delayed"))) } else { Poll::Pending }
            })
            .await;
            timer.disarm();
            outcome
        })
    }
}

/// The next number of a series (SplitMix64).
fn splitmix(series: &Cell<u64>) -> u64 {
    let state = series.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    series.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Minimum rate of a body that is collected, bytes per second, once the timeout between two reads has passed.
pub(super) const BODY_RATE_MIN: u64 = 8 * 1024;

/// Why a request whose body cannot be held is not served.
pub(super) const NO_ROOM: &str = "the memory budget for bodies is exhausted";

/// Why a body could not be had whole.
pub(super) enum Collect {
    TooLarge,
    /// The budget of the node, or of the connection, has no room for it.
    NoRoom,
    TransferError(NetError),
    /// It took too long, or the exchange ended meanwhile.
    Halted(Halt),
}

/// On what terms a body is held.
pub(super) struct Terms<'x> {
    /// Most bytes.
    pub(super) max: u64,
    /// Bytes that were announced, or `max`.
    pub(super) expected: u64,
    /// Between two reads, milliseconds; 0 is unlimited.
    pub(super) timeout_ms: u64,
    /// What it is when that is over.
    pub(super) late: Stall,
    /// Minimum average rate after the first `timeout_ms`, bytes per second.
    pub(super) slowest: u64,
    /// Where the memory comes from, unless the connection has a budget of its own.
    pub(super) budget: &'x Arc<Budget>,
}

impl Terms<'_> {
    /// [`patience_ms`] when so many bytes have come in so long.
    fn patience_ms(&self, received: usize, elapsed_ms: u64) -> Option<u64> {
        patience_ms(self.timeout_ms, self.slowest, received as u64, elapsed_ms)
    }
}

/// How long the other side may keep a body waiting that is held in memory and of which so many bytes have moved in so
/// long, milliseconds; 0 is unlimited, `None` when it is over. `slowest` are the bytes per second that have to move on
/// average after the first `timeout_ms`.
pub(super) fn patience_ms(timeout_ms: u64, slowest: u64, moved: u64, elapsed_ms: u64) -> Option<u64> {
    if timeout_ms == 0 {
        return Some(0);
    }
    let allowed_ms = timeout_ms.saturating_add(moved.saturating_mul(1_000) / slowest.max(1));
    let left_ms = allowed_ms.saturating_sub(elapsed_ms);
    (left_ms > 0).then(|| left_ms.min(timeout_ms))
}

/// Reads a body to its end. What it takes of the budget stays in `held`, unless it fails. `meanwhile` is called whenever
/// more of the body has to be waited for, with the peer that sends it and the bytes that have come: it moves the rest of the
/// exchange on, and ends the collecting by an error.
pub(super) async fn collect(
    peer: &mut Peer,
    terms: &Terms<'_>,
    timer: &cardinal_net::Timer,
    held: &mut Reservation,
    mut meanwhile: impl FnMut(&mut Context<'_>, &mut Peer, u64) -> Result<(), Halt>,
) -> Result<Bytes, Collect> {
    let mut whole = Vec::new();
    let started = timer.wheel().now();
    let late = || Poll::Ready(Err(Collect::Halted(terms.late.failure(terms.timeout_ms).into())));
    timer.arm(terms.timeout_ms);
    let outcome = poll_fn(|cx| {
        loop {
            match peer.poll_body(cx) {
                Poll::Ready(Ok(true)) => {
                    let data = peer.data();
                    if whole.len() as u64 + data.len() as u64 > terms.max {
                        return Poll::Ready(Err(Collect::TooLarge));
                    }
                    let expected = usize::try_from(terms.expected).unwrap_or(usize::MAX);
                    if held.make_room(terms.budget, &mut whole, data.len(), expected).is_err() {
                        return Poll::Ready(Err(Collect::NoRoom));
                    }
                    whole.extend_from_slice(data);
                    let count = data.len();
                    peer.consume(count);
                    match terms.patience_ms(whole.len(), timer.wheel().now().millis_since(started)) {
                        Some(ms) => timer.arm(ms),
                        None => return late(),
                    }
                }
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Collect::TransferError(error))),
                Poll::Pending if timer.poll_expired(cx) => return late(),
                Poll::Pending => {
                    meanwhile(cx, peer, whole.len() as u64).map_err(Collect::Halted)?;
                    return Poll::Pending;
                }
            }
        }
    })
    .await;
    timer.disarm();
    if outcome.is_err() {
        held.shrink(whole.capacity());
    }
    outcome.map(|()| Bytes::from(whole))
}

/// Most bytes of request body that may pass.
pub(super) fn body_max(limits: &Limits, s: &Scratch) -> u64 {
    let node = if limits.body_bytes_max == 0 { u64::MAX } else { limits.body_bytes_max };
    s.exchange.request_body_max.map_or(node, |(max, _)| max.min(node))
}

/// A request being served: who serves it, by what, and the client's side of it.
pub(super) struct RequestContext<'x> {
    pub(super) worker: &'x Rc<Worker>,
    pub(super) plan: &'x Plan,
    /// Routes of the listener's group.
    pub(super) group: &'x GroupPlan,
    pub(super) down: &'x mut Peer,
    pub(super) s: &'x mut Scratch,
    pub(super) session: &'x mut Session,
}

/// Serves the request whose head is in the scratch, to its log record; or, if it leaves HTTP, until the bytes of a tunnel
/// are all that is left ([`Switched::run`]).
pub(super) async fn run(mut turn: RequestContext<'_>, facts: &ConnectionInfo) -> Option<Box<Switched>> {
    let _counted = RequestGuard::new(turn.worker);
    turn.s.exchange.id = turn.worker.request_id();
    let mut chain = &turn.group.unrouted;
    if let Err(failure) = serve(&mut turn, &mut chain, facts).await {
        Box::pin(fail(&mut turn, chain, failure)).await;
    }
    if turn.session.switched.is_some() {
        return turn.session.switched.take();
    }
    finish(&mut turn, chain);
    None
}

/// A request that has left HTTP. It holds what its end needs of the plan and no more: it may last for days, and with it a
/// plan, with all routes of a generation, would stay in memory.
pub(super) struct Switched {
    pub(super) upstream: Box<H1>,
    pub(super) picked: Picked,
    pub(super) group: Arc<Group>,
    pub(super) limits: TunnelLimits,
    pub(super) chain: Arc<Chain>,
    pub(super) services: Services,
}

impl Switched {
    /// Passes bytes both ways until one side ends, to the log record.
    pub(super) async fn run(self, worker: &Rc<Worker>, down: &mut Peer, s: &mut Scratch, session: &mut Session) {
        let Self { mut upstream, picked, group, limits, chain, services } = self;
        let _counted = RequestGuard::of_tunnel(worker);
        if let Peer::H1(client) = down {
            let moved = tunnel(worker, client.stream(), upstream.stream(), limits).await;
            s.exchange.bytes.received += moved.to_upstream;
            s.exchange.bytes.sent += moved.to_client;
            group.report(&picked, Outcome::Status(101), worker.now());
            if let Some(failure) = moved.end.failure() {
                note(worker, s, &failure.with_target(|| picked_text(&picked)));
                abort(down, session);
            }
        }
        s.exchange.timing.ended = s.now(worker);
        log_end(worker, &services, &chain, s, session.answered);
    }
}

/// A request's place in the worker's counts, given back however the request ends.
struct RequestGuard<'w>(&'w Worker);

impl<'w> RequestGuard<'w> {
    fn new(worker: &'w Worker) -> Self {
        worker.counters().request_started();
        Self(worker)
    }

    /// The request was counted when it came, and goes on as a tunnel.
    fn of_tunnel(worker: &'w Worker) -> Self {
        worker.counters().tunnel_started();
        Self(worker)
    }
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        self.0.counters().request_ended();
    }
}

/// Answers what cannot be served, to its log record; the connection ends after it.
pub(super) async fn refuse(mut turn: RequestContext<'_>, failure: Failure) {
    turn.s.exchange.id = turn.worker.request_id();
    turn.s.exchange.original.method.clone_from(&turn.s.request.method);
    let chain = &*turn.group.unrouted;
    choose_all(chain, turn.s);
    let silent = failure.kind() == FailureKind::ClientClosed;
    fail(&mut turn, chain, failure).await;
    if !silent {
        finish(&mut turn, chain);
    }
}

/// Notes the end, and tells whoever wants to know.
fn finish(turn: &mut RequestContext<'_>, chain: &Chain) {
    let RequestContext { worker, plan, s, session, .. } = turn;
    s.exchange.timing.ended = s.now(worker);
    log_end(worker, &plan.services, chain, s, session.answered);
}

/// The log phase, and the access log.
pub(crate) fn log_end(worker: &Worker, services: &Services, chain: &Chain, s: &Scratch, answered: bool) {
    run_log(services, chain, s, answered);
    if s.trace.is_some() {
        telemetry::finish(s, answered, || worker.random());
    }
    if let Some(log) = &worker.node.access_log {
        log.write(services, s, answered);
    }
}

async fn serve<'x>(
    turn: &mut RequestContext<'x>,
    chain: &mut &'x Arc<Chain>,
    facts: &ConnectionInfo,
) -> Result<(), Failure> {
    let (plan, group) = (turn.plan, turn.group);
    // What deciding needs is gone before the request is proxied: the future of a connection is as large as its largest
    // state.
    let decided = {
        let s = &mut *turn.s;
        let mut steps = Steps::new(group);
        let mut body = ClientBody { down: &mut *turn.down, session: &mut *turn.session };
        let find = |s: &Scratch| route_request(&group.http, s);
        let choose = |route: &RoutePlan| route.choose(|bound| turn.worker.random_below(bound));
        let decided =
            decide((plan, group, &mut steps), s, facts, &mut body, (find, choose, || turn.worker.random())).await;
        *chain = steps.chain;
        if steps.close {
            turn.session.keep_alive = false;
        }
        if steps.stage == Stage::Filtered {
            if steps.chain.len() > 0 {
                s.time_passed();
            }
            s.exchange.timing.filtered = s.now(turn.worker);
        }
        decided?
    };
    let reply = match decided {
        Decided::Reply(reply) => reply,
        Decided::Forward(route, backend) => {
            turn.s.timeouts = route.timeouts(backend);
            let outcome = UpstreamCall { worker: turn.worker, plan, route, backend, chain }.run(turn).await;
            turn.s.call = CallState::default();
            match outcome {
                Ok(()) => return Ok(()),
                Err(Halt::Replied(reply)) if !turn.session.answered || retract(turn) => {
                    turn.session.answered = false;
                    // What filters asked of the upstream's body does not hold for ours.
                    turn.s.exchange.body_mode = BodyMode::Pass;
                    reply
                }
                Err(halt) => return Err(halt.into_failure()),
            }
        }
    };
    send_reply(turn, chain, *reply).await
}

/// A body whose length is known and over the limit is refused before anything else is done.
pub(crate) fn check_body_length(limits: &Limits, s: &Scratch, length: Option<u64>) -> Result<(), Failure> {
    match length {
        Some(length) if length > body_max(limits, s) => {
            Err(Failure::new(FailureKind::BodyTooLarge, "Content-Length over the limit"))
        }
        _ => Ok(()),
    }
}

/// Answers a failure where that is still possible; else cuts the response short.
async fn fail(turn: &mut RequestContext<'_>, chain: &Chain, failure: Failure) {
    note(turn.worker, turn.s, &failure);
    if turn.session.answered && failure.kind() != FailureKind::ClientClosed && retract(turn) {
        turn.session.answered = false;
    }
    if turn.session.answered || failure.kind() == FailureKind::ClientClosed {
        abort(turn.down, turn.session);
        return;
    }
    // What a filter asked of the upstream's body does not hold for ours.
    turn.s.exchange.body_mode = BodyMode::Pass;
    let reply = match turn.s.exchange.request_body_max {
        Some((_, message)) if failure.kind() == FailureKind::BodyTooLarge => Reply::error(413, message),
        _ => error_reply(turn.plan, turn.s, failure.kind()),
    };
    if let Err(second) = send_reply(turn, chain, reply).await {
        note(turn.worker, turn.s, &second);
        abort(turn.down, turn.session);
    }
}

/// Takes a response back of which the client has seen nothing.
fn retract(turn: &mut RequestContext<'_>) -> bool {
    let Peer::H1(h1) = &mut *turn.down else { return false };
    if !h1.retract() {
        return false;
    }
    turn.s.exchange.bytes.sent = 0;
    turn.s.exchange.bytes.body_sent = 0;
    true
}

/// Counts and logs a failure, once, here where it is handled.
pub(crate) fn note(worker: &Worker, s: &mut Scratch, failure: &Failure) {
    let kind = failure.kind();
    worker.counters().failed(kind);
    s.exchange.failure = Some(kind);
    failure_log::write(Line::of(kind), s, failure);
}

/// Ends a response so that it does not look complete.
fn abort(down: &mut Peer, session: &mut Session) {
    session.aborted = true;
    session.keep_alive = false;
    match down {
        Peer::H1(h1) => {
            // A reset might overtake the alert.
            if !h1.io().tls_has_failed() {
                h1.io().reset_on_close();
            }
        }
        Peer::H2(h2) => h2.reset(Code::INTERNAL_ERROR),
    }
}

/// What goes upstream: path and query.
pub(crate) fn make_uri(s: &mut Scratch) {
    let uri = &mut s.exchange.upstream_uri;
    uri.clear();
    uri.extend_from_slice(&s.upstream.path);
    if let Some(query) = s.request.query() {
        uri.push(b'?');
        uri.extend_from_slice(query);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_comes_too_slowly_is_late() {
        let budget = Arc::new(Budget::new(0));
        let late = REQUEST_BODY_STALL;
        let terms = Terms { max: 1, expected: 1, timeout_ms: 60_000, late, slowest: BODY_RATE_MIN, budget: &budget };
        assert_eq!(terms.patience_ms(1, 59_000), Some(1_000));
        assert_eq!(terms.patience_ms(1, 60_001), None);
        assert_eq!(terms.patience_ms(8 * 1024 * 100, 60_000), Some(60_000));
        assert_eq!(terms.patience_ms(8 * 1024 * 100, 159_999), Some(1));
        assert_eq!(terms.patience_ms(8 * 1024 * 100, 160_000), None);
        let patient = Terms { timeout_ms: 0, ..terms };
        assert_eq!(patient.patience_ms(1, 1_000_000), Some(0));
    }
}
