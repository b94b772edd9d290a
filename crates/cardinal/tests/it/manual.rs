//! What the program says about itself.

use std::process::Stdio;

use cardinal_testkit::{H1Client, TempDir};
use serde_json::Value;

use crate::process::{Process, cardinal, output, stdout};

#[test]
fn it_has_a_version() {
    assert!(stdout(&["version"]).starts_with("cardinal 0."));
    let version: Value = serde_json::from_str(&stdout(&["version", "--output", "json"])).unwrap();
    assert_eq!(version["name"], "cardinal");
    assert!(version["version"].is_string());
}

#[test]
fn it_completes_in_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&["completions", shell]);
        assert!(script.contains("cardinal") && script.contains("explain"), "{shell}");
    }
}

#[test]
fn it_has_man_pages() {
    assert!(stdout(&["man"]).contains(".TH cardinal 1"));
    let folder = TempDir::new("man");
    stdout(&["man", &folder.path().join("man1").display().to_string()]);
    assert!(folder.read("man1/cardinal.1").contains("API gateway"));
    assert!(folder.read("man1/cardinal-run.1").contains("SIGHUP"));
}

#[test]
fn it_describes_the_admin_api() {
    let document: Value = serde_json::from_str(&stdout(&["openapi"])).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/services/{services}/routes"]["post"].is_object());
    assert!(document["components"]["schemas"]["plugins.key-auth.new"].is_object());
}

#[test]
fn it_describes_settings_and_plugins() {
    assert!(stdout(&["settings"]).contains("| `proxy_listen` |"));
    assert!(stdout(&["plugins"]).contains("key-auth"));
    let text = stdout(&["plugins", "key-auth"]);
    assert!(text.contains("key_names  (array of string, default [\"apikey\"])"), "{text}");
    let json: Value = serde_json::from_str(&stdout(&["plugins", "key-auth", "--output", "json"])).unwrap();
    assert_eq!(json["schema"]["properties"]["key_names"]["type"], "array");
    let missing = output(&["plugins", "kye-auth"]);
    assert!(String::from_utf8(missing.stderr).unwrap().contains("did you mean 'key-auth'?"));
    let missing = String::from_utf8(output(&["plugins", "statsd"]).stderr).unwrap();
    assert!(
        missing.contains("this version does not have Kong's plugin 'statsd'; 'cardinal plugins' lists"),
        "{missing}"
    );
    let list: Value = serde_json::from_str(&stdout(&["plugins", "--output", "json"])).unwrap();
    let count = list.as_array().unwrap().len();
    for help in [stdout(&["--help"]), stdout(&["plugins", "--help"])] {
        assert!(help.contains(&format!("{count} of the 45 ")), "{help}");
    }
}

#[test]
fn help_teaches_by_example() {
    let commands = ["run", "check", "explain", "echo", "completions", "plugins", "store", "history", "show", "diff"];
    for command in commands.into_iter().chain(["rollback", "audit", "rbac"]) {
        assert!(stdout(&[command, "--help"]).contains("Examples:\n  cardinal "), "{command}");
    }
    assert_eq!(output(&["rnu"]).status.code(), Some(2));
}

/// `cardinal settings | head -1` ends quietly.
#[test]
fn a_closed_pipe_is_no_panic() {
    let mut child = cardinal().arg("settings").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success(), "{}", output.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_brings_a_backend() {
    let mut command = cardinal();
    command.args(["echo", "--listen", "127.0.0.1:0"]);
    let mut echo = Process::start(command);
    let line = echo.wait_for("listening on ");
    let address = line.rsplit(' ').next().unwrap().parse().unwrap();
    let seen = H1Client::connect(address).await.unwrap().get("/x", "a.example", &[]).await.unwrap().json();
    assert_eq!(seen["path"], "/x");
    echo.signal(rustix::process::Signal::TERM);
    assert!(echo.ends().success());
}
