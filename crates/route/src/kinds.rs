//! [`Categories`]: the choice among routes that are [selected by kinds](Selection::ByKinds).
//!
//! Routes whose conditions are of the same kinds are a category. Categories are tried in the order of rank. Within one,
//! the routes that name a value of the request itself go before those that match it otherwise. Values are looked for in
//! all routes, whatever their category: the Host header as it was sent (or the first wildcard host that fits, where no
//! plain host does), the first header that any route requires, the first regular expression that matches the path (or
//! the longest prefix of it), the method, the server name. Headers decide if the category has any route for that
//! header; otherwise that value does which the fewest routes of the category name.
//!
//! This is how Kong's `traditional` router reduces the routes of a category before it compares them with a request. It
//! is worked out only where more than one route of the category matches, as it takes time that grows with the number of
//! different patterns.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use cardinal_ir::{Conditions, HostMatch, HostPattern, ImpliedPort, PathMatch, Selection};

use crate::request::Request;
use crate::rule::{Compiled, fits_host};
use crate::slots::Slots;

/// Kinds of conditions as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kinds(u8);

const HOST: u8 = 0x40;
const HEADER: u8 = 0x20;
const PATH: u8 = 0x10;
const METHOD: u8 = 8;
const SNI: u8 = 4;

impl Kinds {
    pub(crate) fn of(conditions: &Conditions) -> Self {
        let kinds = [
            (HOST, conditions.hosts.is_empty()),
            (HEADER, conditions.headers.is_empty()),
            (PATH, conditions.paths.is_empty()),
            (METHOD, conditions.methods.is_empty()),
            (SNI, conditions.snis.is_empty()),
            (2, conditions.sources.is_empty()),
            (1, conditions.destinations.is_empty()),
        ];
        Self(kinds.into_iter().filter(|(_, is_empty)| !is_empty).fold(0, |all, (kind, _)| all | kind))
    }

    fn has(self, kind: u8) -> bool {
        self.0 & kind != 0
    }
}

/// What the routes of a generation name, by category and at all.
#[derive(Debug, Default)]
pub(crate) struct Categories {
    categories: HashMap<Kinds, Category>,
    /// Names of headers in the order of the routes.
    headers: Vec<Box<str>>,
    plain_hosts: HashSet<HostMatch>,
    /// In the order of the routes.
    wildcard_hosts: Vec<HostMatch>,
    /// Regular expressions in the order of the routes, each with the slot of a route that has it.
    regexes: Vec<(Box<str>, u32)>,
    prefixes: HashSet<Box<str>>,
    /// Lengths of prefixes, the longest first.
    prefix_lens: Vec<usize>,
    methods: HashSet<Box<str>>,
}

/// How many routes of a category name a value.
#[derive(Debug, Default)]
struct Category {
    hosts: HashMap<HostMatch, u32>,
    headers: HashSet<Box<str>>,
    paths: HashMap<Box<str>, u32>,
    methods: HashMap<Box<str>, u32>,
    snis: HashMap<Box<str>, u32>,
}

