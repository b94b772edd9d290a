//! HTTP/2 (RFC 9113), client and server: the project's own implementation.
//!
//! `State` is the connection state and handles frames without I/O; `Link` performs the I/O. Streams and the task that
//! drives the connection share one `Link`, on one thread. Streams write into a common output buffer, which is sent when
//! the driver is polled: after all streams that were woken in the same iteration.
//!
//! Start at [`Server`] and [`client()`]; a stream is [`H2`].

mod budget;
mod client;
mod control;
mod driver;
mod error;
mod frame;
mod head;
mod sending;
mod server;
mod state;
mod stream;
mod streams;
#[cfg(test)]
mod tests;

pub use self::client::{Client, ClientDriver, client};
pub use self::error::{Code, H2Error};
pub use self::head::{FieldWriter, Target};
pub use self::server::{Request, Server};
pub use self::state::Settings;
pub use self::stream::H2;
