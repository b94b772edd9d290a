//! Ten thousand random changes, received as deltas from a source, have the same result as starting from scratch: byte
//! for byte, in the hash of the configuration and in the responses.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use cardinal_base::{Rng as _, SeededRng};
use cardinal_engine::Configuration;
use cardinal_ir::policy::{
    AccessAction, AccessRule, Authorization, CircuitLimits, ClientMatch, Fault, FaultAbort, FaultStatus, Limiter,
    OutlierDetection, PluginInstance, RateLimit, Respond, SubsetFallback, TokenBucket,
};
use cardinal_ir::{
    Action, Attributes, Backend, Change, Cluster, Credential, DirectResponse, Endpoint, Filter, FilterSet, Host,
    HostMatch, HostPattern, HttpVersion, Id, Ir, IrDelta, Labels, Limits, Listener, Matches, NodeSettings, Origin,
    PathMatch, Policy, PolicyKind, PolicySpec, Principal, Propagation, Rank, Record, RecordKind, Route, Scope, Target,
    Telemetry, TelemetryScope, TraceFormat, TraceInjection, WeightedBackend, binary,
};
use cardinal_sync::{Ack, MemoryHandle, MemorySource, Refusal};
use cardinal_testkit::{EchoServer, H1Client, World};
use serde_json::json;

use crate::plugins;

/// Number of changes; each touches up to four records.
const DELTAS: u64 = 10_000;
/// After this many changes, a node is started from scratch and receives the same requests.
const FRESH_EVERY: u64 = 100;
/// Ids of each table.
const IDS: u64 = 6;

/// A random number below this.
struct Dice(SeededRng);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn id(&mut self, kind: RecordKind) -> Id {
        id(kind, self.below(IDS))
    }
}

fn id(kind: RecordKind, number: u64) -> Id {
    Id::from_u128((kind as u128 + 1) << 64 | u128::from(number))
}

fn origin(kind: &str, id: Id) -> Origin {
    Origin::new("test", kind, id)
}

/// A record of this table, whose references may dangle.
fn record(kind: RecordKind, id: Id, dice: &mut Dice, upstreams: &[SocketAddr]) -> Option<Record> {
    let address = |dice: &mut Dice| {
        let address = upstreams[dice.below(upstreams.len() as u64) as usize];
        Host { host: address.ip().to_string().into(), port: address.port() }
    };
    Some(match kind {
        RecordKind::Cluster => Record::Cluster(cluster(id, dice).into()),
        RecordKind::Endpoint => {
            // All endpoints of a cluster are one server, so that responses do not depend on the selection.
            let cluster = dice.id(RecordKind::Cluster);
            let address = upstreams[cluster.as_u128() as usize % upstreams.len()];
            let host = Host { host: address.ip().to_string().into(), port: address.port() };
            let labels = labels(dice);
            Record::Endpoint(
                Endpoint {
                    origin: origin("targets", id),
                    cluster,
                    host,
                    labels,
                    priority: dice.below(2) as u32,
                    ..Endpoint::default()
                }
                .into(),
            )
        }
        RecordKind::Backend => {
            let target = match dice.below(3) {
                0 => Target::Cluster { id: dice.id(RecordKind::Cluster), port: 80, subset: labels(dice) },
                _ => Target::Host(address(dice)),
            };
            let path = (dice.below(2) == 0).then(|| format!("/b{}", dice.below(3)).into());
            let (origin, http) = (origin("services", id), Some(HttpVersion::H1));
            Record::Backend(Backend { origin, http, target, path, ..Backend::default() }.into())
        }
        RecordKind::Route => {
            let mut criteria = cardinal_ir::Criteria {
                paths: vec![PathMatch::Prefix(format!("/p{}", dice.below(4)).into())],
                ..Default::default()
            };
            if dice.below(3) == 0 {
                let host = HostPattern::Exact("b".into());
                criteria.hosts.push(HostMatch { host, ..HostMatch::default() });
            }
            let weighted = |dice: &mut Dice, weight| WeightedBackend { backend: dice.id(RecordKind::Backend), weight };
            // One of several backends receives all requests, so that responses do not depend on chance.
            let action = match dice.below(16) {
                0 => Action::None,
                1 => {
                    Action::Respond(DirectResponse { status: 200 + dice.below(4) as u16, ..Default::default() }.into())
                }
                2..5 => Action::Split([0, 1 + dice.below(3) as u32].map(|weight| weighted(dice, weight)).into()),
                5 => Action::Split([weighted(dice, 0)].into()),
                _ => Action::Forward(dice.id(RecordKind::Backend)),
            };
            let rank = Rank { weight: u128::from(dice.below(3)), tie: id.as_u128() };
            let (origin, matches) = (origin("routes", id), Matches::from(criteria));
            Record::Route(Route { origin, rank, matches, action, ..Route::default() }.into())
        }
        RecordKind::Principal => {
            let name = Some(format!("c{}", id.as_u128() & 0xff).into());
            Record::Principal(Principal { origin: origin("consumers", id), name, ..Principal::default() }.into())
        }
        RecordKind::Credential => {
            let key = format!("k{}", dice.below(IDS));
            let attributes = Arc::new(Attributes::new("key-auth", json!({ "key": key }), "key"));
            let principal = dice.id(RecordKind::Principal);
            let origin = origin("keyauth_credentials", id);
            Record::Credential(Credential::new(origin, attributes, principal, key.into()).into())
        }
        RecordKind::FilterSet => Record::FilterSet(filter_set(id, dice).into()),
        RecordKind::Policy => Record::Policy(policy(id, dice).into()),
        RecordKind::Telemetry => Record::Telemetry(telemetry(id, dice).into()),
        _ => return None,
    })
}

