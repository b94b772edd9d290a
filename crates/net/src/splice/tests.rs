use std::future::poll_fn;

use cardinal_http::h1::{BodyError, Framing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::h1::H1;

const BODY: usize = 8 << 20;

#[allow(clippy::cast_possible_truncation, reason = "a pattern")]
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

fn peer(io: Io) -> Peer {
    Peer::H1(Box::new(H1::new(io, b"")))
}

/// Two connections for a body with this framing, and their far ends.
async fn connected(framing: Framing) -> (Peer, Peer, TcpStream, TcpStream) {
    let ((from, near), (far, to)) = (pair().await, pair().await);
    let (mut source, mut sink) = (peer(Io::Tcp(near)), peer(Io::Tcp(far)));
    let (Peer::H1(reads), Peer::H1(writes)) = (&mut source, &mut sink) else { unreachable!() };
    reads.start_reading(framing);
    writes.start_writing(framing, |out| out.extend_from_slice(b"HEAD"));
    (source, sink, from, to)
}

/// Moves some bytes; `false` at the end of the body.
fn poll_move(
    cx: &mut Context<'_>,
    splice: &mut Splice,
    source: &mut Peer,
    sink: &mut Peer,
    moved: &mut u64,
) -> Poll<Result<bool, SpliceError>> {
    let count = ready!(splice.poll_body(cx, source, sink, u64::MAX))?;
    *moved += count;
    if count > 0 {
        return Poll::Ready(Ok(true));
    }
    match source.poll_body(cx).map_err(SpliceError::Source)? {
        Poll::Ready(false) => return Poll::Ready(Ok(false)),
        Poll::Ready(true) => {}
        Poll::Pending => {
            assert!(sink.poll_flush(cx).map_err(SpliceError::Sink)?.is_ready());
            return Poll::Pending;
        }
    }
    let count = ready!(sink.poll_send(cx, source.data())).map_err(SpliceError::Sink)?;
    source.consume(count);
    *moved += count as u64;
    Poll::Ready(Ok(true))
}

async fn relay(splice: &mut Splice, source: &mut Peer, sink: &mut Peer) -> Result<u64, SpliceError> {
    let mut moved = 0;
    while poll_fn(|cx| poll_move(cx, splice, source, sink, &mut moved)).await? {}
    assert!(!splice.holds_bytes());
    sink.finish(None).map_err(SpliceError::Sink)?;
    poll_fn(|cx| sink.poll_flush(cx)).await.map_err(SpliceError::Sink)?;
    Ok(moved)
}

/// Whether a body was spliced. It arrives unchanged in any case, and bytes after it are kept.
async fn passes(framing: Framing) -> bool {
    let (mut source, mut sink, mut from, mut to) = connected(framing).await;
    let body = pattern(BODY);
    let after: &[u8] = if framing == Framing::UntilClose { b"" } else { b"what comes after it" };
    let sending = async {
        for part in body.chunks(700_000) {
            from.write_all(part).await.unwrap();
        }
        from.write_all(after).await.unwrap();
        from.shutdown().await.unwrap();
    };
    let mut splice = Splice::default();
    let passing = async {
        let moved = relay(&mut splice, &mut source, &mut sink).await.unwrap();
        assert_eq!(moved, BODY as u64);
        drop(sink);
        let Peer::H1(mut source) = source else { unreachable!() };
        while poll_fn(|cx| source.poll_read_more(cx, BODY)).await.unwrap() > 0 {}
        assert_eq!(source.unread(), after);
    };
    let mut seen = Vec::new();
    let receiving = async { to.read_to_end(&mut seen).await.unwrap() };
    tokio::join!(sending, passing, receiving);
    assert!(seen == [b"HEAD", body.as_slice()].concat(), "{} bytes of {framing:?}", seen.len());
    splice.is_used()
}

#[tokio::test]
async fn bodies_arrive_as_they_were_sent_and_leave_no_pipe() {
    assert!(passes(Framing::Length(BODY as u64)).await);
    assert!(passes(Framing::UntilClose).await);
    let (lent, kept) = pipe::counts();
    assert!(lent == 0 && (1..=pipe::KEPT).contains(&kept), "{lent} lent, {kept} kept");
    release_idle();
    assert_eq!(pipe::counts().1, kept, "they were needed since");
    release_idle();
    assert_eq!(pipe::counts(), (0, 0));
}

#[tokio::test]
async fn without_a_pipe_bodies_are_read_and_written() {
    let all: Vec<Pipe> = std::iter::from_fn(Pipe::lend).collect();
    assert_eq!((all.len(), pipe::counts()), (pipe::LENT_MAX, (pipe::LENT_MAX, 0)));
    assert!(!passes(Framing::Length(BODY as u64)).await);
    drop(all);
    assert_eq!(pipe::counts(), (0, pipe::KEPT));
    assert!(passes(Framing::Length(BODY as u64)).await);
}

#[tokio::test]
async fn a_pipe_with_bytes_is_never_used_again() {
    let (mut source, mut sink, mut from, to) = connected(Framing::Length(u64::MAX)).await;
    let mut splice = Splice::default();
    let part = pattern(1 << 20);
    let mut moved = 0;
    // The sink is not read: it fills up, and at most one pipe is occupied.
    let sending = async { while from.write_all(&part).await.is_ok() {} };
    let passing = poll_fn(|cx| {
        while poll_move(cx, &mut splice, &mut source, &mut sink, &mut moved).is_ready() {}
        if splice.holds_bytes() { Poll::Ready(()) } else { Poll::Pending }
    });
    tokio::select! { () = sending => unreachable!(), () = passing => {} }
    assert!(moved > 0);
    let kept = pipe::counts().1;
    assert_eq!(pipe::counts().0, 1);
    drop(splice);
    assert_eq!(pipe::counts(), (0, kept));
    // The next connection receives none of these bytes.
    drop((source, sink, from, to));
    assert!(passes(Framing::Length(BODY as u64)).await);
}

#[tokio::test]
async fn a_side_that_goes_away_is_told_apart() {
    let (mut source, mut sink, mut from, mut to) = connected(Framing::Length(BODY as u64)).await;
    let mut splice = Splice::default();
    let sending = async {
        from.write_all(&pattern(BODY - 1)).await.unwrap();
        drop(from);
    };
    let mut seen = Vec::new();
    let receiving = async {
        let outcome = relay(&mut splice, &mut source, &mut sink).await;
        drop(sink);
        outcome
    };
    let (outcome, (), _) = tokio::join!(receiving, sending, to.read_to_end(&mut seen));
    assert!(matches!(outcome, Err(SpliceError::Source(NetError::Body(BodyError::Truncated)))), "{outcome:?}");
    assert!(splice.is_used());

    let (mut source, mut sink, mut from, to) = connected(Framing::Length(u64::MAX)).await;
    let part = pattern(1 << 20);
    let sending = async { while from.write_all(&part).await.is_ok() {} };
    let leaving = async {
        to.readable().await.unwrap();
        socket2::SockRef::from(&to).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(to);
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = relay(&mut splice, &mut source, &mut sink) => outcome,
        () = sending => unreachable!(),
        () = leaving => unreachable!(),
    };
    assert!(matches!(outcome, Err(SpliceError::Sink(_))), "{outcome:?}");
}

#[tokio::test]
async fn what_is_not_tcp_or_too_little_is_left_alone() {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut splice = Splice::default();
    // Too little data; more than the caller allows; of unknown length with little data so far; a chunked sink.
    let cases = [
        (Framing::Length(100_000), Framing::Length(100_000), u64::MAX),
        (Framing::Length(BODY as u64), Framing::Length(BODY as u64), BODY as u64 - 1),
        (Framing::UntilClose, Framing::UntilClose, u64::MAX),
        (Framing::Length(BODY as u64), Framing::Chunked, u64::MAX),
    ];
    for (read, written, max) in cases {
        let (mut source, mut sink, mut from, _to) = connected(read).await;
        let Peer::H1(writes) = &mut sink else { unreachable!() };
        writes.start_writing(written, |_| {});
        from.write_all(&pattern(50_000)).await.unwrap();
        let Peer::H1(reads) = &mut source else { unreachable!() };
        let Io::Tcp(tcp) = reads.io() else { unreachable!() };
        tcp.readable().await.unwrap();
        let outcome = splice.poll_body(&mut cx, &mut source, &mut sink, max);
        assert!(matches!(outcome, Poll::Ready(Ok(0))), "{read:?} as {written:?}: {outcome:?}");
    }
    let ((near, mut from), (_, far)) = (tokio::io::duplex(BODY), pair().await);
    from.write_all(b"x").await.unwrap();
    assert_eq!(splice.take(&mut cx, &Io::Memory(near), &Io::Tcp(far), 1).unwrap(), 0);
    assert!(!splice.is_used());
}
