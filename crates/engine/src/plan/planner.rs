//! [`Planner`]: plans backends, filter chains and actions of matches. Only changed parts are planned again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cardinal_base::{Keyed, Sharded};
use cardinal_ir::resolve::{ScopedId, slots};
use cardinal_ir::{Action, Diagnostic, Id, IrDelta, RecordKind, Route};
use cardinal_route::Router;

use super::backend::Backends;
use super::chain::ChainBuilder;
use super::changes::Changes;
use super::routes::{Destination, Destinations, Split, tag};
use super::scopes::{Dirty, Scopes};
use super::{BackendPlan, Chain, RoutePlan, RoutePlans};

/// The input of chains, and the chains that several routes share.
#[derive(Clone, Default)]
pub(super) struct Chains {
    scopes: Scopes,
    /// Chains of backends with filters, by listener group: for routes without filters of their own.
    of_backends: Sharded<BackendChain>,
    /// Chains of requests that match no route, by listener group.
    unrouted: HashMap<Option<Id>, Arc<Chain>>,
    /// Problems of filters and policies, by the ids of their records.
    problems: BTreeMap<ScopedId, Vec<Diagnostic>>,
}

impl Chains {
    /// The filters and policies that were left out, with the reasons.
    pub(super) fn diagnostics(&self) -> impl Iterator<Item = Diagnostic> {
        self.problems.values().flatten().cloned()
    }
}

/// The changed filter sets and policies.
fn scoped_ids(delta: &IrDelta) -> impl Iterator<Item = ScopedId> {
    let sets = delta.filter_sets.iter().map(|change| (change.id, RecordKind::FilterSet));
    sets.chain(delta.policies.iter().map(|change| (change.id, RecordKind::Policy)))
}

#[derive(Clone)]
struct BackendChain(Arc<(Id, ByListeners)>);

/// Chains by listener group.
type ByListeners = Vec<(Option<Id>, Arc<Chain>)>;

impl BackendChain {
    fn of(&self, listeners: Option<Id>) -> Option<&Arc<Chain>> {
        self.0.1.iter().find(|(group, _)| *group == listeners).map(|(_, chain)| chain)
    }
}

impl Keyed for BackendChain {
    type Key = Id;

    fn key(&self) -> &Id {
        &self.0.0
    }
}

/// The parts of the previous generation from which chains are built.
#[derive(Clone, Copy)]
pub(super) struct Before<'x> {
    pub(super) chains: &'x Chains,
    pub(super) backends: &'x Backends,
}

/// Plans routes, sharing equal parts.
pub(super) struct Planner<'x> {
    previous: Option<Before<'x>>,
    backends: &'x Backends,
    chains: Chains,
    dirty: Dirty,
    /// Backends that changed.
    concerned: HashSet<Id>,
    /// Chains of routes with filters of their own, by route and backend, built in this run.
    made: HashMap<(Id, Option<Id>), Arc<Chain>>,
    builder: ChainBuilder<'x>,
}

impl<'x> Planner<'x> {
    /// Creates the planner for these listener groups. `concerned` lists the changed backends.
    pub(super) fn new(
        previous: Option<Before<'x>>,
        mut builder: ChainBuilder<'x>,
        changes: &Changes,
        backends: &'x Backends,
        (groups, concerned): (impl Iterator<Item = Option<Id>>, HashSet<Id>),
    ) -> Self {
        let mut chains = previous.map_or_else(Chains::default, |previous| previous.chains.clone());
        let (scopes, dirty) = chains.scopes.rebuild(&changes.delta);
        chains.scopes = scopes;
        for id in scoped_ids(&changes.delta) {
            chains.problems.remove(&id);
        }
        let unrouted = groups.map(|group| {
            let old = previous.and_then(|previous| previous.chains.unrouted.get(&group));
            let chain = match old {
                Some(old) if !dirty.rest => Arc::clone(old),
                old => {
                    let old: Vec<&Chain> = old.map(|chain| &**chain).into_iter().collect();
                    Arc::new(builder.chain(slots(chains.scopes.rest(), group, None), &old))
                }
            };
            (group, chain)
        });
        chains.unrouted = unrouted.collect();
        let made = HashMap::new();
        let mut planner = Self { previous, backends, chains, dirty, concerned, made, builder };
        planner.backend_chains();
        planner
    }

    /// The chain of requests to a listener group that match no route.
    pub(super) fn unrouted(&self, listeners: Option<Id>) -> Arc<Chain> {
        self.chains.unrouted.get(&listeners).map_or_else(Arc::default, Arc::clone)
    }

    /// Whether the plans of unchanged routes stay valid.
    pub(super) fn keeps_routes(&self) -> bool {
        self.concerned.is_empty() && !self.dirty.rest && self.dirty.routes.is_empty() && self.dirty.backends.is_empty()
    }

    /// The chains from which the next generation starts.
    pub(super) fn finish(mut self) -> Chains {
        self.chains.problems.extend(self.builder.into_problems());
        self.chains
    }

    /// Rebuilds the chains of backends whose filters changed.
    fn backend_chains(&mut self) {
        let mut dirty = self.dirty.backends.clone();
        if self.dirty.rest {
            dirty.extend(self.chains.of_backends.iter().map(|chain| chain.0.0));
        }
        for id in dirty {
            let old = self.chains.of_backends.remove(&id);
            let own = self.chains.scopes.of_backend(&id);
            if own.is_empty() {
                continue;
            }
            let groups: BTreeSet<Option<Id>> = own.iter().map(|(_, set)| set.scope().listeners).collect();
            let mut chains = Vec::with_capacity(groups.len());
            for group in groups {
                let sets = own.iter().map(|(id, set)| (id, set)).chain(self.chains.scopes.rest());
                let same = old.as_ref().and_then(|old| old.of(group));
                let all = self.previous.and_then(|previous| previous.chains.unrouted.get(&group));
                let old: Vec<&Chain> = same.into_iter().chain(all).map(|chain| &**chain).collect();
                chains.push((group, Arc::new(self.builder.chain(slots(sets, group, Some(id)), &old))));
            }
            self.chains.of_backends.insert(BackendChain(Arc::new((id, chains))));
        }
    }

