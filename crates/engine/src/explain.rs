//! What would happen to a request, and why: the code that serves, without a socket.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cardinal_balance::{Group, MemberStatus, NoPeer, PickInput};
use cardinal_base::{Budget, SeededRng, SystemClock};
use cardinal_http::h1::Framing;
use cardinal_http::{Failure, FailureKind, Method, Version};
use cardinal_ir::{Algorithm, Diagnostic, Id, NodeSettings, Scope};
use cardinal_net::Wheel;
use cardinal_route::Reason;
use cardinal_sdk::redis::{Redis, RedisCall, RedisReplies, RedisReply, RedisServer, RedisSettings};
use cardinal_sdk::{
    CallError, Client, ConnectionCounts, HttpCall, HttpCaller, HttpReply, NodeView, PluginDef, Reply, ReplyBody,
    Services, Shared, TargetHealth, TlsInfo,
};
use serde_json::Value;

use crate::configuration::Configuration;
use crate::engine::EngineError;
use crate::http::{
    Body, Facts, Outgoing, Scratch, apply_match, check_body_length, choose_all, make_uri, message, read_facts, refusal,
    refused_method, run_request_filters, set_host, strip_listed, with_view,
};
use crate::plan::{BackendPlan, Chain, Plan, PlanCx, Registry, RoutePlan};

/// A request to ask about.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Method.
    pub method: String,
    /// `http://` or `https://` URL, or a path (then `http` and no host, unless a header has one).
    pub url: String,
    /// Fields, in order.
    pub headers: Vec<(String, String)>,
    /// The connection's other end; loopback when absent.
    pub client_ip: Option<IpAddr>,
    /// TLS server name; the URL's host when absent and the URL is `https`.
    pub sni: Option<String>,
    /// Make the request over HTTP/2.
    pub http2: bool,
    /// The request's body.
    pub body: Bytes,
}

/// Why a question cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// The method is not a token.
    #[error("{0:?} is not a method")]
    Method(String),
    /// The URL is neither a URL nor a path.
    #[error("{0:?} is neither an http or https URL nor a path")]
    Url(String),
    /// The field is not legal.
    #[error("{0:?} is not a legal header")]
    Header(String),
}

/// An object of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: Option<String>,
}

/// A filter that applies.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The plugin.
    pub name: &'static str,
    /// The instance.
    pub id: Id,
    /// Its name.
    pub instance_name: Option<String>,
    /// Where it applies.
    pub scope: Scope,
    /// Its configuration, complete.
    pub config: Value,
}

/// A route that was close.
#[derive(Clone, Debug)]
pub struct Loser {
    /// The route.
    pub route: Named,
    /// The record of the route that was compared; a route may have several.
    pub record: Id,
    /// It matches too, and the route that was chosen goes before it.
    pub matches: bool,
    /// Why it lost.
    pub reason: String,
}

/// What would happen.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The route that matches.
    pub route: Option<Named>,
    /// The record of the route that matches; a route may have several.
    pub record: Option<Id>,
    /// Others that were close, the closest first.
    pub losers: Vec<Loser>,
    /// How many others there are beside these.
    pub losers_more: usize,
    /// The backend.
    pub backend: Option<Named>,
    /// Path and query that go upstream.
    pub upstream_uri: Option<String>,
    /// Host that goes upstream.
    pub upstream_host: Option<String>,
    /// The head that goes upstream, as HTTP/1.1 lines.
    pub upstream_head: Option<String>,
    /// Filters in their order.
    pub plugins: Vec<Applied>,
    /// The reply, when none comes from an upstream.
    pub reply: Option<(u16, String)>,
    /// How the endpoint is chosen, and from which.
    pub balancer: Option<String>,
    /// The principal that the request is authenticated as.
    pub principal: Option<Named>,
}

/// Answers questions about a configuration.
pub struct Explainer {
    plan: Plan,
    wheel: Rc<Wheel>,
}

/// A node that calls nobody.
struct Alone;

impl HttpCaller for Alone {
    fn call(&self, call: HttpCall) -> Pin<Box<dyn Future<Output = Result<HttpReply, CallError>> + Send>> {
        Box::pin(async move { Err(CallError::Transport(format!("{} is not called while explaining", call.url))) })
    }
}

