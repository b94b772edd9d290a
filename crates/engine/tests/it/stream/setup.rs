//! A builder for an IR, and the servers behind it.

use std::net::SocketAddr;
use std::sync::Arc;

use cardinal_base::task;
use cardinal_engine::{Configuration, Engine, Options};
use cardinal_ir::{
    Algorithm, Backend, Certificate, Cluster, Criteria, Endpoint, Filter, FilterSet, HashInput, HealthChecks, Host,
    HostPattern, Id, Ir, KeyPair, L4, Labels, Listener, ListenerKind, ListenerTls, NodeSettings, Origin, Policy,
    PolicySpec, Rank, Route, Scope, Severity, Target, Timeouts, Traffic, TrustBundle, UpstreamTls, Wire,
};
use cardinal_testkit::{Authority, Issued};
use rustls::ServerConfig;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::recorder;
use crate::secrets::{keep, known};

/// An IR under construction. Earlier routes have a higher rank.
#[derive(Default)]
pub(super) struct Setup {
    pub(super) ir: Ir,
    pub(super) node: NodeSettings,
    next: u128,
}

impl Setup {
    fn id(&mut self) -> Id {
        self.next += 1;
        Id::from_u128(self.next)
    }

    fn origin(&mut self, kind: &str) -> Origin {
        Origin::new("test", kind, self.id())
    }

    /// Adds a listener on a port that the system assigns.
    pub(super) fn listener(&mut self, kind: ListenerKind, tls: bool) {
        self.node.listeners.push(Listener {
            name: "test".into(),
            address: ([127, 0, 0, 1], 0).into(),
            kind,
            tls: tls.then_some(ListenerTls::Node),
            http2: false,
            ..Listener::default()
        });
    }

    /// Adds a backend with a single host, which can be changed before the engine starts.
    pub(super) fn backend(&mut self, address: SocketAddr, change: impl FnOnce(&mut Backend)) -> Id {
        let host = Host { host: address.ip().to_string().into(), port: address.port() };
        let mut backend = Backend {
            origin: self.origin("services"),
            l4: L4::Tcp,
            http: None,
            grpc: false,
            tls: None,
            target: Target::Host(host),
            path: None,
            timeouts: Timeouts { connect_ms: 5_000, read_ms: 20_000, write_ms: 20_000, ..Timeouts::default() },
            retry: None,
            upgrade_protocols: Vec::new(),
            document: "{}".into(),
        };
        change(&mut backend);
        let id = backend.origin.id;
        self.ir.backends.insert(id, backend);
        id
    }

    /// A balanced group of addresses.
    pub(super) fn group(&mut self, addresses: &[SocketAddr]) -> Target {
        let origin = self.origin("upstreams");
        let id = origin.id;
        self.ir.clusters.insert(
            id,
            Cluster {
                origin,
                algorithm: Algorithm::RoundRobin,
                slots: 1_000,
                hash_on: HashInput::None,
                hash_fallback: HashInput::None,
                health: HealthChecks::default(),
                document: "{}".into(),
                ..Cluster::default()
            },
        );
        for address in addresses {
            let origin = self.origin("targets");
            let host = Host { host: address.ip().to_string().into(), port: address.port() };
            self.ir.endpoints.insert(origin.id, Endpoint { origin, cluster: id, host, ..Endpoint::default() });
        }
        Target::Cluster { id, port: 0, subset: Labels::default() }
    }

    /// Adds a route for these wire forms and server names (all if empty).
    pub(super) fn route(&mut self, backend: Option<Id>, wires: &[Wire], snis: &[&str]) -> Id {
        let pattern = |name: &&str| match name.strip_prefix('*') {
            Some(suffix) => HostPattern::Suffix(suffix.into()),
            None => HostPattern::Exact((*name).into()),
        };
        let conditions =
            Criteria { wires: wires.to_vec(), snis: snis.iter().map(pattern).collect(), ..Criteria::default() };
        let origin = self.origin("routes");
        let id = origin.id;
        self.ir.routes.insert(
            id,
            Route {
                origin,
                group: None,
                rank: Rank { weight: 0, tie: u128::MAX - self.next },
                traffic: Traffic::Stream,
                matches: conditions.into(),
                action: backend.into(),
                request_buffering: false,
                response_buffering: false,
                policies: None,
                document: "{}".into(),
                ..Route::default()
            },
        );
        id
    }

