//! Policies in records built by the tests.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use cardinal_base::{Clock as _, SystemClock};
use cardinal_engine::Configuration;
use cardinal_engine::explain::{Explainer, Question};
use cardinal_ir::policy::{
    AccessAction, AccessRule, Authorization, ClientMatch, Fault, FaultAbort, FaultBandwidth, FaultDelay, FaultStatus,
    HeaderCondition, IdentityMatch, LimitBy, Limiter, PathCondition, RateLimit, RatePeriod, RateWindow, Refusal,
    RefusalMessage, RequestCondition, Respond, RespondBody, TokenBucket, ValueCondition, Windows,
};
use cardinal_ir::{
    Action, Attributes, Backend, Credential, Filter, FilterSet, Host, HttpVersion, Id, Ir, Listener, ListenerKind,
    NodeSettings, Origin, Policy, PolicySpec, Principal, Rank, Route, Scope, Severity, Target,
};
use cardinal_testkit::{EchoServer, H1Client, H2Client, Response, World};
use serde_json::json;

use crate::plugins;
use crate::scene::{JSON, eventually, outcome};

const ROUTE: u128 = 1;
const BACKEND: u128 = 2;

fn origin(kind: &str, number: u128) -> Origin {
    Origin::new("test", kind, Id::from_u128(number))
}

/// A route for all requests to a backend, and these policies, numbered from 100.
fn records(address: SocketAddr, policies: Vec<Policy>) -> Ir {
    let mut ir = Ir::default();
    let host = Host { host: address.ip().to_string().into(), port: address.port() };
    let (http, target) = (Some(HttpVersion::H1), Target::Host(host));
    let backend = Backend { origin: origin("services", BACKEND), http, target, ..Backend::default() };
    ir.backends.insert(Id::from_u128(BACKEND), backend);
    let (action, rank) = (Action::Forward(Id::from_u128(BACKEND)), Rank { weight: 0, tie: ROUTE });
    let route = Route { origin: origin("routes", ROUTE), rank, action, ..Route::default() };
    ir.routes.insert(Id::from_u128(ROUTE), route);
    for (number, policy) in (100..).zip(policies) {
        ir.policies.insert(Id::from_u128(number), Policy { origin: origin("policies", number), ..policy });
    }
    ir
}

fn settings() -> NodeSettings {
    let address = ([127, 0, 0, 1], 0).into();
    let listener = |name: &str, kind| Listener { name: name.into(), address, kind, ..Listener::default() };
    let listeners = vec![listener("proxy", ListenerKind::Http), listener("status", ListenerKind::Status)];
    NodeSettings { listeners, ..NodeSettings::default() }
}

fn serve(ir: Ir) -> Result<World> {
    assert_eq!(ir.verify(), []);
    World::of(plugins(), Configuration::new(ir, settings()))
}

fn policy(spec: PolicySpec) -> Policy {
    Policy { spec, ..Policy::default() }
}

fn at(order: i32, spec: PolicySpec) -> Policy {
    Policy { order, ..policy(spec) }
}

fn respond(status: u16) -> PolicySpec {
    PolicySpec::Respond(Respond { status, ..Respond::default() })
}

fn network(text: &str) -> ClientMatch {
    ClientMatch::Network(text.parse().unwrap())
}

fn allow(clients: Vec<ClientMatch>) -> AccessRule {
    AccessRule { action: AccessAction::Allow, clients, ..AccessRule::default() }
}

fn access(rules: Vec<AccessRule>) -> PolicySpec {
    PolicySpec::Authorization(Authorization { rules, ..Authorization::default() })
}

async fn get(world: &World, target: &str, fields: &[(&str, &str)]) -> Result<Response> {
    H1Client::connect(world.http()).await?.get(target, "a", fields).await
}

/// A counter of `/metrics`.
async fn metric(world: &World, line: &str) -> Result<u64> {
    let text = H1Client::connect(world.status()).await?.get("/metrics", "a", &[]).await?.text();
    let found = text.lines().find_map(|l| l.strip_prefix(&format!("cardinal_{line} ")));
    found.map_or_else(|| Err(anyhow::anyhow!("no {line} in {text}")), |count| Ok(count.parse()?))
}

