//! prometheus: the content of `/metrics` on the status listener.

use anyhow::Result;
use cardinal_testkit::H1Client;
use serde_json::json;

use super::Stage;

async fn scrape(stage: &Stage) -> Result<String> {
    let mut client = H1Client::connect(stage.world.status()).await?;
    let response = client.get("/metrics", "a", &[]).await?;
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/plain; charset=UTF-8")));
    Ok(response.text())
}

/// The value of the only series of this name with all of these labels.
fn value(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let fits = |line: &&str| line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label));
    let found: Vec<&str> = text.lines().filter(fits).collect();
    assert!(found.len() < 2, "{name} {labels:?}: {found:?}");
    found.first().and_then(|line| line.rsplit_once(' ')).and_then(|(_, value)| value.parse().ok())
}

#[tokio::test]
async fn requests_are_counted_once_with_all_labels() -> Result<()> {
    let all = json!({"status_code_metrics": true, "latency_metrics": true, "bandwidth_metrics": true,
        "upstream_health_metrics": true, "per_consumer": true});
    let more = json!({"plugins": [{"name": "prometheus", "config": all}, {"name": "key-auth"}],
        "consumers": [{"username": "alice", "keyauth_credentials": [{"key": "k"}]}]});
    let mut stage = Stage::with_settings(json!([]), more, &[("status_listen", "127.0.0.1:0")]).await?;
    for _ in 0..3 {
        assert_eq!(stage.get("/", &[("apikey", "k")]).await?.status, 200);
    }
    assert_eq!(stage.get("/", &[]).await?.status, 401);
    let mut h2 = stage.h2().await?;
    assert_eq!(h2.request("GET", "a", "/", &[("apikey", "k")], b"").await?.status, 200);
    let ours = ["service=\"s\"", "route=\"r\""];
    let with = |more: &[&'static str]| [&ours, more].concat();
    let text = cardinal_testkit::until_some("all requests to be counted", async || {
        let text = scrape(&stage).await.ok()?;
        let known = value(&text, "kong_http_requests_total", &with(&["code=\"200\""]));
        let refused = value(&text, "kong_http_requests_total", &with(&["code=\"401\""]));
        (known == Some(4.0) && refused == Some(1.0)).then_some(text)
    });
    let text = text.await?;
    let known = with(&["code=\"200\"", "source=\"service\"", "consumer=\"alice\"", "workspace=\"default\""]);
    assert_eq!(value(&text, "kong_http_requests_total", &known), Some(4.0), "{text}");
    let refused = with(&["code=\"401\"", "source=\"kong\"", "consumer=\"\""]);
    assert_eq!(value(&text, "kong_http_requests_total", &refused), Some(1.0), "{text}");
    assert_eq!(value(&text, "kong_request_latency_ms_count", &ours), Some(5.0), "{text}");
    assert!(value(&text, "kong_upstream_latency_ms_count", &ours) >= Some(4.0), "{text}");
    assert_eq!(value(&text, "kong_kong_latency_ms_count", &ours), Some(5.0), "{text}");
    let egress = with(&["direction=\"egress\"", "consumer=\"alice\""]);
    assert!(value(&text, "kong_bandwidth_bytes", &egress) > Some(1000.0), "{text}");
    for name in
        ["kong_node_info", "kong_nginx_connections_total", "kong_nginx_requests_total", "kong_datastore_reachable"]
    {
        assert!(text.contains(&format!("\n# TYPE {name} ")), "{name} is missing: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn requests_without_a_route_are_not_counted() -> Result<()> {
    let file =
        json!({"_format_version": "3.0", "plugins": [{"name": "prometheus", "config": {"status_code_metrics": true}}]});
    let world =
        cardinal_testkit::World::start(crate::plugins(), &file.to_string(), &[("status_listen", "127.0.0.1:0")])?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.status, 404);
    let text = H1Client::connect(world.status()).await?.get("/metrics", "a", &[]).await?.text();
    assert!(!text.contains("code=\"404\""), "{text}");
    Ok(())
}
