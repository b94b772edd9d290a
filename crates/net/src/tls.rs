//! TLS on both sides, with rustls over aws-lc-rs: certificates by server name, client certificates, upstream
//! verification.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// Why key material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or no certificate in it.
    #[error("certificate: {0}")]
    Certificate(String),
    /// Not PEM, or no private key in it.
    #[error("key: {0}")]
    Key(String),
    /// The certificate is not the key's.
    #[error("certificate does not match key")]
    Mismatch,
    /// The authorities cannot be used.
    #[error("certificate authorities: {0}")]
    Authorities(String),
    /// The configuration as a whole is refused.
    #[error("{0}")]
    Config(String),
}

/// The one crypto provider of the process, with these cipher suites (IANA or OpenSSL names; unknown names are
/// returned) or all of the library's.
pub fn provider(cipher_suites: &[Box<str>]) -> (Arc<CryptoProvider>, Vec<Box<str>>) {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut unknown = Vec::new();
    if !cipher_suites.is_empty() {
        let all = provider.cipher_suites.clone();
        let mut chosen: Vec<_> = all.iter().filter(|s| s.tls13().is_some()).copied().collect();
        for name in cipher_suites {
            match all.iter().find(|suite| suite_is(&format!("{:?}", suite.suite()), name)) {
                Some(suite) if !chosen.contains(suite) => chosen.push(*suite),
                Some(_) => {}
                None => unknown.push(name.clone()),
            }
        }
        provider.cipher_suites = chosen;
    }
    (Arc::new(provider), unknown)
}

/// Whether rustls's name of a suite is this IANA or OpenSSL name: `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`,
/// `ECDHE-RSA-AES128-GCM-SHA256`.
fn suite_is(ours: &str, theirs: &str) -> bool {
    let plain = |name: &str| {
        let name = name.to_ascii_uppercase().replace(['-', '_'], "");
        let name = name.strip_prefix("TLS13").or(name.strip_prefix("TLS")).unwrap_or(&name).replace("WITH", "");
        name.strip_suffix("POLY1305SHA256").map(|n| format!("{n}POLY1305")).unwrap_or(name)
    };
    plain(ours) == plain(theirs)
}

/// Reads a chain and its key.
pub fn certified_key(chain: &str, key: &str) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(chain)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| TlsError::Key(e.to_string()))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
        other => TlsError::Key(other.to_string()),
    })?;
    Ok(Arc::new(certified))
}

/// Reads certificates in PEM; at least one.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|e| TlsError::Certificate(e.to_string()))?;
    if found.is_empty() { Err(TlsError::Certificate("no certificate in the PEM text".to_owned())) } else { Ok(found) }
}

/// Makes a certificate for `localhost`, signed by itself, for a node without one.
pub fn self_signed() -> Result<Arc<CertifiedKey>, TlsError> {
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(|e| TlsError::Config(e.to_string()))?;
    certified_key(&made.cert.pem(), &made.signing_key.serialize_pem())
}

/// Certificates by server name.
#[derive(Debug, Default)]
pub struct Names {
    exact: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// `*.x`, by `.x`.
    suffix: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// `x.*`, by `x.`.
    prefix: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

impl Names {
    /// Serves `pairs` (of different key types, preferred first) for a name: exact, `*.x`, `x.*`, or `*` for all others.
    pub fn add(&mut self, name: &str, pairs: &[Arc<CertifiedKey>]) {
        let name = name.to_ascii_lowercase();
        if name == "*" {
            self.default = pairs.to_vec();
        } else if let Some(suffix) = name.strip_prefix('*') {
            self.suffix.insert(suffix.into(), pairs.to_vec());
        } else if let Some(prefix) = name.strip_suffix('*') {
            self.prefix.insert(prefix.into(), pairs.to_vec());
        } else {
            self.exact.insert(name.into(), pairs.to_vec());
        }
    }

    /// The pairs for a server name (Kong: exact, then `*.` for the first label, then `.*` for the last, then default).
    pub fn find(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(name) = name else { return &self.default };
        let lower;
        let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            lower.as_str()
        } else {
            name
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Some(found) = self.exact.get(name) {
            return found;
        }
        let suffix = name.find('.').and_then(|at| self.suffix.get(name.get(at..)?));
        let prefix = || name.rfind('.').and_then(|at| self.prefix.get(name.get(..=at)?));
        suffix.or_else(prefix).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.find(hello.server_name());
        let schemes = hello.signature_schemes();
        pairs.iter().find(|pair| pair.key.choose_scheme(schemes).is_some()).or(pairs.first()).cloned()
    }
}

/// What a listener's TLS is made of.
pub struct ServerSettings {
    /// Crypto.
    pub provider: Arc<CryptoProvider>,
    /// Certificates.
    pub names: Arc<Names>,
    /// Offer HTTP/2.
    pub http2: bool,
    /// Offer ALPN at all (HTTP listeners).
    pub alpn: bool,
    /// Ask for a client certificate and verify it by these PEM authorities.
    pub client_authorities: Option<String>,
    /// Refuse clients without one.
    pub client_required: bool,
    /// Nothing below TLS 1.3.
    pub tls13_only: bool,
    /// Makes session tickets; shared by all generations, so that sessions outlive them.
    pub ticketer: Arc<dyn ProducesTickets>,
}

/// Session tickets with keys that rotate.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|e| TlsError::Config(e.to_string()))
}

