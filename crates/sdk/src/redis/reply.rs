//! Replies of a Redis server to commands.

use bytes::Bytes;

use super::RedisError;

/// The reply to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisReply {
    /// No value, such as for a key that does not exist.
    Nil,
    /// A number.
    Integer(i64),
    /// A string, which may be binary.
    Bytes(Bytes),
    /// A short text, such as `OK`.
    Status(Box<str>),
    /// Several replies.
    List(Vec<RedisReply>),
    /// The server rejected the command.
    Error {
        /// The first word of the error, such as `ERR` or `WRONGTYPE`.
        code: Box<str>,
        /// The rest of the error.
        message: Box<str>,
    },
}

impl RedisReply {
    /// The reply itself, unless the server rejected the command.
    ///
    /// # Errors
    /// If the command was rejected.
    pub fn accepted(self) -> Result<Self, RedisError> {
        match self {
            Self::Error { code, message } if matches!(&*code, "NOAUTH" | "WRONGPASS") => {
                Err(RedisError::Auth(format!("{code} {message}")))
            }
            Self::Error { code, message } => Err(RedisError::Server { code, message }),
            reply => Ok(reply),
        }
    }

    /// A number, including one stored as text; `None` for no value.
    ///
    /// # Errors
    /// If the command was rejected, or the reply has another type.
    pub fn integer(self) -> Result<Option<i64>, RedisError> {
        const WRONG: RedisError = RedisError::WrongType("a number");
        match self.accepted()? {
            Self::Nil => Ok(None),
            Self::Integer(number) => Ok(Some(number)),
            Self::Bytes(text) => {
                std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).map(Some).ok_or(WRONG)
            }
            _ => Err(WRONG),
        }
    }

    /// A string; `None` for no value.
    ///
    /// # Errors
    /// If the command was rejected, or the reply has another type.
    pub fn bytes(self) -> Result<Option<Bytes>, RedisError> {
        match self.accepted()? {
            Self::Nil => Ok(None),
            Self::Bytes(bytes) => Ok(Some(bytes)),
            Self::Status(text) => Ok(Some(Bytes::from(text.into_string()))),
            _ => Err(RedisError::WrongType("a string")),
        }
    }

    /// Several replies; `None` for no value.
    ///
    /// # Errors
    /// If the command was rejected, or the reply has another type.
    pub fn list(self) -> Result<Option<Vec<RedisReply>>, RedisError> {
        match self.accepted()? {
            Self::Nil => Ok(None),
            Self::List(list) => Ok(Some(list)),
            _ => Err(RedisError::WrongType("a list")),
        }
    }
}
