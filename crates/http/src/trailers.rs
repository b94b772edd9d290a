//! Fields that must not be passed on in a trailer section.

use crate::headers::Name;
use crate::token::eq_field_name;

/// Whether a field is used only from a head: framing, routing, authentication, request modifiers, response controls,
/// how to read the content (RFC 9110 section 6.5.1), and what browsers and other proxies act on. Receivers that merge
/// trailers into the head would use it although no proxy has checked it there.
///
/// `_` counts as `-`: CGI and its successors treat them as equal.
pub fn belongs_in_head(id: Name, name: &[u8]) -> bool {
    // The names that have an id are of these kinds.
    if !matches!(id, Name::Other | Name::Date | Name::Server) {
        return true;
    }
    let first = name.first().map_or(0, |byte| letter(*byte));
    FIRST_LETTERS & first != 0
        && (NAMES.iter().any(|known| eq_field_name(name, known))
            || PREFIXES.iter().any(|start| name.get(..start.len()).is_some_and(|begin| eq_field_name(begin, start))))
}

/// A bit for each letter, whatever its case.
const fn letter(byte: u8) -> u32 {
    1 << (byte & 31)
}

/// The letters that [`NAMES`] and [`PREFIXES`] start with: most trailers start with another one, such as `grpc-status`.
const FIRST_LETTERS: u32 = {
    let mut letters = 0;
    let mut lists: &[&[&[u8]]] = &[&NAMES, &PREFIXES];
    while let [list, rest @ ..] = lists {
        let mut names: &[&[u8]] = list;
        while let [[first, ..], rest @ ..] = names {
            letters |= letter(*first);
            names = rest;
        }
        lists = rest;
    }
    letters
};

const NAMES: [&[u8]; 41] = [
    // Also the names that have an id: with `_` they have none.
    b"content-length",
    b"content-type",
    b"keep-alive",
    b"proxy-connection",
    b"transfer-encoding",
    b"x-real-ip",
    b"age",
    b"alt-svc",
    b"authentication-info",
    b"cache-control",
    b"clear-site-data",
    b"content-disposition",
    b"content-encoding",
    b"content-location",
    b"content-range",
    b"content-security-policy",
    b"early-data",
    b"expires",
    b"forwarded",
    b"location",
    b"max-forwards",
    b"origin",
    b"pragma",
    b"proxy-authenticate",
    b"proxy-authentication-info",
    b"proxy-authorization",
    b"range",
    b"referer",
    b"refresh",
    b"retry-after",
    b"set-cookie",
    b"set-cookie2",
    b"strict-transport-security",
    b"vary",
    b"warning",
    b"www-authenticate",
    b"x-frame-options",
    b"x-http-method-override",
    b"x-original-url",
    b"x-rewrite-url",
    b"x-sendfile",
];

const PREFIXES: [&[u8]; 4] = [b"access-control-", b"if-", b"x-accel-", b"x-forwarded-"];

/// Whether the name of a request field may carry credentials, identities, certificates, addresses or routing
/// information. There is no complete list of such names, so this is a heuristic on the words in the name. A false
/// positive is harmless: the field is only not allowed in a trailer.
pub fn tells_identity(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    STEMS.iter().any(|stem| name.windows(stem.len()).any(|part| part == *stem))
        || name.split(|byte| !byte.is_ascii_alphanumeric()).any(|word| WORDS.contains(&word))
}

/// Parts of words, at any place in a name.
const STEMS: [&[u8]; 36] = [
    // Credentials.
    b"apikey",
    b"auth",
    b"bearer",
    b"cookie",
    b"cred",
    b"jwt",
    b"passw",
    b"secret",
    b"session",
    b"token",
    // Identity and permissions.
    b"account",
    b"anonymous",
    b"claim",
    b"consumer",
    b"email",
    b"group",
    b"identit",
    b"imperson",
    b"login",
    b"permission",
    b"principal",
    b"privilege",
    b"role",
    b"scope",
    b"subject",
    b"tenant",
    b"user",
    // Certificates, and the other side of the connection.
    b"cert",
    b"client",
    b"forward",
    b"proxy",
    b"remote",
    // Another request than that of the head.
    b"original",
    b"overrid",
    b"rewrit",
    b"routing",
];

