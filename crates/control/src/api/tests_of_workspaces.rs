//! Workspaces over a store in memory, without sockets.

use serde_json::{Value, json};

use super::tests::World;

const DEFAULT: &str = "0dc6f45b-8f8d-40d2-a504-473544ee190b";

/// A world with these workspaces.
fn with(names: &[&str]) -> World {
    let world = World::new();
    for name in names {
        assert_eq!(world.json("POST", "/workspaces", json!({ "name": name })).0, 201);
    }
    world
}

fn names(answer: &(u16, Value)) -> Vec<&str> {
    assert_eq!(answer.0, 200, "{}", answer.1);
    answer.1["data"].as_array().unwrap().iter().map(|entity| entity["name"].as_str().unwrap()).collect()
}

#[test]
fn workspaces_are_created_read_changed_and_deleted() {
    let world = World::new();
    assert_eq!(names(&world.get("/workspaces")), ["default"]);
    assert_eq!(world.get("/workspaces/default").1["id"], DEFAULT);
    let given = json!({"name": "team-a", "comment": "first", "meta": {"color": "#123"}, "config": {"portal": false}});
    let (status, made) = world.json("POST", "/workspaces", given);
    assert_eq!((status, &made["meta"]["color"], &made["config"]["portal"]), (201, &json!("#123"), &json!(false)));
    let id = made["id"].as_str().unwrap();
    assert_eq!(world.get(&format!("/workspaces/{id}")), (200, made.clone()));
    assert_eq!(world.get("/team-a/workspaces/team-a").1["id"], made["id"]);
    assert_eq!(world.json("PATCH", "/workspaces/team-a", json!({"comment": "second"})).1["comment"], "second");
    assert_eq!(world.json("PUT", "/workspaces/team-a", json!({"name": "team-a"})).1["comment"], Value::Null);
    let renamed = world.json("PATCH", "/workspaces/team-a", json!({"name": "team-b"}));
    assert_eq!(renamed, (400, json!({"message": "Cannot rename a workspace"})));
    assert_eq!(world.json("POST", "/workspaces", json!({"name": "team-a"})).0, 409);
    let second = world.json("PUT", "/workspaces/team-c", json!({}));
    assert_eq!((second.0, &second.1["name"]), (200, &json!("team-c")));
    for name in ["services", "kong", "key-auths", "ca_certificates", "rbac"] {
        assert_eq!(world.json("POST", "/workspaces", json!({ "name": name })).0, 400, "{name}");
    }
    assert_eq!(world.send("DELETE", "/workspaces/team-a", None, "").0, 204);
    assert_eq!(world.get("/workspaces/team-a").0, 404);
}

#[test]
fn the_default_workspace_is_always_there() {
    let world = World::new();
    assert_eq!(world.json("POST", "/workspaces", json!({"name": "default"})).0, 409);
    assert_eq!(world.json("POST", "/workspaces", json!({"name": "x", "id": DEFAULT})).0, 400);
    let (_, changed) = world.json("PATCH", "/workspaces/default", json!({"comment": "ours"}));
    assert_eq!(changed["comment"], "ours", "{changed}");
    assert_eq!(world.json("PUT", &format!("/workspaces/{DEFAULT}"), json!({"name": "default"})).0, 200);
    for cascade in ["", "?cascade=true"] {
        let answer = world.send("DELETE", &format!("/workspaces/default{cascade}"), None, "");
        assert_eq!(answer, (400, json!({"message": "Cannot delete default workspace"})));
    }
    for n in 0..3 {
        world.json(
            "PUT",
            &format!("/workspaces/{n}fffffff-0000-4000-8000-000000000000"),
            json!({"name": format!("w{n}")}),
        );
    }
    let mut seen = Vec::new();
    let mut path = "/workspaces?size=1".to_owned();
    loop {
        let (_, answer) = world.get(&path);
        let data = answer["data"].as_array().unwrap();
        assert!(data.len() <= 1);
        seen.extend(data.iter().map(|workspace| workspace["name"].as_str().unwrap().to_owned()));
        let Some(next) = answer["next"].as_str() else { break };
        path = next.to_owned();
    }
    seen.sort();
    assert_eq!(seen, ["default", "w0", "w1", "w2"]);
    assert_eq!(World::new().get("/workspaces?size=1").1["next"], Value::Null);
}

