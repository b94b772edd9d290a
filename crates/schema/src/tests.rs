use serde_json::{Map, Value, json};

use crate::*;

fn schema() -> Schema {
    record([
        field("minute", number().gt(0)),
        field("name", string()),
        field("policy", string().default("local").len_min(0).one_of(["local", "redis"])),
        field("codes", array(integer().between(100, 900)).default(json!([200, 301]))),
        field("methods", set(string().matches("^[A-Z]+$"))),
        field("headers", map(typedefs::header_name(), string())),
        field("secret", string().referenceable().len_min(8)),
        field("redis", typedefs::redis()),
        field("queue", typedefs::queue()),
        field("consumer", foreign("consumers").eq_null()),
    ])
    .shorthands(typedefs::redis_flat_names())
    .check(at_least_one_of(["minute", "name"]))
    .check(conditional("policy", rules().eq("redis"), "redis.host", rules().required()))
}

fn check(input: Value, expect: Result<Value, Value>) {
    let got = schema().process(&input, &Options::default());
    match expect {
        Ok(parts) => {
            let got = got.unwrap_or_else(|e| panic!("{input}: {e}"));
            for (name, value) in parts.as_object().unwrap() {
                assert_eq!(&got[name], value, "{name} of {input}");
            }
        }
        Err(errors) => assert_eq!(got.expect_err(&input.to_string()).to_json(), errors, "{input}"),
    }
}

#[test]
fn defaults_are_filled_in_at_every_depth() {
    check(
        json!({"minute": 5.0}),
        Ok(json!({"minute": 5, "policy": "local", "codes": [200, 301], "name": null, "headers": null,
            "redis": {"host": null, "port": 6379, "timeout": 2000, "username": null, "password": null, "database": 0,
                "ssl": false, "ssl_verify": false, "server_name": null}})),
    );
}

#[test]
fn rules_speak_as_kong_does() {
    check(json!({"minute": 0}), Err(json!({"minute": "value must be greater than 0"})));
    check(json!({"minute": "x"}), Err(json!({"minute": "expected a number"})));
    check(
        json!({"name": ""}),
        Err(json!({"name": "length must be at least 1", "@entity":
        ["at least one of these fields must be non-empty: 'minute', 'name'"]})),
    );
    check(json!({"name": "a", "policy": "x"}), Err(json!({"policy": "expected one of: local, redis"})));
    check(
        json!({"name": "a", "codes": [200, 5, 1000.5]}),
        Err(json!({"codes": [null, "value should be between 100 and 900", "expected an integer"]})),
    );
    check(json!({"name": "a", "codes": {"a": 1}}), Err(json!({"codes": "expected an array"})));
    check(json!({"name": "a", "methods": ["get"]}), Err(json!({"methods": ["invalid value: get"]})));
    check(
        json!({"name": "a", "headers": {"a b": "x"}}),
        Err(json!({"headers":
        "bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'"})),
    );
    check(json!({"name": "a", "nome": 1}), Err(json!({"nome": "unknown field"})));
    check(
        json!({"name": "a", "redis": {"port": 70000}}),
        Err(json!({"redis": {"port": "value should be between 0 and 65535"}})),
    );
    check(
        json!({"name": "a", "queue": {"concurrency_limit": 3}}),
        Err(json!({"queue": {"concurrency_limit": "expected one of: -1, 1"}})),
    );
    check(json!({"name": "a", "consumer": {"id": "x"}}), Err(json!({"consumer": "value must be null"})));
}

#[test]
fn sets_lose_their_duplicates() {
    check(json!({"name": "a", "methods": ["GET", "PUT", "GET"]}), Ok(json!({"methods": ["GET", "PUT"]})));
}

#[test]
fn references_pass_rules_they_cannot_meet_yet() {
    check(json!({"name": "a", "secret": "{vault://env/x}"}), Ok(json!({"secret": "{vault://env/x}"})));
    check(json!({"name": "a", "secret": "short"}), Err(json!({"secret": "length must be at least 8"})));
}

#[test]
fn conditions_name_the_field_and_the_reason() {
    check(
        json!({"name": "a", "policy": "redis"}),
        Err(json!({"redis": {"host": "required field missing"},
            "@entity": ["failed conditional validation given value of field 'policy'"]})),
    );
}

#[test]
fn deprecated_names_move_to_the_new_place() {
    let input = json!({"name": "a", "policy": "redis", "redis_host": "h", "redis_port": 1});
    let mut value = schema().process(&input, &Options::default()).unwrap();
    assert_eq!((&value["redis"]["host"], &value["redis"]["port"]), (&json!("h"), &json!(1)));
    assert!(value.get("redis_host").is_none());
    schema().echo_shorthands(&mut value);
    assert_eq!((&value["redis_host"], &value["redis_timeout"]), (&json!("h"), &json!(2000)));
    check(
        json!({"name": "a", "redis_host": "h", "redis": {"host": "i"}}),
        Err(json!({"redis_host":
            "both deprecated and new field are used but their values mismatch: redis_host = h vs redis.host = i"})),
    );
}

