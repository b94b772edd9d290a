//! Values that come from the environment are not in any output of `check`, `explain` and `run`.

use std::process::Command;

use cardinal_testkit::TempDir;

use crate::process::{Process, cardinal};

const FILLED: &str = r#"_format_version: '3.0'
services:
- name: ${{ env "DECK_NAME" }}
  host: ${{ env "DECK_HOST" }}
  port: ${{ env "DECK_PORT" | toInt }}
  path: /${{ env "DECK_PATH" }}
  routes:
  - name: r
    paths: [/r]
    headers: {"${{ env "DECK_KEY" }}": [a], x-of: ["${{ env "DECK_VALUE" }}"]}
  - name: other
    paths: ["/${{ env "DECK_VALUE" }}"]
  plugins:
  - name: request-transformer
    config:
      add:
        headers: ["x-plain:${{ env "DECK_VALUE" }}", "${{ env "DECK_PAIR" }}"]
        querystring: ["q:${{ env "DECK_QUERY" }}"]
"#;

const VALUES: [(&str, &str); 8] = [
    ("DECK_NAME", "name-e3f1"),
    ("DECK_HOST", "Host-E3F1.test"),
    ("DECK_PORT", "48713"),
    ("DECK_PATH", "path-e3f1"),
    ("DECK_KEY", "x-e3f1-key"),
    ("DECK_VALUE", "value-e3f1"),
    ("DECK_PAIR", "x-pair:e3f1pair"),
    ("DECK_QUERY", "query e3f1/\u{e4}"),
];

fn all_output(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code(), text)
}

fn command(args: &[&str]) -> Command {
    let mut command = cardinal();
    command.args(args).args(["--fill-env"]).envs(VALUES);
    command
}

fn check_hidden(text: &str) {
    let lower = text.to_ascii_lowercase();
    assert!(!lower.contains("e3f1") && !lower.contains("48713"), "{text}");
}

#[test]
fn values_that_are_filled_in_are_not_printed() {
    let folder = TempDir::new("secrets");
    let file = folder.write("kong.yaml", FILLED).display().to_string();
    let request = ["GET", "http://a.test/r", "-H", "x-e3f1-key: a", "-H", "x-of: value-e3f1"];
    for output in ["human", "json"] {
        let (code, text) = all_output(command(&["check", &file, "--output", output]));
        check_hidden(&text);
        assert_eq!(code, Some(0), "{text}");
        let explain = [&["explain", "--config", &file, "--output", output][..], &request].concat();
        let (code, text) = all_output(command(&explain));
        check_hidden(&text);
        assert!(code == Some(0) && text.contains("DECK_QUERY") && text.contains("DECK_HOST"), "{text}");
        let lines = folder.write("lines", "{\"url\": \"/r?value-e3f1\"}\n").display().to_string();
        let (_, text) = all_output(command(&["explain", "--config", &file, "--output", output, "--requests", &lines]));
        check_hidden(&text);
    }
    let (_, text) = all_output(command(&[&["explain", "--config", &file][..], &request].concat()));
    assert!(text.contains("x-plain: ${{ env \"DECK_VALUE\" }}"), "{text}");
}

const URL: &str = r#"_format_version: '3.0'
services:
- name: s
  url: ${{ env "DECK_URL" }}
  routes: [{name: r, paths: [/r]}]
  plugins:
  - name: http-log
    config:
      http_endpoint: ${{ env "DECK_LOG" }}
  - name: request-transformer
    config:
      add:
        headers: ["x-log:${{ env "DECK_LOG" }}"]
"#;

#[test]
fn addresses_that_come_from_elsewhere_are_printed() {
    let folder = TempDir::new("secrets");
    let file = folder.write("kong.yaml", URL).display().to_string();
    let mut command = cardinal();
    command.args(["explain", "--config", &file, "--fill-env", "GET", "http://localhost:8000/r"]);
    command.env("DECK_URL", "http://127.0.0.1:9000/base").env("DECK_LOG", "http://ann:p4s@127.0.0.1:9001/l?token=t0k");
    let (code, text) = all_output(command);
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "at host 127.0.0.1:9000",
        "X-Real-IP: 127.0.0.1",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: localhost",
        "X-Forwarded-Port: 8000",
        "x-log: ${{ env \"DECK_LOG\" }}",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains("p4s") && !text.contains("t0k"), "{text}");
}

