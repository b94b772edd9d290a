//! [`IdentityStore`]: certificates and trust bundles that TLS configurations refer to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use cardinal_base::{Clock, Id, UnixMillis};
use cardinal_pki::{SpiffeId, TrustBundle, TrustBundles, TrustDomain, X509Svid};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;

use super::session::{self, IdentityClient, IdentityServer};
use super::{IdentityPolicy, PeerError};
use crate::tls::{self, TlsError};

/// Why an identity is rejected.
#[derive(Debug, thiserror::Error)]
#[error("the key of {id} cannot be used for TLS: {reason}")]
pub struct IdentityError {
    id: SpiffeId,
    reason: String,
}

/// A snapshot of the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    identities: HashMap<Id, Arc<Identity>>,
    pub(super) bundles: TrustBundles,
}

/// An identity for use in handshakes.
#[derive(Debug)]
struct Identity {
    id: SpiffeId,
    not_before: UnixMillis,
    not_after: UnixMillis,
    certified: Arc<CertifiedKey>,
}

/// An identity of the store, for status pages and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityStatus {
    /// The key of the identity in the store.
    pub key: Id,
    /// The SPIFFE ID of its certificate.
    pub id: SpiffeId,
    /// Start of the validity of the certificate.
    pub not_before: UnixMillis,
    /// End of the validity of the certificate.
    pub not_after: UnixMillis,
}

/// A live handle on identities and trust bundles. Readers take no lock; a change is visible to all handshakes that read
/// the store afterwards. Handshakes in progress use the state they have read.
#[derive(Debug)]
pub struct IdentityStore {
    held: ArcSwap<Held>,
    /// Serializes changes.
    writing: Mutex<()>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) provider: Arc<CryptoProvider>,
    servers: Mutex<HashMap<IdentityPolicy, Weak<IdentityServer>>>,
    clients: Mutex<HashMap<IdentityPolicy, Weak<IdentityClient>>>,
}

/// A change of several entries that becomes visible atomically.
#[derive(Debug)]
pub struct IdentityUpdate<'a> {
    held: Held,
    provider: &'a CryptoProvider,
}

impl IdentityUpdate<'_> {
    /// Sets an identity, replacing its previous certificate.
    ///
    /// # Errors
    /// If TLS cannot sign with its key.
    pub fn set_identity(&mut self, key: Id, svid: &X509Svid) -> Result<(), IdentityError> {
        let signer = self.provider.key_provider.load_private_key(svid.key().der().clone_key());
        let signer =
            signer.map_err(|error| IdentityError { id: svid.id().clone(), reason: tls::text(&error).into_owned() })?;
        let identity = Identity {
            id: svid.id().clone(),
            not_before: svid.not_before(),
            not_after: svid.not_after(),
            certified: Arc::new(CertifiedKey::new(svid.chain().to_vec(), signer)),
        };
        self.held.identities.insert(key, Arc::new(identity));
        Ok(())
    }

    /// Removes an identity. Handshakes with it fail from then on, on both sides.
    pub fn remove_identity(&mut self, key: Id) {
        self.held.identities.remove(&key);
    }

    /// Sets the bundle of a trust domain, replacing the previous one.
    pub fn set_bundle(&mut self, bundle: TrustBundle) {
        self.held.bundles.insert(bundle);
    }

    /// Removes the bundle of a trust domain. Its peers are rejected from then on.
    pub fn remove_bundle(&mut self, domain: &TrustDomain) {
        self.held.bundles.remove(domain);
    }
}

