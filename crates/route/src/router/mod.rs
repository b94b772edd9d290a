//! [`Router`]: the routes of one generation, ready to be matched.

mod edits;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use cardinal_ir::{Diagnostic, Id, Ir, Rank, Route, Traffic};

use crate::explain::{Explanation, explain};
use crate::index::Index;
use crate::kinds::{Categories, Kinds, Preference};
use crate::pattern::Captures;
use crate::request::Request;
use crate::rule::PathTrace;
use crate::slots::Slots;

use edits::Edits;

/// The routes of a generation in slots, and the index over them. Immutable; finding takes no lock.
///
/// Generations share what they have in common: [`rebuild`](Self::rebuild) and [`update`](Self::update) copy the parts
/// that changed routes are in, so that their work grows with the changes, and dropping a generation frees these.
#[derive(Clone, Debug, Default)]
pub struct Router {
    pub(crate) slots: Slots,
    index: Index,
    /// Where routes are selected by kinds.
    categories: Option<Arc<Categories>>,
}

/// A route that a request matched.
#[derive(Clone, Copy, Debug)]
pub struct Match<'r> {
    /// Id of the record.
    pub id: Id,
    /// The route.
    pub route: &'r Arc<Route>,
    /// The route's number, below [`Router::slots`]. A record keeps it in all generations that are made one from the
    /// other, also while it changes; after its end another may take it. See [`Router::changes_since`].
    pub slot: usize,
    /// Length of the text that a path condition matched, from the start of the path for prefixes and patterns; `None`
    /// where the path did not decide.
    pub path_len: Option<usize>,
    trace: PathTrace<'r>,
}

impl Match<'_> {
    /// The order among routes: of two matches that of the higher rank comes first.
    pub fn rank(&self) -> (Rank, Id) {
        (self.route.rank, self.id)
    }

    /// What the groups of the pattern that matched the path hold, as ranges of the path; `None` where there are none.
    /// Computed on demand, as few requests need it. `path` is that of the request.
    pub fn captures(&self, path: &[u8]) -> Option<Captures> {
        self.trace.pattern?.captures(path)
    }

    /// Whether [`captures`](Self::captures) would find groups.
    pub fn has_captures(&self) -> bool {
        self.trace.pattern.is_some_and(|pattern| pattern.has_groups())
    }
}

/// A route table: the routes that one group of listeners has for one kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteTable {
    /// The group of listeners; `None` is the default group.
    pub group: Option<Id>,
    /// What the routes match.
    pub traffic: Traffic,
}

impl RouteTable {
    /// Whether a route is in the table.
    pub fn holds(&self, route: &Route) -> bool {
        route.traffic == self.traffic && route.listeners() == self.group
    }
}

/// The table of the default group.
impl From<Traffic> for RouteTable {
    fn from(traffic: Traffic) -> Self {
        Self { group: None, traffic }
    }
}

impl Router {
    /// The routes of a generation that are in one table. A route whose pattern cannot be used is left
    /// out and reported; the others work.
    pub fn build(ir: &Ir, table: impl Into<RouteTable>) -> (Self, Vec<Diagnostic>) {
        Self::default().rebuild(ir, table)
    }

    /// Like [`build`](Self::build), sharing with `self` all that did not change. Records are the same where both
    /// generations share them; this compares each of them. If the changes are known, use
    /// [`update`](Self::update).
    pub fn rebuild(&self, ir: &Ir, table: impl Into<RouteTable>) -> (Self, Vec<Diagnostic>) {
        let routes = ir.routes.iter().map(|(id, route)| (*id, route));
        self.edited(Edits::between(&self.slots, routes, Some(table.into())))
    }

