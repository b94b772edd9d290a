//! Consistent hashing as Kong does it, point for point, so that a node of either kind sends a key to the same address.
//!
//! The ring has `slots` points (at least 1000). An address owns `floor(weight / total * targets * 160)` of them, but at
//! least one; its n-th point is `xxh32("<ip>::<port> <n>") mod points` (two colons, IPv6 in brackets), and when that
//! point is taken the address gets one number more to try. Targets are placed in order of name and port, addresses in
//! text order. A lookup hashes the value, takes `mod points` and walks towards lower points until one is owned.
//!
//! # What is hashed
//!
//! The caller evaluates the IR's `HashInput`; Kong's rules for the bytes are:
//!
//! | input | bytes |
//! |---|---|
//! | principal | its id as text, else the credential's id |
//! | ip | the client's address as text, after `real_ip` |
//! | header | its values joined with `, ` |
//! | cookie | its value; when absent a new UUID, which the response sets as cookie |
//! | path | the normalized path |
//! | query argument | its values as text (`true` when it has none), sorted and joined with `,` |
//! | capture | the capture's text |
//!
//! When the first input is missing the fallback is taken, and when that is missing too, the empty string: all such
//! requests go to one address.

use crate::xxh32;

/// Points that an address of average weight owns.
const POINTS_PER_TARGET: f64 = 160.0;
/// A smaller ring would place too coarsely; Kong takes 1000 instead.
const SLOTS_MIN: u32 = 1_000;
/// Kong's schema ends here; it bounds the memory of a group.
const SLOTS_MAX: u32 = 1 << 16;

/// An address to place. The order of a slice of these matters; see the module.
#[derive(Clone, Debug)]
pub struct Owner {
    /// IPv4, bracketed IPv6, or the SRV target's name.
    pub name: Box<str>,
    /// Port.
    pub port: u16,
    /// Weight.
    pub weight: u64,
}

/// The ring: the owner of each hash.
#[derive(Debug)]
pub struct Ring {
    /// For each point, the index in `owned` of the nearest owned point at or below it, going round.
    nearest: Box<[u32]>,
    /// Owner indexes by rising point.
    owned: Box<[u32]>,
}

/// The number of points for a configured number of slots.
pub fn points(slots: u32) -> u32 {
    slots.clamp(SLOTS_MIN, SLOTS_MAX)
}

/// The point a value falls on, from 0.
pub fn position(value: &[u8], points: u32) -> u32 {
    xxh32(value, 0) % points.max(1)
}

impl Ring {
    /// Places addresses. `targets` counts the group's targets, those without an address included.
    pub fn new(owners: &[Owner], targets: usize, slots: u32) -> Self {
        let points = points(slots);
        let mut ring: Vec<Option<u32>> = vec![None; points as usize];
        let total: u64 = owners.iter().map(|o| o.weight).sum();
        for (index, owner) in (0_u32..).zip(owners) {
            if !place(&mut ring, index, owner, share(owner.weight, total, targets)) {
                // Kong gives up on the whole ring here; keeping what is placed serves more requests.
                tracing::warn!(address = %owner.name, points, "the hash ring is too small for this many addresses");
            }
        }
        Self::freeze(&ring)
    }

    fn freeze(ring: &[Option<u32>]) -> Self {
        let owned: Box<[u32]> = ring.iter().flatten().copied().collect();
        // Below the first owned point the walk goes round to the last one.
        let mut below = u32::try_from(owned.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let mut next = 0;
        let nearest = ring
            .iter()
            .map(|owner| {
                if owner.is_some() {
                    below = next;
                    next += 1;
                }
                below
            })
            .collect();
        Self { nearest, owned }
    }

    /// Owner indexes in the order in which they are to be tried for a value. An owner occurs once for each of its
    /// points; empty when no point has an owner.
    pub fn walk(&self, value: &[u8]) -> impl Iterator<Item = u32> {
        let points = u32::try_from(self.nearest.len()).unwrap_or(u32::MAX);
        let at = self.nearest.get(position(value, points) as usize).copied().unwrap_or(0) as usize;
        let (upto, after) = self.owned.split_at((at + 1).min(self.owned.len()));
        upto.iter().rev().chain(after.iter().rev()).copied()
    }

    /// Points owned by each of the first `owners` owners.
    pub fn shares(&self, owners: usize) -> Vec<u32> {
        let mut shares = vec![0; owners];
        for owner in &self.owned {
            if let Some(share) = shares.get_mut(*owner as usize) {
                *share += 1;
            }
        }
        shares
    }
}

/// Points of an address. The order of the floating-point operations is Kong's: another one rounds differently.
fn share(weight: u64, total: u64, targets: usize) -> u64 {
    if weight == 0 || total == 0 {
        return 0;
    }
    #[allow(clippy::cast_precision_loss, reason = "weights and counts are far below 2^52")]
    let points = (weight as f64 / total as f64 * targets as f64 * POINTS_PER_TARGET).floor();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "non-negative and saturating")]
    let points = points as u64;
    points.max(1)
}

/// Places one address; false when the ring ended before all its points were placed.
fn place(ring: &mut [Option<u32>], index: u32, owner: &Owner, share: u64) -> bool {
    use std::fmt::Write as _;
    let points = ring.len() as u64;
    let mut text = format!("{}::{} ", owner.name, owner.port);
    let stem = text.len();
    let mut left = share;
    for n in 1..=points {
        if left == 0 {
            return true;
        }
        text.truncate(stem);
        // Writing to a string does not fail.
        let _ = write!(text, "{n}");
        let at = position(text.as_bytes(), u32::try_from(points).unwrap_or(u32::MAX)) as usize;
        if let Some(point @ None) = ring.get_mut(at) {
            *point = Some(index);
            left -= 1;
        }
    }
    left == 0
}

#[cfg(test)]
mod tests;
