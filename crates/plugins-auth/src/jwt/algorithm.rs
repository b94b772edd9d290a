//! Signature algorithms (RFC 7518, RFC 8037) and public keys for them. All arithmetic is aws-lc's.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use aws_lc_rs::{encoding, hmac};

/// A signature algorithm, named as in a token's `alg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of RFC 7518 and RFC 8037")]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
    EdDsa,
}

impl Algorithm {
    /// All of them, in Kong's order.
    pub const ALL: [Self; 13] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::EdDsa,
    ];

    /// `RS256`
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this name, in this case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The algorithm of shared secrets; `None` for the others.
    pub(super) fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    pub(super) fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }

    fn public(self) -> Option<&'static dyn VerificationAlgorithm> {
        match self {
            Self::Es256 => Some(&ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Some(&ECDSA_P384_SHA384_FIXED),
            Self::Es512 => Some(&ECDSA_P521_SHA512_FIXED),
            Self::EdDsa => Some(&ED25519),
            other => other.rsa().map(|parameters| parameters as _),
        }
    }
}

/// A public key for one algorithm.
#[derive(Clone, Debug)]
pub(super) struct PublicKey(ParsedPublicKey);

impl PublicKey {
    /// A key in DER (`SubjectPublicKeyInfo`, or PKCS#1 for RSA), or in the plain form of its curve: an uncompressed
    /// point, 32 bytes of Ed25519.
    pub(super) fn from_der(algorithm: Algorithm, der: &[u8]) -> Result<Self, &'static str> {
        let verification = algorithm.public().ok_or("the algorithm has no public keys")?;
        let key = ParsedPublicKey::new(verification, der).map_err(|_| "it is not a key of the algorithm's kind")?;
        Self::checked(algorithm, key)
    }

    /// An RSA key from modulus and exponent, both big-endian without leading zeros.
    pub(super) fn from_rsa(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Result<Self, &'static str> {
        let parameters = algorithm.rsa().ok_or("the algorithm is not RSA")?;
        let key = RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters);
        Self::checked(algorithm, key.map_err(|_| "it is not an RSA key")?)
    }

    /// The size of RSA keys is otherwise first looked at when a token comes.
    fn checked(algorithm: Algorithm, key: ParsedPublicKey) -> Result<Self, &'static str> {
        if algorithm.rsa().is_some() {
            let der: encoding::PublicKeyX509Der<'_> = key.as_der().map_err(|_| "it is not an RSA key")?;
            PublicEncryptingKey::from_der(der.as_ref()).map_err(|_| "RSA keys must have 2048 to 8192 bits")?;
        }
        Ok(Self(key))
    }

    /// Whether `signature` is the key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(message, signature).is_ok()
    }
}
