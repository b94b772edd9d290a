//! [`Cluster`]: what the control planes of one store share, so that data planes can move from one to another: the authority of
//! their certificates and the keys of join tokens and of references to secrets. It is in the store, encrypted as other secrets
//! are, and no entity: neither lists, exports nor rollbacks have it.

use std::sync::Arc;
use std::time::Duration;

use cardinal_base::{Clock, SystemRng};
use cardinal_ir::{Id, SecretKey};
use cardinal_pki::{Ca, CaError, CaRequest, LeafRequest, TrustDomain};
use cardinal_store::{Author, Batch, CommitError, Expect, Key, NewDocument, Store, StoreError, Write};
use cardinal_stream::{JoinAuthority, JoinToken, NodeIdentity, StreamTls, StreamTlsError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The kind of the document, of which there is one.
pub(crate) const KIND: &str = "cluster";
const ID: &str = "authority";

/// The name in the certificates of control planes with this authority, which data planes look for: whatever address leads to a
/// control plane need not be known when its certificate is made.
pub const CONTROL_PLANE_NAME: &str = "control-plane.cardinal.internal";

/// Ten years. A control plane has the key of the authority, so shorter times would not make its own certificate safer.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// For how long certificates of data planes are valid. They are renewed after two thirds of it at the latest.
const DATA_PLANE_LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// Certificates are valid from so long ago, for clocks that differ.
const BACKDATE: Duration = Duration::from_secs(300);

/// What the control planes of one store share.
#[derive(Debug)]
pub struct Cluster {
    id: Id,
    ca: Ca,
    token_key: SecretKey,
    reference_key: String,
    saved: SavedCluster,
}

/// What control planes share in a form that can be saved beside the store, for a start without it. It has private keys.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SavedCluster(Value);

/// Without the keys.
impl std::fmt::Debug for SavedCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SavedCluster").finish_non_exhaustive()
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It refuses the document.
    #[error("the authority for data planes cannot be stored: {0}")]
    Commit(String),
    /// The authority cannot be made or read.
    #[error("the authority for data planes cannot be used: {0}")]
    Authority(#[from] CaError),
    /// The certificate of a control plane cannot be used.
    #[error(transparent)]
    Tls(#[from] StreamTlsError),
    /// The document is damaged.
    #[error("the document {KIND}/{ID} of the store is damaged: {0}")]
    Damaged(&'static str),
}

impl Cluster {
    /// Reads what is in the store. What is not there yet is made; of several control planes that do so at once, one wins.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn open(store: &dyn Store, clock: &dyn Clock) -> Result<Self, ClusterError> {
        let key = Key::new(KIND, ID);
        if let Some(found) = store.get(key.clone()).await? {
            return Self::read(found.value);
        }
        let author = Author { via: "cluster".into(), ..Author::default() };
        let write = Write::Put(Box::new(generate(clock)?), Expect::Absent);
        match store.commit(Batch { author, writes: vec![write], revision: None }).await {
            Ok(_) | Err(CommitError::Violation { .. }) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
            Err(error) => return Err(ClusterError::Commit(error.to_string())),
        }
        let found = store.get(key).await?;
        Self::read(found.ok_or(ClusterError::Damaged("it was deleted"))?.value)
    }

    /// What was saved of a store.
    ///
    /// # Errors
    /// It is damaged.
    pub fn of_saved(saved: SavedCluster) -> Result<Self, ClusterError> {
        Self::read(saved.0)
    }

    /// In a form that can be saved.
    pub fn saved(&self) -> SavedCluster {
        self.saved.clone()
    }

    fn read(value: Value) -> Result<Self, ClusterError> {
        let text = |name: &'static str| value.get(name).and_then(Value::as_str).ok_or(ClusterError::Damaged(name));
        let domain = text("trust_domain")?.parse().map_err(|_| ClusterError::Damaged("trust_domain"))?;
        Ok(Self {
            id: text("id")?.parse().map_err(|_| ClusterError::Damaged("id"))?,
            ca: Ca::from_pem(domain, text("certificates")?, text("key")?)?,
            token_key: SecretKey::of_text(text("token_key")?),
            reference_key: text("reference_key")?.to_owned(),
            saved: SavedCluster(value.clone()),
        })
    }

    /// Names the store: revisions of one store count in it.
    pub fn id(&self) -> Id {
        self.id
    }

    /// What references to secrets are derived with, where no setting says. It is the same on all control planes: a data plane
    /// that moves to another one is not sent all records that have secrets.
    pub fn reference_key(&self) -> SecretKey {
        SecretKey::of_text(&self.reference_key)
    }

    /// When the authority expires.
    pub fn expires_at(&self) -> cardinal_base::UnixMillis {
        self.ca.not_after()
    }

    /// The certificate of a control plane.
    ///
    /// # Errors
    /// The authority has expired.
    pub fn control_plane(&self, clock: &dyn Clock) -> Result<StreamTls, ClusterError> {
        let id = format!("spiffe://{}/control-plane", self.ca.domain().as_str());
        let id = id.parse().map_err(|_| ClusterError::Damaged("trust_domain"))?;
        let names = &[CONTROL_PLANE_NAME];
        let leaf = LeafRequest { id: &id, dns_names: names, lifetime: AUTHORITY_LIFETIME, backdate: BACKDATE };
        let svid = self.ca.issue(&leaf, clock, &mut SystemRng)?;
        // With the root, which data planes that join know by its digest.
        let chain = svid.chain().iter().chain(self.ca.root()).cloned().collect();
        Ok(StreamTls::pki(Some(NodeIdentity::new(chain, svid.key().clone())), &self.ca.chain_pem())?)
    }

    /// Makes a token by which data planes can join for so long.
    pub fn token(&self, lifetime: Duration, clock: &dyn Clock) -> Option<JoinToken> {
        let authority = self.ca.root().or(self.ca.certificate())?;
        Some(JoinToken::issue(&self.token_key, authority, lifetime, clock))
    }

    /// What admits data planes.
    pub fn joining(self, clock: Arc<dyn Clock>) -> JoinAuthority {
        JoinAuthority { ca: self.ca, key: self.token_key, lifetime: DATA_PLANE_LIFETIME, clock }
    }
}

fn generate(clock: &dyn Clock) -> Result<NewDocument, ClusterError> {
    let random = || format!("{}{}", cardinal_base::random_id().simple(), cardinal_base::random_id().simple());
    let id = cardinal_base::random_id();
    let domain: TrustDomain =
        format!("{}.cardinal.internal", id.simple()).parse().map_err(|_| ClusterError::Damaged("trust_domain"))?;
    let request = CaRequest { domain, lifetime: AUTHORITY_LIFETIME, backdate: BACKDATE, path_length: 0 };
    let ca = Ca::new_root(&request, clock, &mut SystemRng)?;
    Ok(NewDocument {
        key: Key::new(KIND, ID),
        space: "".into(),
        value: json!({
            "id": id.to_string(),
            "trust_domain": ca.domain().as_str(),
            "certificates": ca.chain_pem(),
            "key": ca.key().to_pem().as_str(),
            "token_key": random(),
            "reference_key": random(),
        }),
        uniques: Vec::new(),
        references: Vec::new(),
        tags: Vec::new(),
        secrets: ["/key", "/token_key", "/reference_key"].map(Into::into).to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use cardinal_base::SystemClock;
    use cardinal_store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn control_planes_of_one_store_share_it() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let store = MemoryStore::new(Arc::clone(&clock));
        let (one, other) = tokio::join!(Cluster::open(&store, &*clock), Cluster::open(&store, &*clock));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!((one.id(), one.reference_key()), (other.id(), other.reference_key()));
        let token = one.token(Duration::from_secs(60), &*clock).unwrap();
        let joining = other.joining(Arc::clone(&clock));
        assert_eq!(token.verify(&joining.key, &*clock), Ok(()));
        one.control_plane(&*clock).unwrap().server(true).unwrap();
        let saved = Cluster::of_saved(one.saved()).unwrap();
        assert_eq!((saved.id(), saved.reference_key()), (one.id(), one.reference_key()));
        assert_eq!(format!("{:?}", one.saved()), "SavedCluster { .. }");
        let another = MemoryStore::new(Arc::clone(&clock));
        assert_ne!(Cluster::open(&another, &*clock).await.unwrap().id(), one.id());
    }
}
