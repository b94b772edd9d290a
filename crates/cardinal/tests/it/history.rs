//! The change log by the binary: history, comparisons, rollbacks while a node serves, verification.

use std::process::Output;

use cardinal_testkit::{EchoServer, TempDir};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use crate::admin::Node;
use crate::process::output;

/// Runs a command on the store in a directory.
pub(crate) fn on_store(data: &TempDir, args: &[&str]) -> Output {
    let dir = data.path().display().to_string();
    output(&[args, &["--data-dir", &dir]].concat())
}

/// Standard output of a command that must succeed.
pub(crate) fn text(data: &TempDir, args: &[&str]) -> String {
    let output = on_store(data, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{args:?}: {}\n{}", output.status, text(&output.stderr));
    text(&output.stdout)
}

fn value(data: &TempDir, args: &[&str]) -> Value {
    serde_json::from_str(&text(data, &[args, &["--output", "json"]].concat())).unwrap()
}

/// A service with a route and a key, each in a revision of its own: 5 revisions.
async fn orders(node: &Node, echo: &EchoServer) {
    let service = json!({"name": "orders", "url": echo.url()});
    assert_eq!(node.send("POST", "/services", service).await.0, 201);
    assert_eq!(node.send("POST", "/services/orders/routes", json!({"name": "r", "paths": ["/orders"]})).await.0, 201);
    assert_eq!(node.send("PUT", "/consumers/anna", json!({})).await.0, 200);
    assert_eq!(node.send("POST", "/consumers/anna/key-auth", json!({"key": "secret-of-anna"})).await.0, 201);
    assert_eq!(node.send("POST", "/routes/r/plugins", json!({"name": "key-auth"})).await.0, 201);
}

#[tokio::test]
async fn a_rollback_by_command_is_live_at_once() {
    let (data, echo) = (TempDir::new("history"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    orders(&node, &echo).await;
    node.serves("/orders", "", 401).await;
    assert_eq!(node.send("PATCH", "/routes/r", json!({"paths": ["/bills"]})).await.0, 200);
    assert_eq!(node.send("DELETE", "/consumers/anna", Value::Null).await.0, 204);
    node.serves("/bills", "secret-of-anna", 401).await;

    let trial = text(&data, &["rollback", "2", "--dry-run"]);
    assert!(trial.contains("- plugins key-auth\n~ routes r: paths\n2 entities would change"), "{trial}");
    assert_eq!(value(&data, &["history"])[0]["revision"], 7, "a trial writes nothing");
    assert!(text(&data, &["rollback", "2"]).contains("restored revision 2; the store is at revision 8"));
    node.serves("/orders", "", 200).await;
    assert_eq!(node.proxied("/bills", "").await, 404);
    assert!(text(&data, &["rollback", "2"]).contains("are those of revision 2 already"));

    // A rollback is a change like any other: it is undone by another one, with the deleted secret.
    text(&data, &["rollback", "5"]);
    node.serves("/orders", "", 401).await;
    node.serves("/orders", "secret-of-anna", 200).await;
    let failed = on_store(&data, &["rollback", "100"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("there is no revision 100 yet: the newest is 9"));
    node.stop().await;
}

#[tokio::test]
async fn history_says_who_changed_what() {
    let (data, echo) = (TempDir::new("history"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    orders(&node, &echo).await;
    assert_eq!(node.send("PATCH", "/routes/r", json!({"paths": ["/bills"]})).await.0, 200);
    assert_eq!(node.send("DELETE", "/consumers/anna", Value::Null).await.0, 204);

    let history = value(&data, &["history", "--limit", "2"]);
    assert_eq!(history[0]["kinds"], json!({"consumers": 1, "keyauth_credentials": 1}));
    // The hash of the newest revision is the one that is to be kept for later verification.
    assert_eq!(history[0]["hash"], value(&data, &["audit", "verify"])["hash"]);
    assert_ne!(history[0]["hash"], history[1]["hash"]);
    let shown = text(&data, &["show", "7"]);
    assert!(shown.contains(&format!("\nhash {}\n", history[0]["hash"].as_str().unwrap())), "{shown}");
    assert_eq!(history[0]["author"], json!({"name": "", "from": "127.0.0.1", "via": "admin-api"}));
    assert_eq!((&history[1]["revision"], history.as_array().unwrap().len()), (&json!(6), 2));
    assert!(text(&data, &["history", "--before", "3"]).contains("from 127.0.0.1 via admin-api  routes: 1\n"));

    let shown = text(&data, &["show", "6"]);
    assert!(shown.contains("routes r changed\n  - paths: [\"/orders\"]\n  + paths: [\"/bills\"]\n"), "{shown}");
    let created = text(&data, &["show", "4"]);
    assert!(created.contains("+ key: \"***\"") && !created.contains("secret-of-anna"), "{created}");
    assert!(text(&data, &["show", "4", "--reveal"]).contains("+ key: \"secret-of-anna\""));
    let gone = value(&data, &["show", "7"]);
    assert_eq!(gone["entities"].as_array().unwrap().len(), 2);
    assert!(!gone.to_string().contains("secret-of-anna"));
    assert!(String::from_utf8_lossy(&on_store(&data, &["show", "70"]).stderr).contains("there is no revision 70"));

    let compared = text(&data, &["diff", "2", "6"]);
    assert!(
        compared.contains("r changed: matches other requests; plugin key-auth (of the route) added\n"),
        "{compared}"
    );
    let compared = value(&data, &["diff", "6"]);
    assert_eq!((&compared["to"], &compared["routes"]), (&json!(7), &json!([])));
    assert!(text(&data, &["diff", "3", "3"]).contains("nothing differs"));
    let question = ["GET", "http://a.test/orders", "--revision"];
    let explained = |revision: &str| text(&data, &[&["explain"], &question[..], &[revision]].concat());
    assert!(explained("5").contains("key-auth") && !explained("4").contains("key-auth"), "{}", explained("5"));
    node.stop().await;
}

#[tokio::test]
async fn the_same_is_an_api() {
    let (data, echo) = (TempDir::new("history"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    orders(&node, &echo).await;
    let (status, page) = node.send("GET", "/cardinal/v1/revisions?size=2", Value::Null).await;
    assert_eq!((status, &page["data"][1]["kinds"]), (200, &json!({"keyauth_credentials": 1})));
    assert_eq!(page["next"], "/cardinal/v1/revisions?before=4&size=2");
    let (_, shown) = node.send("GET", "/cardinal/v1/revisions/4", Value::Null).await;
    assert!(!shown.to_string().contains("secret-of-anna"), "{shown}");
    let (_, compared) = node.send("GET", "/cardinal/v1/revisions/4/diff/5", Value::Null).await;
    assert_eq!(compared["routes"][0]["plugins"], json!([{"name": "key-auth (of the route)", "action": "added"}]));
    node.serves("/orders", "", 401).await;
    let (status, done) = node.send("POST", "/cardinal/v1/revisions/4/rollback", Value::Null).await;
    assert_eq!((status, &done["revision"]), (200, &json!(6)));
    node.serves("/orders", "", 200).await;
    let writes = json!([
        {"method": "put", "kind": "services", "key": "bills", "body": {"url": echo.url()}},
        {"method": "post", "kind": "routes", "body": {"name": "b", "paths": ["/bills"], "service": {"name": "bills"}}},
        {"method": "patch", "kind": "routes", "key": "r", "body": {"paths": ["/old"]}},
        {"method": "delete", "kind": "consumers", "key": "anna"},
    ]);
    let (status, done) = node.send("POST", "/cardinal/v1/batch", writes).await;
    assert_eq!((status, &done["revision"], &done["entities"][3]), (200, &json!(7), &Value::Null), "{done}");
    node.serves("/bills", "", 200).await;
    assert_eq!(node.proxied("/orders", "").await, 404);
    assert_eq!(node.send("GET", "/cardinal/v1/revisions/70", Value::Null).await.0, 404);
    assert_eq!(node.send("GET", "/cardinal/v1/revisions/x", Value::Null).await.0, 404);
    assert_eq!(node.send("POST", "/cardinal/v1/revisions", json!({})).await.0, 405);
    node.stop().await;
}

#[tokio::test]
async fn a_tampered_entry_is_found() {
    let (data, echo) = (TempDir::new("history"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    orders(&node, &echo).await;
    let intact = "the change log is intact: 5 entries up to revision 5\n5 documents as it says\nhash ";
    assert!(text(&data, &["audit", "verify"]).starts_with(intact));
    node.stop().await;
    assert!(!data.path().join("store.db-wal").exists(), "the file is complete by itself");

    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(data.path().join("store.db"));
    let mut connection = options.connect().await.unwrap();
    connection.execute("UPDATE changes SET new_value = old_value WHERE revision = 3").await.unwrap();
    connection.close().await.unwrap();
    let found = on_store(&data, &["audit", "verify"]);
    let error = String::from_utf8_lossy(&found.stderr).into_owned();
    assert_eq!(found.status.code(), Some(1));
    assert!(error.contains("the change log is broken at revision 3, position 0: the hash does not match"), "{error}");
    let found = on_store(&data, &["audit", "verify", "--output", "json"]);
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!((&found["intact"], &found["revision"]), (&json!(false), &json!(3)));
}

#[tokio::test]
async fn a_tampered_entity_is_found() {
    let (data, echo) = (TempDir::new("history"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    orders(&node, &echo).await;
    node.stop().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(data.path().join("store.db"));
    let mut connection = options.connect().await.unwrap();
    let change = "UPDATE documents SET value = CAST(replace(CAST(value AS TEXT), '/orders', '/others') AS BLOB) WHERE \
                  kind = CAST('routes' AS BLOB)";
    connection.execute(change).await.unwrap();
    connection.close().await.unwrap();
    let found = on_store(&data, &["audit", "verify"]);
    let error = String::from_utf8_lossy(&found.stderr).into_owned();
    assert_eq!(found.status.code(), Some(1));
    assert!(error.contains("routes/") && error.contains("its content is not what was written"), "{error}");
    let found = on_store(&data, &["audit", "verify", "--output", "json"]);
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!((&found["intact"], &found["documents"][0]["kind"]), (&json!(false), &json!("routes")));
}
