//! Errors of commands to a Redis server.

/// Why a call or one of its commands failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// The node has run out of descriptors, memory or ports, or has too many calls; the server is not the cause.
    #[error("{0}")]
    Local(String),
    /// The name does not resolve, or TCP or TLS failed.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// A timeout; the text names the step.
    #[error("timeout {0}")]
    Timeout(&'static str),
    /// The server rejects the user or the password, or requires one.
    #[error("cannot log in: {0}")]
    Auth(String),
    /// The connection ended before all replies had arrived, or the data was invalid. The server may have run the
    /// commands.
    #[error("the connection failed: {0}")]
    Broken(String),
    /// The server rejected a command.
    #[error("{code} {message}")]
    Server {
        /// The first word of the error, such as `ERR` or `WRONGTYPE`.
        code: Box<str>,
        /// The rest of the error.
        message: Box<str>,
    },
    /// The reply has an unexpected type.
    #[error("the reply is not {0}")]
    WrongType(&'static str),
}

impl RedisError {
    /// Whether the server is not the cause.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }
}
