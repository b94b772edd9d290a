use serde_json::json;

use super::complete::PARALLEL_MIN;
use super::*;

fn load_text(text: &str) -> Result<Snapshot, Box<LoadErrors>> {
    load(&[Source::new("kong.yaml", text)], &Registry::new(&[]), &Settings::default())
}

fn check(text: &str, fields: Value) {
    match load_text(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(errors) => assert_eq!(errors.fields(), fields, "\n{text}"),
    }
}

const HEAD: &str = "_format_version: \"3.0\"\n";

#[test]
fn ids_are_those_of_kong() {
    let snapshot =
        load_text(&format!("{HEAD}services: [{{name: mock1, url: 'http://httpbin.org/anything'}}]")).unwrap();
    let service = snapshot.of("services").next().unwrap();
    assert_eq!(service.id.to_string(), "fc5b0c3e-4fe9-5f73-b5d2-e61b3f8fc4e2");
    assert_eq!((service.text("host"), service.int("port")), (Some("httpbin.org"), Some(80)));
    assert_eq!(service.location.as_ref().map(|l| (l.line, l.column)), Some((2, 12)));
}

#[test]
fn entities_without_a_name_keep_their_id_over_loads() {
    let text = format!("{HEAD}routes: [{{paths: [/a]}}, {{paths: [/a]}}, {{paths: [/b]}}]");
    let (a, b) = (load_text(&text).unwrap(), load_text(&text).unwrap());
    assert_eq!(a, b);
    assert_eq!(a.of("routes").count(), 3);
}

#[test]
fn references_are_by_name_or_id() {
    let text = format!(
        "{HEAD}services: [{{name: a, host: x}}]\nroutes:\n- {{name: r, service: a, paths: [/]}}\n- {{name: s, service: \
         {{id: {}}}, paths: [/]}}",
        ids::id_of("services", "a")
    );
    let snapshot = load_text(&text).unwrap();
    assert!(snapshot.of("routes").all(|r| r.reference("service") == Some(ids::id_of("services", "a"))));
    check(
        &format!("{HEAD}routes: [{{name: r, service: x, paths: [/]}}]"),
        json!({"routes": {"r": ["invalid reference 'service: x' (no such entry in 'services')"]}}),
    );
}

#[test]
fn names_that_lead_nowhere_are_told_together() {
    let text = format!(
        "{HEAD}consumers: [{{username: al}}]\nservices: [{{name: abc, host: x}}]\nroutes: [{{name: r, service: abd, paths: [/]}}]"
    );
    let errors = load_text(&text).unwrap_err();
    assert!(
        errors.render().contains("help: there is no 'abd' in 'services', did you mean 'abc'?"),
        "{}",
        errors.render()
    );
    // Together with other errors Kong's message differs.
    check(
        &format!("{HEAD}services: [{{name: a}}]\nroutes: [{{name: r, service: x, paths: [/]}}]"),
        json!({"services": [{"host": "required field missing"}], "routes": [{"service": {"id": "missing primary key"}}]}),
    );
    let plugins = [&crate::entities::tests::PLUGIN];
    let source = Source::new("x.yaml", format!("{HEAD}plugins: [{{name: any, service: s, consumer: c}}]"));
    let errors = load(&[source], &Registry::new(&plugins), &Settings::default()).unwrap_err().fields();
    let list = errors["plugins"].as_object().unwrap().values().next().unwrap();
    assert_eq!(
        list,
        &json!([
            "invalid reference 'consumer: c' (no such entry in 'consumers')",
            "invalid reference 'service: s' (no such entry in 'services')",
        ])
    );
}

#[test]
fn nested_entities_agree_with_their_parent() {
    let nested = |service: &str| {
        format!(
            "{HEAD}services:\n- {{name: a, host: x, routes: [{{name: r, paths: [/], service: {service}}}]}}\n- {{name: b, host: x}}"
        )
    };
    assert_eq!(load_text(&nested("a")).unwrap().warnings(), []);
    // Kong lets the parent count, without a word.
    let snapshot = load_text(&nested("b")).unwrap();
    let parent = snapshot.of("services").find(|s| s.text("name") == Some("a")).unwrap().id;
    assert_eq!(snapshot.of("routes").next().unwrap().reference("service"), Some(parent));
    let told: Vec<String> = snapshot.warnings().iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("belongs to the entity it is nested in"), "{told:?}");
    check(&nested("nobody"), json!({"services": [{"routes": [{"service": "value must be null"}]}]}));
    check(
        &nested("{id: 769bdf51-16df-5476-9830-ef26800b5448}"),
        json!({"routes": {"r": ["invalid reference 'service: {\"id\":\"769bdf51-16df-5476-9830-ef26800b5448\"}' (no such \
            entry in 'services')"]}}),
    );
}

