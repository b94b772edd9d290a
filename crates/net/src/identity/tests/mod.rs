//! Two nodes with a store each, as in a mesh, with in-memory connections and a manual clock.

mod handshakes;
mod rotation;

use std::sync::Arc;
use std::time::Duration;

use cardinal_base::{Clock as _, Id, ManualClock, SeededRng, UnixMillis};
use cardinal_pki::{Ca, CaRequest, LeafRequest, SpiffeId, TrustDomain, X509Svid};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const START: UnixMillis = UnixMillis(1_900_000_000_000);

/// The key of the only own identity of each node.
const OWN: Id = Id::from_u128(1);

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

fn root(clock: &ManualClock, name: &str, lifetime: u64, seed: u64) -> Ca {
    let request = CaRequest {
        domain: domain(name),
        lifetime: Duration::from_secs(lifetime),
        backdate: Duration::ZERO,
        path_length: 0,
    };
    Ca::new_root(&request, clock, &mut SeededRng::new(seed)).unwrap()
}

fn leaf(clock: &ManualClock, ca: &Ca, id: &SpiffeId, lifetime: u64) -> X509Svid {
    let lifetime = Duration::from_secs(lifetime);
    let request = LeafRequest { id, dns_names: &[], lifetime, backdate: Duration::ZERO };
    ca.issue(&request, clock, &mut SeededRng::new(clock.unix().0)).unwrap()
}

/// A node: its store, for the listener and the client.
struct Node {
    store: Arc<IdentityStore>,
    id: SpiffeId,
}

impl Node {
    /// A node with this identity and a leaf valid for an hour, which trusts the authority.
    fn new(clock: &Arc<ManualClock>, ca: &Ca, id: &SpiffeId) -> Self {
        let store = IdentityStore::new(Arc::clone(clock) as Arc<_>);
        store.set_identity(OWN, &leaf(clock, ca, id, 3_600)).unwrap();
        store.set_bundle(ca.bundle().unwrap());
        Self { store, id: id.clone() }
    }

    fn server(&self, peers: &[PeerRule]) -> Arc<IdentityServer> {
        self.store.server(&IdentityPolicy::new(OWN, peers.to_vec())).unwrap()
    }

    fn client(&self, peers: &[PeerRule]) -> Arc<IdentityClient> {
        self.store.client(&IdentityPolicy::new(OWN, peers.to_vec())).unwrap()
    }
}

/// The result on both sides: the peer identity, or the handshake error.
#[derive(Debug)]
struct Meeting {
    client_saw: Result<SpiffeId, String>,
    server_saw: Result<SpiffeId, String>,
    kinds: Vec<HandshakeKind>,
}

impl Meeting {
    /// Both sides accepted each other in a full handshake.
    fn is_success(&self) -> bool {
        self.client_saw.is_ok() && self.server_saw.is_ok() && self.kinds == [HandshakeKind::Full; 2]
    }
}

/// A handshake with an unused server name, and a byte in each direction.
async fn meet(client: &IdentityClient, server: &IdentityServer) -> Meeting {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let served = async {
        let mut found = server.accept(far).await.map_err(|error| error.to_string())?;
        found.stream.write_all(b"s").await.map_err(|error| error.to_string())?;
        found.stream.read_u8().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((found.peer, found.stream.get_ref().1.handshake_kind()))
    };
    let asked = async {
        let name = ServerName::try_from("unrelated.test").unwrap();
        let mut found = client.connect(name, near).await.map_err(|error| error.to_string())?;
        // Tickets would arrive before it. A rejection by the server is returned here.
        let read = found.stream.read_u8().await.map_err(|error| AcceptError(error).to_string());
        read?;
        found.stream.write_all(b"c").await.map_err(|error| error.to_string())?;
        Ok::<_, String>((found.peer, found.stream.get_ref().1.handshake_kind()))
    };
    let (server_side, client_side) = tokio::join!(served, asked);
    let kinds = [&server_side, &client_side].into_iter().flatten().filter_map(|(_, kind)| *kind).collect();
    Meeting { client_saw: client_side.map(|(id, _)| id), server_saw: server_side.map(|(id, _)| id), kinds }
}
