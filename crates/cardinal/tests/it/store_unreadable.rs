//! Documents of the database that cannot be read: the others are served, and nothing is open that was restricted.

use cardinal_testkit::{EchoServer, PostgresServer, TempDir, until_some};
use serde_json::{Value, json};

use crate::history::text;
use crate::store_away::{Node, not_started};

/// A node with routes that want a key, an ACL group, or nothing.
async fn prepare(node: &Node, backend: &str) {
    let put = async |target: &str, body: Value| {
        let (status, told) = node.send("PUT", target, body).await;
        assert_eq!(status, 200, "{target}: {told}");
    };
    put("/services/s", json!({"url": backend})).await;
    for name in ["open", "private", "grouped", "limited"] {
        put(&format!("/routes/{name}"), json!({"paths": [format!("/{name}")], "service": {"name": "s"}})).await;
    }
    let plugin = |name: &str, config: Value| json!({"name": name, "config": config});
    let auth = "00000000-0000-4000-8000-00000000000";
    put(&format!("/routes/private/plugins/{auth}1"), plugin("key-auth", json!({}))).await;
    put(&format!("/routes/grouped/plugins/{auth}2"), plugin("key-auth", json!({}))).await;
    put(&format!("/routes/grouped/plugins/{auth}3"), plugin("acl", json!({"deny": ["blocked"]}))).await;
    put(&format!("/routes/limited/plugins/{auth}4"), plugin("key-auth", json!({}))).await;
    for name in ["anna", "bob"] {
        put(&format!("/consumers/{name}"), json!({})).await;
        let key = json!({"key": format!("key-of-{name}")});
        assert_eq!(node.send("POST", &format!("/consumers/{name}/key-auth"), key).await.0, 201);
    }
    assert_eq!(node.send("POST", "/consumers/bob/acls", json!({"group": "blocked"})).await.0, 201);
}

fn sets<'s>(settings: &[&'s str]) -> Vec<&'s str> {
    settings.iter().flat_map(|setting| ["--set", *setting]).collect()
}

/// The answers to requests of nobody, of anna and of bob.
async fn answers(node: &Node, path: &str) -> [u16; 3] {
    [node.get(path, "").await, node.get(path, "key-of-anna").await, node.get(path, "key-of-bob").await]
}

async fn answers_become(node: &Node, path: &str, expected: [u16; 3]) {
    let look = async || (answers(node, path).await == expected).then_some(());
    until_some(&format!("{path} is answered with {expected:?}"), look).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_documents_open_nothing() {
    let Some(server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    server.execute("postgres", "CREATE DATABASE damaged");
    let port = format!("pg_port={}", server.port());
    let settings = ["database=postgres", "pg_user=cardinal", &port, "pg_database=damaged"];
    let (data, echo) = (TempDir::new("damaged"), EchoServer::start("backend").await);
    let node = Node::start(&data, &settings);
    prepare(&node, &echo.url()).await;
    answers_become(&node, "/open", [200; 3]).await;
    answers_become(&node, "/private", [401, 200, 200]).await;
    answers_become(&node, "/grouped", [401, 200, 403]).await;
    node.stop();
    server.execute("damaged", "CREATE TABLE kept AS SELECT * FROM documents");

    // The values are damaged; what they reference is known.
    let plugin = |number: u8| format!("kind = 'plugins' AND id = '00000000-0000-4000-8000-00000000000{number}'");
    let damage = |what: &str| format!("UPDATE documents SET value = '{{\"name\":' WHERE {what}");
    server.execute("damaged", &damage(&plugin(1)));
    server.execute("damaged", &damage("kind = 'acls'"));
    // A newer program has written this one.
    let newer =
        "convert_to(replace(convert_from(value, 'UTF8'), '\"key_names\"', '\"newer\":1,\"key_names\"'), 'UTF8')";
    server.execute("damaged", &format!("UPDATE documents SET value = {newer} WHERE {}", plugin(4)));
    let node = Node::start(&data, &settings);
    assert!(node.process.seen().iter().any(|line| line.contains("left out: ") && line.contains("cannot be read")));
    assert_eq!(answers(&node, "/open").await, [200; 3]);
    assert_eq!(answers(&node, "/private").await, [503; 3]);
    assert_eq!(answers(&node, "/grouped").await, [401, 200, 401], "bob cannot authenticate without his group");
    let limited = answers(&node, "/limited").await;
    assert!(limited[0] != 200, "{limited:?}");
    let (_, listed) = node.send("GET", "/cardinal/v1/quarantine", Value::Null).await;
    let listed = listed.to_string();
    for part in ["00000000-0000-4000-8000-000000000001", "acls", "cannot be read"] {
        assert!(listed.contains(part), "{part} is not in {listed}");
    }
    let listed = text(&data, &[&["store", "quarantine"][..], &sets(&settings)].concat());
    assert!(listed.contains("acls  ") && listed.contains("restore the database from a backup"), "{listed}");
    // Other changes become live.
    node.add_route("more", &echo.url()).await;
    assert_eq!(answers(&node, "/private").await, [503; 3]);
    node.stop();

    // A secret cannot be decrypted: the credential is not known.
    let changed = "convert_to(replace(convert_from(value, 'UTF8'), '\"secrets\":[[\"/key\",\"', '\"secrets\":[[\"/key\",\"AAAA'), 'UTF8')";
    server.execute("damaged", &format!("UPDATE documents SET value = {changed} WHERE kind = 'keyauth_credentials'"));
    let node = Node::start(&data, &settings);
    assert_eq!(answers(&node, "/grouped").await, [401; 3]);
    assert_eq!(node.get("/more", "").await, 200);
    node.stop();

    // It is not known what a plugin applies to: nothing newer is served than before.
    server.execute("damaged", &format!("UPDATE documents SET meta = '{{' WHERE {}", plugin(1)));
    let mut node = Node::start(&data, &settings);
    assert!(node.process.seen().iter().any(|line| line.contains("it is not known which requests plugins/")));
    assert_eq!((answers(&node, "/open").await, answers(&node, "/private").await), ([200; 3], [503; 3]));
    assert_eq!(node.metric("cardinal_config_from_last_good").await, "1");
    // Once it is repaired, the database is served without a restart.
    let repair =
        "UPDATE documents d SET value = k.value, meta = k.meta FROM kept k WHERE d.kind = k.kind AND d.id = k.id";
    server.execute("damaged", repair);
    answers_become(&node, "/private", [401, 200, 200]).await;
    answers_become(&node, "/grouped", [401, 200, 403]).await;
    node.process.wait_for("of the database is served");
    assert_eq!(node.get("/more", "").await, 200);
    assert_eq!(node.metric("cardinal_config_from_last_good").await, "0");
    node.stop();
    server.execute("damaged", &format!("UPDATE documents SET value = '{{', meta = '{{' WHERE {}", plugin(1)));
    std::fs::remove_file(data.path().join("last-good-store.bin")).unwrap();
    let said = not_started(&data, &settings);
    assert!(said.contains("it is not known which requests plugins/") && said.contains("backup"), "{said}");
}
