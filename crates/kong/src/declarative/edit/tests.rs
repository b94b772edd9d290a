use cardinal_ir::Id;
use serde_json::{Value, json};

use super::*;
use crate::declarative::load;

fn registry() -> Registry {
    let families = [
        cardinal_plugins_auth::PLUGINS,
        cardinal_plugins_traffic::PLUGINS,
        cardinal_plugins_security::PLUGINS,
        cardinal_plugins_transform::PLUGINS,
    ];
    Registry::new(&families.concat())
}

/// A configuration with changes that are collected.
struct World {
    registry: Registry,
    settings: Settings,
    files: Vec<Source>,
    before: Snapshot,
}

impl World {
    fn new(texts: &[&str]) -> Self {
        let (registry, settings) = (registry(), Settings::default());
        let files: Vec<Source> =
            texts.iter().enumerate().map(|(at, text)| Source::new(format!("{at}.yaml"), *text)).collect();
        let before = load(&files, &registry, &settings).unwrap_or_else(|errors| panic!("{}", errors.render()));
        Self { registry, settings, files, before }
    }

    fn id(&self, kind: &str, name: &str) -> Id {
        let is_it = |entity: &crate::Entity| {
            entity.name.as_deref() == Some(name) || entity.text("target") == Some(name) || entity.id.to_string() == name
        };
        self.before.of(kind).find(is_it).unwrap_or_else(|| panic!("no {kind} {name}")).id
    }

    /// A change of some fields, merged as the Admin API does it.
    fn patch(&self, kind: &'static str, name: &str, fields: &Value) -> Change {
        let entity = self.before.get(kind, &self.id(kind, name)).unwrap();
        let mut value = Value::Object(entity.value);
        merge(&mut value, fields);
        let Value::Object(value) = value else { unreachable!() };
        Change::Put { kind, id: entity.id, value }
    }

    /// A new entity with defaults.
    fn create(&self, kind: &'static str, fields: &Value) -> Change {
        let of = self.registry.kind(kind).unwrap();
        let Value::Object(map) = fields else { unreachable!() };
        let schema = self.registry.schema_of(of, map).unwrap();
        let auto = super::super::Fresh { now: 9.0 };
        let options = cardinal_schema::Options { auto: Some(&auto), no_defaults: false };
        let Ok(Value::Object(value)) = schema.process(fields, &options) else { panic!("{fields}") };
        let id = value["id"].as_str().unwrap().parse().unwrap();
        Change::Put { kind, id, value }
    }

    fn delete(&self, kind: &'static str, name: &str) -> Change {
        Change::Delete { kind, id: self.id(kind, name) }
    }

    fn edit(&self, changes: &[Change]) -> Result<Vec<String>, EditError> {
        let fill = |files: &[Source]| Ok(files.to_vec());
        let meaning = Meaning { registry: &self.registry, settings: &self.settings, fill: &fill };
        let files = edit(&self.files, &self.before, changes, &meaning)?;
        Ok(files.into_iter().map(|file| file.text).collect())
    }

    fn edited(&self, changes: &[Change]) -> String {
        self.edit(changes).unwrap_or_else(|error| panic!("{error}")).remove(0)
    }
}

fn merge(value: &mut Value, fields: &Value) {
    match (value, fields) {
        (Value::Object(map), Value::Object(fields)) => {
            for (key, field) in fields {
                merge(map.entry(key.clone()).or_insert(Value::Null), field);
            }
        }
        (value, fields) => *value = fields.clone(),
    }
}

/// The lines that differ, with `-` and `+`.
fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut lengths = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i][j] =
                if old[i] == new[j] { lengths[i + 1][j + 1] + 1 } else { lengths[i + 1][j].max(lengths[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || lengths[i + 1][j] >= lengths[i][j + 1]) {
            out.push_str(&format!("-{}\n", old[i]));
            i += 1;
        } else {
            out.push_str(&format!("+{}\n", new[j]));
            j += 1;
        }
    }
    out
}

fn check(text: &str, changes: impl Fn(&World) -> Vec<Change>, expected: &str) {
    let world = World::new(&[text]);
    let new = world.edited(&changes(&world));
    assert_eq!(diff(text, &new), expected, "{new}");
}

const ORDERS: &str = "\
# The gateway of the shop.
_format_version: \"3.0\"
_info:
  select_tags: [shop]

