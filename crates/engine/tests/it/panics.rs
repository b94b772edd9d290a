//! A plugin that panics, in any phase, affects neither the node nor other traffic.

use std::sync::Arc;

use anyhow::Result;
use cardinal_engine::{ApplyError, EngineError};
use cardinal_schema::{field, record, string};
use cardinal_sdk::{
    Admit, AttemptCx, BodyCx, BodyMode, BuildCx, BuildError, Chunk, ChunkAccess, ConnectCx, FailureMode, Filter,
    FilterDecision, FilterStep, Flow, HeadCx, LogCx, Phases, PluginDef, RequestBodyCx, ResponseCx, Scopes,
};
use cardinal_testkit::{EchoServer, H1Client, ScriptedPeer, Socket, Step, World};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::scene::eventually;

/// Panics in the phase named by its parameter `phase`.
static FRAGILE: PluginDef = PluginDef {
    name: "fragile",
    summary: "Panics.",
    priority: 7,
    schema: || record([field("phase", string().required())]),
    entities: &[],
    scopes: Scopes::ALL,
    protocols: &["http", "https", "tcp", "tls", "udp"],
    failure: FailureMode::Closed,
    build: |params, _: &BuildCx<'_>| build(params),
    lower: None,
};

const PLUGINS: &[&PluginDef] = &[&FRAGILE, &cardinal_plugins_transform::response_transformer::PLUGIN];

struct Fragile(String);

fn build(params: &Value) -> Result<Arc<dyn Filter>, BuildError> {
    let filter = Fragile(params["phase"].as_str().unwrap_or_default().to_owned());
    filter.reach("build");
    Ok(Arc::new(filter))
}

impl Fragile {
    fn reach(&self, phase: &str) {
        assert!(self.0 != phase, "on purpose in {phase}");
    }
}

impl Filter for Fragile {
    fn phases(&self) -> Phases {
        let of_requests = Phases::REQUEST.and(Phases::REQUEST_BODY).and(Phases::ATTEMPT);
        of_requests.and(Phases::RESPONSE).and(Phases::RESPONSE_BODY).and(Phases::LOG).and(Phases::CONNECT)
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        self.reach("request");
        cx.want_body_chunks(ChunkAccess::Read);
        Flow::Continue
    }

    fn on_request_body(&self, _: &mut RequestBodyCx<'_>, _: &mut Chunk) -> FilterDecision {
        self.reach("request-body");
        FilterDecision::Continue
    }

    fn on_attempt<'a>(&'a self, _: &'a mut AttemptCx<'_>) -> FilterStep<'a> {
        self.reach("attempt");
        FilterStep::Continue
    }

    fn on_response_head<'a>(&'a self, cx: &'a mut ResponseCx<'_>) -> FilterStep<'a> {
        self.reach("response");
        cx.want_body(BodyMode::Chunks);
        FilterStep::Wait(Box::pin(async {
            tokio::task::yield_now().await;
            self.reach("response-wait");
            FilterDecision::Continue
        }))
    }

    fn on_response_body(&self, _: &mut BodyCx<'_>, _: &mut Chunk) {
        self.reach("body");
    }

    fn on_log(&self, _: &LogCx<'_>) {
        self.reach("log");
    }

    fn on_connect(&self, _: &mut ConnectCx<'_>) -> Admit {
        self.reach("connect");
        Admit::Yes
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.reach("drop");
        }
    }
}

/// Two routes: `/fragile` has these instances; the other one responds with `turn`.
fn file(url: &str, turn: u32, phases: &[&str]) -> String {
    let instances = phases.iter().enumerate().map(|(n, phase)| {
        // A route uses one of several instances of a plugin.
        let scope = if n == 0 { json!({"route": {"name": "fragile"}}) } else { json!({"service": {"name": "other"}}) };
        let mut instance =
            json!({"name": "fragile", "instance_name": format!("on-{phase}-{n}"), "config": {"phase": phase}});
        instance.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
        instance
    });
    let mark = json!({"name": "response-transformer", "route": {"name": "sound"},
        "config": {"add": {"headers": [format!("x-turn:{turn}")]}}});
    let route = |name: &str| json!({"name": name, "paths": [format!("/{name}")]});
    json!({
        "_format_version": "3.0",
        "services": [{"name": "s", "url": url, "routes": [route("fragile"), route("sound")]},
            {"name": "other", "url": url, "routes": [route("other")]}],
        "plugins": instances.chain([mark]).collect::<Vec<_>>(),
    })
    .to_string()
}

