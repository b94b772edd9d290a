//! Where responses are kept: named memory areas, each of bounded size, the least recently used going first.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cardinal_sdk::Shared;
use serde_json::{Map, Value, json};

use super::key::Key;

const SHARDS: usize = 16;

/// Bytes of an area, like the default of Kong's `mem_cache_size`.
const AREA_BYTES: usize = 128 << 20;

/// Longest body that is kept.
pub(super) const BODY_MAX: usize = 4 << 20;

/// Overhead of an entry in addition to its bytes.
const ENTRY_BYTES: usize = 512;

/// Name and value.
pub(super) type HeaderField = (Box<[u8]>, Box<[u8]>);

/// A response that is kept.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) status: u16,
    pub(super) headers: Vec<HeaderField>,
    pub(super) body: Bytes,
    /// Seconds since 1970 when it came.
    pub(super) at: u64,
    /// Seconds it is good for.
    pub(super) ttl: u64,
    /// Seconds since 1970 when it is forgotten.
    pub(super) expires: u64,
}

/// What is kept under a key.
#[derive(Clone)]
pub(super) enum Entry {
    /// A response.
    Response(Arc<Stored>),
    /// Responses depend on these request headers and are kept under other keys.
    Varies(Arc<[Box<[u8]>]>),
}

/// A memory area.
pub(super) struct Area {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Key, Place>,
    /// Keys by when they were last used.
    order: BTreeMap<u64, Key>,
    bytes: usize,
    uses: u64,
}

struct Place {
    entry: Entry,
    used: u64,
    size: usize,
    /// Seconds since 1970 when it is forgotten.
    expires: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All areas of the node.
#[derive(Default)]
struct Areas(Mutex<HashMap<String, Arc<Area>>>);

fn areas(shared: &Shared) -> Arc<Areas> {
    shared.get_or_insert("proxy-cache", Areas::default)
}

/// The area of this name, made when there is none. It stays as long as the node runs.
pub(super) fn area(shared: &Shared, name: &str) -> Arc<Area> {
    Arc::clone(lock(&areas(shared).0).entry(name.to_owned()).or_default())
}

/// Forgets all responses (Admin API: `DELETE /proxy-cache`).
pub fn flush(shared: &Shared) {
    for area in lock(&areas(shared).0).values() {
        area.shards.iter().for_each(|shard| *lock(shard) = Shard::default());
    }
}

/// Forgets the response with this key; `false` when there is none (Admin API: `DELETE /proxy-cache/{key}`).
pub fn purge(shared: &Shared, key: &str) -> bool {
    let Ok(key) = Key::try_from(key.as_bytes()) else { return false };
    let mut found = false;
    for area in lock(&areas(shared).0).values() {
        if let Some(shard) = area.shard(&key) {
            found |= lock(shard).remove(&key);
        }
    }
    found
}

/// The response with this key, as Kong shows it (Admin API: `GET /proxy-cache/{key}`). `now` is in seconds since 1970.
pub fn fetch(shared: &Shared, key: &str, now: u64) -> Option<Value> {
    let key = Key::try_from(key.as_bytes()).ok()?;
    let areas = areas(shared);
    let stored = lock(&areas.0).values().find_map(|area| match area.get(&key, now)? {
        Entry::Response(stored) => Some(stored),
        Entry::Varies(_) => None,
    })?;
    let mut headers = Map::new();
    for (name, value) in &stored.headers {
        let value = Value::from(String::from_utf8_lossy(value).into_owned());
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        match headers.get_mut(&name) {
            None => {
                headers.insert(name, value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
    }
    Some(json!({
        "status": stored.status,
        "headers": headers,
        "body": String::from_utf8_lossy(&stored.body),
        "body_len": stored.body.len(),
        "timestamp": stored.at,
        "ttl": stored.ttl,
        "version": 1,
    }))
}

impl Default for Area {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Area {
    fn shard(&self, key: &Key) -> Option<&Mutex<Shard>> {
        #[allow(clippy::cast_possible_truncation, reason = "only low bits matter")]
        self.shards.get(self.hasher.hash_one(key) as usize % SHARDS)
    }

    pub(super) fn get(&self, key: &Key, now: u64) -> Option<Entry> {
        lock(self.shard(key)?).get(key, now)
    }

    pub(super) fn put(&self, key: &Key, stored: Stored) {
        if let Some(shard) = self.shard(key) {
            let headers: usize = stored.headers.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
            let (size, expires) = (stored.body.len() + headers, stored.expires);
            lock(shard).put(key, Entry::Response(Arc::new(stored)), size, expires);
        }
    }

    /// Notes that responses under `key` depend on these request headers.
    pub(super) fn put_names(&self, key: &Key, names: &[Box<[u8]>], expires: u64) {
        if let Some(shard) = self.shard(key) {
            let size = names.iter().map(|name| name.len() + 16).sum();
            lock(shard).put(key, Entry::Varies(names.into()), size, expires);
        }
    }
}

impl Shard {
    fn get(&mut self, key: &Key, now: u64) -> Option<Entry> {
        let place = self.entries.get_mut(key)?;
        if place.expires <= now {
            self.remove(key);
            return None;
        }
        self.uses += 1;
        self.order.remove(&place.used);
        place.used = self.uses;
        self.order.insert(place.used, *key);
        Some(place.entry.clone())
    }

    fn put(&mut self, key: &Key, entry: Entry, bytes: usize, expires: u64) {
        self.put_within(key, entry, bytes + ENTRY_BYTES, expires, AREA_BYTES / SHARDS);
    }

    fn put_within(&mut self, key: &Key, entry: Entry, size: usize, expires: u64, bytes_max: usize) {
        self.remove(key);
        if size > bytes_max {
            return;
        }
        while self.bytes + size > bytes_max {
            let Some((_, oldest)) = self.order.first_key_value() else { break };
            let oldest = *oldest;
            self.remove(&oldest);
        }
        self.uses += 1;
        self.bytes += size;
        self.order.insert(self.uses, *key);
        self.entries.insert(*key, Place { entry, used: self.uses, size, expires });
    }

    fn remove(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        self.order.remove(&entry.used);
        self.bytes -= entry.size;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Shard};

    fn put(shard: &mut Shard, key: u8, size: usize, max: usize) {
        shard.put_within(&[key; 64], Entry::Varies([].into()), size, 10, max);
    }

    #[test]
    fn the_least_recently_used_make_room() {
        let mut shard = Shard::default();
        let max = 300;
        for n in 0..3 {
            put(&mut shard, n, 100, max);
        }
        assert!(shard.get(&[0; 64], 5).is_some());
        put(&mut shard, 3, 100, max);
        let there = |shard: &mut Shard, n: u8| shard.get(&[n; 64], 5).is_some();
        assert_eq!([0, 1, 2, 3].map(|n| there(&mut shard, n)), [true, false, true, true]);
        put(&mut shard, 4, max + 1, max);
        assert!(!there(&mut shard, 4), "larger than everything");
        put(&mut shard, 0, 40, max);
        assert_eq!(shard.bytes, 240);
        assert_eq!(shard.order.len(), shard.entries.len());
    }

    #[test]
    fn expired_entries_are_gone() {
        let mut shard = Shard::default();
        put(&mut shard, 1, 1, 10_000);
        assert!(shard.get(&[1; 64], 9).is_some());
        assert!(shard.get(&[1; 64], 10).is_none());
        assert_eq!(shard.bytes, 0);
    }
}
