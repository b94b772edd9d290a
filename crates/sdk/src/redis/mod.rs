//! [`Redis`]: commands to Redis servers. The node has one client for all plugins: it resolves names, performs TLS and
//! authentication, and shares the connections of equal settings.
//!
//! A filter requests a [`RedisServer`] from [`Services::redis`](crate::Services::redis) when it is built, and sends it
//! a [`RedisCall`] for each request.

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

/// The replies to the commands of a call, in order.
pub type RedisReplies = Pin<Box<dyn Future<Output = Result<Vec<RedisReply>, RedisError>> + Send>>;

/// The node's Redis client.
pub trait Redis: Send + Sync {
    /// The server with these settings; all users of equal settings share its connections. Connects when the first
    /// command is sent. To be called when filters are built, not on the request path.
    fn server(&self, settings: &RedisSettings) -> Arc<dyn RedisServer>;
}

/// A Redis server. Its connection is closed when it has been idle for a while, or when the last handle is dropped.
pub trait RedisServer: Send + Sync {
    /// `host:port`, for logs.
    fn name(&self) -> &str;

    /// Sends the commands of a call in one batch and awaits their replies, on any runtime. A call whose future is
    /// dropped still runs to its end. If the server rejects a command, only that command fails: its reply is a
    /// [`RedisReply::Error`].
    ///
    /// While the server is unreachable, calls fail immediately for a short time after each attempt. If the node itself
    /// has run out of descriptors, memory or ports, the error is [`RedisError::Local`], and calls do not fail early
    /// afterwards.
    fn call(&self, call: RedisCall) -> RedisReplies;
}

#[cfg(test)]
mod tests;
