//! Memory for bodies buffered for plugins is released as soon as the client disconnects, including memory for the
//! plugins' output. All timeouts have the default of one minute, unless a test sets one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cardinal_testkit::{EchoServer, H1Client, H2Client, H2Exchange, Play, ScriptedPeer, Step, World};
use serde_json::{Value, json};

use crate::plugins;
use crate::scene::{eventually, one};

const MIB: usize = 1 << 20;
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Buffers request bodies.
fn request_transformer() -> Value {
    json!([{ "name": "request-transformer", "config": { "add": { "body": ["a:b"] } } }])
}

/// Buffers response bodies.
fn response_transformer() -> Value {
    json!([{ "name": "response-transformer", "config": { "add": { "json": ["a:b"] } } }])
}

fn world(url: &str, plugins_used: Value, settings: &[(&str, &str)]) -> Result<World> {
    let service = json!({ "retries": 0 });
    World::start(plugins(), &one(url, service, json!({ "plugins": plugins_used })), settings)
}

fn used(world: &World) -> usize {
    world.engine().services().memory.used()
}

fn failed(world: &World, label: &str) -> u64 {
    let failures = world.engine().totals().failures;
    failures.iter().find(|(kind, _)| kind.label() == label).map_or(0, |(_, count)| *count)
}

/// How a client disconnects.
#[derive(Clone, Copy, Debug)]
enum Leave {
    /// Closes its connection.
    Close,
    /// Resets its connection, or its stream.
    Reset,
    /// Shuts down sending, which counts as a disconnect, as in nginx.
    Finish,
}

/// A client in the middle of a request.
enum Client {
    H1(H1Client),
    /// With the connection of the stream.
    H2(H2Client, H2Exchange),
}

impl Client {
    /// Sends a head and `sent` bytes of a form of `length` bytes.
    async fn start(world: &World, h2: bool, length: usize, sent: usize) -> Result<Self> {
        let (length_text, ends) = (length.to_string(), sent == length);
        let body = vec![b'x'; sent];
        if h2 {
            let mut client = H2Client::connect(world.http()).await?;
            let fields = [FORM, ("content-length", &length_text)];
            let mut stream = client.open("POST", "a", "/", &fields, false).await?;
            stream.send(&body, ends).await?;
            return Ok(Self::H2(client, stream));
        }
        let mut client = H1Client::connect(world.http()).await?;
        let (name, value) = FORM;
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\nContent-Length: {length}\r\n\r\n"))
            .await?;
        client.send(body).await?;
        Ok(Self::H1(client))
    }

    /// Disconnects. The returned value keeps the connection open if required.
    async fn leave(self, how: Leave) -> Result<Option<Self>> {
        match (self, how) {
            (Self::H1(client), Leave::Reset) => client.reset().map(|()| None),
            (Self::H1(mut client), Leave::Finish) => {
                client.finish().await?;
                Ok(Some(Self::H1(client)))
            }
            (Self::H2(client, mut stream), Leave::Reset | Leave::Finish) => {
                stream.reset();
                Ok(Some(Self::H2(client, stream)))
            }
            (_, Leave::Close) => Ok(None),
        }
    }
}

/// Lets clients disconnect in all ways, while at least `held` bytes are buffered for them.
async fn all_leave(url: &str, plugins_used: Value, (length, sent): (usize, usize), held: usize) -> Result<()> {
    let world = world(url, plugins_used, &[])?;
    for h2 in [false, true] {
        for how in [Leave::Close, Leave::Reset, Leave::Finish] {
            let before = failed(&world, "client_closed");
            let client = Client::start(&world, h2, length, sent).await?;
            ensure!(eventually(|| used(&world) >= held).await, "{how:?} h2={h2}: {} bytes are held", used(&world));
            let _rest = client.leave(how).await?;
            ensure!(eventually(|| used(&world) == 0).await, "{how:?} h2={h2}: {} bytes are still held", used(&world));
            let noted = || failed(&world, "client_closed") == before + 1;
            ensure!(eventually(noted).await, "{how:?} h2={h2}: {:?}", world.engine().totals().failures);
        }
    }
    Ok(())
}

