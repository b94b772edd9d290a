//! Tests each kind of client directly against an upstream, without a proxy.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::h2::frame::{self, Frame, Reader};
use super::h2::hpack;
use super::h2::wire::Wire;
use super::*;

/// The result of a run.
struct Ran {
    answered: u64,
    served: u64,
    bytes: u64,
    retried: u64,
    latencies: Latencies,
}

/// Runs until this many responses were received.
fn run(load: &mut Load, proxy: SocketAddr, answers: u64) -> Ran {
    load.connect(proxy).unwrap();
    let counts = Counts::default();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            for _wait in 0..2000 {
                if counts.answered() >= answers || counts.errors() > 0 || counts.stopped() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            counts.stop();
        });
        load.run(&counts).unwrap();
        watcher.join().unwrap();
    });
    assert_eq!(counts.errors(), 0, "{}", load.wrong);
    assert!(counts.answered() >= answers, "{} answers", counts.answered());
    load.disconnect();
    Ran {
        answered: counts.answered(),
        served: counts.served(),
        bytes: counts.bytes(),
        retried: counts.retried(),
        latencies: counts.latencies(),
    }
}

/// Stops a run, even if a test fails.
struct StopAtEnd<'a>(&'a Counts);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Connects clients directly to the upstream.
fn check(work: &Work, answers: u64) -> Ran {
    let mut load = Load::new(work).unwrap();
    let upstream = load.upstream().unwrap();
    let ran = run(&mut load, upstream, answers);
    assert!(ran.served >= ran.answered && ran.served <= ran.answered + (work.connections * work.streams) as u64);
    // A second time with other clients.
    run(&mut load, upstream, answers.min(10));
    ran
}

fn small(kind: Kind) -> Work {
    Work { kind, connections: 4, ..Work::plain(1024) }
}

#[test]
fn http1() {
    let ran = check(&small(Kind::H1), 200);
    assert!(ran.bytes >= ran.answered * 1024 && ran.bytes <= (ran.answered + 4) * 1024);
    assert_eq!(ran.latencies.count(), 0);
}

#[test]
fn http1_with_bodies_in_each_direction() {
    for direction in [Direction::Down, Direction::Up, Direction::Both] {
        for body in [0, 1, 64 * 1024, 3 << 20] {
            let ran = check(&Work { direction, body, ..small(Kind::H1) }, 20);
            let each = body as u64 * if direction == Direction::Both { 2 } else { 1 };
            assert!(ran.bytes >= ran.answered * each, "{direction:?} {body}");
        }
    }
}

#[test]
fn http1_with_a_connection_for_each_request() {
    check(&small(Kind::H1Fresh), 200);
}

#[test]
fn http1_at_a_rate() {
    for kind in [Kind::H1, Kind::H1Fresh] {
        let ran = check(&Work { rate: Some(1000), ..small(kind) }, 100);
        assert!(ran.latencies.count() >= 100 && ran.latencies.quantile(0.5) > Duration::ZERO);
        assert!(ran.latencies.max() < Duration::from_secs(10));
    }
}

#[test]
fn messages() {
    for kind in [Kind::Tcp, Kind::WebSocket] {
        for body in [1, 1024, 100_000, 3 << 20] {
            let ran = check(&Work { body, ..small(kind) }, 20);
            assert!(ran.bytes >= ran.answered * 2 * body as u64, "{kind:?} {body}");
        }
        let ran = check(&Work { rate: Some(1000), ..small(kind) }, 50);
        assert!(ran.latencies.count() >= 50);
    }
}

#[test]
fn a_websocket_upstream_answers_plain_requests() {
    let mut load = Load::new(&small(Kind::WebSocket)).unwrap();
    let upstream = load.upstream().unwrap();
    let mut plain = Load::new(&small(Kind::H1)).unwrap();
    let stop = Counts::default();
    std::thread::scope(|scope| {
        scope.spawn(|| load.run(&stop));
        let _stop = StopAtEnd(&stop);
        run(&mut plain, upstream, 20);
    });
}