#[tokio::test]
async fn requests_are_authorized() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let requests = vec![RequestCondition {
        methods: vec!["GET".into()],
        paths: vec![PathCondition::Prefix("/open".into())],
        headers: vec![HeaderCondition { name: "x-team".into(), value: ValueCondition::Exact("a".into()) }],
    }];
    let rule = AccessRule { requests, ..allow(vec![network("127.0.0.0/8")]) };
    let refusal = Refusal { status: 451, message: RefusalMessage::WithClientAddress("not you, ".into()) };
    let spec = PolicySpec::Authorization(Authorization { rules: vec![rule], refusal, ..Authorization::default() });
    let world = serve(records(echo.address(), vec![policy(spec)]))?;
    let team = ("X-Team", "a");
    for (target, fields, expect) in [
        ("/open/x", vec![team], 200),
        ("/%6fpen/x", vec![team], 200),
        ("/opening", vec![team], 451),
        ("/open/../closed", vec![team], 451),
        ("/open", vec![], 451),
        ("/open", vec![("X-Team", "b")], 451),
    ] {
        let fields: Vec<(&str, &str)> = fields.into_iter().chain([JSON]).collect();
        let response = get(&world, target, &fields).await?;
        ensure!(response.status == expect, "{target} {fields:?}: {response:?}");
        if expect != 200 {
            assert_eq!(outcome(&response), (451, "not you, 127.0.0.1".to_owned()));
        }
    }
    assert_eq!(metric(&world, "authorization_decisions_total{decision=\"allowed\"}").await?, 2);
    assert_eq!(metric(&world, "authorization_decisions_total{decision=\"denied\"}").await?, 4);
    assert_eq!(echo.requests(), 2);
    Ok(())
}

#[tokio::test]
async fn an_identity_that_nobody_has_proved_is_not_allowed() -> Result<()> {
    let echo = EchoServer::start("e").await;
    for identity in
        [IdentityMatch::Prefix("".into()), IdentityMatch::TrustDomain("".into()), IdentityMatch::Exact("".into())]
    {
        let spec = access(vec![allow(vec![ClientMatch::Identity(identity)])]);
        let world = serve(records(echo.address(), vec![policy(spec)]))?;
        // A header proves no identity.
        let response = get(&world, "/", &[("X-Forwarded-Client-Cert", "URI=spiffe://d/x")]).await?;
        assert_eq!(response.status, 403);
    }
    assert_eq!(echo.requests(), 0);
    Ok(())
}

#[tokio::test]
async fn shadow_mode_lets_requests_pass() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let shadow = PolicySpec::Authorization(Authorization { shadow: true, ..Authorization::default() });
    let deny = AccessRule { action: AccessAction::ShadowDeny, ..AccessRule::default() };
    let world = serve(records(
        echo.address(),
        vec![at(20, shadow), at(10, access(vec![deny, allow(Vec::new())])), at(5, respond(204))],
    ))?;
    assert_eq!(get(&world, "/", &[]).await?.status, 204);
    assert_eq!(metric(&world, "authorization_decisions_total{decision=\"shadow_denied\"}").await?, 2);
    assert_eq!(metric(&world, "authorization_decisions_total{decision=\"allowed\"}").await?, 2);
    assert_eq!(metric(&world, "authorization_decisions_total{decision=\"denied\"}").await?, 0);
    Ok(())
}

#[tokio::test]
async fn requests_are_limited() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let bucket = RateLimit {
        limiter: Limiter::Bucket(TokenBucket { tokens: 2, interval_ms: 3_600_000 }),
        status: 423,
        message: "slow down".into(),
        set_headers: vec![("x-limited".into(), "yes".into())],
        ..RateLimit::default()
    };
    let windows = RateLimit {
        limiter: Limiter::Windows(Windows {
            limits: vec![RateWindow { period: RatePeriod::Year, limit: 1.0 }],
            sliding: false,
        }),
        by: LimitBy::Header("x-key".into()),
        ..RateLimit::default()
    };
    let world = serve(records(
        echo.address(),
        vec![at(2, PolicySpec::RateLimit(bucket)), at(1, PolicySpec::RateLimit(windows))],
    ))?;
    let first = get(&world, "/", &[("x-key", "a")]).await?;
    let shown = |response: &Response| {
        ["x-ratelimit-remaining-year", "ratelimit-limit", "retry-after", "x-limited"]
            .map(|name| response.header(name).is_some())
    };
    assert_eq!((first.status, shown(&first)), (200, [true, true, false, false]));
    let again = get(&world, "/", &[("x-key", "a")]).await?;
    assert_eq!((again.status, shown(&again)), (429, [true, true, true, false]));
    let third = get(&world, "/", &[("x-key", "b"), JSON]).await?;
    assert_eq!((outcome(&third), shown(&third)), ((423, "slow down".to_owned()), [false, false, false, true]));
    assert_eq!(metric(&world, "rate_limited_total").await?, 2);
    Ok(())
}

