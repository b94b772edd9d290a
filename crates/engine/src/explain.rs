//! Explains how a request would be handled, and why. Runs the code of the request path without a socket.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cardinal_balance::{Detector, Group, LimitKind, MemberStatus, NoHealthyEndpoint, PickInput};
use cardinal_base::{Rng as _, SeededRng};
use cardinal_http::h1::Framing;
use cardinal_http::{Failure, FailureKind, Method, Version};
use cardinal_ir::policy::Mirror;
use cardinal_ir::resolve::ScopedRecord;
use cardinal_ir::{Action, Algorithm, Cluster, Diagnostic, Id, Ir, Scope, WeightedBackend};
use cardinal_net::Wheel;
use cardinal_route::Reason;
use cardinal_sdk::{Client, PluginDef, Reply, ReplyBody, TlsInfo};
use serde_json::Value;

use crate::arrival::{ConnectionInfo, Entrance};
use crate::configuration::Configuration;
use crate::exchange::{Scratch, choose_all};
use crate::http::{Body, Decided, Outgoing, Stage, Steps, decide, make_uri, message, set_host, with_view};
use crate::offline::offline_services;
use crate::outcome::EngineError;
use crate::plan::{BackendPlan, Chain, Instance, Plan, PlanCx, Registry, RoutePlan};
use crate::policy::retry::retry_text;
use crate::policy::telemetry::{self, TelemetryPlan};
use crate::policy::timeouts::timeouts_text;

/// The request to explain.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Method.
    pub method: String,
    /// `http://` or `https://` URL, or a path (then `http` and no host, unless a header has one).
    pub url: String,
    /// Header fields, in order.
    pub headers: Vec<(String, String)>,
    /// The client address; loopback if absent.
    pub client_ip: Option<IpAddr>,
    /// TLS server name; if absent and the URL is `https`, the URL's host.
    pub sni: Option<String>,
    /// Use HTTP/2.
    pub http2: bool,
    /// The request's body.
    pub body: Bytes,
    /// The listener group that receives the request; `None` is the default group.
    pub group: Option<Id>,
}

/// Why a question is invalid.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// The method is not a token.
    #[error("{0:?} is not a method")]
    Method(String),
    /// The URL is neither a URL nor a path.
    #[error("{0:?} is neither an http or https URL nor a path")]
    Url(String),
    /// The header field is invalid.
    #[error("{0:?} is not a legal header")]
    Header(String),
}

/// A user object with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: Option<String>,
}

/// A filter or policy that applies.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The plugin, or the kind of a policy that is not from a plugin.
    pub name: &'static str,
    /// The user's object: the plugin instance or the policy.
    pub id: Id,
    /// The name of that object.
    pub instance_name: Option<String>,
    /// The requests that it applies to.
    pub scope: Scope,
    /// Its configuration, complete.
    pub config: Value,
}

/// The tracing that applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// The user object that configures it.
    pub policy: Named,
    /// Whether the request is traced. If this depends on random sampling, other requests may differ.
    pub sampled: bool,
    /// The destination of spans; `None` if none are exported.
    pub exporter: Option<String>,
}

/// A route that did not win.
#[derive(Clone, Debug)]
pub struct Loser {
    /// The route.
    pub route: Named,
    /// The compared record of the route; a route may have several.
    pub record: Id,
    /// It matches too, but the chosen route has precedence.
    pub matches: bool,
    /// Why it lost.
    pub reason: String,
}

/// A backend that receives a share of a route's requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The backend.
    pub backend: Named,
    /// Its weight.
    pub weight: u32,
    /// Its share of all requests of the route, percent.
    pub percent: f64,
}

/// A backend that receives copies of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirrored {
    /// The backend.
    pub backend: Named,
    /// Percentage of requests that are copied.
    pub percent: f64,
}

/// The result of an explanation.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The route that matches.
    pub route: Option<Named>,
    /// The matching record of the route; a route may have several.
    pub record: Option<Id>,
    /// Other routes that came close, the closest first.
    pub losers: Vec<Loser>,
    /// Number of further routes.
    pub losers_more: usize,
    /// The backend; of several, the backend with the largest share. Plugins and upstream are described for requests to
    /// this one.
    pub backend: Option<Named>,
    /// The backends over which the route's requests are split; empty if it forwards to at most one backend.
    pub shares: Vec<Share>,
    /// The backends that receive copies of the route's requests.
    pub mirrors: Vec<Mirrored>,
    /// The upstream path and query.
    pub upstream_uri: Option<String>,
    /// The upstream Host.
    pub upstream_host: Option<String>,
    /// The upstream request head, as HTTP/1.1 lines.
    pub upstream_head: Option<String>,
    /// Filters in order.
    pub plugins: Vec<Applied>,
    /// The local reply, if the request is not forwarded.
    pub reply: Option<(u16, String)>,
    /// The load balancing algorithm and its targets.
    pub balancer: Option<String>,
    /// When and how often the request is retried; `None` for never.
    pub retry: Option<String>,
    /// The timeouts towards the upstream.
    pub timeouts: Option<String>,
    /// The tracing that applies.
    pub tracing: Option<Tracing>,
    /// The authenticated principal.
    pub principal: Option<Named>,
}

