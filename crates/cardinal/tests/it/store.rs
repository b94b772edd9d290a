//! `cardinal store`: export and import, copies, and their errors.

use cardinal_testkit::{EchoServer, TempDir};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::admin::Node;
use crate::history::{on_store, text};
use crate::process::{Process, cardinal, output, stdout};

const ALL: &str = "
_format_version: '3.0'
services:
- name: orders
  url: http://127.0.0.1:9/base
  tags: [team-a]
  retries: 2
  routes:
  - name: r
    paths: [/orders, '~/v[0-9]+$']
    methods: [GET]
    plugins:
    - name: rate-limiting
      config: {minute: 5, policy: local}
upstreams:
- name: up
  targets:
  - target: 10.0.0.1:80
    weight: 50
consumer_groups:
- name: gold
consumers:
- username: anna
  custom_id: 'yes'
  groups:
  - name: gold
  keyauth_credentials:
  - key: annas-key
  basicauth_credentials:
  - {username: anna, password: pass-of-anna}
  acls:
  - group: staff
plugins:
- name: key-auth
  route: r
- name: cors
  config: {origins: ['*']}
vaults:
- name: env
  prefix: my-env
  config: {prefix: KONG_}
";

fn error(output: &std::process::Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_exported_can_be_imported() {
    let (first, second) = (TempDir::new("store"), TempDir::new("store"));
    let file = first.write("kong.yaml", ALL).display().to_string();
    let planned = on_store(&first, &["store", "import", &file, "--dry-run"]);
    assert!(error(&planned).contains("there is no store in"), "a trial creates no store");
    let done = text(&first, &["store", "import", &file]);
    assert!(done.contains("+ routes r\n") && done.contains("14 added; the store is at revision 1\n"), "{done}");
    assert!(text(&first, &["store", "import", &file]).contains("nothing differs; the store is at revision 1\n"));

    let exported = text(&first, &["store", "export"]);
    let copy = second.write("copy.yaml", &exported).display().to_string();
    stdout(&["check", "--strict", &copy]);
    text(&second, &["store", "import", &copy]);
    assert_eq!(text(&second, &["store", "export"]), exported);
    // The password stays hashed once, so that the second import changes nothing either.
    assert!(exported.contains("_transform: false") && !exported.contains("pass-of-anna"), "{exported}");
    assert!(text(&first, &["store", "import", &copy]).contains("nothing differs"));

    let more = first.write("more.yaml", "_format_version: '3.0'\nservices: [{name: orders, host: new.test}]\n");
    let more = more.display().to_string();
    let done = text(&first, &["store", "import", "--merge", &more]);
    assert!(
        done.contains("~ services orders: host") && done.contains("1 changed; the store is at revision 2"),
        "{done}"
    );
    let done = text(&first, &["store", "import", &more]);
    assert!(done.contains("- routes r\n") && done.contains("13 removed; the store is at revision 3"), "{done}");
    text(&first, &["rollback", "1"]);
    assert_eq!(text(&first, &["store", "export"]), exported);

    let status: Value = serde_json::from_str(&text(&first, &["store", "status", "--output", "json"])).unwrap();
    assert_eq!(
        (&status["engine"], &status["revision"], &status["kinds"]["plugins"]),
        (&json!("sqlite"), &json!(4), &json!(3))
    );
    let lines = text(&first, &["store", "export", "--format", "json-lines"]);
    assert_eq!(lines.lines().count(), 14);
    let target = first.path().join("out.yaml").display().to_string();
    text(&first, &["store", "export", "--out", &target]);
    assert_eq!(first.read("out.yaml"), exported);
}

/// An entity of the Admin API keeps its id and its children when a file names it.
#[tokio::test]
async fn an_import_takes_the_ids_of_the_store() {
    let (data, echo) = (TempDir::new("store"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    let (_, service) = node.send("POST", "/services", json!({"name": "s", "host": "other.test"})).await;
    let (_, route) = node.send("POST", "/services/s/routes", json!({"name": "r", "paths": ["/a"]})).await;
    let url = echo.url();
    let file =
        format!("_format_version: '3.0'\nservices: [{{name: s, url: '{url}', routes: [{{name: r, paths: [/b]}}]}}]\n");
    let file = data.write("kong.yaml", &file).display().to_string();
    let done = text(&data, &["store", "import", &file]);
    assert!(done.contains("2 changed; the store is at revision 3"), "{done}");
    node.serves("/b", "", 200).await;
    let (_, after) = node.send("GET", "/routes/r", Value::Null).await;
    assert_eq!(
        (&after["id"], &after["service"]["id"], &after["created_at"]),
        (&route["id"], &service["id"], &route["created_at"])
    );
    node.stop().await;
}

#[tokio::test]
async fn a_copy_can_be_restored() {
    let (data, echo) = (TempDir::new("store"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    let service = json!({"name": "s", "url": echo.url()});
    assert_eq!(node.send("POST", "/services", service).await.0, 201);
    assert_eq!(node.send("POST", "/services/s/routes", json!({"name": "r", "paths": ["/a"]})).await.0, 201);
    assert_eq!(node.send("PUT", "/consumers/anna", json!({})).await.0, 200);
    assert_eq!(node.send("POST", "/consumers/anna/key-auth", json!({"key": "secret-of-anna"})).await.0, 201);
    let copy = data.path().join("copy.db").display().to_string();
    assert!(text(&data, &["store", "backup", &copy]).starts_with("copied the store at revision 4 to "));
    assert!(error(&on_store(&data, &["store", "backup", &copy])).contains("exists"));
    assert_eq!(node.send("DELETE", "/routes/r", Value::Null).await.0, 204);
    node.serves("/a", "", 404).await;
    assert!(error(&on_store(&data, &["store", "restore", &copy])).contains("stop it first, or restore with --force"));
    node.stop().await;

    assert!(text(&data, &["store", "restore", &copy]).contains("at revision 4\n"));
    let node = Node::start(&data, &[]);
    assert_eq!(node.proxied("/a", "").await, 200);
    assert_eq!(node.send("GET", "/key-auths", Value::Null).await.1["data"][0]["key"], "secret-of-anna");
    node.stop().await;

    let damaged = data.write("damaged.db", "no database").display().to_string();
    assert!(error(&on_store(&data, &["store", "restore", &damaged])).contains("is not restored"));
    // Its secrets cannot be read without a key, or with that of another directory.
    let other = TempDir::new("store");
    assert!(error(&on_store(&other, &["store", "restore", &copy])).contains("copy the key of the store"));
    text(&other, &["store", "migrate"]);
    let before = std::fs::read_dir(other.path()).unwrap().count();
    assert!(error(&on_store(&other, &["store", "restore", &copy])).contains("is not restored"));
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), before, "no draft is left");
    assert_eq!(text(&other, &["store", "status"]).lines().nth(3), Some("revision         0"));
    assert_eq!(text(&data, &["store", "status"]).lines().nth(3), Some("revision         4"));
}

#[test]
fn other_stores_have_other_tools() {
    let copy = ["store", "backup", "x.db", "--set", "database=postgres", "--data-dir", "/nonexistent"];
    assert!(error(&output(&copy)).contains("pg_dump"));
    let off = ["history", "--set", "database=off", "--data-dir", "/nonexistent"];
    assert!(error(&output(&off)).contains("there is no store"));
}

/// Without its files, a node does not take the place of itself with nothing to serve.
#[tokio::test]
async fn a_node_that_served_files_does_not_start_without_them() {
    let (data, echo) = (TempDir::new("store"), EchoServer::start("backend").await);
    let file = data.write("kong.yaml", crate::kong_yaml(&echo.url()));
    let dir = data.path().display().to_string();
    let mut node = Process::run(&file, &["--data-dir", &dir]);
    node.address();
    node.signal(Signal::TERM);
    assert!(node.ends().success());
    let mut command = cardinal();
    command.args(["run", "--data-dir", &dir, "--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=off"]);
    let mut node = Process::start(command);
    let said = node.wait_for("not started");
    for part in ["--config", "store import", "--new-store"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(node.ends().code(), Some(1));
    text(&data, &["store", "import", &file.display().to_string()]);
    let node = Node::start(&data, &[]);
    assert_eq!(node.proxied("/open", "").await, 200, "with what was imported");
    node.stop().await;
    let other = TempDir::new("store");
    std::fs::copy(data.path().join("last-good.bin"), other.path().join("last-good.bin")).unwrap();
    let node = Node::start(&other, &["--new-store"]);
    assert_eq!(node.proxied("/open", "").await, 404);
    node.stop().await;
}

/// Files whose aliases multiply are refused in no time, by the API of nodes with files as well.
#[tokio::test]
async fn aliases_that_multiply_are_refused() {
    let mut bomb = String::from("_format_version: '3.0'\n_info: {a0: &a0 [x, x, x, x, x, x, x, x, x, x]");
    for n in 1..12 {
        let below = format!("*a{}", n - 1);
        bomb += &format!(", a{n}: &a{n} [{}]", [below.as_str(); 10].join(", "));
    }
    bomb.push_str("}\n");
    let data = TempDir::new("store");
    let file = data.write("bomb.yaml", &bomb).display().to_string();
    let refused = error(&on_store(&data, &["store", "import", &file]));
    assert!(refused.contains("alias"), "{refused}");
    let node = Node::start(&data, &["--set", "database=off"]);
    let (status, answer) = node.send("POST", "/config", json!({"config": bomb})).await;
    assert!(status == 400 && answer.to_string().contains("alias"), "{status} {answer}");
    node.stop().await;
}
