//! The Admin API of the product, with entities in a database.

use std::net::SocketAddr;
use std::process::Command;

use cardinal_testkit::{EchoServer, H1Client, Response, TempDir, until_some};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Process, cardinal};

/// A node with a store, and where it listens.
pub(crate) struct Node {
    process: Process,
    pub(crate) proxy: SocketAddr,
    admin: SocketAddr,
}

impl Node {
    pub(crate) fn start(data: &TempDir, more: &[&str]) -> Self {
        Self::start_as(cardinal(), data, more)
    }

    /// Starts a node by a command that runs the binary.
    pub(crate) fn start_as(mut command: Command, data: &TempDir, more: &[&str]) -> Self {
        command.args(["run", "--workers", "1", "--access-log", "off", "--data-dir"]).arg(data.path());
        command.args(["--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=off"]);
        command.args(["--set", "admin_listen=127.0.0.1:0"]).args(more);
        let mut process = Process::start(command);
        let (proxy, admin) = process.addresses();
        Self { process, proxy, admin }
    }

    pub(crate) async fn send(&self, method: &str, target: &str, body: Value) -> (u16, Value) {
        let (text, fields) = (body.to_string(), [("Content-Type", "application/json")]);
        let (fields, text) = if body.is_null() { (&fields[..0], "") } else { (&fields[..], text.as_str()) };
        let mut client = H1Client::connect(self.admin).await.unwrap();
        let response = client.request(method, target, "localhost", fields, text.as_bytes()).await.unwrap();
        let body = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        (response.status, body)
    }

    /// Sends a request to a node that may end meanwhile.
    pub(crate) async fn try_send(&self, method: &str, target: &str, body: Value) -> Option<(u16, Value)> {
        let (text, fields) = (body.to_string(), [("Content-Type", "application/json")]);
        let mut client = H1Client::connect(self.admin).await.ok()?;
        let response = client.request(method, target, "localhost", &fields, text.as_bytes()).await.ok()?;
        // Nothing was acknowledged by half of an answer.
        Some((response.status, serde_json::from_slice(&response.body).ok()?))
    }

    /// Ends the node as a crash would.
    pub(crate) fn kill(&self) {
        self.process.signal(Signal::KILL);
    }

    /// A response of the API to a request with these fields.
    pub(crate) async fn with(&self, fields: &[(&str, &str)], method: &str, target: &str, body: &Value) -> Response {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let mut all = fields.to_vec();
        if !text.is_empty() {
            all.push(("Content-Type", "application/json"));
        }
        let mut client = H1Client::connect(self.admin).await.unwrap();
        client.request(method, target, "localhost", &all, text.as_bytes()).await.unwrap()
    }

    /// The status of a proxied request.
    pub(crate) async fn proxied(&self, path: &str, key: &str) -> u16 {
        let mut client = H1Client::connect(self.proxy).await.unwrap();
        let fields = [("apikey", key)];
        let fields = if key.is_empty() { &fields[..0] } else { &fields[..] };
        client.get(path, "api.test", fields).await.unwrap().status
    }

    /// Waits until a proxied request gets this status.
    pub(crate) async fn serves(&self, path: &str, key: &str, status: u16) {
        let look = async || (self.proxied(path, key).await == status).then_some(());
        until_some(&format!("{path} is answered with {status}"), look).await.unwrap();
    }

    pub(crate) async fn stop(mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.ends().code(), Some(0));
    }
}

