use std::time::Duration;

use bytes::Bytes;
use cardinal_base::SystemClock;
use cardinal_base::task;
use cardinal_ir::Resolver;
use cardinal_testkit::{Authority, EchoServer, Report, ScriptedPeer, Step, TempDir, until, within};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;

/// A caller that resolves `a.test` to this machine.
fn caller(authorities: Option<&str>) -> Caller {
    let trust = Arc::new(Trust::default());
    trust.set(authorities);
    trusting(trust)
}

fn trusting(trust: Arc<Trust>) -> Caller {
    let folder = TempDir::new("caller");
    let hosts = folder.write("hosts", "127.0.0.1 a.test\n");
    let settings = Resolver { hosts_file: hosts.to_str().unwrap().into(), ..Resolver::default() };
    let dns = Dns::new(&settings, Arc::new(SystemClock::new()), Handle::current()).unwrap();
    Caller::new(Arc::new(dns), trust)
}

fn get(url: impl Into<String>) -> HttpCall {
    HttpCall {
        method: "GET".to_owned(),
        url: url.into(),
        timeout: Duration::from_secs(20),
        keepalive: Duration::from_secs(60),
        body_max: 1_000_000,
        ..HttpCall::default()
    }
}

fn post(url: impl Into<String>, body: impl Into<Bytes>) -> HttpCall {
    HttpCall { method: "POST".to_owned(), body: body.into(), ..get(url) }
}

/// The server's reports, after it has received this many requests: it records them after responding.
async fn reports(echo: &EchoServer, count: usize) -> Vec<Report> {
    until("requests to end", || echo.seen().len() >= count).await.unwrap();
    echo.seen()
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn bodies_of_every_framing_come_whole() {
    let (echo, caller) = (EchoServer::start("a").await, caller(None));
    for framing in ["length", "chunked", "close"] {
        let url = format!("{}/?echo=bytes:100000,framing:{framing},interim:103", echo.url());
        let reply = caller.call(get(url)).await.unwrap();
        assert_eq!((reply.status, reply.body.len()), (200, 100_000), "{framing}");
    }
    let head = HttpCall { method: "HEAD".to_owned(), ..get(format!("{}/?echo=bytes:5", echo.url())) };
    assert_eq!(caller.call(head).await.unwrap().body.len(), 0);
    let redirect = caller.call(get(format!("{}/?echo=status:302,header:Location=/x", echo.url()))).await.unwrap();
    assert_eq!((redirect.status, redirect.headers.get_str("location")), (302, Some("/x")));
    assert_eq!(echo.failures(), [""; 0]);
}

#[tokio::test]
async fn a_call_is_sent_as_it_is_meant() {
    let (echo, caller) = (EchoServer::start("a").await, caller(None));
    let mut call = post(format!("http://a.test:{}/x%20y?b=c#d", echo.address().port()), "some text");
    for (name, value) in [("X-Key", "1"), ("x-key", "2"), ("Content-Length", "1"), ("Transfer-Encoding", "chunked")] {
        assert!(call.headers.append(name.as_bytes(), value.as_bytes()));
    }
    let reply = caller.call(call).await.unwrap();
    let told: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(told["body"]["text"], "some text");
    let report = reports(&echo, 1).await.remove(0);
    assert_eq!((report.method.as_str(), report.target.as_str()), ("POST", "/x%20y?b=c"));
    assert_eq!(report.headers.all("x-key").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(report.headers.get("host"), Some(format!("a.test:{}", echo.address().port()).as_str()));
    assert_eq!(report.headers.all("content-length").collect::<Vec<_>>(), ["9"]);
    assert_eq!(report.headers.get("transfer-encoding"), None);
    let mut own = post(echo.url(), "");
    own.headers.append(b"Host", b"other.example");
    caller.call(own).await.unwrap();
    let report = reports(&echo, 2).await.remove(1);
    assert_eq!(report.headers.all("host").collect::<Vec<_>>(), ["other.example"]);
    assert_eq!(report.headers.get("content-length"), Some("0"));
}

#[tokio::test]
async fn connections_are_kept_and_bounded() {
    let (echo, caller) = (EchoServer::start("a").await, caller(None));
    for _ in 0..3 {
        caller.call(get(echo.url())).await.unwrap();
    }
    assert_eq!((echo.connections(), echo.requests()), (1, 3));
    let alone = HttpCall { keepalive: Duration::ZERO, ..get(format!("http://a.test:{}", echo.address().port())) };
    caller.call(alone.clone()).await.unwrap();
    caller.call(alone).await.unwrap();
    assert_eq!(echo.connections(), 3);
    assert_eq!(reports(&echo, 5).await[3].headers.get("connection"), Some("close"));
    let at_once = (0..12).map(|_| caller.call(get(format!("{}/?echo=delay:100", echo.url()))));
    for reply in futures_util::future::join_all(at_once).await {
        assert_eq!(reply.unwrap().status, 200);
    }
    assert_eq!(caller.inner.idle.len(), 8);
}

#[tokio::test]
async fn limits_end_a_call() {
    let (echo, caller) = (EchoServer::start("a").await, caller(None));
    for framing in ["length", "chunked", "close"] {
        let url = format!("{}/?echo=bytes:1001,framing:{framing}", echo.url());
        let error = caller.call(HttpCall { body_max: 1_000, ..get(&url) }).await.unwrap_err();
        assert!(matches!(error, CallError::TooLarge(1_000)), "{framing}: {error}");
        assert!(caller.call(HttpCall { body_max: 1_001, ..get(&url) }).await.is_ok(), "{framing}");
    }
    let slow = HttpCall { timeout: Duration::from_millis(50), ..get(format!("{}/?echo=delay:20000", echo.url())) };
    assert!(matches!(within("a timeout", caller.call(slow)).await.unwrap(), Err(CallError::Timeout)));
}

#[tokio::test]
async fn what_cannot_be_called_is_said() {
    let caller = caller(None);
    let error = caller.call(get("http://user:secret@a.test/")).await.unwrap_err();
    assert!(matches!(error, CallError::Url { reason, .. } if reason.contains("user information")));
    for method in ["", "GET /", "CONNECT"] {
        let error = caller.call(HttpCall { method: method.to_owned(), ..get("http://a.test/") }).await.unwrap_err();
        assert!(error.to_string().contains("method"), "{error}");
    }
    let nobody = format!("http://127.0.0.1:{}/", cardinal_testkit::free_port());
    assert!(matches!(caller.call(get(nobody)).await, Err(CallError::Transport(_))));
    for answer in
        ["SSH-2.0\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
    {
        let peer = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(answer)]]).await;
        let outcome = caller.call(get(format!("http://{}/", peer.address()))).await;
        assert!(matches!(outcome, Err(CallError::Transport(_))), "{answer}: {outcome:?}");
    }
}

