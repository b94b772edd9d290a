//! [`LastGood`]: the file of the last known good configuration.
//!
//! It holds the records that were served, so that a node starts without its source and without what the source reads.
//! The records refer to private keys and passwords. These are in a section of their own, without which a node could not start
//! again: only the user of the process can read the file.

mod format;
mod keeper;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cardinal_base::descriptors;
use cardinal_ir::{Ir, Rejected, Secrets};
use serde_json::Value;

pub use keeper::Keeper;

/// Its name in the data directory.
const FILE: &str = "last-good.bin";

/// The file of the last known good configuration.
#[derive(Clone, Debug)]
pub struct LastGood {
    folder: PathBuf,
}

/// A configuration to keep.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The records.
    pub ir: Arc<Ir>,
    /// The secrets that the records refer to; others are not saved.
    pub secrets: Secrets,
    /// What the source wants to know about the configuration when it is served again.
    pub about: Value,
}

/// A configuration that was kept.
#[derive(Debug)]
pub struct Loaded {
    /// The records. No reference dangles.
    pub ir: Ir,
    /// The secrets that they refer to.
    pub secrets: Secrets,
    /// As it was given.
    pub about: Value,
    /// Records that this version of the program cannot read, and those that refer to them.
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
        /// Why.
        error: io::Error,
    },
    /// The file is not one that was saved, or not as it was saved.
    #[error("{} is damaged: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// Another version of the program wrote it.
    #[error("{} has format version {version}, which this version of the program cannot read", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Records that restrict access cannot be read; without them, requests would be served that should not be.
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
        /// What is wrong with the first of them.
        reason: String,
    },
}

/// Why the file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {error}", .path.display())]
pub struct SaveError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

impl SaveError {
    /// Whether writing may succeed a little later.
    pub fn is_transient(&self) -> bool {
        descriptors::is_transient(&self.error)
    }
}

impl LastGood {
    /// In this directory, which is created for this user alone if it does not exist.
    ///
    /// # Errors
    /// When the directory cannot be created.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Reads what was saved last.
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
        format::read(file).map_err(|error| error.of(path))
    }

    /// Saves a configuration in place of the one before. After a power failure the file is this one or that one.
    ///
    /// # Errors
    /// When it cannot be written; then the one before is still there.
    pub fn save(&self, saved: &Saved) -> Result<(), SaveError> {
        let path = self.path();
        // Two processes may save while one hands over to the other.
        let draft = self.folder.join(format!("{FILE}.{}", std::process::id()));
        self.write(saved, &draft, &path).map_err(|error| {
            // The next attempt replaces a draft that cannot be removed.
            fs::remove_file(&draft).ok();
            SaveError { path, error }
        })
    }

    fn write(&self, saved: &Saved, draft: &Path, path: &Path) -> io::Result<()> {
        // Opened first: once the file is renamed, nothing must fail.
        let folder = File::open(&self.folder)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
        format::write(&mut file, saved)?;
        file.sync_all()?;
        fs::rename(draft, path)?;
        folder.sync_all()
    }
}

#[cfg(test)]
mod tests;
