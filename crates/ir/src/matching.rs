//! The condition of a route: indexed conditions, or a free predicate.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The condition of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matches {
    /// A conjunction of kinds, each a disjunction of values.
    Conditions(Conditions),
    /// An expression over the fields of a request.
    Predicate(Predicate),
}

impl Default for Matches {
    fn default() -> Self {
        Self::Conditions(Conditions::default())
    }
}

/// Kinds are ANDed, values within a kind are ORed, an empty kind matches everything. Built from [`Criteria`]; rarely
/// used conditions are stored separately, and accessible as fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// Host, optionally with a port. Host patterns are lower-case.
    pub hosts: OneOrMany<HostMatch>,
    /// Conditions on the normalized path.
    pub paths: OneOrMany<PathMatch>,
    rare: Option<Box<RareConditions>>,
}

/// Rarely used conditions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RareConditions {
    /// Exact, upper-case methods.
    pub methods: Vec<Box<str>>,
    /// All header names must match, each by any of its patterns. Names are lower-case.
    pub headers: Vec<HeaderMatch>,
    /// All query parameters must match, each by any of its patterns.
    pub queries: Vec<QueryMatch>,
    /// TLS server names. Considered only for connections over TLS (Kong: `net.protocol != https OR tls.sni ...`).
    pub snis: Vec<HostPattern>,
    /// Peer address and port.
    pub sources: Vec<AddrMatch>,
    /// Local address and port.
    pub destinations: Vec<AddrMatch>,
    /// Wire forms that match; empty means all. Kong's default flavor leaves it empty for HTTP routes.
    pub wires: Vec<Wire>,
    /// How the route is selected among the matching ones.
    pub selection: Selection,
}

/// How a route is selected among those that match a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The highest rank wins.
    #[default]
    ByRank,
    /// The highest rank determines which kinds of conditions the selected route has. Among the routes with these kinds,
    /// a route is preferred that names the request's own host, header, path, method or server name, whichever of these
    /// is named by the fewest routes; see `cardinal_route` for the rules. Either all HTTP routes of a generation use
    /// this selection, or none.
    ByKinds {
        /// The order among all routes, regardless of their kinds: higher values are preferred.
        #[serde(with = "crate::binary::wide")]
        order: u128,
    },
}

impl Selection {
    fn is_by_rank(&self) -> bool {
        *self == Self::ByRank
    }
}

static NO_CONDITIONS: RareConditions = RareConditions {
    methods: Vec::new(),
    headers: Vec::new(),
    queries: Vec::new(),
    snis: Vec::new(),
    sources: Vec::new(),
    destinations: Vec::new(),
    wires: Vec::new(),
    selection: Selection::ByRank,
};

impl std::ops::Deref for Conditions {
    type Target = RareConditions;

    fn deref(&self) -> &RareConditions {
        self.rare.as_deref().unwrap_or(&NO_CONDITIONS)
    }
}

/// [`Conditions`] under construction, with all kinds in one struct; also their serial form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename = "Conditions")]
#[expect(missing_docs, reason = "see the fields of `Conditions`")]
pub struct Criteria {
    pub methods: Vec<Box<str>>,
    pub hosts: Vec<HostMatch>,
    pub paths: Vec<PathMatch>,
    pub headers: Vec<HeaderMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<QueryMatch>,
    pub snis: Vec<HostPattern>,
    pub sources: Vec<AddrMatch>,
    pub destinations: Vec<AddrMatch>,
    pub wires: Vec<Wire>,
    #[serde(skip_serializing_if = "Selection::is_by_rank")]
    pub selection: Selection,
}

impl From<Criteria> for Conditions {
    fn from(criteria: Criteria) -> Self {
        let Criteria { methods, hosts, paths, headers, queries, snis, sources, destinations, wires, selection } =
            criteria;
        let rare = RareConditions { methods, headers, queries, snis, sources, destinations, wires, selection };
        let rare = (rare != NO_CONDITIONS).then(|| Box::new(rare));
        Self { hosts: hosts.into(), paths: paths.into(), rare }
    }
}

impl From<Criteria> for Matches {
    fn from(criteria: Criteria) -> Self {
        Self::Conditions(criteria.into())
    }
}

impl Serialize for Conditions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let RareConditions { methods, headers, queries, snis, sources, destinations, wires, selection } =
            (**self).clone();
        let (hosts, paths) = (self.hosts.to_vec(), self.paths.to_vec());
        let all = Criteria { methods, hosts, paths, headers, queries, snis, sources, destinations, wires, selection };
        all.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Conditions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Criteria::deserialize(deserializer).map(Self::from)
    }
}

/// A list that usually has one element, which is stored inline.
#[derive(Clone, Debug)]
pub enum OneOrMany<T> {
    /// One element.
    One(T),
    /// No element, or several.
    Many(Box<[T]>),
}

impl<T> std::ops::Deref for OneOrMany<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self::Many(Box::default())
    }
}

impl<T: PartialEq> PartialEq for OneOrMany<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T> From<Vec<T>> for OneOrMany<T> {
    fn from(mut list: Vec<T>) -> Self {
        match (list.pop(), list.is_empty()) {
            (Some(only), true) => Self::One(only),
            (last, _) => Self::Many(list.into_iter().chain(last).collect()),
        }
    }
}

impl<'f, T> IntoIterator for &'f OneOrMany<T> {
    type Item = &'f T;
    type IntoIter = std::slice::Iter<'f, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The protocol of a connection for the purpose of matching (`net.protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wire {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS.
    Https,
    /// Bytes over TCP.
    Tcp,
    /// Bytes over TLS, terminated here.
    Tls,
    /// TLS that is forwarded without termination.
    TlsPassthrough,
    /// Datagrams.
    Udp,
}