/// The server responds once, and sends `rest` and closes the connection after the second request.
async fn reused(call: impl Fn(String) -> HttpCall, rest: &str) -> (Result<HttpReply, CallError>, usize) {
    let closing = vec![Step::until("\r\n\r\n"), Step::send(ANSWER), Step::until("\r\n\r\n"), Step::send(rest)];
    let peer = ScriptedPeer::start(vec![closing, vec![Step::until("\r\n\r\n"), Step::send(ANSWER)]]).await;
    let (caller, url) = (caller(None), format!("http://{}/", peer.address()));
    caller.call(get(&url)).await.unwrap();
    let outcome = within("the second call", caller.call(call(url))).await.unwrap();
    (outcome, peer.connections())
}

#[tokio::test]
async fn a_host_header_that_is_no_host_is_not_sent() {
    let (echo, caller) = (EchoServer::start("a").await, caller(None));
    for host in ["a b", "a/b", "u@a", "", "a:x", "a, b"] {
        let mut call = get(echo.url());
        assert!(call.headers.append(b"Host", host.as_bytes()));
        let outcome = caller.call(call).await;
        assert!(matches!(outcome, Err(CallError::Transport(_))), "{host:?}: {outcome:?}");
    }
    assert_eq!(echo.connections(), 0);
}

