//! The DNS client: hickory-resolver, used for its transports, search domains and alias handling, without its cache and
//! hosts file. Only this file uses hickory's types.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cardinal_base::descriptors;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Semantic, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use super::walk::{Data, Found, Kind, Lookup};
use super::{DnsError, DnsSettingsError};

/// A client of real DNS servers.
#[derive(Debug)]
pub struct Wire {
    resolver: TokioResolver,
    /// The addresses of the servers, for logs.
    servers: Arc<str>,
}

impl Wire {
    /// A client of these servers, or of the servers in `/etc/resolv.conf` if the list is empty. Search domains,
    /// `ndots`, timeout and attempts come from that file in both cases.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, DnsSettingsError> {
        Self::with_timeout(servers, None)
    }

    /// The same, with another timeout for each attempt of a query.
    pub(super) fn with_timeout(servers: &[SocketAddr], timeout: Option<Duration>) -> Result<Self, DnsSettingsError> {
        let (system, options) = match read_system_conf() {
            Ok(found) => found,
            // The file is read once: a shortage of file descriptors must not result in an empty list of DNS servers.
            Err(NetError::Io(error)) if descriptors::is_transient(&error) => {
                return Err(DnsSettingsError::Client(NetError::Io(error)));
            }
            Err(error) => {
                tracing::warn!(%error, "resolv.conf cannot be read; there are no search domains");
                (ResolverConfig::from_parts(None, Vec::new(), Vec::new()), ResolverOpts::default())
            }
        };
        let (domain, search, own_servers) = system.into_parts();
        let servers = if servers.is_empty() { own_servers } else { servers.iter().copied().map(name_server).collect() };
        if servers.is_empty() {
            tracing::warn!("there is no DNS server; only addresses and names of the hosts file resolve");
        }
        let shown: Vec<String> = servers.iter().map(server_text).collect();
        let config = ResolverConfig::from_parts(domain, search, servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
        let options = builder.options_mut();
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = timeout.unwrap_or(options.timeout);
        let resolver = builder.build().map_err(DnsSettingsError::Client)?;
        Ok(Self { resolver, servers: shown.join(", ").into() })
    }

    async fn ask(&self, name: &str, kind: Kind) -> Result<Found, DnsError> {
        let name = Name::from_utf8(name).map_err(|_| DnsError::Name)?;
        let record_type = match kind {
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
            Kind::Srv => RecordType::SRV,
            Kind::Cname => RecordType::CNAME,
        };
        let answer = self.resolver.lookup(name, record_type).await.map_err(|error| failure(&error))?;
        let ttl_s = answer.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        let wanted = answer.answers().iter().filter(|record| record.record_type() == record_type);
        Ok(Found { data: wanted.filter_map(|record| data(&record.data)).collect(), ttl_s })
    }
}

impl Lookup for Wire {
    fn lookup<'a>(&'a self, name: &'a str, kind: Kind) -> BoxFuture<'a, Result<Found, DnsError>> {
        self.ask(name, kind).boxed()
    }

    fn servers(&self) -> Arc<str> {
        Arc::clone(&self.servers)
    }
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    udp.port = server.port();
    tcp.port = server.port();
    NameServerConfig::new(server.ip(), true, vec![udp, tcp])
}

fn server_text(server: &NameServerConfig) -> String {
    let port = server.connections.first().map_or(53, |connection| connection.port);
    SocketAddr::new(server.ip, port).to_string()
}

fn data(data: &RData) -> Option<Data> {
    match data {
        RData::A(ip) => Some(Data::Ip(ip.0.into())),
        RData::AAAA(ip) => Some(Data::Ip(ip.0.into())),
        RData::SRV(srv) => Some(Data::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: srv.target.to_string().into(),
        }),
        RData::CNAME(name) => Some(Data::Cname(name.0.to_string().into())),
        _ => None,
    }
}

fn failure(error: &NetError) -> DnsError {
    match error {
        error if error.is_nx_domain() => DnsError::NotFound,
        error if error.is_no_records_found() => DnsError::Empty,
        NetError::Dns(Semantic::ResponseCode(ResponseCode::NXDomain)) => DnsError::NotFound,
        NetError::Dns(Semantic::ResponseCode(code)) => DnsError::Server { code: u16::from(*code) },
        // No socket could be opened, so no server was queried.
        NetError::Io(io) if descriptors::is_local(io) => DnsError::Local(error.as_metrics_label()),
        NetError::Busy => DnsError::Local(error.as_metrics_label()),
        NetError::Io(io) => DnsError::Unreachable(io_text(io).unwrap_or(error.as_metrics_label())),
        NetError::NoConnections => DnsError::Unreachable("no connection"),
        other => DnsError::Unreachable(other.as_metrics_label()),
    }
}

/// The usual reasons why a server is unreachable, as text.
fn io_text(error: &std::io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused",
        ErrorKind::ConnectionReset => "connection reset",
        ErrorKind::HostUnreachable => "host unreachable",
        ErrorKind::NetworkUnreachable => "network unreachable",
        ErrorKind::PermissionDenied => "permission denied",
        ErrorKind::TimedOut => "timeout",
        _ => return None,
    })
}
