//! Leaf certificates.

use std::time::Duration;

use cardinal_base::{Clock, Rng, UnixMillis};
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, DnsName};

use super::csr::RequestKey;
use super::{Ca, CaError, LeafRequest};
use crate::private_key::Signer;
use crate::{SvidError, X509Svid};

/// The last second that X.509 can name: 9999-12-31T23:59:59Z.
const SECONDS_MAX: u64 = 253_402_300_799;

/// From when to when a certificate is valid, in whole seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    pub(super) not_before: UnixMillis,
    pub(super) not_after: UnixMillis,
}

impl Validity {
    pub(super) fn new(lifetime: Duration, backdate: Duration, clock: &dyn Clock) -> Result<Self, CaError> {
        if lifetime.as_secs() == 0 {
            return Err(CaError::Request("its lifetime is less than a second"));
        }
        let now = clock.unix().seconds();
        let at = |seconds: u64| UnixMillis(seconds.min(SECONDS_MAX) * 1_000);
        Ok(Self {
            not_before: at(now.saturating_sub(backdate.as_secs())),
            not_after: at(now.saturating_add(lifetime.as_secs())),
        })
    }

    /// Sets the dates of a certificate.
    pub(super) fn apply(self, params: &mut CertificateParams) {
        let at = |time: UnixMillis| date_time_ymd(1970, 1, 1) + Duration::from_secs(time.seconds().min(SECONDS_MAX));
        (params.not_before, params.not_after) = (at(self.not_before), at(self.not_after));
    }
}

/// 128 random bits, of which not all are zero (RFC 5280 section 4.1.2.2).
pub(super) fn serial(rng: &mut dyn Rng) -> SerialNumber {
    let number = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
    SerialNumber::from_slice(&number.max(1).to_be_bytes())
}

pub(super) fn ia5(text: &str) -> Result<Ia5String, CaError> {
    Ia5String::try_from(text).map_err(|_| CaError::Request("a name has characters that are not ASCII"))
}

impl Ca {
    /// Issues a leaf certificate with a new key (ECDSA P-256).
    ///
    /// # Errors
    /// The request is not acceptable, the authority is not valid now, or signing fails.
    pub fn issue(&self, request: &LeafRequest<'_>, clock: &dyn Clock, rng: &mut dyn Rng) -> Result<X509Svid, CaError> {
        let key = Signer::generate()?;
        let chain = self.leaf(request, &key, clock, rng)?;
        X509Svid::new(chain, key.private_key()).map_err(|error| match error {
            SvidError::Leaf(error) => CaError::Unusable(error),
            SvidError::Key(error) => CaError::Key(error),
            SvidError::Pem(_) | SvidError::Mismatch => CaError::Mismatch,
        })
    }

    /// Issues a leaf certificate for the key of a certificate signing request (PKCS #10 in DER), and gives its chain, leaf
    /// first. The signature of the request proves that the requester has the private key. Nothing else that it asks for
    /// counts: what the certificate says comes from `request`.
    ///
    /// # Errors
    /// As for [`Ca::issue`], or the signing request is damaged, its signature is wrong, or its key is of a kind that is
    /// not supported.
    pub fn issue_for(
        &self,
        signing_request: &[u8],
        request: &LeafRequest<'_>,
        clock: &dyn Clock,
        rng: &mut dyn Rng,
    ) -> Result<Vec<CertificateDer<'static>>, CaError> {
        self.leaf(request, &RequestKey::verified(signing_request)?, clock, rng)
    }

    fn leaf(
        &self,
        request: &LeafRequest<'_>,
        key: &impl PublicKeyData,
        clock: &dyn Clock,
        rng: &mut dyn Rng,
    ) -> Result<Vec<CertificateDer<'static>>, CaError> {
        if request.id.domain_name() != self.domain.as_str() {
            return Err(CaError::Request("the identity is of another trust domain"));
        }
        if !request.id.has_path() {
            return Err(CaError::Request("the identity has no path"));
        }
        let validity = self.limited(Validity::new(request.lifetime, request.backdate, clock)?, clock)?;
        let params = leaf_params(request, validity, serial(rng))?;
        let leaf = params.signed_by(key, &self.issuer).map_err(CaError::Sign)?;
        Ok([leaf.der().clone()].into_iter().chain(self.intermediates().cloned()).collect())
    }

    /// A validity within that of the authority.
    pub(super) fn limited(&self, wanted: Validity, clock: &dyn Clock) -> Result<Validity, CaError> {
        let now = clock.unix();
        if now < self.not_before || now >= self.not_after {
            return Err(CaError::NotValid);
        }
        Ok(Validity {
            not_before: wanted.not_before.max(self.not_before),
            not_after: wanted.not_after.min(self.not_after),
        })
    }
}

/// What a leaf says: X509-SVID section 4.
pub(super) fn leaf_params(
    request: &LeafRequest<'_>,
    validity: Validity,
    serial: SerialNumber,
) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    // The identity is the URI name; without a subject the extension is critical (RFC 5280 section 4.1.2.6).
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(ia5(request.id.as_str())?)];
    for name in request.dns_names {
        DnsName::try_from(*name).map_err(|_| CaError::Request("a DNS name is not one"))?;
        params.subject_alt_names.push(SanType::DnsName(ia5(name)?));
    }
    params.serial_number = Some(serial);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    validity.apply(&mut params);
    Ok(params)
}
