//! [`Reply`]: a local reply.

use std::borrow::Cow;

use bytes::Bytes;
use cardinal_http::HeaderList;

/// A reply made by a filter or by the proxy itself.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Header fields; `Content-Length` is added when it is sent, and connection-specific fields are dropped.
    pub headers: HeaderList,
    /// Body.
    pub body: ReplyBody,
}

/// The body of a [`Reply`].
#[derive(Clone, Debug)]
pub enum ReplyBody {
    /// No body.
    Empty,
    /// No body, in the response to a HEAD request: the fields contain the length for a GET request, if it is known.
    Omitted,
    /// An error message in the format the client accepts, with the request id (Kong's `kong.response.error`).
    Error(Cow<'static, str>),
    /// `{"message":"..."}` in compact JSON (Kong's `kong.response.exit` with a table).
    Message(Cow<'static, str>),
    /// These bytes. The media type is in the reply's headers.
    Bytes(Bytes),
}

impl Reply {
    /// A reply without a body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: HeaderList::new(), body: ReplyBody::Empty }
    }

    /// An error in the format the client accepts, with the request id.
    pub fn error(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { body: ReplyBody::Error(message.into()), ..Self::new(status) }
    }

    /// `{"message":"..."}`.
    pub fn message(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { body: ReplyBody::Message(message.into()), ..Self::new(status) }
    }

    /// A JSON body with `Content-Type: application/json; charset=utf-8`.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::bytes(status, "application/json; charset=utf-8", body.to_string())
    }

    /// A body with this media type.
    pub fn bytes(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut reply = Self { body: ReplyBody::Bytes(body.into()), ..Self::new(status) };
        reply.headers.set(b"Content-Type", content_type.as_bytes());
        reply
    }

    /// Adds a field; an invalid one is left out.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(name.as_bytes(), value.as_bytes());
        self
    }
}
