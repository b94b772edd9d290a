//! hmac-auth: signed requests of HTTP/1.1 and HTTP/2 clients, with bodies, on a clock that stands still.

use std::sync::Arc;

use anyhow::Result;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cardinal_base::{ManualClock, UnixMillis};
use cardinal_engine::Options;
use cardinal_testkit::{EchoServer, H1Client, World};
use serde_json::{Value, json};

use super::{Stage, told};
use crate::plugins;

const NOW: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
const NOT_VERIFIABLE: &str = "401 HMAC signature cannot be verified";
const NOT_EQUAL: &str = "401 HMAC signature does not match";

async fn stage(service_plugins: Value) -> Result<Stage> {
    let echo = EchoServer::start("e").await;
    let more = json!({"consumers": [
        {"username": "alice", "custom_id": "c-alice", "keyauth_credentials": [{"key": "ka"}],
            "hmacauth_credentials": [{"username": "alice-signs", "secret": "hush"}]},
        {"username": "guest"}
    ]});
    let options =
        Options { clock: Some(Arc::new(ManualClock::at(UnixMillis(1_700_000_000_000)))), ..Options::default() };
    let world = World::start_with(plugins(), &super::file(&echo.url(), service_plugins, more), &[], options)?;
    let client = H1Client::connect(world.http()).await?;
    Ok(Stage { echo, world, client })
}

/// The header of a client that signs `text`, which the names of `list` stand for.
fn signed(algorithm: &str, list: &str, text: &str) -> String {
    let with = match algorithm {
        "hmac-sha1" => HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        "hmac-sha512" => HMAC_SHA512,
        _ => HMAC_SHA256,
    };
    let signature = STANDARD.encode(hmac::sign(&hmac::Key::new(with, b"hush"), text.as_bytes()));
    format!("hmac username=\"alice-signs\", algorithm=\"{algorithm}\", headers=\"{list}\", signature=\"{signature}\"")
}

