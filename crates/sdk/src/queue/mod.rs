//! Batching queues for data that is sent to other systems: bounded, with retries, drained in the background. Kong's
//! queue (`kong/tools/queue.lua`).
//!
//! Filters [`push`](Queue::push) from any thread; a push never waits. One task on the control runtime takes entries out
//! in batches and passes them to the queue's handler. Queues are named and stored in [`Shared`]: the same name with the
//! same parameters is the same queue, so that entries survive a change of configuration. A queue without handles
//! delivers its entries and ends.

mod settings;
mod worker;

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use cardinal_base::{Budget, Reservation, Tick, timeout};
use tokio::sync::Notify;

use crate::def::BuildCx;
use crate::services::{Services, Shared};

pub use settings::Settings;

#[cfg(test)]
mod tests;

/// An entry of a queue.
pub trait Entry: Send + 'static {
    /// Its size, bytes.
    fn size(&self) -> usize;

    /// Called when the entry is lost, for counters by reason.
    fn lost(&self, _reason: Loss) {}
}

/// Why an entry was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The queue was full, or the memory budget was exhausted.
    NoRoom,
    /// It could not be delivered within `max_retry_time`.
    Undelivered,
    /// The receiver rejected it: see [`DeliveryError::is_final`].
    Refused,
}

impl Entry for Bytes {
    fn size(&self) -> usize {
        self.len()
    }
}

impl Entry for Vec<u8> {
    fn size(&self) -> usize {
        self.len()
    }
}

impl Entry for String {
    fn size(&self) -> usize {
        self.len()
    }
}

/// The result of a delivery: after an error, the batch is retried.
pub type Delivery = Pin<Box<dyn Future<Output = Result<(), DeliveryError>> + Send>>;

/// Why a batch was not delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryError {
    /// For the log.
    pub reason: String,
    /// The node has run out of descriptors, memory or ports: the batch could not be sent at all, and this time does not
    /// count towards `max_retry_time`.
    pub is_local: bool,
    /// Retrying would not help: the batch is lost.
    pub is_final: bool,
    /// The receiver requests this delay before the next attempt; at most `max_retry_delay` is used.
    pub retry_after: Option<Duration>,
}

impl From<String> for DeliveryError {
    fn from(reason: String) -> Self {
        Self { reason, ..Self::default() }
    }
}

type Handler<T> = Arc<dyn Fn(Vec<T>) -> Delivery + Send + Sync>;

/// All queues together may use this fraction of the memory budget: a quarter.
const SHARE: usize = 4;

/// Minimum milliseconds between log lines about dropped entries.
const COMPLAINT_EVERY_MS: u64 = 10_000;

/// Minimum milliseconds between log lines about failed deliveries.
const FAILURE_EVERY_MS: u64 = 5_000;

/// Maximum number of plugin instances of a queue named in a log line.
const NAMED_MAX: usize = 3;

/// A queue. When the last handle is dropped, it delivers its remaining entries.
pub struct Queue<T: Entry> {
    inner: Arc<Inner<T>>,
}

impl<T: Entry> std::fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

pub(crate) struct Inner<T: Entry> {
    settings: Settings,
    services: Services,
    registry: Arc<Registry>,
    handler: Mutex<Handler<T>>,
    waiting: Mutex<Waiting<T>>,
    /// An entry was pushed, or the queue is to end.
    arrived: Notify,
    /// A batch was delivered or dropped.
    done: Notify,
    /// Number of batches in progress.
    under_way: AtomicUsize,
    /// Number of entries in these batches.
    entries_under_way: AtomicUsize,
    /// The queue no longer waits for a batch to fill: the node is stopping, or the last producer was dropped.
    hurry: AtomicBool,
    abandoned: AtomicBool,
    failures: Mutex<Failures>,
    /// The plugin instances that push, for log lines.
    users: Mutex<Vec<String>>,
}

/// Failed deliveries that were counted instead of logged.
#[derive(Default)]
struct Failures {
    logged: Option<Tick>,
    unlogged: u64,
}

/// A plugin instance's handle on a queue; log lines of the queue name the instance.
pub struct User<T: Entry> {
    queue: Arc<Queue<T>>,
    name: String,
}

