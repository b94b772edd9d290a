//! One HTTP/2 stream, either role, over the `h2` crate.

mod fields;
mod head;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::client::ResponseFuture;
use ::h2::server::SendResponse;
use ::h2::{Reason, RecvStream, SendStream};
use bytes::{Buf, Bytes};
use cardinal_http::{HeaderList, ResponseHead};
use http::StatusCode;

use self::head::{read_headers, read_response};
use crate::NetError;

pub use self::fields::Fields;
pub use self::head::{Target, read_request, write_request};

/// Most bytes of one DATA frame that a send makes.
const FRAME_MAX: usize = 16 * 1024;

/// One HTTP/2 stream.
pub struct H2 {
    role: Role,
    receive: Option<RecvStream>,
    /// Data that is here and was not used.
    current: Bytes,
    receive_done: bool,
    trailers: HeaderList,
    send: Option<SendStream<Bytes>>,
    /// Body bytes that were taken and wait for what comes next: the last ones end the stream in the same frame.
    held: Bytes,
    send_done: bool,
}

enum Role {
    Server(SendResponse<Bytes>),
    Client(Option<ResponseFuture>),
}

impl std::fmt::Debug for H2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H2")
            .field("receive_done", &self.receive_done)
            .field("send_done", &self.send_done)
            .finish_non_exhaustive()
    }
}

impl H2 {
    /// A stream that a client opened.
    pub fn server(receive: RecvStream, respond: SendResponse<Bytes>) -> Self {
        Self::new(Role::Server(respond), Some(receive), None)
    }

    /// A stream to an upstream. `send` is `None` when the request has no body.
    pub fn client(response: ResponseFuture, send: Option<SendStream<Bytes>>) -> Self {
        Self::new(Role::Client(Some(response)), None, send)
    }

    fn new(role: Role, receive: Option<RecvStream>, send: Option<SendStream<Bytes>>) -> Self {
        let receive_done = receive.as_ref().is_some_and(RecvStream::is_end_stream);
        Self {
            send_done: matches!(role, Role::Client(_)) && send.is_none(),
            role,
            receive,
            current: Bytes::new(),
            receive_done,
            trailers: HeaderList::new(),
            send,
            held: Bytes::new(),
        }
    }

    /// Client role: waits for the response head. Informational ones are given first.
    pub fn poll_response(&mut self, cx: &mut Context<'_>, head: &mut ResponseHead) -> Poll<Result<(), NetError>> {
        let Role::Client(Some(future)) = &mut self.role else {
            return Poll::Ready(Err(NetError::Unsendable("no response to wait for")));
        };
        if let Poll::Ready(Some(informational)) = future.poll_informational(cx) {
            let (parts, ()) = informational.map_err(NetError::H2)?.into_parts();
            read_response(head, parts.status, &parts.headers);
            return Poll::Ready(Ok(()));
        }
        let response = ready!(Pin::new(future).poll(cx)).map_err(NetError::H2)?;
        self.role = Role::Client(None);
        let (parts, receive) = response.into_parts();
        self.receive_done = receive.is_end_stream();
        self.receive = Some(receive);
        read_response(head, parts.status, &parts.headers);
        Poll::Ready(Ok(()))
    }

    /// Server role: sends the response head; `end` when no body follows.
    pub fn send_response(&mut self, head: &ResponseHead, end: bool) -> Result<(), NetError> {
        let Role::Server(respond) = &mut self.role else {
            return Err(NetError::Unsendable("not the serving side"));
        };
        let status = StatusCode::from_u16(head.status).map_err(|_| NetError::Unsendable("status"))?;
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = Fields::of(&head.headers).into_map();
        if status.is_informational() {
            return respond.send_informational(response).map_err(NetError::H2);
        }
        let send = respond.send_response(response, end).map_err(NetError::H2)?;
        self.send = Some(send);
        self.send_done = end;
        Ok(())
    }

