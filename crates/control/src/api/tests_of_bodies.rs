//! Bodies, paths and queries that nobody sends in earnest.

use serde_json::{Value, json};

use super::tests::World;

const ID: &str = "e3e70682-c209-4cac-a29f-6fbed82c07cd";
const JSON: &str = "application/json";

/// A path, and a body for it.
fn refused(world: &World, method: &str, target: &str, body: Value, status: u16, said: &str) {
    let (found, answer) = world.json(method, target, body.clone());
    assert_eq!(found, status, "{method} {target} {body}: {answer}");
    assert!(answer["message"].as_str().unwrap().contains(said), "{method} {target} {body}: {answer}");
}

#[test]
fn an_id_of_another_entity_is_refused() {
    let world = World::new();
    assert_eq!(world.json("POST", "/consumers", json!({"id": ID, "username": "a"})).0, 201);
    refused(&world, "PUT", "/consumers/b", json!({"id": ID}), 400, "primary key violation");
    assert_eq!(world.json("PUT", "/consumers/a", json!({"id": ID})).0, 200);
}

#[test]
fn what_is_made_is_never_null() {
    let world = World::new();
    let (status, consumer) = world.json("PUT", "/consumers/a", json!({"id": null, "created_at": null}));
    assert!(status == 200 && consumer["id"].is_string() && consumer["created_at"].is_i64(), "{consumer}");
    let (_, signer) =
        world.json("POST", "/consumers/a/hmac-auth", json!({"id": null, "username": "x", "secret": null}));
    assert!(signer["id"].is_string() && signer["secret"].is_string(), "{signer}");
    let target = format!("/hmac-auths/{}", signer["id"].as_str().unwrap());
    assert_eq!(world.json("PATCH", &target, json!({"secret": null, "id": null})), (200, signer));
}

#[test]
fn what_the_path_says_must_make_sense_in_the_body_too() {
    let world = World::new();
    world.json("PUT", "/consumers/a", json!({}));
    refused(
        &world,
        "POST",
        "/consumers/a/acls",
        json!({"group": "g", "consumer": 5}),
        400,
        "consumer: expected a record",
    );
    refused(&world, "PUT", "/consumers/a", json!({"username": []}), 400, "username: expected a string");
    refused(
        &world,
        "PUT",
        &format!("/consumers/{ID}"),
        json!({"id": "x", "username": "b"}),
        400,
        "id: expected a valid UUID",
    );
    refused(&world, "PATCH", "/consumers/a", json!({"id": 5}), 400, "id: expected a string");
    // As in Kong, the path wins over what does.
    let other = json!({"consumer": {"username": "none"}, "group": "g"});
    assert_eq!(world.json("POST", "/consumers/a/acls", other).0, 201);
}

#[test]
fn times_and_tags_have_bounds() {
    let world = World::new();
    for time in [json!(0), json!(-1), json!(1e300), json!(u64::MAX), json!(253_402_300_800_i64)] {
        refused(
            &world,
            "POST",
            "/services",
            json!({"host": "h", "created_at": time}),
            400,
            "expected a valid timestamp",
        );
    }
    assert_eq!(world.json("POST", "/services", json!({"host": "h", "created_at": 253_402_300_799_i64})).0, 201);
    refused(
        &world,
        "POST",
        "/services",
        json!({"host": "h", "tags": ["t".repeat(1_025)]}),
        400,
        "more than 1024 bytes",
    );
    assert_eq!(world.json("POST", "/services", json!({"host": "h", "tags": ["t".repeat(1_024)]})).0, 201);
    // Its life is over at once.
    world.json("PUT", "/consumers/a", json!({}));
    let (_, key) = world.json("POST", "/consumers/a/key-auth", json!({"created_at": 1, "ttl": 5}));
    assert_eq!(key["ttl"], 0);
}

#[test]
fn missing_plugins_are_said_to_be_missing() {
    let world = World::new();
    let kong = "plugin 'statsd' not enabled; add it to the 'plugins' configuration property";
    for target in ["/plugins", "/schemas/plugins/validate"] {
        refused(&world, "POST", target, json!({"name": "statsd"}), 400, kong);
        refused(
            &world,
            "POST",
            target,
            json!({"name": "statsd"}),
            400,
            "this version does not have Kong's plugin 'statsd'",
        );
        refused(&world, "POST", target, json!({"name": "kye-auth"}), 400, "did you mean 'key-auth'?");
    }
}

