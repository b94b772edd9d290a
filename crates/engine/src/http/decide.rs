//! [`decide`]: what happens to a request, from its head to the choice of a backend.
//!
//! The order is: facts, route, requirements of the route, policies and filters by falling order (authorization, rate
//! limits, faults and plugins are in one chain), action. `serve` executes the decision and `explain` describes it; neither
//! has a list of its own.

use std::sync::Arc;

use cardinal_http::{Failure, FailureKind};
use cardinal_ir::{Action, Id};
use cardinal_route::Match;
use cardinal_sdk::Reply;

use super::body::{Body, check_body_length};
use super::facts::{apply_match, read_facts, refusal, refused_method};
use super::filters::run_request;
use super::upstream_head::strip_listed;
use crate::arrival::ConnectionInfo;
use crate::exchange::Scratch;
use crate::plan::{BackendPlan, Chain, Destination, GroupPlan, Plan, RoutePlan};
use crate::policy::{action, headers, rewrite, telemetry};

/// What happens to a request.
pub(crate) enum Decided<'p> {
    /// The reply is made here.
    Reply(Box<Reply>),
    /// The request goes to this backend.
    Forward(&'p RoutePlan, &'p Arc<BackendPlan>),
}

/// How far a decision came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// No filter has seen the request.
    Head,
    /// It is known which filters apply to the request.
    Chosen,
    /// The request phase of the filters is over.
    Filtered,
}

/// What is known about a decision, however it ends.
pub(crate) struct Steps<'p> {
    /// The filters that see the response.
    pub(crate) chain: &'p Arc<Chain>,
    /// The matched route.
    pub(crate) route: Option<&'p RoutePlan>,
    /// The record of the matched route; a route may have several.
    pub(crate) record: Option<Id>,
    /// How far the decision came.
    pub(crate) stage: Stage,
    /// The connection cannot serve another request.
    pub(crate) close: bool,
}

impl<'p> Steps<'p> {
    pub(crate) fn new(group: &'p GroupPlan) -> Self {
        Self { chain: &group.unrouted, route: None, record: None, stage: Stage::Head, close: false }
    }
}

/// Decides about the request whose head is in the scratch. `find` matches it against the routes of the listener's group,
/// `choose` says which of a route's destinations it takes; that is settled before filters run, as they depend on it.
/// `random` gives numbers for the ids of traces. What comes before the filters is done at once, so that the future holds no
/// more than these need; and it is inlined, so that the future is made where it stays.
#[inline(always)]
pub(crate) fn decide<'a, 'p>(
    (plan, group, steps): (&'p Plan, &'p GroupPlan, &'a mut Steps<'p>),
    s: &'a mut Scratch,
    facts: &ConnectionInfo,
    body: &'a mut dyn Body,
    by: (impl FnOnce(&Scratch) -> Option<Match<'p>>, impl FnOnce(&RoutePlan) -> usize, impl Fn() -> u64),
) -> impl Future<Output = Result<Decided<'p>, Failure>> {
    let routed = route((plan, group, steps), s, facts, by);
    let routed = routed.and_then(|routed| {
        if let Routed::Found(..) = routed {
            check_body_length(&plan.node().limits, s, body.length())?;
        }
        Ok(routed)
    });
    act((plan, steps), s, body, routed)
}

/// Runs the filters, then does what the route says.
async fn act<'p>(
    (plan, steps): (&'p Plan, &mut Steps<'p>),
    s: &mut Scratch,
    body: &mut dyn Body,
    routed: Result<Routed<'p>, Failure>,
) -> Result<Decided<'p>, Failure> {
    let (route, to) = match routed? {
        Routed::Found(route, to) => (route, to),
        Routed::Reply(reply) => return Ok(Decided::Reply(reply)),
    };
    steps.stage = Stage::Chosen;
    let answer = run_request(plan, &to.chain, s, body).await?;
    steps.stage = Stage::Filtered;
    if let Some(reply) = answer {
        return Ok(Decided::Reply(reply));
    }
    check_body_length(&plan.node().limits, s, body.length())?;
    perform((route, to), s)
}