/// A server that terminates TLS and forwards the content.
fn terminator(alpn: &[u8], upstream: SocketAddr) -> SocketAddr {
    let made = rcgen::generate_simple_self_signed(["shop.bench.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let upstream = TcpStream::connect(upstream).unwrap();
            std::thread::spawn(move || terminate(client.unwrap(), tls, upstream));
        }
    });
    address
}

/// One connection of the terminator, which closes if a request asked for it.
fn terminate(mut client: TcpStream, mut tls: rustls::ServerConnection, mut upstream: TcpStream) {
    client.set_nonblocking(true).unwrap();
    upstream.set_nonblocking(true).unwrap();
    let blocked = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
    let (mut there, mut back, mut buffer) = (Vec::new(), Vec::new(), vec![0; 16 * 1024]);
    let (mut closes, mut answered) = (false, false);
    loop {
        match tls.read_tls(&mut client) {
            Ok(0) => return,
            Err(error) if !blocked(&error) => return,
            _ => {}
        }
        tls.process_new_packets().unwrap();
        if let Ok(n) = tls.reader().read(&mut buffer) {
            there.extend_from_slice(&buffer[..n]);
            closes |= memchr::memmem::find(&buffer[..n], b"Connection: close").is_some();
        }
        let n = upstream.write(&there).unwrap_or(0);
        there.drain(..n);
        match if back.len() < 100_000 { upstream.read(&mut buffer) } else { Ok(usize::MAX) } {
            Ok(0) => return,
            Ok(usize::MAX) => {}
            Ok(n) => back.extend_from_slice(&buffer[..n]),
            Err(error) if blocked(&error) => std::thread::sleep(Duration::from_micros(20)),
            Err(_) => return,
        }
        if closes && memchr::memmem::find(&back, b"200 OK").is_some() {
            let at = memchr::memmem::find(&back, b"200 OK").unwrap() + 6;
            back.splice(at..at, *b"\r\nConnection: close");
            answered = true;
        }
        let n = tls.writer().write(&back).unwrap();
        back.drain(..n);
        while tls.wants_write() && tls.write_tls(&mut client).is_ok() {}
        if answered && back.is_empty() && !tls.wants_write() {
            tls.send_close_notify();
            tls.write_tls(&mut client).ok();
            return;
        }
    }
}

/// Connects clients through the TLS terminator to the upstream.
fn check_tls(work: &Work, load: &mut Load, alpn: &[u8], answers: u64) -> Ran {
    let proxy = terminator(alpn, load.upstream().unwrap());
    run(load, proxy, answers.min(10));
    let ran = run(load, proxy, answers);
    assert!(ran.bytes >= ran.answered * work.body as u64);
    ran
}

#[test]
fn http1_over_tls() {
    for (body, direction) in [(1024, Direction::Down), (1 << 20, Direction::Both), (300_000, Direction::Up)] {
        let work = Work { body, direction, ..small(Kind::H1Tls) };
        check_tls(&work, &mut Load::new(&work).unwrap(), b"http/1.1", 20);
    }
}

#[test]
fn http1_with_a_handshake_for_each_request() {
    let work = small(Kind::TlsFull);
    check_tls(&work, &mut Load::new(&work).unwrap(), b"http/1.1", 40);
}

#[test]
fn http2() {
    let works = [
        Work { streams: 8, ..small(Kind::H2) },
        Work { streams: 8, body: 0, ..small(Kind::H2) },
        Work { streams: 3, body: 3 << 20, ..small(Kind::H2) },
        Work { streams: 3, body: 3 << 20, direction: Direction::Up, ..small(Kind::H2) },
        Work { streams: 3, body: 300_000, direction: Direction::Both, ..small(Kind::H2) },
        Work { streams: 8, rate: Some(1000), ..small(Kind::H2) },
        Work { connections: 500, streams: 2, ..small(Kind::H2) },
    ];
    for work in works {
        let mut load = Load::with_upstream(&work, Speech::Http2).unwrap();
        let upstream = load.upstream().unwrap();
        run(&mut load, upstream, 10);
        let ran = run(&mut load, upstream, 100);
        assert!(ran.bytes >= ran.answered * work.body as u64, "{work:?}");
        assert_eq!(ran.latencies.count() > 50, work.rate.is_some());
    }
}

