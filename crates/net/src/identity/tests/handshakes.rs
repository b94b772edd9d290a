//! Accepted and rejected peers.

use cardinal_pki::{PrivateKey, Purpose};
use rustls::pki_types::CertificateDer;

use super::*;

const SHOP: &str = "spiffe://east.test/ns/shop/sa/cart";
const BANK: &str = "spiffe://east.test/ns/bank/sa/ledger";

struct Pair {
    clock: Arc<ManualClock>,
    ca: Ca,
    client: Node,
    server: Node,
}

fn pair() -> Pair {
    let clock = Arc::new(ManualClock::at(START));
    let ca = root(&clock, "east.test", 1_000_000, 1);
    let (client, server) = (Node::new(&clock, &ca, &id(SHOP)), Node::new(&clock, &ca, &id(BANK)));
    Pair { clock, ca, client, server }
}

impl Pair {
    /// A handshake in which each side allows these peers.
    async fn meet(&self, of_client: &[PeerRule], of_server: &[PeerRule]) -> Meeting {
        meet(&self.client.client(of_client), &self.server.server(of_server)).await
    }

    /// A handshake in which both sides allow all identities of the domain.
    async fn meet_any(&self) -> Meeting {
        let any = [PeerRule::any_of(&domain("east.test"))];
        self.meet(&any, &any).await
    }
}

fn refused(found: &Result<SpiffeId, String>, reason: &str) {
    assert!(found.as_ref().is_err_and(|error| error.contains(reason)), "{found:?}, not {reason:?}");
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let pair = pair();
    let met = pair.meet(&[PeerRule::Exact(id(BANK))], &[PeerRule::Exact(id(SHOP))]).await;
    assert!(met.is_success(), "{met:?}");
    assert_eq!((met.client_saw, met.server_saw), (Ok(pair.server.id.clone()), Ok(pair.client.id.clone())));
}

#[tokio::test]
async fn the_peer_of_a_connection_is_known() {
    let pair = pair();
    let server = pair.server.server(&[PeerRule::Exact(id(SHOP))]);
    let client = pair.client.client(&[PeerRule::Exact(id(BANK))]);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("a.test").unwrap();
    let (served, asked) = tokio::try_join!(server.accept(far), client.connect(name, near)).unwrap();
    assert_eq!(server.peer_identity(served.stream.get_ref().1), Some(id(SHOP)));
    assert_eq!(client.peer_identity(asked.stream.get_ref().1), Some(id(BANK)));
    // The peer of a connection under another policy is not accepted as verified.
    let other = pair.server.server(&[PeerRule::Exact(id(BANK))]);
    assert_eq!(other.peer_identity(served.stream.get_ref().1), None);
}

#[tokio::test]
async fn only_allowed_peers_are_accepted() {
    let pair = pair();
    let within = |text| PeerRule::Within(id(text));
    let exact = |text| PeerRule::Exact(id(text));
    let check = async |rules: &[PeerRule], expect: bool| {
        let met = pair.meet(rules, &[exact(SHOP)]).await;
        assert_eq!(met.is_success(), expect, "{rules:?}: {met:?}");
        if !expect {
            refused(&met.client_saw, "the peer is spiffe://east.test/ns/bank/sa/ledger, which is not");
            refused(&met.server_saw, "certificate_unknown");
        }
    };
    check(&[exact(BANK)], true).await;
    check(&[exact(SHOP), exact(BANK)], true).await;
    check(&[within("spiffe://east.test/ns/bank")], true).await;
    check(&[PeerRule::any_of(&domain("east.test"))], true).await;
    check(&[exact(SHOP)], false).await;
    check(&[within("spiffe://east.test/ns/ban")], false).await;
    check(&[within("spiffe://east.test/ns/bank/sa/ledger/x")], false).await;
    check(&[PeerRule::any_of(&domain("west.test"))], false).await;
    check(&[PeerRule::any_of(&domain("east"))], false).await;
    check(&[], false).await;
    // The other direction. The client is informed by an alert.
    let met = pair.meet(&[exact(BANK)], &[exact(BANK)]).await;
    refused(&met.server_saw, "the peer is spiffe://east.test/ns/shop/sa/cart, which is not");
    refused(&met.client_saw, "certificate_unknown");
}

