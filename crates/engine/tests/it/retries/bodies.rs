//! Requests with bodies: buffered bodies are sent again completely; other requests are not retried once their body has
//! been partly forwarded.

use anyhow::Result;
use cardinal_ir::policy::{Retry, RetryCondition as On, RetryMethods};
use cardinal_testkit::{H1Client, H2Client, Play, ScriptedPeer, Step, World};
use serde_json::json;

use super::{changed, fine, retry, set, with_status, world};
use crate::plugins;
use crate::scene::{eventually, one};

fn any_method() -> Retry {
    Retry { methods: RetryMethods::Any, ..retry(2, &[On::ServerError, On::Reset]) }
}

/// The end of a body in chunks. Without its beginning it might be found at the end of a head whose last field ends in 0.
const END: &str = "\r\n0\r\n\r\n";

/// Reads a request whose body ends with this text, and responds.
fn after(end: &str, mut play: Play) -> Play {
    play[0] = Step::until(end);
    play
}

/// The body of the data received on a connection.
fn body(received: &[u8]) -> String {
    let text = String::from_utf8_lossy(received);
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn a_body_with_a_length_is_held_and_sent_again() -> Result<()> {
    let (end, large) = ("-end", format!("{}-end", "x".repeat(60_000)));
    for text in ["short-end", &large] {
        let plays = vec![after(end, with_status(503)), vec![Step::until(end), Step::Reset], after(end, fine())];
        let peer = ScriptedPeer::start(plays).await;
        let world = world(peer.address(), set(any_method()))?;
        let mut client = H1Client::connect(world.http()).await?;
        assert_eq!(client.request("POST", "/", "a", &[], text.as_bytes()).await?.status, 200);
        let received = peer.received();
        assert_eq!(received.len(), 3);
        assert!(received.iter().all(|request| body(request) == text), "{}", text.len());
        assert!(eventually(|| world.engine().services().memory.used() == 0).await);
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_too_large_is_sent_once() -> Result<()> {
    let text = format!("{}-end", "x".repeat(70_000));
    let peer = ScriptedPeer::start(vec![after("-end", with_status(503)), fine()]).await;
    let world = world(peer.address(), set(any_method()))?;
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.request("POST", "/", "a", &[], text.as_bytes()).await?;
    assert_eq!((response.status, response.text().as_str(), peer.connections()), (503, "first", 1));
    Ok(())
}

/// A body without a length is streamed, and its beginning is kept.
#[tokio::test]
async fn a_streamed_body_is_kept_while_it_is_small() -> Result<()> {
    let chunked = |size: usize| format!("{size:x}\r\n{}\r\n", "y".repeat(size));
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (size, status, connections) in [(10, 200, 3), (60_000, 200, 3), (70_000, 503, 1)] {
        let plays = vec![after(END, with_status(503)), vec![Step::until(END)], after(END, fine())];
        let peer = ScriptedPeer::start(plays).await;
        let world = world(peer.address(), set(any_method()))?;
        let mut client = H1Client::connect(world.http()).await?;
        client.send(format!("{head}{}0\r\n\r\n", chunked(size))).await?;
        assert_eq!(client.response().await?.status, status, "{size}");
        let received = peer.received();
        assert_eq!(received.len(), connections, "{size}");
        for request in received {
            assert_eq!(body(&request).matches('y').count(), size);
        }
        assert!(eventually(|| world.engine().services().memory.used() == 0).await);
    }
    Ok(())
}

/// The response to be dropped may arrive while the client is still sending: the data read so far is sent to the next
/// endpoint, followed by the rest.
#[tokio::test]
async fn a_streamed_body_goes_on_to_the_next_endpoint() -> Result<()> {
    let peer =
        ScriptedPeer::start(vec![after("one", with_status(503)), after("two\r\n0\r\n\r\n", fine()), fine()]).await;
    let world = world(peer.address(), set(any_method()))?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await?;
    assert!(eventually(|| peer.received().get(1).is_some_and(|r| body(r).contains("one"))).await);
    client.send("3\r\ntwo\r\n0\r\n\r\n").await?;
    assert_eq!(client.response().await?.text(), "ok");
    assert_eq!(client.get("/", "a", &[]).await?.text(), "ok", "the connection goes on");
    // The same over HTTP/2.
    let peer = ScriptedPeer::start(vec![after("one", with_status(503)), after("two\r\n0\r\n\r\n", fine())]).await;
    let world = self::world(peer.address(), set(any_method()))?;
    let mut client = H2Client::connect(world.http()).await?;
    let mut exchange = client.open("POST", "a", "/", &[], false).await?;
    exchange.send(b"one", false).await?;
    assert!(eventually(|| peer.received().get(1).is_some_and(|r| body(r).contains("one"))).await);
    exchange.send(b"two", true).await?;
    assert_eq!(exchange.response().await?.text(), "ok");
    Ok(())
}

/// If the memory budget is exhausted, nothing is kept, and the request is sent once.
#[tokio::test]
async fn without_memory_a_body_is_sent_once() -> Result<()> {
    let peer = ScriptedPeer::start(vec![after(END, with_status(503)), fine()]).await;
    let yaml = one(&format!("http://{}", peer.address()), json!({ "retries": 0 }), json!({}));
    let mut configuration = changed(&yaml, set(any_method()), |_| {})?;
    configuration.node_mut().limits.buffered_bytes_total_max = 100;
    let world = World::of(plugins(), configuration)?;
    let mut client = H1Client::connect(world.http()).await?;
    let text = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n{}\r\n0\r\n\r\n",
        "y".repeat(1_000)
    );
    client.send(text).await?;
    assert_eq!((client.response().await?.status, peer.connections()), (503, 1));
    Ok(())
}
