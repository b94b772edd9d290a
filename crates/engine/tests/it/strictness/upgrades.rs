//! `Upgrade`: the protocols to which a client may switch, and the responses allowed from an upstream.

use anyhow::Result;
use cardinal_testkit::{EchoServer, H1Client, H2Client, ScriptedPeer, Step, World};
use serde_json::{Value, json};

use crate::plugins;
use crate::scene::{one, sent_all};

async fn forwarded(world: &World, fields: &[(&str, &str)]) -> Result<Value> {
    let response = H1Client::connect(world.http()).await?.get("/", "a", fields).await?;
    assert_eq!(response.status, 200, "{fields:?}");
    Ok(response.json())
}

/// The values of `Upgrade` received by the backend.
async fn upgrades(world: &World, values: &[&str]) -> Result<Vec<String>> {
    let mut fields = vec![("Connection", "Upgrade")];
    fields.extend(values.iter().map(|value| ("Upgrade", *value)));
    let report = forwarded(world, &fields).await?;
    let connection = sent_all(&report, "connection").concat().to_ascii_lowercase();
    let got = sent_all(&report, "upgrade");
    assert_eq!(connection.contains("upgrade"), !got.is_empty(), "{values:?}: {report}");
    Ok(got)
}

const NOTHING: [&str; 0] = [];

#[tokio::test]
async fn protocols_but_websocket_are_not_forwarded() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &one(&echo.url(), json!({}), json!({})), &[])?;
    for value in [
        "foo",
        "h2",
        "HTTP/2.0",
        "TLS/1.0",
        "h2c",
        "H2C",
        "",
        " ",
        "websockets",
        "web-socket",
        "xwebsocket",
        "websocket2",
        "websocket/13",
        "h2c, foo",
        "tcp",
        "SPDY/3.1",
        ",",
    ] {
        assert_eq!(upgrades(&world, &[value]).await?, NOTHING, "{value:?}");
    }
    let service = json!({ "tags": ["upgrade-protocol:SPDY", "upgrade-protocol:h2c", "upgrade-protocol:", "upgrade-protocol:a b"] });
    let world = World::start(plugins(), &one(&echo.url(), service, json!({})), &[])?;
    for (values, expect) in [
        (&["spdy/3.1"][..], &["spdy/3.1"][..]),
        (&["SPDY"], &["SPDY"]),
        (&["h2c, SPDY/3.1, foo"], &["SPDY/3.1"]),
        (&["foo", "SPDY/3.1", "h2c"], &["SPDY/3.1"]),
        (&["h2c"], &[]),
        (&["a b"], &[]),
        (&["tcp"], &[]),
    ] {
        assert_eq!(upgrades(&world, values).await?, expect, "{values:?}");
    }
    // A field not listed in Connection is not a request for an upgrade, and HTTP/1.0 and HTTP/2 have no upgrades.
    for fields in [&[("Upgrade", "SPDY/3.1")][..], &[("Upgrade", "SPDY/3.1"), ("Connection", "keep-alive")]] {
        assert_eq!(sent_all(&forwarded(&world, fields).await?, "upgrade"), NOTHING);
    }
    Ok(())
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ";

/// Status of the response to a request with these fields if the backend responds `101` with this protocol.
async fn answered(tags: &[&str], fields: &[(&str, &str)], protocol: &str) -> Result<u16> {
    let switch = if protocol.is_empty() {
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n".to_owned()
    } else {
        format!("{SWITCH}{protocol}\r\n\r\n")
    };
    let peer = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(switch), Step::Drain]]).await;
    let service = json!({ "tags": tags, "retries": 0 });
    let world = World::start(plugins(), &one(&format!("http://{}", peer.address()), service, json!({})), &[])?;
    Ok(H1Client::connect(world.http()).await?.get("/", "a", fields).await?.status)
}

