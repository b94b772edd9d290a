use cardinal_base::{ManualClock, SeededRng};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SignatureAlgorithm};
use x509_parser::certificate::X509Certificate;

use super::*;
use crate::leaf::parse;
use crate::{Purpose, SpiffeId, X509Svid};

const START: UnixMillis = UnixMillis(1_900_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn domain() -> TrustDomain {
    TrustDomain::parse("east.test").unwrap()
}

fn clock(hours: u32) -> ManualClock {
    let clock = ManualClock::at(START);
    clock.advance(hours * HOUR);
    clock
}

fn request(path_length: u8) -> CaRequest {
    CaRequest { domain: domain(), lifetime: 10 * HOUR, backdate: HOUR, path_length }
}

fn root(path_length: u8) -> Ca {
    Ca::new_root(&request(path_length), &clock(0), &mut SeededRng::new(1)).unwrap()
}

fn id() -> SpiffeId {
    SpiffeId::new(&domain(), "/ns/shop/sa/cart").unwrap()
}

fn leaf_request<'a>(id: &'a SpiffeId, dns_names: &'a [&'a str]) -> LeafRequest<'a> {
    LeafRequest { id, dns_names, lifetime: HOUR, backdate: Duration::from_secs(60) }
}

fn issue(ca: &Ca, hours: u32) -> Result<X509Svid, CaError> {
    ca.issue(&leaf_request(&id(), &["cart.shop.test"]), &clock(hours), &mut SeededRng::new(2))
}

#[test]
fn a_root_is_a_signing_certificate() {
    let ca = root(1);
    let certificate = parse(ca.certificate().unwrap()).unwrap();
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(1));
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    assert_eq!(names(&certificate), ["URI(\"spiffe://east.test\")"]);
    assert_eq!((ca.not_before().0, ca.not_after().0), (START.0 - 3_600_000, START.0 + 36_000_000));
    assert_eq!(ca.root(), ca.certificate());
    let other = Ca::new_root(&request(1), &clock(0), &mut SeededRng::new(2)).unwrap();
    assert_ne!(certificate.subject().as_raw(), parse(other.certificate().unwrap()).unwrap().subject().as_raw());
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extension = certificate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(extension.critical, certificate.subject().as_raw() == [0x30, 0]);
    extension.value.general_names.iter().map(|name| format!("{name:?}")).collect()
}

#[test]
fn a_leaf_says_what_was_requested() {
    let ca = root(0);
    let svid = issue(&ca, 1).unwrap();
    let leaf = parse(&svid.chain()[0]).unwrap();
    assert_eq!(svid.id(), &id());
    assert_eq!(names(&leaf), ["URI(\"spiffe://east.test/ns/shop/sa/cart\")", "DNSName(\"cart.shop.test\")"]);
    assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.flags == 1, "digitalSignature only");
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any && extended.other.is_empty());
    let now = START.0 + 3_600_000;
    assert_eq!((svid.not_before().0, svid.not_after().0), (now - 60_000, now + 3_600_000));
    assert_eq!(leaf.serial.to_bytes_be().len(), 16);
    assert_eq!(leaf.issuer().as_raw(), parse(ca.certificate().unwrap()).unwrap().subject().as_raw());
    assert_eq!(svid.chain().len(), 1, "roots are not sent");
}

#[test]
fn serials_are_128_random_bits() {
    let (ca, mut rng) = (root(0), SeededRng::new(3));
    let mut seen = std::collections::HashSet::new();
    for _ in 0..50 {
        let svid = ca.issue(&leaf_request(&id(), &[]), &clock(0), &mut rng).unwrap();
        let leaf = parse(&svid.chain()[0]).unwrap();
        assert!(leaf.raw_serial()[0] < 0x80 && leaf.raw_serial().len() <= 17, "positive (RFC 5280 section 4.1.2.2)");
        assert!(seen.insert(leaf.serial.clone()));
    }
    /// A generator of zeros.
    #[derive(Debug)]
    struct Zeros;
    impl Rng for Zeros {
        fn next_u64(&mut self) -> u64 {
            0
        }
    }
    let svid = ca.issue(&leaf_request(&id(), &[]), &clock(0), &mut Zeros).unwrap();
    assert_eq!(parse(&svid.chain()[0]).unwrap().raw_serial(), [1]);
}

