//! A node that runs out of file descriptors.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use cardinal_test_tools::tools;
use cardinal_testkit::{Authority, EchoServer, H1Client, Server, TempDir, until, until_some};
use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::process::Process;

/// Targets that three failures to connect make unhealthy for good, or until a probe succeeds.
fn config(target: SocketAddr, active: bool) -> String {
    let active = if active {
        "      active: {type: tcp, healthy: {interval: 0.1, successes: 1}, unhealthy: {interval: 0.1, tcp_failures: 1}}\n"
    } else {
        ""
    };
    format!(
        "_format_version: '3.0'
upstreams:
- name: group
  healthchecks:
      passive: {{unhealthy: {{tcp_failures: 3}}}}
{active}  targets: [{{target: '{target}'}}]
services:
- {{name: a, host: group, routes: [{{name: a, paths: [/a]}}]}}
"
    )
}

/// A node that may open so many files.
struct Limited {
    process: Process,
    proxy: SocketAddr,
    status: SocketAddr,
    limit: u64,
}

impl Limited {
    fn start(config: &Path, limit: u64) -> Self {
        Self::start_with(config, limit, &[])
    }

    /// The same with a data directory.
    fn start_in(config: &Path, limit: u64, data_dir: &Path) -> Self {
        Self::run(config, limit, &[], &["--data-dir", &data_dir.display().to_string()])
    }

    /// The same with variables of its environment.
    fn start_with(config: &Path, limit: u64, variables: &[(&str, PathBuf)]) -> Self {
        Self::run(config, limit, variables, &[])
    }

    fn run(config: &Path, limit: u64, variables: &[(&str, PathBuf)], more: &[&str]) -> Self {
        let [sh] = tools!("sh").expect("every system has a shell");
        let mut command = Command::new(sh);
        let script = format!("ulimit -n {limit}; exec \"$@\"");
        command.env_clear().envs(variables.iter().cloned()).args(["-c", &script, "sh", env!("CARGO_BIN_EXE_cardinal")]);
        command.args(["run", "--workers", "2", "--access-log", "off", "--config"]).arg(config);
        command.args(["--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=127.0.0.1:0"]).args(more);
        let mut process = Process::start(command);
        let (proxy, status) = process.addresses();
        Self { process, proxy, status, limit }
    }

    async fn get(&self, path: &str) -> u16 {
        let mut client = H1Client::connect(self.proxy).await.unwrap();
        client.get(path, "a.example", &[]).await.unwrap().status
    }

    async fn status(&self, path: &str) -> String {
        let response = H1Client::connect(self.status).await.unwrap().get(path, "status", &[]).await.unwrap();
        assert_eq!(response.status, 200, "{path}");
        response.text()
    }