/// Tracing that is visible in request headers.
fn telemetry(id: Id, dice: &mut Dice) -> Telemetry {
    let format = [TraceFormat::W3c, TraceFormat::B3Single, TraceFormat::Jaeger][dice.below(3) as usize];
    let scope = TelemetryScope {
        listeners: None,
        route: (dice.below(2) == 0).then(|| dice.id(RecordKind::Route)),
        backend: (dice.below(2) == 0).then(|| dice.id(RecordKind::Backend)),
    };
    Telemetry {
        origin: origin("tracing", id),
        scope,
        precedence: dice.below(4) as u32,
        propagation: Propagation { inject: vec![TraceInjection::Format(format)], ..Propagation::default() },
        ..Telemetry::default()
    }
}

/// A cluster whose policies do not affect responses.
fn cluster(id: Id, dice: &mut Dice) -> Cluster {
    let mut cluster =
        Cluster { origin: origin("upstreams", id), slots: 10 + dice.below(2) as u32, ..Cluster::default() };
    if dice.below(3) == 0 {
        cluster.outlier = Some(Box::new(OutlierDetection { interval_ms: 1 + dice.below(2), ..Default::default() }));
    }
    if dice.below(3) == 0 {
        let max_requests = Some(10 + dice.below(2) as u32);
        cluster.circuit = Some(Box::new(CircuitLimits { max_requests, ..CircuitLimits::default() }));
    }
    if dice.below(3) == 0 {
        cluster.locality = Some(Box::default());
    }
    if dice.below(2) == 0 {
        cluster.subset_fallback = SubsetFallback::AnyEndpoint;
    }
    cluster
}

/// No label, or one of two versions.
fn labels(dice: &mut Dice) -> Labels {
    let version = ["v1", "v2"].get(dice.below(3) as usize);
    Labels::new(version.map(|version| ("version", *version))).unwrap()
}

fn filter_set(set: Id, dice: &mut Dice) -> FilterSet {
    let (kind, params) = match dice.below(3) {
        0 => ("request-termination", json!({"status_code": 400 + dice.below(9), "message": "no", "echo": false})),
        1 => (
            "key-auth",
            json!({"key_names": ["apikey"], "key_in_header": true, "key_in_query": true, "key_in_body": false,
                "hide_credentials": false, "run_on_preflight": true, "anonymous": null, "realm": null}),
        ),
        _ => (
            "correlation-id",
            json!({"header_name": format!("x-{}", dice.below(3)), "generator": "tracker",
            "echo_downstream": false}),
        ),
    };
    let scope = scope(dice, kind != "key-auth");
    // Of two instances that apply equally, the one with the lower id is used.
    let precedence = [scope.route, scope.backend, scope.principal].iter().flatten().count() as u32;
    let filter = Filter { kind: kind.into(), params: params.into(), ..Filter::default() };
    FilterSet { origin: origin("plugins", set), scope, precedence, filters: vec![filter] }
}

fn scope(dice: &mut Dice, principals: bool) -> Scope {
    let mut scope = Scope::default();
    match dice.below(4) {
        0 => scope.route = Some(dice.id(RecordKind::Route)),
        1 => scope.backend = Some(dice.id(RecordKind::Backend)),
        2 if principals => scope.principal = Some(dice.id(RecordKind::Principal)),
        _ => {}
    }
    scope
}

