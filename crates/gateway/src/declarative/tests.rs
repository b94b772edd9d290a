use serde_json::json;

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
    // Beside other errors Kong has other words for it.
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
    assert!(load_text(&nested("a")).is_ok());
    for other in ["b", "nobody"] {
        check(&nested(other), json!({"services": [{"routes": [{"service": "value must be null"}]}]}));
    }
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
        &format!("{HEAD}vaults: [{{name: aws, prefix: a1}}]"),
        json!({"vaults": [{
        "name": "vault 'aws' is not installed"}]}),
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
            {"entity_type": "service", "entity_id": "58076db2-28b6-423b-ba39-a797193017f7", "entity_name": "a",
             "entity_tags": ["t"],
             "entity": {"id": "58076db2-28b6-423b-ba39-a797193017f7", "name": "a", "host": "x", "port": 99999, "tags": ["t"]},
             "errors": [{"type": "field", "field": "port", "message": "value should be between 0 and 65535"}]},
            {"entity_type": "route", "entity_name": "r",
             "entity": {"name": "r", "paths": ["a"], "methods": ["GET", "get"],
                "service": {"id": "58076db2-28b6-423b-ba39-a797193017f7"}},
             "errors": [
                {"type": "field", "field": "methods.2", "message": "invalid value: get"},
                {"type": "field", "field": "paths.1", "message": "should start with: / (fixed path) or ~/ (regex path)"}]},
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
    // lyaml knows no one-letter booleans.
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
    assert_eq!(parse("a: 1\n---\nb: 1\n").unwrap_err().message, "more than one document in the file");
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
        let message = format!("stands twice in one map, the last one counts and that of line {before} does not");
        assert!(told[0].starts_with(&format!("kong.yaml:{}:", before + 1)), "{told:?}");
        assert!(told[0].ends_with(&format!("key \"host\": {message}")), "{told:?}");
        let lowered = crate::lower(&snapshot, &Registry::new(&[]), &Settings::default()).1;
        assert_eq!(lowered, snapshot.warnings());
    }
    // Whole lists, too: the first one is lost.
    let text = format!("{HEAD}services: [{{name: a, host: x}}]\nservices: [{{name: b, host: x}}]\n");
    let snapshot = load_text(&text).unwrap();
    assert_eq!((snapshot.len(), snapshot.warnings().len()), (1, 1));
    // Numbers as keys, and equal keys of what an alias repeats.
    assert_eq!(parse_noting("{1: a, 1: b}").unwrap().1.len(), 1);
    assert_eq!(parse_noting("a: &a {x: 1, x: 2}\nb: *a\n").unwrap().0.get("b").unwrap().to_value(), json!({"x": 2}));
    // What is merged gives way to what is written.
    assert_eq!(parse_noting("a: &a {x: 1}\nb: {<<: *a, x: 2}\n").unwrap().1, []);
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
