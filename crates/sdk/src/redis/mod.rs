//! [`Redis`]: commands to Redis servers. The node has one client for all plugins: it resolves names, makes TLS, logs in,
//! and shares the connections of equal settings.
//!
//! A filter takes a [`RedisServer`] from [`Services::redis`](crate::Services::redis) when it is built, and sends it a
//! [`RedisCall`] for each request.

mod call;
mod error;
mod reply;
mod settings;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use call::{RedisArgs, RedisCall, RedisCommand, RedisScript};
pub use error::RedisError;
pub use reply::RedisReply;
pub use settings::{RedisSettings, RedisTls};

/// The replies to the commands of a call, in their order.
pub type RedisReplies = Pin<Box<dyn Future<Output = Result<Vec<RedisReply>, RedisError>> + Send>>;

/// The node's Redis client.
pub trait Redis: Send + Sync {
    /// The server of these settings; connections are shared by all that hold the server of equal settings. Connects only
    /// when a command is sent. For filters that are built, not for the request path.
    fn server(&self, settings: &RedisSettings) -> Arc<dyn RedisServer>;
}

/// A Redis server. Its connection is closed when it is no longer used for a while, or when the last holder is dropped.
pub trait RedisServer: Send + Sync {
    /// `host:port`, for logs.
    fn name(&self) -> &str;

    /// Sends the commands of a call together and awaits their replies, on any runtime. A call whose future is dropped still
    /// runs to its end. A command that the server refuses fails alone: its reply is a [`RedisReply::Error`].
    ///
    /// While the server cannot be reached, calls fail at once for a short time after each attempt. That the node itself
    /// has run out of descriptors, memory or ports is [`RedisError::Local`], and is not remembered.
    fn call(&self, call: RedisCall) -> RedisReplies;
}

#[cfg(test)]
mod tests;
