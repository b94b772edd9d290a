//! Certificates and keys in PEM: whether they are valid and belong together.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::asn1_rs::{Any, FromDer, Oid, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::x509::SubjectPublicKeyInfo;

/// What is known of the first certificate in a PEM text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// DER of the certificate.
    pub der: Vec<u8>,
    /// Bits of the public key.
    pub public_key: Vec<u8>,
    /// Dotted object id of the key's algorithm.
    pub algorithm: String,
    /// It is an authority.
    pub is_ca: bool,
    /// Seconds since the epoch when it ends.
    pub not_after: i64,
}

/// What is known of a private key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// Bits of the public key; `None` where the private key does not contain it.
    pub public_key: Option<Vec<u8>>,
    /// Why TLS cannot sign with it.
    pub unusable: Option<String>,
}

/// Reads the first certificate.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn certificate(text: &str) -> Result<CertificateFacts, String> {
    let pem = first_certificate(text)?;
    let parsed = pem.parse_x509().map_err(|e| e.to_string())?;
    let spki = parsed.public_key();
    Ok(CertificateFacts {
        public_key: spki.subject_public_key.data.to_vec(),
        algorithm: spki.algorithm.algorithm.to_id_string(),
        is_ca: parsed.is_ca(),
        not_after: parsed.validity().not_after.timestamp(),
        der: pem.contents.clone(),
    })
}

fn first_certificate(text: &str) -> Result<Pem, String> {
    Pem::iter_from_buffer(text.as_bytes())
        .filter_map(Result::ok)
        .find(|pem| pem.label == "CERTIFICATE")
        .ok_or_else(|| "no PEM block CERTIFICATE found".to_owned())
}

/// The error of clients that verify the first certificate for these server names at a time in seconds since
/// the epoch; 0 skips its validity.
pub fn complaints(text: &str, server_names: &[Box<str>], now: i64) -> Vec<String> {
    let Ok(pem) = first_certificate(text) else { return Vec::new() };
    let Ok(parsed) = pem.parse_x509() else { return Vec::new() };
    let mut all = Vec::new();
    let validity = parsed.validity();
    if now <= 0 {
        // The time is unknown.
    } else if validity.not_after.timestamp() < now {
        all.push(format!("the certificate expired on {}", validity.not_after));
    } else if validity.not_before.timestamp() > now {
        all.push(format!("the certificate is not valid before {}", validity.not_before));
    }
    let names = names(&parsed);
    let foreign: Vec<&str> = server_names.iter().map(|name| &**name).filter(|name| !covers(&names, name)).collect();
    if !foreign.is_empty() {
        let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        all.push(format!("the certificate is not valid for the server name {} (its names: {has})", foreign.join(", ")));
    }
    all
}

/// The DNS names and addresses that a certificate is for, lower-case. The common name counts when there are none, as
/// OpenSSL has it.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                _ => {}
            }
        }
    }
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(str::to_ascii_lowercase));
    }
    names
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from));
    address.ok().map(|address| address.to_string())
}

/// Whether one of a certificate's names is good for a server name, which may be a wildcard itself.
fn covers(names: &[String], server_name: &str) -> bool {
    // Which names follow `a.*` or `*` is not known.
    if server_name.ends_with('*') {
        return true;
    }
    let parent = server_name.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|name| name == server_name || (name.starts_with("*.") && name.get(2..) == parent))
}

/// What is known of the first private key.
///
/// # Errors
/// There is none, or it is damaged.
pub fn key(text: &str) -> Result<KeyFacts, String> {
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|e| e.to_string())?;
    let facts = match &key {
        PrivateKeyDer::Pkcs1(der) => rsa(der.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(der) => ec(der.secret_sec1_der(), None),
        PrivateKeyDer::Pkcs8(der) => pkcs8(der.secret_pkcs8_der()),
        _ => None,
    };
    facts.ok_or_else(|| "not a private key".to_owned())
}

/// Sizes of RSA keys that the TLS library signs with, bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// An RSA key (RFC 8017 appendix A.1.2), of which the first numbers are public.
fn rsa(der: &[u8]) -> Option<KeyFacts> {
    let [_, modulus, exponent] = elements(der)?;
    let number = modulus.data.iter().position(|byte| *byte != 0).and_then(|start| modulus.data.get(start..))?;
    let bits = number.len() * 8 - number.first()?.leading_zeros() as usize;
    let numbers = [integer(modulus.data), integer(exponent.data)].concat();
    let unusable = if !RSA_BITS.contains(&bits) {
        let (least, most) = RSA_BITS.into_inner();
        Some(format!("an RSA key of {bits} bits cannot be used for TLS: {least} to {most} bits are supported"))
    } else {
        RsaKeyPair::from_der(der).err().map(|error| format!("the RSA key cannot be used for TLS: {error}"))
    };
    Some(KeyFacts { public_key: Some(tagged(0x30, &numbers)), unusable })
}

/// The elliptic curves that the TLS library signs on.
static CURVES: [&EcdsaSigningAlgorithm; 3] =
    [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING];