#[test]
fn entities_of_another_workspace_do_not_exist() {
    let world = with(&["a", "b"]);
    let mut ids = Vec::new();
    for workspace in ["a", "b", "default"] {
        let body = json!({"name": "s", "host": format!("{workspace}.test"), "tags": ["shared"]});
        let (status, service) = world.json("POST", &format!("/{workspace}/services"), body);
        assert_eq!(status, 201, "{service}");
        ids.push(service["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(world.json("POST", "/a/services", json!({"name": "s", "host": "x"})).0, 409);
    assert_eq!(world.get("/services/s").1["host"], "default.test");
    assert_eq!(world.get("/a/services/s").1["host"], "a.test");
    assert_eq!(names(&world.get("/b/services")), ["s"]);
    assert_eq!(world.get("/a/tags/shared").1["data"].as_array().unwrap().len(), 1);
    let foreign = format!("/a/services/{}", ids[1]);
    assert_eq!(world.get(&foreign), (404, json!({"message": "Not found"})));
    assert_eq!(world.json("PATCH", &foreign, json!({"host": "x"})).0, 404);
    assert_eq!(world.json("PUT", &foreign, json!({"host": "x"})).0, 400);
    assert_eq!(world.send("DELETE", &foreign, None, "").0, 204);
    assert_eq!(world.get(&format!("/b/services/{}", ids[1])).1["host"], "b.test");
    let (status, fault) = world.json("POST", "/a/routes", json!({"paths": ["/x"], "service": {"id": ids[1]}}));
    assert_eq!((status, &fault["code"]), (400, &json!(4)), "{fault}");
    let (status, fault) = world.json("POST", "/routes", json!({"paths": ["/x"], "service": {"id": ids[0]}}));
    assert_eq!((status, &fault["code"]), (400, &json!(4)), "{fault}");
    let (status, route) = world.json("POST", "/a/services/s/routes", json!({"name": "r", "paths": ["/x"]}));
    assert_eq!((status, &route["service"]["id"]), (201, &json!(ids[0])));
    assert_eq!(world.get("/b/routes/r").0, 404);
    assert_eq!(world.get("/b/services/s/routes").1["data"], json!([]));
}

#[test]
fn paths_of_unknown_workspaces_are_told_apart() {
    let world = with(&["a"]);
    assert_eq!(world.get("/none/services"), (404, json!({"message": "Workspace 'none' not found"})));
    assert_eq!(world.get("/none/kong"), (404, json!({"message": "Workspace 'none' not found"})));
    assert_eq!(world.get("/none"), (404, json!({"message": "Not found"})));
    assert_eq!(world.get("/a/nothing"), (404, json!({"message": "Not found"})));
    for path in ["/a/kong", "/default/kong", "/a"] {
        assert_eq!(world.get(path).1["tagline"], "Welcome to kong", "{path}");
    }
    world.json("POST", "/a/plugins", json!({"name": "key-auth"}));
    assert_eq!(world.get("/a/kong").1["plugins"]["enabled_in_cluster"], json!(["key-auth"]));
    assert_eq!(world.get("/").1["plugins"]["enabled_in_cluster"], json!([]));
    for n in 0..2 {
        world.json("POST", "/a/consumers", json!({"username": format!("c{n}")}));
    }
    let next = world.get("/a/consumers?size=1").1["next"].as_str().unwrap().to_owned();
    assert!(next.starts_with("/a/consumers?offset="), "{next}");
    assert_eq!(world.get(&next).1["data"].as_array().unwrap().len(), 1);
}

#[test]
fn a_workspace_with_entities_is_deleted_with_them_or_not_at_all() {
    let world = with(&["a"]);
    world.json("POST", "/a/services", json!({"name": "s", "host": "h"}));
    world.json("POST", "/a/services/s/routes", json!({"name": "r", "paths": ["/x"]}));
    world.json("PUT", "/a/consumers/anna", json!({}));
    world.json("POST", "/a/consumers/anna/key-auth", json!({"key": "k"}));
    world.json("POST", "/a/consumer_groups", json!({"name": "g"}));
    assert_eq!(world.json("POST", "/a/consumer_groups/g/consumers", json!({"consumer": "anna"})).0, 201);
    world.json("POST", "/services", json!({"name": "s", "host": "h"}));
    let refused = world.send("DELETE", "/workspaces/a", None, "");
    assert_eq!(refused, (400, json!({"message": "Workspace is not empty"})));
    assert_eq!(world.send("DELETE", "/workspaces/a?cascade=true", None, "").0, 204);
    assert_eq!(world.get("/a/services").1["message"], "Workspace 'a' not found");
    assert_eq!(names(&world.get("/services")), ["s"]);
    assert_eq!(with(&["a"]).send("DELETE", "/workspaces/a", None, "").0, 204);
    world.json("POST", "/workspaces", json!({"name": "a"}));
    assert_eq!(world.get("/a/consumers").1["data"], json!([]));
}

#[test]
fn what_is_unique_everywhere_and_what_in_a_workspace() {
    let world = with(&["a", "b"]);
    for workspace in ["a", "b"] {
        assert_eq!(world.json("PUT", &format!("/{workspace}/consumers/anna"), json!({})).0, 200);
        let key = world.json("POST", &format!("/{workspace}/consumers/anna/key-auth"), json!({"key": "k"}));
        assert_eq!(key.0, 201, "{}", key.1);
        assert_eq!(world.json("POST", &format!("/{workspace}/plugins"), json!({"name": "key-auth"})).0, 201);
    }
    assert_eq!(world.json("POST", "/a/consumers/anna/key-auth", json!({"key": "k"})).0, 409);
    let pair = rcgen::generate_simple_self_signed(["x.test".to_owned()]).unwrap();
    let certificate = json!({"cert": pair.cert.pem(), "key": pair.signing_key.serialize_pem(), "snis": ["x.test"]});
    let (status, made) = world.json("POST", "/a/certificates", certificate.clone());
    assert_eq!((status, &made["snis"]), (201, &json!(["x.test"])), "{made}");
    assert_eq!(world.json("POST", "/b/certificates", certificate).0, 400);
    assert_eq!(world.get("/a/snis/x.test").0, 200);
    assert_eq!(world.get("/a/certificates/x.test").1["id"], made["id"]);
    assert_eq!((world.get("/b/snis/x.test").0, world.get("/snis/x.test").0), (404, 404));
}
