//! [`Connector`]: opens connections of the node itself, such as for HTTP calls and Redis. Names are resolved by the
//! node's resolver, and servers are verified by the node's certificate authorities.

mod trust;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cardinal_base::{Clock, timeout};
use cardinal_net::dns::Dns;
use cardinal_net::tls::{ClientSettings, TlsError, client_config};
use cardinal_net::{ConnectError, Connected, Io, Stage, TlsTarget, connect, start_tls};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

pub(crate) use trust::Trust;

/// Maximum number of addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Limit on connecting to one address if there are others.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to servers of one protocol.
pub(crate) struct Connector {
    dns: Arc<Dns>,
    trust: Arc<Trust>,
    /// ALPN protocols to offer.
    alpn: &'static [&'static [u8]],
    /// The TLS configuration that verifies servers, and the number of the authorities it was built with.
    verified: Mutex<Option<(u64, Arc<ClientConfig>)>>,
    unverified: OnceLock<Arc<ClientConfig>>,
    /// Distributes connections over the addresses of a name.
    next_address: AtomicUsize,
}

/// TLS settings for one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tls<'n> {
    /// Verify the server's certificate.
    pub(crate) verify: bool,
    /// The name to send as SNI and to verify: a host name or an address.
    pub(crate) server_name: &'n str,
}

/// Why connecting failed.
#[derive(Debug)]
pub(crate) struct ConnectFailure {
    /// The node has run out of descriptors, memory or ports; the server is not the cause.
    pub(crate) is_local: bool,
    /// For logs.
    pub(crate) reason: String,
}

impl ConnectFailure {
    fn of_server(reason: impl Into<String>) -> Self {
        Self { is_local: false, reason: reason.into() }
    }
}

impl Connector {
    /// Creates a connector that verifies servers by these authorities.
    pub(crate) fn new(dns: Arc<Dns>, trust: Arc<Trust>, alpn: &'static [&'static [u8]]) -> Self {
        Self {
            dns,
            trust,
            alpn,
            verified: Mutex::default(),
            unverified: OnceLock::new(),
            next_address: AtomicUsize::new(0),
        }
    }

    /// The number of the current authorities. A connection that was made under another number must not be reused if the
    /// server has to be verified.
    pub(crate) fn trust_number(&self) -> u64 {
        self.trust.number()
    }

    /// The clock used for time limits.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        self.dns.clock()
    }

    /// Connects to a host. The caller enforces the timeout.
    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
        tls: Option<Tls<'_>>,
    ) -> Result<Connected, ConnectFailure> {
        let tls = tls.map(|tls| self.target(tls)).transpose()?;
        let answer = self.dns.resolve(host, port).await;
        let answer = answer
            .map_err(|error| ConnectFailure { is_local: error.is_local(), reason: format!("{host}: {error}") })?;
        let mut addresses: Vec<SocketAddr> = answer.addresses().map(|a| a.addr).collect();
        if !addresses.is_empty() {
            let first = self.next_address.fetch_add(1, Ordering::Relaxed) % addresses.len();
            addresses.rotate_left(first);
        }
        addresses.truncate(ADDRESSES_MAX);
        connect_any(&**self.clock(), &addresses, tls.as_ref()).await
    }

    /// Performs the TLS handshake on a clear-text connection. The caller enforces the timeout.
    pub(crate) async fn start_tls(&self, io: Io, tls: Tls<'_>) -> Result<Io, ConnectFailure> {
        let target = self.target(tls)?;
        let Io::Tcp(tcp) = io else { return Err(ConnectFailure::of_server("the connection has TLS already")) };
        let failed = |error: ConnectError| ConnectFailure { is_local: error.is_local(), reason: error.to_string() };
        start_tls(tcp, &target).await.map_err(failed)
    }

    fn target(&self, tls: Tls<'_>) -> Result<TlsTarget, ConnectFailure> {
        let name = tls.server_name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let server_name = ServerName::try_from(name.unwrap_or(tls.server_name).to_owned())
            .map_err(|_| ConnectFailure::of_server("the host cannot be a TLS server name"))?;
        Ok(TlsTarget { config: self.tls(tls.verify)?, server_name })
    }

    fn tls(&self, verify: bool) -> Result<Arc<ClientConfig>, ConnectFailure> {
        let make = |authorities| {
            let settings = ClientSettings {
                verify,
                authorities,
                alpn: self.alpn.iter().map(|protocol| protocol.to_vec()).collect(),
                ..ClientSettings::default()
            };
            client_config(&settings)
                .map_err(|error: TlsError| ConnectFailure { is_local: error.is_transient(), reason: error.to_string() })
        };
        if !verify {
            let made = self.unverified.get().map_or_else(|| make(None), |made| Ok(Arc::clone(made)))?;
            return Ok(Arc::clone(self.unverified.get_or_init(|| made)));
        }
        let (number, authorities) = self.trust.current();
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = verified.as_ref().filter(|(made_with, _)| *made_with == number) {
            return Ok(Arc::clone(config));
        }
        // Sessions established under other authorities are not resumed: the session cache belongs to the old
        // configuration.
        let config = make(authorities.as_deref().map(str::to_owned))?;
        *verified = Some((number, Arc::clone(&config)));
        Ok(config)
    }
}

/// Connects to one of these addresses; the first address of the other family is tried in parallel.
async fn connect_any(
    clock: &dyn Clock,
    addresses: &[SocketAddr],
    tls: Option<&TlsTarget>,
) -> Result<Connected, ConnectFailure> {
    let mut last = ConnectFailure::of_server("the name has no addresses");
    let mut other = addresses.first().and_then(|first| {
        let family = |ip: IpAddr| ip.is_ipv4();
        addresses.iter().find(|a| family(a.ip()) != family(first.ip())).copied()
    });
    let beside = other;
    for (at, address) in addresses.iter().enumerate() {
        if at > 0 && beside == Some(*address) {
            continue;
        }
        let is_last = at + 1 == addresses.len();
        let limit = if is_last { Duration::MAX } else { ADDRESS_TIMEOUT };
        let stage = Stage::default();
        match timeout(clock, limit, connect(*address, other.take(), tls, &stage)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => last = ConnectFailure { is_local: error.is_local(), reason: error.to_string() },
            Err(_) => last = ConnectFailure::of_server(format!("connect to {address}: {} in time", stage.missing())),
        }
    }
    Err(last)
}
