//! Logs that nobody reads: they stop neither requests nor the end of the process.

use std::io::{BufRead as _, BufReader, PipeReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use cardinal_test_tools::tools;
use cardinal_testkit::{EchoServer, H1Client, H2Client, TempDir, free_port, until, until_some};
use rustix::process::Signal;

use crate::kong_yaml;
use crate::process::{Process, cardinal};

/// A node whose outputs are pipes that are read only up to the line that tells its address, and never after.
struct Unread {
    process: Process,
    stderr: BufReader<PipeReader>,
    proxy: SocketAddr,
    status: SocketAddr,
}

impl Unread {
    fn start(config: &Path, more: &[&str]) -> Self {
        let (stderr, error) = std::io::pipe().unwrap();
        let (stdout, out) = std::io::pipe().unwrap();
        let mut command = cardinal();
        command.args(["run", "--workers", "1", "--log-format", "json", "--config"]).arg(config);
        command.args(["--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=127.0.0.1:0"]);
        command.args(["--set", "client_keepalive_requests=1000000"]).args(more);
        command.stderr(error).stdout(out);
        let process = Process::unread(command);
        // Both stay open, or writing would fail instead of waiting.
        std::mem::forget(stdout);
        let mut stderr = BufReader::with_capacity(1, stderr);
        let (mut proxy, mut status) = (None, None);
        while proxy.is_none() || status.is_none() {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "the node ended");
            let Some(at) = line.split("listening on ").nth(1) else { continue };
            let address = at.split_whitespace().next().unwrap().parse().ok();
            *(if at.contains("status") { &mut status } else { &mut proxy }) = address;
        }
        Self { process, stderr, proxy: proxy.unwrap(), status: status.unwrap() }
    }

    /// Sends so many requests that match no route, each of which writes a line to each log, and reads all responses.
    fn refuse(&self, count: usize) {
        let mut stream = TcpStream::connect(self.proxy).unwrap();
        let mut responses = stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            let some = "GET /nowhere HTTP/1.1\r\nHost: a.example\r\n\r\n".repeat(100);
            (0..count / 100).for_each(|_| stream.write_all(some.as_bytes()).unwrap());
            stream
        });
        let (mut seen, mut text) = (0, Vec::new());
        let mut bytes = vec![0; 64 * 1024];
        while seen < count {
            let read = responses.read(&mut bytes).unwrap();
            assert!(read > 0, "closed after {seen} responses");
            text.extend_from_slice(&bytes[..read]);
            let found = text.windows(12).filter(|part| part == b"HTTP/1.1 404").count();
            seen += found;
            text.drain(..text.len().saturating_sub(11));
        }
        drop(sender.join().unwrap());
    }

    async fn metric(&self, name: &str) -> u64 {
        let mut client = H1Client::connect(self.status).await.unwrap();
        let text = client.get("/metrics", "status", &[]).await.unwrap().text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_and_stops_when_nobody_reads_its_logs() {
    let (folder, echo) = (TempDir::new("logs"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let mut node = Unread::start(&config, &["--set", "log_level=info"]);
    // More lines than the pipes and the queues hold.
    node.refuse(25_000);
    let mut client = H1Client::connect(node.proxy).await.unwrap();
    assert_eq!(client.get("/open", "a.example", &[]).await.unwrap().status, 200);
    assert!(node.metric("cardinal_log_dropped_total").await > 0);
    assert!(node.metric("cardinal_access_log_dropped_total").await > 0);
    let mut status = H1Client::connect(node.status).await.unwrap();
    assert_eq!(status.get("/status/ready", "status", &[]).await.unwrap().status, 200);
    // A configuration is loaded meanwhile.
    folder.write("kong.yaml", kong_yaml(&echo.url()).replace("/open", "/other"));
    node.process.signal(Signal::HUP);
    let is_served = async || (client.get("/other", "a.example", &[]).await.unwrap().status == 200).then_some(());
    until_some("the new route to be served", is_served).await.unwrap();
    drop((client, status));
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.ends().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_lines_are_reported_once_the_log_is_read_again() {
    let (folder, echo) = (TempDir::new("logs"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let mut node = Unread::start(&config, &["--access-log", "off", "--set", "log_level=info"]);
    node.refuse(20_000);
    assert!(node.metric("cardinal_log_dropped_total").await > 0);
    let mut line = String::new();
    while !line.contains("log lines were dropped") {
        line.clear();
        assert!(node.stderr.read_line(&mut line).unwrap() > 0, "the log ended");
    }
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(line["dropped"].as_u64().is_some_and(|dropped| dropped > 0), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_node_whose_logs_are_blocked() {
    let (folder, echo) = (TempDir::new("logs"), EchoServer::start("backend").await);
    let mut node = Unread::start(&folder.write("kong.yaml", kong_yaml(&echo.url())), &["--set", "log_level=info"]);
    node.refuse(3_000);
    let mut slow = H1Client::connect(node.proxy).await.unwrap();
    slow.send("GET /open HTTP/1.1\r\nHost: a.example\r\nX-Echo: delay:15000\r\n\r\n").await.unwrap();
    until("the request to arrive", || echo.requests() >= 1).await.unwrap();
    node.process.signal(Signal::TERM);
    assert!(!node.process.has_ended(), "the first signal drains");
    node.process.signal_until_it_ends(Signal::INT);
    assert_eq!(node.process.ends().code(), Some(1));
}

/// Heads count, in either version.
#[tokio::test(flavor = "multi_thread")]
async fn sizes_include_heads_in_http1_and_http2() {
    let (folder, echo) = (TempDir::new("logs"), EchoServer::start("backend").await);
    let log = folder.path().join("requests.log");
    let yaml =
        kong_yaml(&echo.url()) + &format!("plugins:\n- name: file-log\n  config:\n    path: {}\n", log.display());
    let config = folder.write("kong.yaml", yaml);
    let mut command = cardinal();
    command.args(["run", "--workers", "1", "--access-log", "off", "--config"]).arg(&config);
    command.args(["--set", "proxy_listen=127.0.0.1:0 http2", "--set", "status_listen=off"]);
    let mut node = Process::start(command);
    let address = node.address();
    let (long, body) = ("a".repeat(1_000), [b'b'; 500]);
    let fields = [("x-long", long.as_str())];
    let mut client = H1Client::connect(address).await.unwrap();
    let one = client.request("POST", "/open", "a.example", &fields, &body).await.unwrap();
    let two = H2Client::connect(address).await.unwrap().request("POST", "a.example", "/open", &fields, &body).await;
    assert_eq!((one.status, two.unwrap().status), (200, 200));
    let lines = async || {
        let text = std::fs::read_to_string(&log).ok()?;
        let lines: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() == 2).then_some(lines)
    };
    let lines = until_some("both requests to be logged", lines).await.unwrap();
    let sizes = |of: &str| [0, 1].map(|at| lines[at][of]["size"].as_u64().unwrap());
    for [one, two] in [sizes("request"), sizes("response")] {
        assert!(one > 1_500 && two > 1_500 && one.abs_diff(two) < 300, "{one} and {two}: {lines:?}");
    }
}

fn fifo(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    let [mkfifo] = tools!("mkfifo").expect("every system has mkfifo");
    assert!(Command::new(mkfifo).arg(&path).status().unwrap().success());
    path
}

/// Named pipes without a reader: opening one to write would wait for a reader, and so would opening it again.
#[tokio::test(flavor = "multi_thread")]
async fn named_pipes_that_nobody_reads_stop_nothing() {
    let (folder, echo) = (TempDir::new("logs"), EchoServer::start("backend").await);
    let (error, access, plugin) = (fifo(&folder, "error"), fifo(&folder, "access"), fifo(&folder, "plugin"));
    let yaml =
        kong_yaml(&echo.url()) + &format!("plugins:\n- name: file-log\n  config:\n    path: {}\n", plugin.display());
    let mut command = cardinal();
    command.args(["run", "--workers", "1", "--config"]).arg(folder.write("kong.yaml", yaml));
    let port = free_port();
    command.args(["--set", &format!("proxy_listen=127.0.0.1:{port}"), "--set", "status_listen=off"]);
    command.args(["--set", &format!("proxy_error_log={}", error.display())]);
    command.args(["--set", &format!("proxy_access_log={}", access.display()), "--set", "log_level=info"]);
    let mut node = Process::unread(command);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let connect = async || H1Client::connect(address).await.ok();
    let mut client = until_some("the node to listen", connect).await.unwrap();
    for _ in 0..500 {
        assert_eq!(client.get("/nowhere", "a.example", &[]).await.unwrap().status, 404);
    }
    node.signal(Signal::USR1);
    assert_eq!(client.get("/open", "a.example", &[]).await.unwrap().status, 200);
    drop(client);
    node.signal(Signal::TERM);
    assert_eq!(node.ends().code(), Some(0));
}

/// While another process holds the turn to take over, a node waits during its start.
#[test]
fn a_signal_ends_a_node_that_waits_to_take_over() {
    let folder = TempDir::new("logs");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let lock = std::fs::File::create(data.join("handover.lock")).unwrap();
    lock.lock().unwrap();
    let mut command = cardinal();
    command.args([
        "run",
        "--set",
        "proxy_listen=127.0.0.1:0",
        "--set",
        "status_listen=off",
        "--set",
        "admin_listen=off",
    ]);
    command.arg("--data-dir").arg(&data);
    let mut node = Process::start(command);
    node.wait_for("waiting for another process");
    node.signal(Signal::TERM);
    node.wait_for("asked to stop");
    assert_eq!(node.ends().code(), Some(1));
}