/// The action of the route, once no filter has answered.
fn perform<'p>((route, to): (&'p RoutePlan, &'p Destination), s: &mut Scratch) -> Result<Decided<'p>, Failure> {
    if let Some(backend) = &to.backend {
        let policies = route.route.policies.as_deref();
        if let Some(edits) = policies.and_then(|policies| policies.request_headers.as_ref()) {
            headers::edit(edits, &mut s.request.headers);
        }
        return Ok(Decided::Forward(route, backend));
    }
    let reply = action::reply(&route.route, s);
    reply.map(|reply| Decided::Reply(Box::new(reply))).ok_or_else(|| {
        let reason = match route.route.action {
            Action::None => "the route has no backend",
            Action::Split(_) => "no backend of the route can be used, or none has a weight",
            _ => "the backend of the route cannot be used",
        };
        Failure::new(FailureKind::NoBackend, reason)
    })
}

/// What comes before the filters.
enum Routed<'p> {
    /// The route, which is in [`Steps::route`], too, and which of its destinations the request takes.
    Found(&'p RoutePlan, &'p Destination),
    /// The reply is made here.
    Reply(Box<Reply>),
}

/// Reads the facts, finds the route and checks what it requires.
fn route<'p>(
    (plan, group, steps): (&'p Plan, &'p GroupPlan, &mut Steps<'p>),
    s: &mut Scratch,
    facts: &ConnectionInfo,
    (find, choose, random): (
        impl FnOnce(&Scratch) -> Option<Match<'p>>,
        impl FnOnce(&RoutePlan) -> usize,
        impl Fn() -> u64,
    ),
) -> Result<Routed<'p>, Failure> {
    strip_listed(&mut s.request);
    let plain_on_tls = facts.plain_on_tls;
    steps.close = true;
    if !read_facts(plan.node(), facts, s) {
        // As after any other head that cannot be read.
        return Err(Failure::new(FailureKind::BadRequest, "target, scheme or host"));
    }
    if plain_on_tls {
        return Err(Failure::new(FailureKind::ClientTls, "plain HTTP request to a listener with TLS"));
    }
    if let Some(reply) = refused_method(&plan.node().errors, &s.request) {
        return Ok(Routed::Reply(Box::new(reply)));
    }
    steps.close = false;
    let listeners = facts.group();
    let trace = |route, backend, s: &mut Scratch| {
        if let Some(tracing) = &plan.telemetry {
            telemetry::start(tracing, (listeners, route, backend), s, random);
        }
    };
    let Some(found) = find(s) else {
        trace(None, None, s);
        return Err(Failure::new(FailureKind::NoRoute, "no route matches"));
    };
    let missing = || Failure::new(FailureKind::NoRoute, "the plan lacks the route");
    let route = group.http_routes.get(found.slot).ok_or_else(missing)?;
    let to = route.destination(choose(route));
    (steps.chain, steps.route, steps.record) = (&to.chain, Some(route), Some(found.id));
    s.exchange.route = Some(route.info());
    s.exchange.backend = to.backend.as_ref().map(|backend| Arc::clone(&backend.info));
    trace(Some(route.route.origin.id), to.backend.as_ref().map(|backend| backend.id), s);
    let base = to.backend.as_ref().and_then(|b| b.backend.path.as_deref());
    apply_match(&found, base, s);
    if let Some(rewrite) = route.route.policies.as_deref().and_then(|policies| policies.rewrite.as_ref()) {
        rewrite::apply(rewrite, base, s);
    }
    match refusal(&plan.node().errors, &route.route.require, &s.request, &s.exchange) {
        Some(reply) => Ok(Routed::Reply(Box::new(reply))),
        None => Ok(Routed::Found(route, to)),
    }
}