#[test]
fn what_is_unique_is_declared_once() {
    check(
        &format!("{HEAD}services: [{{name: a, host: x}}, {{name: a, host: y}}]"),
        json!({"services": [null, "uniqueness violation: 'services' entity with name set to 'a' already declared"]}),
    );
    check(
        &format!("{HEAD}upstreams: [{{name: u, targets: [{{target: 'h:1'}}, {{target: 'h:1'}}]}}]"),
        json!({"upstreams": [{"targets": [null, format!(
            "uniqueness violation: 'targets' entity with primary key set to '{}' already declared",
            ids::id_of("targets", &format!("targets:*:{}:h:1", ids::id_of("upstreams", "u")))
        )]}]}),
    );
    check(
        &format!("{HEAD}consumers: [{{username: a, custom_id: x}}, {{username: b, custom_id: x}}]"),
        json!({"consumers": {"b": "uniqueness violation: 'consumers' entity with custom_id set to 'x' already declared"}}),
    );
}

#[test]
fn checks_across_fields_are_those_of_kong() {
    check(
        &format!("{HEAD}consumers: [{{}}]"),
        json!({"consumers": [{"@entity": [
        "at least one of these fields must be non-empty: 'custom_id', 'username'"]}]}),
    );
    check(
        &format!("{HEAD}services: [{{name: a, host: h, protocol: tcp, path: /x}}]"),
        json!({"services": [{
        "path": "value must be null",
        "@entity": ["failed conditional validation given value of field 'protocol'"]}]}),
    );
    check(
        &format!("{HEAD}routes: [{{protocols: [tcp], paths: [/a]}}]"),
        json!({"routes": [{
        "paths": "cannot set 'paths' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
        "@entity": ["must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'"]}]}),
    );
    check(
        &format!("{HEAD}routes: [{{protocols: [http], paths: [/a], snis: [x]}}]"),
        json!({"routes": [{
        "snis": "length must be 0",
        "@entity": ["'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'"]}]}),
    );
    check(
        &format!("{HEAD}routes: [{{protocols: [http, tcp], paths: [/a]}}]"),
        json!({"routes": [{
        "protocols": "these sets are mutually exclusive: ('http', 'https'), ('tcp', 'tls', 'udp')"}]}),
    );
    check(
        &format!("{HEAD}upstreams: [{{name: u, hash_on: header}}]"),
        json!({"upstreams": [{
        "hash_on_header": "required field missing",
        "@entity": ["failed conditional validation given value of field 'hash_on'"]}]}),
    );
    check(
        &format!("{HEAD}upstreams: [{{name: 10.0.0.1}}]"),
        json!({"upstreams": [{
        "name": "Invalid name ('10.0.0.1'); no ip addresses allowed"}]}),
    );
    check(
        &format!("{HEAD}vaults: [{{name: ssm, prefix: a1}}]"),
        json!({"vaults": [{
        "name": "vault 'ssm' is not installed"}]}),
    );
}

#[test]
fn upstreams_adjust_algorithm_and_hash() {
    let text =
        format!("{HEAD}upstreams: [{{name: a, hash_on: ip}}, {{name: b, algorithm: least-connections}}, {{name: c}}]");
    let snapshot = load_text(&text).unwrap();
    let of = |name: &str| {
        let u = snapshot.of("upstreams").find(|u| u.text("name") == Some(name)).unwrap();
        (u.text("algorithm").unwrap().to_owned(), u.text("hash_on").unwrap().to_owned())
    };
    assert_eq!(of("a"), ("consistent-hashing".to_owned(), "ip".to_owned()));
    assert_eq!(of("b"), ("least-connections".to_owned(), "none".to_owned()));
    assert_eq!(of("c"), ("round-robin".to_owned(), "none".to_owned()));
}

#[test]
fn older_formats_mark_their_regular_expressions() {
    let text = "_format_version: \"2.1\"\nroutes: [{name: r, paths: ['/a/\\d+', /b/../c]}]";
    let snapshot = load_text(text).unwrap();
    let paths: Vec<_> = snapshot.of("routes").next().unwrap().texts("paths").map(str::to_owned).collect();
    assert_eq!(paths, [r"~/a/\d+", "/c"]);
}

#[test]
fn files_are_joined_and_told_apart() {
    let files = [
        Source::new("a.yaml", "_format_version: '3.0'\nservices:\n- name: a\n  host: x\n"),
        Source::new("b.json", "{\"_format_version\": \"3.0\",\n \"routes\": [{\"service\": \"a\", \"pahts\": []}]}"),
    ];
    let errors = load(&files, &Registry::new(&[]), &Settings::default()).unwrap_err();
    let text = errors.render();
    for line in ["error: route 1: pahts: unknown field", "  --> b.json:2:30", "  = help: did you mean 'paths'?"] {
        assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
    }
}

