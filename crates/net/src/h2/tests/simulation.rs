//! Both roles with the `h2` crate as the peer: bodies and trailers of any size, through pipes and windows of any size,
//! with random scheduling from a seed.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use cardinal_base::{Rng as _, SeededRng};
use cardinal_http::{HeaderList, Method, Name, ResponseHead};
use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::LocalSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::NetError;
use crate::buffer::Buffer;
use crate::h2::frame::PREFACE;
use crate::h2::{Code, H2, Server, Settings, Target, client};
use crate::io::Io;
use crate::tls::{ClientSettings, client_config, self_signed};

/// Spawns a task whose panic is propagated when it is awaited.
#[allow(clippy::disallowed_methods, reason = "whoever waits for it sees the panic")]
fn spawn_local<F: Future<Output: 'static> + 'static>(future: F) -> tokio::task::JoinHandle<F::Output> {
    tokio::task::spawn_local(future)
}

const SEEDS: u64 = 20;
const STREAMS: usize = 12;

/// Random numbers from a seed.
struct Dice(SeededRng);

impl Dice {
    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.0.below(bound)).unwrap()
    }

    /// Mostly small, sometimes large.
    fn size(&mut self) -> usize {
        match self.below(4) {
            0 => self.below(3),
            1 => self.below(2_000),
            2 => self.below(40_000),
            _ => self.below(400_000),
        }
    }
}

fn dice(seed: u64, part: usize) -> Dice {
    Dice(SeededRng::new(seed * 1_000 + part as u64))
}

fn settings(dice: &mut Dice) -> Settings {
    Settings {
        stream_window: 1 << (16 + dice.below(4)),
        connection_window: 65_536 << dice.below(4),
        streams_max: 100,
        header_list_max: 16 * 1024,
    }
}

/// Body bytes that differ from stream to stream.
fn body(part: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 7 + at / 251 + part) % 256).unwrap()).collect()
}

async fn turns(dice: &mut Dice) {
    for _ in 0..dice.below(4) {
        tokio::task::yield_now().await;
    }
}

fn run(test: impl AsyncFn(u64)) {
    for seed in 0..SEEDS {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let limit = Duration::from_secs(20);
        let outcome = LocalSet::new().block_on(&runtime, async { tokio::time::timeout(limit, test(seed)).await });
        assert!(outcome.is_ok(), "seed {seed} does not come to an end");
    }
}

/// Reads a body with this implementation.
async fn read(stream: &mut H2, dice: &mut Dice) -> Result<Vec<u8>, NetError> {
    let mut whole = Vec::new();
    while poll_fn(|cx| stream.poll_body(cx)).await? {
        let count = (1 + dice.below(20_000)).min(stream.data().len());
        whole.extend_from_slice(&stream.data()[..count]);
        stream.consume(count);
        turns(dice).await;
    }
    Ok(whole)
}

/// Sends a body with this implementation.
async fn send(stream: &mut H2, mut bytes: &[u8], trailers: &HeaderList, dice: &mut Dice) -> Result<(), NetError> {
    while !bytes.is_empty() {
        let part = &bytes[..(1 + dice.below(30_000)).min(bytes.len())];
        let count = poll_fn(|cx| stream.poll_send(cx, part)).await?;
        bytes = &bytes[count..];
        turns(dice).await;
    }
    stream.finish(Some(trailers))
}

/// Echoes body and trailers, unless the other side cancels.
async fn echo(stream: H2, seed: u64, part: usize) {
    if let Err(error) = try_echo(stream, &mut dice(seed, part + 500)).await {
        assert!(error.is_disconnect(), "{error}");
    }
}

async fn try_echo(mut stream: H2, dice: &mut Dice) -> Result<(), NetError> {
    let whole = read(&mut stream, dice).await?;
    let mut head = ResponseHead::new(200);
    assert!(head.headers.append(b"X-Length", whole.len().to_string().as_bytes()));
    let end = whole.is_empty() && stream.trailers().is_empty();
    stream.send_response(&head, end)?;
    if end {
        return Ok(());
    }
    let trailers = stream.trailers().clone();
    send(&mut stream, &whole, &trailers, dice).await
}

/// Reads a body with the crate.
async fn read_theirs(receive: &mut h2::RecvStream) -> (Vec<u8>, Option<http::HeaderMap>) {
    let mut whole = Vec::new();
    while let Some(data) = receive.data().await {
        let data = data.unwrap();
        whole.extend_from_slice(&data);
        receive.flow_control().release_capacity(data.len()).unwrap();
    }
    (whole, receive.trailers().await.unwrap())
}

