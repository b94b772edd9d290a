//! Opening the store: the same for a node and for commands.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use cardinal_base::{Clock, SystemClock, SystemRng};
use cardinal_control::{Dao, Tenant};
use cardinal_kong::Settings;
use cardinal_kong::settings::Database;
use cardinal_sdk::PluginDef;
use cardinal_store::{Author, KeySource, PostgresOptions, SqlStore, SqliteOptions, Store as _, StoreKey};
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use crate::args::StoreArgs;
use crate::config::{Refusal, Site};

/// The file of a store of SQLite.
pub(super) const FILE: &str = "store.db";
/// The key that encrypts secrets in the store, where no setting names one.
pub(super) const KEY: &str = "store.key";

/// What a command does if there is no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It creates one.
    Create,
    /// It fails.
    Refuse,
}

/// Where a store is, and how it is read.
pub(crate) struct Place {
    pub(crate) runtime: Runtime,
    pub(crate) site: Site,
    pub(crate) settings: Settings,
    pub(crate) data_dir: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
}

/// An open store.
pub(crate) struct Opened {
    pub(crate) place: Place,
    pub(crate) store: Arc<SqlStore>,
    pub(crate) dao: Dao,
}

impl Place {
    pub(crate) fn find(
        args: StoreArgs,
        plugins: &'static [&'static PluginDef],
        env: BTreeMap<String, String>,
    ) -> Result<Self> {
        let site = Site::new(plugins, Vec::new(), args.settings, env);
        let preferences = site.settings().map_err(|refusal: Refusal| anyhow!(refusal.report()))?;
        let settings = preferences.settings;
        if settings.database == Some(Database::Off) {
            bail!("the setting database is off: entities are in files, and there is no store");
        }
        let data_dir = match args.data_dir {
            Some(given) => given,
            None => default_data_dir(site.env())?,
        };
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().context("the runtime")?;
        Ok(Self { runtime, site, settings, data_dir, clock: Arc::new(SystemClock::new()) })
    }

    /// Whether the store is a file in the data directory.
    pub(crate) fn is_file(&self) -> bool {
        self.settings.database != Some(Database::Postgres)
    }

    /// The file of a store of SQLite.
    pub(super) fn file(&self) -> PathBuf {
        self.data_dir.join(FILE)
    }

    pub(super) fn make_data_dir(&self) -> Result<()> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.data_dir);
        made.with_context(|| format!("cannot make the data directory {}", self.data_dir.display()))
    }

    pub(crate) fn open(self, missing: Missing) -> Result<Opened> {
        if missing == Missing::Refuse && self.is_file() && !self.file().exists() {
            let dir = self.data_dir.display();
            bail!("there is no store in {dir}: name its directory with --data-dir, or create one with 'cardinal run'");
        }
        self.make_data_dir()?;
        let registry = self.site.registry(&self.settings).map_err(|refusal| anyhow!(refusal.report()))?;
        let store = self.runtime.block_on(open(&self.settings, &self.data_dir, &self.clock))?;
        let dao = Dao::new(Arc::clone(&store) as Arc<_>, Arc::new(registry), Arc::clone(&self.clock), SystemRng);
        Ok(Opened { place: self, store, dao })
    }
}

impl Opened {
    /// Opens the store that arguments name.
    pub(crate) fn new(
        args: StoreArgs,
        plugins: &'static [&'static PluginDef],
        env: BTreeMap<String, String>,
        missing: Missing,
    ) -> Result<Self> {
        Place::find(args, plugins, env)?.open(missing)
    }

    /// On whose behalf commands write.
    pub(crate) fn tenant(&self) -> Tenant {
        let user = self.place.site.env().get("USER").map(String::as_str).unwrap_or_default();
        Tenant::new(Author { name: user.into(), from: "cli".into(), via: "cli".into() })
    }

    /// Runs a future.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.place.runtime.block_on(future)
    }

    /// The newest revision.
    pub(crate) fn revision(&self) -> Result<u64> {
        Ok(self.wait(self.store.status())?.revision)
    }
}

/// A file of SQLite is left complete by itself.
impl Drop for Opened {
    fn drop(&mut self) {
        self.place.runtime.block_on(self.store.close());
    }
}

/// Opens the store that the settings and the data directory name; creates it if it does not exist.
pub(crate) async fn open(settings: &Settings, data_dir: &Path, clock: &Arc<dyn Clock>) -> Result<Arc<SqlStore>> {
    let key = StoreKey::From(key_source(settings, data_dir)?);
    if settings.database == Some(Database::Postgres) {
        let options = PostgresOptions { url: settings.postgres.url() };
        let store = SqlStore::postgres(options, key, Arc::clone(clock)).await;
        return Ok(Arc::new(store.with_context(|| format!("cannot open the database {:?}", settings.postgres))?));
    }
    open_file(&data_dir.join(FILE), key, clock).await
}

/// Opens a store in a file of SQLite.
pub(super) async fn open_file(file: &Path, key: StoreKey, clock: &Arc<dyn Clock>) -> Result<Arc<SqlStore>> {
    let options = SqliteOptions { path: file.to_owned(), pages_max: None };
    let store = SqlStore::sqlite(options, key, Arc::clone(clock)).await;
    Ok(Arc::new(store.with_context(|| format!("cannot open {}", file.display()))?))
}

/// Where the key that encrypts secrets in the store comes from.
pub(super) fn key_source(settings: &Settings, data_dir: &Path) -> Result<KeySource> {
    let Some(text) = settings.store_key.as_deref() else {
        return Ok(KeySource::File { path: data_dir.join(KEY), create: true });
    };
    match text.split_once(':') {
        Some(("file", path)) => Ok(KeySource::File { path: path.into(), create: false }),
        Some(("env", name)) => {
            let value = settings.secrets.env.get(name);
            let value = value.with_context(|| format!("store_key: the environment variable {name} is not set"))?;
            Ok(KeySource::Environment { name: name.to_owned(), value: Zeroizing::new(value.clone()) })
        }
        Some(("command", line)) => Ok(KeySource::Command(line.split_whitespace().map(str::to_owned).collect())),
        _ => Err(anyhow!("store_key: expected file:PATH, env:NAME or command:PROGRAM ARGUMENTS, not '{text}'")),
    }
}

/// The data directory where none is given: `/var/lib/cardinal` for root, `~/.local/share/cardinal` for others.
pub(crate) fn default_data_dir(env: &std::collections::BTreeMap<String, String>) -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/cardinal"));
    }
    let given = |name: &str| env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = given("XDG_DATA_HOME").or_else(|| given("HOME").map(|home| home.join(".local/share")));
    home.map(|home| home.join("cardinal")).context("there is no home directory: name a data directory with --data-dir")
}
