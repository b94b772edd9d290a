//! Measures the cost of a mutual TLS handshake: by an identity policy, by the verifiers of rustls, and resumed by a
//! ticket. Both sides run on one thread over in-memory connections, so the time is the CPU time of both.
//!
//! `cargo run --profile profiling -p cardinal-net --example handshakes -- 2000`: the number of handshakes of each kind.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "an example measures and prints")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cardinal_base::{Id, SystemClock, SystemRng};
use cardinal_net::identity::{IdentityPolicy, IdentityStore, PeerRule};
use cardinal_net::tls;
use cardinal_pki::{Ca, CaRequest, LeafRequest, SpiffeId, TrustDomain, X509Svid};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const OWN: Id = Id::from_u128(1);

async fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Outcome<Option<HandshakeKind>> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (connector, acceptor) = (TlsConnector::from(Arc::clone(client)), TlsAcceptor::from(Arc::clone(server)));
    let served = async {
        let mut stream = acceptor.accept(far).await?;
        stream.write_all(b"x").await
    };
    let name = ServerName::try_from("a.test")?;
    let asked = async {
        let mut stream = connector.connect(name, near).await?;
        // Tickets arrive before the byte.
        stream.read_u8().await?;
        Ok::<_, std::io::Error>(stream.get_ref().1.handshake_kind())
    };
    Ok(tokio::try_join!(asked, served)?.0)
}

async fn measure(what: &str, count: u32, client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Outcome<()> {
    for _ in 0..count / 10 + 2 {
        handshake(&client, &server).await?;
    }
    let start = Instant::now();
    let mut last = None;
    for _ in 0..count {
        last = handshake(&client, &server).await?;
    }
    println!("{what:34} {:6.0} us  ({last:?})", start.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    Ok(())
}

/// Both sides with the verifiers of rustls, which check names and do not support SPIFFE IDs.
fn plain(ca: &Ca, svid: &X509Svid, resumes: bool) -> Outcome<(Arc<ClientConfig>, Arc<ServerConfig>)> {
    let provider = tls::provider(&[]).0;
    let mut roots = RootCertStore::empty();
    roots.add(ca.root().cloned().ok_or("no root")?)?;
    let roots = Arc::new(roots);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build()?;
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(svid.chain().to_vec(), svid.key().der().clone_key())?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(svid.chain().to_vec(), svid.key().der().clone_key())?;
    if resumes {
        server.ticketer = tls::ticketer()?;
        server.send_tls13_tickets = 1;
    } else {
        server.send_tls13_tickets = 0;
        client.resumption = Resumption::disabled();
    }
    Ok((Arc::new(client), Arc::new(server)))
}

async fn run(count: u32) -> Outcome<()> {
    let clock = Arc::new(SystemClock::new());
    let domain = TrustDomain::parse("east.test")?;
    let (lifetime, backdate) = (Duration::from_secs(3_600), Duration::from_secs(60));
    let request = CaRequest { domain: domain.clone(), lifetime, backdate, path_length: 0 };
    let ca = Ca::new_root(&request, &*clock, &mut SystemRng)?;
    let id = SpiffeId::new(&domain, "/ns/shop/sa/cart")?;
    let request = LeafRequest { id: &id, dns_names: &["a.test"], lifetime, backdate };
    let svid = ca.issue(&request, &*clock, &mut SystemRng)?;

    let store = IdentityStore::new(clock.clone());
    store.set_identity(OWN, &svid)?;
    store.set_bundle(ca.bundle()?);
    let policy = IdentityPolicy::new(OWN, [PeerRule::Exact(id.clone())]);
    let (client, server) = (store.client(&policy)?, store.server(&policy)?);
    for _ in 0..2 {
        measure("identity policy", count, Arc::clone(client.config()), Arc::clone(server.config())).await?;
        let (client, server) = plain(&ca, &svid, false)?;
        measure("rustls, full", count, client, server).await?;
        let (client, server) = plain(&ca, &svid, true)?;
        measure("rustls, resumed", count, client, server).await?;
    }
    let start = Instant::now();
    for _ in 0..count {
        ca.issue(&request, &*clock, &mut SystemRng)?;
    }
    println!("{:34} {:6.0} us", "issue a leaf with a new key", start.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    Ok(())
}

fn main() -> Outcome<()> {
    let count = std::env::args().nth(1).map_or(Ok(2_000), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(count))
}
