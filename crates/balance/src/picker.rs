//! [`Picker`]: one worker's way to choose an address. No lock, no allocation.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cardinal_base::{Rng, Tick};
use cardinal_ir::Id;

use crate::AddressKey;
use crate::group::Group;
use crate::limits::Seats;
use crate::view::{Candidate, Index, SERVING_NONE, SERVING_SPLIT, Tier, View, WHOLE};
use crate::xxh32;

/// Picks addresses of a group, for one worker.
#[derive(Debug)]
pub struct Picker {
    group: Arc<Group>,
    view: Arc<View>,
    turn: Turn,
    /// Access to the limits of the cluster, where it has any.
    seats: Option<Arc<Seats>>,
    /// Different for the first 256 pickers of the group.
    number: u8,
}

/// What changes from pick to pick.
#[derive(Debug)]
struct Turn {
    rng: Box<dyn Rng>,
    /// Where the rotation is, for each tier.
    pointers: Vec<usize>,
}

/// What a pick depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickInput<'a> {
    /// Now.
    pub now: Tick,
    /// The bytes that consistent hashing hashes; see [`ring`](crate::ring) for Kong's rules. `None` hashes as empty.
    pub hash: Option<&'a [u8]>,
    /// Addresses that this request has tried. They are picked again only when no other is healthy.
    pub tried: &'a [AddressKey],
    /// The request's value of the sticky cookie.
    pub cookie: Option<&'a str>,
    /// What is picked for is a session or a test and no request: it takes no place among the cluster's requests in flight.
    pub uncounted: bool,
}

/// A picked address. Dropping it ends the request for the connection count and for the limit on requests.
#[derive(Debug)]
pub struct Picked {
    candidate: Arc<Candidate>,
    counted: bool,
    new_cookie: bool,
    /// It has a place among the requests in flight of the cluster.
    in_flight: bool,
    number: u8,
}

/// No address can be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHealthyEndpoint {
    /// Too little of the group's weight is available, or it has none. Kong: 503 `failure to get a peer from the
    /// ring-balancer`.
    #[error("no healthy address in the group")]
    Unhealthy,
    /// No name of the group has been resolved yet: resolve, call [`Group::set_addresses`] and pick again.
    #[error("the group's names are not resolved yet")]
    Unresolved,
    /// As many requests are in flight as the cluster may have.
    #[error("the limit on requests in flight is reached")]
    Overflow,
}

impl Picker {
    pub(crate) fn new(group: Arc<Group>, mut rng: Box<dyn Rng>) -> Self {
        // Workers start at different places, or they would all send their first requests to one address.
        let pointer = place(&mut *rng);
        #[allow(clippy::cast_possible_truncation, reason = "a number that may repeat")]
        let (view, number) = (group.view(), group.next_picker() as u8);
        let mut picker = Self { view, group, turn: Turn { rng, pointers: vec![pointer] }, seats: None, number };
        picker.follow();
        picker
    }

    /// Adapts to another view.
    fn follow(&mut self) {
        let Turn { rng, pointers } = &mut self.turn;
        pointers.resize_with(self.view.tiers.len().max(1), || place(&mut **rng));
        let known = self.seats.take();
        self.seats = self.view.limits.as_ref().map(|limits| match known {
            Some(seats) if seats.are_of(limits) => seats,
            _ => Arc::new(Seats::new(Arc::clone(limits), usize::from(self.number))),
        });
    }

    /// Access to the limits of the cluster, where it has any.
    pub fn seats(&self) -> Option<&Arc<Seats>> {
        self.seats.as_ref()
    }

    /// The group.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Chooses an address.
    pub fn pick(&mut self, input: &PickInput<'_>) -> Result<Picked, NoHealthyEndpoint> {
        if self.view.version != self.group.version() {
            self.view = self.group.view();
            self.follow();
        }
        let Some(limits) = self.view.limits.as_ref().filter(|_| !input.uncounted).map(Arc::clone) else {
            return self.choose(input);
        };
        let number = usize::from(self.number);
        if !limits.requests().take(number) {
            return Err(NoHealthyEndpoint::Overflow);
        }
        let mut picked = self.choose(input);
        match &mut picked {
            Ok(picked) => picked.in_flight = true,
            Err(_) => limits.requests().give(number),
        }
        picked
    }

