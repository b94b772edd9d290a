//! Log lines of failures: what an operator needs to act on them is in the line.

use std::net::SocketAddr;

use cardinal_testkit::{
    Authority, EchoServer, H1Client, H2Client, Issued, ScriptedPeer, Socket, Step, TempDir, free_port,
    unverified_client,
};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::process::Process;

/// Fields of a line, `-` for those that it does not have.
fn fields(line: &Value, names: &[&str]) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    names.iter().map(|name| line.get(*name).map_or_else(|| "-".to_owned(), text)).collect()
}

const REQUEST: [&str; 7] = ["failure", "method", "host", "path", "route", "service", "upstream"];

/// A node that logs everything worth a line, and where it listens.
fn node(folder: &TempDir, yaml: &str, more: &[&str]) -> (Process, std::net::SocketAddr) {
    let config = folder.write("kong.yaml", yaml);
    let mut node = Process::run(&config, &[&["--set", "log_level=info"], more].concat());
    let address = node.address();
    (node, address)
}

fn service(name: &str, url: &str, more: &str) -> String {
    format!("- name: {name}\n  url: {url}\n{more}  routes:\n  - name: to-{name}\n    paths: [/{name}]\n")
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "a table of failures")]
async fn a_failure_names_the_request_and_the_target() {
    let folder = TempDir::new("failures");
    let closed = free_port();
    let silent = ScriptedPeer::start(vec![vec![Step::Drain]]).await;
    let broken = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send("nonsense\r\n\r\n")]]).await;
    let yaml = [
        "_format_version: '3.0'\nupstreams:\n- name: empty\n- name: idle\n  targets:\n  - {target: '127.0.0.1:1', \
         weight: 0}\nservices:\n"
            .to_owned(),
        service("refused", &format!("http://127.0.0.1:{closed}"), "  retries: 2\n"),
        service("silent", &format!("http://{}", silent.address()), "  retries: 1\n  read_timeout: 150\n"),
        service("broken", &format!("http://{}", broken.address()), "  retries: 0\n"),
        service("unknown", "http://does-not.exist.invalid:80", "  retries: 0\n"),
        service("empty", "http://empty", ""),
        service("idle", "http://idle", ""),
        service("named", "http://named", "  retries: 0\n"),
    ]
    .concat()
    .replace("services:\n", "- name: named\n  targets: [{target: 'gone.exist.invalid:80'}]\nservices:\n");
    let (mut node, address) = node(&folder, &yaml, &[]);
    for (path, message, failure, upstream, rest) in [
        (
            "/refused/a?secret=1",
            format!(
                "upstream_connect: no connection to the upstream: connect to 127.0.0.1:{closed}: Connection refused"
            ),
            "upstream_connect",
            "127.0.0.1",
            [format!("127.0.0.1:{closed}"), "3".to_owned()],
        ),
        (
            "/silent/a?secret=1",
            "upstream_timeout: no response from the upstream within read_timeout 150 ms".to_owned(),
            "upstream_timeout",
            "127.0.0.1",
            [silent.address().to_string(), "2".to_owned()],
        ),
        (
            "/broken/a?secret=1",
            "upstream_protocol: ".to_owned(),
            "upstream_protocol",
            "127.0.0.1",
            [broken.address().to_string(), "1".to_owned()],
        ),
        (
            "/unknown/a?secret=1",
            "name_resolution: cannot resolve the upstream's name: does-not.exist.invalid: NXDOMAIN".to_owned(),
            "name_resolution",
            "does-not.exist.invalid",
            ["-".to_owned(), "-".to_owned()],
        ),
        (
            "/empty/a?secret=1",
            "no_peer: upstream has no targets".to_owned(),
            "no_peer",
            "empty",
            ["-".to_owned(), "-".to_owned()],
        ),
        (
            "/named/a?secret=1",
            "no_peer: upstream has no healthy targets: cannot resolve gone.exist.invalid".to_owned(),
            "no_peer",
            "named",
            ["-".to_owned(), "-".to_owned()],
        ),
        (
            "/idle/a?secret=1",
            "no_peer: all targets have weight 0".to_owned(),
            "no_peer",
            "idle",
            ["-".to_owned(), "-".to_owned()],
        ),
    ] {
        let name = path.split('/').nth(1).unwrap();
        for http2 in [false, true] {
            if http2 {
                let mut client = H2Client::connect(address).await.unwrap();
                client.request("GET", "a.example:81", path, &[], b"").await.unwrap();
            } else {
                H1Client::connect(address).await.unwrap().get(path, "a.example:81", &[]).await.unwrap();
            }
            let retries = rest[1].parse::<usize>().unwrap_or(1) - 1;
            for _ in 0..retries {
                let (_, line) = node.wait_for_line(&format!("trying another target: {message}"));
                assert_eq!(fields(&line, &["route", "target"]), [format!("to-{name}"), rest[0].clone()], "{line}");
            }
            let (said, line) = node.wait_for_line(&message);
            assert!(said.starts_with(&message), "{said}");
            let shown = format!("/{name}/a");
            let expect = [failure, "GET", "a.example", &shown, &format!("to-{name}"), name, upstream];
            assert_eq!(fields(&line, &REQUEST), expect, "{line}");
            assert_eq!(fields(&line, &["target", "tries"]), rest, "{line}");
            assert!(!line.to_string().contains("secret"), "{line}");
            assert_eq!(line["level"], "WARN");
            assert!(line["request_id"].as_str().is_some_and(|id| id.len() == 32), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dns_server_that_is_down_is_named() {
    let folder = TempDir::new("failures");
    let server = format!("127.0.0.1:{}", free_port());
    let yaml = format!("_format_version: '3.0'\nservices:\n{}", service("s", "http://some.example", "  retries: 0\n"));
    let resolver = format!("dns_resolver={server}");
    let (mut node, address) = node(&folder, &yaml, &["--set", &resolver]);
    H1Client::connect(address).await.unwrap().get("/s", "a", &[]).await.unwrap();
    let said = node.wait_for("resolver: ");
    let start = "resolver: cannot resolve the upstream's name: some.example: no answer from the DNS server ";
    assert!(said.starts_with(&format!("{start}{server}: ")), "{said}");
    assert!(!said.contains("io_"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_says_what_is_late() {
    let folder = TempDir::new("failures");
    let silent = ScriptedPeer::start(vec![vec![Step::Drain]]).await;
    let partial = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
    let stalled = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(partial), Step::Drain]]).await;
    let large = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(2_000));
    let large = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(large), Step::Drain]]).await;
    let tls = silent.address();
    let yaml = [
        "_format_version: '3.0'\nservices:\n".to_owned(),
        service("tls", &format!("https://{tls}"), "  retries: 0\n  connect_timeout: 150\n"),
        service("body", &format!("http://{}", stalled.address()), "  retries: 0\n  read_timeout: 150\n"),
        service("large", &format!("http://{}", large.address()), "  retries: 0\n"),
        format!(
            "- name: raw\n  url: tls://{tls}\n  retries: 0\n  connect_timeout: 150\n  routes:\n  - protocols: [tcp]\n    \
             sources: [{{ip: 127.0.0.1}}]\n"
        ),
    ]
    .concat();
    let config = folder.write("kong.yaml", yaml);
    let settings = ["log_level=info", "stream_listen=127.0.0.1:0", "upstream_max_head_size=1k"];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let mut node = Process::run(&config, &settings);
    let (mut http, mut stream) = (None, None);
    while http.is_none() || stream.is_none() {
        let line = node.wait_for("listening on ");
        let at = line.split_whitespace().nth(2).and_then(|at| at.parse::<std::net::SocketAddr>().ok());
        *(if line.contains("stream") { &mut stream } else { &mut http }) = at;
    }
    let handshake = "upstream_connect_timeout: connected to the upstream, but the TLS handshake was not finished within \
                     connect_timeout 150 ms";
    for (path, message) in [
        ("/tls", handshake),
        ("/body", "upstream_timeout: the response body stalled: no bytes from the upstream within read_timeout 150 ms"),
        ("/large", "upstream_protocol: response head too large: larger than upstream_max_head_size (1024 bytes)"),
    ] {
        // The response that stalls ends early.
        let _answer = H1Client::connect(http.unwrap()).await.unwrap().get(path, "a", &[]).await;
        assert_eq!(node.wait_for("upstream_"), message);
    }
    let mut socket = Socket::connect(stream.unwrap()).await.unwrap();
    let _sent = socket.write_all(b"x").await;
    assert_eq!(node.wait_for("upstream_"), handshake);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_refused_are_named_too() {
    let (folder, echo) = (TempDir::new("failures"), EchoServer::start("e").await);
    let yaml = format!("_format_version: '3.0'\nservices:\n{}", service("s", &echo.url(), ""));
    let (mut node, address) = node(&folder, &yaml, &["--set", "client_head_timeout=200ms"]);
    let mut client = H1Client::connect(address).await.unwrap();
    client.get("/other?token=1", "b.example", &[]).await.unwrap();
    let (_, line) = node.wait_for_line("no_route: no route matches");
    let expect = ["no_route", "GET", "b.example", "/other", "-", "-", "-"];
    assert_eq!(fields(&line, &REQUEST), expect, "{line}");
    let long = format!("/{}\u{1b}", "x".repeat(1_000));
    client.send(format!("GET {long} HTTP/1.1\r\nHost: b.example\r\n\r\n")).await.unwrap();
    client.response().await.unwrap();
    let (_, line) = node.wait_for_line("bad_request: ");
    assert!(line.to_string().len() < 1_000, "{line}");
    let mut client = H1Client::connect(address).await.unwrap();
    client.get(&long[..1_000], "b.example", &[]).await.unwrap();
    let (_, line) = node.wait_for_line("no_route: no route matches");
    assert_eq!(line["path"].as_str().map(str::len), Some(256 + 3), "{line}");
    let mut client = H1Client::connect(address).await.unwrap();
    client.send("GET /x HTTP/1.1\r\n").await.unwrap();
    client.response().await.unwrap();
    node.wait_for("head_timeout: no whole request head within client_head_timeout 200 ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_lines_tell_the_upstream_and_the_reason() {
    let folder = TempDir::new("failures");
    let (closed, failing) = (
        free_port(),
        ScriptedPeer::start(vec![vec![
            Step::until("\r\n\r\n"),
            Step::send("HTTP/1.1 500 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        ]])
        .await,
    );
    let passive =
        "  healthchecks:\n    passive:\n      unhealthy: {tcp_failures: 2, http_failures: 1, http_statuses: [500]}\n";
    let yaml = format!(
        "_format_version: '3.0'\nupstreams:\n- name: web\n  targets:\n  - target: 127.0.0.1:{closed}\n{passive}\
         - name: api\n  targets:\n  - target: {}\n{passive}services:\n{}{}",
        failing.address(),
        service("web", "http://web", "  retries: 1\n"),
        service("api", "http://api", "  retries: 0\n"),
    );
    let (mut node, address) = node(&folder, &yaml, &[]);
    let mut client = H1Client::connect(address).await.unwrap();
    client.get("/web", "a", &[]).await.unwrap();
    client.get("/api", "a", &[]).await.unwrap();
    let web = format!("target 127.0.0.1:{closed} of upstream web is unhealthy: 2 connection failures (traffic): ");
    let api = format!(
        "target {} of upstream api is unhealthy: 1 HTTP failure, the last with status 500 (traffic)",
        failing.address()
    );
    let (said, line) = node.wait_for_line("of upstream ");
    let (other, _) = node.wait_for_line("is unhealthy: ");
    let (first, second) = if said.contains("web") { (said, other) } else { (other, said) };
    assert!(first.starts_with(&web) && first.contains("Connection refused"), "{first}");
    assert_eq!(second, api);
    assert_eq!(fields(&line, &["level", "cause"]), ["WARN", "traffic"], "{line}");
    assert!(
        node.seen().iter().any(|line| line == "upstream web has no healthy targets") || {
            node.wait_for("upstream web has no healthy targets");
            true
        }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_name_their_route_and_target() {
    let (folder, closed) = (TempDir::new("failures"), free_port());
    let yaml = format!(
        "_format_version: '3.0'\nservices:\n- name: raw\n  url: tcp://127.0.0.1:{closed}\n  retries: 0\n  routes:\n  \
         - name: to-raw\n    protocols: [tcp]\n    sources: [{{ip: 127.0.0.1}}]\n"
    );
    let config = folder.write("kong.yaml", yaml);
    let mut node = Process::run(&config, &["--set", "log_level=info", "--set", "stream_listen=127.0.0.1:0"]);
    let at = loop {
        let line = node.wait_for("listening on ");
        if line.contains("stream") {
            break line.split_whitespace().nth(2).and_then(|at| at.parse().ok()).expect("an address");
        }
    };
    let mut socket = Socket::connect(at).await.unwrap();
    // The node may have closed it by then.
    let _sent = socket.write_all(b"x").await;
    let (_, line) = node.wait_for_line("upstream_connect: no connection to the upstream: connect to ");
    assert_eq!(fields(&line, &REQUEST), ["upstream_connect", "-", "-", "-", "to-raw", "raw", "127.0.0.1"], "{line}");
    assert_eq!(fields(&line, &["target", "tries"]), [format!("127.0.0.1:{closed}"), "1".to_owned()], "{line}");
}

/// A client of a node with TLS whose own certificate is not among those that the node trusts, and upstreams whose
/// certificates the node refuses.
#[tokio::test(flavor = "multi_thread")]
async fn reasons_of_tls_are_plain_words() {
    let folder = TempDir::new("failures");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let twin = Issued::self_signed(&["localhost"], "localhost", &[], (1975, 4096));
    let server = |config| EchoServer::start_tls("backend", config);
    let upstreams = [
        ("unknown", server(theirs.server(&theirs.issue(&["localhost"]), &[], false)).await),
        ("expired", server(ours.server(&ours.issue_expired(&["localhost"]), &[], false)).await),
        ("name", server(ours.server(&ours.issue(&["a.test", "b.test"]), &[], false)).await),
        ("self", server(ours.server(&twin, &[], false)).await),
    ];
    let services = upstreams.iter().map(|(name, server)| {
        let url = format!("https://localhost:{}", server.address().port());
        service(name, &url, "  retries: 0\n  tls_verify: true\n")
    });
    let yaml = format!("_format_version: '3.0'\nservices:\n{}", services.collect::<String>());
    let trusted = format!("lua_ssl_trusted_certificate={}", folder.write("ca.pem", ours.cert_pem()).display());
    let clients = format!("nginx_proxy_ssl_client_certificate={}", folder.write("cl.pem", ours.cert_pem()).display());
    let more = ["--set", &trusted, "--set", &clients, "--set", "nginx_proxy_ssl_verify_client=on"];
    let config = folder.write("kong.yaml", yaml);
    let more = [&more[..], &["--set", "log_level=info", "--set", "proxy_listen=127.0.0.1:0, 127.0.0.1:0 ssl"]].concat();
    let mut node = Process::run(&config, &more);
    let mut lines = [node.wait_for("listening on "), node.wait_for("listening on ")];
    lines.sort_by_key(|line| line.contains("https"));
    let [plain, tls] =
        lines.map(|line| line.split_whitespace().nth(2).and_then(|at| at.parse::<SocketAddr>().ok()).expect("a place"));
    for (path, expect) in [
        ("/unknown", "the certificate is not signed by a trusted CA"),
        ("/expired", "the certificate expired on 2001-01-01 00:00:00 UTC"),
        ("/name", "the certificate is for a.test, b.test, not localhost"),
        ("/self", "the certificate is a CA certificate, and is not itself among the trusted CA certificates"),
    ] {
        H1Client::connect(plain).await.unwrap().get(path, "a.example", &[]).await.unwrap();
        let said = node.wait_for("upstream_tls: ");
        assert!(said.ends_with(&format!("(server name localhost): {expect}")), "{said}");
    }
    for (identity, expect) in [
        (None, "the peer sent no certificate"),
        (Some(theirs.issue(&["client"])), "the certificate is not signed by a trusted CA"),
        (Some(ours.issue_expired(&["client"])), "the certificate expired on 2001-01-01 00:00:00 UTC"),
        (Some(twin), "the certificate is a CA certificate, and is not itself among the trusted CA certificates"),
    ] {
        let config = unverified_client(identity.as_ref());
        // TLS 1.3 tells the client only after its part of the handshake.
        if let Ok(mut client) = H1Client::connect_tls(tls, "a.test", config).await {
            client.get("/", "a.test", &[]).await.unwrap_err();
        }
        let said = node.wait_for("client_tls: ");
        assert_eq!(said, format!("client_tls: TLS handshake with the client: {expect}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_to_a_tls_listener_is_answered() {
    let folder = TempDir::new("failures");
    let config = folder.write("kong.yaml", "_format_version: '3.0'\n");
    let more = ["--set", "log_level=info", "--set", "proxy_listen=127.0.0.1:0 ssl http2"];
    let mut node = Process::run(&config, &more);
    let address = node.address();
    let mut client = H1Client::connect(address).await.unwrap();
    let response = client.get("/a?b=c", "a.example", &[("accept", "application/json")]).await.unwrap();
    assert_eq!(response.status, 400);
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(body["message"], "The plain HTTP request was sent to HTTPS port");
    assert!(client.get("/", "a.example", &[]).await.is_err(), "the connection is closed");
    let (said, line) = node.wait_for_line("client_tls: ");
    assert_eq!(said, "client_tls: plain HTTP request to a listener with TLS");
    assert_eq!(fields(&line, &["failure", "method", "host", "path"]), ["client_tls", "GET", "a.example", "/a"]);
    // Other bytes are no HTTP, and nothing is answered but an alert.
    let mut socket = Socket::connect(address).await.unwrap();
    socket.write_all(b"quit\r\n\r\n").await.unwrap();
    assert!(node.wait_for("client_tls: ").contains("what the peer sent is not TLS"));
    // A ClientHello of TLS 1.1: no extensions, so no signature algorithms.
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0x00, 0x2f, 1, 0]);
    let mut socket = Socket::connect(address).await.unwrap();
    let length = hello.len() as u8;
    socket.write_all(&[&[22, 3, 1, 0, length + 4, 1, 0, 0, length], &hello[..]].concat()).await.unwrap();
    let said = node.wait_for("client_tls: ");
    assert!(said.ends_with(": the peer offers only TLS 1.1 or lower; TLS 1.2 and TLS 1.3 are supported"), "{said}");
}

/// A log server that is down: one line, and one for what is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_server_that_is_down_is_reported_once_with_its_plugins() {
    let (folder, echo) = (TempDir::new("failures"), EchoServer::start("backend").await);
    let plugin = format!(
        "  plugins:\n  - name: http-log\n    id: 7ff1b2f2-2a0b-4c0e-8f13-7a2b3c4d5e6f\n    config:\n      http_endpoint: \
         'http://127.0.0.1:{}'\n      queue: {{max_retry_time: 0.3, initial_retry_delay: 0.01}}\n",
        free_port()
    );
    let yaml = format!("_format_version: '3.0'\nservices:\n{}", service("a", &echo.url(), &plugin));
    let (mut node, address) = node(&folder, &yaml, &[]);
    H1Client::connect(address).await.unwrap().get("/a", "a.example", &[]).await.unwrap();
    let (_, failed) = node.wait_for_line("handler could not process entries");
    let instances = failed["instances"].as_str().unwrap();
    assert!(instances.starts_with("7ff1b2f2-2a0b-4c0e-8f13-7a2b3c4d5e6f of service "), "{failed}");
    assert!(failed["reason"].as_str().unwrap().contains("Connection refused"), "{failed}");
    let (_, lost) = node.wait_for_line("entries could not be delivered within max_retry_time (0.3 s); they are lost");
    assert_eq!((&lost["instances"], &lost["dropped_in_all"]), (&failed["instances"], &Value::from(1)), "{lost}");
    let tries = node.seen().iter().filter(|line| line.contains("handler could not process")).count();
    assert_eq!(tries, 1, "{:?}", node.seen());
}

/// One target is down, the name of the other one does not resolve: the line names it.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_peers_names_targets_that_do_not_resolve() {
    let (folder, closed) = (TempDir::new("failures"), free_port());
    let yaml = format!(
        "_format_version: '3.0'
upstreams:
- name: mixed
  targets: [{{target: '127.0.0.1:{closed}'}}, {{target: 'gone.exist.invalid:80'}}]
  healthchecks: {{passive: {{unhealthy: {{tcp_failures: 1}}}}}}
- {{name: lost, targets: [{{target: 'lost.exist.invalid:80'}}]}}
services:
{}- name: raw
  url: tcp://lost:80
  retries: 0
  routes: [{{name: to-raw, protocols: [tcp], destinations: [{{ip: 127.0.0.1}}]}}]
",
        service("mixed", "http://mixed", "  retries: 0\n"),
    );
    let config = folder.write("kong.yaml", yaml);
    let mut node = Process::run(&config, &["--set", "log_level=info", "--set", "stream_listen=127.0.0.1:0"]);
    let (mut http, mut stream) = (None, None);
    while http.is_none() || stream.is_none() {
        let line = node.wait_for("listening on ");
        let at = line.split_whitespace().nth(2).and_then(|at| at.parse::<std::net::SocketAddr>().ok());
        *(if line.contains("stream") { &mut stream } else { &mut http }) = at;
    }
    // The first request finds that nothing listens there.
    H1Client::connect(http.unwrap()).await.unwrap().get("/mixed", "a", &[]).await.unwrap();
    node.wait_for("target 127.0.0.1");
    H1Client::connect(http.unwrap()).await.unwrap().get("/mixed", "a", &[]).await.unwrap();
    let (said, line) = node.wait_for_line("no_peer: ");
    assert!(said.contains("upstream has no healthy targets: cannot resolve gone.exist.invalid"), "{said}");
    assert_eq!(fields(&line, &["route", "upstream"]), ["to-mixed", "mixed"], "{line}");
    let mut socket = Socket::connect(stream.unwrap()).await.unwrap();
    let _sent = socket.write_all(b"x").await;
    let (said, line) = node.wait_for_line("no_peer: ");
    assert!(said.contains("upstream has no healthy targets: cannot resolve lost.exist.invalid"), "{said}");
    assert_eq!(fields(&line, &["route", "service", "upstream"]), ["to-raw", "raw", "lost"], "{line}");
}
