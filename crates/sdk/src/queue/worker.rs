//! The task that takes batches out of a queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cardinal_base::{Reservation, timeout};

use super::{Entry, Inner, Loss, lock};

/// Maximum delay while the node itself has run out of a resource.
const LOCAL_DELAY_MAX: Duration = Duration::from_secs(1);

/// Starts the queue's task on the control runtime.
pub(super) fn start<T: Entry + Clone>(inner: Arc<Inner<T>>) {
    let runtime = inner.services.runtime.clone();
    let _entered = runtime.enter();
    // The task ends with the queue; it is not joined.
    drop(cardinal_base::task::spawn("queue", run(inner)));
}

async fn run<T: Entry + Clone>(inner: Arc<Inner<T>>) {
    loop {
        let has_entries = !lock(&inner.waiting).entries.is_empty();
        if !has_entries {
            if inner.abandoned.load(Ordering::SeqCst) {
                inner.done.notify_waiters();
                return;
            }
            inner.arrived.notified().await;
            continue;
        }
        if !inner.settings.parallel {
            inner.fill().await;
        }
        let Some((batch, held)) = inner.take() else { continue };
        // Each delivery is a separate task: if a handler panics, only its batch is lost.
        let delivery = Arc::clone(&inner);
        let task = cardinal_base::task::spawn("queue delivery", async move { delivery.deliver(batch, held).await });
        if !inner.settings.parallel {
            task.await.unwrap_or_default();
        }
    }
}

impl<T: Entry + Clone> Inner<T> {
    /// Waits until a batch is full or its first entry has waited long enough.
    async fn fill(&self) {
        let clock = &*self.services.clock;
        let end = clock.tick().plus(self.settings.max_coalescing_delay);
        while lock(&self.waiting).entries.len() < self.settings.max_batch_size && !self.hurry.load(Ordering::SeqCst) {
            if timeout(clock, end.since(clock.tick()), self.arrived.notified()).await.is_err() {
                return;
            }
        }
    }

    fn take(&self) -> Option<(Vec<T>, Reservation)> {
        let mut waiting = lock(&self.waiting);
        let size = if self.settings.parallel { 1 } else { self.settings.max_batch_size };
        let count = waiting.entries.len().min(size);
        let batch: Vec<T> = waiting.entries.drain(..count).collect();
        let bytes = batch.iter().map(Entry::size).sum::<usize>();
        waiting.bytes -= bytes;
        let held = waiting.held.split(bytes);
        if batch.is_empty() {
            return None;
        }
        self.under_way.fetch_add(1, Ordering::SeqCst);
        self.entries_under_way.fetch_add(batch.len(), Ordering::SeqCst);
        Some((batch, held))
    }

    async fn deliver(&self, batch: Vec<T>, held: Reservation) {
        let count = batch.len();
        let finished = Finished { inner: self, count, _held: held };
        self.retry(batch).await;
        drop(finished);
    }

    async fn retry(&self, batch: Vec<T>) {
        let clock = &*self.services.clock;
        let mut started = clock.tick();
        let mut delay = self.settings.initial_retry_delay.min(self.settings.max_retry_delay);
        loop {
            let handler = Arc::clone(&lock(&self.handler));
            let Err(error) = handler(batch.clone()).await else { return self.recover() };
            self.failed(&error.reason);
            if error.is_final {
                return self.give_up(&batch, &error.reason, Loss::Refused);
            }
            let limit = self.settings.max_retry_time;
            if error.is_local {
                delay = delay.min(LOCAL_DELAY_MAX);
                started = clock.tick().plus(delay);
            } else if limit.is_zero() || clock.tick().since(started) > limit {
                return self.give_up(&batch, &error.reason, Loss::Undelivered);
            }
            let asked = error.retry_after.unwrap_or_default().min(self.settings.max_retry_delay);
            clock.sleep(delay.max(asked).max(Duration::from_millis(1))).await;
            delay = delay.saturating_mul(2).min(self.settings.max_retry_delay);
        }
    }

    /// Drops a batch that cannot be delivered.
    fn give_up(&self, batch: &[T], reason: &str, loss: Loss) {
        let limit = self.settings.max_retry_time;
        let what = if limit.is_zero() || loss == Loss::Refused {
            "entries could not be delivered; they are lost".to_owned()
        } else {
            format!("entries could not be delivered within max_retry_time ({} s); they are lost", limit.as_secs_f64())
        };
        let mut waiting = lock(&self.waiting);
        self.lose(&mut waiting, batch, loss);
        self.complain(&mut waiting, &what, Some(reason));
    }
}

/// Marks a batch as done, even if its handler panics.
struct Finished<'i, T: Entry> {
    inner: &'i Inner<T>,
    count: usize,
    /// Memory reserved for the batch.
    _held: Reservation,
}

impl<T: Entry> Drop for Finished<'_, T> {
    fn drop(&mut self) {
        self.inner.entries_under_way.fetch_sub(self.count, Ordering::SeqCst);
        self.inner.under_way.fetch_sub(1, Ordering::SeqCst);
        self.inner.done.notify_waiters();
    }
}