#[test]
fn http2_over_tls() {
    for (body, direction) in [(1024, Direction::Down), (1 << 20, Direction::Both)] {
        let work = Work { streams: 4, body, direction, ..small(Kind::H2Tls) };
        check_tls(&work, &mut Load::with_upstream(&work, Speech::Http2).unwrap(), b"h2", 40);
    }
}

#[test]
fn grpc() {
    for direction in [Direction::Down, Direction::Up, Direction::Both] {
        for body in [0, 100, 1 << 20] {
            check(&Work { streams: 4, body, direction, ..small(Kind::Grpc) }, 40);
        }
    }
}

/// A server that refuses every tenth request, and every connection after fifty.
fn refusing() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fields = Vec::new();
    hpack::indexed(&mut fields, hpack::STATUS_200);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let fields = fields.clone();
            std::thread::spawn(move || refuse(client.unwrap(), &fields));
        }
    });
    address
}

fn refuse(mut client: TcpStream, fields: &[u8]) {
    let (mut reader, mut wire) = (Reader::default(), Wire::server());
    let mut buffer = vec![0; 16 * 1024];
    let mut count = 0;
    client.read_exact(&mut buffer[..24]).unwrap();
    loop {
        client.write_all(&std::mem::take(&mut wire.out)).unwrap();
        let n = client.read(&mut buffer).unwrap_or(0);
        if n == 0 {
            return;
        }
        let take = &mut |frame: Frame<'_>| {
            let Frame::Headers { id, end: true, .. } = frame else { return wire.take(frame) };
            count += 1;
            if count > 50 {
                // The request arrived after the GOAWAY.
            } else if count % 10 == 5 {
                frame::head(&mut wire.out, 4, 3, 0, id);
                wire.out.extend_from_slice(&[0, 0, 0, 7]);
            } else {
                wire.headers(id, &[fields], true);
            }
            if count == 50 {
                frame::head(&mut wire.out, 8, 7, 0, 0);
                wire.out.extend_from_slice(&[id.to_be_bytes(), [0; 4]].concat());
            }
            Ok(())
        };
        reader.push(&buffer[..n], take).unwrap();
    }
}

#[test]
fn refused_requests_are_sent_again() {
    let mut load = Load::new(&Work { body: 0, streams: 7, ..small(Kind::H2) }).unwrap();
    let ran = run(&mut load, refusing(), 1000);
    assert!(ran.retried >= 100, "{}", ran.retried);
}

#[test]
fn wrong_lengths_over_http2_are_errors() {
    let mut upstream = Load::new(&small(Kind::Grpc)).unwrap();
    let address = upstream.upstream().unwrap();
    for (work, expect) in [
        (Work { body: 1023, ..small(Kind::Grpc) }, "the length is wrong"),
        (Work { body: 7, direction: Direction::Both, ..small(Kind::Grpc) }, "the status is not 200"),
    ] {
        let mut load = Load::new(&work).unwrap();
        load.connect(address).unwrap();
        let counts = Counts::default();
        std::thread::scope(|scope| {
            scope.spawn(|| upstream.run(&counts));
            let _stop = StopAtEnd(&counts);
            let failed = load.run(&counts).unwrap_err().to_string();
            assert!(failed.contains(expect), "{failed}");
        });
        assert_eq!(counts.answered(), 0);
    }
}

#[test]
fn two_thousand_connections() {
    check(&Work { connections: 2000, ..small(Kind::H1) }, 4000);
}

#[test]
fn wrong_answers_are_errors() {
    let mut upstream = Load::new(&small(Kind::H1)).unwrap();
    let address = upstream.upstream().unwrap();
    let mut load = Load::new(&Work { body: 1023, ..small(Kind::H1) }).unwrap();
    load.connect(address).unwrap();
    let counts = Counts::default();
    std::thread::scope(|scope| {
        scope.spawn(|| upstream.run(&counts));
        let _stop = StopAtEnd(&counts);
        let failed = load.run(&counts).unwrap_err().to_string();
        assert!(failed.contains("the length is wrong"), "{failed}");
    });
    assert_eq!(counts.answered(), 0);
}