/// Makes a listener's TLS.
pub fn server_config(settings: ServerSettings) -> Result<Arc<ServerConfig>, TlsError> {
    let config_error = |e: rustls::Error| TlsError::Config(e.to_string());
    let versions: &[&rustls::SupportedProtocolVersion] =
        if settings.tls13_only { &[&rustls::version::TLS13] } else { rustls::ALL_VERSIONS };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&settings.provider))
        .with_protocol_versions(versions)
        .map_err(config_error)?;
    let builder = match &settings.client_authorities {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem)?), settings.provider);
            let verifier = if settings.client_required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|e| TlsError::Authorities(e.to_string()))?)
        }
    };
    let mut config = builder.with_cert_resolver(settings.names);
    config.ticketer = settings.ticketer;
    config.send_tls13_tickets = 1;
    if settings.alpn {
        config.alpn_protocols =
            if settings.http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    }
    Ok(Arc::new(config))
}

fn roots(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).map_err(|e| TlsError::Authorities(e.to_string()))?;
    }
    Ok(store)
}

/// What TLS with an upstream is made of.
#[derive(Clone, Debug, Default)]
pub struct ClientSettings {
    /// Verify the upstream's certificate.
    pub verify: bool,
    /// Most intermediate certificates when verifying.
    pub verify_depth: Option<u8>,
    /// Authorities in PEM; `None` for the system's.
    pub authorities: Option<String>,
    /// The certificate to show: chain and key in PEM.
    pub client: Option<(Box<str>, Box<str>)>,
    /// Protocols to offer.
    pub alpn: Vec<Vec<u8>>,
}

/// Makes TLS with an upstream.
pub fn client_config(settings: &ClientSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config_error = |e: rustls::Error| TlsError::Config(e.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(config_error)?;
    let builder = if settings.verify {
        let store = match &settings.authorities {
            Some(pem) => roots(pem)?,
            None => system_roots(),
        };
        let inner = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
            .build()
            .map_err(|e| TlsError::Authorities(e.to_string()))?;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Limited { inner, depth: settings.verify_depth }))
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified { provider }))
    };
    let mut config = match &settings.client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| TlsError::Key(e.to_string()))?;
            builder.with_client_auth_cert(certificates(chain)?, key).map_err(config_error)?
        }
    };
    config.alpn_protocols.clone_from(&settings.alpn);
    Ok(Arc::new(config))
}

/// The system's authorities; empty where there are none, and then every verification fails.
fn system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(loaded.certs);
    store
}

/// Verification with a limit on the chain's length (nginx: `proxy_ssl_verify_depth`).
#[derive(Debug)]
struct Limited {
    inner: Arc<dyn ServerCertVerifier>,
    depth: Option<u8>,
}

impl ServerCertVerifier for Limited {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.depth.is_some_and(|depth| intermediates.len() > usize::from(depth)) {
            return Err(rustls::Error::General("certificate chain too long".to_owned()));
        }
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// No verification of who the upstream is (Kong's default, `tls_verify` unset); signatures are checked all the same.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_kongs_order() {
        let certificate = || vec![self_signed().unwrap()];
        let (a, b, c, d) = (certificate(), certificate(), certificate(), certificate());
        let mut names = Names::default();
        names.add("a.example.com", &a);
        names.add("*.example.com", &b);
        names.add("a.example.*", &c);
        names.add("*", &d);
        let check = |name: Option<&str>, expect: &[Arc<CertifiedKey>]| {
            assert!(Arc::ptr_eq(&names.find(name)[0], &expect[0]), "{name:?}");
        };
        check(Some("A.example.COM"), &a);
        check(Some("b.example.com"), &b);
        check(Some("a.example.org"), &c);
        check(Some("x.a.example.com"), &d);
        check(Some("other"), &d);
        check(None, &d);
    }

    #[test]
    fn suites_have_two_spellings() {
        let (all, unknown) =
            provider(&["ECDHE-RSA-AES128-GCM-SHA256".into(), "TLS_CHACHA20_POLY1305_SHA256".into(), "RC4".into()]);
        assert_eq!(unknown, ["RC4".into()]);
        let names: Vec<_> = all.cipher_suites.iter().map(|s| format!("{:?}", s.suite())).collect();
        assert!(names.contains(&"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()), "{names:?}");
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(suite_is("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"));
    }
}
