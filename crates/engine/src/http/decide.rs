//! [`decide`]: decides how to handle a request, from its head to the choice of a backend.
//!
//! The steps are: request info, route, requirements of the route, policies and filters in descending order
//! (authorization, rate limits, faults and plugins form one chain), action. `serve` executes the decision and `explain`
//! describes it, so that both follow the same steps.

use std::sync::Arc;

use cardinal_http::{Failure, FailureKind};
use cardinal_ir::{Action, Id};
use cardinal_route::Match;
use cardinal_sdk::Reply;

use super::body::{Body, check_body_length};
use super::filters::run_request;
use super::request_info::{apply_match, read_request_info, refusal, refused_method};
use super::upstream_head::strip_listed;
use crate::arrival::ConnectionInfo;
use crate::exchange::Scratch;
use crate::plan::{BackendPlan, Chain, Destination, GroupPlan, Plan, RoutePlan};
use crate::policy::{action, headers, rewrite, telemetry};

/// How a request is handled.
pub(crate) enum Decided<'p> {
    /// The gateway replies itself.
    Reply(Box<Reply>),
    /// The request is forwarded to this backend.
    Forward(&'p RoutePlan, &'p Arc<BackendPlan>),
}

/// How far the decision proceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// No filter has seen the request.
    Head,
    /// The filters that apply to the request are known.
    Chosen,
    /// The request phase of the filters is over.
    Filtered,
}

/// The state of a decision; also valid when it ends early.
pub(crate) struct Steps<'p> {
    /// The filters that see the response.
    pub(crate) chain: &'p Arc<Chain>,
    /// The matched route.
    pub(crate) route: Option<&'p RoutePlan>,
    /// The record of the matched route. A route may have several records.
    pub(crate) record: Option<Id>,
    /// How far the decision proceeded.
    pub(crate) stage: Stage,
    /// The connection cannot serve another request.
    pub(crate) close: bool,
}

impl<'p> Steps<'p> {
    pub(crate) fn new(group: &'p GroupPlan) -> Self {
        Self { chain: &group.unrouted, route: None, record: None, stage: Stage::Head, close: false }
    }
}

/// Decides how to handle the request whose head is in the scratch. `find` matches it against the routes of the
/// listener's group; `choose` selects one of the route's destinations before filters run, because filters depend on it.
/// `random` supplies random numbers for trace ids. The steps before the filters run synchronously, so that the future
/// only holds what the filters need. The function is inlined, so that the future is built in its final place.
#[inline(always)]
pub(crate) fn decide<'a, 'p>(
    (plan, group, steps): (&'p Plan, &'p GroupPlan, &'a mut Steps<'p>),
    s: &'a mut Scratch,
    info: &ConnectionInfo,
    body: &'a mut dyn Body,
    by: (impl FnOnce(&Scratch) -> Option<Match<'p>>, impl FnOnce(&RoutePlan) -> usize, impl Fn() -> u64),
) -> impl Future<Output = Result<Decided<'p>, Failure>> {
    let routed = route((plan, group, steps), s, info, by);
    let routed = routed.and_then(|routed| {
        if let Routed::Found(..) = routed {
            check_body_length(&plan.node().limits, s, body.length())?;
        }
        Ok(routed)
    });
    act((plan, steps), s, body, routed)
}

/// Runs the filters, then the action of the route.
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

/// Runs the action of the route if no filter replied.
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

/// The result of the steps before the filters.
enum Routed<'p> {
    /// The route, which is also in [`Steps::route`], and the destination chosen for the request.
    Found(&'p RoutePlan, &'p Destination),
    /// The gateway replies itself.
    Reply(Box<Reply>),
}

/// Reads the request info, finds the route and checks the route's requirements.
fn route<'p>(
    (plan, group, steps): (&'p Plan, &'p GroupPlan, &mut Steps<'p>),
    s: &mut Scratch,
    info: &ConnectionInfo,
    (find, choose, random): (
        impl FnOnce(&Scratch) -> Option<Match<'p>>,
        impl FnOnce(&RoutePlan) -> usize,
        impl Fn() -> u64,
    ),
) -> Result<Routed<'p>, Failure> {
    strip_listed(&mut s.request);
    let plain_on_tls = info.plain_on_tls;
    steps.close = true;
    if !read_request_info(plan.node(), info, s) {
        // Handled like any other malformed head.
        return Err(Failure::new(FailureKind::BadRequest, "target, scheme or host"));
    }
    if plain_on_tls {
        return Err(Failure::new(FailureKind::ClientTls, "plain HTTP request to a listener with TLS"));
    }
    if let Some(reply) = refused_method(&plan.node().errors, &s.request) {
        return Ok(Routed::Reply(Box::new(reply)));
    }
    steps.close = false;
    let listeners = info.group();
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
