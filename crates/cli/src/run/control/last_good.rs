//! The last known good configuration of a database: saved while a node serves, and served by a node that starts while the
//! database cannot be read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use cardinal_base::{Clock, UnixMillis};
use cardinal_control::{LastServed, SavedCluster};
use cardinal_kong::Settings;
use cardinal_kong::settings::Database;
use cardinal_sync::{Keeper, LastGood, LoadError, ProblemList, Saved};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::run::incomplete::{duration_text, of_rejected, report_rejected};

/// Changes that come within this time are saved together.
const COALESCING: Duration = Duration::from_secs(1);
/// Between two saves at least.
const INTERVAL: Duration = Duration::from_secs(10);

/// What is saved with the records.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct About {
    /// The kind of the database: what was served of one kind is not served in place of another.
    engine: String,
    revision: u64,
    /// Seconds since the epoch.
    saved_at: Option<u64>,
    left_out: ProblemList,
    cluster: Option<SavedCluster>,
}

/// A configuration that was served.
#[derive(Debug)]
pub(super) struct LastGoodOfStore {
    pub(super) served: LastServed,
    pub(super) saved_at: Option<UnixMillis>,
    pub(super) left_out: ProblemList,
    /// What control planes of the database share, if the node sent configurations to data planes.
    pub(super) cluster: Option<SavedCluster>,
}

/// The kind of the database.
pub(super) fn engine(settings: &Settings) -> &'static str {
    match settings.database {
        Some(Database::Postgres) => "postgres",
        Some(Database::Sqlite | Database::Off) | None => "sqlite",
    }
}

/// Whether what was saved suffices for a node that sends configurations to data planes.
pub(super) fn has_cluster(file: &LastGood) -> bool {
    let about = file.load().ok().and_then(|loaded| serde_json::from_value::<About>(loaded.about).ok());
    about.is_some_and(|about| about.cluster.is_some())
}

/// What was served before, or the error because of which it is needed.
pub(super) fn load_or(file: &LastGood, engine: &str, error: anyhow::Error) -> Result<LastGoodOfStore> {
    let loaded = match file.load() {
        Ok(loaded) => loaded,
        Err(LoadError::Missing(_)) => return Err(error),
        Err(worse) => {
            return Err(error.context(format!("the last known good configuration cannot be served either: {worse}")));
        }
    };
    let about: About = serde_json::from_value(loaded.about).unwrap_or_default();
    if about.engine != engine {
        return Err(error);
    }
    report_rejected(&loaded.rejected);
    let mut left_out = about.left_out;
    left_out.extend(loaded.rejected.iter().map(of_rejected).collect());
    let served = LastServed { ir: Arc::new(loaded.ir), secrets: loaded.secrets, revision: about.revision };
    let saved_at = about.saved_at.map(|seconds| UnixMillis(seconds.saturating_mul(1_000)));
    Ok(LastGoodOfStore { served, saved_at, left_out, cluster: about.cluster })
}

impl LastGoodOfStore {
    /// Tells that it is served.
    pub(super) fn announce(&self, why: &str, clock: &dyn Clock) {
        let (revision, now) = (self.served.revision, clock.unix());
        let age_seconds = self.saved_at.map(|at| now.seconds().saturating_sub(at.seconds()));
        let saved = age_seconds.map(|seconds| format!(", saved {} ago", duration_text(seconds))).unwrap_or_default();
        tracing::error!("the database cannot be read: {why}");
        tracing::warn!(
            age_seconds,
            revision,
            "serving the last known good configuration: revision {revision} of the database{saved}; the current one is \
             loaded as soon as the database can be read"
        );
    }
}

/// Saves what is served, a while after it changed.
pub(super) struct StoreKeeper {
    engine: &'static str,
    cluster: Option<SavedCluster>,
    clock: Arc<dyn Clock>,
    unsaved: Mutex<Option<(LastServed, ProblemList)>>,
    changed: Notify,
    /// `None` once nothing is saved any more.
    keeper: Mutex<Option<Keeper>>,
}

impl StoreKeeper {
    pub(super) fn new(
        file: LastGood,
        engine: &'static str,
        cluster: Option<SavedCluster>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (unsaved, keeper) = (Mutex::default(), Mutex::new(Some(Keeper::new(file))));
        Self { engine, cluster, clock, unsaved, changed: Notify::new(), keeper }
    }