    fn choose(&mut self, input: &PickInput<'_>) -> Result<Picked, NoHealthyEndpoint> {
        let none = if self.view.unresolved { NoHealthyEndpoint::Unresolved } else { NoHealthyEndpoint::Unhealthy };
        let (tier, candidate) = match self.view.serving() {
            SERVING_NONE => None,
            SERVING_SPLIT => self.turn.choose_split(&self.view, input),
            at => self.view.tiers.get(at).and_then(|tier| self.turn.choose_in(at, tier, input)),
        }
        .ok_or(none)?;
        let candidate = Arc::clone(candidate);
        let counted = matches!(tier.index, Index::LeastConnections);
        if counted {
            candidate.peer.connections.fetch_add(1, Ordering::Relaxed);
        }
        let new_cookie = matches!(tier.index, Index::Sticky { .. }) && input.cookie != Some(&*candidate.cookie);
        Ok(Picked { candidate, counted, new_cookie, in_flight: false, number: self.number })
    }
}

/// A tier, and the one chosen of it.
type Choice<'v> = (&'v Tier, &'v Arc<Candidate>);

/// Where a rotation begins.
fn place(rng: &mut dyn Rng) -> usize {
    usize::try_from(rng.below(1 << 16)).unwrap_or(0)
}

impl Turn {
    /// Chooses while several tiers serve.
    fn choose_split<'v>(&mut self, view: &'v View, input: &PickInput<'_>) -> Option<Choice<'v>> {
        if let Some(cookie) = input.cookie {
            // A client keeps its address wherever that is, as long as its tier serves.
            let named = view.split().find_map(|(_, tier)| {
                let Index::Sticky { by_cookie, .. } = &tier.index else { return None };
                named(tier, by_cookie, cookie).filter(|c| fits(tier, c, input.tried)).map(|c| (tier, c))
            });
            if named.is_some() {
                return named;
            }
        }
        let hashes = view.tiers.first().is_some_and(|tier| matches!(tier.index, Index::Ring(_)));
        let point = if hashes {
            // The same value leads to the same tier. Another seed than the ring's, or each tier would get one arc of it.
            xxh32(input.hash.unwrap_or_default(), 1) >> (u32::BITS - WHOLE.trailing_zeros())
        } else {
            u32::try_from(self.rng.below(u64::from(WHOLE))).unwrap_or(0)
        };
        let drawn = view.tier_at(point)?;
        let own = view.tiers.get(drawn)?;
        if let Some(candidate) = self.choose(drawn, own, input, |c| fits(own, c, input.tried)) {
            return Some((own, candidate));
        }
        for (at, tier) in view.split().filter(|(at, _)| *at != drawn) {
            if let Some(candidate) = self.choose(at, tier, input, |c| fits(tier, c, input.tried)) {
                return Some((tier, candidate));
            }
        }
        self.choose(drawn, own, input, |c| fits(own, c, &[])).map(|candidate| (own, candidate))
    }

    /// Chooses of one tier.
    fn choose_in<'v>(&mut self, at: usize, tier: &'v Tier, input: &PickInput<'_>) -> Option<Choice<'v>> {
        let choice = self.choose(at, tier, input, |c| fits(tier, c, input.tried)).or_else(|| {
            // Everything healthy has been tried: start over, as Kong's least-connections does.
            if input.tried.is_empty() { None } else { self.choose(at, tier, input, |c| fits(tier, c, &[])) }
        });
        choice.map(|candidate| (tier, candidate))
    }

