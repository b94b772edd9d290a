//! [`ProxyInfo`]: what a control plane knows of its data planes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cardinal_base::UnixMillis;
use cardinal_ir::Id;
use cardinal_sync::stream::{NodeInfo, ProtocolVersion, Report};

/// Data planes that are remembered.
const PROXIES_MAX: usize = 20_000;

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
pub(crate) struct Proxies(Mutex<BTreeMap<Id, ProxyInfo>>);

impl Proxies {
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
                    known.report = report.clone();
                }
                if known.node != *node {
                    known.node = node.clone();
                }
            }
            _ => {
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