    /// Adds a certificate for these names.
    pub(super) fn certificate(&mut self, issued: &Issued, names: &[&str]) {
        let origin = self.origin("certificates");
        let pairs = vec![KeyPair { chain: issued.cert_pem.as_str().into(), key: keep(&issued.key_pem) }];
        let server_names = names.iter().map(|name| (*name).into()).collect();
        self.ir.certificates.insert(origin.id, Certificate { origin, pairs, server_names });
    }

    /// TLS with an upstream whose certificate this authority has issued.
    pub(super) fn trusting(&mut self, authority: &Authority) -> UpstreamTls {
        let origin = self.origin("ca_certificates");
        let id = origin.id;
        self.ir
            .trust_bundles
            .insert(id, TrustBundle { origin, certificate: authority.cert_pem().into(), trust_domain: None });
        UpstreamTls { verify: true, trust_bundles: vec![id], ..UpstreamTls::default() }
    }

    /// Records every session.
    pub(super) fn record(&mut self, name: &str, admit: bool) {
        let origin = self.origin("plugins");
        let filter = Filter {
            kind: "recorder".into(),
            params: Arc::new(json!({"name": name, "admit": admit})),
            wires: Vec::new(),
            instance_name: None,
        };
        let set = FilterSet { scope: Scope::default(), precedence: 0, filters: vec![filter], origin };
        self.ir.filter_sets.insert(set.origin.id, set);
    }

    /// Adds a policy for every session.
    pub(super) fn policy(&mut self, spec: PolicySpec) {
        let origin = self.origin("policies");
        self.ir.policies.insert(origin.id, Policy { origin, spec, ..Policy::default() });
    }

    /// Starts an engine with this setup.
    pub(super) fn start(self) -> Running {
        let options = Options { workers: 2, plugins: vec![&recorder::PLUGIN], ..Options::default() };
        let (engine, applied) =
            Engine::start(Configuration::new(self.ir, self.node).with_secrets(known()), options).unwrap();
        let errors: Vec<_> = applied.diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{errors:?}");
        Running { engine }
    }
}

/// An engine that serves a [`Setup`].
pub(super) struct Running {
    pub(super) engine: Engine,
}

impl Running {
    /// The address of its first listener.
    pub(super) fn address(&self) -> SocketAddr {
        self.engine.addresses()[0].1
    }
}

/// A server that is stopped when dropped.
pub(super) struct Served {
    pub(super) address: SocketAddr,
    tasks: Vec<AbortHandle>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// A server that sends its name, echoes its input, and sends the total number of bytes when its client has ended.
pub(super) async fn tcp_server(name: &'static str, tls: Option<Arc<ServerConfig>>) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = task::spawn("test server", async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let tls = tls.clone();
            drop(task::spawn("test connection", async move {
                // The tests check how the client ends, not its server.
                match tls {
                    None => converse(name, tcp).await.ok(),
                    Some(config) => match TlsAcceptor::from(config).accept(tcp).await {
                        Ok(tls) => converse(name, tls).await.ok(),
                        Err(_) => None,
                    },
                };
            }));
        }
    });
    Served { address, tasks: vec![task.abort_handle()] }
}

async fn converse(name: &str, mut io: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    io.write_all(format!("{name}\n").as_bytes()).await?;
    let (mut total, mut buffer) = (0, vec![0; 8_192]);
    loop {
        let count = io.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        total += count;
        io.write_all(&buffer[..count]).await?;
        io.flush().await?;
    }
    io.write_all(format!("\n{total}").as_bytes()).await?;
    io.shutdown().await
}

/// A server that echoes datagrams with its name and the sender's port as a prefix.
pub(super) async fn udp_server(name: &'static str) -> Served {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = task::spawn("test server", async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
            let mut answer = format!("{name} {} ", from.port()).into_bytes();
            answer.extend_from_slice(&buffer[..count]);
            answer.truncate(65_507);
            socket.send_to(&answer, from).await.ok();
        }
    });
    Served { address, tasks: vec![task.abort_handle()] }
}