    /// Notes what is served from now on.
    pub(super) fn note(&self, served: LastServed, left_out: ProblemList) {
        *lock(&self.unsaved) = Some((served, left_out));
        self.changed.notify_one();
    }

    /// Saves what was noted for as long as it is polled. The file is written at most every ten seconds, and not on the
    /// threads of the runtime.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            self.clock.sleep(COALESCING).await;
            let keeper = Arc::clone(&self);
            // A panic was logged; what is noted next is saved.
            tokio::task::spawn_blocking(move || keeper.save()).await.ok();
            self.clock.sleep(INTERVAL).await;
        }
    }

    /// Saves what is not saved yet, and nothing later.
    pub(super) fn finish(&self) {
        self.save();
        self.abandon();
    }

    /// Saves nothing any more: another process does.
    pub(super) fn abandon(&self) {
        *lock(&self.keeper) = None;
    }

    fn save(&self) {
        // Held from the start, so that nothing older is saved after something newer.
        let mut keeper = lock(&self.keeper);
        let Some(keeper) = keeper.as_mut() else { return };
        let (now, unsaved) = (self.clock.tick(), lock(&self.unsaved).take());
        match unsaved {
            Some((LastServed { ir, secrets, revision }, left_out)) => {
                let about = About {
                    engine: self.engine.to_owned(),
                    revision,
                    saved_at: Some(self.clock.unix().seconds()),
                    left_out,
                    cluster: self.cluster.clone(),
                };
                keeper.keep(Saved { ir, secrets, about: serde_json::json!(about) }, now);
            }
            None => drop(keeper.retry(now)),
        }
        if keeper.has_unsaved() {
            self.changed.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use cardinal_base::{ManualClock, task};
    use cardinal_testkit::{TempDir, until, while_time_passes};

    use super::*;

    fn served(revision: u64) -> LastServed {
        LastServed { ir: Arc::default(), secrets: cardinal_ir::Secrets::default(), revision }
    }

    fn saved(file: &LastGood) -> Option<u64> {
        load_or(file, "sqlite", anyhow::anyhow!("away")).ok().map(|last| last.served.revision)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn changes_are_saved_together_and_at_the_end() {
        let (folder, clock) = (TempDir::new("last-good"), Arc::new(ManualClock::default()));
        let file = LastGood::open(folder.path()).unwrap().of_store();
        let keeper = StoreKeeper::new(file.clone(), "sqlite", None, Arc::clone(&clock) as _);
        let keeper = Arc::new(keeper);
        let running = task::spawn("saving", Arc::clone(&keeper).run());
        for revision in 1..=5 {
            keeper.note(served(revision), ProblemList::default());
        }
        assert_eq!(saved(&file), None, "it is written later");
        let is_saved = until("the save", || saved(&file) == Some(5));
        while_time_passes("the save", &clock, Duration::from_millis(100), is_saved).await.unwrap().unwrap();
        keeper.note(served(6), ProblemList::default());
        assert_eq!(saved(&file), Some(5));
        keeper.finish();
        assert_eq!(saved(&file), Some(6));
        keeper.note(served(7), ProblemList::default());
        keeper.finish();
        assert_eq!(saved(&file), Some(6), "nothing is saved after the end");
        running.abort();
    }

    #[test]
    fn what_another_database_or_a_file_served_is_not_taken() {
        let folder = TempDir::new("last-good");
        let file = LastGood::open(folder.path()).unwrap();
        let about = serde_json::json!(About { engine: "sqlite".to_owned(), ..About::default() });
        let saved = Saved { ir: Arc::default(), secrets: cardinal_ir::Secrets::default(), about };
        let taken = |engine: &str| load_or(&file.clone().of_store(), engine, anyhow::anyhow!("away"));
        file.save(&saved).unwrap();
        assert_eq!(taken("sqlite").unwrap_err().to_string(), "away", "that is the one of files");
        file.clone().of_store().save(&saved).unwrap();
        assert!(taken("sqlite").is_ok());
        assert_eq!(taken("postgres").unwrap_err().to_string(), "away");
        folder.write("last-good-store.bin", "damaged");
        let error = format!("{:#}", taken("sqlite").unwrap_err());
        assert!(error.contains("cannot be served either") && error.ends_with("away"), "{error}");
    }
}