    async fn metric(&self, name: &str) -> u64 {
        let text = self.status("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// Lets the process open files as at its start, or no more of them.
    fn allow(&self, more: bool) {
        self.allow_more(if more { None } else { Some(0) });
    }

    /// Lets the process open so many more files, or as many as at its start.
    fn allow_more(&self, count: Option<usize>) {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        let open: Vec<u64> = open.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect();
        let maximum = Some(self.limit);
        let mut free = (0..).filter(|number| !open.contains(number));
        let current = count.map_or(maximum, |count| free.nth(count));
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_beyond_the_descriptors_are_refused_and_everything_else_goes_on() {
    let (folder, echo) = (TempDir::new("descriptors"), EchoServer::start("backend").await);
    let file = folder.write("kong.yaml", config(echo.address(), false));
    let mut node = Limited::start(&file, 128);
    assert!(node.process.seen().iter().any(|line| line.starts_with("client connections are limited to ")));
    let limit = node.metric("cardinal_connections_limit").await;
    assert!((10..64).contains(&limit), "{limit}");
    let (mut served, mut refused) = (Vec::new(), 0);
    for _ in 0..150 {
        let mut client = H1Client::connect(node.proxy).await.unwrap();
        match client.get("/a", "a.example", &[]).await {
            Ok(response) => {
                assert_eq!(response.status, 200, "{}", response.text());
                served.push(client);
            }
            Err(_) => refused += 1,
        }
    }
    assert_eq!((served.len() as u64, refused), (limit, 150 - limit));
    // All of them are open, and each may have a connection to the upstream.
    for client in &mut served {
        assert_eq!(client.get("/a", "a.example", &[]).await.unwrap().status, 200);
    }
    assert!(node.metric("cardinal_connections_refused_total").await >= refused);
    assert!(node.status("/metrics").await.contains("cardinal_failures_total{kind=\"upstream_connect\"} 0\n"));
    node.status("/status/ready").await;
    folder.write("kong.yaml", config(echo.address(), false).replace("/a]", "/b]"));
    node.process.wait_for("generation 2");
    assert_eq!(served[0].get("/b", "a.example", &[]).await.unwrap().status, 200);
    drop(served);
    let ended = async || (node.metric("cardinal_connections_active").await == 0).then_some(());
    until_some("all connections to end", ended).await.unwrap();
    assert_eq!(node.get("/b").await, 200);
}

/// Idle connections to many upstreams hold descriptors that a connection to another one needs.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_to_upstreams_make_room() {
    let folder = TempDir::new("descriptors");
    let mut yaml = "_format_version: '3.0'\nservices:\n".to_owned();
    let mut servers = Vec::new();
    for number in 0..150 {
        let echo = EchoServer::start("backend").await;
        writeln!(yaml, "- {{name: s{number}, url: '{}', routes: [{{paths: [/s{number}/]}}]}}", echo.url()).unwrap();
        servers.push(echo);
    }
    let node = Limited::start(&folder.write("kong.yaml", yaml), 128);
    for number in 0..150 {
        assert_eq!(node.get(&format!("/s{number}/")).await, 200, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_descriptors_does_not_blame_its_upstreams() {
    for active in [false, true] {
        let (folder, echo) = (TempDir::new("descriptors"), EchoServer::start("backend").await);
        let file = folder.write("kong.yaml", config(echo.address(), active));
        let mut node = Limited::start(&file, 4_096);
        let mut clients = Vec::new();
        for _ in 0..8 {
            let mut client = H1Client::connect(node.proxy).await.unwrap();
            assert_eq!(client.get("/nowhere", "a.example", &[]).await.unwrap().status, 404);
            clients.push(client);
        }
        node.allow(false);
        for client in &mut clients {
            let response = client.get("/a", "a.example", &[]).await.unwrap();
            assert_eq!(response.status, 503, "{}", response.text());
        }
        // Nobody can be let in, and nobody has to wait for that.
        let mut refused = H1Client::connect(node.proxy).await.unwrap();
        assert!(refused.get("/a", "a.example", &[]).await.is_err());
        // Probes fail meanwhile, and a changed file cannot be read.
        folder.write("kong.yaml", config(echo.address(), active).replace("/a]", "/a, /b]"));
        node.process.wait_for("Too many open files");
        // Several probes are due meanwhile, which the node's own requests show: they take longer than a period.
        let mut answered = 0;
        let is_over = async || {
            answered += 1;
            assert_eq!(clients[0].get("/nowhere", "a.example", &[]).await.unwrap().status, 404);
            (answered == 200).then_some(())
        };
        until_some("probes to be due", is_over).await.unwrap();
        node.allow(true);
        assert_eq!(clients[0].get("/a", "a.example", &[]).await.unwrap().status, 200, "active: {active}");
        let metrics = node.status("/metrics").await;
        assert!(metrics.contains("cardinal_failures_total{kind=\"upstream_connect\"} 0\n"), "{metrics}");
        assert!(metrics.contains("cardinal_failures_total{kind=\"overloaded\"} 8\n"), "{metrics}");
        // The change is not lost.
        let is_served = async || (clients[0].get("/b", "a.example", &[]).await.unwrap().status == 200).then_some(());
        until_some("the new route to be served", is_served).await.unwrap();
        node.process.signal(Signal::TERM);
        assert!(node.process.ends().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_descriptors_does_not_blame_redis() {
    let authority = Authority::new("root");
    let issued = authority.issue(&["redis.test"]);
    let Some(_) = tools!("redis-server") else { return };
    let (plain, tls) = (Server::redis(&[]).unwrap(), Server::redis_tls(&issued, &[]).unwrap());
    let (folder, echo) = (TempDir::new("descriptors"), EchoServer::start("backend").await);
    let mut yaml = "_format_version: '3.0'\nservices:\n".to_owned();
    for (name, port, more) in [
        ("plain", plain.address().port(), ""),
        ("tls", tls.address().port(), ", ssl: true, ssl_verify: true, server_name: redis.test"),
    ] {
        writeln!(
            yaml,
            "- name: {name}\n  url: {}\n  routes: [{{name: {name}, paths: [/{name}]}}]\n  plugins:\n  - name: rate-limiting\n    \
             config: {{minute: 1000, policy: redis, fault_tolerant: false, redis: {{host: 127.0.0.1, port: {port}{more}}}}}",
            echo.url()
        )
        .unwrap();
    }
    let file = folder.write("kong.yaml", yaml);
    let node = Limited::start_with(&file, 4_096, &[("SSL_CERT_FILE", folder.write("ca.pem", authority.cert_pem()))]);
    let mut client = H1Client::connect(node.proxy).await.unwrap();
    assert_eq!(client.get("/nowhere", "a.example", &[]).await.unwrap().status, 404);
    for (free, path, expect) in [
        (Some(0), "/plain", 500),
        // The list of the system's authorities cannot be read.
        (Some(0), "/tls", 500),
        // It is read and closed before the connection is made; then there is no descriptor for the upstream.
        (Some(1), "/tls", 503),
        (None, "/tls", 200),
        (None, "/plain", 200),
    ] {
        node.allow_more(free);
        let response = client.get(path, "a.example", &[]).await.unwrap();
        assert_eq!(response.status, expect, "{free:?} {path}: {}", response.text());
    }
}

/// The list of the system's authorities is a directory, so that reading it takes two descriptors.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_descriptors_keeps_asking_for_the_systems_authorities() {
    let authority = Authority::new("root");
    let config = authority.server(&authority.issue(&["localhost"]), &[], false);
    let echo = EchoServer::start_tls("backend", config).await;
    let (folder, roots) = (TempDir::new("descriptors"), TempDir::new("roots"));
    roots.write("ca.pem", authority.cert_pem());
    let yaml = |verify: bool, path: &str| {
        format!(
            "_format_version: '3.0'\nservices:\n- {{name: a, url: 'https://localhost:{}', tls_verify: {verify}, routes: \
             [{{name: a, paths: [{path}]}}]}}\n",
            echo.address().port()
        )
    };
    let file = folder.write("kong.yaml", yaml(false, "/a"));
    let mut node = Limited::start_with(&file, 4_096, &[("SSL_CERT_DIR", roots.path().to_owned())]);
    let mut client = H1Client::connect(node.proxy).await.unwrap();
    assert_eq!(client.get("/a", "a.example", &[]).await.unwrap().status, 200);
    node.allow_more(Some(1));
    folder.write("kong.yaml", yaml(true, "/b"));
    node.process.wait_for("the system's certificate authorities cannot be read: Too many open files");
    assert_eq!(client.get("/a", "a.example", &[]).await.unwrap().status, 200, "the old configuration is served");
    node.allow(true);
    node.process.wait_for("generation 2");
    assert_eq!(client.get("/b", "a.example", &[]).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_descriptors_keeps_its_log_entries() {
    let (folder, echo) = (TempDir::new("descriptors"), EchoServer::start("backend").await);
    let logs = EchoServer::start("logs").await;
    let yaml = format!(
        "_format_version: '3.0'
services:
- name: a
  url: '{}'
  routes: [{{name: a, paths: [/a]}}]
  plugins:
  - name: http-log
    config:
      http_endpoint: '{}'
      queue: {{max_coalescing_delay: 0.001, max_retry_time: 0, initial_retry_delay: 0.01, max_batch_size: 1}}
  - {{name: file-log, config: {{path: '{}', reopen: true}}}}
",
        echo.url(),
        logs.url(),
        folder.path().join("log").display()
    );
    let mut node = Limited::start(&folder.write("kong.yaml", yaml), 4_096);
    let mut client = H1Client::connect(node.proxy).await.unwrap();
    assert_eq!(client.get("/nowhere", "a.example", &[]).await.unwrap().status, 404);
    node.allow(false);
    for _ in 0..3 {
        assert_eq!(client.get("/a", "a.example", &[]).await.unwrap().status, 503);
    }
    node.process.wait_for("handler could not process entries");
    node.process.wait_for("handler could not process entries");
    assert_eq!(logs.requests(), 0);
    node.allow(true);
    let lines = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default().lines().count();
    until("all records", || logs.requests() >= 3 && lines() >= 3).await.unwrap();
}

/// Saving takes two descriptors, reading the changed file one.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_saved_is_saved_later() {
    let (folder, echo) = (TempDir::new("descriptors"), EchoServer::start("backend").await);
    let file = folder.write("kong.yaml", config(echo.address(), false));
    let data = folder.path().join("data");
    let mut node = Limited::start_in(&file, 4_096, &data);
    let saved = data.join("last-good.bin");
    let before = std::fs::read(&saved).unwrap();
    let mut client = H1Client::connect(node.proxy).await.unwrap();
    assert_eq!(client.get("/a", "a.example", &[]).await.unwrap().status, 200);
    // Its start is over when it acts on signals.
    node.process.signal(Signal::USR1);
    node.process.wait_for("log files reopened");
    // The thread that waits for a successor has one of them: the system reserves it for the connection to accept.
    node.allow_more(Some(2));
    folder.write("kong.yaml", config(echo.address(), false).replace("/a]", "/b]"));
    node.process.wait_for("generation 2");
    let said = node.process.wait_for("the last known good configuration cannot be saved");
    assert!(said.contains("Too many open files") && said.ends_with("it is tried again"), "{said}");
    assert_eq!(std::fs::read(&saved).unwrap(), before);
    node.allow(true);
    node.process.wait_for("the last known good configuration is saved");
    assert_ne!(std::fs::read(&saved).unwrap(), before);
    let names = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.into_iter().any(|name| name.starts_with("last-good.bin.")), "no draft is left");
}
