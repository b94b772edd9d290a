//! The client address: the PROXY protocol, and headers of trusted peers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cardinal_base::{Clock as _, ManualClock};
use cardinal_engine::Options;
use cardinal_testkit::{
    Authority, EchoServer, H1Client, H2Client, Response, Socket, StreamEcho, World, while_time_passes,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::plugins;
use crate::scene::{one, sent};

const LISTEN: (&str, &str) = ("proxy_listen", "127.0.0.1:0 proxy_protocol, 127.0.0.1:0 ssl http2 proxy_protocol");
const BY_PROXY: (&str, &str) = ("real_ip_header", "proxy_protocol");
const TRUSTED: (&str, &str) = ("trusted_ips", "127.0.0.1");
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 5555 81\r\n";

/// A header of version 2: its command, family, and addresses with ports.
fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x20 | command, family], &length, addresses].concat()
}

/// A client whose connection begins with these bytes.
async fn after(world: &World, header: &[u8]) -> Result<H1Client> {
    let mut client = H1Client::connect(world.http()).await?;
    client.send(header).await?;
    Ok(client)
}

/// The request received by the backend for these fields.
async fn report(client: &mut H1Client, fields: &[(&str, &str)]) -> Result<Value> {
    let response: Response = client.get("/x", "a.test", fields).await?;
    assert_eq!(response.status, 200, "{}", response.text());
    Ok(response.json())
}

#[tokio::test]
async fn the_source_is_the_client_when_its_sender_is_trusted() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &one(&echo.url(), json!({}), json!({})), &[LISTEN, BY_PROXY, TRUSTED])?;
    let v4 = [203, 0, 113, 7, 198, 51, 100, 1, 0x15, 0xb3, 0, 81];
    let mut v6 = [0; 36];
    (v6[0], v6[1], v6[15], v6[31]) = (0x20, 0x01, 7, 1);
    for (header, ip) in [
        (V1.to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001::7 2001::1 5555 81\r\n".to_vec(), "2001::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(1, 0x11, &v4), "203.0.113.7"),
        (v2(1, 0x21, &v6), "2001::7"),
        (v2(0, 0, &[]), "127.0.0.1"),
        (v2(1, 0x11, &[v4.as_slice(), &[4, 0, 1, 9]].concat()), "203.0.113.7"),
    ] {
        let mut client = after(&world, &header).await?;
        for round in 0..2 {
            let seen = report(&mut client, &[]).await?;
            assert_eq!(sent(&seen, "x-real-ip"), ip, "{header:?} round {round}");
            assert_eq!(sent(&seen, "x-forwarded-for"), ip, "{header:?} round {round}");
            let port = world.http().port().to_string();
            assert_eq!(sent(&seen, "x-forwarded-port"), port, "the listener's, not what the header says");
        }
        let seen = report(&mut client, &[("X-Forwarded-For", "192.0.2.1")]).await?;
        assert_eq!(sent(&seen, "x-forwarded-for"), "192.0.2.1, 127.0.0.1", "who connected is appended");
        assert_eq!(sent(&seen, "x-real-ip"), ip);
    }
    Ok(())
}

#[tokio::test]
async fn a_source_is_not_believed_without_trust_or_wish() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let yaml = one(&echo.url(), json!({}), json!({}));
    for settings in
        [vec![LISTEN, BY_PROXY], vec![LISTEN, BY_PROXY, ("trusted_ips", "10.0.0.0/8")], vec![LISTEN, TRUSTED]]
    {
        let world = World::start(plugins(), &yaml, &settings)?;
        let seen = report(&mut after(&world, V1).await?, &[]).await?;
        assert_eq!(sent(&seen, "x-real-ip"), "127.0.0.1", "{settings:?}");
        assert_eq!(sent(&seen, "x-forwarded-for"), "127.0.0.1", "{settings:?}");
    }
    Ok(())
}

