//! The configuration stream between control planes and data planes over the network: gRPC on HTTP/2 and mutual TLS. The
//! protocol itself is `cardinal_sync::stream`.
//!
//! *Must not know*: what records mean, front ends, the engine, stores.
//!
//! Start at [`StreamServer`], which a control plane publishes its generations to, and at [`StreamSource`], the configuration
//! source of a data plane. [`StreamTls`] says how the two know each other, [`Credentials`] how a data plane gets
//! its certificate, by a [`JoinToken`] if it has none.

#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod anchored;
mod codec;
mod connect;
mod credentials;
mod join;
mod metrics;
mod proxies;
mod rejected;
mod serve;
mod server;
mod session;
mod shared;
mod source;
mod strangers;
mod tls;
mod token;

pub use connect::{ConnectError, ControlPlane};
pub use credentials::{Credentials, IDENTITY_FILE};
pub use join::{JoinAuthority, JoinError};
pub use proxies::ProxyInfo;
pub use server::StreamServer;
pub use shared::StreamServerOptions;
pub use source::{StreamSource, StreamSourceError, StreamSourceOptions};
pub use tls::{NodeIdentity, StreamTls, StreamTlsError};
pub use token::{JoinToken, TokenError};
