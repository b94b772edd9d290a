//! A certificate authority for tests, and TLS configurations from it.

use std::sync::Arc;

use cardinal_net::tls::{ClientSettings, client_config};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm, date_time_ymd,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A self-signed authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

/// A certificate that an [`Authority`] issued.
#[derive(Debug)]
pub struct Issued {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key, PKCS #8.
    pub key_pem: String,
    /// The certificate as DER.
    pub cert: CertificateDer<'static>,
    key: KeyPair,
}

impl Issued {
    /// A certificate with an ECDSA key that is signed by itself and may sign others, as `openssl req -x509` makes it. It
    /// is valid from the beginning of one year to that of another; without uses it may be used for everything.
    pub fn self_signed(
        names: &[&str],
        common_name: &str,
        uses: &[ExtendedKeyUsagePurpose],
        (from, to): (i32, i32),
    ) -> Self {
        let mut params = params(names, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = uses.to_vec();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let key = key(&PKCS_ECDSA_P256_SHA256);
        let certificate = params.self_signed(&key).expect("a certificate of our own making is valid");
        Self { cert_pem: certificate.pem(), key_pem: key.serialize_pem(), cert: certificate.der().clone(), key }
    }

    /// The private key as DER.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }
}

impl Authority {
    /// An authority of this name.
    pub fn new(name: &str) -> Self {
        let params = authority_params(name);
        let key = key(&PKCS_ECDSA_P256_SHA256);
        let certificate = params.self_signed(&key).expect("a certificate of our own making is valid");
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Self { issuer: Issuer::new(params, key), der, pem }
    }

    /// An authority that this one vouches for.
    pub fn intermediate(&self, name: &str) -> Self {
        let (params, key) = (authority_params(name), key(&PKCS_ECDSA_P256_SHA256));
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate of our own making is valid");
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Self { issuer: Issuer::new(params, key), der, pem }
    }

    /// Its certificate.
    pub fn cert_pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate as DER.
    pub fn cert(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// A certificate with an ECDSA key for these DNS names and addresses; usable by servers and clients.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, &PKCS_ECDSA_P256_SHA256)
    }

    /// The same with an RSA key.
    pub fn issue_rsa(&self, names: &[&str]) -> Issued {
        self.issue_with(names, &PKCS_RSA_SHA256)
    }

    /// A certificate that was valid until the year 2001.
    pub fn issue_expired(&self, names: &[&str]) -> Issued {
        self.issue_from(params(names, "expired"), &PKCS_ECDSA_P256_SHA256, (2000, 2001))
    }

    fn issue_with(&self, names: &[&str], algorithm: &'static SignatureAlgorithm) -> Issued {
        self.issue_from(params(names, names.first().copied().unwrap_or("nobody")), algorithm, (1975, 4096))
    }

    fn issue_from(
        &self,
        mut params: CertificateParams,
        algorithm: &'static SignatureAlgorithm,
        (from, to): (i32, i32),
    ) -> Issued {
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = key(algorithm);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate of our own making is valid");
        Issued { cert_pem: certificate.pem(), key_pem: key.serialize_pem(), cert: certificate.der().clone(), key }
    }

    /// A server's configuration with this certificate and these ALPN names. Client certificates of this authority are
    /// asked for, and taken when `mutual` is false and none is given.
    pub fn server(&self, issued: &Issued, alpn: &[&str], mutual: bool) -> Arc<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider());
        let verifier = if mutual { verifier } else { verifier.allow_unauthenticated() };
        let verifier = verifier.build().expect("there is a root");
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![issued.cert.clone()], issued.key())
            .expect("the key is that of the certificate");
        config.alpn_protocols = alpn_names(alpn);
        Arc::new(config)
    }

    /// A client's configuration that trusts this authority, shows `identity` when asked, and offers these ALPN names.
    pub fn client(&self, identity: Option<&Issued>, alpn: &[&str]) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_root_certificates(self.roots());
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some(issued) => config
                .with_client_auth_cert(vec![issued.cert.clone()], issued.key())
                .expect("the key is that of the certificate"),
        };
        config.alpn_protocols = alpn_names(alpn);
        Arc::new(config)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate of our own making is valid");
        roots
    }
}

/// A client's configuration that shows `identity` when asked, and accepts the certificate of any server.
pub fn unverified_client(identity: Option<&Issued>) -> Arc<ClientConfig> {
    let client = identity.map(|issued| (issued.cert_pem.as_str().into(), issued.key_pem.as_str().into()));
    client_config(&ClientSettings { client, ..ClientSettings::default() }).expect("certificates of tests can be used")
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(&[], name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names of tests are valid");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).expect("the provider makes keys of this kind")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn alpn_names(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}
