//! Invalid input and failing upstreams: each has a defined response, and requests do not affect each other.

use std::time::Duration;

use anyhow::Result;
use cardinal_testkit::{EchoServer, H1Client, H2Client, ScriptedPeer, Step, TempDir, World, free_port};

use serde_json::{Value, json};

use crate::plugins;
use crate::scene::{JSON, one};

fn file(url: &str, service: &str) -> String {
    format!(
        "_format_version: \"3.0\"\nservices:\n- name: s\n  url: {url}\n{service}  routes:\n  - name: r\n    paths: [/]\n"
    )
}

/// Sends bytes on a new connection and returns the status line and the rest of the response.
async fn raw(world: &World, bytes: &str) -> Result<String> {
    let mut client = H1Client::connect(world.http()).await?;
    client.send(bytes).await?;
    let answer = client.read_to_end().await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_the_connection_ends() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &file(&echo.url(), ""), &[])?;
    let long_line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(20_000));
    let large_head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(40_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(1_100));
    for (bytes, status) in [
        ("\0\0\0\0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", 417),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (&long_line, 414),
        (&large_head, 400),
        (&many, 400),
    ] {
        let answer = raw(&world, bytes).await?;
        let start: String = bytes.chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{start:?} got {answer:?}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{start:?} got {answer:?}");
    }
    assert!(echo.failures().is_empty(), "{:?}", echo.failures());
    Ok(())
}

#[tokio::test]
async fn methods_and_statuses_without_bodies() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &file(&echo.url(), ""), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    for round in 0..2 {
        let head = client.request("HEAD", "/", "a", &[("X-Echo", "bytes:1000")], b"").await?;
        assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some("1000")), "{round}");
        for status in ["204", "304"] {
            let bare = client.get("/", "a", &[("X-Echo", &format!("status:{status},body:empty"))]).await?;
            assert_eq!((bare.status.to_string().as_str(), bare.body.len()), (status, 0));
        }
    }
    let old = raw(&world, "GET / HTTP/1.0\r\nX-Echo: bytes:100000,framing:chunked\r\n\r\n").await?;
    let (head, body) = old.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    assert_eq!(body.len(), 100_000);
    Ok(())
}

#[tokio::test]
async fn informational_responses_and_trailers_pass() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &file(&echo.url(), ""), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let fields = [("X-Echo", "interim:103,framing:chunked,trailers"), ("TE", "trailers")];
    let response = client.get("/", "a", &fields).await?;
    assert_eq!(response.interim.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [103]);
    assert_eq!(response.trailers.get("x-trailer"), Some("end"));
    let mut client = H2Client::connect(world.http()).await?;
    let response =
        client.request("GET", "a", "/", &[("x-echo", "framing:chunked,trailers"), ("te", "trailers")], b"").await?;
    assert_eq!(response.trailers.get("x-trailer"), Some("end"));
    Ok(())
}

#[tokio::test]
async fn upstreams_that_break_are_answered_for() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &file(&echo.url(), "  retries: 0\n  read_timeout: 200\n"), &[])?;
    for (behaviour, status, message) in [
        ("cut:start", 502, "An invalid response was received from the upstream server"),
        ("cut:head", 502, "An invalid response was received from the upstream server"),
        ("cut:start,reset", 502, "An invalid response was received from the upstream server"),
        ("delay:5000", 504, "The upstream server is timing out"),
    ] {
        let mut client = H1Client::connect(world.http()).await?;
        let fields = [("X-Echo", behaviour), ("Accept", "application/json")];
        let response = client.get("/", "a", &fields).await?;
        assert_eq!((response.status, response.json()["message"].as_str()), (status, Some(message)), "{behaviour}");
        let next = client.get("/", "a", &[]).await?;
        assert_eq!(next.status, 200, "the connection goes on after {behaviour}");
    }
    for framing in ["framing:length", "framing:chunked"] {
        let mut client = H1Client::connect(world.http()).await?;
        let cut = client.get("/", "a", &[("X-Echo", &format!("bytes:100000,cut:body,{framing}"))]).await;
        assert!(cut.is_err(), "a cut response must not look complete: {framing}");
        let mut client = H2Client::connect(world.http()).await?;
        let cut =
            client.request("GET", "a", "/", &[("x-echo", &format!("bytes:100000,cut:body,{framing}"))], b"").await;
        assert!(cut.is_err(), "a cut response must not look complete in HTTP/2: {framing}");
    }
    Ok(())
}

