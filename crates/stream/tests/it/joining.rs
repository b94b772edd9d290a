//! Data planes that get their certificates from the control plane.

use std::sync::Arc;
use std::time::Duration;

use cardinal_base::{Clock as _, Id, ManualClock, SystemRng};
use cardinal_ir::SecretKey;
use cardinal_pki::{Ca, CaRequest, LeafRequest};
use cardinal_stream::{Credentials, IDENTITY_FILE, JoinAuthority, JoinError, JoinToken, NodeIdentity, StreamTls};
use cardinal_testkit::{TempDir, until, unverified_client, while_time_passes};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::site::{Control, Data, Start, clock};

const MINUTE: Duration = Duration::from_secs(60);

/// An authority, and what is needed of it.
struct Site {
    ca: Ca,
    key: SecretKey,
}

impl Site {
    fn new() -> Self {
        let request = CaRequest {
            domain: "mesh.example".parse().unwrap(),
            lifetime: Duration::from_secs(86_400),
            backdate: MINUTE,
            path_length: 0,
        };
        Self { ca: Ca::new_root(&request, &*clock(), &mut SystemRng).unwrap(), key: SecretKey::new([3; 32]) }
    }

    fn token(&self) -> JoinToken {
        self.token_for(MINUTE)
    }

    fn token_for(&self, lifetime: Duration) -> JoinToken {
        JoinToken::issue(&self.key, self.ca.root().unwrap(), lifetime, &*clock())
    }

    fn tls(&self) -> StreamTls {
        let id = "spiffe://mesh.example/control-plane".parse().unwrap();
        let names = &["control.example"];
        let leaf = LeafRequest { id: &id, dns_names: names, lifetime: 60 * MINUTE, backdate: MINUTE };
        let svid = self.ca.issue(&leaf, &*clock(), &mut SystemRng).unwrap();
        // With the root, which data planes that join know by its digest.
        let chain = svid.chain().iter().chain(self.ca.root()).cloned().collect();
        let own = NodeIdentity::new(chain, svid.key().clone());
        StreamTls::pki(Some(own), &self.ca.chain_pem()).unwrap()
    }

    async fn control(&self, certificates_for: Duration) -> Control {
        let ca = Ca::from_pem(self.ca.domain().clone(), &self.ca.chain_pem(), &self.ca.key().to_pem()).unwrap();
        let authority = JoinAuthority { ca, key: self.key.clone(), lifetime: certificates_for, clock: clock() };
        Control::start_at(([127, 0, 0, 1], 0).into(), self.tls(), Some(Arc::new(authority))).await
    }
}

