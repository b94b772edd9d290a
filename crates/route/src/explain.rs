//! Why a request goes where it goes: the route that matched, and how the others lost.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use cardinal_ir::{Field, Id, Route};

use crate::predicate::Node;
use crate::request::Request;
use crate::router::{Match, Router};

/// A kind of condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What the connection speaks.
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
    /// Others, the closest first: those that fit in more kinds, then those of higher rank.
    pub losers: Vec<Loser<'r>>,
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
            let order = (misses.len(), Reverse((compiled.route.rank, compiled.id)));
            let reason = if misses.is_empty() { Reason::RankedLower } else { Reason::Misses(misses) };
            (order, Loser { id: compiled.id, route: &compiled.route, slot: slot as usize, reason })
        })
        .collect();
    losers.sort_unstable_by_key(|(order, _)| *order);
    losers.truncate(losers_max);
    Explanation { matched, losers: losers.into_iter().map(|(_, loser)| loser).collect() }
}
