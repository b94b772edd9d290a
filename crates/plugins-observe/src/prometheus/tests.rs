use std::path::Path;
use std::sync::Arc;

use cardinal_base::Tick;
use cardinal_http::{FailureKind, ResponseHead};
use cardinal_ir::{Id, Origin, Principal, Wire};
use cardinal_sdk::testing::{self, Bench, build};
use cardinal_sdk::{ConnectionCounts, NodeView, Phases, PrincipalEntry, Services, Source, TargetHealth};
use serde_json::{Value, json};

use super::node::NodeFacts;
use super::registry::{Registry, SERIES_MAX};
use super::{PLUGIN, register};

fn everything() -> Value {
    json!({
        "per_consumer": true, "status_code_metrics": true, "ai_metrics": true, "latency_metrics": true,
        "bandwidth_metrics": true, "upstream_health_metrics": true,
    })
}

fn registry(services: &Services) -> Arc<Registry> {
    services.shared.get_or_insert("prometheus", Registry::default)
}

/// A request of 120 ms, of which the upstream took 100, answered by the upstream.
fn set_up(bench: &mut Bench, route: Option<&str>) {
    bench.get("/");
    let exchange = &mut bench.exchange;
    exchange.route = Some(testing::route(Id::from_u128(2), route, "{}"));
    exchange.backend = Some(testing::backend(Id::from_u128(3), None, "up.test", "{}"));
    exchange.timing.filtered = Tick::from_millis(3);
    exchange.timing.upstream_sent = Some(Tick::from_millis(5));
    exchange.timing.upstream_head = Some(Tick::from_millis(105));
    exchange.timing.ended = Tick::from_millis(120);
    exchange.bytes.received = 100;
    exchange.bytes.sent = 1_000;
    exchange.source = Source::Upstream;
}

fn facts(targets: Option<Vec<TargetHealth>>) -> NodeFacts {
    NodeFacts {
        id: Id::from_u128(1),
        version: "1.2.3",
        pid: 7,
        memory_bytes: Some(4_096),
        connections: ConnectionCounts {
            accepted: 1,
            handled: 2,
            requests: 3,
            active: 4,
            reading: 5,
            writing: 6,
            waiting: 7,
        },
        tasks: (8, 9),
        targets,
    }
}

/// The counted lines, without comments and buckets.
fn counted(services: &Services) -> Vec<String> {
    let mut text = String::new();
    registry(services).write(&facts(None), &mut text);
    let kept = |line: &&str| {
        [
            "kong_http",
            "kong_stream",
            "kong_band",
            "kong_kong",
            "kong_request",
            "kong_session",
            "kong_upstream_l",
            "kong_ai",
        ]
        .iter()
        .any(|start| line.starts_with(start))
            && !line.contains("_bucket{")
    };
    text.lines().filter(kept).map(|line| line.strip_prefix("kong_").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_text_is_as_dashboards_expect() {
    let mut bench = Bench::new(&PLUGIN, everything());
    set_up(&mut bench, Some("r\"\\\n1"));
    let record = Principal {
        origin: Origin::default(),
        name: Some("ann".into()),
        custom_id: None,
        groups: Vec::new(),
        tenant: None,
        document: "{}".into(),
    };
    let id = Id::from_u128(4);
    bench.exchange.identity.principal =
        Some(Arc::new(PrincipalEntry { id, record: Arc::new(record), groups: [].into(), group_names: [].into() }));
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "cost": 0.0025});
    let meta = json!({"provider_name": "p", "request_model": "m", "llm_latency": 400});
    bench.exchange.log_fields.push(("ai", json!({"proxy": {"meta": meta, "usage": usage}})));
    bench.log(Some(&ResponseHead::new(200)));
    bench.exchange.client.wire = Wire::Tcp;
    bench.exchange.failure = Some(FailureKind::UpstreamConnect);
    bench.exchange.log_fields.clear();
    bench.exchange.source = Source::Local;
    bench.log(None);

    let target = |address: &str, state| TargetHealth {
        upstream: "u".into(),
        target: "t:80".into(),
        address: address.into(),
        state,
    };
    let mut text = String::new();
    // The first two are of one upstream name in two workspaces.
    let targets = vec![target("10.0.0.1:80", "healthy"), target("10.0.0.1:80", "healthy"), target("", "dns_error")];
    registry(&bench.services).write(&facts(Some(targets)), &mut text);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/prometheus/testdata/metrics.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
}

#[tokio::test]
async fn only_what_is_asked_for_is_counted() {
    let check = |config: Value, expect: &[&str]| {
        let mut bench = Bench::new(&PLUGIN, config.clone());
        set_up(&mut bench, Some("r"));
        bench.log(Some(&ResponseHead::new(404)));
        assert_eq!(counted(&bench.services), expect, "{config}");
    };
    let status = r#"http_requests_total{service="up.test",route="r",code="404",source="service",workspace="default",consumer=""} 1"#;
    check(json!({"status_code_metrics": true}), &[status]);
    check(
        json!({"bandwidth_metrics": true}),
        &[
            r#"bandwidth_bytes{service="up.test",route="r",direction="egress",workspace="default",consumer=""} 1000"#,
            r#"bandwidth_bytes{service="up.test",route="r",direction="ingress",workspace="default",consumer=""} 100"#,
        ],
    );
    check(
        json!({"latency_metrics": true}),
        &[
            r#"kong_latency_ms_count{service="up.test",route="r",workspace="default"} 1"#,
            r#"kong_latency_ms_sum{service="up.test",route="r",workspace="default"} 3"#,
            r#"request_latency_ms_count{service="up.test",route="r",workspace="default"} 1"#,
            r#"request_latency_ms_sum{service="up.test",route="r",workspace="default"} 120"#,
            r#"upstream_latency_ms_count{service="up.test",route="r",workspace="default"} 1"#,
            r#"upstream_latency_ms_sum{service="up.test",route="r",workspace="default"} 100"#,
        ],
    );
    let idle = Bench::new(&PLUGIN, json!({}));
    assert_eq!(idle.filter.phases(), Phases::NONE);
}

