//! The certificate phase: a filter supplies the certificate for a TLS handshake with a client.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cardinal_ir::Id;

use crate::exchange::Client;
use crate::services::Services;

/// The certificate phase: the ClientHello has been received and not answered yet.
pub struct CertificateCx<'x> {
    /// The server name (SNI), lower-case.
    pub server_name: Option<&'x str>,
    /// The ALPN protocols, in the client's order of preference.
    pub protocols: &'x [Vec<u8>],
    /// Addresses of the client and of the node. [`Client::wire`] is the protocol of the listener; there is no TLS yet.
    pub client: &'x Client,
    /// The listener's group; `None` is the default group.
    pub group: Option<Id>,
    /// The node.
    pub services: &'x Services,
}

impl CertificateCx<'_> {
    /// Whether the client offers this protocol.
    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.protocols.iter().any(|offered| offered == protocol)
    }
}

/// The result of a filter's certificate phase.
pub enum CertificateStep<'a> {
    /// Continue with the next filter; after the last one, the certificates of the configuration are used.
    Continue,
    /// Answer the handshake. Later filters are skipped.
    Answer(CertificateAnswer),
    /// Wait for the future, and use its decision.
    Wait(Pin<Box<dyn Future<Output = CertificateDecision> + 'a>>),
    /// The filter failed with this reason, which is logged. If the plugin fails open, the filter is skipped; otherwise,
    /// the handshake is refused.
    Fail(String),
}

impl CertificateStep<'_> {
    /// Answers with this certificate.
    pub fn serve(certificate: ServerCertificate) -> Self {
        Self::Answer(CertificateAnswer::Serve(certificate))
    }

    /// The decision; waits if the filter does.
    pub async fn settle(self) -> CertificateDecision {
        match self {
            Self::Continue => CertificateDecision::Continue,
            Self::Answer(answer) => CertificateDecision::Answer(answer),
            Self::Wait(future) => future.await,
            Self::Fail(reason) => CertificateDecision::Fail(reason),
        }
    }
}

impl fmt::Debug for CertificateStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("Continue"),
            Self::Answer(answer) => f.debug_tuple("Answer").field(answer).finish(),
            Self::Wait(_) => f.write_str("Wait"),
            Self::Fail(reason) => f.debug_tuple("Fail").field(reason).finish(),
        }
    }
}

/// The decision of a filter after it has waited.
#[derive(Clone, Debug)]
pub enum CertificateDecision {
    /// Continue with the next filter.
    Continue,
    /// Answer the handshake.
    Answer(CertificateAnswer),
    /// The filter failed.
    Fail(String),
}

impl CertificateDecision {
    /// Answers with this certificate.
    pub fn serve(certificate: ServerCertificate) -> Self {
        Self::Answer(CertificateAnswer::Serve(certificate))
    }
}

/// The answer to a ClientHello.
#[derive(Clone, Debug)]
pub enum CertificateAnswer {
    /// Use this certificate; versions, client verification and ALPN are those of the listener. A session is only
    /// resumed if the same certificate is supplied again.
    Serve(ServerCertificate),
    /// Use this certificate to prove control of the server name (ACME's `tls-alpn-01`, RFC 8737). Only `protocol` is
    /// negotiated, no client certificate is requested, no session can be resumed, and the connection is closed after
    /// the handshake without serving anything.
    Challenge {
        /// The certificate.
        certificate: ServerCertificate,
        /// The protocol, `acme-tls/1`.
        protocol: Box<[u8]>,
    },
    /// Refuse the handshake with this alert.
    Refuse(TlsAlert),
}

/// Fatal alerts that end a handshake (RFC 8446 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsAlert {
    /// `handshake_failure`
    HandshakeFailure,
    /// `access_denied`
    AccessDenied,
    /// `internal_error`
    InternalError,
    /// `unrecognized_name`
    UnrecognizedName,
}

impl TlsAlert {
    /// The alert's number.
    pub const fn code(self) -> u8 {
        match self {
            Self::HandshakeFailure => 40,
            Self::AccessDenied => 49,
            Self::InternalError => 80,
            Self::UnrecognizedName => 112,
        }
    }
}

/// A certificate chain with its private key, parsed by [`Certificates::parse`]. Cheap to clone. Keep it instead of
/// parsing the same text again.
#[derive(Clone)]
pub struct ServerCertificate(Arc<dyn Any + Send + Sync>);

impl ServerCertificate {
    /// Wraps a certificate in the representation of the node. Filters get certificates from [`Certificates::parse`].
    pub fn new<T: Any + Send + Sync>(parsed: T) -> Self {
        Self(Arc::new(parsed))
    }

