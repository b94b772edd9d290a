use cardinal_base::{ManualClock, SeededRng};
use proptest::prelude::*;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType,
};

use super::*;
use crate::{Ca, CaRequest, IdError, LeafRequest, X509Svid};

const START: UnixMillis = UnixMillis(1_900_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn at(hours: u64) -> UnixMillis {
    UnixMillis(START.0 + hours * 3_600_000)
}

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

/// A root of a hundred hours.
fn root(name: &str, seed: u64) -> Ca {
    let request = CaRequest { domain: domain(name), lifetime: 100 * HOUR, backdate: HOUR, path_length: 1 };
    Ca::new_root(&request, &ManualClock::at(START), &mut SeededRng::new(seed)).unwrap()
}

/// A leaf of an hour.
fn leaf(ca: &Ca) -> X509Svid {
    let id = SpiffeId::new(ca.domain(), "/workload/a").unwrap();
    let request = LeafRequest { id: &id, dns_names: &["a.test"], lifetime: HOUR, backdate: Duration::ZERO };
    ca.issue(&request, &ManualClock::at(START), &mut SeededRng::new(7)).unwrap()
}

/// Why a chain is refused, or the path of its identity.
fn verify(bundle: &TrustBundle, chain: &[CertificateDer<'_>], now: UnixMillis) -> Result<String, String> {
    let found = [Purpose::Server, Purpose::Client].map(|purpose| bundle.verify(chain, purpose, now));
    let [server, client] = found.map(|found| found.map(|id| id.path().to_owned()).map_err(|e| e.to_string()));
    assert_eq!(server, client);
    server
}

#[test]
fn leaves_are_verified_by_their_domain_only() {
    let (one, other) = (root("one.test", 1), root("other.test", 2));
    let (svid, bundle) = (leaf(&one), one.bundle().unwrap());
    assert_eq!(verify(&bundle, svid.chain(), START), Ok("/workload/a".to_owned()));
    // The same authority under another name says nothing about this domain.
    let renamed = TrustBundle::new(domain("other.test"), bundle.certificates().cloned()).unwrap();
    let error = verify(&renamed, svid.chain(), START).unwrap_err();
    assert_eq!(error, "spiffe://one.test/workload/a is not in the trust domain other.test");
    let mut bundles = TrustBundles::default();
    bundles.insert(other.bundle().unwrap());
    let found = bundles.verify(svid.chain(), Purpose::Client, START).unwrap_err().to_string();
    assert_eq!(found, "the trust domain of spiffe://one.test/workload/a is not trusted");
    bundles.insert(bundle);
    assert!(bundles.verify(svid.chain(), Purpose::Client, START).is_ok());
    assert!(bundles.remove(&domain("one.test")).is_some());
    assert!(bundles.verify(svid.chain(), Purpose::Client, START).is_err());
}

#[test]
fn an_authority_is_trusted_for_its_own_domain_only() {
    // Both domains are trusted; an authority of one issues an identity of the other.
    let mut bundles = TrustBundles::default();
    bundles.insert(root("one.test", 1).bundle().unwrap());
    let evil = root("other.test", 2);
    bundles.insert(evil.bundle().unwrap());
    let names = [uri("spiffe://one.test/workload/a")];
    let forged = forge(&evil, |params| params.subject_alt_names = names.to_vec());
    let error = bundles.verify(&forged, Purpose::Client, START).unwrap_err();
    assert!(matches!(error, VerifyError::Path { error: webpki::Error::UnknownIssuer, .. }), "{error}");
}

#[test]
fn validity_counts_for_leaves_and_authorities() {
    let ca = root("one.test", 1);
    let (svid, bundle) = (leaf(&ca), ca.bundle().unwrap());
    let check = |now: UnixMillis, expect: Result<(), &str>| {
        let found = verify(&bundle, svid.chain(), now).map(drop);
        match expect {
            Ok(()) => assert_eq!(found, Ok(())),
            Err(part) => assert!(found.as_ref().is_err_and(|e| e.contains(part)), "{found:?}"),
        }
    };
    check(UnixMillis(START.0 - 1_000), Err("not valid yet"));
    check(START, Ok(()));
    check(at(1), Ok(()));
    check(UnixMillis(at(1).0 + 1_000), Err("has expired"));
    // A leaf that outlives its authority ends with it.
    let long = forge(&ca, |params| params.not_after = rcgen::date_time_ymd(2040, 1, 1));
    assert!(verify(&bundle, &long, at(100)).is_ok());
    assert!(verify(&bundle, &long, at(101)).unwrap_err().contains("has expired"));
    assert!(verify(&bundle, &long, UnixMillis(at(0).0 - 3_601_000)).unwrap_err().contains("not valid yet"));
}

fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).unwrap())
}

