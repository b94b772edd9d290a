//! [`TrustBundle`]: the CA certificates of a trust domain, and [`TrustBundles`]: those of all domains that are trusted.

mod json;
mod verify;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cardinal_base::UnixMillis;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::leaf::parse;
use crate::svid::validity;
use crate::{SpiffeId, TrustDomain, VerifyError, pem};

pub use verify::{INTERMEDIATES_MAX, Purpose};

/// Most authorities of a bundle.
pub const AUTHORITIES_MAX: usize = 64;

/// Most bytes of a bundle as a text.
pub const BUNDLE_BYTES_MAX: usize = 1 << 20;

/// Why something is not a trust bundle. Indexes count from 0.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The text is longer than any bundle may be.
    #[error("a trust bundle has at most {BUNDLE_BYTES_MAX} bytes")]
    TooLong,
    /// The text is not PEM.
    #[error("the certificates cannot be read: {0}")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// A PEM text without certificates.
    #[error("there is no certificate in the PEM text")]
    Empty,
    /// More authorities than a bundle may have.
    #[error("a trust bundle has at most {AUTHORITIES_MAX} certificates")]
    TooMany,
    /// A certificate is damaged or cannot be a trust anchor.
    #[error("certificate {0} cannot be read")]
    Malformed(usize),
    /// A certificate that must not sign others.
    #[error("certificate {0} is not a CA certificate")]
    NotCa(usize),
    /// The text is not JSON.
    #[error("the bundle is not JSON: {0}")]
    Json(#[source] serde_json::Error),
    /// JSON of another form.
    #[error("the bundle is not a JWK set: {0}")]
    Form(&'static str),
    /// A certificate that is not base64.
    #[error("the certificate of key {0} is not base64")]
    Base64(usize),
    /// A key that has no JWK form here.
    #[error("the key of certificate {0} is not ECDSA on a NIST curve, Ed25519 or RSA")]
    KeyType(usize),
}

/// The CA certificates of one trust domain. While authorities are rotated it holds the old and the new ones.
///
/// A bundle is a value: changes make a new one. Copies share the certificates.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustBundle {
    domain: TrustDomain,
    authorities: Arc<Authorities>,
    sequence: Option<u64>,
    refresh_hint: Option<Duration>,
}

/// Certificates, and the same as trust anchors, at the same indexes.
#[derive(Default)]
struct Authorities {
    certificates: Vec<Authority>,
    anchors: Vec<TrustAnchor<'static>>,
}

struct Authority {
    der: CertificateDer<'static>,
    not_before: UnixMillis,
    not_after: UnixMillis,
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.certificates.iter().map(|a| &a.der).eq(other.certificates.iter().map(|a| &a.der))
    }
}

impl Eq for Authorities {}

