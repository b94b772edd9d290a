//! [`ProxyInfo`]: what a control plane knows of its data planes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cardinal_base::UnixMillis;
use cardinal_ir::Id;
use cardinal_sync::stream::{NodeInfo, ProtocolVersion, Report};

/// Data planes that are remembered.
const PROXIES_MAX: usize = 20_000;
/// Data planes that have metrics of their own: those that lag most, then those that reject most.
const SHOWN_MAX: usize = 20;

/// A data plane.
#[derive(Clone, Debug)]
pub struct ProxyInfo {
    /// What it says about itself.
    pub node: NodeInfo,
    /// Its address.
    pub address: SocketAddr,
    /// The version of the protocol that both sides use.
    pub protocol: ProtocolVersion,
    /// Whether it is connected to this control plane.
    pub is_connected: bool,
    /// When it connected.
    pub connected_at: UnixMillis,
    /// When the last message came.
    pub last_seen: UnixMillis,
    /// Number of the generation that was sent last; 0 if there is none.
    pub sent: u64,
    /// What became of it, with the first rejected records.
    pub report: Report,
    /// The connection.
    session: u64,
}

impl ProxyInfo {
    /// By how many generations it lags behind, in a history whose newest one has this number.
    pub fn lag(&self, newest: u64) -> u64 {
        newest.saturating_sub(self.report.served)
    }
}

/// What a session says of its data plane.
pub(crate) struct Sighting<'s> {
    pub(crate) session: u64,
    pub(crate) node: &'s NodeInfo,
    pub(crate) address: SocketAddr,
    pub(crate) protocol: ProtocolVersion,
    pub(crate) sent: u64,
    pub(crate) report: &'s Report,
    pub(crate) now: UnixMillis,
}

/// All data planes, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    all: Mutex<BTreeMap<Id, ProxyInfo>>,
    refused_whole: AtomicU64,
    refused_part: AtomicU64,
}

/// All data planes in numbers.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) connected: usize,
    pub(crate) known: usize,
    /// The largest lag of a connected one.
    pub(crate) lag_max: u64,
    /// Connected ones that lag or reject records, those that do most of it first.
    pub(crate) shown: Vec<Lagging>,
    pub(crate) refused: RefusedGenerations,
    /// Connected ones that reject the generation or records of it.
    pub(crate) rejecting: usize,
}

/// A data plane that lags or rejects records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lagging {
    pub(crate) id: Id,
    pub(crate) lag: u64,
    pub(crate) rejected: usize,
}

/// Generations that were refused, since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefusedGenerations {
    pub(crate) whole: u64,
    pub(crate) part: u64,
}

impl Proxies {
    /// Numbers, and the first data planes that lag or reject records.
    pub(crate) fn summary(&self, newest: u64) -> Summary {
        let (known, connected): (usize, Vec<(Lagging, bool)>) = {
            let all = self.lock();
            let connected = all.values().filter(|proxy| proxy.is_connected).map(|proxy| {
                let rejected = proxy.report.rejected;
                let lagging = Lagging { id: proxy.node.id, lag: proxy.lag(newest), rejected };
                (lagging, rejected > 0 || proxy.report.refusal.is_some())
            });
            (all.len(), connected.collect())
        };
        let rejecting = connected.iter().filter(|(_, rejects)| *rejects).count();
        let lag_max = connected.iter().map(|(proxy, _)| proxy.lag).max().unwrap_or(0);
        let behind = |proxy: &Lagging| proxy.lag > 0 || proxy.rejected > 0;
        let mut shown: Vec<Lagging> = connected.iter().map(|(proxy, _)| *proxy).filter(behind).collect();
        shown.sort_unstable_by_key(|proxy| (Reverse(proxy.lag), Reverse(proxy.rejected), proxy.id));
        shown.truncate(SHOWN_MAX);
        let refused = RefusedGenerations {
            whole: self.refused_whole.load(Ordering::Relaxed),
            part: self.refused_part.load(Ordering::Relaxed),
        };
        Summary { connected: connected.len(), known, lag_max, shown, refused, rejecting }
    }

    /// Counts a generation that a data plane has reported on.
    fn count(&self, report: &Report) {
        if report.refusal.is_some() {
            self.refused_whole.fetch_add(1, Ordering::Relaxed);
        } else if report.rejected > 0 {
            self.refused_part.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn list(&self) -> Vec<ProxyInfo> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn connected(&self) -> usize {
        self.lock().values().filter(|proxy| proxy.is_connected).count()
    }

    /// Notes what a session knows. Of two connections of one data plane, the newer one counts.
    pub(crate) fn saw(&self, sighting: &Sighting<'_>) {
        let Sighting { session, node, address, protocol, sent, report, now } = *sighting;
        let mut proxies = self.lock();
        match proxies.get_mut(&node.id) {
            Some(known) if known.session > session => {}
            Some(known) if known.session == session => {
                (known.sent, known.last_seen, known.protocol) = (sent, now, protocol);
                if known.report != *report {
                    self.count(report);
                    known.report = report.clone();
                }
                if known.node != *node {
                    known.node = node.clone();
                }
            }
            _ => {
                self.count(report);
                let (node, report) = (node.clone(), report.clone());
                let (is_connected, connected_at, last_seen) = (true, now, now);
                let id = node.id;
                let proxy =
                    ProxyInfo { node, address, protocol, is_connected, connected_at, last_seen, sent, report, session };
                proxies.insert(id, proxy);
                forget(&mut proxies);
            }
        }
    }

    /// A session has ended.
    pub(crate) fn left(&self, id: Id, session: u64) {
        if let Some(proxy) = self.lock().get_mut(&id).filter(|proxy| proxy.session == session) {
            proxy.is_connected = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Id, ProxyInfo>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the one that has been gone for longest, if there are too many; without any, the one that was silent for longest.
fn forget(proxies: &mut BTreeMap<Id, ProxyInfo>) {
    if proxies.len() > PROXIES_MAX {
        let oldest = proxies.iter().min_by_key(|(_, proxy)| (proxy.is_connected, proxy.last_seen));
        if let Some(id) = oldest.map(|(id, _)| *id) {
            proxies.remove(&id);
        }
    }
}
