//! What monitoring sees of a configuration that is refused.

use std::net::SocketAddr;
use std::path::Path;

use cardinal_testkit::{EchoServer, H1Client, TempDir};
use rustix::process::Signal;
use serde_json::Value;

use crate::kong_yaml;
use crate::process::Process;

struct Watched {
    process: Process,
    status: SocketAddr,
}

impl Watched {
    fn start(config: &Path, more: &[&str]) -> Self {
        let mut process = Process::run(config, &[more, &["--set", "status_listen=127.0.0.1:0"]].concat());
        let (_, status) = process.addresses();
        Self { process, status }
    }

    async fn get(&self, path: &str) -> String {
        let mut client = H1Client::connect(self.status).await.unwrap();
        client.get(path, "status", &[]).await.unwrap().text()
    }

    /// Values of the metrics of a change, in the order of `NAMES`.
    async fn metrics(&self) -> [u64; 5] {
        const NAMES: [&str; 5] = [
            "cardinal_config_last_reload_successful",
            "cardinal_config_reloads_total{result=\"success\"}",
            "cardinal_config_reloads_total{result=\"failure\"}",
            "cardinal_config_from_last_good",
            "cardinal_config_entities_left_out",
        ];
        let text = self.get("/metrics").await;
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        assert!(
            value("cardinal_config_last_reload_timestamp_seconds").unwrap().parse::<u64>().unwrap() > 1_600_000_000
        );
        NAMES.map(|name| value(name).unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap())
    }

