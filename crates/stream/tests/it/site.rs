//! Control planes and data planes for tests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use cardinal_base::{Clock, Id, SystemClock, task};
use cardinal_ir::{
    Code, Diagnostic, Filter, FilterSet, Ir, Origin, PrincipalGroup, Record, SecretKey, Secrets, Severity,
};
use cardinal_stream::{
    ControlPlane, Credentials, JoinAuthority, NodeIdentity, ProxyInfo, StreamServer, StreamServerOptions, StreamSource,
    StreamSourceOptions, StreamTls,
};
use cardinal_sync::stream::{ClientOptions, NodeInfo, ProtocolVersion};
use cardinal_sync::{Ack, ConfigSource as _, ConfigStatus};
use cardinal_testkit::{Authority, Issued, TempDir, until_some};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) const HISTORY: Id = Id::from_u128(99);

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

pub(crate) fn identity(issued: &Issued) -> NodeIdentity {
    NodeIdentity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap()
}

/// A certificate that both sides share.
pub(crate) fn shared_certificate() -> Issued {
    Issued::self_signed(&[], "kong_clustering", &[], (2000, 4000))
}

pub(crate) fn shared(issued: &Issued) -> StreamTls {
    StreamTls::Shared(identity(issued))
}

pub(crate) fn pki(authority: &Authority, names: &[&str]) -> StreamTls {
    StreamTls::pki(Some(identity(&authority.issue(names))), authority.cert_pem()).unwrap()
}

/// Groups of these names, and a filter set that refers to a secret.
pub(crate) fn generation(names: &[&str], secret: &str) -> (Arc<Ir>, Secrets) {
    let mut secrets = Secrets::default();
    let reference = secrets.add(&SecretKey::default(), secret);
    let mut ir = Ir::default();
    for (number, name) in names.iter().enumerate() {
        let id = Id::from_u128(number as u128);
        let origin = Origin::new("test", "groups", id);
        ir.groups.insert(id, PrincipalGroup { origin, name: (*name).into() });
    }
    let params = json!({"password": reference.to_string()}).into();
    let filters = vec![Filter { kind: "x".into(), params, ..Filter::default() }];
    ir.filter_sets.insert(Id::from_u128(1_000), FilterSet { filters, ..FilterSet::default() });
    (Arc::new(ir), secrets)
}

/// A control plane that can be stopped.
pub(crate) struct Control {
    pub(crate) server: StreamServer,
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
    _stop: watch::Sender<bool>,
}

impl Control {
    pub(crate) async fn start(tls: StreamTls) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), tls, None).await
    }

    pub(crate) async fn start_at(address: SocketAddr, tls: StreamTls, joining: Option<Arc<JoinAuthority>>) -> Self {
        Self::start_with(address, tls, joining, clock()).await
    }

    pub(crate) async fn start_with(
        address: SocketAddr,
        tls: StreamTls,
        joining: Option<Arc<JoinAuthority>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let server = StreamServer::new(StreamServerOptions::new(HISTORY), clock);
        let listener = until_some("a free port", async || TcpListener::bind(address).await.ok()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(false);
        let serving = task::spawn("test: control plane", {
            let server = server.clone();
            async move { server.serve(listener, &tls, joining, stopped).await.unwrap() }
        });
        Self { server, address, serving, _stop }
    }

    pub(crate) fn publish(&self, names: &[&str], secret: &str, number: u64) {
        let (ir, secrets) = generation(names, secret);
        self.server.publish(&ir, secrets, number).unwrap();
    }

    /// Ends all connections.
    pub(crate) async fn kill(self) -> SocketAddr {
        self.serving.abort();
        self.serving.await.ok();
        self.address
    }

    pub(crate) fn proxy(&self, number: u128) -> Option<ProxyInfo> {
        self.server.proxies().into_iter().find(|proxy| proxy.node.id == Id::from_u128(number))
    }

    /// Waits until this data plane reports that it serves a generation.
    pub(crate) async fn reported(&self, number: u128, generation: u64) -> ProxyInfo {
        let look = async || self.proxy(number).filter(|proxy| proxy.report.served == generation);
        until_some("a report", look).await.unwrap()
    }
}

