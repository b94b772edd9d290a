//! Streams: TCP and TLS connections and UDP sessions, by stream routes.
//!
//! All kinds of sessions have the same life cycle ([`session::Session`]): connection info, route, connect phase of the
//! filters, endpoint selection, forwarding in both directions, log phase. [`tcp`] and [`udp`] forward bytes; [`tls`]
//! handles TLS on the listener beforehand; [`table`] keeps UDP sessions, which have no explicit open or close.

mod session;
mod table;
mod tcp;
mod tls;
mod udp;

pub(crate) use tcp::{serve_bytes, serve_tcp};
pub(crate) use udp::serve_udp;
