//! Certificates that are accepted, and those that are not.

use std::sync::Arc;
use std::time::Duration;

use cardinal_base::{Id, SystemRng};
use cardinal_ir::SecretKey;
use cardinal_pki::{Ca, CaRequest, LeafRequest, TrustDomain};
use cardinal_stream::{ControlPlane, JoinAuthority, JoinError, JoinToken, NodeIdentity, StreamTls, TokenError, join};
use cardinal_sync::stream::ProtocolVersion;
use cardinal_testkit::{Authority, TempDir, until};

use crate::site::{Control, Start, clock, pki, shared, shared_certificate};

/// Whether a data plane gets anything from a control plane that another one follows.
async fn is_accepted(control: &Control, refused: Start<'_>, accepted: Start<'_>) -> bool {
    let (number, refused) = (refused.number, refused.data(&[control.address]));
    until("a refusal, or a connection", || control.server.refused() > 0 || control.proxy(number).is_some())
        .await
        .unwrap();
    let accepted = accepted.data(&[control.address]);
    for generation in 1..=3 {
        control.publish(&["a"], &generation.to_string(), generation);
        accepted.serves(&["a"], &generation.to_string()).await;
    }
    let is_accepted = refused.generations() > 0 || control.proxy(number).is_some();
    refused.stop().await;
    accepted.stop().await;
    is_accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_certificates_than_the_shared_one_are_refused() {
    let (certificate, other) = (shared_certificate(), shared_certificate());
    let authority = Authority::new("authority");
    for tls in [shared(&other), pki(&authority, &["dp"])] {
        let folders = [(); 2].map(|()| TempDir::new("stream"));
        let accepted = Start::new(2, &folders[1], shared(&certificate));
        let control = Control::start(shared(&certificate)).await;
        assert!(!is_accepted(&control, Start::new(1, &folders[0], tls), accepted).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_the_authority_are_accepted_by_name() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    for (tls, name) in [
        (pki(&other, &["dp"]), "control.example"),
        (pki(&authority, &["dp"]), "other.example"),
        // Without a certificate of its own.
        (StreamTls::pki(None, authority.cert_pem()).unwrap(), "control.example"),
    ] {
        let folders = [(); 2].map(|()| TempDir::new("stream"));
        let refused = Start { server_name: Some(name), ..Start::new(1, &folders[0], tls) };
        let tls = pki(&authority, &["dp"]);
        let accepted = Start { server_name: Some("control.example"), ..Start::new(2, &folders[1], tls) };
        let control = Control::start(pki(&authority, &["control.example"])).await;
        assert!(!is_accepted(&control, refused, accepted).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_major_version_of_the_protocol_is_refused() {
    let certificate = shared_certificate();
    let folders = [(); 2].map(|()| TempDir::new("stream"));
    let control = Control::start(shared(&certificate)).await;
    let start = |at: usize| Start::new(at as u128, &folders[at], shared(&certificate));
    let older = Start { protocol: ProtocolVersion { major: 0, minor: 9 }, ..start(0) };
    assert!(!is_accepted(&control, older, start(1)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_joins_by_a_token() {
    let domain: TrustDomain = "mesh.example".parse().unwrap();
    let request = CaRequest {
        domain: domain.clone(),
        lifetime: Duration::from_secs(86_400),
        backdate: Duration::from_secs(60),
        path_length: 0,
    };
    let ca = Ca::new_root(&request, &*clock(), &mut SystemRng).unwrap();
    let id = "spiffe://mesh.example/control-plane".parse().unwrap();
    let leaf = LeafRequest {
        id: &id,
        dns_names: &["control.example"],
        lifetime: Duration::from_secs(3_600),
        backdate: Duration::from_secs(60),
    };
    let svid = ca.issue(&leaf, &*clock(), &mut SystemRng).unwrap();
    let own = NodeIdentity::new(svid.chain().to_vec(), svid.key().clone());
    let authorities = ca.chain_pem();
    let control_tls = StreamTls::pki(Some(own), &authorities).unwrap();
    let key = SecretKey::new([3; 32]);
    let authority = JoinAuthority { ca, key: key.clone(), lifetime: Duration::from_secs(3_600), clock: clock() };
    let control = Control::start_at(([127, 0, 0, 1], 0).into(), control_tls, Some(Arc::new(authority))).await;
    control.publish(&["a"], "s", 1);

    let to = ControlPlane {
        host: "127.0.0.1".to_owned(),
        port: control.address.port(),
        server_name: Some("control.example".to_owned()),
    };
    let without = StreamTls::pki(None, &authorities).unwrap();
    let attempt = async |token: JoinToken| join(&to, &without, &token, Id::from_u128(1), &*clock()).await;
    let expired = JoinToken::issue(&key, Duration::ZERO, &*clock());
    let foreign = JoinToken::issue(&SecretKey::new([4; 32]), Duration::from_secs(60), &*clock());
    for (token, why) in [
        (expired, TokenError::Expired),
        (foreign, TokenError::Invalid),
        (JoinToken::of_text("cardinal-join-1.AAAA.AAAA"), TokenError::Invalid),
        (JoinToken::of_text("x"), TokenError::Invalid),
    ] {
        let error = attempt(token).await.unwrap_err();
        assert!(matches!(&error, JoinError::Refused(message) if *message == why.to_string()), "{error}");
    }
    let joined = attempt(JoinToken::issue(&key, Duration::from_secs(60), &*clock())).await.unwrap();
    let folder = TempDir::new("stream");
    let tls = StreamTls::pki(Some(joined.identity()), &authorities).unwrap();
    let start = Start { server_name: Some("control.example"), ..Start::new(1, &folder, tls) };
    let plane = start.data(&[control.address]);
    plane.serves(&["a"], "s").await;
    // The token is not enough to get a configuration.
    let folder = TempDir::new("stream");
    let start = Start { server_name: Some("control.example"), ..Start::new(2, &folder, without) };
    let refused = start.data(&[control.address]);
    let before = control.server.refused();
    until("a refusal", || control.server.refused() > before || refused.generations() > 0).await.unwrap();
    control.publish(&["b"], "s", 2);
    plane.serves(&["b"], "s").await;
    assert_eq!((refused.generations(), control.proxy(2).is_none()), (0, true));
}
