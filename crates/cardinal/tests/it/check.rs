//! `cardinal check`.

use std::io::Write as _;
use std::process::Stdio;

use cardinal_testkit::{Authority, Issued, TempDir};
use serde_json::{Value, json};

use crate::kong_yaml;
use crate::process::{cardinal, output, stdout};

fn check(text: &str, more: &[&str]) -> (Option<i32>, String) {
    let folder = TempDir::new("check");
    let file = folder.write("kong.yaml", text).display().to_string();
    let output = output(&[&["check", &file], more].concat());
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn check_json(text: &str, more: &[&str]) -> (Option<i32>, Value) {
    let (code, text) = check(text, &[&["--output", "json"], more].concat());
    (code, serde_json::from_str(&text).unwrap())
}

#[test]
fn a_valid_file_shows_its_entities() {
    let (code, found) = check_json(&kong_yaml("http://127.0.0.1:1"), &[]);
    assert_eq!((code, &found["valid"]), (Some(0), &json!(true)), "{found}");
    let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["valid", "entities", "errors", "warnings", "differences"]);
    assert_eq!((&found["errors"], &found["warnings"]), (&json!([]), &json!([])));
    let service = found["entities"]["services"].as_object().unwrap().values().next().unwrap();
    assert_eq!((&service["name"], &service["connect_timeout"]), (&json!("backend"), &json!(60_000)));
    assert_eq!(found["entities"]["routes"].as_object().unwrap().len(), 2);
}

#[test]
fn entities_are_shown_by_kind_with_members_of_groups_and_without_secrets() {
    let (code, found) = check_json("_format_version: '3.0'\n", &[]);
    assert_eq!((code, &found["valid"], &found["entities"]), (Some(0), &json!(true), &json!({})));
    let file = "_format_version: '3.0'\nconsumer_groups:\n- name: gold\nconsumers:\n- username: \"a\\\"b\"\n  groups:\n  - \
                name: gold\n  keyauth_credentials:\n  - key: k1\n  - key: k2\n";
    let (code, found) = check_json(file, &[]);
    assert_eq!((code, &found["valid"]), (Some(0), &json!(true)), "{found}");
    let entities = found["entities"].as_object().unwrap();
    let counts: Vec<_> = entities.iter().map(|(kind, all)| (kind.as_str(), all.as_object().unwrap().len())).collect();
    let expected =
        [("consumer_groups", 1), ("consumers", 1), ("keyauth_credentials", 2), ("consumer_group_consumers", 1)];
    assert_eq!(counts, expected);
    let (id, consumer) = entities["consumers"].as_object().unwrap().iter().next().unwrap();
    assert_eq!((&consumer["id"], &consumer["username"]), (&json!(id), &json!("a\"b")));
    let members = entities["consumer_group_consumers"].as_object().unwrap().values().next().unwrap();
    assert_eq!(members["consumer"], json!({ "id": id }));
    assert!(entities["keyauth_credentials"].as_object().unwrap().values().all(|key| key["key"] == "***"), "{found}");
}

#[test]
fn an_invalid_file_shows_its_errors_as_kong_does() {
    let (code, found) = check_json("_format_version: '3.0'\nservices:\n- name: a\n  port: 70000\n", &[]);
    assert_eq!((code, &found["valid"]), (Some(1), &json!(false)), "{found}");
    let fields = json!({"services": [{
        "host": "required field missing", "port": "value should be between 0 and 65535",
    }]});
    assert_eq!(found["fields"], fields);
    assert_eq!(found["flattened_errors"][0]["entity_name"], "a");
    let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["valid", "fields", "flattened_errors", "errors", "warnings", "differences"]);
    let port = found["errors"].as_array().unwrap().iter().find(|error| error["field"] == "port").unwrap();
    assert!(port["file"].as_str().unwrap().ends_with("kong.yaml"), "{port}");
    assert_eq!((&port["line"], &port["column"], &port["severity"]), (&json!(4), &json!(3), &json!("error")));
    assert_eq!((&port["entity"], &port["help"]), (&json!("service \"a\""), &Value::Null));
    assert_eq!(port["message"], "value should be between 0 and 65535");
    let (code, found) = check_json("services: [", &[]);
    assert_eq!((code, &found["valid"]), (Some(1), &json!(false)), "{found}");
    assert!(found["fields"]["error"].as_str().unwrap().contains("failed parsing"), "{found}");
}

