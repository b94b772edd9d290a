//! Heads and trailers sent by the node: only allowed bytes, unambiguous framing, and no fields that the next server
//! would trust without reason.

mod lengths;
mod rogue;
mod trailers;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use cardinal_base::task;
use cardinal_testkit::{EchoServer, H1Client, H2Client, World};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::plugins;
use crate::scene::{file, one, sent, sent_all, service_of};

/// Values that are not hosts. Text after a line end would be a field, or a separate request.
const NO_HOSTS: [&[u8]; 26] = [
    b"e\r\n\r\nGET /secret HTTP/1.1\r\nHost: x\r\nX-I: ",
    b"e\r\nX-Injected: yes",
    b"a\nX-Injected: yes",
    b"a\rX-Injected: yes",
    b"\r\n",
    b"a\0b",
    b"a\x7fb",
    b"a b",
    b" a",
    b"a\tb",
    b"a/b",
    b"/",
    b"u@a",
    b"a,b",
    b"a?b",
    b"a#b",
    b"a\\b",
    b"<a>",
    b"a:b",
    b"a:1:2",
    b"a:99999",
    b":80",
    b"[::1",
    b"a..b",
    b"b\xfccher",
    "b\u{fc}cher".as_bytes(),
];

const HOSTS: [&[u8]; 5] = [b"tenant.example", b"tenant.example:8080", b"[::1]:80", b"a_b.svc", b"10.0.0.1"];

fn transformer(config: Value) -> Value {
    json!({ "plugins": [{ "name": "request-transformer", "config": config }] })
}

fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, NON_ALPHANUMERIC).to_string()
}

/// Worlds with the backend over HTTP/1.1 and over HTTP/2, each behind a route that sets Host from a query argument.
async fn worlds(config: Value) -> Result<(EchoServer, Vec<World>)> {
    let echo = EchoServer::start("e").await;
    let worlds = [json!([]), json!(["upstream-http2"])].into_iter().map(|tags| {
        let service = json!({ "tags": tags, "retries": 0 });
        World::start(plugins(), &one(&echo.url(), service, transformer(config.clone())), &[])
    });
    let worlds = worlds.collect::<Result<Vec<_>>>()?;
    Ok((echo, worlds))
}

/// Checks that the backend received one request, for this host, without additional fields.
fn check_one_request(seen: &Value, host: &str) -> Result<()> {
    ensure!(seen["authority"] == host, "the backend was asked for {}: {seen}", seen["authority"]);
    ensure!(sent_all(seen, "x-injected").is_empty() && sent_all(seen, "x-i").is_empty(), "an injected field: {seen}");
    Ok(())
}