impl<T: Entry> std::ops::Deref for User<T> {
    type Target = Queue<T>;

    fn deref(&self) -> &Queue<T> {
        &self.queue
    }
}

impl<T: Entry> std::fmt::Debug for User<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("queue", &self.queue).field("name", &self.name).finish()
    }
}

impl<T: Entry> Drop for User<T> {
    fn drop(&mut self) {
        let mut users = lock(&self.queue.inner.users);
        if let Some(at) = users.iter().position(|name| *name == self.name) {
            users.swap_remove(at);
        }
    }
}

struct Waiting<T> {
    entries: VecDeque<T>,
    bytes: usize,
    /// Memory reserved for the entries.
    held: Reservation,
    dropped: u64,
    complained: Option<Tick>,
    nearly_full: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Entry + Clone> Queue<T> {
    /// The queue with this name and these parameters, created if it does not exist. The handler replaces that of an
    /// existing queue.
    pub fn open<F, D, E>(services: &Services, settings: Settings, handler: F) -> Arc<Self>
    where
        F: Fn(Vec<T>) -> D + Send + Sync + 'static,
        D: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<DeliveryError>,
    {
        let handler: Handler<T> = Arc::new(move |batch| {
            let delivery = handler(batch);
            Box::pin(async move { delivery.await.map_err(Into::into) }) as Delivery
        });
        let registry = registry(&services.shared);
        let mut queues = lock(&registry.queues);
        queues.retain(|_, known| known.is_alive());
        let key = settings.key();
        let known = queues.get(&key).and_then(|known| known.handle.upgrade());
        if let Some(queue) = known.and_then(|handle| handle.downcast::<Self>().ok()) {
            *lock(&queue.inner.handler) = handler;
            return queue;
        }
        // Queued entries must not use the memory that requests need.
        registry.memory.get_or_init(|| Arc::new(services.memory.child(0))).set_max(services.memory.max() / SHARE);
        let inner = Inner::new(services, settings, handler, Arc::clone(&registry));
        let queue = Arc::new(Self { inner: Arc::clone(&inner) });
        let handle: Weak<dyn Any + Send + Sync> = Arc::downgrade(&(Arc::clone(&queue) as Arc<dyn Any + Send + Sync>));
        let drain: Weak<dyn Drain> = Arc::downgrade(&(Arc::clone(&inner) as Arc<dyn Drain>));
        // A queue of the same name without handles may still be delivering; it is drained under a separate name.
        if let Some(old) = queues.insert(key, Known { handle, drain }) {
            let mut number = 0_u64;
            while queues.contains_key(&format!("old {number}")) {
                number += 1;
            }
            queues.insert(format!("old {number}"), old);
        }
        worker::start(inner);
        queue
    }
}

impl<T: Entry> Queue<T> {
    /// The handle of the plugin instance being built.
    pub fn used_by(self: Arc<Self>, cx: &BuildCx<'_>) -> User<T> {
        let scopes = [("route", cx.route), ("service", cx.backend), ("consumer", cx.principal)];
        let scopes = scopes.iter().filter_map(|(noun, id)| Some(format!("{noun} {}", (*id)?)));
        let scope = scopes.collect::<Vec<_>>().join(", ");
        let name = format!("{} of {}", cx.id, if scope.is_empty() { "all requests" } else { &scope });
        lock(&self.inner.users).push(name.clone());
        User { queue: self, name }
    }

    /// Adds an entry, dropping the oldest ones if the queue is full. An entry that exceeds the limits by itself is
    /// dropped.
    pub fn push(&self, entry: T) {
        let inner = &*self.inner;
        let size = entry.size();
        let mut waiting = lock(&inner.waiting);
        let before = waiting.dropped;
        if let Err(reason) = inner.make_room(&mut waiting, size) {
            inner.lose(&mut waiting, &[entry], Loss::NoRoom);
            inner.complain(&mut waiting, reason, None);
            return;
        }
        waiting.bytes += size;
        waiting.entries.push_back(entry);
        if waiting.dropped != before {
            inner.complain(&mut waiting, "queue full, dropping old entries until processing is successful again", None);
        } else {
            inner.watch_capacity(&mut waiting);
        }
        drop(waiting);
        inner.arrived.notify_one();
    }

