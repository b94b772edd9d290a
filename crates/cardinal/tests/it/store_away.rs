//! A node whose database is away: it starts with what it served last, and goes on with the database once that is back.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use cardinal_testkit::{EchoServer, H1Client, PostgresServer, TempDir, until_some};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Process, cardinal};

/// A node with a database, and where it listens.
pub(crate) struct Node {
    pub(crate) process: Process,
    proxy: SocketAddr,
    admin: SocketAddr,
    pub(crate) status: SocketAddr,
}

fn command(data: &TempDir, settings: &[&str]) -> std::process::Command {
    let mut command = cardinal();
    command.args(["run", "--workers", "1", "--access-log", "off", "--data-dir"]).arg(data.path());
    for setting in ["proxy_listen=127.0.0.1:0", "status_listen=127.0.0.1:0", "admin_listen=127.0.0.1:0"] {
        command.args(["--set", setting]);
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
    command
}

impl Node {
    pub(crate) fn start(data: &TempDir, settings: &[&str]) -> Self {
        Self::start_by(command(data, settings))
    }

    /// Starts a node by a command.
    pub(crate) fn start_by(command: std::process::Command) -> Self {
        let mut process = Process::start(command);
        let lines = [(); 3].map(|()| process.wait_for("listening on "));
        let address = |kind: &str| {
            let line = lines.iter().find(|line| line.contains(kind)).unwrap();
            line.split_whitespace().nth(2).unwrap().parse().unwrap()
        };
        let [proxy, admin, status] = ["(proxy", "(admin", "(status"].map(address);
        Self { process, proxy, admin, status }
    }

    async fn proxied(&self, path: &str) -> u16 {
        self.get(path, "").await
    }

    /// The status of a proxied request with this key, if there is one.
    pub(crate) async fn get(&self, path: &str, key: &str) -> u16 {
        let fields = [("apikey", key)];
        let fields = if key.is_empty() { &fields[..0] } else { &fields[..] };
        H1Client::connect(self.proxy).await.unwrap().get(path, "api.test", fields).await.unwrap().status
    }

    pub(crate) async fn serves(&self, path: &str, status: u16) {
        let look = async || (self.proxied(path).await == status).then_some(());
        until_some(&format!("{path} is answered with {status}"), look).await.unwrap();
    }

    pub(crate) async fn send(&self, method: &str, target: &str, body: Value) -> (u16, Value) {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let fields = [("Content-Type", "application/json")];
        let mut client = H1Client::connect(self.admin).await.unwrap();
        let response = client.request(method, target, "localhost", &fields, text.as_bytes()).await.unwrap();
        (response.status, serde_json::from_slice(&response.body).unwrap_or(Value::Null))
    }

    pub(crate) async fn add_route(&self, name: &str, url: &str) {
        let (status, told) = self.send("PUT", "/services/s", json!({"url": url})).await;
        assert_eq!(status, 200, "{told}");
        let route = json!({"name": name, "paths": [format!("/{name}")], "service": {"name": "s"}});
        let (status, told) = self.send("POST", "/routes", route).await;
        assert_eq!(status, 201, "{told}");
        self.serves(&format!("/{name}"), 200).await;
    }

    /// A page of the status listener.
    async fn page(&self, path: &str) -> (u16, String) {
        let mut client = H1Client::connect(self.status).await.unwrap();
        let response = client.get(path, "localhost", &[]).await.unwrap();
        (response.status, String::from_utf8_lossy(&response.body).into_owned())
    }

    pub(crate) async fn metric(&self, name: &str) -> String {
        let (_, text) = self.page("/metrics").await;
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        line.unwrap_or_else(|| panic!("no {name}")).rsplit(' ').next().unwrap().to_owned()
    }

    /// What the node says of itself while its database is away.
    async fn is_without_database(&self, why: &str) {
        let (status, told) = self.page("/status/ready").await;
        assert!(status == 200 && told.contains("warning") && told.contains(why), "{status} {told}");
        for (name, value) in [("cardinal_config_from_last_good", "1"), ("cardinal_config_source_available", "0")] {
            assert_eq!(self.metric(name).await, value, "{name}");
        }
        for (method, target) in [("GET", "/services"), ("GET", "/services/s"), ("PUT", "/services/s")] {
            let body = if method == "PUT" { json!({"host": "a.test"}) } else { Value::Null };
            let (status, told) = self.send(method, target, body).await;
            let message = told["message"].as_str().unwrap_or_default();
            assert!(
                status == 503 && message.contains("the store is unavailable"),
                "{method} {target}: {status} {told}"
            );
            assert!(message.contains(why), "{told}");
        }
    }

    async fn is_with_database(&self) {
        let look = async || (!self.page("/status/ready").await.1.contains("warning")).then_some(());
        until_some("the node is ready without a warning", look).await.unwrap();
        assert_eq!(self.metric("cardinal_config_from_last_good").await, "0");
        assert_eq!(self.metric("cardinal_config_source_available").await, "1");
    }

    pub(crate) fn stop(mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.ends().code(), Some(0));
    }
}

