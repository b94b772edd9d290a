//! Files that the Admin API writes to: `cardinal run --writable`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cardinal_testkit::{EchoServer, H1Client, TempDir};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::process::{Process, cardinal, output};

struct Node {
    process: Process,
    proxy: SocketAddr,
    admin: SocketAddr,
}

impl Node {
    fn start(files: &[&Path], more: &[&str]) -> Self {
        let mut command = cardinal();
        command.args(["run", "--writable", "--workers", "1", "--access-log", "off"]);
        command.args(["--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=off"]);
        command.args(["--set", "admin_listen=127.0.0.1:0"]).args(more);
        for file in files {
            command.arg("--config").arg(file);
        }
        let mut process = Process::start(command);
        let (proxy, admin) = process.addresses();
        Self { process, proxy, admin }
    }

    async fn send(&self, method: &str, target: &str, body: Value) -> (u16, Value) {
        send(self.admin, method, target, &body).await.expect("the API answers")
    }

    /// Sends a write that must succeed.
    async fn write(&self, method: &str, target: &str, body: Value) -> Value {
        let (status, answer) = self.send(method, target, body).await;
        assert!((200..300).contains(&status), "{method} {target}: {status} {answer}");
        answer
    }

    async fn get(&self, target: &str) -> Value {
        self.send("GET", target, Value::Null).await.1
    }

    async fn proxied(&self, path: &str) -> u16 {
        let mut client = H1Client::connect(self.proxy).await.unwrap();
        client.get(path, "api.test", &[]).await.unwrap().status
    }

    async fn stop(mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.ends().code(), Some(0));
    }
}

async fn send(to: SocketAddr, method: &str, target: &str, body: &Value) -> Option<(u16, Value)> {
    let (text, fields) = (body.to_string(), [("Content-Type", "application/json")]);
    let (fields, text) = if body.is_null() { (&fields[..0], "") } else { (&fields[..], text.as_str()) };
    let mut client = H1Client::connect(to).await.ok()?;
    let response = client.request(method, target, "localhost", fields, text.as_bytes()).await.ok()?;
    Some((response.status, serde_json::from_slice(&response.body).unwrap_or(Value::Null)))
}

fn file(folder: &TempDir, backend: &str) -> (PathBuf, String) {
    let text = format!(
        "# The gateway of the shop.
_format_version: \"3.0\"

services:
# Orders: team A.
- name: orders   # keep the name
  url: {backend}
  tags: [shop, 'a']
  routes:
  - name: list
    paths:
    - /orders   # the list
    # Limits of the list.
    plugins:
    - name: rate-limiting
      config:
        minute: 500     # per client
        policy: local

consumers:
- username: ann
"
    );
    (folder.write("kong.yaml", &text), text)
}

