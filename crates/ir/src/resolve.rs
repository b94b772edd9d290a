//! Resolves the filters, policies and tracing that apply to a request through a route, by scope and precedence.
//!
//! Pure and shared: the engine calls it while planning, `explain` and the APIs use it to show the effective
//! configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{FilterSet, Id, Ir, Origin, Policy, PolicyKind, RecordKind, Scope, Telemetry, TelemetryScope, Wire};

/// A record that applies to requests by its scope.
#[derive(Clone, Debug, PartialEq)]
pub enum ScopedRecord {
    /// A set of filters.
    Filters(Arc<FilterSet>),
    /// A policy.
    Policy(Arc<Policy>),
}

/// Identifies a [`ScopedRecord`]: records of two tables may have the same id.
pub type ScopedId = (Id, RecordKind);

impl ScopedRecord {
    /// The table that the record belongs to.
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Filters(_) => RecordKind::FilterSet,
            Self::Policy(_) => RecordKind::Policy,
        }
    }

    /// The user's object.
    pub fn origin(&self) -> &Origin {
        match self {
            Self::Filters(set) => &set.origin,
            Self::Policy(policy) => &policy.origin,
        }
    }

    /// The requests to which the record applies.
    pub fn scope(&self) -> &Scope {
        match self {
            Self::Filters(set) => &set.scope,
            Self::Policy(policy) => &policy.scope,
        }
    }

    /// Among the applicable records in one slot, the one with the highest precedence is used.
    pub fn precedence(&self) -> u32 {
        match self {
            Self::Filters(set) => set.precedence,
            Self::Policy(policy) => policy.precedence,
        }
    }

    /// Whether the route alone determines that the record applies, without knowing the client.
    pub fn is_static(&self) -> bool {
        match self {
            Self::Filters(set) => set.scope.is_static(),
            Self::Policy(policy) => policy.is_static(),
        }
    }

    /// The wire forms to which the part of the record at `index` applies; empty means all.
    pub fn wires(&self, index: usize) -> &[Wire] {
        match self {
            Self::Filters(set) => set.filters.get(index).map_or(&[], |filter| &filter.wires),
            Self::Policy(policy) => &policy.wires,
        }
    }

    /// Whether the wire form is a condition for selecting the record. An instance of a plugin is selected regardless of
    /// its wire forms, and inactive for others (as in Kong); a policy leaves them to the next candidate.
    pub fn is_taken_by_wire(&self) -> bool {
        matches!(self, Self::Policy(policy) if policy.plugin.is_none())
    }

    /// Whether the part at `index` is selected whenever the record applies, so that candidates of lower precedence
    /// never are.
    fn hides_others(&self, index: usize) -> bool {
        self.is_static() && (!self.is_taken_by_wire() || self.wires(index).is_empty())
    }

    /// Whether both refer to the same allocation.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Filters(a), Self::Filters(b)) => Arc::ptr_eq(a, b),
            (Self::Policy(a), Self::Policy(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// The number of independent parts.
    fn len(&self) -> usize {
        match self {
            Self::Filters(set) => set.filters.len(),
            Self::Policy(_) => 1,
        }
    }

    /// The slot of the part at `index`.
    fn slot(&self, index: usize) -> Option<SlotKey<&str>> {
        match self {
            Self::Filters(set) => set.filters.get(index).map(|filter| SlotKey::Plugin(&*filter.kind)),
            Self::Policy(policy) => Some(match &policy.plugin {
                Some(plugin) => SlotKey::Plugin(&*plugin.name),
                None => SlotKey::Policy(policy.spec.kind(), policy.order),
            }),
        }
    }
}

/// The key by which candidates compete: at most one candidate with a key applies to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotKey<N = Box<str>> {
    /// Filters of this plugin, and policies lowered from its instances.
    Plugin(N),
    /// Other policies of this kind at this position.
    Policy(PolicyKind, i32),
}

/// All candidates for one position in the chain of a route, best first.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// The common key.
    pub key: SlotKey,
    /// Candidates in descending precedence. At run time, the first one whose conditions on the client (and, for
    /// policies, on the wire form) hold is selected; candidates after the first one without such conditions are never
    /// selected.
    pub candidates: Vec<Candidate>,
}

/// A candidate: one filter or policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Id of the record.
    pub id: Id,
    /// The record.
    pub record: ScopedRecord,
    /// Index of the filter in its set.
    pub index: usize,
}

impl Candidate {
    /// Identifies the record.
    pub fn scoped_id(&self) -> ScopedId {
        (self.id, self.record.kind())
    }

    /// The scope of the record.
    pub fn scope(&self) -> &Scope {
        self.record.scope()
    }
}

/// Scoped records grouped by scope, so that the cost of resolving a route depends on the records that apply to it.
#[derive(Debug, Default)]
pub struct Index {
    by_route: BTreeMap<Id, Vec<(Id, ScopedRecord)>>,
    by_backend: BTreeMap<Id, Vec<(Id, ScopedRecord)>>,
    rest: Vec<(Id, ScopedRecord)>,
}