    /// Number of entries waiting, without those being delivered.
    pub fn len(&self) -> usize {
        lock(&self.inner.waiting).entries.len()
    }

    /// Whether no entries are waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of entries lost since the start, because the queue was full or they could not be delivered in time.
    pub fn dropped(&self) -> u64 {
        lock(&self.inner.waiting).dropped
    }
}

impl<T: Entry> Drop for Queue<T> {
    fn drop(&mut self) {
        self.inner.abandoned.store(true, Ordering::SeqCst);
        self.inner.hurry();
    }
}

impl<T: Entry> Inner<T> {
    fn new(services: &Services, settings: Settings, handler: Handler<T>, registry: Arc<Registry>) -> Arc<Self> {
        let waiting = Waiting {
            entries: VecDeque::new(),
            bytes: 0,
            held: Reservation::default(),
            dropped: 0,
            complained: None,
            nearly_full: false,
        };
        Arc::new(Self {
            registry,
            settings,
            services: services.clone(),
            handler: Mutex::new(handler),
            waiting: Mutex::new(waiting),
            arrived: Notify::new(),
            done: Notify::new(),
            under_way: AtomicUsize::new(0),
            entries_under_way: AtomicUsize::new(0),
            hurry: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            failures: Mutex::default(),
            users: Mutex::default(),
        })
    }

    fn make_room(&self, waiting: &mut Waiting<T>, size: usize) -> Result<(), &'static str> {
        let bytes_max = self.settings.max_bytes.unwrap_or(usize::MAX);
        if size > bytes_max {
            return Err("an entry is larger than the queue's max_bytes");
        }
        // If deliveries are not limited, those in progress count towards the limit of entries, so that their number is
        // bounded.
        let busy = if self.settings.parallel { self.entries_under_way.load(Ordering::SeqCst) } else { 0 };
        let memory = self.registry.memory.get().unwrap_or(&self.services.memory);
        loop {
            let full = waiting.entries.len() + busy >= self.settings.max_entries
                || waiting.bytes.saturating_add(size) > bytes_max;
            if !full && waiting.held.grow(memory, size).is_ok() {
                return Ok(());
            }
            let Some(oldest) = waiting.entries.pop_front() else {
                return Err(if full {
                    "max_entries deliveries are in progress"
                } else {
                    "no memory left for log entries"
                });
            };
            waiting.bytes -= oldest.size();
            waiting.held.shrink(oldest.size());
            self.lose(waiting, &[oldest], Loss::NoRoom);
        }
    }

