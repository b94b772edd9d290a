//! `cardinal check`.

use cardinal_testkit::{Authority, Issued, TempDir};
use serde_json::{Value, json};

use crate::kong_yaml;
use crate::process::{output, stdout};

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
    assert_eq!(found.as_object().unwrap().len(), 2);
    let service = found["entities"]["services"].as_object().unwrap().values().next().unwrap();
    assert_eq!((&service["name"], &service["connect_timeout"]), (&json!("backend"), &json!(60_000)));
    assert_eq!(found["entities"]["routes"].as_object().unwrap().len(), 2);
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
    assert_eq!(found.as_object().unwrap().len(), 3);
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
    let fifo = folder.path().join("fifo.yaml");
    let made = std::process::Command::new(mkfifo).arg(&fifo).status().unwrap();
    assert!(made.success());
    let pipe = output(&["check", &fifo.display().to_string()]);
    let text = String::from_utf8(pipe.stderr).unwrap();
    assert!(text.contains("it is a pipe, not a file"), "{text}");
}

#[test]
fn secrets_beside_an_error_are_not_printed() {
    let text =
        "_format_version: '3.0'\nconsumers:\n- username: a\n  keyauth_credentials: [{key: s3cret, keyy: s3cret}]\n";
    let (code, text) = check(text, &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("[{key: ***, keyy: ***}]") && !text.contains("s3cret"), "{text}");
}

#[test]
fn keys_that_stand_twice_are_told() {
    let twice = "_format_version: '3.0'\nservices:\n- name: a\n  host: x\n  host: y\n";
    let (code, text) = check(twice, &[]);
    assert_eq!(code, Some(0));
    assert!(text.starts_with("warning: key \"host\": stands twice in one map, the last one counts"), "{text}");
    assert!(text.contains("kong.yaml:5:3"), "{text}");
    let (code, text) = check(twice, &["--strict"]);
    assert_eq!(code, Some(1), "{text}");
}
