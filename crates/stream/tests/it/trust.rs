//! Certificates that are accepted, and those that are not.

use cardinal_stream::StreamTls;
use cardinal_sync::stream::ProtocolVersion;
use cardinal_testkit::{Authority, TempDir, until};

use crate::site::{Control, Start, pki, shared, shared_certificate};

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
