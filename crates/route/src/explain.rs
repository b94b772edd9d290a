//! Why a request goes where it goes: the route that matched, and how the others lost.

use std::cmp::Reverse;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use cardinal_ir::{AddrMatch, Field, HostMatch, HostPattern, Id, Matches, PathMatch, Route, TextMatch, ValueMatch};

use crate::predicate::Node;
use crate::query;
use crate::request::Request;
use crate::router::{Match, Router};
use crate::rule::Compiled;

/// A kind of condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Protocol of the connection.
    Protocol,
    /// The method.
    Method,
    /// The Host header.
    Host,
    /// The TLS server name.
    Sni,
    /// The peer.
    Source,
    /// The local address.
    Destination,
    /// The path.
    Path,
    /// A header.
    Header,
    /// An argument of the query.
    Query,
    /// A part of an expression over several kinds.
    Expression,
}

impl Kind {
    /// The name in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Method => "method",
            Self::Host => "host",
            Self::Sni => "sni",
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Path => "path",
            Self::Header => "header",
            Self::Query => "query",
            Self::Expression => "expression",
        }
    }

    /// The kind that a part of an expression is about.
    pub(crate) fn of_node(node: &Node) -> Self {
        match node {
            Node::Test(test) => Self::of_field(&test.field),
            Node::Not(inner) => Self::of_node(inner),
            Node::All(list) | Node::Any(list) => {
                let mut kinds = list.iter().map(Self::of_node);
                match kinds.next() {
                    Some(first) if kinds.all(|kind| kind == first) => first,
                    _ => Self::Expression,
                }
            }
        }
    }

    fn of_field(field: &Field) -> Self {
        match field {
            Field::Protocol => Self::Protocol,
            Field::Sni => Self::Sni,
            Field::Method => Self::Method,
            Field::Host => Self::Host,
            Field::Path | Field::SegmentCount | Field::Segments(..) => Self::Path,
            Field::Header(_) => Self::Header,
            Field::Query(_) => Self::Query,
            Field::SourceIp | Field::SourcePort => Self::Source,
            Field::DestinationIp | Field::DestinationPort => Self::Destination,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a request was matched.
#[derive(Debug)]
pub struct Explanation<'r> {
    /// The route that matched.
    pub matched: Option<Match<'r>>,
    /// Others, the closest first: those that fit in more kinds, then those with a path that starts like the request's,
    /// then those of higher rank.
    pub losers: Vec<Loser<'r>>,
    /// Number of further routes that are not listed.
    pub more: usize,
}

/// A route that did not match.
#[derive(Debug)]
pub struct Loser<'r> {
    /// Id of the record.
    pub id: Id,
    /// The route.
    pub route: &'r Arc<Route>,
    /// Its slot in the router; see [`Match::slot`].
    pub slot: usize,
    /// Why.
    pub reason: Reason,
    /// For each kind of conditions that does not match: what the route requires, and what the request has.
    pub comparisons: Vec<String>,
}

/// Why a route did not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The request does not fit these kinds of conditions.
    Misses(Vec<Kind>),
    /// It fits, but ranks below the match.
    RankedLower,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Misses(kinds) = self else { return f.write_str("lower rank than the match") };
        for (at, kind) in kinds.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{kind}")?;
        }
        Ok(())
    }
}

pub(crate) fn explain<'r>(router: &'r Router, request: &Request<'_>, losers_max: usize) -> Explanation<'r> {
    let matched = router.find(request);
    let won = matched.as_ref().map(|matched| matched.id);
    let mut losers: Vec<_> = router
        .slots
        .iter()
        .filter(|(_, compiled)| Some(compiled.id) != won)
        .map(|(slot, compiled)| {
            let misses = compiled.misses(request);
            let near = Reverse(common_path_len(&compiled.route, request));
            let order = (misses.len(), near, Reverse((compiled.route.rank, compiled.id)));
            let reason = if misses.is_empty() { Reason::RankedLower } else { Reason::Misses(misses) };
            let (route, slot) = (&compiled.route, slot as usize);
            (order, compiled, Loser { id: compiled.id, route, slot, reason, comparisons: Vec::new() })
        })
        .collect();
    losers.sort_unstable_by_key(|(order, ..)| *order);
    let more = losers.len().saturating_sub(losers_max);
    losers.truncate(losers_max);
    let compared = losers.into_iter().map(|(_, compiled, mut loser)| {
        if let Reason::Misses(kinds) = &loser.reason {
            loser.comparisons = kinds.iter().map(|kind| comparison(*kind, compiled, request)).collect();
        }
        loser
    });
    Explanation { matched, losers: compared.collect(), more }
}

/// How many bytes the request's path has in common with one of the route's plain paths.
fn common_path_len(route: &Route, request: &Request<'_>) -> usize {
    let Matches::Conditions(conditions) = &route.matches else { return 0 };
    let common = |path: &PathMatch| match path {
        PathMatch::Prefix(text) | PathMatch::Exact(text) | PathMatch::SegmentPrefix(text) => {
            text.bytes().zip(request.path).take_while(|(a, b)| a == *b).count()
        }
        PathMatch::Regex(_) | PathMatch::FullRegex(_) => 0,
    };
    conditions.paths.iter().map(common).max().unwrap_or(0)
}

