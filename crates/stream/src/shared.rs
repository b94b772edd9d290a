//! What the connections of a control plane share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cardinal_base::Clock;
use cardinal_ir::Id;
use cardinal_sync::stream::{History, ProtocolVersion, TargetHealth};
use tokio::sync::{broadcast, watch};

use crate::join::JoinAuthority;
use crate::proxies::Proxies;

/// What operators say about targets that waits for the slowest connection.
const HEALTH_MAX: usize = 1_000;

/// How a [`StreamServer`](crate::StreamServer) behaves.
#[derive(Debug)]
pub struct StreamServerOptions {
    /// The history of the generations: the id of the store, or a random one without a store.
    pub history: Id,
    /// The version of the protocol.
    pub protocol: ProtocolVersion,
    /// Connections at one time.
    pub connections_max: usize,
}

impl StreamServerOptions {
    /// For this history.
    pub fn new(history: Id) -> Self {
        Self { history, protocol: ProtocolVersion::CURRENT, connections_max: 10_000 }
    }
}

/// What the connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    history: RwLock<History>,
    /// Number of the newest generation.
    pub(crate) published: watch::Sender<u64>,
    /// What operators say about targets.
    pub(crate) health: broadcast::Sender<TargetHealth>,
    pub(crate) proxies: Proxies,
    pub(crate) options: StreamServerOptions,
    pub(crate) clock: Arc<dyn Clock>,
    sessions: AtomicU64,
    /// Connections and streams that were refused.
    refused: AtomicU64,
    sent_bytes: AtomicU64,
}

/// A connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) joining: Option<Arc<JoinAuthority>>,
    pub(crate) address: SocketAddr,
    /// It has shown a certificate that is accepted.
    pub(crate) is_authenticated: bool,
    /// The data plane that its certificate was issued to when it joined.
    pub(crate) joined: Option<Id>,
    /// Numbers the streams of data planes, from 1.
    pub(crate) session: u64,
}

impl Shared {
    pub(crate) fn new(options: StreamServerOptions, clock: Arc<dyn Clock>) -> Self {
        let history = RwLock::new(History::new(options.history));
        let (published, _) = watch::channel(0);
        Self {
            history,
            published,
            health: broadcast::Sender::new(HEALTH_MAX),
            proxies: Proxies::default(),
            options,
            clock,
            sessions: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn sends(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn history_mut(&self) -> RwLockWriteGuard<'_, History> {
        self.history.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn history(&self) -> RwLockReadGuard<'_, History> {
        self.history.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed) + 1
    }
}
