//! `Content-Length`: exactly one, for the body sent or the body of a GET response; none if no body is possible.

use anyhow::{Result, ensure};
use cardinal_testkit::{EchoServer, H1Client, H2Client, Response, ScriptedPeer, Step, World};
use serde_json::{Value, json};

use crate::plugins;
use crate::scene::{file, merged, one, service_of};

/// The responses that a client of each HTTP version receives for an upstream response.
async fn answered(method: &str, answer: &str) -> Result<[Response; 2]> {
    let play = [Step::until("\r\n\r\n"), Step::send(answer)];
    let peer = ScriptedPeer::start(vec![vec![play; 2].concat()]).await;
    let url = format!("http://{}", peer.address());
    let world = World::start(plugins(), &one(&url, json!({ "retries": 0 }), json!({})), &[])?;
    let mut h1 = H1Client::connect(world.http()).await?;
    let first = h1.request(method, "/", "a", &[], b"").await?;
    let second = H2Client::connect(world.http()).await?.request(method, "a", "/", &[], b"").await?;
    Ok([first, second])
}

fn lengths(response: &Response) -> Vec<&str> {
    response.headers.all("content-length").collect()
}

#[tokio::test]
async fn upstreams_lengths_are_made_one_or_none() -> Result<()> {
    let none: [&str; 0] = [];
    for (method, answer, status, expect) in [
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, none.as_slice()),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", 204, &none),
        ("HEAD", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", 204, &none),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nbody", 204, &none),
        ("GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 204, &none),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, &["9"]),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nContent-Length: 9\r\n\r\n", 304, &["9"]),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 200, &["9"]),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: 9\r\n\r\n", 200, &["9"]),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9, 9\r\n\r\n", 200, &["9"]),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nContent-Length: 9\r\n\r\n", 502, &[]),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", 200, &none),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200, &["2"]),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\ncontent-length: 2\r\n\r\nok", 200, &["2"]),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", 200, &["2"]),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 02\r\n\r\nok", 200, &["2"]),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 200, &["0"]),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", 502, &[]),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!", 502, &[]),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 2, 3\r\n\r\n", 502, &[]),
    ] {
        for response in answered(method, answer).await? {
            ensure!(response.status == status, "{method} {answer:?}: {response:?}");
            if status != 502 {
                ensure!(lengths(&response) == expect, "{method} {answer:?}: {response:?}");
            }
        }
    }
    let interim = "HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nLink: </x>\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for response in answered("GET", interim).await? {
        ensure!(response.text() == "ok", "{response:?}");
        for (_, fields) in &response.interim {
            let names: Vec<&str> = fields.0.iter().map(|(name, _)| name.as_str()).collect();
            ensure!(names.iter().all(|name| name.eq_ignore_ascii_case("link")), "{names:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn equal_lengths_of_requests_are_made_one() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &one(&echo.url(), json!({}), json!({})), &[])?;
    for (fields, status) in [
        ("Content-Length: 2\r\nContent-Length: 2", 200),
        ("Content-Length: 2, 2", 200),
        ("Content-Length: 2\r\nContent-Length: 3", 400),
        ("Content-Length: 2, 3", 400),
    ] {
        let mut client = H1Client::connect(world.http()).await?;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\nok")).await?;
        let response = client.response().await?;
        ensure!(response.status == status, "{fields:?}: {}", response.status);
        if status == 200 {
            let seen = response.json();
            ensure!(crate::scene::sent_all(&seen, "content-length") == ["2"], "{fields:?}: {seen}");
        }
    }
    Ok(())
}

/// Routes with local replies, and with an upstream.
fn routes(url: &str) -> String {
    let route = |path: &str, plugins: Value| json!({ "name": path[1..], "paths": [path], "plugins": plugins });
    let terminated = |config: Value| json!([{ "name": "request-termination", "config": config }]);
    let routes = json!([
        route("/key", json!([{ "name": "key-auth" }])),
        route("/basic", json!([{ "name": "basic-auth" }])),
        route("/hmac", json!([{ "name": "hmac-auth" }])),
        route("/jwt", json!([{ "name": "jwt" }])),
        route("/ip", json!([{ "name": "ip-restriction", "config": { "allow": ["10.0.0.1"] } }])),
        route("/gone", terminated(json!({ "status_code": 410, "message": "gone for good" }))),
        route("/page", terminated(json!({ "status_code": 200, "body": "<p>hello</p>", "content_type": "text/html" }))),
        route("/bare", terminated(json!({ "status_code": 418 }))),
        route("/204", terminated(json!({ "status_code": 204 }))),
        route("/304", terminated(json!({ "status_code": 304 }))),
        route("/echo", terminated(json!({ "echo": true }))),
    ]);
    let mut refused =
        service_of("http://127.0.0.1:1", json!({ "retries": 0 }), json!({ "name": "r2", "paths": ["/down"] }));
    refused["name"] = json!("down");
    let service = merged(service_of(url, json!({}), json!({})), json!({ "routes": routes }));
    file(json!({ "services": [service, refused] }))
}

#[tokio::test]
async fn heads_of_own_answers_tell_the_length_of_a_get() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &routes(&echo.url()), &[])?;
    for (path, status) in [
        ("/key", 401),
        ("/basic", 401),
        ("/hmac", 401),
        ("/jwt", 401),
        ("/ip", 403),
        ("/gone", 410),
        ("/page", 200),
        ("/bare", 418),
        ("/nothing", 404),
        ("/down", 502),
        ("/204", 204),
        ("/304", 304),
        ("/../x", 400),
    ] {
        let mut h1 = H1Client::connect(world.http()).await?;
        let mut h2 = H2Client::connect(world.http()).await?;
        let get = [h1.get(path, "a", &[]).await?, h2.request("GET", "a", path, &[], b"").await?];
        let mut h1 = H1Client::connect(world.http()).await?;
        let head = [h1.request("HEAD", path, "a", &[], b"").await?, h2.request("HEAD", "a", path, &[], b"").await?];
        for (get, head) in get.iter().zip(&head) {
            ensure!((get.status, head.status) == (status, status), "{path}: {get:?} {head:?}");
            ensure!(
                head.body.is_empty() && head.header("content-type") == get.header("content-type"),
                "{path}: {head:?}"
            );
            ensure!(lengths(head) == lengths(get), "{path}: {get:?} {head:?}");
            let own = get.body.len().to_string();
            let expect = if matches!(status, 204 | 304) { vec![] } else { vec![own.as_str()] };
            ensure!(lengths(get) == expect, "{path}: {get:?}");
        }
    }
    // If the body contains the request, its length is that of the response to this HEAD.
    let mut client = H1Client::connect(world.http()).await?;
    let head = client.request("HEAD", "/echo", "a", &[], b"").await?;
    ensure!(lengths(&head).len() == 1 && lengths(&head) != ["0"], "{head:?}");
    Ok(())
}

