//! Which filters and which tracing a request through a route meets: scope precedence, flattened.
//!
//! Pure, and shared: the engine calls it while planning, `explain` and the APIs to show effective configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Filter, FilterSet, Id, Ir, Scope, Telemetry};

/// All candidates for one kind of filter on a route, best first.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// The kind (the plugin's name).
    pub kind: Box<str>,
    /// Candidates in falling precedence. At run time the first whose principal and group conditions hold is taken;
    /// nothing after the first static one can be.
    pub candidates: Vec<Candidate>,
}

/// One filter that may be the one.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Id of the filter set.
    pub id: Id,
    /// The set.
    pub set: Arc<FilterSet>,
    /// Index of the filter in the set.
    pub index: usize,
}

impl Candidate {
    /// The filter.
    pub fn filter(&self) -> Option<&Filter> {
        self.set.filters.get(self.index)
    }

    /// Where it applies.
    pub fn scope(&self) -> &Scope {
        &self.set.scope
    }
}

/// Filter sets grouped by where they can apply, so that resolving a route costs what the route meets.
#[derive(Debug, Default)]
pub struct Index {
    by_route: BTreeMap<Id, Vec<(Id, Arc<FilterSet>)>>,
    by_backend: BTreeMap<Id, Vec<(Id, Arc<FilterSet>)>>,
    rest: Vec<(Id, Arc<FilterSet>)>,
}

impl Index {
    /// Groups the filter sets of `ir`.
    pub fn new(ir: &Ir) -> Self {
        let mut index = Self::default();
        for (id, set) in ir.filter_sets.iter() {
            let entry = (*id, Arc::clone(set));
            match (set.scope.route, set.scope.backend) {
                (Some(route), _) => index.by_route.entry(route).or_default().push(entry),
                (None, Some(backend)) => index.by_backend.entry(backend).or_default().push(entry),
                (None, None) => index.rest.push(entry),
            }
        }
        index
    }

    /// Whether any set is scoped to this route.
    pub fn has_route(&self, route: &Id) -> bool {
        self.by_route.contains_key(route)
    }

    /// Whether any set is scoped to this backend.
    pub fn has_backend(&self, backend: &Id) -> bool {
        self.by_backend.contains_key(backend)
    }

    /// The slots of a request through `route` (an origin id) to `backend`, in no order that matters: the planner
    /// sorts by the plugins' own order. Kinds come alphabetically.
    pub fn resolve(&self, route: Option<Id>, backend: Option<Id>) -> Vec<Slot> {
        let none = Vec::new();
        let of_route = route.and_then(|id| self.by_route.get(&id)).unwrap_or(&none);
        let of_backend = backend.and_then(|id| self.by_backend.get(&id)).unwrap_or(&none);
        slots(of_route.iter().chain(of_backend).chain(&self.rest).map(|(id, set)| (id, set)), backend)
    }
}

/// The slots that these sets come to for requests to `backend`: those of the route, of the backend, and those for all.
/// See [`Index::resolve`], which finds the sets.
pub fn slots<'s>(sets: impl Iterator<Item = (&'s Id, &'s Arc<FilterSet>)>, backend: Option<Id>) -> Vec<Slot> {
    let mut kinds: BTreeMap<&str, Vec<Candidate>> = BTreeMap::new();
    for (id, set) in sets {
        if set.scope.backend.is_some() && set.scope.backend != backend {
            continue;
        }
        for (index, filter) in set.filters.iter().enumerate() {
            kinds.entry(&filter.kind).or_default().push(Candidate { id: *id, set: Arc::clone(set), index });
        }
    }
    kinds.into_iter().map(|(kind, candidates)| Slot { kind: kind.into(), candidates: best_first(candidates) }).collect()
}

/// Sorts by precedence (ties by id, so that the outcome does not depend on input order) and drops what can never be
/// taken.
fn best_first(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates
        .sort_by(|a, b| b.set.precedence.cmp(&a.set.precedence).then(a.id.cmp(&b.id)).then(a.index.cmp(&b.index)));
    if let Some(first_static) = candidates.iter().position(|c| c.scope().is_static()) {
        candidates.truncate(first_static + 1);
    }
    candidates
}

/// [`Index::resolve`] for a single question.
pub fn resolve(ir: &Ir, route: Option<Id>, backend: Option<Id>) -> Vec<Slot> {
    Index::new(ir).resolve(route, backend)
}

/// The tracing of requests through `route` (an origin id) to `backend`, with the id of its record: of those whose scopes
/// hold, the one of the highest precedence, and of equal ones that of the lowest id.
pub fn telemetry(ir: &Ir, route: Option<Id>, backend: Option<Id>) -> Option<(Id, &Arc<Telemetry>)> {
    let holds = |wanted: Option<Id>, is: Option<Id>| wanted.is_none() || wanted == is;
    let applying = ir.telemetry.iter().filter(|(_, t)| holds(t.scope.route, route) && holds(t.scope.backend, backend));
    let best = applying.max_by(|(a_id, a), (b_id, b)| a.precedence.cmp(&b.precedence).then_with(|| b_id.cmp(a_id)));
    best.map(|(id, telemetry)| (*id, telemetry))
}
