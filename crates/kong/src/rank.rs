//! The order among routes, and the conditions of their fields, by router flavor.
//!
//! Pure functions over [`RouteFields`]: validated fields in, records out. A route whose paths rank differently becomes
//! several records, each with an id made from the route's own.

use cardinal_ir::{
    AddrMatch, Criteria, HeaderMatch, HostMatch, HostPattern, Id, ImpliedPort, PathMatch, Rank, Selection, TextMatch,
    Wire,
};
use cardinal_route::split_host;
use ipnet::IpNet;

/// Kong's `router_flavor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// The default: conditions, ordered by a number made of their kinds.
    TraditionalCompatible,
    /// The oldest: like the default, but ordered by kinds first and age last.
    Traditional,
    /// Expressions; routes with plain fields are taken as well, and `protocols` is a condition.
    Expressions,
}

/// Which of two orders routes with plain fields have in the flavors other than the oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteOrder {
    /// That of the running Kong; see [`kong_weight`].
    #[default]
    Kong,
    /// That of Kong's documentation; see [`documented_weight`].
    Documented,
}

/// The fields of a route that matching depends on, validated. An empty list counts as unset.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteFields {
    pub(crate) id: Id,
    pub(crate) protocols: Vec<String>,
    pub(crate) methods: Vec<String>,
    /// With `*` and port as written.
    pub(crate) hosts: Vec<String>,
    /// Regular expressions start with `~`.
    pub(crate) paths: Vec<String>,
    /// By name, as written.
    pub(crate) headers: Vec<(String, Vec<String>)>,
    pub(crate) snis: Vec<String>,
    pub(crate) sources: Vec<Peer>,
    pub(crate) destinations: Vec<Peer>,
    pub(crate) regex_priority: i64,
    /// Seconds since 1970.
    pub(crate) created_at: i64,
}

/// One of `sources` or `destinations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    net: Option<IpNet>,
    /// Written with a prefix length, even a full one.
    is_range: bool,
    port: Option<u16>,
}

impl Peer {
    /// An address (`10.0.0.1`) or network (`10.0.0.0/8`), a port, or both. `None` where the text is neither.
    pub(crate) fn new(ip: Option<&str>, port: Option<u16>) -> Option<Self> {
        let Some(ip) = ip else { return Some(Self { net: None, is_range: false, port }) };
        let is_range = ip.contains('/');
        let net = if is_range { ip.parse().ok()? } else { IpNet::from(ip.parse::<std::net::IpAddr>().ok()?) };
        Some(Self { net: Some(net.trunc()), is_range, port })
    }
}

/// The records that a route becomes: id, conditions and rank of each.
pub(crate) fn split_and_rank(flavor: Flavor, order: RouteOrder, route: &RouteFields) -> Vec<(Id, Criteria, Rank)> {
    let groups = match flavor {
        Flavor::Traditional => route.paths.iter().map(|path| vec![path.as_str()]).collect(),
        Flavor::TraditionalCompatible | Flavor::Expressions if is_stream(route) => Vec::new(),
        Flavor::TraditionalCompatible | Flavor::Expressions => group_paths(&route.paths),
    };
    if groups.is_empty() {
        return vec![(route.id, conditions(flavor, route, &[]), rank(flavor, order, route, route.id, &[]))];
    }
    let whole = groups.len() == 1;
    let split = groups.iter().enumerate().map(|(at, paths)| {
        let id = if whole { route.id } else { split_id(route.id, at + 1) };
        (id, conditions(flavor, route, paths), rank(flavor, order, route, id, paths))
    });
    split.collect()
}

/// The rank of a route with an expression: above all routes with plain fields, then by `priority`.
pub(crate) fn expression_rank(priority: u64, id: Id) -> Rank {
    Rank { weight: u128::from(0xFF << 56 | priority), tie: id.as_u128() }
}

