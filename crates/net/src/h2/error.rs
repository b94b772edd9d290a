//! Errors of streams and connections, and their codes in frames.

use std::fmt;

/// An error code (RFC 9113 section 7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// No error.
    pub const NO_ERROR: Self = Self(0);
    /// The peer violated the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// An internal error.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// The peer exceeded the flow control window.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// A frame was received on a closed stream.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame has an invalid size.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// The stream was not processed.
    pub const REFUSED_STREAM: Self = Self(7);
    /// The stream is no longer needed.
    pub const CANCEL: Self = Self(8);
    /// The header fields cannot be decoded.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// The peer causes excessive load.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match usize::try_from(self.0).ok().and_then(|at| NAMES.get(at)) {
            Some(name) => f.write_str(name),
            None => write!(f, "code {:#x}", self.0),
        }
    }
}

/// Why a stream, or a connection with all its streams, ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum H2Error {
    /// The peer reset the stream.
    #[error("stream reset by the peer: {0:?}")]
    Reset(Code),
    /// The peer violated the protocol on the stream; the stream was reset.
    #[error("stream error: {1} ({0:?})")]
    Stream(Code, &'static str),
    /// The peer shut down the connection without processing this stream.
    #[error("connection ended by the peer: {0:?}")]
    GoAway(Code),
    /// The peer violated the protocol on the connection; the connection was closed.
    #[error("connection error: {1} ({0:?})")]
    Connection(Code, &'static str),
    /// The connection was lost.
    #[error("connection lost: {0}")]
    Lost(std::io::ErrorKind),
}

impl H2Error {
    /// Whether the peer disconnected or cancelled, as opposed to violating the protocol.
    pub fn is_disconnect(self) -> bool {
        matches!(self, Self::Reset(_) | Self::GoAway(_) | Self::Lost(_))
    }

    /// Whether the peer guarantees that it has not processed the stream (RFC 9113 section 8.7).
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::GoAway(_) | Self::Reset(Code::REFUSED_STREAM))
    }
}
