//! One HTTP/2 stream, either role, over the `h2` crate.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::client::ResponseFuture;
use ::h2::server::SendResponse;
use ::h2::{Reason, RecvStream, SendStream};
use bytes::{Buf, Bytes};
use cardinal_http::{HeaderList, Method, Name, RequestHead, ResponseHead, Version};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};

use crate::NetError;

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
        write_headers(&head.headers, response.headers_mut());
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

    /// See [`H1::poll_send`](crate::h1::H1::poll_send).
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, NetError>> {
        let Some(send) = self.send.as_mut().filter(|_| !self.send_done) else {
            return Poll::Ready(Err(NetError::Unsendable("no body may follow")));
        };
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
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
        send.send_data(Bytes::copy_from_slice(part), false).map_err(NetError::H2)?;
        Poll::Ready(Ok(part.len()))
    }

    /// Ends the body.
    pub fn finish(&mut self, trailers: Option<&HeaderList>) -> Result<(), NetError> {
        if std::mem::replace(&mut self.send_done, true) {
            return Ok(());
        }
        let Some(send) = &mut self.send else { return Ok(()) };
        match trailers.filter(|t| !t.is_empty()) {
            Some(trailers) => {
                let mut map = HeaderMap::new();
                write_headers(trailers, &mut map);
                send.send_trailers(map).map_err(NetError::H2)
            }
            None => send.send_data(Bytes::new(), true).map_err(NetError::H2),
        }
    }

    /// Whether the message was written to its end.
    pub fn send_done(&self) -> bool {
        self.send_done
    }

    /// Ends the stream early.
    pub fn reset(&mut self, reason: Reason) {
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

/// Takes over the head of a request that a client opened a stream with. `false` when it has no place in HTTP/1 terms:
/// no path, or fields that are illegal.
pub fn read_request(head: &mut RequestHead, parts: &http::request::Parts) -> bool {
    let Some(method) = Method::parse(parts.method.as_str().as_bytes()) else { return false };
    head.method = method;
    head.version = Version::H2;
    let placed = match (&head.method, parts.uri.path_and_query(), parts.uri.authority()) {
        (Method::Connect, _, Some(authority)) => head.set_target(authority.as_str().as_bytes()),
        (_, Some(target), _) => head.set_target(target.as_str().as_bytes()),
        _ => false,
    };
    if !placed {
        return false;
    }
    match parts.uri.authority() {
        Some(authority) => {
            // As in nginx, filters and logs find the name where HTTP/1 has it.
            if !head.headers.append(b"host", authority.as_str().as_bytes()) {
                return false;
            }
            head.set_authority(authority.as_str().as_bytes());
        }
        None if parts.headers.get_all(http::header::HOST).iter().count() > 1 => return false,
        None => {}
    }
    let mut cookies: Vec<u8> = Vec::new();
    for (name, value) in &parts.headers {
        // With `:authority`, `Host` is not needed, and must not disagree with it (RFC 9113 section 8.3.1).
        if name == http::header::HOST && parts.uri.authority().is_some() {
            if parts.uri.authority().is_some_and(|a| !a.as_str().as_bytes().eq_ignore_ascii_case(value.as_bytes())) {
                return false;
            }
            continue;
        }
        if name == http::header::COOKIE {
            if !cookies.is_empty() {
                cookies.extend_from_slice(b"; ");
            }
            cookies.extend_from_slice(value.as_bytes());
            continue;
        }
        if !head.headers.append(name.as_str().as_bytes(), value.as_bytes()) {
            return false;
        }
    }
    // One field, because HTTP/1 allows only one (RFC 9113 section 8.2.3).
    cookies.is_empty() || head.headers.append(b"cookie", &cookies)
}

/// Makes the head of a request to an upstream.
pub fn write_request(
    head: &RequestHead,
    https: bool,
    authority: &[u8],
    target: &[u8],
) -> Result<http::Request<()>, NetError> {
    let unsendable = |_| NetError::Unsendable("request head");
    let mut request = http::Request::new(());
    *request.method_mut() =
        http::Method::from_bytes(head.method.as_str().as_bytes()).map_err(|_| NetError::Unsendable("method"))?;
    let authority = http::uri::Authority::try_from(authority).map_err(|_| NetError::Unsendable("authority"))?;
    let uri = Uri::builder().scheme(if https { "https" } else { "http" }).authority(authority);
    let uri = if head.method == Method::Connect { uri.path_and_query("/") } else { uri.path_and_query(target) };
    *request.uri_mut() = uri.build().map_err(unsendable)?;
    *request.version_mut() = http::Version::HTTP_2;
    write_headers(&head.headers, request.headers_mut());
    Ok(request)
}

fn read_response(head: &mut ResponseHead, status: StatusCode, headers: &HeaderMap) {
    head.clear();
    head.status = status.as_u16();
    head.version = Version::H2;
    read_headers(&mut head.headers, headers);
}

fn read_headers(list: &mut HeaderList, map: &HeaderMap) {
    for (name, value) in map {
        list.append(name.as_str().as_bytes(), value.as_bytes());
    }
}

/// Copies fields, without those that belong to an HTTP/1 connection (RFC 9113 section 8.2.2).
fn write_headers(list: &HeaderList, map: &mut HeaderMap) {
    map.reserve(list.len());
    for (name, value) in list.iter() {
        let connection = matches!(
            Name::of(name),
            Name::Connection
                | Name::KeepAlive
                | Name::ProxyConnection
                | Name::TransferEncoding
                | Name::Upgrade
                | Name::Host
        );
        if connection || (Name::of(name) == Name::Te && !value.eq_ignore_ascii_case(b"trailers")) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
}