impl IdentityStore {
    /// An empty store. The validity of certificates is checked by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            held: ArcSwap::default(),
            writing: Mutex::default(),
            clock,
            provider: tls::provider(&[]).0,
            servers: Mutex::default(),
            clients: Mutex::default(),
        })
    }

    /// Changes the store. The changes made by `change` become visible atomically, or not at all if it fails.
    ///
    /// # Errors
    /// See `change`.
    pub fn update<E>(&self, change: impl FnOnce(&mut IdentityUpdate<'_>) -> Result<(), E>) -> Result<(), E> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut update = IdentityUpdate { held: Held::clone(&self.held.load()), provider: &self.provider };
        change(&mut update)?;
        self.held.store(Arc::new(update.held));
        Ok(())
    }

    /// Sets one identity; see [`IdentityUpdate::set_identity`].
    ///
    /// # Errors
    /// If TLS cannot sign with its key.
    pub fn set_identity(&self, key: Id, svid: &X509Svid) -> Result<(), IdentityError> {
        self.update(|update| update.set_identity(key, svid))
    }

    /// Sets the bundle of a trust domain; see [`IdentityUpdate::set_bundle`].
    pub fn set_bundle(&self, bundle: TrustBundle) {
        let Ok(()) = self.update::<std::convert::Infallible>(|update| {
            update.set_bundle(bundle);
            Ok(())
        });
    }

    /// Whether the store has the own identity of a policy, and a bundle of the peer's trust domain.
    pub(super) fn knows(&self, policy: &IdentityPolicy, peer: &str) -> bool {
        let held = self.held();
        let peer = SpiffeId::parse(peer);
        held.identities.contains_key(&policy.identity())
            && peer.is_ok_and(|peer| held.bundles.of(&peer.trust_domain()).is_some())
    }

    /// The current snapshot.
    pub(super) fn held(&self) -> arc_swap::Guard<Arc<Held>> {
        self.held.load()
    }

    /// The current certificate and key of an identity.
    pub(super) fn certified(&self, key: Id) -> Option<Arc<CertifiedKey>> {
        self.held.load().identities.get(&key).map(|identity| Arc::clone(&identity.certified))
    }

    /// All identities, in no order.
    pub fn identities(&self) -> Vec<IdentityStatus> {
        let held = self.held.load();
        let status = |(key, identity): (&Id, &Arc<Identity>)| IdentityStatus {
            key: *key,
            id: identity.id.clone(),
            not_before: identity.not_before,
            not_after: identity.not_after,
        };
        held.identities.iter().map(status).collect()
    }

    /// All trust bundles, in no order. Copies share their certificates.
    pub fn bundles(&self) -> Vec<TrustBundle> {
        self.held.load().bundles.iter().cloned().collect()
    }

    /// TLS for listeners by a policy. The same object is returned for equal policies as long as one of them is in use.
    ///
    /// If the TLS library rejects the settings, which is not expected.
    /// The TLS library refuses the settings; none is expected.
    pub fn server(self: &Arc<Self>, policy: &IdentityPolicy) -> Result<Arc<IdentityServer>, TlsError> {
        shared(&self.servers, policy, || session::server(self, policy))
    }

    /// TLS with upstreams by a policy. The same object is returned for equal policies as long as one of them is in use.
    ///
    /// If the TLS library rejects the settings, which is not expected.
    /// The TLS library refuses the settings; none is expected.
    pub fn client(self: &Arc<Self>, policy: &IdentityPolicy) -> Result<Arc<IdentityClient>, TlsError> {
        shared(&self.clients, policy, || session::client(self, policy))
    }

    /// Verifies a peer by its chain, leaf first, as a handshake at this moment would: for existing connections when a
    /// bundle or a policy changes.
    ///
    /// If the peer would be rejected now.
    /// The peer would be refused now.
    pub fn verify(
        &self,
        policy: &IdentityPolicy,
        chain: &[rustls::pki_types::CertificateDer<'_>],
        purpose: cardinal_pki::Purpose,
    ) -> Result<SpiffeId, PeerError> {
        self.verify_at(policy, chain, purpose, self.clock.unix())
    }

    pub(super) fn verify_at(
        &self,
        policy: &IdentityPolicy,
        chain: &[rustls::pki_types::CertificateDer<'_>],
        purpose: cardinal_pki::Purpose,
        now: UnixMillis,
    ) -> Result<SpiffeId, PeerError> {
        let held = self.held();
        if !held.identities.contains_key(&policy.identity()) {
            return Err(PeerError::NoOwnIdentity);
        }
        let peer = held.bundles.verify(chain, purpose, now).map_err(PeerError::Unverified)?;
        if policy.allows(&peer) { Ok(peer) } else { Err(PeerError::Unexpected(peer)) }
    }
}

/// The object in use for a policy, or a new one. Unused entries are removed, so that the map is not much longer than
/// the number of policies in use.
fn shared<T>(
    known: &Mutex<HashMap<IdentityPolicy, Weak<T>>>,
    policy: &IdentityPolicy,
    make: impl FnOnce() -> Result<T, TlsError>,
) -> Result<Arc<T>, TlsError> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(policy).and_then(Weak::upgrade) {
        return Ok(found);
    }
    let made = Arc::new(make()?);
    known.retain(|_, of| of.strong_count() > 0);
    known.insert(policy.clone(), Arc::downgrade(&made));
    Ok(made)
}
