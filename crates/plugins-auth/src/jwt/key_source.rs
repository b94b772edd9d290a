//! A published key set: fetched on the control runtime, kept for all instances and generations, read
//! without a lock.
//!
//! There is one fetch at a time. While a set is older than wanted, it is used and a new one fetched; it stops being
//! used [`STALE_MAX_MS`] later. Requests wait only when there is no set, or when it lacks their key; how often that
//! makes a fetch start is limited, so that invented key ids cause no load.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use cardinal_base::{Tick, task};
use cardinal_http::HeaderList;
use cardinal_sdk::{CallError, HttpCall, Services};
use tokio::sync::watch;

use super::key_set::KeySet;

/// Milliseconds between fetches for the sake of key ids that the set lacks.
const UNKNOWN_KEY_GAP_MS: u64 = 10_000;
/// Milliseconds between fetches while a set, or a new one, is missing.
const RETRY_GAP_MS: u64 = 1_000;
/// The same, after the node had no descriptors, memory or ports for the last fetch.
const LOCAL_GAP_MS: u64 = 100;
/// Milliseconds that a set is used beyond its time, while fetching fails.
const STALE_MAX_MS: u64 = 3_600_000;
/// Limit on one fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the connection may be kept for the next fetch.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Most bytes of a set.
const SET_MAX: u64 = 256 << 10;

/// Where keys are published, and the latest of them.
pub(super) struct KeySource {
    uri: Box<str>,
    current: ArcSwapOption<Fetched>,
    fetching: AtomicBool,
    /// The last fetch was not made, because the node had run out of something.
    was_short: AtomicBool,
    /// When the last fetch started, in microseconds, plus one; 0 before the first.
    started: AtomicU64,
    finished: watch::Sender<()>,
}

/// A set and when it came.
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    at: Tick,
}

/// Why a fetch is requested.
#[derive(Clone, Copy)]
pub(super) enum Reason {
    /// There is no set, or an old one.
    Stale,
    /// The set lacks a key.
    UnknownKey,
}

/// Resolves when the fetch in progress has ended, successful or not.
pub(super) struct Fetch(watch::Receiver<()>);

impl Fetch {
    pub(super) async fn ended(mut self) {
        // An error means that the source was dropped, which ends the waiting, too.
        drop(self.0.changed().await);
    }
}

impl KeySource {
    pub(super) fn new(uri: &str) -> Self {
        Self {
            uri: uri.into(),
            current: ArcSwapOption::empty(),
            fetching: AtomicBool::new(false),
            was_short: AtomicBool::new(false),
            started: AtomicU64::new(0),
            finished: watch::Sender::new(()),
        }
    }

    /// The latest set, unless it is too old to be used. Has a new one fetched when it is older than `ttl_ms`.
    pub(super) fn current(self: &Arc<Self>, services: &Services, ttl_ms: u64) -> Guard<Option<Arc<Fetched>>> {
        let current = self.current.load();
        let Some(fetched) = current.as_deref() else { return current };
        let age = services.clock.tick().millis_since(fetched.at);
        if age > ttl_ms {
            self.fetch(services, Reason::Stale);
        }
        if age > ttl_ms.saturating_add(STALE_MAX_MS) { Guard::from_inner(None) } else { current }
    }

    /// Has the set fetched. `None` when that was done too short a while ago.
    pub(super) fn fetch(self: &Arc<Self>, services: &Services, reason: Reason) -> Option<Fetch> {
        // Subscribed first: a fetch that is seen in progress then ends after this.
        let fetch = Fetch(self.finished.subscribe());
        if self.fetching.swap(true, Ordering::SeqCst) {
            return Some(fetch);
        }
        let now = services.clock.tick();
        let gap = match reason {
            _ if self.was_short.load(Ordering::SeqCst) => LOCAL_GAP_MS,
            Reason::Stale => RETRY_GAP_MS,
            Reason::UnknownKey => UNKNOWN_KEY_GAP_MS,
        };
        let last = self.started.load(Ordering::SeqCst);
        if last != 0 && now.millis_since(Tick(last - 1)) < gap {
            self.fetching.store(false, Ordering::SeqCst);
            return None;
        }
        self.started.store(now.0.saturating_add(1), Ordering::SeqCst);
        let (ending, services) = (Ending(Arc::clone(self)), services.clone());
        let _on_control_runtime = services.runtime.clone().enter();
        drop(task::spawn("jwks", async move {
            let ending = ending;
            ending.0.update(&services).await;
        }));
        Some(fetch)
    }

    async fn update(&self, services: &Services) {
        let loaded = self.load(services).await;
        self.was_short.store(matches!(loaded, Err(Failed::Call(CallError::Local(_)))), Ordering::SeqCst);
        match loaded {
            Ok(keys) => self.current.store(Some(Arc::new(Fetched { keys, at: services.clock.tick() }))),
            Err(reason) => tracing::error!(uri = %self.uri, %reason, "the key set could not be fetched"),
        }
    }

    async fn load(&self, services: &Services) -> Result<KeySet, Failed> {
        let mut headers = HeaderList::new();
        headers.append(b"Accept", b"application/jwk-set+json, application/json");
        let call = HttpCall {
            method: "GET".to_owned(),
            url: self.uri.to_string(),
            headers,
            timeout: FETCH_TIMEOUT,
            keepalive: KEEPALIVE,
            body_max: SET_MAX,
            ..HttpCall::default()
        };
        let reply = services.http.call(call).await.map_err(Failed::Call)?;
        if reply.status != 200 {
            return Err(Failed::Status(reply.status));
        }
        KeySet::parse(&reply.body).map_err(Failed::Set)
    }
}

/// Why there is no new set.
#[derive(Debug)]
enum Failed {
    Call(CallError),
    Status(u16),
    Set(&'static str),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Status(status) => write!(f, "the answer has status {status}"),
            Self::Set(reason) => f.write_str(reason),
        }
    }
}

/// Signals that a fetch has ended, also when it panicked or was dropped.
struct Ending(Arc<KeySource>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.fetching.store(false, Ordering::SeqCst);
        self.0.finished.send_replace(());
    }
}
