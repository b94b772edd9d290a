//! The API over a store in memory, without sockets.

use std::sync::Arc;

use bytes::Bytes;
use cardinal_base::{SeededRng, SystemClock};
use cardinal_kong::Registry;
use cardinal_store::MemoryStore;
use serde_json::{Value, json};

use super::{Admin, AdminSettings, Request, Response};
use crate::{Dao, NoProxies};

/// An API to send requests to.
pub(super) struct World {
    admin: Admin,
}

impl World {
    pub(super) fn new() -> Self {
        let families = [
            cardinal_plugins_auth::PLUGINS,
            cardinal_plugins_observe::PLUGINS,
            cardinal_plugins_security::PLUGINS,
            cardinal_plugins_traffic::PLUGINS,
            cardinal_plugins_transform::PLUGINS,
        ];
        let registry = Arc::new(Registry::new(&families.concat()));
        let clock = Arc::new(SystemClock::new());
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let dao = Dao::new(store, registry, clock, SeededRng::new(7));
        let settings = AdminSettings {
            version: "3.9.3".to_owned(),
            hostname: "test".to_owned(),
            configuration: json!({ "database": "postgres", "router_flavor": "traditional_compatible" }),
            origins: Vec::new(),
            is_control_plane: false,
            body_bytes_max: 1 << 20,
            enforce_rbac: Default::default(),
            sessions: Default::default(),
        };
        Self { admin: Admin::new(dao, Arc::new(NoProxies), settings) }
    }

    pub(super) fn send(&self, method: &str, target: &str, content_type: Option<&str>, body: &str) -> (u16, Value) {
        let response = self.answer(method, target, content_type, body);
        (response.status, response.body.unwrap_or(Value::Null))
    }

    pub(super) fn answer(&self, method: &str, target: &str, content_type: Option<&str>, body: &str) -> Response {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            content_type: content_type.map(str::to_owned),
            origin: None,
            host: Some("127.0.0.1:8001".to_owned()),
            is_local: true,
            preflight_headers: None,
            credentials: Default::default(),
            from: "127.0.0.1".to_owned(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.admin.answer(&request))
    }

    pub(super) fn get(&self, target: &str) -> (u16, Value) {
        self.send("GET", target, None, "")
    }

    pub(super) fn json(&self, method: &str, target: &str, body: Value) -> (u16, Value) {
        self.send(method, target, Some("application/json"), &body.to_string())
    }

    fn form(&self, method: &str, target: &str, body: &str) -> (u16, Value) {
        self.send(method, target, Some("application/x-www-form-urlencoded"), body)
    }
}

#[test]
fn entities_are_created_read_changed_and_deleted() {
    let world = World::new();
    let (status, service) = world.json("POST", "/services", json!({"name": "s", "url": "http://up.test:81/base"}));
    assert_eq!(status, 201, "{service}");
    assert_eq!(
        (&service["host"], &service["port"], &service["path"]),
        (&json!("up.test"), &json!(81), &json!("/base"))
    );
    assert_eq!(world.get("/services/s"), (200, service.clone()));
    let id = service["id"].as_str().unwrap();
    assert_eq!(world.get(&format!("/services/{id}")), (200, service.clone()));
    let (status, changed) = world.json("PATCH", "/services/s", json!({"retries": 1, "path": null}));
    assert_eq!(
        (status, &changed["retries"], &changed["path"], &changed["port"]),
        (200, &json!(1), &Value::Null, &json!(81))
    );
    let (status, replaced) = world.json("PUT", "/services/s", json!({"host": "other.test"}));
    assert_eq!((status, &replaced["id"], &replaced["retries"]), (200, &service["id"], &json!(5)));
    let other = "cccccccc-0000-4000-8000-000000000001";
    assert_eq!(world.json("PATCH", "/services/s", json!({"id": other})).1["id"], service["id"]);
    let (status, route) = world.form("POST", "/services/s/routes", "name=r&hosts[]=a.test&hosts[]=b.test&paths=/x");
    assert_eq!(
        (status, &route["hosts"], &route["paths"]),
        (201, &json!(["a.test", "b.test"]), &json!(["/x"])),
        "{route}"
    );
    assert_eq!(world.get("/routes/r/service").1["name"], "s");
    assert_eq!(world.get("/services/s/routes").1["data"][0]["name"], "r");
    let (status, fault) = world.send("DELETE", "/services/s", None, "");
    assert_eq!((status, &fault["code"]), (400, &json!(4)));
    assert_eq!(fault["message"], "an existing 'routes' entity references this 'services' entity");
    assert_eq!(world.send("DELETE", "/routes/r", None, "").0, 204);
    assert_eq!(world.send("DELETE", "/services/s", None, "").0, 204);
    assert_eq!(world.send("DELETE", "/services/s", None, "").0, 204);
    assert_eq!(world.get("/services/s"), (404, json!({"message": "Not found"})));
}