/// The reason that a node does not start.
pub(crate) fn not_started(data: &TempDir, settings: &[&str]) -> String {
    let mut process = Process::start(command(data, settings));
    let said = process.wait_for("not started");
    assert_eq!(process.ends().code(), Some(1));
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_while_postgresql_is_away() {
    let Some(mut server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    for database in ["away", "other"] {
        server.execute("postgres", &format!("CREATE DATABASE {database}"));
    }
    let port = format!("pg_port={}", server.port());
    let settings = ["database=postgres", "pg_user=cardinal", &port, "pg_database=away"];
    let (data, echo) = (TempDir::new("away"), EchoServer::start("backend").await);
    let node = Node::start(&data, &settings);
    node.add_route("first", &echo.url()).await;
    let consumer = node.send("PUT", "/consumers/anna", json!({})).await;
    assert_eq!(consumer.0, 200);
    let look = async || (node.metric("cardinal_store_revision_served").await == "3").then_some(());
    until_some("the consumer is served", look).await.unwrap();
    node.stop();
    // Apart from what files are saved as, and as closed to others.
    let saved = data.path().join("last-good-store.bin");
    assert_eq!(std::fs::metadata(&saved).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!data.path().join("last-good.bin").exists());

    server.stop();
    let mut node = Node::start(&data, &settings);
    let said = node.process.seen().join("\n");
    assert!(said.contains("the database cannot be read: cannot connect to cardinal@127.0.0.1"), "{said}");
    assert!(said.contains("serving the last known good configuration: revision 3 of the database, saved "), "{said}");
    assert_eq!((node.proxied("/first").await, node.proxied("/second").await), (200, 404));
    node.is_without_database("Connection refused").await;
    // What was served without the database stays the last known good configuration.
    node.process.signal(Signal::KILL);
    node.process.ends();
    let node = Node::start(&data, &settings);
    assert_eq!(node.proxied("/first").await, 200);

    server.run();
    let look = async || (node.send("GET", "/services/s", Value::Null).await.0 == 200).then_some(());
    until_some("the API", look).await.unwrap();
    node.add_route("second", &echo.url()).await;
    node.is_with_database().await;
    assert_eq!(node.metric("cardinal_store_revision_served").await, "5");
    // A crash of the database changes nothing, neither then nor for what is written afterwards.
    server.stop();
    assert_eq!(node.proxied("/second").await, 200);
    server.run();
    let look = async || (node.send("GET", "/services/s", Value::Null).await.0 == 200).then_some(());
    until_some("the API", look).await.unwrap();
    node.add_route("third", &echo.url()).await;
    node.stop();

    // What is wrong with the settings is told, and what was served is served.
    server.execute("postgres", "ALTER DATABASE away RENAME TO gone");
    let node = Node::start(&data, &settings);
    assert_eq!(node.proxied("/third").await, 200);
    node.is_without_database("does not exist (3D000)").await;
    server.execute("postgres", "ALTER DATABASE gone RENAME TO away");
    node.is_with_database().await;
    node.stop();
    let edit = "UPDATE store_schema SET version = version + 100";
    server.execute("away", edit);
    let node = Node::start(&data, &settings);
    assert_eq!(node.proxied("/third").await, 200);
    node.is_without_database("use a newer program").await;
    server.execute("away", &edit.replace('+', "-"));
    node.is_with_database().await;
    node.stop();

    // The first start, and one with another kind of database, has nothing to serve.
    let settings = ["database=postgres", "pg_user=cardinal", &port, "pg_database=missing"];
    let said = not_started(&TempDir::new("first"), &settings);
    assert!(said.contains("database \"missing\" does not exist"), "{said}");
    server.stop();
    let said = not_started(&TempDir::new("first"), &settings);
    assert!(said.contains("Connection refused"), "{said}");
    std::fs::write(&saved, "damaged").unwrap();
    let said = not_started(&data, &settings);
    assert!(said.contains("the last known good configuration cannot be served either"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_while_its_file_cannot_be_opened() {
    let (data, echo) = (TempDir::new("away"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    node.add_route("first", &echo.url()).await;
    node.stop();
    let file = data.path().join("store.db");
    let good = std::fs::read(&file).unwrap();
    data.write("store.db", "no database");
    let other = ["database=postgres", "pg_host=127.0.0.1", "pg_port=1"];
    let said = not_started(&data, &other);
    assert!(said.contains("Connection refused"), "what SQLite had is not served in place of PostgreSQL: {said}");

    let mut node = Node::start(&data, &[]);
    assert!(node.process.seen().iter().any(|line| line.contains("serving the last known good configuration")));
    assert_eq!(node.proxied("/first").await, 200);
    node.is_without_database("store.db").await;
    std::fs::write(&file, good).unwrap();
    node.process.wait_for("the database is open");
    node.process.wait_for("of the database is served");
    node.is_with_database().await;
    node.add_route("second", &echo.url()).await;
    node.stop();
    let node = Node::start(&data, &[]);
    assert_eq!((node.proxied("/first").await, node.proxied("/second").await), (200, 200));
    node.stop();
}
