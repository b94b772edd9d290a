//! `Cache-Control` and `Expires`.

use std::time::UNIX_EPOCH;

use cardinal_http::{HeaderList, split_list};

/// Directives of a message. Seconds where they have a value.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Directives {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) private: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<i64>,
    pub(super) s_maxage: Option<i64>,
    pub(super) max_stale: Option<i64>,
    pub(super) min_fresh: Option<i64>,
}

impl Directives {
    pub(super) fn of(headers: &HeaderList) -> Self {
        let mut found = Self::default();
        for directive in headers.get_all(b"cache-control").flat_map(split_list) {
            let mut parts = directive.splitn(2, |b| *b == b'=');
            let name = cardinal_http::trim(parts.next().unwrap_or_default()).to_ascii_lowercase();
            let seconds = parts.next().and_then(seconds);
            match name.as_slice() {
                b"no-store" => found.no_store = true,
                b"no-cache" => found.no_cache = true,
                b"private" => found.private = true,
                b"only-if-cached" => found.only_if_cached = true,
                b"max-age" => found.max_age = seconds,
                b"s-maxage" => found.s_maxage = seconds,
                b"max-stale" => found.max_stale = seconds,
                b"min-fresh" => found.min_fresh = seconds,
                _ => {}
            }
        }
        found
    }

    /// Freshness lifetime of a response with these directives in seconds; 0 when there is none.
    pub(super) fn ttl(&self, headers: &HeaderList, now: u64) -> u64 {
        let age = self.s_maxage.or(self.max_age).or_else(|| {
            let expires = std::str::from_utf8(headers.get_all(b"expires").last()?).ok()?;
            let at = httpdate::parse_http_date(expires).ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs();
            Some(i64::try_from(at).ok()?.saturating_sub_unsigned(now))
        });
        age.map_or(0, |age| age.max(0).unsigned_abs())
    }
}

fn seconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(cardinal_http::trim(text)).ok()?;
    text.trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use cardinal_http::HeaderList;

    use super::Directives;

    #[test]
    fn directives_are_read_from_all_fields() {
        let mut headers = HeaderList::new();
        headers.append(b"Cache-Control", b"No-Store, max-age=10 , foo=bar");
        headers.append(b"cache-control", b"s-maxage=\"20\", min-fresh=x");
        let expect = Directives { no_store: true, max_age: Some(10), s_maxage: Some(20), ..Directives::default() };
        assert_eq!(Directives::of(&headers), expect);
    }

    #[test]
    fn shared_age_goes_before_age_before_expiry() {
        let check = |fields: &[(&str, &str)], expect: u64| {
            let headers: HeaderList = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            // 784111777 is the time of the example in RFC 9110.
            assert_eq!(Directives::of(&headers).ttl(&headers, 784_111_777 - 30), expect, "{fields:?}");
        };
        let expires = ("Expires", "Sun, 06 Nov 1994 08:49:37 GMT");
        check(&[], 0);
        check(&[expires], 30);
        check(&[expires, ("Cache-Control", "max-age=5")], 5);
        check(&[expires, ("Cache-Control", "max-age=5, s-maxage=0")], 0);
        check(&[("Expires", "0")], 0);
        check(&[("Cache-Control", "max-age=-5")], 0);
    }
}
