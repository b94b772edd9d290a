//! HTTP/2 (RFC 9113), either role: a codec of our own.
//!
//! `State` knows a connection and takes frames, without input or output; `Link` moves its bytes. Streams and the task
//! that drives the connection share one `Link`, on one thread. What streams send is written into one output, which
//! leaves when the driver has its turn: after the streams that were woken with it.
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