impl TrustBundle {
    /// A bundle of these CA certificates; equal ones count once. One without certificates trusts nobody.
    ///
    /// # Errors
    /// A certificate is damaged or not one of a CA, or there are too many.
    pub fn new(
        domain: TrustDomain,
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, BundleError> {
        let mut authorities = Authorities::default();
        for (index, der) in certificates.into_iter().enumerate() {
            authorities.add(index, der)?;
        }
        Ok(Self { domain, authorities: Arc::new(authorities), sequence: None, refresh_hint: None })
    }

    /// Reads CA certificates in PEM; at least one. Other blocks are ignored.
    ///
    /// # Errors
    /// As for [`TrustBundle::new`], or the text is not PEM or holds no certificate.
    pub fn from_pem(domain: TrustDomain, text: &str) -> Result<Self, BundleError> {
        if text.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLong);
        }
        let certificates = pem::read_certificates(text).map_err(BundleError::Pem)?;
        if certificates.is_empty() {
            return Err(BundleError::Empty);
        }
        Self::new(domain, certificates)
    }

    /// The CA certificates in PEM.
    pub fn to_pem(&self) -> String {
        pem::certificates(self.certificates())
    }

    /// The trust domain.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The CA certificates.
    pub fn certificates(&self) -> impl ExactSizeIterator<Item = &CertificateDer<'static>> {
        self.authorities.certificates.iter().map(|authority| &authority.der)
    }

    /// When the authority that is valid for longest expires; `None` without authorities.
    pub fn not_after(&self) -> Option<UnixMillis> {
        self.authorities.certificates.iter().map(|authority| authority.not_after).max()
    }

    /// The number of this version (`spiffe_sequence`), which grows with each change.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// How often to look for another version (`spiffe_refresh_hint`).
    pub fn refresh_hint(&self) -> Option<Duration> {
        self.refresh_hint
    }

    /// The same authorities with other particulars of publication.
    #[must_use]
    pub fn with_publication(self, sequence: Option<u64>, refresh_hint: Option<Duration>) -> Self {
        Self { sequence, refresh_hint, ..self }
    }

    /// These authorities and another one: the first step of a rotation, before the new authority issues anything.
    ///
    /// # Errors
    /// The certificate is damaged or not one of a CA, or there are too many.
    pub fn with_authority(&self, certificate: CertificateDer<'static>) -> Result<Self, BundleError> {
        let made = Self::new(self.domain.clone(), self.certificates().cloned().chain([certificate]))?;
        Ok(made.with_publication(self.sequence, self.refresh_hint))
    }

    /// These authorities without one: the last step of a rotation, once nothing that it issued is valid any more.
    #[must_use]
    pub fn without_authority(&self, certificate: &CertificateDer<'_>) -> Self {
        let mut authorities = Authorities::default();
        for (authority, anchor) in self.authorities.certificates.iter().zip(&self.authorities.anchors) {
            if authority.der != *certificate {
                authorities.certificates.push(authority.clone());
                authorities.anchors.push(anchor.clone());
            }
        }
        Self { authorities: Arc::new(authorities), ..self.clone() }
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustBundle")
            .field("domain", &self.domain)
            .field("authorities", &self.authorities.certificates.len())
            .field("sequence", &self.sequence)
            .field("refresh_hint", &self.refresh_hint)
            .finish()
    }
}

impl Clone for Authority {
    fn clone(&self) -> Self {
        Self { der: self.der.clone(), ..*self }
    }
}

impl Authorities {
    fn add(&mut self, index: usize, der: CertificateDer<'static>) -> Result<(), BundleError> {
        if self.certificates.iter().any(|known| known.der == der) {
            return Ok(());
        }
        if self.certificates.len() == AUTHORITIES_MAX {
            return Err(BundleError::TooMany);
        }
        let malformed = || BundleError::Malformed(index);
        let parsed = parse(&der).map_err(|_| malformed())?;
        let is_ca = parsed.basic_constraints().map_err(|_| malformed())?.is_some_and(|extension| extension.value.ca);
        let usage = parsed.key_usage().map_err(|_| malformed())?;
        if !is_ca || usage.is_some_and(|extension| !extension.value.key_cert_sign()) {
            return Err(BundleError::NotCa(index));
        }
        let (not_before, not_after) = validity(&parsed);
        let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|_| malformed())?.to_owned();
        self.anchors.push(anchor);
        self.certificates.push(Authority { der, not_before, not_after });
        Ok(())
    }
}

/// The bundles of all trust domains that are trusted, by domain.
#[derive(Clone, Debug, Default)]
pub struct TrustBundles(HashMap<TrustDomain, TrustBundle>);

impl TrustBundles {
    /// Adds a bundle, in place of that of the same domain.
    pub fn insert(&mut self, bundle: TrustBundle) {
        self.0.insert(bundle.domain.clone(), bundle);
    }

    /// Removes the bundle of a domain, whose identities are then trusted no more.
    pub fn remove(&mut self, domain: &TrustDomain) -> Option<TrustBundle> {
        self.0.remove(domain)
    }

    /// The bundle of a domain.
    pub fn of(&self, domain: &TrustDomain) -> Option<&TrustBundle> {
        self.0.get(domain)
    }

    /// All bundles, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &TrustBundle> {
        self.0.values()
    }

    /// Verifies a chain (leaf first) by the bundle of the trust domain that the leaf names, and by no other.
    ///
    /// # Errors
    /// The leaf is not an X.509-SVID, its domain is not trusted, or no valid path leads to an authority of the domain.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: Purpose,
        now: UnixMillis,
    ) -> Result<SpiffeId, VerifyError> {
        let claimed = verify::claim(chain)?;
        match self.0.get(claimed.domain_name()) {
            Some(bundle) => bundle.verify_claim(claimed, chain, purpose, now),
            None => Err(VerifyError::UnknownDomain(claimed)),
        }
    }
}

#[cfg(test)]
mod tests;