fn plane(number: u128, folder: &TempDir, token: Option<JoinToken>, control: &Control) -> Result<Data, JoinError> {
    let credentials = Credentials::joining(folder.path(), token, Id::from_u128(number), &*clock())?;
    let start = Start { server_name: Some("control.example"), ..Start::with(number, folder, credentials) };
    Ok(start.data(&[control.address]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_joins_by_a_token_once() {
    let (site, folder) = (Site::new(), TempDir::new("stream"));
    let control = site.control(60 * MINUTE).await;
    control.publish(&["a"], "s", 1);
    let joined = plane(1, &folder, Some(site.token()), &control).unwrap();
    joined.serves(&["a"], "s").await;
    joined.stop().await;
    // The certificate is enough from then on.
    let again = plane(1, &folder, None, &control).unwrap();
    control.publish(&["b"], "s", 2);
    again.serves(&["b"], "s").await;
    assert_eq!(control.server.refused(), 0);
    // Only this user may read the key.
    let mode = std::os::unix::fs::MetadataExt::mode(&folder.path().join(IDENTITY_FILE).metadata().unwrap());
    assert_eq!(mode & 0o777, 0o600);
    // It belongs to this node.
    let other = TempDir::new("stream");
    let error = plane(2, &other, None, &control).err().unwrap();
    assert!(matches!(error, JoinError::NoToken(_)), "{error}");
    other.write(IDENTITY_FILE, "{}");
    assert!(plane(2, &other, None, &control).is_err(), "a damaged file is no certificate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_not_valid_are_refused() {
    let (site, other) = (Site::new(), Site::new());
    let control = site.control(60 * MINUTE).await;
    control.publish(&["a"], "s", 1);
    let foreign = JoinToken::issue(&SecretKey::new([4; 32]), site.ca.root().unwrap(), MINUTE, &*clock());
    for token in [site.token_for(Duration::ZERO), foreign] {
        let (folder, before) = (TempDir::new("stream"), control.server.refused());
        let refused = plane(1, &folder, Some(token), &control).unwrap();
        until("a refusal", || control.server.refused() > before).await.unwrap();
        assert_eq!(refused.generations(), 0);
        refused.stop().await;
        assert!(!folder.path().join(IDENTITY_FILE).exists());
    }
    // The token of another authority: this control plane is none of its own.
    let (folder, before) = (TempDir::new("stream"), control.server.refused());
    let stranger = plane(1, &folder, Some(other.token()), &control).unwrap();
    until("a failed handshake", || control.server.refused() > before).await.unwrap();
    assert_eq!(stranger.generations(), 0);
    stranger.stop().await;
    for text in ["x", "cardinal-join-1.AAAA.AAAA", "cardinal-join-1.AAAA.AAAA.AAAA", "cardinal-join-1.a.b.c.d"] {
        assert!(plane(1, &folder, Some(JoinToken::of_text(text)), &control).is_err(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_before_they_expire() {
    let (site, folder) = (Site::new(), TempDir::new("stream"));
    // They are valid from 5 minutes ago for so long from now on, which a data plane uses up to two thirds.
    let control = site.control(Duration::from_secs(3)).await;
    control.publish(&["a"], "s", 1);
    let data = plane(1, &folder, Some(site.token()), &control).unwrap();
    data.serves(&["a"], "s").await;
    let first = folder.read(IDENTITY_FILE);
    until("another certificate", || folder.read(IDENTITY_FILE) != first).await.unwrap();
    control.publish(&["b"], "s", 2);
    data.serves(&["b"], "s").await;
    assert_eq!(control.server.refused(), 0, "no token was needed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_gives_no_configuration() {
    let (site, folder) = (Site::new(), TempDir::new("stream"));
    let control = site.control(60 * MINUTE).await;
    control.publish(&["a"], "s", 1);
    let without = Credentials::given(&StreamTls::pki(None, &site.ca.chain_pem()).unwrap()).unwrap();
    let start = Start { server_name: Some("control.example"), ..Start::with(2, &folder, without) };
    let refused = start.data(&[control.address]);
    until("a refusal", || control.server.refused() > 0 || refused.generations() > 0).await.unwrap();
    assert_eq!((refused.generations(), control.proxy(2).is_none()), (0, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_id_of_a_data_plane_is_that_of_its_certificate() {
    let (site, folder) = (Site::new(), TempDir::new("stream"));
    let control = site.control(60 * MINUTE).await;
    control.publish(&["a"], "s", 1);
    let data = plane(1, &folder, Some(site.token()), &control).unwrap();
    data.serves(&["a"], "s").await;
    data.stop().await;
    // The certificate of one data plane, and the id of another one.
    let credentials = Credentials::joining(folder.path(), None, Id::from_u128(1), &*clock()).unwrap();
    let start = Start { server_name: Some("control.example"), ..Start::with(2, &folder, credentials) };
    let other = start.data(&[control.address]);
    until("a refusal", || control.server.refused() > 0).await.unwrap();
    assert!(control.proxy(2).is_none());
    other.stop().await;
}

/// Without a certificate nothing but joining is possible, which is soon done.
#[tokio::test]
async fn a_connection_without_a_certificate_ends_soon() {
    let site = Site::new();
    let ca = Ca::from_pem(site.ca.domain().clone(), &site.ca.chain_pem(), &site.ca.key().to_pem()).unwrap();
    let authority = JoinAuthority { ca, key: site.key.clone(), lifetime: MINUTE, clock: clock() };
    let time = Arc::new(ManualClock::default());
    let any = ([127, 0, 0, 1], 0).into();
    let control = Control::start_with(any, site.tls(), Some(Arc::new(authority)), time.clone()).await;
    let tcp = TcpStream::connect(control.address).await.unwrap();
    let connector = TlsConnector::from(unverified_client(None));
    let mut tls = connector.connect("control.example".try_into().unwrap(), tcp).await.unwrap();
    let mut settings = [0; 9];
    tls.read_exact(&mut settings).await.unwrap();
    let ends = async {
        let mut rest = Vec::new();
        // It may end without a close_notify.
        tls.read_to_end(&mut rest).await.ok();
    };
    while_time_passes("the end of the connection", &time, Duration::from_secs(1), ends).await.unwrap();
    assert!(time.tick().millis() >= 10_000);
}
