//! Request trailers are dropped, except those that a setting names; response trailers are forwarded, except fields that
//! belong in a head.

use anyhow::{Result, ensure};
use cardinal_testkit::{EchoServer, H1Client, H2Client, ScriptedPeer, Step, World};
use serde_json::{Value, json};

use crate::plugins;
use crate::scene::{file, sent, sent_all, service_of};

/// Fields from which a backend derives the client, the host and the origin of a request; and fields for credentials.
const BELIEVED: [&str; 36] = [
    "X-Consumer-Username",
    "X-Consumer-ID",
    "X-Consumer-Custom-ID",
    "X-Consumer-Groups",
    "X_Consumer_Username",
    "X-Credential-Identifier",
    "X-Anonymous-Consumer",
    "X-Authenticated-Groups",
    "X-Kong-Request-Id",
    "Kong-Debug",
    "apikey",
    "api-key",
    "X-Door",
    "Remote-User",
    "ssl-client-cert",
    "X-SSL-Client-Verify",
    "x-jwt-claims",
    "X-Auth-Token",
    "Authorization",
    "Proxy-Authorization",
    "Cookie",
    "Host",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Anything",
    "X-Real-IP",
    "X_Real_IP",
    "Via",
    "Content-Length",
    "Content-Type",
    "Transfer_Encoding",
    "TE",
    "Trailer",
    "Range",
    "If-Match",
];

fn world(url: &str, tags: &Value, settings: &[(&str, &str)]) -> Result<World> {
    let auth =
        json!([{ "name": "key-auth", "config": { "key_names": ["apikey", "x_door"], "hide_credentials": true } }]);
    let service = service_of(url, json!({ "tags": tags, "plugins": auth }), json!({}));
    let consumer = json!({ "username": "bob", "keyauth_credentials": [{ "key": "secret" }] });
    World::start(plugins(), &file(json!({ "services": [service], "consumers": [consumer] })), settings)
}

/// Sends a body with these trailers over HTTP/1.1 and HTTP/2; returns the requests received by the backend.
async fn sent_with(world: &World, trailers: &[(&str, &str)]) -> Result<[Value; 2]> {
    let lines: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut h1 = H1Client::connect(world.http()).await?;
    h1.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\napikey: secret\r\nTrailer: X-Checksum\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n{lines}\r\n"
    ))
    .await?;
    let one = h1.response().await?.json();
    let mut h2 = H2Client::connect(world.http()).await?;
    let mut exchange = h2.open("POST", "a", "/", &[("apikey", "secret"), ("trailer", "x-checksum")], false).await?;
    exchange.send(b"hello", false).await?;
    let lower: Vec<(String, &str)> = trailers.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
    let lower: Vec<(&str, &str)> = lower
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .filter(|(name, _)| !matches!(*name, "te" | "content-length"))
        .collect();
    exchange.send_trailers(&lower)?;
    Ok([one, exchange.response().await?.json()])
}

#[tokio::test]
async fn trailers_of_requests_are_dropped() -> Result<()> {
    let echo = EchoServer::start("e").await;
    for tags in [json!([]), json!(["upstream-http2"])] {
        let world = world(&echo.url(), &tags, &[])?;
        let trailers: Vec<(&str, &str)> =
            BELIEVED.iter().map(|name| (*name, "root")).chain([("X-Checksum", "1")]).collect();
        for seen in sent_with(&world, &trailers).await? {
            ensure!(seen["trailers"] == json!([]) && seen["body"]["text"] == "hello", "{seen}");
            ensure!(sent(&seen, "x-consumer-username") == "bob" && sent_all(&seen, "trailer").is_empty(), "{seen}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_setting_names_trailers_that_pass() -> Result<()> {
    let echo = EchoServer::start("e").await;
    // This route's credentials are in `x-door`, so it is not accepted as a trailer there.
    let settings = [("request_trailers", "X-Checksum, x-other, x-door")];
    for tags in [json!([]), json!(["upstream-http2"])] {
        let world = world(&echo.url(), &tags, &settings)?;
        let trailers: Vec<(&str, &str)> =
            BELIEVED.iter().map(|name| (*name, "root")).chain([("X-Checksum", "1"), ("X-Free", "2")]).collect();
        for seen in sent_with(&world, &trailers).await? {
            let passed = seen["trailers"].to_string().to_ascii_lowercase();
            ensure!(passed == r#"[["x-checksum","1"]]"#, "{passed}");
            ensure!(sent(&seen, "x-consumer-username") == "bob", "{seen}");
            ensure!(sent(&seen, "trailer").eq_ignore_ascii_case("x-checksum"), "{seen}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn trailers_of_responses_pass_without_what_belongs_in_a_head() -> Result<()> {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nSet-Cookie: a=1\r\n\
        Content-Length: 50\r\nTransfer-Encoding: chunked\r\nLocation: /x\r\nset_cookie: b=2\r\nConnection: close\r\n\
        Access-Control-Allow-Origin: *\r\nX-Accel-Redirect: /secret\r\nWWW-Authenticate: Basic\r\n\
        grpc-status: 0\r\nX-Checksum: 1\r\n\r\n";
    let peer = ScriptedPeer::start(vec![vec![[Step::until("\r\n\r\n"), Step::send(answer)]; 2].concat()]).await;
    let world = World::start(
        plugins(),
        &file(json!({ "services": [service_of(&format!("http://{}", peer.address()), json!({}), json!({}))] })),
        &[],
    )?;
    let one = H1Client::connect(world.http()).await?.get("/", "a", &[("TE", "trailers")]).await?;
    let two = H2Client::connect(world.http()).await?.request("GET", "a", "/", &[("te", "trailers")], b"").await?;
    for response in [one, two] {
        ensure!(response.text() == "ok", "{response:?}");
        let mut names: Vec<String> = response.trailers.0.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort();
        ensure!(names == ["grpc-status", "x-checksum"], "{names:?}");
    }
    Ok(())
}