#[tokio::test]
async fn peers_are_verified_by_the_bundle_of_their_own_domain() {
    let pair = pair();
    let west = root(&pair.clock, "west.test", 1_000_000, 9);
    let stranger = Node::new(&pair.clock, &west, &id("spiffe://west.test/a"));
    stranger.store.set_bundle(pair.ca.bundle().unwrap());
    let any = [PeerRule::any_of(&domain("east.test")), PeerRule::any_of(&domain("west.test"))];
    let server = pair.server.server(&any);
    let client = stranger.client(&any);
    let met = meet(&client, &server).await;
    refused(&met.server_saw, "the trust domain of spiffe://west.test/a is not trusted");
    // Federation: the bundle is set, and the same configurations accept.
    pair.server.store.set_bundle(west.bundle().unwrap());
    assert!(meet(&client, &server).await.is_success());
    // An authority of the west issues an identity of the east.
    let met = pair.meet_as(&forge(&west, &[SHOP], |_| {})).await;
    refused(&met.server_saw, "not signed by a trusted CA");
    refused(&met.client_saw, "unknown_ca");
}

#[tokio::test]
async fn expired_and_early_certificates_are_refused() {
    let pair = pair();
    pair.clock.advance(Duration::from_secs(3_600));
    assert!(pair.meet_any().await.is_success(), "the last second counts");
    pair.clock.advance(Duration::from_secs(1));
    let met = pair.meet_any().await;
    refused(&met.client_saw, "the certificate expired on 2030-03-17 18:46:40 UTC");
    refused(&met.server_saw, "certificate_expired");
    // For another client, with a valid leaf, the server appears the same.
    pair.server.store.set_identity(OWN, &leaf(&pair.clock, &pair.ca, &id(BANK), 60)).unwrap();
    let met = pair.meet_any().await;
    refused(&met.server_saw, "the certificate expired on");
    refused(&met.client_saw, "certificate_expired");
    pair.client.store.set_identity(OWN, &leaf(&pair.clock, &pair.ca, &id(SHOP), 60)).unwrap();
    assert!(pair.meet_any().await.is_success());
    // A clock that is slow.
    let late = Arc::new(ManualClock::at(START));
    let node = Node::new(&late, &root(&late, "east.test", 60, 5), &id(SHOP));
    node.store.set_bundle(pair.ca.bundle().unwrap());
    let any = [PeerRule::any_of(&domain("east.test"))];
    let met = meet(&node.client(&any), &pair.server.server(&any)).await;
    refused(&met.client_saw, "the certificate is not valid before");
}

/// A certificate that the test authorities would not issue, with its key.
fn forge(
    ca: &Ca,
    uris: &[&str],
    change: impl FnOnce(&mut rcgen::CertificateParams),
) -> (Vec<CertificateDer<'static>>, PrivateKey) {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let uris = uris.iter().map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap()));
    params.subject_alt_names = uris.collect();
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    change(&mut params);
    // The subject of the authority, from a certificate that it has issued.
    let signer = rcgen::KeyPair::from_pem(&ca.key().to_pem()).unwrap();
    let (organisation, name) = names(ca);
    let mut issuer = rcgen::CertificateParams::default();
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    issuer.distinguished_name.push(rcgen::DnType::OrganizationName, organisation);
    issuer.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.signed_by(&key, &rcgen::Issuer::new(issuer, signer)).unwrap();
    (vec![made.der().clone()], PrivateKey::from_pem(&key.serialize_pem()).unwrap())
}

/// Organisation and common name of an authority.
fn names(ca: &Ca) -> (String, String) {
    let text = String::from_utf8_lossy(ca.certificate().unwrap()).into_owned();
    let at = text.find("Cardinal CA ").unwrap();
    (ca.domain().to_string(), text[at..at + 28].to_owned())
}

