//! Users and roles over a store in memory: the paths and bodies that go-kong and decK use.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use cardinal_base::{SeededRng, SystemClock};
use cardinal_kong::Registry;
use cardinal_kong::settings::EnforceRbac;
use cardinal_store::{Author, MemoryStore};
use serde_json::{Value, json};

use super::{Admin, AdminSettings, Credentials, Request, Response};
use crate::rbac::bootstrap;
use crate::{Dao, NoProxies};

struct World {
    admin: Admin,
    runtime: tokio::runtime::Runtime,
    token: String,
}

impl World {
    fn new(enforce_rbac: EnforceRbac) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let clock = Arc::new(SystemClock::new());
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let dao = Dao::new(store, Arc::new(Registry::new(&[])), clock, SeededRng::new(7));
        let settings = AdminSettings {
            version: "3.9.3".to_owned(),
            hostname: "test".to_owned(),
            configuration: json!({}),
            origins: Vec::new(),
            is_control_plane: false,
            body_bytes_max: 1 << 20,
            enforce_rbac,
            sessions: Default::default(),
        };
        let token = runtime.block_on(bootstrap(&dao, &Author::default(), "root", None, false)).unwrap();
        Self { admin: Admin::new(dao, Arc::new(NoProxies), settings), runtime, token }
    }

    fn send(&self, credentials: Credentials, method: &str, target: &str, body: &Value) -> Response {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            content_type: (!body.is_null()).then(|| "application/json".to_owned()),
            origin: None,
            host: Some("127.0.0.1:8001".to_owned()),
            is_local: true,
            preflight_headers: None,
            from: "127.0.0.1".to_owned(),
            credentials,
            body: Bytes::from(if body.is_null() { String::new() } else { body.to_string() }),
        };
        self.runtime.block_on(self.admin.answer(&request))
    }

    /// A request of a user, by the token.
    fn of(&self, token: &str, method: &str, target: &str, body: Value) -> (u16, Value) {
        let credentials = Credentials { token: Some(token.to_owned()), ..Credentials::default() };
        let response = self.send(credentials, method, target, &body);
        (response.status, response.body.unwrap_or(Value::Null))
    }

    /// A request of the first user.
    fn root(&self, method: &str, target: &str, body: Value) -> (u16, Value) {
        self.of(&self.token.clone(), method, target, body)
    }

    /// A new workspace; its id.
    fn workspace(&self, name: &str) -> Value {
        let (status, made) = self.root("POST", "/workspaces", json!({"name": name}));
        assert_eq!(status, 201, "{made}");
        made["id"].clone()
    }

    /// A user with a token that is the name, and with one role of these rules about endpoints.
    fn user(&self, name: &str, rules: &[Value]) {
        assert_eq!(self.root("POST", "/rbac/users", json!({"name": name, "user_token": name})).0, 201);
        assert_eq!(self.root("POST", "/rbac/roles", json!({"name": name})).0, 201);
        for rule in rules {
            let (status, made) = self.root("POST", &format!("/rbac/roles/{name}/endpoints"), rule.clone());
            assert_eq!(status, 201, "{made}");
        }
        assert_eq!(self.root("POST", &format!("/rbac/users/{name}/roles"), json!({"roles": name})).0, 201);
    }
}