    /// Builds the chains of routes with filters of their own, to find their problems.
    pub(super) fn build_chains<'r>(&mut self, routes: impl Iterator<Item = &'r Route>) {
        for route in routes {
            if self.chains.scopes.of_route(&route.origin.id).is_empty() {
                continue;
            }
            for to in route.action.backends() {
                self.chain(route, Some(to.backend), None);
            }
            if !matches!(route.action, Action::Forward(_)) {
                self.chain(route, None, None);
            }
        }
    }

    /// Plans the routes of a router. `previous` is the router from which it was built, with its plans.
    pub(super) fn routes(&mut self, router: &Router, previous: Option<(&Router, &RoutePlans)>) -> RoutePlans {
        let Some((old_router, old_plans)) = previous else {
            return router.routes().map(|(slot, _, route)| (slot, self.route(route, None))).collect();
        };
        let mut plans = old_plans.clone();
        for slot in router.changes_since(old_router) {
            let plan = router.route(slot).map(|(_, route)| self.route(route, old_plans.get(slot)));
            plans.set(slot, plan);
        }
        plans.truncate(router.slots());
        for slot in self.touched(&plans) {
            if let Some(plan) = plans.get(slot) {
                let plan = self.route(&plan.route, Some(plan));
                plans.set(slot, Some(plan));
            }
        }
        plans
    }

    /// The slots of unchanged routes whose backend or filters changed.
    fn touched(&self, plans: &RoutePlans) -> Vec<usize> {
        let (dirty, previous) = (&self.dirty, self.previous);
        let concerned: HashSet<&Id> = self.concerned.iter().chain(&dirty.backends).collect();
        let old = concerned.iter().filter_map(|id| previous?.backends.get(id)).map(Arc::as_ptr);
        let old: HashSet<*const BackendPlan, foldhash::fast::RandomState> = old.collect();
        let tags: HashSet<u32, foldhash::fast::RandomState> = dirty.routes.iter().map(tag).collect();
        if concerned.is_empty() && tags.is_empty() && !dirty.rest {
            return Vec::new();
        }
        let is_touched = |plan: &RoutePlan| {
            dirty.rest
                || match &plan.to {
                    Destinations::One(Destination { backend: Some(backend), .. }) => {
                        old.contains(&Arc::as_ptr(backend))
                    }
                    _ => plan.route.action.backends().any(|to| concerned.contains(&to.backend)),
                }
                || (tags.contains(&plan.tag) && dirty.routes.contains(&plan.route.origin.id))
        };
        plans.numbered().filter(|(_, plan)| is_touched(plan)).map(|(slot, _)| slot).collect()
    }

    /// Plans a route; `old` is the previous plan in its slot.
    fn route(&mut self, route: &Arc<Route>, old: Option<&RoutePlan>) -> RoutePlan {
        let to = match &route.action {
            Action::Split(list) => {
                let each = list.iter().map(|to| (to.weight, self.destination(route, Some(to.backend), old)));
                let weighted: Vec<_> = each.collect();
                Destinations::Split(Arc::new(Split::new(weighted, self.destination(route, None, old))))
            }
            action => Destinations::One(self.destination(route, action.backend(), old)),
        };
        RoutePlan { route: Arc::clone(route), to, tag: tag(&route.origin.id) }
    }

    fn destination(&mut self, route: &Route, backend: Option<Id>, old: Option<&RoutePlan>) -> Destination {
        let chain = self.chain(route, backend, old);
        Destination { backend: backend.and_then(|id| self.backends.get(&id)).map(Arc::clone), chain }
    }

    /// The chain of a route and one of its backends; shared by all routes without filters of their own.
    fn chain(&mut self, route: &Route, backend: Option<Id>, old: Option<&RoutePlan>) -> Arc<Chain> {
        let id = route.origin.id;
        let own = self.chains.scopes.of_route(&id);
        let listeners = route.group;
        let of_backend = backend.and_then(|id| self.chains.of_backends.find(&id)).and_then(|all| all.of(listeners));
        if own.is_empty() {
            return of_backend.map_or_else(|| self.unrouted(listeners), Arc::clone);
        }
        let old = old.filter(|old| old.route.origin.id == id);
        let same = old.and_then(|old| old.chain_of(backend));
        let is_dirty = self.dirty.rest
            || self.dirty.routes.contains(&id)
            || backend.is_some_and(|backend| self.dirty.backends.contains(&backend));
        if let Some(same) = same.filter(|_| !is_dirty) {
            return Arc::clone(same);
        }
        if let Some(chain) = self.made.get(&(id, backend)) {
            return Arc::clone(chain);
        }
        let others = backend.map_or(&[][..], |id| self.chains.scopes.of_backend(&id));
        let sets = own.iter().chain(others).map(|(id, set)| (id, set)).chain(self.chains.scopes.rest());
        let slots = slots(sets, listeners, backend);
        let unrouted = self.unrouted(listeners);
        let old = old.into_iter().flat_map(RoutePlan::destinations).map(|to| &*to.chain);
        let old: Vec<&Chain> = old.chain(of_backend.map(|chain| &**chain)).chain([&*unrouted]).collect();
        let chain = Arc::new(self.builder.chain(slots, &old));
        self.made.insert((id, backend), Arc::clone(&chain));
        chain
    }
}
