//! Filters that request invalid heads: the request fails, and none of its bytes are sent.

use std::sync::Arc;

use anyhow::{Result, ensure};
use cardinal_http::Method;
use cardinal_schema::{Schema, field, string};
use cardinal_sdk::{
    Filter, FilterStep, Flow, HTTP_PROTOCOLS, HeadCx, Phases, PluginDef, Reply, ReplyBody, ResponseCx, Scopes,
};
use cardinal_testkit::{H1Client, H2Client, ScriptedPeer, Step, World};
use serde_json::json;

use crate::scene::{JSON, one};

/// Modifies a request as configured, even if the head becomes invalid.
struct Rogue(Box<str>);

impl Filter for Rogue {
    fn phases(&self) -> Phases {
        Phases::REQUEST.and(Phases::RESPONSE)
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        match &*self.0 {
            "path" => cx.upstream.path = b"/a HTTP/1.1\r\nX-Injected: 1\r\n\r\nGET /secret".to_vec(),
            "space" => cx.upstream.path = b"/a b".to_vec(),
            "lf" => cx.upstream.path = b"/a\nb".to_vec(),
            "nul" => cx.upstream.path = b"/a\0b".to_vec(),
            "absolute" => cx.upstream.path = b"http://evil/".to_vec(),
            "empty" => cx.upstream.path.clear(),
            "host" => assert!(cx.request.headers.set(b"Host", b"a b/@c")),
            "method" => cx.request.method = Method::Other("GET /secret HTTP/1.1\r\nX: y\r\n\r\nGET".into()),
            "interim" => return Flow::reply(Reply::message(103, "not the end")),
            "status" => return Flow::reply(Reply::message(7, "no status")),
            "fields" => {
                let mut reply = Reply { body: ReplyBody::Bytes("body".into()), ..Reply::new(200) };
                for (name, value) in FRAMING {
                    reply.headers.append(name, value);
                }
                return Flow::reply(reply);
            }
            _ => {
                assert!(!cx.upstream.set_host(b"a\r\nX: y") && cx.upstream.host().is_none());
                assert!(!cx.request.headers.append(b"X-Injected", b"a\r\nX: y"));
                assert!(!cx.request.headers.append(b"X: y\r\nX-Injected", b"a"));
                assert!(!cx.request.headers.set(b"Host", b"a\r\nX: y"));
            }
        }
        Flow::Continue
    }

    fn on_response_head<'a>(&'a self, cx: &'a mut ResponseCx<'_>) -> FilterStep<'a> {
        if &*self.0 == "response" {
            for (name, value) in FRAMING {
                cx.response.headers.append(name, value);
            }
            assert!(!cx.response.headers.append(b"X-Injected", b"a\r\nX: y"));
        }
        FilterStep::Continue
    }
}

const FRAMING: [(&[u8], &[u8]); 6] = [
    (b"Content-Length", b"1"),
    (b"content-length", b"99"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Connection", b"close, X-Free"),
    (b"Keep-Alive", b"timeout=1"),
    (b"Upgrade", b"x"),
];

static ROGUE: PluginDef = PluginDef {
    name: "rogue",
    summary: "Asks for what cannot be sent.",
    priority: 1,
    schema: || Schema::new([field("does", string())]),
    entities: &[],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    failure: cardinal_sdk::FailureMode::Closed,
    build: |config, _| Ok(Arc::new(Rogue(config["does"].as_str().unwrap_or_default().into()))),
    lower: None,
};

static ROGUES: &[&PluginDef] = &[&ROGUE];

fn rogue(url: &str, tags: &serde_json::Value, does: &str) -> Result<World> {
    let plugins = json!([{ "name": "rogue", "config": { "does": does } }]);
    let service = json!({ "tags": tags, "retries": 0, "plugins": plugins });
    let file = one(url, service, json!({ "preserve_host": does == "host" }));
    World::start(ROGUES, &file, &[("status_listen", "127.0.0.1:0")])
}

/// The number of such failures, from the metrics.
async fn unsendable(world: &World) -> Result<u64> {
    let metrics = H1Client::connect(world.status()).await?.get("/metrics", "a", &[]).await?.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("cardinal_failures_total{kind=\"unsendable_head\"} "));
    Ok(line.unwrap_or("0").parse()?)
}

#[tokio::test]
async fn what_cannot_be_in_a_head_fails_the_request() -> Result<()> {
    let peer = ScriptedPeer::start(vec![vec![Step::Drain]]).await;
    let url = format!("http://{}", peer.address());
    for tags in [json!([]), json!(["upstream-http2"])] {
        for does in ["path", "space", "lf", "nul", "absolute", "empty", "host", "method", "interim", "status"] {
            let world = rogue(&url, &tags, does)?;
            let mut h1 = H1Client::connect(world.http()).await?;
            let mut h2 = H2Client::connect(world.http()).await?;
            for count in 1..=2 {
                let response = h1.get("/", "a", &[JSON]).await?;
                ensure!(response.status == 500, "{does}: {}", response.status);
                ensure!(response.json()["message"] == "An unexpected error occurred", "{}", response.text());
                // In HTTP/2, the host is `:authority`, which no filter changes.
                if does != "host" {
                    ensure!(h2.request("GET", "a", "/", &[], b"").await?.status == 500, "{does}");
                }
                let counted = unsendable(&world).await?;
                let each = if does == "host" { 1 } else { 2 };
                ensure!(counted == each * count, "{does}: {counted} failures");
            }
        }
    }
    let received: Vec<String> = peer.received().iter().map(|bytes| bytes.escape_ascii().to_string()).collect();
    ensure!(received.iter().all(|text| !text.contains("/a") && !text.contains("secret")), "{received:?}");
    Ok(())
}

/// A client reads each response to its end, according to the fields.
#[tokio::test]
async fn what_filters_say_about_framing_is_not_sent() -> Result<()> {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ] {
        let play = [Step::until("\r\n\r\n"), Step::send(answer)];
        let peer = ScriptedPeer::start(vec![vec![play; 4].concat()]).await;
        let url = format!("http://{}", peer.address());
        for does in ["response", "fields"] {
            let world = rogue(&url, &json!([]), does)?;
            let mut h1 = H1Client::connect(world.http()).await?;
            let mut h2 = H2Client::connect(world.http()).await?;
            for _ in 0..2 {
                let one = h1.get("/", "a", &[]).await?;
                ensure!(one.text() == "body", "{does} {answer:?}: {one:?}");
                ensure!(one.headers.all("connection").eq(["keep-alive"]), "{does}: {one:?}");
                ensure!(one.header("upgrade").is_none() && one.header("keep-alive").is_none(), "{does}: {one:?}");
                ensure!(h2.request("GET", "a", "/", &[], b"").await?.text() == "body", "{does} {answer:?}");
            }
        }
    }
    Ok(())
}
