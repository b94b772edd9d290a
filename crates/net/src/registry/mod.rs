//! [`ConnectionRegistry`]: the connections of a worker, for counting, draining and closing them.

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use cardinal_base::{Id, Tick};

/// The properties by which connections are selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionProperties {
    /// The listener; `None` for a listener of the node's settings.
    pub listener: Option<Id>,
    /// Group of the listener; `None` is the default group.
    pub group: Option<Id>,
    /// Verified identity of the peer, as a URI.
    pub peer_identity: Option<Arc<str>>,
    /// Number of the peer's verification, whose meaning the owner defines; `None` for clear text.
    pub verification: Option<u64>,
    /// When it was accepted.
    pub started: Tick,
}

/// The shutdown signal that a connection has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionState {
    /// None: the connection is served.
    Open,
    /// Finish requests in progress, and start no new ones.
    Draining,
    /// End immediately.
    Revoked,
}

/// The connections of one worker. Adding and removing a connection takes constant time; selecting iterates over all of
/// them.
#[derive(Debug, Default)]
pub struct ConnectionRegistry {
    connections: RefCell<Vec<Rc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    properties: ConnectionProperties,
    state: Cell<ConnectionState>,
    /// The index among the registry's connections.
    place: Cell<usize>,
    /// The waker of the serving task, while it waits.
    waker: RefCell<Option<Waker>>,
}

impl ConnectionRegistry {
    /// An empty registry.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Adds a connection. It is removed when the entry is dropped.
    pub fn add(self: &Rc<Self>, properties: ConnectionProperties) -> ConnectionEntry {
        let mut connections = self.connections.borrow_mut();
        let connection = Rc::new(Connection {
            properties,
            state: Cell::new(ConnectionState::Open),
            place: Cell::new(connections.len()),
            waker: RefCell::new(None),
        });
        connections.push(Rc::clone(&connection));
        ConnectionEntry { registry: Rc::clone(self), connection }
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of connections that satisfy the condition.
    pub fn count(&self, condition: impl Fn(&ConnectionProperties, ConnectionState) -> bool) -> usize {
        self.chosen(|connection| condition(&connection.properties, connection.state.get())).len()
    }

    /// Signals the connections that satisfy the condition to drain; returns the number of newly signalled ones.
    pub fn drain(&self, condition: impl Fn(&ConnectionProperties) -> bool) -> usize {
        self.tell(ConnectionState::Draining, condition)
    }

    /// Ends the connections that satisfy the condition; returns the number of newly signalled ones.
    pub fn revoke(&self, condition: impl Fn(&ConnectionProperties) -> bool) -> usize {
        self.tell(ConnectionState::Revoked, condition)
    }

    fn tell(&self, state: ConnectionState, condition: impl Fn(&ConnectionProperties) -> bool) -> usize {
        let chosen = self.chosen(|connection| connection.state.get() < state && condition(&connection.properties));
        for connection in &chosen {
            connection.state.set(state);
            if let Some(waker) = connection.waker.borrow_mut().take() {
                waker.wake();
            }
        }
        chosen.len()
    }

    /// Conditions run while the list is borrowed; wakers run afterwards, so that they may use the registry.
    fn chosen(&self, condition: impl Fn(&Connection) -> bool) -> Vec<Rc<Connection>> {
        self.connections.borrow().iter().filter(|connection| condition(connection)).map(Rc::clone).collect()
    }
}

/// The registration of a connection, held by the task that serves it.
#[derive(Debug)]
pub struct ConnectionEntry {
    registry: Rc<ConnectionRegistry>,
    connection: Rc<Connection>,
}

impl ConnectionEntry {
    /// The properties of the connection.
    pub fn properties(&self) -> &ConnectionProperties {
        &self.connection.properties
    }

    /// The signal received so far.
    pub fn state(&self) -> ConnectionState {
        self.connection.state.get()
    }

    /// Waits until the connection has received at least the signal `state`.
    pub fn poll_state(&self, cx: &Context<'_>, state: ConnectionState) -> Poll<()> {
        if self.state() >= state {
            return Poll::Ready(());
        }
        let mut waker = self.connection.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until the connection is to be drained or has been revoked.
    pub async fn draining(&self) {
        std::future::poll_fn(|cx| self.poll_state(cx, ConnectionState::Draining)).await;
    }

    /// Serves the connection: returns the result of `serving`, or `None` if the connection is revoked first. `serving`
    /// is then dropped with everything it holds, such as the socket.
    pub async fn unless_revoked<F: Future>(&self, serving: F) -> Option<F::Output> {
        let mut serving = std::pin::pin!(serving);
        std::future::poll_fn(|cx| {
            // Polled first, so that a busy connection ends too.
            if self.poll_state(cx, ConnectionState::Revoked).is_ready() {
                return Poll::Ready(None);
            }
            serving.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

impl Drop for ConnectionEntry {
    fn drop(&mut self) {
        let mut connections = self.registry.connections.borrow_mut();
        let place = self.connection.place.get();
        // The last connection takes over the index.
        connections.swap_remove(place);
        if let Some(moved) = connections.get(place) {
            moved.place.set(place);
        }
    }
}
