//! Which origins may call. Kong: `configure_origin` of `kong/plugins/cors/handler.lua`.

use std::borrow::Cow;

use fancy_regex::{Regex, RegexBuilder};

/// Steps that matching one expression against one origin may take.
const BACKTRACK_MAX: usize = 100_000;

/// The configured origins.
#[derive(Debug)]
pub(super) enum Origins {
    /// All may call.
    Any,
    /// One literal origin, which is sent to all callers.
    One(Box<str>),
    /// Origins that match a rule; all requests with an origin, if `any`.
    Rules { rules: Vec<Rule>, any: bool },
}

/// The answer to an origin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<'o> {
    /// `*`
    Any,
    /// This origin may call.
    Only(Cow<'o, str>),
    /// It may not.
    No,
}

/// Lets some origins in.
#[derive(Debug)]
pub(super) enum Rule {
    /// This one.
    Literal(String),
    /// Those that match as a whole.
    Origin(Regex),
    /// Those whose host matches.
    Host(Regex),
}

impl Origins {
    pub(super) fn new(entries: &[Box<str>]) -> Result<Self, Box<fancy_regex::Error>> {
        match entries {
            [] => Ok(Self::Any),
            [one] if **one == *"*" => Ok(Self::Any),
            [one] if is_literal(one) => Ok(Self::One(one.clone())),
            more => {
                let rules = more.iter().filter(|entry| ***entry != *"*").map(|entry| Rule::new(entry));
                Ok(Self::Rules { rules: rules.collect::<Result<_, _>>()?, any: more.iter().any(|e| **e == *"*") })
            }
        }
    }

    /// The answer to an origin; `None` for a request without one.
    pub(super) fn judge<'o>(&'o self, caller: Option<&'o str>) -> Verdict<'o> {
        match (self, caller) {
            (Self::Any, _) => Verdict::Any,
            (Self::One(origin), _) => Verdict::Only(Cow::Borrowed(origin)),
            (Self::Rules { .. }, None) => Verdict::No,
            (Self::Rules { any: true, .. }, Some(_)) => Verdict::Any,
            (Self::Rules { rules, .. }, Some(caller)) => {
                let (origin, host) = normalize(caller);
                if rules.iter().any(|rule| rule.lets_in(&origin, host)) { Verdict::Only(origin) } else { Verdict::No }
            }
        }
    }
}

impl Rule {
    fn new(entry: &str) -> Result<Self, Box<fancy_regex::Error>> {
        if is_literal(entry) {
            return Ok(Self::Literal(normalize(entry).0.into_owned()));
        }
        let regex = compile(entry)?;
        Ok(if entry.contains(':') { Self::Origin(regex) } else { Self::Host(regex) })
    }

    fn lets_in(&self, origin: &str, host: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == origin,
            Self::Origin(regex) => regex.is_match(origin).unwrap_or(false),
            Self::Host(regex) => regex.is_match(host).unwrap_or(false),
        }
    }
}

fn is_literal(entry: &str) -> bool {
    entry.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'/' | b'-'))
}

/// The expression, for the whole text. (Kong anchors only the first and last alternative of `a|b`, so that
/// `http://a.com|http://b.com` lets `http://a.com.evil.com` in. This does not.)
pub(super) fn compile(entry: &str) -> Result<Regex, Box<fancy_regex::Error>> {
    let anchored = format!(r"\A(?:{entry})\z");
    RegexBuilder::new(&anchored).backtrack_limit(BACKTRACK_MAX).build().map_err(Box::new)
}

/// The origin without a port that its scheme has anyway, and its host. What is no URL is both.
fn normalize(text: &str) -> (Cow<'_, str>, &str) {
    let Some((scheme, rest)) = text.split_once("//") else { return (text.into(), text) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, after)| after);
    let (host, port) = match host_and_port.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (host_and_port, None),
    };
    if host.is_empty() || !(scheme.is_empty() || is_scheme(scheme)) {
        return (text.into(), text);
    }
    match (scheme, port) {
        ("http:", Some("80")) | ("https:", Some("443")) => (format!("{scheme}//{host}").into(), host),
        _ if host_and_port.len() == rest.len() && !scheme.is_empty() => (text.into(), host),
        ("", _) => (host_and_port.to_owned().into(), host),
        _ => (format!("{scheme}//{host_and_port}").into(), host),
    }
}

/// `https:`
fn is_scheme(text: &str) -> bool {
    text.strip_suffix(':').is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    })
}