#[tokio::test]
async fn only_what_is_safe_is_tried_again() -> Result<()> {
    let cut = || vec![Step::until("\r\n\r\n")];
    let fine = || vec![Step::until("\r\n\r\n"), Step::send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")];
    let peer = ScriptedPeer::start(vec![cut(), cut(), fine()]).await;
    let world = World::start(plugins(), &file(&format!("http://{}", peer.address()), "  retries: 5\n"), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.text(), "ok");
    assert_eq!(peer.connections(), 3);
    let peer = ScriptedPeer::start(vec![cut(), fine()]).await;
    let world = World::start(plugins(), &file(&format!("http://{}", peer.address()), "  retries: 5\n"), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.request("POST", "/", "a", &[], b"x").await?.status, 502);
    assert_eq!(peer.connections(), 1, "a POST that was sent is not sent again");
    let silent = || vec![Step::until("\r\n\r\n"), Step::Pause(Duration::from_secs(2))];
    let peer = ScriptedPeer::start(vec![silent(), fine()]).await;
    let url = format!("http://{}", peer.address());
    let world = World::start(plugins(), &file(&url, "  retries: 5\n  read_timeout: 150\n"), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.text(), "ok", "silence, too, makes another endpoint be tried");
    Ok(())
}

#[tokio::test]
async fn nobody_to_ask() -> Result<()> {
    let closed = free_port();
    let accept = [("Accept", "application/json")];
    let world = World::start(plugins(), &file(&format!("http://127.0.0.1:{closed}"), "  retries: 1\n"), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.request("POST", "/", "a", &accept, b"x").await?.status, 502);
    let world = World::start(plugins(), &file("http://no-such-name.invalid", ""), &[("dns_resolver", "127.0.0.1:9")])?;
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.get("/", "a", &accept).await?;
    assert!(matches!(response.status, 500 | 503), "{}", response.text());
    let yaml =
        "_format_version: \"3.0\"\nupstreams:\n- name: u\nservices:\n- name: s\n  host: u\n  routes:\n  - paths: [/]\n";
    let world = World::start(plugins(), yaml, &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.get("/", "a", &accept).await?;
    assert_eq!(response.json()["message"], "failure to get a peer from the ring-balancer");
    assert_eq!(response.status, 503);
    let yaml = "_format_version: \"3.0\"\nroutes:\n- paths: [/]\n";
    let world = World::start(plugins(), yaml, &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.get("/", "a", &accept).await?;
    assert_eq!(
        (response.status, response.json()["message"].as_str()),
        (503, Some("no Service found with those values"))
    );
    Ok(())
}

#[tokio::test]
async fn responses_that_are_not_http_are_refused() -> Result<()> {
    for answer in [
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ] {
        let peer = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(answer)]]).await;
        let world = World::start(plugins(), &file(&format!("http://{}", peer.address()), "  retries: 0\n"), &[])?;
        let mut client = H1Client::connect(world.http()).await?;
        assert_eq!(client.get("/", "a", &[]).await?.status, 502, "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn slow_clients_are_not_waited_for_forever() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let mut world = World::compiled(plugins(), &file(&echo.url(), ""), &[])?;
    world.node_mut().limits.head_timeout_ms = 200;
    world.node_mut().limits.body_timeout_ms = 200;
    world.node_mut().limits.keepalive_timeout_ms = 200;
    let world = World::of(plugins(), world)?;
    assert!(raw(&world, "GET / HTTP/1.1\r\nHost:").await?.starts_with("HTTP/1.1 408 "));
    let body = raw(&world, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await?;
    assert!(body.starts_with("HTTP/1.1 408 "), "{body}");
    assert_eq!(raw(&world, "").await?, "", "a silent connection is closed without a word");
    Ok(())
}

#[tokio::test]
async fn limits_hold() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &file(&echo.url(), ""), &[("client_max_body_size", "1000")])?;
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.request("POST", "/", "a", &[("Accept", "application/json")], &[b'x'; 1001]).await?;
    assert_eq!((response.status, response.json()["message"].as_str()), (413, Some("Payload too large")));
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n{}\r\n0\r\n\r\n",
        "x".repeat(2000)
    );
    let answer = raw(&world, &chunked).await?;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    Ok(())
}

