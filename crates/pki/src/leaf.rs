//! The identity in a leaf certificate: what makes an X.509 certificate an X.509-SVID (X509-SVID sections 2 to 4).

use std::borrow::Cow;

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::{IdError, SpiffeId, TrustDomain};

/// Why a chain of certificates does not prove an identity.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The peer presented nothing.
    #[error("there is no certificate")]
    Empty,
    /// More intermediate certificates than are looked at.
    #[error("the chain has {0} intermediate certificates; at most {max} are accepted", max = crate::INTERMEDIATES_MAX)]
    TooLong(usize),
    /// The leaf is not an X.509 certificate, or an extension of it is damaged.
    #[error("the certificate cannot be read")]
    Malformed,
    /// None or several URI names.
    #[error("the certificate has {0} URI names; an X.509-SVID has exactly one")]
    UriNames(usize),
    /// The URI name is not a SPIFFE ID.
    #[error("the URI name of the certificate is not a SPIFFE ID: {0}")]
    Id(#[source] IdError),
    /// The ID is that of a trust domain, not that of a workload.
    #[error("{0} has no path, so it identifies no workload")]
    NoPath(SpiffeId),
    /// The certificate is one of an authority.
    #[error("the certificate is a CA certificate")]
    Ca,
    /// The key must not sign handshakes, or may sign certificates.
    #[error("the key usage of the certificate is not that of an X.509-SVID")]
    KeyUsage,
    /// The identity is of another trust domain than the bundle.
    #[error("{id} is not in the trust domain {domain}")]
    OtherDomain {
        /// The identity.
        id: SpiffeId,
        /// The domain of the bundle.
        domain: TrustDomain,
    },
    /// There is no bundle for the trust domain of the identity.
    #[error("the trust domain of {0} is not trusted")]
    UnknownDomain(SpiffeId),
    /// No valid path leads to an authority of the bundle.
    #[error("no valid certificate path for {id}: {}", words(.error))]
    Path {
        /// The identity that the leaf claims.
        id: SpiffeId,
        /// What is wrong with the path.
        #[source]
        error: webpki::Error,
    },
}

/// The common errors in words.
fn words(error: &webpki::Error) -> Cow<'static, str> {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => "a certificate of it has expired".into(),
        E::CertNotValidYet { .. } => "a certificate of it is not valid yet".into(),
        E::UnknownIssuer => "it does not lead to a CA certificate of the trust bundle".into(),
        E::RequiredEkuNotFoundContext(_) => "the extended key usage does not allow this use".into(),
        other => other.to_string().into(),
    }
}

/// The SPIFFE ID that a leaf certificate claims, if the certificate has the form of an X.509-SVID. **The claim is not
/// verified**: nothing has been said about the signature. Use it for certificates that were verified before, or to
/// choose the bundle to verify them by.
///
/// # Errors
/// The certificate is not an X.509-SVID.
pub fn spiffe_id(leaf: &CertificateDer<'_>) -> Result<SpiffeId, VerifyError> {
    let leaf = parse(leaf)?;
    let id = uri_name(&leaf)?;
    check_usage(&leaf)?;
    if id.has_path() { Ok(id) } else { Err(VerifyError::NoPath(id)) }
}

/// Parses a certificate that nothing follows.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, VerifyError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(VerifyError::Malformed),
    }
}

fn uri_name(leaf: &X509Certificate<'_>) -> Result<SpiffeId, VerifyError> {
    let names = leaf.subject_alternative_name().map_err(|_| VerifyError::Malformed)?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return Err(VerifyError::Malformed);
    }
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.count()) {
        (Some(uri), 0) => SpiffeId::parse(uri).map_err(VerifyError::Id),
        (None, _) => Err(VerifyError::UriNames(0)),
        (Some(_), others) => Err(VerifyError::UriNames(others + 1)),
    }
}

fn check_usage(leaf: &X509Certificate<'_>) -> Result<(), VerifyError> {
    let constraints = leaf.basic_constraints().map_err(|_| VerifyError::Malformed)?;
    if constraints.is_some_and(|extension| extension.value.ca) {
        return Err(VerifyError::Ca);
    }
    let usage = leaf.key_usage().map_err(|_| VerifyError::Malformed)?.ok_or(VerifyError::KeyUsage)?.value;
    let fits = usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign();
    if fits { Ok(()) } else { Err(VerifyError::KeyUsage) }
}
