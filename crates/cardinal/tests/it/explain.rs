//! `cardinal explain`.

use cardinal_testkit::TempDir;
use serde_json::{Value, json};

use crate::kong_yaml;
use crate::process::{output, stdout};

struct Site {
    folder: TempDir,
    config: String,
}

fn site() -> Site {
    let folder = TempDir::new("explain");
    let config = folder.write("kong.yaml", kong_yaml("http://127.0.0.1:9999/base")).display().to_string();
    Site { folder, config }
}

#[test]
fn people_see_the_way_of_a_request() {
    let site = site();
    let text =
        stdout(&["explain", "--config", &site.config, "GET", "http://a.example/private/x", "-H", "apikey: annas-key"]);
    for part in [
        "GET http://a.example/private/x\n",
        "├─ route: \"private\" (",
        "kong.yaml:9\n",
        "does not match: path (route: ",
        "; request: /private/x)",
        "1. key-auth (route)",
        "hide_credentials = true",
        "kong.yaml:14\n",
        "key_in_header    = true        default\n",
        "consumer: \"anna\"",
        "service: \"backend\"",
        "upstream: /base/x at host 127.0.0.1:9999",
        "GET /base/x HTTP/1.1",
        "X-Consumer-Username: anna",
        "balancer: 127.0.0.1:9999\n",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains("responded locally") && !text.contains("annas-key"), "{text}");
    let text = stdout(&["explain", "--config", &site.config, "GET", "/private"]);
    assert!(text.contains("responded locally: 401: No API key found in request"), "{text}");
    let text = stdout(&["explain", "GET", "/nowhere", "--config", &site.config]);
    assert!(text.contains("route: none matches") && text.contains("responded locally: 404"), "{text}");
}

const CROWD: &str = "_format_version: '3.0'
routes:
- {name: regex, paths: ['~/a/\\d+']}
- {name: both, paths: [/a], methods: [GET]}
- {name: host, hosts: [shop.example], paths: [/a]}
- {name: header, headers: {x-pick: [one, two]}, paths: [/a]}
- {name: far1, hosts: [b.example], methods: [PUT]}
- {name: far2, hosts: [b.example], methods: [PUT]}
";

