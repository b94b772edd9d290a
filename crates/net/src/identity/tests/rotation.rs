//! Leaves and roots are rotated under load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Weak};

use cardinal_pki::TrustBundle;
use rustls::sign::CertifiedKey;

use super::*;
use crate::h1::H1;
use crate::{Pool, PoolKey, PoolLimits, Stage, TlsTarget, connect};

/// A minute, in which the leaf is rotated every 2 seconds and the root every 10.
const SECONDS: u64 = 60;
const LEAF_SECONDS: u64 = 2;
const ROOT_SECONDS: u64 = 10;
/// Leaves are valid for three rotations, so that each is renewed before two thirds of its lifetime have passed.
const LEAF_LIFETIME: u64 = 3 * LEAF_SECONDS;

/// The control plane during a minute: one issuing authority at a time, and the bundle with overlapping roots.
struct Rotation {
    clock: Arc<ManualClock>,
    ca: Ca,
    bundle: TrustBundle,
    /// A new root that is published but does not issue certificates yet.
    next: Option<Ca>,
    /// An old root, and when it is withdrawn.
    retired: Option<(Ca, u64)>,
}

impl Rotation {
    fn new(clock: &Arc<ManualClock>) -> Self {
        let ca = root(clock, "east.test", 1_000, 1);
        let bundle = ca.bundle().unwrap();
        Self { clock: Arc::clone(clock), ca, bundle, next: None, retired: None }
    }

    /// A new root is published one leaf rotation before it issues certificates, and an old one is withdrawn when the
    /// last leaf that it issued has expired.
    fn step(&mut self, second: u64, nodes: [&Node; 2]) {
        if second % ROOT_SECONDS == ROOT_SECONDS - LEAF_SECONDS {
            let next = root(&self.clock, "east.test", 1_000, second);
            self.bundle = self.bundle.with_authority(next.root().unwrap().clone()).unwrap();
            self.next = Some(next);
        }
        if second.is_multiple_of(ROOT_SECONDS)
            && let Some(next) = self.next.take()
        {
            self.retired = Some((std::mem::replace(&mut self.ca, next), second + LEAF_LIFETIME));
        }
        if let Some((old, _)) = self.retired.take_if(|(_, until)| second >= *until) {
            self.bundle = self.bundle.without_authority(old.root().unwrap());
        }
        for (at, node) in nodes.into_iter().enumerate() {
            // The nodes renew their leaves at different times.
            let renews = (second + at as u64).is_multiple_of(LEAF_SECONDS);
            node.store
                .update(|update| {
                    update.set_bundle(self.bundle.clone());
                    if renews {
                        update.set_identity(OWN, &leaf(&self.clock, &self.ca, &node.id, LEAF_LIFETIME))?;
                    }
                    Ok::<_, IdentityError>(())
                })
                .unwrap();
        }
    }
}

/// Counters of the workers.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    handshakes: AtomicUsize,
    /// Failures are collected, because a panic in a task does not fail the test.
    failures: Mutex<Vec<Meeting>>,
}