    /// The next generation by what changed: records that were added or replaced, and ids of those that were removed. Of
    /// several changes of one record the last counts. Records of other tables are ignored; a record that
    /// moves to another table is removed.
    ///
    /// Only problems of the changed records are reported.
    pub fn update(
        &self,
        changes: impl IntoIterator<Item = (Id, Option<Arc<Route>>)>,
        table: impl Into<RouteTable>,
    ) -> (Self, Vec<Diagnostic>) {
        let changes: BTreeMap<_, _> = changes.into_iter().collect();
        self.edited(Edits::of_changes(&self.slots, changes, table.into()))
    }

    /// A router over any routes. Of several with one id the last counts.
    pub fn from_routes(routes: impl IntoIterator<Item = (Id, Arc<Route>)>) -> (Self, Vec<Diagnostic>) {
        let routes: BTreeMap<_, _> = routes.into_iter().collect();
        let router = Self::default();
        let edits = Edits::between(&router.slots, routes.iter().map(|(id, route)| (*id, route)), None);
        router.edited(edits)
    }

    /// The route that fits: the one of highest rank, unless routes are selected by kinds.
    pub fn find<'r>(&'r self, request: &Request<'_>) -> Option<Match<'r>> {
        if let Some(categories) = &self.categories {
            return self.find_by_kinds(categories, request);
        }
        self.index.find(&self.slots, request, |entry| {
            let compiled = self.slots.get(entry.slot)?;
            let trace = compiled.matches(request, entry.checks, entry.path_len)?;
            let slot = entry.slot as usize;
            Some(Match { id: compiled.id, route: &compiled.route, slot, path_len: trace.len, trace })
        })
    }

