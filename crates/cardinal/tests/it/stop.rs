//! Ending a node.

use cardinal_testkit::{EchoServer, H1Client, TempDir, until};
use rustix::process::Signal;

use crate::kong_yaml;
use crate::process::Process;

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_end() {
    let (folder, echo) = (TempDir::new("stop"), EchoServer::start("backend").await);
    let mut node = Process::run(&folder.write("kong.yaml", kong_yaml(&echo.url())), &[]);
    let address = node.address();
    let mut idle = H1Client::connect(address).await.unwrap();
    assert_eq!(idle.get("/open", "a.example", &[]).await.unwrap().status, 200);
    let mut slow = H1Client::connect(address).await.unwrap();
    slow.send("GET /open HTTP/1.1\r\nHost: a.example\r\nX-Echo: delay:400\r\n\r\n").await.unwrap();
    until("the request to arrive", || echo.requests() >= 2).await.unwrap();
    node.signal(Signal::TERM);
    node.wait_for("draining connections (timeout ");
    let response = slow.response().await.unwrap();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert_eq!(idle.read_to_end().await.unwrap(), b"", "an idle connection ends");
    node.wait_for("stopped: all requests ended");
    assert!(node.ends().success());
    assert!(H1Client::connect(address).await.is_err(), "nobody listens");
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_twice_it_ends_at_once() {
    let (folder, echo) = (TempDir::new("stop"), EchoServer::start("backend").await);
    let mut node = Process::run(&folder.write("kong.yaml", kong_yaml(&echo.url())), &[]);
    let mut slow = H1Client::connect(node.address()).await.unwrap();
    slow.send("GET /open HTTP/1.1\r\nHost: a.example\r\nX-Echo: delay:15000\r\n\r\n").await.unwrap();
    until("the request to arrive", || echo.requests() >= 1).await.unwrap();
    node.signal(Signal::INT);
    node.wait_for("draining connections (timeout ");
    node.signal_until_it_ends(Signal::INT);
    assert_eq!(node.ends().code(), Some(1));
}

/// A terminal tells all it runs, and a script among them may tell its children again.
#[tokio::test(flavor = "multi_thread")]
async fn asked_by_two_at_once_it_ends_in_order() {
    let (folder, echo) = (TempDir::new("stop"), EchoServer::start("backend").await);
    let mut node = Process::run(&folder.write("kong.yaml", kong_yaml(&echo.url())), &[]);
    let mut slow = H1Client::connect(node.address()).await.unwrap();
    slow.send("GET /open HTTP/1.1\r\nHost: a.example\r\nX-Echo: delay:600\r\n\r\n").await.unwrap();
    until("the request to arrive", || echo.requests() >= 1).await.unwrap();
    node.signal(Signal::INT);
    node.signal(Signal::TERM);
    assert_eq!(slow.response().await.unwrap().status, 200);
    assert!(node.ends().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_end_is_limited() {
    let (folder, echo) = (TempDir::new("stop"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let mut node = Process::run(&config, &["--set", "drain_timeout=200ms"]);
    let mut slow = H1Client::connect(node.address()).await.unwrap();
    slow.send("GET /open HTTP/1.1\r\nHost: a.example\r\nX-Echo: delay:15000\r\n\r\n").await.unwrap();
    until("the request to arrive", || echo.requests() >= 1).await.unwrap();
    node.signal(Signal::QUIT);
    node.wait_for("drain timeout exceeded, 1 connection closed");
    assert!(node.ends().success());
}

/// Nothing of an echo backend is to be loaded again.
#[test]
fn a_hangup_does_not_end_an_echo_backend() {
    let mut command = crate::process::cardinal();
    command.args(["echo", "--listen", "127.0.0.1:0"]);
    let mut echo = Process::start(command);
    echo.wait_for("echo: listening on");
    echo.signal(Signal::HUP);
    assert!(!echo.has_ended());
    echo.signal(Signal::TERM);
    assert_eq!(echo.ends().code(), Some(0));
}