#[test]
fn a_token_is_never_shown_again() {
    let world = World::new(EnforceRbac::On);
    let given = json!({"name": "anna", "user_token": "annas-token", "comment": "c"});
    let (status, made) = world.root("POST", "/rbac/users", given.clone());
    assert_eq!((status, &made["enabled"], &made["comment"]), (201, &json!(true), &json!("c")), "{made}");
    assert!(made["created_at"].is_i64() && made["user_token_ident"].as_str().is_some_and(|ident| ident.len() == 5));
    let id = made["id"].as_str().unwrap();
    let (_, listed) = world.root("GET", "/rbac/users/?size=1000", Value::Null);
    let (_, shown) = world.root("GET", &format!("/rbac/users/{id}"), Value::Null);
    let (_, log) = world.root("GET", "/cardinal/v1/generations/3", Value::Null);
    assert_eq!((&shown, &log["author"]["name"]), (&made, &json!("root")));
    for seen in [&made, &listed, &shown, &log] {
        let text = seen.to_string();
        assert!(!text.contains("pbkdf2") && !text.contains("annas-token") && text.contains("anna"), "{text}");
    }
    assert_eq!(world.root("POST", "/rbac/users", json!({"name": "otto", "user_token": "annas-token"})).0, 409);
    assert_eq!(world.root("POST", "/rbac/users", given).0, 409);
    let (status, wrong) = world.root("POST", "/rbac/users", json!({"name": "otto"}));
    assert_eq!((status, &wrong["fields"]), (400, &json!({"user_token": "required field missing"})));
    assert_eq!(world.root("POST", "/rbac/users", json!({"name": "otto", "user_token": ""})).0, 400);
    // What was read can be sent back.
    let (status, put) = world.root("PUT", &format!("/rbac/users/{id}"), shown.clone());
    assert_eq!((status, put), (200, shown));
    assert_eq!(world.of("annas-token", "GET", "/userinfo", Value::Null).1["admin"]["username"], "anna");
    let changed = world.root("PATCH", "/rbac/users/anna", json!({"user_token": "new"}));
    assert_eq!(changed.0, 200);
    assert_eq!(world.of("annas-token", "GET", "/userinfo", Value::Null).0, 401);
    assert_eq!(world.of("new", "GET", "/userinfo", Value::Null).0, 200);
    assert_eq!(world.root("DELETE", "/rbac/users/anna", Value::Null).0, 204);
    assert_eq!(world.of("new", "GET", "/userinfo", Value::Null).0, 401);
}