impl Index {
    /// Groups the filter sets and policies of `ir`.
    pub fn new(ir: &Ir) -> Self {
        let mut index = Self::default();
        let filters = ir.filter_sets.iter().map(|(id, set)| (*id, ScopedRecord::Filters(Arc::clone(set))));
        let policies = ir.policies.iter().map(|(id, policy)| (*id, ScopedRecord::Policy(Arc::clone(policy))));
        for entry in filters.chain(policies) {
            let scope = entry.1.scope();
            match (scope.route, scope.backend) {
                (Some(route), _) => index.by_route.entry(route).or_default().push(entry),
                (None, Some(backend)) => index.by_backend.entry(backend).or_default().push(entry),
                (None, None) => index.rest.push(entry),
            }
        }
        index
    }

    /// Whether any record is scoped to this route.
    pub fn has_route(&self, route: &Id) -> bool {
        self.by_route.contains_key(route)
    }

    /// Whether any record is scoped to this backend.
    pub fn has_backend(&self, backend: &Id) -> bool {
        self.by_backend.contains_key(backend)
    }

    /// The slots of a request that arrives at `listeners` (a group) through `route` (an origin id) to `backend`. The
    /// order is irrelevant, as the planner sorts by position; slots are returned in the order of keys.
    pub fn resolve(&self, listeners: Option<Id>, route: Option<Id>, backend: Option<Id>) -> Vec<Slot> {
        let none = Vec::new();
        let of_route = route.and_then(|id| self.by_route.get(&id)).unwrap_or(&none);
        let of_backend = backend.and_then(|id| self.by_backend.get(&id)).unwrap_or(&none);
        let records = of_route.iter().chain(of_backend).chain(&self.rest).map(|(id, record)| (id, record));
        slots(records, listeners, backend)
    }
}

/// The slots formed by these records for requests that arrive at `listeners` and go to `backend`: those of the route,
/// of the backend, and those for all. See [`Index::resolve`], which finds the records.
pub fn slots<'s>(
    records: impl Iterator<Item = (&'s Id, &'s ScopedRecord)>,
    listeners: Option<Id>,
    backend: Option<Id>,
) -> Vec<Slot> {
    let mut keys: BTreeMap<SlotKey<&str>, Vec<Candidate>> = BTreeMap::new();
    for (id, record) in records {
        let scope = record.scope();
        let elsewhere = scope.route.is_none() && scope.listeners != listeners;
        if elsewhere || (scope.backend.is_some() && scope.backend != backend) {
            continue;
        }
        for index in 0..record.len() {
            let Some(key) = record.slot(index) else { continue };
            keys.entry(key).or_default().push(Candidate { id: *id, record: record.clone(), index });
        }
    }
    let slot = |(key, candidates)| Slot { key: owned(key), candidates: best_first(candidates) };
    keys.into_iter().map(slot).collect()
}

fn owned(key: SlotKey<&str>) -> SlotKey {
    match key {
        SlotKey::Plugin(name) => SlotKey::Plugin(name.into()),
        SlotKey::Policy(kind, order) => SlotKey::Policy(kind, order),
    }
}

/// Sorts by precedence (ties by id, so that the result does not depend on input order) and drops candidates that are
/// never selected.
fn best_first(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|a, b| {
        let by_precedence = b.record.precedence().cmp(&a.record.precedence());
        by_precedence.then(a.scoped_id().cmp(&b.scoped_id())).then(a.index.cmp(&b.index))
    });
    if let Some(last) = candidates.iter().position(|c| c.record.hides_others(c.index)) {
        candidates.truncate(last + 1);
    }
    candidates
}

/// [`Index::resolve`] for a single request.
pub fn resolve(ir: &Ir, listeners: Option<Id>, route: Option<Id>, backend: Option<Id>) -> Vec<Slot> {
    Index::new(ir).resolve(listeners, route, backend)
}

/// The tracing of requests that arrive at `listeners` (a group) through `route` (an origin id) to `backend`, with the
/// id of its record: of those whose scopes match, the one with the highest precedence; of equal ones, the one with the
/// lowest id.
pub fn telemetry(
    ir: &Ir,
    listeners: Option<Id>,
    route: Option<Id>,
    backend: Option<Id>,
) -> Option<(Id, &Arc<Telemetry>)> {
    let holds = |wanted: Option<Id>, is: Option<Id>| wanted.is_none() || wanted == is;
    let applies = |scope: &TelemetryScope| {
        let here = scope.route.is_some() || scope.listeners == listeners;
        here && holds(scope.route, route) && holds(scope.backend, backend)
    };
    let applying = ir.telemetry.iter().filter(|(_, telemetry)| applies(&telemetry.scope));
    let best = applying.max_by(|(a_id, a), (b_id, b)| a.precedence.cmp(&b.precedence).then_with(|| b_id.cmp(a_id)));
    best.map(|(id, telemetry)| (*id, telemetry))
}
