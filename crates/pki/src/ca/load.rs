//! Authorities that were made elsewhere.

use rcgen::string::{BmpString, Ia5String, PrintableString, TeletexString, UniversalString};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, DnValue, Issuer, KeyIdMethod, KeyUsagePurpose, PublicKeyData as _,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::x509::X509Name;

use super::issue::{Validity, leaf_params};
use super::{Ca, CaError, LeafRequest};
use crate::bundle::{BundleError, Purpose};
use crate::leaf::parse;
use crate::private_key::Signer;
use crate::svid::validity;
use crate::{BUNDLE_BYTES_MAX, INTERMEDIATES_MAX, PrivateKey, SpiffeId, TrustBundle, TrustDomain, VerifyError, pem};

impl Ca {
    /// Loads an authority: its certificate and then those above it, each signed by the next one, and its private key
    /// (ECDSA, Ed25519 or RSA), all in PEM. If the last certificate is not signed by itself, the root is not known here.
    ///
    /// A leaf is issued and verified as a trial, so that an authority whose certificates would be refused is found out
    /// when it is loaded.
    ///
    /// # Errors
    /// Certificates or key cannot be read, do not belong together, are not those of an authority or name another trust
    /// domain, or the trial fails.
    pub fn from_pem(domain: TrustDomain, certificates: &str, key: &str) -> Result<Self, CaError> {
        if certificates.len() > BUNDLE_BYTES_MAX {
            return Err(CaError::Pem(BundleError::TooLong));
        }
        let chain = pem::read_certificates(certificates).map_err(BundleError::Pem).map_err(CaError::Pem)?;
        let first = chain.first().ok_or(CaError::Pem(BundleError::Empty))?;
        // A bundle checks that each of them is an authority, and how many there are.
        TrustBundle::new(domain.clone(), chain.iter().cloned()).map_err(CaError::Pem)?;
        let has_root = check_chain(&chain)?;
        let intermediates = chain.len() - usize::from(has_root);
        if intermediates > INTERMEDIATES_MAX {
            return Err(CaError::Unusable(VerifyError::TooLong(intermediates)));
        }
        let parsed = read(first)?;
        check_domain(&domain, &parsed)?;
        let key = PrivateKey::from_pem(key)?;
        let signer = Signer::load(&key)?;
        if signer.subject_public_key_info() != parsed.public_key().raw {
            return Err(CaError::Mismatch);
        }
        let constraints = parsed.basic_constraints().ok().flatten();
        let path_length = constraints.and_then(|extension| extension.value.path_len_constraint);
        let (not_before, not_after) = validity(&parsed);
        let ca = Self {
            issuer: Issuer::new(issuer_params(&parsed)?, signer),
            domain,
            key,
            has_root,
            path_length: path_length.map(|length| u8::try_from(length).unwrap_or(u8::MAX)),
            not_before,
            not_after,
            chain,
        };
        ca.try_out()?;
        Ok(ca)
    }

    /// Issues a leaf and verifies it by the authority's own certificate.
    fn try_out(&self) -> Result<(), CaError> {
        let id = SpiffeId::new(&self.domain, "/trial").map_err(|_| CaError::Request("the trust domain is too long"))?;
        let request =
            LeafRequest { id: &id, dns_names: &[], lifetime: std::time::Duration::MAX, backdate: Default::default() };
        let valid = Validity { not_before: self.not_before, not_after: self.not_after };
        let params = leaf_params(&request, valid, SerialNumber::from(1))?;
        let leaf = params.signed_by(self.issuer.key(), &self.issuer).map_err(CaError::Sign)?;
        let own = TrustBundle::new(self.domain.clone(), self.certificate().cloned()).map_err(CaError::Pem)?;
        let verified = own.verify(std::slice::from_ref(leaf.der()), Purpose::Server, self.not_before);
        verified.map(drop).map_err(CaError::Unusable)
    }
}

fn read<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CaError> {
    parse(der).map_err(|_| CaError::Pem(BundleError::Malformed(0)))
}

/// Whether the chain ends in a root. Signatures are verified by those whom leaves are presented to.
fn check_chain(chain: &[CertificateDer<'_>]) -> Result<bool, CaError> {
    let mut issuer: Option<Vec<u8>> = None;
    let mut has_root = false;
    for (index, der) in chain.iter().enumerate() {
        let parsed = read(der)?;
        let (subject, above) = (parsed.subject().as_raw(), parsed.issuer().as_raw());
        // Nothing is above a root.
        if has_root || issuer.is_some_and(|issuer| issuer != subject) {
            return Err(CaError::Chain(index));
        }
        has_root = subject == above;
        issuer = Some(above.to_vec());
    }
    Ok(has_root)
}

/// A certificate that names a trust domain names this one.
fn check_domain(domain: &TrustDomain, certificate: &X509Certificate<'_>) -> Result<(), CaError> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    for name in names {
        if let GeneralName::URI(uri) = name
            && let Ok(id) = SpiffeId::parse(uri)
            && id.domain_name() != domain.as_str()
        {
            return Err(CaError::OtherDomain(id.trust_domain()));
        }
    }
    Ok(())
}

/// What leaves need to know of their issuer: its subject and the identifier of its key.
fn issuer_params(certificate: &X509Certificate<'_>) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(certificate.subject())?;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let identifier = certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
        _ => None,
    });
    if let Some(identifier) = identifier {
        params.key_identifier_method = KeyIdMethod::PreSpecified(identifier);
    }
    Ok(params)
}

/// A subject in the form of `rcgen`, which knows one attribute of each type. That the result is the same in DER is part of
/// the trial.
fn subject(name: &X509Name<'_>) -> Result<DistinguishedName, CaError> {
    let mut subject = DistinguishedName::new();
    for attributes in name.iter() {
        let mut attributes = attributes.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else { return Err(CaError::Subject) };
        let id: Vec<u64> = attribute.attr_type().iter().ok_or(CaError::Subject)?.collect();
        let value = value(attribute.attr_value()).ok_or(CaError::Subject)?;
        subject.push(DnType::from_oid(&id), value);
    }
    Ok(subject)
}

fn value(value: &Any<'_>) -> Option<DnValue> {
    let text = || std::str::from_utf8(value.data).ok();
    Some(match value.header.tag() {
        Tag::Utf8String => DnValue::Utf8String(text()?.to_owned()),
        Tag::PrintableString => DnValue::PrintableString(PrintableString::try_from(text()?).ok()?),
        Tag::Ia5String => DnValue::Ia5String(Ia5String::try_from(text()?).ok()?),
        Tag::T61String => DnValue::TeletexString(TeletexString::try_from(text()?).ok()?),
        Tag::BmpString => DnValue::BmpString(BmpString::from_utf16be(value.data.to_vec()).ok()?),
        Tag::UniversalString => DnValue::UniversalString(UniversalString::from_utf32be(value.data.to_vec()).ok()?),
        _ => return None,
    })
}
