//! TLS by an identity policy: [`IdentityServer`] and [`IdentityClient`], and the peer identity of a connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cardinal_base::Clock;
use cardinal_pki::{SpiffeId, VerifyError, spiffe_id};
use rustls::client::Resumption;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, CommonState, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::resolver::OwnIdentity;
use super::verifier::Peers;
use super::{IdentityPolicy, IdentityStore, PeerError};
use crate::tls::{TlsError, accept_with, io_text, text};

/// Why a connection could not be authenticated.
#[derive(Debug, thiserror::Error)]
#[error("{}", io_text(.0))]
pub struct AcceptError(#[source] pub io::Error);

/// A connection with an authenticated peer.
#[derive(Debug)]
pub struct Authenticated<S> {
    /// The connection.
    pub stream: S,
    /// The peer's identity, allowed by the policy.
    pub peer: SpiffeId,
}

/// TLS for listeners by an [`IdentityPolicy`]: clients must prove an allowed identity.
#[derive(Debug)]
pub struct IdentityServer {
    config: Arc<ServerConfig>,
    policy: IdentityPolicy,
    store: Arc<IdentityStore>,
}

/// TLS with upstreams by an [`IdentityPolicy`]: servers must prove an allowed identity, and this node proves its own.
#[derive(Debug)]
pub struct IdentityClient {
    config: Arc<ClientConfig>,
    policy: IdentityPolicy,
}

impl IdentityServer {
    /// The TLS configuration. It is the same object for the lifetime of the policy.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// The policy from which the configuration was built.
    pub fn policy(&self) -> &IdentityPolicy {
        &self.policy
    }

    /// Whether a peer whose identity was verified at its handshake would still be accepted: the policy allows it, its
    /// trust domain has a bundle, and the server has its own identity. The certificate is not verified again.
    pub fn accepts(&self, peer: &str) -> bool {
        self.policy.allows_verified(peer) && self.store.knows(&self.policy, peer)
    }

    /// The peer of a connection whose handshake used [`Self::config`]; `None` before the end of the handshake. Must not
    /// be called for connections of another configuration, whose peer may not have been verified.
    pub fn peer_identity(&self, connection: &CommonState) -> Option<SpiffeId> {
        verified_peer(connection).ok().filter(|peer| self.policy.allows(peer))
    }

    /// Performs the handshake with a client.
    ///
    /// # Errors
    /// If it fails, or the client is not allowed.
    pub async fn accept<S>(&self, io: S) -> Result<Authenticated<server::TlsStream<S>>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(Arc::clone(&self.config)).accept(io).await.map_err(AcceptError)?;
        let peer = verified_peer(stream.get_ref().1)?;
        Ok(Authenticated { stream, peer })
    }

    /// Performs the handshake with a client from which `prefix` was already read.
    ///
    /// # Errors
    /// If it fails, or the client is not allowed.
    pub async fn accept_after(
        &self,
        tcp: TcpStream,
        prefix: &[u8],
    ) -> Result<Authenticated<server::TlsStream<TcpStream>>, AcceptError> {
        let stream = accept_with(&self.config, tcp, prefix).await.map_err(AcceptError)?;
        let peer = verified_peer(stream.get_ref().1)?;
        Ok(Authenticated { stream, peer })
    }
}

impl IdentityClient {
    /// The TLS configuration. It is the same object for the lifetime of the policy.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// The policy from which the configuration was built.
    pub fn policy(&self) -> &IdentityPolicy {
        &self.policy
    }

    /// The peer of a connection whose handshake used [`Self::config`]; `None` before the end of the handshake. Must not
    /// be called for connections of another configuration, whose peer may not have been verified.
    pub fn peer_identity(&self, connection: &CommonState) -> Option<SpiffeId> {
        verified_peer(connection).ok().filter(|peer| self.policy.allows(peer))
    }

    /// Performs the handshake with a server. The name is sent as SNI, by which zone proxies route; it is irrelevant for
    /// the server's identity. With TLS 1.3, the server verifies this node's certificate after the client has finished,
    /// so a rejection is returned by the first read.
    ///
    /// # Errors
    /// If it fails, or the server is not allowed.
    pub async fn connect<S>(
        &self,
        name: ServerName<'static>,
        io: S,
    ) -> Result<Authenticated<client::TlsStream<S>>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, io).await.map_err(AcceptError)?;
        let peer = verified_peer(stream.get_ref().1)?;
        Ok(Authenticated { stream, peer })
    }
}

/// The identity in the certificate of a peer, which was verified in the handshake.
fn verified_peer(connection: &CommonState) -> Result<SpiffeId, AcceptError> {
    let leaf = connection.peer_certificates().and_then(<[_]>::first);
    leaf.ok_or(VerifyError::Empty).and_then(|leaf| spiffe_id(leaf)).map_err(|error| {
        let error = rustls::Error::from(PeerError::Unverified(error));
        AcceptError(io::Error::new(io::ErrorKind::InvalidData, error))
    })
}

/// A clock as the time source of rustls.
#[derive(Debug)]
struct ClockTime(Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.unix().0)))
    }
}

fn versions(policy: &IdentityPolicy) -> &'static [&'static SupportedProtocolVersion] {
    const TLS13_ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
    if policy.tls12() { rustls::ALL_VERSIONS } else { TLS13_ONLY }
}

fn config_error(error: rustls::Error) -> TlsError {
    TlsError::Config(text(&error).into())
}

pub(super) fn server(store: &Arc<IdentityStore>, policy: &IdentityPolicy) -> Result<IdentityServer, TlsError> {
    let time = Arc::new(ClockTime(Arc::clone(&store.clock)));
    let peers = Peers { store: Arc::clone(store), policy: policy.clone() };
    let own = OwnIdentity { store: Arc::clone(store), key: policy.identity() };
    let mut config = ServerConfig::builder_with_details(Arc::clone(&store.provider), time)
        .with_protocol_versions(versions(policy))
        .map_err(config_error)?
        .with_client_cert_verifier(Arc::new(peers))
        .with_cert_resolver(Arc::new(own));
    config.alpn_protocols = policy.alpn();
    // Sessions are not resumed: neither by tickets nor by session ids.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(IdentityServer { config: Arc::new(config), policy: policy.clone(), store: Arc::clone(store) })
}

pub(super) fn client(store: &Arc<IdentityStore>, policy: &IdentityPolicy) -> Result<IdentityClient, TlsError> {
    let time = Arc::new(ClockTime(Arc::clone(&store.clock)));
    let peers = Peers { store: Arc::clone(store), policy: policy.clone() };
    let own = OwnIdentity { store: Arc::clone(store), key: policy.identity() };
    let mut config = ClientConfig::builder_with_details(Arc::clone(&store.provider), time)
        .with_protocol_versions(versions(policy))
        .map_err(config_error)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(peers))
        .with_client_cert_resolver(Arc::new(own));
    config.alpn_protocols = policy.alpn();
    config.resumption = Resumption::disabled();
    Ok(IdentityClient { config: Arc::new(config), policy: policy.clone() })
}
