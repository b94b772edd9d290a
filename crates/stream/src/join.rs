//! Join tokens: how a data plane without a certificate gets one.
//!
//! An operator makes a [`JoinToken`] on a control plane and gives it to new data planes. A data plane generates a key, sends a
//! certificate signing request with the token ([`join`]) and gets a certificate. It verifies the control plane by the
//! certificate of the authority, as it does on every other connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardinal_base::{Clock, SystemRng, timeout};
use cardinal_ir::{Id, SecretKey};
use cardinal_pki::{Ca, CaError, LeafRequest, PrivateKey, SpiffeId};
use prost::Message;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use tonic::client::Grpc;
use tonic::{Code, Request, Status};

use crate::codec::{JOIN_PATH, ProstCodec};
use crate::connect::{Channel, ConnectError, ControlPlane};
use crate::tls::{NodeIdentity, StreamTls, StreamTlsError};

/// What the key of the control plane is used for.
const PURPOSE: &str = "join token";
/// Begins a token.
const PREFIX: &str = "cardinal-join-1.";
/// Time for the call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A text that lets data planes join until it expires. It is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken(String);

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token, or was not made with the key of the control plane.
    #[error("the join token is not valid")]
    Invalid,
    /// It has expired.
    #[error("the join token has expired")]
    Expired,
}

impl JoinToken {
    /// Makes a token that is valid for so long.
    pub fn issue(key: &SecretKey, lifetime: Duration, clock: &dyn Clock) -> Self {
        let expires = clock.unix().seconds().saturating_add(lifetime.as_secs());
        let claims = [&expires.to_be_bytes()[..], cardinal_base::random_id().as_bytes()].concat();
        let code = key.authenticate(PURPOSE, &claims);
        Self(format!("{PREFIX}{}.{}", URL_SAFE_NO_PAD.encode(claims), URL_SAFE_NO_PAD.encode(code)))
    }

    /// Takes a text that may be a token.
    pub fn of_text(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The text. It is a secret.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Verifies it.
    ///
    /// # Errors
    /// When it is not a token of this key, or has expired.
    pub fn verify(&self, key: &SecretKey, clock: &dyn Clock) -> Result<(), TokenError> {
        let parts = self.0.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')).ok_or(TokenError::Invalid)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Invalid);
        let (claims, code) = (decode(parts.0)?, decode(parts.1)?);
        let expected = key.authenticate(PURPOSE, &claims);
        // No early end: how long it takes does not depend on where the first difference is.
        let differs = expected.iter().zip(&code).fold(0, |differs, (a, b)| differs | (a ^ b));
        if code.len() != expected.len() || differs != 0 {
            return Err(TokenError::Invalid);
        }
        let (expires, _) = claims.split_first_chunk::<8>().ok_or(TokenError::Invalid)?;
        if clock.unix().seconds() < u64::from_be_bytes(*expires) { Ok(()) } else { Err(TokenError::Expired) }
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken")
    }
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct JoinRequest {
    #[prost(string, tag = "1")]
    token: String,
    /// PKCS #10 in DER.
    #[prost(bytes = "vec", tag = "2")]
    signing_request: Vec<u8>,
    /// Id of the data plane.
    #[prost(string, tag = "3")]
    node: String,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinRequest({})", self.node)
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct JoinResponse {
    /// Leaf first, in DER.
    #[prost(bytes = "vec", repeated, tag = "1")]
    chain: Vec<Vec<u8>>,
}

/// Admits data planes: the control plane's side.
#[derive(Debug)]
pub struct JoinAuthority {
    /// The authority that issues their certificates.
    pub ca: Ca,
    /// The key of the tokens.
    pub key: SecretKey,
    /// For how long certificates are valid.
    pub lifetime: Duration,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Why a data plane cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is refused.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No id of a node.
    #[error("the id of the node is not a UUID")]
    Node,
    /// The certificate cannot be issued.
    #[error(transparent)]
    Issue(#[from] CaError),
    /// The control plane cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The certificates of this side cannot be used.
    #[error(transparent)]
    Tls(#[from] StreamTlsError),
    /// The control plane refused.
    #[error("the control plane does not let the node join: {0}")]
    Refused(String),
    /// A key or a request cannot be made.
    #[error("no certificate signing request can be made: {0}")]
    Request(#[source] rcgen::Error),
}

impl JoinError {
    pub(crate) fn status(&self) -> Status {
        let code = match self {
            Self::Token(_) => Code::PermissionDenied,
            Self::Node => Code::InvalidArgument,
            Self::Issue(CaError::Csr(_)) => Code::InvalidArgument,
            _ => Code::Internal,
        };
        Status::new(code, self.to_string())
    }
}

impl JoinAuthority {
    pub(crate) fn admit(&self, request: &JoinRequest) -> Result<JoinResponse, JoinError> {
        JoinToken::of_text(&request.token).verify(&self.key, &*self.clock)?;
        let node = Id::parse_str(&request.node).map_err(|_| JoinError::Node)?;
        let id = format!("spiffe://{}/data-plane/{node}", self.ca.domain().as_str());
        let id: SpiffeId = id.parse().map_err(|_| JoinError::Node)?;
        let backdate = Duration::from_secs(300);
        let leaf = LeafRequest { id: &id, dns_names: &[], lifetime: self.lifetime, backdate };
        let chain = self.ca.issue_for(&request.signing_request, &leaf, &*self.clock, &mut SystemRng)?;
        Ok(JoinResponse { chain: chain.iter().map(|certificate| certificate.to_vec()).collect() })
    }
}

/// The certificate and key of a data plane that has joined, to be kept in its data directory.
#[derive(Debug)]
pub struct Joined {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKey,
}

impl Joined {
    /// What the data plane shows from now on.
    pub fn identity(&self) -> NodeIdentity {
        NodeIdentity::new(self.chain.clone(), self.key.clone())
    }
}

/// Joins by a token: generates a key, and gets a certificate for it from the control plane. `tls` has the certificates of the
/// authority; an identity is not needed.
///
/// # Errors
/// When the control plane cannot be reached or refuses.
pub async fn join(
    to: &ControlPlane,
    tls: &StreamTls,
    token: &JoinToken,
    node: Id,
    clock: &dyn Clock,
) -> Result<Joined, JoinError> {
    let key = KeyPair::generate().map_err(JoinError::Request)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(JoinError::Request)?;
    let (token, signing_request) = (token.expose().to_owned(), request.der().to_vec());
    let request = JoinRequest { token, signing_request, node: node.to_string() };
    let channel = Channel::connect(to, &tls.client()?, clock).await?;
    let mut grpc = Grpc::with_origin(channel, Channel::origin());
    let refused = |status: &Status| JoinError::Refused(status.message().to_owned());
    grpc.ready().await.map_err(ConnectError::Http)?;
    let path = http::uri::PathAndQuery::from_static(JOIN_PATH);
    let codec = ProstCodec::<JoinRequest, JoinResponse>::default();
    let call = Box::pin(grpc.unary(Request::new(request), path, codec));
    let response = timeout(clock, CALL_TIMEOUT, call).await.map_err(|_| ConnectError::Timeout)?;
    let response = response.map_err(|status| refused(&status))?.into_inner();
    let chain = response.chain.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKey::from_pem(&key.serialize_pem()).map_err(StreamTlsError::Key)?;
    Ok(Joined { chain, key })
}
