//! I/O and protocol errors on one side of an exchange. The engine adds the side and derives the failure kind.

use cardinal_http::h1::{BodyError, HeadError};

use crate::h2::H2Error;

/// An error of a connection or a stream.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The peer closed the connection in the middle of a message.
    #[error("connection closed")]
    Closed,
    /// An I/O error.
    #[error("{}", crate::tls::io_text(.0))]
    Io(std::io::Error),
    /// The head is invalid.
    #[error("{0}")]
    Head(HeadError),
    /// The body does not match its framing.
    #[error("{0}")]
    Body(BodyError),
    /// An HTTP/2 error.
    #[error("{0}")]
    H2(H2Error),
    /// A buffer limit is exceeded.
    #[error("buffer limit reached")]
    BufferFull,
    /// The message cannot be expressed in this protocol.
    #[error("{0}")]
    Unsendable(&'static str),
}

impl NetError {
    /// Whether the node has run out of a resource; the peer is not the cause.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Io(error) if cardinal_base::descriptors::is_local(error))
    }

    /// Whether the peer has disconnected, as opposed to violating the protocol.
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::Closed | Self::Io(_) | Self::Body(BodyError::Truncated) => true,
            Self::H2(error) => error.is_disconnect(),
            Self::Head(_) | Self::Body(_) | Self::BufferFull | Self::Unsendable(_) => false,
        }
    }
}