#[test]
fn errors_are_kongs() {
    let world = World::new();
    assert_eq!(world.json("POST", "/consumers", json!({"username": "u"})).0, 201);
    let (status, fault) = world.json("POST", "/consumers", json!({"username": "u"}));
    let expect = json!({"code": 5, "name": "unique constraint violation", "fields": {"username": "u"},
        "message": "UNIQUE violation detected on '{username=\"u\"}'"});
    assert_eq!((status, fault), (409, expect));
    let (status, fault) = world.json("POST", "/routes", json!({"methods": ["GET"], "service": {"name": "none"}}));
    assert_eq!((status, &fault["code"]), (400, &json!(13)), "{fault}");
    assert_eq!(
        fault["message"],
        "foreign key unresolved (service.name: the foreign key cannot be resolved with '{name=\"none\"}' for an existing \
         'services' entity)"
    );
    let absent = "11111111-1111-4111-8111-111111111111";
    let (status, fault) = world.json("POST", "/routes", json!({"methods": ["GET"], "service": {"id": absent}}));
    assert_eq!((status, &fault["code"], &fault["fields"]), (400, &json!(4), &json!({"service": {"id": absent}})));
    let (status, fault) = world.json("POST", "/services", json!({"host": 5, "bogus": true}));
    assert_eq!((status, &fault["code"], &fault["fields"]["bogus"]), (400, &json!(2), &json!("unknown field")));
    assert_eq!(world.send("POST", "/services", Some("text/plain"), "x").0, 415);
    assert_eq!(world.send("POST", "/services", Some("application/json"), "{").1["message"], "Cannot parse JSON body");
    assert_eq!(world.send("DELETE", "/services", None, "").0, 405);
    assert_eq!(world.get("/nothing").0, 404);
    assert_eq!(world.get("/services?size=0").1["name"], "invalid size");
    assert_eq!(world.get("/services?offset=x").1["code"], 7);
    assert_eq!(world.get("/services?tags=a,b/c").1["options"]["tags"], "invalid filter syntax");
    assert_eq!(world.json("PATCH", "/services/none", json!({"port": 1})).0, 404);
}

