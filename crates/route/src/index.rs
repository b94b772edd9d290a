//! The index: from a request's names and path to the routes that may match, in falling rank.
//!
//! Host, then server name, then path prefix. Each level hands on to the few entries that the request's value can have,
//! so that the work depends on the length of names and paths and not on how many routes there are.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};

use cardinal_ir::HostPattern;
use smallvec::SmallVec;

use crate::keys::Keys;
use crate::request::Request;

/// All levels.
#[derive(Debug, Default)]
pub(crate) struct Index(NameIndex<Box<str>, HostEntry>);

/// Routes of one host pattern.
#[derive(Debug, Default)]
struct HostEntry {
    paths: PathIndex,
    snis: Option<Box<SniEntry>>,
}

/// Routes of one host pattern that ask for a server name.
#[derive(Debug)]
struct SniEntry {
    names: NameIndex<Box<str>, PathIndex>,
    /// The same routes, where server names are not considered.
    clear: PathIndex,
}

impl Index {
    /// Indexes routes by their keys; the position of a route is its number.
    pub(crate) fn build<'k>(routes: impl Iterator<Item = &'k Keys>) -> Self {
        let mut building: NameIndex<&str, HostBuilder<'_>> = NameIndex::default();
        for (number, keys) in (0_u32..).zip(routes) {
            building.each_of(&keys.hosts, |host| host.insert(number, keys));
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

type Names<K, T> = HashMap<K, T, BuildHasherDefault<DefaultHasher>>;

/// Values by patterns of names. The keys are the operator's, so the hash needs no secret.
#[derive(Debug)]
struct NameIndex<K, T> {
    exact: Names<K, T>,
    /// By texts that start with a dot.
    suffixes: Names<K, T>,
    /// By texts that end with a dot.
    prefixes: Names<K, T>,
    /// Of all names, and of patterns that do not end at a dot.
    any: T,
    suffix_len_max: usize,
    prefix_len_max: usize,
}

impl<K, T: Default> Default for NameIndex<K, T> {
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

impl<'k, T: Default> NameIndex<&'k str, T> {
    /// The entries for a list of patterns, created where they are missing.
    fn each_of(&mut self, patterns: &'k [HostPattern], mut visit: impl FnMut(&mut T)) {
        if patterns.is_empty() {
            return visit(&mut self.any);
        }
        for pattern in patterns {
            visit(match pattern {
                HostPattern::Exact(text) => self.exact.entry(text).or_default(),
                HostPattern::Suffix(text) if text.starts_with('.') => {
                    self.suffix_len_max = self.suffix_len_max.max(text.len());
                    self.suffixes.entry(text).or_default()
                }
                HostPattern::Prefix(text) if text.ends_with('.') => {
                    self.prefix_len_max = self.prefix_len_max.max(text.len());
                    self.prefixes.entry(text).or_default()
                }
                HostPattern::Suffix(_) | HostPattern::Prefix(_) => &mut self.any,
            });
        }
    }

    fn map<U>(self, to: &impl Fn(T) -> U) -> NameIndex<Box<str>, U> {
        let map = |names: Names<&str, T>| names.into_iter().map(|(name, entry)| (name.into(), to(entry))).collect();
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

impl<K: Borrow<str> + Hash + Eq, T> NameIndex<K, T> {
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
}

/// Numbers that hold for any path, and numbers by path prefix.
#[derive(Debug, Default)]
struct PathIndex {
    any: List,
    tree: Option<Box<PathTree>>,
}

/// Most entries are about a single route.
type List = SmallVec<[u32; 4]>;

/// Routes whose paths are rather compared than indexed. Tests keep it low, so that small sets of routes use the index.
const FEW: usize = if cfg!(test) { 1 } else { 4 };

/// Numbers by path prefix.
///
/// Entries are sorted, and each knows the longest other entry that is a prefix of it. All entries that are prefixes of
/// a path are then found on the way up from the last entry that is not greater than the path: whatever is sorted
/// between a prefix of a text and the text starts with that prefix as well.
#[derive(Debug, Default)]
struct PathTree {
    /// The prefixes one after the other, so that the search stays within few cache lines.
    text: Vec<u8>,
    /// Where each prefix ends in `text`.
    ends: Vec<u32>,
    entries: Vec<PathEntry>,
    /// The numbers of the entries, one after the other.
    routes: Vec<u32>,
}

#[derive(Debug)]
struct PathEntry {
    parent: Option<u32>,
    /// Where the numbers start in `routes`, and how many there are.
    routes: (u32, u32),
}

impl PathIndex {
    fn lookup<'i>(&'i self, path: &[u8], found: &mut Candidates<'i>) {
        if !self.any.is_empty() {
            found.lists.push(&self.any);
        }
        if let Some(tree) = &self.tree {
            tree.lookup(path, found);
        }
    }
}

impl PathTree {
    fn lookup<'i>(&'i self, path: &[u8], found: &mut Candidates<'i>) {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.prefix(middle) <= path {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut at = low.checked_sub(1);
        let mut is_prefix = false;
        while let Some(number) = at
            && let Some(entry) = self.entries.get(number)
        {
            is_prefix = is_prefix || path.starts_with(self.prefix(number));
            if is_prefix {
                let (start, len) = (entry.routes.0 as usize, entry.routes.1 as usize);
                found.lists.push(self.routes.get(start..start + len).unwrap_or_default());
            }
            at = entry.parent.map(|parent| parent as usize);
        }
    }

    fn prefix(&self, number: usize) -> &[u8] {
        let end = |number: usize| self.ends.get(number).map_or(0, |end| *end as usize);
        let start = number.checked_sub(1).map_or(0, end);
        self.text.get(start..end(number)).unwrap_or_default()
    }

    /// Adds an entry, which must be greater than the last, and says whether there was room for it.
    fn push(&mut self, prefix: &[u8], parent: Option<u32>, numbers: impl ExactSizeIterator<Item = u32>) -> bool {
        let (Ok(start), Ok(len), Ok(end)) = (
            u32::try_from(self.routes.len()),
            u32::try_from(numbers.len()),
            u32::try_from(self.text.len() + prefix.len()),
        ) else {
            return false;
        };
        self.text.extend_from_slice(prefix);
        self.ends.push(end);
        self.entries.push(PathEntry { parent, routes: (start, len) });
        self.routes.extend(numbers);
        true
    }
}

#[derive(Debug, Default)]
struct PathBuilder<'k> {
    entries: SmallVec<[(&'k [u8], u32); 1]>,
    any: List,
}

impl<'k> PathBuilder<'k> {
    fn insert(&mut self, number: u32, paths: &'k [Box<[u8]>]) {
        if paths.is_empty() {
            self.any.push(number);
        }
        self.entries.extend(paths.iter().map(|path| (&**path, number)));
    }

    fn finish(self) -> PathIndex {
        let Self { mut entries, mut any } = self;
        let tree = if entries.len() <= FEW {
            any.extend(entries.iter().map(|(_, number)| *number));
            None
        } else {
            entries.sort_unstable();
            entries.dedup();
            Some(Box::new(tree(&entries, &mut any)))
        };
        any.sort_unstable();
        any.dedup();
        PathIndex { any, tree }
    }
}

/// The tree of sorted entries. What would overflow it, gigabytes of prefixes, is left to be compared.
fn tree(sorted: &[(&[u8], u32)], left: &mut List) -> PathTree {
    let mut tree = PathTree::default();
    // The entries that the last one starts with, shortest first, and itself.
    let mut chain: Vec<(u32, &[u8])> = Vec::new();
    for same in sorted.chunk_by(|(a, _), (b, _)| a == b) {
        let prefix = same.first().map(|(prefix, _)| *prefix).unwrap_or_default();
        let numbers = same.iter().map(|(_, number)| *number);
        while chain.last().is_some_and(|(_, other)| !prefix.starts_with(other)) {
            chain.pop();
        }
        let parent = chain.last().map(|(number, _)| *number);
        match u32::try_from(tree.entries.len()) {
            Ok(number) if tree.push(prefix, parent, numbers.clone()) => chain.push((number, prefix)),
            _ => left.extend(numbers),
        }
    }
    tree.text.shrink_to_fit();
    tree.ends.shrink_to_fit();
    tree.entries.shrink_to_fit();
    tree.routes.shrink_to_fit();
    tree
}

#[derive(Debug, Default)]
struct HostBuilder<'k> {
    paths: PathBuilder<'k>,
    snis: Option<Box<SniBuilder<'k>>>,
}

#[derive(Debug, Default)]
struct SniBuilder<'k> {
    names: NameIndex<&'k str, PathBuilder<'k>>,
    clear: PathBuilder<'k>,
}

impl<'k> HostBuilder<'k> {
    fn insert(&mut self, number: u32, keys: &'k Keys) {
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