    /// The certificate in the representation of the node, if it has type `T`.
    pub fn parsed<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCertificate")
    }
}

/// Parses certificates for the certificate phase.
pub trait Certificates: Send + Sync {
    /// Parses a chain, leaf first, and its private key, both in PEM. Parsing takes CPU time: do it when the certificate
    /// changes, not in each handshake.
    ///
    /// # Errors
    /// If the chain or the key is invalid, or they do not match.
    fn parse(&self, chain: &str, key: &str) -> Result<ServerCertificate, CertificateError>;
}

/// Why a certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(pub String);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use cardinal_schema::{field, record, string};
    use serde_json::json;

    use super::*;
    use crate::testing::{Bench, FakeCertificate};
    use crate::{FailureMode, Filter, HTTP_PROTOCOLS, Phases, PluginDef, Scopes};

    /// Parses one certificate on demand and keeps it.
    #[derive(Default)]
    struct Lazy {
        known: std::sync::OnceLock<ServerCertificate>,
        reads: AtomicUsize,
    }

    impl Filter for Lazy {
        fn phases(&self) -> Phases {
            Phases::CERTIFICATE
        }

        fn on_certificate<'a>(&'a self, cx: &'a mut CertificateCx<'_>) -> CertificateStep<'a> {
            match cx.server_name {
                Some("a.test") => {}
                Some("bad.test") => return CertificateStep::Fail("no store".to_owned()),
                Some(_) => return CertificateStep::Answer(CertificateAnswer::Refuse(TlsAlert::UnrecognizedName)),
                None => return CertificateStep::Continue,
            }
            if let Some(known) = self.known.get() {
                return CertificateStep::serve(known.clone());
            }
            CertificateStep::Wait(Box::pin(async move {
                tokio::task::yield_now().await;
                let reads = self.reads.fetch_add(1, Ordering::Relaxed);
                let chain = if reads == 0 { "" } else { "chain" };
                match cx.services.certificates.parse(chain, "key") {
                    Ok(read) => CertificateDecision::serve(self.known.get_or_init(|| read).clone()),
                    Err(error) => CertificateDecision::Fail(error.to_string()),
                }
            }))
        }
    }

    static LAZY: PluginDef = PluginDef {
        name: "lazy",
        summary: "Supplies a certificate.",
        priority: 1,
        schema: || record([field("unused", string())]),
        entities: &[],
        scopes: Scopes::ALL,
        protocols: HTTP_PROTOCOLS,
        failure: FailureMode::Open,
        build: |_, _| Ok(Arc::new(Lazy::default())),
        lower: None,
    };

    #[tokio::test]
    async fn a_bench_runs_the_certificate_phase() {
        let bench = Bench::new(&LAZY, json!({}));
        assert!(matches!(bench.certificate(None, &[]).await, CertificateDecision::Continue));
        let failed = bench.certificate(Some("bad.test"), &[]).await;
        assert!(matches!(failed, CertificateDecision::Fail(reason) if reason == "no store"));
        let refused = bench.certificate(Some("b.test"), &[]).await;
        let alert = TlsAlert::UnrecognizedName;
        assert!(matches!(refused, CertificateDecision::Answer(CertificateAnswer::Refuse(found)) if found == alert));
        assert_eq!(alert.code(), 112);
        // An unparsable certificate is an error, and the previously parsed one is kept.
        let failed = bench.certificate(Some("a.test"), &[]).await;
        assert!(matches!(failed, CertificateDecision::Fail(reason) if reason == "certificate: empty"));
        for _ in 0..2 {
            let served = bench.certificate(Some("a.test"), &[b"h2"]).await;
            let CertificateDecision::Answer(CertificateAnswer::Serve(certificate)) = served else {
                panic!("{served:?}")
            };
            let expect = FakeCertificate { chain: "chain".to_owned(), key: "key".to_owned() };
            assert_eq!(certificate.parsed(), Some(&expect));
            assert!(certificate.parsed::<String>().is_none());
            assert_eq!(format!("{certificate:?}"), "ServerCertificate", "keys are not shown");
        }
    }

    #[tokio::test]
    async fn a_context_tells_what_the_client_offers() {
        let services = crate::testing::services(Arc::new(cardinal_base::ManualClock::default()));
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let (client, protocols) = (Client::at(address, address), [b"acme-tls/1".to_vec()]);
        let cx = CertificateCx {
            server_name: None,
            protocols: &protocols,
            client: &client,
            group: None,
            services: &services,
        };
        assert!(cx.offers(b"acme-tls/1") && !cx.offers(b"h2"));
    }
}