#[test]
fn people_see_why_a_route_goes_before_another() {
    let folder = TempDir::new("explain");
    let config = folder.write("kong.yaml", CROWD).display().to_string();
    let explain = |order: &str| {
        let order = format!("router_order={order}");
        stdout(&["explain", "--config", &config, "--set", &order, "GET", "http://127.0.0.1/a/1", "-H", "x-pick: three"])
    };
    let text = explain("kong");
    for part in [
        "├─ route: \"regex\" (",
        "matches, but ranks below: the chosen route has a regular expression as path",
        "does not match: host (route: shop.example; request: 127.0.0.1)",
        "does not match: header x-pick (route: one, two; request: three)",
        "does not match: method (route: PUT; request: GET), host (route: b.example; request: 127.0.0.1)",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let text = explain("documented");
    let why = "matches, but ranks below: the chosen route has more kinds of conditions (2 against 1)";
    assert!(text.contains("route: \"both\" (") && text.contains(why), "{text}");
    let many = (0..20).fold(CROWD.to_owned(), |all, n| all + &format!("- {{name: m{n}, paths: [/m{n}]}}\n"));
    folder.write("kong.yaml", many);
    assert!(explain("kong").contains("and 20 more\n"), "{}", explain("kong"));
}

#[test]
fn programs_get_a_line_for_each_line() {
    let site = site();
    let requests = site.folder.write(
        "requests.jsonl",
        r#"{"method":"GET","url":"http://a.example/open?q=1","client_ip":"203.0.113.9"}
{"method":"GET","url":"/private","headers":{"apikey":"annas-key"}}
{"url":"/private"}
{"url":"/nowhere"}
"#,
    );
    let requests = requests.display().to_string();
    let text = stdout(&["explain", "--config", &site.config, "--requests", &requests, "--output", "json"]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    let keys = ["route", "service", "upstream_uri", "upstream_host", "plugins", "reply"];
    assert_eq!(lines[0].as_object().unwrap().keys().collect::<Vec<_>>(), keys);
    assert_eq!(lines[0]["route"]["name"], "open");
    assert_eq!(lines[0]["service"]["name"], "backend");
    assert_eq!(lines[0]["upstream_uri"], "/base/open?q=1");
    assert_eq!(lines[0]["upstream_host"], "127.0.0.1:9999");
    assert_eq!((&lines[0]["plugins"], &lines[0]["reply"]), (&json!([]), &Value::Null));
    assert_eq!(lines[1]["plugins"], json!([{"name": "key-auth", "scope": "route"}]));
    assert_eq!((&lines[1]["reply"], &lines[1]["upstream_uri"]), (&Value::Null, &json!("/base")));
    assert_eq!(lines[2]["reply"], json!({"status": 401}));
    assert_eq!((&lines[3]["route"], &lines[3]["reply"]), (&Value::Null, &json!({"status": 404})));
}

#[test]
fn bad_lines_say_so_and_the_others_are_answered() {
    let site = site();
    let requests = site
        .folder
        .write("requests.jsonl", "{\"url\":\"/open\"}\nnonsense\n{\"url\":\"ftp://x\"}\n{\"url\":\"/open\"}\n");
    let requests = requests.display().to_string();
    let output = output(&["explain", "--config", &site.config, "--requests", &requests, "--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let errors: Vec<bool> = lines.iter().map(|line| line.get("error").is_some()).collect();
    assert_eq!(errors, [false, true, true, false], "{text}");
}

#[test]
fn a_question_that_is_none_is_told() {
    let site = site();
    let output = output(&["explain", "--config", &site.config]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no request: give METHOD and URL"));
    for (word, example) in [("GET", "such as GET http://a.example/"), ("/open", "such as GET /open")] {
        let output = crate::process::output(&["explain", "--config", &site.config, word]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("is missing: give METHOD and URL") && text.contains(example), "{text}");
    }
}

#[test]
fn balancers_and_patterns_are_shown_as_they_are_written() {
    let folder = TempDir::new("explain");
    for (more, balancer) in [
        ("", "round-robin over a.test:80 weight 100, 10.0.0.1:8000 weight 0"),
        ("algorithm: least-connections", "least-connections over "),
        ("algorithm: latency", "latency over "),
        ("hash_on: ip", "consistent-hashing over "),
    ] {
        let yaml = format!(
            "_format_version: '3.0'
upstreams:
- name: u
  {more}
  targets: [{{target: 'a.test:80'}}, {{target: '10.0.0.1', weight: 0}}]
services:
- {{name: s, host: u, routes: [{{name: r, paths: ['~/a/\\d+$']}}, {{name: other, paths: ['~/o\\.b/\\w+$']}}]}}
- {{name: named, host: c.test, routes: [{{name: named, paths: [/named]}}]}}
"
        );
        let config = folder.write("kong.yaml", yaml).display().to_string();
        let text = stdout(&["explain", "--config", &config, "GET", "/a/1"]);
        assert!(text.contains(&format!("balancer: {balancer}")), "{text}");
        assert!(text.contains(r"path (route: ~/o\.b/\w+$; request: /a/1)"), "{text}");
        let text = stdout(&["explain", "--config", &config, "GET", "/named"]);
        assert!(text.contains("balancer: round-robin over the addresses of c.test:80\n"), "{text}");
    }
}

#[test]
fn plugins_that_cannot_be_built_are_marked() {
    let folder = TempDir::new("explain");
    let yaml = kong_yaml("http://127.0.0.1:9999")
        + "plugins:
- name: http-log
  config:
    http_endpoint: 'http://127.0.0.1:9'
    custom_fields_by_lua: {x: 'return os.time()'}
";
    let config = folder.write("kong.yaml", yaml).display().to_string();
    let text = stdout(&["explain", "--config", &config, "GET", "/private"]);
    assert!(text.contains("http-log (global)") && text.contains("─ left out: "), "{text}");
    assert_eq!(text.matches("left out: ").count(), 1, "key-auth is built: {text}");
    let json = stdout(&["explain", "--config", &config, "--output", "json", "GET", "/private"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let left_out = |at: usize| json["plugins"][at].get("left_out").is_some();
    assert_eq!((left_out(0), left_out(1)), (false, true), "{json}");
}