/// Explains requests against a configuration.
pub struct Explainer {
    plan: Plan,
    wheel: Rc<Wheel>,
}

/// A body that is given completely.
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

    /// Explaining does not wait.
    fn pause<'a>(&'a mut self, _s: &'a Scratch, _ms: u64) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>> {
        Box::pin(async { Ok(()) })
    }

    /// The explanation covers what happens to all requests, not what happens to a random share.
    fn random(&self, _series: &std::cell::Cell<u64>) -> u64 {
        u64::MAX
    }
}

impl Explainer {
    /// Plans a configuration. Must be called within a runtime, on which filters run. Entities that cannot be served are
    /// reported.
    ///
    /// # Errors
    /// If the configuration cannot be served at all.
    pub fn new(
        configuration: Configuration,
        plugins: &[&'static PluginDef],
    ) -> Result<(Self, Vec<Diagnostic>), EngineError> {
        let services = offline_services(&configuration.node);
        let clock = Arc::clone(&services.clock);
        let registry =
            Registry::new(Arc::clone(&services.clock)).map_err(|error| EngineError::Setup(error.to_string()))?;
        let cx = PlanCx { plugins, services, registry: &registry, previous: None };
        let (plan, diagnostics) = Plan::build(configuration, 1, &cx).map_err(EngineError::Refused)?;
        Ok((Self { plan, wheel: Wheel::new(clock) }, diagnostics))
    }

    /// Explains how a request would be handled. Lists up to `losers_max` other routes that came close.
    ///
    /// # Errors
    /// If the question is not a valid request.
    pub async fn decide(&self, question: &Question, losers_max: usize) -> Result<Decision, QuestionError> {
        let mut s = Scratch::new(&self.wheel);
        let info = ask(question, &mut s)?;
        let mut decision = Decision::default();
        match self.follow(&mut s, &info, Given(question.body.clone()), losers_max, &mut decision).await {
            Ok(Some(reply)) => decision.reply = Some((reply.status, reply_text(&reply))),
            Ok(None) => {}
            Err(failure) => {
                decision.reply = Some((failure.kind().status(), message(&self.plan.node().errors, failure.kind())));
            }
        }
        decision.tracing = s.trace.as_ref().map(|trace| tracing_of(trace.plan(), trace.is_sampled()));
        decision.principal = s
            .exchange
            .identity
            .principal
            .as_ref()
            .map(|principal| Named { id: principal.id, name: principal.record.name.as_deref().map(str::to_owned) });
        Ok(decision)
    }

    /// Decides how to handle a request, and builds the upstream request.
    async fn follow(
        &self,
        s: &mut Scratch,
        info: &ConnectionInfo,
        mut body: Given,
        losers_max: usize,
        decision: &mut Decision,
    ) -> Result<Option<Reply>, Failure> {
        let (plan, group) = (&self.plan, self.plan.group(info.group()));
        let mut steps = Steps::new(group);
        let mut explanation = None;
        let find = |s: &Scratch| {
            let mut found = with_view(s, |request| group.http.explain(request, losers_max));
            let matched = found.matched.take();
            explanation = Some(found);
            matched
        };
        let decided = decide((plan, group, &mut steps), s, info, &mut body, (find, RoutePlan::largest, fixed())).await;
        if let Some(explanation) = explanation {
            decision.losers = explanation.losers.iter().map(loser).collect();
            decision.losers_more = explanation.more;
        }
        decision.plugins = match steps.stage {
            Stage::Head => chosen(steps.chain, s),
            Stage::Chosen | Stage::Filtered => applied(steps.chain, s),
        };
        decision.record = steps.record;
        decision.route = steps.route.map(|route| route_named(&route.route));
        decision.shares = steps.route.map(|route| shares(&plan.ir, &route.route.action)).unwrap_or_default();
        let backend = s.exchange.backend.as_ref();
        decision.backend = backend.map(|backend| Named { id: backend.id(), name: backend.name().map(str::to_owned) });
        match decided? {
            Decided::Reply(reply) => Ok(Some(*reply)),
            Decided::Forward(route, backend) => {
                let framing = match body.0.len() {
                    0 => Framing::None,
                    length => Framing::Length(length as u64),
                };
                let mirrors = route.route.policies.iter().flat_map(|policies| &policies.mirrors);
                let mirrored = |mirror: &Mirror| Mirrored {
                    backend: backend_named(&plan.ir, &mirror.backend),
                    percent: mirror.percent,
                };
                decision.mirrors = mirrors.map(mirrored).collect();
                self.upstream(route, backend, s, framing, decision)?;
                Ok(None)
            }
        }
    }

    /// Describes the upstream request.
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
        let now = self.plan.services.clock.tick();
        let input = PickInput { now, uncounted: true, ..PickInput::default() };
        let picked = match picker.pick(&input) {
            Ok(picked) => Some(picked),
            // Names are not resolved here.
            Err(NoHealthyEndpoint::Unresolved) => None,
            Err(NoHealthyEndpoint::Unhealthy) if may_resolve(&backend.group) => None,
            Err(NoHealthyEndpoint::Unhealthy | NoHealthyEndpoint::Overflow) => {
                return Err(Failure::new(FailureKind::NoHealthyEndpoint, "no endpoint"));
            }
        };
        let name = backend.group.names().first().map(|(_, host)| host.clone());
        let (endpoint, port) = match (&picked, name) {
            (Some(picked), _) => (picked.host_header().to_owned(), picked.address().port()),
            (None, Some(host)) => (host.host.into(), host.port),
            (None, None) => (backend.info.host().to_owned(), 0),
        };
        set_host(&route.route, &backend.backend, s, &endpoint, port);
        telemetry::before_attempt(s, fixed());
        let mut head = Vec::new();
        Outgoing::new(s, self.plan.node(), framing, None)?.write_h1(&mut head);
        decision.upstream_head = Some(String::from_utf8_lossy(&head).into_owned());
        decision.upstream_uri = Some(String::from_utf8_lossy(&s.exchange.upstream_uri).into_owned());
        decision.upstream_host = Some(s.host.clone());
        decision.balancer = Some(balancer_text(backend));
        decision.retry = route.retry(backend).map(retry_text);
        decision.timeouts = Some(timeouts_text(&route.timeouts(backend)));
        Ok(())
    }
}

