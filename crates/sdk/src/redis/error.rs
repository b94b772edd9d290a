//! Why a command to a Redis server brought no usable reply.

/// Why a call or one of its commands failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// The node has run out of descriptors, memory or ports, or has too many calls: this tells nothing about the server.
    #[error("{0}")]
    Local(String),
    /// The name does not resolve, or TCP or TLS failed.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// It took too long; the text says what.
    #[error("timeout {0}")]
    Timeout(&'static str),
    /// The server does not accept the user or the password, or requires one.
    #[error("cannot log in: {0}")]
    Auth(String),
    /// The connection ended before all replies had arrived, or carried something else. The server may have run the
    /// commands.
    #[error("the connection failed: {0}")]
    Broken(String),
    /// The server refused a command.
    #[error("{code} {message}")]
    Server {
        /// The first word of the error, such as `ERR` or `WRONGTYPE`.
        code: Box<str>,
        /// The rest of it.
        message: Box<str>,
    },
    /// The reply is not of the type that the command has.
    #[error("the reply is not {0}")]
    WrongType(&'static str),
}

impl RedisError {
    /// Whether this tells nothing about the server.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }
}