#[test]
fn methods_that_a_path_does_not_take_are_answered_with_those_it_takes() {
    let world = World::new();
    for (method, target, allow) in [
        ("TRACE", "/services", "GET, HEAD, OPTIONS, POST"),
        ("PROPFIND", "/routes/r/service", "GET, HEAD, OPTIONS, PATCH, PUT"),
        ("DELETE", "/cache/x/", "DELETE, GET, HEAD, OPTIONS"),
    ] {
        let answer = world.answer(method, target, None, "");
        let found = answer.headers.iter().find(|(name, _)| *name == "allow");
        match method {
            "DELETE" => assert_eq!(answer.status, 204),
            _ => assert_eq!(
                (answer.status, found.map(|(_, value)| value.as_str())),
                (405, Some(allow)),
                "{method} {target}"
            ),
        }
    }
}

/// Every answer is one of a client's error, or a right one.
#[test]
fn nonsense_is_refused() {
    let world = World::new();
    world.json("PUT", "/services/s", json!({"host": "h"}));
    let deep = |open: &str, close: &str| format!("{{\"name\":{}{}}}", open.repeat(10_000), close.repeat(10_000));
    let bodies = [
        String::new(),
        "null".to_owned(),
        "[1]".to_owned(),
        "{".to_owned(),
        "\u{feff}{}".to_owned(),
        deep("[", "]"),
        deep("{\"a\":", "}"),
        "{\"name\":\"a\",\"name\":5}".to_owned(),
        "{\"name\":\"\\u0000\",\"host\":\"h\"}".to_owned(),
        "{\"name\":\"\\ud800\",\"host\":\"h\"}".to_owned(),
        format!("{{\"host\":\"h\",\"port\":{}}}", "9".repeat(400)),
        "{\"host\":\"h\",\"port\":1e999}".to_owned(),
        "{\"host\":\"h\",\"port\":-0.5}".to_owned(),
    ];
    let targets = [
        "/services",
        "/services/s/routes",
        "/plugins",
        "/certificates",
        "/schemas/routes/validate",
        "/cardinal/v1/batch",
    ];
    for (target, body) in targets.iter().flat_map(|target| bodies.iter().map(move |body| (target, body))) {
        for content_type in [JSON, "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"] {
            let (status, answer) = world.send("POST", target, Some(content_type), body);
            let text: String = body.chars().take(40).collect();
            assert!((400..500).contains(&status), "{status} {target} {content_type} {text}: {answer}");
            assert!(answer["message"].is_string(), "{target} {text}: {answer}");
        }
    }
}

#[test]
fn names_in_paths_and_queries_may_be_anything() {
    let world = World::new();
    world.json("PUT", "/services/s", json!({"host": "h"}));
    let names =
        ["%00", "%ff", "%", "%2e%2e", "..", "%2F", "%25%32%46", "%F0%9F%A6%80", "a%0d%0aX:b", "%zz", "+", ";", "null"];
    let kinds =
        ["services", "plugins", "certificates", "consumers", "tags", "key-auths", "upstreams", "cache", "schemas"];
    for (kind, name) in kinds.iter().flat_map(|kind| names.iter().map(move |name| (kind, name))) {
        for method in ["GET", "PUT", "PATCH", "DELETE"] {
            let (status, answer) = world.json(method, &format!("/{kind}/{name}"), json!({"host": "h"}));
            assert!(status < 500, "{status} {method} /{kind}/{name}: {answer}");
        }
    }
    let long = format!("/services/{}", "a".repeat(5_000));
    for (target, status) in [
        (long.as_str(), 404),
        ("///", 200),
        ("/services//s", 200),
        ("/services/s/routes/r/x/y/z/a/b", 404),
        ("/services?size=-1", 400),
        ("/services?size=1e400", 400),
        ("/services?size=NaN", 400),
        ("/services?size=9223372036854775808", 400),
        ("/services?size=1&size=2", 400),
        ("/services?size[]=1", 400),
        ("/services?offset=%00", 400),
        ("/services?offset=WzFd", 400),
        ("/services?offset=%F0%9F%A6%80", 400),
        ("/services?tags=%00", 400),
        ("/tags?size=0", 400),
        ("/tags?offset=-1", 400),
        ("/tags?offset=18446744073709551615", 200),
        ("/cardinal/v1/generations?before=-1", 400),
        ("/cardinal/v1/generations/18446744073709551615", 404),
        ("/cardinal/v1/generations/99999999999999999999", 404),
        ("/cardinal/v1/generations/9223372036854775808/diff/0", 404),
        ("/services?a[1000][1000][1000]=1", 200),
    ] {
        let (found, answer) = world.get(target);
        assert_eq!(found, status, "{target}: {answer}");
    }
}
