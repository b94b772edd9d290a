//! [`RoutePlans`]: what to do with each match, in chunks that generations share.

use std::sync::Arc;

use cardinal_ir::policy::Retry;
use cardinal_ir::{Id, Route, Timeouts};
use cardinal_sdk::RouteInfo;

use super::{BackendPlan, Chain};

/// Plans of a chunk. A change copies one chunk, and the list of chunks.
const CHUNK: usize = 256;

/// What to do with a match.
#[derive(Clone)]
pub struct RoutePlan {
    /// The route.
    pub route: Arc<Route>,
    /// Where requests go.
    pub backend: Option<Arc<BackendPlan>>,
    /// Filters.
    pub(crate) chain: Arc<Chain>,
    /// Part of the origin's id, for finding the parts of a route without a look at each record.
    pub(super) tag: u32,
}

/// Part of a hash of an id: what differs in it is not the same.
#[allow(clippy::cast_possible_truncation, reason = "the low part is meant")]
pub(super) const fn tag(id: &Id) -> u32 {
    let wide = id.as_u128();
    let half = (wide ^ (wide >> 64)) as u64;
    (half ^ (half >> 32)) as u32
}

impl RoutePlan {
    /// The route, as filters and logs see it.
    pub fn info(&self) -> RouteInfo {
        RouteInfo::new(Arc::clone(&self.route))
    }

    /// The time limits towards a backend of the route. Waits for single operations that are not limited are as long as
    /// can be.
    pub(crate) fn timeouts(&self, backend: &BackendPlan) -> Timeouts {
        let mut timeouts = backend.backend.timeouts;
        if let Some(overrides) = self.route.policies.as_ref().and_then(|policies| policies.timeouts.as_ref()) {
            timeouts = timeouts.overridden(overrides);
        }
        for ms in [&mut timeouts.connect_ms, &mut timeouts.read_ms, &mut timeouts.write_ms] {
            *ms = if *ms == 0 { u64::MAX } else { *ms };
        }
        timeouts
    }

    /// When requests to a backend of the route are sent again; `None` for never.
    pub(crate) fn retry<'x>(&'x self, backend: &'x BackendPlan) -> Option<&'x Retry> {
        let own = self.route.policies.as_ref().and_then(|policies| policies.retry.as_deref());
        own.or(backend.backend.retry.as_deref()).filter(|retry| retry.attempts > 0)
    }
}

/// Plans of routes, by [`Match::slot`](cardinal_route::Match::slot). A clone shares them all.
#[derive(Clone, Default)]
pub struct RoutePlans(Vec<Arc<Vec<Option<RoutePlan>>>>);

impl RoutePlans {
    /// What to do with the match of this slot.
    pub fn get(&self, index: usize) -> Option<&RoutePlan> {
        self.0.get(index / CHUNK)?.get(index % CHUNK)?.as_ref()
    }

    /// All plans.
    pub fn iter(&self) -> impl Iterator<Item = &RoutePlan> {
        self.0.iter().flat_map(|chunk| chunk.iter().flatten())
    }

    /// All plans, by slot.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, &RoutePlan)> {
        let places = self.0.iter().flat_map(|chunk| chunk.iter()).enumerate();
        places.filter_map(|(slot, plan)| plan.as_ref().map(|plan| (slot, plan)))
    }

    /// Puts a plan in its place, or empties the place.
    pub(super) fn set(&mut self, index: usize, plan: Option<RoutePlan>) {
        while self.0.len() <= index / CHUNK {
            self.0.push(Arc::new(vec![None; CHUNK]));
        }
        if let Some(place) = self.0.get_mut(index / CHUNK).and_then(|c| Arc::make_mut(c).get_mut(index % CHUNK)) {
            *place = plan;
        }
    }

    /// Lets go of the chunks beyond the last slot.
    pub(super) fn truncate(&mut self, slots: usize) {
        self.0.truncate(slots.div_ceil(CHUNK));
    }
}

impl FromIterator<(usize, RoutePlan)> for RoutePlans {
    fn from_iter<I: IntoIterator<Item = (usize, RoutePlan)>>(plans: I) -> Self {
        let mut all = Self::default();
        for (slot, plan) in plans {
            all.set(slot, Some(plan));
        }
        all
    }
}
