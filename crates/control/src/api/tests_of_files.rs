//! The API over the entities of a loaded configuration.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cardinal_base::{SeededRng, SystemClock};
use cardinal_kong::{Registry, Settings, Source, load};
use serde_json::{Value, json};

use super::{Admin, AdminSettings, Declarative, Request, Response};
use crate::dao::FutureOf;
use crate::{Dao, Fault, NoProxies, SnapshotStore};

/// What was posted, and whether another one is being loaded.
#[derive(Debug, Default)]
struct Posts {
    texts: Mutex<Vec<(String, bool)>>,
    busy: bool,
}

impl Declarative for Posts {
    fn text(&self) -> String {
        "_format_version: \"3.0\"\n".to_owned()
    }

    fn hash(&self) -> String {
        "0".repeat(32)
    }

    fn is_served(&self, text: &str) -> bool {
        text == "served"
    }

    fn replace(&self, text: String, flatten_errors: bool) -> FutureOf<'_, Result<Value, Fault>> {
        self.texts.lock().unwrap().push((text, flatten_errors));
        let busy = self.busy;
        Box::pin(async move { if busy { Err(Fault::message(429, "busy")) } else { Ok(json!({})) } })
    }
}

struct World {
    admin: Admin,
    posts: Arc<Posts>,
}

impl World {
    fn new(document: &Value, busy: bool) -> Self {
        let families = [cardinal_plugins_auth::PLUGINS, cardinal_plugins_traffic::PLUGINS];
        let (registry, clock) = (Arc::new(Registry::new(&families.concat())), Arc::new(SystemClock::new()));
        let source = [Source::new("test", document.to_string())];
        let store = Arc::new(SnapshotStore::new(Arc::clone(&registry)));
        store.replace(Arc::new(load(&source, &registry, &Settings::default()).unwrap()));
        let dao = Dao::new(store, registry, clock, SeededRng::new(7));
        let settings = AdminSettings {
            version: "3.9.3".to_owned(),
            hostname: "test".to_owned(),
            configuration: json!({ "database": "off" }),
            origins: Vec::new(),
            is_control_plane: false,
            body_bytes_max: 1 << 20,
            enforce_rbac: Default::default(),
            sessions: Default::default(),
        };
        let posts = Arc::new(Posts { busy, ..Posts::default() });
        let admin = Admin::declarative(dao, Arc::new(NoProxies), settings, Arc::clone(&posts) as _);
        Self { admin, posts }
    }

    fn send(&self, method: &str, target: &str, (content_type, body): (&str, &str)) -> Response {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            content_type: (!content_type.is_empty()).then(|| content_type.to_owned()),
            origin: None,
            host: None,
            is_local: true,
            preflight_headers: None,
            credentials: Default::default(),
            from: "127.0.0.1".to_owned(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.admin.answer(&request))
    }

    fn get(&self, target: &str) -> (u16, Value) {
        let response = self.send("GET", target, ("", ""));
        (response.status, response.body.unwrap_or_default())
    }