#[tokio::test]
async fn filters_see_the_source() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let plugin = json!({ "name": "ip-restriction", "config": { "allow": ["203.0.113.0/24"] } });
    let yaml = one(&echo.url(), json!({ "plugins": [plugin] }), json!({}));
    let world = World::start(plugins(), &yaml, &[LISTEN, BY_PROXY, TRUSTED])?;
    assert_eq!(after(&world, V1).await?.get("/", "a", &[]).await?.status, 200);
    let other = b"PROXY TCP4 203.0.114.7 198.51.100.1 5555 81\r\n";
    assert_eq!(after(&world, other).await?.get("/", "a", &[]).await?.status, 403);
    Ok(())
}

#[tokio::test]
async fn what_does_not_begin_with_a_header_is_closed() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &one(&echo.url(), json!({}), json!({})), &[LISTEN, BY_PROXY, TRUSTED])?;
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(),
        [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat(),
        v2(1, 0x77, &[0; 12]),
        v2(1, 0x11, &[0; 4]),
    ] {
        let mut client = after(&world, &bytes).await?;
        // The peer may receive a reset, because some of its bytes were not read.
        let answer = client.read_to_end().await.unwrap_or_default();
        assert!(answer.is_empty(), "{} was answered", bytes.escape_ascii());
    }
    assert_eq!(echo.requests(), 0);
    let seen = report(&mut after(&world, V1).await?, &[]).await?;
    assert_eq!(sent(&seen, "x-real-ip"), "203.0.113.7", "others are served");
    Ok(())
}

#[tokio::test]
async fn a_header_may_come_in_pieces_and_before_tls() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let clock = Arc::new(ManualClock::default());
    let options = Options { clock: Some(clock.clone()), ..Options::default() };
    let yaml = one(&echo.url(), json!({}), json!({}));
    let world = World::start_with(plugins(), &yaml, &[LISTEN, BY_PROXY, TRUSTED], options)?;
    let mut client = H1Client::connect(world.http()).await?;
    let pieces = V1.chunks(9);
    let last = pieces.len() - 1;
    for (number, piece) in pieces.enumerate() {
        client.send(piece).await?;
        if number < last {
            // The node has received a part, and polls for the rest.
            let soon = clock.tick().plus_millis(10);
            let waits = || clock.next_deadline().is_some_and(|next| next <= soon);
            cardinal_testkit::until("the node to see a part", waits).await?;
            clock.advance(Duration::from_millis(10));
        }
    }
    let step = Duration::from_millis(5);
    let seen = while_time_passes("a response", &clock, step, report(&mut client, &[])).await??;
    assert_eq!(sent(&seen, "x-real-ip"), "203.0.113.7");
    drop(world);
    let world = World::start(plugins(), &yaml, &[LISTEN, BY_PROXY, TRUSTED])?;
    let authority = Authority::new("root");
    let issued = authority.issue(&["a.test"]);
    let tables = json!({ "certificates": [crate::scene::certificate(&issued, &["a.test"])] });
    let mut tables = crate::scene::merged(
        tables,
        json!({ "services": [crate::scene::service_of(&echo.url(), json!({}), json!({}))] }),
    );
    tables["_format_version"] = json!("3.0");
    world.apply(&tables.to_string())?;
    let mut socket = Socket::connect(world.https()).await?;
    socket.write_all(V1).await?;
    let socket = socket.start_tls("a.test", authority.client(None, &["h2"])).await?;
    let mut client = H2Client::over(socket).await?;
    let seen = client.request("GET", "a.test", "/", &[], b"").await?.json();
    assert_eq!(
        (sent(&seen, "x-real-ip").as_str(), sent(&seen, "x-forwarded-proto").as_str()),
        ("203.0.113.7", "https")
    );
    Ok(())
}