/// Lines that are in one text and not in the other.
fn lines(text: &str, other: &str) -> Vec<String> {
    let other: Vec<&str> = other.lines().collect();
    text.lines().filter(|line| !other.contains(line)).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_change_is_live_and_an_edit_of_its_lines() {
    let (folder, echo) = (TempDir::new("writable"), EchoServer::start("backend").await);
    let (path, text) = file(&folder, &echo.url());
    let mut node = Node::start(&[&path], &[]);
    assert_eq!(node.get("/").await["configuration"]["database"], "postgres");
    let read = || fs::read_to_string(&path).unwrap();

    node.write("PATCH", "/routes/list", json!({ "paths": ["/bills"] })).await;
    assert_eq!((node.proxied("/bills").await, node.proxied("/orders").await), (200, 404));
    assert_eq!(read(), text.replace("- /orders   #", "- /bills   #"));

    node.write("PATCH", "/routes/list", json!({ "paths": ["/orders"] })).await;
    assert_eq!(read(), text, "what was undone leaves no trace");

    // A new entity has the id of its name, which need not be written.
    let made = node.write("POST", "/services/orders/routes", json!({ "name": "pay", "paths": ["/pay"] })).await;
    assert_eq!(node.proxied("/pay").await, 200);
    assert_eq!(lines(&read(), &text), ["  - name: pay", "    - /pay"]);
    assert_eq!(lines(&text, &read()), Vec::<String>::new());
    let shown = node.get("/routes/pay").await;
    assert_eq!(shown, made, "with the times of the change");

    // A client that chooses the id, as decK does.
    let id = "8f1e9d2c-0000-4000-8000-000000000001";
    node.write("PUT", &format!("/consumers/{id}"), json!({ "username": "bob" })).await;
    assert!(read().ends_with(&format!("consumers:\n- username: ann\n- username: bob\n  id: {id}\n")), "{}", read());
    node.write("POST", "/consumers/ann/key-auth", json!({ "key": "k" })).await;
    node.write("POST", "/consumers/ann/basic-auth", json!({ "username": "ann", "password": "secret" })).await;
    // Nothing but its contents identifies a key, so that the id of its first day is kept.
    let key = node.get("/consumers/ann/key-auth").await["data"][0]["id"].as_str().unwrap().to_owned();
    let credentials = format!(
        "- username: ann\n  keyauth_credentials:\n  - key: k\n    id: {key}\n  basicauth_credentials:\n  - username: ann\n    \
         password: secret\n"
    );
    assert!(read().contains(&credentials), "{}", read());
    let hash = node.get("/consumers/ann/basic-auth").await["data"][0]["password"].clone();
    assert_ne!(hash, "secret");

    // None of these was read as a change that something else had made.
    let told = node.process.wait_for("generation 7: ");
    assert!(told.contains("changed by the Admin API"), "{told}");
    let before = read();
    folder.write("kong.yaml", before.replace("- /pay", "- /paid"));
    let told = node.process.wait_for("generation 8: ");
    assert!(!told.contains("Admin API"), "{told}");
    assert_eq!(node.proxied("/paid").await, 200);
    let ids = node.get("/routes").await;
    node.stop().await;

    let node = Node::start(&[&path], &[]);
    assert_eq!(node.proxied("/paid").await, 200);
    let id_of = |routes: &Value| routes["data"].as_array().unwrap().iter().map(|r| r["id"].clone()).collect::<Vec<_>>();
    assert_eq!(id_of(&node.get("/routes").await), id_of(&ids));
    node.write("DELETE", "/routes/pay", Value::Null).await;
    node.write("DELETE", "/routes/list", Value::Null).await;
    node.write("DELETE", "/services/orders", Value::Null).await;
    let left = read();
    assert!(left.starts_with("# The gateway of the shop.\n_format_version: \"3.0\"\n\nservices: []\n"), "{left}");
    assert!(!left.contains("Limits") && !left.contains("team A"), "{left}");
    node.stop().await;
}

#[tokio::test]
async fn changes_of_others_are_never_lost() {
    let (folder, echo) = (TempDir::new("writable"), EchoServer::start("backend").await);
    let (path, text) = file(&folder, &echo.url());
    let mut node = Node::start(&[&path], &[]);
    // An editor saves, and a client writes before the change is noticed.
    folder.write("kong.yaml", text.replace("500", "600"));
    node.write("POST", "/consumers", json!({ "username": "eve" })).await;
    let now = fs::read_to_string(&path).unwrap();
    assert_eq!(now, format!("{}- username: eve\n", text.replace("500", "600")));
    assert_eq!(node.get("/plugins").await["data"][0]["config"]["minute"], 600);

    // A file that cannot be read is not written over.
    let broken = now.replace("services:", "servces:");
    folder.write("kong.yaml", &broken);
    let (status, fault) = node.send("POST", "/consumers", json!({ "username": "max" })).await;
    let message = fault["message"].as_str().unwrap();
    assert_eq!(status, 409, "{fault}");
    assert!(message.contains("servces") && message.contains("cannot be loaded"), "{message}");
    assert_eq!(fs::read_to_string(&path).unwrap(), broken);
    assert_eq!(node.proxied("/orders").await, 200, "what was served before still is");
    folder.write("kong.yaml", &now);
    node.write("POST", "/consumers", json!({ "username": "max" })).await;
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{now}- username: max\n"));

    // What is refused changes nothing.
    let (status, _) = node.send("POST", "/consumers", json!({ "username": "max" })).await;
    assert_eq!(status, 409);
    let (status, _) = node.send("DELETE", "/services/orders", Value::Null).await;
    assert_eq!(status, 400);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{now}- username: max\n"));
    node.process.signal(Signal::TERM);
    node.process.ends();
}

#[tokio::test]
async fn a_file_that_cannot_be_written_refuses_changes() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, echo) = (TempDir::new("writable"), EchoServer::start("backend").await);
    let (path, text) = file(&folder, &echo.url());
    let node = Node::start(&[&path], &[]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let (status, fault) = node.send("PATCH", "/routes/list", json!({ "paths": ["/bills"] })).await;
    let message = fault["message"].as_str().unwrap();
    assert!(status == 500 && message.contains("kong.yaml") && message.contains("read-only"), "{status} {message}");
    assert_eq!((node.proxied("/bills").await, node.proxied("/orders").await), (404, 200));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    node.write("PATCH", "/routes/list", json!({ "paths": ["/bills"] })).await;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    node.stop().await;
}