services:
# Orders, owned by team A.
- name: orders   # do not rename
  host: 'orders.test'
  port: 8080
  tags: [shop, \"a\"]
  routes:
  - name: list
    paths:
    - /orders   # the list
    - /orders/v2
    methods: [GET]
    plugins:
    # Limits of the list.
    - name: rate-limiting
      config:
        minute: 5     # per client
        policy: local
  # The second route.
  - name: create
    paths: [/orders]
    methods: [POST]

# Bills.
- name: bills
  url: http://bills.test:81/api

consumers:
- username: ann
  keyauth_credentials:
  - key: secret-of-ann
- username: bob

upstreams:
- name: up
  targets:
  - target: 10.0.0.1:80
    weight: 10
  - target: 10.0.0.2:80
";

#[test]
fn fields_are_changed_in_their_lines() {
    let patch = |kind: &'static str, name: &'static str, fields: Value, expected: &str| {
        check(ORDERS, |w| vec![w.patch(kind, name, &fields)], expected);
    };
    patch("services", "orders", json!({ "host": "new.test" }), "-  host: 'orders.test'\n+  host: 'new.test'\n");
    patch("services", "orders", json!({ "port": 81 }), "-  port: 8080\n+  port: 81\n");
    patch("services", "orders", json!({ "retries": 2 }), "+  retries: 2\n");
    patch("services", "orders", json!({ "tags": ["shop", "b"] }), "-  tags: [shop, \"a\"]\n+  tags: [shop, \"b\"]\n");
    patch("services", "orders", json!({ "tags": ["shop"] }), "-  tags: [shop, \"a\"]\n+  tags: [shop]\n");
    patch("services", "orders", json!({ "tags": null }), "-  tags: [shop, \"a\"]\n");
    patch("services", "orders", json!({ "enabled": false }), "+  enabled: false\n");
    patch(
        "services",
        "bills",
        json!({ "host": "b.test" }),
        "-  url: http://bills.test:81/api\n+  url: http://b.test:81/api\n",
    );
    patch(
        "services",
        "bills",
        json!({ "path": null }),
        "-  url: http://bills.test:81/api\n+  url: http://bills.test:81\n",
    );
    patch("services", "bills", json!({ "retries": 0, "tags": ["x"] }), "+  retries: 0\n+  tags: [x]\n");
    patch("routes", "list", json!({ "paths": ["/orders", "/v3"] }), "-    - /orders/v2\n+    - /v3\n");
    patch("routes", "list", json!({ "paths": ["/orders", "/orders/v2", "/v3"] }), "+    - /v3\n");
    patch("routes", "list", json!({ "paths": ["/orders"] }), "-    - /orders/v2\n");
    patch("routes", "list", json!({ "headers": { "x-a": ["1", "b"] } }), "+    headers:\n+      x-a: [\"1\", b]\n");
    patch(
        "routes",
        "create",
        json!({ "paths": [] , "hosts": ["a.test"]}),
        "-    paths: [/orders]\n+    paths: []\n+    hosts: [a.test]\n",
    );
    patch("targets", "10.0.0.2:80", json!({ "weight": 7 }), "+    weight: 7\n");
    patch("targets", "10.0.0.1:80", json!({ "weight": 100 }), "-    weight: 10\n+    weight: 100\n");
}

#[test]
fn fields_of_plugins_keep_their_comments() {
    let plugin = |w: &World, fields: Value| {
        let id = w.before.of("plugins").next().unwrap().id.to_string();
        vec![w.patch("plugins", &id, &fields)]
    };
    let set = |fields: Value, expected: &str| check(ORDERS, |w| plugin(w, fields.clone()), expected);
    set(
        json!({ "config": { "minute": 6 } }),
        "-        minute: 5     # per client\n+        minute: 6     # per client\n",
    );
    set(json!({ "config": { "hour": 60 } }), "+        hour: 60\n");
    set(json!({ "config": { "redis": { "host": "r.test" } } }), "+        redis:\n+          host: r.test\n");
    set(json!({ "enabled": false }), "+      enabled: false\n");
}

#[test]
fn entities_are_removed_with_their_comments() {
    check(
        ORDERS,
        |w| {
            let plugin = w.before.of("plugins").next().unwrap().id;
            vec![w.delete("routes", "list"), Change::Delete { kind: "plugins", id: plugin }]
        },
        "-  - name: list\n-    paths:\n-    - /orders   # the list\n-    - /orders/v2\n-    methods: [GET]\n-    plugins:\n-    \
         # Limits of the list.\n-    - name: rate-limiting\n-      config:\n-        minute: 5     # per client\n-        \
         policy: local\n",
    );
    check(
        ORDERS,
        |w| vec![w.delete("routes", "create")],
        "-  # The second route.\n-  - name: create\n-    paths: [/orders]\n-    methods: [POST]\n",
    );
    check(
        ORDERS,
        |w| vec![w.delete("services", "bills")],
        "-# Bills.\n-- name: bills\n-  url: http://bills.test:81/api\n-\n",
    );
    check(
        ORDERS,
        |w| {
            let key = w.before.of("keyauth_credentials").next().unwrap().id;
            vec![Change::Delete { kind: "keyauth_credentials", id: key }]
        },
        "-  keyauth_credentials:\n-  - key: secret-of-ann\n",
    );
    check(
        ORDERS,
        |w| {
            let all: Vec<Id> = w.before.of("targets").map(|target| target.id).collect();
            let mut all: Vec<_> = all.into_iter().map(|id| Change::Delete { kind: "targets", id }).collect();
            all.push(w.delete("upstreams", "up"));
            all
        },
        "-upstreams:\n-- name: up\n-  targets:\n-  - target: 10.0.0.1:80\n-    weight: 10\n-  - target: 10.0.0.2:80\n+upstreams: []\n",
    );
}

#[test]
fn new_entities_look_like_their_neighbours() {
    let id = "8f1e9d2c-0000-4000-8000-000000000001";
    check(
        ORDERS,
        |w| vec![w.create("services", &json!({ "id": id, "name": "mail", "host": "mail.test", "tags": ["x", "yes"] }))],
        &format!("+- name: mail\n+  id: {id}\n+  host: mail.test\n+  tags: [x, \"yes\"]\n+\n"),
    );
    check(
        ORDERS,
        |w| {
            let service = json!({ "id": w.id("services", "bills").to_string() });
            vec![w.create("routes", &json!({ "id": id, "name": "pay", "paths": ["/pay"], "service": service }))]
        },
        &format!("+  routes:\n+  - name: pay\n+    id: {id}\n+    paths: [/pay]\n"),
    );
    check(
        ORDERS,
        |w| {
            let service = json!({ "id": w.id("services", "orders").to_string() });
            let config = json!({ "minute": 3 });
            vec![
                w.create(
                    "plugins",
                    &json!({ "id": id, "name": "rate-limiting", "config": config, "service": service }),
                ),
            ]
        },
        &format!("+  plugins:\n+  - name: rate-limiting\n+    id: {id}\n+    config:\n+      minute: 3\n"),
    );
    check(
        ORDERS,
        |w| {
            let upstream = json!({ "id": w.id("upstreams", "up").to_string() });
            vec![w.create("targets", &json!({ "id": id, "target": "10.0.0.3:80", "upstream": upstream }))]
        },
        &format!("+  - target: 10.0.0.3:80\n+    id: {id}\n"),
    );
    check(
        ORDERS,
        |w| vec![w.create("consumer_groups", &json!({ "id": id, "name": "gold" }))],
        &format!("+consumer_groups:\n+- name: gold\n+  id: {id}\n"),
    );
}

#[test]
fn a_renamed_entity_keeps_its_id_and_its_references() {
    let text = "_format_version: '3.0'\nservices:\n- name: a\n  host: a.test\nroutes:\n- name: r\n  service: a\n  paths: [/]\n";
    let world = World::new(&[text]);
    let id = world.id("services", "a");
    let new = world.edited(&[world.patch("services", "a", &json!({ "name": "b" }))]);
    let expected = format!("-- name: a\n+- name: b\n+  id: {id}\n-  service: a\n+  service: b\n");
    assert_eq!(diff(text, &new), expected);
}

#[test]
fn an_entity_moves_to_another_parent() {
    check(
        ORDERS,
        |w| vec![w.patch("routes", "create", &json!({ "service": { "id": w.id("services", "bills").to_string() } }))],
        "-  # The second route.\n-  - name: create\n-    paths: [/orders]\n-    methods: [POST]\n+  routes:\n+  - name: create\n\
         +    methods: [POST]\n+    paths: [/orders]\n",
    );
}

#[test]
fn json_stays_json() {
    let text = "{\n  \"_format_version\": \"3.0\",\n  \"services\": [\n    {\n      \"name\": \"a\",\n      \"host\": \"a.test\",\n      \
                \"routes\": [\n        {\n          \"name\": \"r\",\n          \"paths\": [\n            \"/a\"\n          ]\n        \
                }\n      ]\n    }\n  ]\n}\n";
    let id = "8f1e9d2c-0000-4000-8000-000000000001";
    check(
        text,
        |w| vec![w.patch("services", "a", &json!({ "host": "b.test" }))],
        "-      \"host\": \"a.test\",\n+      \"host\": \"b.test\",\n",
    );
    check(text, |w| vec![w.patch("services", "a", &json!({ "retries": 1 }))], "+      \"retries\": 1,\n");
    check(
        text,
        |w| {
            let service = json!({ "id": w.id("services", "a").to_string() });
            vec![w.create("routes", &json!({ "id": id, "name": "s", "paths": ["/b"], "service": service }))]
        },
        &format!(
            "+        }},\n+        {{\n+          \"name\": \"s\",\n+          \"id\": \"{id}\",\n+          \"paths\": [\n+            \
             \"/b\"\n+          ]\n"
        ),
    );
    check(
        text,
        |w| vec![w.delete("routes", "r")],
        "-      \"host\": \"a.test\",\n-      \"routes\": [\n-        {\n-          \"name\": \"r\",\n-          \"paths\": [\n-            \"/a\"\n-          ]\n-        }\n-      ]\n+      \"host\": \"a.test\"\n",
    );
}

#[test]
fn brackets_keep_their_comments() {
    let text = "\
_format_version: '3.0'
services: [
  # first
  { name: a, host: a.test }, # a
  # second
  { name: b, host: b.test }, # b
  {
    name: c, # the name
    host: c.test,
  },
]
";
    check(text, |w| vec![w.delete("services", "b")], "-  # second\n-  { name: b, host: b.test }, # b\n");
    check(text, |w| vec![w.delete("services", "c")], "-  {\n-    name: c, # the name\n-    host: c.test,\n-  },\n");
    check(text, |w| vec![w.patch("services", "c", &json!({ "port": 81 }))], "+    port: 81,\n");
    let explicit = "_format_version: '3.0'\nservices:\n- ? name\n  : a\n  ? host\n  : a.test\n";
    let world = World::new(&[explicit]);
    let error = world.edit(&[world.patch("services", "a", &json!({ "port": 81 }))]).unwrap_err().to_string();
    assert_eq!(error, "0.yaml:3: a map with explicit keys (? key) cannot be changed here");
}

#[test]
fn shared_text_is_not_expanded() {
    let text = "\
_format_version: '3.0'
services:
- &base
  name: a
  host: a.test
  tags: &tags [x]
- <<: *base
  name: b
  host: b.test
- name: c
  host: c.test
  tags: *tags
";
    // A merge is overruled, and an alias replaced where the value itself changes.
    check(text, |w| vec![w.patch("services", "b", &json!({ "tags": ["z"] }))], "+  tags: [z]\n");
    check(text, |w| vec![w.patch("services", "c", &json!({ "tags": ["z"] }))], "-  tags: *tags\n+  tags: [z]\n");
    check(text, |w| vec![w.patch("services", "c", &json!({ "port": 81 }))], "+  port: 81\n");
    let world = World::new(&[text]);
    let refused = |change: Change, part: &str| {
        let error = world.edit(&[change]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(world.patch("services", "a", &json!({ "tags": ["z"] })), "0.yaml:10: the change cannot be written");
    refused(world.patch("services", "a", &json!({ "tags": ["z", "y"] })), "line 12");
    refused(world.delete("services", "a"), "0.yaml:6: this value has an anchor (&) that line 12 uses");
    refused(
        world.patch("services", "a", &json!({ "retries": 1 })),
        "its field 'retries' would have another value; line 7 has an anchor (&)",
    );
}

#[test]
fn variables_are_not_replaced_by_their_values() {
    let text = "_format_version: '3.0'\nservices:\n- name: a\n  host: \"${{ env \"DECK_HOST\" }}\"\n  port: ${{ env \"DECK_PORT\" | toInt }}\n";
    let env = [("DECK_HOST", "h.test"), ("DECK_PORT", "81")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let (registry, settings) = (registry(), Settings::default());
    let fill = |files: &[Source]| super::super::fill(files, &env);
    let files = fill(&[Source::new("a.yaml", text)]).unwrap();
    let before = load(&files, &registry, &settings).unwrap();
    let world = World { registry, settings, files, before };
    let meaning = Meaning { registry: &world.registry, settings: &world.settings, fill: &fill };
    let run = |fields: Value| edit(&world.files, &world.before, &[world.patch("services", "a", &fields)], &meaning);
    let new = run(json!({ "retries": 1 })).unwrap();
    assert_eq!(diff(text, &new[0].text), "+  retries: 1\n");
    let error = run(json!({ "port": 82 })).unwrap_err().to_string();
    assert!(error.starts_with("a.yaml:5: this value is filled in from the environment"), "{error}");
}

#[test]
fn members_are_written_where_members_are() {
    let text = "\
_format_version: '3.0'
consumer_groups:
- name: gold
- name: iron
consumers:
- username: ann
  groups:
  - name: gold
- username: bob
";
    let (gold, iron) = ("gold", "iron");
    let join = |w: &World, consumer: &str, group: &str| {
        vec![Change::Join { consumer: w.id("consumers", consumer), group: w.id("consumer_groups", group) }]
    };
    check(text, |w| join(w, "ann", iron), "+  - name: iron\n");
    check(text, |w| join(w, "bob", gold), "+  groups:\n+  - name: gold\n");
    let leave =
        |w: &World| vec![Change::Leave { consumer: w.id("consumers", "ann"), group: w.id("consumer_groups", gold) }];
    check(text, leave, "-  groups:\n-  - name: gold\n");
    check(text, |w| vec![w.patch("consumer_groups", gold, &json!({ "tags": ["t"] }))], "+  tags: [t]\n");
}

#[test]
fn an_entity_goes_back_to_its_file() {
    let first = "_format_version: '3.0'\nservices:\n- name: a\n  host: a.test\n";
    let second = "_format_version: '3.0'\nservices:\n- name: b\n  host: b.test\n";
    let world = World::new(&[first, second]);
    let new = world.edit(&[world.patch("services", "b", &json!({ "port": 81 }))]).unwrap();
    assert_eq!((new[0].as_str(), diff(second, &new[1]).as_str()), (first, "+  port: 81\n"));
    let id = "8f1e9d2c-0000-4000-8000-000000000001";
    let new = world.edit(&[world.create("services", &json!({ "id": id, "name": "c", "host": "c.test" }))]).unwrap();
    assert_eq!(new[1], second);
    assert!(diff(first, &new[0]).starts_with("+- name: c\n"), "{}", new[0]);
}

#[test]
fn earlier_formats_are_refused() {
    let world = World::new(&["_format_version: '1.1'\nservices:\n- name: a\n  host: a.test\n"]);
    let error = world.edit(&[world.patch("services", "a", &json!({ "port": 81 }))]).unwrap_err().to_string();
    assert_eq!(error, "0.yaml:1: files of the format 1.1 are not changed: convert them to 3.0 first");
}

#[test]
fn passwords_are_written_as_the_file_writes_them() {
    let text = "_format_version: '3.0'\nconsumers:\n- username: ann\n  basicauth_credentials:\n  - username: ann\n    password: old\n";
    check(
        text,
        |w| {
            let id = w.before.of("basicauth_credentials").next().unwrap().id.to_string();
            vec![w.patch("basicauth_credentials", &id, &json!({ "password": "new" }))]
        },
        "-    password: old\n+    password: new\n",
    );
}

/// How a random file is written.
#[derive(Clone, Copy, Debug)]
struct Look {
    offset: usize,
    gaps: bool,
    flow: bool,
    nested: bool,
    ids: bool,
}

/// A file in which each line names the entity that it belongs to.
fn random_file(look: Look, services: &[(u8, bool)]) -> String {
    let Look { offset, gaps, flow, nested, ids } = look;
    let pad = |n: usize| " ".repeat(n);
    let gap = if gaps { "\n" } else { "" };
    let mut out = String::from("_format_version: '3.0'\nservices:\n");
    let mut flat = String::new();
    for (at, (routes, has_plugin)) in services.iter().enumerate() {
        let name = format!("s{at}");
        let (dash, key) = (pad(offset), pad(offset + 2));
        out.push_str(&format!("{dash}# {name} above\n{dash}- name: {name} # {name}\n"));
        if ids {
            out.push_str(&format!("{key}id: 8f1e9d2c-0000-4000-8000-0000000000{at:02} # {name}\n"));
        }
        out.push_str(&format!("{key}host: '{name}.test' # {name}\n"));
        if nested && *routes > 0 {
            out.push_str(&format!("{key}routes:\n"));
        }
        for route in 0..*routes {
            let route = format!("{name}r{route}");
            let (dash, list) = if nested { (pad(2 * offset + 2), &mut out) } else { (pad(offset), &mut flat) };
            let key = format!("{dash}  ");
            let paths = if flow {
                format!("{key}paths: [/{route}, /x] # {route}\n")
            } else {
                format!("{key}paths: # {route}\n{key}- /{route} # {route}\n{key}- /x # {route}\n")
            };
            list.push_str(&format!("{dash}- name: {route} # {route}\n{paths}"));
            if !nested {
                list.push_str(&format!("{key}service: {name} # {route}\n"));
            }
        }
        if *has_plugin {
            out.push_str(&format!(
                "{key}plugins:\n{key}- name: cors # {name}p\n{key}  config: {{max_age: 1}} # {name}p\n"
            ));
        }
        out.push_str(gap);
    }
    if !flat.is_empty() {
        out.push_str(&format!("routes:\n{flat}"));
    }
    out
}

/// A random change, and the names that lines which go may have.
fn random_change(world: &World, (what, which): (u8, usize)) -> Option<(Vec<Change>, Vec<String>)> {
    let kind = ["services", "routes"][which % 2];
    let all: Vec<crate::Entity> = world.before.of(kind).collect();
    let one = all.get(which / 2 % all.len().max(1))?;
    let name = one.name.as_deref()?.to_owned();
    let other = world.before.of("services").nth(which % 3);
    let patch = |fields: Value| Some((vec![world.patch(kind, &name, &fields)], vec![name.clone()]));
    match (what % 8, kind) {
        (0, _) => patch(json!({ "tags": ["a", "b c"] })),
        (1, "services") => patch(json!({ "host": "other.test", "port": 81 })),
        (1 | 2, "routes") => patch(json!({ "paths": ["/x", "/y", "~/z\\d"] })),
        (2, _) => patch(json!({ "path": "/p", "retries": 3, "name": "renamed" })).map(|(changes, mut names)| {
            // Routes name their service.
            names.extend(world.before.of("routes").filter_map(|route| route.name.map(String::from)));
            (changes, names)
        }),
        (3, "routes") => patch(json!({ "service": { "id": other?.id.to_string() } })),
        (4, "routes") => Some((vec![world.delete(kind, &name)], vec![name.clone()])),
        (5, _) => {
            let service = json!({ "id": other?.id.to_string() });
            let route = json!({ "name": "new", "paths": ["/new"], "service": service });
            Some((vec![world.create("routes", &route)], Vec::new()))
        }
        (6, _) => {
            let service = json!({ "id": other?.id.to_string() });
            let plugin =
                json!({ "name": "request-size-limiting", "config": {"allowed_payload_size": 4}, "service": service });
            Some((vec![world.create("plugins", &plugin)], Vec::new()))
        }
        _ => {
            let service = json!({ "name": "fresh", "host": "fresh.test", "tags": ["n", "m"] });
            Some((vec![world.create("services", &service)], Vec::new()))
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// `edit` itself proves that the result means what it should, so what remains is that it finds a way, and that no
    /// line of another entity is touched.
    #[test]
    fn a_change_touches_its_own_lines_only(
        (offset, gaps, flow, nested, ids) in (0_usize..3, proptest::bool::ANY, proptest::bool::ANY, proptest::bool::ANY, proptest::bool::ANY),
        services in proptest::collection::vec((0_u8..3, proptest::bool::ANY), 1..4),
        change in (0_u8..8, 0_usize..24),
    ) {
        let text = random_file(Look { offset, gaps, flow, nested, ids }, &services);
        let world = World::new(&[&text]);
        if let Some((changes, names)) = random_change(&world, change) {
            let new = world.edited(&changes);
            for line in diff(&text, &new).lines().filter(|line| line.starts_with('-')) {
                let is_own = names.iter().any(|name| line.ends_with(&format!("# {name}")) || line.contains(&format!("# {name} ")));
                // A list that has lost its last element goes, and so may a blank line.
                let is_frame = line.trim_start_matches('-').trim().is_empty() || line.ends_with("routes:");
                assert!(is_own || is_frame, "{line}\n{text}\n{new}");
            }
        }
    }
}
