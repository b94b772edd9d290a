//! TLS of the clients: as cheap as possible, while the proxy does all of its usual work.
//!
//! Clients do not verify certificates and signatures, and use one key pair of the key exchange for all connections;
//! neither affects the proxy. There is one version, one cipher suite and one group, so that all proxies do the same
//! work: TLS 1.3 with AES-128-GCM, which browsers prefer, and X25519.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use aws_lc_rs::agreement;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, DigitallySignedStruct, Error, NamedGroup, SignatureScheme, version};

use super::link::LinkError;

/// Limit on unsent output above which no more data is encrypted.
const OUTGOING_MAX: usize = 128 * 1024;
/// Maximum content of a record, and a generous bound on its overhead.
const RECORD: usize = 16 * 1024;
const OVERHEAD: usize = 256;
const FAILED: LinkError = "TLS failed";

/// The reason of a failure, as a short text.
fn failure(error: &Error) -> LinkError {
    match error {
        Error::AlertReceived(_) => "the proxy ended TLS with an alert",
        Error::NoApplicationProtocol => "the proxy does not speak this protocol over TLS",
        Error::InvalidMessage(_) => "what came is not TLS",
        _ => FAILED,
    }
}

/// The configuration of clients. Without `resumes`, each handshake is a full one.
pub(super) fn config(alpn: &[u8], resumes: bool) -> Result<Arc<ClientConfig>> {
    let provider = CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![Box::leak(Box::new(SameKey::new()?))],
        ..default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])
        .context("TLS 1.3 is not there")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// A TLS connection without its socket.
pub(super) struct Session {
    connection: UnbufferedClientConnection,
    /// The start of an incomplete record.
    carried: Vec<u8>,
    /// Records to send; those before `sent` have been sent.
    outgoing: Vec<u8>,
    sent: usize,
    open: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(config: &Arc<ClientConfig>, name: &ServerName<'static>) -> Result<Self> {
        let connection = UnbufferedClientConnection::new(Arc::clone(config), name.clone())?;
        let mut session = Self { connection, carried: Vec::new(), outgoing: Vec::new(), sent: 0, open: false };
        session.take(&mut [], &mut Vec::new()).map_err(anyhow::Error::msg)?;
        Ok(session)
    }

    /// Whether the handshake is complete.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Copies the incomplete record to the start of the buffer; returns its length.
    pub(super) fn restore(&self, buffer: &mut [u8]) -> Result<usize, LinkError> {
        let front = buffer.get_mut(..self.carried.len()).ok_or("a TLS record is too long")?;
        front.copy_from_slice(&self.carried);
        Ok(front.len())
    }

    /// Decrypts records, which begin with those of [`Session::restore`], and appends their content to `plain`.
    pub(super) fn take(&mut self, incoming: &mut [u8], plain: &mut Vec<u8>) -> Result<(), LinkError> {
        let mut used = 0;
        loop {
            let rest = incoming.get_mut(used..).ok_or(FAILED)?;
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(rest);
            let mut more = true;
            match state.map_err(|error| failure(&error))? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|_| FAILED)?;
                        plain.extend_from_slice(record.payload);
                        used += record.discard;
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    // The first call only determines the length of the record, for which space is reserved.
                    let Err(EncodeError::InsufficientSize(record)) = data.encode(&mut []) else { return Err(FAILED) };
                    let at = self.outgoing.len();
                    self.outgoing.resize(at + record.required_size, 0);
                    data.encode(self.outgoing.get_mut(at..).unwrap_or_default()).map_err(|_| FAILED)?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(_) => {
                    self.open = true;
                    more = false;
                }
                ConnectionState::BlockedHandshake | ConnectionState::Closed => more = false,
                // The end of the connection follows, which is handled instead.
                ConnectionState::PeerClosed => {}
                _ => return Err(FAILED),
            }
            used += discard;
            if !more {
                break;
            }
        }
        self.carried.clear();
        self.carried.extend_from_slice(incoming.get(used..).unwrap_or_default());
        Ok(())
    }

    /// Encrypts bytes; returns how many were taken, none during the handshake.
    pub(super) fn seal(&mut self, bytes: &[u8]) -> Result<usize, LinkError> {
        if !self.open || bytes.is_empty() {
            return Ok(0);
        }
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut self.carried);
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else { return Err(FAILED) };
        let mut taken = 0;
        for piece in bytes.chunks(RECORD) {
            let at = self.outgoing.len();
            if at - self.sent >= OUTGOING_MAX {
                break;
            }
            self.outgoing.resize(at + piece.len() + OVERHEAD, 0);
            let sealed = traffic.encrypt(piece, self.outgoing.get_mut(at..).unwrap_or_default());
            self.outgoing.truncate(at + sealed.map_err(|_| FAILED)?);
            taken += piece.len();
        }
        Ok(taken)
    }

    /// The unsent output.
    pub(super) fn outgoing(&self) -> &[u8] {
        self.outgoing.get(self.sent..).unwrap_or_default()
    }

    /// Marks this many bytes as sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.outgoing.len() {
            self.outgoing.clear();
            self.sent = 0;
        }
    }
}

/// X25519 with a fixed key pair.
struct SameKey {
    private: Arc<agreement::PrivateKey>,
    public: Vec<u8>,
}

impl SameKey {
    fn new() -> Result<Self> {
        let private = agreement::PrivateKey::generate(&agreement::X25519).context("cannot make a key")?;
        let public = private.compute_public_key().context("cannot make a key")?.as_ref().to_vec();
        Ok(Self { private: Arc::new(private), public })
    }
}

impl std::fmt::Debug for SameKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SameKey")
    }
}

impl SupportedKxGroup for SameKey {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Self { private: Arc::clone(&self.private), public: self.public.clone() }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for SameKey {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, peer);
        let failed = || Error::General("the key exchange failed".to_owned());
        agreement::agree(&self.private, peer, failed(), |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// Accepts every server.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256]
    }
}
