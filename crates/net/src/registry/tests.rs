use std::collections::HashMap;
use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use cardinal_base::{Rng as _, SeededRng};
use tokio::io::AsyncReadExt as _;

use super::*;

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn properties(group: u128, identity: Option<&str>, started: u64) -> ConnectionProperties {
    let started = Tick::from_millis(started);
    ConnectionProperties {
        listener: None,
        group: Some(Id::from_u128(group)),
        peer_identity: identity.map(Arc::from),
        verification: None,
        started,
    }
}

/// A connection of the model: its entry, the expected signal, and its waker.
struct Modelled {
    entry: ConnectionEntry,
    state: ConnectionState,
    wakes: Arc<Counter>,
    wakes_expected: usize,
}

impl Modelled {
    fn told(&mut self, state: ConnectionState) -> bool {
        let news = self.state < state;
        if news {
            self.state = state;
            self.wakes_expected += 1;
        }
        news
    }
}

/// Random operations, compared with a plain list.
#[test]
fn it_does_what_a_plain_list_would() {
    const IDENTITIES: [Option<&str>; 3] = [None, Some("spiffe://a/one"), Some("spiffe://a/two")];
    let registry = ConnectionRegistry::new();
    let mut rng = SeededRng::new(11);
    let mut below = |bound: usize| usize::try_from(rng.below(bound as u64)).unwrap();
    let mut model: HashMap<usize, Modelled> = HashMap::new();
    for number in 0..4_000 {
        let (group, identity) = (below(4) as u128, IDENTITIES[below(3)]);
        let chosen = |properties: &ConnectionProperties| {
            properties.group == Some(Id::from_u128(group)) && properties.peer_identity.as_deref() == identity
        };
        match below(40) {
            0..22 => {
                let entry = registry.add(properties(group, identity, number as u64));
                let state = ConnectionState::Open;
                model.insert(number, Modelled { entry, state, wakes: Arc::default(), wakes_expected: 0 });
            }
            22..36 => drop(model.keys().nth(below(model.len().max(1))).copied().and_then(|key| model.remove(&key))),
            operation => {
                let state = if operation % 2 == 0 { ConnectionState::Draining } else { ConnectionState::Revoked };
                let told = match state {
                    ConnectionState::Draining => registry.drain(chosen),
                    _ => registry.revoke(chosen),
                };
                let expect = model
                    .values_mut()
                    .filter(|c| chosen(c.entry.properties()))
                    .filter_map(|c| c.told(state).then_some(()));
                assert_eq!(told, expect.count());
            }
        }
        for connection in model.values() {
            assert_eq!(connection.entry.state(), connection.state);
            assert_eq!(connection.wakes.0.load(Ordering::SeqCst), connection.wakes_expected);
            let waker = Waker::from(Arc::clone(&connection.wakes));
            let revoked = connection.entry.poll_state(&Context::from_waker(&waker), ConnectionState::Revoked);
            assert_eq!(revoked.is_ready(), connection.state == ConnectionState::Revoked);
        }
        assert_eq!(registry.len(), model.len());
        let count = |state| model.values().filter(|c| c.state == state).count();
        for state in [ConnectionState::Open, ConnectionState::Draining, ConnectionState::Revoked] {
            assert_eq!(registry.count(|_, of| of == state), count(state));
        }
        if number % 64 == 0 {
            let places: Vec<_> = registry.connections.borrow().iter().map(|c| c.place.get()).collect();
            assert!(places.iter().copied().eq(0..places.len()));
        }
    }
    assert!(model.len() > 100, "the run went through many connections at once");
    model.clear();
    assert!(registry.is_empty());
}

#[tokio::test]
async fn a_revoked_connection_is_closed_at_once() {
    let registry = ConnectionRegistry::new();
    let (mut client, server) = tokio::io::duplex(16);
    let entry = registry.add(properties(1, Some("spiffe://a/one"), 0));
    let local = tokio::task::LocalSet::new();
    let scene = local.run_until(async {
        let (ended, outcome) = tokio::sync::oneshot::channel();
        drop(cardinal_base::task::spawn_local("connection", async move {
            let serving = async move {
                let _server = server;
                pending::<()>().await;
            };
            ended.send(entry.unless_revoked(serving).await).unwrap();
        }));
        tokio::task::yield_now().await;
        assert_eq!(registry.drain(|_| true), 1);
        tokio::task::yield_now().await;
        assert_eq!(registry.len(), 1, "draining leaves it to the connection when it ends");
        assert_eq!(registry.revoke(|properties| properties.peer_identity.as_deref() == Some("spiffe://a/one")), 1);
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        outcome.await.unwrap()
    });
    assert_eq!(scene.await, None);
    assert!(registry.is_empty());
}

#[tokio::test]
async fn who_waits_for_draining_is_woken_by_it() {
    let registry = ConnectionRegistry::new();
    let entry = registry.add(properties(1, None, 0));
    let wakes = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut draining = std::pin::pin!(entry.draining());
    let poll = |draining: Pin<&mut _>| Future::poll(draining, &mut Context::from_waker(&waker));
    assert!(poll(draining.as_mut()).is_pending());
    assert_eq!(registry.drain(|properties| properties.group == Some(Id::from_u128(2))), 0);
    assert_eq!((registry.drain(|_| true), registry.drain(|_| true)), (1, 0));
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert!(poll(draining.as_mut()).is_ready());
    assert_eq!(entry.unless_revoked(async { 7 }).await, Some(7));
}