/// The generations that were served, in their order.
type Served = Arc<Mutex<Vec<(Arc<Ir>, Secrets)>>>;

/// A data plane: a source, and something that serves what it gives.
pub(crate) struct Data {
    served: Served,
    following: JoinHandle<()>,
}

/// What a data plane is started with.
pub(crate) struct Start<'s> {
    pub(crate) number: u128,
    pub(crate) folder: &'s TempDir,
    pub(crate) credentials: Credentials,
    pub(crate) protocol: ProtocolVersion,
    pub(crate) server_name: Option<&'s str>,
}

impl<'s> Start<'s> {
    pub(crate) fn new(number: u128, folder: &'s TempDir, tls: StreamTls) -> Self {
        Self::with(number, folder, Credentials::given(&tls).unwrap())
    }

    pub(crate) fn with(number: u128, folder: &'s TempDir, credentials: Credentials) -> Self {
        Self { number, folder, credentials, protocol: ProtocolVersion::CURRENT, server_name: None }
    }

    pub(crate) fn data(self, addresses: &[SocketAddr]) -> Data {
        let node = NodeInfo { id: Id::from_u128(self.number), version: "1.2.3".to_owned(), ..NodeInfo::default() };
        let control_plane = |address: &SocketAddr| ControlPlane {
            host: address.ip().to_string(),
            port: address.port(),
            server_name: self.server_name.map(str::to_owned),
        };
        let options = StreamSourceOptions {
            control_planes: addresses.iter().map(control_plane).collect(),
            client: ClientOptions { protocol: self.protocol, ..ClientOptions::new(node) },
            node: Arc::default(),
            key: SecretKey::new([7; 32]),
            status: Arc::<ConfigStatus>::default(),
            health: None,
            clock: clock(),
        };
        let mut source = StreamSource::start(self.folder.path(), self.credentials, options).unwrap();
        let served = Served::default();
        let following = task::spawn("test: data plane", {
            let served = Arc::clone(&served);
            async move {
                let mut generation = 0;
                while let Some(update) = source.next().await {
                    generation += 1;
                    let diagnostics = odd(update.generation());
                    served.lock().unwrap().push((Arc::clone(update.generation()), update.secrets().unwrap().clone()));
                    source.ack(Ack::Applied { generation, diagnostics });
                }
            }
        });
        Data { served, following }
    }
}

/// Errors about the groups that are named "odd".
fn odd(ir: &Ir) -> Vec<Diagnostic> {
    let groups = ir.groups.values().filter(|group| &*group.name == "odd");
    let error = |group: &Arc<PrincipalGroup>| Diagnostic {
        severity: Severity::Error,
        code: Code::Invariant,
        origin: Record::PrincipalGroup(Arc::clone(group)).origin().clone(),
        location: None,
        path: String::new(),
        message: "is odd".to_owned(),
        hint: None,
    };
    groups.map(error).collect()
}

impl Data {
    pub(crate) fn names(&self) -> Option<(Vec<String>, Vec<String>)> {
        let served = self.served.lock().unwrap();
        let (ir, secrets) = served.last()?;
        let names = ir.groups.values().map(|group| group.name.to_string()).collect();
        Some((names, secrets.iter().map(|(_, secret)| secret.expose().to_owned()).collect()))
    }

    /// Waits until it serves these groups and this secret.
    pub(crate) async fn serves(&self, names: &[&str], secret: &str) {
        let expected = (names.iter().map(|name| (*name).to_owned()).collect(), vec![secret.to_owned()]);
        let look = async || self.names().filter(|names| *names == expected);
        until_some("a generation", look).await.unwrap_or_else(|error| panic!("{error}: {:?}", self.names()));
    }

    pub(crate) fn generations(&self) -> usize {
        self.served.lock().unwrap().len()
    }

    pub(crate) async fn stop(self) {
        self.following.abort();
        self.following.await.ok();
    }
}