#[test]
fn leaves_do_not_outlive_their_authority() {
    let ca = root(0);
    assert_eq!(issue(&ca, 9).unwrap().not_after(), ca.not_after());
    let id = id();
    let late = LeafRequest { lifetime: Duration::MAX, backdate: Duration::MAX, ..leaf_request(&id, &[]) };
    let svid = ca.issue(&late, &clock(0), &mut SeededRng::new(2)).unwrap();
    assert_eq!((svid.not_before(), svid.not_after()), (ca.not_before(), ca.not_after()));
    assert!(matches!(issue(&ca, 10), Err(CaError::NotValid)));
    assert!(matches!(issue(&ca, 1_000), Err(CaError::NotValid)));
    let early = ManualClock::at(UnixMillis(START.0 - 3_700_000));
    let found = ca.issue(&leaf_request(&id, &[]), &early, &mut SeededRng::new(2));
    assert!(matches!(found, Err(CaError::NotValid)));
    // The last moment that X.509 can name.
    let forever = CaRequest { lifetime: Duration::MAX, ..request(0) };
    let ca = Ca::new_root(&forever, &clock(0), &mut SeededRng::new(1)).unwrap();
    assert_eq!(ca.not_after().0, 253_402_300_799_000);
    assert_eq!(validity_of(&ca), (ca.not_before(), ca.not_after()));
}

fn validity_of(ca: &Ca) -> (UnixMillis, UnixMillis) {
    crate::svid::validity(&parse(ca.certificate().unwrap()).unwrap())
}

#[test]
fn unacceptable_requests_are_refused() {
    let ca = root(0);
    let check = |change: &dyn Fn(&mut LeafRequest<'_>)| {
        let own = id();
        let mut request = leaf_request(&own, &[]);
        change(&mut request);
        let found = ca.issue(&request, &clock(0), &mut SeededRng::new(2));
        assert!(matches!(found, Err(CaError::Request(_))), "{found:?}");
    };
    check(&|request| request.lifetime = Duration::from_millis(999));
    check(&|request| request.dns_names = &["not a name"]);
    check(&|request| request.dns_names = &["*.test"]);
    check(&|request| request.dns_names = &[""]);
    let (other, own) = (SpiffeId::parse("spiffe://west.test/a").unwrap(), domain().id());
    for id in [other, own] {
        let found = ca.issue(&leaf_request(&id, &[]), &clock(0), &mut SeededRng::new(2));
        assert!(matches!(found, Err(CaError::Request(_))), "{found:?}");
    }
}

#[test]
fn path_lengths_shrink() {
    let top = root(2);
    let below = |ca: &Ca, length| ca.new_intermediate(&request(length), &clock(1), &mut SeededRng::new(4));
    let middle = below(&top, 9).unwrap();
    let low = below(&middle, 9).unwrap();
    assert!(matches!(below(&low, 0), Err(CaError::PathLength)));
    assert!(matches!(below(&root(0), 0), Err(CaError::PathLength)));
    assert!(matches!(below(&below(&root(5), 0).unwrap(), 0), Err(CaError::PathLength)));
    assert_eq!(middle.not_after(), top.not_after(), "no longer than its issuer");
    let svid = issue(&low, 2).unwrap();
    assert_eq!(svid.chain().len(), 3);
    let verified = top.bundle().unwrap().verify(svid.chain(), Purpose::Client, clock(2).unix());
    assert_eq!(verified.unwrap(), id());
    assert_eq!(low.root(), top.root());
    let other = CaRequest { domain: TrustDomain::parse("west.test").unwrap(), ..request(0) };
    let found = top.new_intermediate(&other, &clock(0), &mut SeededRng::new(4));
    assert!(matches!(found, Err(CaError::Request(_))));
}

#[test]
fn chains_are_limited() {
    let mut ca = root(20);
    for _ in 0..8 {
        ca = ca.new_intermediate(&request(20), &clock(0), &mut SeededRng::new(4)).unwrap();
    }
    assert_eq!(issue(&ca, 0).unwrap().chain().len(), 9);
    let found = ca.new_intermediate(&request(20), &clock(0), &mut SeededRng::new(4));
    assert!(matches!(found, Err(CaError::Unusable(VerifyError::TooLong(9)))), "{found:?}");
}

