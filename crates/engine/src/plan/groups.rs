//! [`Groups`]: the route tables of each group of listeners.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cardinal_ir::{Delta, Diagnostic, Id, Ir, Route, Traffic};
use cardinal_route::{RouteTable, Router};

use super::planner::Planner;
use super::{Chain, RoutePlans};

/// The route tables of one listener group.
#[derive(Default)]
pub struct GroupPlan {
    /// Routes of HTTP requests.
    pub http: Router,
    /// The plans of the matches of [`GroupPlan::http`], by [`Match::slot`](cardinal_route::Match::slot).
    pub http_routes: RoutePlans,
    /// Routes of byte streams and datagrams.
    pub stream: Router,
    /// The plans of the matches of [`GroupPlan::stream`].
    pub stream_routes: RoutePlans,
    /// Global filters, for requests that match no route.
    pub(crate) unrouted: Arc<Chain>,
}

/// The listener groups of a generation.
pub(super) struct Groups {
    /// The group of listeners without a group.
    default: Arc<GroupPlan>,
    others: BTreeMap<Id, Arc<GroupPlan>>,
    /// The group of a listener whose group was removed; the listener is about to be closed.
    nothing: Arc<GroupPlan>,
}

/// Problems of routes, by their ids.
pub(super) type RouteProblems = BTreeMap<Id, Vec<Diagnostic>>;

/// Changed routes of a group. A route that moves to another group is listed in both.
type Changed = Vec<(Id, Option<Arc<Route>>)>;

impl Groups {
    /// The route tables of a group; `None` is the default group.
    pub(super) fn get(&self, group: Option<Id>) -> &GroupPlan {
        match group {
            None => &self.default,
            Some(id) => self.others.get(&id).unwrap_or(&self.nothing),
        }
    }

    /// Plans the groups of `ir`, given the changed routes.
    pub(super) fn build(
        previous: Option<&Self>,
        ir: &Ir,
        changes: &Delta<Route>,
        planner: &mut Planner<'_>,
        problems: &mut RouteProblems,
    ) -> Self {
        for change in changes {
            problems.remove(&change.id);
        }
        let mut changed = by_group(changes);
        let mut plan = |group: Option<Id>, problems: &mut RouteProblems| {
            let old = previous.and_then(|previous| previous.known(group));
            let changed = changed.remove(&group).unwrap_or_default();
            match old {
                Some(old) if changed.is_empty() && planner.keeps_routes() => Arc::clone(old),
                old => Arc::new(group_plan(old.map(|old| &**old), ir, group, (&changed, &mut *planner, problems))),
            }
        };
        let default = plan(None, problems);
        let others = ir.listener_groups.iter().map(|(id, _)| (*id, plan(Some(*id), problems))).collect();
        Self { default, others, nothing: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.nothing)) }
    }

    pub(super) fn known(&self, group: Option<Id>) -> Option<&Arc<GroupPlan>> {
        match group {
            None => Some(&self.default),
            Some(id) => self.others.get(&id),
        }
    }
}

/// The ids of a generation's groups; `None` is the default group.
pub(super) fn ids(ir: &Ir) -> impl Iterator<Item = Option<Id>> {
    [None].into_iter().chain(ir.listener_groups.iter().map(|(id, _)| Some(*id)))
}

/// The route tables of all groups that have routes.
pub(super) fn route_tables(ir: &Ir) -> impl Iterator<Item = RouteTable> {
    ids(ir).flat_map(|group| [Traffic::Http, Traffic::Stream].map(|traffic| RouteTable { group, traffic }))
}

fn by_group(changes: &Delta<Route>) -> HashMap<Option<Id>, Changed> {
    let mut changed: HashMap<Option<Id>, Changed> = HashMap::new();
    for change in changes {
        let groups: BTreeSet<Option<Id>> =
            change.old.iter().chain(&change.new).map(|route| route.listeners()).collect();
        for group in groups {
            changed.entry(group).or_default().push((change.id, change.new.clone()));
        }
    }
    changed
}

fn group_plan(
    old: Option<&GroupPlan>,
    ir: &Ir,
    group: Option<Id>,
    (changed, planner, problems): (&Changed, &mut Planner<'_>, &mut RouteProblems),
) -> GroupPlan {
    let mut router = |old: Option<&Router>, traffic| {
        let table = RouteTable { group, traffic };
        let (router, found) = match old {
            Some(old) => old.update(changed.iter().cloned(), table),
            // For a new group, all routes are in its changes; for the default group, no sorting is needed.
            None if group.is_some() => Router::default().update(changed.iter().cloned(), table),
            None => Router::build(ir, table),
        };
        let routes = changed.iter().filter_map(|(id, route)| Some((*id, route.as_ref()?)));
        note_unmatchable(&found, routes, table, problems);
        router
    };
    let http = router(old.map(|old| &old.http), Traffic::Http);
    let stream = router(old.map(|old| &old.stream), Traffic::Stream);
    let http_routes = planner.routes(&http, old.map(|old| (&old.http, &old.http_routes)));
    let stream_routes = planner.routes(&stream, old.map(|old| (&old.stream, &old.stream_routes)));
    GroupPlan { http, http_routes, stream, stream_routes, unrouted: planner.unrouted(group) }
}

/// Records the routes that the matcher cannot use. `found` lists their origins; several records may share an origin.
pub(super) fn note_unmatchable<'r>(
    found: &[Diagnostic],
    routes: impl Iterator<Item = (Id, &'r Arc<Route>)>,
    table: RouteTable,
    problems: &mut RouteProblems,
) {
    if found.is_empty() {
        return;
    }
    let bad: HashSet<Id> = found.iter().map(|problem| problem.origin.id).collect();
    for (id, route) in routes.filter(|(_, route)| table.holds(route) && bad.contains(&route.origin.id)) {
        // Trying each record alone shows which of them is invalid.
        let (_, found) = Router::from_routes([(id, Arc::clone(route))]);
        if !found.is_empty() {
            problems.insert(id, found);
        }
    }
}
