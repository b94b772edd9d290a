//! [`LastGood`]: the file of the last known good configuration.
//!
//! It contains the active records, so that a node can start without its source. The records refer to private keys and
//! passwords, which are stored in a separate section, because the node could not start without them: only the user of
//! the process can read the file.

mod format;
mod keeper;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cardinal_base::descriptors;
use cardinal_ir::{Ir, Rejected, SecretKey, Secrets};
use serde_json::Value;

pub use keeper::Keeper;

/// The file name in the data directory.
const FILE: &str = "last-good.bin";
/// The same for the configuration of a store.
const FILE_OF_STORE: &str = "last-good-store.bin";

/// The file of the last known good configuration.
#[derive(Clone, Debug)]
pub struct LastGood {
    folder: PathBuf,
    name: &'static str,
    key: Option<SecretKey>,
}

/// A configuration to save.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The records.
    pub ir: Arc<Ir>,
    /// The secrets that the records refer to; others are not saved.
    pub secrets: Secrets,
    /// Data of the source, returned when the configuration is loaded.
    pub about: Value,
}

/// A loaded configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The records, without dangling references.
    pub ir: Ir,
    /// The secrets to which they refer.
    pub secrets: Secrets,
    /// The data of the source.
    pub about: Value,
    /// Records that this version of the program cannot decode, and those that refer to them.
    pub rejected: Vec<Rejected>,
}

/// Why the file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Nothing was saved.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// Reading failed.
    #[error("cannot read {}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The file is damaged, or was not written by this program.
    #[error("{} is damaged: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage.
        why: String,
    },
    /// The file was written by another version of the program.
    #[error("{} has format version {version}, which this version of the program cannot read", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The format version of the file.
        version: u32,
    },
    /// Records that restrict access cannot be decoded; without them, requests would be served that should be rejected.
    #[error(
        "{} has records of {table} that this version of the program cannot read, and without which access would not be \
         restricted as configured: {reason}",
        .path.display()
    )]
    Unrestricted {
        /// The file.
        path: PathBuf,
        /// The table.
        table: String,
        /// The error of the first of them.
        reason: String,
    },
}

/// Why the file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {error}", .path.display())]
pub struct SaveError {
    /// The file.
    pub path: PathBuf,
    /// The error.
    pub error: io::Error,
}

impl SaveError {
    /// Whether a later attempt may succeed.
    pub fn is_transient(&self) -> bool {
        descriptors::is_transient(&self.error)
    }
}

impl LastGood {
    /// Uses this directory, which is created with access for the current user only if it does not exist.
    ///
    /// # Errors
    /// If the directory cannot be created.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self { folder: folder.to_owned(), name: FILE, key: None })
    }

    /// The file for the configuration of a store, which is never served in place of one from elsewhere.
    #[must_use]
    pub fn of_store(self) -> Self {
        Self { name: FILE_OF_STORE, ..self }
    }

    /// Signed with the key of the node: a file that was changed, or that another node wrote, is refused.
    #[must_use]
    pub fn signed(self, key: SecretKey) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(self.name)
    }

    /// Reads the saved configuration.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(&self) -> Result<Loaded, LoadError> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(LoadError::Missing(path)),
            Err(error) => return Err(LoadError::Io { path, error }),
        };
        format::read(file, self.key.as_ref()).map_err(|error| error.of(path))
    }

    /// Atomically replaces the saved configuration: after a power failure, the file contains either the previous or the
    /// new one.
    ///
    /// # Errors
    /// If it cannot be written; the previous one is unchanged in this case.
    pub fn save(&self, saved: &Saved) -> Result<(), SaveError> {
        let path = self.path();
        // During a handover, two processes may save at the same time.
        let draft = self.folder.join(format!("{}.{}", self.name, std::process::id()));
        self.write(saved, &draft, &path).map_err(|error| {
            // If the draft cannot be removed, the next attempt replaces it.
            fs::remove_file(&draft).ok();
            SaveError { path, error }
        })
    }

    fn write(&self, saved: &Saved, draft: &Path, path: &Path) -> io::Result<()> {
        // Opened first: after renaming the file, no step may fail.
        let folder = File::open(&self.folder)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
        format::write(&mut file, saved, self.key.as_ref())?;
        file.sync_all()?;
        fs::rename(draft, path)?;
        folder.sync_all()
    }
}

#[cfg(test)]
mod tests;
