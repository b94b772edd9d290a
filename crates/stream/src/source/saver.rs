//! [`Saver`]: writes the last known good configuration beside what serves it.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cardinal_base::Clock;
use cardinal_sync::{Keeper, LastGood, Saved};
use tokio::sync::Notify;

/// Parts of the time that pass between two saves for each part that a save takes: the whole configuration is written each time, and
/// edits that follow each other closely are saved together.
const PAUSE: u32 = 9;

/// Saves configurations, each as soon as the one before is written and a pause is over.
pub(super) struct Saver {
    clock: Arc<dyn Clock>,
    unsaved: Mutex<Option<Saved>>,
    changed: Notify,
    keeper: Mutex<Keeper>,
}

impl Saver {
    pub(super) fn new(file: LastGood, clock: Arc<dyn Clock>) -> Self {
        Self { clock, unsaved: Mutex::default(), changed: Notify::new(), keeper: Mutex::new(Keeper::new(file)) }
    }

    /// Notes what is served from now on.
    pub(super) fn note(&self, saved: Saved) {
        *lock(&self.unsaved) = Some(saved);
        self.changed.notify_one();
    }

    /// Saves what was noted for as long as it is polled, not on the threads of the runtime.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let wait_ms = lock(&self.keeper).wait_ms(self.clock.tick());
            let retry = async {
                match wait_ms {
                    Some(ms) => self.clock.sleep(Duration::from_millis(ms)).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = retry => {}
            }
            let saver = Arc::clone(&self);
            // A panic was logged; what is noted next is saved.
            let took = tokio::task::spawn_blocking(move || saver.save()).await.unwrap_or_default();
            self.clock.sleep(took.saturating_mul(PAUSE)).await;
        }
    }

    /// Saves what is not saved yet; gives the time that it took.
    pub(super) fn save(&self) -> Duration {
        // Held from the start, so that nothing older is saved after something newer.
        let mut keeper = lock(&self.keeper);
        let start = self.clock.tick();
        let unsaved = lock(&self.unsaved).take();
        match unsaved {
            Some(saved) => drop(keeper.keep(saved, start)),
            None => drop(keeper.retry(start)),
        }
        self.clock.tick().since(start)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use cardinal_base::{ManualClock, task};
    use cardinal_testkit::{TempDir, until};
    use serde_json::json;

    use super::*;

    fn generation(number: u64) -> Saved {
        Saved { ir: Arc::default(), secrets: cardinal_ir::Secrets::default(), about: json!(number) }
    }

    fn saved(file: &LastGood) -> Option<u64> {
        file.load().ok().and_then(|loaded| loaded.about.as_u64())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_newest_is_saved_and_what_is_unsaved_at_the_end() {
        let (folder, clock) = (TempDir::new("saver"), Arc::new(ManualClock::default()));
        let file = LastGood::open(folder.path()).unwrap();
        let saver = Arc::new(Saver::new(file.clone(), clock));
        for number in 1..=100 {
            saver.note(generation(number));
        }
        assert_eq!(saved(&file), None, "nobody waits for it");
        let running = task::spawn("saving", Arc::clone(&saver).run());
        until("the save", || saved(&file) == Some(100)).await.unwrap();
        running.abort();
        running.await.ok();
        saver.note(generation(101));
        saver.save();
        assert_eq!(saved(&file), Some(101));
    }
}