async fn peer(play: Play) -> (ScriptedPeer, String) {
    let peer = ScriptedPeer::start(vec![play]).await;
    let url = format!("http://{}", peer.address());
    (peer, url)
}

#[tokio::test]
async fn while_the_request_body_is_collected() -> Result<()> {
    let echo = EchoServer::start("backend").await;
    all_leave(&echo.url(), request_transformer(), (MIB, MIB / 2), MIB / 2).await
}

#[tokio::test]
async fn while_the_upstream_does_not_answer() -> Result<()> {
    let (_peer, url) = peer(vec![Step::Drain]).await;
    all_leave(&url, request_transformer(), (MIB, MIB), MIB).await
}

#[tokio::test]
async fn while_the_upstream_does_not_read() -> Result<()> {
    let (_peer, url) = peer(vec![Step::Pause(Duration::from_secs(600))]).await;
    all_leave(&url, request_transformer(), (12 * MIB, 12 * MIB), 12 * MIB).await
}

#[tokio::test]
async fn while_the_upstream_does_not_finish_its_handshake() -> Result<()> {
    let (peer, _) = peer(vec![Step::Drain]).await;
    all_leave(&format!("https://{}", peer.address()), request_transformer(), (MIB, MIB), MIB).await
}

#[tokio::test]
async fn while_the_response_body_is_collected() -> Result<()> {
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n".to_vec();
    answer.resize(answer.len() + MIB / 2, b' ');
    let (_peer, url) = peer(vec![Step::until("\r\n\r\n"), Step::Send(answer), Step::Drain]).await;
    // The request body has been forwarded: it does not count any more.
    all_leave(&url, response_transformer(), (10, 10), MIB / 2).await
}

#[tokio::test]
async fn while_the_response_is_sent() -> Result<()> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", 15 * MIB);
    answer.extend(std::iter::repeat_n(' ', 15 * MIB));
    let (_peer, url) = peer(vec![Step::until("\r\n\r\n"), Step::send(answer), Step::Drain]).await;
    let world = world(&url, response_transformer(), &[])?;
    for h2 in [false, true] {
        for how in [Leave::Close, Leave::Reset] {
            let before = failed(&world, "client_closed");
            // The client only reads the head.
            let mut client = Client::start(&world, h2, 10, 10).await?;
            match &mut client {
                Client::H1(client) => assert_eq!(client.head().await?.0, 200),
                Client::H2(_, stream) => assert_eq!(stream.head().await?.0, 200),
            }
            assert!(used(&world) >= 15 * MIB, "{how:?} h2={h2}: {} bytes are held", used(&world));
            let _rest = client.leave(how).await?;
            ensure!(eventually(|| used(&world) == 0).await, "{how:?} h2={h2}: {} bytes are still held", used(&world));
            ensure!(eventually(|| failed(&world, "client_closed") == before + 1).await, "{how:?} h2={h2}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn while_the_response_body_is_collected_and_the_request_body_is_not_read() -> Result<()> {
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n".to_vec();
    answer.resize(answer.len() + MIB / 2, b' ');
    let pause = Step::Pause(Duration::from_secs(600));
    let (_peer, url) = peer(vec![Step::until("\r\n\r\n"), Step::Send(answer), pause]).await;
    let both = [request_transformer(), response_transformer()].map(|list| list[0].clone());
    all_leave(&url, json!(both), (12 * MIB, 12 * MIB), 12 * MIB + MIB / 2).await
}

#[tokio::test]
async fn a_request_body_is_freed_when_the_response_begins() -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let (peer, url) = peer(vec![Step::until("a=b"), Step::send(head), Step::Drain]).await;
    let world = world(&url, request_transformer(), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    client
        .send(format!("POST / HTTP/1.1\r\nHost: a\r\n{}: {}\r\nContent-Length: 3\r\n\r\nx=y", FORM.0, FORM.1))
        .await?;
    assert_eq!(client.head().await?.0, 200);
    assert!(eventually(|| used(&world) == 0).await, "{} bytes are held", used(&world));
    assert!(peer.errors().is_empty(), "{:?}", peer.errors());
    Ok(())
}

#[tokio::test]
async fn a_request_moves_on_while_its_response_is_collected() -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n";
    let play = vec![Step::until("\r\n\r\n"), Step::send(head), Step::until("the end"), Step::send("{}"), Step::Drain];
    for h2 in [false, true] {
        let (_peer, url) = peer(play.clone()).await;
        let world = world(&url, response_transformer(), &[])?;
        let body = if h2 {
            let mut client = H2Client::connect(world.http()).await?;
            let mut stream = client.open("POST", "a", "/", &[], false).await?;
            stream.send(b"the", false).await?;
            stream.send(b" end", true).await?;
            stream.response().await?
        } else {
            let mut client = H1Client::connect(world.http()).await?;
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nthe").await?;
            client.send(" end").await?;
            client.response().await?
        };
        assert_eq!(body.json(), json!({ "a": "b" }), "h2={h2}");
    }
    Ok(())
}

#[tokio::test]
async fn slow_upstreams_do_not_hold_memory_for_ever() -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n";
    let bytes = Step::Trickle(vec![b' '; 100_000], Duration::from_millis(50));
    let (_peer, url) = peer(vec![Step::until("\r\n\r\n"), Step::send(head), bytes]).await;
    let service = json!({ "retries": 0, "read_timeout": 300 });
    let route = json!({ "plugins": response_transformer() });
    let world = World::start(plugins(), &one(&url, service, route), &[])?;
    let response = H1Client::connect(world.http()).await?.get("/", "a", &[]).await?;
    assert_eq!(response.status, 504, "{}", response.text());
    let response = H2Client::connect(world.http()).await?.request("GET", "a", "/", &[], b"").await?;
    assert_eq!(response.status, 504, "{}", response.text());
    assert!(eventually(|| used(&world) == 0).await, "{} bytes are held", used(&world));
    Ok(())
}