    /// The values of a field in all pages of a list.
    fn all(&self, target: &str, field: &str) -> Vec<String> {
        let (mut target, mut out) = (target.to_owned(), Vec::new());
        loop {
            let (status, page) = self.get(&target);
            assert_eq!(status, 200, "{page}");
            out.extend(page["data"].as_array().unwrap().iter().map(|one| one[field].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => target = next.to_owned(),
                None => break,
            }
        }
        out.sort();
        out
    }
}

fn document() -> Value {
    let routes: Vec<Value> = (0..5)
        .map(|n| json!({ "name": format!("r{n}"), "paths": [format!("/{n}")], "tags": ["t", format!("t{}", n % 2)] }))
        .collect();
    json!({
        "_format_version": "3.0",
        "services": [{ "name": "s", "host": "a.test", "routes": routes }, { "name": "other", "host": "b.test" }],
        "consumers": [{ "username": "anna", "custom_id": "c-1", "groups": [{ "name": "gold" }],
            "keyauth_credentials": [{ "key": "secret-of-anna" }], "acls": [{ "group": "staff" }] }],
        "consumer_groups": [{ "name": "gold" }, { "name": "silver" }],
        "upstreams": [{ "name": "up", "targets": [{ "target": "127.0.0.1:80" }, { "target": "127.0.0.2:80" }] }],
        "plugins": [{ "name": "key-auth", "instance_name": "i", "service": "s" }],
    })
}

#[test]
fn loaded_entities_are_found_and_listed() {
    let world = World::new(&document(), false);
    let (_, service) = world.get("/services/s");
    let id = service["id"].as_str().unwrap();
    assert_eq!(world.get(&format!("/services/{id}")), (200, service.clone()));
    assert_eq!(world.get("/services/none").0, 404);
    assert_eq!(world.all("/routes?size=2", "name"), ["r0", "r1", "r2", "r3", "r4"]);
    assert_eq!(world.all("/services/s/routes?size=2", "name"), ["r0", "r1", "r2", "r3", "r4"]);
    assert_eq!(world.all("/services/other/routes", "name"), Vec::<String>::new());
    assert_eq!(world.all("/routes?tags=t,t1&size=1", "name"), ["r1", "r3"]);
    assert_eq!(world.all("/routes?tags=t0/t1", "name").len(), 5);
    assert_eq!(world.get("/routes/r3/service").1["name"], "s");
    assert_eq!(world.get("/plugins/i").1["service"]["id"], id);
    assert_eq!(world.all("/services/s/plugins", "name"), ["key-auth"]);
    assert_eq!(world.get("/key-auths/secret-of-anna").0, 200);
    assert_eq!(world.all("/consumers/anna/key-auth", "key"), ["secret-of-anna"]);
    assert_eq!(world.get("/consumers/anna/acls/staff").0, 200);
    assert_eq!(world.all("/consumers?custom_id=c-1", "username"), ["anna"]);
    assert_eq!(world.all("/upstreams/up/targets", "target"), ["127.0.0.1:80", "127.0.0.2:80"]);
    assert_eq!(world.get("/upstreams/up/health").1["data"].as_array().unwrap().len(), 2);
    assert_eq!(world.get("/consumer_groups/gold/consumers").1["consumers"][0]["username"], "anna");
    assert_eq!(world.get("/consumers/anna/consumer_groups").1["consumer_groups"][0]["name"], "gold");
    assert_eq!(world.get("/consumer_groups/silver/consumers").1["consumers"], json!([]));
    assert_eq!(world.get("/tags/t1").1["data"].as_array().unwrap().len(), 2);
    assert_eq!(world.get("/").1["configuration"]["database"], "off");
    assert_eq!(world.get("/").1["plugins"]["enabled_in_cluster"], json!(["key-auth"]));
    assert_eq!(world.get("/status").1["configuration_hash"], json!("0".repeat(32)));
    assert_eq!(world.get("/routes?offset=x").1["code"], 7);
}

#[test]
fn entities_cannot_be_written() {
    let world = World::new(&document(), false);
    let id = "a7f1e8a4-8d4c-4b7c-9f43-0a5a3d2c1b00";
    let cases = [
        ("POST", "/services", "cannot create 'services' entities"),
        ("PUT", "/services/s", "cannot create or update 'services' entities by 'name'"),
        ("PATCH", "/services/s", "cannot update 'services' entities by 'name'"),
        ("DELETE", "/services/s", "cannot remove 'services' entities by 'name'"),
        ("DELETE", &format!("/services/{id}"), "cannot remove 'services' entities"),
        ("POST", "/services/s/routes", "cannot create 'routes' entities"),
        ("POST", "/upstreams/up/targets", "cannot create 'targets' entities"),
    ];
    for (method, target, expect) in cases {
        let response = world.send(method, target, ("application/json", "{}"));
        let expect = json!({ "code": 12, "name": "operation unsupported",
            "message": format!("{expect} when not using a database") });
        assert_eq!((response.status, response.body), (405, Some(expect)), "{method} {target}");
    }
    assert_eq!(world.get("/services/s").1["host"], "a.test");
}

#[test]
fn a_configuration_is_taken_from_the_body_or_from_its_field() {
    let world = World::new(&document(), false);
    let multipart = "--b\r\nContent-Disposition: form-data; name=\"config\"\r\n\r\na: 1\r\n--b--\r\n";
    let cases = [
        ("/config", "text/yaml", "_format_version: '3.0'", "_format_version: '3.0'", false),
        ("/config?flatten_errors=1", "application/json", "{\"config\": \"a: 1\"}", "a: 1", true),
        ("/config?flatten_errors=true", "application/json", "{\"config\": {\"a\": 1}}", "{\"a\":1}", true),
        ("/config", "application/json", "{ \"_format_version\": \"3.0\" }", "{ \"_format_version\": \"3.0\" }", false),
        ("/config?check_hash=1", "application/x-www-form-urlencoded", "config=a%3A%201", "a: 1", false),
        ("/config", "multipart/form-data; boundary=b", multipart, "a: 1", false),
        ("/config", "text/yaml", "served", "served", false),
    ];
    for (target, content_type, body, expect, flatten) in cases {
        assert_eq!(world.send("POST", target, (content_type, body)).status, 201, "{body}");
        assert_eq!(world.posts.texts.lock().unwrap().pop(), Some((expect.to_owned(), flatten)), "{body}");
    }
    let response = world.send("POST", "/config?check_hash=1", ("text/yaml", "served"));
    assert_eq!((response.status, response.body), (304, None));
    for (content_type, body, status) in
        [("", "", 400), ("text/yaml", " \n", 400), ("application/json", "{", 400), ("text/plain", "a: 1", 415)]
    {
        assert_eq!(world.send("POST", "/config", (content_type, body)).status, status, "{content_type} {body:?}");
    }
    assert_eq!(world.posts.texts.lock().unwrap().len(), 0);
    assert_eq!(world.get("/config").1["config"], "_format_version: \"3.0\"\n");
    let busy = World::new(&document(), true).send("POST", "/config", ("text/yaml", "a: 1"));
    assert_eq!(busy.status, 429);
    assert!(busy.headers.contains(&("retry-after", "1".to_owned())), "{:?}", busy.headers);
}