/// A policy; some represent instances of plugins that filter sets also contain. They add a header that identifies them.
fn policy(id: Id, dice: &mut Dice) -> Policy {
    let status = 460 + dice.below(9) as u16;
    let spec = match dice.below(4) {
        0 => PolicySpec::Respond(Respond { status, ..Respond::default() }),
        1 => {
            let network = if dice.below(2) == 0 { "127.0.0.1/32" } else { "10.0.0.0/8" };
            let clients = vec![ClientMatch::Network(network.parse().unwrap())];
            let rules = vec![AccessRule { action: AccessAction::Deny, clients, ..AccessRule::default() }];
            PolicySpec::Authorization(Authorization { rules, allow_by_default: true, ..Authorization::default() })
        }
        2 => {
            let tokens = dice.below(2) as u32 * 1_000_000;
            let limiter = Limiter::Bucket(TokenBucket { tokens, interval_ms: 3_600_000 });
            PolicySpec::RateLimit(RateLimit { limiter, status, ..RateLimit::default() })
        }
        _ => {
            let percent = if dice.below(2) == 0 { 100.0 } else { 0.0 };
            let abort = Some(FaultAbort { status: FaultStatus::Http(status), percent });
            PolicySpec::Fault(Fault { abort, ..Fault::default() })
        }
    };
    let plugin = (spec.kind() == PolicyKind::Respond && dice.below(2) == 0)
        .then(|| PluginInstance { name: "request-termination".into(), ..PluginInstance::default() });
    let clients = match dice.below(4) {
        0 => vec![ClientMatch::Network("127.0.0.0/8".parse().unwrap())],
        1 => vec![ClientMatch::Network("10.0.0.0/8".parse().unwrap())],
        _ => Vec::new(),
    };
    let (scope, order) = (scope(dice, true), [2, 900, 1_300][dice.below(3) as usize]);
    let precedence = dice.below(4) as u32;
    Policy { origin: origin("policies", id), scope, clients, precedence, order, wires: Vec::new(), plugin, spec }
}

/// Changes of up to four records.
fn delta(dice: &mut Dice, upstreams: &[SocketAddr]) -> IrDelta {
    let mut delta = IrDelta::default();
    for _ in 0..=dice.below(4) {
        let kind = RecordKind::ALL[dice.below(RecordKind::ALL.len() as u64) as usize];
        let id = dice.id(kind);
        let new = (dice.below(5) > 0).then(|| record(kind, id, dice, upstreams)).flatten();
        match (kind, new) {
            (_, Some(Record::Cluster(new))) => add(&mut delta.clusters, id, Some(new)),
            (_, Some(Record::Endpoint(new))) => add(&mut delta.endpoints, id, Some(new)),
            (_, Some(Record::Backend(new))) => add(&mut delta.backends, id, Some(new)),
            (_, Some(Record::Route(new))) => add(&mut delta.routes, id, Some(new)),
            (_, Some(Record::Principal(new))) => add(&mut delta.principals, id, Some(new)),
            (_, Some(Record::Credential(new))) => add(&mut delta.credentials, id, Some(new)),
            (_, Some(Record::FilterSet(new))) => add(&mut delta.filter_sets, id, Some(new)),
            (_, Some(Record::Policy(new))) => add(&mut delta.policies, id, Some(new)),
            (_, Some(Record::Telemetry(new))) => add(&mut delta.telemetry, id, Some(new)),
            (RecordKind::Cluster, _) => add(&mut delta.clusters, id, None),
            (RecordKind::Endpoint, _) => add(&mut delta.endpoints, id, None),
            (RecordKind::Backend, _) => add(&mut delta.backends, id, None),
            (RecordKind::Route, _) => add(&mut delta.routes, id, None),
            (RecordKind::Principal, _) => add(&mut delta.principals, id, None),
            (RecordKind::Credential, _) => add(&mut delta.credentials, id, None),
            (RecordKind::FilterSet, _) => add(&mut delta.filter_sets, id, None),
            (RecordKind::Policy, _) => add(&mut delta.policies, id, None),
            (RecordKind::Telemetry, _) => add(&mut delta.telemetry, id, None),
            _ => {}
        }
    }
    delta
}

fn add<T>(delta: &mut cardinal_ir::Delta<T>, id: Id, new: Option<Arc<T>>) {
    let others = delta.iter().map(|change| (change.id, change.new.clone()));
    let all: Vec<_> = others.chain([(id, new)]).map(|(id, new)| Change { id, old: None, new }).collect();
    *delta = all.into_iter().collect();
}

/// The generation with all records copied, in tables filled in another order.
fn from_scratch(ir: &Ir) -> Ir {
    binary::decode(&binary::encode(ir).unwrap()).unwrap()
}

