//! TLS errors as text. The library's own texts partly consist of the names of its types.

use std::borrow::Cow;
use std::fmt::{Debug, Write as _};
use std::io;

use rustls::pki_types::UnixTime;
use rustls::{CertificateError, Error, PeerIncompatible};

/// The text of a connection error, including TLS errors.
pub fn io_text(error: &io::Error) -> Cow<'static, str> {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => text(error),
        None => error.to_string().into(),
    }
}

/// Why a handshake failed, or a certificate or setting cannot be used, as text.
pub fn text(error: &Error) -> Cow<'static, str> {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::AlertReceived(alert) => format!("the peer sent the TLS alert {}", alert_name(alert)).into(),
        Error::NoCertificatesPresented => "the peer sent no certificate".into(),
        Error::PeerIncompatible(why) => incompatible(why),
        Error::PeerMisbehaved(why) => format!("the peer violates the TLS protocol: {}", words(why)).into(),
        Error::InvalidMessage(why) => format!("what the peer sent is not TLS: {}", words(why)).into(),
        Error::InappropriateMessage { got_type, .. } => {
            format!("the peer sent a TLS record out of order: {}", words(got_type)).into()
        }
        Error::InappropriateHandshakeMessage { got_type, .. } => {
            format!("the peer sent a TLS handshake message out of order: {}", words(got_type)).into()
        }
        Error::DecryptError => "a TLS record of the peer cannot be decrypted".into(),
        Error::PeerSentOversizedRecord => "the peer sent a TLS record that is too large".into(),
        Error::NoApplicationProtocol => "the peer supports none of the protocols offered with ALPN".into(),
        Error::FailedToGetRandomBytes => "the system gives no random bytes".into(),
        Error::InconsistentKeys(why) => format!("the key is not the certificate's: {}", words(why)).into(),
        Error::InvalidCertRevocationList(why) => {
            format!("the certificate revocation list cannot be used: {}", words(why)).into()
        }
        Error::General(reason) => reason.clone().into(),
        other => other.to_string().into(),
    }
}

fn incompatible(why: &PeerIncompatible) -> Cow<'static, str> {
    use PeerIncompatible as E;
    match why {
        // A TLS 1.2 client that sends no signature algorithms implies SHA-1, which is not supported either.
        E::SignatureAlgorithmsExtensionRequired => {
            "the peer offers only TLS 1.1 or lower; TLS 1.2 and TLS 1.3 are supported".into()
        }
        E::Tls12NotOffered | E::Tls12NotOfferedOrEnabled | E::ServerDoesNotSupportTls12Or13 => {
            format!("the peer offers no TLS version that is enabled here: {}", words(why)).into()
        }
        E::SupportedVersionsExtensionRequired | E::ServerTlsVersionIsDisabledByOurConfig => {
            "the peer does not offer TLS 1.3, and no other version is enabled here".into()
        }
        why => format!("the peer supports nothing that is supported here: {}", words(why)).into(),
    }
}

fn certificate(error: &CertificateError) -> Cow<'static, str> {
    use CertificateError as E;
    match error {
        E::BadEncoding => "the certificate cannot be read: it is damaged, or its version is not supported".into(),
        E::Expired => "the certificate expired".into(),
        E::ExpiredContext { not_after, .. } => format!("the certificate expired on {}", date(*not_after)).into(),
        E::NotValidYet => "the certificate is not valid yet".into(),
        E::NotValidYetContext { not_before, .. } => {
            format!("the certificate is not valid before {}", date(*not_before)).into()
        }
        E::Revoked => "the certificate is revoked".into(),
        E::UnhandledCriticalExtension => "the certificate has a critical extension that is not supported".into(),
        E::UnknownIssuer => "the certificate is not signed by a trusted CA".into(),
        E::UnknownRevocationStatus => "it is not known whether the certificate is revoked".into(),
        E::ExpiredRevocationList => "the certificate revocation list expired".into(),
        E::ExpiredRevocationListContext { next_update, .. } => {
            format!("the certificate revocation list expired on {}", date(*next_update)).into()
        }
        E::BadSignature => "a signature does not match: of a certificate, or of the handshake by its key".into(),
        E::UnsupportedSignatureAlgorithmContext { signature_algorithm_id: id, .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { signature_algorithm_id: id, .. } => {
            format!("a certificate is signed with an algorithm that is not supported: {}", algorithm(id)).into()
        }
        E::NotValidForName => "the certificate is for another name".into(),
        E::NotValidForNameContext { expected, presented } => names(&expected.to_str(), presented).into(),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "the key usage of the certificate does not allow this use".into()
        }
        E::ApplicationVerificationFailure => "the certificate is refused".into(),
        E::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(error) => chain(error),
            None => other.to_string().into(),
        },
        other => words(other).into(),
    }
}