#[test]
fn errors_do_not_name_values_that_are_filled_in() {
    let folder = TempDir::new("secrets");
    for (from, to) in [
        ("host: $", "host: ' '$"),
        ("name: request-transformer", "name: ${{ env \"DECK_VALUE\" }}"),
        ("- name: r\n", "- name: ${{ env \"DECK_NAME\" }}\n    pahts: [/a]\n"),
        ("  - name: other", "  - name: r"),
        ("path: /", "path: "),
        ("  port:", "  ${{ env \"DECK_VALUE\" }}:"),
        ("services:", "services: ${{ env \"DECK_VALUE\" }}\nroutes:"),
        ("      add:", "      add: {${{ env \"DECK_VALUE\" }}: 1}\n      remove:"),
        ("services:", "plugins: [${{ env \"DECK_VALUE\" }}]\nservices:\n"),
        ("services:", "a: [${{ env \"DECK_VALUE\" }}\nservices:\n"),
    ] {
        let file = folder.write("kong.yaml", FILLED.replacen(from, to, 1)).display().to_string();
        for output in ["human", "json"] {
            let (code, text) = all_output(command(&["check", &file, "--output", output]));
            check_hidden(&text);
            assert_eq!(code, Some(1), "{to}: {text}");
        }
        let (code, text) = all_output(command(&["explain", "--config", &file, "GET", "/r"]));
        check_hidden(&text);
        assert_eq!(code, Some(1), "{text}");
    }
}

#[test]
fn secrets_of_vaults_are_not_printed() {
    let folder = TempDir::new("secrets");
    let log = "  - {name: http-log, config: {http_endpoint: 'http://l.test', headers: {x-a: '{vault://env/plain}'}}}\n";
    let file = folder.write("kong.yaml", format!("{FILLED}{log}")).display().to_string();
    for output in ["human", "json"] {
        let request = ["explain", "--config", &file, "--output", output, "GET", "/r", "-H", "x-of: value-e3f1"];
        let mut command = command(&[&request[..], &["-H", "x-e3f1-key: a"]].concat());
        command.env("PLAIN", "vault-e3f1");
        let (code, text) = all_output(command);
        check_hidden(&text);
        assert_eq!(code, Some(0), "{text}");
        assert!(output == "json" || text.contains("{vault://env/plain}"), "{text}");
    }
}

#[test]
fn the_log_does_not_name_values_that_are_filled_in() {
    let folder = TempDir::new("secrets");
    let text = FILLED.replace("name: r\n", "name: ${{ env \"DECK_NAME\" }}\n    protocols: [tcp]\n    snis: [a]\n");
    let config = folder.write("kong.yaml", text);
    let mut command = command(&["run", "--config", &config.display().to_string()]);
    command.args(["--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=off", "--set", "admin_listen=off"]);
    let mut node = Process::start(command);
    node.wait_for("not started");
    check_hidden(&node.seen().join("\n"));
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let folder = TempDir::new("secrets");
    let config = "_format_version: '3.0'
services:
- {name: s, host: h, tags: [\"\\e[2J\"], routes: [{name: r, paths: [/r], tags: [\"a\\e]0;x\\a\", \"\\N\\_\"]}]}
consumers: [{username: \"u\\e[31m\\x9b1m\\n\\rvalid: 9\"}, {username: \"u\\e[31m\\x9b1m\\n\\rvalid: 9\"}]
plugins:
- {name: request-transformer, config: {add: {headers: [\"x:\\e[2J\"]}}}
- {name: request-termination, config: {message: \"\\e[2Jhello\\x7f\"}}
";
    let bad = folder.write("bad.yaml", config).display().to_string();
    let sound = config.replace(", {username: \"u\\e[31m\\x9b1m\\n\\rvalid: 9\"}]", "]");
    let good = folder.write("good.yaml", sound).display().to_string();
    let raw = folder.write("raw.yaml", "_format_version: '3.0'\nservices:\n- name: \u{1b}[2J\n").display().to_string();
    let mut seen = 0;
    for args in [
        &["check", &bad][..],
        &["check", &bad, "--output", "json"],
        &["check", &good],
        &["check", &good, "--output", "json"],
        &["check", &raw],
        &["explain", "--config", &good, "GET", "/r"],
        &["explain", "--config", &bad, "GET", "/r"],
        &["explain", "--config", &good, "--output", "json", "GET", "/r"],
        &["run", "--log-format", "text", "--config", &bad],
        &["run", "--log-format", "json", "--config", &raw],
    ] {
        let mut command = cardinal();
        command.args(args);
        let (_, text) = all_output(command);
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(control), "{args:?}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("valid: 9")), "{args:?}: {text}");
        seen += usize::from(text.contains("\\u001b"));
    }
    assert!(seen >= 6, "{seen}");
}
