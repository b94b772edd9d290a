//! Rotates certificates in real time under load: leaves every 2 seconds and roots every 10, with overlap, for a minute.
//! Handshakes are performed over loopback without a pause. Prints the numbers of handshakes and failures, and the
//! resident memory.
//!
//! `cargo run --profile profiling -p cardinal-net --example rotation -- 60`: the duration in seconds.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "an example measures and prints")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cardinal_base::{Clock, Id, SystemClock, SystemRng};
use cardinal_net::identity::{IdentityClient, IdentityPolicy, IdentityServer, IdentityStore, PeerRule};
use cardinal_pki::{Ca, CaRequest, LeafRequest, SpiffeId, TrustBundle, TrustDomain};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const OWN: Id = Id::from_u128(1);
const LEAF_SECONDS: u64 = 2;
const ROOT_SECONDS: u64 = 10;
const LEAF_LIFETIME: u64 = 3 * LEAF_SECONDS;
const BACKDATE: Duration = Duration::from_secs(1);
const CLIENTS: usize = 4;

struct Mesh {
    clock: Arc<SystemClock>,
    domain: TrustDomain,
    ca: Ca,
    next: Option<Ca>,
    retired: Option<(Ca, u64)>,
    bundle: TrustBundle,
    nodes: [(Arc<IdentityStore>, SpiffeId); 2],
}

fn root(domain: &TrustDomain, clock: &dyn Clock) -> Outcome<Ca> {
    let lifetime = Duration::from_secs(3_600);
    let request = CaRequest { domain: domain.clone(), lifetime, backdate: BACKDATE, path_length: 0 };
    Ok(Ca::new_root(&request, clock, &mut SystemRng)?)
}

impl Mesh {
    fn new() -> Outcome<Self> {
        let clock = Arc::new(SystemClock::new());
        let domain = TrustDomain::parse("east.test")?;
        let ca = root(&domain, &*clock)?;
        let node = |path| {
            Ok::<_, Box<dyn Error + Send + Sync>>((IdentityStore::new(clock.clone()), SpiffeId::new(&domain, path)?))
        };
        let nodes = [node("/ns/shop/sa/cart")?, node("/ns/bank/sa/ledger")?];
        let bundle = ca.bundle()?;
        Ok(Self { clock, domain, ca, next: None, retired: None, bundle, nodes })
    }

    /// The steps of the control plane in this second: a new root is published, then issues certificates; the old one is
    /// withdrawn when the last leaf that it issued has expired.
    fn step(&mut self, second: u64) -> Outcome<()> {
        if second % ROOT_SECONDS == ROOT_SECONDS - LEAF_SECONDS {
            let next = root(&self.domain, &*self.clock)?;
            self.bundle = self.bundle.with_authority(next.root().cloned().ok_or("no root")?)?;
            self.next = Some(next);
        }
        if second.is_multiple_of(ROOT_SECONDS)
            && let Some(next) = self.next.take()
        {
            self.retired = Some((std::mem::replace(&mut self.ca, next), second + LEAF_LIFETIME));
        }
        if let Some((old, _)) = self.retired.take_if(|(_, until)| second >= *until) {
            self.bundle = self.bundle.without_authority(old.root().ok_or("no root")?);
        }
        for (at, (store, id)) in self.nodes.iter().enumerate() {
            let renews = second == 0 || (second + at as u64).is_multiple_of(LEAF_SECONDS);
            let lifetime = Duration::from_secs(LEAF_LIFETIME);
            let request = LeafRequest { id, dns_names: &[], lifetime, backdate: BACKDATE };
            let leaf = renews.then(|| self.ca.issue(&request, &*self.clock, &mut SystemRng)).transpose()?;
            store.update(|update| {
                update.set_bundle(self.bundle.clone());
                leaf.iter().try_for_each(|leaf| update.set_identity(OWN, leaf))
            })?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Figures {
    handshakes: AtomicU64,
    failures: AtomicU64,
    is_over: AtomicBool,
}

async fn serve(listener: TcpListener, server: Arc<IdentityServer>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let server = Arc::clone(&server);
        drop(cardinal_base::task::spawn("connection", async move {
            // The client counts failures.
            tcp.set_nodelay(true).ok();
            let Ok(mut found) = server.accept(tcp).await else { return };
            let mut byte = [0; 1];
            while found.stream.read_exact(&mut byte).await.is_ok() && found.stream.write_all(&byte).await.is_ok() {}
        }));
    }
}

async fn ask(address: std::net::SocketAddr, client: &IdentityClient) -> Outcome<()> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let mut found = client.connect(ServerName::try_from("a.test")?, tcp).await?;
    found.stream.write_all(b"x").await?;
    found.stream.read_u8().await?;
    Ok(())
}

async fn load(address: std::net::SocketAddr, client: Arc<IdentityClient>, figures: Arc<Figures>) {
    while !figures.is_over.load(Ordering::Relaxed) {
        figures.handshakes.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = ask(address, &client).await {
            figures.failures.fetch_add(1, Ordering::Relaxed);
            println!("a handshake failed: {error}");
        }
    }
}

/// A value in `/proc/self/status`, in KiB.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

async fn run(seconds: u64) -> Outcome<()> {
    let mut mesh = Mesh::new()?;
    mesh.step(0)?;
    let [(asking, _), (serving, ledger)] = &mesh.nodes;
    let client = asking.client(&IdentityPolicy::new(OWN, [PeerRule::Exact(ledger.clone())]))?;
    let server = serving.server(&IdentityPolicy::new(OWN, [PeerRule::any_of(&mesh.domain)]))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    drop(cardinal_base::task::spawn("listener", serve(listener, Arc::clone(&server))));

    // A long-lived connection, as in a pool.
    let mut pooled = client.connect(ServerName::try_from("a.test")?, TcpStream::connect(address).await?).await?;
    let figures = Arc::new(Figures::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| cardinal_base::task::spawn("client", load(address, Arc::clone(&client), Arc::clone(&figures))))
        .collect();
    let start = Instant::now();
    println!("second  handshakes  failures  RSS KiB  roots");
    for second in 1..=seconds {
        tokio::time::sleep_until((start + Duration::from_secs(second)).into()).await;
        mesh.step(second)?;
        pooled.stream.write_all(b"x").await?;
        pooled.stream.read_u8().await?;
        if second % ROOT_SECONDS == 0 {
            let (count, failed) =
                (figures.handshakes.load(Ordering::Relaxed), figures.failures.load(Ordering::Relaxed));
            let roots = mesh.bundle.certificates().len();
            println!("{second:6}  {count:10}  {failed:8}  {:7}  {roots:5}", status("VmRSS:"));
        }
    }
    figures.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await?;
    }
    let same = Arc::ptr_eq(&client, &mesh.nodes[0].0.client(client.policy())?)
        && Arc::ptr_eq(&server, &mesh.nodes[1].0.server(server.policy())?);
    println!("peak RSS {} KiB; configurations are the same objects: {same}", status("VmHWM:"));
    Ok(())
}

fn main() -> Outcome<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(60), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(seconds))
}
