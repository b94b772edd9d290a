//! How a data plane gets its certificate.
//!
//! An operator makes a [`JoinToken`] on a control plane and gives it to new data planes. A data plane generates a key, sends a
//! certificate signing request with the token ([`join`]) and gets a certificate. It knows the control plane by the digest of
//! the authority's certificate in the token. Before the certificate expires it gets a new one, for which the one that it has
//! is enough.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

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
use crate::tls::{StreamTls, StreamTlsError};
use crate::token::{JoinToken, TokenError};

/// Time for the call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// Certificates of authorities, in DER.
    #[prost(bytes = "vec", repeated, tag = "2")]
    authorities: Vec<Vec<u8>>,
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
    /// The certificate that was issued cannot be used.
    #[error("the certificate that the control plane issued cannot be used: {0}")]
    Issued(#[source] cardinal_pki::SvidError),
    /// There is neither a certificate nor a token.
    #[error("{0}: make a token with 'cardinal cluster token' on a control plane, and set it as cluster_join_token")]
    NoToken(&'static str),
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
    /// The data plane that a certificate of the authority belongs to.
    pub(crate) fn node_of(&self, certificate: &CertificateDer<'_>) -> Option<Id> {
        let id = cardinal_pki::spiffe_id(certificate).ok()?;
        let node = id.as_str().strip_prefix(&self.prefix())?;
        Id::parse_str(node).ok()
    }

    /// Issues a certificate. `peer` is the data plane that has shown a valid one: it needs no token.
    pub(crate) fn admit(&self, request: &JoinRequest, peer: Option<Id>) -> Result<JoinResponse, JoinError> {
        let node = Id::parse_str(&request.node).map_err(|_| JoinError::Node)?;
        if peer != Some(node) {
            JoinToken::of_text(&request.token).verify(&self.key, &*self.clock)?;
        }
        let id: SpiffeId = format!("{}{node}", self.prefix()).parse().map_err(|_| JoinError::Node)?;
        let backdate = Duration::from_secs(300);
        let leaf = LeafRequest { id: &id, dns_names: &[], lifetime: self.lifetime, backdate };
        let chain = self.ca.issue_for(&request.signing_request, &leaf, &*self.clock, &mut SystemRng)?;
        let bytes = |certificate: &CertificateDer<'_>| certificate.to_vec();
        let authority = self.ca.root().or(self.ca.certificate());
        Ok(JoinResponse {
            chain: chain.iter().map(bytes).collect(),
            authorities: authority.map(bytes).into_iter().collect(),
        })
    }

    /// How the ids of data planes begin.
    fn prefix(&self) -> String {
        format!("spiffe://{}/data-plane/", self.ca.domain().as_str())
    }
}

/// The certificate of a data plane that has joined.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The chain, leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub(crate) key: PrivateKey,
    /// Certificates of the authorities that control planes are verified by.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
}

/// Generates a key, and gets a certificate for it from a control plane: for a token, or for the certificate that `tls` has.
pub(crate) async fn join(
    to: &ControlPlane,
    tls: &StreamTls,
    token: Option<&JoinToken>,
    node: Id,
    clock: &dyn Clock,
) -> Result<Joined, JoinError> {
    let key = KeyPair::generate().map_err(JoinError::Request)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(JoinError::Request)?;
    let token = token.map(|token| token.expose().to_owned()).unwrap_or_default();
    let request = JoinRequest { token, signing_request: request.der().to_vec(), node: node.to_string() };
    let channel = Channel::connect(to, &tls.client()?, clock).await?;
    let mut grpc = Grpc::with_origin(channel, Channel::origin());
    let refused = |status: &Status| JoinError::Refused(status.message().to_owned());
    grpc.ready().await.map_err(ConnectError::Http)?;
    let path = http::uri::PathAndQuery::from_static(JOIN_PATH);
    let codec = ProstCodec::<JoinRequest, JoinResponse>::default();
    let call = Box::pin(grpc.unary(Request::new(request), path, codec));
    let response = timeout(clock, CALL_TIMEOUT, call).await.map_err(|_| ConnectError::Timeout)?;
    let response = response.map_err(|status| refused(&status))?.into_inner();
    let certificates = |all: Vec<Vec<u8>>| all.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKey::from_pem(&key.serialize_pem()).map_err(StreamTlsError::Key)?;
    Ok(Joined { chain: certificates(response.chain), key, authorities: certificates(response.authorities) })
}