async fn turn(world: &World) -> Result<String> {
    let response = H1Client::connect(world.http()).await?.get("/sound", "a", &[]).await?;
    Ok(response.header("x-turn").unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_generation_whose_plugin_panics_is_refused() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let named = |found: &str| {
        assert!(found.contains("\"fragile\"") && found.contains("on purpose in build"), "{found}");
        assert!(found.starts_with("plugins "), "the record is named: {found}");
    };
    // At the start, there is no previous generation.
    let refused = World::start(PLUGINS, &file(&echo.url(), 0, &["build"]), &[]).err().expect("a refusal");
    match refused.downcast_ref::<EngineError>() {
        Some(EngineError::Refused(found)) => named(&found.to_string()),
        other => panic!("{other:?}"),
    }
    let world = World::start(PLUGINS, &file(&echo.url(), 1, &[]), &[])?;
    for _ in 0..3 {
        let refused = world.apply(&file(&echo.url(), 2, &["build"])).expect_err("a refusal");
        match refused.downcast_ref::<ApplyError>() {
            Some(ApplyError::Refused(found)) => named(&found.to_string()),
            other => panic!("{other:?}"),
        }
        assert_eq!(turn(&world).await?, "1", "the old generation stays");
    }
    assert_eq!(world.apply(&file(&echo.url(), 3, &[]))?, 2);
    assert_eq!(turn(&world).await?, "3");
    Ok(())
}

#[tokio::test]
async fn a_panic_in_a_phase_ends_one_connection() -> Result<()> {
    let echo = EchoServer::start("e").await;
    for phase in ["request", "request-body", "attempt", "response", "response-wait", "body", "log"] {
        let world = World::start(PLUGINS, &file(&echo.url(), 1, &[phase]), &[])?;
        let mut other = H1Client::connect(world.http()).await?;
        assert_eq!(other.get("/sound", "a", &[]).await?.status, 200);
        for _ in 0..4 {
            let mut client = H1Client::connect(world.http()).await?;
            let first = client.get("/fragile", "a", &[]).await;
            // The log phase comes after the response.
            assert_eq!(first.is_ok_and(|response| response.status == 200), phase == "log", "{phase}");
            assert!(client.get("/sound", "a", &[]).await.is_err(), "{phase}: the connection has ended");
        }
        assert_eq!(other.get("/sound", "a", &[]).await?.status, 200, "{phase}");
        drop(other);
        let counts = || world.engine().services().node.connections();
        assert!(eventually(|| (counts().active, counts().writing) == (0, 0)).await, "{phase}: {:?}", counts());
        world.apply(&file(&echo.url(), 2, &[]))?;
        assert_eq!(turn(&world).await?, "2", "{phase}");
    }
    Ok(())
}

#[tokio::test]
async fn a_panic_when_a_session_begins_ends_that_session() -> Result<()> {
    let script = || vec![Step::send("hello")];
    let peer = ScriptedPeer::start(vec![script(), script(), script(), script()]).await;
    let file = |phase: &str| {
        json!({
            "_format_version": "3.0",
            "services": [{"name": "s", "url": format!("tcp://{}", peer.address()), "routes": [
                {"name": "r", "protocols": ["tcp"], "sources": [{"ip": "127.0.0.1"}]}]}],
            "plugins": [{"name": "fragile", "protocols": ["tcp"], "config": {"phase": phase}}],
        })
        .to_string()
    };
    for phase in ["connect", "log"] {
        let world = World::start(PLUGINS, &file(phase), &[("stream_listen", "127.0.0.1:0")])?;
        let said = async || {
            let mut socket = Socket::connect(world.stream(false)).await?;
            let mut text = String::new();
            // A reset connection has ended, too.
            socket.read_to_string(&mut text).await.ok();
            anyhow::Ok(text)
        };
        assert_eq!(said().await?, if phase == "log" { "hello" } else { "" }, "{phase}");
        let counts = || world.engine().services().node.connections();
        assert!(eventually(|| counts().active == 0).await, "{phase}: {:?}", counts());
        world.apply(&file("none"))?;
        assert_eq!(said().await?, "hello", "{phase}");
    }
    Ok(())
}

#[tokio::test]
async fn panics_while_plans_are_freed_go_no_further() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(PLUGINS, &file(&echo.url(), 1, &["drop", "drop"]), &[])?;
    assert_eq!(turn(&world).await?, "1");
    for number in 2..6 {
        // One generation with such instances, one without.
        let phases: &[&str] = if number % 2 == 0 { &[] } else { &["drop", "drop"] };
        world.apply(&file(&echo.url(), number, phases))?;
        assert_eq!(turn(&world).await?, number.to_string());
        assert!(eventually(|| world.engine().retired_plans() == 0).await);
    }
    Ok(())
}