/// No server is asked, so that nothing is counted or stored there: each command gets the reply of an empty database.
impl Redis for Alone {
    fn server(&self, _settings: &RedisSettings) -> Arc<dyn RedisServer> {
        Arc::new(Self)
    }
}

impl RedisServer for Alone {
    fn name(&self) -> &str {
        "no server"
    }

    fn call(&self, call: RedisCall) -> RedisReplies {
        Box::pin(async move { Ok(vec![RedisReply::Nil; call.commands().len()]) })
    }
}

impl NodeView for Alone {
    fn connections(&self) -> ConnectionCounts {
        ConnectionCounts::default()
    }

    fn targets(&self) -> Vec<TargetHealth> {
        Vec::new()
    }
}

/// A body that is at hand.
struct Given(Bytes);

impl Body for Given {
    fn length(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }

    fn whole<'a>(
        &'a mut self,
        _plan: &'a Plan,
        _s: &'a mut Scratch,
        max: u64,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + 'a>> {
        Box::pin(async move {
            if self.0.len() as u64 > max {
                return Err(Failure::new(FailureKind::BodyTooLarge, "request body over its limit"));
            }
            Ok(self.0.clone())
        })
    }
}

/// The services of a node that connects to no server. Must be called within a runtime.
pub(crate) fn offline_services(settings: &NodeSettings) -> Services {
    // The process has one TLS provider; a second caller finds it installed.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    Services {
        clock: Arc::new(SystemClock::new()),
        shared: Arc::new(Shared::default()),
        http: Arc::new(Alone),
        redis: Arc::new(Alone),
        runtime: tokio::runtime::Handle::current(),
        memory: Arc::new(Budget::new(usize::MAX)),
        node: Arc::new(Alone),
        node_id: settings.id,
        hostname: "explain".into(),
        redacted_headers: settings.redacted_headers.clone().into(),
    }
}