impl Pair {
    /// A handshake of a client that presents this certificate, without checks, and accepts any server.
    async fn meet_as(&self, (chain, key): &(Vec<CertificateDer<'static>>, PrivateKey)) -> Meeting {
        let provider = crate::tls::provider(&[]).0;
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(crate::tls::unverified(provider))
            .with_client_auth_cert(chain.clone(), key.der().clone_key())
            .unwrap();
        config.alpn_protocols = Vec::new();
        let server = self.server.server(&[PeerRule::any_of(&domain("east.test"))]);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let asked = async {
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let name = ServerName::try_from("unrelated.test").unwrap();
            let mut stream = connector.connect(name, near).await.map_err(|e| AcceptError(e).to_string())?;
            stream.read_u8().await.map_err(|e| AcceptError(e).to_string())?;
            Ok(id(SHOP))
        };
        let served = async {
            let mut found = server.accept(far).await.map_err(|error| error.to_string())?;
            found.stream.write_all(b"s").await.map_err(|error| error.to_string())?;
            Ok(found.peer)
        };
        let (server_saw, client_saw) = tokio::join!(served, asked);
        Meeting { client_saw, server_saw, kinds: Vec::new() }
    }
}

#[tokio::test]
async fn certificates_that_are_no_svids_are_refused() {
    let pair = pair();
    let check = async |uris: &[&str], change: fn(&mut rcgen::CertificateParams), reason: &str| {
        let met = pair.meet_as(&forge(&pair.ca, uris, change)).await;
        match reason {
            "" => assert_eq!(met.server_saw, Ok(id(SHOP))),
            reason => refused(&met.server_saw, reason),
        }
    };
    check(&[SHOP], |_| {}, "").await;
    check(&[SHOP, BANK], |_| {}, "has 2 URI names").await;
    check(&[SHOP, SHOP], |_| {}, "has 2 URI names").await;
    check(&[], |_| {}, "has 0 URI names").await;
    check(&[], |params| params.subject_alt_names.push(rcgen::SanType::DnsName("a.test".try_into().unwrap())), "0 URI")
        .await;
    check(&["spiffe://east.test"], |_| {}, "has no path").await;
    check(&["spiffe://EAST.test/a"], |_| {}, "lower-case").await;
    check(&["spiffe://east.test/a/"], |_| {}, "empty segment").await;
    check(&["https://east.test/a"], |_| {}, "begins with spiffe://").await;
    check(&[SHOP], |params| params.key_usages.clear(), "key usage").await;
    check(&[SHOP], |params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained), "CA cert").await;
    check(
        &[SHOP],
        |params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth],
        "extended key usage",
    )
    .await;
}

#[tokio::test]
async fn clients_without_a_certificate_are_refused() {
    let pair = pair();
    let any = [PeerRule::any_of(&domain("east.test"))];
    let provider = crate::tls::provider(&[]).0;
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(crate::tls::unverified(provider))
        .with_no_client_auth();
    let server = pair.server.server(&any);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("a.test").unwrap();
    let (served, _) = tokio::join!(server.accept(far), connector.connect(name, near));
    refused(&served.map(|found| found.peer).map_err(|e| e.to_string()), "the peer sent no certificate");
}

#[tokio::test]
async fn roots_overlap_and_are_removed() {
    let pair = pair();
    let new = root(&pair.clock, "east.test", 1_000_000, 2);
    let both = pair.ca.bundle().unwrap().with_authority(new.root().unwrap().clone()).unwrap();
    for node in [&pair.client, &pair.server] {
        node.store.set_bundle(both.clone());
    }
    pair.client.store.set_identity(OWN, &leaf(&pair.clock, &new, &id(SHOP), 60)).unwrap();
    assert!(pair.meet_any().await.is_success(), "a leaf of each root");
    for node in [&pair.client, &pair.server] {
        node.store.set_bundle(both.without_authority(pair.ca.root().unwrap()));
    }
    let met = pair.meet_any().await;
    refused(&met.client_saw, "not signed by a trusted CA");
    pair.server.store.set_identity(OWN, &leaf(&pair.clock, &new, &id(BANK), 60)).unwrap();
    assert!(pair.meet_any().await.is_success());
    let Ok(()) = pair.server.store.update::<std::convert::Infallible>(|update| {
        update.remove_bundle(&domain("east.test"));
        Ok(())
    });
    refused(&pair.meet_any().await.server_saw, "is not trusted");
}

