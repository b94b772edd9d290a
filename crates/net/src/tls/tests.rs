use aws_lc_rs::digest;
use proptest::prelude::*;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, HandshakeKind, ServerConnection, SupportedProtocolVersion};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certificate::PublicKey;
use super::rsa::Padding;
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

/// An X.509 version 3 certificate for `localhost`.
fn some_certificate() -> Vec<u8> {
    self_signed().unwrap().cert[0].to_vec()
}

#[test]
fn the_public_key_is_found_as_others_find_it() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let made = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let found = PublicKey::of(made.der()).unwrap();
        assert_eq!(found.bits, rcgen::PublicKeyData::der_bytes(&key));
        let spki = webpki::EndEntityCert::try_from(made.der()).unwrap().subject_public_key_info();
        assert!(spki.windows(found.algorithm.len()).any(|part| part == found.algorithm));
    }
}

proptest! {
    #[test]
    fn certificates_may_be_anything(at in any::<prop::sample::Index>(), with in any::<Vec<u8>>(), cut: bool) {
        let mut bytes = some_certificate();
        let at = at.index(bytes.len());
        let end = if cut { bytes.len() } else { (at + with.len()).min(bytes.len()) };
        bytes.splice(at..end, with);
        if let Some(key) = PublicKey::of(&bytes) {
            let _numbers = key.rsa();
        }
    }

    #[test]
    fn keys_and_signatures_may_be_anything(
        modulus in any::<Vec<u8>>(), exponent in any::<Vec<u8>>(), signature in any::<Vec<u8>>(), fit: bool,
    ) {
        let mut modulus = modulus;
        if fit {
            modulus.resize(signature.len(), 0xff);
        }
        for padding in [Padding::Pkcs1, Padding::Pss] {
            for hash in [&digest::SHA256, &digest::SHA384, &digest::SHA512] {
                prop_assert!(!rsa::verify((&modulus, &exponent), (hash, padding), b"", &signature));
            }
        }
    }
}

/// Signatures by openssl of `a message` with the exponent 65537: modulus, hash, padding, signature.
const RSA_VECTORS: &str = include_str!("rsa_vectors.txt");

#[test]
fn small_rsa_keys_verify_what_openssl_signs() {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let hashes = [("sha256", &digest::SHA256), ("sha384", &digest::SHA384), ("sha512", &digest::SHA512)];
    let mut count = 0;
    for line in RSA_VECTORS.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (key, signature) = ((bytes(fields[0]), [1, 0, 1]), bytes(fields[3]));
        for (name, hash) in hashes {
            for (pad, padding) in [("pkcs1", Padding::Pkcs1), ("pss", Padding::Pss)] {
                let verify = |message: &[u8], signature: &[u8]| {
                    rsa::verify((&key.0, &key.1), (hash, padding), message, signature)
                };
                let expect = (name, pad) == (fields[1], fields[2]);
                assert_eq!(verify(b"a message", &signature), expect, "{line} {name} {pad}");
                assert!(!verify(b"a massage", &signature), "{line}");
                let mut other = signature.clone();
                other[signature.len() / 2] ^= 1;
                assert!(!verify(b"a message", &other) && !verify(b"a message", &signature[1..]), "{line}");
            }
        }
        count += 1;
    }
    assert_eq!(count, 28);
}

/// A clock that is set to an hour.
#[derive(Debug)]
struct Hour(u64);

impl TimeProvider for Hour {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0 * 3600)))
    }
}

/// The start of the tests' calendar, as hours since the epoch: 2030.
const START: u64 = 525_960;

/// An authority, and a client certificate issued by it that is valid on the first day of 2030.
fn client_certificate() -> (String, ClientConfigs) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let mut params = rcgen::CertificateParams::new(["client".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2030, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 2);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.signed_by(&key, &issuer).unwrap().pem();
    (authority.pem(), ClientConfigs { pem, key: key.serialize_pem() })
}

struct ClientConfigs {
    pem: String,
    key: String,
}

impl ClientConfigs {
    fn of(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = unverified(Arc::clone(&provider));
        assert!(verifier.supported_verify_schemes().len() > 9);
        let key = certificate::private_key(&self.key).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(certificates(&self.pem).unwrap(), key)
            .unwrap();
        config.time_provider = Arc::new(Hour(START));
        Arc::new(config)
    }
}

