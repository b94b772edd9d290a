//! A route with its patterns compiled, and whether a request fits it.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use cardinal_ir::{
    AddrMatch, Conditions, HeaderMatch, HostMatch, HostPattern, Id, ImpliedPort, Matches, PathMatch, QueryMatch, Route,
    TextMatch, ValueMatch,
};

use crate::checks::{Checks, PathLen};
use crate::explain::Kind;
use crate::pattern::{Pattern, PatternError};
use crate::predicate::{Node, PredicateError, with_lower};
use crate::query;
use crate::request::Request;

/// A route that can be matched. A clone shares everything.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub(crate) id: Id,
    pub(crate) route: Arc<Route>,
    rule: Rule,
}

/// What the route alone does not hold.
#[derive(Clone, Debug)]
enum Rule {
    /// Conditions without patterns.
    Plain,
    /// The patterns of paths, headers and query parameters in the order they are written in.
    Patterns(Arc<Patterns>),
    Predicate(Arc<Node>),
}

/// Parallel to the conditions; empty where none of them is a pattern.
#[derive(Debug, Default)]
struct Patterns {
    paths: Box<[Option<Pattern>]>,
    headers: Box<[Box<[Option<Pattern>]>]>,
    queries: Box<[Box<[Option<Pattern>]>]>,
}

/// Why a route cannot be matched: the field, and what is wrong with it.
#[derive(Debug)]
pub(crate) struct RuleError {
    pub(crate) path: String,
    pub(crate) message: String,
}

/// What a match of the path was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathTrace<'r> {
    /// Length of the text that matched.
    pub(crate) len: Option<usize>,
    /// The last pattern that matched.
    pub(crate) pattern: Option<&'r Pattern>,
}

impl<'r> PathTrace<'r> {
    /// Notes a match; always true.
    pub(crate) fn found(&mut self, len: usize, pattern: Option<&'r Pattern>) -> bool {
        self.len = Some(len);
        self.pattern = pattern.or(self.pattern);
        true
    }
}

impl Compiled {
    pub(crate) fn new(id: Id, route: Arc<Route>) -> Result<Self, RuleError> {
        let rule = match &route.matches {
            Matches::Conditions(conditions) => {
                let patterns = Patterns::compile(conditions)?;
                if patterns.is_empty() { Rule::Plain } else { Rule::Patterns(Arc::new(patterns)) }
            }
            Matches::Predicate(predicate) => Rule::Predicate(Arc::new(
                Node::compile(predicate).map_err(|error: PredicateError| RuleError::new("expression", error))?,
            )),
        };
        Ok(Self { id, route, rule })
    }

    /// The newer form of the same record, if it matches the same.
    pub(crate) fn with_route(&self, route: &Arc<Route>) -> Option<Self> {
        let is_same = self.route.rank == route.rank && self.route.matches == route.matches;
        is_same.then(|| Self { id: self.id, route: Arc::clone(route), rule: self.rule.clone() })
    }