#[test]
fn flattened_errors_hoist_children() {
    let text = format!(
        "{HEAD}services:\n- id: 58076db2-28b6-423b-ba39-a797193017f7\n  name: a\n  host: x\n  port: 99999\n  tags: [t]\n  \
         routes: [{{name: r, paths: [a], methods: [GET, get]}}]\nbanana: 1"
    );
    let errors = load_text(&text).unwrap_err();
    let body = errors.to_kong_json(true);
    assert_eq!((&body["code"], &body["name"]), (&json!(14), &json!("invalid declarative configuration")));
    assert_eq!(body["fields"], json!({"banana": "unknown field"}));
    assert_eq!(
        body["flattened_errors"],
        json!([
            {"entity_type": "route", "entity_name": "r",
             "entity": {"name": "r", "paths": ["a"], "methods": ["GET", "get"],
                "service": {"id": "58076db2-28b6-423b-ba39-a797193017f7"}},
             "errors": [
                {"type": "field", "field": "paths.1", "message": "should start with: / (fixed path) or ~/ (regex path)"},
                {"type": "field", "field": "methods.2", "message": "invalid value: get"}]},
            {"entity_type": "service", "entity_id": "58076db2-28b6-423b-ba39-a797193017f7", "entity_name": "a",
             "entity_tags": ["t"],
             "entity": {"id": "58076db2-28b6-423b-ba39-a797193017f7", "name": "a", "host": "x", "port": 99999, "tags": ["t"]},
             "errors": [{"type": "field", "field": "port", "message": "value should be between 0 and 65535"}]},
        ])
    );
}

#[test]
fn groups_have_members_and_plugins() {
    let text = format!(
        "{HEAD}consumer_groups: [{{name: gold, consumers: [bob]}}, {{name: silver}}]\nconsumers:\n- {{username: al, \
         groups: [{{name: gold}}, {{name: silver}}]}}\n- username: bob"
    );
    let snapshot = load_text(&text).unwrap();
    let consumer = |name: &str| snapshot.of("consumers").find(|c| c.text("username") == Some(name)).unwrap().id;
    assert_eq!(snapshot.groups_of(&consumer("al")).len(), 2);
    assert_eq!(snapshot.groups_of(&consumer("bob")), [ids::id_of("consumer_groups", "gold")]);
    check(
        &format!("{HEAD}consumers: [{{username: al, groups: [{{name: x}}]}}]"),
        json!({"consumer_group_consumers": ["invalid reference 'consumer_group: x' (no such entry in 'consumer_groups')"]}),
    );
}

#[test]
fn words_of_yaml_1_1_are_booleans() {
    let text = format!(
        "{HEAD}routes:\n- name: 'on'\n  strip_path: no\n  preserve_host: On\n  paths: [/]\n  tags: [y, &n N, *n, 'yes']\n"
    );
    let snapshot = load_text(&text).unwrap();
    let route = snapshot.of("routes").next().unwrap();
    assert_eq!((route.text("name"), route.flag("strip_path"), route.flag("preserve_host")), (Some("on"), false, true));
    // lyaml has no one-letter booleans.
    assert_eq!(route.texts("tags").collect::<Vec<_>>(), ["y", "N", "yes"]);
}

#[test]
fn bombs_and_depths_are_refused() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        let list = vec![format!("*a{}", i - 1); 10].join(",");
        bomb.push_str(&format!("a{i}: &a{i} [{list}]\n"));
    }
    assert_eq!(parse(&bomb).unwrap_err().message, "aliases within anchors multiply to too many values");
    let flat = format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(10_000), "*a,".repeat(10_000));
    assert_eq!(parse(&flat).unwrap_err().message, "aliases repeat too many values");
    assert!(parse(&"[".repeat(100_000)).is_err());
    assert!(parse(&format!("{}1{}", "[".repeat(80), "]".repeat(80))).is_err());
    assert_eq!(parse_bytes(b"\xff\xfe").unwrap_err().message, "not UTF-8");
    assert!(parse("a: [1").unwrap_err().place.line >= 1);
}

#[test]
fn a_file_that_is_no_yaml_is_shown() {
    let errors = load_text("services:\n  - name: a\n bad").unwrap_err();
    assert!(errors.render().contains("kong.yaml:3"), "{}", errors.render());
    assert!(errors.message().starts_with("failed parsing declarative configuration: "));
}

#[test]
fn files_come_in_all_dresses() {
    let service = "services:\n- &s {name: a, host: x, tags: [t]}\n- {<<: *s, name: b}\n";
    for text in [
        format!("---\n# comment\n{HEAD}{service}"),
        format!("\u{feff}{HEAD}{service}...\n"),
        format!("{}{service}", HEAD).replace('\n', "\r\n"),
        "{\n\t\"_format_version\": \"3.0\",\n\t\"services\": [\n\t\t{\"name\": \"a\", \"host\": \"x\"},\n\t\t{\"name\": \"b\",          \"host\": \"x\"}\n\t]\n}"
            .to_owned(),
    ] {
        let snapshot = load_text(&text).unwrap_or_else(|e| panic!("{text}\n{}", e.render()));
        assert_eq!(snapshot.of("services").filter(|s| s.text("host") == Some("x")).count(), 2, "{text}");
    }
    assert!(load_text(HEAD).unwrap().is_empty());
}

#[test]
fn defaults_of_deck_fill_in() {
    let text = format!(
        "{HEAD}_info: {{select_tags: [a], defaults: {{service: {{retries: 9}}, route: {{strip_path: false}}}}}}\n_comment: \
         x\nservices: [{{name: a, host: x, _comment: y, _ignore: [1], routes: [{{name: r, paths: [/]}}]}}, {{name: b, host: \
         x, retries: 1}}]"
    );
    let snapshot = load_text(&text).unwrap();
    let retries = |name: &str| snapshot.of("services").find(|s| s.text("name") == Some(name)).unwrap().int("retries");
    assert_eq!((retries("a"), retries("b")), (Some(9), Some(1)));
    assert!(!snapshot.of("routes").next().unwrap().flag("strip_path"));
}