    async fn config(&self) -> Value {
        serde_json::from_str::<Value>(&self.get("/status").await).unwrap()["config"].take()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_reload_is_reported() {
    let (folder, echo) = (TempDir::new("config-state"), EchoServer::start("backend").await);
    let good = kong_yaml(&echo.url());
    let config = folder.write("kong.yaml", &good);
    let mut node = Watched::start(&config, &[]);
    assert_eq!(node.metrics().await, [1, 0, 0, 0, 0]);
    folder.write("kong.yaml", good.replace("paths: [/private]", "pahts: [/private]"));
    node.process.wait_for("is refused, generation 1 stays");
    assert_eq!(node.metrics().await, [0, 0, 1, 0, 0]);
    let state = node.config().await;
    assert_eq!((&state["last_reload_successful"], &state["reloads"]["failure"]), (&false.into(), &1.into()));
    let errors = state["errors"].as_array().unwrap();
    assert!(errors.iter().any(|error| error["line"] == 10 && error["file"] == config.to_str().unwrap()), "{state}");
    folder.write("kong.yaml", good.replace("/open", "/new"));
    node.process.wait_for("generation 2");
    assert_eq!(node.metrics().await, [1, 1, 1, 0, 0]);
    assert_eq!(node.config().await["errors"], Value::Array(Vec::new()));
    let status: Value = serde_json::from_str(&node.get("/status").await).unwrap();
    let keys: Vec<_> = status.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["memory", "server", "node", "config", "configuration_hash"]);
    assert_eq!(status["memory"]["workers_lua_vms"], Value::Array(Vec::new()));
    let about = &status["node"];
    assert_eq!((&about["generation"], &about["version"]), (&2.into(), &env!("CARGO_PKG_VERSION").into()));
    assert!(about["started_at"].as_u64().is_some_and(|at| at > 1_600_000_000), "{status}");
}

/// A file that is missing for a while is read when it is back, without another event for what it says.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_comes_back_as_it_was_is_a_success() {
    let (folder, echo) = (TempDir::new("config-state"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let mut node = Watched::start(&config, &[]);
    let away = folder.path().join("away");
    std::fs::rename(&config, &away).unwrap();
    node.process.wait_for("is refused, generation 1 stays: cannot read");
    assert_eq!(node.metrics().await[..3], [0, 0, 1]);
    // Asked for, it is tried at once, and the result is told again.
    node.process.signal(Signal::HUP);
    node.process.wait_for("reload requested (SIGHUP)");
    node.process.wait_for("is refused, generation 1 stays: cannot read");
    assert_eq!(node.metrics().await[..3], [0, 0, 2]);
    std::fs::rename(&away, &config).unwrap();
    node.process.wait_for("generation 2");
    assert_eq!(node.metrics().await[..3], [1, 1, 2]);
    std::fs::rename(&config, &away).unwrap();
    node.process.wait_for("is refused, generation 2 stays: cannot read");
    std::fs::rename(&away, &config).unwrap();
    node.process.wait_for("can be read again");
    assert_eq!(node.metrics().await[..3], [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_known_good_configuration_is_reported() {
    let (folder, echo) = (TempDir::new("config-state"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let data = folder.path().join("data").display().to_string();
    let mut node = Watched::start(&config, &["--data-dir", &data]);
    assert_eq!(node.metrics().await, [1, 0, 0, 0, 0]);
    node.process.signal(Signal::TERM);
    assert!(node.process.ends().success());
    folder.write("kong.yaml", "services: [");
    let mut node = Watched::start(&config, &["--data-dir", &data]);
    assert_eq!(node.metrics().await, [0, 0, 0, 1, 0]);
    let said = node.process.seen().iter().find(|line| line.contains("serving the last known good configuration"));
    assert!(said.is_some_and(|said| said.contains("from 1 saved file, saved ") && said.contains(" ago; ")), "{said:?}");
    let state = node.config().await;
    let saved_at = state["last_good_saved_at"].as_u64().unwrap();
    assert!(saved_at > 1_600_000_000 && saved_at <= state["applied_at"].as_u64().unwrap(), "{state}");
    assert!(state["last_good_age_seconds"].as_u64().is_some(), "{state}");
    assert!(node.get("/metrics").await.contains("\ncardinal_config_last_good_age_seconds "));
    assert!(node.config().await["error_count"].as_u64().is_some_and(|count| count > 0));
    folder.write("kong.yaml", kong_yaml(&echo.url()));
    node.process.wait_for("generation 2");
    assert_eq!(node.metrics().await, [1, 1, 0, 0, 0]);
    assert_eq!(node.config().await["last_good_age_seconds"], Value::Null);
    assert!(!node.get("/metrics").await.contains("last_good_age"));
}

/// A plugin that cannot be built, and a reference to a secret that is not there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_from_a_configuration_is_reported() {
    let (folder, echo) = (TempDir::new("config-state"), EchoServer::start("backend").await);
    let good = kong_yaml(&echo.url());
    let bad = good.clone()
        + "plugins:
- name: http-log
  config:
    http_endpoint: 'http://127.0.0.1:9'
    custom_fields_by_lua: {x: 'return os.time()'}
- name: rate-limiting
  config:
    minute: 5
    redis: {password: '{vault://env/not-there}'}
";
    let config = folder.write("kong.yaml", &bad);
    let data = folder.path().join("data").display().to_string();
    let mut node = Watched::start(&config, &["--data-dir", &data]);
    let check = async |node: &Watched| {
        let said = node.process.seen().iter().find(|line| line.starts_with("generation 1: ")).unwrap();
        assert!(said.contains("; entities left out: 1 (plugins \"http-log\": "), "{said}");
        assert!(said.contains("; secrets missing: 1 (plugins \"rate-limiting\": {vault://env/not-there} "), "{said}");
        assert_eq!(node.metrics().await[4], 1);
        assert!(node.get("/metrics").await.contains("\ncardinal_config_secrets_missing 1\n"));
        let state = node.config().await;
        assert_eq!((&state["left_out"], &state["missing_secrets"]), (&1.into(), &1.into()), "{state}");
        assert_eq!(state["left_out_entities"][0]["entity"], "plugins \"http-log\"", "{state}");
        assert!(state["left_out_entities"][0]["message"].as_str().unwrap().contains("Lua"), "{state}");
        let secret = &state["missing_secret_references"][0];
        assert_eq!(
            (&secret["entity"], &secret["field"]),
            (&"plugins \"rate-limiting\"".into(), &"config.redis.password".into())
        );
    };
    check(&node).await;
    assert_eq!(node.config().await["left_out_entities"][0]["line"], 20);
    node.process.signal(Signal::TERM);
    assert!(node.process.ends().success());
    // The last known good configuration lacks the same.
    folder.write("kong.yaml", "services: [");
    let mut node = Watched::start(&config, &["--data-dir", &data]);
    check(&node).await;
    folder.write("kong.yaml", good);
    let said = node.process.wait_for("generation 2");
    assert!(!said.contains("left out") && !said.contains("missing"), "{said}");
    assert_eq!(node.metrics().await[4], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_an_id_of_its_own() {
    let folder = TempDir::new("config-state");
    let config = folder.write("kong.yaml", "_format_version: '3.0'\n");
    let id = async |more: &[&str]| {
        let node = Watched::start(&config, more);
        let status: Value = serde_json::from_str(&node.get("/status").await).unwrap();
        status["node"]["id"].as_str().unwrap().to_owned()
    };
    let data = |name: &str| folder.path().join(name).display().to_string();
    let (one, other) = (id(&["--data-dir", &data("a")]).await, id(&["--data-dir", &data("b")]).await);
    assert_ne!(one, other);
    assert_eq!(id(&["--data-dir", &data("a")]).await, one, "it outlives the process");
    let of_host = id(&[]).await;
    assert!(of_host != one && of_host == id(&[]).await);
    let given = "0b1d3c55-6f8e-4c1b-9d4e-6b1d43f70001";
    assert_eq!(id(&["--data-dir", &data("a"), "--set", &format!("node_id={given}")]).await, given);
    let refused = crate::process::output(&["run", "--set", "node_id=0b1d3c556f8e4c1b9d4e6b1d43f70001"]);
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("node_id: expected a UUID"), "{said}");
}

/// Standard input and pipes are read once: a reload that would need them again is a failure.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_a_stream_is_reported_as_a_failure() {
    let (folder, echo) = (TempDir::new("config-state"), EchoServer::start("backend").await);
    let data = folder.path().join("data").display().to_string();
    let start = |text: String| {
        let mut command = crate::process::cardinal();
        command.args(["run", "--config", "-", "--workers", "1", "--access-log", "off", "--data-dir", &data]);
        command.args(["--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=127.0.0.1:0"]);
        let (input, mut end) = std::io::pipe().unwrap();
        command.stdin(input);
        std::io::Write::write_all(&mut end, text.as_bytes()).unwrap();
        drop(end);
        Process::start(command)
    };
    let mut process = start(kong_yaml(&echo.url()));
    let (_, status) = process.addresses();
    let mut node = Watched { process, status };
    assert_eq!(node.metrics().await, [1, 0, 0, 0, 0]);
    for failures in 1..3 {
        node.process.signal(Signal::HUP);
        let said = node.process.wait_for("is refused, generation 1 stays");
        assert!(said.contains("cannot read <stdin>: it can be read only once; restart"), "{said}");
        assert_eq!(node.metrics().await, [0, 0, failures, 0, 0]);
    }
    let state = node.config().await;
    assert_eq!(state["last_reload_successful"], false);
    assert_eq!(state["errors"][0]["file"], "<stdin>", "{state}");
    node.process.signal(Signal::TERM);
    assert!(node.process.ends().success());
    let mut process = start("services: [".to_owned());
    let said = process.wait_for("serving the last known good configuration");
    assert!(said.ends_with("fix <stdin> and restart the process"), "{said}");
}

/// A file beside the stream is still read again.
#[tokio::test(flavor = "multi_thread")]
async fn files_beside_a_stream_are_reloaded() {
    let (folder, echo) = (TempDir::new("config-state"), EchoServer::start("backend").await);
    let file = folder.write("more.yaml", "_format_version: '3.0'\n");
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600), 0).unwrap();
    let writer = {
        let (pipe, text) = (pipe.clone(), kong_yaml(&echo.url()));
        std::thread::spawn(move || std::fs::write(pipe, text).unwrap())
    };
    let mut node = Watched::start(&pipe, &["--config", &file.display().to_string()]);
    writer.join().unwrap();
    folder.write("more.yaml", "_format_version: '3.0'\nconsumers: [{username: b}]\n");
    node.process.wait_for("generation 2");
    assert_eq!(node.metrics().await, [1, 1, 0, 0, 0]);
    node.process.signal(Signal::HUP);
    node.process.wait_for("it can be read only once");
    assert_eq!(node.metrics().await[..3], [0, 1, 1]);
}