    /// Counts lost entries.
    fn lose(&self, waiting: &mut Waiting<T>, entries: &[T], reason: Loss) {
        entries.iter().for_each(|entry| entry.lost(reason));
        let count = entries.len() as u64;
        waiting.dropped += count;
        self.registry.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// The plugin instances that use the queue, for log lines.
    fn users(&self) -> String {
        let users = lock(&self.users);
        let named = users.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join("; ");
        match users.len().saturating_sub(NAMED_MAX) {
            0 => named,
            more => format!("{named}; and {more} more"),
        }
    }

    /// Logs a failed delivery, or counts it if another one was logged recently.
    fn failed(&self, reason: &str) {
        let mut failures = lock(&self.failures);
        let now = self.services.clock.tick();
        if failures.logged.is_some_and(|last| now.millis_since(last) < FAILURE_EVERY_MS) {
            failures.unlogged += 1;
            return;
        }
        failures.logged = Some(now);
        let more = std::mem::take(&mut failures.unlogged);
        drop(failures);
        let (queue, instances) = (&self.settings.name, self.users());
        tracing::warn!(queue, instances, reason, failures_not_logged = more, "handler could not process entries");
    }

    /// Logs when entries are no longer dropped.
    fn recover(&self) {
        let mut waiting = lock(&self.waiting);
        if waiting.complained.is_some() && waiting.entries.len() <= self.settings.max_entries / 2 {
            waiting.complained = None;
            tracing::warn!(queue = %self.settings.name, dropped_in_all = waiting.dropped, "entries are delivered again");
        }
    }

    /// Logs lost entries, unless this was logged recently.
    fn complain(&self, waiting: &mut Waiting<T>, what: &str, reason: Option<&str>) {
        let now = self.services.clock.tick();
        if waiting.complained.is_some_and(|last| now.millis_since(last) < COMPLAINT_EVERY_MS) {
            return;
        }
        waiting.complained = Some(now);
        let (queue, instances) = (&self.settings.name, self.users());
        tracing::error!(queue, instances, reason, dropped_in_all = waiting.dropped, "{what}");
    }

    fn watch_capacity(&self, waiting: &mut Waiting<T>) {
        let nearly_full = waiting.entries.len() as u64 * 10 >= self.settings.max_entries as u64 * 8;
        if nearly_full && !waiting.nearly_full && self.settings.max_entries > 10 {
            tracing::warn!(queue = %self.settings.name, "queue at 80% capacity");
        }
        waiting.nearly_full = nearly_full;
    }

    fn hurry(&self) {
        self.hurry.store(true, Ordering::SeqCst);
        self.arrived.notify_one();
    }

    fn is_idle(&self) -> bool {
        // The worker counts a batch as in progress before it releases the lock, so no batch is missed here.
        let waiting = lock(&self.waiting);
        waiting.entries.is_empty() && self.under_way.load(Ordering::SeqCst) == 0
    }
}

#[derive(Default)]
struct Registry {
    queues: Mutex<HashMap<String, Known>>,
    /// Memory budget of all queues together.
    memory: OnceLock<Arc<Budget>>,
    /// Number of entries lost since the start, in all queues.
    dropped: AtomicU64,
}

/// Numbers of waiting and lost entries of all queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of entries that are waiting or being delivered.
    pub entries: usize,
    /// Number of entries lost since the start, because a queue was full or they could not be delivered in time.
    pub dropped: u64,
}

/// Numbers of waiting and lost entries of all queues.
pub fn totals(shared: &Shared) -> Totals {
    let registry = registry(shared);
    let queues: Vec<_> = lock(&registry.queues).values().filter_map(|known| known.drain.upgrade()).collect();
    let entries = queues.iter().map(|queue| queue.left()).sum();
    Totals { entries, dropped: registry.dropped.load(Ordering::Relaxed) }
}

/// The registry entry of a queue. `drain` outlives `handle`, until all entries are delivered.
struct Known {
    handle: Weak<dyn Any + Send + Sync>,
    drain: Weak<dyn Drain>,
}

impl Known {
    fn is_alive(&self) -> bool {
        self.drain.strong_count() > 0
    }
}

trait Drain: Send + Sync {
    fn hurry(&self);
    fn idle(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    fn left(&self) -> usize;
}

impl<T: Entry> Drain for Inner<T> {
    fn hurry(&self) {
        Inner::hurry(self);
    }

    fn idle(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            loop {
                let done = self.done.notified();
                tokio::pin!(done);
                done.as_mut().enable();
                if self.is_idle() {
                    return;
                }
                done.await;
            }
        })
    }

    fn left(&self) -> usize {
        lock(&self.waiting).entries.len() + self.entries_under_way.load(Ordering::SeqCst)
    }
}

fn registry(shared: &Shared) -> Arc<Registry> {
    shared.get_or_insert("queues", Registry::default)
}

/// Delivers all entries of all queues, without waiting for batches to fill; called when the process stops, after the
/// last request. Returns the number of entries left when `deadline` has passed.
pub async fn drain(services: &Services, deadline: Duration) -> usize {
    let queues: Vec<Arc<dyn Drain>> =
        lock(&registry(&services.shared).queues).values().filter_map(|known| known.drain.upgrade()).collect();
    queues.iter().for_each(|queue| queue.hurry());
    let all = async {
        for queue in &queues {
            queue.idle().await;
        }
    };
    // Entries cut off by the deadline are counted below.
    if timeout(&*services.clock, deadline, all).await.is_ok() {
        return 0;
    }
    let left = queues.iter().map(|queue| queue.left()).sum();
    tracing::error!(entries = left, "queued entries were not delivered before the shutdown");
    left
}