#[test]
fn deck_syntax_is_explained() {
    let errors = load_text(&format!("{HEAD}services: [{{name: a, host: '${{{{ env \"X\" }}}}'}}]")).unwrap_err();
    assert!(errors.render().contains("deck file render"), "{}", errors.render());
    for host in ["$HOST", "${MY_HOST}", "a.${X_1}"] {
        let text = format!("{HEAD}services: [{{name: a, host: '{host}'}}]");
        let errors = load_text(&text).unwrap_err().render();
        assert!(errors.contains("environment variables such as $"), "{errors}");
        let text = format!("{HEAD}upstreams: [{{name: u, targets: [{{target: '{host}:80'}}]}}]");
        assert!(load_text(&text).unwrap_err().render().contains("environment variables such as $"), "{host}");
    }
}

#[test]
fn variables_of_deck_are_filled_in_and_not_shown() {
    let file =
        |host: &str| Source::new("kong.yaml", format!("{HEAD}services:\n- name: a\n  host: {host}\n  port: 1\n"));
    let env = [("DECK_HOST".to_owned(), "h.test".to_owned()), ("DECK_BAD".to_owned(), "not a host".to_owned())].into();
    let load_filled = |host: &str| {
        let files = fill(&[file(host)], &env)?;
        load(&files, &Registry::new(&[]), &Settings::default())
    };
    let snapshot = load_filled("${{ env \"DECK_HOST\" }}").unwrap();
    assert_eq!(snapshot.of("services").next().unwrap().text("host"), Some("h.test"));
    let errors = load_filled("${{ env \"DECK_BAD\" }}").unwrap_err();
    let all = format!("{}{}{}", errors.render(), errors.to_kong_json(true), errors.to_kong_json(false));
    assert!(all.contains("invalid value: ${{ env") && !all.contains("not a host"), "{all}");
    assert!(all.contains("kong.yaml:4:3"), "{all}");
    let errors = load_filled("${{ env \"DECK_NONE\" }}").unwrap_err().render();
    assert!(errors.contains("'DECK_NONE' is not set") && errors.contains("kong.yaml:4:9"), "{errors}");
}

#[test]
fn only_the_first_document_is_read() {
    let service = format!("{HEAD}services: [{{name: s, url: 'http://h'}}]\n");
    for (text, line) in [
        (format!("{service}---\nkind: notes\n"), 3),
        (format!("---\n{service}---\nnot: [yaml\n"), 4),
        (format!("%YAML 1.1\n---\n{service}...\n---\nb: 1\n"), 6),
        (format!("{service}...\n# words\nb: 1\n"), 5),
        (format!("{service}--- {{a: 1}}\n"), 3),
    ] {
        let snapshot = load_text(&text).unwrap_or_else(|e| panic!("{text}\n{}", e.render()));
        assert_eq!(snapshot.len(), 1, "{text}");
        let told: Vec<String> = snapshot.warnings().iter().map(ToString::to_string).collect();
        assert!(told.len() == 1 && told[0].contains(&format!("starts in line {line} is ignored")), "{told:?}");
    }
    for text in [format!("---\n{service}...\n"), format!("{service}...\n...\n# end\n"), service.clone()] {
        assert_eq!(load_text(&text).unwrap().warnings(), [], "{text}");
    }
    // What looks like a mark within a scalar is none.
    let text = format!("{HEAD}services:\n- name: s\n  host: h\n  tags:\n  - |\n    ---\n    x\n");
    assert_eq!(load_text(&text).unwrap_err().fields()["services"][0]["tags"].as_array().map(Vec::len), Some(1));
    let errors = load_text(&format!("---\n---\n{service}")).unwrap_err();
    assert_eq!(errors.fields(), json!({"@entity": ["expected an object"]}));
}

#[test]
fn plain_scalars_are_those_of_lyaml() {
    let of = |text: &str| parse(&format!("a: {text}\n")).unwrap().to_value()["a"].clone();
    for (text, expected) in [
        ("0o10", json!("0o10")),
        ("010", json!(8)),
        ("1:30", json!(90)),
        ("'1:30'", json!("1:30")),
        ("!!str 010", json!("010")),
        ("!!str &x 1_0", json!("1_0")),
        ("[&x 0o7, *x, 0o7]", json!(["0o7", "0o7", "0o7"])),
        ("{b: 0X1f, c: oN}", json!({"b": "0X1f", "c": "oN"})),
        ("1_0.5 # ten", json!(10.5)),
        ("2001-01-01", json!("2001-01-01")),
        ("tRUE", json!("tRUE")),
        ("10.0.0.1", json!("10.0.0.1")),
        ("!!int '3'", json!(3)),
    ] {
        assert_eq!(of(text), expected, "{text}");
    }
}

