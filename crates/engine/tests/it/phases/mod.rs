//! Phases of TLS handshakes, and phases between the request head and the response: request body chunks, attempts, and
//! response heads for which a filter waits or replies.

mod attempts;
mod certificates;
mod request_body;
mod response_head;

use std::sync::Arc;

use anyhow::{Result, bail};
use cardinal_http::Name;
use cardinal_schema::{field, record, string};
use cardinal_sdk::{
    AttemptCx, BodyCx, BodyMode, BuildError, Chunk, ChunkAccess, FailureMode, Filter, FilterDecision, FilterStep, Flow,
    HTTP_PROTOCOLS, HeadCx, Phases, PluginDef, Reply, RequestBodyCx, ResponseCx, Scopes,
};
use cardinal_testkit::{H1Client, H2Client, Response, World};
use serde_json::{Value, json};
use tokio::task::yield_now;

use crate::scene::one;

/// Behaves as configured by its parameter `does`.
static PROBE: PluginDef = PluginDef {
    name: "probe",
    summary: "Does what a test wants.",
    priority: 900,
    schema: || record([field("does", string().required())]),
    entities: &[],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: |params, _| build(params),
    lower: None,
};

/// Reports the response it has seen in `X-Status` and `X-Source`; after [`PROBE`] in the order.
static WITNESS: PluginDef =
    PluginDef { name: "witness", priority: 100, build: |_, _| Ok(Arc::new(Witness)), ..copy_of_probe() };

const fn copy_of_probe() -> PluginDef {
    PluginDef {
        name: "",
        summary: "Tells what it has seen.",
        priority: 0,
        schema: || record([field("does", string())]),
        entities: &[],
        scopes: Scopes::ALL,
        protocols: HTTP_PROTOCOLS,
        failure: FailureMode::Closed,
        build: |_, _| Ok(Arc::new(Witness)),
        lower: None,
    }
}

const PLUGINS: &[&PluginDef] = &[&PROBE, &WITNESS];

struct Witness;

impl Filter for Witness {
    fn phases(&self) -> Phases {
        Phases::RESPONSE
    }

    fn on_response_head<'a>(&'a self, cx: &'a mut ResponseCx<'_>) -> FilterStep<'a> {
        let (status, source) = (cx.response.status.to_string(), format!("{:?}", cx.source()));
        cx.response.headers.set(b"X-Status", status.as_bytes());
        cx.response.headers.set(b"X-Source", source.as_bytes());
        FilterStep::Continue
    }
}

struct Probe(String);

fn build(params: &Value) -> Result<Arc<dyn Filter>, BuildError> {
    Ok(Arc::new(Probe(params["does"].as_str().unwrap_or_default().to_owned())))
}

/// The request body seen by the filter.
#[derive(Default)]
struct Seen {
    bytes: usize,
    parts: usize,
    ends: usize,
    held: Vec<u8>,
}

impl Filter for Probe {
    fn phases(&self) -> Phases {
        if self.0.starts_with("sign") {
            return Phases::ATTEMPT;
        }
        let of_request = Phases::REQUEST.and(Phases::REQUEST_BODY);
        of_request.and(Phases::ATTEMPT).and(Phases::RESPONSE).and(Phases::RESPONSE_BODY)
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        let access = match &*self.0 {
            "count" | "cheat" => ChunkAccess::Read,
            "upper" | "collect" | "stop" | "fail-chunk" => ChunkAccess::Change,
            _ => ChunkAccess::None,
        };
        cx.want_body_chunks(access);
        cx.set_state(Seen::default());
        Flow::Continue
    }

    fn on_request_body(&self, cx: &mut RequestBodyCx<'_>, chunk: &mut Chunk) -> FilterDecision {
        let seen = cx.state::<Seen>().expect("the request phase was here");
        assert_eq!(seen.ends, 0, "nothing comes after the last part");
        seen.bytes += chunk.data.len();
        seen.parts += 1;
        seen.ends += usize::from(chunk.last);
        match &*self.0 {
            "upper" => chunk.data = chunk.data.to_ascii_uppercase().into(),
            "collect" => {
                seen.held.extend_from_slice(&chunk.data);
                chunk.data = if chunk.last { [&*seen.held, b"!"].concat().into() } else { "".into() };
            }
            "cheat" if !chunk.data.is_empty() => chunk.data = "other".into(),
            "stop" if chunk.data.windows(3).any(|w| w == b"bad") => {
                return FilterDecision::reply(Reply::message(422, "bad"));
            }
            "fail-chunk" => return FilterDecision::Fail("on purpose".to_owned()),
            _ => {}
        }
        FilterDecision::Continue
    }

