//! Verifies signatures by RSA keys of less than 2048 bits, which aws-lc only supports in part. They prove little, but a
//! peer that is not verified may have such a key (Kong accepts it). Nothing here is secret.

use aws_lc_rs::digest::{self, digest};
use num_bigint::BigUint;

/// The encoding of a message for signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2).
    Pkcs1,
    /// RSASSA-PSS with a salt as long as the hash (RFC 8017 section 8.1).
    Pss,
}

/// Minimum length of the modulus and maximum length of the exponent, bytes.
const MODULUS_MIN: usize = 64;
const EXPONENT_MAX: usize = 8;
/// Maximum length of the modulus, bytes: longer keys are handled by aws-lc.
pub(super) const MODULUS_MAX: usize = 255;

/// Whether `signature` is a signature of `message` by the key.
pub(super) fn verify(
    (modulus, exponent): (&[u8], &[u8]),
    (hash, padding): (&'static digest::Algorithm, Padding),
    message: &[u8],
    signature: &[u8],
) -> bool {
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let sizes = (MODULUS_MIN..=MODULUS_MAX).contains(&modulus.len()) && exponent.len() <= EXPONENT_MAX;
    if !sizes || !odd(modulus) || !odd(exponent) || signature.len() != modulus.len() {
        return false;
    }
    let (n, e, s) =
        (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent), BigUint::from_bytes_be(signature));
    if s >= n {
        return false;
    }
    let number = s.modpow(&e, &n).to_bytes_be();
    let hashed = digest(hash, message);
    match padding {
        Padding::Pkcs1 => {
            let expected = pkcs1(hash, hashed.as_ref(), modulus.len());
            expected.is_some_and(|expected| *expected == *left_padded(&number, modulus.len()))
        }
        Padding::Pss => {
            let bits = n.bits() as usize - 1;
            let length = bits.div_ceil(8);
            number.len() <= length
                && is_pss(hash, hashed.as_ref(), &left_padded(&number, length), bits).unwrap_or(false)
        }
    }
}

fn left_padded(number: &[u8], length: usize) -> Vec<u8> {
    let mut padded = vec![0; length.saturating_sub(number.len())];
    padded.extend_from_slice(number);
    padded
}

/// EMSA-PKCS1-v1_5 (RFC 8017 section 9.2).
fn pkcs1(hash: &'static digest::Algorithm, hashed: &[u8], length: usize) -> Option<Vec<u8>> {
    // The last byte of the object ids of SHA-2, 2.16.840.1.101.3.4.2.x.
    let id = [(&digest::SHA256, 1), (&digest::SHA384, 2), (&digest::SHA512, 3)];
    let (_, id) = id.into_iter().find(|(known, _)| *known == hash)?;
    let size = hashed.len() as u8;
    let mut info = vec![0x30, 17 + size, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, id, 5, 0, 4, size];
    info.extend_from_slice(hashed);
    let filling = length.checked_sub(info.len() + 3).filter(|filling| *filling >= 8)?;
    let mut expected = vec![0, 1];
    expected.resize(2 + filling, 0xff);
    expected.push(0);
    expected.extend_from_slice(&info);
    Some(expected)
}

/// EMSA-PSS-VERIFY (RFC 8017 section 9.1.2) of an encoded message of `bits` bits.
fn is_pss(hash: &'static digest::Algorithm, hashed: &[u8], encoded: &[u8], bits: usize) -> Option<bool> {
    let size = hash.output_len();
    let (masked, rest) = encoded.split_at_checked(encoded.len().checked_sub(size + 1)?)?;
    let (proof, trailer) = rest.split_at_checked(size)?;
    let unused = encoded.len() * 8 - bits;
    let top = u8::MAX.checked_shr(unused as u32).unwrap_or(0);
    if trailer != [0xbc] || masked.first()? & !top != 0 {
        return Some(false);
    }
    let mut block: Vec<u8> = masked.iter().zip(mask(hash, proof, masked.len())).map(|(a, b)| a ^ b).collect();
    *block.first_mut()? &= top;
    let (zeros, rest) = block.split_at_checked(block.len().checked_sub(size + 1)?)?;
    let (separator, salt) = rest.split_first()?;
    if zeros.iter().any(|byte| *byte != 0) || *separator != 1 {
        return Some(false);
    }
    let mut context = digest::Context::new(hash);
    context.update(&[0; 8]);
    context.update(hashed);
    context.update(salt);
    Some(context.finish().as_ref() == proof)
}

/// MGF1 (RFC 8017 appendix B.2.1).
fn mask(hash: &'static digest::Algorithm, seed: &[u8], length: usize) -> Vec<u8> {
    let mut mask = Vec::with_capacity(length + hash.output_len());
    for counter in 0_u32.. {
        if mask.len() >= length {
            break;
        }
        let mut context = digest::Context::new(hash);
        context.update(seed);
        context.update(&counter.to_be_bytes());
        mask.extend_from_slice(context.finish().as_ref());
    }
    mask.truncate(length);
    mask
}