#[tokio::test]
async fn a_node_without_its_identity_talks_to_nobody() {
    let any = [PeerRule::any_of(&domain("east.test"))];
    let remove = |node: &Node| {
        let Ok(()) = node.store.update::<std::convert::Infallible>(|update| {
            update.remove_identity(OWN);
            Ok(())
        });
    };
    let pair = pair();
    let (client, server) = (pair.client.client(&any), pair.server.server(&any));
    assert!(meet(&client, &server).await.is_success());
    remove(&pair.client);
    refused(&meet(&client, &server).await.client_saw, "no certificate for its own identity");
    let back = leaf(&pair.clock, &pair.ca, &id(SHOP), 60);
    pair.client.store.set_identity(OWN, &back).unwrap();
    assert!(meet(&client, &server).await.is_success());
    remove(&pair.server);
    let met = meet(&client, &server).await;
    assert!(met.client_saw.is_err() && met.server_saw.is_err(), "{met:?}");
}

#[tokio::test]
async fn sessions_are_not_resumed() {
    let pair = pair();
    let any = [PeerRule::any_of(&domain("east.test"))];
    let narrow = [PeerRule::Exact(id(BANK))];
    for tls12 in [false, true] {
        let policy = |rules: &[PeerRule]| IdentityPolicy::new(OWN, rules.to_vec()).with_tls12(tls12);
        let server = pair.server.store.server(&policy(&any)).unwrap();
        let strict = pair.server.store.server(&policy(&narrow)).unwrap();
        assert_eq!(server.config().send_tls13_tickets, 0);
        assert!(!server.config().ticketer.enabled() && !server.config().session_storage.can_cache());
        let client = pair.client.store.client(&policy(&any)).unwrap();
        for _ in 0..3 {
            assert!(meet(&client, &server).await.is_success(), "a full handshake each time");
            // A connection accepted under one policy is not accepted by another.
            refused(&meet(&client, &strict).await.server_saw, "the peer is spiffe://east.test/ns/shop/sa/cart");
        }
    }
}

