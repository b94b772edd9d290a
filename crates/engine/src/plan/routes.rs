//! [`RoutePlans`]: the route plan of each match, in chunks that generations share.

use std::cmp::Reverse;
use std::sync::Arc;

use cardinal_ir::policy::Retry;
use cardinal_ir::{Action, Id, Route, Timeouts};
use cardinal_sdk::RouteInfo;

use super::{BackendPlan, Chain};

/// Plans per chunk. A change copies one chunk and the list of chunks.
const CHUNK: usize = 256;

/// The plan for a match.
#[derive(Clone)]
pub struct RoutePlan {
    /// The route.
    pub route: Arc<Route>,
    pub(super) to: Destinations,
    /// Part of the origin's id, for finding the records of a route without reading each record.
    pub(super) tag: u32,
}

/// A destination of a route's requests.
#[derive(Clone)]
pub(crate) struct Destination {
    /// `None` if the route does not forward, or its backend cannot be used.
    pub(crate) backend: Option<Arc<BackendPlan>>,
    /// The filters of requests to this destination.
    pub(crate) chain: Arc<Chain>,
}

/// All destinations of a route.
#[derive(Clone)]
pub(super) enum Destinations {
    One(Destination),
    Split(Arc<Split>),
}

/// Several destinations with weights.
pub(super) struct Split {
    /// In the order of the record.
    shares: Box<[Share]>,
    /// Used if no destination has a weight.
    none: Destination,
}

struct Share {
    /// Cumulative weight up to this destination.
    end: u64,
    to: Destination,
}

impl Split {
    /// Creates destinations with their weights; `none` is used if none has a weight.
    pub(super) fn new(weighted: impl IntoIterator<Item = (u32, Destination)>, none: Destination) -> Self {
        let mut end = 0;
        let shares = weighted.into_iter().map(|(weight, to)| {
            end += u64::from(weight);
            Share { end, to }
        });
        Self { shares: shares.collect(), none }
    }

    /// The total weight.
    fn total(&self) -> u64 {
        self.shares.last().map_or(0, |last| last.end)
    }
}

/// Part of the hash of an id: ids with different tags differ.
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

    /// The usable backends, in the order of the record.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<BackendPlan>> {
        self.destinations().filter_map(|to| to.backend.as_ref())
    }

    /// Chooses a destination: its index in the order of the record. `below` returns a random number below a bound; it
    /// is called only if there are several destinations.
    #[inline]
    pub(crate) fn choose(&self, below: impl FnOnce(u64) -> u64) -> usize {
        match &self.to {
            Destinations::One(_) => 0,
            Destinations::Split(split) => match split.total() {
                0 => split.shares.len(),
                total => {
                    let number = below(total);
                    split.shares.partition_point(|share| share.end <= number)
                }
            },
        }
    }

    /// The destination with this index.
    #[inline]
    pub(crate) fn destination(&self, place: usize) -> &Destination {
        match &self.to {
            Destinations::One(to) => to,
            Destinations::Split(split) => split.shares.get(place).map_or(&split.none, |share| &share.to),
        }
    }

    /// The index of the destination with the largest weight; of several, the first.
    pub(crate) fn largest(&self) -> usize {
        let weights = self.route.action.backends().map(|to| to.weight).enumerate();
        match weights.max_by_key(|(place, weight)| (*weight, Reverse(*place))) {
            Some((place, weight)) if weight > 0 => place,
            _ => usize::MAX,
        }
    }

    /// All destinations in the order of the record, followed by the one that is used if none has a weight.
    pub(super) fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let (shares, last) = match &self.to {
            Destinations::One(to) => (&[][..], to),
            Destinations::Split(split) => (&*split.shares, &split.none),
        };
        shares.iter().map(|share| &share.to).chain([last])
    }

    /// The chain of requests to this backend of the route.
    pub(super) fn chain_of(&self, backend: Option<Id>) -> Option<&Arc<Chain>> {
        let ids = self.route.action.backends().map(|to| Some(to.backend));
        let last = (!matches!(self.route.action, Action::Forward(_))).then_some(None);
        let mut all = ids.chain(last).zip(self.destinations());
        all.find_map(|(id, to)| (id == backend).then_some(&to.chain))
    }

    /// The timeouts towards a backend of the route. Timeouts that are not set are as long as possible.
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

    /// The retry policy for a backend of the route; `None` for no retries.
    pub(crate) fn retry<'x>(&'x self, backend: &'x BackendPlan) -> Option<&'x Retry> {
        let own = self.route.policies.as_ref().and_then(|policies| policies.retry.as_deref());
        own.or(backend.backend.retry.as_deref()).filter(|retry| retry.attempts > 0)
    }
}