/// Sends a body with the crate.
async fn send_theirs(mut send: h2::SendStream<Bytes>, bytes: Vec<u8>, trailers: Option<http::HeaderMap>) {
    let mut rest = Bytes::from(bytes);
    while !rest.is_empty() {
        send.reserve_capacity(rest.len());
        let room = poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
        let part = rest.split_to(room.min(rest.len()));
        send.send_data(part, rest.is_empty() && trailers.is_none()).unwrap();
    }
    if let Some(trailers) = trailers {
        send.send_trailers(trailers).unwrap();
    }
}

fn their_trailers(part: usize) -> http::HeaderMap {
    http::HeaderMap::from_iter([(http::HeaderName::from_static("x-part"), http::HeaderValue::from(part))])
}

#[test]
fn our_server_and_another_client() {
    run(async |seed| {
        let mut all = dice(seed, 0);
        let (near, far) = tokio::io::duplex(1 + all.size());
        let server = Server::new(Io::Memory(near), Buffer::default(), settings(&mut all));
        let serving = spawn_local(async move {
            let mut part = 0;
            loop {
                match poll_fn(|cx| server.poll_accept(cx, 0)).await {
                    Some(Ok(request)) => {
                        part += 1;
                        drop(spawn_local(echo(request.stream, seed, part)));
                    }
                    Some(Err(error)) => {
                        return assert_eq!(error.to_string(), "connection lost: unexpected end of file");
                    }
                    None => return,
                }
            }
        });
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << (9 + all.below(11))).initial_connection_window_size(65_535 << all.below(3));
        let (client, connection) = builder.handshake::<_, Bytes>(far).await.unwrap();
        let driver = spawn_local(connection);
        let streams: Vec<_> = (0..STREAMS).map(|part| spawn_local(ask_ours(client.clone(), seed, part))).collect();
        for stream in streams {
            stream.await.unwrap();
        }
        drop(client);
        driver.await.unwrap().unwrap();
        serving.await.unwrap();
    });
}