#[tokio::test]
async fn only_what_does_no_harm_is_repeated() {
    let (outcome, connections) = reused(get, "").await;
    assert_eq!((&*outcome.unwrap().body, connections), (b"ok".as_slice(), 2));
    let (outcome, connections) = reused(|url| post(url, "x"), "").await;
    assert!(matches!(outcome, Err(CallError::Transport(_))), "{outcome:?}");
    assert_eq!(connections, 1);
    let (outcome, connections) = reused(get, "HTTP/1.1 2").await;
    assert!(matches!(outcome, Err(CallError::Transport(_))), "{outcome:?}");
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn a_fresh_connection_that_breaks_is_not_tried_again() {
    let peer = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n")]]).await;
    let outcome = caller(None).call(get(format!("http://{}/", peer.address()))).await;
    assert!(matches!(outcome, Err(CallError::Transport(_))), "{outcome:?}");
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn a_server_may_answer_before_it_has_everything() {
    let refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
    let answer = vec![Step::until("\r\n\r\n"), Step::send(refusal), Step::Pause(Duration::from_secs(15))];
    let peer = ScriptedPeer::start(vec![answer]).await;
    let caller = caller(None);
    let call = HttpCall {
        timeout: Duration::from_secs(10),
        ..post(format!("http://{}/", peer.address()), vec![b'x'; 32 * 1024 * 1024])
    };
    assert_eq!(caller.call(call).await.unwrap().status, 413);
    assert_eq!(caller.inner.idle.len(), 0);
}

#[tokio::test]
async fn servers_are_verified_unless_told_otherwise() {
    let authority = Authority::new("ours");
    let config = authority.server(&authority.issue(&["a.test"]), &["http/1.1"], false);
    let echo = EchoServer::start_tls("a", config).await;
    let by_name = format!("https://a.test:{}/", echo.address().port());
    let trust = Arc::new(Trust::default());
    trust.set(Some(authority.cert_pem()));
    let knows = trusting(Arc::clone(&trust));
    assert_eq!(knows.call(get(&by_name)).await.unwrap().status, 200);
    assert_eq!(reports(&echo, 1).await[0].sni.as_deref(), Some("a.test"));
    let other_name = format!("https://{}/", echo.address());
    assert!(matches!(knows.call(get(&other_name)).await, Err(CallError::Transport(_))));
    // Other authorities after a reload: neither the kept connection nor its session is reused.
    trust.set(Some(Authority::new("theirs").cert_pem()));
    assert!(matches!(knows.call(get(&by_name)).await, Err(CallError::Transport(_))));
    trust.set(Some(authority.cert_pem()));
    assert_eq!(knows.call(get(&by_name)).await.unwrap().status, 200);
    let stranger = caller(Some(Authority::new("theirs").cert_pem()));
    assert!(matches!(stranger.call(get(&by_name)).await, Err(CallError::Transport(_))));
    let insecure = HttpCall { insecure: true, ..get(&by_name) };
    assert_eq!(stranger.call(insecure).await.unwrap().status, 200);
    // A call that requires verification does not reuse an unverified connection.
    assert!(matches!(stranger.call(get(&by_name)).await, Err(CallError::Transport(_))));
    let broken = caller(Some("no PEM"));
    assert!(matches!(broken.call(get(&by_name)).await, Err(CallError::Transport(_))));
}

#[tokio::test]
async fn a_dropped_call_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let caller = caller(None);
    let call = caller.call(get(format!("http://{}/", listener.local_addr().unwrap())));
    let call = task::spawn("a caller that leaves", async { drop(call.await) });
    let (mut tcp, _) = within("a connection", listener.accept()).await.unwrap().unwrap();
    let mut seen = [0; 4];
    within("the request", tcp.read_exact(&mut seen)).await.unwrap().unwrap();
    call.abort();
    let mut rest = Vec::new();
    within("the end", tcp.read_to_end(&mut rest)).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_outlive_the_runtime_that_asked() {
    let (echo, caller) = (EchoServer::start("a").await, Arc::new(caller(None)));
    for _ in 0..2 {
        let (caller, url) = (Arc::clone(&caller), echo.url());
        let elsewhere = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(caller.call(get(url)))
        };
        assert_eq!(tokio::task::spawn_blocking(elsewhere).await.unwrap().unwrap().status, 200);
    }
    assert_eq!(echo.connections(), 1);
}