#[tokio::test]
async fn only_what_was_asked_for_is_switched_to() -> Result<()> {
    let ask = |protocol| [("Connection", "Upgrade"), ("Upgrade", protocol)];
    let spdy = ["upgrade-protocol:spdy"];
    for (tags, fields, protocol, expect) in [
        (&[][..], &ask("websocket")[..], "websocket", 101),
        (&[], &ask("WebSocket"), "WEBSOCKET", 101),
        (&[], &ask("foo, websocket"), "websocket", 101),
        (&[], &ask("websocket"), "foo", 502),
        (&[], &ask("websocket"), "websocket, foo", 502),
        (&[], &ask("websocket"), "", 502),
        (&[], &ask("foo"), "foo", 502),
        (&[], &ask("h2c"), "h2c", 502),
        (&[], &ask("foo, websocket"), "foo", 502),
        (&[], &[], "websocket", 502),
        (&[], &[("Upgrade", "websocket")], "websocket", 502),
        (&spdy, &ask("SPDY/3.1"), "SPDY/3.1", 101),
        (&spdy, &ask("SPDY/3.1"), "websocket", 502),
        (&spdy, &ask("SPDY/3.1, websocket"), "websocket", 101),
    ] {
        assert_eq!(answered(tags, fields, protocol).await?, expect, "{tags:?} {fields:?} {protocol:?}");
    }
    Ok(())
}

/// `Connection: upgrade` is sent with `Upgrade` (RFC 9110 section 7.8), even if the upstream omits it.
#[tokio::test]
async fn responses_about_upgrades_are_complete() -> Result<()> {
    let respond = |head: &str| {
        let once = || [Step::until("\r\n\r\n"), Step::send(head)];
        once().into_iter().chain(once()).chain([Step::Drain]).collect::<Vec<_>>()
    };
    let ask = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    let required = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.3, h9\r\nContent-Length: 0\r\n";
    for (head, fields, upgrade) in [
        ("HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n".to_owned(), &ask[..], "websocket"),
        (
            "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n".to_owned(),
            &ask,
            "websocket",
        ),
        (format!("{required}\r\n"), &[], "TLS/1.3, h9"),
        (format!("{required}Connection: close, upgrade\r\n\r\n"), &[], "TLS/1.3, h9"),
    ] {
        let peer = ScriptedPeer::start(vec![respond(&head), respond(&head)]).await;
        let file = one(&format!("http://{}", peer.address()), json!({ "retries": 0 }), json!({}));
        let world = World::start(plugins(), &file, &[])?;
        let response = H1Client::connect(world.http()).await?.get("/", "a", fields).await?;
        assert_eq!(response.header("upgrade"), Some(upgrade), "{head}");
        assert_eq!(response.header("connection"), Some("upgrade"), "{head}");
        if response.status == 426 {
            // HTTP/2 has neither field.
            let response = H2Client::connect(world.http()).await?.request("GET", "a", "/", &[], b"").await?;
            assert_eq!((response.status, response.header("upgrade"), response.header("connection")), (426, None, None));
        }
    }
    Ok(())
}

#[tokio::test]
async fn http2_has_no_upgrades() -> Result<()> {
    let peer = ScriptedPeer::start(vec![vec![
        Step::until("\r\n\r\n"),
        Step::send(format!("{SWITCH}websocket\r\n\r\n")),
        Step::Drain,
    ]])
    .await;
    let service = json!({ "retries": 0 });
    let world = World::start(plugins(), &one(&format!("http://{}", peer.address()), service, json!({})), &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    assert_eq!(client.request("GET", "a", "/", &[], b"").await?.status, 502);
    // Extended CONNECT (RFC 8441) is not supported, and malformed.
    let mut frames = crate::smuggling::h2::Frames::open(world.http()).await?;
    let fields =
        [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    frames.headers(1, &crate::smuggling::h2::block(&fields), false).await?;
    assert_eq!(frames.one().await?, None);
    Ok(())
}
