//! Known failures, with the reasons.

/// Prefix of the suite's name, cases, and the reason. A case that ends with `*` is a prefix.
const KNOWN: &[(&str, &[&str], &str)] = &[
    (
        "h2spec, cleartext",
        &["http2/3.5 Sends invalid connection preface"],
        "Bytes that are no preface of HTTP/2 are read as HTTP/1.1 on this port, and answered with 400 in HTTP/1.1.",
    ),
    (
        "http-cache-tests",
        &[
            "age-parse-*",
            "freshness-max-age-age",
            "freshness-expires-old-date",
            "freshness-expires-age-*",
            "other-age-update-*",
        ],
        "As Kong's plugin does, the age of a response is counted from its arrival: `Age` and `Date` of the upstream are not read.",
    ),
    (
        "http-cache-tests",
        &["headers-store-Set-Cookie"],
        "A response that sets cookies is not cached: it may hold one client's session.",
    ),
    (
        "http-cache-tests",
        &["304-*", "cc-resp-must-revalidate-stale"],
        "As Kong's plugin does, a stale response is fetched anew, never revalidated.",
    ),
    (
        "http-cache-tests",
        &[
            "conditional-304-etag",
            "conditional-etag-precedence",
            "conditional-etag-vary-headers",
            "partial-use-headers",
        ],
        "As Kong's plugin does, a conditional or range request is answered from the cache with the whole response.",
    ),
    (
        "http-cache-tests",
        &["invalidate-*"],
        "As in Kong's plugin, a request with an unsafe method does not invalidate what is cached.",
    ),
    (
        "http-cache-tests",
        &["stale-close-*"],
        "The upstream closes the connection, so the response is the gateway's 502; the suite takes any response that has no \
         number of its origin for a cached one.",
    ),
    (
        "http-cache-tests",
        &["headers-store-Content-Type"],
        "The plugin caches the content types of its configuration only; the test's type is not among them.",
    ),
    (
        "http-cache-tests",
        &["headers-store-Transfer-Encoding"],
        "The test's origin sends a `Transfer-Encoding` that does not exist; the response is refused with 502.",
    ),
    (
        "tlsfuzzer",
        &["test-tls13-empty-alert: *", "test-tls13-finished-plaintext: *", "test-tls13-keyshare-omitted: *"],
        "The handshake is refused with a fatal alert, but another one than the script expects.",
    ),
    (
        "tlsfuzzer",
        &["test-tls13-zero-length-data: *"],
        "The connection is closed, but without the alert that the script expects.",
    ),
    (
        "tlsfuzzer",
        &["test-tls13-session-resumption: *"],
        "PSK without (EC)DHE is not offered, and the script's TLS 1.2 part needs cipher suites with CBC.",
    ),
];

/// The known reason of a failure.
pub(super) fn reason(suite: &str, case: &str) -> Option<&'static str> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => case.starts_with(start),
        None => case == pattern,
    };
    let found = KNOWN.iter().find(|(of, cases, _)| *of == suite && cases.iter().any(|pattern| fits(pattern)));
    found.map(|(_, _, reason)| *reason)
}