#[test]
fn people_see_lines_and_hints() {
    let (code, text) = check("_format_version: '3.0'\nservices:\n- name: a\n  hots: b\n", &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("kong.yaml:4:3\n  |\n4 |   hots: b\n  |   ^\n  = help: did you mean 'host'?"), "{text}");
    assert!(text.ends_with("invalid: 2 errors\n"), "{text}");
    let (code, text) = check(&kong_yaml("http://127.0.0.1:1"), &[]);
    assert_eq!(code, Some(0));
    assert!(text.contains("same         routes \"private\"  "), "{text}");
    assert!(text.contains("valid: 1 consumer, 1 service, 2 routes, "), "{text}");
    let (_, quiet) = check(&kong_yaml("http://127.0.0.1:1"), &["--quiet"]);
    assert!(!quiet.contains("same"), "{quiet}");
}

#[test]
fn routes_whose_order_depends_on_a_setting_are_named() {
    let file = "_format_version: '3.0'
routes:
- {name: regex, paths: ['~/a/\\d+']}
- {name: both, paths: [/a], methods: [GET]}
";
    let (code, text) = check(file, &[]);
    assert_eq!(code, Some(0));
    assert!(text.contains("routes whose order depends on router_order:\n  kong tries routes \"regex\" ("), "{text}");
    assert!(text.contains("kong.yaml:3) first, documented tries routes \"both\" ("), "{text}");
    let (_, found) = check_json(file, &[]);
    let pair = &found["route_order"]["pairs"][0];
    let labels = (&pair["kong"]["label"], &pair["documented"]["label"]);
    assert_eq!(labels, (&json!("routes \"regex\""), &json!("routes \"both\"")), "{found}");
    assert_eq!(found["route_order"]["complete"], true);
    let (_, text) = check(file, &["--set", "router_flavor=traditional"]);
    assert!(!text.contains("router_order"), "{text}");
}

/// A secret that is not there: Kong takes the file, but no certificate can be made of it.
const LEFT_OUT: &str = "_format_version: '3.0'
certificates:
- cert: '{vault://env/not-there}'
  key: '{vault://env/not-there}'
  snis: [{name: a.example}]
";

#[test]
fn what_would_be_left_out_is_told_and_strictly_refused() {
    let (code, text) = check(LEFT_OUT, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("error: certificates ") && text.contains("kong.yaml:3:3"), "{text}");
    assert!(text.contains("valid, but 1 entity above would be left out"), "{text}");
    let found = check_json(LEFT_OUT, &[]).1;
    assert_eq!(found["valid"], true);
    assert_eq!(found["left_out"][0]["entity_type"], "certificate", "{found}");
    let (code, found) = check_json(LEFT_OUT, &["--strict"]);
    assert_eq!((code, &found["valid"]), (Some(1), &json!(false)), "{found}");
    assert_eq!(found["flattened_errors"][0]["entity_type"], "certificate", "{found}");
    assert_eq!(check(LEFT_OUT, &["--strict"]).0, Some(1));
}

#[test]
fn certificates_that_clients_will_refuse_are_told() {
    let authority = Authority::new("root");
    let (expired, issued) = (authority.issue_expired(&["a.example"]), authority.issue(&["a.example"]));
    let certificate = |issued: &Issued, name: &str| {
        let (cert, key) = (issued.cert_pem.as_str(), issued.key_pem.as_str());
        let id = if name.starts_with('a') { json!(null) } else { json!("c5d5d4ee-2b5f-4b9c-a1c8-0d4a3f1b8f01") };
        json!({"id": id, "cert": cert, "key": key, "snis": [{"name": name}]})
    };
    let file = json!({
        "_format_version": "3.0",
        "certificates": [certificate(&expired, "a.example"), certificate(&issued, "b.example")],
    });
    let (code, text) = check(&file.to_string(), &[]);
    assert_eq!(code, Some(0), "{text}");
    for warning in [
        "the certificate expired on Jan  1 00:00:00 2001",
        "the certificate is not valid for the server name b.example (its names: a.example)",
    ] {
        assert!(text.contains(warning), "{warning}: {text}");
    }
    assert!(text.contains("warning: certificates ") && !text.contains("error"), "{text}");
    assert_eq!(check(&file.to_string(), &["--strict"]).0, Some(0), "a warning leaves nothing out");
}