#[test]
fn roles_and_rules_are_those_of_go_kong() {
    let world = World::new(EnforceRbac::On);
    let (_, roles) = world.root("GET", "/rbac/roles/", Value::Null);
    let mut names: Vec<&str> = roles["data"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["admin", "read-only", "super-admin"]);
    let id = "2b7e1b8c-1f8c-4b8e-9a51-c0ffee000001";
    assert_eq!(world.root("PUT", &format!("/rbac/roles/{id}"), json!({"name": "a", "id": id})).0, 200);
    assert_eq!(world.root("PATCH", &format!("/rbac/roles/{id}"), json!({"name": "a", "comment": "x"})).0, 200);

    let rules = format!("/rbac/roles/{id}/endpoints");
    let (status, rule) = world.root("POST", &rules, json!({"endpoint": "/rbac", "actions": "create,read"}));
    let expect = json!({"endpoint": "/rbac", "workspace": "default", "actions": ["read", "create"], "negative": false,
        "comment": null, "role": {"id": id}, "created_at": rule["created_at"]});
    assert_eq!((status, &rule), (201, &expect));
    assert_eq!(world.root("POST", &rules, json!({"endpoint": "rbac/", "actions": ["read"]})).0, 409);
    assert_eq!(world.root("POST", &rules, json!({"endpoint": "*", "workspace": "*", "actions": "*"})).0, 201);
    let (status, wrong) = world.root("POST", &rules, json!({"endpoint": "/x", "actions": "reed"}));
    assert_eq!(status, 400, "{wrong}");
    assert_eq!(world.root("POST", &rules, json!({"endpoint": "/x"})).0, 400);
    assert_eq!(world.root("GET", &format!("{rules}/default/rbac"), Value::Null), (200, expect));
    assert_eq!(world.root("GET", &format!("{rules}/*/*"), Value::Null).1["endpoint"], "*");
    let given = json!({"endpoint": "/rbac", "workspace": "default", "actions": "delete", "negative": true,
        "comment": "new", "created_at": 1});
    let (status, changed) = world.root("PATCH", &format!("{rules}/default/rbac"), given);
    assert_eq!(status, 200, "{changed}");
    assert_eq!((&changed["actions"], &changed["negative"]), (&json!(["delete"]), &json!(true)));
    let (_, permissions) = world.root("GET", &format!("/rbac/roles/{id}/permissions"), Value::Null);
    let all = json!({"actions": ["read", "create", "update", "delete"], "negative": false});
    let endpoints = json!({"default": {"/rbac": {"actions": ["delete"], "negative": true}}, "*": {"*": all}});
    assert_eq!(permissions, json!({"endpoints": endpoints, "entities": {}}));
    assert_eq!(world.root("GET", &format!("{rules}?size=1"), Value::Null).1["data"].as_array().unwrap().len(), 1);
    // By the id of the workspace, and with the slash of the endpoint.
    let by_id = format!("{rules}/{}//rbac", crate::dao::DEFAULT_WORKSPACE);
    assert_eq!(world.root("DELETE", &by_id, Value::Null).0, 204);
    assert_eq!(world.root("GET", &by_id, Value::Null).0, 404);

    let entities = format!("/rbac/roles/{id}/entities");
    let (status, rule) = world.root("POST", &entities, json!({"entity_id": "*", "actions": "read"}));
    assert_eq!((status, &rule["entity_type"]), (201, &json!("wildcard")), "{rule}");
    let service = world.root("PUT", "/services/s", json!({"host": "h"})).1["id"].clone();
    let (status, rule) = world.root("POST", &entities, json!({"entity_id": service, "actions": ["update"]}));
    assert_eq!((status, &rule["entity_type"]), (201, &json!("services")), "{rule}");
    assert_eq!(world.root("POST", &entities, json!({"entity_id": id, "actions": "read"})).0, 400);
    let one = format!("{entities}/{}", service.as_str().unwrap());
    assert_eq!(world.root("PATCH", &one, json!({"comment": "c", "actions": "read"})).1["comment"], "c");
    assert_eq!(world.root("DELETE", &one, Value::Null).0, 204);
    assert_eq!(world.root("GET", &entities, Value::Null).1["data"].as_array().unwrap().len(), 1);

    assert_eq!(world.root("POST", "/rbac/users", json!({"name": "u", "user_token": "foo"})).0, 201);
    let (status, body) = world.root("POST", "/rbac/users/u/roles", json!({"name_or_id": "u", "roles": "a,read-only"}));
    assert_eq!((status, body["roles"].as_array().unwrap().len(), &body["user"]["name"]), (201, 2, &json!("u")));
    assert_eq!(world.root("GET", "/rbac/users/u/roles", Value::Null).1["roles"][0]["name"], "a");
    assert_eq!(world.root("DELETE", "/rbac/users/u/roles", json!({"roles": "a"})).0, 204);
    assert_eq!(world.root("GET", "/rbac/users/u/permissions", Value::Null).1["endpoints"]["*"]["*"]["negative"], false);
    assert_eq!(world.root("POST", "/rbac/users/u/roles", json!({"roles": "none"})).0, 400);
    assert_eq!(world.root("POST", "/rbac/users/u/roles", json!({})).0, 400);
    assert_eq!(world.root("DELETE", &format!("/rbac/roles/{id}"), Value::Null).0, 204);
    assert_eq!(world.root("GET", &entities, Value::Null).0, 404);
}

