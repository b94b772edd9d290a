//! Workspaces of the product: isolation in the API and in what is served, rollbacks, files.

use cardinal_testkit::{EchoServer, H1Client, TempDir, until_some};
use serde_json::{Value, json};

use crate::admin::Node;
use crate::history::{on_store, text};

/// Creates these workspaces.
async fn create(node: &Node, names: &[&str]) {
    for name in names {
        assert_eq!(node.send("POST", "/workspaces", json!({ "name": name })).await.0, 201);
    }
}

async fn made(node: &Node, target: &str, body: Value) -> Value {
    let (status, made) = node.send("POST", target, body).await;
    assert_eq!(status, 201, "{target}: {made}");
    made
}

/// A service `s` in front of a backend with a route `r` on `/<workspace>`.
async fn route(node: &Node, workspace: &str, url: &str) {
    made(node, &format!("/{workspace}/services"), json!({"name": "s", "url": url})).await;
    let route = json!({"name": "r", "paths": [format!("/{workspace}")]});
    made(node, &format!("/{workspace}/services/s/routes"), route).await;
}

/// What the backend sees of a proxied request.
async fn seen(node: &Node, path: &str, key: &str) -> Value {
    let mut client = H1Client::connect(node.proxy).await.unwrap();
    let response = client.get(path, "api.test", &[("apikey", key)]).await.unwrap();
    assert_eq!(response.status, 200, "{path}");
    serde_json::from_slice(&response.body).unwrap()
}

/// The consumer that the backend is told of.
fn consumer(seen: &Value) -> (Value, Value) {
    let headers = seen["headers"].as_array().unwrap();
    let is = |field: &Value, name: &str| field[0].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name));
    let header =
        |name: &str| headers.iter().find(|field| is(field, name)).map_or(Value::Null, |field| field[1].clone());
    (header("x-consumer-id"), header("x-consumer-custom-id"))
}