/// A key on an elliptic curve (RFC 5915); `curve` where it stands outside.
fn ec(der: &[u8], curve: Option<String>) -> Option<KeyFacts> {
    let (_, sequence) = Any::from_der(der).ok().filter(|(_, any)| any.tag() == Tag::Sequence)?;
    let mut rest = sequence.data;
    let (mut own_curve, mut public_key) = (curve, None);
    while let Ok((next, field)) = Any::from_der(rest) {
        rest = next;
        let inner = || Any::from_der(field.data).ok().map(|(_, inner)| inner);
        match field.tag().0 {
            0 if field.header.is_contextspecific() => own_curve = inner().and_then(|oid| identifier(&oid)),
            1 if field.header.is_contextspecific() => {
                public_key = inner().and_then(|bits| bits.data.strip_prefix(&[0]).map(<[u8]>::to_vec));
            }
            _ => {}
        }
    }
    let pair = CURVES.iter().find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, der).ok());
    let unusable = || {
        let curve = own_curve.as_deref().unwrap_or("an unnamed curve");
        format!("a key on the curve {curve} cannot be used for TLS: P-256, P-384 and P-521 are supported")
    };
    Some(KeyFacts {
        public_key: pair.as_ref().map(|pair| pair.public_key().as_ref().to_vec()).or(public_key),
        unusable: pair.is_none().then(unusable),
    })
}

/// A key of any kind (RFC 5958).
fn pkcs8(der: &[u8]) -> Option<KeyFacts> {
    let [_, algorithm, key] = elements(der)?;
    let (parameters, id) = Any::from_der(algorithm.data).ok()?;
    let id = identifier(&id)?;
    let parameter = || Any::from_der(parameters).ok().and_then(|(_, parameter)| identifier(&parameter));
    match id.as_str() {
        "1.2.840.113549.1.1.1" => rsa(key.data),
        "1.2.840.10045.2.1" => {
            let facts = ec(key.data, parameter())?;
            // The curve of such a key stands outside of it.
            match CURVES.iter().find_map(|curve| EcdsaKeyPair::from_pkcs8(curve, der).ok()) {
                Some(pair) => Some(KeyFacts { public_key: Some(pair.public_key().as_ref().to_vec()), unusable: None }),
                None => Some(facts),
            }
        }
        _ => match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            Ok(pair) => Some(KeyFacts { public_key: Some(pair.public_key().as_ref().to_vec()), unusable: None }),
            Err(_) => {
                let reason = format!(
                    "a key of the algorithm {id} cannot be used for TLS: RSA, ECDSA on P-256, P-384 and P-521, and \
                     Ed25519 are supported"
                );
                Some(KeyFacts { public_key: None, unusable: Some(reason) })
            }
        },
    }
}

/// The first elements of a sequence.
fn elements<const N: usize>(der: &[u8]) -> Option<[Any<'_>; N]> {
    let (_, sequence) = Any::from_der(der).ok().filter(|(_, any)| any.tag() == Tag::Sequence)?;
    let mut rest = sequence.data;
    let mut found = Vec::with_capacity(N);
    for _ in 0..N {
        let (next, element) = Any::from_der(rest).ok()?;
        rest = next;
        found.push(element);
    }
    found.try_into().ok()
}

fn identifier(any: &Any<'_>) -> Option<String> {
    (any.tag() == Tag::Oid).then(|| Oid::new(any.data.into()).to_id_string())
}

fn integer(contents: &[u8]) -> Vec<u8> {
    tagged(2, contents)
}

/// An element of DER.
fn tagged(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut element = vec![tag];
    if length < 0x80 {
        element.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let digits = bytes.get(length.leading_zeros() as usize / 8..).unwrap_or_default();
        element.push(0x80 | digits.len() as u8);
        element.extend_from_slice(digits);
    }
    element.extend_from_slice(contents);
    element
}

/// The bits of a public key (`PUBLIC KEY` in PEM).
///
/// # Errors
/// There is none, or it cannot be read.
pub fn public_bits(text: &str) -> Result<Vec<u8>, String> {
    let pem = Pem::iter_from_buffer(text.as_bytes())
        .filter_map(Result::ok)
        .find(|pem| pem.label == "PUBLIC KEY")
        .ok_or("no PEM block PUBLIC KEY found")?;
    let (_, info) = SubjectPublicKeyInfo::from_der(&pem.contents).map_err(|e| e.to_string())?;
    Ok(info.subject_public_key.data.to_vec())
}

/// Whether a certificate and a key belong together, as far as that can be checked.
///
/// # Errors
/// One of them cannot be read.
pub fn matches(certificate_text: &str, key_text: &str) -> Result<bool, String> {
    let (shown, key) = (certificate(certificate_text)?.public_key, key(key_text)?.public_key);
    Ok(key.is_none_or(|key| key == shown))
}

/// SHA-256 of the first certificate, hexadecimal.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn digest(text: &str) -> Result<String, String> {
    let der = certificate(text)?.der;
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    Ok(sum.as_ref().iter().map(|b| format!("{b:02x}")).collect())
}
