//! The data directory: who may read it, and the process that uses it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Files of a data directory that only the user of the process may read.
const PRIVATE: [&str; 7] = [
    "last-good.bin",
    "last-good-store.bin",
    "last-good.json",
    "secret-key",
    "node-id",
    "handover.sock",
    "handover.lock",
];

/// Closes the files of the directory to others, and warns if others may enter the directory. It may have been made by the
/// operator or a package, so its own mode is not changed.
pub(super) fn protect(folder: &Path) {
    for path in PRIVATE.map(|name| folder.join(name)) {
        match close(&path) {
            Ok(None) => {}
            Ok(Some(mode)) => {
                tracing::warn!("{} could be read by other users (mode {mode:04o}): mode set to 0600", path.display());
            }
            Err(error) => tracing::warn!("cannot close {} to other users: {error}", path.display()),
        }
    }
    if let Some(mode) = fs::metadata(folder).ok().map(|data| data.mode() & 0o7777).filter(|mode| mode & 0o007 != 0) {
        let folder = folder.display();
        tracing::warn!(
            "the data directory {folder} is open to other users (mode {mode:04o}): run 'chmod 700 {folder}'"
        );
    }
}

/// Gives a file the mode 0600 if others have access to it, and returns the mode that it had. Links are not followed.
fn close(path: &Path) -> io::Result<Option<u32>> {
    let data = match fs::symlink_metadata(path) {
        Ok(data) if !data.is_symlink() => data,
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mode = data.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(Some(mode))
}

/// The file with the id of the process that serves, for scripts that send signals. Removed by its owner.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    text: String,
}

impl PidFile {
    /// Writes the file in one step, in place of that of a predecessor. A failure is logged.
    pub(super) fn write(folder: &Path) -> Option<Self> {
        let id = std::process::id();
        let file = Self { path: folder.join("cardinal.pid"), text: format!("{id}\n") };
        let draft = folder.join(format!("cardinal.pid.{id}"));
        let write = || {
            fs::remove_file(&draft)
                .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
            let mut out = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&draft)?;
            out.write_all(file.text.as_bytes())?;
            fs::rename(&draft, &file.path)
        };
        write()
            .inspect_err(|error| tracing::warn!("cannot write {}: {error}", file.path.display()))
            .is_ok()
            .then_some(file)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A successor has replaced it by its own.
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            fs::remove_file(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use cardinal_testkit::TempDir;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn files_are_closed_and_the_directory_is_left_alone() {
        let folder = TempDir::new("data-dir");
        let (key, other) = (folder.write("secret-key", "x"), folder.write("other", "x"));
        for path in [&key, &other] {
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        }
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        protect(folder.path());
        assert_eq!([mode(&key), mode(&other), mode(folder.path())], [0o600, 0o644, 0o755]);
        assert_eq!(close(&key).unwrap(), None);
        assert_eq!(close(&folder.path().join("none")).unwrap(), None);
    }

    #[test]
    fn a_pid_file_is_removed_by_its_owner_only() {
        let folder = TempDir::new("data-dir");
        let file = PidFile::write(folder.path()).unwrap();
        assert_eq!(folder.read("cardinal.pid"), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!folder.path().join("cardinal.pid").exists());
        let file = PidFile::write(folder.path()).unwrap();
        folder.write("cardinal.pid", "1\n");
        drop(file);
        assert_eq!(folder.read("cardinal.pid"), "1\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }
}
