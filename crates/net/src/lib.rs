//! Sockets: listeners and original destinations, protocol detection, TLS, workload identities, HTTP/1 and HTTP/2
//! connections with one interface, upstream connections and their pools, name resolution, the PROXY protocol, deadlines.
//!
//! *Must not know*: routes, filters, plugins, what a request means.
//!
//! Start at [`Peer`]: one side of an exchange, over either version of HTTP. [`Io`] is the byte stream below it, and
//! [`ByteStream`] a connection without HTTP. [`Connector`] connects to upstreams, [`identity`] is mutual TLS by SPIFFE
//! IDs.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod arrival;
pub mod buffer;
mod byte_stream;
pub mod client_hello;
mod connect;
pub mod dns;
mod error;
pub mod h1;
pub mod h2;
pub mod identity;
mod io;
mod listener;
mod peer;
mod pool;
pub mod proxy_protocol;
mod registry;
mod sniff;
mod splice;
mod timer;
pub mod tls;

pub use arrival::{Arrival, Capture};
pub use byte_stream::ByteStream;
pub use connect::{
    ConnectError, Connected, Connector, OptionError, SocketOptions, Source, Stage, TlsTarget, Tunnel, TunnelError,
    connect, start_tls,
};
pub use error::NetError;
pub use io::Io;
pub use listener::{Bound, bind_tcp, bind_udp, is_taken, send_at_once};
pub use peer::Peer;
pub use pool::{
    Class, H2_STREAMS_MAX, H2Connection, Limits as PoolLimits, Opening, OpeningGuard, Pool, PoolKey, Pooled,
    SharedPool, StreamGuard,
};
pub use registry::{ConnectionEntry, ConnectionProperties, ConnectionRegistry, ConnectionState};
pub use sniff::{
    Classifier, ClientHello, Detection, Evidence, Protocol, SERVER_FIRST_PORTS, SNIFF_MAX, SniffTimeouts, Sniffed,
    sniff,
};
pub use splice::{Splice, SpliceError, release_idle as release_idle_pipes};
pub use timer::{Timer, Wheel};