    /// See [`H1::poll_body`](crate::h1::H1::poll_body).
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, NetError>> {
        loop {
            if !self.current.is_empty() {
                return Poll::Ready(Ok(true));
            }
            if self.receive_done {
                return Poll::Ready(Ok(false));
            }
            let Some(receive) = &mut self.receive else { return Poll::Ready(Ok(false)) };
            match ready!(receive.poll_data(cx)) {
                Some(Ok(data)) => self.current = data,
                // A server may answer before it has read all, and says so by this (RFC 9113 section 8.1). A client that
                // does it has given up.
                Some(Err(error))
                    if error.reason() == Some(Reason::NO_ERROR) && matches!(self.role, Role::Client(_)) =>
                {
                    self.receive_done = true;
                }
                Some(Err(error)) => return Poll::Ready(Err(NetError::H2(error))),
                None => {
                    if let Some(trailers) = ready!(receive.poll_trailers(cx)).map_err(NetError::H2)? {
                        read_headers(&mut self.trailers, &trailers);
                    }
                    self.receive_done = true;
                }
            }
        }
    }

    /// Body bytes that are here.
    pub fn data(&self) -> &[u8] {
        &self.current
    }

    /// Body bytes were used: the peer may send as many more.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.current.len());
        self.current.advance(count);
        if let Some(receive) = &mut self.receive {
            // Fails only when the stream is over, and then nothing is to be released.
            receive.flow_control().release_capacity(count).ok();
        }
    }

    /// Whether the body was read to its end.
    pub fn body_done(&self) -> bool {
        self.current.is_empty() && (self.receive_done || self.receive.as_ref().is_some_and(RecvStream::is_end_stream))
    }

    /// Trailer fields of the body that was read.
    pub fn trailers(&self) -> &HeaderList {
        &self.trailers
    }

    /// See [`H1::poll_send`](crate::h1::H1::poll_send). The last part is held until [`H2::flush`] or [`H2::finish`].
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, NetError>> {
        let Some(send) = self.send.as_mut().filter(|_| !self.send_done) else {
            return Poll::Ready(Err(NetError::Unsendable("no body may follow")));
        };
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        send_held(send, &mut self.held)?;
        let want = data.len().min(FRAME_MAX);
        send.reserve_capacity(want);
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(NetError::H2(error))),
                None => return Poll::Ready(Err(NetError::Closed)),
            }
        }
        let part = data.get(..want.min(send.capacity())).unwrap_or(data);
        self.held = Bytes::copy_from_slice(part);
        Poll::Ready(Ok(part.len()))
    }

    /// Sends what is held.
    pub fn flush(&mut self) -> Result<(), NetError> {
        self.send.as_mut().map_or(Ok(()), |send| send_held(send, &mut self.held))
    }

    /// Ends the body.
    pub fn finish(&mut self, trailers: Option<&HeaderList>) -> Result<(), NetError> {
        if std::mem::replace(&mut self.send_done, true) {
            return Ok(());
        }
        let Some(send) = &mut self.send else { return Ok(()) };
        match trailers.filter(|t| !t.is_empty()) {
            Some(trailers) => {
                send_held(send, &mut self.held)?;
                send.send_trailers(Fields::of(trailers).into_map()).map_err(NetError::H2)
            }
            None => send.send_data(std::mem::take(&mut self.held), true).map_err(NetError::H2),
        }
    }

    /// Whether the message was written to its end.
    pub fn send_done(&self) -> bool {
        self.send_done
    }

    /// Ends the stream early.
    pub fn reset(&mut self, reason: Reason) {
        self.held = Bytes::new();
        match (&mut self.send, &mut self.role) {
            (Some(send), _) => send.send_reset(reason),
            (None, Role::Server(respond)) => respond.send_reset(reason),
            // Dropping the future cancels the stream.
            (None, Role::Client(future)) => *future = None,
        }
    }

    /// Whether the peer has ended the stream early.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let poll = match (&mut self.send, &mut self.role) {
            (Some(send), _) => send.poll_reset(cx),
            (None, Role::Server(respond)) => respond.poll_reset(cx),
            (None, Role::Client(_)) => return Poll::Pending,
        };
        poll.map(|_| ())
    }
}

fn send_held(send: &mut SendStream<Bytes>, held: &mut Bytes) -> Result<(), NetError> {
    if held.is_empty() {
        return Ok(());
    }
    send.send_data(std::mem::take(held), false).map_err(NetError::H2)
}