/// Performs handshakes without a pause until the load ends.
async fn work(client: Arc<IdentityClient>, server: Arc<IdentityServer>, load: Arc<Load>) {
    while !load.is_over.load(Ordering::Relaxed) {
        let met = meet(&client, &server).await;
        load.handshakes.fetch_add(1, Ordering::Relaxed);
        if !met.is_success() {
            load.failures.lock().unwrap().push(met);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn rotation_under_load_fails_no_handshake() {
    let clock = Arc::new(ManualClock::at(START));
    let mut rotation = Rotation::new(&clock);
    let (shop, bank) = (id("spiffe://east.test/ns/shop/sa/cart"), id("spiffe://east.test/ns/bank/sa/ledger"));
    let nodes = [Node::new(&clock, &rotation.ca, &shop), Node::new(&clock, &rotation.ca, &bank)];
    let client = nodes[0].client(&[PeerRule::Exact(bank)]);
    let server = nodes[1].server(&[PeerRule::any_of(&domain("east.test"))]);
    let (client_config, server_config) = (Arc::clone(client.config()), Arc::clone(server.config()));

    // A connection that exists during the whole minute.
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("a.test").unwrap();
    let (mut served, mut asked) = tokio::try_join!(server.accept(far), client.connect(name, near)).unwrap();

    let load = Arc::new(Load::default());
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let work = work(Arc::clone(&client), Arc::clone(&server), Arc::clone(&load));
            cardinal_base::task::spawn("handshakes", work)
        })
        .collect();
    let mut retired: Vec<Weak<CertifiedKey>> = Vec::new();
    let (mut roots, mut bundle_max) = (std::collections::HashSet::new(), 0);
    for second in 0..SECONDS {
        rotation.step(second, [&nodes[0], &nodes[1]]);
        retired.extend(nodes.iter().map(|node| Arc::downgrade(&node.store.certified(OWN).unwrap())));
        roots.insert(rotation.ca.root().unwrap().to_vec());
        bundle_max = bundle_max.max(rotation.bundle.certificates().len());
        // Ten steps per second; the workers run for a while at each.
        for _ in 0..10 {
            clock.advance(Duration::from_millis(100));
            for _ in 0..2 {
                tokio::task::yield_now().await;
            }
        }
        asked.stream.write_all(b"x").await.unwrap();
        asked.stream.flush().await.unwrap();
        assert_eq!(served.stream.read_u8().await.unwrap(), b'x', "connections outlive their certificates");
    }
    load.is_over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    let count = load.handshakes.load(Ordering::Relaxed);

    assert!(load.failures.lock().unwrap().is_empty(), "{:?}", load.failures);
    assert!(count > 100, "only {count} handshakes");
    assert_eq!((roots.len(), bundle_max), (6, 2), "the roots overlapped");
    // Only the store has changed.
    assert!(Arc::ptr_eq(nodes[0].client(&[PeerRule::Exact(nodes[1].id.clone())]).config(), &client_config));
    assert!(Arc::ptr_eq(nodes[1].server(&[PeerRule::any_of(&domain("east.test"))]).config(), &server_config));
    // Memory use stays constant: only the certificates in use are left, and the long-lived connection only holds its
    // own.
    retired.sort_by_key(Weak::as_ptr);
    retired.dedup_by_key(|weak| weak.as_ptr());
    assert!(retired.len() >= 60, "{} certificates", retired.len());
    let left = retired.iter().filter(|weak| weak.strong_count() > 0).count();
    assert!(left <= 2, "{left} certificates are left");
    for node in &nodes {
        assert_eq!(node.store.bundles()[0].certificates().len(), rotation.bundle.certificates().len());
    }
}

#[tokio::test]
async fn a_root_that_is_withdrawn_early_is_noticed() {
    // The same load has failures if roots do not overlap, so the test above can fail.
    let clock = Arc::new(ManualClock::at(START));
    let rotation = Rotation::new(&clock);
    let (shop, bank) = (id("spiffe://east.test/a"), id("spiffe://east.test/b"));
    let nodes = [Node::new(&clock, &rotation.ca, &shop), Node::new(&clock, &rotation.ca, &bank)];
    let any = [PeerRule::any_of(&domain("east.test"))];
    let (client, server) = (nodes[0].client(&any), nodes[1].server(&any));
    assert!(meet(&client, &server).await.is_success());
    let next = root(&clock, "east.test", 1_000, 2);
    for node in &nodes {
        node.store.set_bundle(next.bundle().unwrap());
    }
    assert!(!meet(&client, &server).await.is_success());
}

#[tokio::test]
async fn pooled_connections_survive_rotation() {
    let clock = Arc::new(ManualClock::at(START));
    let mut rotation = Rotation::new(&clock);
    let (shop, bank) = (id("spiffe://east.test/a"), id("spiffe://east.test/b"));
    let nodes = [Node::new(&clock, &rotation.ca, &shop), Node::new(&clock, &rotation.ca, &bank)];
    let any = [PeerRule::any_of(&domain("east.test"))];
    let (client, server) = (nodes[0].client(&any), nodes[1].server(&any));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = cardinal_base::task::spawn("echo", async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut found = server.accept(tcp).await.unwrap();
        while let Ok(byte) = found.stream.read_u8().await {
            found.stream.write_all(&[byte]).await.unwrap();
        }
    });
    let target =
        TlsTarget { config: Arc::clone(client.config()), server_name: ServerName::try_from("b.test").unwrap() };
    let connected = connect(address, None, Some(&target), &Stage::default()).await.unwrap();
    let limits = PoolLimits { idle_max: 1, requests_max: 0, idle_timeout_ms: 3_600_000, classes_max: 4 };
    let mut pool = Pool::default();
    let mut h1 = Box::new(H1::new(connected.io, b""));
    for second in 0..SECONDS {
        rotation.step(second, [&nodes[0], &nodes[1]]);
        clock.advance(Duration::from_secs(1));
        // The pool is keyed by the policy.
        let policy = nodes[0].client(&any).policy().fingerprint();
        let settings = u64::from_be_bytes(*policy.first_chunk().unwrap());
        let key = PoolKey { address, class: pool.class(settings, "b.test", &limits) };
        pool.put(key, h1, 1, &limits, clock.tick());
        h1 = pool.take(&key, &limits, clock.tick()).expect("the connection is still there").h1;
        h1.io().write_all(b"x").await.unwrap();
        assert_eq!(h1.io().read_u8().await.unwrap(), b'x');
    }
    assert_eq!(pool.evicted(), 0);
    drop(h1);
    echo.await.unwrap();
}