#[test]
fn authorities_come_back_from_pem() {
    let top = root(1);
    let middle = top.new_intermediate(&request(0), &clock(0), &mut SeededRng::new(4)).unwrap();
    for (ca, length) in [(&top, 1), (&middle, 2)] {
        let loaded = Ca::from_pem(domain(), &ca.chain_pem(), &ca.key().to_pem()).unwrap();
        assert_eq!((loaded.root(), loaded.path_length), (top.root(), ca.path_length));
        assert_eq!((loaded.not_before(), loaded.not_after()), (ca.not_before(), ca.not_after()));
        let svid = issue(&loaded, 1).unwrap();
        assert_eq!(svid.chain().len(), length);
        assert!(top.bundle().unwrap().verify(svid.chain(), Purpose::Server, clock(1).unix()).is_ok());
    }
    // Without its root.
    let chain = middle.chain_pem();
    let (own, _) = chain.split_at(pem::certificates(middle.certificate()).len());
    let loaded = Ca::from_pem(domain(), own, &middle.key().to_pem()).unwrap();
    assert_eq!(loaded.root(), None);
    assert_eq!(issue(&loaded, 1).unwrap().chain().len(), 2);
}

/// A file that is removed when dropped.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cardinal-pki-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind harms nothing.
        std::fs::remove_file(&self.0).ok();
    }
}

