//! Names of TLS cipher suites.

/// The suites of TLS 1.2 that are supported, by OpenSSL's names.
pub(super) const TLS12_SUITES: [&str; 6] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

const TLS13_SUITES: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// Whether a suite of TLS 1.2 with this name, OpenSSL's or IANA's, is supported.
pub(super) fn is_tls12_suite(name: &str) -> bool {
    TLS12_SUITES.iter().any(|suite| plain(suite) == plain(name))
}

/// Whether a suite of this name is supported.
pub(super) fn is_cipher_suite(name: &str) -> bool {
    is_tls12_suite(name) || TLS13_SUITES.iter().any(|suite| plain(suite) == plain(name))
}

/// What both spellings of a suite have in common.
fn plain(name: &str) -> String {
    let name = name.to_ascii_uppercase().replace(['-', '_'], "").replace("WITH", "");
    let name = name.strip_prefix("TLS").unwrap_or(&name);
    name.strip_suffix("POLY1305SHA256").map_or_else(|| name.to_owned(), |start| format!("{start}POLY1305"))
}