#[test]
fn lists_of_an_export_are_checked_and_not_kept() {
    let export = "_transform: false\nparameters: [{key: cluster_id, value: x, created_at: 1}]\nworkspaces:\n- {id: \
                  0dfbe9a4-9d4c-4d1b-9d0e-0a9b0f0e8a01, name: default, comment: ~, meta: {}, config: {}}\n";
    let snapshot = load_text(&format!("{HEAD}{export}services: [{{name: s, host: h}}]")).unwrap();
    assert_eq!((snapshot.len(), snapshot.kinds().count()), (1, 1));
    check(
        &format!("{HEAD}parameters: [{{key: a}}]\nworkspaces: [{{name: services}}, {{nmae: x}}]"),
        json!({
            "parameters": [{"value": "required field missing"}],
            "workspaces": [
                {"name": "must not be one of: workspaces, consumers, certificates, services, routes, snis, upstreams, \
                          targets, plugins, tags, ca_certificates, clustering_data_planes, parameters, vaults, \
                          key_sets, keys, filter_chains"},
                {"name": "required field missing", "nmae": "unknown field"}],
        }),
    );
}

#[test]
fn notes_and_pairs_of_keys_are_checked() {
    check(&format!("{HEAD}_comment: ''"), json!({"_comment": "length must be at least 1"}));
    check(
        &format!("{HEAD}services: [{{name: a, host: h, _comment: 1, _ignore: [~]}}]"),
        json!({"services": [{"_comment": "expected a string", "_ignore": ["required field missing"]}]}),
    );
    check(
        &format!("{HEAD}keys: [{{kid: a, pem: {{public_key: x}}}}, {{kid: b, pem: {{private_key: x}}}}]")
            .replace(", {kid: b, pem: {private_key: x}}", ""),
        json!({"keys": [{"pem": "could not load public key"}]}),
    );
    check(
        &format!("{HEAD}upstreams: [{{name: u, hash_on: cookie, hash_on_cookie: \u{e4}}}]"),
        json!({"upstreams": [{"@entity": ["failed conditional validation given value of field 'hash_on'"],
            "hash_on_cookie": "contains one or more invalid characters. ASCII control characters \
            (0-31;127), space, tab and the characters ()<>@,;:\\\"/?={}[] are not allowed."}]}),
    );
    let errors = load_text(&format!("{HEAD}routes: [{{paths: [/], headers: {{x: []}}}}]")).unwrap_err();
    let expected = "Router Expression failed validation: header 'x' has no values";
    assert_eq!(errors.fields()["routes"][0]["@entity"], json!([expected]));
}

