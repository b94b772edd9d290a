//! One request and its response on a connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use cardinal_http::h1::{Framing, HeadLimits, Parsed, keep_alive, parse_response, response_framing};
use cardinal_http::{Method, ResponseHead};
use cardinal_net::NetError;
use cardinal_net::h1::H1;
use cardinal_sdk::HttpReply;
use tokio::io::AsyncWrite as _;

/// Limits on a response head.
const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 64 * 1024, line_bytes_max: 16 * 1024, header_count_max: 1_000 };
/// Informational responses before the real one.
const INTERIM_MAX: usize = 16;

/// A request as bytes.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) head: Vec<u8>,
    pub(super) body: Bytes,
}

/// What an exchange came to.
pub(super) struct Done {
    pub(super) reply: HttpReply,
    /// The connection can serve the next one.
    pub(super) reusable: bool,
}

/// Why an exchange brought nothing.
pub(super) struct Broken {
    pub(super) why: Why,
    /// Bytes of the request went out.
    pub(super) sent: bool,
    /// Bytes of a response came in.
    pub(super) answered: bool,
}

/// What went wrong.
pub(super) enum Why {
    Net(NetError),
    /// The response is none that can be read.
    Answer(&'static str),
    /// The body is larger than allowed.
    TooLarge,
}

/// Sends a request and reads its response. A server may answer before it has read everything.
pub(super) async fn exchange(connection: &mut H1, request: &Request, body_max: u64) -> Result<Done, Broken> {
    let mut sending = Sending { request, written: 0, state: Sent::Partly, interim: 0 };
    let mut answered = false;
    let result = run(connection, &mut sending, &mut answered, body_max).await;
    result.map_err(|why| Broken { why, sent: sending.written > 0, answered })
}

async fn run(connection: &mut H1, sending: &mut Sending<'_>, answered: &mut bool, body_max: u64) -> Result<Done, Why> {
    let head = poll_fn(|cx| poll_head(connection, sending, answered, cx)).await?;
    let framing = response_framing(&sending.request.method, &head)
        .map_err(|_| Why::Answer("the response's length is unclear"))?;
    if matches!(framing, Framing::Length(length) if length > body_max) {
        return Err(Why::TooLarge);
    }
    connection.start_reading_response(framing);
    let mut body = Vec::new();
    while poll_fn(|cx| connection.poll_body(cx)).await.map_err(Why::Net)? {
        let data = connection.data();
        let count = data.len();
        if (body.len() + count) as u64 > body_max {
            return Err(Why::TooLarge);
        }
        body.extend_from_slice(data);
        connection.consume(count);
    }
    let reusable = sending.state == Sent::Whole
        && framing != Framing::UntilClose
        && keep_alive(head.version, &head.headers)
        && connection.unread().is_empty()
        && !connection.is_eof();
    let reply = HttpReply { status: head.status, headers: head.headers, body: body.into() };
    Ok(Done { reply, reusable })
}

/// Sends and reads at once, until the head of the response is here.
fn poll_head(
    connection: &mut H1,
    sending: &mut Sending<'_>,
    answered: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Result<ResponseHead, Why>> {
    if sending.state == Sent::Partly {
        match sending.poll(connection, cx) {
            Poll::Ready(Ok(())) => sending.state = Sent::Whole,
            // The server may have said why it takes no more.
            Poll::Ready(Err(error)) => sending.state = Sent::Failed(Some(error)),
            Poll::Pending => {}
        }
    }
    loop {
        let mut head = ResponseHead::default();
        match parse_response(connection.unread(), &LIMITS, &mut head) {
            Err(error) => return Poll::Ready(Err(Why::Net(NetError::Head(error)))),
            Ok(Parsed::Complete(length)) => {
                connection.consume_head(length);
                if head.status >= 200 {
                    return Poll::Ready(Ok(head));
                }
                sending.interim += 1;
                if head.status == 101 || sending.interim > INTERIM_MAX {
                    return Poll::Ready(Err(Why::Answer("an unexpected informational response")));
                }
                continue;
            }
            Ok(Parsed::Partial) => {}
        }
        let failed = match connection.poll_read_more(cx, LIMITS.head_bytes_max + 1) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => NetError::Closed,
            Poll::Ready(Ok(_)) => {
                *answered = true;
                continue;
            }
            Poll::Ready(Err(error)) => error,
        };
        let first = match &mut sending.state {
            Sent::Failed(error) => error.take(),
            Sent::Partly | Sent::Whole => None,
        };
        return Poll::Ready(Err(Why::Net(first.unwrap_or(failed))));
    }
}

/// A request on its way.
struct Sending<'r> {
    request: &'r Request,
    written: usize,
    state: Sent,
    /// Informational responses that came.
    interim: usize,
}

enum Sent {
    Partly,
    Whole,
    Failed(Option<NetError>),
}

impl PartialEq for Sent {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Sending<'_> {
    /// Writes to the stream itself, so that it is known whether anything has gone out.
    fn poll(&mut self, connection: &mut H1, cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        let mut io = Pin::new(connection.io());
        loop {
            let head = self.request.head.len();
            let rest = match self.request.head.get(self.written..) {
                Some(rest) if !rest.is_empty() => rest,
                _ => self.request.body.get(self.written - head..).unwrap_or_default(),
            };
            if rest.is_empty() {
                return io.poll_flush(cx).map_err(NetError::Io);
            }
            match std::task::ready!(io.as_mut().poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Err(NetError::Closed)),
                Ok(count) => self.written += count,
                Err(error) => return Poll::Ready(Err(NetError::Io(error))),
            }
        }
    }
}