#[tokio::test]
async fn changes_are_live_and_survive_a_restart() {
    let (data, echo) = (TempDir::new("admin"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    assert_eq!(node.proxied("/orders", "").await, 404);
    let service = json!({"name": "orders", "url": echo.url()});
    assert_eq!(node.send("POST", "/services", service).await.0, 201);
    assert_eq!(node.send("POST", "/services/orders/routes", json!({"name": "r", "paths": ["/orders"]})).await.0, 201);
    node.serves("/orders", "", 200).await;
    assert_eq!(node.send("POST", "/routes/r/plugins", json!({"name": "key-auth"})).await.0, 201);
    node.serves("/orders", "", 401).await;
    assert_eq!(node.send("PUT", "/consumers/anna", json!({})).await.0, 200);
    assert_eq!(node.send("POST", "/consumers/anna/key-auth", json!({"key": "secret-of-anna"})).await.0, 201);
    node.serves("/orders", "secret-of-anna", 200).await;
    node.stop().await;

    let node = Node::start(&data, &[]);
    assert_eq!(node.proxied("/orders", "secret-of-anna").await, 200);
    assert_eq!(node.send("GET", "/key-auths", Value::Null).await.1["data"][0]["key"], "secret-of-anna");
    assert_eq!(node.send("PATCH", "/routes/r", json!({"paths": ["/bills"]})).await.0, 200);
    node.serves("/bills", "secret-of-anna", 200).await;
    assert_eq!(node.proxied("/orders", "secret-of-anna").await, 404);
    assert_eq!(node.send("DELETE", "/consumers/anna", Value::Null).await.0, 204);
    node.serves("/bills", "secret-of-anna", 401).await;
    node.stop().await;
}

#[tokio::test]
async fn targets_can_be_marked_and_health_is_shown() {
    let (data, echo) = (TempDir::new("admin"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    let checks = json!({"passive": {"unhealthy": {"tcp_failures": 1}}});
    assert_eq!(node.send("POST", "/upstreams", json!({"name": "up", "healthchecks": checks})).await.0, 201);
    let target = echo.address().to_string();
    assert_eq!(node.send("POST", "/upstreams/up/targets", json!({"target": target})).await.0, 201);
    assert_eq!(node.send("POST", "/services", json!({"name": "s", "host": "up"})).await.0, 201);
    assert_eq!(node.send("POST", "/services/s/routes", json!({"name": "r", "paths": ["/"]})).await.0, 201);
    node.serves("/", "", 200).await;
    let health = async || node.send("GET", "/upstreams/up/health", Value::Null).await.1["data"][0]["health"].clone();
    assert_eq!(health().await, "HEALTHY");
    let mark = format!("/upstreams/up/targets/{target}/unhealthy");
    assert_eq!(node.send("PUT", &mark, Value::Null).await.0, 204);
    assert_eq!(health().await, "UNHEALTHY");
    assert_eq!(node.proxied("/", "").await, 503);
    let mark = format!("/upstreams/up/targets/{target}/healthy");
    assert_eq!(node.send("PUT", &mark, Value::Null).await.0, 204);
    assert_eq!(node.proxied("/", "").await, 200);
    node.stop().await;
}

/// An entity that is valid by itself and cannot be served is reported, and the others are served.
#[tokio::test]
async fn entities_that_cannot_be_served_are_left_out() {
    let (data, echo) = (TempDir::new("admin"), EchoServer::start("backend").await);
    let mut node = Node::start(&data, &[]);
    let config = json!({"http_endpoint": "http://127.0.0.1:9", "custom_fields_by_lua": {"x": "return os.time()"}});
    assert_eq!(node.send("POST", "/plugins", json!({"name": "http-log", "config": config})).await.0, 201);
    node.process.wait_for("left out: ");
    assert_eq!(node.send("POST", "/services", json!({"name": "s", "url": echo.url()})).await.0, 201);
    assert_eq!(node.send("POST", "/services/s/routes", json!({"name": "r", "paths": ["/"]})).await.0, 201);
    node.serves("/", "", 200).await;
    let status = node.send("GET", "/status", Value::Null).await.1;
    assert_eq!(status["config"]["left_out"], 1, "{status}");
    assert_eq!(status["database"]["engine"], "sqlite");
    node.stop().await;
}

/// A page of another origin, or a name that was made to lead to this machine, does not reach the API.
#[tokio::test]
async fn foreign_web_pages_are_refused() {
    let data = TempDir::new("admin");
    let node = Node::start(&data, &[]);
    for (host, fields, status) in [
        ("localhost", &[("Origin", "https://evil.test")][..], 403),
        ("evil.test", &[][..], 403),
        ("localhost", &[("Origin", "http://localhost:8002")][..], 200),
        // What cannot be read is not taken for absent.
        ("localhost", &[("Origin", "https://\u{e9}vil.test")][..], 400),
        ("\u{e9}vil.test", &[][..], 400),
        ("localhost", &[("Origin", "http://localhost:8002"), ("Origin", "https://evil.test")][..], 400),
    ] {
        let mut client = H1Client::connect(node.admin).await.unwrap();
        assert_eq!(client.get("/services", host, fields).await.unwrap().status, status, "{host} {fields:?}");
    }
    node.stop().await;
}
