//! [`Failed`]: why a request got no response, and whether the server may have acted on it.

use std::error::Error;
use std::io;

use cardinal_base::descriptors;
use cardinal_net::tls;

/// Why a request got no response.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) cause: Cause,
    /// Part of the request was sent.
    pub(crate) sent: bool,
    /// Part of a response was received.
    pub(crate) answered: bool,
}

/// The cause of a failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    /// The server closed the connection in the middle of a message.
    #[error("connection closed")]
    Closed,
    /// An I/O error.
    #[error("{text}")]
    Io {
        /// The node has run out of descriptors or memory; the server is not the cause.
        is_local: bool,
        text: String,
    },
    /// The response is malformed.
    #[error("invalid response: {0}")]
    Answer(String),
    /// The body is larger than allowed.
    #[error("the response is too large")]
    TooLarge,
}

impl Failed {
    /// A failure before anything was sent on a connection.
    pub(super) fn before(error: &hyper::Error) -> Self {
        Self { cause: Cause::of(error), sent: false, answered: false }
    }
}

impl Cause {
    pub(super) fn of(error: &hyper::Error) -> Self {
        if let Some(error) = io_error(error) {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return Self::Closed;
            }
            // hyper reports a malformed chunk with the same kind.
            let is_malformed = matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
            if is_malformed && !error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()) {
                return Self::Answer(error.to_string());
            }
            return Self::Io { is_local: descriptors::is_local(error), text: tls::io_text(error).into_owned() };
        }
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            return Self::Closed;
        }
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::Answer(text)
    }

    /// Whether the server closed the connection, as opposed to sending a malformed response.
    pub(crate) fn is_disconnect(&self) -> bool {
        matches!(self, Self::Closed | Self::Io { .. })
    }
}

/// The I/O error in the chain of causes, if there is one.
fn io_error(error: &hyper::Error) -> Option<&io::Error> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return Some(error);
        }
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            return error.get_io();
        }
        source = cause.source();
    }
    None
}
