//! Streams: TCP and TLS connections and UDP sessions, by stream routes.
//!
//! A session of any kind has one life, told by [`session::Session`]: facts, route, filters' connect phase, an endpoint
//! of the backend, bytes both ways, log phase. [`tcp`] and [`udp`] say how the bytes move; [`tls`] is what a listener
//! with TLS does before; [`table`] keeps UDP sessions, which nobody opens or closes.

mod session;
mod table;
mod tcp;
mod tls;
mod udp;

pub(crate) use tcp::{serve_bytes, serve_tcp};
pub(crate) use udp::serve_udp;