/// A leaf of the authority, made with other particulars.
fn forge(ca: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Vec<CertificateDer<'static>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri("spiffe://one.test/workload/a")];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    change(&mut params);
    let key = KeyPair::from_pem(&ca.key().to_pem()).unwrap();
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = DistinguishedName::new();
    let own = parse(ca.certificate().unwrap()).unwrap();
    for name in own.subject().iter_attributes() {
        let id: Vec<u64> = name.attr_type().iter().unwrap().collect();
        issuer.distinguished_name.push(rcgen::DnType::from_oid(&id), name.as_str().unwrap());
    }
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(issuer, key)).unwrap();
    vec![leaf.der().clone()]
}

#[test]
fn a_leaf_has_the_form_of_an_svid() {
    let ca = root("one.test", 1);
    let bundle = ca.bundle().unwrap();
    let check = |change: &dyn Fn(&mut CertificateParams), expect: &str| {
        let found = verify(&bundle, &forge(&ca, |params| change(params)), START);
        match expect {
            "" => assert!(found.is_ok(), "{found:?}"),
            part => assert!(found.as_ref().is_err_and(|e| e.contains(part)), "{found:?}, not {part}"),
        }
    };
    let names = |names: &[&str]| names.iter().map(|name| uri(name)).collect::<Vec<_>>();
    check(&|_| {}, "");
    check(&|params| params.subject_alt_names.clear(), "has 0 URI names");
    check(&|params| params.subject_alt_names = vec![SanType::DnsName("one.test".try_into().unwrap())], "has 0 URI");
    check(&|params| params.subject_alt_names = names(&["spiffe://one.test/a", "spiffe://one.test/b"]), "has 2 URI");
    check(&|params| params.subject_alt_names = names(&["spiffe://one.test/a", "https://a"]), "has 2 URI names");
    check(&|params| params.subject_alt_names = names(&["spiffe://one.test"]), "has no path");
    check(&|params| params.subject_alt_names = names(&["https://one.test/a"]), &IdError::Scheme.to_string());
    check(&|params| params.subject_alt_names = names(&["spiffe://one.test/a/../b"]), "relative segment");
    check(&|params| params.subject_alt_names.push(SanType::DnsName("one.test".try_into().unwrap())), "");
    check(&|params| params.is_ca = IsCa::NoCa, "");
    check(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "is a CA certificate");
    check(&|params| params.key_usages.clear(), "key usage");
    check(&|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement], "key usage");
    check(&|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign), "key usage");
    check(&|params| params.key_usages.push(KeyUsagePurpose::CrlSign), "key usage");
    check(&|params| params.key_usages.push(KeyUsagePurpose::KeyEncipherment), "");
    let both = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    check(&|params| params.extended_key_usages.clone_from(&both), "");
    check(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning], "extended key usage");
    for (usage, purpose) in both.into_iter().zip([Purpose::Server, Purpose::Client]) {
        let chain = forge(&ca, |params| params.extended_key_usages = vec![usage]);
        for other in [Purpose::Server, Purpose::Client] {
            assert_eq!(bundle.verify(&chain, other, START).is_ok(), other == purpose);
        }
    }
}

#[test]
fn chains_are_limited_and_complete() {
    let ca = root("one.test", 1);
    let request = CaRequest { domain: domain("one.test"), lifetime: HOUR, backdate: HOUR, path_length: 0 };
    let between = ca.new_intermediate(&request, &ManualClock::at(START), &mut SeededRng::new(2)).unwrap();
    let (svid, bundle) = (leaf(&between), ca.bundle().unwrap());
    assert_eq!(svid.chain().len(), 2);
    assert!(verify(&bundle, svid.chain(), START).is_ok());
    assert!(verify(&bundle, &svid.chain()[..1], START).unwrap_err().contains("does not lead to"));
    assert_eq!(verify(&bundle, &[], START).unwrap_err(), "there is no certificate");
    let long: Vec<_> = svid.chain()[..1].iter().chain([&svid.chain()[1]; 9]).cloned().collect();
    assert!(verify(&bundle, &long, START).unwrap_err().contains("9 intermediate certificates"));
    // An authority is no peer.
    assert!(verify(&bundle, &svid.chain()[1..], START).is_err());
    assert!(verify(&bundle, &[ca.certificate().unwrap().clone()], START).is_err());
}