/// Text that a plugin adds.
fn long() -> String {
    "y".repeat(MIB / 2)
}

#[tokio::test]
async fn request_bodies_count_as_plugins_make_them() -> Result<()> {
    let (_peer, url) = peer(vec![Step::Drain]).await;
    let enlarging = json!([{
        "name": "request-transformer",
        "config": { "add": { "body": [format!("a:{}", long())] } }
    }]);
    for h2 in [false, true] {
        let world = world(&url, enlarging.clone(), &[])?;
        let _client = Client::start(&world, h2, 10, 10).await?;
        // `xxxxxxxxxx=&a=yyyy…`, or without the `=` of an argument without a value.
        let grown = || (12 + MIB / 2..16 + MIB / 2).contains(&used(&world));
        ensure!(eventually(grown).await, "h2={h2}: {} bytes are counted", used(&world));
    }
    let world = world(&url, enlarging, &[])?;
    world.engine().services().memory.set_max(MIB / 4);
    let fields = [FORM];
    let response = H1Client::connect(world.http()).await?.request("POST", "/", "a", &fields, b"x").await?;
    assert_eq!(response.status, 503, "{}", response.text());
    let response = H2Client::connect(world.http()).await?.request("POST", "a", "/", &fields, b"x").await?;
    assert_eq!(response.status, 503, "{}", response.text());
    assert_eq!(failed(&world, "overloaded"), 2);
    assert!(eventually(|| used(&world) == 0).await, "{} bytes are held", used(&world));
    Ok(())
}