/// What the route requires of a kind of conditions, and what the request has. Expressions have only the kind.
fn comparison(kind: Kind, compiled: &Compiled, request: &Request<'_>) -> String {
    let Some(conditions) = compiled.conditions() else { return kind.to_string() };
    let said = |wanted: Vec<String>, sent: Option<String>| {
        format!("{kind} (route: {}; request: {})", listed(wanted), sent.map_or("none".to_owned(), |text| shown(&text)))
    };
    let bytes = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match kind {
        Kind::Protocol => {
            let wires = conditions.wires.iter().map(|wire| wire.as_str().to_owned()).collect();
            said(wires, Some(request.wire.as_str().to_owned()))
        }
        Kind::Method => {
            said(conditions.methods.iter().map(ToString::to_string).collect(), Some(request.method.to_owned()))
        }
        Kind::Host => {
            let port = request.host_port.map(|port| format!(":{port}")).unwrap_or_default();
            let sent = request.host.map(|host| format!("{host}{port}"));
            said(conditions.hosts.iter().map(host_text).collect(), sent)
        }
        Kind::Sni => said(conditions.snis.iter().map(name_text).collect(), request.sni.map(str::to_owned)),
        Kind::Path => said(conditions.paths.iter().map(path_text).collect(), Some(bytes(request.path))),
        Kind::Header => {
            let Some(header) = compiled.missed_header(request) else { return kind.to_string() };
            let mut sent = Vec::new();
            request.headers.each(&header.name, &mut |value| {
                sent.push(bytes(value));
                ControlFlow::Continue(())
            });
            named(kind, &header.name, header.any_of.iter().map(text_match).collect(), sent)
        }
        Kind::Source => said(conditions.sources.iter().map(addr_text).collect(), Some(request.source.to_string())),
        Kind::Destination => {
            said(conditions.destinations.iter().map(addr_text).collect(), Some(request.destination.to_string()))
        }
        Kind::Query => {
            let Some(parameter) = compiled.missed_query(request) else { return kind.to_string() };
            let mut sent = Vec::new();
            query::each(request.query, &parameter.name, &mut |value| {
                sent.push(bytes(value));
                ControlFlow::Break(())
            });
            named(kind, &parameter.name, parameter.any_of.iter().map(value_match).collect(), sent)
        }
        Kind::Expression => kind.to_string(),
    }
}

/// What a header or a query parameter must be, and its values.
fn named(kind: Kind, name: &str, wanted: Vec<String>, sent: Vec<String>) -> String {
    let sent = if sent.is_empty() { "none".to_owned() } else { listed(sent) };
    format!("{kind} {} (route: {}; request: {sent})", shown(name), listed(wanted))
}

/// Values of which one is required, or that were sent; shortened to one line.
fn listed(values: Vec<String>) -> String {
    const SHOWN_MAX: usize = 3;
    let more = values.len().saturating_sub(SHOWN_MAX);
    let mut text = values.iter().take(SHOWN_MAX).map(|value| shown(value)).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Text without what a terminal would act on, cut to what a person reads.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let cut = text.chars().nth(CHARS_MAX).is_some();
    let mut start = String::new();
    for c in text.chars().take(CHARS_MAX) {
        // A backslash of a regular expression stays one.
        match c {
            '\\' | '\'' | '"' => start.push(c),
            c => start.extend(c.escape_debug()),
        }
    }
    if cut { format!("{start}...") } else { start }
}

fn name_text(name: &HostPattern) -> String {
    match name {
        HostPattern::Exact(text) => text.to_string(),
        HostPattern::Suffix(text) => format!("*{text}"),
        HostPattern::Prefix(text) => format!("{text}*"),
    }
}

fn host_text(host: &HostMatch) -> String {
    let port = host.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", name_text(&host.host))
}

fn path_text(path: &PathMatch) -> String {
    match path {
        PathMatch::Prefix(text) => text.to_string(),
        PathMatch::Regex(text) => format!("~{}", text.strip_prefix("(?-u)").unwrap_or(text)),
        PathMatch::Exact(text) => format!("exactly {text}"),
        PathMatch::SegmentPrefix(text) => format!("{}/...", PathMatch::segments(text)),
        PathMatch::FullRegex(text) => format!("~^{}$", text.strip_prefix("(?-u)").unwrap_or(text)),
    }
}

fn text_match(wanted: &TextMatch) -> String {
    match wanted {
        TextMatch::Exact(text) => text.to_string(),
        TextMatch::Regex(text) => format!("~*{}", text.strip_prefix("(?-u)").unwrap_or(text)),
        TextMatch::Value(value) => value_match(value),
        TextMatch::Absent => "absent".to_owned(),
    }
}

fn value_match(wanted: &ValueMatch) -> String {
    match wanted {
        ValueMatch::Present => "present".to_owned(),
        ValueMatch::Exact(text) => format!("exactly {text}"),
        ValueMatch::Prefix(text) => format!("{text}*"),
        ValueMatch::Regex(text) => format!("~^{}$", text.strip_prefix("(?-u)").unwrap_or(text)),
    }
}

fn addr_text(addr: &AddrMatch) -> String {
    match (addr.net, addr.port) {
        (Some(net), Some(port)) => format!("{net} port {port}"),
        (Some(net), None) => net.to_string(),
        (None, port) => format!("port {}", port.unwrap_or_default()),
    }
}
