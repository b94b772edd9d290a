//! Texts that are generated once for a data directory and outlive the process.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The text in this file. It is generated if there is none, or one that is not sound.
///
/// # Errors
/// When the file cannot be read or written.
pub(super) fn find(path: &Path, is_sound: fn(&str) -> bool, generate: fn() -> String) -> Result<String> {
    match read(path, is_sound)? {
        Some(Ok(text)) => Ok(text),
        Some(Err(())) => {
            tracing::warn!("{} is damaged and is replaced", path.display());
            let text = generate();
            let draft = write_draft(path, &text)?;
            fs::rename(&draft, path).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(text)
        }
        None => create(path, is_sound, generate()),
    }
}

/// The text in the file, an error if it is not sound, and `None` without a file.
fn read(path: &Path, is_sound: fn(&str) -> bool) -> Result<Option<Result<String, ()>>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Some(text.trim()).filter(|text| is_sound(text)).map(str::to_owned).ok_or(()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(Some(Err(()))),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Makes the file. Of several processes that do so at once, one wins; all get its text.
fn create(path: &Path, is_sound: fn(&str) -> bool, text: String) -> Result<String> {
    let draft = write_draft(path, &text)?;
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
    match read(path, is_sound)? {
        Some(Ok(text)) => Ok(text),
        _ => Ok(text),
    }
}

/// Writes the text to a temporary file.
fn write_draft(path: &Path, text: &str) -> Result<PathBuf> {
    let draft = path.with_extension(format!("{}-{}", std::process::id(), cardinal_base::random_id().simple()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(format!("{text}\n").as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(draft)
}