/// Input after the last request of a connection does not discard the responses before it.
#[tokio::test]
async fn the_last_answers_of_a_connection_arrive() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let settings = [("client_keepalive_requests", "50")];
    let world = World::start(plugins(), &file(&echo.url(), ""), &settings)?;
    for _ in 0..10 {
        let mut client = H1Client::connect(world.http()).await?;
        client.send(&"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(4_000)).await?;
        // A reset would discard unread data.
        cardinal_testkit::until("the connection to end", || world.engine().totals().active == 0).await?;
        let answers = String::from_utf8(client.read_to_end().await?)?;
        assert_eq!((answers.matches("HTTP/1.1 200").count(), answers.matches("Connection: close").count()), (50, 1));
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &file(&echo.url(), ""), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Echo: delay:10000\r\n\r\n").await?;
    let serving = || world.engine().totals().serving;
    cardinal_testkit::until("the request to be served", || serving() == 1).await?;
    drop(client);
    cardinal_testkit::until("the request to end", || serving() == 0).await
}

#[tokio::test]
async fn a_response_of_which_nothing_was_sent_is_replaced() -> Result<()> {
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnothing like a size\r\n",
    ] {
        let peer = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(answer)]]).await;
        let world = World::start(plugins(), &file(&format!("http://{}", peer.address()), "  retries: 0\n"), &[])?;
        let mut client = H1Client::connect(world.http()).await?;
        let response = client.get("/", "a", &[("Accept", "application/json")]).await?;
        assert_eq!(response.status, 502, "{answer:?}: {}", response.text());
    }
    Ok(())
}

/// A message may end with a quote.
#[tokio::test]
async fn messages_with_quotes_are_valid_json() -> Result<()> {
    let text = "stop \"now\"";
    let limits = json!({ "minute": 1, "policy": "local", "error_message": text });
    let service = json!({ "plugins": [{ "name": "rate-limiting", "config": limits }] });
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &one(&echo.url(), service, json!({})), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    client.get("/", "a", &[JSON]).await?;
    let response = client.get("/", "a", &[JSON]).await?;
    let body: Value = serde_json::from_str(&response.text())?;
    assert_eq!((response.status, &body["message"]), (429, &text.into()), "{body}");
    Ok(())
}

#[tokio::test]
async fn informational_responses_are_counted() -> Result<()> {
    let flood = Step::Flood(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec(), 10_000_000);
    let peer = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), flood]]).await;
    let world = World::start(plugins(), &file(&format!("http://{}", peer.address()), "  retries: 0\n"), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.get("/", "a", &[]).await?;
    assert_eq!((response.status, response.interim.len()), (502, 33));
    let mut client = H2Client::connect(world.http()).await?;
    assert_eq!(client.request("GET", "a", "/", &[], b"").await?.status, 502);
    Ok(())
}

#[tokio::test]
async fn an_http2_client_that_ignores_the_goodbye_is_left() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let mut configuration = World::compiled(plugins(), &file(&echo.url(), ""), &[])?;
    configuration.node_mut().limits.head_timeout_ms = 200;
    configuration.node_mut().limits.keepalive_timeout_ms = 200;
    let world = World::of(plugins(), configuration)?;
    let mut client = H1Client::connect(world.http()).await?;
    // A preface and empty SETTINGS, then nothing: no acknowledgements.
    client.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()).await?;
    client.read_to_end().await?;
    Ok(())
}