#[test]
fn files_that_are_not_there_are_told() {
    let output = output(&["check", "/nowhere/kong.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot read /nowhere/kong.yaml: No such file"), "{text}");
}

#[test]
fn many_files_are_one_configuration() {
    let folder = TempDir::new("check");
    folder.write("a.yaml", "_format_version: '3.0'\nservices: [{name: a, host: a.example}]\n");
    folder.write("b.json", r#"{"_format_version": "3.0", "routes": [{"name": "r", "paths": ["/"], "service": "a"}]}"#);
    let text = stdout(&["check", &folder.path().display().to_string()]);
    assert!(text.ends_with("valid: 1 service, 1 route\n"), "{text}");
}

#[test]
fn what_has_no_end_is_not_read() {
    let Some([mkfifo]) = cardinal_test_tools::tools!("mkfifo") else { return };
    let zero = output(&["check", "/dev/zero"]);
    assert_eq!(zero.status.code(), Some(1));
    let text = String::from_utf8(zero.stderr).unwrap();
    assert!(text.contains("cannot read /dev/zero: it is a device, not a file"), "{text}");
    let folder = TempDir::new("check");
    // A pipe in a directory is not one of its files to read.
    let fifo = folder.path().join("fifo.yaml");
    make_fifo(mkfifo, &fifo);
    let pipe = output(&["check", &folder.path().display().to_string()]);
    let text = String::from_utf8(pipe.stderr).unwrap();
    assert!(text.contains("it is a pipe, not a file"), "{text}");
}

fn make_fifo(mkfifo: impl AsRef<std::ffi::OsStr>, path: &std::path::Path) {
    let made = std::process::Command::new(mkfifo).arg(path).status().unwrap();
    assert!(made.success());
}

/// Runs a command that reads `text` from its standard input.
fn with_input(args: &[&str], text: &str) -> (Option<i32>, String, String) {
    let mut command = cardinal();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = text.to_owned();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().ok();
    let read = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), read(output.stdout), read(output.stderr))
}

#[test]
fn a_configuration_may_come_through_a_pipe() {
    let yaml = "_format_version: '3.0'\nservices: [{name: a, host: a.example}]\n";
    let json = r#"{"_format_version": "3.0", "services": [{"name": "a", "host": "a.example"}]}"#;
    for path in ["-", "/dev/stdin", "/proc/self/fd/0"] {
        for text in [yaml, json] {
            let (code, out, error) = with_input(&["check", path], text);
            assert!(code == Some(0) && out.ends_with("valid: 1 service\n"), "{path}: {out}{error}");
        }
        let (code, out, _) =
            with_input(&["check", "--config", path], "_format_version: '3.0'\nservices: [{hots: b}]\n");
        assert_eq!(code, Some(1), "{out}");
        assert!(out.contains("--> <stdin>:2:13"), "{out}");
    }
    let folder = TempDir::new("check");
    // Beside a file.
    let file = folder.write("b.yaml", "_format_version: '3.0'\nroutes: [{name: r, paths: [/], service: a}]\n");
    let (code, out, error) = with_input(&["check", "-", &file.display().to_string()], yaml);
    assert!(code == Some(0) && out.ends_with("valid: 1 service, 1 route\n"), "{out}{error}");
}

#[test]
fn a_named_pipe_is_read() {
    let Some([mkfifo]) = cardinal_test_tools::tools!("mkfifo") else { return };
    let folder = TempDir::new("check");
    let fifo = folder.path().join("fifo");
    make_fifo(mkfifo, &fifo);
    let writer = std::thread::spawn({
        let fifo = fifo.clone();
        move || std::fs::write(fifo, "_format_version: '3.0'\nservices: [{name: a, host: a.example}]\n").unwrap()
    });
    assert!(stdout(&["check", &fifo.display().to_string()]).ends_with("valid: 1 service\n"));
    writer.join().unwrap();
}