#[test]
fn openssl_accepts_what_is_issued() {
    let Some([openssl]) = cardinal_test_tools::tools!("openssl") else { return };
    let top = root(1);
    let middle = top.new_intermediate(&request(0), &clock(0), &mut SeededRng::new(4)).unwrap();
    let svid = issue(&middle, 1).unwrap();
    let roots = Scratch::new("root.pem", &pem::certificates(top.certificate()));
    let between = Scratch::new("middle.pem", &pem::certificates(&svid.chain()[1..]));
    let leaf = Scratch::new("leaf.pem", &pem::certificates(&svid.chain()[..1]));
    let verify = |purpose: &str, at: u64| {
        let mut command = std::process::Command::new(&openssl);
        command.args(["verify", "-x509_strict", "-no-CApath", "-purpose", purpose, "-attime", &at.to_string()]);
        command.arg("-CAfile").arg(&roots.0).arg("-untrusted").arg(&between.0).arg(&leaf.0);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let now = clock(1).unix().seconds();
    for purpose in ["sslclient", "sslserver"] {
        let (accepted, reason) = verify(purpose, now);
        assert!(accepted, "{purpose}: {reason}");
    }
    assert!(!verify("sslclient", now + 3_601).0, "it has expired");
    assert!(!verify("smimesign", now).0);
}

/// An authority as other programs make them.
fn foreign(algorithm: &'static SignatureAlgorithm, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "mesh");
    params.distinguished_name.push(
        DnType::OrganizationName,
        rcgen::DnValue::PrintableString(rcgen::string::PrintableString::try_from("Kuma").unwrap()),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    change(&mut params);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn authorities_of_other_programs_are_loaded() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_ECDSA_P521_SHA512,
    ] {
        let (certificate, key) = foreign(algorithm, |_| {});
        let ca = Ca::from_pem(domain(), &certificate, &key).unwrap();
        let svid = issue(&ca, 0).unwrap();
        assert!(ca.bundle().unwrap().verify(svid.chain(), Purpose::Server, START).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn unusable_authorities_are_refused() {
    let good = foreign(&rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let other = foreign(&rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let load = |certificate: &str, key: &str| Ca::from_pem(domain(), certificate, key).map(drop);
    assert!(load(&good.0, &good.1).is_ok());
    assert!(matches!(load(&good.0, &other.1), Err(CaError::Mismatch)));
    assert!(matches!(load("", &good.1), Err(CaError::Pem(BundleError::Empty))));
    assert!(matches!(load(&good.1, &good.1), Err(CaError::Pem(BundleError::Empty))));
    assert!(matches!(load(&good.0, &good.0), Err(CaError::Key(KeyError::Pem(_)))));
    assert!(matches!(
        load(&good.0, "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"),
        Err(CaError::Key(_))
    ));
    // One that nobody above it has signed.
    assert!(matches!(load(&[good.0.as_str(), &other.0].concat(), &good.1), Err(CaError::Chain(1))));
    let (leaf, key) = foreign(&rcgen::PKCS_ECDSA_P256_SHA256, |params| params.is_ca = IsCa::NoCa);
    assert!(matches!(load(&leaf, &key), Err(CaError::Pem(BundleError::NotCa(0)))));
    let usage = |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let (no_signer, key) = foreign(&rcgen::PKCS_ECDSA_P256_SHA256, usage);
    assert!(matches!(load(&no_signer, &key), Err(CaError::Pem(BundleError::NotCa(0)))));
    let name = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::URI("spiffe://west.test".try_into().unwrap())];
    };
    let (elsewhere, key) = foreign(&rcgen::PKCS_ECDSA_P256_SHA256, name);
    assert!(matches!(load(&elsewhere, &key), Err(CaError::OtherDomain(_))));
    let long = [good.0.as_str()].repeat(20).concat();
    assert!(matches!(load(&long, &good.1), Err(CaError::Chain(1))));
    assert!(matches!(load(&" ".repeat(2 << 20), &good.1), Err(CaError::Pem(BundleError::TooLong))));
    // Of two organisational units `rcgen` can write one.
    let (two, key) = (include_str!("testdata/two_units.crt"), include_str!("testdata/two_units.key"));
    assert!(matches!(load(two, key), Err(CaError::Unusable(_))));
}

fn signing_request(algorithm: &'static SignatureAlgorithm) -> (Vec<u8>, KeyPair) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    // Everything that must not be granted.
    let mut params = CertificateParams::new(["evil.test".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI("spiffe://east.test/admin".try_into().unwrap()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    (params.serialize_request(&key).unwrap().der().to_vec(), key)
}

#[test]
fn of_signing_requests_only_the_key_counts() {
    let ca = root(0);
    for algorithm in
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256]
    {
        let (csr, key) = signing_request(algorithm);
        let chain = ca.issue_for(&csr, &leaf_request(&id(), &[]), &clock(0), &mut SeededRng::new(5)).unwrap();
        let found = ca.bundle().unwrap().verify(&chain, Purpose::Server, START).unwrap();
        assert_eq!(found, id());
        let leaf = parse(&chain[0]).unwrap();
        assert_eq!(names(&leaf), ["URI(\"spiffe://east.test/ns/shop/sa/cart\")"]);
        assert!(!leaf.extended_key_usage().unwrap().unwrap().value.code_signing);
        assert_eq!(leaf.public_key().raw, rcgen::PublicKeyData::subject_public_key_info(&key));
        let svid = X509Svid::from_pem(&pem::certificates(&chain), &key.serialize_pem()).unwrap();
        assert_eq!(svid.id(), &id());
        let other = KeyPair::generate().unwrap().serialize_pem();
        let found = X509Svid::from_pem(&svid.chain_pem(), &other);
        assert!(matches!(found, Err(crate::SvidError::Mismatch)));
    }
}

#[test]
fn signing_requests_may_be_anything() {
    let ca = root(0);
    let issue = |csr: &[u8]| ca.issue_for(csr, &leaf_request(&id(), &[]), &clock(0), &mut SeededRng::new(5));
    let (csr, key) = signing_request(&rcgen::PKCS_ECDSA_P256_SHA256);
    assert!(issue(&csr).is_ok());
    // The part that is signed, behind two headers.
    let signed = 4..4 + 3 + usize::from(csr[6]);
    for at in 0..csr.len() {
        let mut damaged = csr.clone();
        damaged[at] ^= 0x01;
        match issue(&damaged) {
            Err(error) => assert!(matches!(error, CaError::Csr(_)), "byte {at}: {error:?}"),
            Ok(chain) => {
                // How the signature's algorithm is written is not signed, and does not matter.
                let leaf = parse(&chain[0]).unwrap();
                let own = rcgen::PublicKeyData::subject_public_key_info(&key);
                assert!(!signed.contains(&at) && leaf.public_key().raw == own, "byte {at} of {csr:02x?}");
            }
        }
        assert!(issue(&csr[..at]).is_err());
    }
    assert!(issue(&[csr.as_slice(), &[0]].concat()).is_err());
    assert!(issue(&vec![0x30; 65 * 1024]).is_err());
    let (unsupported, _) = signing_request(&rcgen::PKCS_ECDSA_P521_SHA512);
    assert!(matches!(issue(&unsupported), Err(CaError::Csr(_))));
}

#[test]
fn private_keys_are_not_shown() {
    let ca = root(0);
    let svid = issue(&ca, 0).unwrap();
    for key in [ca.key(), svid.key()] {
        let pem = key.to_pem();
        let secret = pem.lines().nth(1).unwrap();
        let all = format!("{ca:?} {svid:?} {key:?} {:?}", ca.bundle().unwrap());
        assert!(!all.contains(secret) && all.contains("redacted"), "{all}");
        let bytes = format!("{:?}", &key.der().secret_der()[40..48]);
        assert!(!all.contains(bytes.trim_matches(['[', ']'])), "{all}");
    }
}