#[test]
fn rules_about_endpoints_are_enforced() {
    let world = World::new(EnforceRbac::On);
    let refused = world.send(Credentials::default(), "GET", "/services", &Value::Null);
    let message = json!({"message": "Invalid credentials. Token or User credentials required"});
    assert_eq!((refused.status, refused.body), (401, Some(message)));
    assert_eq!(world.send(Credentials::default(), "OPTIONS", "/services", &Value::Null).status, 204);
    // Which workspaces there are is not told.
    for workspace in ["default", "unknown"] {
        let send = |method: &str, path: &str| {
            world.send(Credentials::default(), method, &format!("/{workspace}{path}"), &Value::Null).status
        };
        assert_eq!([send("OPTIONS", "/services"), send("GET", "/auth"), send("GET", "/services")], [204, 401, 401]);
    }
    assert_eq!(world.of("wrong", "GET", "/", Value::Null), (401, json!({"message": "Invalid RBAC credentials"})));
    world.workspace("other");
    world.user(
        "anna",
        &[
            json!({"endpoint": "/services", "actions": "read,create"}),
            json!({"endpoint": "/services/*", "actions": "*"}),
            json!({"endpoint": "/services/locked", "actions": "update,delete", "negative": true}),
            json!({"endpoint": "/cardinal/v1/batch", "actions": "create"}),
            json!({"endpoint": "*", "workspace": "other", "actions": "*"}),
        ],
    );
    let service = |name: &str| json!({"name": name, "host": "h"});
    assert_eq!(world.of("anna", "POST", "/services", service("s")).0, 201);
    assert_eq!(world.of("anna", "POST", "/default/services", service("locked")).0, 201);
    let (status, body) = world.of("anna", "DELETE", "/services/locked", Value::Null);
    assert_eq!((status, &body["message"]), (403, &json!("anna, you do not have permissions to delete this resource")));
    assert_eq!(world.of("anna", "DELETE", "//default//services/locked/", Value::Null).0, 403);
    assert_eq!(world.of("anna", "DELETE", "/services/s", Value::Null).0, 204);
    for (method, path) in
        [("GET", "/"), ("GET", "/kong"), ("GET", "/routes"), ("GET", "/rbac/users"), ("GET", "/config")]
    {
        assert_eq!(world.of("anna", method, path, Value::Null).0, 403, "{path}");
    }
    let batch = |key: &str| json!([{"method": "put", "kind": "services", "key": key, "body": {"host": "h"}}]);
    assert_eq!(world.of("anna", "POST", "/cardinal/v1/batch", batch("free")).0, 200);
    assert_eq!(world.of("anna", "POST", "/cardinal/v1/batch", batch("locked")).0, 403);
    // Changes of roles are effective at once.
    assert_eq!(world.root("POST", "/rbac/users/anna/roles", json!({"roles": "read-only"})).0, 201);
    assert_eq!(world.of("anna", "GET", "/routes", Value::Null).0, 200);
    assert_eq!(world.of("anna", "POST", "/routes", json!({"paths": ["/"]})).0, 403);
    assert_eq!(world.root("PATCH", "/rbac/users/anna", json!({"enabled": false})).0, 200);
    assert_eq!(world.of("anna", "GET", "/routes", Value::Null).0, 401);
    assert_eq!(world.root("PATCH", "/rbac/users/anna", json!({"enabled": true, "expires_at": 1})).0, 200);
    assert_eq!(world.of("anna", "GET", "/routes", Value::Null).0, 401);
    assert_eq!(world.root("PATCH", "/rbac/users/anna", json!({"expires_at": null})).0, 200);
    assert_eq!(world.of("anna", "GET", "/routes", Value::Null).0, 200);
}

/// Who may do everything in a workspace cannot get rights beyond it: neither by rules, nor by the prefix of a path.
#[test]
fn rights_in_one_workspace_stay_there() {
    let world = World::new(EnforceRbac::On);
    for name in ["a", "b"] {
        world.workspace(name);
    }
    world.user("anna", &[json!({"workspace": "a", "endpoint": "*", "actions": "*"})]);
    assert_eq!(world.of("anna", "POST", "/a/rbac/roles", json!({"name": "more"})).0, 201);
    let rules = "/a/rbac/roles/more/endpoints";
    for workspace in ["*", "b", "default"] {
        let rule = json!({"workspace": workspace, "endpoint": "*", "actions": "*"});
        assert_eq!(world.of("anna", "POST", rules, rule.clone()).0, 403, "{workspace}");
        assert_eq!(world.root("POST", rules, rule).0, 201);
        let one = format!("{rules}/{workspace}/*");
        assert_eq!(world.of("anna", "PATCH", &one, json!({"actions": "read"})).0, 403);
        assert_eq!(world.of("anna", "DELETE", &one, Value::Null).0, 403);
        assert_eq!(world.root("DELETE", &one, Value::Null).0, 204);
    }
    assert_eq!(world.of("anna", "POST", rules, json!({"endpoint": "/services", "actions": "*"})).0, 201);
    let foreign = world.root("PUT", "/b/services/s", json!({"host": "h"})).1["id"].clone();
    for entity in [json!("*"), foreign] {
        let rule = json!({"entity_id": entity, "actions": "*"});
        assert_eq!(world.of("anna", "POST", "/a/rbac/roles/more/entities", rule).0, 403, "{entity}");
    }
    for (method, path) in [
        ("GET", "/a/workspaces"),
        ("POST", "/a/workspaces"),
        ("DELETE", "/a/workspaces/b?cascade=true"),
        ("GET", "/a/cardinal/v1/revisions"),
        ("GET", "/a/cardinal/v1/revisions/1"),
        ("GET", "/a/cardinal/v1/quarantine"),
        ("POST", "/a/cardinal/v1/revisions/1/rollback"),
        ("PUT", "/a/debug/node/log-level/debug"),
        ("DELETE", "/a/cache"),
        ("GET", "/a/clustering/data-planes"),
    ] {
        assert_eq!(world.of("anna", method, path, Value::Null).0, 403, "{method} {path}");
    }
    assert_eq!(world.of("anna", "GET", "/a/services", Value::Null).0, 200);
    // What concerns all workspaces is for those who have no less in one of them.
    world.user(
        "otto",
        &[
            json!({"workspace": "*", "endpoint": "*", "actions": "*"}),
            json!({"workspace": "b", "endpoint": "*", "actions": "*", "negative": true}),
        ],
    );
    assert_eq!(world.of("otto", "GET", "/services", Value::Null).0, 200);
    assert_eq!(world.of("otto", "POST", "/cardinal/v1/revisions/1/rollback", Value::Null).0, 403);
    assert_eq!(world.root("GET", "/cardinal/v1/revisions", Value::Null).0, 200);
}