#[test]
fn lists_have_pages_and_filters() {
    let world = World::new();
    for n in 0..7 {
        let tags = if n % 2 == 0 { json!(["even", "all"]) } else { json!(["odd", "all"]) };
        assert_eq!(world.json("POST", "/services", json!({"name": format!("s{n}"), "host": "h", "tags": tags})).0, 201);
    }
    let mut names = Vec::new();
    let mut target = "/services?size=3".to_owned();
    loop {
        let (status, page) = world.get(&target);
        assert_eq!(status, 200, "{page}");
        names.extend(page["data"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => target = next.to_owned(),
            None => break,
        }
    }
    names.sort();
    assert_eq!(names, (0..7).map(|n| format!("s{n}")).collect::<Vec<_>>());
    let count = |target: &str| world.get(target).1["data"].as_array().unwrap().len();
    assert_eq!(
        [count("/services?tags=even,all"), count("/services?tags=even/odd"), count("/services?tags=x")],
        [4, 7, 0]
    );
    assert_eq!(count("/tags"), 14);
    assert_eq!(count("/tags/odd"), 3);
}

#[test]
fn plugins_credentials_and_targets_follow_their_rules() {
    let world = World::new();
    world.json("PUT", "/consumers/u", json!({}));
    let (status, key) = world.json("POST", "/consumers/u/key-auth", json!({}));
    assert_eq!((status, key["key"].as_str().unwrap().len()), (201, 32));
    assert_eq!(world.get(&format!("/key-auths/{}", key["key"].as_str().unwrap())).0, 200);
    let (status, group) = world.json("PUT", "/consumers/u/acls/admins", json!({}));
    assert_eq!((status, &group["group"]), (200, &json!("admins")), "{group}");
    assert_eq!(world.get("/consumers/u/acls/admins").1, group);
    let (status, account) =
        world.json("POST", "/consumers/u/basic-auth", json!({"username": "x", "password": "secret"}));
    assert_eq!((status, account["password"].as_str().unwrap().len()), (201, 40));
    let (status, signer) = world.json("POST", "/consumers/u/hmac-auth", json!({"username": "x"}));
    assert_eq!((status, signer["secret"].as_str().unwrap().len()), (201, 32));
    assert_eq!(world.get("/hmac-auths/x"), (200, signer.clone()));
    assert_eq!(world.json("POST", "/consumers/u/hmac-auth", json!({"username": "x"})).0, 409);
    let (_, plugin) = world.json("POST", "/plugins", json!({"name": "key-auth"}));
    assert_eq!(plugin["config"]["key_names"], json!(["apikey"]));
    let (status, fault) = world.json("POST", "/plugins", json!({"name": "key-auth"}));
    assert_eq!(
        (status, fault["message"].as_str().unwrap()),
        (409, "UNIQUE violation detected on '{consumer=null,name=\"key-auth\",route=null,service=null}'")
    );
    let id = plugin["id"].as_str().unwrap();
    let (_, plugin) = world.json("PATCH", &format!("/plugins/{id}"), json!({"config": {"hide_credentials": true}}));
    assert_eq!(
        (&plugin["config"]["hide_credentials"], &plugin["config"]["key_names"]),
        (&json!(true), &json!(["apikey"]))
    );
    world.json("POST", "/upstreams", json!({"name": "up.test"}));
    let (status, target) = world.json("POST", "/upstreams/up.test/targets", json!({"target": "10.0.0.1"}));
    assert_eq!((status, &target["target"]), (201, &json!("10.0.0.1:8000")), "{target}");
    let (status, fault) = world.json("POST", "/upstreams/up.test/targets", json!({"target": "10.0.0.1:8000"}));
    assert_eq!((status, &fault["code"]), (409, &json!(5)));
    assert_eq!(world.get("/upstreams/up.test/health").1["data"][0]["health"], "HEALTHCHECKS_OFF");
    assert_eq!(world.json("PATCH", "/upstreams/up.test/targets/10.0.0.1:8000", json!({"weight": 5})).1["weight"], 5);
    assert_eq!(world.send("DELETE", "/upstreams/up.test/targets/10.0.0.1:8000", None, "").0, 204);
    // What belongs to a consumer goes with it.
    assert_eq!(world.send("DELETE", "/consumers/u", None, "").0, 204);
    assert_eq!(world.get("/key-auths").1["data"], json!([]));
}

#[test]
fn information_is_what_clients_look_for() {
    let world = World::new();
    let (_, root) = world.get("/");
    assert_eq!((&root["version"], &root["configuration"]["database"]), (&json!("3.9.3"), &json!("postgres")));
    assert!(root["plugins"]["available_on_server"]["key-auth"]["priority"].is_i64());
    assert!(world.get("/schemas/routes").1["fields"].as_array().unwrap().len() > 10);
    assert_eq!(world.get("/schemas/none").1["message"], "No entity named 'none'");
    assert_eq!(world.get("/schemas/plugins/none").1["message"], "No plugin named 'none'");
    assert_eq!(
        world.json("POST", "/schemas/services/validate", json!({"host": "x"})),
        (200, json!({"message": "schema validation successful"}))
    );
    assert_eq!(world.json("POST", "/schemas/services/validate", json!({"port": 1})).0, 400);
    let (_, endpoints) = world.get("/endpoints");
    let has = |path: &str| endpoints["data"].as_array().unwrap().iter().any(|other| other == path);
    assert!(has("/services/{services}/routes/{routes}") && has("/consumers/{consumers}/key-auth") && !has("/targets"));
    assert_eq!(world.get("/default/services").0, 200);
    assert_eq!(world.get("/config").0, 400);
    let (status, _) = world.send("OPTIONS", "/services", None, "");
    assert_eq!(status, 204);
}

#[test]
fn consumer_groups_are_shown_with_members_and_plugins() {
    let world = World::new();
    world.json("PUT", "/consumers/u", json!({}));
    let (status, group) = world.json("POST", "/consumer_groups", json!({"name": "gold"}));
    assert_eq!((status, &group["name"]), (201, &json!("gold")), "{group}");
    assert_eq!(world.json("POST", "/consumer_groups/gold/consumers", json!({"consumer": "u"})).0, 201);
    let plugin = json!({"name": "rate-limiting", "config": {"minute": 5}});
    assert_eq!(world.json("POST", "/consumer_groups/gold/plugins", plugin).0, 201);
    let (_, shown) = world.get("/consumer_groups/gold");
    assert_eq!(shown["consumer_group"], group);
    assert_eq!(shown["consumers"][0]["username"], "u");
    assert_eq!(shown["plugins"][0]["name"], "rate-limiting");
    assert_eq!(world.get("/consumers/u/consumer_groups").1["consumer_groups"][0]["name"], "gold");
    assert_eq!(world.send("DELETE", "/consumer_groups/gold/consumers/u", None, "").0, 204);
    assert_eq!(world.get("/consumer_groups/gold").1["consumers"], json!([]));
}

#[test]
fn ids_have_one_spelling() {
    let world = World::new();
    let (lower, upper) = ("4b24258c-df4c-4bb1-900b-ac7f649cc19d", "4B24258C-DF4C-4BB1-900B-AC7F649CC19D");
    let (status, service) = world.json("POST", "/services", json!({"id": upper, "name": "s", "host": "h"}));
    assert_eq!((status, &service["id"]), (201, &json!(lower)));
    let (status, fault) = world.json("POST", "/services", json!({"id": lower, "host": "h"}));
    assert_eq!((status, &fault["code"]), (400, &json!(3)), "{fault}");
    let (status, route) = world.json("POST", "/routes", json!({"paths": ["/"], "service": {"id": upper}}));
    assert_eq!((status, &route["service"]["id"]), (201, &json!(lower)), "{route}");
    assert_eq!(
        world.send("DELETE", &format!("/routes/{}", route["id"].as_str().unwrap().to_uppercase()), None, "").0,
        204
    );
    assert_eq!(world.get("/routes").1["data"], json!([]));
}

#[test]
fn hashes_of_passwords_are_not_hashed() {
    let world = World::new();
    world.json("PUT", "/consumers/a", json!({}));
    world.json("PUT", "/consumers/b", json!({}));
    let (_, account) = world.json("POST", "/consumers/a/basic-auth", json!({"username": "x", "password": "p"}));
    let target = format!("/basic-auths/{}", account["id"].as_str().unwrap());
    let (status, fault) = world.json("PATCH", &target, json!({"consumer": {"username": "b"}}));
    let message = "schema violation (all or none of these fields must be set: 'password', 'consumer.id')";
    assert_eq!((status, fault["message"].as_str()), (400, Some(message)));
    let (status, moved) = world.json("PATCH", &target, json!({"consumer": {"username": "b"}, "password": "p"}));
    assert_eq!(status, 200);
    assert_ne!(moved["password"], account["password"]);
}

#[test]
fn lives_of_credentials_are_checked() {
    let world = World::new();
    world.json("PUT", "/consumers/u", json!({}));
    for ttl in [json!("60"), json!(true), json!(-1), json!(1.5), json!(1e18), json!([])] {
        let (status, fault) = world.json("POST", "/consumers/u/key-auth", json!({"key": "k", "ttl": ttl}));
        assert_eq!((status, &fault["code"]), (400, &json!(11)), "{ttl}: {fault}");
    }
    assert_eq!(world.json("POST", "/consumers/u/key-auth", json!({"key": "k", "ttl": 60})).0, 201);
}
