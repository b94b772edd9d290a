//! Where records are sent.

/// A URL, with what authenticates taken out.
#[derive(Debug, PartialEq)]
pub(super) struct Endpoint {
    pub(super) url: String,
    /// `user:password`, as written.
    pub(super) user: Option<String>,
    /// `host:port`, for messages.
    pub(super) authority: String,
}

impl Endpoint {
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        if host.is_empty() {
            return None;
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
        let path = if tail.starts_with('/') { "" } else { "/" };
        Some(Self {
            url: format!("{scheme}://{host}{path}{tail}"),
            user,
            authority: format!("{host}{}", if has_port { "" } else { default_port }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn user_and_password_are_taken_out() {
        let check = |url: &str, expect: (&str, Option<&str>, &str)| {
            let found = Endpoint::parse(url).unwrap();
            assert_eq!((&*found.url, found.user.as_deref(), &*found.authority), expect, "{url}");
        };
        check("http://h", ("http://h/", None, "h:80"));
        check("https://h:8443/a?b=c", ("https://h:8443/a?b=c", None, "h:8443"));
        check("https://u:p@ss@h/a@b", ("https://h/a@b", Some("u:p@ss"), "h:443"));
        check("http://h?x", ("http://h/?x", None, "h:80"));
        check("http://[::1]/", ("http://[::1]/", None, "[::1]:80"));
        assert_eq!(Endpoint::parse("h/a"), None);
        assert_eq!(Endpoint::parse("http://u@/a"), None);
    }
}