#[tokio::test]
async fn values_of_the_environment_and_anchors_stay() {
    let folder = TempDir::new("writable");
    let text = "_format_version: '3.0'
services:
- name: a
  host: ${{ env \"DECK_HOST\" }}
  tags: &t [x]
- name: b
  host: b.test
  tags: *t
";
    let path = folder.write("kong.yaml", text);
    let mut command = cardinal();
    command.args(["run", "--writable", "--fill-env", "--access-log", "off", "--set", "proxy_listen=127.0.0.1:0"]);
    command.args(["--set", "status_listen=off", "--set", "admin_listen=127.0.0.1:0", "--config"]).arg(&path);
    command.env("DECK_HOST", "filled.test");
    let mut process = Process::start(command);
    let (proxy, admin) = process.addresses();
    let node = Node { process, proxy, admin };
    assert_eq!(node.get("/services/a").await["host"], "filled.test");
    let (status, fault) = node.send("PATCH", "/services/a", json!({ "host": "new.test" })).await;
    let message = fault["message"].as_str().unwrap();
    assert!(status == 409 && message.contains("kong.yaml:4: ") && message.contains("environment"), "{message}");
    let (status, fault) = node.send("PATCH", "/services/a", json!({ "tags": ["z"] })).await;
    assert!(status == 409 && fault["message"].as_str().unwrap().contains("anchor"), "{fault}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    node.write("PATCH", "/services/a", json!({ "port": 81 })).await;
    node.write("PATCH", "/services/b", json!({ "tags": ["z"] })).await;
    let expected = text.replace("&t [x]\n", "&t [x]\n  port: 81\n").replace("tags: *t", "tags: ['z']");
    let now = fs::read_to_string(&path).unwrap();
    assert_eq!(now.replace("tags: [z]", "tags: ['z']"), expected);
    node.stop().await;
}

#[tokio::test]
async fn batches_are_written_as_one() {
    let folder = TempDir::new("writable");
    let first = folder.write("a.json", "{\n  \"_format_version\": \"3.0\",\n  \"services\": [\n    {\n      \"name\": \"a\",\n      \"host\": \"a.test\"\n    }\n  ]\n}\n");
    let second = folder.write("b.yaml", "_format_version: '3.0'\nupstreams:\n- name: up # one\n");
    let node = Node::start(&[&first, &second], &[]);
    let writes = json!([
        { "method": "patch", "kind": "services", "key": "a", "body": { "port": 81 } },
        { "method": "post", "kind": "targets", "body": { "target": "10.0.0.1:80", "upstream": { "name": "up" } } },
        { "method": "put", "kind": "services", "key": "b", "body": { "host": "b.test" } },
        { "method": "post", "kind": "routes", "body": { "name": "r", "paths": ["/r"], "service": { "name": "b" } } },
    ]);
    node.write("POST", "/cardinal/v1/batch", writes).await;
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    assert!(read(&first).contains("\"port\": 81"), "{}", read(&first));
    let both: Value = serde_json::from_str(&read(&first)).expect("it is JSON");
    assert_eq!(both["services"][1]["name"], "b");
    assert_eq!(both["services"][1]["routes"][0]["name"], "r");
    assert_eq!(
        read(&second),
        "_format_version: '3.0'\nupstreams:\n- name: up # one\n  targets:\n  - target: 10.0.0.1:80\n"
    );
    let writes = json!([
        { "method": "patch", "kind": "services", "key": "a", "body": { "port": 82 } },
        { "method": "patch", "kind": "services", "key": "none", "body": { "port": 82 } },
    ]);
    let (status, _) = node.send("POST", "/cardinal/v1/batch", writes).await;
    assert_eq!(status, 404);
    assert!(read(&first).contains("\"port\": 81"), "nothing of a batch is written if one write fails");
    node.stop().await;
}

#[tokio::test]
async fn concurrent_writers_do_not_lose_changes() {
    const WRITERS: usize = 8;
    const EACH: usize = 5;
    let (folder, echo) = (TempDir::new("writable"), EchoServer::start("backend").await);
    let (path, text) = file(&folder, &echo.url());
    let node = Node::start(&[&path], &[]);
    let admin = node.admin;
    let writer = |writer: usize| async move {
        for at in 0..EACH {
            let name = format!("w{writer}-{at}");
            let made = send(admin, "POST", "/services", &json!({ "name": name, "host": "h.test" })).await.unwrap();
            assert_eq!(made.0, 201, "{}", made.1);
            let patched =
                send(admin, "PATCH", &format!("/services/{name}"), &json!({ "port": 90 + at })).await.unwrap();
            assert_eq!(patched.0, 200, "{}", patched.1);
        }
    };
    let mut tasks = JoinSet::new();
    (0..WRITERS).for_each(|at| drop(tasks.spawn(writer(at))));
    tasks.join_all().await;
    let now = fs::read_to_string(&path).unwrap();
    assert_eq!(lines(&text, &now), Vec::<String>::new());
    for writer in 0..WRITERS {
        for at in 0..EACH {
            let entity = format!("- name: w{writer}-{at}\n  host: h.test\n  port: {}\n", 90 + at);
            assert!(now.contains(&entity), "{entity}\n{now}");
        }
    }
    node.stop().await;
    let checked = output(&["check", path.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[tokio::test]
async fn a_killed_process_leaves_a_whole_file() {
    let (folder, echo) = (TempDir::new("writable"), EchoServer::start("backend").await);
    let (path, text) = file(&folder, &echo.url());
    let mut done: Vec<String> = Vec::new();
    for round in 0..6 {
        let node = Node::start(&[&path], &[]);
        let admin = node.admin;
        let (told, mut written) = tokio::sync::mpsc::channel(64);
        let mut writer = JoinSet::new();
        writer.spawn(async move {
            for at in 0..1_000 {
                let name = format!("r{round}-{at}");
                match send(admin, "POST", "/consumers", &json!({ "username": name })).await {
                    Some((201, _)) => drop(told.send(name).await),
                    _ => return,
                }
            }
        });
        // The process is killed while the next one is being written.
        for _ in 0..=round {
            done.push(written.recv().await.expect("a write succeeds"));
        }
        node.process.signal(Signal::KILL);
        writer.join_all().await;
        while let Some(name) = written.recv().await {
            done.push(name);
        }
        let now = fs::read_to_string(&path).unwrap();
        assert!(now.starts_with(&text) && now.ends_with('\n'), "{now}");
        for name in &done {
            assert!(now.contains(&format!("- username: {name}\n")), "{name} was acknowledged\n{now}");
        }
        let checked = output(&["check", path.to_str().unwrap()]);
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}

#[test]
fn what_cannot_be_written_is_refused_at_the_start() {
    let folder = TempDir::new("writable");
    let old = folder.write("old.yaml", "_format_version: '1.1'\nservices: []\n");
    let new = folder.write("new.yaml", "_format_version: '3.0'\n");
    let refused = |args: &[&str], part: &str| {
        let mut command = cardinal();
        command.args(["run", "--writable", "--set", "proxy_listen=off"]).args(args);
        let mut process = Process::start(command);
        let line = process.wait_for("not started: ");
        assert!(line.contains(part), "{line}");
        assert_eq!(process.ends().code(), Some(1));
    };
    let api = ["--set", "admin_listen=127.0.0.1:0"];
    refused(&[&api[..], &["--config", old.to_str().unwrap()]].concat(), "format 1.1");
    refused(&[&api[..], &["--config", "/dev/stdin"]].concat(), "<stdin> cannot be written back to");
    refused(&[&api[..], &["--set", "database=off"]].concat(), "needs files");
    refused(&["--config", new.to_str().unwrap()], "admin_listen");
}
