//! Nodes with roles: what a control plane sends to data planes ([`Publisher`]), and how a data plane gets it
//! ([`data_plane`]).

mod data_plane;
mod identity;
mod publisher;

pub(super) use data_plane::data_plane;
pub(super) use publisher::Publisher;