#[tokio::test]
async fn requests_are_delayed_and_aborted() -> Result<()> {
    let clock = SystemClock::new();
    let echo = EchoServer::start("e").await;
    let fault = Fault {
        delay: Some(FaultDelay { delay_ms: 60, percent: 100.0 }),
        abort: Some(FaultAbort { status: FaultStatus::Http(418), percent: 100.0 }),
        bandwidth: None,
    };
    let world = serve(records(echo.address(), vec![policy(PolicySpec::Fault(fault))]))?;
    let started = clock.tick();
    assert_eq!(outcome(&get(&world, "/", &[JSON]).await?), (418, "fault injected".to_owned()));
    assert!(clock.tick().millis_since(started) >= 60);
    assert_eq!(echo.requests(), 0);

    // The delay does not count towards the backend's timeouts, and the body is still read after it.
    let fault = Fault { delay: Some(FaultDelay { delay_ms: 60, percent: 100.0 }), ..Fault::default() };
    let world = serve(records(echo.address(), vec![policy(PolicySpec::Fault(fault))]))?;
    let mut client = H1Client::connect(world.http()).await?;
    let body = vec![b'x'; 100_000];
    for _ in 0..2 {
        let started = clock.tick();
        let response = client.request("POST", "/", "a", &[], &body).await?;
        assert_eq!((response.status, clock.tick().millis_since(started) >= 60), (200, true));
    }
    assert_eq!(metric(&world, "faults_injected_total{type=\"delay\"}").await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_delay_ends_when_the_client_leaves() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let fault = Fault { delay: Some(FaultDelay { delay_ms: 3_600_000, percent: 100.0 }), ..Fault::default() };
    let world = serve(records(echo.address(), vec![policy(PolicySpec::Fault(fault))]))?;
    let mut h1 = H1Client::connect(world.http()).await?;
    h1.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    let mut h2 = H2Client::connect(world.http()).await?;
    let mut stream = h2.open("GET", "a", "/", &[], true).await?;
    assert!(eventually(|| world.engine().totals().serving == 2).await);
    drop(h1);
    stream.reset();
    assert!(eventually(|| world.engine().totals().serving == 0).await);
    assert_eq!(echo.requests(), 0);
    Ok(())
}

#[tokio::test]
async fn grpc_calls_are_aborted_with_their_own_status() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let abort = Some(FaultAbort { status: FaultStatus::Grpc(14), percent: 100.0 });
    let world = serve(records(echo.address(), vec![policy(PolicySpec::Fault(Fault { abort, ..Fault::default() }))]))?;
    let mut client = H2Client::connect(world.http()).await?;
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let response = client.request("POST", "a", "/s/m", &fields, b"\0\0\0\0\x01x").await?;
    assert_eq!((response.status, response.header("grpc-status")), (200, Some("14")));
    Ok(())
}

#[tokio::test]
async fn bodies_are_slowed_down() -> Result<()> {
    let clock = SystemClock::new();
    let echo = EchoServer::start("e").await;
    // A burst of a tenth of a second is sent at once.
    let (rate, bytes, least_ms) = (400_000, 120_000, 180);
    let bandwidth = Some(FaultBandwidth { bytes_per_second: rate, percent: 100.0 });
    let spec = PolicySpec::Fault(Fault { bandwidth, ..Fault::default() });
    let mut ir = records(echo.address(), vec![policy(spec)]);
    let target = format!("/?echo=bytes:{bytes}");
    for filtered in [false, true] {
        if filtered {
            // A filter processes each chunk of the body.
            let params = json!({"add": {"json": ["a:b"], "headers": [], "json_types": []}, "remove": {"json": [],
                "headers": []}, "replace": {"json": [], "json_types": [], "headers": []}, "rename": {"headers": [],
                "json": []}, "append": {"json": [], "json_types": [], "headers": []}});
            let filter = Filter { kind: "response-transformer".into(), params: params.into(), ..Filter::default() };
            let set = FilterSet { origin: origin("plugins", 50), filters: vec![filter], ..FilterSet::default() };
            ir.filter_sets.insert(Id::from_u128(50), set);
        }
        let world = serve(ir.clone())?;
        let started = clock.tick();
        let response = get(&world, &target, &[]).await?;
        assert_eq!((response.status, response.body.len()), (200, bytes));
        assert!(clock.tick().millis_since(started) >= least_ms, "{filtered}");
        let mut h2 = H2Client::connect(world.http()).await?;
        let started = clock.tick();
        let response = h2.request("GET", "a", &target, &[], b"").await?;
        assert_eq!((response.status, response.body.len()), (200, bytes));
        assert!(clock.tick().millis_since(started) >= least_ms, "{filtered}");
        assert_eq!(metric(&world, "faults_injected_total{type=\"bandwidth\"}").await?, 2);
    }
    // A local reply, by a policy that runs later.
    let body = RespondBody::Text("x".repeat(bytes).into());
    let made = at(-1, PolicySpec::Respond(Respond { status: 200, body, ..Respond::default() }));
    ir.policies.insert(Id::from_u128(101), Policy { origin: origin("policies", 101), ..made });
    let world = serve(ir)?;
    let mut h2 = H2Client::connect(world.http()).await?;
    for over_h2 in [false, true] {
        let started = clock.tick();
        let response = match over_h2 {
            false => get(&world, "/", &[]).await?,
            true => h2.request("GET", "a", "/", &[], b"").await?,
        };
        assert_eq!(response.body.len(), bytes);
        assert!(clock.tick().millis_since(started) >= least_ms, "{over_h2}");
    }
    Ok(())
}

