//! [`Server`]: a clients' socket and its sessions.

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

/// Pause after as many errors of a socket in a row.
pub(super) const ERRORS_IN_A_ROW: u32 = 32;

/// A clients' socket and its sessions.
pub(super) struct Server {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: Arc<Listener>,
    pub(super) socket: UdpSocket,
    pub(super) local: SocketAddr,
    pub(super) flows: RefCell<Table<Rc<Flow>>>,
    /// For answers. A task borrows it only while it is polled.
    pub(super) buffer: RefCell<Box<[u8]>>,
    /// Nobody reads the socket any more.
    pub(super) closed: Cell<bool>,
    /// When a full table was last warned of.
    pub(super) warned: Cell<Option<Tick>>,
}