#[test]
fn checks_across_fields() {
    let of = |check: Check, input: Value| -> Value {
        let schema = record([field("a", string()), field("b", string()), field("c", string())]).check(check);
        schema.process(&input, &Options::default()).map_or_else(|e| e.to_json(), |_| Value::Null)
    };
    let entity = |text: &str| json!({"@entity": [text]});
    let names = ["a", "b"];
    assert_eq!(of(exactly_one_of(names), json!({})), entity("exactly one of these fields must be non-empty: 'a', 'b'"));
    assert_eq!(of(exactly_one_of(names), json!({"a": "x"})), Value::Null);
    assert_eq!(
        of(mutually_exclusive(names), json!({"a": "x", "b": "y"})),
        entity("only one or none of these fields must be set: 'a', 'b'")
    );
    assert_eq!(of(all_or_none(names), json!({"a": "x"})), entity("all or none of these fields must be set: 'a', 'b'"));
    assert_eq!(
        of(distinct(names), json!({"a": "x", "b": "x"})),
        entity("values of these fields must be distinct: 'a', 'b'")
    );
    assert_eq!(
        of(mutually_exclusive_sets(["a"], ["b", "c"]), json!({"a": "x", "c": "x"})),
        entity("these sets are mutually exclusive: ('a'), ('c')")
    );
    let one = conditional_at_least_one_of("a", rules().eq("x"), ["b", "c"]).message("must set one of %s");
    assert_eq!(of(one, json!({"a": "x"})), entity("must set one of 'b', 'c'"));
}

#[test]
fn outer_checks_are_told_at_the_holder() {
    let config = record([field("minute", number())]).outer_check(at_least_one_of(["config.minute"]));
    let plugin = record([field("config", config)]);
    assert_eq!(
        plugin.process(&json!({}), &Options::default()).unwrap_err().to_json(),
        json!({"@entity": ["at least one of these fields must be non-empty: 'config.minute'"]})
    );
}

#[test]
fn summary_counts_and_sorts() {
    let errors = schema().process(&json!({"name": 1, "codes": [1], "minute": 1}), &Options::default()).unwrap_err();
    assert_eq!(
        errors.summary(),
        "2 schema violations (codes.1: value should be between 100 and 900; name: expected a string)"
    );
}

#[test]
fn typedefs_accept_and_refuse() {
    let ok = |field: Field, text: &str| crate::validate::validate_field(&field, &text.into()).is_ok();
    for host in ["example.com", "10.0.0.1", "::1", "a_b", "x."] {
        assert!(ok(typedefs::host(), host), "{host}");
    }
    for host in ["example.com:80", "a b", "1.2.3", "-a-.b", "a..b", "[::1]:80"] {
        assert!(!ok(typedefs::host(), host), "{host}");
    }
    for path in ["/", "/a", "/a/", "~/a/(?<x>b)$", "/a%2Fb", "~/(?!x)a", r"~/(a)\1"] {
        assert!(ok(typedefs::router_path(), path), "{path}");
    }
    for path in ["a", "/a//b", "/a/../b", "~/a(", "/%zz", "/a/./", "/%61"] {
        assert!(!ok(typedefs::router_path(), path), "{path}");
    }
    for host in ["*.a.com", "a.*", "a.com:80", "*.a.com:80"] {
        assert!(ok(typedefs::route_host(), host), "{host}");
    }
    for host in ["a.*.com", "*a.com", "*.*"] {
        assert!(!ok(typedefs::route_host(), host), "{host}");
    }
    assert!(ok(typedefs::ip_or_cidr(), "10.1.2.3/8") && !ok(typedefs::ip_or_cidr(), "10.1.2.3/33"));
    assert!(ok(typedefs::url(), "http://a/b") && !ok(typedefs::url(), "a/b") && !ok(typedefs::url(), "//a"));
    assert!(ok(typedefs::tag(), "a b-ü") && !ok(typedefs::tag(), "a,b"));
}

#[test]
fn paths_take_their_normal_form() {
    for (path, normal) in
        [("/a/../b", "/b"), ("/a/./b/", "/a/b/"), ("//a", "/a"), ("/%61%2f", "/a%2F"), ("/a/..", "/"), ("/", "/")]
    {
        assert_eq!(typedefs::normalize_path(path), normal, "{path}");
    }
}

