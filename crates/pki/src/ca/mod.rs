//! [`Ca`]: a certificate authority of a trust domain, which issues X.509-SVIDs.

mod csr;
mod issue;
mod load;

use std::fmt;
use std::time::Duration;

use cardinal_base::{Clock, Rng, UnixMillis};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyUsagePurpose, SanType};
use rustls_pki_types::CertificateDer;

use crate::private_key::Signer;
use crate::{BundleError, INTERMEDIATES_MAX, KeyError, PrivateKey, TrustBundle, TrustDomain, VerifyError, pem};

/// Why there is no authority, or no certificate from it.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The private key cannot be used or generated.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificates of the authority are not PEM, or are none.
    #[error("the certificates of the authority cannot be read: {0}")]
    Pem(#[source] BundleError),
    /// The private key is not that of the authority's certificate.
    #[error("the private key does not belong to the certificate of the authority")]
    Mismatch,
    /// The certificate names another trust domain.
    #[error("the certificate of the authority is for the trust domain {0}")]
    OtherDomain(TrustDomain),
    /// The certificates do not follow each other: each must be signed by the next one.
    #[error("certificate {0} of the authority's chain is not the issuer of the one before it")]
    Chain(usize),
    /// What the authority issues is not valid.
    #[error("certificates of this authority would not be valid: {0}")]
    Unusable(#[source] VerifyError),
    /// The subject of the authority cannot be written as the issuer of a certificate.
    #[error("the subject of the authority has a form that is not supported")]
    Subject,
    /// The authority has expired, or is not valid yet.
    #[error("the certificate of the authority is not valid now")]
    NotValid,
    /// The authority must not issue certificates of other authorities.
    #[error("the path length of the authority allows no further intermediate authority")]
    PathLength,
    /// The request asks for an identity of another trust domain or of none, a name that is not a DNS name, or for no
    /// lifetime.
    #[error("the requested certificate is not acceptable: {0}")]
    Request(&'static str),
    /// The certificate signing request is damaged, or its signature or key is not acceptable.
    #[error("the certificate signing request is not acceptable: {0}")]
    Csr(&'static str),
    /// Signing failed.
    #[error("the certificate cannot be signed: {0}")]
    Sign(#[source] rcgen::Error),
}

/// What a new authority is to be.
#[derive(Clone, Debug)]
pub struct CaRequest {
    /// The trust domain.
    pub domain: TrustDomain,
    /// How long the authority is valid from now on. An intermediate one is valid for no longer than its issuer.
    pub lifetime: Duration,
    /// By how much the validity begins in the past, for clocks that differ.
    pub backdate: Duration,
    /// Most intermediate authorities below it. 0: it issues only leaves.
    pub path_length: u8,
}

/// What a leaf certificate is to be.
#[derive(Clone, Copy, Debug)]
pub struct LeafRequest<'a> {
    /// The identity.
    pub id: &'a crate::SpiffeId,
    /// DNS names, besides.
    pub dns_names: &'a [&'a str],
    /// How long the certificate is valid from now on; at least a second. It never outlives the authority.
    pub lifetime: Duration,
    /// By how much the validity begins in the past, for clocks that differ.
    pub backdate: Duration,
}

/// A certificate authority: a certificate, its private key, and the certificates between it and the root.
pub struct Ca {
    domain: TrustDomain,
    issuer: Issuer<'static, Signer>,
    key: PrivateKey,
    /// The authority's certificate, then those of its issuers, up to the root if that is known.
    chain: Vec<CertificateDer<'static>>,
    /// Whether the last certificate of the chain is a root.
    has_root: bool,
    path_length: Option<u8>,
    not_before: UnixMillis,
    not_after: UnixMillis,
}

impl Ca {
    /// Makes a root: a new key (ECDSA P-256) and a certificate signed by itself.
    ///
    /// # Errors
    /// The lifetime is less than a second, or key or certificate cannot be made.
    pub fn new_root(request: &CaRequest, clock: &dyn Clock, rng: &mut dyn Rng) -> Result<Self, CaError> {
        let signer = Signer::generate()?;
        let validity = issue::Validity::new(request.lifetime, request.backdate, clock)?;
        let params = authority_params(request, request.path_length, validity, rng)?;
        let certificate = params.self_signed(&signer).map_err(CaError::Sign)?;
        Ok(Self {
            domain: request.domain.clone(),
            key: signer.private_key(),
            issuer: Issuer::new(params, signer),
            chain: vec![certificate.der().clone()],
            has_root: true,
            path_length: Some(request.path_length),
            not_before: validity.not_before,
            not_after: validity.not_after,
        })
    }

    /// Makes an intermediate authority with a new key, signed by this one. What it issues carries its certificate along.
    ///
    /// # Errors
    /// The path length of this authority does not allow it, this authority is not valid now, the request is for another
    /// trust domain, or key or certificate cannot be made.
    pub fn new_intermediate(&self, request: &CaRequest, clock: &dyn Clock, rng: &mut dyn Rng) -> Result<Self, CaError> {
        if request.domain != self.domain {
            return Err(CaError::Request("the intermediate authority is for another trust domain"));
        }
        let path_length = match self.path_length {
            Some(0) => return Err(CaError::PathLength),
            Some(above) => request.path_length.min(above - 1),
            None => request.path_length,
        };
        if self.intermediates().count() == INTERMEDIATES_MAX {
            return Err(CaError::Unusable(VerifyError::TooLong(INTERMEDIATES_MAX + 1)));
        }
        let signer = Signer::generate()?;
        let validity = self.limited(issue::Validity::new(request.lifetime, request.backdate, clock)?, clock)?;
        let params = authority_params(request, path_length, validity, rng)?;
        let certificate = params.signed_by(&signer, &self.issuer).map_err(CaError::Sign)?;
        Ok(Self {
            domain: self.domain.clone(),
            key: signer.private_key(),
            issuer: Issuer::new(params, signer),
            chain: [certificate.der().clone()].into_iter().chain(self.chain.iter().cloned()).collect(),
            has_root: self.has_root,
            path_length: Some(path_length),
            not_before: validity.not_before,
            not_after: validity.not_after,
        })
    }

    /// The trust domain.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// The root of the authority, which belongs into trust bundles; `None` if it was not loaded with it.
    pub fn root(&self) -> Option<&CertificateDer<'static>> {
        self.chain.last().filter(|_| self.has_root)
    }

    /// A trust bundle of the root; without a root, of the authority itself.
    ///
    /// # Errors
    /// None is expected, as the certificates have been read before.
    pub fn bundle(&self) -> Result<TrustBundle, BundleError> {
        TrustBundle::new(self.domain.clone(), self.root().or(self.certificate()).cloned())
    }

    /// The authority's certificate and those above it, in PEM. With [`Ca::key`] it is what [`Ca::from_pem`] reads.
    pub fn chain_pem(&self) -> String {
        pem::certificates(&self.chain)
    }

    /// The private key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// When the authority's certificate becomes valid.
    pub fn not_before(&self) -> UnixMillis {
        self.not_before
    }

    /// When the authority's certificate expires.
    pub fn not_after(&self) -> UnixMillis {
        self.not_after
    }

    /// What a leaf carries along: the authority and those above it, without the root.
    fn intermediates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.chain.iter().take(self.chain.len() - usize::from(self.has_root))
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca")
            .field("domain", &self.domain)
            .field("certificates", &self.chain.len())
            .field("path_length", &self.path_length)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Most characters of a name in a subject (RFC 5280 appendix A.1).
const NAME_MAX: usize = 64;

fn authority_params(
    request: &CaRequest,
    path_length: u8,
    validity: issue::Validity,
    rng: &mut dyn Rng,
) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    let serial = issue::serial(rng);
    // Authorities of a domain have different names, so that verifiers need not try the keys of several.
    let name: String = serial.to_bytes().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = DistinguishedName::new();
    let domain: String = request.domain.as_str().chars().take(NAME_MAX).collect();
    params.distinguished_name.push(DnType::OrganizationName, domain);
    params.distinguished_name.push(DnType::CommonName, format!("Cardinal CA {name}"));
    params.serial_number = Some(serial);
    params.subject_alt_names = vec![SanType::URI(issue::ia5(request.domain.id().as_str())?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    validity.apply(&mut params);
    Ok(params)
}

#[cfg(test)]
mod tests;
