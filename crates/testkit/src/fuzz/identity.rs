//! SPIFFE IDs, trust bundles and X.509-SVIDs.

use std::sync::LazyLock;
use std::time::Duration;

use cardinal_base::{ManualClock, SeededRng, UnixMillis};
use cardinal_pki::{Ca, CaRequest, LeafRequest, Purpose, SpiffeId, TrustBundle, TrustDomain, spiffe_id};
use rustls_pki_types::CertificateDer;

pub(super) const IDS: &[&[u8]] = &[
    b"spiffe://east.test/ns/shop/sa/cart",
    b"spiffe://a_b-c.0",
    b"spiffe://d/./..//a%2fb?c#d",
    b"SPIFFE://user@D:443/a/",
];

pub(super) fn check_id(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(id) = SpiffeId::parse(text) else { return };
    assert_eq!(id.as_str(), text, "there is one spelling");
    assert_eq!(format!("spiffe://{}{}", id.domain_name(), id.path()), text);
    assert!(id.is_within(&id.trust_domain().id()));
    assert_eq!(SpiffeId::new(&id.trust_domain(), id.path()), Ok(id.clone()));
    assert!(text.len() <= cardinal_pki::SPIFFE_ID_BYTES_MAX && text.is_ascii());
    let segments: Vec<_> = id.path().split('/').skip(1).collect();
    assert!(segments.iter().all(|segment| !matches!(*segment, "" | "." | "..")), "{segments:?}");
}

pub(super) const BUNDLES: &[&[u8]] = &[
    include_bytes!("testdata/bundle.json"),
    br#"{"keys":[{"use":"x509-svid","x5c":["MAA="]}],"spiffe_sequence":18446744073709551616}"#,
    br#"{"keys":[]}"#,
];

pub(super) fn check_bundle(input: &[u8]) {
    if let Ok(bundle) = TrustBundle::from_json(domain(), input) {
        // A key may be of a kind that has no JWK form.
        if let Ok(json) = bundle.to_json() {
            assert_eq!(TrustBundle::from_json(domain(), json.as_bytes()).ok(), Some(bundle.clone()));
        }
        if bundle.certificates().len() > 0 {
            let again = TrustBundle::from_pem(domain(), &bundle.to_pem()).expect("what was read is written");
            assert!(again.certificates().eq(bundle.certificates()));
        }
    }
}

/// An authority, a leaf of it, and a signing request.
pub(super) const CERTIFICATES: &[&[u8]] = &[
    include_bytes!("testdata/leaf.der"),
    include_bytes!("testdata/authority.der"),
    include_bytes!("testdata/request.der"),
];

pub(super) fn check_certificate(input: &[u8]) {
    /// A time at which the seeds are valid: in 2030.
    const NOW: UnixMillis = UnixMillis(1_900_000_000_000);
    static BUNDLE: LazyLock<TrustBundle> = LazyLock::new(|| {
        TrustBundle::new(domain(), [CertificateDer::from(CERTIFICATES[1])]).expect("the seed is an authority")
    });
    let chain = [CertificateDer::from(input)];
    let claimed = spiffe_id(&chain[0]);
    let verified = BUNDLE.verify(&chain, Purpose::Server, NOW);
    assert_eq!(verified.is_ok(), input == CERTIFICATES[0], "only what the authority has signed is valid");
    if let Ok(id) = verified {
        assert_eq!(claimed.ok(), Some(id));
    }
    if let Ok(bundle) = TrustBundle::new(domain(), [CertificateDer::from(input.to_vec())]) {
        assert!(bundle.verify(&chain, Purpose::Client, NOW).is_err(), "an authority is no peer");
    }
    check_request(input, NOW);
}

fn check_request(input: &[u8], now: UnixMillis) {
    static CA: LazyLock<Ca> = LazyLock::new(|| {
        let lifetime = Duration::from_secs(3_600);
        let request = CaRequest { domain: domain(), lifetime, backdate: Duration::ZERO, path_length: 0 };
        let clock = ManualClock::at(UnixMillis(1_900_000_000_000));
        Ca::new_root(&request, &clock, &mut SeededRng::new(1)).expect("an authority can be made")
    });
    let id = SpiffeId::new(&domain(), "/granted").expect("the path is valid");
    let request = LeafRequest { id: &id, dns_names: &[], lifetime: Duration::from_secs(60), backdate: Duration::ZERO };
    if let Ok(chain) = CA.issue_for(input, &request, &ManualClock::at(now), &mut SeededRng::new(1)) {
        assert_eq!(spiffe_id(&chain[0]).ok(), Some(id), "what the request asks for does not count");
    }
}

fn domain() -> TrustDomain {
    TrustDomain::parse("east.test").expect("the name is valid")
}
