//! The last known good configuration as version 0.1 saved it: the texts of files. It is read while nothing was saved in
//! today's form, and removed once something is.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use cardinal_kong::Source;
use serde::Deserialize;

const FILE: &str = "last-good.json";
const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Saved {
    version: u32,
    files: Vec<SavedFile>,
}

#[derive(Deserialize)]
struct SavedFile {
    name: String,
    text: String,
}

/// The texts, if there are any.
pub(super) fn load(folder: &Path) -> Result<Option<Vec<Source>>> {
    let path = folder.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let saved: Saved = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
    ensure!(saved.version == VERSION, "{} has unknown format version {}", path.display(), saved.version);
    Ok(Some(saved.files.into_iter().map(|file| Source::new(file.name, file.text)).collect()))
}

/// Removes them: once a later configuration is saved, they must not be served any more.
pub(super) fn remove(folder: &Path) {
    let path = folder.join(FILE);
    match fs::remove_file(&path) {
        Ok(()) => tracing::info!("removed {}: the configuration is saved in another form", path.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!("cannot remove {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use cardinal_testkit::TempDir;

    use super::*;

    #[test]
    fn texts_of_the_previous_version_are_read_and_removed() {
        let folder = TempDir::new("last-good");
        assert_eq!(load(folder.path()).unwrap(), None);
        folder.write(FILE, r#"{"version": 1, "files": [{"name": "a.yaml", "text": "x"}]}"#);
        assert_eq!(load(folder.path()).unwrap(), Some(vec![Source::new("a.yaml", "x")]));
        folder.write(FILE, "{");
        assert!(format!("{:#}", load(folder.path()).unwrap_err()).contains("is damaged"));
        folder.write(FILE, r#"{"version": 2, "files": []}"#);
        assert!(format!("{:#}", load(folder.path()).unwrap_err()).contains("unknown format version 2"));
        remove(folder.path());
        assert_eq!(load(folder.path()).unwrap(), None);
    }
}
