//! Local replies to gRPC clients: `grpc-status` and `grpc-message` (as in Kong).

use anyhow::{Context as _, Result};
use cardinal_testkit::{EchoServer, H1Client, H2Client, Response, ScriptedPeer, Step, World, frame, free_port};
use serde_json::{Value, json};

use crate::plugins;
use crate::scene::{balanced, file, merged, one, service_of};

const FIELDS: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

fn grpc(url: &str, service: Value) -> String {
    one(
        url,
        merged(json!({ "retries": 0 }), service),
        json!({ "paths": ["/pkg."], "protocols": ["grpc"], "strip_path": false }),
    )
}

async fn call(world: &World, path: &str, more: &[(&str, &str)]) -> Result<Response> {
    let mut client = H2Client::connect(world.http()).await?;
    client.request("POST", "a", path, &[&FIELDS, more].concat(), &frame(b"hello")).await
}

fn told(response: &Response) -> (u16, &str, &str) {
    let field = |name| response.header(name).unwrap_or_default();
    (response.status, field("grpc-status"), field("grpc-message"))
}

#[tokio::test]
async fn failures_have_the_status_and_the_text_of_kong() -> Result<()> {
    let closed = format!("grpc://127.0.0.1:{}", free_port());
    let silent = ScriptedPeer::start(vec![vec![Step::Drain], vec![Step::Drain]]).await;
    let silent_url = format!("grpc://{}", silent.address());
    let http1 = ScriptedPeer::start(vec![vec![Step::send("HTTP/1.1 400 Bad Request\r\n\r\n")]]).await;
    let http1 = format!("grpc://{}", http1.address());
    let echo = EchoServer::start("g").await;
    let up = echo.url().replace("http:", "grpc:");
    let none = balanced(
        &[],
        json!({}),
        json!({ "protocol": "grpc", "routes": [{ "name": "r", "protocols": ["grpc"], "paths": ["/pkg."] }] }),
    );
    let no_service = file(json!({ "routes": [{ "name": "r", "protocols": ["grpc"], "paths": ["/pkg."] }] }));
    let large = "x".repeat(40_000);
    let invalid = "An invalid response was received from the upstream server";
    let late = "The upstream server is timing out";
    for (name, yaml, settings, path, more, expect) in [
        ("down", grpc(&closed, json!({})), &[][..], "/pkg.S/M", &[][..], (502, "13", invalid)),
        ("HTTP/1.1", grpc(&http1, json!({})), &[], "/pkg.S/M", &[], (502, "13", invalid)),
        ("silent", grpc(&silent_url, json!({ "read_timeout": 100 })), &[], "/pkg.S/M", &[], (504, "4", late)),
        ("no route", grpc(&closed, json!({})), &[], "/other", &[], (404, "5", "NotFound")),
        ("no targets", none, &[], "/pkg.S/M", &[], (503, "14", "Unavailable")),
        ("no service", no_service, &[], "/pkg.S/M", &[], (503, "14", "Unavailable")),
        ("no name", grpc("grpc://no-such.invalid:1", json!({})), &[], "/pkg.S/M", &[], (503, "14", "Unavailable")),
        (
            // An upstream may respond to a streamed request before the limit is reached; this one never does.
            "body too large",
            grpc(&silent_url, json!({})),
            &[("client_max_body_size", "4")],
            "/pkg.S/M",
            &[],
            (413, "3", "Payload too large"),
        ),
        (
            "head too large",
            grpc(&up, json!({})),
            &[],
            "/pkg.S/M",
            &[("x", large.as_str())],
            (400, "3", "Request header or cookie too large"),
        ),
        ("path above the root", grpc(&up, json!({})), &[], "/../x", &[], (400, "3", "Bad request")),
    ] {
        let world = World::start(plugins(), &yaml, settings).context(name)?;
        let response = call(&world, path, more).await.context(name)?;
        assert_eq!(told(&response), expect, "{name}");
        assert_eq!(response.header("content-type"), Some("application/grpc"), "{name}");
        assert!(response.body.is_empty(), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn replies_of_plugins_have_their_text_or_the_name_of_the_status() -> Result<()> {
    // No response is sent before a limit of the body is reached.
    let silent = ScriptedPeer::start(vec![vec![Step::Drain]]).await;
    let up = format!("grpc://{}", silent.address());
    let stop = |status: u16, message: &str| json!({"name": "request-termination", "config": {"status_code": status, "message": message}});
    for (plugin, expect) in [
        (json!({"name": "key-auth"}), (401, "16", "Unauthenticated")),
        (json!({"name": "basic-auth"}), (401, "16", "Unauthenticated")),
        (json!({"name": "jwt"}), (401, "16", "Unauthorized")),
        (json!({"name": "ip-restriction", "config": {"deny": ["127.0.0.1"]}}), (403, "7", "PermissionDenied")),
        (
            json!({"name": "request-size-limiting", "config": {"allowed_payload_size": 1, "size_unit": "bytes"}}),
            (413, "3", "InvalidArgument"),
        ),
        (stop(400, "bad"), (400, "3", "bad")),
        (stop(401, "who"), (401, "16", "who")),
        (stop(403, "no"), (403, "7", "no")),
        (stop(404, "where"), (404, "5", "where")),
        (stop(409, "again"), (409, "6", "again")),
        (stop(413, "large"), (413, "3", "large")),
        (stop(418, "tea"), (418, "3", "tea")),
        (stop(426, "new"), (426, "3", "new")),
        (stop(429, "slow down"), (429, "8", "slow down")),
        (stop(499, "gone"), (499, "1", "gone")),
        (stop(500, "oops"), (500, "13", "oops")),
        (stop(501, "what"), (501, "12", "what")),
        (stop(502, "bad"), (502, "13", "bad")),
        (stop(503, "50% off, naïve\u{1f600}"), (503, "14", "50%25 off, na%C3%AFve%F0%9F%98%80")),
        (stop(504, "late"), (504, "4", "late")),
        (stop(599, "odd"), (599, "13", "odd")),
    ] {
        let world = World::start(plugins(), &grpc(&up, json!({ "plugins": [plugin] })), &[])?;
        let response = call(&world, "/pkg.S/M", &[]).await.with_context(|| plugin.to_string())?;
        assert_eq!(told(&response), expect, "{plugin}");
        assert!(response.body.is_empty(), "{plugin}");
    }
    Ok(())
}

/// Other content types, and HTTP/1.1, receive HTTP responses.
#[tokio::test]
async fn what_is_no_grpc_call_gets_no_grpc_status() -> Result<()> {
    let yaml = file(json!({ "services": [service_of(
        &format!("http://127.0.0.1:{}", free_port()), json!({ "retries": 0 }), json!({}),
    )] }));
    let world = World::start(plugins(), &yaml, &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    let plain = client.request("POST", "a", "/", &[("content-type", "application/json")], b"{}").await?;
    assert_eq!((plain.status, plain.header("grpc-status")), (502, None));
    let mut client = H1Client::connect(world.http()).await?;
    let old = client.request("POST", "/", "a", &[FIELDS[0], ("Accept", "application/json")], b"x").await?;
    assert_eq!((old.status, old.header("grpc-status")), (502, None));
    assert_eq!(old.json()["message"], "An invalid response was received from the upstream server");
    Ok(())
}
