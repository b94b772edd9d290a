//! The order of plugins, and which of them run.

use anyhow::Result;
use cardinal_testkit::{H1Client, TempDir};
use serde_json::{Value, json};

use super::{Stage, told};

/// Lines of a log file, once there are `count`.
pub(super) async fn lines(folder: &TempDir, name: &str, count: usize) -> Vec<Value> {
    let written = || {
        let text = folder.read(name);
        text.ends_with('\n') && text.lines().count() >= count
    };
    let waited = cardinal_testkit::until("lines of a log", written).await;
    let text = folder.read(name);
    assert!(waited.is_ok(), "{name} has not {count} lines: {text}");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

fn log(folder: &TempDir) -> Value {
    json!({"name": "file-log", "config": {"path": folder.path().join("log").display().to_string()}})
}

#[tokio::test]
async fn who_answers_ends_the_access_phase_and_no_other() -> Result<()> {
    let folder = TempDir::new("order");
    let mut stage = Stage::start(
        json!([
            {"name": "key-auth"},
            {"name": "rate-limiting", "config": {"minute": 5}},
            {"name": "request-transformer", "config": {"add": {"headers": ["X-Added:1"]}}},
            {"name": "response-transformer", "config": {"add": {"headers": ["X-After:1"]}}},
            {"name": "correlation-id", "config": {"header_name": "X-Id", "echo_downstream": true}},
            {"name": "cors", "config": {"origins": ["http://o.test"]}},
            log(&folder)
        ]),
        json!({"consumers": [{"username": "alice", "keyauth_credentials": [{"key": "k"}]}]}),
    )
    .await?;
    let refused = stage.get("/", &[]).await?;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("x-ratelimit-limit-minute"), None, "rate-limiting comes after key-auth");
    assert_eq!(refused.header("x-after"), Some("1"), "the response phase of all runs");
    assert_eq!(refused.header("access-control-allow-origin"), Some("http://o.test"));
    assert!(refused.header("x-id").is_some());
    let passed = stage.get("/", &[("apikey", "k")]).await?;
    assert_eq!((passed.status, passed.header("x-ratelimit-remaining-minute")), (200, Some("4")));
    assert_eq!(told(&passed.json(), "x-added"), ["1"]);
    let records = lines(&folder, "log", 2).await;
    assert_eq!((&records[0]["response"]["status"], &records[0]["source"]), (&json!(401), &json!("kong")));
    assert_eq!((&records[1]["response"]["status"], &records[1]["source"]), (&json!(200), &json!("upstream")));
    assert_eq!(stage.echo.requests(), 1);
    Ok(())
}

#[tokio::test]
async fn turns_go_by_priority_not_by_place_in_the_file() -> Result<()> {
    // Each of these replies; the first one is observed.
    let instances = [
        ("cors", json!({}), 200, vec![("Origin", "http://o"), ("Access-Control-Request-Method", "GET")]),
        ("jwt", json!({}), 401, vec![]),
        ("key-auth", json!({}), 401, vec![]),
        ("basic-auth", json!({}), 401, vec![]),
        ("hmac-auth", json!({}), 401, vec![]),
        ("ip-restriction", json!({"deny": ["127.0.0.1"], "status": 461}), 461, vec![]),
        ("request-size-limiting", json!({"allowed_payload_size": 0, "require_content_length": true}), 411, vec![]),
        ("acl", json!({"allow": ["x"]}), 401, vec![]),
        ("request-termination", json!({"status_code": 462}), 462, vec![]),
    ];
    let challenge = ["", "Bearer", "Key", "Basic realm=\"service\"", "hmac", "", "", "", ""];
    for first in 0..instances.len() {
        let mut list: Vec<Value> =
            instances[first..].iter().map(|(name, config, ..)| json!({"name": name, "config": config})).collect();
        list.reverse();
        let mut stage = Stage::start(json!(list), json!({})).await?;
        let (name, _, status, fields) = &instances[first];
        let method = if *name == "cors" { "OPTIONS" } else { "GET" };
        let response = stage.client.request(method, "/", "a", fields, b"").await?;
        assert_eq!(response.status, *status, "{name}");
        assert_eq!(response.header("www-authenticate").unwrap_or_default(), challenge[first], "{name}");
        assert_eq!(stage.echo.requests(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn instances_that_are_off_or_for_another_protocol_do_nothing() -> Result<()> {
    let mut stage = Stage::start(
        json!([
            {"name": "request-termination", "enabled": false, "instance_name": "off"},
            {"name": "response-transformer", "protocols": ["http"], "instance_name": "named",
                "config": {"add": {"headers": ["X-On:1"]}}},
            {"name": "basic-auth", "enabled": false}
        ]),
        // As in Kong, protocols distinguish requests from streams, but not requests from each other.
        json!({"plugins": [
            {"name": "ip-restriction", "protocols": ["tcp", "tls"], "config": {"deny": ["127.0.0.1"]}},
            {"name": "cors", "protocols": ["https"]}
        ]}),
    )
    .await?;
    let response = stage.get("/", &[]).await?;
    assert_eq!((response.status, response.header("x-on")), (200, Some("1")));
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    Ok(())
}

#[tokio::test]
async fn a_disabled_instance_leaves_the_turn_to_a_wider_one() -> Result<()> {
    let more = json!({"plugins": [
        {"name": "response-transformer", "config": {"add": {"headers": ["X-Global:1"]}}}
    ]});
    let off = json!([{"name": "response-transformer", "enabled": false, "config": {"add": {"headers": ["X-Own:1"]}}}]);
    let mut stage = Stage::start(off, more).await?;
    let response = stage.get("/", &[]).await?;
    assert_eq!((response.header("x-global"), response.header("x-own")), (Some("1"), None));
    Ok(())
}

#[tokio::test]
async fn names_of_instances_are_unique() {
    let twice = json!([
        {"name": "key-auth", "instance_name": "x"},
        {"name": "basic-auth", "instance_name": "x"}
    ]);
    assert!(Stage::start(twice, json!({})).await.is_err());
}

#[tokio::test]
async fn global_instances_see_requests_without_a_route() -> Result<()> {
    let folder = TempDir::new("lost");
    let more = json!({"plugins": [
        {"name": "response-transformer", "config": {"add": {"headers": ["X-On:1"]}}},
        {"name": "correlation-id", "config": {"header_name": "X-Id", "echo_downstream": true}},
        {"name": "key-auth"},
        log(&folder)
    ]});
    let file = json!({"_format_version": "3.0", "plugins": more["plugins"], "services": [{"name": "s",
        "url": "http://127.0.0.1:9", "routes": [{"name": "r", "paths": ["/there"]}]}]});
    let world = cardinal_testkit::World::start(crate::plugins(), &file.to_string(), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let lost = client.get("/nowhere", "a", &[]).await?;
    assert_eq!((lost.status, lost.header("x-on")), (404, Some("1")), "{}", lost.text());
    let record = lines(&folder, "log", 1).await.remove(0);
    assert_eq!((&record["response"]["status"], &record["request"]["uri"]), (&json!(404), &json!("/nowhere")));
    assert!(record.get("route").is_none() && record.get("service").is_none(), "{record}");
    assert_eq!(record["latencies"]["proxy"], -1);
    Ok(())
}
