//! [`Server`]: a downstream socket and its sessions.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use cardinal_base::Tick;
use cardinal_ir::Listener;
use tokio::net::UdpSocket;

use super::flow::Flow;
use crate::stream::table::Table;
use crate::worker::Worker;

/// Number of consecutive socket errors after which the task pauses.
pub(super) const ERRORS_IN_A_ROW: u32 = 32;

/// A downstream socket and its sessions.
pub(super) struct Server {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: Arc<Listener>,
    pub(super) socket: UdpSocket,
    pub(super) local: SocketAddr,
    pub(super) flows: RefCell<Table<Rc<Flow>>>,
    /// Buffer for responses. A task borrows it only while it is polled.
    pub(super) buffer: RefCell<Box<[u8]>>,
    /// The socket is no longer read.
    pub(super) closed: Cell<bool>,
    /// Time of the last warning about a full table.
    pub(super) warned: Cell<Option<Tick>>,
}
