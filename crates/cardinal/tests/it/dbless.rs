//! The Admin API of nodes whose configuration comes from files.

use std::net::{SocketAddr, TcpListener};

use cardinal_testkit::{EchoServer, H1Client, TempDir, free_port, until_some};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kong_yaml;
use crate::process::{Process, cardinal};

const EMPTY_HASH: &str = "00000000000000000000000000000000";

/// A node, and where it listens.
struct Node {
    process: Process,
    proxy: SocketAddr,
    admin: SocketAddr,
}

impl Node {
    /// Without files if there is none.
    fn start(config: Option<&std::path::Path>, more: &[&str]) -> Self {
        let mut command = cardinal();
        command.args(["run", "--workers", "1", "--access-log", "off"]);
        command.args(["--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=off"]);
        command.args(["--set", "admin_listen=127.0.0.1:0", "--set", "database=off"]);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let mut process = Process::start({
            command.args(more);
            command
        });
        let (proxy, admin) = process.addresses();
        Self { process, proxy, admin }
    }

    async fn send(&self, method: &str, target: &str, (content_type, body): (&str, &str)) -> (u16, Value) {
        send(self.admin, method, target, (content_type, body)).await
    }

    async fn get(&self, target: &str) -> Value {
        self.send("GET", target, ("", "")).await.1
    }

    async fn post(&self, target: &str, document: &Value) -> (u16, Value) {
        self.send("POST", target, ("application/json", &document.to_string())).await
    }

    async fn proxied(&self, path: &str) -> u16 {
        let mut client = H1Client::connect(self.proxy).await.unwrap();
        client.get(path, "api.test", &[]).await.unwrap().status
    }

    async fn hash(&self) -> String {
        self.get("/status").await["configuration_hash"].as_str().unwrap().to_owned()
    }

    async fn stop(mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.ends().code(), Some(0));
    }
}

async fn send(to: SocketAddr, method: &str, target: &str, (content_type, body): (&str, &str)) -> (u16, Value) {
    let mut client = H1Client::connect(to).await.unwrap();
    let fields = [("Content-Type", content_type)];
    let fields = if content_type.is_empty() { &fields[..0] } else { &fields[..] };
    let response = client.request(method, target, "localhost", fields, body.as_bytes()).await.unwrap();
    (response.status, serde_json::from_slice(&response.body).unwrap_or(Value::Null))
}

/// A service with a route for this path.
fn document(url: &str, path: &str) -> Value {
    json!({ "_format_version": "3.0",
        "services": [{ "name": "s", "url": url, "routes": [{ "name": "r", "paths": [path] }] }] })
}

