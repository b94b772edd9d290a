//! [`IdentityPolicy`]: the input of a mutual TLS configuration.

use aws_lc_rs::digest::{Context, SHA256};
use cardinal_base::Id;
use cardinal_pki::{SpiffeId, TrustDomain};

/// Allowed peers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerRule {
    /// This identity.
    Exact(SpiffeId),
    /// This identity and all identities below it, by whole path segments. The ID of a trust domain allows all of its
    /// identities.
    Within(SpiffeId),
}

impl PeerRule {
    /// Any identity of a trust domain.
    pub fn any_of(domain: &TrustDomain) -> Self {
        Self::Within(domain.id())
    }

    /// Whether the rule allows a peer with this verified ID.
    fn allows_text(&self, peer: &str) -> bool {
        match self {
            Self::Exact(id) => peer == id.as_str(),
            Self::Within(prefix) => {
                peer.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }

    fn allows(&self, peer: &SpiffeId) -> bool {
        match self {
            Self::Exact(id) => peer == id,
            Self::Within(prefix) => peer.is_within(prefix),
        }
    }
}

/// The own identity, the allowed peers and the protocols of a connection. TLS configurations are keyed by it;
/// certificates and trust bundles are not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdentityPolicy {
    identity: Id,
    peers: Box<[PeerRule]>,
    alpn: Box<[Box<[u8]>]>,
    tls12: bool,
}

impl IdentityPolicy {
    /// A policy for TLS 1.3 without ALPN. A peer is allowed if one of the rules allows it; without rules, no peer is
    /// allowed. Order and repetition of rules are irrelevant.
    pub fn new(identity: Id, peers: impl IntoIterator<Item = PeerRule>) -> Self {
        let mut peers: Vec<_> = peers.into_iter().collect();
        peers.sort_unstable();
        peers.dedup();
        Self { identity, peers: peers.into(), alpn: Box::default(), tls12: false }
    }

    /// Sets the ALPN protocols, in order of preference.
    #[must_use]
    pub fn with_alpn(self, protocols: &[&[u8]]) -> Self {
        Self { alpn: protocols.iter().map(|protocol| (*protocol).into()).collect(), ..self }
    }

    /// Also allows TLS 1.2.
    #[must_use]
    pub fn with_tls12(self, allowed: bool) -> Self {
        Self { tls12: allowed, ..self }
    }

    /// The own identity.
    pub fn identity(&self) -> Id {
        self.identity
    }

    /// Whether a peer with this verified identity is allowed.
    pub fn allows(&self, peer: &SpiffeId) -> bool {
        self.peers.iter().any(|rule| rule.allows(peer))
    }

    /// [`Self::allows`] for the text of a verified ID. Must not be called with other text.
    pub fn allows_verified(&self, peer: &str) -> bool {
        self.peers.iter().any(|rule| rule.allows_text(peer))
    }

    /// ALPN protocols, in order of preference.
    pub(super) fn alpn(&self) -> Vec<Vec<u8>> {
        self.alpn.iter().map(|protocol| protocol.to_vec()).collect()
    }

    pub(super) fn tls12(&self) -> bool {
        self.tls12
    }

    /// A digest that is equal only for equal policies: a key for pools, whose connections must not be shared between
    /// policies. It does not change when certificates or bundles are rotated.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let mut field = |bytes: &[u8]| {
            // The length prefix separates adjacent values.
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        field(self.identity.as_bytes());
        field(&[u8::from(self.tls12)]);
        field(&(self.peers.len() as u64).to_be_bytes());
        for rule in &self.peers {
            let (kind, id) = match rule {
                PeerRule::Exact(id) => (0, id),
                PeerRule::Within(id) => (1, id),
            };
            field(&[kind]);
            field(id.as_str().as_bytes());
        }
        for protocol in &self.alpn {
            field(protocol);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }
}
