//! The store of a node that starts, and what looks after it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cardinal_base::{Clock, Rng as _, SeededRng, task};
use cardinal_control::{Cluster, Dao, Housekeeper, LateStore, Logged, Retention};
use cardinal_kong::{Registry, Settings};
use cardinal_store::{SqlStore, Store as _, StoreError};
use cardinal_sync::{Backoff, LastGood};

use super::{sends_on, users};

/// How the store of a node is opened.
#[derive(Clone)]
pub(super) struct Opening {
    pub(super) settings: Settings,
    pub(super) registry: Arc<Registry>,
    pub(super) data_dir: PathBuf,
    /// It may be an empty one in the directory of a node that has served files.
    pub(super) may_be_new: bool,
    pub(super) clock: Arc<dyn Clock>,
}

impl Opening {
    /// Opens the store, and reads what its control planes share if this is one. Unless it may be new, a store without
    /// entities is refused in the directory of a node that has served files: it would answer every request with 404.
    pub(super) async fn open(&self) -> Result<(Arc<SqlStore>, Option<Cluster>)> {
        let store = crate::store::open(&self.settings, &self.data_dir, &self.clock).await?;
        let served_files = LastGood::open(&self.data_dir).is_ok_and(|file| file.path().exists());
        if served_files && !self.may_be_new && store.status().await?.revision == 0 {
            store.close().await;
            let dir = self.data_dir.display();
            bail!(
                "{dir} has the last known good configuration of files, and no file is named: name the files (--config \
                 FILE), or import them first ('cardinal store import FILE --data-dir {dir}'), or start with an empty \
                 database by --new-store"
            );
        }
        let cluster = match sends_on(&self.settings) {
            true => Some(Cluster::open(&*store, &*self.clock).await.context("the authority for data planes")?),
            false => None,
        };
        Ok((store, cluster))
    }

    /// Opens the store as soon as that is possible, and follows it. To be called on the runtime of the control plane.
    pub(super) async fn open_later(self, late: Arc<LateStore>, dao: Dao) {
        let (mut backoff, mut rng, mut logged) = (Backoff::default(), SeededRng::from_system(), String::new());
        let store = loop {
            let now = self.clock.tick();
            backoff.failed(now);
            let pause_ms = backoff.wait_ms(now).unwrap_or_default();
            // Nodes that lost their database at the same time do not come back at the same time.
            self.clock.sleep(Duration::from_millis(pause_ms + rng.below(pause_ms / 2 + 1))).await;
            match self.open().await {
                Ok((store, _)) => break store,
                Err(error) => {
                    let why = reason(&error);
                    late.failed(why.clone());
                    if why != logged {
                        tracing::error!("the database cannot be opened: {why}; it is tried again");
                        logged = why;
                    }
                }
            }
        };
        tracing::info!("the database is open");
        self.look_after(&store);
        let preparing = async {
            if let Err(error) = users::prepare(&dao, &self.settings).await {
                tracing::error!("{error:#}");
            }
        };
        // The first of them opens it for the second one.
        tokio::join!(biased; late.open(store), preparing);
    }

    /// Deletes what has expired and shortens the change log from time to time, for as long as the runtime lives, on which
    /// this is to be called.
    pub(super) fn look_after(&self, store: &Arc<SqlStore>) {
        let Settings { history_days: days, history_revisions_max: revisions_max, .. } = self.settings;
        let (store, registry) = (Arc::clone(store) as Arc<dyn Logged>, Arc::clone(&self.registry));
        let retention = Retention { days, revisions_max };
        let housekeeper = Housekeeper::new(store, registry, Arc::clone(&self.clock), retention);
        drop(task::spawn("store housekeeping", housekeeper.run()));
    }
}

/// Why the store is not open, for the API and status pages, which say that it is unavailable.
pub(super) fn reason(error: &anyhow::Error) -> String {
    match error.downcast_ref::<StoreError>() {
        Some(StoreError::Unavailable(why)) => why.clone(),
        Some(_) | None => format!("{error:#}"),
    }
}
