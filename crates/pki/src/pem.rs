//! PEM (RFC 7468): what `rustls-pki-types` reads, written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{Error, PemObject as _};
use zeroize::Zeroizing;

/// Characters of a line.
const LINE: usize = 64;

/// A block of PEM. The text is erased when dropped, as it may hold a key.
pub(crate) fn block(label: &str, der: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    // Enough for it all, so that no copy of a part is left behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * encoded.len() + 2 * label.len() + 64));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest: &str = &encoded;
    while let Some((line, after)) = rest.split_at_checked(LINE.min(rest.len())).filter(|(line, _)| !line.is_empty()) {
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Certificates, one after the other.
pub fn certificates<'a>(ders: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    ders.into_iter().map(|der| block("CERTIFICATE", der).as_str().to_owned()).collect()
}

/// Reads the certificates of a text, and ignores other blocks.
pub(crate) fn read_certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(text.as_bytes()).collect()
}