#[tokio::test]
async fn a_slow_body_ends_when_the_client_leaves() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let bandwidth = Some(FaultBandwidth { bytes_per_second: 10, percent: 100.0 });
    let spec = PolicySpec::Fault(Fault { bandwidth, ..Fault::default() });
    let world = serve(records(echo.address(), vec![policy(spec)]))?;
    let mut h1 = H1Client::connect(world.http()).await?;
    h1.send("GET /?echo=bytes:1000000 HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    h1.head().await?;
    let mut h2 = H2Client::connect(world.http()).await?;
    let mut stream = h2.open("GET", "a", "/?echo=bytes:1000000", &[], true).await?;
    stream.head().await?;
    assert_eq!(world.engine().totals().serving, 2);
    drop(h1);
    stream.reset();
    assert!(eventually(|| world.engine().totals().serving == 0).await);
    Ok(())
}

#[tokio::test]
async fn responses_are_made_here() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let spec = Respond {
        status: 203,
        headers: vec![("Content-Type".into(), "text/x".into()), ("X-Made".into(), "here".into())],
        body: RespondBody::Text("hello".into()),
        trigger: Some("x_stop".into()),
    };
    let world = serve(records(echo.address(), vec![policy(PolicySpec::Respond(spec))]))?;
    assert_eq!(get(&world, "/", &[]).await?.status, 200);
    for response in [get(&world, "/?x_stop", &[]).await?, get(&world, "/", &[("X-Stop", "1")]).await?] {
        let fields = ["content-type", "x-made", "content-length"].map(|name| response.header(name));
        assert_eq!((response.status, fields), (203, [Some("text/x"), Some("here"), Some("5")]));
        assert_eq!(response.text(), "hello");
    }
    Ok(())
}

/// Policies of one kind at one position compete; all others apply, ordered by position.
#[tokio::test]
async fn policies_apply_by_scope_and_position() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let (route, backend) = (Some(Id::from_u128(ROUTE)), Some(Id::from_u128(BACKEND)));
    let scoped = |precedence, scope, policy| Policy { precedence, scope, ..policy };
    let fault = |status| {
        let abort = Some(FaultAbort { status: FaultStatus::Http(status), percent: 100.0 });
        PolicySpec::Fault(Fault { abort, ..Fault::default() })
    };
    let elsewhere = Policy { clients: vec![network("10.0.0.0/8")], precedence: 9, ..at(5, respond(499)) };
    let here = Policy { clients: vec![network("127.0.0.1/32")], precedence: 8, ..at(5, respond(471)) };
    let of_route = scoped(3, Scope { route, ..Scope::default() }, at(5, respond(472)));
    let of_backend = scoped(2, Scope { backend, ..Scope::default() }, at(5, respond(473)));
    let for_all = at(5, respond(474));
    let first = at(6, fault(475));
    let all = [elsewhere, here, of_route, of_backend, for_all, first];
    for (without, expect) in [(6, 475), (5, 471), (4, 472), (3, 473), (2, 474)] {
        // The policies that applied before are removed one by one.
        let mut kept = all.to_vec();
        if without < 6 {
            kept.remove(5);
        }
        for gone in [1, 2, 3].into_iter().take(5_usize.saturating_sub(without)).rev() {
            kept.remove(gone);
        }
        let ir = records(echo.address(), kept);
        let (explainer, diagnostics) = Explainer::new(Configuration::new(ir.clone(), settings()), plugins())?;
        assert!(diagnostics.iter().all(|d| d.severity != Severity::Error), "{diagnostics:?}");
        let question = Question { method: "GET".into(), url: "/".into(), ..Question::default() };
        let decision = explainer.decide(&question, 0).await?;
        let served = get(&serve(ir)?, "/", &[]).await?.status;
        assert_eq!((served, decision.reply.map(|(status, _)| status)), (expect, Some(expect)), "{without}");
        let last = decision.plugins.last().unwrap();
        assert_eq!(last.name, "respond");
        assert!(last.config["respond"]["status"].is_u64(), "{:?}", last.config);
    }
    Ok(())
}