#[test]
fn authorities_overlap() {
    let (old, new) = (root("one.test", 1), root("one.test", 2));
    let (old_leaf, new_leaf) = (leaf(&old), leaf(&new));
    let first = old.bundle().unwrap();
    let both = first.with_authority(new.root().unwrap().clone()).unwrap();
    let last = both.without_authority(old.root().unwrap());
    for (bundle, accepts_old, accepts_new) in [(&first, true, false), (&both, true, true), (&last, false, true)] {
        assert_eq!(verify(bundle, old_leaf.chain(), START).is_ok(), accepts_old);
        assert_eq!(verify(bundle, new_leaf.chain(), START).is_ok(), accepts_new);
    }
    assert_eq!(both.certificates().len(), 2);
    assert_eq!(both.with_authority(new.root().unwrap().clone()).unwrap(), both, "equal ones count once");
    let none = last.without_authority(new.root().unwrap());
    assert!(none.certificates().len() == 0 && verify(&none, new_leaf.chain(), START).is_err());
}

#[test]
fn a_renewed_certificate_of_the_same_key_counts() {
    let ca = root("one.test", 1);
    let renew = |year| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let own = parse(ca.certificate().unwrap()).unwrap();
        for name in own.subject().iter_attributes() {
            let id: Vec<u64> = name.attr_type().iter().unwrap().collect();
            params.distinguished_name.push(rcgen::DnType::from_oid(&id), name.as_str().unwrap());
        }
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.self_signed(&KeyPair::from_pem(&ca.key().to_pem()).unwrap()).unwrap().der().clone()
    };
    let svid = leaf(&ca);
    for order in [[2020, 2050], [2050, 2020]] {
        let bundle = TrustBundle::new(domain("one.test"), order.map(renew)).unwrap();
        assert!(verify(&bundle, svid.chain(), START).is_ok(), "{order:?}");
    }
    let expired = TrustBundle::new(domain("one.test"), [renew(2020)]).unwrap();
    assert!(verify(&expired, svid.chain(), START).unwrap_err().contains("has expired"));
}

#[test]
fn bundles_come_back_from_pem_and_json() {
    let bundle = root("one.test", 1).bundle().unwrap();
    let bundle = bundle.with_authority(root("one.test", 2).root().unwrap().clone()).unwrap();
    assert_eq!(TrustBundle::from_pem(domain("one.test"), &bundle.to_pem()).unwrap(), bundle);
    let published = bundle.clone().with_publication(Some(u64::MAX), Some(Duration::from_secs(300)));
    let json = published.to_json().unwrap();
    let back = TrustBundle::from_json(domain("one.test"), json.as_bytes()).unwrap();
    assert_eq!(back, published);
    assert_eq!((back.sequence(), back.refresh_hint()), (Some(u64::MAX), Some(Duration::from_secs(300))));
    assert_ne!(back, bundle);
    let plain = TrustBundle::from_json(domain("one.test"), bundle.to_json().unwrap().as_bytes()).unwrap();
    assert_eq!((plain.sequence(), plain.refresh_hint()), (None, None));
}

#[test]
fn keys_have_their_jwk_forms() {
    for (algorithm, kind, curve) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "EC", "P-256"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "EC", "P-384"),
        (&rcgen::PKCS_ECDSA_P521_SHA512, "EC", "P-521"),
        (&rcgen::PKCS_ED25519, "OKP", "Ed25519"),
        (&rcgen::PKCS_RSA_SHA256, "RSA", ""),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let bundle = TrustBundle::new(domain("one.test"), [certificate.der().clone()]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&bundle.to_json().unwrap()).unwrap();
        let jwk = &json["keys"][0];
        assert_eq!((jwk["use"].as_str(), jwk["kty"].as_str()), (Some("x509-svid"), Some(kind)));
        assert_eq!(jwk["crv"].as_str().unwrap_or_default(), curve);
        assert!(jwk.get("kid").is_none());
        use base64::Engine as _;
        let member =
            |name: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        match kind {
            "EC" => assert_eq!([vec![4], member("x"), member("y")].concat(), key.der_bytes()),
            "OKP" => assert_eq!(member("x"), key.der_bytes()),
            _ => assert_eq!((member("n").len(), member("e")), (256, vec![1, 0, 1])),
        }
    }
}