#[tokio::test]
async fn signed_requests_are_served() -> Result<()> {
    let config = json!({"enforce_headers": ["date", "@request-target"], "hide_credentials": true});
    let mut stage = stage(json!([{"name": "hmac-auth", "config": config}])).await?;
    let refused = stage.get("/", &[("Date", NOW)]).await?;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("hmac")));
    assert_eq!(refused.json()["message"], "Unauthorized");
    let target = "/a/%7Eb//c?x=1&y=%20";
    let text = format!("date: {NOW}\nhost: a.test\n@request-target: get {target}");
    for algorithm in ["hmac-sha1", "hmac-sha256", "hmac-sha512"] {
        let value = signed(algorithm, "date host @request-target", &text);
        let fields = [("Date", NOW), ("Authorization", &value), ("X-Consumer-Username", "root")];
        let report = stage.get(target, &fields).await?.json();
        assert_eq!(report["target"], "/a/~b/c?x=1&y=%20", "signed is what the client sent, not what goes upstream");
        assert_eq!(told(&report, "x-consumer-username"), ["alice"]);
        assert_eq!(told(&report, "x-consumer-custom-id"), ["c-alice"]);
        assert_eq!(told(&report, "x-credential-identifier"), ["alice-signs"]);
        assert!(told(&report, "authorization").is_empty(), "{report}");
        assert_eq!(stage.said("/a", &fields).await?, NOT_EQUAL);
        assert_eq!(stage.said(target, &[("X-Date", NOW), fields[1]]).await?, NOT_EQUAL);
    }
    let value = signed("hmac-sha256", "date", &format!("date: {NOW}"));
    assert_eq!(stage.said("/", &[("Date", NOW), ("Authorization", &value)]).await?, NOT_VERIFIABLE);
    let old = "Tue, 14 Nov 2023 22:08:19 GMT";
    let said = stage.said("/", &[("Date", old), ("Authorization", &value)]).await?;
    assert!(said.ends_with("a valid date or x-date header is required for HMAC Authentication"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_version_is_part_of_a_request_line() -> Result<()> {
    let mut stage = stage(json!([{"name": "hmac-auth"}])).await?;
    for (version, status) in [("1.1", 200), ("1.0", 401)] {
        let value = signed("hmac-sha256", "request-line", &format!("GET /x HTTP/{version}"));
        let response = stage.get("/x", &[("Date", NOW), ("Authorization", &value)]).await?;
        assert_eq!(response.status, status, "{version}");
    }
    let mut client = stage.h2().await?;
    let text = format!("date: {NOW}\nhost: a.test\nPOST /x?y HTTP/2.0\n@request-target: post /x?y");
    let value = signed("hmac-sha256", "date host request-line @request-target", &text);
    let fields = [("date", NOW), ("authorization", value.as_str())];
    let response = client.request("POST", "a.test", "/x?y", &fields, b"body").await?;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(client.request("POST", "b.test", "/x?y", &fields, b"body").await?.status, 401);
    Ok(())
}

#[tokio::test]
async fn bodies_are_compared_with_their_digest() -> Result<()> {
    let config = json!({"enforce_headers": ["date", "digest"], "validate_request_body": true});
    let mut stage = stage(json!([{"name": "hmac-auth", "config": config}])).await?;
    let long = "0123456789abcdef".repeat(20_000);
    for body in ["{\"a\":1}", &long, ""] {
        let of_body = format!("SHA-256={}", STANDARD.encode(digest(&SHA256, body.as_bytes())));
        let text = format!("date: {NOW}\ndigest: {of_body}");
        let value = signed("hmac-sha256", "date digest", &text);
        let fields = [("Date", NOW), ("Digest", of_body.as_str()), ("Authorization", &value)];
        let response = stage.client.request("POST", "/", "a.test", &fields, body.as_bytes()).await?;
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.json()["body"]["bytes"], body.len(), "the body passes unchanged");
        let response = stage.client.request("POST", "/", "a.test", &fields, format!("{body}x").as_bytes()).await?;
        assert_eq!((response.status, &response.json()["message"]), (401, &json!("HMAC signature does not match")));
        // The same from a client that does not say how long the body is.
        let chunk = if body.is_empty() { String::new() } else { format!("{:x}\r\n{body}\r\n", body.len()) };
        let head =
            format!("POST / HTTP/1.1\r\nHost: a.test\r\nDate: {NOW}\r\nDigest: {of_body}\r\nAuthorization: {value}");
        stage.client.send(format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n")).await?;
        assert_eq!(stage.client.response().await?.status, 200);
    }
    let value = signed("hmac-sha256", "date digest", &format!("date: {NOW}\ndigest:"));
    let fields = [("Date", NOW), ("Authorization", value.as_str())];
    assert_eq!(stage.said("/", &fields).await?, "200", "no body needs no digest");
    let response = stage.client.request("POST", "/", "a.test", &fields, b"x").await?;
    assert_eq!(response.status, 401);
    Ok(())
}

#[tokio::test]
async fn with_other_authentication_plugins() -> Result<()> {
    let either = json!([
        {"name": "key-auth", "config": {"anonymous": "guest"}},
        {"name": "hmac-auth", "config": {"anonymous": "guest"}}
    ]);
    let mut either = stage(either).await?;
    let both = json!([{"name": "key-auth"}, {"name": "hmac-auth"}]);
    let mut both = stage(both).await?;
    let value = signed("hmac-sha256", "date", &format!("date: {NOW}"));
    let (date, key) = (("Date", NOW), ("apikey", "ka"));
    let (good, bad) = (("Authorization", value.as_str()), ("Authorization", "hmac x"));
    for (fields, user, said) in [
        (vec![date, good, key], "alice", "200"),
        (vec![key], "alice", "401 Unauthorized"),
        (vec![date, good], "alice", "401 No API key found in request"),
        (vec![date, bad, key], "alice", NOT_VERIFIABLE),
        (vec![date, bad], "guest", "401 No API key found in request"),
        (vec![], "guest", "401 No API key found in request"),
    ] {
        let report = either.get("/", &fields).await?.json();
        assert_eq!(told(&report, "x-consumer-username"), [user], "{fields:?}");
        let is_guest = !told(&report, "x-anonymous-consumer").is_empty();
        assert_eq!(is_guest, user == "guest", "{fields:?}");
        assert_eq!(both.said("/", &fields).await?, said, "{fields:?}");
    }
    Ok(())
}

#[tokio::test]
async fn headers_that_are_hostile_are_refused() -> Result<()> {
    let mut stage = stage(json!([{"name": "hmac-auth"}])).await?;
    let many = (0..1_000).map(|n| format!("p{n}=\"v\", ")).collect::<String>();
    let start = "hmac username=\"alice-signs\", algorithm=\"hmac-sha256\", headers=\"";
    for value in [
        b"hmac username=\"\xff\", algorithm=\"hmac-sha256\", headers=\"\xfe\", signature=\"\xfd\"".to_vec(),
        b"hmac username=\"".to_vec(),
        [b"hmac username=\"".as_slice(), &b"\"".repeat(10_000)].concat(),
        format!("hmac username=\"u\", {many}signature=\"x\"").into_bytes(),
        format!("{start}{}\", signature=\"AAAA\"", "date ".repeat(2_000)).into_bytes(),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nDate: {NOW}\r\nAuthorization: ");
        stage.client.send([head.as_bytes(), &value, b"\r\n\r\n"].concat()).await?;
        let response = stage.client.response().await?;
        assert_eq!((response.status, &response.json()["message"]), (401, &json!(&NOT_VERIFIABLE[4..])));
    }
    assert_eq!(stage.echo.requests(), 0);
    Ok(())
}
