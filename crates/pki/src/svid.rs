//! [`X509Svid`]: an identity with its certificate chain and private key.

use cardinal_base::UnixMillis;
use rustls_pki_types::CertificateDer;

use crate::leaf::{parse, spiffe_id};
use crate::{INTERMEDIATES_MAX, KeyError, PrivateKey, SpiffeId, VerifyError, pem};

/// Why a chain and a key are not a usable X.509-SVID.
#[derive(Debug, thiserror::Error)]
pub enum SvidError {
    /// The chain is not PEM.
    #[error("the certificates cannot be read: {0}")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// The leaf is not an X.509-SVID.
    #[error(transparent)]
    Leaf(#[from] VerifyError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key is not the leaf's.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
}

/// What a workload proves its identity with: a chain (leaf first, without the root) and the private key of the leaf.
#[derive(Clone, Debug)]
pub struct X509Svid {
    id: SpiffeId,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
    not_before: UnixMillis,
    not_after: UnixMillis,
}

impl X509Svid {
    /// A chain (leaf first) and the private key of its leaf. Whether an authority is trusted is not asked here.
    ///
    /// # Errors
    /// The leaf is not an X.509-SVID, or the key cannot be used or is another one's.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Result<Self, SvidError> {
        let leaf = chain.first().ok_or(VerifyError::Empty)?;
        if chain.len() - 1 > INTERMEDIATES_MAX {
            return Err(VerifyError::TooLong(chain.len() - 1).into());
        }
        let id = spiffe_id(leaf)?;
        let parsed = parse(leaf)?;
        if key.public_key()? != parsed.public_key().raw {
            return Err(SvidError::Mismatch);
        }
        let (not_before, not_after) = validity(&parsed);
        Ok(Self { id, chain, key, not_before, not_after })
    }

    /// Reads a chain (leaf first) and a private key in PEM.
    ///
    /// # Errors
    /// As for [`X509Svid::new`], or the texts are not PEM.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, SvidError> {
        Self::new(pem::read_certificates(chain).map_err(SvidError::Pem)?, PrivateKey::from_pem(key)?)
    }

    /// Who it is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The chain in PEM, leaf first.
    pub fn chain_pem(&self) -> String {
        pem::certificates(&self.chain)
    }

    /// The private key of the leaf.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// When the leaf becomes valid.
    pub fn not_before(&self) -> UnixMillis {
        self.not_before
    }

    /// When the leaf expires.
    pub fn not_after(&self) -> UnixMillis {
        self.not_after
    }
}

/// From when to when a certificate is valid. Times before 1970 become 1970.
pub(crate) fn validity(certificate: &x509_parser::certificate::X509Certificate<'_>) -> (UnixMillis, UnixMillis) {
    let millis = |seconds: i64| UnixMillis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000));
    let validity = certificate.validity();
    (millis(validity.not_before.timestamp()), millis(validity.not_after.timestamp()))
}
