use std::sync::Arc;

use cardinal_base::ManualClock;
use cardinal_http::ResponseHead;
use cardinal_sdk::testing::{Bench, build, services};
use cardinal_sdk::{Phases, Source};
use serde_json::{Value, json};

use super::PLUGIN;

/// The id that the upstream, the client and the log see.
async fn send(bench: &mut Bench, header: &str) -> (Option<String>, Option<String>, Value) {
    assert!(bench.request().await.is_none());
    let sent = bench.request.headers.get_str(header).map(str::to_owned);
    let mut head = ResponseHead::new(200);
    if bench.filter.phases().has(Phases::RESPONSE) {
        bench.response(&mut head, Source::Upstream);
    }
    let echoed = head.headers.get_str(header).map(str::to_owned);
    let logged = bench.exchange.log_fields.iter().find(|(name, _)| *name == "correlation_id").unwrap().1.clone();
    (sent, echoed, logged)
}

#[tokio::test]
async fn the_default_counts_up_over_generations() {
    let mut bench = Bench::new(&PLUGIN, json!({}));
    let (first, echoed, logged) = send(&mut bench, "Kong-Request-ID").await;
    let first = first.unwrap();
    assert_eq!((logged, echoed), (json!(first), None));
    let node = first.strip_suffix("#1").unwrap();
    assert_eq!(uuid::Uuid::parse_str(node).unwrap().get_version_num(), 4);
    bench.filter = build(&PLUGIN, json!({}), &bench.services).unwrap();
    bench.get("/");
    assert_eq!(send(&mut bench, "Kong-Request-ID").await.0, Some(format!("{node}#2")));
}

#[tokio::test]
async fn the_id_of_a_client_is_kept_and_echoed() {
    let mut bench = Bench::new(&PLUGIN, json!({"header_name": "X-Id", "echo_downstream": true, "generator": "uuid"}));
    bench.header("x-id", "mine");
    let mine = Some("mine".to_owned());
    assert_eq!(send(&mut bench, "X-Id").await, (mine.clone(), mine, json!("mine")));
    bench.get("/").header("x-id", "");
    let (sent, echoed, _) = send(&mut bench, "X-Id").await;
    assert_eq!(uuid::Uuid::parse_str(&sent.clone().unwrap()).unwrap().get_version_num(), 4);
    assert_eq!(sent, echoed);
}

#[tokio::test]
async fn an_answer_before_the_request_phase_gets_an_id_too() {
    let mut bench = Bench::new(&PLUGIN, json!({"echo_downstream": true}));
    let mut head = ResponseHead::new(400);
    bench.response(&mut head, Source::Local);
    assert!(head.headers.get_str("Kong-Request-ID").unwrap().ends_with("#1"));
}

#[tokio::test]
async fn a_tracker_says_where_and_when() {
    let mut bench = Bench::new(&PLUGIN, json!({"generator": "tracker"}));
    bench.exchange.client.connection = 12;
    bench.exchange.client.sequence = 3;
    let (sent, ..) = send(&mut bench, "Kong-Request-ID").await;
    assert_eq!(sent.unwrap(), format!("127.0.0.1-8000-{}-12-3-1700000000.000", std::process::id()));
}

#[tokio::test]
async fn a_header_name_must_be_one() {
    let services = services(Arc::new(ManualClock::default()));
    let error = build(&PLUGIN, json!({"header_name": "a b"}), &services).err().unwrap();
    assert_eq!(error, "config.header_name: is not the name of a header");
}