#[test]
fn rules_name_workspaces_that_there_are() {
    let world = World::new(EnforceRbac::On);
    let id = world.workspace("b");
    world.user(
        "anna",
        &[
            json!({"workspace": "*", "endpoint": "*", "actions": "*"}),
            json!({"workspace": id, "endpoint": "*", "actions": "*", "negative": true}),
        ],
    );
    assert_eq!(world.of("anna", "GET", "/b/services", Value::Null).0, 403);
    assert_eq!(world.of("anna", "GET", "/services", Value::Null).0, 200);
    let rules = "/rbac/roles/anna/endpoints";
    let (status, body) = world.root("POST", rules, json!({"workspace": "c", "endpoint": "*", "actions": "*"}));
    assert_eq!((status, &body["fields"]), (400, &json!({"workspace": "there is no workspace 'c'"})));
    for endpoint in ["/services/%62illing", "/services/**", "/services/a*", "/services?x=y"] {
        let rule = json!({"endpoint": endpoint, "actions": "*", "negative": true});
        let (status, body) = world.root("POST", rules, rule);
        assert!(status == 400 && body["fields"]["endpoint"].is_string(), "{endpoint}: {body}");
    }
    // A later workspace of the name is another one.
    assert_eq!(world.root("DELETE", "/workspaces/b", Value::Null).0, 204);
    world.workspace("b");
    assert_eq!(world.of("anna", "GET", "/b/services", Value::Null).0, 200);
}

#[test]
fn a_batch_needs_the_rights_about_targets() {
    let world = World::new(EnforceRbac::On);
    let upstream = world.root("PUT", "/upstreams/up", json!({})).1["id"].clone();
    world.user(
        "anna",
        &[
            json!({"endpoint": "*", "actions": "*"}),
            json!({"endpoint": "/upstreams/*/targets", "actions": "create", "negative": true}),
            json!({"endpoint": "/upstreams/up/targets/*", "actions": "delete", "negative": true}),
        ],
    );
    let batch = |write: Value| world.of("anna", "POST", "/cardinal/v1/batch", json!([write])).0;
    for named in [json!({"name": "up"}), json!({"id": upstream})] {
        let body = json!({"target": "10.0.0.1:80", "upstream": named});
        assert_eq!(batch(json!({"method": "post", "kind": "targets", "body": body})), 403);
    }
    let target = world.root("POST", "/upstreams/up/targets", json!({"target": "10.0.0.1:80"})).1["id"].clone();
    assert_eq!(batch(json!({"method": "delete", "kind": "targets", "key": target})), 403);
    assert_eq!(batch(json!({"method": "patch", "kind": "targets", "key": target, "body": {"weight": 7}})), 200);
}