#[tokio::test]
async fn one_key_is_a_consumer_in_each_workspace() {
    let (data, echo) = (TempDir::new("workspaces"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    create(&node, &["a", "b"]).await;
    let mut consumers = Vec::new();
    for workspace in ["a", "b"] {
        route(&node, workspace, &echo.url()).await;
        let anna = json!({"username": "anna", "custom_id": format!("{workspace}-1")});
        let anna = made(&node, &format!("/{workspace}/consumers"), anna).await;
        consumers.push((anna["id"].clone(), anna["custom_id"].clone()));
        made(&node, &format!("/{workspace}/consumers/anna/key-auth"), json!({"key": "shared"})).await;
        made(&node, &format!("/{workspace}/plugins"), json!({"name": "key-auth"})).await;
    }
    made(&node, "/b/consumers/anna/key-auth", json!({"key": "only-in-b"})).await;
    route(&node, "default", &echo.url()).await;
    node.serves("/b", "only-in-b", 200).await;
    node.serves("/default", "", 200).await;
    assert_eq!(consumer(&seen(&node, "/a", "shared").await), consumers[0]);
    assert_eq!(consumer(&seen(&node, "/b", "shared").await), consumers[1]);
    // A key of another workspace is none, and so is a consumer.
    assert_eq!(node.proxied("/a", "only-in-b").await, 401);
    let anonymous = json!({"name": "key-auth", "config": {"anonymous": consumers[1].0}});
    made(&node, "/a/routes/r/plugins", anonymous).await;
    node.serves("/a", "unknown", 500).await;
    node.stop().await;

    let node = Node::start(&data, &[]);
    assert_eq!(consumer(&seen(&node, "/b", "shared").await), consumers[1]);
    assert_eq!((node.proxied("/a", "only-in-b").await, node.proxied("/default", "").await), (500, 200));
    node.stop().await;
}

#[tokio::test]
async fn a_global_plugin_is_for_the_routes_of_its_workspace() {
    let (data, echo) = (TempDir::new("workspaces"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    create(&node, &["a", "b"]).await;
    for workspace in ["default", "a", "b"] {
        route(&node, workspace, &echo.url()).await;
    }
    let ends = |status: u16| json!({"name": "request-termination", "config": {"status_code": status}});
    made(&node, "/a/plugins", ends(410)).await;
    node.serves("/a", "", 410).await;
    assert_eq!((node.proxied("/b", "").await, node.proxied("/default", "").await), (200, 200));
    let of_default = made(&node, "/plugins", ends(411)).await;
    node.serves("/default", "", 411).await;
    assert_eq!((node.proxied("/a", "").await, node.proxied("/b", "").await), (410, 200));
    let of_default = format!("/plugins/{}", of_default["id"].as_str().unwrap());
    assert_eq!(node.send("GET", &format!("/a{of_default}"), Value::Null).await.0, 404);
    made(&node, "/b/services/s/plugins", ends(412)).await;
    node.serves("/b", "", 412).await;
    assert_eq!(node.send("DELETE", &of_default, Value::Null).await.0, 204);
    node.serves("/default", "", 200).await;
    assert_eq!((node.proxied("/a", "").await, node.proxied("/b", "").await), (410, 412));
    // A limit by address counts in each workspace: the first request that is counted passes.
    let limit = json!({"name": "rate-limiting", "config": {"hour": 1, "limit_by": "ip", "policy": "local"}});
    create(&node, &["c"]).await;
    route(&node, "c", &echo.url()).await;
    for workspace in ["default", "c"] {
        made(&node, &format!("/{workspace}/plugins"), limit.clone()).await;
        let first = async || {
            let mut client = H1Client::connect(node.proxy).await.unwrap();
            let response = client.get(&format!("/{workspace}"), "api.test", &[]).await.unwrap();
            response.header("x-ratelimit-remaining-hour").map(|_| response.status)
        };
        assert_eq!(until_some("a counted request", first).await.unwrap(), 200, "{workspace}");
        assert_eq!(node.proxied(&format!("/{workspace}"), "").await, 429);
    }
    node.stop().await;
}

#[tokio::test]
async fn upstreams_of_one_name_are_different_ones() {
    let data = TempDir::new("workspaces");
    let (first, second) = (EchoServer::start("first").await, EchoServer::start("second").await);
    let node = Node::start(&data, &[]);
    create(&node, &["a"]).await;
    for (workspace, echo) in [("default", &first), ("a", &second)] {
        made(&node, &format!("/{workspace}/upstreams"), json!({"name": "localhost"})).await;
        let target = json!({"target": echo.address().to_string()});
        made(&node, &format!("/{workspace}/upstreams/localhost/targets"), target).await;
        route(&node, workspace, "http://localhost:1").await;
    }
    node.serves("/a", "", 200).await;
    assert_eq!(seen(&node, "/default", "").await["server"], "first");
    assert_eq!(seen(&node, "/a", "").await["server"], "second");
    let health = async |workspace: &str| {
        let target = format!("/{workspace}/upstreams/localhost/health");
        node.send("GET", &target, Value::Null).await.1["data"][0].clone()
    };
    assert_eq!(health("a").await["data"]["port"], second.address().port());
    assert_eq!(health("default").await["data"]["port"], first.address().port());
    // Without the upstream the name is that of a host, where nobody listens.
    assert_eq!(node.send("DELETE", "/upstreams/localhost", Value::Null).await.0, 204);
    node.serves("/default", "", 502).await;
    assert_eq!(seen(&node, "/a", "").await["server"], "second");
    node.stop().await;
}

#[tokio::test]
async fn logs_name_the_workspace() {
    let (data, echo) = (TempDir::new("workspaces"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    let log = data.path().join("log.json");
    let team = made(&node, "/workspaces", json!({"name": "team"})).await;
    for workspace in ["team", "default"] {
        route(&node, workspace, &echo.url()).await;
        let plugin = json!({"name": "file-log", "config": {"path": log}});
        made(&node, &format!("/{workspace}/plugins"), plugin).await;
    }
    let record = async |path: &str, name: &str| {
        let look = async || {
            node.proxied(path, "").await;
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            records.into_iter().find(|record| record["workspace_name"] == name)
        };
        until_some("a log record", look).await.unwrap()
    };
    let of_team = record("/team", "team").await;
    assert_eq!((&of_team["workspace"], &of_team["route"]["ws_id"]), (&team["id"], &team["id"]));
    assert_eq!(of_team["service"]["ws_id"], team["id"]);
    let of_default = record("/default", "default").await;
    assert_eq!(of_default["workspace"], "0dc6f45b-8f8d-40d2-a504-473544ee190b");
    assert_eq!(of_default["route"]["ws_id"], of_default["workspace"]);
    node.stop().await;
}

#[tokio::test]
async fn a_deleted_workspace_is_not_served_and_comes_back_with_a_rollback() {
    let (data, echo) = (TempDir::new("workspaces"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    create(&node, &["a"]).await;
    route(&node, "a", &echo.url()).await;
    route(&node, "default", &echo.url()).await;
    made(&node, "/a/consumers", json!({"username": "anna"})).await;
    made(&node, "/a/consumers/anna/key-auth", json!({"key": "k"})).await;
    made(&node, "/a/plugins", json!({"name": "key-auth"})).await;
    node.serves("/a", "k", 200).await;
    node.serves("/a", "", 401).await;
    assert_eq!(node.send("DELETE", "/workspaces/a", Value::Null).await.0, 400);
    assert_eq!(node.send("DELETE", "/workspaces/a?cascade=true", Value::Null).await.0, 204);
    node.serves("/a", "k", 404).await;
    assert_eq!(node.proxied("/default", "").await, 200);
    assert_eq!(node.send("GET", "/a/services", Value::Null).await.0, 404);
    text(&data, &["rollback", "8"]);
    node.serves("/a", "k", 200).await;
    assert_eq!((node.proxied("/a", "").await, node.proxied("/default", "").await), (401, 200));
    assert_eq!(node.send("GET", "/a/routes/r", Value::Null).await.0, 200);
    // The history tells of it, and so does a comparison.
    let gone = node.send("GET", "/cardinal/v1/generations/9", Value::Null).await.1;
    let kinds: Vec<&str> =
        gone["entities"].as_array().unwrap().iter().map(|entity| entity["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"workspaces") && kinds.contains(&"keyauth_credentials"), "{kinds:?}");
    assert!(
        text(&data, &["store", "export"]).contains("default") && on_store(&data, &["diff", "8", "9"]).status.success()
    );
    node.stop().await;
}
