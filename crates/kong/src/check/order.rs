//! The order of routes: for which pairs `router_order` matters, and why one route goes before another.

use std::collections::{HashMap, HashSet};

use cardinal_ir::{Conditions, HostMatch, HostPattern, Id, Location, Matches, PathMatch, TextMatch, Traffic};

use crate::declarative::{Entity, Snapshot};
use crate::lower::RoutePart;
use crate::rank::{Flavor, RouteOrder};
use crate::settings::{RouterFlavor, Settings};

/// Two routes whose order differs between the values of `router_order`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderPair {
    /// The route that goes first with `kong`.
    pub kong: RouteLabel,
    /// The route that goes first with `documented`.
    pub documented: RouteLabel,
}

/// A route in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteLabel {
    /// Its id.
    pub id: Id,
    /// `routes "a"`.
    pub label: String,
    /// Where it was written, if it was read from a file.
    pub location: Option<Location>,
}

/// The pairs of routes for which `router_order` matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderReport {
    /// At most [`PAIRS_MAX`] of them.
    pub pairs: Vec<OrderPair>,
    /// There may be more pairs, which were not looked for.
    pub is_cut: bool,
}

/// More pairs are not listed.
const PAIRS_MAX: usize = 20;
/// Pairs of routes that are compared before the search ends.
const COMPARED_MAX: usize = 2_000_000;
/// Different priorities of which all pairs are compared; with more, those of the first routes are.
const CLASSES_MAX: usize = 2_000;

/// The pairs of routes of HTTP that can match one request, and whose order differs between the values of
/// `router_order`. Routes of the `traditional` flavor have one order.
pub fn order_report(snapshot: &Snapshot, settings: &Settings) -> OrderReport {
    let mut report = OrderReport::default();
    if settings.router_flavor == RouterFlavor::Traditional {
        return report;
    }
    let settings = |router_order| Settings { router_order, ..settings.clone() };
    let (kong, documented) = (settings(RouteOrder::Kong), settings(RouteOrder::Documented));
    let disabled: HashSet<Id> = snapshot.of("services").filter(|s| !s.flag("enabled")).map(|s| s.id).collect();
    let is_served = |route: &Entity| route.reference("service").is_none_or(|service| !disabled.contains(&service));
    let mut routes = Vec::new();
    let mut classes: HashMap<[u128; 2], Vec<Part>> = HashMap::new();
    for entity in snapshot.of("routes").filter(is_served) {
        let route = routes.len();
        routes.push(entity.id);
        let (by_kong, by_documentation) = (parts(&entity, &kong), parts(&entity, &documented));
        for (one, other) in by_kong.into_iter().zip(by_documentation) {
            let weights = [one.rank.weight, other.rank.weight];
            classes.entry(weights).or_default().push(Part { route, id: one.id, matches: one.matches });
        }
    }
    let mut classes: Vec<_> = classes.into_iter().collect();
    classes.sort_unstable_by_key(|(weights, _)| std::cmp::Reverse(*weights));
    report.is_cut = classes.len() > CLASSES_MAX;
    classes.truncate(CLASSES_MAX);
    let mut search = Search { snapshot, routes: &routes, report, compared: 0, seen: HashSet::new() };
    for (at, (first, parts)) in classes.iter().enumerate() {
        for (second, others) in classes.iter().skip(at + 1) {
            // They are sorted by the running Kong's order. Ids decide between equals.
            let may_differ = first[0] == second[0] || first[1] <= second[1];
            if may_differ && !search.pairs_of((*first, parts), (*second, others)) {
                return search.report;
            }
        }
    }
    search.report
}

/// A record that a route becomes.
struct Part {
    route: usize,
    id: Id,
    matches: Matches,
}

struct Search<'s> {
    snapshot: &'s Snapshot,
    /// Ids of the routes, in the order of their numbers.
    routes: &'s [Id],
    report: OrderReport,
    compared: usize,
    seen: HashSet<(usize, usize)>,
}

impl Search<'_> {
    /// Adds the pairs of two classes; `false` where the search has to end.
    fn pairs_of(&mut self, (first, parts): ([u128; 2], &[Part]), (second, others): ([u128; 2], &[Part])) -> bool {
        // Routes for plain hosts only meet others that name the same host or are for several.
        let mut by_host: HashMap<&str, Vec<&Part>> = HashMap::new();
        let mut open: Vec<&Part> = Vec::new();
        for other in others {
            match plain_hosts(&other.matches) {
                Some(hosts) => hosts.for_each(|host| by_host.entry(host).or_default().push(other)),
                None => open.push(other),
            }
        }
        for part in parts {
            let candidates: Vec<&Part> = match plain_hosts(&part.matches) {
                Some(hosts) => hosts.filter_map(|host| by_host.get(host)).flatten().chain(&open).copied().collect(),
                None => others.iter().collect(),
            };
            for other in candidates {
                self.compared += 1;
                if self.compared > COMPARED_MAX || self.report.pairs.len() == PAIRS_MAX {
                    self.report.is_cut = true;
                    return false;
                }
                let [by_kong, by_documentation] =
                    [0, 1].map(|order| (first[order], part.id).cmp(&(second[order], other.id)));
                if by_kong == by_documentation || part.route == other.route {
                    continue;
                }
                let (part, other) = if by_kong.is_gt() { (part, other) } else { (other, part) };
                if may_meet(&part.matches, &other.matches) && self.seen.insert((part.route, other.route)) {
                    let entity = |route: usize| self.snapshot.get("routes", self.routes.get(route)?);
                    let label = |route: usize| entity(route).map(|entity| label(&entity));
                    if let (Some(kong), Some(documented)) = (label(part.route), label(other.route)) {
                        self.report.pairs.push(OrderPair { kong, documented });
                    }
                }
            }
        }
        true
    }
}