/// The role `admin` does everything, and cannot make itself more than that.
#[test]
fn an_admin_does_not_reach_users_and_roles() {
    let world = World::new(EnforceRbac::On);
    world.user("otto", &[]);
    assert_eq!(world.root("POST", "/rbac/users/otto/roles", json!({"roles": "admin"})).0, 201);
    assert_eq!(world.of("otto", "PUT", "/services/s", json!({"host": "h"})).0, 200);
    for path in [
        "/rbac/users",
        "/rbac/users/otto/roles",
        "/rbac/roles/admin/endpoints/*/rbac",
        "/rbac/roles/admin/endpoints/*/rbac/*/*/*/*/*",
        "/rbac//roles/admin/endpoints/*//rbac/*/*",
    ] {
        assert_eq!(world.of("otto", "DELETE", path, Value::Null).0 / 100, 4, "{path}");
        assert!([403, 405].contains(&world.of("otto", "DELETE", path, Value::Null).0), "{path}");
        assert_eq!(world.of("otto", "GET", path, Value::Null).0, 403, "{path}");
    }
}

#[test]
fn rules_about_entities_are_enforced() {
    let world = World::new(EnforceRbac::Both);
    world.user("anna", &[json!({"endpoint": "*", "actions": "*"})]);
    let id = |name: &str| world.root("PUT", &format!("/services/{name}"), json!({"host": "h"})).1["id"].clone();
    let (own, other) = (id("own"), id("other"));
    let rules = "/rbac/roles/anna/entities";
    assert_eq!(world.of("anna", "GET", "/services", Value::Null).1["data"], json!([]));
    assert_eq!(world.root("POST", rules, json!({"entity_id": own, "actions": "read,update"})).0, 201);
    let listed = world.of("anna", "GET", "/services", Value::Null).1;
    assert_eq!((listed["data"].as_array().unwrap().len(), &listed["data"][0]["id"]), (1, &own));
    assert_eq!(world.of("anna", "PATCH", "/services/own", json!({"port": 81})).0, 200);
    for (method, path, body) in [
        ("GET", "/services/other", Value::Null),
        ("PATCH", "/services/other", json!({"port": 81})),
        ("DELETE", "/services/own", Value::Null),
        ("POST", "/services", json!({"host": "h"})),
        ("PUT", "/services/new", json!({"host": "h"})),
        ("GET", "/cardinal/v1/generations", Value::Null),
        ("GET", "/config", Value::Null),
    ] {
        assert_eq!(world.of("anna", method, path, body).0, 403, "{method} {path}");
    }
    assert_eq!(world.root("POST", rules, json!({"entity_id": "*", "actions": "*"})).0, 201);
    assert_eq!(world.root("POST", rules, json!({"entity_id": other, "actions": "delete", "negative": true})).0, 201);
    assert_eq!(world.of("anna", "PUT", "/services/new", json!({"host": "h"})).0, 200);
    assert_eq!(world.of("anna", "DELETE", "/services/other", Value::Null).0, 403);
    assert_eq!(world.of("anna", "DELETE", "/services/new", Value::Null).0, 204);
    // Neither does a workspace take entities with it that its user may not delete.
    let workspace = world.workspace("w");
    let kept = world.root("PUT", "/w/services/kept", json!({"host": "h"})).1["id"].clone();
    assert_eq!(world.root("POST", rules, json!({"entity_id": kept, "actions": "delete", "negative": true})).0, 201);
    assert_eq!(world.of("anna", "DELETE", "/workspaces/w?cascade=true", Value::Null).0, 403);
    assert_eq!(world.root("DELETE", &format!("{rules}/{}", kept.as_str().unwrap()), Value::Null).0, 204);
    assert_eq!(
        world.root("POST", rules, json!({"entity_id": workspace, "actions": "delete", "negative": true})).0,
        201
    );
    assert_eq!(world.of("anna", "DELETE", "/workspaces/w?cascade=true", Value::Null).0, 403);
    assert_eq!(world.root("DELETE", &format!("{rules}/{}", workspace.as_str().unwrap()), Value::Null).0, 204);
    assert_eq!(world.of("anna", "DELETE", "/workspaces/w?cascade=true", Value::Null).0, 204);
}

