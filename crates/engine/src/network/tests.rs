use std::time::Duration;

use cardinal_base::SystemClock;
use cardinal_ir::Resolver;
use cardinal_testkit::{Authority, ScriptedPeer, Step, StreamEcho, TempDir, until};
use tokio::net::TcpListener;

use super::*;

/// A network that resolves `a.test` to this machine.
fn network(authorities: Option<&str>) -> NodeNetwork {
    let trust = Arc::new(Trust::default());
    trust.set(authorities);
    let folder = TempDir::new("network");
    let hosts = folder.write("hosts", "127.0.0.1 a.test\n");
    let settings = Resolver { hosts_file: hosts.to_str().unwrap().into(), ..Resolver::default() };
    let dns = Dns::new(&settings, Arc::new(SystemClock::new()), Handle::current()).unwrap();
    NodeNetwork::new(Arc::new(dns), trust)
}

fn to(address: SocketAddr, tls: Option<ConnectTls>) -> ConnectTo {
    ConnectTo { host: "a.test".to_owned(), port: address.port(), tls, timeout: Duration::from_secs(20) }
}

fn verified() -> ConnectTls {
    ConnectTls { verify: true, server_name: None }
}

async fn echoed(connection: &mut ServerConnection, text: &str) -> String {
    connection.send(text.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while read.len() < text.len() {
        assert!(connection.receive(&mut read, 1_000).await.unwrap() > 0);
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn bytes_go_both_ways() {
    let echo = StreamEcho::tcp().await;
    let mut connection = network(None).connect(to(echo.address(), None)).await.unwrap();
    assert_eq!(echoed(&mut connection, "some text").await, "some text");
    connection.finish().await.unwrap();
    assert_eq!(connection.receive(&mut Vec::new(), 10).await.unwrap(), 0);
}

#[tokio::test]
async fn no_more_is_read_than_there_is_room_for() {
    let peer = ScriptedPeer::start(vec![vec![Step::send("0123456789"), Step::Drain]]).await;
    let mut connection = network(None).connect(to(peer.address(), None)).await.unwrap();
    let mut read = b"ab".to_vec();
    while read.len() < 6 {
        connection.receive(&mut read, 6).await.unwrap();
    }
    assert_eq!(read, b"ab0123");
    assert!(matches!(connection.receive(&mut read, 6).await, Err(CallError::TooLarge(6))));
    let mut rest = Vec::new();
    while rest.len() < 6 {
        connection.receive(&mut rest, 100).await.unwrap();
    }
    assert_eq!(rest, b"456789");
}

#[tokio::test]
async fn servers_are_verified_by_the_node_s_authorities() {
    let authority = Authority::new("ours");
    let config = authority.server(&authority.issue(&["a.test"]), &[], false);
    let echo = StreamEcho::tls(config).await;
    let trusting = network(Some(authority.cert_pem()));
    let mut connection = trusting.connect(to(echo.address(), Some(verified()))).await.unwrap();
    assert_eq!(echoed(&mut connection, "over TLS").await, "over TLS");
    let other = Authority::new("other");
    let doubting = network(Some(other.cert_pem()));
    let refused = doubting.connect(to(echo.address(), Some(verified()))).await;
    assert!(matches!(refused, Err(CallError::Transport(_))), "{refused:?}");
    let unverified = ConnectTls { verify: false, server_name: None };
    assert!(doubting.connect(to(echo.address(), Some(unverified))).await.is_ok());
    let wrong_name = ConnectTls { verify: true, server_name: Some("b.test".to_owned()) };
    assert!(trusting.connect(to(echo.address(), Some(wrong_name))).await.is_err());
}

#[tokio::test]
async fn tls_starts_later() {
    let authority = Authority::new("ours");
    let config = authority.server(&authority.issue(&["a.test"]), &[], false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut word = [0; 8];
        tcp.read_exact(&mut word).await.unwrap();
        tcp.write_all(b"go").await.unwrap();
        let mut tls = tokio_rustls::TlsAcceptor::from(config).accept(tcp).await.unwrap();
        tls.read_exact(&mut word).await.unwrap();
        tls.write_all(&word).await.unwrap();
        tls.flush().await.unwrap();
        word
    };
    let asking = async {
        let mut connection = network(Some(authority.cert_pem())).connect(to(address, None)).await.unwrap();
        connection.send(b"STARTTLS").await.unwrap();
        let mut answer = Vec::new();
        while answer.len() < 2 {
            connection.receive(&mut answer, 2).await.unwrap();
        }
        let mut connection = connection.start_tls(verified()).await.unwrap();
        assert_eq!(echoed(&mut connection, "12345678").await, "12345678");
        // Only once.
        assert!(connection.start_tls(verified()).await.is_err());
    };
    let (word, ()) = tokio::join!(serving, asking);
    assert_eq!(&word, b"12345678");
}

#[tokio::test]
async fn operations_have_a_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limit = Duration::from_millis(50);
    let address = listener.local_addr().unwrap();
    let network = network(None);
    let handshake = network.connect(ConnectTo { timeout: limit, ..to(address, Some(verified())) }).await;
    assert!(matches!(handshake, Err(CallError::Timeout)), "{handshake:?}");
    let mut connection = network.connect(ConnectTo { timeout: limit, ..to(address, None) }).await.unwrap();
    assert!(matches!(connection.receive(&mut Vec::new(), 10).await, Err(CallError::Timeout)));
}

#[tokio::test]
async fn connections_are_counted_and_limited() {
    let echo = StreamEcho::tcp().await;
    let network = NodeNetwork { places: Arc::new(Semaphore::new(1)), ..network(None) };
    let first = network.connect(to(echo.address(), None)).await.unwrap();
    assert!(matches!(network.connect(to(echo.address(), None)).await, Err(CallError::Local(_))));
    drop(first);
    assert!(network.connect(to(echo.address(), None)).await.is_ok());
}

#[tokio::test]
async fn datagrams_arrive() {
    let echo = StreamEcho::udp().await;
    let way = network(None).datagrams("a.test", echo.address().port()).await.unwrap();
    way.send(b"one").await.unwrap();
    way.send(&vec![0; 8_000]).await.unwrap();
    until("both datagrams", || echo.count() == 2).await.unwrap();
    assert!(matches!(way.send(&vec![0; DATAGRAM_MAX + 1]).await, Err(CallError::TooLarge(_))));
}

#[tokio::test]
async fn names_are_looked_up_by_the_node_s_resolver() {
    let network = network(None);
    let found = network.lookup("a.test", 7).await.unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 7));
    assert_eq!(found, [ResolvedAddress { address, weight: None, priority: 0 }]);
    assert!(matches!(network.lookup("not a name", 7).await, Err(CallError::Transport(_))));
}