/// A value of the request that routes which name it are preferred for.
#[derive(Debug)]
pub(crate) enum Preference<'c> {
    Host(HostMatch),
    Header(&'c str),
    Path(&'c str),
    Method,
    Sni,
}

/// The name by which paths are compared: plain paths and regular expressions are not distinguished.
fn path_name(path: &PathMatch) -> &str {
    match path {
        PathMatch::Prefix(text) | PathMatch::Exact(text) | PathMatch::SegmentPrefix(text) => text,
        PathMatch::Regex(text) | PathMatch::FullRegex(text) => text.strip_prefix("(?-u)").unwrap_or(text),
    }
}

impl Categories {
    /// `None` where no route is selected by kinds.
    pub(crate) fn of(slots: &Slots) -> Option<Self> {
        let mut routes: Vec<_> = slots
            .iter()
            .filter_map(|(slot, compiled)| {
                let conditions = compiled.conditions()?;
                let Selection::ByKinds { order } = conditions.selection else { return None };
                Some((Reverse((order, compiled.id)), slot, conditions))
            })
            .collect();
        if routes.is_empty() {
            return None;
        }
        routes.sort_unstable_by_key(|(order, ..)| *order);
        let mut all = Self::default();
        let mut seen = Seen::default();
        routes.into_iter().for_each(|(_, slot, conditions)| all.add(slot, conditions, &mut seen));
        all.prefix_lens = all.prefixes.iter().map(|prefix| prefix.len()).collect();
        all.prefix_lens.sort_unstable_by_key(|len| Reverse(*len));
        all.prefix_lens.dedup();
        Some(all)
    }

    fn add(&mut self, slot: u32, conditions: &Conditions, seen: &mut Seen) {
        let category = self.categories.entry(Kinds::of(conditions)).or_default();
        for host in &conditions.hosts {
            *category.hosts.entry(host.clone()).or_default() += 1;
            if matches!(host.host, HostPattern::Exact(_)) {
                self.plain_hosts.insert(host.clone());
            } else if seen.hosts.insert(host.clone()) {
                self.wildcard_hosts.push(host.clone());
            }
        }
        for header in &conditions.headers {
            category.headers.insert(header.name.clone());
            if seen.headers.insert(header.name.clone()) {
                self.headers.push(header.name.clone());
            }
        }
        for path in &conditions.paths {
            let name = path_name(path);
            *category.paths.entry(name.into()).or_default() += 1;
            match path {
                PathMatch::Prefix(_) => drop(self.prefixes.insert(name.into())),
                PathMatch::Regex(_) if seen.regexes.insert(name.into()) => self.regexes.push((name.into(), slot)),
                // Routes with other conditions are not made for this selection: no request is looked up by them.
                PathMatch::Regex(_) | PathMatch::Exact(_) | PathMatch::SegmentPrefix(_) | PathMatch::FullRegex(_) => {}
            }
        }
        for method in &conditions.methods {
            *category.methods.entry(method.clone()).or_default() += 1;
            self.methods.insert(method.clone());
        }
        for sni in &conditions.snis {
            if let HostPattern::Exact(name) = sni {
                *category.snis.entry(name.clone()).or_default() += 1;
            }
        }
    }

    /// Whether a category is not looked at for a request without TLS, although its routes match: those with server
    /// names are passed over where the kinds that values of the request were found for are exactly their others, and
    /// there are routes with these (which then decide), or none.
    pub(crate) fn is_passed_over(&self, kinds: Kinds, request: &Request<'_>, slots: &Slots) -> bool {
        if !kinds.has(SNI) || request.considers_sni() {
            return false;
        }
        let others = Kinds(kinds.0 & !SNI);
        if others.0 != 0 && !self.categories.contains_key(&others) {
            return false;
        }
        let is_found = (!others.has(HEADER) && self.header_of(request).is_some())
            || (!others.has(METHOD) && self.methods.contains(request.method))
            || (!others.has(HOST) && (self.has_plain_host(request) || self.wildcard_of(request).is_some()))
            || (!others.has(PATH) && self.path_of(request, slots).is_some());
        !is_found
    }

    /// What routes of a category are preferred by.
    pub(crate) fn preference(&self, kinds: Kinds, request: &Request<'_>, slots: &Slots) -> Option<Preference<'_>> {
        let category = self.categories.get(&kinds)?;
        if kinds.has(HEADER)
            && let Some(name) = self.header_of(request)
            && category.headers.contains(name)
        {
            return Some(Preference::Header(name));
        }
        let host = if kinds.has(HOST) { self.host_of(request) } else { None };
        let path = if kinds.has(PATH) { self.path_of(request, slots) } else { None };
        let hosts = host.as_ref().and_then(|host| category.hosts.get(host));
        let paths = path.and_then(|path| category.paths.get(path));
        let methods = if kinds.has(METHOD) { category.methods.get(request.method) } else { None };
        let snis = if kinds.has(SNI) { request.sni.and_then(|sni| category.snis.get(sni)) } else { None };
        let by_count = [
            (hosts, host.map(Preference::Host)),
            (paths, path.map(Preference::Path)),
            (methods, Some(Preference::Method)),
            (snis, Some(Preference::Sni)),
        ];
        let fewest = by_count.into_iter().filter_map(|(count, preference)| Some((*count?, preference?)));
        fewest.min_by_key(|(count, _)| *count).map(|(_, preference)| preference)
    }

    /// The first header that a route requires and the request has.
    fn header_of(&self, request: &Request<'_>) -> Option<&str> {
        self.headers.iter().map(|name| &**name).find(|name| {
            let mut is_there = false;
            request.headers.each(name, &mut |_| {
                is_there = true;
                ControlFlow::Break(())
            });
            is_there
        })
    }

    /// Whether a plain host of a route is that of the request, with its port (that of the scheme where it has none) or
    /// without.
    fn has_plain_host(&self, request: &Request<'_>) -> bool {
        let Some(name) = request.host else { return false };
        let port = request.host_port.unwrap_or_else(|| request.scheme_port());
        self.plain_hosts.contains(&plain_host(name, Some(port))) || self.plain_hosts.contains(&plain_host(name, None))
    }

    fn wildcard_of(&self, request: &Request<'_>) -> Option<&HostMatch> {
        self.wildcard_hosts.iter().find(|host| fits_host(host, request))
    }

    /// The host that the request is looked up by.
    fn host_of(&self, request: &Request<'_>) -> Option<HostMatch> {
        if !self.has_plain_host(request)
            && let Some(wildcard) = self.wildcard_of(request)
        {
            return Some(wildcard.clone());
        }
        request.host.map(|name| plain_host(name, request.host_port))
    }

    /// The path of a route that the request's is looked up by.
    fn path_of(&self, request: &Request<'_>, slots: &Slots) -> Option<&str> {
        let matches = |slot: u32| slots.get(slot).and_then(|compiled| compiled.path_pattern(0)?.find(request.path));
        if let Some((name, _)) = self.regexes.iter().find(|(_, slot)| matches(*slot).is_some()) {
            return Some(name);
        }
        let prefixes = self.prefix_lens.iter().filter_map(|len| request.path.get(..*len));
        let mut texts = prefixes.filter_map(|prefix| std::str::from_utf8(prefix).ok());
        texts.find_map(|text| self.prefixes.get(text)).map(|prefix| &**prefix)
    }
}

/// What was met while categories are built.
#[derive(Default)]
struct Seen {
    hosts: HashSet<HostMatch>,
    headers: HashSet<Box<str>>,
    regexes: HashSet<Box<str>>,
}

/// A plain host as routes that are selected by kinds have it.
fn plain_host(name: &str, port: Option<u16>) -> HostMatch {
    let implied_port = if port.is_some() { ImpliedPort::None } else { ImpliedPort::Listener };
    HostMatch { host: HostPattern::Exact(name.into()), port, implied_port }
}

impl Preference<'_> {
    /// Whether a route that matches names the value.
    pub(crate) fn names(&self, compiled: &Compiled, request: &Request<'_>) -> bool {
        let Some(conditions) = compiled.conditions() else { return false };
        match self {
            Self::Host(host) => conditions.hosts.contains(host),
            Self::Header(name) => conditions.headers.iter().any(|header| *header.name == **name),
            Self::Path(name) => conditions.paths.iter().any(|path| path_name(path) == *name),
            Self::Method => conditions.methods.iter().any(|method| **method == *request.method),
            Self::Sni => conditions
                .snis
                .iter()
                .any(|sni| matches!((sni, request.sni), (HostPattern::Exact(wanted), Some(name)) if **wanted == *name)),
        }
    }
}