/// The result of a handshake at an hour, and of verifying it once more.
async fn handshake(tls: &ServerTls, client: &Arc<ClientConfig>) -> (Option<HandshakeKind>, bool) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let served = async {
        let mut stream = TlsAcceptor::from(Arc::clone(tls.config())).accept(far).await.unwrap();
        let connection: &ServerConnection = stream.get_ref().1;
        let found = (connection.handshake_kind(), tls.verify_resumed(connection).is_ok());
        stream.write_all(b"x").await.unwrap();
        found
    };
    let asked = async {
        let name = ServerName::try_from("a.test").unwrap();
        let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, near).await.unwrap();
        // The ticket arrives before the byte.
        stream.read_u8().await.unwrap();
    };
    tokio::join!(served, asked).0
}

#[tokio::test]
async fn a_session_does_not_outlive_its_certificate() {
    let (authority, client) = client_certificate();
    let mut names = Names::default();
    names.add("*", &[self_signed().unwrap()]);
    let (names, ticketer) = (Arc::new(names), ticketer().unwrap());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = client.of(version);
        for required in [true, false] {
            let at = |hour: u64| {
                let mut tls = server_config(ServerSettings {
                    provider: provider(&[]).0,
                    names: Arc::clone(&names),
                    http2: false,
                    alpn: true,
                    client_authorities: Some(authority.clone()),
                    client_required: required,
                    tls13_only: false,
                    ticketer: Arc::clone(&ticketer),
                })
                .unwrap();
                tls.set_time_provider(Arc::new(Hour(START + hour)));
                tls
            };
            assert_eq!(handshake(&at(1), &client).await, (Some(HandshakeKind::Full), true));
            assert_eq!(handshake(&at(2), &client).await, (Some(HandshakeKind::Resumed), true));
            let (kind, served) = handshake(&at(25), &client).await;
            assert_eq!((kind, served), (Some(HandshakeKind::Resumed), false), "required: {required}");
        }
    }
}

#[test]
fn fingerprints_differ_with_every_setting() {
    let base = ClientSettings::default();
    let pair = |chain: &str, key: &str| Some((chain.into(), key.into()));
    let all = [
        base.clone(),
        ClientSettings { verify: true, ..base.clone() },
        ClientSettings { verify_depth: Some(0), ..base.clone() },
        ClientSettings { verify_depth: Some(1), ..base.clone() },
        ClientSettings { authorities: Some(String::new()), ..base.clone() },
        ClientSettings { authorities: Some("a".to_owned()), ..base.clone() },
        ClientSettings { client: pair("a", "b"), ..base.clone() },
        ClientSettings { client: pair("ab", ""), ..base.clone() },
        ClientSettings { client: pair("", "ab"), ..base.clone() },
        ClientSettings { alpn: vec![b"h2".to_vec()], ..base.clone() },
        ClientSettings { alpn: vec![b"h".to_vec(), b"2".to_vec()], ..base.clone() },
    ];
    let prints: std::collections::HashSet<_> = all.iter().map(ClientSettings::fingerprint).collect();
    assert_eq!(prints.len(), all.len());
    assert_eq!(base.fingerprint(), ClientSettings::default().fingerprint());
}