#[tokio::test]
async fn a_host_from_a_template_is_a_host_or_left_out() -> Result<()> {
    let config = json!({ "replace": { "headers": ["host:$(query_params.q)"] } });
    let (echo, worlds) = worlds(config).await?;
    let own = echo.address().to_string();
    for world in &worlds {
        let mut h1 = H1Client::connect(world.http()).await?;
        let mut h2 = H2Client::connect(world.http()).await?;
        for (values, replaced) in [(NO_HOSTS.as_slice(), false), (HOSTS.as_slice(), true)] {
            for value in values {
                let host = if replaced { std::str::from_utf8(value)? } else { &own };
                let target = format!("/rt2?q={}", encoded(value));
                for response in [h1.get(&target, "x", &[]).await?, h2.request("GET", "x", &target, &[], b"").await?] {
                    ensure!(response.status == 200, "{}: {}", value.escape_ascii(), response.status);
                    check_one_request(&response.json(), host)?;
                }
            }
        }
        for target in ["/?q=", "/"] {
            check_one_request(&h1.get(target, "x", &[]).await?.json(), &own)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn hosts_from_captures_and_renamed_headers_are_checked() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let own = echo.address().to_string();
    let route = |name: &str, path: &str, config: Value| {
        let mut route = transformer(config);
        (route["name"], route["paths"]) = (json!(name), json!([path]));
        route
    };
    let routes = json!([
        route(
            "capture",
            "~/t/(?<tenant>[^/]+)/",
            json!({ "replace": { "headers": ["Host:$(uri_captures.tenant).internal"] } })
        ),
        route("rename", "/ren", json!({ "rename": { "headers": ["X-Tenant:host"] } })),
        route("new", "/new", json!({ "rename": { "headers": ["x-tenant:HOST"] } })),
        route("header", "/head", json!({ "replace": { "headers": ["host:$(headers.x_tenant)"] } })),
    ]);
    let service = service_of(&echo.url(), json!({ "routes": routes }), json!({}));
    let world = World::start(plugins(), &file(json!({ "services": [service] })), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    for (value, host) in [
        ("acme", "acme.internal"),
        ("e%0D%0AX-Injected:%20yes", own.as_str()),
        ("a%0AX-Injected:%20yes", &own),
        ("a%20b", &own),
        // Escapes of reserved characters are kept, and are valid in a host.
        ("u%40a", "u%40a.internal"),
        ("b%C3%BCcher", &own),
    ] {
        let seen = client.get(&format!("/t/{value}/"), "x", &[]).await?.json();
        check_one_request(&seen, host)?;
    }
    // Values that are allowed in a client's header, but are not hosts.
    for value in ["a b", "a/b", "u@a", "a:x", "a, b", "<a>", "a?b"] {
        for path in ["/ren", "/new", "/head"] {
            let seen = client.get(path, "x", &[("X-Tenant", value)]).await?.json();
            check_one_request(&seen, &own)?;
        }
    }
    for path in ["/ren", "/new", "/head"] {
        let seen = client.get(path, "x", &[("X-Tenant", "b.example:81")]).await?.json();
        check_one_request(&seen, "b.example:81")?;
    }
    Ok(())
}

#[tokio::test]
async fn no_template_can_write_framing_or_line_ends() -> Result<()> {
    let injected = "5\r\nX-Injected: yes";
    for name in ["Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "TE", "Expect", "X-Free"] {
        for group in ["add", "append", "replace"] {
            let config = json!({ group: { "headers": [format!("{name}:$(query_params.q)")] } });
            let (echo, worlds) = worlds(config).await?;
            for world in &worlds {
                let mut client = H1Client::connect(world.http()).await?;
                for value in ["5", "chunked", "close", injected, "1\n2", "\0"] {
                    let target = format!("/?q={}", encoded(value.as_bytes()));
                    let seen = client.request("POST", &target, "x", &[("X-Free", "mine")], b"abc").await?.json();
                    check_one_request(&seen, &echo.address().to_string())?;
                    ensure!(seen["body"]["text"] == "abc", "{group} {name} {value:?}: {seen}");
                    ensure!(sent_all(&seen, "transfer-encoding").is_empty(), "{group} {name} {value:?}: {seen}");
                    ensure!(sent(&seen, "content-length") == "3", "{group} {name} {value:?}: {seen}");
                }
            }
        }
    }
    let config = json!({ "rename": { "headers": ["X-One:Content-Length", "X-Two:transfer-encoding"] } });
    let (_echo, worlds) = worlds(config).await?;
    for world in &worlds {
        let mut client = H1Client::connect(world.http()).await?;
        let fields = [("X-One", "50"), ("X-Two", "chunked")];
        let seen = client.request("POST", "/", "x", &fields, b"abc").await?.json();
        ensure!(seen["body"]["text"] == "abc" && sent(&seen, "content-length") == "3", "{seen}");
        ensure!(sent_all(&seen, "transfer-encoding").is_empty(), "{seen}");
    }
    Ok(())
}

#[tokio::test]
async fn paths_and_queries_of_templates_are_percent_encoded() -> Result<()> {
    let config = json!({
        "replace": { "uri": "/p/$(query_params.q)", "querystring": ["x:$(query_params.q)"] },
        "add": { "querystring": ["$(query_params.q):1", "y:$(query_params.q)"] },
    });
    let (echo, worlds) = worlds(config).await?;
    for world in &worlds {
        let mut client = H1Client::connect(world.http()).await?;
        for value in NO_HOSTS {
            let target = format!("/?x=1&q={}", encoded(value));
            let response = client.get(&target, "x", &[]).await?;
            ensure!(response.status == 200, "{}: {}", value.escape_ascii(), response.status);
            let seen = response.json();
            check_one_request(&seen, &echo.address().to_string())?;
            let asked = seen["target"].as_str().unwrap_or_default();
            ensure!(asked.starts_with("/p/") && asked.bytes().all(|b| b.is_ascii_graphic()), "{asked:?}");
        }
    }
    Ok(())
}

/// Responds to a request, and sends a second response when notified.
async fn answer_twice(mut tcp: TcpStream, answer: &str, more: Option<(Arc<Notify>, Arc<Notify>)>) -> Result<()> {
    const POISON: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        tcp.read_buf(&mut head).await?;
    }
    tcp.write_all(answer.as_bytes()).await?;
    let Some((again, told)) = more else { return Ok(()) };
    again.notified().await;
    tcp.write_all(POISON).await?;
    told.notify_one();
    tcp.read_to_end(&mut head).await?;
    Ok(())
}

/// A backend that responds on its first connection with `answer` and, when notified, once more; other connections
/// receive `fine`.
async fn answers_twice(answer: &'static str, again: Arc<Notify>, told: Arc<Notify>) -> Result<SocketAddr> {
    const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine";
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    drop(task::spawn("backend", async move {
        let mut first = true;
        while let Ok((tcp, _)) = listener.accept().await {
            let (first, again, told) = (std::mem::take(&mut first), Arc::clone(&again), Arc::clone(&told));
            // A failing connection was closed by the node.
            drop(task::spawn("backend's connection", async move {
                drop(answer_twice(tcp, if first { answer } else { FINE }, first.then_some((again, told))).await);
            }));
        }
    }));
    Ok(address)
}

#[tokio::test]
async fn a_second_response_reaches_nobody() -> Result<()> {
    for (answer, kept) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n", false),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\n", true),
        ("HTTP/1.1 103 Early\r\nContent-Length: 44\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
    ] {
        let (again, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let address = answers_twice(answer, Arc::clone(&again), Arc::clone(&told)).await?;
        let world =
            World::start(plugins(), &one(&format!("http://{address}"), json!({ "retries": 0 }), json!({})), &[])?;
        let first = H1Client::connect(world.http()).await?.get("/", "a", &[]).await?;
        ensure!(first.status < 400 && !first.text().contains("poison"), "{answer:?}: {}", first.text());
        if kept {
            // The client has received the first response, and the connection is idle.
            again.notify_one();
            told.notified().await;
        }
        for _ in 0..4 {
            let response = H1Client::connect(world.http()).await?.get("/", "a", &[]).await?;
            ensure!(response.text() == "fine", "{answer:?}: {}", response.text());
        }
    }
    Ok(())
}