#[test]
fn requests_to_explain_may_come_through_a_pipe() {
    let folder = TempDir::new("check");
    let file = folder.write("kong.yaml", kong_yaml("http://127.0.0.1:1")).display().to_string();
    let requests = "{\"url\": \"http://a.example/open\"}\n";
    for path in ["-", "/dev/stdin"] {
        let args = ["explain", "--config", &file, "--requests", path, "--output", "json"];
        let (code, out, error) = with_input(&args, requests);
        assert!(code == Some(0) && out.contains("\"name\":\"open\""), "{out}{error}");
    }
    let args = ["explain", "--config", "-", "GET", "http://a.example/open", "--output", "json"];
    let (code, out, error) = with_input(&args, &kong_yaml("http://127.0.0.1:1"));
    assert!(code == Some(0) && out.contains("\"name\":\"open\""), "{out}{error}");
    let (code, _, error) = with_input(&["explain", "--config", "-", "--requests", "/dev/stdin"], "");
    assert!(code == Some(1) && error.contains("cannot both be standard input"), "{error}");
}

/// Every kind of secret that a file can have, each with a value that begins with `hush`.
const SECRETS: &str = r#"
_format_version: "3.0"
services:
- name: s
  url: http://127.0.0.1:1
  routes: [{name: r, paths: [/]}]
  plugins:
  - name: rate-limiting
    config: {minute: 1, policy: redis, redis: {host: redis.internal, port: 6379, username: u, password: hush1}}
  - name: http-log
    config: {http_endpoint: "https://logs.internal/?key=hush2", headers: {Authorization: Bearer hush3}}
  - name: request-transformer
    config:
      add: {headers: ["Authorization: Basic hush4", "X-Api-Key:hush5"]}
consumers:
- username: anna
  keyauth_credentials: [{key: hush6}]
  basicauth_credentials: [{username: anna, password: hush7}]
  jwt_secrets: [{key: issuer, secret: hush8, algorithm: HS256}]
keys:
- {kid: k, jwk: '{"kty": "oct", "k": "hush9", "kid": "k"}'}
"#;

#[test]
fn json_has_no_secrets() {
    let (code, found) = check_json(SECRETS, &[]);
    let text = found.to_string();
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("hush"), "{text}");
    let plugins = found["entities"]["plugins"].as_object().unwrap();
    let limiting = plugins.values().find(|plugin| plugin["name"] == "rate-limiting").unwrap();
    assert_eq!((&limiting["config"]["redis"]["password"], &limiting["config"]["minute"]), (&json!("***"), &json!(1)));
    let key = found["entities"]["keyauth_credentials"].as_object().unwrap().values().next().unwrap();
    assert_eq!(key["key"], "***");

    // The same with an error in every entity, and with a credential that is there twice.
    let broken = SECRETS
        .replace("minute: 1", "minute: x")
        .replace("http_endpoint", "passwrod: hush, http_endpoint")
        .replace("- username: anna\n", "- username: anna\n  nope: 1\n")
        .replace("{key: hush6}", "{key: hush6, keyy: hush}, {key: hush6}")
        .replace("username: anna, password: hush7", "username: anna, password: hush7, nope: 1")
        .replace("algorithm: HS256", "algorithm: hs256");
    let (code, found) = check_json(&broken, &[]);
    let text = found.to_string();
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("hush"), "{text}");
    assert!(found["flattened_errors"].as_array().unwrap().len() >= 4, "{text}");

    let folder = TempDir::new("check");
    let file = folder.write("kong.yaml", SECRETS).display().to_string();
    for form in ["json", "human"] {
        let text = stdout(&["explain", "--config", &file, "--output", form, "GET", "http://a.example/?apikey=own"]);
        assert!(!text.contains("hush") && text.contains("apikey=own"), "{text}");
    }
}

