//! Verification of chains: path building by rustls-webpki, and what an X.509-SVID needs beyond it.

use std::time::Duration;

use cardinal_base::UnixMillis;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::{Authorities, TrustBundle};
use crate::leaf::spiffe_id;
use crate::{SpiffeId, VerifyError};

/// Most intermediate certificates of a chain.
pub const INTERMEDIATES_MAX: usize = 8;

/// What a peer's certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The peer is a TLS server.
    Server,
    /// The peer is a TLS client.
    Client,
}

/// The identity that a chain claims, unverified.
pub(super) fn claim(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, VerifyError> {
    let leaf = chain.first().ok_or(VerifyError::Empty)?;
    if chain.len() - 1 > INTERMEDIATES_MAX {
        return Err(VerifyError::TooLong(chain.len() - 1));
    }
    spiffe_id(leaf)
}

impl TrustBundle {
    /// Verifies a chain (leaf first): a path of valid certificates leads to an authority of this bundle, which is valid
    /// too, and the leaf is an X.509-SVID of this trust domain whose extended key usage, if there is one, allows the
    /// purpose.
    ///
    /// # Errors
    /// One of this does not hold.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: Purpose,
        now: UnixMillis,
    ) -> Result<SpiffeId, VerifyError> {
        self.verify_claim(claim(chain)?, chain, purpose, now)
    }

    pub(super) fn verify_claim(
        &self,
        id: SpiffeId,
        chain: &[CertificateDer<'_>],
        purpose: Purpose,
        now: UnixMillis,
    ) -> Result<SpiffeId, VerifyError> {
        if id.domain_name() != self.domain.as_str() {
            return Err(VerifyError::OtherDomain { id, domain: self.domain.clone() });
        }
        match self.authorities.verify_path(chain, purpose, now) {
            Ok(()) => Ok(id),
            Err(error) => Err(VerifyError::Path { id, error }),
        }
    }
}

impl Authorities {
    fn verify_path(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: Purpose,
        now: UnixMillis,
    ) -> Result<(), webpki::Error> {
        let (leaf, intermediates) = chain.split_first().ok_or(webpki::Error::BadDer)?;
        let leaf = EndEntityCert::try_from(leaf)?;
        let usage = match purpose {
            Purpose::Server => KeyUsage::server_auth(),
            Purpose::Client => KeyUsage::client_auth(),
        };
        let time = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        let is_current = |path: &VerifiedPath<'_>| self.check_anchor(path, now);
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.anchors,
            intermediates,
            time,
            usage,
            None,
            Some(&is_current),
        )?;
        Ok(())
    }

    /// Whether the authority at the end of a path is valid now. webpki knows only its name and key, and looks for
    /// another path when this one is refused.
    fn check_anchor(&self, path: &VerifiedPath<'_>, now: UnixMillis) -> Result<(), webpki::Error> {
        let mut result = Err(webpki::Error::UnknownIssuer);
        for (authority, anchor) in self.certificates.iter().zip(&self.anchors) {
            if anchor != path.anchor() {
                continue;
            }
            let time = |at: UnixMillis| UnixTime::since_unix_epoch(Duration::from_millis(at.0));
            // Both ends are part of the validity (RFC 5280 section 4.1.2.5), in whole seconds.
            if now.seconds() < authority.not_before.seconds() {
                result =
                    Err(webpki::Error::CertNotValidYet { time: time(now), not_before: time(authority.not_before) });
            } else if now.seconds() > authority.not_after.seconds() {
                result = Err(webpki::Error::CertExpired { time: time(now), not_after: time(authority.not_after) });
            } else {
                return Ok(());
            }
        }
        result
    }
}