#[tokio::test]
async fn requests_without_a_route_are_not_counted() {
    let mut bench = Bench::new(&PLUGIN, everything());
    bench.log(Some(&ResponseHead::new(404)));
    assert!(counted(&bench.services).is_empty());
}

#[tokio::test]
async fn a_route_without_a_name_is_shown_by_its_id_and_a_renamed_one_anew() {
    let mut bench = Bench::new(&PLUGIN, json!({"status_code_metrics": true}));
    for name in [None, Some("a"), Some("b"), Some("a")] {
        set_up(&mut bench, name);
        bench.exchange.source = Source::Local;
        bench.log(Some(&ResponseHead::new(200)));
    }
    let id = Id::from_u128(2);
    let line = |route: &str, count: u64| {
        format!(
            "http_requests_total{{service=\"up.test\",route=\"{route}\",code=\"200\",source=\"kong\",\
             workspace=\"default\",consumer=\"\"}} {count}"
        )
    };
    assert_eq!(counted(&bench.services), [line(&id.to_string(), 1), line("a", 2), line("b", 1)]);
}

#[tokio::test]
async fn label_sets_are_bounded_and_losses_counted() {
    let mut bench = Bench::new(&PLUGIN, json!({"status_code_metrics": true}));
    for n in 0..SERIES_MAX + 5 {
        set_up(&mut bench, Some(&format!("r{n}")));
        bench.exchange.route = Some(testing::route(Id::from_u128(n as u128), Some(&format!("r{n}")), "{}"));
        bench.log(Some(&ResponseHead::new(200)));
    }
    assert_eq!(counted(&bench.services).len(), SERIES_MAX);
    let mut text = String::new();
    registry(&bench.services).write(&facts(None), &mut text);
    assert!(text.contains("\nkong_nginx_metric_errors_total 5\n"));
}

#[tokio::test]
async fn counts_survive_a_new_configuration() {
    let mut bench = Bench::new(&PLUGIN, json!({"status_code_metrics": true}));
    for _ in 0..2 {
        set_up(&mut bench, Some("r"));
        bench.log(Some(&ResponseHead::new(200)));
        bench.filter = build(&PLUGIN, json!({"status_code_metrics": true}), &bench.services).unwrap();
    }
    assert!(counted(&bench.services)[0].ends_with(" 2"));
}

#[tokio::test]
async fn of_equal_targets_the_worst_state_is_shown() {
    let target = |address: &str, state| TargetHealth {
        upstream: "u".into(),
        target: "t:80".into(),
        address: address.into(),
        state,
    };
    let mut text = String::new();
    let all = vec![target("a", "healthy"), target("b", "healthy"), target("a", "unhealthy"), target("a", "healthy")];
    registry(&Bench::new(&PLUGIN, json!({})).services).write(&facts(Some(all)), &mut text);
    let states = |address: &str| {
        let lines =
            text.lines().filter(|line| line.contains(&format!("address=\"{address}\"")) && line.ends_with(" 1"));
        lines.map(|line| line.split("state=").nth(1).unwrap().split('"').nth(1).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((states("a"), states("b")), (vec!["unhealthy"], vec!["healthy"]));
}

struct OneTarget;

impl NodeView for OneTarget {
    fn connections(&self) -> ConnectionCounts {
        ConnectionCounts { accepted: 42, ..ConnectionCounts::default() }
    }

    fn targets(&self) -> Vec<TargetHealth> {
        vec![TargetHealth { upstream: "u".into(), target: "t".into(), address: "a".into(), state: "healthy" }]
    }
}

#[tokio::test]
async fn the_node_is_shown_and_its_targets_while_somebody_wants_them() {
    let mut services = Bench::new(&PLUGIN, json!({})).services;
    services.node = Arc::new(OneTarget);
    services.shared = Arc::default();
    register(&services);
    let text = services.shared.collect();
    assert!(text.contains("subsystem=\"http\",state=\"accepted\"} 42\n"), "{text}");
    assert!(text.contains("kong_memory_workers_lua_vms_bytes{"), "{text}");
    assert!(!text.contains("kong_upstream_target_health"));
    let filter = build(&PLUGIN, json!({"upstream_health_metrics": true}), &services).unwrap();
    let healthy =
        r#"kong_upstream_target_health{upstream="u",target="t",address="a",state="healthy",subsystem="http"} 1"#;
    assert!(services.shared.collect().contains(healthy));
    drop(filter);
    assert!(!services.shared.collect().contains("kong_upstream_target_health"));
}