#[tokio::test]
async fn a_client_that_keeps_sessions_gets_none() {
    // A peer with another implementation, which would resume sessions if possible; TLS 1.2 and 1.3.
    let pair = pair();
    let svid = leaf(&pair.clock, &pair.ca, &id(SHOP), 60);
    let policy = IdentityPolicy::new(OWN, [PeerRule::any_of(&domain("east.test"))]).with_tls12(true);
    let server = pair.server.store.server(&policy).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let provider = crate::tls::provider(&[]).0;
        let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(crate::tls::unverified(provider))
            .with_client_auth_cert(svid.chain().to_vec(), svid.key().der().clone_key())
            .unwrap();
        let config = Arc::new(config);
        for _ in 0..3 {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
            let name = ServerName::try_from("a.test").unwrap();
            let (served, asked) = tokio::join!(server.accept(far), connector.connect(name, near));
            let (served, asked) = (served.unwrap(), asked.unwrap());
            assert_eq!(served.stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(asked.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

#[tokio::test]
async fn configurations_are_keyed_by_policy() {
    let pair = pair();
    let store = &pair.client.store;
    let (shop, bank) = (PeerRule::Exact(id(SHOP)), PeerRule::Exact(id(BANK)));
    let base = IdentityPolicy::new(OWN, [shop.clone(), bank.clone()]);
    let same = IdentityPolicy::new(OWN, [bank.clone(), shop.clone(), bank.clone()]);
    let (client, server) = (store.client(&base).unwrap(), store.server(&base).unwrap());
    assert!(Arc::ptr_eq(&client, &store.client(&same).unwrap()));
    assert!(Arc::ptr_eq(server.config(), store.server(&same).unwrap().config()));
    assert_eq!(client.policy(), &base);
    let others = [
        IdentityPolicy::new(Id::from_u128(2), [shop.clone(), bank.clone()]),
        IdentityPolicy::new(OWN, [shop.clone()]),
        IdentityPolicy::new(OWN, []),
        IdentityPolicy::new(OWN, [shop.clone(), PeerRule::Within(id(BANK))]),
        base.clone().with_alpn(&[b"h2"]),
        base.clone().with_alpn(&[b"h", b"2"]),
        base.clone().with_tls12(true),
    ];
    let mut prints = std::collections::HashSet::from([base.fingerprint()]);
    for other in &others {
        assert!(!Arc::ptr_eq(&client, &store.client(other).unwrap()), "{other:?}");
        assert!(prints.insert(other.fingerprint()), "{other:?}");
    }
    assert_eq!(base.fingerprint(), same.fingerprint());
    assert_eq!(store.client(&others[4]).unwrap().config().alpn_protocols, [b"h2"]);
}

#[tokio::test]
async fn existing_connections_can_be_verified_again() {
    let pair = pair();
    let policy = IdentityPolicy::new(OWN, [PeerRule::Exact(id(BANK))]);
    let peer = leaf(&pair.clock, &pair.ca, &id(BANK), 60);
    let verify = || pair.client.store.verify(&policy, peer.chain(), Purpose::Server).map_err(|e| e.to_string());
    assert_eq!(verify(), Ok(id(BANK)));
    pair.clock.advance(Duration::from_secs(61));
    refused(&verify(), "has expired");
    let stranger = leaf(&pair.clock, &pair.ca, &id(SHOP), 60);
    let found = pair.client.store.verify(&policy, stranger.chain(), Purpose::Server);
    assert!(matches!(found, Err(PeerError::Unexpected(_))), "{found:?}");
}

#[test]
fn the_store_tells_what_it_holds_and_no_keys() {
    let pair = pair();
    let status = pair.client.store.identities();
    assert_eq!((status.len(), status[0].key, &status[0].id), (1, OWN, &pair.client.id));
    assert_eq!((status[0].not_before, status[0].not_after.0), (START, START.0 + 3_600_000));
    assert_eq!(pair.client.store.bundles(), [pair.ca.bundle().unwrap()]);
    // A failed change has no effect.
    let failed = pair.client.store.update(|update| {
        update.remove_identity(OWN);
        Err("no")
    });
    assert_eq!((failed, pair.client.store.identities().len()), (Err("no"), 1));
    let svid = leaf(&pair.clock, &pair.ca, &id(SHOP), 60);
    pair.client.store.set_identity(OWN, &svid).unwrap();
    let shown = format!("{:?}", pair.client.store);
    let secret = format!("{:?}", &svid.key().der().secret_der()[40..48]);
    assert!(!shown.contains(secret.trim_matches(['[', ']'])), "{shown}");
}

#[tokio::test]
async fn a_server_that_offers_sessions_is_not_taken_up_on_it() {
    // A peer with another implementation, which stores sessions and sends tickets.
    let pair = pair();
    let svid = leaf(&pair.clock, &pair.ca, &id(BANK), 60);
    for (version, is_old) in [(&rustls::version::TLS12, true), (&rustls::version::TLS13, false)] {
        let mut config = rustls::ServerConfig::builder_with_provider(crate::tls::provider(&[]).0)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(svid.chain().to_vec(), svid.key().der().clone_key())
            .unwrap();
        config.ticketer = crate::tls::ticketer().unwrap();
        let config = Arc::new(config);
        let connect = async |policy: IdentityPolicy| {
            let client = pair.client.store.client(&policy).unwrap();
            let (near, far) = tokio::io::duplex(64 * 1024);
            let served = async {
                let mut stream = tokio_rustls::TlsAcceptor::from(Arc::clone(&config)).accept(far).await?;
                stream.write_all(b"s").await
            };
            let asked = async {
                let name = ServerName::try_from("a.test").unwrap();
                let mut found = client.connect(name, near).await.map_err(|error| error.to_string())?;
                found.stream.read_u8().await.map_err(|error| error.to_string())?;
                Ok::<_, String>((found.peer, found.stream.get_ref().1.handshake_kind()))
            };
            tokio::join!(asked, served).0
        };
        let policy = |rule| IdentityPolicy::new(OWN, [rule]).with_tls12(true);
        for _ in 0..3 {
            let found = connect(policy(PeerRule::Exact(id(BANK)))).await;
            assert_eq!(found, Ok((id(BANK), Some(HandshakeKind::Full))));
        }
        assert!(connect(policy(PeerRule::Exact(id(SHOP)))).await.is_err());
        // TLS 1.2 is disabled by default.
        let found = connect(IdentityPolicy::new(OWN, [PeerRule::Exact(id(BANK))])).await;
        assert_eq!(found.is_err(), is_old, "{found:?}");
    }
}