/// Plans of routes, by [`Match::slot`](cardinal_route::Match::slot). Clones share all chunks.
#[derive(Clone, Default)]
pub struct RoutePlans(Vec<Arc<Vec<Option<RoutePlan>>>>);

impl RoutePlans {
    /// The plan for the match with this slot.
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

    /// Sets or clears the plan of a slot.
    pub(super) fn set(&mut self, index: usize, plan: Option<RoutePlan>) {
        while self.0.len() <= index / CHUNK {
            self.0.push(Arc::new(vec![None; CHUNK]));
        }
        if let Some(place) = self.0.get_mut(index / CHUNK).and_then(|c| Arc::make_mut(c).get_mut(index % CHUNK)) {
            *place = plan;
        }
    }

    /// Drops the chunks beyond the last slot.
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

#[cfg(test)]
mod tests {
    use cardinal_base::{Rng as _, SeededRng};
    use cardinal_ir::WeightedBackend;

    use super::*;

    fn split(weights: &[u32]) -> RoutePlan {
        let weighted =
            weights.iter().zip(1..).map(|(weight, id)| WeightedBackend { backend: Id::from_u128(id), weight: *weight });
        let action = Action::Split(weighted.collect());
        let to = || Destination { backend: None, chain: Arc::default() };
        let to = Destinations::Split(Arc::new(Split::new(weights.iter().map(|weight| (*weight, to())), to())));
        RoutePlan { route: Arc::new(Route { action, ..Route::default() }), to, tag: 0 }
    }

    /// The destinations chosen for each number below the sum of the weights.
    fn places(weights: &[u32]) -> Vec<usize> {
        let (plan, total) = (split(weights), weights.iter().map(|weight| u64::from(*weight)).sum());
        (0..total).map(|number| plan.choose(|below| (below == total).then_some(number).expect("the sum"))).collect()
    }

    #[test]
    fn each_number_below_the_sum_belongs_to_one_share() {
        assert_eq!(places(&[1, 0, 2, 0]), [0, 2, 2]);
        assert_eq!(places(&[0, 3]), [1, 1, 1]);
        let most = split(&[u32::MAX, u32::MAX]);
        let last = |total: u64| total - 1;
        assert_eq!((most.choose(|_| 0), most.choose(last)), (0, 1));
    }

    #[test]
    fn shares_are_met_by_random_numbers() {
        let (plan, mut rng) = (split(&[1, 0, 9]), SeededRng::new(7));
        let mut counts = [0_u32; 4];
        for _ in 0..10_000 {
            counts[plan.choose(|bound| rng.below(bound))] += 1;
        }
        assert_eq!((counts[1], counts[3]), (0, 0));
        assert!((900..1_100).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn without_weights_nothing_is_chosen() {
        for weights in [&[][..], &[0, 0]] {
            let plan = split(weights);
            let place = plan.choose(|_| panic!("nothing to choose from"));
            assert_eq!(place, weights.len());
            assert!(Arc::ptr_eq(&plan.destination(place).chain, plan.chain_of(None).unwrap()));
            assert_eq!(plan.largest(), usize::MAX);
        }
        assert_eq!((split(&[1, 5, 5]).largest(), split(&[0, 1]).largest()), (1, 1));
    }

    #[test]
    fn plans_are_small() {
        assert_eq!(size_of::<Option<RoutePlan>>(), 32);
    }
}