impl Wire {
    /// The name used in expressions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::TlsPassthrough => "tls_passthrough",
            Self::Udp => "udp",
        }
    }
}

/// A host name or a pattern. Text is lower-case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPattern {
    /// The whole name.
    Exact(Box<str>),
    /// All names that end with this text, which begins with a dot (`*.example.com`).
    Suffix(Box<str>),
    /// All names that begin with this text, which ends with a dot (`example.*`).
    Prefix(Box<str>),
}

impl Default for HostPattern {
    fn default() -> Self {
        Self::Exact(Box::default())
    }
}

/// A host condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct HostMatch {
    /// The name.
    pub host: HostPattern,
    /// The port of the Host header.
    pub port: Option<u16>,
    /// The meaning of a Host header without a port.
    #[serde(skip_serializing_if = "ImpliedPort::is_default")]
    pub implied_port: ImpliedPort,
}

/// The port that a Host header without a port stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImpliedPort {
    /// The port of the listener.
    #[default]
    Listener,
    /// The default port of the scheme: 80, or 443 over TLS.
    Scheme,
    /// None: only a header with a port matches.
    None,
}

impl ImpliedPort {
    fn is_default(&self) -> bool {
        *self == Self::Listener
    }
}

/// A condition on the normalized path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// The path begins with this text, regardless of segments.
    Prefix(Box<str>),
    /// A regular expression that must match from the start of the path, but not to its end; no anchors are added. A
    /// pattern that starts with `(?-u)` matches bytes; other patterns match characters.
    Regex(Box<str>),
    /// The whole path.
    Exact(Box<str>),
    /// The path begins with these segments: `/a` matches `/a`, `/a/` and `/a/b`, but not `/ab`. A trailing slash of the
    /// text is ignored; `/` matches every path. (`PathPrefix` of the Gateway API.)
    SegmentPrefix(Box<str>),
    /// A regular expression that must match the whole path; otherwise like [`PathMatch::Regex`].
    FullRegex(Box<str>),
}

impl PathMatch {
    /// The text of a [`PathMatch::SegmentPrefix`] for comparison: without its trailing slash. A request path matches if
    /// it is equal, or continues with a slash.
    pub fn segments(prefix: &str) -> &str {
        prefix.strip_suffix('/').unwrap_or(prefix)
    }
}

/// A condition on one header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderMatch {
    /// Lower-case name.
    pub name: Box<str>,
    /// Any of these. If a header is sent several times, each value is compared separately; one match is enough.
    pub any_of: Vec<TextMatch>,
}

/// A condition on a header.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextMatch {
    /// Equal, ignoring case. Lower-case.
    Exact(Box<str>),
    /// A regular expression found anywhere in the lower-cased value.
    Regex(Box<str>),
    /// A condition on the unchanged value.
    Value(ValueMatch),
    /// The header is absent.
    Absent,
}

/// A case-sensitive condition on a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueMatch {
    /// Any value, even an empty one.
    Present,
    /// Equal to this text.
    Exact(Box<str>),
    /// The value begins with this text.
    Prefix(Box<str>),
    /// A regular expression that must match the whole value.
    Regex(Box<str>),
}

/// A condition on one query parameter. The query is parsed as a form (`application/x-www-form-urlencoded`): names and
/// values are percent-decoded, `+` is a space, and a parameter without `=` has an empty value. If a parameter is
/// repeated, its first value is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct QueryMatch {
    /// Decoded name, case-sensitive.
    pub name: Box<str>,
    /// Any of these.
    pub any_of: Vec<ValueMatch>,
}

/// An address condition; at least one part is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct AddrMatch {
    /// Network (a single address is a network of full length). An IPv4-mapped IPv6 address is treated as IPv4.
    pub net: Option<IpNet>,
    /// Port.
    pub port: Option<u16>,
}

/// A boolean expression over the fields of a request, with the semantics of Kong's `expressions` router flavor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predicate {
    /// All of them; true when empty.
    All(Vec<Predicate>),
    /// Any of them; false when empty.
    Any(Vec<Predicate>),
    /// Negation.
    Not(Box<Predicate>),
    /// A comparison. False if the field is missing, regardless of the operator.
    Compare {
        /// The field.
        field: Field,
        /// Convert the field's value to lower case first.
        lower: bool,
        /// For a field with several values: one match is enough; otherwise all must match.
        any: bool,
        /// The operator.
        op: Op,
        /// The value to compare with.
        value: Literal,
    },
}

/// A field that predicates read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// `net.protocol`, the name of a [`Wire`].
    Protocol,
    /// `tls.sni`.
    Sni,
    /// `http.method`.
    Method,
    /// `http.host`, without port.
    Host,
    /// `http.path`, normalized.
    Path,
    /// `http.path.segments.len`.
    SegmentCount,
    /// `http.path.segments.N` or `.N_M`: the segments from N up to and including M, joined by `/`.
    Segments(u16, u16),
    /// `http.headers.<name>`; lower-case, `_` for `-`.
    Header(Box<str>),
    /// `http.queries.<name>`.
    Query(Box<str>),
    /// `net.src.ip`.
    SourceIp,
    /// `net.src.port`.
    SourcePort,
    /// `net.dst.ip`.
    DestinationIp,
    /// `net.dst.port`.
    DestinationPort,
}

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `~`, a regular expression found anywhere.
    Regex,
    /// `^=`
    StartsWith,
    /// `=^`
    EndsWith,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `in`, an address in a network.
    In,
    /// `not in`
    NotIn,
    /// `contains`
    Contains,
}

/// A literal in a predicate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Literal {
    /// Text, or a regular expression.
    Text(Box<str>),
    /// A number.
    Int(i64),
    /// An address.
    Ip(std::net::IpAddr),
    /// A network.
    Net(IpNet),
}
