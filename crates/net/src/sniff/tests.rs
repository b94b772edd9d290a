use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use cardinal_base::{ManualClock, Rng as _, SeededRng};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::Wheel;

/// A ClientHello for `name` that offers `h2`.
fn client_hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = versions.unwrap().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same handshake message in TLS records of `size` bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let pieces = hello[5..].chunks(size);
    pieces
        .flat_map(|piece| [&[22, 3, 1], &u16::try_from(piece.len()).unwrap().to_be_bytes()[..], piece].concat())
        .collect()
}

/// The protocol of `bytes`, and the number of bytes after which it is known; equal in one part and byte by byte.
fn check(bytes: &[u8], expect: Option<Protocol>) {
    let shown = bytes.get(..60).unwrap_or(bytes).escape_ascii().to_string();
    assert_eq!(Classifier::default().classify(bytes), expect, "{shown}");
    let mut classifier = Classifier::default();
    let first = (1..=bytes.len()).find_map(|end| classifier.classify(&bytes[..end]));
    assert_eq!(first, expect, "byte by byte: {shown}");
}

#[test]
fn http_1_is_known_by_its_request_line() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "M-SEARCH * HTTP/1.0\r\n",
        "CONNECT a:443 HTTP/1.1\r\n",
        "\r\n\r\nPOST http://a/b?c=d HTTP/1.1\r\nHost: a\r\n",
        "PRI / HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX",
        // Requests that lenient servers accept.
        "get  /\t http/1.1 \n",
        "GET\t/ HTTP/3.0\r\n",
        "GET /\u{e9} HTTP/1.1\n",
    ] {
        check(line.as_bytes(), Some(Protocol::Http1));
    }
    let long = [b"GET /".as_slice(), &[b'a'; SNIFF_MAX]].concat();
    check(&long, Some(Protocol::Http1));
    check(&long[..SNIFF_MAX - 1], None);
    for partial in ["", "G", "GET", "GET /", "GET / HTTP/1.1", "GET / HTTP/1.1\r", "\r\n"] {
        check(partial.as_bytes(), None);
    }
}

#[test]
fn http_2_is_known_by_its_preface() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    check(&[preface, &b"\0\0\0\x04\0\0\0\0\0"[..]].concat(), Some(Protocol::Http2));
    for end in 0..preface.len() {
        check(&preface[..end], None);
    }
}

#[test]
fn tls_is_known_by_its_client_hello() {
    let hello = client_hello("A.example.com");
    let expect = ClientHello { sni: Some("a.example.com".to_owned()), alpn: vec![b"h2".to_vec()] };
    for bytes in [hello.clone(), in_records(&hello, 100), [hello.as_slice(), &[0; 500]].concat()] {
        check(&bytes, Some(Protocol::Tls));
        let mut classifier = Classifier::default();
        classifier.classify(&bytes);
        assert_eq!(classifier.take_hello(), Some(expect.clone()));
    }
    for end in 0..hello.len() {
        check(&hello[..end], None);
    }
    // A handshake record that never becomes a ClientHello.
    check(&[22, 2], Some(Protocol::Bytes));
    check(&[22, 3, 1, 0, 4, 2, 0, 0, 0], Some(Protocol::Bytes));
    let endless = in_records(&[&[0; 5], &[1, 0, 0xff, 0xff][..], &[0; 2 * SNIFF_MAX]].concat(), 1_000);
    check(&endless, Some(Protocol::Bytes));
    check(&endless[..SNIFF_MAX - 1], None);
}

#[test]
fn other_protocols_are_bytes_at_once() {
    let first_bytes: &[(&str, &[u8])] = &[
        ("SSH", b"SSH-2.0-OpenSSH_9.2 Debian-2\r\n"),
        ("Redis", b"*1\r\n"),
        ("Redis, inline", b"GET key\r\n"),
        ("HTTP/0.9", b"GET /\r\n"),
        ("memcached", b"get key\r\n"),
        ("memcached, binary", b"\x80\x07"),
        ("PostgreSQL", b"\0\0\0\x08\x04\xd2\x16\x2f"),
        ("MongoDB", b"\x3a\0\0\0"),
        ("LDAP", b"0\x0c\x02\x01\x01\x60"),
        ("MQTT", b"\x10\x0c\0\x04MQTT"),
        ("AMQP", b"AMQP\0\0\x09\x01"),
        ("Kafka", b"\0\0\0\x23"),
        ("NATS", b"CONNECT {\"verbose\":false}\r\n"),
        ("SIP", b"INVITE sip:a@b SIP/2.0\r\n"),
        ("RTSP", b"OPTIONS * RTSP/1.0\r\n"),
        ("FIX", b"8=FIX.4.4"),
        ("SMTP client that does not wait", b"EHLO a\r\n"),
        ("SSLv2", b"\x80\x2e\x01"),
        ("PROXY protocol 2", b"\r\n\r\n\0\r\nQUIT\n"),
        ("one line of text", b"hello\n"),
        ("blank lines", &[b'\n'; 65]),
    ];
    for (name, bytes) in first_bytes {
        assert_eq!(Classifier::default().classify(bytes), Some(Protocol::Bytes), "{name}");
        check(bytes, Some(Protocol::Bytes));
    }
    check(&[b'a'; SNIFF_MAX], Some(Protocol::Bytes));
    check(&[b'a'; SNIFF_MAX - 1], None);
}