#[tokio::test]
async fn a_trusted_peers_header_names_the_client() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let yaml = one(&echo.url(), json!({}), json!({}));
    let trusted = ("trusted_ips", "127.0.0.1, 10.0.0.0/8");
    let by_list = ("real_ip_header", "X-Forwarded-For");
    let recursive = ("real_ip_recursive", "on");
    for (settings, field, value, client, list) in [
        (vec![], "X-Real-IP", "1.2.3.4", "127.0.0.1", "127.0.0.1"),
        (vec![trusted], "X-Real-IP", "1.2.3.4", "1.2.3.4", "1.2.3.4"),
        (vec![trusted], "X-Real-IP", "[2001::7]:99", "2001::7", "2001::7"),
        (vec![trusted], "X-Real-IP", "nobody", "127.0.0.1", "127.0.0.1"),
        (vec![trusted], "X-Forwarded-For", "1.2.3.4", "127.0.0.1", "1.2.3.4, 127.0.0.1"),
        (vec![by_list], "X-Forwarded-For", "1.2.3.4", "127.0.0.1", "1.2.3.4, 127.0.0.1"),
        (vec![trusted, by_list], "X-Forwarded-For", "1.2.3.4, 10.0.0.1", "10.0.0.1", "1.2.3.4, 10.0.0.1, 127.0.0.1"),
        (
            vec![trusted, by_list, recursive],
            "X-Forwarded-For",
            "9.9.9.9, 1.2.3.4:80, 10.0.0.1",
            "1.2.3.4",
            "9.9.9.9, 1.2.3.4:80, 10.0.0.1, 127.0.0.1",
        ),
        (
            vec![trusted, by_list, recursive],
            "X-Forwarded-For",
            "10.0.0.2, 10.0.0.1",
            "10.0.0.2",
            "10.0.0.2, 10.0.0.1, 127.0.0.1",
        ),
        (
            vec![trusted, by_list, recursive],
            "X-Forwarded-For",
            "1.2.3.4, unknown, 10.0.0.1",
            "10.0.0.1",
            "1.2.3.4, unknown, 10.0.0.1, 127.0.0.1",
        ),
    ] {
        let world = World::start(plugins(), &yaml, &settings)?;
        let mut http = H1Client::connect(world.http()).await?;
        let seen = report(&mut http, &[(field, value)]).await?;
        assert_eq!(
            (sent(&seen, "x-real-ip").as_str(), sent(&seen, "x-forwarded-for").as_str()),
            (client, list),
            "{settings:?} {field}: {value}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn forwarding_headers_are_kept_from_trusted_peers_only() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let yaml = one(&echo.url(), json!({}), json!({ "paths": ["/api"] }));
    let claims = [
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "claimed.test"),
        ("X-Forwarded-Port", "444"),
        ("X-Forwarded-Path", "/claimed"),
        ("X-Forwarded-Prefix", "/pre"),
    ];
    let truth = ["http", "a.test", "82", "/api/x", "/api"];
    for (settings, kept) in [(vec![], false), (vec![("trusted_ips", "10.0.0.1")], false), (vec![TRUSTED], true)] {
        let world = World::start(plugins(), &yaml, &settings)?;
        let mut client = H1Client::connect(world.http()).await?;
        let seen = client.get("/api/x?y=z", "a.test:82", &claims).await?.json();
        for ((name, claim), truth) in claims.iter().zip(truth) {
            assert_eq!(sent(&seen, name), if kept { *claim } else { truth }, "{name} with {settings:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn streams_have_a_source_too() -> Result<()> {
    let echo = StreamEcho::tcp().await;
    let route = json!({ "name": "r", "protocols": ["tcp"], "sources": [{ "ip": "203.0.113.0/24" }] });
    let service = json!({
        "name": "s", "protocol": "tcp", "host": "127.0.0.1", "port": echo.address().port(), "routes": [route]
    });
    let yaml = crate::scene::file(json!({ "services": [service] }));
    let listen = ("stream_listen", "127.0.0.1:0 proxy_protocol");
    for (settings, served) in [(vec![listen, TRUSTED], true), (vec![listen], false)] {
        let world = World::start(plugins(), &yaml, &settings)?;
        let mut client = H1Client::connect(world.stream(false)).await?;
        client.send([V1, b"hello"].concat()).await?;
        let answer = client.read_some().await.unwrap_or_default();
        assert_eq!(answer, if served { b"hello".as_slice() } else { b"" }, "{settings:?}");
    }
    Ok(())
}
