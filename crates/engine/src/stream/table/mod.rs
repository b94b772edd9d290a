//! [`Table`]: sessions of clients that neither open nor close them. Without I/O and without a clock of its own.
//!
//! All sessions of a table have the same patience, so the order of their last datagrams is the order of their ends:
//! a list through the entries, moved to the front with every datagram, makes each operation one of constant time.
//!
//! A full table takes no newcomers. It would cost as little to let the longest-silent session go instead, but then a
//! flood of datagrams from made-up addresses would end the sessions of those who are served.

use std::collections::HashMap;
use std::net::SocketAddr;

use cardinal_base::Tick;

/// No entry.
const NONE: usize = usize::MAX;

/// Names an entry. A later entry in its place has another key.
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
    /// Places that are free.
    free: Vec<usize>,
    newest: usize,
    oldest: usize,
    next_serial: u64,
}

#[derive(Debug)]
struct Entry<T> {
    client: SocketAddr,
    /// `None` while the place is free.
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

    /// The session of a client that is heard of now.
    pub(super) fn hear(&mut self, client: &SocketAddr, now: Tick) -> Option<&T> {
        let place = *self.places.get(client)?;
        self.refresh(place, now);
        self.entries.get(place)?.session.as_ref()
    }

    /// Something moves in a session now. Nothing happens when it is gone.
    pub(super) fn touch(&mut self, key: Key, now: Tick) {
        if self.holds(key) {
            self.refresh(key.place, now);
        }
    }

    /// Adds the session of a client that has none. `None` when there are `max` already.
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

    /// Takes a session out; `None` when it is gone.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        if !self.holds(key) {
            return None;
        }
        self.take(key.place)
    }

    /// Takes a session out that has been silent for `idle_ms`. Call it until it gives none.
    pub(super) fn expire(&mut self, idle_ms: u64, now: Tick) -> Option<T> {
        let oldest = self.entries.get(self.oldest)?;
        if now < oldest.seen.plus_millis(idle_ms) {
            return None;
        }
        self.take(self.oldest)
    }

    /// When the next session will have been silent for `idle_ms`, if nothing moves.
    pub(super) fn deadline(&self, idle_ms: u64) -> Option<Tick> {
        Some(self.entries.get(self.oldest)?.seen.plus_millis(idle_ms))
    }

    /// All sessions, the one heard of last first.
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
