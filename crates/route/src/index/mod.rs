//! The index: from a request's names and path to the routes that may match, in falling rank.
//!
//! Host, then server name, then path prefix. Each level hands on to the few entries that the request's value can have,
//! so that the work depends on the length of names and paths and not on how many routes there are.
//!
//! All levels are trees behind `Arc`: a clone shares them, and an edit copies what is on the way to its place.

mod list;
mod names;
mod paths;

use std::borrow::Cow;
use std::sync::Arc;

use cardinal_ir::Matches;
use smallvec::SmallVec;

use crate::checks::{Checks, PathLen};
use crate::keys::{Keys, NameKey};
use crate::request::Request;
use crate::slots::Slots;

pub(crate) use list::Entry;
use list::merge_next;
use names::{NameIndex, Vacant};
use paths::PathTree;

/// All levels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index(NameIndex<HostEntry>);

/// Routes of one host pattern.
#[derive(Clone, Debug, Default)]
struct HostEntry {
    paths: PathTree,
    snis: Option<Arc<SniEntry>>,
}

/// Routes of one host pattern that require a server name.
#[derive(Clone, Debug, Default)]
struct SniEntry {
    names: NameIndex<PathTree>,
    /// The same routes, where server names are not considered.
    clear: PathTree,
}

/// A route that comes or goes.
#[derive(Clone, Copy)]
struct Edit<'e> {
    /// All routes, this one among them.
    slots: &'e Slots,
    snis: &'e [NameKey<'e>],
    clear_without_sni: bool,
    paths: &'e [Cow<'e, [u8]>],
    entry: Entry,
    insert: bool,
}

impl Index {
    /// Adds a route that is in a slot.
    pub(crate) fn insert(&mut self, slots: &Slots, slot: u32) {
        self.edit(slots, slot, true);
    }

    /// Takes out a route that is still in its slot.
    pub(crate) fn remove(&mut self, slots: &Slots, slot: u32) {
        self.edit(slots, slot, false);
    }

    fn edit(&mut self, slots: &Slots, slot: u32, insert: bool) {
        let Some(compiled) = slots.get(slot) else { return };
        let matches: &Matches = &compiled.route.matches;
        let keys = Keys::of(matches);
        let path_len = keys.path_decides.unwrap_or(PathLen::NONE);
        let entry = Entry::new(compiled.route.rank.weight, slot, keys.checks(matches), path_len);
        let Keys { snis, clear_without_sni, paths, .. } = &keys;
        let edit = Edit { slots, snis, clear_without_sni: *clear_without_sni, paths, entry, insert };
        self.0.each_of(&keys.hosts, insert, |host, by_name| {
            host.edit(edit.with(|checks| if by_name && keys.hosts_decide { checks.without_host() } else { checks }));
        });
    }

    /// Shows routes that may match, in falling rank, until one is taken.
    #[inline]
    pub(crate) fn find<T>(
        &self,
        slots: &Slots,
        request: &Request<'_>,
        mut take: impl FnMut(&Entry) -> Option<T>,
    ) -> Option<T> {
        let mut lists = Lists::new();
        self.0.lookup(request.host, &mut |host| {
            if !host.paths.is_vacant() {
                host.paths.lookup(request.path, &mut lists);
            }
            if let Some(snis) = &host.snis {
                snis.lookup(request, &mut lists);
            }
        });
        match lists.as_mut_slice() {
            [] => None,
            [only] => only.iter().find_map(take),
            several => loop {
                let taken = take(merge_next(several, slots)?);
                if taken.is_some() {
                    return taken;
                }
            },
        }
    }
}

impl HostEntry {
    fn edit(&mut self, edit: Edit<'_>) {
        if edit.snis.is_empty() {
            return self.paths.edit(edit);
        }
        let snis = Arc::make_mut(self.snis.get_or_insert_default());
        snis.names.each_of(edit.snis, edit.insert, |paths, _| paths.edit(edit));
        if edit.clear_without_sni {
            snis.clear.edit(edit);
        }
        if snis.names.is_vacant() && snis.clear.is_vacant() {
            self.snis = None;
        }
    }
}

impl SniEntry {
    fn lookup<'i>(&'i self, request: &Request<'_>, found: &mut Lists<'i>) {
        if request.sni.is_some() {
            self.names.lookup(request.sni, &mut |paths| paths.lookup(request.path, found));
        }
        if !request.considers_sni() {
            self.clear.lookup(request.path, found);
        }
    }
}

impl Vacant for HostEntry {
    fn is_vacant(&self) -> bool {
        self.paths.is_vacant() && self.snis.is_none()
    }
}

impl Edit<'_> {
    fn with(mut self, checks: impl FnOnce(Checks) -> Checks) -> Self {
        self.entry.checks = checks(self.entry.checks);
        self
    }
}

/// Sorted lists of candidates, none of them empty. OneOrMany requests meet more of them than fit without an allocation.
type Lists<'i> = SmallVec<[&'i [Entry]; 16]>;
