//! What operators see of a node with a database: metrics, log levels, readiness, quarantine, traces.

use std::net::SocketAddr;

use cardinal_testkit::{EchoServer, H1Client, TempDir, until_some};
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use crate::history::text;
use crate::kong_yaml;
use crate::process::{Process, cardinal};

/// A node with an Admin API and a status listener.
struct Node {
    process: Process,
    proxy: SocketAddr,
    admin: SocketAddr,
    status: SocketAddr,
}

impl Node {
    /// With a database in the directory.
    fn with_store(data: &TempDir, more: &[&str]) -> Self {
        Self::start(&[&["--data-dir", &data.path().display().to_string()], more].concat())
    }

    fn start(more: &[&str]) -> Self {
        let mut command = cardinal();
        command.args(["run", "--workers", "1", "--access-log", "off", "--set", "proxy_listen=127.0.0.1:0"]);
        command.args(["--set", "status_listen=127.0.0.1:0", "--set", "admin_listen=127.0.0.1:0"]).args(more);
        let mut process = Process::start(command);
        let find = |kind: &str, lines: &[String]| {
            let line =
                lines.iter().find(|line| line.contains(kind)).unwrap_or_else(|| panic!("no {kind} in {lines:?}"));
            line.split_whitespace().nth(2).unwrap().parse().unwrap()
        };
        let lines = [(); 3].map(|()| process.wait_for("listening on "));
        let [proxy, admin, status] = ["(proxy", "(admin", "(status"].map(|kind| find(kind, &lines));
        Self { process, proxy, admin, status }
    }

    async fn send(&self, method: &str, target: &str, body: Value) -> (u16, Value) {
        self.send_with(method, target, &[], body).await
    }

    async fn send_with(&self, method: &str, target: &str, more: &[(&str, &str)], body: Value) -> (u16, Value) {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let json = [("Content-Type", "application/json")];
        let fields = [if body.is_null() { &json[..0] } else { &json[..] }, more].concat();
        let mut client = H1Client::connect(self.admin).await.unwrap();
        let response = client.request(method, target, "localhost", &fields, text.as_bytes()).await.unwrap();
        (response.status, serde_json::from_slice(&response.body).unwrap_or(Value::Null))
    }

    /// A page of a port, as status and text.
    async fn page(&self, address: SocketAddr, path: &str) -> (u16, String) {
        let response = H1Client::connect(address).await.unwrap().get(path, "localhost", &[]).await.unwrap();
        (response.status, response.text())
    }

    async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.page(self.status, "/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// Waits until a metric has a value.
    async fn shows(&self, name: &str, value: f64) {
        let look = async || (self.metric(name).await == Some(value)).then_some(());
        until_some(&format!("{name} to be {value}"), look).await.unwrap();
    }

    async fn stop(mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.ends().code(), Some(0));
    }
}

#[tokio::test]
async fn the_log_level_can_be_changed() {
    let data = TempDir::new("observe");
    let mut node = Node::with_store(&data, &[]);
    let level = async |node: &Node, method: &str, path: &str| {
        let (status, body) = node.send(method, &format!("/debug/{path}"), Value::Null).await;
        (status, body["message"].as_str().unwrap_or_default().to_owned())
    };
    let is = |status: u16, message: &str| (status, message.to_owned());
    assert_eq!(level(&node, "GET", "node/log-level").await, is(200, "log level: notice"));
    assert_eq!(level(&node, "PUT", "node/log-level/loud").await, is(400, "unknown log level: loud"));
    assert_eq!(level(&node, "PUT", "node/log-level/notice").await, is(200, "log level is already notice"));
    let wrong = "timeout must be greater than or equal to 0";
    assert_eq!(level(&node, "PUT", "node/log-level/debug?timeout=-1").await, is(400, wrong));

    assert_eq!(level(&node, "PUT", "node/log-level/debug?timeout=0").await, is(200, "log level changed"));
    node.process.wait_for("log level set to debug until the process ends");
    assert_eq!(level(&node, "GET", "node/log-level").await, is(200, "log level: debug"));
    // Requests that change nothing are logged at the level debug only. The change of the level is logged by then.
    assert_eq!(node.process.wait_for_line("Admin API request").1["method"], "PUT");
    let (_, line) = node.process.wait_for_line("Admin API request");
    assert_eq!((&line["method"], &line["level"]), (&json!("GET"), &json!("DEBUG")));
    assert_eq!(node.send("GET", "/", Value::Null).await.1["configuration"]["log_level"], "debug");

    // After the timeout, the level is that of the settings again.
    let path = "cluster/control-planes-nodes/log-level/info?timeout=1";
    assert_eq!(level(&node, "PUT", path).await, is(200, "log level changed"));
    node.process.wait_for("log level set to info for 1 s, then back to notice");
    node.process.wait_for("log level set back to notice");
    assert_eq!(level(&node, "GET", "node/log-level").await, is(200, "log level: notice"));
    node.stop().await;
}