fn settings() -> NodeSettings {
    let listener =
        Listener { name: "proxy".into(), address: ([127, 0, 0, 1], 0).into(), http2: false, ..Listener::default() };
    NodeSettings { listeners: vec![listener], limits: Limits::default(), ..NodeSettings::default() }
}

/// The responses of a node, and the upstream requests.
async fn answers(world: &World) -> Result<Vec<String>> {
    let mut client = H1Client::connect(world.http()).await?;
    let mut all = Vec::new();
    for path in 0..4 {
        for host in ["a", "b"] {
            for key in ["", "k0", "k1", "k2"] {
                let fields: &[(&str, &str)] = if key.is_empty() { &[] } else { &[("apikey", key)] };
                let target = format!("/p{path}/x");
                let response = client.get(&target, host, fields).await?;
                // Lines after the first one contain the request id.
                let mut said = String::from_utf8_lossy(&response.body).lines().next().unwrap_or_default().to_owned();
                if let Ok(report) = serde_json::from_str::<serde_json::Value>(&said) {
                    let sent = |name: &str| {
                        report["headers"]
                            .as_array()
                            .into_iter()
                            .flatten()
                            .any(|field| field[0].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)))
                    };
                    said = match report.get("server") {
                        Some(server) => format!(
                            "{server} {} {:?}",
                            report["target"],
                            ["x-0", "x-1", "x-2", "x-consumer-username", "traceparent", "b3", "uber-trace-id"]
                                .map(sent)
                        ),
                        // The request id differs each time.
                        None => report["message"].to_string(),
                    };
                }
                all.push(format!("{target} {host} {key}: {} {said}", response.status));
            }
        }
    }
    Ok(all)
}

#[tokio::test]
async fn deltas_come_to_what_starting_from_scratch_comes_to() -> Result<()> {
    let (one, two) = (EchoServer::start("one").await, EchoServer::start("two").await);
    let upstreams = [one.address(), two.address()];
    let node = Arc::new(settings());
    let world = World::of(plugins(), Configuration { node: Arc::clone(&node), ..Configuration::default() })?;
    let (handle, mut source) = MemorySource::new(Arc::clone(world.engine().config_status()));
    // The source ends when the handle is dropped.
    let changing = change(handle, &world, &node, &upstreams);
    let ((), result) = tokio::join!(world.engine().follow(&mut source), changing);
    result
}

/// Sends random changes, and compares the active configuration with a node that starts from scratch.
async fn change(handle: MemoryHandle, world: &World, node: &Arc<NodeSettings>, upstreams: &[SocketAddr]) -> Result<()> {
    let mut dice = Dice(SeededRng::new(11));
    let with = |ir: Ir| Configuration { ir: Arc::new(ir), node: Arc::clone(node), ..Configuration::default() };
    let mut served = Ir::default();
    let (mut refused, mut generation, mut distinct) = (0, 1, std::collections::HashSet::new());
    for number in 1..=DELTAS {
        // In the form in which a control plane sends it.
        let sent = delta(&mut dice, upstreams);
        let received: IrDelta = binary::decode(&binary::encode(&sent)?)?;
        let mut next = served.clone();
        next.apply(received.clone());
        match handle.apply(received).await? {
            Ack::Applied { generation: applied, .. } => {
                generation += 1;
                ensure!(applied == generation);
                served = next;
            }
            Ack::Refused(Refusal::Invalid(found)) => {
                refused += 1;
                ensure!(!next.verify().is_empty(), "refused for no reason: {found}");
            }
            Ack::Refused(other) => return Err(other.into()),
        }
        let now = world.engine().plan().unwrap();
        let scratch = from_scratch(&served);
        ensure!(now.ir.digest() == scratch.digest() && *now.ir == scratch, "another generation after {number} deltas");
        if number % FRESH_EVERY == 0 {
            let fresh = World::of(plugins(), with(scratch))?;
            let (ours, theirs) = (answers(world).await?, answers(&fresh).await?);
            ensure!(ours == theirs, "after {number} deltas:\n{ours:#?}\n{theirs:#?}");
            distinct.extend(ours);
        }
    }
    // Ensures that the test covers enough: most deltas are applied, some are rejected, and responses differ.
    ensure!(generation > DELTAS / 3 && refused > DELTAS / 20, "{generation} served, {refused} refused");
    ensure!(distinct.len() > 100, "{} different answers", distinct.len());
    let state = world.engine().config_status().state();
    ensure!(state.reloads_failed + state.reloads_succeeded + 1 == DELTAS, "{state:?}");
    Ok(())
}
