//! The id of the node when no setting gives one.
//!
//! With a data directory it is generated once and kept there, so that it outlives the process and differs from that of
//! every other node. Without one it is derived from the host name.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cardinal_base::Id;

const FILE: &str = "node-id";

/// The id of this node.
///
/// # Errors
/// When the data directory cannot be read or written.
pub(super) fn find(data_dir: Option<&Path>) -> Result<Id> {
    let Some(data_dir) = data_dir else { return Ok(of_host(&cardinal_engine::hostname())) };
    let path = data_dir.join(FILE);
    match read(&path)? {
        Some(Ok(id)) => Ok(id),
        Some(Err(text)) => {
            tracing::warn!("{} is damaged and is replaced by a new id: {text:?}", path.display());
            let id = cardinal_base::random_id();
            let draft = write_draft(&path, id)?;
            fs::rename(&draft, &path).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(id)
        }
        None => create(&path),
    }
}

fn of_host(name: &str) -> Id {
    Id::new_v5(&Id::NAMESPACE_DNS, name.as_bytes())
}

/// The id in the file, or the text that is none; `None` without a file.
fn read(path: &Path) -> Result<Option<Result<Id, String>>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().parse().map_err(|_| text))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(Some(Err("not text".to_owned()))),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Makes the file. Of several processes that do so at once, one wins; all get its id.
fn create(path: &Path) -> Result<Id> {
    let id = cardinal_base::random_id();
    let draft = write_draft(path, id)?;
    // Fails when the file is there by now, and never shows half of it.
    let linked = fs::hard_link(&draft, path);
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        // A file system without links.
        Err(_) => fs::rename(&draft, path).with_context(|| format!("cannot write {}", path.display()))?,
    }
    // It does not exist any more if it was renamed.
    fs::remove_file(&draft).ok();
    match read(path)? {
        Some(Ok(id)) => Ok(id),
        _ => Ok(id),
    }
}

/// Writes the id to a temporary file.
fn write_draft(path: &Path, id: Id) -> Result<PathBuf> {
    let draft = path.with_extension(format!("{}-{}", std::process::id(), id.simple()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(format!("{id}\n").as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(draft)
}

#[cfg(test)]
mod tests {
    use cardinal_testkit::TempDir;

    use super::*;

    #[test]
    fn an_id_is_made_once_for_a_data_directory() {
        let (one, other) = (TempDir::new("node-id"), TempDir::new("node-id"));
        let id = find(Some(one.path())).unwrap();
        assert_eq!(find(Some(one.path())).unwrap(), id);
        assert_eq!(one.read(FILE), format!("{id}\n"));
        assert_ne!(find(Some(other.path())).unwrap(), id);
        assert_eq!(fs::read_dir(one.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn processes_that_start_at_once_have_one_id() {
        let folder = TempDir::new("node-id");
        let path = folder.path();
        let ids: Vec<Id> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(move || find(Some(path)).unwrap())).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(fs::read_dir(path).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let folder = TempDir::new("node-id");
        folder.write(FILE, "");
        let id = find(Some(folder.path())).unwrap();
        assert_eq!(find(Some(folder.path())).unwrap(), id);
    }

    #[test]
    fn without_a_data_directory_it_comes_from_the_host_name() {
        assert_eq!(find(None).unwrap(), find(None).unwrap());
        assert_ne!(of_host("a"), of_host("b"));
    }
}
