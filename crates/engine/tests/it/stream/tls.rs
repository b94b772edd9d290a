use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use cardinal_http::FailureKind;
use cardinal_ir::{ListenerKind, Wire};
use cardinal_testkit::{Authority, within};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::recorder::records;
use super::setup::{Setup, tcp_server};

/// A connection that sends seven bytes at a time.
struct Dribble(TcpStream);

impl AsyncRead for Dribble {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Dribble {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(7)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Connects with the server name `name`, sends a text, shuts down sending, and reads to the end. The certificate must
/// be trusted and match the name.
async fn talk(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Result<String> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned())?;
    let mut tls = within("a handshake", TlsConnector::from(config).connect(name, Dribble(tcp))).await??;
    tls.write_all(b"hello").await?;
    tls.flush().await?;
    tls.shutdown().await?;
    let mut answer = String::new();
    within("an answer", tls.read_to_string(&mut answer)).await??;
    Ok(answer)
}

#[tokio::test]
async fn tls_is_opened_and_spoken_upstream() -> Result<()> {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = tcp_server("behind", Some(theirs.server(&theirs.issue(&["127.0.0.1"]), &[], false))).await;
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Stream, true);
    setup.certificate(&ours.issue(&["a.example"]), &["a.example"]);
    let tls = setup.trusting(&theirs);
    let backend = setup.backend(server.address, |backend| backend.tls = Some(tls));
    setup.route(Some(backend), &[Wire::Tls], &["a.example"]);
    setup.record("tls-opened", true);
    let running = setup.start();
    assert_eq!(talk(running.address(), "a.example", ours.client(None, &[])).await?, "behind\nhello\n5");
    let record = &records("tls-opened", 1).await[0];
    assert_eq!((record.wire, record.sni.as_deref(), record.failure), (Wire::Tls, Some("a.example"), None));
    assert_eq!(record.bytes, [5, 14, 5, 14]);
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_is_not_trusted_gets_nothing() -> Result<()> {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = tcp_server("behind", Some(theirs.server(&theirs.issue(&["127.0.0.1"]), &[], false))).await;
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Stream, false);
    let tls = setup.trusting(&ours);
    let backend = setup.backend(server.address, |backend| backend.tls = Some(tls));
    setup.route(Some(backend), &[Wire::Tcp], &[]);
    setup.record("tls-untrusted", true);
    let running = setup.start();
    let mut tcp = TcpStream::connect(running.address()).await?;
    assert_eq!(within("the end", tcp.read(&mut [0; 16])).await??, 0);
    assert_eq!(records("tls-untrusted", 1).await[0].failure, Some(FailureKind::UpstreamTls));
    Ok(())
}

#[tokio::test]
async fn the_server_name_decides_who_is_passed_through() -> Result<()> {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = |name, cert: &str| tcp_server(name, Some(theirs.server(&theirs.issue(&[cert]), &[], false)));
    let (one, two) = (server("one", "a.example").await, server("two", "x.b.example").await);
    let plain = tcp_server("plain", None).await;
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Stream, true);
    setup.certificate(&ours.issue(&["c.example", "y.b.example"]), &["c.example", "y.b.example"]);
    let untouched = setup.trusting(&ours);
    let one = setup.backend(one.address, |backend| backend.tls = Some(untouched));
    let two = setup.backend(two.address, |_| {});
    let plain_backend = setup.backend(plain.address, |_| {});
    setup.route(Some(one), &[Wire::TlsPassthrough], &["a.example"]);
    // Of higher rank than the passthrough route whose names include this one.
    setup.route(Some(plain_backend), &[Wire::Tls], &["y.b.example"]);
    setup.route(Some(two), &[Wire::TlsPassthrough], &["*.b.example"]);
    setup.route(Some(plain_backend), &[Wire::Tls], &["c.example"]);
    setup.record("tls-sni", true);
    let running = setup.start();
    let (to_ours, to_theirs) = (ours.client(None, &[]), theirs.client(None, &[]));
    let check = async |name, config: &Arc<ClientConfig>, expect| -> Result<()> {
        assert_eq!(talk(running.address(), name, Arc::clone(config)).await?, expect, "{name}");
        Ok(())
    };
    check("a.example", &to_theirs, "one\nhello\n5").await?;
    check("x.b.example", &to_theirs, "two\nhello\n5").await?;
    check("y.b.example", &to_ours, "plain\nhello\n5").await?;
    check("c.example", &to_ours, "plain\nhello\n5").await?;
    let seen: Vec<Wire> = records("tls-sni", 4).await.iter().map(|record| record.wire).collect();
    assert_eq!(seen, [Wire::TlsPassthrough, Wire::TlsPassthrough, Wire::Tls, Wire::Tls]);
    Ok(())
}

#[tokio::test]
async fn a_client_without_a_server_name_is_taken_by_routes_that_ask_for_none() -> Result<()> {
    let ours = Authority::new("ours");
    let (wanted, plain) = (tcp_server("wanted", None).await, tcp_server("plain", None).await);
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Stream, true);
    setup.certificate(&ours.issue(&["127.0.0.1"]), &["*"]);
    let wanted = setup.backend(wanted.address, |_| {});
    let plain = setup.backend(plain.address, |_| {});
    setup.route(Some(wanted), &[Wire::Tls], &["a.example"]);
    setup.route(Some(plain), &[Wire::Tls], &[]);
    let running = setup.start();
    assert_eq!(talk(running.address(), "127.0.0.1", ours.client(None, &[])).await?, "plain\nhello\n5");
    Ok(())
}

#[tokio::test]
async fn clients_without_a_route_or_a_handshake_are_closed() -> Result<()> {
    let ours = Authority::new("ours");
    let server = tcp_server("one", None).await;
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Stream, true);
    setup.node.limits.handshake_timeout_ms = 100;
    let backend = setup.backend(server.address, |_| {});
    setup.route(Some(backend), &[Wire::Tls, Wire::Tcp], &["a.example"]);
    setup.record("tls-closed", true);
    let running = setup.start();
    let refused = talk(running.address(), "b.example", ours.client(None, &[])).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(records("tls-closed", 1).await[0].failure, Some(FailureKind::NoRoute));
    for (number, bytes) in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"", b"\x16\x03\x01\x02"].into_iter().enumerate() {
        let mut tcp = TcpStream::connect(running.address()).await?;
        tcp.write_all(bytes).await?;
        let read = within("the end", tcp.read(&mut [0; 16])).await?;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        let record = &records("tls-closed", number + 2).await[number + 1];
        assert_eq!((record.failure, record.wire), (Some(FailureKind::ClientTls), Wire::Tls), "{number}");
    }
    drop(TcpStream::connect(running.address()).await?);
    assert_eq!(records("tls-closed", 5).await[4].failure, Some(FailureKind::ClientClosed));
    Ok(())
}