proptest::proptest! {
    #[test]
    fn the_pieces_do_not_matter(seed in 0_u64.., bytes in proptest::collection::vec(0_u8.., 0..200), start in 0_usize..5) {
        let starts = [&b""[..], b"GET /", b"PRI * HTTP/2.0\r\n\r\n", b"\x16\x03\x01", &client_hello("a")];
        let bytes = [starts[start], &bytes].concat();
        let whole = (1..=bytes.len()).find_map(|end| Classifier::default().classify(&bytes[..end]));
        let mut rng = SeededRng::new(seed);
        let (mut classifier, mut end, mut found) = (Classifier::default(), 0, None);
        while found.is_none() && end < bytes.len() {
            end = (end + 1 + usize::try_from(rng.below(9)).unwrap()).min(bytes.len());
            found = classifier.classify(&bytes[..end]);
        }
        proptest::prop_assert_eq!(found, whole);
    }
}

/// A connection with its client side, and the timer for its timeouts.
struct Scene {
    client: DuplexStream,
    io: Io,
    clock: Arc<ManualClock>,
    timer: Timer,
}

impl Scene {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let (client, near) = tokio::io::duplex(64 * 1024);
        let timer = Timer::new(&Wheel::new(clock.clone()));
        Self { client, io: Io::Memory(near), clock, timer }
    }

    /// Runs detection while `act` is called every 10 ms with the elapsed time; returns the result and the total time.
    async fn run(mut self, mut act: impl AsyncFnMut(&mut DuplexStream, u64)) -> (Sniffed, u64) {
        let mut sniffing = Box::pin(sniff(&mut self.io, Detection::Sniff(SniffTimeouts::default()), &self.timer));
        let mut cx = Context::from_waker(Waker::noop());
        for passed in (0..).step_by(10) {
            act(&mut self.client, passed).await;
            if let Poll::Ready(outcome) = sniffing.as_mut().poll(&mut cx) {
                return (outcome.unwrap(), passed);
            }
            self.clock.advance(Duration::from_millis(10));
            self.timer.wheel().fire();
        }
        unreachable!("it ends before time does")
    }
}

#[tokio::test]
async fn bytes_that_were_read_are_kept() {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody";
    let (sniffed, passed) = Scene::new()
        .run(async |client, passed| {
            let piece = request.chunks(9).nth(usize::try_from(passed / 10).unwrap()).unwrap_or_default();
            client.write_all(piece).await.unwrap();
        })
        .await;
    assert_eq!((sniffed.protocol, sniffed.evidence), (Protocol::Http1, Evidence::Content));
    assert_eq!(sniffed.prefix.filled(), &request[..18]);
    assert_eq!(passed, 10, "decided with the request line, not with the head");
}

#[tokio::test]
async fn silence_makes_it_bytes_in_time() {
    let (sniffed, passed) = Scene::new().run(async |_, _| {}).await;
    assert_eq!((sniffed.protocol, sniffed.evidence), (Protocol::Bytes, Evidence::Silence));
    assert!(sniffed.prefix.is_empty());
    assert!((500..=560).contains(&passed), "{passed}");
}

/// A client that sends a byte from time to time does not delay forwarding forever.
#[tokio::test]
async fn unfinished_bytes_are_passed_on_in_time() {
    let (sniffed, passed) = Scene::new()
        .run(async |client, passed| {
            if passed >= 400 && passed % 100 == 0 {
                client.write_all(b"G").await.unwrap();
            }
        })
        .await;
    assert_eq!((sniffed.protocol, sniffed.evidence), (Protocol::Bytes, Evidence::Unfinished));
    assert!((2_400..=2_460).contains(&passed), "{passed}");
    assert!(sniffed.prefix.len() >= 20);
}

#[tokio::test]
async fn a_client_that_sends_nothing_more_is_passed_on_at_once() {
    let (sniffed, passed) = Scene::new()
        .run(async |client, _| {
            client.write_all(b"GE").await.unwrap();
            client.shutdown().await.unwrap();
        })
        .await;
    assert_eq!((sniffed.protocol, sniffed.evidence, passed), (Protocol::Bytes, Evidence::Unfinished, 0));
    assert_eq!(sniffed.prefix.filled(), b"GE");
}

#[tokio::test]
async fn declared_ports_are_not_read() {
    let mut scene = Scene::new();
    scene.client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let detection = Detection::for_port(3306, SniffTimeouts::default());
    assert_eq!(detection, Detection::Declared(Protocol::Bytes));
    let sniffed = sniff(&mut scene.io, detection, &scene.timer).await.unwrap();
    assert_eq!((sniffed.protocol, sniffed.evidence), (Protocol::Bytes, Evidence::Declared));
    assert!(sniffed.prefix.is_empty());
    assert!(!scene.io.is_silent(), "the bytes are still there");
    assert!(matches!(Detection::for_port(8080, SniffTimeouts::default()), Detection::Sniff(_)));
}
