use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::{ClientSettings, client_config, self_signed};

const TARGET: &str = "192.0.2.1:25";

/// A server that handles one connection by `serve`, over TLS if `tls` is set; returns the result of `serve`, such as
/// the data sent by the client.
async fn server<F, R>(tls: Option<TlsAcceptor>, serve: F) -> (SocketAddr, tokio::sync::oneshot::Receiver<R>)
where
    F: AsyncFnOnce(Socket) -> R + 'static,
    R: 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (outcome, received) = tokio::sync::oneshot::channel();
    drop(cardinal_base::task::spawn_local("server", async move {
        let tcp = listener.accept().await.unwrap().0;
        let socket: Socket = match tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(tls.accept(tcp).await.unwrap()),
        };
        outcome.send(serve(socket).await).ok();
    }));
    (address, received)
}

type Socket = Box<dyn Stream>;

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Reads a head, byte by byte.
async fn read_head(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn through(proxy: SocketAddr) -> Tunnel {
    Tunnel { proxy, tls: None, host: None, authorization: None }
}

async fn connect_through(tunnel: Tunnel, tls: Option<&TlsTarget>) -> Result<Connected, ConnectError> {
    let connector = Connector { tunnel: Some(Box::new(tunnel)), ..Connector::DIRECT };
    connector.connect(TARGET.parse().unwrap(), None, tls, &Stage::default()).await
}

async fn local<T>(future: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(future).await
}

/// The result of connecting through a proxy that sends `response` in parts of `size` bytes.
async fn answered(response: &'static [u8], size: usize) -> Result<Connected, ConnectError> {
    let (proxy, _) = server(None, async move |mut socket| {
        read_head(&mut socket).await;
        for piece in response.chunks(size) {
            socket.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
    connect_through(through(proxy), None).await
}

#[tokio::test]
async fn a_tunnel_keeps_what_the_target_says_first() {
    let response = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\n220 mail\r\n\r\n";
    for size in [1, 7, response.len()] {
        local(async {
            let mut connected = answered(response, size).await.unwrap();
            assert_eq!(connected.address, TARGET.parse().unwrap());
            let mut greeting = Vec::new();
            connected.io.read_to_end(&mut greeting).await.unwrap();
            assert_eq!(greeting, b"220 mail\r\n\r\n", "in pieces of {size}");
        })
        .await;
    }
}

#[tokio::test]
async fn the_proxy_is_asked_for_the_target() {
    local(async {
        for (host, authorization, expect) in [
            (None, None, "CONNECT 192.0.2.1:25 HTTP/1.1\r\nHost: 192.0.2.1:25\r\n\r\n"),
            (
                Some("mail.example.com"),
                Some("Basic dTpw"),
                "CONNECT mail.example.com:25 HTTP/1.1\r\nHost: mail.example.com:25\r\nProxy-Authorization: Basic dTpw\r\n\r\n",
            ),
        ] {
            let (proxy, head) = server(None, async |mut socket| {
                let head = read_head(&mut socket).await;
                socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                head
            })
            .await;
            let tunnel = Tunnel {
                host: host.map(Into::into),
                authorization: authorization.map(Into::into),
                ..through(proxy)
            };
            assert!(!format!("{tunnel:?}").contains("dTpw"), "credentials are not for logs");
            connect_through(tunnel, None).await.unwrap();
            assert_eq!(head.await.unwrap(), expect);
        }
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_that_is_not_opened_says_why() {
    let check = async |response: &'static [u8], expect: &str| {
        local(async {
            let error = answered(response, 1024).await.unwrap_err();
            let reason = error.tunnel().unwrap();
            assert_eq!(reason.to_string(), expect);
            assert!(!error.is_local() && error.option().is_none());
            assert!(error.to_string().starts_with("connect to 127.0.0.1:"), "{error}");
        })
        .await;
    };
    check(
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        "the proxy refused CONNECT 192.0.2.1:25 with status 407",
    )
    .await;
    check(b"HTTP/1.1 101 Switching\r\n\r\n", "the proxy refused CONNECT 192.0.2.1:25 with status 101").await;
    check(b"HTTP/1.1 200 OK\r\nX: y\r\n", "the proxy closed the connection during CONNECT 192.0.2.1:25").await;
    check(b"", "the proxy closed the connection during CONNECT 192.0.2.1:25").await;
    check(b"SSH-2.0-OpenSSH\r\n", "malformed response of the proxy to CONNECT 192.0.2.1:25: malformed first line")
        .await;
}

/// Endless interim responses, and an endless response.
#[tokio::test]
async fn what_a_proxy_sends_is_bounded() {
    for endless in ["HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 200 OK\r\nX: ", "a", "X: y\r\n"] {
        local(async {
            let (proxy, sent) = server(None, async move |mut socket| {
                read_head(&mut socket).await;
                socket.write_all(if endless.len() > 9 { b"" } else { b"HTTP/1.1 200 OK\r\nA: " }).await.unwrap();
                let mut sent = 0;
                while socket.write_all(endless.as_bytes()).await.is_ok() && sent < 10_000_000 {
                    sent += endless.len();
                }
                sent
            })
            .await;
            let error = connect_through(through(proxy), None).await.unwrap_err();
            assert!(matches!(error.tunnel(), Some(TunnelError::Malformed { .. })), "{error}");
            assert!(sent.await.unwrap() < 10_000_000);
        })
        .await;
    }
}

#[tokio::test]
async fn what_cannot_be_sent_to_a_proxy_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    for (host, authorization) in [(Some("a\r\nX: y"), None), (Some(""), None), (None, Some("a\r\nX: y"))] {
        let tunnel =
            Tunnel { host: host.map(Into::into), authorization: authorization.map(Into::into), ..through(proxy) };
        let error = connect_through(tunnel, None).await.unwrap_err();
        assert!(matches!(error.tunnel(), Some(TunnelError::Unsendable(_))), "{error}");
    }
}

fn tls_server() -> TlsAcceptor {
    let key = Arc::new(SingleCertAndKey::from(self_signed().unwrap()));
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(key);
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn tls_target(alpn: &[u8]) -> TlsTarget {
    let settings = ClientSettings { alpn: vec![alpn.to_vec()], ..ClientSettings::default() };
    TlsTarget { config: client_config(&settings).unwrap(), server_name: "localhost".try_into().unwrap() }
}

/// TLS with the target, through proxies with TLS and without.
#[tokio::test]
async fn tls_goes_through_tunnels() {
    for proxy_tls in [false, true] {
        local(async {
            let (proxy, received) = server(proxy_tls.then(tls_server), async |mut socket| {
                read_head(&mut socket).await;
                socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut inner = tls_server().accept(socket).await.unwrap();
                inner.write_all(b"hello").await.unwrap();
                let mut received = Vec::new();
                // Fails unless TLS ends cleanly.
                inner.read_to_end(&mut received).await.map(|_| received)
            })
            .await;
            let tunnel = Tunnel { tls: proxy_tls.then(|| tls_target(b"h2")), ..through(proxy) };
            let mut connected = connect_through(tunnel, Some(&tls_target(b"h2"))).await.unwrap();
            assert!(connected.h2);
            assert_eq!(matches!(connected.io, Io::TunnelTls(_)), proxy_tls);
            let mut hello = [0; 5];
            connected.io.read_exact(&mut hello).await.unwrap();
            connected.io.write_all(&[7; 100_000]).await.unwrap();
            connected.io.flush().await.unwrap();
            assert!(connected.io.is_silent() && !connected.io.tls_has_failed());
            assert_eq!(connected.io.tcp().unwrap().peer_addr().unwrap(), proxy);
            connected.io.close_idle();
            drop(connected);
            assert_eq!(received.await.unwrap().unwrap(), [7; 100_000]);
        })
        .await;
    }
}

#[tokio::test]
async fn the_source_address_is_the_one_that_is_set() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let connect = async |source: Source| {
        let options = SocketOptions { source: Some(source), ..SocketOptions::NONE };
        Connector { options, ..Connector::DIRECT }.connect(target, None, None, &Stage::default()).await
    };
    for source in [Source::Own, Source::Future] {
        let _connected = connect(source("127.0.0.9:0".parse().unwrap())).await.unwrap();
        assert_eq!(listener.accept().await.unwrap().1.ip(), std::net::Ipv4Addr::new(127, 0, 0, 9));
    }
    let error = connect(Source::Own("[::1]:0".parse().unwrap())).await.unwrap_err();
    assert!(error.is_local() && error.option().is_some());
    assert_eq!(
        error.to_string(),
        format!(
            "connect to {target}: cannot set the source address [::1]:0: it is not of the address family of {target}"
        )
    );
    let error = connect(Source::Own("192.0.2.1:0".parse().unwrap())).await.unwrap_err();
    assert!(error.is_local() && error.to_string().contains("cannot set the source address 192.0.2.1:0: "), "{error}");
}

/// With addresses of both families, the one that is reachable from the source address is used.
#[tokio::test]
async fn the_source_address_chooses_the_family() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (open, other) = (listener.local_addr().unwrap(), "[::1]:9".parse().unwrap());
    let options = SocketOptions { source: Some(Source::Own("127.0.0.9:0".parse().unwrap())), ..SocketOptions::NONE };
    let (connector, stage) = (Connector { options, ..Connector::DIRECT }, Stage::default());
    for (first, second) in [(open, other), (other, open)] {
        let connected = connector.connect(first, Some(second), None, &stage).await.unwrap();
        assert_eq!(connected.address, open);
    }
    drop(listener);
    for (first, second) in [(open, other), (other, open)] {
        let error = connector.connect(first, Some(second), None, &stage).await.unwrap_err();
        assert_eq!(error.io().kind(), io::ErrorKind::ConnectionRefused);
        assert!(!error.is_local());
    }
}

/// Tunnels are boxed, so that they do not enlarge the future of a direct connection.
#[test]
fn the_direct_way_stays_small() {
    let stage = Stage::default();
    let connecting = connect(TARGET.parse().unwrap(), None, None, &stage);
    assert!(size_of_val(&connecting) <= 1_600, "{}", size_of_val(&connecting));
}

#[tokio::test]
async fn the_stage_tells_what_is_late() {
    let stage = Stage::default();
    assert_eq!(stage.missing(), "no connection");
    local(async {
        let (proxy, _received) = server(None, async |mut socket| {
            read_head(&mut socket).await;
            std::future::pending::<()>().await;
        })
        .await;
        let connector = Connector { tunnel: Some(Box::new(through(proxy))), ..Connector::DIRECT };
        let mut connecting = Box::pin(connector.connect(TARGET.parse().unwrap(), None, None, &stage));
        while stage.missing() == "no connection" {
            tokio::select! {
                biased;
                outcome = &mut connecting => panic!("{outcome:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await;
    assert_eq!(stage.missing(), "connected to the proxy, but the tunnel was not opened");
    assert!(!stage.is_handshake());
}
