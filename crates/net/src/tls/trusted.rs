//! Directly trusted certificates: self-signed certificates that are also trusted CA certificates.
//!
//! webpki rejects most of them as peer certificates: it only accepts a CA certificate as the end of a chain. OpenSSL,
//! and so Kong, accepts them as long as they are valid for the time, the name and the usage. X.509 version 1 is
//! accepted too, and the common names of a certificate without subject alternative names are used.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use cardinal_base::civil::day_of_date;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};

use super::certificate::{BIT_STRING, Fields, OBJECT_ID, SEQUENCE, elements, expect};

/// The usage for which a peer's certificate is verified.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose<'x> {
    /// A server with this name.
    Server(&'x ServerName<'x>),
    Client,
}

/// The digests of the trusted certificates, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trusted(Box<[[u8; 32]]>);

impl Trusted {
    pub(super) fn new(certificates: &[CertificateDer<'_>]) -> Self {
        let mut digests: Vec<_> = certificates.iter().map(|certificate| sha256(certificate)).collect();
        digests.sort_unstable();
        digests.dedup();
        Self(digests.into())
    }

    /// Whether this is one of the certificates, and self-signed.
    pub(super) fn contains(&self, certificate: &[u8]) -> bool {
        let is_self_issued = Fields::of(certificate).is_some_and(|fields| fields.issuer == fields.subject);
        is_self_issued && self.0.binary_search(&sha256(certificate)).is_ok()
    }

    /// Verifies a directly trusted certificate; `None` for any other certificate.
    pub(super) fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        purpose: Purpose<'_>,
        now: UnixTime,
    ) -> Option<Result<(), Error>> {
        let fields = Fields::of(certificate).filter(|_| self.contains(certificate))?;
        Some(verify(certificate, &fields, purpose, now).map_err(Error::InvalidCertificate))
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

fn verify(
    certificate: &CertificateDer<'_>,
    fields: &Fields<'_>,
    purpose: Purpose<'_>,
    now: UnixTime,
) -> Result<(), CertificateError> {
    let mut times = elements(fields.validity).map(|(tag, text)| time(tag, text));
    let (not_before, not_after) = (times.next().flatten(), times.next().flatten());
    let (Some(not_before), Some(not_after)) = (not_before, not_after) else {
        return Err(CertificateError::BadEncoding);
    };
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before });
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after });
    }
    if !allows(fields, purpose) {
        return Err(CertificateError::InvalidPurpose);
    }
    let parsed = match ParsedCertificate::try_from(certificate) {
        Ok(parsed) => Some(parsed),
        // Without extensions, the certificate may be of an older version, which only has the fields above.
        Err(_) if !fields.has_extensions() => None,
        Err(Error::InvalidCertificate(error)) => return Err(error),
        Err(_) => return Err(CertificateError::BadEncoding),
    };
    let Purpose::Server(name) = purpose else { return Ok(()) };
    match parsed {
        Some(parsed) if fields.extension(SUBJECT_ALTERNATIVE_NAMES).is_some() => verify_server_name(&parsed, name)
            .map_err(|error| match error {
                Error::InvalidCertificate(error) => error,
                _ => CertificateError::NotValidForName,
            }),
        _ => verify_common_name(fields, name),
    }
}

/// `2.5.29.15`, `2.5.29.17` and `2.5.29.37`.
const KEY_USAGE: &[u8] = &[0x55, 29, 15];
const SUBJECT_ALTERNATIVE_NAMES: &[u8] = &[0x55, 29, 17];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 29, 37];