    /// What of the path matched, if the request fits. Only `checks` are made; `path_len` is known to have matched where
    /// the path is not among them.
    #[inline]
    pub(crate) fn matches<'r>(
        &'r self,
        request: &Request<'_>,
        checks: Checks,
        path_len: PathLen,
    ) -> Option<PathTrace<'r>> {
        let mut trace = PathTrace { len: path_len.get(), pattern: None };
        (checks.is_empty() || self.fits(request, checks, &mut trace)).then_some(trace)
    }

    fn fits<'r>(&'r self, request: &Request<'_>, checks: Checks, trace: &mut PathTrace<'r>) -> bool {
        match (&self.rule, &self.route.matches) {
            (Rule::Predicate(node), _) => node.eval(request, trace),
            (rule, Matches::Conditions(conditions)) => {
                let patterns = rule.patterns();
                checks.kinds().all(|kind| holds(kind, conditions, patterns, request, trace))
            }
            (_, Matches::Predicate(_)) => false,
        }
    }

    /// The conditions, where the route has no predicate.
    pub(crate) fn conditions(&self) -> Option<&Conditions> {
        match &self.route.matches {
            Matches::Conditions(conditions) => Some(conditions),
            Matches::Predicate(_) => None,
        }
    }

    /// The pattern of a path condition, where that is a regular expression.
    pub(crate) fn path_pattern(&self, at: usize) -> Option<&Pattern> {
        self.rule.patterns()?.paths.get(at)?.as_ref()
    }

    /// The first header condition that the request does not fit.
    pub(crate) fn missed_header(&self, request: &Request<'_>) -> Option<&HeaderMatch> {
        let patterns = self.rule.patterns().map(|patterns| &*patterns.headers).unwrap_or_default();
        let headers = self.conditions()?.headers.iter().enumerate();
        let fits = |at, header| fits_header(header, patterns_at(patterns, at), request);
        headers.map(|(at, header)| (fits(at, header), header)).find_map(|(fits, header)| (!fits).then_some(header))
    }

    /// The first condition on a query parameter that the request does not fit.
    pub(crate) fn missed_query(&self, request: &Request<'_>) -> Option<&QueryMatch> {
        let patterns = self.rule.patterns().map(|patterns| &*patterns.queries).unwrap_or_default();
        let queries = self.conditions()?.queries.iter().enumerate();
        let fits = |at, wanted| fits_query(wanted, patterns_at(patterns, at), request);
        queries.map(|(at, wanted)| (fits(at, wanted), wanted)).find_map(|(fits, wanted)| (!fits).then_some(wanted))
    }

    /// The kinds of conditions that the request does not fit; empty where it matches.
    pub(crate) fn misses(&self, request: &Request<'_>) -> Vec<Kind> {
        let mut trace = PathTrace::default();
        match (&self.rule, &self.route.matches) {
            (Rule::Predicate(node), _) => match &**node {
                Node::All(all) => {
                    let missed = all.iter().filter(|node| !node.eval(request, &mut PathTrace::default()));
                    let mut kinds: Vec<_> = missed.map(Kind::of_node).collect();
                    kinds.sort_unstable();
                    kinds.dedup();
                    kinds
                }
                node if node.eval(request, &mut trace) => Vec::new(),
                node => vec![Kind::of_node(node)],
            },
            (rule, Matches::Conditions(conditions)) => {
                let misses = |kind: &Kind| !holds(*kind, conditions, rule.patterns(), request, &mut trace);
                Checks::of(&self.route.matches).kinds().filter(misses).collect()
            }
            (_, Matches::Predicate(_)) => vec![Kind::Expression],
        }
    }
}

impl Rule {
    fn patterns(&self) -> Option<&Patterns> {
        match self {
            Self::Patterns(patterns) => Some(patterns),
            Self::Plain | Self::Predicate(_) => None,
        }
    }
}

impl Patterns {
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.headers.is_empty() && self.queries.is_empty()
    }

    fn compile(conditions: &Conditions) -> Result<Self, RuleError> {
        let mut patterns = Self::default();
        if conditions.paths.iter().any(|path| matches!(path, PathMatch::Regex(_) | PathMatch::FullRegex(_))) {
            let each = conditions.paths.iter().enumerate().map(|(at, path)| match path {
                PathMatch::Prefix(_) | PathMatch::Exact(_) | PathMatch::SegmentPrefix(_) => Ok(None),
                PathMatch::Regex(text) => compile(Pattern::from_start, text, || format!("paths[{at}]")),
                PathMatch::FullRegex(text) => compile(Pattern::whole, text, || format!("paths[{at}]")),
            });
            patterns.paths = each.collect::<Result<_, _>>()?;
        }
        let has_pattern = |header: &HeaderMatch| {
            header.any_of.iter().any(|v| matches!(v, TextMatch::Regex(_) | TextMatch::Value(ValueMatch::Regex(_))))
        };
        if conditions.headers.iter().any(has_pattern) {
            let each = conditions.headers.iter().map(|header| {
                let path = || format!("headers.{}", header.name);
                let each = header.any_of.iter().map(|value| match value {
                    TextMatch::Exact(_) | TextMatch::Absent => Ok(None),
                    TextMatch::Regex(text) => compile(Pattern::anywhere, text, path),
                    TextMatch::Value(value) => compile_value(value, path),
                });
                each.collect::<Result<_, _>>()
            });
            patterns.headers = each.collect::<Result<_, _>>()?;
        }
        let has_pattern = |query: &QueryMatch| query.any_of.iter().any(|v| matches!(v, ValueMatch::Regex(_)));
        if conditions.queries.iter().any(has_pattern) {
            let each = conditions.queries.iter().map(|query| {
                let path = || format!("queries.{}", query.name);
                query.any_of.iter().map(|value| compile_value(value, path)).collect::<Result<_, _>>()
            });
            patterns.queries = each.collect::<Result<_, _>>()?;
        }
        Ok(patterns)
    }
}