/// What `protocols` adds to an expression: the connections that it may match; empty for any.
///
/// A route for one encrypted protocol only is found over the plain one too, so that the reply can demand encryption.
pub(crate) fn wires(protocols: &[String]) -> Vec<Wire> {
    if let [only] = protocols
        && matches!(only.as_str(), "https" | "tls" | "tls_passthrough")
    {
        return Vec::new();
    }
    let mut wires = Vec::new();
    for protocol in protocols {
        let of_protocol: &[Wire] = match protocol.as_str() {
            "http" | "grpc" | "ws" => &[Wire::Http],
            "https" | "grpcs" | "wss" => &[Wire::Https],
            "tcp" => &[Wire::Tcp],
            "tls" => &[Wire::Tls],
            "tls_passthrough" => &[Wire::Tcp, Wire::TlsPassthrough],
            "udp" => &[Wire::Udp],
            _ => &[],
        };
        for wire in of_protocol {
            if !wires.contains(wire) {
                wires.push(*wire);
            }
        }
    }
    wires
}

/// Paths that rank alike: all regular expressions, and the plain ones of each length; in order of appearance.
fn group_paths(paths: &[String]) -> Vec<Vec<&str>> {
    let mut groups: Vec<(usize, Vec<&str>)> = Vec::new();
    for path in paths {
        let key = if is_regex(path) { 0 } else { path.len() };
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, group)) => group.push(path),
            None => groups.push((key, vec![path])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The id of the n-th part of a route, from 1; the same as Kong's.
fn split_id(id: Id, number: usize) -> Id {
    const NAMESPACE: Id = Id::from_u128(0x7f14_5bf9_0dce_4f91_98eb_debb_ce4b_9f6b);
    Id::new_v5(&NAMESPACE, format!("{id}#{number}").as_bytes())
}

fn conditions(flavor: Flavor, route: &RouteFields, paths: &[&str]) -> Criteria {
    let mut conditions = Criteria {
        snis: route.snis.iter().map(|sni| sni_pattern(flavor, sni)).collect(),
        sources: route.sources.iter().map(|peer| AddrMatch { net: peer.net, port: peer.port }).collect(),
        destinations: route.destinations.iter().map(|peer| AddrMatch { net: peer.net, port: peer.port }).collect(),
        wires: if flavor == Flavor::Expressions { wires(&route.protocols) } else { Vec::new() },
        ..Criteria::default()
    };
    if flavor == Flavor::Traditional && !is_stream(route) {
        conditions.selection = Selection::ByKinds { order: traditional_order(route, paths).0 };
    }
    if flavor != Flavor::Traditional && is_stream(route) {
        return conditions;
    }
    conditions.methods = route.methods.iter().map(|method| method.to_ascii_uppercase().into()).collect();
    conditions.hosts = route.hosts.iter().map(|host| host_match(flavor, host)).collect();
    conditions.paths = paths
        .iter()
        .map(|path| match path.strip_prefix('~') {
            Some(regex) => PathMatch::Regex(regex.into()),
            None => PathMatch::Prefix((*path).into()),
        })
        .collect();
    conditions.headers = headers(flavor, route).map(|(name, values)| header_match(flavor, name, values)).collect();
    conditions
}

/// The oldest flavor leaves `host` to `hosts`.
fn headers(flavor: Flavor, route: &RouteFields) -> impl Iterator<Item = (&str, &[String])> {
    let counts = move |name: &str| flavor != Flavor::Traditional || !name.eq_ignore_ascii_case("host");
    route.headers.iter().filter(move |(name, _)| counts(name)).map(|(name, values)| (name.as_str(), values.as_slice()))
}

/// The oldest flavor compares a plain host with the Host header as it was sent, and completes the header with the
/// scheme's port for wildcard hosts alone.
fn host_match(flavor: Flavor, host: &str) -> HostMatch {
    let (name, port) = split_host(host);
    let host = wildcard(&name);
    let implied_port = match (flavor, port, &host) {
        (Flavor::Traditional, Some(_), HostPattern::Exact(_)) => ImpliedPort::None,
        (Flavor::Traditional, Some(_), _) => ImpliedPort::Scheme,
        _ => ImpliedPort::Listener,
    };
    HostMatch { host, port, implied_port }
}

fn wildcard(name: &str) -> HostPattern {
    if let Some(suffix) = name.strip_prefix('*') {
        HostPattern::Suffix(suffix.into())
    } else if let Some(prefix) = name.strip_suffix('*') {
        HostPattern::Prefix(prefix.into())
    } else {
        HostPattern::Exact(name.into())
    }
}

/// A trailing dot, as fully qualified names have it, is no part of a server name.
fn sni_pattern(flavor: Flavor, sni: &str) -> HostPattern {
    let sni = sni.to_ascii_lowercase();
    let name = if sni.len() > 1 { sni.strip_suffix('.').unwrap_or(&sni) } else { &sni };
    if flavor == Flavor::Traditional { HostPattern::Exact(name.into()) } else { wildcard(name) }
}

fn header_match(flavor: Flavor, name: &str, values: &[String]) -> HeaderMatch {
    let exact = |value: &String| TextMatch::Exact(value.to_lowercase().into());
    let any_of = match flavor {
        Flavor::Traditional => {
            // A pattern is used only if it is the only value, otherwise as plain text; its case is kept.
            let pattern = match values {
                [only] => only.strip_prefix("~*").map(|regex| TextMatch::Regex(regex.into())),
                _ => None,
            };
            values.iter().map(exact).chain(pattern).collect()
        }
        Flavor::TraditionalCompatible | Flavor::Expressions => {
            let each = values.iter().map(|value| match value.strip_prefix("~*") {
                Some(regex) => TextMatch::Regex(regex.to_ascii_lowercase().into()),
                None => exact(value),
            });
            each.collect()
        }
    };
    HeaderMatch { name: name.to_ascii_lowercase().replace('_', "-").into(), any_of }
}

fn rank(flavor: Flavor, order: RouteOrder, route: &RouteFields, id: Id, paths: &[&str]) -> Rank {
    let weight = match flavor {
        Flavor::Traditional => traditional_weight(route, paths),
        Flavor::TraditionalCompatible | Flavor::Expressions if is_stream(route) => stream_weight(route).into(),
        Flavor::TraditionalCompatible | Flavor::Expressions => {
            let parts = Parts::of(route, paths);
            match order {
                RouteOrder::Kong => kong_weight(&parts).into(),
                RouteOrder::Documented => documented_weight(&parts).into(),
            }
        }
    };
    Rank { weight, tie: id.as_u128() }
}

/// What the priority of a route with plain fields is made of.
pub(crate) struct Parts {
    /// How many kinds of conditions there are, at most 7.
    kinds: u32,
    /// There are hosts, and none has a `*`.
    plain_hosts: bool,
    /// How many headers there are, at most 255.
    headers: u32,
    /// `regex_priority`, where the paths are regular expressions.
    regex_priority: Option<i64>,
    /// Length of the paths, where they are plain.
    length: usize,
}

impl Parts {
    const HEADERS_MAX: u32 = 255;
    const LENGTH_BITS: u64 = 0x7_FFFF;

    fn of(route: &RouteFields, paths: &[&str]) -> Self {
        let kinds = [
            !route.sources.is_empty(),
            !route.destinations.is_empty(),
            !route.methods.is_empty(),
            !route.hosts.is_empty(),
            !route.headers.is_empty(),
            !route.snis.is_empty(),
            !paths.is_empty(),
        ];
        let first = paths.first().copied().unwrap_or_default();
        Self {
            kinds: kinds.into_iter().map(u32::from).sum(),
            plain_hosts: !route.hosts.is_empty() && !route.hosts.iter().any(|host| host.contains('*')),
            headers: u32::try_from(route.headers.len()).unwrap_or(u32::MAX).min(Self::HEADERS_MAX),
            regex_priority: is_regex(first).then_some(route.regex_priority),
            length: if is_regex(first) { 0 } else { first.len() },
        }
    }

    /// The two bits that are shifted as 64-bit numbers everywhere.
    fn flags(&self) -> u64 {
        u64::from(self.plain_hosts) << 60 | u64::from(self.regex_priority.is_some()) << 51
    }

    fn length_bits(&self) -> u64 {
        self.length as u64 & Self::LENGTH_BITS
    }
}

/// Kong's 64-bit priority as its documentation has it: 3 bits for the number of kinds, 1 for plain hosts only, 8 for
/// headers, 1 for regular expressions, 32 for `regex_priority`, 19 for the length of the path.
fn documented_weight(parts: &Parts) -> u64 {
    let priority = parts.regex_priority.unwrap_or(0).clamp(0, u32::MAX.into()).unsigned_abs();
    u64::from(parts.kinds) << 61 | u64::from(parts.headers) << 52 | priority << 19 | parts.flags() | parts.length_bits()
}

/// Kong's priority as Kong 3.x computes it.
///
/// `lshift_uint64` in its `transform.lua` assigns the plain number to the variable that held a 64-bit one instead of
/// converting it. LuaJIT shifts plain numbers as signed 32-bit ones, by the count modulo 32: the number of kinds is
/// shifted by 61 − 32 = 29, the number of headers by 20 and `regex_priority` by 19, and what leaves the 32 bits is
/// lost. The flags for plain hosts and regular expressions are 64-bit constants, so they stay at bits 60 and 51. When
/// the parts are joined with one of the flags, or handed to the router, they are extended with their sign: four or more
/// kinds set bit 31 and so all the bits above it, and then neither flag counts any more.
///
/// Hence the order: four or more kinds; plain hosts only; regular expressions; number of kinds; headers, joined with
/// `regex_priority`; length of the path. A `regex_priority` whose bit 12 is set reaches bit 31 as well.
fn kong_weight(parts: &Parts) -> u64 {
    let shift = |number: i64, count: u32| extended((number as u32).wrapping_shl(count));
    shift(parts.kinds.into(), 61)
        | shift(parts.headers.into(), 52)
        | shift(parts.regex_priority.unwrap_or(0), 19)
        | parts.flags()
        | parts.length_bits()
}

/// 64 bits with the value of 32 signed ones.
fn extended(bits: u32) -> u64 {
    i64::from(bits.cast_signed()).cast_unsigned()
}

/// What decides the order of a route, in terms of its fields.
pub(crate) enum Standing {
    Expression,
    Fields {
        parts: Parts,
        /// Kinds of conditions, as the oldest flavor orders them: hosts, headers, paths, methods, server names.
        kinds: [bool; 5],
        wildcard_port: bool,
        created_at: i64,
    },
}

impl Standing {
    /// That of a record.
    pub(crate) fn of(route: &RouteFields, conditions: &Criteria) -> Self {
        let paths: Vec<String> = conditions
            .paths
            .iter()
            .map(|path| match path {
                PathMatch::Prefix(text) | PathMatch::Exact(text) | PathMatch::SegmentPrefix(text) => text.to_string(),
                PathMatch::Regex(text) | PathMatch::FullRegex(text) => format!("~{text}"),
            })
            .collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let is_wildcard_port = |host: &String| host.contains('*') && split_host(host).1.is_some();
        Self::Fields {
            parts: Parts::of(route, &paths),
            kinds: [
                !route.hosts.is_empty(),
                !route.headers.is_empty(),
                !paths.is_empty(),
                !route.methods.is_empty(),
                !route.snis.is_empty(),
            ],
            wildcard_port: route.hosts.iter().any(is_wildcard_port),
            created_at: route.created_at,
        }
    }
}

/// Why a route goes before another one, as an end of a sentence about it: the first criterion that differs.
pub(crate) fn why_first(
    flavor: Flavor,
    order: RouteOrder,
    (rank, winner): (Rank, &Standing),
    (other_rank, loser): (Rank, &Standing),
) -> String {
    if rank < other_rank {
        return "names the host, header, path, method or server name of the request itself".to_owned();
    }
    if rank.weight == other_rank.weight {
        return "has the higher id, and nothing else tells them apart".to_owned();
    }
    let (one, other) = match (winner, loser) {
        (Standing::Fields { .. }, Standing::Fields { .. }) => {
            (criteria(flavor, order, winner), criteria(flavor, order, loser))
        }
        (Standing::Expression, Standing::Expression) => return "has the higher priority".to_owned(),
        (Standing::Expression, _) => return "has an expression, which goes before plain fields".to_owned(),
        (Standing::Fields { .. }, _) => return "has four or more kinds of conditions".to_owned(),
    };
    // In the running Kong's order flags do not count where there are four or more kinds.
    let have_four = [&one, &other].iter().all(|list| list.first().is_some_and(|(_, value, _)| *value > 0));
    let skip_flags = flavor != Flavor::Traditional && order == RouteOrder::Kong && have_four;
    let pairs = one.into_iter().zip(other).filter(|((_, _, is_flag), _)| !(skip_flags && *is_flag));
    for ((text, value, is_flag), (_, other, _)) in pairs {
        if value == other {
            continue;
        }
        return match (value > other, is_flag) {
            (true, true) => text.to_owned(),
            (true, false) => format!("{text} ({value} against {other})"),
            // Parts of the running Kong's number overlap.
            (false, _) => "has the higher number as its priority".to_owned(),
        };
    }
    "has the higher number as its priority".to_owned()
}

/// Criteria in their order: what the greater value means, the value, and whether it is a flag.
fn criteria(flavor: Flavor, order: RouteOrder, standing: &Standing) -> Vec<(&'static str, i64, bool)> {
    let Standing::Fields { parts, kinds, wildcard_port, created_at } = standing else { return Vec::new() };
    let count = ("has more kinds of conditions", i64::from(parts.kinds), false);
    let plain = ("has plain hosts only", i64::from(parts.plain_hosts), true);
    let headers = ("asks for more headers", i64::from(parts.headers), false);
    let regex = ("has a regular expression as path", i64::from(parts.regex_priority.is_some()), true);
    let priority = ("has the higher regex_priority", parts.regex_priority.unwrap_or(0), false);
    let length = ("has the longer path", i64::try_from(parts.length).unwrap_or(i64::MAX), false);
    match (flavor, order) {
        (Flavor::Traditional, _) => {
            let kinds = kinds.iter().fold(0, |all, kind| all << 1 | i64::from(*kind));
            let kinds =
                ("has kinds of conditions that go first (host, header, path, method, server name)", kinds, true);
            let wildcard = ("has a wildcard host with a port", i64::from(*wildcard_port), true);
            let age = ("was created earlier", -created_at, true);
            vec![count, kinds, wildcard, plain, regex, headers, priority, length, age]
        }
        (_, RouteOrder::Kong) => {
            let four = ("has four or more kinds of conditions", i64::from(parts.kinds >= 4), true);
            vec![four, plain, regex, count, headers, priority, length]
        }
        (_, RouteOrder::Documented) => vec![count, plain, headers, regex, priority, length],
    }
}

/// Server name, or both ends, first; then address over port over network, of sources before destinations.
fn stream_weight(route: &RouteFields) -> u64 {
    let peers = |peers: &[Peer]| {
        peers.iter().fold(0_u64, |bits, peer| {
            let ip = match peer.net {
                Some(_) if peer.is_range => 1,
                Some(_) => 1 << 3,
                None => 0,
            };
            bits | ip | u64::from(peer.port.is_some()) << 2
        })
    };
    let both_ends = !route.sources.is_empty() && !route.destinations.is_empty();
    let first = !route.snis.is_empty() || both_ends;
    u64::from(first) << 61 | peers(&route.sources) << 4 | peers(&route.destinations)
}

/// The order of the oldest flavor as one number, most significant first: how many kinds there are, which, how exact
/// sources and destinations are, and [`traditional_order`].
///
/// Kong finds addresses, then ports, by hash before it looks through networks; hence the bits for peers.
fn traditional_weight(route: &RouteFields, paths: &[&str]) -> u128 {
    let kinds = [
        !route.hosts.is_empty(),
        headers(Flavor::Traditional, route).count() > 0,
        !paths.is_empty(),
        !route.methods.is_empty(),
        !route.snis.is_empty(),
        !route.sources.is_empty(),
        !route.destinations.is_empty(),
    ];
    let exactness = |peers: &[Peer]| {
        let any = |fits: fn(&Peer) -> bool| u64::from(peers.iter().any(fits));
        any(|p| p.net.is_some() && !p.is_range) << 2
            | any(|p| p.port.is_some()) << 1
            | any(|p| p.net.is_some() && p.port.is_some())
    };
    let mut weight = Bits::default();
    weight.push(3, kinds.into_iter().map(u64::from).sum());
    for kind in kinds {
        weight.push(1, kind.into());
    }
    weight.push(3, exactness(&route.sources));
    weight.push(3, exactness(&route.destinations));
    weight.join(traditional_order(route, paths)).0
}

/// The order of the oldest flavor among routes with the same kinds of conditions: a wildcard host with a port, plain
/// hosts only, regular expressions, how many headers, `regex_priority` (of regular expressions), length of the path,
/// age.
fn traditional_order(route: &RouteFields, paths: &[&str]) -> Bits {
    let is_wildcard = |host: &String| host.contains('*');
    let wildcard_port = route.hosts.iter().any(|host| is_wildcard(host) && split_host(host).1.is_some());
    let plain_hosts = !route.hosts.is_empty() && !route.hosts.iter().any(is_wildcard);
    let regex = paths.iter().any(|path| is_regex(path));
    let length = paths.iter().filter(|path| !is_regex(path)).map(|path| path.len()).max().unwrap_or(0);

    let mut order = Bits::default();
    for flag in [wildcard_port, plain_hosts, regex] {
        order.push(1, flag.into());
    }
    order.push(10, headers(Flavor::Traditional, route).count() as u64);
    let regex_priority = route.regex_priority.clamp(-(1 << 33), (1 << 33) - 1) + (1 << 33);
    order.push(34, if regex { regex_priority.unsigned_abs() } else { 0 });
    order.push(20, length as u64);
    let age_max = (1_i64 << 44) - 1;
    order.push(44, (age_max - route.created_at.clamp(0, age_max)).unsigned_abs());
    order
}

/// How many bits [`traditional_order`] has.
const ORDER_WIDTH: u32 = 3 + 10 + 34 + 20 + 44;

/// A number put together from its most significant part on.
#[derive(Default)]
struct Bits(u128);

impl Bits {
    /// Appends a part of some bits' width; what does not fit counts as the greatest that does.
    fn push(&mut self, width: u32, value: u64) {
        self.0 = self.0 << width | u128::from(value.min((1 << width) - 1));
    }

    /// Appends what [`traditional_order`] made.
    fn join(self, order: Self) -> Self {
        Self(self.0 << ORDER_WIDTH | order.0)
    }
}

fn is_regex(path: &str) -> bool {
    path.starts_with('~')
}

fn is_stream(route: &RouteFields) -> bool {
    route.protocols.first().is_some_and(|p| matches!(p.as_str(), "tcp" | "udp" | "tls" | "tls_passthrough"))
}
