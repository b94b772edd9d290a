//! [`Table`]: UDP sessions, which have no explicit open or close. Does no I/O and has no clock of its own.
//!
//! All sessions of a table have the same idle timeout, so they expire in the order of their last datagrams: a linked
//! list through the entries, in which each datagram moves its session to the front, makes all operations constant time.
//!
//! A full table rejects new sessions. Evicting the session that has been idle longest would be as cheap, but a flood of
//! datagrams from spoofed addresses would then evict the sessions of legitimate clients.

use std::collections::HashMap;
use std::net::SocketAddr;

use cardinal_base::Tick;

/// No entry.
const NONE: usize = usize::MAX;

/// Identifies an entry. A later entry in the same position has another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    place: usize,
    serial: u64,
}

/// Sessions by client, in the order of their last datagrams.
#[derive(Debug)]
pub(super) struct Table<T> {
    places: HashMap<SocketAddr, usize>,
    entries: Vec<Entry<T>>,
    /// Indices of free entries.
    free: Vec<usize>,
    newest: usize,
    oldest: usize,
    next_serial: u64,
}

#[derive(Debug)]
struct Entry<T> {
    client: SocketAddr,
    /// `None` if the entry is free.
    session: Option<T>,
    serial: u64,
    seen: Tick,
    newer: usize,
    older: usize,
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self {
            places: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            next_serial: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The session of a client that has just sent a datagram.
    pub(super) fn hear(&mut self, client: &SocketAddr, now: Tick) -> Option<&T> {
        let place = *self.places.get(client)?;
        self.refresh(place, now);
        self.entries.get(place)?.session.as_ref()
    }

    /// Records activity of a session. Has no effect if the session has been removed.
    pub(super) fn touch(&mut self, key: Key, now: Tick) {
        if self.holds(key) {
            self.refresh(key.place, now);
        }
    }

    /// Adds the session of a client without a session. Returns `None` if the table already has `max` sessions.
    pub(super) fn insert(&mut self, client: SocketAddr, session: T, max: usize, now: Tick) -> Option<Key> {
        debug_assert!(!self.places.contains_key(&client), "one session a client");
        if self.len() >= max {
            return None;
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        let entry = Entry { client, session: Some(session), serial, seen: now, newer: NONE, older: NONE };
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(free) = self.entries.get_mut(place) {
                    *free = entry;
                }
                place
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        self.places.insert(client, place);
        self.link_newest(place);
        Some(Key { place, serial })
    }

    /// Removes a session; `None` if it has already been removed.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        if !self.holds(key) {
            return None;
        }
        self.take(key.place)
    }

    /// Removes a session that has been idle for `idle_ms`. To be called until it returns `None`.
    pub(super) fn expire(&mut self, idle_ms: u64, now: Tick) -> Option<T> {
        let oldest = self.entries.get(self.oldest)?;
        if now < oldest.seen.plus_millis(idle_ms) {
            return None;
        }
        self.take(self.oldest)
    }

    /// When the next session expires without further activity.
    pub(super) fn deadline(&self, idle_ms: u64) -> Option<Tick> {
        Some(self.entries.get(self.oldest)?.seen.plus_millis(idle_ms))
    }

    /// All sessions, the most recently active first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let first = self.entries.get(self.newest);
        std::iter::successors(first, |entry| self.entries.get(entry.older)).filter_map(|entry| entry.session.as_ref())
    }

    fn holds(&self, key: Key) -> bool {
        self.entries.get(key.place).is_some_and(|entry| entry.serial == key.serial && entry.session.is_some())
    }

    fn refresh(&mut self, place: usize, now: Tick) {
        if self.newest != place {
            self.unlink(place);
            self.link_newest(place);
        }
        if let Some(entry) = self.entries.get_mut(place) {
            entry.seen = entry.seen.max(now);
        }
    }

    fn take(&mut self, place: usize) -> Option<T> {
        self.unlink(place);
        let entry = self.entries.get_mut(place)?;
        let session = entry.session.take();
        self.places.remove(&entry.client);
        self.free.push(place);
        session
    }

    fn link_newest(&mut self, place: usize) {
        let before = self.newest;
        if let Some(entry) = self.entries.get_mut(place) {
            (entry.newer, entry.older) = (NONE, before);
        }
        match self.entries.get_mut(before) {
            Some(entry) => entry.newer = place,
            None => self.oldest = place,
        }
        self.newest = place;
    }

    fn unlink(&mut self, place: usize) {
        let Some((newer, older)) = self.entries.get(place).map(|entry| (entry.newer, entry.older)) else { return };
        match self.entries.get_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests;
