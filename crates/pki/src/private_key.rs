//! [`PrivateKey`]: a private key that is not shown and is erased when dropped.

use std::fmt;

use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::pem;

/// Why a private key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is not PEM, or holds no private key.
    #[error("the private key cannot be read: {0}")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// The key is damaged, or of a kind that is not supported.
    #[error("the private key cannot be used (supported are ECDSA P-256, P-384 and P-521, Ed25519 and RSA): {0}")]
    Unusable(#[source] rcgen::Error),
    /// A key could not be generated.
    #[error("no private key can be generated: {0}")]
    Generate(#[source] rcgen::Error),
}

/// A private key in DER. Its `Debug` form tells only the kind of encoding.
pub struct PrivateKey(PrivateKeyDer<'static>);

impl PrivateKey {
    /// Reads the first private key of a PEM text: PKCS #8, SEC 1 or PKCS #1.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        PrivateKeyDer::from_pem_slice(text.as_bytes()).map(Self).map_err(KeyError::Pem)
    }

    /// The key in DER.
    pub fn der(&self) -> &PrivateKeyDer<'static> {
        &self.0
    }

    /// The key in PEM. The text is erased when dropped.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let label = match &self.0 {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        pem::block(label, self.0.secret_der())
    }

    /// The public half, as a SubjectPublicKeyInfo in DER.
    pub(crate) fn public_key(&self) -> Result<Vec<u8>, KeyError> {
        Ok(Signer::load(self)?.subject_public_key_info())
    }
}

impl Clone for PrivateKey {
    fn clone(&self) -> Self {
        Self(self.0.clone_key())
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            PrivateKeyDer::Pkcs1(_) => "PrivateKey(PKCS #1, redacted)",
            PrivateKeyDer::Sec1(_) => "PrivateKey(SEC 1, redacted)",
            _ => "PrivateKey(PKCS #8, redacted)",
        })
    }
}

/// A key that signs certificates. `rcgen` keeps the key's DER beside it, which is erased here when dropped.
pub(crate) struct Signer(KeyPair);

impl Signer {
    /// A new ECDSA key on P-256.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        KeyPair::generate().map(Self).map_err(KeyError::Generate)
    }

    pub(crate) fn load(key: &PrivateKey) -> Result<Self, KeyError> {
        KeyPair::try_from(&key.0).map(Self).map_err(KeyError::Unusable)
    }

    /// The key itself; a generated one is PKCS #8.
    pub(crate) fn private_key(&self) -> PrivateKey {
        PrivateKey(PrivateKeyDer::Pkcs8(self.0.serialized_der().to_vec().into()))
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&self.0)
    }
}

impl SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}