/// An instance of a plugin that is a policy competes with one that is a filter.
#[tokio::test]
async fn a_policy_of_a_plugin_competes_with_its_filters() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let limits = |more: serde_json::Value| crate::scene::merged(json!({"hour": 1}), more);
    let redis =
        limits(json!({"policy": "redis", "redis": {"host": "127.0.0.1", "port": cardinal_testkit::free_port()}}));
    let service = json!({"plugins": [{"name": "rate-limiting", "config": limits(json!({"error_code": 461}))}]});
    let route = json!({"plugins": [{"name": "rate-limiting", "config": redis}]});
    for (service, route, expect) in [
        (service.clone(), json!({}), [200, 461]),
        // The instance of the route counts in Redis, which is unreachable: requests are allowed.
        (service.clone(), route.clone(), [200, 200]),
        (json!({"plugins": route["plugins"]}), json!({"plugins": service["plugins"]}), [200, 461]),
    ] {
        let world = World::start(plugins(), &crate::scene::one(&echo.url(), service, route), &[])?;
        for status in expect {
            assert_eq!(get(&world, "/", &[]).await?.status, status);
        }
    }
    Ok(())
}

/// Principals are only known after authentication, which runs before the policy.
#[tokio::test]
async fn principals_are_compared() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let consumer = |number: u128| Id::from_u128(30 + number);
    let spec = access(vec![allow(vec![ClientMatch::Principal(consumer(0))])]);
    let mut ir = records(echo.address(), vec![at(900, spec)]);
    for number in 0..2 {
        let principal = Principal { origin: origin("consumers", 30 + number), ..Principal::default() };
        ir.principals.insert(consumer(number), principal);
        let key = format!("k{number}");
        let attributes = std::sync::Arc::new(Attributes::new("key-auth", json!({ "key": key }), "key"));
        let made = origin("keys", 40 + number);
        let credential = Credential::new(made, attributes, consumer(number), key.into());
        ir.credentials.insert(Id::from_u128(40 + number), credential);
    }
    let params = json!({"key_names": ["apikey"], "key_in_header": true, "key_in_query": true, "key_in_body": false,
        "hide_credentials": false, "run_on_preflight": true, "anonymous": null, "realm": null});
    let filter = Filter { kind: "key-auth".into(), params: params.into(), ..Filter::default() };
    let set = FilterSet { origin: origin("plugins", 50), filters: vec![filter], ..FilterSet::default() };
    ir.filter_sets.insert(Id::from_u128(50), set);
    let world = serve(ir.clone())?;
    for (key, expect) in [("k0", 200), ("k1", 403), ("", 401)] {
        assert_eq!(get(&world, "/", &[("apikey", key)]).await?.status, expect, "{key}");
    }
    // A rule about a missing principal is rejected as a whole.
    ir.principals.remove(&consumer(0));
    ir.credentials.remove(&Id::from_u128(40));
    assert!(ir.verify().iter().any(|found| found.path == "spec.rules.clients"), "{:?}", ir.verify());
    Ok(())
}

#[tokio::test]
async fn a_policy_that_cannot_be_built_lets_nothing_through() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let ir = records(echo.address(), vec![policy(respond(42))]);
    let (explainer, diagnostics) = Explainer::new(Configuration::new(ir.clone(), settings()), plugins())?;
    let said: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("spec.status: must be a status from 200 to 599"), "{said:?}");
    drop(explainer);
    let world = World::of(plugins(), Configuration::new(ir, settings()))?;
    assert_eq!(get(&world, "/", &[]).await?.status, 500);
    assert_eq!(echo.requests(), 0);
    Ok(())
}
