//! A minimal front end: records built by the test, and an engine that serves them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cardinal_base::{SeededRng, SystemClock};
use cardinal_engine::{Applied, Configuration, Engine, Options};
use cardinal_ir::{
    Action, Backend, Criteria, Host, HttpVersion, Id, Identity, Ir, KeyPair, Listener, ListenerGroup, ListenerTls,
    MutualTls, NodeSettings, Origin, PeerMatch, Rank, Route, Severity, Target, Timeouts, Traffic, TrustBundle,
    UpstreamIdentity, UpstreamTls,
};
use cardinal_pki::{Ca, CaRequest, LeafRequest, SpiffeId, TrustDomain, X509Svid};

use crate::secrets::{keep, known};

/// An engine and its records.
pub(crate) struct Front {
    pub(crate) ir: Ir,
    pub(crate) engine: Engine,
}

pub(crate) const GROUP: Id = Id::from_u128(1);
pub(crate) const LISTENER: Id = Id::from_u128(2);
pub(crate) const BACKEND: Id = Id::from_u128(3);
pub(crate) const ROUTE: Id = Id::from_u128(4);
pub(crate) const IDENTITY: Id = Id::from_u128(5);
pub(crate) const BUNDLE: Id = Id::from_u128(6);

impl Front {
    /// An engine with two workers and one listener of its own for HTTP.
    pub(crate) fn start(ir: Ir) -> Self {
        Self::start_with(ir, Options::default())
    }

    /// The same with other options.
    pub(crate) fn start_with(ir: Ir, options: Options) -> Self {
        let own = Listener { name: "own".into(), ..Listener::default() };
        let node = NodeSettings { listeners: vec![own], ..NodeSettings::default() };
        let options = Options { workers: 2, plugins: crate::plugins().to_vec(), ..options };
        let configuration = Configuration::new(ir.clone(), node).with_secrets(known());
        let (engine, applied) = Engine::start(configuration, options).unwrap();
        assert_eq!(errors(&applied), [""; 0]);
        Self { ir, engine }
    }

    /// Changes the records and applies them. Returns the skipped entities as text.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Ir)) -> Vec<String> {
        change(&mut self.ir);
        let node = self.engine.plan().unwrap().node.clone();
        let configuration = Configuration { ir: Arc::new(self.ir.clone()), secrets: known(), node };
        let applied = self.engine.apply(self.engine.update(configuration)).unwrap();
        errors(&applied)
    }

    /// The address of a record's listener.
    pub(crate) fn address(&self, id: Id) -> SocketAddr {
        let all = self.engine.addresses();
        all.iter().find(|(listener, _)| listener.origin.id == id).unwrap_or_else(|| panic!("{id} is not open")).1
    }

    /// The address of the node's own listener.
    pub(crate) fn own(&self) -> SocketAddr {
        self.address(Id::nil())
    }
}

fn errors(applied: &Applied) -> Vec<String> {
    let errors = applied.diagnostics.iter().filter(|found| found.severity == Severity::Error);
    errors.map(|found| format!("{}: {}", found.path, found.message)).collect()
}

pub(crate) fn origin(kind: &'static str, id: Id) -> Origin {
    Origin::new("test", kind, id)
}

/// A group with a listener.
pub(crate) fn listener(ir: &mut Ir, change: impl FnOnce(&mut Listener)) {
    ir.listener_groups.insert(GROUP, ListenerGroup { origin: origin("groups", GROUP), name: "inbound".into() });
    let mut listener = Listener {
        origin: origin("listeners", LISTENER),
        group: Some(GROUP),
        name: "inbound".into(),
        ..Listener::default()
    };
    change(&mut listener);
    ir.listeners.insert(LISTENER, listener);
}

/// A backend with one address, and a route to it for all traffic of a kind in a group.
pub(crate) fn route(ir: &mut Ir, group: Option<Id>, to: SocketAddr, change: impl FnOnce(&mut Backend, &mut Route)) {
    let host = Host { host: to.ip().to_string().into(), port: to.port() };
    let mut backend = Backend {
        origin: origin("backends", BACKEND),
        http: Some(HttpVersion::H1),
        target: Target::Host(host),
        timeouts: Timeouts { connect_ms: 5_000, read_ms: 20_000, write_ms: 20_000, ..Timeouts::default() },
        document: "{}".into(),
        ..Backend::default()
    };
    let mut route = Route {
        origin: origin("routes", ROUTE),
        group,
        rank: Rank { weight: 1, tie: 1 },
        matches: Criteria::default().into(),
        action: Action::Forward(BACKEND),
        document: "{}".into(),
        ..Route::default()
    };
    change(&mut backend, &mut route);
    if route.traffic == Traffic::Stream {
        backend.http = None;
    }
    ir.backends.insert(BACKEND, backend);
    ir.routes.insert(ROUTE, route);
}

/// An authority for a trust domain.
pub(crate) struct Domain {
    pub(crate) ca: Ca,
    name: &'static str,
}

impl Domain {
    pub(crate) fn new(name: &'static str) -> Self {
        let request = CaRequest {
            domain: TrustDomain::parse(name).unwrap(),
            lifetime: Duration::from_secs(3_600),
            backdate: Duration::from_secs(60),
            path_length: 0,
        };
        Self { ca: Ca::new_root(&request, &SystemClock::new(), &mut SeededRng::new(1)).unwrap(), name }
    }

    pub(crate) fn id(&self, path: &str) -> String {
        format!("spiffe://{}{path}", self.name)
    }

    /// A certificate of the identity with this path.
    pub(crate) fn svid(&self, path: &str) -> X509Svid {
        let id = SpiffeId::parse(&self.id(path)).unwrap();
        let (lifetime, backdate) = (Duration::from_secs(600), Duration::from_secs(60));
        let request = LeafRequest { id: &id, dns_names: &[], lifetime, backdate };
        self.ca.issue(&request, &SystemClock::new(), &mut SeededRng::new(2)).unwrap()
    }

    /// Adds the identity of this node, and the bundle to verify others.
    pub(crate) fn join(&self, ir: &mut Ir, path: &str) {
        let svid = self.svid(path);
        let pair = KeyPair { chain: svid.chain_pem().into(), key: keep(&svid.key().to_pem()) };
        let identity = Identity { origin: origin("identities", IDENTITY), id: self.id(path).into(), pair: Some(pair) };
        ir.identities.insert(IDENTITY, identity);
        let bundle = TrustBundle {
            origin: origin("bundles", BUNDLE),
            certificate: self.ca.bundle().unwrap().to_pem().into(),
            trust_domain: Some(self.name.into()),
        };
        ir.trust_bundles.insert(BUNDLE, bundle);
    }

    /// Mutual TLS with the peers of these paths.
    pub(crate) fn mutual(&self, paths: &[&str]) -> MutualTls {
        let peers = paths.iter().map(|path| PeerMatch::Exact(self.id(path).into())).collect();
        MutualTls { identity: IDENTITY, peers, clear_text: false }
    }

    pub(crate) fn server(&self, paths: &[&str]) -> Option<ListenerTls> {
        Some(ListenerTls::Identity(self.mutual(paths)))
    }

    pub(crate) fn client(&self, paths: &[&str]) -> Option<UpstreamTls> {
        let identity = UpstreamIdentity { tls: self.mutual(paths), server_name: Some("inbound.mesh".into()) };
        Some(UpstreamTls { identity: Some(Box::new(identity)), ..UpstreamTls::default() })
    }
}