#[test]
fn forms_tell_the_same_story() {
    let form = schema().kong_form();
    let policy = form["fields"].as_array().unwrap().iter().find_map(|f| f.get("policy")).unwrap();
    assert_eq!(policy, &json!({"type": "string", "default": "local", "one_of": ["local", "redis"], "len_min": 0}));
    assert_eq!(form["entity_checks"][0], json!({"at_least_one_of": ["minute", "name"]}));
    assert_eq!(
        form["shorthand_fields"][0]["redis_host"]["deprecation"]["replaced_with"][0]["path"],
        json!(["redis", "host"])
    );
    let json = schema().json_schema();
    assert_eq!(json["properties"]["codes"]["items"]["maximum"], 900);
    // Null has no form.
    let path = crate::record([crate::field("path", typedefs::path())]).json_schema();
    assert_eq!(path["properties"]["path"]["allOf"][1], json!({"not": {"type": "string", "pattern": "//"}}));
    let rows = schema().doc_rows();
    assert!(rows.iter().any(|r| r.path == "redis.port" && r.default.as_deref() == Some("6379")));
}

#[test]
fn suggestions_are_near_or_absent() {
    assert_eq!(suggest("hoost", ["host", "port"]), Some("host"));
    assert_eq!(suggest("strip-path", ["strip_path", "paths"]), Some("strip_path"));
    assert_eq!(suggest("protocosl", ["protocols", "path"]), Some("protocols"));
    assert_eq!(suggest("banana", ["host", "port"]), None);
}

proptest::proptest! {
    /// Whatever a user writes, the answer is a value or errors; and a complete value is its own completion.
    #[test]
    fn completing_twice_changes_nothing(minute in 1_i64..100, name in "[a-z]{0,4}", codes in proptest::collection::vec(0_i64..1000, 0..4)) {
        let input = json!({"minute": minute, "name": name, "codes": codes});
        if let Ok(once) = schema().process(&input, &Options::default()) {
            let twice = schema().process(&once, &Options::default());
            proptest::prop_assert_eq!(twice.as_ref(), Ok(&once));
        }
    }

    #[test]
    fn hosts_and_paths_never_panic(text in "\\PC{0,24}") {
        drop(typedefs::normalize_host(&text));
        drop(typedefs::normalize_path(&text));
        drop(crate::validate::validate_field(&typedefs::router_path(), &text.as_str().into()));
        drop(crate::validate::validate_field(&typedefs::url(), &text.as_str().into()));
    }
}

/// Blank records are a short cut to what looking at each field comes to.
#[test]
fn a_blank_record_is_filled_in_as_fields_one_by_one_are() {
    struct Now;
    impl Auto for Now {
        fn now(&self) -> f64 {
            7.5
        }
        fn id(&self) -> uuid::Uuid {
            uuid::Uuid::nil()
        }
        fn secret(&self) -> String {
            "s".to_owned()
        }
    }
    let schema = record([
        field("id", typedefs::uuid()),
        field("created_at", typedefs::auto_timestamp_s()),
        field("host", string().required()),
        field("kept", string().required().default("x")),
        field("more", set(string())),
        field("inner", record([field("a", integer().default(1)), field("b", string().required())]).optional()),
        field("needed", record([field("a", integer().default(1))]).required()),
    ]);
    let schema = Schema { fields: schema.fields, ..Schema::default() };
    let given = [
        json!({}),
        json!({"host": "h", "id": "5", "created_at": 3}),
        json!({"z": 1, "more": ["a", "a"], "y": 2, "host": null, "id": null, "created_at": null}),
        json!({"inner": {}, "needed": {"a": 2.0, "q": 1}, "kept": null}),
        json!({"needed": null, "more": {}, "inner": 5, "updated_at": 1}),
    ];
    for auto in [None, Some(&Now as &dyn Auto)] {
        for value in &given {
            let Value::Object(map) = value else { panic!("{value}") };
            let options = Options { auto, no_defaults: false };
            let (mut slow, mut quick) = (map.clone(), schema.complete(value, &options));
            let wanted = crate::process::field_by_field(&schema, &mut slow, &options).map(|()| Value::Object(slow));
            // As text, since the order of the fields counts.
            let text = |r: &Result<Value, Errors>| r.as_ref().map(ToString::to_string).map_err(ToString::to_string);
            assert_eq!(text(&quick), text(&wanted), "{value}");
            quick = schema.clone().complete(value, &options);
            assert_eq!(text(&quick), text(&wanted), "{value}");
        }
    }
}

/// The answer to a hostile value is bounded.
#[test]
fn a_hundred_errors_are_enough() {
    let schema = record([field("tags", set(string())), field("rows", array(record([field("n", integer())])))]);
    let check = |value: Value, count: usize| {
        let errors = schema.process(&value, &Options::default()).unwrap_err();
        assert_eq!(errors.messages().len(), count, "{errors:?}");
    };
    let wrong = Value::from(vec![json!([]); 5_000]);
    check(json!({"tags": wrong, "rows": []}), 100);
    check(json!({"tags": [], "rows": vec![json!({"n": "x"}); 5_000]}), 100);
    let unknown: Map<String, Value> = (0..5_000).map(|number| (format!("f{number}"), Value::Null)).collect();
    check(Value::Object(unknown), 100);
    let mut sparse = vec![json!("a"); 300];
    sparse.push(json!([]));
    check(json!({"tags": sparse}), 1);
}
