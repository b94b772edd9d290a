//! [`Picker`]: one worker's way to choose an address. No lock, no allocation.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cardinal_base::{Rng, Tick};
use cardinal_ir::Id;

use crate::AddressKey;
use crate::group::Group;
use crate::view::{Candidate, Index, Tier, View};

/// Picks addresses of a group, for one worker.
#[derive(Debug)]
pub struct Picker {
    group: Arc<Group>,
    view: Arc<View>,
    turn: Turn,
}

/// What changes from pick to pick.
#[derive(Debug)]
struct Turn {
    rng: Box<dyn Rng>,
    pointer: usize,
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
}

/// A picked address. Dropping it ends the request for the connection count.
#[derive(Debug)]
pub struct Picked {
    candidate: Arc<Candidate>,
    counted: bool,
    new_cookie: bool,
}

/// No address can be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPeer {
    /// Too little of the group's weight is available, or it has none. Kong: 503 `failure to get a peer from the
    /// ring-balancer`.
    #[error("no healthy address in the group")]
    Unhealthy,
    /// No name of the group has been resolved yet: resolve, call [`Group::set_addresses`] and pick again.
    #[error("the group's names are not resolved yet")]
    Unresolved,
}

impl Picker {
    pub(crate) fn new(group: Arc<Group>, mut rng: Box<dyn Rng>) -> Self {
        // Workers start at different places, or they would all send their first requests to one address.
        let pointer = usize::try_from(rng.below(1 << 16)).unwrap_or(0);
        Self { view: group.view(), group, turn: Turn { rng, pointer } }
    }

    /// The group.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Chooses an address.
    pub fn pick(&mut self, input: &PickInput<'_>) -> Result<Picked, NoPeer> {
        if self.view.version != self.group.version() {
            self.view = self.group.view();
        }
        let Some(tier) = self.view.tiers.get(usize::from(self.group.serving())) else {
            return Err(if self.view.unresolved { NoPeer::Unresolved } else { NoPeer::Unhealthy });
        };
        let untried = |c: &Candidate| c.available() && !input.tried.contains(&c.peer.key);
        let choice = self.turn.choose(tier, input, untried).or_else(|| {
            // Everything healthy has been tried: start over, as Kong's least-connections does.
            if input.tried.is_empty() { None } else { self.turn.choose(tier, input, Candidate::available) }
        });
        let candidate = Arc::clone(choice.ok_or(NoPeer::Unhealthy)?);
        let counted = matches!(tier.index, Index::LeastConnections);
        if counted {
            candidate.peer.connections.fetch_add(1, Ordering::Relaxed);
        }
        let new_cookie = matches!(tier.index, Index::Sticky { .. }) && input.cookie != Some(&*candidate.cookie);
        Ok(Picked { candidate, counted, new_cookie })
    }
}

impl Turn {
    fn choose<'v>(
        &mut self,
        tier: &'v Tier,
        input: &PickInput<'_>,
        fit: impl Fn(&Candidate) -> bool,
    ) -> Option<&'v Arc<Candidate>> {
        match &tier.index {
            Index::Wheel(wheel) => self.next(tier, wheel, fit),
            Index::Sticky { wheel, by_cookie } => {
                let named = input.cookie.and_then(|cookie| named(tier, by_cookie, cookie));
                named.filter(|c| fit(c)).or_else(|| self.next(tier, wheel, fit))
            }
            Index::Ring(ring) => {
                let mut owners = ring.walk(input.hash.unwrap_or_default());
                owners.find_map(|i| tier.candidates.get(i as usize).filter(|c| fit(c)))
            }
            Index::LeastConnections => self.least_connections(tier, fit),
            Index::Latency => self.fastest_of_two(tier, input.now, fit),
        }
    }

    /// The next entry of the wheel that fits.
    fn next<'v>(
        &mut self,
        tier: &'v Tier,
        wheel: &[u32],
        fit: impl Fn(&Candidate) -> bool,
    ) -> Option<&'v Arc<Candidate>> {
        for _ in 0..wheel.len() {
            self.pointer = if self.pointer + 1 < wheel.len() { self.pointer + 1 } else { 0 };
            let candidate = wheel.get(self.pointer).and_then(|i| tier.candidates.get(*i as usize));
            if let Some(candidate) = candidate.filter(|c| fit(c)) {
                return Some(candidate);
            }
        }
        None
    }

    /// The smallest (connections + 1) / weight; equals take turns.
    fn least_connections<'v>(
        &mut self,
        tier: &'v Tier,
        fit: impl Fn(&Candidate) -> bool,
    ) -> Option<&'v Arc<Candidate>> {
        self.pointer = if self.pointer + 1 < tier.candidates.len() { self.pointer + 1 } else { 0 };
        let mut best: Option<(&Arc<Candidate>, u128)> = None;
        for candidate in from(tier, self.pointer).filter(|c| fit(c)) {
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

    pub(crate) fn candidate(&self) -> &Candidate {
        &self.candidate
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        if self.counted {
            self.candidate.peer.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