    /// The first route that fits of the first category that has one, or the first of that category which is preferred.
    fn find_by_kinds<'r>(&'r self, categories: &Categories, request: &Request<'_>) -> Option<Match<'r>> {
        let mut first: Option<(Kinds, Match<'r>)> = None;
        let mut passed_over = None;
        let mut preference: Option<Preference<'_>> = None;
        let preferred = self.index.find(&self.slots, request, |entry| {
            let compiled = self.slots.get(entry.slot)?;
            let trace = compiled.matches(request, entry.checks, entry.path_len)?;
            let kinds = Kinds::of(compiled.conditions()?);
            let slot = entry.slot as usize;
            let found = Match { id: compiled.id, route: &compiled.route, slot, path_len: trace.len, trace };
            let Some((category, best)) = &first else {
                if passed_over == Some(kinds) || categories.is_passed_over(kinds, request, &self.slots) {
                    passed_over = Some(kinds);
                    return None;
                }
                first = Some((kinds, found));
                return None;
            };
            if *category != kinds {
                return Some(*best);
            }
            if preference.is_none() {
                let Some(of_category) = categories.preference(kinds, request, &self.slots) else { return Some(*best) };
                if self.slots.get(u32::try_from(best.slot).ok()?).is_some_and(|first| of_category.names(first, request))
                {
                    return Some(*best);
                }
                preference = Some(of_category);
            }
            preference.as_ref().is_some_and(|preference| preference.names(compiled, request)).then_some(found)
        });
        preferred.or(first.map(|(_, first)| first))
    }

    /// The route that fits, and up to `losers_max` others that came closest, each with the reasons. Looks at all
    /// routes, so it is for diagnostics and not for each request.
    pub fn explain<'r>(&'r self, request: &Request<'_>, losers_max: usize) -> Explanation<'r> {
        explain(self, request, losers_max)
    }

    /// The routes with their slots, ascending; see [`Match::slot`].
    pub fn routes(&self) -> impl Iterator<Item = (usize, Id, &Arc<Route>)> {
        self.slots.iter().map(|(slot, compiled)| (slot as usize, compiled.id, &compiled.route))
    }

    /// The route in a slot, and its id; `None` where there is none.
    pub fn route(&self, slot: usize) -> Option<(Id, &Arc<Route>)> {
        let compiled = self.slots.get(u32::try_from(slot).ok()?)?;
        Some((compiled.id, &compiled.route))
    }

    /// All slots are below this number. Some may be empty.
    pub fn slots(&self) -> usize {
        self.slots.end()
    }

    /// Slots that do not hold the same record as in `older`, or hold one in only one of the two, ascending. The work
    /// grows with the difference where one router was made from the other; any two can be compared.
    pub fn changes_since(&self, older: &Self) -> Vec<usize> {
        self.slots.difference(&older.slots)
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The routes that are compared with a request until one fits, in falling rank.
    #[cfg(test)]
    fn candidates(&self, request: &Request<'_>) -> Vec<Id> {
        let mut all = Vec::new();
        let _none: Option<()> = self.index.find(&self.slots, request, |entry| {
            all.extend(self.slots.get(entry.slot).map(|compiled| compiled.id));
            None
        });
        all
    }

    fn edited(&self, edits: Edits) -> (Self, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        if edits.are_none() {
            return (self.clone(), diagnostics);
        }
        let by_kinds = self.categories.is_some() || edits.have_selection_by_kinds();
        let mut next = if edits.are_many(self.slots.len()) || self.slots.is_sparse() {
            self.edited_anew(edits, &mut diagnostics)
        } else {
            self.edited_in_place(edits, &mut diagnostics)
        };
        next.categories = if by_kinds { Categories::of(&next.slots).map(Arc::new) } else { None };
        (next, diagnostics)
    }

    /// Route by route, sharing the rest.
    fn edited_in_place(&self, edits: Edits, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut next = self.clone();
        for slot in edits.removed {
            next.index.remove(&next.slots, slot);
            next.slots.remove(slot);
        }
        for put in edits.put {
            let old = put.slot.and_then(|slot| Some((slot, self.slots.get(slot)?)));
            if let Some((slot, same)) = old.and_then(|(slot, old)| Some((slot, old.with_route(&put.route)?))) {
                next.slots.replace(slot, same);
                continue;
            }
            if let Some((slot, _)) = old {
                next.index.remove(&next.slots, slot);
            }
            match (put.compile(), old) {
                (Ok(compiled), Some((slot, _))) => {
                    next.slots.replace(slot, compiled);
                    next.index.insert(&next.slots, slot);
                }
                (Ok(compiled), None) => {
                    let slot = next.slots.add(compiled);
                    next.index.insert(&next.slots, slot);
                }
                (Err(diagnostic), old) => {
                    diagnostics.push(*diagnostic);
                    if let Some((slot, _)) = old {
                        next.slots.remove(slot);
                    }
                }
            }
        }
        next
    }

    /// All routes into an index of their own, where many changed.
    fn edited_anew(&self, edits: Edits, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut slots = self.slots.clone();
        let Edits { mut removed, put } = edits;
        let mut added = Vec::with_capacity(put.len());
        for put in put {
            let slot = put.slot;
            let old = slot.and_then(|slot| self.slots.get(slot));
            let compiled = old.and_then(|old| old.with_route(&put.route)).map_or_else(|| put.compile(), Ok);
            match (compiled, slot) {
                (Ok(compiled), Some(slot)) => slots.replace(slot, compiled),
                (Ok(compiled), None) => added.push(compiled),
                (Err(diagnostic), slot) => {
                    diagnostics.push(*diagnostic);
                    removed.extend(slot);
                }
            }
        }
        slots.change(&removed, added);
        if slots.is_sparse() {
            let routes: Vec<_> = slots.iter_by_id().map(|(_, compiled)| compiled.clone()).collect();
            slots = Slots::default();
            slots.change(&[], routes);
        }
        let mut order: Vec<_> =
            slots.iter().map(|(slot, compiled)| (Reverse((compiled.route.rank, compiled.id)), slot)).collect();
        order.sort_unstable();
        let mut index = Index::default();
        for (_, slot) in order {
            index.insert(&slots, slot);
        }
        Self { slots, index, categories: None }
    }
}

#[cfg(test)]
mod tests;