    fn choose<'v>(
        &mut self,
        at: usize,
        tier: &'v Tier,
        input: &PickInput<'_>,
        fit: impl Fn(&Candidate) -> bool,
    ) -> Option<&'v Arc<Candidate>> {
        match &tier.index {
            Index::Wheel(wheel) => self.next(at, tier, wheel, fit),
            Index::Sticky { wheel, by_cookie } => {
                let named = input.cookie.and_then(|cookie| named(tier, by_cookie, cookie));
                named.filter(|c| fit(c)).or_else(|| self.next(at, tier, wheel, fit))
            }
            Index::Ring(ring) => {
                let mut owners = ring.walk(input.hash.unwrap_or_default());
                owners.find_map(|i| tier.candidates.get(i as usize).filter(|c| fit(c)))
            }
            Index::LeastConnections => self.least_connections(at, tier, fit),
            Index::Latency => self.fastest_of_two(tier, input.now, fit),
        }
    }

    /// The next entry of the wheel that fits.
    fn next<'v>(
        &mut self,
        at: usize,
        tier: &'v Tier,
        wheel: &[u32],
        fit: impl Fn(&Candidate) -> bool,
    ) -> Option<&'v Arc<Candidate>> {
        let pointer = self.pointers.get_mut(at)?;
        for _ in 0..wheel.len() {
            *pointer = if *pointer + 1 < wheel.len() { *pointer + 1 } else { 0 };
            let candidate = wheel.get(*pointer).and_then(|i| tier.candidates.get(*i as usize));
            if let Some(candidate) = candidate.filter(|c| fit(c)) {
                return Some(candidate);
            }
        }
        None
    }

    /// The smallest (connections + 1) / weight; equals take turns.
    fn least_connections<'v>(
        &mut self,
        at: usize,
        tier: &'v Tier,
        fit: impl Fn(&Candidate) -> bool,
    ) -> Option<&'v Arc<Candidate>> {
        let pointer = self.pointers.get_mut(at)?;
        *pointer = if *pointer + 1 < tier.candidates.len() { *pointer + 1 } else { 0 };
        let mut best: Option<(&Arc<Candidate>, u128)> = None;
        for candidate in from(tier, *pointer).filter(|c| fit(c)) {
            let load = u128::from(candidate.peer.connections.load(Ordering::Relaxed)) + 1;
            // load / share < best load / best share, without division.
            if best.is_none_or(|(b, least)| load * u128::from(b.share) < least * u128::from(candidate.share)) {
                best = Some((candidate, load));
            }
        }
        best.map(|(candidate, _)| candidate)
    }

    /// The faster, by weight, of two random choices. (Kong means to do this, but compares all addresses.)
    fn fastest_of_two<'v>(
        &mut self,
        tier: &'v Tier,
        now: Tick,
        fit: impl Fn(&Candidate) -> bool,
    ) -> Option<&'v Arc<Candidate>> {
        let first = self.random(tier, &fit)?;
        let Some(second) = self.random(tier, |c| fit(c) && c.peer.key != first.peer.key) else { return Some(first) };
        #[allow(clippy::cast_precision_loss, reason = "a comparison of scores")]
        let score = |c: &Candidate| c.peer.latency.at(now) / c.share as f32;
        Some(if score(second) < score(first) { second } else { first })
    }

    /// The first that fits from a random place on.
    fn random<'v>(&mut self, tier: &'v Tier, fit: impl Fn(&Candidate) -> bool) -> Option<&'v Arc<Candidate>> {
        let start = self.rng.below(tier.candidates.len() as u64);
        from(tier, usize::try_from(start).unwrap_or(0)).find(|c| fit(c))
    }
}

/// Whether an address may be picked: one that is available, or any while the tier panics, and none that was tried.
fn fits(tier: &Tier, candidate: &Candidate, tried: &[AddressKey]) -> bool {
    (candidate.available() || tier.panics()) && !tried.contains(&candidate.peer.key)
}

/// All candidates once, beginning at `start`.
fn from(tier: &Tier, start: usize) -> impl Iterator<Item = &Arc<Candidate>> {
    let (before, after) = tier.candidates.split_at(start.min(tier.candidates.len()));
    after.iter().chain(before)
}

/// The candidate that a cookie names.
fn named<'v>(tier: &'v Tier, by_cookie: &[u32], cookie: &str) -> Option<&'v Arc<Candidate>> {
    let at = |i: &u32| tier.candidates.get(*i as usize);
    let found = by_cookie.binary_search_by(|i| at(i).map(|c| &*c.cookie).cmp(&Some(cookie))).ok()?;
    by_cookie.get(found).and_then(at)
}

impl Picked {
    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.candidate.address
    }

    /// The member's name (or the SRV target's, when the group is set to use it), for SNI and certificate checks.
    pub fn host(&self) -> &str {
        &self.candidate.host
    }

    /// What the Host header names: the group's override, else [`host`](Self::host).
    pub fn host_header(&self) -> &str {
        self.candidate.settings.spec.host_header.as_deref().unwrap_or(&self.candidate.host)
    }

    /// The member.
    pub fn endpoint(&self) -> Id {
        self.candidate.endpoint
    }

    /// Names the address in [`PickInput::tried`].
    pub fn key(&self) -> AddressKey {
        self.candidate.peer.key
    }

    /// The value to set as sticky cookie; `None` when the group is not sticky or the request has it already.
    pub fn new_cookie(&self) -> Option<&str> {
        self.new_cookie.then_some(&*self.candidate.cookie)
    }

    /// Whether the cluster has limits.
    pub fn is_limited(&self) -> bool {
        self.candidate.limits.is_some()
    }

    /// The number of the picker.
    pub(crate) fn number(&self) -> usize {
        usize::from(self.number)
    }

    pub(crate) fn candidate(&self) -> &Candidate {
        &self.candidate
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        if self.counted {
            self.candidate.peer.connections.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(limits) = self.candidate.limits.as_ref().filter(|_| self.in_flight) {
            limits.requests().give(self.number());
        }
    }
}