/// A node with files has no database, and its log level can be changed nevertheless.
#[tokio::test]
async fn the_log_level_of_a_node_with_files_can_be_changed() {
    let (folder, echo) = (TempDir::new("observe"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url())).display().to_string();
    let mut node = Node::start(&["--config", &config]);
    let path = "/debug/cluster/log-level/info?timeout=0";
    assert_eq!(node.send("PUT", path, Value::Null).await.1["message"], "log level changed");
    // A request without a route is logged at the level info.
    assert_eq!(node.page(node.proxy, "/nowhere").await.0, 404);
    node.process.wait_for("no route");
    let (status, metrics) = node.page(node.admin, "/metrics").await;
    assert!(status == 200 && metrics.contains("cardinal_admin_connections_active 1\n"), "{metrics}");
    assert!(!metrics.contains("cardinal_store_"), "there is no database");
    node.stop().await;
}

#[tokio::test]
async fn metrics_show_the_database_and_the_api() {
    let (data, echo) = (TempDir::new("observe"), EchoServer::start("backend").await);
    let node = Node::with_store(&data, &[]);
    assert_eq!(node.send("POST", "/services", json!({"name": "secret-name", "url": echo.url()})).await.0, 201);
    let route = json!({"name": "r", "paths": ["/a"]});
    assert_eq!(node.send("POST", "/services/secret-name/routes", route).await.0, 201);
    assert_eq!(node.send("GET", "/services/secret-name", Value::Null).await.0, 200);
    assert_eq!(node.send("GET", "/services/other-name", Value::Null).await.0, 404);
    assert_eq!(node.send("GET", "/nothing/here/at/all", Value::Null).await.0, 404);
    assert_eq!(node.send_with("GET", "/services", &[("Origin", "https://evil.test")], Value::Null).await.0, 403);
    node.shows("cardinal_store_revision_served", 2.0).await;
    for (name, value) in [
        ("cardinal_store_revision", 2.0),
        ("cardinal_store_revision_lag", 0.0),
        ("cardinal_store_reachable", 1.0),
        ("cardinal_config_source_available", 1.0),
        ("cardinal_store_operation_duration_seconds_count{operation=\"commit\"}", 2.0),
        ("cardinal_store_operation_errors_total{operation=\"commit\"}", 0.0),
        ("cardinal_config_update_changes_sum", 2.0),
        ("cardinal_admin_requests_refused_total{header=\"origin\"}", 1.0),
        ("cardinal_admin_requests_refused_total{header=\"host\"}", 0.0),
        ("cardinal_admin_requests_total{method=\"POST\",route=\"/services\",code=\"201\"}", 1.0),
        ("cardinal_admin_requests_total{method=\"POST\",route=\"/services/{services}/routes\",code=\"201\"}", 1.0),
        ("cardinal_admin_requests_total{method=\"GET\",route=\"/services/{services}\",code=\"200\"}", 1.0),
        ("cardinal_admin_requests_total{method=\"GET\",route=\"/services/{services}\",code=\"404\"}", 1.0),
        ("cardinal_admin_requests_total{method=\"GET\",route=\"other\",code=\"404\"}", 1.0),
        ("cardinal_admin_request_duration_seconds_count{method=\"GET\",route=\"/services/{services}\"}", 2.0),
    ] {
        assert_eq!(node.metric(name).await, Some(value), "{name}");
    }
    assert!(node.metric("cardinal_config_lowering_duration_seconds_count").await >= Some(2.0));
    let (status, text) = node.page(node.admin, "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("cardinal_store_revision 2\n") && text.contains("cardinal_requests_total "), "{text}");
    assert!(!text.contains("secret-name") && !text.contains("other-name"), "names are no labels");
    check_form(&text);
    node.stop().await;
}

/// Each metric has one head, before its samples, and each sample is one of a known metric.
fn check_form(text: &str) {
    let mut names = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let name = head.split_whitespace().next().unwrap();
            assert!(names.insert(name.to_owned()), "{name} has two heads");
        } else if !line.starts_with('#') {
            let (name, value) = (line.split(['{', ' ']).next().unwrap(), line.rsplit(' ').next().unwrap());
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(names.contains(name) || base.is_some_and(|base| names.contains(base)), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}

#[tokio::test]
async fn readiness_follows_the_database() {
    let (data, echo) = (TempDir::new("observe"), EchoServer::start("backend").await);
    let mut node = Node::with_store(&data, &[]);
    let ready = async |node: &Node| {
        let (status, text) = node.page(node.status, "/status/ready").await;
        (status, serde_json::from_str::<Value>(&text).unwrap())
    };
    // As Kong with a database: it may be empty.
    assert_eq!(ready(&node).await, (200, json!({"message": "ready"})));
    assert_eq!(node.send("POST", "/services", json!({"name": "s", "url": echo.url()})).await.0, 201);
    assert_eq!(node.send("POST", "/services/s/routes", json!({"name": "r", "paths": ["/a"]})).await.0, 201);
    node.shows("cardinal_store_revision_served", 2.0).await;
    let status = node.send("GET", "/status", Value::Null).await.1;
    let expected = json!({"reachable": true, "engine": "sqlite", "revision": 2, "revision_served": 2});
    assert_eq!(status["database"], expected);
    assert_eq!(status["config"]["revision"], 2);

    let file = data.path().join("store.db");
    let mut tampering = sqlx::sqlite::SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    tampering.execute("ALTER TABLE documents RENAME TO hidden").await.unwrap();
    node.process.wait_for("the database cannot be reached; the current configuration stays in use");
    let (status, body) = ready(&node).await;
    assert_eq!((status, &body["message"]), (200, &json!("ready")));
    let warning = body["warning"].as_str().unwrap();
    assert!(warning.ends_with("; the configuration that was applied last is served"), "{warning}");
    assert_eq!(node.page(node.proxy, "/a").await.0, 200);
    assert_eq!(node.metric("cardinal_store_reachable").await, Some(0.0));
    assert_eq!(node.metric("cardinal_config_source_available").await, Some(0.0));
    let status = node.send("GET", "/status", Value::Null).await.1;
    assert_eq!(status["database"], json!({"reachable": false, "revision_served": 2}));

    tampering.execute("ALTER TABLE hidden RENAME TO documents").await.unwrap();
    tampering.close().await.unwrap();
    node.process.wait_for("the database can be reached again");
    node.shows("cardinal_config_source_available", 1.0).await;
    assert_eq!(ready(&node).await, (200, json!({"message": "ready"})));
    node.stop().await;
}

#[tokio::test]
async fn entities_that_cannot_be_served_are_listed() {
    let data = TempDir::new("observe");
    let node = Node::with_store(&data, &[]);
    let broken = |tag: &str| {
        let config = json!({"http_endpoint": "http://127.0.0.1:9", "custom_fields_by_lua": {"x": "return os.time()"}});
        json!({"name": "http-log", "config": config, "tags": [tag], "instance_name": tag})
    };
    let (_, plugin) = node.send("POST", "/plugins", broken("team-a")).await;
    node.shows("cardinal_quarantined_entities{kind=\"plugins\"}", 1.0).await;
    let list = async |query: &str| {
        let (status, body) = node.send("GET", &format!("/cardinal/v1/quarantine{query}"), Value::Null).await;
        assert_eq!(status, 200, "{body}");
        body["data"].as_array().unwrap().clone()
    };
    let found = list("").await;
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["kind"], &found[0]["id"]), (&json!("plugins"), &plugin["id"]));
    assert_eq!((&found[0]["tags"], &found[0]["revision"]), (&json!(["team-a"]), &json!(1)));
    assert!(!found[0]["reason"].as_str().unwrap().is_empty() && found[0]["since"].as_str().unwrap().ends_with('Z'));
    assert_eq!(list("?tags=team-a").await.len(), 1);
    assert_eq!(list("?tags=team-b/team-a").await.len(), 1);
    assert_eq!(list("?tags=team-b").await.len(), 0);
    assert_eq!(node.send("GET", "/cardinal/v1/quarantine?tags=,", Value::Null).await.0, 400);

    // The reason stays: so does its time.
    assert_eq!(node.send("PUT", "/consumers/anna", json!({})).await.0, 200);
    node.shows("cardinal_store_revision_served", 2.0).await;
    assert_eq!(list("").await, found);
    let shown: Value = serde_json::from_str(&text(&data, &["store", "quarantine", "--output", "json"])).unwrap();
    assert_eq!((&shown[0]["kind"], &shown[0]["id"]), (&json!("plugins"), &plugin["id"]));
    assert_eq!((&shown[0]["tags"], &shown[0]["revision"]), (&json!(["team-a"]), &json!(1)));
    let shown = text(&data, &["store", "quarantine"]);
    assert!(shown.contains("plugins  ") && shown.contains("team-a") && shown.contains("os.time"), "{shown}");
    let path = format!("/plugins/{}", plugin["id"].as_str().unwrap());
    assert_eq!(node.send("DELETE", &path, Value::Null).await.0, 204);
    let gone = async || list("").await.is_empty().then_some(());
    until_some("the list to be empty", gone).await.unwrap();
    assert_eq!(text(&data, &["store", "quarantine"]), "all entities can be served\n");
    node.stop().await;
}

#[tokio::test]
async fn a_write_can_be_traced() {
    let data = TempDir::new("observe");
    let mut node = Node::with_store(&data, &["--log-level", "info"]);
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let header = format!("00-{id}-00f067aa0ba902b7-01");
    let (status, _) = node.send_with("PUT", "/consumers/anna", &[("traceparent", &header)], json!({})).await;
    assert_eq!(status, 200);
    let (_, line) = node.process.wait_for_line("Admin API request");
    assert_eq!((&line["trace_id"], &line["route"]), (&json!(id), &json!("/consumers/{consumers}")));
    assert_eq!((&line["status"], &line["client"]), (&json!(200), &json!("127.0.0.1")));
    assert!(line["elapsed_ms"].is_u64(), "{line}");
    let history: Value = serde_json::from_str(&text(&data, &["history", "--output", "json"])).unwrap();
    assert_eq!(history[0]["author"]["via"], format!("admin-api, trace {id}"));
    node.stop().await;
}
