//! The life of a request, from its head to its log record.

use std::rc::Rc;
use std::sync::Arc;

use cardinal_balance::Outcome;
use cardinal_http::{Failure, FailureKind};
use cardinal_net::Peer;
use cardinal_net::h2::Code;
use cardinal_sdk::{BodyMode, Reply};

use super::client_body::ClientBody;
use super::decide::{Decided, Stage, Steps, decide};
use super::facts::route_request;
use super::halt::Halt;
use super::reply::{error_reply, send_reply};
use super::session::{RequestContext, Session, Switched};
use super::upstream_start::UpstreamCall;
use crate::arrival::ConnectionInfo;
use crate::exchange::{Scratch, choose_all, log_end, note, picked_text, tunnel};
use crate::plan::{Chain, RoutePlan};
use crate::worker::Worker;

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
            turn.s.call.clear();
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
