//! [`Scopes`]: filter sets by where they apply, carried from generation to generation.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cardinal_base::{Few, Keyed, Sharded};
use cardinal_ir::{Delta, FilterSet, Id};

/// A filter set under its id.
pub(super) type Set = (Id, Arc<FilterSet>);

/// Filter sets by where they apply.
#[derive(Clone, Default)]
pub(super) struct Scopes {
    by_route: Sharded<OfRoute>,
    by_backend: Sharded<OfBackend>,
    rest: Arc<BTreeMap<Id, Arc<FilterSet>>>,
}

/// Where filter sets changed.
#[derive(Default)]
pub(super) struct Dirty {
    /// Sets that are for no particular route or backend.
    pub(super) rest: bool,
    /// Routes that have sets of their own, or had.
    pub(super) routes: HashSet<Id>,
    /// Backends that have sets of their own, or had.
    pub(super) backends: HashSet<Id>,
}

impl Scopes {
    /// The scopes after these changes, and where they are.
    pub(super) fn rebuild(&self, changes: &Delta<FilterSet>) -> (Self, Dirty) {
        let (mut next, mut dirty) = (self.clone(), Dirty::default());
        for change in changes {
            if let Some(old) = &change.old {
                next.remove(change.id, old);
                dirty.mark(old);
            }
            if let Some(new) = &change.new {
                next.add((change.id, Arc::clone(new)));
                dirty.mark(new);
            }
        }
        (next, dirty)
    }

    /// Sets for this route (an origin's id).
    pub(super) fn of_route(&self, id: &Id) -> &[Set] {
        self.by_route.find(id).map_or(&[], |sets| sets.0.as_slice())
    }

    /// Sets for this backend, whatever the route.
    pub(super) fn of_backend(&self, id: &Id) -> &[Set] {
        self.by_backend.find(id).map_or(&[], |sets| sets.0.as_slice())
    }

    /// Sets for requests of any route and backend.
    pub(super) fn rest(&self) -> impl Iterator<Item = (&Id, &Arc<FilterSet>)> {
        self.rest.iter()
    }

    fn add(&mut self, set: Set) {
        match (set.1.scope.route, set.1.scope.backend) {
            (Some(route), _) => {
                let others = self.by_route.remove(&route).map(|others| others.0);
                self.by_route.insert(OfRoute(with(others, set)));
            }
            (None, Some(backend)) => {
                let others = self.by_backend.remove(&backend).map(|others| others.0);
                self.by_backend.insert(OfBackend(with(others, set)));
            }
            (None, None) => drop(Arc::make_mut(&mut self.rest).insert(set.0, set.1)),
        }
    }

    fn remove(&mut self, id: Id, set: &FilterSet) {
        let meant = |(other, _): &Set| *other == id;
        match (set.scope.route, set.scope.backend) {
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
    fn mark(&mut self, set: &FilterSet) {
        match (set.scope.route, set.scope.backend) {
            (Some(route), _) => drop(self.routes.insert(route)),
            (None, Some(backend)) => drop(self.backends.insert(backend)),
            (None, None) => self.rest = true,
        }
    }
}

/// Sets that are for one route, in the order of their ids.
#[derive(Clone)]
struct OfRoute(Few<Set>);

/// Sets that are for one backend, in the order of their ids.
#[derive(Clone)]
struct OfBackend(Few<Set>);

static NOWHERE: Id = Id::nil();

impl Keyed for OfRoute {
    type Key = Id;

    fn key(&self) -> &Id {
        self.0.as_slice().first().and_then(|(_, set)| set.scope.route.as_ref()).unwrap_or(&NOWHERE)
    }
}

impl Keyed for OfBackend {
    type Key = Id;

    fn key(&self) -> &Id {
        self.0.as_slice().first().and_then(|(_, set)| set.scope.backend.as_ref()).unwrap_or(&NOWHERE)
    }
}

/// The sets and this one.
fn with(sets: Option<Few<Set>>, set: Set) -> Few<Set> {
    let id = set.0;
    match sets {
        Some(sets) => sets.with(set, |(other, _)| *other < id),
        None => Few::One(set),
    }
}