#[test]
fn unusable_bundles_are_refused() {
    let ca = root("one.test", 1);
    let (svid, one) = (leaf(&ca), || domain("one.test"));
    let json = |text: &str| TrustBundle::from_json(one(), text.as_bytes()).map(|b| b.certificates().len());
    assert!(matches!(TrustBundle::from_pem(one(), ""), Err(BundleError::Empty)));
    assert!(matches!(TrustBundle::from_pem(one(), &ca.key().to_pem()), Err(BundleError::Empty)));
    assert!(matches!(TrustBundle::from_pem(one(), &svid.chain_pem()), Err(BundleError::NotCa(0))));
    let broken = ca.chain_pem().replacen("MII", "!II", 1);
    assert!(matches!(TrustBundle::from_pem(one(), &broken), Err(BundleError::Pem(_))));
    assert!(matches!(TrustBundle::from_pem(one(), &" ".repeat(BUNDLE_BYTES_MAX + 1)), Err(BundleError::TooLong)));
    assert!(matches!(TrustBundle::new(one(), [vec![0x30, 0].into()]), Err(BundleError::Malformed(0))));
    let trailing = [ca.certificate().unwrap().as_ref(), &[0]].concat();
    assert!(matches!(TrustBundle::new(one(), [trailing.into()]), Err(BundleError::Malformed(0))));
    let many: Vec<_> =
        (0..=AUTHORITIES_MAX as u64).map(|seed| root("one.test", seed).root().unwrap().clone()).collect();
    assert!(matches!(TrustBundle::new(one(), many), Err(BundleError::TooMany)));
    assert!(matches!(json("["), Err(BundleError::Json(_))));
    assert!(matches!(json("[]"), Err(BundleError::Json(_))));
    assert!(matches!(json("{}"), Err(BundleError::Form(_))));
    assert!(matches!(json(r#"{"keys":{}}"#), Err(BundleError::Form(_))));
    assert!(matches!(json(r#"{"keys":[],"spiffe_sequence":"1"}"#), Err(BundleError::Form(_))));
    assert!(matches!(json(r#"{"keys":[],"spiffe_refresh_hint":-1}"#), Err(BundleError::Form(_))));
    assert!(matches!(json(r#"{"keys":[{"use":"x509-svid","x5c":["?"]}]}"#), Err(BundleError::Base64(0))));
    assert!(matches!(json(r#"{"keys":[{"use":"x509-svid","x5c":["MAA="]}]}"#), Err(BundleError::Malformed(0))));
    // What is not for X.509-SVIDs is left out.
    assert_eq!(json(r#"{"keys":[]}"#).unwrap(), 0);
    assert_eq!(json(r#"{"keys":[{"use":"jwt-svid","kid":"a"},{"x5c":["?"]},{"use":"x509-svid"},3]}"#).unwrap(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn certificates_may_be_anything(at in any::<prop::sample::Index>(), with in any::<Vec<u8>>(), cut: bool) {
        let ca = root("one.test", 1);
        let svid = leaf(&ca);
        let original = svid.chain()[0].to_vec();
        let mut bytes = original.clone();
        let at = at.index(bytes.len());
        let end = if cut { bytes.len() } else { (at + with.len()).min(bytes.len()) };
        bytes.splice(at..end, with);
        let is_same = bytes == original;
        let chain = [CertificateDer::from(bytes.clone())];
        let verified = ca.bundle().unwrap().verify(&chain, Purpose::Server, START);
        prop_assert_eq!(verified.is_ok(), is_same, "nothing can be changed");
        // As an authority it must only come to an end.
        drop(TrustBundle::new(domain("one.test"), [CertificateDer::from(bytes)]));
    }
}