/// Whole words: what is between the other characters of a name.
const WORDS: [&[u8]; 42] = [
    b"acl",
    b"addr",
    b"address",
    b"admin",
    b"cn",
    b"customer",
    b"dn",
    b"encoding",
    b"fingerprint",
    b"gid",
    b"host",
    b"iap",
    b"idp",
    b"ip",
    b"iss",
    b"issuer",
    b"key",
    b"keys",
    b"ldap",
    b"length",
    b"member",
    b"method",
    b"mtls",
    b"oidc",
    b"org",
    b"organization",
    b"owner",
    b"path",
    b"port",
    b"proto",
    b"protocol",
    b"saml",
    b"scheme",
    b"sid",
    b"sni",
    b"spiffe",
    b"ssl",
    b"sso",
    b"tls",
    b"uid",
    b"uri",
    b"url",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_tell_an_identity_are_told_by_their_words() {
        for name in [
            "Remote-User",
            "REMOTE_USER",
            "remoteuser",
            "Remote-Groups",
            "X-WebAuth-User",
            "ssl-client-cert",
            "SSL_CLIENT_S_DN",
            "X-SSL-Client-Verify",
            "X-Client-DN",
            "X-Forwarded-Client-Cert",
            "x-jwt-claims",
            "Cf-Access-Jwt-Assertion",
            "X-Amzn-Oidc-Data",
            "X-Goog-IAP-Issuer",
            "X-MS-Client-Principal-Name",
            "X-Pomerium-Claim-Email",
            "X-Auth-Token",
            "X-Vault-Token",
            "x-api-key",
            "x_apikey",
            "X-Userinfo",
            "X-Consumer-Groups",
            "X-Credential-Identifier",
            "X-Anonymous-Consumer",
            "Impersonate-Uid",
            "X-Tenant",
            "X-Role",
            "X-Account-Id",
            "X-Session",
            "True-Client-IP",
            "X_Cluster_IP",
            "X-Host",
            "X-Original-Method",
            "X-HTTP-Method",
            "X-Rewritten",
        ] {
            assert!(tells_identity(name.as_bytes()), "{name}");
        }
        for name in [
            "X-Checksum",
            "Content-Digest",
            "Repr-Digest",
            "Server-Timing",
            "x-amz-checksum-crc32c",
            "x-amz-trailer-signature",
            "grpc-status",
            "grpc-message",
            "x-rows",
            "traceparent",
        ] {
            assert!(!tells_identity(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn fields_that_are_used_from_a_head_are_told_from_others() {
        for name in [
            "Content-Length",
            "content_length",
            "Transfer-Encoding",
            "TRANSFER_ENCODING",
            "Host",
            "Te",
            "Trailer",
            "Connection",
            "Authorization",
            "Cookie",
            "Set-Cookie",
            "set_cookie",
            "Forwarded",
            "X-Forwarded-For",
            "X_Forwarded_Proto",
            "X-Forwarded-Anything",
            "X-Real-IP",
            "x_real_ip",
            "Via",
            "If-None-Match",
            "Range",
            "Access-Control-Allow-Origin",
            "X-Accel-Redirect",
            "Location",
            "Content-Encoding",
            "Expect",
            "Max-Forwards",
        ] {
            assert!(belongs_in_head(Name::of(name.as_bytes()), name.as_bytes()), "{name}");
        }
        for name in
            ["grpc-status", "grpc-message", "x-checksum", "Content-Digest", "ETag", "Server-Timing", "x-i", "Date"]
        {
            assert!(!belongs_in_head(Name::of(name.as_bytes()), name.as_bytes()), "{name}");
        }
    }
}
