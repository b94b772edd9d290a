//! The store of a node that starts, and what looks after it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use cardinal_base::{Clock, task};
use cardinal_control::{Housekeeper, Logged, Retention};
use cardinal_kong::{Registry, Settings};
use cardinal_store::{SqlStore, Store as _};
use cardinal_sync::LastGood;
use tokio::runtime::Runtime;

/// Opens the store in a directory. Unless it `may_be_new`, a store without entities is refused in the directory of a node
/// that has served files: it would answer every request with 404.
pub(super) fn open(
    runtime: &Runtime,
    settings: &Settings,
    (data_dir, may_be_new): (&Path, bool),
    clock: &Arc<dyn Clock>,
) -> Result<Arc<SqlStore>> {
    let store = runtime.block_on(crate::store::open(settings, data_dir, clock))?;
    let served_files = LastGood::open(data_dir).is_ok_and(|file| file.path().exists());
    if served_files && !may_be_new && runtime.block_on(store.status())?.revision == 0 {
        runtime.block_on(store.close());
        let dir = data_dir.display();
        bail!(
            "{dir} has the last known good configuration of files, and no file is named: name the files (--config FILE), \
             or import them first ('cardinal store import FILE --data-dir {dir}'), or start with an empty database by \
             --new-store"
        );
    }
    Ok(store)
}

/// Deletes what has expired and shortens the change log from time to time, for as long as the runtime lives.
pub(super) fn look_after(
    runtime: &Runtime,
    store: &Arc<SqlStore>,
    registry: &Arc<Registry>,
    (settings, clock): (&Settings, &Arc<dyn Clock>),
) {
    let _inside = runtime.enter();
    let retention = Retention { days: settings.history_days, revisions_max: settings.history_revisions_max };
    let store = Arc::clone(store) as Arc<dyn Logged>;
    let housekeeper = Housekeeper::new(store, Arc::clone(registry), Arc::clone(clock), retention);
    drop(task::spawn("store housekeeping", housekeeper.run()));
}