/// Converts the question into the form of a received request.
fn ask(question: &Question, s: &mut Scratch) -> Result<ConnectionInfo, QuestionError> {
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
    Ok(ConnectionInfo {
        tls: https,
        plain_on_tls: false,
        listener_port: local.port(),
        verification: None,
        entrance: question.group.map(|id| Rc::new(Entrance { listener: None, group: Some(id) })),
    })
}

/// Fixed numbers for ids in an explanation.
fn fixed() -> impl Fn() -> u64 {
    let rng = std::cell::RefCell::new(SeededRng::new(1));
    move || rng.borrow_mut().next_u64()
}

fn tracing_of(plan: &TelemetryPlan, sampled: bool) -> Tracing {
    let origin = &plan.record.origin;
    let policy = Named { id: origin.id, name: origin.name.as_deref().map(str::to_owned) };
    Tracing { policy, sampled, exporter: plan.destination() }
}

fn route_named(route: &cardinal_ir::Route) -> Named {
    Named { id: route.origin.id, name: route.origin.name.as_deref().map(str::to_owned) }
}

/// The backends over which an action splits requests.
fn shares(ir: &Ir, action: &Action) -> Vec<Share> {
    let Action::Split(list) = action else { return Vec::new() };
    let total: f64 = list.iter().map(|to| f64::from(to.weight)).sum();
    let share = |to: &WeightedBackend| Share {
        backend: backend_named(ir, &to.backend),
        weight: to.weight,
        percent: 100.0 * f64::from(to.weight) / total.max(1.0),
    };
    list.iter().map(share).collect()
}

fn backend_named(ir: &Ir, id: &Id) -> Named {
    let origin = ir.backends.get(id).map(|backend| &backend.origin);
    let name = origin.and_then(|origin| origin.name.as_deref()).map(str::to_owned);
    Named { id: origin.map_or(*id, |origin| origin.id), name }
}

fn loser(loser: &cardinal_route::Loser<'_>) -> Loser {
    Loser {
        route: route_named(loser.route),
        record: loser.id,
        matches: loser.reason == Reason::RankedLower,
        reason: reason_text(loser),
    }
}

fn reason_text(loser: &cardinal_route::Loser<'_>) -> String {
    match loser.reason {
        Reason::Misses(_) => format!("does not match: {}", loser.comparisons.join(", ")),
        Reason::RankedLower => "matches, but ranks below".to_owned(),
    }
}