#[test]
fn an_entity_that_is_left_out_is_not_called_the_same() {
    let text = "_format_version: '3.0'
services: [{name: s, url: 'http://127.0.0.1:1', routes: [{name: r, paths: [/]}]}]
plugins:
- name: file-log
  config: {path: /dev/null, custom_fields_by_lua: {a: 'local x = 1; return x'}}
";
    let (code, out) = check(text, &[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(!out.contains("same         plugins"), "{out}");
    assert!(out.contains("unsupported  plugins \"file-log\" config.custom_fields_by_lua.a: cannot run"), "{out}");
    assert!(out.contains("requests are served without this instance"), "{out}");
    let last = "valid, but 1 entity above would be left out: 1 plugin; served: 1 service, 1 route\n";
    assert!(out.ends_with(last), "{out}");
    let (code, out) = check(text, &["--strict"]);
    assert!(code == Some(1) && out.ends_with("invalid: 1 entity above would be left out: 1 plugin\n"), "{out}");
    let found = check_json(text, &[]).1;
    assert_eq!(found["left_out"][0]["entity_type"], "plugin", "{found}");
    let (error, difference) = (&found["errors"][0], &found["differences"][0]);
    assert_eq!((&error["line"], &error["column"], &error["severity"]), (&json!(4), &json!(3), &json!("error")));
    assert_eq!((&difference["verdict"], &difference["line"]), (&json!("unsupported"), &json!(4)));
    assert_eq!(difference["field"], "config.custom_fields_by_lua.a");
}

#[test]
fn secrets_beside_an_error_are_not_printed() {
    let text =
        "_format_version: '3.0'\nconsumers:\n- username: a\n  keyauth_credentials: [{key: s3cret, keyy: s3cret}]\n";
    let (code, text) = check(text, &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("[{key: ***, keyy: ***}]") && !text.contains("s3cret"), "{text}");
}

/// Each has an error in the line of the secret, or about it.
const WITH_SECRETS: &[&str] = &[
    "keyauth_credentials:\n- key: S3CR3T\n  consumer: nobody",
    "keyauth_credentials:\n- key: S3CR3T\n  consumer: nobody\n- key: S3CR3T2\n  consumer: nobody",
    "jwt_secrets:\n- key: S3CR3T\n  consumer: nobody",
    "keyauth_credentials:\n- key: k\n  consumer: {username: a, password: S3CR3T}",
    "consumers:\n- username: a\n  keyauth_credentials:\n  - S3CR3T",
    "consumers:\n- username: a\n  keyauth_credentials: S3CR3T",
    "consumers:\n- username: a\n  keyauth_credentials: [S3CR3T]",
    "consumers:\n- username: a\n  basicauth_credentials:\n  - user:S3CR3T",
    "consumers:\n- username: a\n  jwt_secrets:\n  - - S3CR3T",
    "hmacauth_credentials:\n- S3CR3T",
    "oauth2_credentials:\n- S3CR3T",
    "consumers:\n- username: a\n  basicauth_credentials:\n  - {username: u, password: {x: S3CR3T}}",
    "consumers:\n- username: a\n  basicauth_credentials:\n  - username: u\n    password:\n      x: S3CR3T",
    "consumers:\n- username: a\n  basicauth_credentials:\n  - username: u\n    password: [[S3CR3T], {x: S3CR3T}]",
    "consumers:\n- username: a\n  keyauth_credentials:\n  - key: |\n      S3CR3T\n      two\n    bogus: 1",
    "services:\n- host: h\n  bogus:\n    password:\n      x:\n        y: [S3CR3T\n  : }",
    "plugins:\n- name: request-transformer\n  config:\n    add:\n      headers: [S3CR3T]",
    "plugins:\n- name: request-transformer\n  config:\n    add:\n      headers: ['x y:S3CR3T']",
    "plugins:\n- name: request-transformer\n  config:\n    add:\n      headers:\n      - 'x y:Bearer S3CR3T'",
    "plugins:\n- name: request-transformer\n  config:\n    replace:\n      body: [{x: S3CR3T}]",
    "plugins:\n- name: request-transformer\n  config:\n    append:\n      querystring: [S3CR3T]",
    "plugins:\n- name: request-transformer\n  config:\n    add:\n      headers: ['X-A:Bearer $(S3CR3T']",
    "plugins:\n- name: request-transformer\n  config:\n    add:\n      headers: ['X-A:$(os.time()) S3CR3T']",
    "plugins:\n- name: response-transformer\n  config:\n    add:\n      headers: [S3CR3T]",
    "plugins:\n- name: response-transformer\n  config:\n    add:\n      json: [S3CR3T]",
    "plugins:\n- name: http-log\n  config: {http_endpoint: 'S3CR3T'}",
    "plugins:\n- name: http-log\n  config: {http_endpoint: 'http://h', custom_fields_by_lua: {a: \"return 'S3CR3T' x 'S3CR3T'\"}}",
];

#[test]
fn no_error_shows_a_secret() {
    for entity in WITH_SECRETS {
        let text = format!("_format_version: '3.0'\n{entity}\n");
        for output in ["human", "json"] {
            let (code, told) = check(&text, &["--strict", "--output", output]);
            assert_eq!(code, Some(1), "{text}\n{told}");
            assert!(!told.contains("S3CR3T"), "{text}\n{told}");
            // The place is told nevertheless.
            let place = if output == "json" { "\"line\"" } else { "kong.yaml:" };
            assert!(told.contains(place), "{text}\n{told}");
        }
    }
}

#[test]
fn references_that_are_literal_text_are_warned_about() {
    let text = "_format_version: '3.0'\nconsumers:\n- username: a\n  basicauth_credentials:\n  - username: u\n    password: \
                '{vault://env/p}'\n  jwt_secrets:\n  - key: k\n    secret: '{vault://env/s}'\nplugins:\n- name: \
                request-transformer\n  config: {add: {headers: ['x-a:{vault://env/h}']}}\n- name: rate-limiting\n  config: \
                {minute: 1, policy: redis, redis: {host: r, password: '{vault://env/r}'}}\n";
    let (code, found) = check_json(text, &[]);
    assert_eq!(code, Some(0), "{found}");
    let warnings = found["warnings"].as_array().unwrap().iter();
    let literal = warnings.filter(|warning| warning["message"].as_str().unwrap().contains("is used as literal text"));
    let told: Vec<_> =
        literal.map(|w| [&w["entity"], &w["field"], &w["line"]].map(Value::to_string).join(" ")).collect();
    let expected = [
        "\"basicauth_credentials \\\"u\\\"\" \"password\" 6",
        "\"jwt_secrets \\\"1\\\"\" \"secret\" 9",
        "\"plugins \\\"request-transformer\\\"\" \"config.add.headers[0]\" 12",
    ];
    assert_eq!(told, expected, "{found}");
}

#[test]
fn values_of_unknown_fields_beside_secrets_are_not_printed() {
    for (entity, shown) in [
        ("consumers: [{username: a, keyauth_credentials: [{key: k, bogus: S3CR3T}]}]", false),
        ("consumers:\n- username: a\n  keyauth_credentials:\n  - key: k\n    bogus: S3CR3T", false),
        ("keyauth_credentials:\n- key: k\n  consumer: a\n  bogus: {x: S3CR3T}", false),
        ("keyauth_credentials:\n- key: k\n  bogus:\n    x: S3CR3T", false),
        ("basicauth_credentials: [{username: u, bogus: [S3CR3T]}]", false),
        ("jwt_secrets: [{bogus: S3CR3T}]", false),
        ("certificates: [{cert: c, bogus: S3CR3T}]", false),
        ("keys: [{kid: k, jwk: '{}', bogus: S3CR3T}]", false),
        ("plugins: [{name: http-log, config: {http_endpoint: 'http://h', bogus: S3CR3T}}]", false),
        ("services:\n- host: h\n  bogus: S3CR3T", true),
        ("plugins: [{name: cors, config: {bogus: S3CR3T}}]", true),
    ] {
        let text = format!("_format_version: '3.0'\n{entity}\n");
        for output in ["human", "json"] {
            let (code, told) = check(&text, &["--output", output]);
            assert_eq!(code, Some(1), "{told}");
            assert!(told.contains("bogus") && told.contains("unknown field"), "{told}");
            assert_eq!(told.contains("S3CR3T"), shown, "{entity}: {told}");
        }
    }
}

#[test]
fn keys_that_stand_twice_are_told() {
    let twice = "_format_version: '3.0'\nservices:\n- name: a\n  host: x\n  host: y\n";
    let (code, text) = check(twice, &[]);
    assert_eq!(code, Some(0));
    assert!(text.starts_with("warning: key \"host\": duplicate key in a map: the last value is used"), "{text}");
    assert!(text.contains("kong.yaml:5:3"), "{text}");
    let (code, text) = check(twice, &["--strict"]);
    assert_eq!(code, Some(1), "{text}");
}

const ENTERPRISE: &str = "_format_version: '3.0'
consumer_groups:
- name: Partner Banks
consumers:
- username: a
  groups: [{name: Partner Banks}]
plugins:
- name: key-auth
  config:
    identity_realms: [{scope: cp}]
  protocols: [grpc, grpcs, http, https, ws, wss]
- name: acl
  config: {allow: [Partner Banks], include_consumer_groups: true}
vaults:
- {name: aws, prefix: my-aws, config: {region: x}}
";

#[test]
fn files_of_the_enterprise_edition_are_accepted_with_notes() {
    let (code, text) = check(ENTERPRISE, &[]);
    assert_eq!(code, Some(0), "{text}");
    for part in ["ws and wss mean http and https here", "config.identity_realms", "references to it cannot be resolved"]
    {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let reference = "certificates: [{cert: '{vault://my-aws/x}', key: '{vault://my-aws/x}'}]\n";
    let (_, text) = check(&format!("{ENTERPRISE}{reference}"), &[]);
    assert!(text.contains("does not have the vault 'aws' of Kong Enterprise"), "{text}");
}

#[test]
fn a_plugin_that_is_missing_is_said_to_be_missing() {
    let text = "_format_version: '3.0'\nconsumers:\n- username: a\n  oauth2_credentials:\n  - name: app\nplugins:\n- name: \
                bot-detection\n";
    let (code, told) = check(text, &[]);
    assert_eq!(code, Some(1));
    for part in [
        "'oauth2_credentials' belongs to Kong's plugin oauth2, which this version does not have",
        "this version does not have Kong's plugin 'bot-detection'",
    ] {
        assert!(told.contains(part), "no {part:?} in\n{told}");
    }
    assert!(!told.contains("did you mean") && !told.contains("add it to"), "{told}");
    let (_, found) = check_json(text, &[]);
    let expected = "plugin 'bot-detection' not enabled; add it to the 'plugins' configuration property";
    assert_eq!(found["fields"]["plugins"][0]["name"], expected);
}

#[test]
fn only_the_first_document_is_read() {
    let text = format!("{}---\nkind: notes\n", kong_yaml("http://127.0.0.1:1"));
    let (code, told) = check(&text, &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("is ignored: only the first one is read"), "{told}");
}

#[test]
fn settings_name_plugins_vaults_and_roles_that_there_are() {
    let said = |set: &str| {
        let folder = TempDir::new("check");
        let file = folder.write("kong.yaml", "_format_version: '3.0'\n").display().to_string();
        let output = output(&["check", &file, "--set", set]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (set, part) in [
        ("vaults=nope", "command line: vaults: there is no vault 'nope'"),
        ("role=data_plane", "cluster_control_plane: needed when role is data_plane"),
        ("role=bogus", "traditional"),
    ] {
        let (code, text) = said(set);
        assert!(code != Some(0) && text.contains(part), "{set}: {code:?} {text}");
    }
    for (set, part) in [
        ("plugins=bundled,nope", "warning: command line: plugins: there is no plugin 'nope'"),
        ("plugins=cors,nope", "there is no plugin 'nope'"),
        ("plugins=bundled,cros", "did you mean 'cors'?"),
    ] {
        let (code, text) = said(set);
        assert!(code == Some(0) && text.contains(part), "{set}: {code:?} {text}");
    }
    for set in ["plugins=bundled,oauth2,openid-connect", "vaults=bundled", "vaults=env,aws", "role=traditional"] {
        let (code, text) = said(set);
        assert_eq!(code, Some(0), "{set}: {text}");
        assert_eq!(text.contains("does not have Kong's plugin 'oauth2'"), set.contains("oauth2"), "{set}: {text}");
    }
}

#[test]
fn variables_of_deck_are_filled_in() {
    let folder = TempDir::new("check");
    let text = "_format_version: '3.0'\nservices:\n- name: a\n  host: ${{ env \"DECK_HOST\" }}\n  port: ${{ env \"DECK_PORT\" | \
                toInt }}\n";
    let file = folder.write("kong.yaml", text).display().to_string();
    let run = |more: &[&str], env: &[(&str, &str)]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cardinal"));
        let output = command.arg("check").arg(&file).args(more).envs(env.iter().copied()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code(), text)
    };
    let (code, told) = run(&["--fill-env"], &[("DECK_HOST", "h.test"), ("DECK_PORT", "8080")]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = run(&["--fill-env"], &[("DECK_PORT", "8080")]);
    assert!(code == Some(1) && told.contains("kong.yaml:4:9") && told.contains("'DECK_HOST' is not set"), "{told}");
    let (code, told) = run(&["--fill-env"], &[("DECK_HOST", "no host"), ("DECK_PORT", "8080")]);
    assert!(code == Some(1) && !told.contains("no host") && told.contains("invalid value"), "{told}");
    let (code, told) = run(&[], &[("DECK_HOST", "h.test")]);
    assert!(code == Some(1) && told.contains("--fill-env"), "{told}");
}

#[test]
fn settings_families_of_kong_enterprise_are_named() {
    let folder = TempDir::new("check");
    let file = folder.write("kong.yaml", "_format_version: '3.0'\n").display().to_string();
    for (name, part) in [
        ("portal_gui_host", "Kong Enterprise"),
        ("rbac", "Kong Enterprise"),
        ("vault_aws_region", "Kong Enterprise"),
        ("keyring_enabled", "Kong Enterprise"),
        ("pg_schema", "does nothing here"),
        ("pluginserver_x_socket", "there are no plugin servers"),
    ] {
        let conf = folder.write("kong.conf", format!("{name} = x\n")).display().to_string();
        let output = output(&["check", &file, "-C", &conf]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains(&format!("kong.conf:1: {name}: ")) && text.contains(part), "{name}: {text}");
    }
}

#[test]
fn a_prefix_of_the_env_vault_is_used() {
    let folder = TempDir::new("check");
    let text = "_format_version: '3.0'
services: [{name: s, host: h, routes: [{name: r, paths: [/]}]}]
plugins: [{name: http-log, config: {http_endpoint: '{vault://env/endpoint}'}}]
";
    let file = folder.write("kong.yaml", text).display().to_string();
    let check = |more: &[&str]| {
        let mut command = crate::process::cardinal();
        let output = command.args(["check", &file]).args(more).env("MY_ENDPOINT", "http://log.test").output().unwrap();
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat()
    };
    assert!(check(&[]).contains("cannot be resolved: the environment has no ENDPOINT"), "{}", check(&[]));
    let text = check(&["--set", "vault_env_prefix=MY_"]);
    assert!(!text.contains("cannot be resolved") && !text.contains("log.test"), "{text}");
}

/// Standard error of `check` with a setting, and whether the file is valid.
fn with_setting(set: &str) -> (bool, String) {
    let folder = TempDir::new("check");
    let file = folder.write("kong.yaml", "_format_version: '3.0'\n").display().to_string();
    let output = output(&["check", &file, "--set", set]);
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn settings_that_are_wrong_are_reported_once_by_the_name_that_was_written() {
    let check = |set: &str, expect: &str| {
        let (valid, text) = with_setting(set);
        assert!(!valid, "{set}: {text}");
        assert_eq!(text, format!("error: invalid settings\nerror: command line: {expect}\n"));
    };
    check(
        "nginx_http_client_max_bdy_size=8m",
        "nginx_http_client_max_bdy_size: unknown setting, did you mean 'nginx_http_client_max_body_size'?",
    );
    check("nginx_htp_x=1", "nginx_htp_x: unknown setting, did you mean 'nginx_http_x'?");
    check(
        "nginx_proxy_client_max_body_size=zz",
        "nginx_proxy_client_max_body_size: expected a size such as 8k, 10m or 1g, not 'zz' (it sets client_max_body_size)",
    );
    check(
        "nginx_proxy_ssl_verify_client=optional_no_ca",
        "nginx_proxy_ssl_verify_client: expected one of: off, on, optional, not 'optional_no_ca'",
    );
    check(
        "node_id={vault://env/absent-node-id}",
        "node_id: {vault://env/absent-node-id} cannot be resolved: the environment has no ABSENT_NODE_ID",
    );
    for (set, part) in [
        ("nginx_http_resolver=127.0.0.1", "nginx_http_resolver: has no effect: use dns_resolver"),
        ("nginx_http_sendfile=on", "no setting here corresponds to this directive of nginx"),
        ("plugins=bundeld", "there is no plugin 'bundeld', did you mean 'bundled'?"),
    ] {
        let (valid, text) = with_setting(set);
        assert!(valid && text.starts_with("warning: command line: ") && text.contains(part), "{set}: {text}");
    }
}

#[test]
fn a_stream_or_file_that_is_named_twice_is_refused() {
    for second in ["-", "/dev/stdin"] {
        let (code, _, error) = with_input(&["check", "-q", "-", second], "_format_version: '3.0'\n");
        assert_eq!((code, error.as_str()), (Some(1), "error: cannot read <stdin>: it is named twice\n"));
    }
    let folder = TempDir::new("check");
    let file = folder.write("kong.yaml", "_format_version: '3.0'\n").display().to_string();
    let output = output(&["check", &file, &file]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, format!("error: cannot read {file}: it is named twice\n"));
}
