//! Peers that do what they are told.

use std::time::Duration;

use cardinal_testkit::{Authority, H1Client, ScriptedPeer, Socket, Step, StreamEcho};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;

#[tokio::test]
async fn plays_are_played_in_order_and_the_last_one_again() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    let peer = ScriptedPeer::start(vec![
        vec![Step::until("\r\n\r\n"), Step::Reset],
        vec![Step::Expect(b"GET /a ".to_vec()), Step::send(answer), Step::Trickle(b"ok".to_vec(), Duration::ZERO)],
    ])
    .await;
    let mut client = H1Client::connect(peer.address()).await.unwrap();
    let error = client.get("/first", "h", &[]).await.unwrap_err();
    assert!(format!("{error:#}").contains("reset"), "{error:#}");
    for _ in 0..2 {
        let mut client = H1Client::connect(peer.address()).await.unwrap();
        assert_eq!(client.get("/a", "h", &[]).await.unwrap().body, b"ok");
    }
    assert_eq!(peer.errors(), Vec::<String>::new());
    assert_eq!(peer.connections(), 3);
    assert!(peer.received()[0].starts_with(b"GET /first HTTP/1.1\r\n"));
}

#[tokio::test]
async fn what_was_not_expected_is_told() {
    let peer = ScriptedPeer::start(vec![vec![Step::Expect(b"PUT".to_vec()), Step::send("never")]]).await;
    let mut client = H1Client::connect(peer.address()).await.unwrap();
    client.send("GET / HTTP/1.1\r\n\r\n").await.unwrap();
    // The peer closes with bytes unread, which may show as a reset.
    let got = client.read_to_end().await.unwrap_or_default();
    assert_eq!(got, b"");
    let errors = peer.errors();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("got b\"GET / HTTP/1.1"), "{errors:?}");
}

#[tokio::test]
async fn responses_are_read_strictly() {
    for (answer, expect) in [
        ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", "bare LF"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "inside the body"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk size"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "together"),
    ] {
        let peer = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(answer)]]).await;
        let mut client = H1Client::connect(peer.address()).await.unwrap();
        let error = client.get("/", "h", &[]).await.unwrap_err();
        assert!(format!("{error:#}").contains(expect), "{answer:?}: {error:#}");
    }
}

#[tokio::test]
async fn floods_end_when_the_client_has_gone() {
    let peer = ScriptedPeer::start(vec![vec![Step::Flood(vec![b'x'; 65_536], u64::MAX)]]).await;
    let mut client = H1Client::connect(peer.address()).await.unwrap();
    assert!(!client.read_some().await.unwrap().is_empty());
    client.reset().unwrap();
    let mut next = H1Client::connect(peer.address()).await.unwrap();
    assert!(!next.read_some().await.unwrap().is_empty());
    assert_eq!(peer.errors(), Vec::<String>::new());
}

#[tokio::test]
async fn plays_go_on_inside_tls() {
    let authority = Authority::new("Test CA");
    let config = authority.server(&authority.issue(&["example.com"]), &[], false);
    let answer = "HTTP/1.1 204 No Content\r\n\r\n";
    let peer = ScriptedPeer::start_tls(config, vec![vec![Step::until("\r\n\r\n"), Step::send(answer)]]).await;
    let mut client = H1Client::connect_tls(peer.address(), "example.com", authority.client(None, &[])).await.unwrap();
    assert_eq!(client.get("/", "example.com", &[]).await.unwrap().status, 204);
    let stranger = Authority::new("Stranger").client(None, &[]);
    assert!(H1Client::connect_tls(peer.address(), "example.com", stranger).await.is_err());
}

#[tokio::test]
async fn streams_and_datagrams_come_back() {
    let authority = Authority::new("Test CA");
    let config = authority.server(&authority.issue(&["example.com"]), &[], false);
    let (tcp, tls) = (StreamEcho::tcp().await, StreamEcho::tls(config).await);
    let plain = Socket::connect(tcp.address()).await.unwrap();
    let secret = Socket::connect(tls.address()).await.unwrap();
    let secret = secret.start_tls("example.com", authority.client(None, &[])).await.unwrap();
    for mut socket in [plain, secret] {
        socket.write_all(b"hello").await.unwrap();
        socket.shutdown().await.unwrap();
        let mut back = Vec::new();
        socket.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"hello");
    }
    let udp = StreamEcho::udp().await;
    let client = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    client.send_to(b"hi", udp.address()).await.unwrap();
    let mut buf = [0; 8];
    let (length, from) = client.recv_from(&mut buf).await.unwrap();
    assert_eq!((&buf[..length], from, udp.count()), (b"hi".as_slice(), udp.address(), 1));
}
