//! [`Draft`]: the next text of a file beside the file, which takes its place in one step.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// Mode of a draft before it has that of the file.
const MODE: u32 = 0o600;

/// The next text of a file. It is removed unless it becomes the file.
#[derive(Debug)]
pub(super) struct Draft {
    /// The file, without links.
    target: PathBuf,
    draft: PathBuf,
    /// What the file had before.
    old: String,
}

impl Draft {
    /// Writes a text to the disk, with mode and owner of the file.
    pub(super) fn write(path: &Path, old: &str, text: &str) -> Result<Self, String> {
        let told = |what: &str, error: &Error| format!("{}: {what}: {error}", path.display());
        let target = fs::canonicalize(path).map_err(|error| told("cannot write the file", &error))?;
        let mut name = OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(".cardinal-draft");
        let draft = target.with_file_name(name);
        // One of a process that was killed.
        fs::remove_file(&draft).ok();
        let written = Self { target, draft, old: old.to_owned() };
        written.fill(text).map_err(|error| told("cannot write the file", &error))?;
        Ok(written)
    }

    fn fill(&self, text: &str) -> std::io::Result<()> {
        let of = fs::metadata(&self.target)?;
        if of.permissions().mode() & 0o222 == 0 {
            return Err(Error::new(ErrorKind::PermissionDenied, "the file is read-only (its mode has no write bit)"));
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&self.draft)?;
        file.write_all(text.as_bytes())?;
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (of.uid(), of.gid()) {
            fchown(&file, Some(of.uid()), Some(of.gid()))
                .map_err(|error| Error::new(error.kind(), format!("cannot keep its owner: {error}")))?;
        }
        file.set_permissions(fs::Permissions::from_mode(of.permissions().mode() & 0o7777))?;
        file.sync_all()
    }

    /// Makes the draft the file. The file is either as it was or complete, whenever the process or the machine ends.
    pub(super) fn apply(&self) -> Result<(), String> {
        let told = |error: Error| {
            let hint = match error.raw_os_error() {
                Some(code) if code == rustix::io::Errno::BUSY.raw_os_error() => {
                    "; it is a mount point: mount its directory instead"
                }
                _ => "",
            };
            format!("{}: cannot replace the file: {error}{hint}", self.target.display())
        };
        fs::rename(&self.draft, &self.target).map_err(told)?;
        let folder = self.target.parent().unwrap_or(Path::new("/"));
        // The new text is in place already. What fails here is noticed by the next write.
        if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
            tracing::warn!("cannot sync {}: {error}", folder.display());
        }
        Ok(())
    }

    /// Whether the file still has the text that the draft was made from.
    pub(super) fn is_current(&self) -> bool {
        fs::read_to_string(&self.target).is_ok_and(|text| text == self.old)
    }

    /// Gives a file that was replaced its old text back.
    pub(super) fn undo(&self) {
        let result = Self::write(&self.target, "", &self.old).and_then(|draft| draft.apply());
        if let Err(error) = result {
            tracing::error!("cannot undo a change: {error}");
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        fs::remove_file(&self.draft).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use cardinal_testkit::TempDir;

    use super::*;

    #[test]
    fn a_draft_takes_the_place_of_the_file_that_a_link_leads_to() {
        let folder = TempDir::new("draft");
        let file = folder.write("kong.yaml", "old");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let link = folder.path().join("link.yaml");
        symlink("kong.yaml", &link).unwrap();
        let draft = Draft::write(&link, "old", "new").unwrap();
        assert!(draft.is_current());
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        draft.apply().unwrap();
        assert!(!draft.is_current());
        drop(draft);
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no draft is left");
    }

    #[test]
    fn a_draft_that_is_not_applied_leaves_nothing() {
        let folder = TempDir::new("draft");
        let file = folder.write("kong.yaml", "old");
        let draft = Draft::write(&file, "old", "new").unwrap();
        drop(draft);
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
        let error = Draft::write(&file, "old", "new").unwrap_err();
        assert!(error.contains("read-only"), "{error}");
        assert!(Draft::write(&folder.path().join("none"), "", "").is_err());
    }
}