#[test]
fn files_of_deck_and_of_the_enterprise_edition_are_read() {
    let text = format!(
        "{HEAD}_konnect: {{control_plane_name: x}}\n_workspace: w\n_plugin_configs: {{shared: {{}}}}\nconsumer_groups: \
         [{{name: Partner Banks}}]\nconsumers: [{{username: a, groups: [{{name: Partner Banks}}]}}]\nservices:\n- name: \
         s\n  url: ws://h\nroutes:\n- {{name: r, paths: [/], protocols: [ws, wss], service: {{name: s}}}}\n- {{name: q, \
         paths: [/q], protocols: [http, ws], service: {{name: s}}}}\nplugins:\n- {{name: any, _config: shared, \
         consumer_group: {{name: Partner Banks}}, protocols: [grpc, http, ws, wss]}}\n- {{name: any, consumer: \
         {{username: a}}, route: {{name: r}}}}\nkey_sets: [{{name: k}}]\nkeys: [{{kid: x, set: {{name: k}}, jwk: \
         '{{vault://env/x}}'}}]\nvaults: [{{name: hcv, prefix: my-hcv, config: {{host: x}}}}]\n"
    );
    let registry = Registry::new(&[&crate::entities::tests::PLUGIN]);
    let files = [Source::new("kong.yaml", text)];
    let snapshot = load(&files, &registry, &Settings::default()).unwrap_or_else(|e| panic!("{}", e.render()));
    let texts = |kind: &str, field: &str| -> Vec<String> {
        snapshot.of(kind).flat_map(|e| e.texts(field).map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let mut protocols = texts("routes", "protocols");
    protocols.sort();
    assert_eq!(protocols, ["http", "http", "https"]);
    assert!(!texts("plugins", "protocols").iter().any(|p| p.starts_with("ws")));
    assert_eq!(snapshot.of("services").next().unwrap().text("protocol"), Some("http"));
    assert!(snapshot.of("routes").all(|route| route.reference("service").is_some()));
    assert!(
        snapshot.of("plugins").all(|p| p.reference("consumer").is_some() || p.reference("consumer_group").is_some())
    );
    assert!(snapshot.of("keys").all(|key| key.reference("set").is_some()));
    let told: Vec<String> = snapshot.warnings().iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("ws and wss mean http and https here"), "{told:?}");
    assert!(told[0].contains("kong.yaml:9:"), "{told:?}");
}

#[test]
fn configurations_are_shared_by_name() {
    static PLUGIN: cardinal_sdk::PluginDef = cardinal_sdk::PluginDef {
        schema: || {
            use cardinal_schema::{field, integer, record};
            record([
                field("a", integer()),
                field("b", integer()),
                field("r", record([field("c", integer()), field("d", integer())])),
            ])
        },
        ..crate::entities::tests::PLUGIN_BASE
    };
    let of = |name: &str| {
        let text = format!(
            "{HEAD}_plugin_configs: {{p: {{a: 1, b: 2, r: {{c: 3, d: 4}}}}}}\nplugins: [{{name: any, _config: {name}, config: \
             {{b: 5, r: {{d: 6}}}}}}]"
        );
        load(&[Source::new("kong.yaml", text)], &Registry::new(&[&PLUGIN]), &Settings::default())
    };
    let snapshot = of("p").unwrap();
    let config = snapshot.of("plugins").next().unwrap().value["config"].clone();
    assert_eq!(config, json!({"a": 1, "b": 5, "r": {"c": 3, "d": 6}}));
    assert_eq!(
        of("q").unwrap_err().fields(),
        json!({"plugins": [{"_config": "there is no \"q\" in _plugin_configs"}]})
    );
}

#[test]
fn what_belongs_to_kong_and_is_not_here_is_told_as_such() {
    let text = format!(
        "{HEAD}consumers: [{{username: a, oauth2_credentials: [{{name: x}}]}}]\nplugins: [{{name: bot-detection}}, {{name: \
         openid-connect}}, {{name: anny}}, {{name: any, ordering: {{}}}}]\nrbac_roles: []\nmtls_auth_credentials: []\n"
    );
    let registry = Registry::new(&[&crate::entities::tests::PLUGIN]);
    let errors = load(&[Source::new("kong.yaml", text)], &registry, &Settings::default()).unwrap_err();
    let told = errors.render();
    for part in [
        "error: plugin \"bot-detection\": name: this version does not have Kong's plugin 'bot-detection'",
        "this version does not have Kong's plugin 'openid-connect'",
        "there is no plugin 'anny'",
        "did you mean 'any'?",
        "'oauth2_credentials' belongs to Kong's plugin oauth2, which this version does not have",
        "'mtls_auth_credentials' belongs to Kong's plugin mtls-auth, which this version does not have",
        "'rbac_roles' belongs to Kong Enterprise",
        "the field 'ordering' belongs to Kong Enterprise",
    ] {
        assert!(told.contains(part), "no {part:?} in\n{told}");
    }
    assert!(!told.contains("add it to the 'plugins'") && !told.contains("keyauth"), "{told}");
    let expected = "plugin 'bot-detection' not enabled; add it to the 'plugins' configuration property";
    assert_eq!(errors.fields()["plugins"][0]["name"], expected);
    // An existing plugin that the settings do not load: Kong's advice applies.
    let settings = Settings { plugins: crate::settings::Choice::Only(Vec::new()), ..Settings::default() };
    let registry = Registry::for_settings(&[&crate::entities::tests::PLUGIN], &settings).unwrap();
    let files = [Source::new("kong.yaml", format!("{HEAD}plugins: [{{name: any}}]"))];
    let told = load(&files, &registry, &settings).unwrap_err().render();
    assert!(told.contains("plugin 'any' not enabled; add it to the 'plugins'"), "{told}");
}

#[test]
fn a_scope_that_a_plugin_does_not_have_is_accepted_below_a_consumer_and_never_applies() {
    static PLUGIN: cardinal_sdk::PluginDef =
        cardinal_sdk::PluginDef { scopes: cardinal_sdk::Scopes::NO_CONSUMER, ..crate::entities::tests::PLUGIN_BASE };
    let registry = Registry::new(&[&PLUGIN]);
    let load = |rest: &str| {
        let text = format!("{HEAD}consumers: [{{username: a, plugins: [{{name: any}}]}}]\n{rest}");
        super::load(&[Source::new("kong.yaml", text)], &registry, &Settings::default())
    };
    let snapshot = load("").unwrap_or_else(|e| panic!("{}", e.render()));
    let (ir, _, diagnostics) = crate::lower(&snapshot, &registry, &Settings::default());
    assert!(ir.filter_sets.is_empty());
    assert!(
        diagnostics.len() == 1 && diagnostics[0].message.contains("does not support this scope"),
        "{diagnostics:?}"
    );
    assert_eq!((diagnostics[0].severity, diagnostics[0].path.as_str()), (Severity::Warning, "consumer"));
    // Kong finds it when it has to look twice.
    let errors = load("services: [{name: s}]").unwrap_err();
    assert_eq!(errors.fields()["consumers"][0]["plugins"][0]["consumer"], "value must be null");
    let errors = load("plugins: [{name: any, consumer: a}]").unwrap_err();
    assert_eq!(errors.fields()["plugins"][0]["consumer"], "value must be null");
}

#[test]
fn large_files_are_checked_as_small_ones() {
    let mut text = format!("{HEAD}services:\n");
    for i in 0..PARALLEL_MIN {
        text.push_str(&format!("- {{name: s{i}, host: h{i}}}\n"));
    }
    let snapshot = load_text(&text).unwrap();
    assert_eq!(snapshot.len(), PARALLEL_MIN);
    assert!(snapshot.of("services").all(|s| s.text("name").map(|n| n.replace('s', "h")).as_deref() == s.text("host")));
    text.push_str("- {name: bad}\n");
    let errors = load_text(&text).unwrap_err();
    assert_eq!(errors.fields()["services"][PARALLEL_MIN], json!({"host": "required field missing"}));
}

#[test]
fn a_file_that_is_empty_is_not_a_configuration_of_nothing() {
    for text in ["", "~", "# only a comment\n", "---\n", "\u{feff}", " \n"] {
        let errors = load_text(text).unwrap_err();
        assert_eq!(errors.fields(), json!({"@entity": ["expected an object"]}), "{text:?}");
        assert!(errors.render().contains("the file is empty"), "{}", errors.render());
    }
    assert!(load_text("_format_version: '3.0'").unwrap().is_empty());
}

#[test]
fn keys_that_stand_twice_are_told_and_the_last_one_counts() {
    let yaml = "_format_version: '3.0'\nservices:\n- name: a\n  host: x\n  host: y\n";
    let json = "{\"_format_version\": \"3.0\", \"services\": [{\"name\": \"a\",\n\"host\": \"x\",\n\"host\": \"y\"}]}";
    for (text, before) in [(yaml, 4), (json, 2)] {
        let snapshot = load_text(text).unwrap();
        assert_eq!(snapshot.of("services").next().unwrap().text("host"), Some("y"), "{text}");
        let told: Vec<String> = snapshot.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        let message = format!("duplicate key in a map: the last value is used, the one in line {before} is ignored");
        assert!(told[0].starts_with(&format!("kong.yaml:{}:", before + 1)), "{told:?}");
        assert!(told[0].ends_with(&format!("key \"host\": {message}")), "{told:?}");
        let lowered = crate::lower(&snapshot, &Registry::new(&[]), &Settings::default()).2;
        assert_eq!(lowered, snapshot.warnings());
    }
    // Whole lists, too: the first one is lost.
    let text = format!("{HEAD}services: [{{name: a, host: x}}]\nservices: [{{name: b, host: x}}]\n");
    let snapshot = load_text(&text).unwrap();
    assert_eq!((snapshot.len(), snapshot.warnings().len()), (1, 1));
    // Numbers as keys, and equal keys of what an alias repeats.
    assert_eq!(parse_noting("{1: a, 1: b}").unwrap().1.duplicates.len(), 1);
    assert_eq!(parse_noting("a: &a {x: 1, x: 2}\nb: *a\n").unwrap().0.get("b").unwrap().to_value(), json!({"x": 2}));
    // What is merged gives way to what is written.
    assert_eq!(parse_noting("a: &a {x: 1}\nb: {<<: *a, x: 2}\n").unwrap().1, Oddities::default());
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        drop(parse_bytes(&bytes));
    }

    #[test]
    fn any_text_is_loaded_or_refused(text in "(_format_version: \"3.0\"\n)?[a-z\\[\\]{}:,\n \\-\"'&*!|>0-9]{0,80}") {
        drop(load_text(&text));
    }
}