impl RuleError {
    fn new(path: impl Into<String>, error: impl std::fmt::Display) -> Self {
        Self { path: path.into(), message: error.to_string() }
    }
}

fn compile(
    make: impl FnOnce(&str) -> Result<Pattern, PatternError>,
    text: &str,
    path: impl FnOnce() -> String,
) -> Result<Option<Pattern>, RuleError> {
    make(text).map(Some).map_err(|error| RuleError::new(path(), error))
}

fn compile_value(value: &ValueMatch, path: impl FnOnce() -> String) -> Result<Option<Pattern>, RuleError> {
    match value {
        ValueMatch::Regex(text) => compile(Pattern::whole, text, path),
        ValueMatch::Present | ValueMatch::Exact(_) | ValueMatch::Prefix(_) => Ok(None),
    }
}

/// The patterns of one header or query parameter.
fn patterns_at(patterns: &[Box<[Option<Pattern>]>], at: usize) -> &[Option<Pattern>] {
    patterns.get(at).map(|patterns| &**patterns).unwrap_or_default()
}

/// Whether one kind of conditions, which is not empty, holds.
fn holds<'r>(
    kind: Kind,
    conditions: &Conditions,
    patterns: Option<&'r Patterns>,
    request: &Request<'_>,
    trace: &mut PathTrace<'r>,
) -> bool {
    match kind {
        Kind::Protocol => conditions.wires.contains(&request.wire),
        Kind::Method => conditions.methods.iter().any(|method| **method == *request.method),
        Kind::Host => conditions.hosts.iter().any(|host| fits_host(host, request)),
        Kind::Sni => {
            !request.considers_sni()
                || request.sni.is_some_and(|name| conditions.snis.iter().any(|sni| fits_name(sni, name)))
        }
        Kind::Source => conditions.sources.iter().any(|addr| fits_addr(addr, request.source)),
        Kind::Destination => conditions.destinations.iter().any(|addr| fits_addr(addr, request.destination)),
        Kind::Path => {
            let patterns = patterns.map(|patterns| &*patterns.paths).unwrap_or_default();
            fits_path(&conditions.paths, patterns, request.path, trace)
        }
        Kind::Header => {
            let patterns = patterns.map(|patterns| &*patterns.headers).unwrap_or_default();
            let mut headers = conditions.headers.iter().enumerate();
            headers.all(|(at, header)| fits_header(header, patterns_at(patterns, at), request))
        }
        Kind::Query => {
            let patterns = patterns.map(|patterns| &*patterns.queries).unwrap_or_default();
            let mut queries = conditions.queries.iter().enumerate();
            queries.all(|(at, wanted)| fits_query(wanted, patterns_at(patterns, at), request))
        }
        Kind::Expression => true,
    }
}

pub(crate) fn fits_host(host: &HostMatch, request: &Request<'_>) -> bool {
    host.port.is_none_or(|port| fits_port(port, host.implied_port, request))
        && request.host.is_some_and(|name| fits_name(&host.host, name))
}

fn fits_port(port: u16, implied: ImpliedPort, request: &Request<'_>) -> bool {
    match implied {
        ImpliedPort::Listener => port == request.destination.port(),
        ImpliedPort::Scheme => port == request.host_port.unwrap_or_else(|| request.scheme_port()),
        ImpliedPort::None => request.host_port == Some(port),
    }
}