#[tokio::test]
async fn files_are_shown_and_cannot_be_written() {
    let (folder, echo) = (TempDir::new("dbless"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", document(&echo.url(), "/a").to_string());
    let mut node = Node::start(Some(&config), &[]);
    let root = node.get("/").await;
    assert_eq!((&root["configuration"]["database"], &root["version"]), (&json!("off"), &json!("3.9.3")));
    assert_eq!(node.get("/services/s/routes").await["data"][0]["paths"], json!(["/a"]));
    assert!(
        node.get("/schemas/routes").await["fields"].as_array().unwrap().iter().any(|field| field["paths"].is_object())
    );
    let hash = node.hash().await;
    assert!(hash.len() == 32 && hash != EMPTY_HASH, "{hash}");
    let (status, fault) = node.post("/services", &json!({ "name": "x", "host": "x.test" })).await;
    assert_eq!((status, &fault["code"]), (405, &json!(12)));
    assert_eq!(fault["message"], "cannot create 'services' entities when not using a database");
    folder.write("kong.yaml", document(&echo.url(), "/b").to_string());
    node.process.wait_for("generation 2: ");
    assert_eq!(node.get("/routes/r").await["paths"], json!(["/b"]));
    assert_ne!(node.hash().await, hash);
    node.stop().await;
}

#[tokio::test]
async fn a_posted_configuration_is_served_at_once_until_the_files_change() {
    let (folder, echo) = (TempDir::new("dbless"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", document(&echo.url(), "/file").to_string());
    let mut node = Node::start(Some(&config), &[]);
    let posted = document(&echo.url(), "/posted");
    let (status, entities) = node.post("/config?check_hash=1", &posted).await;
    assert_eq!(status, 201, "{entities}");
    let service = entities["services"].as_object().unwrap().values().next().unwrap();
    assert_eq!(service["name"], "s");
    assert_eq!((node.proxied("/posted").await, node.proxied("/file").await), (200, 404));
    assert_eq!(node.post("/config?check_hash=1", &posted).await, (304, Value::Null));
    let hash = node.hash().await;

    let text = node.get("/config").await["config"].as_str().unwrap().to_owned();
    assert_eq!(node.send("POST", "/config", ("text/yaml", &text)).await, (201, entities));
    assert_eq!(node.proxied("/posted").await, 200);
    assert_ne!(node.hash().await, hash, "the text is another one");

    folder.write("kong.yaml", document(&echo.url(), "/newer").to_string());
    node.process.wait_for("the configuration of the files replaces the one that was posted");
    assert_eq!((node.proxied("/newer").await, node.proxied("/posted").await), (200, 404));
    assert_eq!(node.get("/routes/r").await["paths"], json!(["/newer"]));
    node.stop().await;
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_its_errors() {
    let echo = EchoServer::start("backend").await;
    let node = Node::start(None, &[]);
    assert_eq!(node.hash().await, EMPTY_HASH);
    assert_eq!(node.post("/config", &document(&echo.url(), "/a")).await.0, 201);
    let wrong = json!({ "_format_version": "3.0", "services": [{ "name": "bad", "host": "h", "port": 70_000,
        "tags": ["k8s-name:x"] }] });
    let (status, fault) = node.post("/config", &wrong).await;
    assert_eq!(
        (status, &fault["code"], &fault["name"]),
        (400, &json!(14), &json!("invalid declarative configuration"))
    );
    assert_eq!(fault["fields"]["services"][0]["port"], "value should be between 0 and 65535");
    let (status, fault) = node.post("/config?check_hash=1&flatten_errors=1", &wrong).await;
    let entry = &fault["flattened_errors"][0];
    assert_eq!((status, &entry["entity_type"], &entry["entity_name"]), (400, &json!("service"), &json!("bad")));
    assert_eq!(entry["entity_tags"], json!(["k8s-name:x"]));
    assert_eq!(entry["errors"][0]["field"], "port");
    for body in ["- a", "{", "\"", "a: [", "1"] {
        let (status, fault) = node.send("POST", "/config", ("text/yaml", body)).await;
        assert_eq!((status, &fault["code"]), (400, &json!(14)), "{body}: {fault}");
    }
    assert_eq!(node.proxied("/a").await, 200);
    let (status, _) = node.post("/config", &json!({ "_format_version": "3.0" })).await;
    assert_eq!((status, node.proxied("/a").await, node.hash().await.as_str()), (201, 404, EMPTY_HASH));
    node.stop().await;
}

#[tokio::test]
async fn variables_of_the_process_are_not_filled_into_what_is_posted() {
    let folder = TempDir::new("dbless");
    let config = folder.write("kong.yaml", "_format_version: '3.0'");
    let node = Node::start(Some(&config), &["--fill-env"]);
    let posted = json!({ "_format_version": "3.0",
        "consumers": [{ "username": "u", "custom_id": "${{ env \"DECK_KONG_ADMIN_LISTEN\" }}" }] });
    assert_eq!(node.post("/config", &posted).await.0, 201);
    assert_eq!(node.get("/consumers/u").await["custom_id"], "${{ env \"DECK_KONG_ADMIN_LISTEN\" }}");
    node.stop().await;
}

#[tokio::test]
async fn many_loads_at_once_are_served_or_told_to_wait() {
    let echo = EchoServer::start("backend").await;
    let node = Node::start(None, &[]);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (admin, body) = (node.admin, document(&echo.url(), &format!("/{n}")).to_string());
        tasks.spawn(async move { (n, send(admin, "POST", "/config", ("application/json", &body)).await) });
    }
    let mut loaded = Vec::new();
    while let Some(result) = tasks.join_next().await {
        match result.unwrap() {
            (n, (201, _)) => loaded.push(n),
            (_, (status, body)) => {
                assert_eq!((status, &body["message"]), (429, &json!("Currently loading previous configuration")))
            }
        }
    }
    let shown = node.get("/routes/r").await["paths"][0].as_str().unwrap().to_owned();
    assert!(loaded.iter().any(|n| shown == format!("/{n}")), "{shown}: {loaded:?}");
    assert_eq!(node.proxied(&shown).await, 200);
    node.stop().await;
}

#[tokio::test]
async fn a_posted_configuration_outlives_a_process_without_files() {
    let (data, echo) = (TempDir::new("dbless"), EchoServer::start("backend").await);
    let folder = data.path().display().to_string();
    let node = Node::start(None, &["--data-dir", &folder]);
    let posted = document(&echo.url(), "/a");
    assert_eq!(node.post("/config?check_hash=1", &posted).await.0, 201);
    node.stop().await;
    let mut node = Node::start(None, &["--data-dir", &folder]);
    node.process.signal(Signal::HUP);
    node.process.wait_for("the configuration that was posted stays");
    assert_eq!((node.proxied("/a").await, node.hash().await.as_str()), (200, EMPTY_HASH));
    assert_eq!(node.post("/config?check_hash=1", &posted).await.0, 201);
    assert_eq!((node.proxied("/a").await, node.get("/routes/r").await["name"].clone()), (200, json!("r")));
    node.stop().await;
}

#[tokio::test]
async fn targets_can_be_marked_without_a_database() {
    let (folder, echo) = (TempDir::new("dbless"), EchoServer::start("backend").await);
    let target = echo.address().to_string();
    let checks = json!({ "passive": { "unhealthy": { "tcp_failures": 1 } } });
    let document = json!({ "_format_version": "3.0",
        "upstreams": [{ "name": "up", "healthchecks": checks, "targets": [{ "target": target }] }],
        "services": [{ "name": "s", "host": "up", "routes": [{ "name": "r", "paths": ["/"] }] }] });
    let node = Node::start(Some(&folder.write("kong.yaml", document.to_string())), &[]);
    let path = format!("/upstreams/up/targets/{target}");
    for (mark, health, status) in [("unhealthy", "UNHEALTHY", 503), ("healthy", "HEALTHY", 200)] {
        assert_eq!(node.send("PUT", &format!("{path}/{mark}"), ("", "")).await.0, 204);
        assert_eq!(node.get("/upstreams/up/health").await["data"][0]["health"], health);
        assert_eq!(node.proxied("/").await, status);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_taken_address_matters_if_it_was_asked_for() {
    let folder = TempDir::new("dbless");
    let config = folder.write("kong.yaml", "_format_version: '3.0'");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let setting = format!("admin_listen={}", taken.local_addr().unwrap());
    let mut node = Process::run(&config, &["--set", &setting]);
    let said = node.wait_for("not started: ");
    assert!(said.contains("admin_listen: cannot listen on ") && said.contains("ss -ltnp"), "{said}");
    assert_eq!(node.ends().code(), Some(1));
    // The default may be taken by another program, which is as good here.
    let _other = TcpListener::bind("127.0.0.1:8001");
    let mut command = cardinal();
    command.env_remove("KONG_ADMIN_LISTEN").args(["run", "--access-log", "off", "--config"]).arg(&config);
    command.args(["--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=off"]);
    let mut node = Process::start(command);
    let said = node.wait_for("the Admin API is not served");
    assert!(said.contains("admin_listen: cannot listen on 127.0.0.1:8001"), "{said}");
    node.signal_until_it_ends(Signal::TERM);
}

#[tokio::test]
async fn a_successor_takes_the_address_of_the_api() {
    let (folder, echo) = (TempDir::new("dbless"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let data = folder.path().join("data").display().to_string();
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let setting = format!("admin_listen={admin}");
    let mut node = Process::run(&config, &["--data-dir", &data, "--set", &setting]);
    node.wait_for("(admin, http)");
    for _ in 0..3 {
        let mut successor = Process::run(&config, &["--data-dir", &data, "--set", &setting]);
        successor.wait_for("(admin, http)");
        let pid = json!(successor.id());
        let look = async || (send(admin, "GET", "/", ("", "")).await.1["pids"]["master"] == pid).then_some(());
        until_some("the successor to answer", look).await.unwrap();
        node.wait_for("stopped: all requests ended");
        assert!(node.ends().success());
        node = successor;
    }
}
