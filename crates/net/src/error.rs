//! What can go wrong on one side of an exchange. Which side it was, and so what kind of failure, the engine knows.

use cardinal_http::h1::{BodyError, HeadError};

use crate::h2::H2Error;

/// What went wrong on a connection or a stream.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The peer ended the connection where a message was not over.
    #[error("connection closed")]
    Closed,
    /// The system says so.
    #[error("{}", crate::tls::io_text(.0))]
    Io(std::io::Error),
    /// The head is not one.
    #[error("{0}")]
    Head(HeadError),
    /// The body is not what was announced.
    #[error("{0}")]
    Body(BodyError),
    /// HTTP/2 says so.
    #[error("{0}")]
    H2(H2Error),
    /// More was to be held than is allowed.
    #[error("buffer limit reached")]
    BufferFull,
    /// The message cannot be expressed in this protocol.
    #[error("{0}")]
    Unsendable(&'static str),
}

impl NetError {
    /// Whether the node has run out of something, so that this tells nothing about the peer.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Io(error) if cardinal_base::descriptors::is_local(error))
    }

    /// Whether the peer is gone, as opposed to speaking nonsense.
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::Closed | Self::Io(_) | Self::Body(BodyError::Truncated) => true,
            Self::H2(error) => error.is_disconnect(),
            Self::Head(_) | Self::Body(_) | Self::BufferFull | Self::Unsendable(_) => false,
        }
    }
}
