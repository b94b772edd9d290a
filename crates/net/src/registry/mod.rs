//! [`ConnectionRegistry`]: the connections of a worker, which can be counted, drained and revoked.

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use cardinal_base::{Id, Tick};

/// What is known of a connection, to choose it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// The listener; `None` for one of the node's settings.
    pub listener: Option<Id>,
    /// Group of the listener; `None` is the default group.
    pub group: Option<Id>,
    /// Verified identity of the peer, as a URI.
    pub peer_identity: Option<Arc<str>>,
    /// When it was accepted.
    pub started: Tick,
}

/// What a connection has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionState {
    /// Nothing: it is served.
    Open,
    /// To finish what is in progress and to begin nothing new.
    Draining,
    /// To end now.
    Revoked,
}

/// The connections of one worker. Adding and removing one takes constant time; choosing goes through all of them.
#[derive(Debug, Default)]
pub struct ConnectionRegistry {
    connections: RefCell<Vec<Rc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    facts: ConnectionFacts,
    state: Cell<ConnectionState>,
    /// Its place among the connections of the registry.
    place: Cell<usize>,
    /// The task that serves it, while it waits.
    waker: RefCell<Option<Waker>>,
}

impl ConnectionRegistry {
    /// An empty registry.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Adds a connection. It is removed when the entry is dropped.
    pub fn add(self: &Rc<Self>, facts: ConnectionFacts) -> ConnectionEntry {
        let mut connections = self.connections.borrow_mut();
        let connection = Rc::new(Connection {
            facts,
            state: Cell::new(ConnectionState::Open),
            place: Cell::new(connections.len()),
            waker: RefCell::new(None),
        });
        connections.push(Rc::clone(&connection));
        ConnectionEntry { registry: Rc::clone(self), connection }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many connections fulfil the condition.
    pub fn count(&self, condition: impl Fn(&ConnectionFacts, ConnectionState) -> bool) -> usize {
        self.chosen(|connection| condition(&connection.facts, connection.state.get())).len()
    }

    /// Tells the connections that fulfil the condition to finish what is in progress; how many had not been told before.
    pub fn drain(&self, condition: impl Fn(&ConnectionFacts) -> bool) -> usize {
        self.tell(ConnectionState::Draining, condition)
    }

    /// Ends the connections that fulfil the condition; how many had not been told before.
    pub fn revoke(&self, condition: impl Fn(&ConnectionFacts) -> bool) -> usize {
        self.tell(ConnectionState::Revoked, condition)
    }

    fn tell(&self, state: ConnectionState, condition: impl Fn(&ConnectionFacts) -> bool) -> usize {
        let chosen = self.chosen(|connection| connection.state.get() < state && condition(&connection.facts));
        for connection in &chosen {
            connection.state.set(state);
            if let Some(waker) = connection.waker.borrow_mut().take() {
                waker.wake();
            }
        }
        chosen.len()
    }

    /// Conditions run while the list is borrowed, and wakers do not, so that a waker may do anything.
    fn chosen(&self, condition: impl Fn(&Connection) -> bool) -> Vec<Rc<Connection>> {
        self.connections.borrow().iter().filter(|connection| condition(connection)).map(Rc::clone).collect()
    }
}

/// A connection's place in the registry, held by the one task that serves it.
#[derive(Debug)]
pub struct ConnectionEntry {
    registry: Rc<ConnectionRegistry>,
    connection: Rc<Connection>,
}

impl ConnectionEntry {
    /// What is known of the connection.
    pub fn facts(&self) -> &ConnectionFacts {
        &self.connection.facts
    }

    /// What it has been told.
    pub fn state(&self) -> ConnectionState {
        self.connection.state.get()
    }

    /// Waits until it has been told at least `state`.
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

    /// Serves the connection: the outcome of `serving`, or `None` if it is revoked before. `serving` and all that it
    /// holds, the socket for one, are dropped then.
    pub async fn unless_revoked<F: Future>(&self, serving: F) -> Option<F::Output> {
        let mut serving = std::pin::pin!(serving);
        std::future::poll_fn(|cx| {
            // First, so that a connection that always has something to do ends too.
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
        // The last one gets its place.
        connections.swap_remove(place);
        if let Some(moved) = connections.get(place) {
            moved.place.set(place);
        }
    }
}