fn label(entity: &Entity) -> RouteLabel {
    let origin = entity.origin("routes");
    RouteLabel { id: entity.id, label: origin.label(), location: entity.location.clone() }
}

/// The records of a route for HTTP; none where it cannot be lowered.
fn parts(entity: &Entity, settings: &Settings) -> Vec<RoutePart> {
    let parts = crate::lower::route_parts(entity, settings).unwrap_or_default();
    parts.into_iter().filter(|part| part.traffic == Traffic::Http).collect()
}

/// The hosts of a route that has plain ones only.
fn plain_hosts(matches: &Matches) -> Option<impl Iterator<Item = &str>> {
    let Matches::Conditions(conditions) = matches else { return None };
    let is_plain = |host: &HostMatch| matches!(host.host, HostPattern::Exact(_));
    let all_plain = !conditions.hosts.is_empty() && conditions.hosts.iter().all(is_plain);
    all_plain.then(|| {
        conditions.hosts.iter().filter_map(|host| match &host.host {
            HostPattern::Exact(name) => Some(&**name),
            HostPattern::Suffix(_) | HostPattern::Prefix(_) => None,
        })
    })
}

/// Whether one request may match both, approximately. Server names are ignored, as requests without TLS
/// match any, and headers are assumed to have one value.
fn may_meet(one: &Matches, other: &Matches) -> bool {
    let (Matches::Conditions(one), Matches::Conditions(other)) = (one, other) else { return true };
    any_pair(&one.methods, &other.methods, |a, b| a == b)
        && any_pair(&one.hosts, &other.hosts, hosts_meet)
        && any_pair(&one.paths, &other.paths, paths_meet)
        && headers_meet(one, other)
}

/// Whether any two values go together; an empty list goes with everything.
fn any_pair<T>(one: &[T], other: &[T], meet: impl Fn(&T, &T) -> bool) -> bool {
    one.is_empty() || other.is_empty() || one.iter().any(|a| other.iter().any(|b| meet(a, b)))
}

fn hosts_meet(one: &HostMatch, other: &HostMatch) -> bool {
    use HostPattern::{Exact, Prefix, Suffix};
    let names = match (&one.host, &other.host) {
        (Exact(a), Exact(b)) => a == b,
        (Exact(name), Suffix(suffix)) | (Suffix(suffix), Exact(name)) => name.ends_with(&**suffix),
        (Exact(name), Prefix(prefix)) | (Prefix(prefix), Exact(name)) => name.starts_with(&**prefix),
        (Suffix(a), Suffix(b)) => a.ends_with(&**b) || b.ends_with(&**a),
        (Prefix(a), Prefix(b)) => a.starts_with(&**b) || b.starts_with(&**a),
        (Suffix(_), Prefix(_)) | (Prefix(_), Suffix(_)) => true,
    };
    names && (one.port.is_none() || other.port.is_none() || one.port == other.port)
}

fn paths_meet(one: &PathMatch, other: &PathMatch) -> bool {
    let start = |path: &PathMatch| match path {
        PathMatch::Prefix(text) | PathMatch::Exact(text) | PathMatch::SegmentPrefix(text) => text.to_string(),
        PathMatch::Regex(text) | PathMatch::FullRegex(text) => literal_start(text),
    };
    let (one, other) = (start(one), start(other));
    one.starts_with(&other) || other.starts_with(&one)
}

/// The text that each match of a pattern begins with, as far as it can be determined.
fn literal_start(pattern: &str) -> String {
    if pattern.contains('|') || pattern.starts_with("(?") {
        return String::new();
    }
    let is_literal = |c: &char| c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | '~' | '%' | ':' | '@' | '=' | ',');
    let mut text: String = pattern.chars().take_while(is_literal).collect();
    // What follows may make the last character optional.
    if matches!(pattern[text.len()..].chars().next(), Some('?' | '*' | '{')) {
        text.pop();
    }
    text
}

fn headers_meet(one: &Conditions, other: &Conditions) -> bool {
    one.headers.iter().all(|header| {
        let same = other.headers.iter().find(|candidate| candidate.name == header.name);
        same.is_none_or(|same| {
            any_pair(
                &header.any_of,
                &same.any_of,
                |a, b| !matches!((a, b), (TextMatch::Exact(a), TextMatch::Exact(b)) if a != b),
            )
        })
    })
}

/// Why a route goes before another one that matches the same request: the first criterion that differs. Routes
/// are given with the record that matched, as a route may become several. `None` where one of them is unknown.
pub fn why_first(snapshot: &Snapshot, settings: &Settings, winner: (&Id, &Id), loser: (&Id, &Id)) -> Option<String> {
    let part = |(route, part): (&Id, &Id)| {
        let entity = snapshot.get("routes", route)?;
        let parts = crate::lower::route_parts(&entity, settings)?;
        parts.into_iter().find(|candidate| candidate.id == *part)
    };
    let (winner, loser) = (part(winner)?, part(loser)?);
    let flavor = Flavor::from(settings.router_flavor);
    let winner = (winner.rank, &winner.standing);
    Some(crate::rank::why_first(flavor, settings.router_order, winner, (loser.rank, &loser.standing)))
}
