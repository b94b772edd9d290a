//! One process takes over from another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Result, ensure};
use cardinal_testkit::{EchoServer, H1Client, TempDir, free_port, until, until_some_blocking};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::kong_yaml;
use crate::process::Process;

const TIMES: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_processes_change() {
    let (folder, echo) = (TempDir::new("upgrade"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let data = folder.path().join("data").display().to_string();
    let mut node = Process::run(&config, &["--data-dir", &data]);
    let address = node.address();
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for client in 0..4 {
        clients.spawn(call(address, client % 2 == 0, Arc::clone(&stop), Arc::clone(&served)));
    }
    for _ in 0..TIMES {
        let before = served.load(Ordering::Relaxed);
        let mut successor = Process::run(&config, &["--data-dir", &data]);
        assert_eq!(successor.address(), address, "the port stays");
        successor.wait_for("the previous process is draining");
        node.wait_for("stopped: all requests ended");
        assert!(node.ends().success());
        until("the successor to serve", || served.load(Ordering::Relaxed) >= before + 50).await.unwrap();
        node = successor;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap().unwrap();
    }
}

/// One request after the other, on one connection for as long as the server keeps it, or each on its own.
async fn call(address: SocketAddr, keep_alive: bool, stop: Arc<AtomicBool>, served: Arc<AtomicU64>) -> Result<()> {
    let mut client = H1Client::connect(address).await?;
    while !stop.load(Ordering::Relaxed) {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let fields = [("Connection", connection), ("X-Echo", "delay:5")];
        let response = client.get("/open", "a.example", &fields).await?;
        ensure!(response.status == 200, "status {}: {}", response.status, response.text());
        served.fetch_add(1, Ordering::Relaxed);
        if response.header("connection") == Some("close") {
            client = H1Client::connect(address).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_does_not_start_leaves_its_predecessor_alone() {
    let (folder, echo) = (TempDir::new("upgrade"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let data = folder.path().join("data").display().to_string();
    let mut node = Process::run(&config, &["--data-dir", &data]);
    let address = node.address();
    // It gets the sockets, but not the second address.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("proxy_listen=127.0.0.1:0, {}", taken.local_addr().unwrap());
    let mut successor = Process::run(&config, &["--data-dir", &data, "--takeover", "--set", &listen]);
    let said = successor.wait_for("not started");
    let taken = taken.local_addr().unwrap();
    let refused = format!("proxy_listen: cannot listen on {taken}: Address already in use");
    assert!(said.contains(&refused) && said.contains(&format!("sport = :{}'", taken.port())), "{said}");
    assert_eq!(successor.ends().code(), Some(1));
    node.wait_for("this process keeps serving");
    let response = H1Client::connect(address).await.unwrap().get("/open", "a.example", &[]).await.unwrap();
    assert_eq!(response.status, 200);
}

/// Another service that was given the same directory by mistake.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_listens_elsewhere_does_not_take_over() {
    let (folder, echo) = (TempDir::new("upgrade"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let data = folder.path().join("data").display().to_string();
    let mut node = Process::run(&config, &["--data-dir", &data]);
    let address = node.address();
    let elsewhere = format!("proxy_listen=127.0.0.1:{}", free_port());
    let mut other = Process::run(&config, &["--data-dir", &data, "--set", &elsewhere]);
    let said = other.wait_for("not started");
    let held =
        format!("the data directory {data} is in use by process {}, which listens on other addresses", node.id());
    assert!(said.contains(&held) && said.contains("--data-dir"), "{said}");
    assert_eq!(other.ends().code(), Some(1));
    node.wait_for("does not take over");
    let response = H1Client::connect(address).await.unwrap().get("/open", "a.example", &[]).await.unwrap();
    assert_eq!((response.status, node.has_ended()), (200, false));
    assert_eq!(folder.read("data/cardinal.pid"), format!("{}\n", node.id()));
    // Asked for, it does.
    let mut successor = Process::run(&config, &["--data-dir", &data, "--takeover", "--set", &elsewhere]);
    successor.wait_for("the previous process is draining");
    assert!(node.ends().success());
    assert_eq!(folder.read("data/cardinal.pid"), format!("{}\n", successor.id()));
    successor.signal(Signal::TERM);
    assert!(successor.ends().success());
    assert!(!folder.path().join("data/cardinal.pid").exists());
}

/// Both ask at once; one of them must come second, and take over from the first.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_successors_at_once_one_serves() {
    let (folder, echo) = (TempDir::new("upgrade"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let data = folder.path().join("data").display().to_string();
    let mut node = Process::run(&config, &["--data-dir", &data]);
    let address = node.address();
    for _ in 0..5 {
        let mut successors = [0, 1].map(|_| Process::run(&config, &["--data-dir", &data]));
        for successor in &mut successors {
            assert_eq!(successor.address(), address, "the port stays");
            successor.wait_for("the previous process is draining");
        }
        assert!(node.ends().success());
        let [a, b] = successors;
        let (mut gone, mut serving) = first_to_end(a, b);
        assert!(gone.ends().success());
        let response = H1Client::connect(address).await.unwrap().get("/open", "a.example", &[]).await.unwrap();
        assert_eq!((response.status, serving.has_ended()), (200, false));
        node = serving;
    }
}

fn first_to_end(mut a: Process, mut b: Process) -> (Process, Process) {
    let ended = || match (a.has_ended(), b.has_ended()) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        (false, false) => None,
    };
    if until_some_blocking("one of two processes to end", ended).unwrap() { (a, b) } else { (b, a) }
}