/// The filters whose response phases process a reply that is made before any request phase.
fn chosen(chain: &Chain, s: &mut Scratch) -> Vec<Applied> {
    choose_all(chain, s);
    applied(chain, s)
}

/// The filters that apply, as selected in the request phase.
fn applied(chain: &Chain, s: &Scratch) -> Vec<Applied> {
    let instances =
        s.choices.iter().enumerate().filter_map(|(slot, choice)| chain.instance(u16::try_from(slot).ok()?, *choice));
    instances.map(|instance| describe(&instance)).collect()
}

fn describe(instance: &Instance<'_>) -> Applied {
    let origin = instance.record.origin();
    let (instance_name, config) = match instance.record {
        ScopedRecord::Filters(set) => {
            let filter = set.filters.get(instance.index);
            (filter.and_then(|f| f.instance_name.clone()), filter.map(|f| Value::clone(&f.params)).unwrap_or_default())
        }
        ScopedRecord::Policy(policy) => match &policy.plugin {
            Some(plugin) => (plugin.instance_name.clone(), Value::clone(&plugin.params)),
            None => (origin.name.clone(), serde_json::to_value(&policy.spec).unwrap_or_default()),
        },
    };
    Applied {
        name: instance.name,
        id: origin.id,
        instance_name: instance_name.map(Into::into),
        scope: *instance.record.scope(),
        config,
    }
}

/// Whether a member with a weight has a name that may resolve to addresses.
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
    let text = format!("{} over {}", algorithm_text(&endpoints.algorithm), targets_text(&members));
    let mut parts = vec![text];
    if let Some(labels) = backend.group.subset_labels() {
        parts.push(format!("subset {labels}"));
    }
    parts.extend(policy_texts(endpoints));
    parts.join("; ")
}

/// Targets with their weights, and with their priorities if there are several: `10.0.0.1:80 weight 100 priority 1`.
fn targets_text(members: &[MemberStatus]) -> String {
    let several = members.iter().any(|member| member.priority != Some(0));
    // The weights of addresses are only known once names are resolved.
    let of = |member: &MemberStatus| {
        let text = format!("{}:{} weight {}", member.host, member.port, member.node_weight);
        match member.priority {
            _ if !several => text,
            Some(priority) => format!("{text} priority {priority}"),
            None => format!("{text} not used from here"),
        }
    };
    let targets: Vec<String> = members.iter().map(of).collect();
    if targets.is_empty() { "no targets".to_owned() } else { targets.join(", ") }
}

/// The policies of a cluster that affect load balancing.
fn policy_texts(cluster: &Cluster) -> Vec<String> {
    let mut texts = Vec::new();
    if let Some(policy) = &cluster.locality {
        let (factor, panic) = (policy.overprovisioning_percent, policy.panic_percent);
        texts.push(format!("overprovisioning {factor} %, panic below {panic} %"));
    }
    if let Some(outlier) = cluster.outlier.as_ref().filter(|outlier| outlier.enabled) {
        let detectors = &outlier.detectors;
        let on = [
            (Detector::Total, detectors.total > 0),
            (Detector::Gateway, detectors.gateway > 0),
            (Detector::LocalOrigin, detectors.local_origin > 0 && outlier.split_local_origin),
            (Detector::SuccessRate, detectors.success_rate.is_some()),
            (Detector::FailurePercentage, detectors.failure_percentage.is_some()),
        ];
        let on: Vec<&str> = on.iter().filter(|(_, on)| *on).map(|(detector, _)| detector.label()).collect();
        texts.push(format!(
            "outliers are ejected by {}",
            if on.is_empty() { "no detector".into() } else { on.join(", ") }
        ));
    }
    if let Some(circuit) = &cluster.circuit {
        let limits = [
            (LimitKind::Connections, circuit.max_connections),
            (LimitKind::Pending, circuit.max_pending),
            (LimitKind::Requests, circuit.max_requests),
            (LimitKind::Retries, circuit.max_retries),
        ];
        let limits = limits.iter().filter_map(|(kind, max)| max.map(|max| format!("{max} {}", kind.label())));
        texts.push(format!("at most {}", limits.collect::<Vec<_>>().join(", ")));
    }
    texts
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
        ReplyBody::Empty | ReplyBody::Omitted => {
            let location = reply.headers.get(b"Location").map(String::from_utf8_lossy);
            location.map_or_else(String::new, |location| format!("Location: {location}"))
        }
        ReplyBody::Error(text) | ReplyBody::Message(text) => text.clone().into_owned(),
        ReplyBody::Bytes(bytes) => String::from_utf8_lossy(bytes.get(..200).unwrap_or(bytes)).into_owned(),
    }
}