#[test]
fn errors_are_told_in_plain_words() {
    use rustls::{AlertDescription, CertificateError as E, Error, PeerIncompatible};
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let names = |presented: &[&str]| E::NotValidForNameContext {
        expected: ServerName::try_from("c.test").unwrap(),
        presented: presented.iter().map(|name| (*name).to_owned()).collect(),
    };
    let of_webpki = |error| E::Other(rustls::OtherError(Arc::new(error)));
    for (error, expect) in [
        (E::UnknownIssuer, "the certificate is not signed by a trusted CA"),
        (
            E::ExpiredContext { time: at(0), not_after: at(1_709_210_096) },
            "the certificate expired on 2024-02-29 12:34:56 UTC",
        ),
        (
            E::NotValidYetContext { time: at(0), not_before: at(946_684_800) },
            "the certificate is not valid before 2000-01-01 00:00:00 UTC",
        ),
        (
            names(&["DnsName(\"a.test\")", "IpAddress(127.0.0.1)"]),
            "the certificate is for a.test, 127.0.0.1, not c.test",
        ),
        (names(&["DnsName(\"a\n\")"]), "the certificate is for a\\n, not c.test"),
        (names(&["a"; 7]), "the certificate is for a, a, a, a, a and 2 more, not c.test"),
        (names(&[]), "the certificate has no subject alternative names, so it is not for c.test"),
        (
            of_webpki(webpki::Error::CaUsedAsEndEntity),
            "the certificate is a CA certificate, and is not itself among the trusted CA certificates",
        ),
        (of_webpki(webpki::Error::UnsupportedCertVersion), "the certificate is not of X.509 version 3"),
        (
            of_webpki(webpki::Error::InvalidSerialNumber),
            "the certificate chain cannot be verified: invalid serial number",
        ),
        (
            E::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: vec![6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5, 5, 0],
                supported_algorithms: Vec::new(),
            },
            "a certificate is signed with an algorithm that is not supported: RSA with SHA-1",
        ),
        (
            E::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: vec![0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 2],
                supported_algorithms: Vec::new(),
            },
            "a certificate is signed with an algorithm that is not supported: object id 1.2.840.113549.1.1.2",
        ),
    ] {
        assert_eq!(text(&Error::InvalidCertificate(error)), expect);
    }
    for (error, expect) in [
        (Error::AlertReceived(AlertDescription::HandshakeFailure), "the peer sent the TLS alert handshake_failure"),
        (Error::AlertReceived(AlertDescription::UnknownCA), "the peer sent the TLS alert unknown_ca"),
        (Error::NoCertificatesPresented, "the peer sent no certificate"),
        (
            Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired),
            "the peer offers only TLS 1.1 or lower; TLS 1.2 and TLS 1.3 are supported",
        ),
        (
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            "the peer supports nothing that is supported here: no cipher suites in common",
        ),
    ] {
        assert_eq!(text(&error), expect);
        let io = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        assert_eq!(io_text(&io), expect);
    }
    assert_eq!(io_text(&std::io::ErrorKind::ConnectionReset.into()), "connection reset");
}

/// The result of reading the system's authorities.
fn found(certificates: &[&CertifiedKey], error: Option<i32>) -> rustls_native_certs::CertificateResult {
    let folder = std::env::temp_dir().join(format!("cardinal-roots-{}", std::process::id()));
    let mut found = rustls_native_certs::load_certs_from_paths(None, None);
    found.certs.extend(certificates.iter().map(|pair| pair.cert[0].clone()));
    found.errors.extend(error.map(|code| rustls_native_certs::Error {
        context: "reading",
        kind: rustls_native_certs::ErrorKind::Io { inner: std::io::Error::from_raw_os_error(code), path: folder },
    }));
    found
}

#[test]
fn a_shortage_does_not_take_the_systems_authorities_away() {
    use rustix::io::Errno;
    let (a, b) = (self_signed().unwrap(), self_signed().unwrap());
    for shortage in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO] {
        let shortage = Some(shortage.raw_os_error());
        let mut last = None;
        let error = roots::Roots::loaded(found(&[], shortage), &mut last).unwrap_err();
        assert!(error.is_transient() && last.is_none(), "{error}");
        let first = roots::Roots::loaded(found(&[&a], None), &mut last).unwrap();
        assert_eq!(first.store.len(), 1);
        // The other certificates could not be read.
        let kept = roots::Roots::loaded(found(&[&b], shortage), &mut last).unwrap();
        assert!(Arc::ptr_eq(&first, &kept));
        let same = roots::Roots::loaded(found(&[&a], None), &mut last).unwrap();
        assert!(Arc::ptr_eq(&first, &same), "equal ones are held once");
        let more = roots::Roots::loaded(found(&[&a, &b], None), &mut last).unwrap();
        assert_eq!(more.store.len(), 2);
    }
    // Unreadable certificates are treated as missing; a retry is not expected to help.
    let denied = Some(Errno::ACCESS.raw_os_error());
    assert_eq!(roots::Roots::loaded(found(&[&a], denied), &mut None).unwrap().store.len(), 1);
}

proptest! {
    #[test]
    fn trusted_certificates_may_be_anything(at in any::<prop::sample::Index>(), with in any::<Vec<u8>>()) {
        let mut bytes = some_certificate();
        let at = at.index(bytes.len());
        let end = (at + with.len()).min(bytes.len());
        bytes.splice(at..end, with);
        let certificate = rustls::pki_types::CertificateDer::from(bytes);
        let trusted = trusted::Trusted::new(std::slice::from_ref(&certificate));
        let name = ServerName::try_from("localhost").unwrap();
        for purpose in [trusted::Purpose::Server(&name), trusted::Purpose::Client] {
            // Verification only has to terminate.
            drop(trusted.verify(&certificate, purpose, UnixTime::now()));
        }
    }
}
