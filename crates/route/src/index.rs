//! The index: from a request's names and path to the routes that may match, in falling rank.
//!
//! Host, then server name, then path prefix. Each level hands on to the few entries that the request's value can have,
//! so that the work depends on the length of names and paths and not on how many routes there are.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

use cardinal_ir::HostPattern;
use smallvec::SmallVec;

use crate::keys::Keys;
use crate::request::Request;

/// All levels.
#[derive(Debug, Default)]
pub(crate) struct Index(NameIndex<HostEntry>);

/// Routes of one host pattern.
#[derive(Debug, Default)]
struct HostEntry {
    paths: PathIndex,
    snis: Option<Box<SniEntry>>,
}

/// Routes of one host pattern that ask for a server name.
#[derive(Debug, Default)]
struct SniEntry {
    names: NameIndex<PathIndex>,
    /// The same routes, where server names are not considered.
    clear: PathIndex,
}

impl Index {
    /// Indexes routes by their keys; the position of a route is its number.
    pub(crate) fn build(routes: impl Iterator<Item = Keys>) -> Self {
        let mut building: NameIndex<HostBuilder> = NameIndex::default();
        for (number, keys) in (0_u32..).zip(routes) {
            building.each_of(&keys.hosts, |host| host.insert(number, &keys));
        }
        Self(building.map(&HostBuilder::finish))
    }

    /// Numbers of the routes that may match, ascending.
    pub(crate) fn candidates<'i>(&'i self, request: &Request<'_>) -> Candidates<'i> {
        let mut found = Candidates::default();
        self.0.lookup(request.host, &mut |host| {
            host.paths.lookup(request.path, &mut found);
            let Some(snis) = &host.snis else { return };
            if request.sni.is_some() {
                snis.names.lookup(request.sni, &mut |paths| paths.lookup(request.path, &mut found));
            }
            if !request.considers_sni() {
                snis.clear.lookup(request.path, &mut found);
            }
        });
        found
    }
}

/// Merges sorted lists of numbers.
#[derive(Debug, Default)]
pub(crate) struct Candidates<'i> {
    lists: SmallVec<[&'i [u32]; 24]>,
}

impl Iterator for Candidates<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let least = self.lists.iter().filter_map(|list| list.first()).copied().min()?;
        for list in &mut self.lists {
            if let Some((first, rest)) = list.split_first()
                && *first == least
            {
                *list = rest;
            }
        }
        Some(least)
    }
}

type Names<T> = HashMap<Box<str>, T, BuildHasherDefault<DefaultHasher>>;

/// Values by patterns of names. The keys are the operator's, so the hash needs no secret.
#[derive(Debug)]
struct NameIndex<T> {
    exact: Names<T>,
    /// By texts that start with a dot.
    suffixes: Names<T>,
    /// By texts that end with a dot.
    prefixes: Names<T>,
    any: T,
    suffix_len_max: usize,
    prefix_len_max: usize,
}

impl<T: Default> Default for NameIndex<T> {
    fn default() -> Self {
        Self {
            exact: Names::default(),
            suffixes: Names::default(),
            prefixes: Names::default(),
            any: T::default(),
            suffix_len_max: 0,
            prefix_len_max: 0,
        }
    }
}

impl<T: Default> NameIndex<T> {
    /// The entries for a list of patterns, created where they are missing.
    fn each_of(&mut self, patterns: &[HostPattern], mut visit: impl FnMut(&mut T)) {
        if patterns.is_empty() {
            return visit(&mut self.any);
        }
        for pattern in patterns {
            visit(match pattern {
                HostPattern::Exact(text) => self.exact.entry(text.clone()).or_default(),
                HostPattern::Suffix(text) if text.starts_with('.') => {
                    self.suffix_len_max = self.suffix_len_max.max(text.len());
                    self.suffixes.entry(text.clone()).or_default()
                }
                HostPattern::Prefix(text) if text.ends_with('.') => {
                    self.prefix_len_max = self.prefix_len_max.max(text.len());
                    self.prefixes.entry(text.clone()).or_default()
                }
                HostPattern::Suffix(_) | HostPattern::Prefix(_) => &mut self.any,
            });
        }
    }
}

impl<T> NameIndex<T> {
    fn lookup<'i>(&'i self, name: Option<&str>, visit: &mut impl FnMut(&'i T)) {
        visit(&self.any);
        let Some(name) = name else { return };
        if let Some(entry) = self.exact.get(name) {
            visit(entry);
        }
        if self.suffixes.is_empty() && self.prefixes.is_empty() {
            return;
        }
        for dot in memchr::memchr_iter(b'.', name.as_bytes()) {
            if name.len() - dot <= self.suffix_len_max
                && let Some(entry) = name.get(dot..).and_then(|suffix| self.suffixes.get(suffix))
            {
                visit(entry);
            }
            if dot < self.prefix_len_max
                && let Some(entry) = name.get(..=dot).and_then(|prefix| self.prefixes.get(prefix))
            {
                visit(entry);
            }
        }
    }

