//! [`Scopes`]: filter sets and policies indexed by scope, updated from generation to generation.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cardinal_base::{Keyed, OneOrMany, Sharded};
use cardinal_ir::resolve::{ScopedId, ScopedRecord};
use cardinal_ir::{Id, IrDelta, Scope};

/// A filter set or a policy under its id.
pub(super) type Set = (Id, ScopedRecord);

/// Filter sets and policies by their scope.
#[derive(Clone, Default)]
pub(super) struct Scopes {
    by_route: Sharded<OfRoute>,
    by_backend: Sharded<OfBackend>,
    rest: Arc<BTreeMap<ScopedId, Set>>,
}

/// The scopes that changed.
#[derive(Default)]
pub(super) struct Dirty {
    /// Sets without a route or backend.
    pub(super) rest: bool,
    /// Routes that have or had sets of their own.
    pub(super) routes: HashSet<Id>,
    /// Backends that have or had sets of their own.
    pub(super) backends: HashSet<Id>,
}

impl Scopes {
    /// The scopes after these changes, and the scopes that changed.
    pub(super) fn rebuild(&self, delta: &IrDelta) -> (Self, Dirty) {
        let (mut next, mut dirty) = (self.clone(), Dirty::default());
        for change in &delta.filter_sets {
            next.change(change.id, (&change.old, &change.new), ScopedRecord::Filters, &mut dirty);
        }
        for change in &delta.policies {
            next.change(change.id, (&change.old, &change.new), ScopedRecord::Policy, &mut dirty);
        }
        (next, dirty)
    }

    fn change<T>(
        &mut self,
        id: Id,
        (old, new): (&Option<Arc<T>>, &Option<Arc<T>>),
        scoped: fn(Arc<T>) -> ScopedRecord,
        dirty: &mut Dirty,
    ) {
        if let Some(old) = old {
            let old = (id, scoped(Arc::clone(old)));
            dirty.mark(old.1.scope());
            self.remove(&old);
        }
        if let Some(new) = new {
            let new = (id, scoped(Arc::clone(new)));
            dirty.mark(new.1.scope());
            self.add(new);
        }
    }

    /// Sets for this route (an origin's id).
    pub(super) fn of_route(&self, id: &Id) -> &[Set] {
        self.by_route.find(id).map_or(&[], |sets| sets.0.as_slice())
    }

    /// Sets for this backend and any route.
    pub(super) fn of_backend(&self, id: &Id) -> &[Set] {
        self.by_backend.find(id).map_or(&[], |sets| sets.0.as_slice())
    }

    /// Sets for any route and backend.
    pub(super) fn rest(&self) -> impl Iterator<Item = (&Id, &ScopedRecord)> {
        self.rest.values().map(|(id, record)| (id, record))
    }

    fn add(&mut self, set: Set) {
        let scope = *set.1.scope();
        match (scope.route, scope.backend) {
            (Some(route), _) => {
                let others = self.by_route.remove(&route).map(|others| others.0);
                self.by_route.insert(OfRoute(with(others, set)));
            }
            (None, Some(backend)) => {
                let others = self.by_backend.remove(&backend).map(|others| others.0);
                self.by_backend.insert(OfBackend(with(others, set)));
            }
            (None, None) => drop(Arc::make_mut(&mut self.rest).insert(scoped_id(&set), set)),
        }
    }

    fn remove(&mut self, set: &Set) {
        let id = scoped_id(set);
        let meant = |other: &Set| scoped_id(other) == id;
        let scope = *set.1.scope();
        match (scope.route, scope.backend) {
            (Some(route), _) => {
                if let Some(left) = self.by_route.remove(&route).and_then(|sets| sets.0.without(meant)) {
                    self.by_route.insert(OfRoute(left));
                }
            }
            (None, Some(backend)) => {
                if let Some(left) = self.by_backend.remove(&backend).and_then(|sets| sets.0.without(meant)) {
                    self.by_backend.insert(OfBackend(left));
                }
            }
            (None, None) => drop(Arc::make_mut(&mut self.rest).remove(&id)),
        }
    }
}

impl Dirty {
    fn mark(&mut self, scope: &Scope) {
        match (scope.route, scope.backend) {
            (Some(route), _) => drop(self.routes.insert(route)),
            (None, Some(backend)) => drop(self.backends.insert(backend)),
            (None, None) => self.rest = true,
        }
    }
}

/// Sets for one route, in the order of their ids.
#[derive(Clone)]
struct OfRoute(OneOrMany<Set>);

/// Sets for one backend, in the order of their ids.
#[derive(Clone)]
struct OfBackend(OneOrMany<Set>);

static NOWHERE: Id = Id::nil();

impl Keyed for OfRoute {
    type Key = Id;

    fn key(&self) -> &Id {
        self.0.as_slice().first().and_then(|(_, set)| set.scope().route.as_ref()).unwrap_or(&NOWHERE)
    }
}

impl Keyed for OfBackend {
    type Key = Id;

    fn key(&self) -> &Id {
        self.0.as_slice().first().and_then(|(_, set)| set.scope().backend.as_ref()).unwrap_or(&NOWHERE)
    }
}

fn scoped_id((id, record): &Set) -> ScopedId {
    (*id, record.kind())
}

/// Adds a set.
fn with(sets: Option<OneOrMany<Set>>, set: Set) -> OneOrMany<Set> {
    let id = scoped_id(&set);
    match sets {
        Some(sets) => sets.with(set, |other| scoped_id(other) < id),
        None => OneOrMany::One(set),
    }
}