/// Parts of a file, of which some do not go together.
const PARTS: [&str; 22] = [
    "consumers: [{username: a, custom_id: c, groups: [g]}, {username: b}]",
    "consumers: [{username: a}, {username: a}]",
    "consumers: [{id: 0dfbe9a4-9d4c-4d1b-9d0e-0a9b0f0e8a01, username: x}, {id: 0DFBE9A4-9d4c-4d1b-9d0e-0a9b0f0e8a01, \
     username: y}]",
    "consumers: [{username: a, plugins: [{name: any, config: {}}, {name: none}]}]",
    "consumers: {x: 1}",
    "consumer_groups: [{name: g, consumers: [b]}, {name: h}]",
    "consumer_groups: [g, ~, [1], {name: 5}]",
    "services: [{name: s, host: h, routes: [{name: r, paths: [/], service: t}]}, {name: t, url: ws://h}]",
    "services: [{name: s, host: h}, {name: s, host: h}, {port: x, nmae: y}]",
    "services: [{host: h, routes: [{paths: [/]}, {paths: [/]}]}]",
    "services: 5",
    "routes: [{name: q, paths: [/], service: s, tags: [x]}, {paths: [/z], service: {name: t}}]",
    "routes: [{name: q, paths: [/], service: nowhere}, {name: p, paths: [x]}]",
    "routes: [{id: not an id, paths: [/]}, {id: 5, paths: [/]}]",
    "plugins: [{name: any, service: s}, {name: any, _config: shared, consumer: {username: a}}]",
    "plugins: [{name: any, route: {id: 0dfbe9a4-9d4c-4d1b-9d0e-0a9b0f0e8a01}}]",
    "upstreams: [{name: u, targets: [{target: 'a:1'}, {target: 'a:1'}, {target: 'b:2', weight: 5}]}]",
    "snis: [{name: a.test}]",
    "_plugin_configs: {shared: {}}",
    "_info: {defaults: {service: {host: d}}}",
    "parameters: [{key: a}]",
    "unknown: []",
];

