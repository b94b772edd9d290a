//! Many concurrent clients with different secrets: no data of one client is sent to another.

use std::sync::Arc;

use anyhow::{Result, ensure};
use cardinal_testkit::{EchoServer, Fields, H1Client, H2Client, Response, World};
use serde_json::json;

use crate::plugins;

const CLIENTS: usize = 24;
const ROUNDS: usize = 12;

#[allow(clippy::disallowed_methods, reason = "the test wants the task's outcome")]
fn spawn(task: impl Future<Output = Result<()>> + Send + 'static) -> tokio::task::JoinHandle<Result<()>> {
    tokio::spawn(task)
}

/// Awaits all tasks and returns the first failure.
async fn all(tasks: Vec<tokio::task::JoinHandle<Result<()>>>) -> Result<()> {
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// Few upstream connections for many clients, and a plugin in each phase.
async fn start() -> Result<(EchoServer, Arc<World>)> {
    let echo = EchoServer::start("e").await;
    let file = json!({"_format_version": "3.0", "services": [{"name": "s", "url": echo.url(), "retries": 0,
    "routes": [{"name": "r", "paths": ["/"]}], "plugins": [
        {"name": "correlation-id", "config": {"header_name": "X-Id", "echo_downstream": true}},
        {"name": "request-transformer", "config": {"add": {"headers": ["X-Copy:$(headers.x_secret or 'none')"]}}},
        {"name": "response-transformer", "config": {"append": {"headers": ["X-Seen:1"]}}}
    ]}]});
    let settings = [("upstream_keepalive_pool_size", "4")];
    let world = World::start(plugins(), &file.to_string(), &settings)?;
    Ok((echo, Arc::new(world)))
}

/// A secret specific to the client and the round; all secrets have the same length, so that stale suffixes are
/// detected.
fn secret(kind: &str, client: usize, round: usize) -> String {
    format!("SECRET-{kind}-{client:03}-{round:03}-END")
}

/// Every secret in a text.
fn secrets(text: &str) -> Vec<&str> {
    text.match_indices("SECRET-").map(|(at, _)| text.get(at..at + 22).unwrap_or(&text[at..])).collect()
}

/// Checks that fields and body of a response contain no other secret, and that the backend saw no other.
fn check(response: &Response, own: &str) -> Result<()> {
    let text = format!("{:?} {:?} {}", response.headers, response.trailers, response.text());
    let found = secrets(&text);
    ensure!(!found.is_empty(), "not even its own: {text}");
    for one in found {
        ensure!(own.starts_with(one) || one == own, "{own} got {one}: {text}");
    }
    only_once(&response.headers)
}

/// Checks that single-valued fields occur once, with the right value.
fn only_once(headers: &Fields) -> Result<()> {
    for name in ["x-own", "x-id", "x-seen", "x-kong-request-id", "content-length", "content-type", "via", "server"] {
        let count = headers.all(name).count();
        ensure!(count <= 1, "{name} comes {count} times: {headers:?}");
    }
    Ok(())
}

fn behaviour(secret: &str, framing: &str) -> String {
    format!("header:X-Own={secret},framing:{framing}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_the_backend_are_shared_and_nothing_else() -> Result<()> {
    let (echo, world) = start().await?;
    let mut tasks = Vec::new();
    for client in 0..CLIENTS {
        let address = world.http();
        tasks.push(spawn(async move {
            let mut connection = H1Client::connect(address).await?;
            for round in 0..ROUNDS {
                let own = secret("ONE", client, round);
                let echo = behaviour(&own, ["length", "chunked"][round % 2]);
                let mut fields = vec![("X-Secret", own.as_str()), ("X-Echo", echo.as_str()), ("X-Id", own.as_str())];
                if round % 3 == 0 {
                    fields.push(("Cookie", own.as_str()));
                }
                let body = if round % 2 == 0 { own.repeat(1 + client * 7) } else { String::new() };
                let method = if body.is_empty() { "GET" } else { "POST" };
                let response = connection.request(method, &format!("/{own}"), &own, &fields, body.as_bytes()).await?;
                check(&response, &own)?;
                let report = response.json();
                ensure!(report["body"]["bytes"] == body.len(), "{report}");
                ensure!((report["headers"].to_string().contains("Cookie")) == (round % 3 == 0), "{report}");
                ensure!(response.header("x-own") == Some(&*own) && response.header("x-id") == Some(&*own));
            }
            anyhow::Ok(())
        }));
    }
    all(tasks).await?;
    assert!(echo.connections() < (CLIENTS * ROUNDS) as u64 / 2, "connections are reused: {}", echo.connections());
    assert!(echo.failures().is_empty(), "{:?}", echo.failures());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_stop_leave_nothing_behind() -> Result<()> {
    let (_echo, world) = start().await?;
    let mut tasks = Vec::new();
    for client in 0..CLIENTS {
        let address = world.http();
        tasks.push(spawn(async move {
            for round in 0..ROUNDS {
                let own = secret("CUT", client, round);
                if client % 2 == 0 {
                    let mut connection = H1Client::connect(address).await?;
                    let framing = if round % 2 == 0 { "Content-Length: 100000" } else { "Transfer-Encoding: chunked" };
                    let start = if round % 2 == 0 { own.clone() } else { format!("ff\r\n{own}") };
                    let head =
                        format!("POST /{own} HTTP/1.1\r\nHost: {own}\r\nX-Secret: {own}\r\n{framing}\r\n\r\n{start}");
                    connection.send(head).await?;
                    tokio::task::yield_now().await;
                    if round % 3 == 0 { connection.reset()? } else { drop(connection) }
                } else {
                    let mut connection = H1Client::connect(address).await?;
                    let echo = behaviour(&own, "chunked");
                    let fields = [("X-Secret", own.as_str()), ("X-Echo", echo.as_str())];
                    check(&connection.get(&format!("/{own}"), "a", &fields).await?, &own)?;
                }
            }
            anyhow::Ok(())
        }));
    }
    all(tasks).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_that_stop_leave_nothing_behind() -> Result<()> {
    let (_echo, world) = start().await?;
    let mut tasks = Vec::new();
    for client in 0..CLIENTS {
        let address = world.http();
        tasks.push(spawn(async move {
            for round in 0..ROUNDS {
                let own = secret("END", client, round);
                let mut connection = H1Client::connect(address).await?;
                let cut = ["cut:start", "cut:head", "cut:body", "cut:body,reset"][round % 4];
                let echo = if client % 2 == 0 {
                    format!("{},{cut}", behaviour(&own, "chunked"))
                } else {
                    behaviour(&own, "length")
                };
                let fields = [("X-Secret", own.as_str()), ("X-Echo", echo.as_str())];
                let response = connection.get(&format!("/{own}"), "a", &fields).await;
                if client % 2 == 1 {
                    check(&response?, &own)?;
                } else if let Ok(response) = response {
                    ensure!(response.status == 502, "{}", response.status);
                    ensure!(secrets(&response.text()).is_empty(), "{}", response.text());
                    // Data of the failed request must not appear in the next one on this connection.
                    let next = connection.get("/next", "a", &[("X-Secret", "none")]).await?;
                    ensure!(secrets(&format!("{next:?} {}", next.text())).is_empty(), "{next:?}");
                }
            }
            anyhow::Ok(())
        }));
    }
    all(tasks).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_get_their_own_answers() -> Result<()> {
    let (_echo, world) = start().await?;
    let mut tasks = Vec::new();
    for client in 0..CLIENTS {
        let address = world.http();
        tasks.push(spawn(async move {
            let mut connection = H1Client::connect(address).await?;
            let mut all = String::new();
            for round in 0..ROUNDS {
                let own = secret("PIP", client, round);
                let mine = match round % 4 {
                    // A local reply: it must not contain fields of another request.
                    3 => "GET /none HTTP/1.1\r\nHost: a\r\nX-Echo: status:204,body:empty\r\n\r\n".to_owned(),
                    1 => format!(
                        "POST /{own} HTTP/1.1\r\nHost: {own}\r\nX-Secret: {own}\r\nX-Echo: header:X-Own={own}\r\nTransfer-Encoding: chunked\r\n\r\n16\r\n{own}\r\n0\r\nX-Trailer: {own}\r\n\r\n"
                    ),
                    _ => format!("GET /{own} HTTP/1.1\r\nHost: {own}\r\nX-Secret: {own}\r\nX-Echo: header:X-Own={own}\r\n\r\n"),
                };
                all.push_str(&mine);
            }
            connection.send(all).await?;
            for round in 0..ROUNDS {
                let response = connection.response().await?;
                if round % 4 == 3 {
                    ensure!(response.status == 204 && secrets(&format!("{response:?}")).is_empty(), "{response:?}");
                    continue;
                }
                let own = secret("PIP", client, round);
                check(&response, &own)?;
                ensure!(response.header("x-own") == Some(&*own), "{response:?}");
            }
            anyhow::Ok(())
        }));
    }
    all(tasks).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_one_connection_are_strangers() -> Result<()> {
    let (_echo, world) = start().await?;
    let mut tasks = Vec::new();
    for client in 0..6 {
        let address = world.http();
        tasks.push(spawn(async move {
            let mut connection = H2Client::connect(address).await?;
            let mut open = Vec::new();
            for round in 0..40 {
                let own = secret("TWO", client, round);
                let echo = format!("{},delay:{}", behaviour(&own, ["length", "chunked"][round % 2]), (round * 7) % 20);
                let fields = [("x-secret", own.as_str()), ("x-echo", echo.as_str()), ("cookie", own.as_str())];
                let posts = round % 2 == 0;
                let method = if posts { "POST" } else { "GET" };
                let mut exchange = connection.open(method, "a", &format!("/{own}"), &fields, !posts).await?;
                if posts {
                    exchange.send(own.as_bytes(), round % 5 != 0).await?;
                    if round % 5 == 0 {
                        exchange.reset();
                        continue;
                    }
                }
                open.push((own, exchange));
            }
            for (own, mut exchange) in open {
                let response = exchange.response().await?;
                ensure!(response.status == 200, "{}", response.text());
                check(&response, &own)?;
                ensure!(response.header("x-own") == Some(&*own), "{response:?}");
            }
            anyhow::Ok(())
        }));
    }
    all(tasks).await
}

#[tokio::test]
async fn what_one_request_set_is_not_set_for_the_next() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let file = json!({"_format_version": "3.0", "services": [{"name": "s", "url": echo.url(),
        "routes": [{"name": "auth", "paths": ["/auth"], "plugins": [{"name": "key-auth"},
            {"name": "rate-limiting", "config": {"hour": 100}}, {"name": "cors", "config": {"origins": ["http://o"], "credentials": true}}]},
            {"name": "open", "paths": ["/open"]}]}],
        "consumers": [{"username": "alice", "custom_id": "SECRET-alice", "keyauth_credentials": [{"key": "SECRET-key"}]}]});
    let world = World::start(plugins(), &file.to_string(), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let own = ["x-ratelimit-limit-hour", "access-control-allow-origin", "x-own", "set-cookie"];
    let echo_words = "header:X-Own=1,header:Set-Cookie=SECRET-cookie,interim:103";
    for round in 0..20 {
        let fields = [("apikey", "SECRET-key"), ("X-Echo", echo_words), ("Cookie", "SECRET-cookie")];
        let known = client.request("POST", "/auth", "a", &fields, b"SECRET-body").await?;
        assert_eq!(known.status, 200);
        assert!(own.iter().all(|name| known.header(name).is_some()), "{known:?}");
        let (status, next) = match round % 3 {
            0 => (200, client.get("/open", "a", &[]).await?),
            1 => (404, client.get("/nowhere", "a", &[]).await?),
            _ => (401, client.get("/auth", "a", &[]).await?),
        };
        assert_eq!(next.status, status);
        let text = format!("{:?} {} {:?}", next.headers, next.text(), next.interim);
        assert!(secrets(&text).is_empty() && !text.contains("alice"), "{text}");
        assert_eq!((next.header("x-own"), next.header("set-cookie"), next.interim.len()), (None, None, 0));
        if status != 401 {
            assert!(own.iter().all(|name| next.header(name).is_none()), "{next:?}");
        }
    }
    Ok(())
}