/// Errors that only webpki distinguishes.
fn chain(error: &webpki::Error) -> Cow<'static, str> {
    use webpki::Error as E;
    match error {
        E::CaUsedAsEndEntity => {
            "the certificate is a CA certificate, and is not itself among the trusted CA certificates".into()
        }
        E::EndEntityUsedAsCa => "a certificate of the chain is signed by one that is not a CA certificate".into(),
        E::UnsupportedCertVersion => "the certificate is not of X.509 version 3".into(),
        E::NameConstraintViolation => "the certificate violates the name constraints of its CA".into(),
        E::PathLenConstraintViolated | E::MaximumPathDepthExceeded => "the certificate chain is too long".into(),
        E::MaximumSignatureChecksExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumNameConstraintComparisonsExceeded => "the certificate chain is too complex".into(),
        other => format!("the certificate chain cannot be verified: {}", words(other)).into(),
    }
}

/// Maximum number of names of a certificate that are listed, and maximum length of each.
const NAMES_MAX: usize = 5;
const NAME_BYTES_MAX: usize = 64;

/// `the certificate is for a.test, b.test, not c.test`.
fn names(expected: &str, presented: &[String]) -> String {
    if presented.is_empty() {
        return format!("the certificate has no subject alternative names, so it is not for {expected}");
    }
    let mut text = "the certificate is for ".to_owned();
    for (at, name) in presented.iter().take(NAMES_MAX).enumerate() {
        let between = if at == 0 { "" } else { ", " };
        // webpki's texts are `DnsName("a.test")` and `IpAddress(127.0.0.1)`.
        let name = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        let name: String = name.trim_matches('"').chars().take(NAME_BYTES_MAX).collect();
        text.push_str(between);
        text.extend(name.escape_debug());
    }
    if presented.len() > NAMES_MAX {
        // Writing to a string does not fail.
        write!(text, " and {} more", presented.len() - NAMES_MAX).ok();
    }
    text.push_str(", not ");
    text.push_str(expected);
    text
}

/// The name of a signature algorithm, or else its object id.
fn algorithm(id: &[u8]) -> Cow<'static, str> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
    // webpki returns the content of the algorithm identifier, which begins with the object id.
    let id = match id {
        [6, length, rest @ ..] => rest.get(..usize::from(*length)).unwrap_or(rest),
        _ => id,
    };
    match id.strip_prefix(RSA) {
        Some([4]) => "RSA with MD5".into(),
        Some([5]) => "RSA with SHA-1".into(),
        _ if id == [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1] => "ECDSA with SHA-1".into(),
        _ => dotted(id).into(),
    }
}

/// An object id in dotted notation (X.690 section 8.19).
fn dotted(id: &[u8]) -> String {
    let mut text = "object id ".to_owned();
    let mut number = 0_u64;
    let mut is_first = true;
    for byte in id {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        if is_first {
            let first = (number / 40).min(2);
            // Writing to a string does not fail.
            write!(text, "{first}.{}", number - first * 40).ok();
        } else {
            write!(text, ".{number}").ok();
        }
        (number, is_first) = (0, false);
    }
    text
}

/// `handshake_failure`, as written in RFC 8446.
fn alert_name(alert: &rustls::AlertDescription) -> String {
    words(alert).replace(' ', "_")
}

/// The name of a variant as words: `NoCipherSuitesInCommon` becomes `no cipher suites in common`.
fn words(variant: impl Debug) -> String {
    let name = format!("{variant:?}");
    let mut text = String::with_capacity(name.len() + 8);
    let mut before = ' ';
    for (at, c) in name.char_indices() {
        let next = name.get(at + c.len_utf8()..).and_then(|rest| rest.chars().next());
        // A capital letter begins a word, unless it is in the middle of an abbreviation.
        let begins = c.is_ascii_uppercase()
            && before.is_ascii_alphanumeric()
            && (!before.is_ascii_uppercase() || next.is_some_and(|next| next.is_ascii_lowercase()));
        if begins {
            text.push(' ');
        }
        text.push(c.to_ascii_lowercase());
        before = c;
    }
    text
}

/// `2024-02-29 12:34:56 UTC`.
fn date(time: UnixTime) -> String {
    let (days, second) = (time.as_secs() / 86_400, time.as_secs() % 86_400);
    let (year, month, day) = cardinal_base::civil::date_of_day(days);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC", second % 60)
}