fn fits_name(pattern: &HostPattern, name: &str) -> bool {
    match pattern {
        HostPattern::Exact(text) => **text == *name,
        HostPattern::Suffix(text) => name.ends_with(&**text),
        HostPattern::Prefix(text) => name.starts_with(&**text),
    }
}

fn fits_addr(wanted: &AddrMatch, addr: SocketAddr) -> bool {
    wanted.port.is_none_or(|port| port == addr.port())
        && wanted.net.is_none_or(|net| net.contains(&addr.ip().to_canonical()))
}

fn fits_path<'r>(paths: &[PathMatch], patterns: &'r [Option<Pattern>], path: &[u8], trace: &mut PathTrace<'r>) -> bool {
    let mut patterns = patterns.iter();
    paths.iter().any(|wanted| match (wanted, patterns.next()) {
        (PathMatch::Prefix(prefix), _) => path.starts_with(prefix.as_bytes()) && trace.found(prefix.len(), None),
        (PathMatch::Exact(text), _) => path == text.as_bytes() && trace.found(text.len(), None),
        (PathMatch::SegmentPrefix(text), _) => {
            let prefix = PathMatch::segments(text).as_bytes();
            let is_prefix = path.strip_prefix(prefix).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
            is_prefix && trace.found(prefix.len(), None)
        }
        (PathMatch::Regex(_) | PathMatch::FullRegex(_), Some(Some(pattern))) => match pattern.find(path) {
            Some(len) => trace.found(len, Some(pattern)),
            None => false,
        },
        (PathMatch::Regex(_) | PathMatch::FullRegex(_), _) => false,
    })
}

fn fits_header(header: &HeaderMatch, patterns: &[Option<Pattern>], request: &Request<'_>) -> bool {
    let (mut found, mut is_sent) = (false, false);
    let mut visit = |value: &[u8]| {
        is_sent = true;
        let mut patterns = patterns.iter();
        found = header.any_of.iter().any(|wanted| fits_text(wanted, patterns.next().and_then(Option::as_ref), value));
        if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    if memchr::memchr(b'_', header.name.as_bytes()).is_some() {
        request.headers.each(&header.name.replace('_', "-"), &mut visit);
    } else {
        request.headers.each(&header.name, &mut visit);
    }
    found || (!is_sent && header.any_of.contains(&TextMatch::Absent))
}

fn fits_text(wanted: &TextMatch, pattern: Option<&Pattern>, value: &[u8]) -> bool {
    match (wanted, pattern) {
        (TextMatch::Exact(text), _) => with_lower(value, |value| text.as_bytes() == value),
        (TextMatch::Regex(_), Some(pattern)) => with_lower(value, |value| pattern.find(value).is_some()),
        (TextMatch::Value(wanted), pattern) => fits_value(wanted, pattern, value),
        (TextMatch::Regex(_), None) | (TextMatch::Absent, _) => false,
    }
}

/// Whether the first value of the parameter fits.
fn fits_query(wanted: &QueryMatch, patterns: &[Option<Pattern>], request: &Request<'_>) -> bool {
    let mut found = false;
    query::each(request.query, &wanted.name, &mut |value| {
        let mut patterns = patterns.iter();
        let fits = |one| fits_value(one, patterns.next().and_then(Option::as_ref), value);
        found = wanted.any_of.iter().any(fits);
        ControlFlow::Break(())
    });
    found
}

fn fits_value(wanted: &ValueMatch, pattern: Option<&Pattern>, value: &[u8]) -> bool {
    match (wanted, pattern) {
        (ValueMatch::Present, _) => true,
        (ValueMatch::Exact(text), _) => text.as_bytes() == value,
        (ValueMatch::Prefix(text), _) => value.starts_with(text.as_bytes()),
        (ValueMatch::Regex(_), pattern) => pattern.is_some_and(|pattern| pattern.find(value).is_some()),
    }
}