proptest::proptest! {
    #[test]
    fn trees_that_are_freed_early_load_as_trees_that_are_held(
        parts in proptest::collection::vec(proptest::sample::subsequence(PARTS.to_vec(), 0..6), 1..3),
    ) {
        let registry = Registry::new(&[&crate::entities::tests::PLUGIN]);
        let text = |parts: &Vec<&str>| format!("{HEAD}{}\n", parts.join("\n"));
        let files: Vec<Source> = parts.iter().map(|parts| Source::new("kong.yaml", text(parts))).collect();
        let settings = Settings::default();
        let (roots, _) = parse_all(&files, &registry).unwrap();
        let again = || parse_all(&files, &registry).unwrap().0;
        let freed = load_nodes(again(), again, &files, (&registry, &settings));
        match (freed, load_with_nodes(&roots, &files, &registry, &settings)) {
            (Ok(freed), Ok(held)) => proptest::prop_assert_eq!(freed, held),
            (Err(freed), Err(held)) => {
                proptest::prop_assert_eq!(freed.findings(), held.findings());
                proptest::prop_assert_eq!(freed.to_kong_json(true), held.to_kong_json(true));
                proptest::prop_assert_eq!(freed.to_kong_json(false), held.to_kong_json(false));
            }
            (freed, held) => proptest::prop_assert!(false, "{:?} and {:?}", freed.is_ok(), held.is_ok()),
        }
    }
}

#[test]
fn an_entity_that_is_no_record_is_told_in_both_rounds() {
    for (text, part) in [
        ("services: [x]\n", "service 1: expected a record"),
        ("consumers: [{username: a, plugins: [x]}]\nroutes: [{name: r, paths: [/], nope: 1}]\n", "expected a record"),
    ] {
        let errors = load_text(&format!("{HEAD}{text}")).unwrap_err();
        assert!(errors.render().contains(part), "{text}: {}", errors.render());
    }
}

#[test]
fn values_with_unresolved_variables_are_warned_about() {
    let told = |value: &str| -> Vec<String> {
        let text = format!("{HEAD}consumers:\n- username: a\n  custom_id: {value}\n");
        load_text(&text).unwrap().warnings().iter().map(ToString::to_string).collect()
    };
    for (value, part) in [
        ("$ANON_KEY", "$ANON_KEY is not filled in"),
        ("a-${ANON_KEY}", "${ANON_KEY} is not filled in"),
        ("$foo_bar", "$foo_bar is not filled in"),
        ("'${foo_bar2}'", "${foo_bar2} is not filled in"),
        ("'${{ env \"DECK_KEY\" }}'", "add --fill-env"),
    ] {
        let told = told(value);
        assert!(told.len() == 1 && told[0].contains(part), "{value}: {told:?}");
        assert!(told[0].starts_with("kong.yaml:4:3: ") && told[0].contains("consumers[0].custom_id"), "{told:?}");
    }
    // The name may be part of a password.
    assert!(told("pa$SWORD").iter().all(|told| !told.contains("SWORD")) && told("pa$SWORD").len() == 1);
    for value in [
        "'/a$'",
        "$(headers.x)",
        "$1",
        "a$b",
        "'$2a$10$N9qo8uLOickgx2ZMRZoMye'",
        "'/(a|B$)'",
        "'~/a$B_C'",
        "'^x$BC'",
        "'<b>${name}</b>'",
        "'$(uri_captures.ID)'",
        "'{{ $x }}'",
        "$",
        "$x",
        "'${1}'",
        "'$2b'",
        "'~/v${2}$'",
        "'(?<id>\\d+)$|^x'",
    ] {
        assert_eq!(told(value), Vec::<String>::new(), "{value}");
    }
}

#[test]
fn a_named_reference_that_leads_nowhere_names_its_target() {
    let registry = Registry::new(&[&crate::entities::tests::PLUGIN]);
    let text = format!(
        "{HEAD}services: [{{name: s, host: h, routes: [{{name: node, paths: [/]}}]}}]\nplugins: [{{name: any, route: {{name: \
         nope}}}}]\n"
    );
    let errors = load(&[Source::new("kong.yaml", text)], &registry, &Settings::default()).unwrap_err();
    assert!(errors.render().contains("there is no route 'nope'"), "{}", errors.render());
    assert_eq!(errors.fields()["plugins"][0]["route"], json!({"protocols": "required field missing"}));
}

#[test]
fn an_entity_that_is_declared_again_says_where_the_first_one_is() {
    let id = "0b1d3c55-6f8e-4c1b-9d4e-6b1d43f70001";
    for (first, second, at) in [
        ("services: [{name: a, host: h}]", "services: [{name: a, host: h}]", "one.yaml:2"),
        ("consumers: [{username: a, custom_id: x}]", "consumers: [{username: b, custom_id: x}]", "one.yaml:2"),
        (&format!("services:\n- host: h\n  id: {id}"), &format!("services: [{{host: h, id: {id}}}]"), "one.yaml:4"),
        ("routes:\n- paths: [/]\n  name: a", "routes: [{name: a, paths: [/]}]", "one.yaml:4"),
    ] {
        let files = [("one.yaml", first), ("two.yaml", second)]
            .map(|(name, text)| Source::new(name, format!("{HEAD}{text}\n")));
        let errors = load(&files, &Registry::new(&[]), &Settings::default()).unwrap_err();
        let text = errors.render();
        assert!(text.contains("two.yaml:2:") && text.contains(&format!("= help: first declared at {at}\n")), "{text}");
        assert!(!errors.to_kong_json(true).to_string().contains("first declared"), "{text}");
    }
}