#[tokio::test]
async fn cached_answers_to_head_keep_their_length() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let cache = json!([{ "name": "proxy-cache", "config": {
        "strategy": "memory", "content_type": ["application/json"], "request_method": ["GET", "HEAD"],
        "response_code": [200]
    } }]);
    let world = World::start(plugins(), &one(&echo.url(), json!({ "plugins": cache }), json!({})), &[])?;
    for (target, expect) in [
        ("/?echo=bytes:1000,header:Content-Type=application/json", Some("1000")),
        ("/?echo=bytes:1000,header:Content-Type=application/json,framing:chunked", None),
    ] {
        for method in ["HEAD", "GET"] {
            let mut told = Vec::new();
            for client in 0..4 {
                let response = if client % 2 == 0 {
                    H1Client::connect(world.http()).await?.request(method, target, "a", &[], b"").await?
                } else {
                    H2Client::connect(world.http()).await?.request(method, "a", target, &[], b"").await?
                };
                let status = response.header("x-cache-status").unwrap_or_default().to_owned();
                told.push((status, response.header("content-length").map(str::to_owned), response.body.len()));
            }
            for (at, (status, length, body)) in told.iter().enumerate() {
                ensure!(status == if at == 0 { "Miss" } else { "Hit" }, "{method} {target}: {told:?}");
                if method == "HEAD" {
                    ensure!((length.as_deref(), *body) == (expect, 0), "{method} {target}: {told:?}");
                } else {
                    ensure!(*body == 1000 && length.as_deref().is_none_or(|l| l == "1000"), "{told:?}");
                }
            }
        }
    }
    Ok(())
}

/// A plugin may change the method for the upstream. The client receives a response for its own method: otherwise it
/// would read a body as the next response, or wait for one.
#[tokio::test]
async fn a_changed_method_does_not_change_the_framing_for_the_client() -> Result<()> {
    let echo = EchoServer::start("e").await;
    for (asked, sent) in [("HEAD", "GET"), ("GET", "HEAD"), ("HEAD", "POST"), ("POST", "HEAD"), ("HEAD", "HEAD")] {
        for tags in [json!([]), json!(["upstream-http2"])] {
            let plugins_of = json!([{ "name": "request-transformer", "config": { "http_method": sent } }]);
            let service = json!({ "tags": tags, "plugins": plugins_of });
            let world = World::start(plugins(), &one(&echo.url(), service, json!({})), &[])?;
            let mut h1 = H1Client::connect(world.http()).await?;
            let mut h2 = H2Client::connect(world.http()).await?;
            for behaviour in
                ["bytes:1000", "bytes:1000,framing:chunked", "bytes:1000,framing:close", "status:204,body:empty"]
            {
                let fields = [("x-echo", behaviour)];
                for response in
                    [h1.request(asked, "/", "a", &fields, b"").await?, h2.request(asked, "a", "/", &fields, b"").await?]
                {
                    let what = format!("{asked} as {sent}, {behaviour}: {response:?}");
                    ensure!(response.body.is_empty(), "{what}");
                    let expect = if behaviour.starts_with("status") { 204 } else { 200 };
                    ensure!(response.status == expect && lengths(&response).len() < 2, "{what}");
                    if asked != "HEAD" && expect == 200 {
                        ensure!(response.header("content-length").is_none_or(|length| length == "0"), "{what}");
                    }
                }
            }
        }
    }
    Ok(())
}
