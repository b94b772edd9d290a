//! [`Slots`]: the routes by numbers that do not change.

use std::sync::Arc;

use cardinal_ir::{Id, Rank};

use crate::rule::Compiled;

/// Routes by slot. A clone shares all pages with its original, and a change copies the page that it is in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    pages: Vec<Arc<[Option<Compiled>]>>,
    /// Slots below [`Slots::end`] without a route.
    free: Vec<u32>,
    /// Slots that hold a route, by its id.
    by_id: Arc<Vec<u32>>,
    /// No slot from here on was ever used.
    end: u32,
}

/// Slots of a page.
const PAGE: u32 = 128;

impl Slots {
    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&Compiled> {
        self.pages.get((slot / PAGE) as usize)?.get((slot % PAGE) as usize)?.as_ref()
    }

    /// The slot of a record.
    pub(crate) fn find(&self, id: &Id) -> Option<u32> {
        self.place(id).ok().and_then(|at| self.by_id.get(at)).copied()
    }

    /// What routes are ordered by, the highest first.
    pub(crate) fn order(&self, slot: u32) -> Option<(Rank, Id)> {
        self.get(slot).map(|compiled| (compiled.route.rank, compiled.id))
    }

    /// How many routes there are.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// All slots are below.
    pub(crate) fn end(&self) -> usize {
        self.end as usize
    }

    /// Whether most slots are empty, and they are worth to be numbered anew.
    pub(crate) fn is_sparse(&self) -> bool {
        self.free.len() > 1024 + 3 * self.len()
    }

    /// The routes by ascending slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Compiled)> {
        let all = self.pages.iter().flat_map(|page| page.iter());
        (0..).zip(all).filter_map(|(slot, compiled)| Some((slot, compiled.as_ref()?)))
    }

    /// The routes by ascending id.
    pub(crate) fn iter_by_id(&self) -> impl Iterator<Item = (u32, &Compiled)> {
        self.by_id.iter().filter_map(|slot| Some((*slot, self.get(*slot)?)))
    }

    /// Puts another route of the same id into a slot.
    pub(crate) fn replace(&mut self, slot: u32, compiled: Compiled) {
        if let Some(place) = self.place_mut(slot) {
            *place = Some(compiled);
        }
    }

    /// Takes a slot for a route; its id is not here yet.
    pub(crate) fn add(&mut self, compiled: Compiled) -> u32 {
        let slot = self.put(compiled);
        if let Some(compiled) = self.get(slot)
            && let Err(at) = self.place(&compiled.id)
        {
            Arc::make_mut(&mut self.by_id).insert(at, slot);
        }
        slot
    }

    /// Frees a slot.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(at) = self.get(slot).and_then(|compiled| self.place(&compiled.id).ok()) else { return };
        Arc::make_mut(&mut self.by_id).remove(at);
        self.clear(slot);
    }

    /// Frees and takes many slots.
    pub(crate) fn change(&mut self, removed: &[u32], added: impl IntoIterator<Item = Compiled>) {
        removed.iter().for_each(|slot| self.clear(*slot));
        for compiled in added {
            self.put(compiled);
        }
        let mut by_id: Vec<(Id, u32)> = self.iter().map(|(slot, compiled)| (compiled.id, slot)).collect();
        by_id.sort_unstable();
        self.by_id = Arc::new(by_id.into_iter().map(|(_, slot)| slot).collect());
    }

    /// Slots that do not hold the same record in both, ascending.
    pub(crate) fn difference(&self, other: &Self) -> Vec<usize> {
        let mut different = Vec::new();
        for number in 0..self.pages.len().max(other.pages.len()) {
            let (ours, theirs) = (self.pages.get(number), other.pages.get(number));
            if let (Some(ours), Some(theirs)) = (ours, theirs)
                && Arc::ptr_eq(ours, theirs)
            {
                continue;
            }
            let at = |page: Option<&Arc<[Option<Compiled>]>>, place: usize| {
                let compiled = page?.get(place)?.as_ref()?;
                Some((compiled.id, Arc::as_ptr(&compiled.route)))
            };
            let places = (0..PAGE as usize).filter(|place| at(ours, *place) != at(theirs, *place));
            different.extend(places.map(|place| number * PAGE as usize + place));
        }
        different
    }

    /// Pages that both have in common.
    #[cfg(test)]
    pub(crate) fn shared_pages(&self, other: &Self) -> usize {
        self.pages.iter().zip(&other.pages).filter(|(a, b)| Arc::ptr_eq(a, b)).count()
    }

    fn put(&mut self, compiled: Compiled) -> u32 {
        let slot = self.free.pop().unwrap_or(self.end);
        self.end = self.end.max(slot + 1);
        while self.pages.len() <= (slot / PAGE) as usize {
            self.pages.push((0..PAGE).map(|_| None).collect());
        }
        self.replace(slot, compiled);
        slot
    }

    fn clear(&mut self, slot: u32) {
        if let Some(place) = self.place_mut(slot)
            && place.take().is_some()
        {
            self.free.push(slot);
        }
    }

    fn place_mut(&mut self, slot: u32) -> Option<&mut Option<Compiled>> {
        Arc::make_mut(self.pages.get_mut((slot / PAGE) as usize)?).get_mut((slot % PAGE) as usize)
    }

    /// Where an id is or would be.
    fn place(&self, id: &Id) -> Result<usize, usize> {
        self.by_id.binary_search_by(|slot| self.get(*slot).map(|compiled| &compiled.id).cmp(&Some(id)))
    }
}