    fn map<U>(self, to: &impl Fn(T) -> U) -> NameIndex<U> {
        let map = |names: Names<T>| names.into_iter().map(|(name, entry)| (name, to(entry))).collect();
        NameIndex {
            exact: map(self.exact),
            suffixes: map(self.suffixes),
            prefixes: map(self.prefixes),
            any: to(self.any),
            suffix_len_max: self.suffix_len_max,
            prefix_len_max: self.prefix_len_max,
        }
    }
}

/// Numbers by path prefix.
///
/// Entries are sorted, and each knows the longest other entry that is a prefix of it. All entries that are prefixes of
/// a path are then found on the way up from the last entry that is not greater than the path: whatever is sorted
/// between a prefix of a text and the text starts with that prefix as well.
#[derive(Debug, Default)]
struct PathIndex {
    entries: Box<[PathEntry]>,
    any: Box<[u32]>,
}

#[derive(Debug)]
struct PathEntry {
    prefix: Box<[u8]>,
    parent: Option<u32>,
    routes: Box<[u32]>,
}

impl PathIndex {
    fn lookup<'i>(&'i self, path: &[u8], found: &mut Candidates<'i>) {
        if !self.any.is_empty() {
            found.lists.push(&self.any);
        }
        let mut at = self.entries.partition_point(|entry| *entry.prefix <= *path).checked_sub(1);
        let mut is_prefix = false;
        while let Some(entry) = at.and_then(|at| self.entries.get(at)) {
            is_prefix = is_prefix || path.starts_with(&entry.prefix);
            if is_prefix {
                found.lists.push(&entry.routes);
            }
            at = entry.parent.and_then(|parent| usize::try_from(parent).ok());
        }
    }
}

#[derive(Debug, Default)]
struct PathBuilder {
    entries: BTreeMap<Box<[u8]>, Vec<u32>>,
    any: Vec<u32>,
}

impl PathBuilder {
    fn insert(&mut self, number: u32, paths: &[Box<[u8]>]) {
        if paths.is_empty() {
            push_once(&mut self.any, number);
        }
        for path in paths {
            push_once(self.entries.entry(path.clone()).or_default(), number);
        }
    }

    fn finish(self) -> PathIndex {
        let mut entries: Vec<PathEntry> = Vec::with_capacity(self.entries.len());
        // The entries that the last one starts with, shortest first, and itself.
        let mut chain: Vec<(u32, usize)> = Vec::new();
        for (number, (prefix, routes)) in (0_u32..).zip(self.entries) {
            let last = entries.last().map(|entry| &*entry.prefix).unwrap_or_default();
            let common = last.iter().zip(&*prefix).take_while(|(a, b)| a == b).count();
            while chain.last().is_some_and(|(_, len)| *len > common) {
                chain.pop();
            }
            let parent = chain.last().map(|(number, _)| *number);
            chain.push((number, prefix.len()));
            entries.push(PathEntry { prefix, parent, routes: routes.into() });
        }
        PathIndex { entries: entries.into(), any: self.any.into() }
    }
}

#[derive(Debug, Default)]
struct HostBuilder {
    paths: PathBuilder,
    snis: Option<Box<SniBuilder>>,
}

#[derive(Debug, Default)]
struct SniBuilder {
    names: NameIndex<PathBuilder>,
    clear: PathBuilder,
}

impl HostBuilder {
    fn insert(&mut self, number: u32, keys: &Keys) {
        if keys.snis.is_empty() {
            return self.paths.insert(number, &keys.paths);
        }
        let snis = self.snis.get_or_insert_default();
        snis.names.each_of(&keys.snis, |paths| paths.insert(number, &keys.paths));
        if keys.clear_without_sni {
            snis.clear.insert(number, &keys.paths);
        }
    }

    fn finish(self) -> HostEntry {
        let snis = self
            .snis
            .map(|snis| Box::new(SniEntry { names: snis.names.map(&PathBuilder::finish), clear: snis.clear.finish() }));
        HostEntry { paths: self.paths.finish(), snis }
    }
}

/// Numbers arrive in ascending order, so one that is there already is the last.
fn push_once(list: &mut Vec<u32>, number: u32) {
    if list.last() != Some(&number) {
        list.push(number);
    }
}