    fn on_attempt<'a>(&'a self, cx: &'a mut AttemptCx<'_>) -> FilterStep<'a> {
        let text = format!("{} {} {}", cx.number, cx.endpoint, cx.host);
        let only_first = cx.number == 1;
        match &*self.0 {
            "sign" => {
                cx.headers.set(b"X-Attempt", text.as_bytes());
                cx.headers.set(b"X-Old", b"new");
                cx.headers.set(b"Content-Length", b"999");
                cx.headers.set(b"Host", b"evil");
                if only_first {
                    cx.headers.set(b"X-First", b"1");
                }
            }
            "sign-later" => {
                return FilterStep::Wait(Box::pin(async move {
                    yield_now().await;
                    cx.headers.set(b"X-Attempt", text.as_bytes());
                    FilterDecision::Continue
                }));
            }
            "attempt-reply" => return FilterStep::reply(Reply::message(402, "pay first")),
            "attempt-fail" => return FilterStep::Fail("no key".to_owned()),
            "attempt-never" => return FilterStep::Wait(Box::pin(std::future::pending())),
            _ => {}
        }
        FilterStep::Continue
    }

    fn on_response_head<'a>(&'a self, cx: &'a mut ResponseCx<'_>) -> FilterStep<'a> {
        if let Some(seen) = cx.state::<Seen>() {
            let text = format!("{} {}", seen.bytes, seen.ends);
            cx.response.headers.set(b"X-Seen", text.as_bytes());
        }
        let reply = || Reply::message(403, "not for you").with_header("X-Reply", "1");
        match &*self.0 {
            "response-later" => FilterStep::Wait(Box::pin(async move {
                yield_now().await;
                cx.response.headers.set(b"X-Later", b"1");
                cx.response.headers.remove_known(Name::ContentLength);
                cx.want_body(BodyMode::Chunks);
                FilterDecision::Continue
            })),
            "response-reply" if cx.response.status != 403 => FilterStep::reply(reply()),
            "response-reply-later" => FilterStep::Wait(Box::pin(async move {
                yield_now().await;
                FilterDecision::reply(reply())
            })),
            "response-fail" => FilterStep::Fail("on purpose".to_owned()),
            "response-never" => FilterStep::Wait(Box::pin(std::future::pending())),
            "response-odd" => FilterStep::reply(Reply::new(101)),
            _ => FilterStep::Continue,
        }
    }

    fn on_response_body(&self, _: &mut BodyCx<'_>, chunk: &mut Chunk) {
        if self.0 == "response-later" && chunk.last {
            chunk.data = [&*chunk.data, b"+"].concat().into();
        }
    }
}

/// A world with a service at `url` whose route has a probe.
fn world(url: &str, does: &str, service: Value) -> Result<World> {
    let plugins = json!([{ "name": "probe", "config": { "does": does } }, { "name": "witness" }]);
    World::start(PLUGINS, &one(url, service, json!({ "plugins": plugins })), &[])
}

/// Sends a request over HTTP/1.1 and over HTTP/2.
async fn both(world: &World, method: &str, body: &[u8]) -> Result<[Response; 2]> {
    let h1 = H1Client::connect(world.http()).await?.request(method, "/", "a", &[("X-Old", "old")], body).await?;
    let h2 = H2Client::connect(world.http()).await?.request(method, "a", "/", &[("x-old", "old")], body).await?;
    Ok([h1, h2])
}

/// A client that sends its request body in parts.
enum Sender {
    H1(H1Client),
    H2 { stream: cardinal_testkit::H2Exchange, _connection: H2Client },
}

impl Sender {
    async fn start(world: &World, h2: bool, method: &str) -> Result<Self> {
        if h2 {
            let mut client = H2Client::connect(world.http()).await?;
            let stream = client.open(method, "a", "/", &[], false).await?;
            return Ok(Self::H2 { stream, _connection: client });
        }
        let mut client = H1Client::connect(world.http()).await?;
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")).await?;
        Ok(Self::H1(client))
    }

    async fn part(&mut self, text: &str) -> Result<()> {
        match self {
            Self::H1(client) => client.send(format!("{:x}\r\n{text}\r\n", text.len())).await,
            Self::H2 { stream, .. } => stream.send(text.as_bytes(), false).await,
        }
    }

    async fn end(&mut self) -> Result<()> {
        match self {
            Self::H1(client) => client.send("0\r\n\r\n").await,
            Self::H2 { stream, .. } => stream.send(b"", true).await,
        }
    }

    async fn response(&mut self) -> Result<Response> {
        match self {
            Self::H1(client) => client.response().await,
            Self::H2 { stream, .. } => stream.response().await,
        }
    }
}

/// The failures counted by the node.
fn failures(world: &World) -> Vec<(&'static str, u64)> {
    let all = world.engine().totals().failures.into_iter().map(|(kind, count)| (kind.label(), count));
    all.filter(|(_, count)| *count > 0).collect()
}

/// Waits until this kind of failure was counted this often, and no other kind.
async fn only_failed(world: &World, label: &'static str, count: u64) -> Result<()> {
    if crate::scene::eventually(|| failures(world) == [(label, count)]).await {
        return Ok(());
    }
    bail!("{:?}", failures(world))
}
