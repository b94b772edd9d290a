//! The configuration stream between control planes and data planes, without I/O.
//!
//! It is the delta protocol of xDS (`AggregatedDiscoveryService.DeltaAggregatedResources`) with our own record types. A data
//! plane subscribes with the [fingerprint](Fingerprint) of what it has; a control plane that knows this generation sends the
//! difference to its newest one, another one asks for the versions of all records first. A generation comes in parts and is
//! served when all have come and the fingerprint of the records is the one that was announced. The data plane acknowledges a
//! generation and names the records that it does not serve. Only then the next one is sent, and that is the newest: slow data
//! planes skip generations.
//!
//! A record of another version of the program that cannot be read is left out, with those that refer to it, and reported. If it
//! restricts access, the generation is refused and the one before stays. Secrets are a type of their own beside the records.
//!
//! Start at [`Server`] and [`Client`]. Messages are in [`wire`].

mod client;
mod fingerprint;
mod health;
mod held;
mod history;
mod received;
mod receiving;
mod reconnect;
mod report;
mod server;
mod transfer;
pub mod wire;

pub use client::Client;
pub use fingerprint::{Fingerprint, NoFingerprint};
pub use health::TargetHealth;
pub use held::Held;
pub use history::{GenerationId, History, Outdated, Published};
pub use received::{ClientError, ClientOptions, Received};
pub use reconnect::Reconnect;
pub use report::{NodeInfo, ProtocolVersion, REJECTIONS_MAX, Rejection, Report};
pub use server::{Server, ServerError, ServerOptions};

#[cfg(test)]
mod tests;