/// Responses to control frames fill the output, which is flushed immediately: input that was left unread is read then.
#[test]
fn a_full_output_that_empties_lets_reading_go_on() {
    const PINGS: usize = 15_000;
    run(async |seed| {
        if seed > 0 {
            return;
        }
        let (near, mut far) = tokio::io::duplex(4 * 1024 * 1024);
        let server = Server::new(Io::Memory(near), Buffer::default(), settings(&mut dice(0, 0)));
        drop(spawn_local(async move { poll_fn(|cx| server.poll_accept(cx, 0)).await.is_none() }));
        let mut said = [PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat();
        (0..PINGS).for_each(|_| said.extend_from_slice(b"\0\0\x08\x06\0\0\0\0\x0012345678"));
        far.write_all(&said).await.unwrap();
        let mut heard = vec![0; 27 + 13 + 9 + PINGS * 17];
        far.read_exact(&mut heard).await.unwrap();
        assert!(heard.ends_with(b"\0\0\x08\x06\x01\0\0\0\x0012345678"));
    });
}

/// A connection to an upstream ends when its last handle and its last stream are dropped.
#[test]
fn a_connection_that_nobody_has_ends() {
    run(async |seed| {
        let (near, far) = tokio::io::duplex(4_096);
        let (client, driver) = client(Io::Memory(near), settings(&mut dice(seed, 0)));
        let driving = spawn_local(async move { poll_fn(|cx| driver.poll(cx, 0)).await });
        let serving = spawn_local(async move {
            let mut connection = h2::server::handshake(far).await.unwrap();
            while let Some(accepted) = connection.accept().await {
                accepted.unwrap().1.send_response(http::Response::new(()), true).unwrap();
            }
        });
        poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
        let target = Target { method: &Method::Get, https: false, authority: b"a", path: b"/" };
        let mut stream = client.open(&target, true, |_| {}).unwrap();
        drop(client);
        poll_fn(|cx| stream.poll_response(cx, &mut ResponseHead::default())).await.unwrap();
        assert!(!poll_fn(|cx| stream.poll_body(cx)).await.unwrap());
        for _ in 0..seed {
            tokio::task::yield_now().await;
        }
        assert!(!driving.is_finished());
        drop(stream);
        driving.await.unwrap().unwrap();
        serving.await.unwrap();
    });
}

/// gRPC servers that respond before the end of the request reset the stream after their trailers: this is not counted
/// as a flood.
#[test]
fn upstreams_may_end_each_call_with_a_reset() {
    run(async |seed| {
        if seed > 0 {
            return;
        }
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (client, driver) = client(Io::Memory(near), settings(&mut dice(0, 0)));
        drop(spawn_local(async move { poll_fn(|cx| driver.poll(cx, 0)).await }));
        drop(spawn_local(async move {
            let mut connection = h2::server::handshake(far).await.unwrap();
            while let Some(accepted) = connection.accept().await {
                let (request, mut respond) = accepted.unwrap();
                respond.send_response(http::Response::new(()), true).unwrap();
                // The crate resets a request that was not read completely.
                drop((request, respond));
            }
        }));
        for call in 0..5_000 {
            poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
            let target = Target { method: &Method::Post, https: false, authority: b"a", path: b"/" };
            let mut stream = client.open(&target, false, |_| {}).unwrap();
            let answered = poll_fn(|cx| stream.poll_response(cx, &mut ResponseHead::default())).await;
            assert!(answered.is_ok(), "call {call}: {answered:?}");
        }
    });
}

/// Only lent vectors are returned to the pool, so that the pool does not grow with the number of requests.
#[test]
fn output_is_used_again() {
    run(async |seed| {
        if seed > 0 {
            return;
        }
        let (near, far) = tokio::io::duplex(64 * 1024);
        let server = Server::new(Io::Memory(near), Buffer::default(), settings(&mut dice(0, 0)));
        drop(spawn_local(async move {
            let mut part = 0;
            while let Some(Ok(request)) = poll_fn(|cx| server.poll_accept(cx, 0)).await {
                part += 1;
                drop(spawn_local(echo(request.stream, 0, part)));
            }
        }));
        let (mut client, connection) = h2::client::handshake(far).await.unwrap();
        drop(spawn_local(connection));
        let mut kept = 0;
        for call in 0..200 {
            poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
            let request = http::Request::post("http://a/").body(()).unwrap();
            let (response, send) = client.send_request(request, false).unwrap();
            drop(spawn_local(send_theirs(send, body(call, 6_000), None)));
            assert_eq!(read_theirs(&mut response.await.unwrap().into_body()).await.0.len(), 6_000);
            if call == 20 {
                kept = crate::buffer::outputs_kept();
            }
        }
        assert_eq!(crate::buffer::outputs_kept(), kept);
    });
}

/// A connection on which nothing arrives is not used for further requests.
#[test]
fn a_silent_connection_is_doubted() {
    run(async |seed| {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let (client, driver) = client(Io::Memory(near), settings(&mut dice(seed, 0)));
        drop(spawn_local(async move { poll_fn(|cx| driver.poll(cx, 0)).await }));
        far.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
        while client.open_streams_max() == 1 {
            tokio::task::yield_now().await;
        }
        let target = Target { method: &Method::Get, https: false, authority: b"a", path: b"/" };
        let mut first = client.open(&target, true, |_| {}).unwrap();
        let mut second = client.open(&target, true, |_| {}).unwrap();
        far.write_all(b"\0\0\x01\x01\x05\0\0\0\x03\x88").await.unwrap();
        poll_fn(|cx| second.poll_response(cx, &mut ResponseHead::default())).await.unwrap();
        first.mark_suspect();
        assert!(client.is_usable(), "something came");
        let mut third = client.open(&target, true, |_| {}).unwrap();
        third.mark_suspect();
        assert!(!client.is_usable());
    });
}

/// Data buffered by TLS but not taken by the socket is sent, too.
#[test]
fn over_tls_the_last_bytes_leave() {
    run(async |seed| {
        if seed > 5 {
            return;
        }
        let key = self_signed().unwrap();
        let server =
            ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        let connector = TlsConnector::from(client_config(&ClientSettings::default()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        socket2::SockRef::from(&listener).set_send_buffer_size(4_096).unwrap();
        let tcp = TcpSocket::new_v4().unwrap();
        tcp.set_recv_buffer_size(4_096).unwrap();
        let near = tcp.connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let (near, far) = tokio::join!(connector.connect("localhost".try_into().unwrap(), near), acceptor.accept(far));
        let (mut near, far) = (near.unwrap(), far.unwrap());
        let length = 50_000 + usize::try_from(seed).unwrap() * 2_500;
        drop(spawn_local(async move {
            let server = Server::new(Io::ServerTls(Box::new(far)), Buffer::default(), settings(&mut dice(0, 0)));
            loop {
                let Some(Ok(request)) = poll_fn(|cx| server.poll_accept(cx, 0)).await else { return };
                let mut stream = request.stream;
                stream.send_response(&ResponseHead::new(200), false).unwrap();
                let sent = send(&mut stream, &vec![7; length], &HeaderList::new(), &mut dice(0, 0)).await;
                assert!(sent.is_ok());
            }
        }));
        let request = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x84\x86\x41\x01a";
        near.write_all(&[PREFACE, b"\0\0\0\x04\0\0\0\0\0", request].concat()).await.unwrap();
        near.flush().await.unwrap();
        // The server fills the pipe between both sides.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        let mut got = 0;
        while got < length {
            let mut bytes = [0; 4_096];
            let count = near.read(&mut bytes).await.unwrap();
            got += bytes[..count].iter().filter(|byte| **byte == 7).count();
        }
    });
}

async fn ask_ours(mut client: h2::client::SendRequest<Bytes>, seed: u64, part: usize) {
    let mut dice = dice(seed, part + 1);
    poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
    let request = http::Request::post("http://a/x?y").header("X-Part", part).body(()).unwrap();
    let bytes = body(part, dice.size());
    let trailers = (dice.below(2) == 0).then(|| their_trailers(part));
    if bytes.is_empty() && trailers.is_none() {
        let (response, _) = client.send_request(request, true).unwrap();
        assert!(response.await.unwrap().into_body().is_end_stream());
        return;
    }
    let (response, send) = client.send_request(request, false).unwrap();
    if dice.below(6) == 0 {
        // One side cancels.
        turns(&mut dice).await;
        return drop((response, send));
    }
    let sending = spawn_local(send_theirs(send, bytes.clone(), trailers.clone()));
    let response = response.await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["x-length"]), (200, &bytes.len().into()));
    let got = read_theirs(&mut response.into_body()).await;
    assert!(got.0 == bytes && got.1 == trailers, "seed {seed}, stream {part}");
    sending.await.unwrap();
}

#[test]
fn our_client_and_another_server() {
    run(async |seed| {
        let mut all = dice(seed, 0);
        let (near, far) = tokio::io::duplex(1 + all.size());
        let (client, driver) = client(Io::Memory(near), settings(&mut all));
        let driving = spawn_local(async move { poll_fn(|cx| driver.poll(cx, 0)).await });
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(1 << (9 + all.below(11))).max_concurrent_streams(1 + all.below(12) as u32);
        let serving = spawn_local(async move {
            let mut connection = builder.handshake::<_, Bytes>(far).await.unwrap();
            while let Some(accepted) = connection.accept().await {
                let (request, mut respond) = accepted.unwrap();
                drop(spawn_local(async move {
                    let (head, mut receive) = request.into_parts();
                    assert_eq!((head.method.as_str(), head.uri.to_string()), ("POST", "http://a/x?y".to_owned()));
                    let (whole, trailers) = read_theirs(&mut receive).await;
                    let response =
                        http::Response::builder().header("x-part", &head.headers["x-part"]).body(()).unwrap();
                    let end = whole.is_empty() && trailers.is_none();
                    let send = respond.send_response(response, end).unwrap();
                    if !end {
                        send_theirs(send, whole, trailers).await;
                    }
                }));
            }
        });
        let client = Rc::new(client);
        let streams: Vec<_> = (0..STREAMS)
            .map(|part| {
                let client = Rc::clone(&client);
                spawn_local(async move { ask_theirs(&client, seed, part).await })
            })
            .collect();
        for stream in streams {
            stream.await.unwrap();
        }
        drop(client);
        driving.await.unwrap().unwrap();
        serving.await.unwrap();
    });
}

async fn ask_theirs(client: &crate::h2::Client, seed: u64, part: usize) {
    let mut dice = dice(seed, part + 1);
    poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
    let target = Target { method: &Method::Post, https: false, authority: b"a", path: b"/x?y" };
    let digits = part.to_string();
    let opened = client.open(&target, false, |fields| fields.append(Name::Other, b"X-Part", digits.as_bytes()));
    let mut stream = opened.unwrap();
    let bytes = body(part, dice.size());
    let mut trailers = HeaderList::new();
    if dice.below(2) == 0 {
        assert!(trailers.append(b"X-Part", part.to_string().as_bytes()));
    }
    if dice.below(6) == 0 {
        turns(&mut dice).await;
        return stream.reset(Code::CANCEL);
    }
    send(&mut stream, &bytes, &trailers, &mut dice).await.unwrap();
    let mut head = ResponseHead::default();
    poll_fn(|cx| stream.poll_response(cx, &mut head)).await.unwrap();
    assert_eq!((head.status, head.headers.get(b"x-part")), (200, Some(part.to_string().as_bytes())));
    let whole = read(&mut stream, &mut dice).await.unwrap();
    let same = stream.trailers().iter().map(|(_, v)| v).eq(trailers.iter().map(|(_, v)| v));
    assert!(whole == bytes && same, "seed {seed}, stream {part}");
    assert!(stream.body_done() && poll_fn(|cx| Poll::Ready(stream.poll_reset(cx).is_pending())).await);
}
