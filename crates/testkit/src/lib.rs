//! The in-process test world: real servers, scripted peers and strict clients on loopback sockets.
//!
//! Everything binds port 0 of 127.0.0.1 and ends when its value is dropped, so tests run side by side. Waits have a
//! deadline ([`within`]), so a broken peer fails a test instead of hanging it.
//!
//! *Must not know*: what a single test wants to prove.
//!
//! Start at [`EchoServer`], the backend that tells what reached it; then [`H1Client`] and [`H2Client`]; a peer that
//! breaks the rules is a [`ScriptedPeer`].

#![allow(clippy::missing_panics_doc, reason = "a broken test world is a failed test")]

mod certs;
mod echo;
pub mod fuzz;
mod grpc;
mod h1;
mod h2_client;
mod isolated;
mod machines;
mod message;
mod port;
mod postgres;
mod process;
mod script;
mod socket;
mod stream_echo;
mod temp;
mod wait;
mod websocket;
mod world;

pub use certs::{Authority, Issued, unverified_client};
pub use echo::{EchoServer, Report};
pub use fuzz::fuzz_smoke;
pub use grpc::{GrpcReply, frame, unframe};
pub use h1::H1Client;
pub use h2_client::{H2Client, H2Exchange};
pub use isolated::{Isolation, isolated, set_up, with_own_mounts};
pub use machines::{Machine, Network};
pub use message::{Fields, Response};
pub use port::free_port;
pub use postgres::PostgresServer;
pub use process::Server;
pub use rcgen::ExtendedKeyUsagePurpose;
pub use script::{Play, ScriptedPeer, Step};
pub use socket::Socket;
pub use stream_echo::StreamEcho;
pub use temp::TempDir;
pub use wait::{PATIENCE, settled, until, until_some, until_some_blocking, while_time_passes, within};
pub use websocket::{Frame, Opcode, WebSocket};
pub use world::World;