#[test]
fn a_session_needs_its_csrf_token_for_writes() {
    let world = World::new(EnforceRbac::On);
    let basic = |name: &str, token: &str| Credentials {
        authorization: Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{token}")))),
        ..Credentials::default()
    };
    assert_eq!(world.send(basic("root", "wrong"), "POST", "/auth", &Value::Null).status, 401);
    assert_eq!(world.send(basic("other", &world.token), "GET", "/auth", &Value::Null).status, 401);
    assert_eq!(world.send(Credentials::default(), "GET", "/auth", &Value::Null).status, 401);
    let login = world.send(basic("root", &world.token), "POST", "/auth", &Value::Null);
    let body = login.body.unwrap();
    assert_eq!((login.status, &body["user"]["name"]), (200, &json!("root")));
    let (_, set) = login.headers.iter().find(|(name, _)| *name == "set-cookie").unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && !set.contains("Secure"), "{set}");
    let cookie = set.split(';').next().map(str::to_owned);
    let session = |csrf: Option<&str>| Credentials {
        cookie: cookie.clone(),
        csrf: csrf.map(str::to_owned),
        ..Credentials::default()
    };
    let csrf = body["csrf_token"].as_str();
    assert_eq!(world.send(session(None), "GET", "/services", &Value::Null).status, 200);
    assert_eq!(world.send(session(None), "GET", "/auth", &Value::Null).body.unwrap()["csrf_token"].as_str(), csrf);
    let service = json!({"name": "s", "host": "h"});
    for wrong in [None, Some("wrong")] {
        assert_eq!(world.send(session(wrong), "POST", "/services", &service).status, 403);
    }
    assert_eq!(world.send(session(csrf), "POST", "/services", &service).status, 201);
    assert_eq!(world.root("GET", "/cardinal/v1/generations", Value::Null).1["data"][0]["author"]["name"], "root");
    assert_eq!(world.send(session(None), "DELETE", "/auth", &Value::Null).status, 403);
    let tls = Credentials { is_tls: true, ..session(csrf) };
    let logout = world.send(tls, "DELETE", "/auth", &Value::Null);
    assert_eq!(logout.status, 204);
    assert!(logout.headers.iter().any(|(_, value)| value.contains("Max-Age=0") && value.contains("; Secure")));
    assert_eq!(world.send(session(csrf), "GET", "/services", &Value::Null).status, 401);
    // A new token ends sessions.
    let again = world.send(basic("root", &world.token), "GET", "/auth", &Value::Null);
    let cookie = again.headers.iter().find(|(name, _)| *name == "set-cookie").map(|(_, set)| set.clone());
    let session = Credentials { cookie, ..Credentials::default() };
    assert_eq!(world.send(session.clone(), "GET", "/services", &Value::Null).status, 200);
    assert_eq!(world.root("PATCH", "/rbac/users/root", json!({"user_token": "new"})).0, 200);
    assert_eq!(world.send(session, "GET", "/services", &Value::Null).status, 401);
}

#[test]
fn many_wrong_tokens_have_to_wait() {
    let world = World::new(EnforceRbac::On);
    world.root("GET", "/", Value::Null);
    let statuses: Vec<u16> = (0..25).map(|at| world.of(&format!("wrong{at}"), "GET", "/", Value::Null).0).collect();
    assert!(statuses[..20].iter().all(|status| *status == 401) && statuses[24] == 429, "{statuses:?}");
    // Who was known before is not locked out by others behind the same address.
    assert_eq!(world.root("GET", "/services", Value::Null).0, 200);
    assert_eq!(world.of(&"x".repeat(600), "GET", "/", Value::Null).0, 401);
}

#[test]
fn a_rollback_leaves_users_and_roles() {
    let world = World::new(EnforceRbac::On);
    world.user("anna", &[json!({"endpoint": "*", "actions": "*"})]);
    assert_eq!(world.root("PUT", "/services/s", json!({"host": "h"})).0, 200);
    assert_eq!(world.root("DELETE", "/rbac/users/anna/roles", json!({"roles": "anna"})).0, 204);
    let (status, done) = world.root("POST", "/cardinal/v1/generations/6/rollback", Value::Null);
    assert_eq!((status, done["entities"].as_array().unwrap().len()), (200, 1), "{done}");
    assert_eq!(world.root("GET", "/services/s", Value::Null).0, 404);
    assert_eq!(world.of("anna", "GET", "/services", Value::Null).0, 403);
}