#[tokio::test]
async fn what_is_left_out_does_not_go_open() -> Result<()> {
    let echo = EchoServer::start("e").await;
    // A realm that breaks the header cannot be built; nor can a template that is a program.
    for plugin in [
        "{name: basic-auth, config: {realm: \"a\\r\\nX: y\"}}",
        "{name: request-transformer, config: {add: {headers: [\"x:$(os.exit())\"]}}}",
    ] {
        let yaml = format!(
            "_format_version: \"3.0\"\nservices:\n- name: s\n  url: {}\n  routes:\n  - name: guarded\n    paths: [/guarded]\n    plugins: [{plugin}]\n  - name: open\n    paths: [/]\n",
            echo.url()
        );
        let world = World::start_lenient(plugins(), &yaml, &[])?;
        assert!(!world.diagnostics.is_empty(), "{plugin}");
        let mut client = H1Client::connect(world.http()).await?;
        assert_eq!(client.get("/guarded", "a", &[]).await?.status, 500, "{plugin}");
        assert_eq!(client.get("/other", "a", &[]).await?.status, 200, "its neighbours serve");
    }
    assert!(echo.seen().iter().all(|seen| !seen.path.contains("guarded")));
    Ok(())
}

#[tokio::test]
async fn plugins_that_protect_nothing_fail_open() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let folder = TempDir::new("faults");
    let lua = "local x = 1; return x";
    let log = folder.path().join("log");
    for plugin in [
        format!("{{name: file-log, config: {{path: {}, custom_fields_by_lua: {{a: \"{lua}\"}}}}}}", log.display()),
        format!(
            "{{name: http-log, config: {{http_endpoint: {}, custom_fields_by_lua: {{a: \"{lua}\"}}}}}}",
            echo.url()
        ),
    ] {
        let yaml = format!(
            "_format_version: \"3.0\"\nservices:\n- name: s\n  url: {}\n  routes:\n  - name: r\n    paths: [/]\nplugins: [{plugin}]\n",
            echo.url()
        );
        let world = World::start_lenient(plugins(), &yaml, &[])?;
        let told = format!("{:?}", world.diagnostics);
        assert!(told.contains("requests are served without this instance"), "{told}");
        let mut client = H1Client::connect(world.http()).await?;
        assert_eq!(client.get("/x", "a", &[]).await?.status, 200, "{plugin}");
        assert_eq!(client.get("/x", "a", &[]).await?.status, 200, "{plugin}");
    }
    assert!(!log.exists(), "a field may have been meant to hide something: nothing is logged");
    assert!(echo.seen().iter().all(|seen| seen.path == "/x"));
    Ok(())
}

#[tokio::test]
async fn what_nginx_refuses_in_front_of_kong_is_refused() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &file(&echo.url(), ""), &[])?;
    assert!(raw(&world, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").await?.starts_with("HTTP/1.1 405 "));
    let mut client = H1Client::connect(world.http()).await?;
    for path in ["/a/..", "/a/../b/.%2e/", "/...", "/..a", "/a../%41", "/a/./../b"] {
        assert_eq!(client.get(path, "a.", &[]).await?.status, 200, "{path}");
    }
    let seen = echo.seen().len();
    for path in
        ["/a%00b", "/%zz", "/%4", "/a%", "/..", "/../etc", "/a/../../etc", "/%2e%2E/etc", "/a%2f..%2f..", "//a//../.."]
    {
        let mut client = H1Client::connect(world.http()).await?;
        assert_eq!(client.get(path, "a", &[]).await?.status, 400, "{path}");
    }
    for host in ["", "a..b", "a..b:80"] {
        let mut client = H1Client::connect(world.http()).await?;
        assert_eq!(client.get("/", host, &[]).await?.status, 400, "{host}");
    }
    assert_eq!(echo.seen().len(), seen);
    Ok(())
}