/// Whether the key usage extensions, if any, allow the purpose.
fn allows(fields: &Fields<'_>, purpose: Purpose<'_>) -> bool {
    /// `id-kp-serverAuth` and `id-kp-clientAuth`.
    const SERVER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
    const CLIENT: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
    /// Bits of the key usage; the first bit is the highest.
    const DIGITAL_SIGNATURE: u8 = 0x80;
    const KEY_ENCIPHERMENT: u8 = 0x20;
    const KEY_AGREEMENT: u8 = 0x08;
    let (id, bits) = match purpose {
        Purpose::Server(_) => (SERVER, DIGITAL_SIGNATURE | KEY_ENCIPHERMENT | KEY_AGREEMENT),
        Purpose::Client => (CLIENT, DIGITAL_SIGNATURE | KEY_AGREEMENT),
    };
    let extended = fields.extension(EXTENDED_KEY_USAGE).map(|value| {
        let ids = expect(SEQUENCE, value).unwrap_or_default().0;
        elements(ids).any(|(tag, found)| tag == OBJECT_ID && found == id)
    });
    let usage = fields.extension(KEY_USAGE).map(|value| {
        // The first byte is the number of unused bits.
        let found = expect(BIT_STRING, value).and_then(|(found, _)| found.get(1).copied());
        found.unwrap_or_default() & bits != 0
    });
    extended.unwrap_or(true) && usage.unwrap_or(true)
}

fn verify_common_name(fields: &Fields<'_>, name: &ServerName<'_>) -> Result<(), CertificateError> {
    let names = common_names(fields.subject);
    let wanted = name.to_str();
    let matches = |pattern: &&str| match name {
        ServerName::DnsName(_) => host_matches(pattern, &wanted),
        _ => **pattern == *wanted,
    };
    if names.iter().any(matches) {
        return Ok(());
    }
    let presented = names.into_iter().map(str::to_owned).collect();
    Err(CertificateError::NotValidForNameContext { expected: name.to_owned(), presented })
}

/// The common names of a subject.
fn common_names(subject: &[u8]) -> Vec<&str> {
    /// `2.5.4.3`.
    const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    let attributes = elements(subject).flat_map(|(_, set)| elements(set));
    let names = attributes.filter_map(|(_, attribute)| {
        let (id, rest) = expect(OBJECT_ID, attribute)?;
        let (_, text) = elements(rest).next()?;
        std::str::from_utf8(text).ok().filter(|_| id == COMMON_NAME)
    });
    names.collect()
}

/// Whether a name matches the pattern, whose first label may be `*`.
fn host_matches(pattern: &str, name: &str) -> bool {
    let below = |name: &str| name.split_once('.').map(|(label, rest)| (!label.is_empty(), rest.to_ascii_lowercase()));
    let name = name.strip_suffix('.').unwrap_or(name);
    match pattern.strip_prefix("*.") {
        // `*.test` would match a whole top-level domain.
        Some(rest) => rest.contains('.') && below(name) == Some((true, rest.to_ascii_lowercase())),
        None => pattern.eq_ignore_ascii_case(name),
    }
}

/// A time in a certificate: `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`; 1970 for earlier times.
fn time(tag: u8, text: &[u8]) -> Option<UnixTime> {
    /// `UTCTime` and `GeneralizedTime`.
    const SHORT: u8 = 0x17;
    const LONG: u8 = 0x18;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u32>().ok();
    let (year, at) = match (tag, text.len()) {
        // RFC 5280 section 4.1.2.5.1.
        (SHORT, 12) => (number(0..2).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2),
        (LONG, 14) => (number(0..4)?, 4),
        _ => return None,
    };
    let field = |place: usize| number(at + 2 * place..at + 2 * place + 2);
    let (month, day, hour, minute, second) = (field(0)?, field(1)?, field(2)?, field(3)?, field(4)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = day_of_date(u64::from(year), u64::from(month), u64::from(day));
    let seconds = u64::from(hour * 3_600 + minute * 60 + second);
    // The exact date is irrelevant for times before 1970.
    let Some(days) = days else { return Some(UnixTime::since_unix_epoch(Duration::ZERO)) };
    Some(UnixTime::since_unix_epoch(Duration::from_secs(days * 86_400 + seconds)))
}
