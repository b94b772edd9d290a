//! The last configuration that was served, kept in the data directory for a start without readable files.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use cardinal_kong::Source;
use serde::{Deserialize, Serialize};

use crate::config::{Digest, Texts};

const FILE: &str = "last-good.json";
const VERSION: u32 = 1;

/// The file that holds it.
#[derive(Debug)]
pub(super) struct LastGood {
    folder: PathBuf,
    saved: Option<Digest>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    files: Vec<SavedFile>,
}

#[derive(Serialize, Deserialize)]
struct SavedFile {
    name: String,
    text: String,
}

impl LastGood {
    /// In this directory, which is made for this user alone if it is not there.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the data directory {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), saved: None })
    }

    /// What was saved.
    pub(super) fn load(&self) -> Result<Vec<Source>> {
        let path = self.folder.join(FILE);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let saved: Saved = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        ensure!(saved.version == VERSION, "{} is of another version: {}", path.display(), saved.version);
        Ok(saved.files.into_iter().map(|file| Source::new(file.name, file.text)).collect())
    }

    /// Saves texts, unless they are saved already. After a power cut there are either these or the ones before.
    pub(super) fn save(&mut self, texts: &Texts) -> Result<()> {
        if self.saved == Some(texts.digest) {
            return Ok(());
        }
        let files = texts.sources.iter().map(|s| SavedFile { name: s.name.clone(), text: s.text.clone() }).collect();
        let bytes = serde_json::to_vec(&Saved { version: VERSION, files })?;
        let path = self.folder.join(FILE);
        // Two processes may save while one hands over to the other.
        let draft = self.folder.join(format!("{FILE}.{}", std::process::id()));
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        self.saved = Some(texts.digest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use cardinal_testkit::TempDir;

    use super::*;

    #[test]
    fn what_was_saved_comes_back() {
        let folder = TempDir::new("last-good");
        let mut kept = LastGood::open(&folder.path().join("data")).unwrap();
        assert!(kept.load().is_err());
        for text in ["first", "second"] {
            let mut digest = Digest::default();
            digest[0] = text.as_bytes()[0];
            kept.save(&Texts { sources: vec![Source::new("a.yaml", text)], digest }).unwrap();
            assert_eq!(kept.load().unwrap(), [Source::new("a.yaml", text)]);
        }
        let file = folder.path().join("data").join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_damaged_file_is_told() {
        let folder = TempDir::new("last-good");
        let kept = LastGood::open(folder.path()).unwrap();
        folder.write(FILE, "{");
        assert!(format!("{:#}", kept.load().unwrap_err()).contains("is damaged"));
        folder.write(FILE, r#"{"version": 2, "files": []}"#);
        assert!(format!("{:#}", kept.load().unwrap_err()).contains("another version: 2"));
    }
}