impl Explainer {
    /// Plans a configuration. Must be called within a runtime, on which filters run. What cannot be served is reported.
    ///
    /// # Errors
    /// When nothing can be served.
    pub fn new(
        configuration: Configuration,
        plugins: &[&'static PluginDef],
    ) -> Result<(Self, Vec<Diagnostic>), EngineError> {
        let services = offline_services(&configuration.node);
        let clock = Arc::clone(&services.clock);
        let registry = Registry::new().map_err(|error| EngineError::Setup(error.to_string()))?;
        let cx = PlanCx { plugins, services, registry: &registry, previous: None };
        let (plan, diagnostics) = Plan::build(configuration, 1, &cx).map_err(EngineError::Refused)?;
        Ok((Self { plan, wheel: Wheel::new(clock) }, diagnostics))
    }

    /// What would happen to a request. Shows up to `losers_max` routes that were close.
    ///
    /// # Errors
    /// When the question is not a request.
    pub async fn decide(&self, question: &Question, losers_max: usize) -> Result<Decision, QuestionError> {
        let mut s = Scratch::new(&self.wheel);
        let facts = ask(question, &mut s)?;
        let mut decision = Decision::default();
        match self.follow(&mut s, facts, Given(question.body.clone()), losers_max, &mut decision).await {
            Ok(Some(reply)) => decision.reply = Some((reply.status, reply_text(&reply))),
            Ok(None) => {}
            Err(failure) => {
                decision.reply = Some((failure.kind().status(), message(&self.plan.node().errors, failure.kind())));
            }
        }
        decision.principal = s
            .exchange
            .identity
            .principal
            .as_ref()
            .map(|principal| Named { id: principal.id, name: principal.record.name.as_deref().map(str::to_owned) });
        Ok(decision)
    }

    /// The way of a request, step by step as `http::exchange` takes it.
    async fn follow(
        &self,
        s: &mut Scratch,
        facts: Facts,
        mut body: Given,
        losers_max: usize,
        decision: &mut Decision,
    ) -> Result<Option<Reply>, Failure> {
        let plan = &self.plan;
        let framing = match body.0.len() {
            0 => Framing::None,
            length => Framing::Length(length as u64),
        };
        strip_listed(&mut s.request);
        if !read_facts(plan.node(), facts, s) {
            return Err(Failure::new(FailureKind::BadRequest, "host"));
        }
        if let Some(reply) = refused_method(&plan.node().errors, &s.request) {
            decision.plugins = chosen(&plan.unrouted, s);
            return Ok(Some(reply));
        }
        let explanation = with_view(s, |request| plan.http.explain(request, losers_max));
        decision.losers = explanation
            .losers
            .iter()
            .map(|loser| Loser {
                route: route_named(loser.route),
                record: loser.id,
                matches: loser.reason == Reason::RankedLower,
                reason: reason_text(loser),
            })
            .collect();
        decision.losers_more = explanation.more;
        let Some(found) = explanation.matched else {
            decision.plugins = chosen(&plan.unrouted, s);
            return Err(Failure::new(FailureKind::NoRoute, "no route matches"));
        };
        let Some(route) = plan.http_routes.get(found.slot) else {
            return Err(Failure::new(FailureKind::NoRoute, "no route matches"));
        };
        decision.route = Some(route_named(&route.route));
        decision.record = Some(found.id);
        s.exchange.route = Some(route.info());
        s.exchange.backend = route.backend.as_ref().map(|backend| Arc::clone(&backend.info));
        decision.backend = route
            .backend
            .as_ref()
            .map(|backend| Named { id: backend.info.id(), name: backend.info.name().map(str::to_owned) });
        let base = route.backend.as_ref().and_then(|b| b.backend.path.as_deref());
        apply_match(&found, base, s);
        if let Some(reply) = refusal(&plan.node().errors, &route.route.require, &s.request, &s.exchange) {
            decision.plugins = chosen(&route.chain, s);
            return Ok(Some(reply));
        }
        check_body_length(&plan.node().limits, s, framing)?;
        let outcome = run_request_filters(plan, &route.chain, s, &mut body).await;
        decision.plugins = applied(&route.chain, s);
        if let Some(reply) = outcome? {
            return Ok(Some(*reply));
        }
        check_body_length(&plan.node().limits, s, framing)?;
        let Some(backend) = &route.backend else {
            return Err(Failure::new(FailureKind::NoBackend, "the route has no backend"));
        };
        self.upstream(route, backend, s, framing, decision)?;
        Ok(None)
    }

    /// What would go upstream.
    fn upstream(
        &self,
        route: &RoutePlan,
        backend: &BackendPlan,
        s: &mut Scratch,
        framing: Framing,
        decision: &mut Decision,
    ) -> Result<(), Failure> {
        make_uri(s);
        let mut picker = backend.group.picker(Box::new(SeededRng::new(1)));
        let input = PickInput { now: self.plan.services.clock.tick(), ..PickInput::default() };
        let picked = match picker.pick(&input) {
            Ok(picked) => Some(picked),
            // Names are not resolved here.
            Err(NoPeer::Unresolved) => None,
            Err(NoPeer::Unhealthy) if may_resolve(&backend.group) => None,
            Err(NoPeer::Unhealthy) => return Err(Failure::new(FailureKind::NoPeer, "no endpoint")),
        };
        let name = backend.group.names().first().map(|(_, host)| host.clone());
        let (endpoint, port) = match (&picked, name) {
            (Some(picked), _) => (picked.host_header().to_owned(), picked.address().port()),
            (None, Some(host)) => (host.host.into(), host.port),
            (None, None) => (backend.info.host().to_owned(), 0),
        };
        set_host(&route.route, &backend.backend, s, &endpoint, port);
        let mut head = Vec::new();
        Outgoing::new(s, self.plan.node(), framing, None)?.write_h1(&mut head);
        decision.upstream_head = Some(String::from_utf8_lossy(&head).into_owned());
        decision.upstream_uri = Some(String::from_utf8_lossy(&s.exchange.upstream_uri).into_owned());
        decision.upstream_host = Some(s.host.clone());
        decision.balancer = Some(balancer_text(backend));
        Ok(())
    }
}

/// Puts the question into the form that requests have when they are read.
fn ask(question: &Question, s: &mut Scratch) -> Result<Facts, QuestionError> {
    let bad_url = || QuestionError::Url(question.url.clone());
    let (https, rest) = match question.url.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        None if question.url.starts_with('/') => (false, question.url.as_str()),
        _ => return Err(bad_url()),
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(at);
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let local = SocketAddr::from(([127, 0, 0, 1], if https { 443 } else { 80 }));
    let peer = SocketAddr::new(question.client_ip.unwrap_or(IpAddr::from([127, 0, 0, 1])), 40_000);
    let mut client = Client::at(peer, local);
    if https {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let sni = question.sni.clone().unwrap_or_else(|| host.to_owned()).to_ascii_lowercase();
        client.tls = Some(Arc::new(TlsInfo { version: "TLSv1.3", sni: Some(sni.into()), ..TlsInfo::default() }));
    }
    s.start(&client);
    s.request.method =
        Method::parse(question.method.as_bytes()).ok_or_else(|| QuestionError::Method(question.method.clone()))?;
    s.request.version = if question.http2 { Version::H2 } else { Version::H11 };
    if !s.request.set_target(target.as_bytes()) {
        return Err(bad_url());
    }
    let named = question.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    if !named && !authority.is_empty() && !s.request.headers.append(b"Host", authority.as_bytes()) {
        return Err(bad_url());
    }
    for (name, value) in &question.headers {
        if !s.request.headers.append(name.as_bytes(), value.as_bytes()) {
            return Err(QuestionError::Header(format!("{name}: {value}")));
        }
    }
    Ok(Facts { tls: https, plain_on_tls: false, listener_port: local.port(), verification: None })
}

fn route_named(route: &cardinal_ir::Route) -> Named {
    Named { id: route.origin.id, name: route.origin.name.as_deref().map(str::to_owned) }
}

fn reason_text(loser: &cardinal_route::Loser<'_>) -> String {
    match loser.reason {
        Reason::Misses(_) => format!("does not match: {}", loser.comparisons.join(", ")),
        Reason::RankedLower => "matches, but ranks below".to_owned(),
    }
}

/// The filters whose response phases see a reply that is made before any request phase.
fn chosen(chain: &Chain, s: &mut Scratch) -> Vec<Applied> {
    choose_all(chain, s);
    applied(chain, s)
}

/// The filters that apply, as the request phase has chosen them.
fn applied(chain: &Chain, s: &Scratch) -> Vec<Applied> {
    let instances =
        s.choices.iter().enumerate().filter_map(|(slot, choice)| chain.instance(u16::try_from(slot).ok()?, *choice));
    instances
        .map(|instance| {
            let filter = instance.set.filters.iter().find(|f| *f.kind == *instance.plugin.name);
            Applied {
                name: instance.plugin.name,
                id: instance.id,
                instance_name: filter.and_then(|f| f.instance_name.as_deref().map(str::to_owned)),
                scope: instance.set.scope,
                config: filter.map(|f| Value::clone(&f.params)).unwrap_or_default(),
            }
        })
        .collect()
}

/// Whether a member with a weight has a name that may have addresses.
fn may_resolve(group: &Group) -> bool {
    let members = group.status().members;
    !group.names().is_empty() && members.iter().any(|member| member.node_weight > 0 && member.addresses.is_empty())
}

/// The load balancer with its targets: `round-robin over 10.0.0.1:80 weight 100`.
fn balancer_text(backend: &BackendPlan) -> String {
    let members = backend.group.status().members;
    let Some(endpoints) = &backend.endpoints else {
        let of = |member: &MemberStatus| format!("{}:{}", member.host, member.port);
        let host: Vec<String> = members.iter().map(of).collect();
        return match backend.group.names().is_empty() {
            true => host.join(", "),
            false => format!("round-robin over the addresses of {}", host.join(", ")),
        };
    };
    // The weights of addresses are known only once names are resolved.
    let of = |member: &MemberStatus| format!("{}:{} weight {}", member.host, member.port, member.node_weight);
    let targets: Vec<String> = members.iter().map(of).collect();
    let targets = if targets.is_empty() { "no targets".to_owned() } else { targets.join(", ") };
    format!("{} over {targets}", algorithm_text(&endpoints.algorithm))
}

fn algorithm_text(algorithm: &Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RoundRobin => "round-robin",
        Algorithm::LeastConnections => "least-connections",
        Algorithm::ConsistentHashing => "consistent-hashing",
        Algorithm::Latency => "latency",
        Algorithm::Sticky { .. } => "sticky-sessions",
    }
}

fn reply_text(reply: &Reply) -> String {
    match &reply.body {
        ReplyBody::Empty | ReplyBody::Omitted => String::new(),
        ReplyBody::Error(text) | ReplyBody::Message(text) => text.clone().into_owned(),
        ReplyBody::Bytes(bytes) => String::from_utf8_lossy(bytes.get(..200).unwrap_or(bytes)).into_owned(),
    }
}
