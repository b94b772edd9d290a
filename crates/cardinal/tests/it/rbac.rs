//! Users and roles of the Admin API, by the binary.

use cardinal_testkit::{Response, TempDir};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Executor as _};

use crate::admin::Node;
use crate::history::{on_store, text};
use crate::process::{Process, cardinal};

const ON: [&str; 2] = ["--set", "enforce_rbac=on"];

/// The status of a response to a request with a token.
async fn status(node: &Node, token: &str, method: &str, target: &str, body: Value) -> u16 {
    node.with(&[("Kong-Admin-Token", token)], method, target, &body).await.status
}

fn value(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_default()
}

/// The token of the first user, made while a node runs.
fn first_token(data: &TempDir) -> String {
    let token = text(data, &["rbac", "bootstrap"]).trim().to_owned();
    assert_eq!(token.len(), 32);
    token
}

#[tokio::test]
async fn tokens_and_roles_decide() {
    let data = TempDir::new("rbac");
    let node = Node::start(&data, &ON);
    let none = node.with(&[], "GET", "/services", &Value::Null).await;
    let message = json!({"message": "Invalid credentials. Token or User credentials required"});
    assert_eq!((none.status, value(&none)), (401, message));
    // The body is not waited for.
    let unsent = [("Content-Length", "1000000"), ("Content-Type", "application/json"), ("Kong-Admin-Token", "wrong")];
    assert_eq!(node.with(&unsent, "POST", "/services", &Value::Null).await.status, 401);
    let root = first_token(&data);
    let root = root.as_str();
    let again = on_store(&data, &["rbac", "bootstrap"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already; give it a new token with --reset"));
    let info = value(&node.with(&[("kong-admin-token", root)], "GET", "/", &Value::Null).await);
    assert_eq!(info["configuration"]["rbac"], "on");
    assert_eq!(status(&node, "wrong", "GET", "/services", Value::Null).await, 401);

    let user = json!({"name": "anna", "user_token": "annas"});
    assert_eq!(status(&node, root, "POST", "/rbac/users", user).await, 201);
    assert_eq!(status(&node, "annas", "GET", "/services", Value::Null).await, 403);
    assert_eq!(status(&node, root, "POST", "/rbac/roles", json!({"name": "team"})).await, 201);
    let rules = "/rbac/roles/team/endpoints";
    assert_eq!(status(&node, root, "POST", "/workspaces", json!({"name": "other"})).await, 201);
    let elsewhere = json!({"endpoint": "*", "workspace": "other", "actions": "*"});
    assert_eq!(status(&node, root, "POST", rules, elsewhere).await, 201);
    assert_eq!(status(&node, root, "POST", "/rbac/users/anna/roles", json!({"roles": "team"})).await, 201);
    assert_eq!(
        status(&node, "annas", "GET", "/services", Value::Null).await,
        403,
        "the rule is about another workspace"
    );
    let here = json!({"endpoint": "/services", "actions": "read,create"});
    assert_eq!(status(&node, root, "POST", rules, here).await, 201);
    assert_eq!(status(&node, "annas", "GET", "/services", Value::Null).await, 200);
    assert_eq!(status(&node, "annas", "POST", "/services", json!({"name": "s", "host": "h"})).await, 201);
    assert_eq!(status(&node, "annas", "DELETE", "/services/s", Value::Null).await, 403);
    let log: Value = serde_json::from_str(&text(&data, &["history", "--limit", "1", "--output", "json"])).unwrap();
    assert_eq!((&log[0]["author"]["name"], &log[0]["kinds"]["services"]), (&json!("anna"), &json!(1)));
    assert_eq!(status(&node, root, "DELETE", &format!("{rules}/default/services"), Value::Null).await, 204);
    assert_eq!(status(&node, "annas", "GET", "/services", Value::Null).await, 403);
    for (change, expect) in [
        (json!({"enabled": false}), 401),
        (json!({"enabled": true, "expires_at": 1}), 401),
        (json!({"expires_at": null}), 403),
    ] {
        assert_eq!(status(&node, root, "PATCH", "/rbac/users/anna", change).await, 200);
        assert_eq!(status(&node, "annas", "GET", "/services", Value::Null).await, expect);
    }
    // An operator who has lost the token gets another one.
    let new = text(&data, &["rbac", "bootstrap", "--reset"]);
    assert_eq!(status(&node, root, "GET", "/rbac/users", Value::Null).await, 401);
    assert_eq!(status(&node, new.trim(), "GET", "/rbac/users", Value::Null).await, 200);
    node.stop().await;
    let lines = text(&data, &["store", "export", "--format", "json-lines"]);
    assert!(lines.contains("\"rbac_users\"") && !lines.contains("\"rbac_keys\""), "{lines}");
    assert!(!text(&data, &["store", "export"]).contains("rbac"), "users are no part of the configuration");
}

/// The index by which roles of a user are found gives nobody a role.
#[tokio::test]
async fn a_changed_index_gives_no_rights() {
    let data = TempDir::new("rbac");
    let node = Node::start(&data, &ON);
    let root = first_token(&data);
    let user = json!({"name": "anna", "user_token": "annas"});
    assert_eq!(status(&node, &root, "POST", "/rbac/users", user).await, 201);
    let id = async |name: &str| {
        let response =
            node.with(&[("Kong-Admin-Token", &root)], "GET", &format!("/rbac/users/{name}"), &Value::Null).await;
        value(&response)["id"].as_str().unwrap().to_owned()
    };
    let change = format!(
        "UPDATE document_references SET to_id = CAST('{}' AS BLOB) WHERE kind = CAST('rbac_user_roles' AS BLOB) AND \
         field = CAST('user' AS BLOB) AND to_id = CAST('{}' AS BLOB)",
        id("anna").await,
        id("kong_admin").await
    );
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(data.path().join("store.db"));
    let mut connection = options.connect().await.unwrap();
    assert_eq!(connection.execute(sqlx::AssertSqlSafe(change)).await.unwrap().rows_affected(), 1);
    assert_eq!(status(&node, "annas", "GET", "/services", Value::Null).await, 403);
    node.stop().await;
}

#[tokio::test]
async fn a_browser_has_a_session() {
    let data = TempDir::new("rbac");
    let more = ["--set", "enforce_rbac=on", "--set", "password=secret"];
    let node = Node::start(&data, &more);
    // kong_admin:secret
    let basic = ("Authorization", "Basic a29uZ19hZG1pbjpzZWNyZXQ=");
    let login = node.with(&[basic], "POST", "/auth", &Value::Null).await;
    assert_eq!(login.status, 200);
    let set = login.header("set-cookie").expect("a cookie").to_owned();
    assert!(set.contains("; HttpOnly; SameSite=Strict"), "{set}");
    let body = value(&login);
    let (cookie, csrf) = (set.split(';').next().unwrap(), body["csrf_token"].as_str().unwrap());
    let session = [("Cookie", cookie), ("X-CSRF-Token", csrf)];
    let service = json!({"name": "s", "host": "h"});
    assert_eq!(node.with(&session[..1], "GET", "/services", &Value::Null).await.status, 200);
    assert_eq!(node.with(&session[..1], "POST", "/services", &service).await.status, 403);
    assert_eq!(node.with(&session, "POST", "/services", &service).await.status, 201);
    let foreign = [session[0], session[1], ("Origin", "https://evil.test")];
    assert_eq!(node.with(&foreign, "GET", "/services", &Value::Null).await.status, 403);
    node.stop().await;
    // Sessions outlive the process, since their key is in the store.
    let node = Node::start(&data, &more);
    assert_eq!(node.with(&session, "GET", "/userinfo", &Value::Null).await.status, 200);
    assert_eq!(node.with(&session, "DELETE", "/auth", &Value::Null).await.status, 204);
    assert_eq!(node.with(&session, "GET", "/services", &Value::Null).await.status, 401);
    node.stop().await;
}

/// Where other machines reach the API, it wants a token unless the settings say otherwise; on loopback it does not.
#[tokio::test]
async fn tokens_are_required_beyond_loopback() {
    let data = TempDir::new("rbac");
    for (more, expect) in [
        (&["--set", "admin_listen=0.0.0.0:0"][..], 401),
        (&["--set", "admin_listen=0.0.0.0:0", "--set", "enforce_rbac=off"], 200),
        (&[], 200),
    ] {
        let node = Node::start(&data, more);
        assert_eq!(node.with(&[], "GET", "/services", &Value::Null).await.status, expect, "{more:?}");
        node.stop().await;
    }
}

#[test]
fn users_need_a_database() {
    let data = TempDir::new("rbac");
    let file = data.write("kong.yaml", "_format_version: '3.0'\n").display().to_string();
    let mut command = cardinal();
    command.args(["run", "--config", &file, "--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=off"]);
    command.args(["--set", "admin_listen=127.0.0.1:0", "--set", "enforce_rbac=on"]);
    let mut node = Process::start(command);
    node.wait_for("enforce_rbac: users and roles need a database");
    assert_eq!(node.ends().code(), Some(1));
}