#[tokio::test]
async fn request_bodies_that_plugins_shorten_count_less() -> Result<()> {
    let (_peer, url) = peer(vec![Step::Drain]).await;
    let shortening = json!([{ "name": "request-transformer", "config": { "remove": { "body": ["long"] } } }]);
    let world = world(&url, shortening, &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let body = format!("a=b&long={}", long());
    client
        .send(format!("POST / HTTP/1.1\r\nHost: a\r\n{}: {}\r\nContent-Length: {}\r\n\r\n", FORM.0, FORM.1, body.len()))
        .await?;
    client.send(body).await?;
    assert!(eventually(|| used(&world) == 3).await, "{} bytes are counted", used(&world));
    Ok(())
}

#[tokio::test]
async fn response_bodies_count_as_plugins_make_them() -> Result<()> {
    let echo = EchoServer::start("backend").await;
    let enlarging = json!({
        "name": "response-transformer",
        "config": { "add": { "json": [format!("a:{}", long())] } }
    });
    let own = json!({
        "name": "request-termination",
        "config": { "status_code": 200, "content_type": "application/json", "body": "{}" }
    });
    for list in [json!([enlarging]), json!([enlarging, own])] {
        for (memory, status) in [(MIB / 4, 503), (MIB, 200)] {
            let world = world(&echo.url(), list.clone(), &[])?;
            world.engine().services().memory.set_max(memory);
            let fields = [("x-echo", "status:200")];
            let h1 = H1Client::connect(world.http()).await?.get("/", "a", &fields).await?;
            assert!(eventually(|| used(&world) == 0).await, "{} bytes are held", used(&world));
            let h2 = H2Client::connect(world.http()).await?.request("GET", "a", "/", &fields, b"").await?;
            for response in [h1, h2] {
                ensure!(response.status == status, "{list} {status}: {} {}", response.status, response.body.len());
                let all = response.body.len() > MIB / 2;
                ensure!(all == (status == 200), "{list} {status}: {} bytes", response.body.len());
            }
            assert!(eventually(|| used(&world) == 0).await, "{} bytes are held", used(&world));
        }
    }
    Ok(())
}

#[tokio::test]
async fn clients_that_read_a_byte_now_and_then_do_not_hold_memory_for_ever() -> Result<()> {
    let echo = EchoServer::start("backend").await;
    let own = json!([{
        "name": "request-termination",
        "config": { "status_code": 200, "content_type": "text/plain", "body": long() }
    }]);
    let world = world(&echo.url(), own, &[("client_send_timeout", "200ms")])?;
    let mut client = H1Client::connect(world.http()).await?;
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS with INITIAL_WINDOW_SIZE 1; HEADERS of `GET / a`, which end the request.
    frames.extend(b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\x01");
    frames.extend(b"\0\0\x06\x01\x05\0\0\0\x01\x82\x84\x86\x41\x01a");
    client.send(frames).await?;
    let given_up = cardinal_testkit::until_some("the client to be given up", async || {
        if failed(&world, "client_timeout") == 1 {
            return Some(Ok(()));
        }
        // WINDOW_UPDATE by 1 for the stream.
        client.send(b"\0\0\x04\x08\0\0\0\0\x01\0\0\0\x01").await.err().map(Err)
    });
    given_up.await.with_context(|| format!("{:?}", world.engine().totals().failures))?
}

#[tokio::test]
async fn clients_that_do_not_read_a_held_response_are_not_waited_for() -> Result<()> {
    let echo = EchoServer::start("backend").await;
    let settings = [("client_send_timeout", "200ms")];
    let world = world(&echo.url(), response_transformer(), &settings)?;
    // More than all buffers in between.
    let words = format!("bytes:{},header:Content-Type=application/json", 15 * MIB);
    let mut h1 = H1Client::connect(world.http()).await?;
    h1.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Echo: {words}\r\n\r\n")).await?;
    ensure!(eventually(|| failed(&world, "client_timeout") == 1).await, "{:?}", world.engine().totals().failures);
    ensure!(eventually(|| used(&world) == 0).await, "{} bytes are held", used(&world));
    ensure!(h1.response().await.is_err(), "the response must not look complete");
    let mut h2 = H2Client::connect(world.http()).await?;
    let mut stream = h2.open("GET", "a", "/", &[("x-echo", &words)], true).await?;
    assert_eq!(stream.head().await?.0, 200);
    ensure!(eventually(|| failed(&world, "client_timeout") == 2).await, "{:?}", world.engine().totals().failures);
    ensure!(eventually(|| used(&world) == 0).await, "{} bytes are held", used(&world));
    let ended = async {
        while stream.part().await?.is_some() {}
        anyhow::Ok(())
    };
    ensure!(ended.await.is_err(), "the response must not look complete");
    Ok(())
}
