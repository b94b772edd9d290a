//! What can go wrong with a stream or a connection, and the codes it has on the wire.

use std::fmt;

/// An error code (RFC 9113 section 7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// Nothing went wrong.
    pub const NO_ERROR: Self = Self(0);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// We cannot go on.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// More was sent than the window allows.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// A frame on a stream that was ended.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame of the wrong size.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// The stream was not looked at.
    pub const REFUSED_STREAM: Self = Self(7);
    /// Nobody wants the stream any more.
    pub const CANCEL: Self = Self(8);
    /// Fields cannot be decoded.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// The peer makes work without use.
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

/// Why a stream, or a connection with all its streams, has ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum H2Error {
    /// The peer reset the stream.
    #[error("stream reset by the peer: {0:?}")]
    Reset(Code),
    /// What came on the stream breaks the protocol; it was reset.
    #[error("stream error: {1} ({0:?})")]
    Stream(Code, &'static str),
    /// The peer ended the connection, and has not looked at this stream.
    #[error("connection ended by the peer: {0:?}")]
    GoAway(Code),
    /// What came on the connection breaks the protocol; it was ended.
    #[error("connection error: {1} ({0:?})")]
    Connection(Code, &'static str),
    /// The connection is gone.
    #[error("connection lost: {0}")]
    Lost(std::io::ErrorKind),
}

impl H2Error {
    /// Whether the peer is gone, or wants no more, as opposed to speaking nonsense.
    pub fn is_disconnect(self) -> bool {
        matches!(self, Self::Reset(_) | Self::GoAway(_) | Self::Lost(_))
    }

    /// Whether the peer says that it has done nothing for the stream (RFC 9113 section 8.7).
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::GoAway(_) | Self::Reset(Code::REFUSED_STREAM))
    }
}
