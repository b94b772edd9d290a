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
use super::halt::Halt;
use super::reply::{error_reply, send_reply};
use super::request_info::route_request;
use super::session::{RequestContext, Session, Switched};
use super::upstream_start::UpstreamCall;
use crate::arrival::ConnectionInfo;
use crate::exchange::{Scratch, choose_all, log_end, note, picked_text, tunnel};
use crate::plan::{Chain, RoutePlan};
use crate::worker::Worker;

/// Serves the request whose head is in the scratch, up to its log record. If the connection switches to another
/// protocol, returns the tunnel that remains ([`Switched::run`]).
pub(super) async fn run(mut context: RequestContext<'_>, info: &ConnectionInfo) -> Option<Box<Switched>> {
    let _counted = RequestGuard::new(context.worker);
    context.s.exchange.id = context.worker.request_id();
    let mut chain = &context.group.unrouted;
    if let Err(failure) = serve(&mut context, &mut chain, info).await {
        Box::pin(fail(&mut context, chain, failure)).await;
    }
    if context.session.switched.is_some() {
        return context.session.switched.take();
    }
    finish(&mut context, chain);
    None
}

impl Switched {
    /// Copies bytes in both directions until one side ends, then writes the log record.
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

/// Counts a request as active in the worker's counters until it is dropped.
struct RequestGuard<'w>(&'w Worker);

impl<'w> RequestGuard<'w> {
    fn new(worker: &'w Worker) -> Self {
        worker.counters().request_started();
        Self(worker)
    }

    /// The request is already counted, and continues as a tunnel.
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

/// Responds to a request that cannot be served, up to its log record; the connection ends after it.
pub(super) async fn refuse(mut context: RequestContext<'_>, failure: Failure) {
    context.s.exchange.id = context.worker.request_id();
    context.s.exchange.original.method.clone_from(&context.s.request.method);
    let chain = &*context.group.unrouted;
    choose_all(chain, context.s);
    let silent = failure.kind() == FailureKind::ClientClosed;
    fail(&mut context, chain, failure).await;
    if !silent {
        finish(&mut context, chain);
    }
}

/// Records the end of the request and runs the log phase.
fn finish(context: &mut RequestContext<'_>, chain: &Chain) {
    let RequestContext { worker, plan, s, session, .. } = context;
    s.exchange.timing.ended = s.now(worker);
    log_end(worker, &plan.services, chain, s, session.answered);
}

async fn serve<'x>(
    context: &mut RequestContext<'x>,
    chain: &mut &'x Arc<Chain>,
    info: &ConnectionInfo,
) -> Result<(), Failure> {
    let (plan, group) = (context.plan, context.group);
    // The state of the decision is dropped before the request is proxied: the future of a connection is as large as its
    // largest state.
    let decided = {
        let s = &mut *context.s;
        let mut steps = Steps::new(group);
        let mut body = ClientBody { down: &mut *context.down, session: &mut *context.session };
        let find = |s: &Scratch| route_request(&group.http, s);
        let choose = |route: &RoutePlan| route.choose(|bound| context.worker.random_below(bound));
        let decided =
            decide((plan, group, &mut steps), s, info, &mut body, (find, choose, || context.worker.random())).await;
        *chain = steps.chain;
        if steps.close {
            context.session.keep_alive = false;
        }
        if steps.stage == Stage::Filtered {
            if steps.chain.len() > 0 {
                s.time_passed();
            }
            s.exchange.timing.filtered = s.now(context.worker);
        }
        decided?
    };
    let reply = match decided {
        Decided::Reply(reply) => reply,
        Decided::Forward(route, backend) => {
            context.s.timeouts = route.timeouts(backend);
            let outcome = UpstreamCall { worker: context.worker, plan, route, backend, chain }.run(context).await;
            context.s.call.clear();
            match outcome {
                Ok(()) => return Ok(()),
                Err(Halt::Replied(reply)) if !context.session.answered || retract(context) => {
                    context.session.answered = false;
                    // The phases that filters requested for the upstream's body do not apply to the local reply.
                    context.s.exchange.body_mode = BodyMode::Pass;
                    reply
                }
                Err(halt) => return Err(halt.into_failure()),
            }
        }
    };
    send_reply(context, chain, *reply).await
}

/// Responds to a failure if that is still possible; otherwise cuts the response short.
async fn fail(context: &mut RequestContext<'_>, chain: &Chain, failure: Failure) {
    note(context.worker, context.s, &failure);
    if context.session.answered && failure.kind() != FailureKind::ClientClosed && retract(context) {
        context.session.answered = false;
    }
    if context.session.answered || failure.kind() == FailureKind::ClientClosed {
        abort(context.down, context.session);
        return;
    }
    // The phases that filters requested for the upstream's body do not apply to the local reply.
    context.s.exchange.body_mode = BodyMode::Pass;
    let reply = match context.s.exchange.request_body_max {
        Some((_, message)) if failure.kind() == FailureKind::BodyTooLarge => Reply::error(413, message),
        _ => error_reply(context.plan, context.s, failure.kind()),
    };
    if let Err(second) = send_reply(context, chain, reply).await {
        note(context.worker, context.s, &second);
        abort(context.down, context.session);
    }
}

/// Withdraws a response if nothing of it was sent to the client.
fn retract(context: &mut RequestContext<'_>) -> bool {
    let Peer::H1(h1) = &mut *context.down else { return false };
    if !h1.retract() {
        return false;
    }
    context.s.exchange.bytes.sent = 0;
    context.s.exchange.bytes.body_sent = 0;
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
