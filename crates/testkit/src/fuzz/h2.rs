//! Connections of HTTP/2: whatever comes, what we send is made of frames, and what we hold is bounded.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use cardinal_http::ResponseHead;
use cardinal_net::Io;
use cardinal_net::buffer::Buffer;
use cardinal_net::h2::{H2, Server, Settings};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const SETTINGS: Settings =
    Settings { stream_window: 65_535, connection_window: 65_535, streams_max: 4, header_list_max: 4_096 };

/// What a client says after its preface and its settings: requests, a body, trailers, control frames, nonsense.
pub(super) const CONNECTIONS: &[&[u8]] = &[
    b"\0\0\x04\x01\x05\0\0\0\x01\x82\x84\x86\x41",
    b"\0\0\x06\x01\x04\0\0\0\x01\x83\x84\x86\x41\x01a\0\0\x05\0\x01\0\0\0\x01hello",
    b"\0\0\x06\x01\0\0\0\0\x01\x83\x84\x86\x41\x01a\0\0\x07\x09\x04\0\0\0\x01\x5c\x01\x35\x40\x01x\x01\0\0\x08\0\x09\0\0\0\x01\x02hello\0\0",
    b"\0\0\x06\x01\x04\0\0\0\x03\x83\x84\x86\x41\x01a\0\0\x05\x01\x05\0\0\0\x03\0\x01t\x01v",
    b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\x0a\0\0\x06\x01\x05\0\0\0\x05\x82\x84\x86\x41\x01a\0\0\x04\x08\0\0\0\0\x05\0\0\0\x64",
    b"\0\0\x08\x06\0\0\0\0\x0012345678\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\x02\0\0\0\0\x01\0\0\0\0\x10",
    b"\0\0\x06\x01\x05\0\0\0\x01\x82\x84\x86\x41\x01a\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08\0\0\x04\x08\0\0\0\0\0\0\0\x10\0",
];

/// Serves a client that says this. The first byte says how it comes.
pub(super) fn check_connection(input: &[u8]) {
    let Some((step, said)) = input.split_first() else { return };
    let step = usize::from(*step).max(1);
    let (near, mut far) = tokio::io::duplex(256 * 1024);
    let server = Server::new(Io::Memory(near), Buffer::default(), SETTINGS);
    let mut cx = Context::from_waker(Waker::noop());
    let mut served: Vec<H2> = Vec::new();
    let mut sent = Vec::new();
    let opening = [PREFACE, b"\0\0\0\x04\0\0\0\0\0"];
    for part in opening.into_iter().chain(said.chunks(step)) {
        // It takes all, or the server has closed.
        drop(Pin::new(&mut far).poll_write(&mut cx, part));
        while let Poll::Ready(Some(Ok(request))) = server.poll_accept(&mut cx, 0) {
            assert!(request.head.headers.capacity() < 64 * 1024, "a head over its limit is held");
            served.push(request.stream);
        }
        assert!(served.len() <= 8, "more streams than allowed are served");
        serve(&mut served, &mut cx);
        take(&mut far, &mut cx, &mut sent);
    }
    drop(server.poll_accept(&mut cx, 0));
    take(&mut far, &mut cx, &mut sent);
    let mut rest = sent.as_slice();
    while let Some(head) = rest.first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        assert!(length <= 16_384 && head[3] <= 9, "a frame that is none: {head:?}");
        rest = rest.get(9 + length..).expect("a frame is cut short");
    }
    assert!(rest.is_empty(), "a frame is cut short");
}

/// Reads a little of each request, and answers those that are over, or whose stream has an odd place.
fn serve(served: &mut Vec<H2>, cx: &mut Context<'_>) {
    let mut place = 0;
    served.retain_mut(|stream| {
        place += 1;
        let more = stream.poll_body(cx);
        if let Poll::Ready(Ok(true)) = more {
            assert!(stream.data().len() <= 65_535, "more is held than the window");
            let count = stream.data().len().div_ceil(2);
            stream.consume(count);
            return place % 2 == 0 || answer(stream, cx);
        }
        more.is_pending() || answer(stream, cx)
    });
}

/// Answers; false, because nothing more is to be done.
fn answer(stream: &mut H2, cx: &mut Context<'_>) -> bool {
    let mut head = ResponseHead::new(200);
    assert!(head.headers.append(b"X-Y", b"z"), "a plain field");
    if stream.send_response(&head, false).is_ok() {
        // The stream may have ended meanwhile.
        drop(stream.poll_send(cx, b"a body of some length"));
        stream.finish(None).ok();
    }
    false
}

fn take(far: &mut DuplexStream, cx: &mut Context<'_>, sent: &mut Vec<u8>) {
    let mut bytes = [0; 4_096];
    loop {
        let mut buf = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *far).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => sent.extend_from_slice(buf.filled()),
            _ => return,
        }
    }
}
