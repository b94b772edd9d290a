//! The key of references to secrets when no setting gives one: generated once and kept in the data directory.

use std::path::Path;

use anyhow::Result;
use cardinal_ir::SecretKey;

use super::kept;

const FILE: &str = "secret-key";

/// The key of this data directory. The text in the file can be given to other nodes as the setting `secret_key`.
///
/// # Errors
/// When the data directory cannot be read or written.
pub(super) fn find(data_dir: &Path) -> Result<SecretKey> {
    let is_sound = |text: &str| text.len() >= 32;
    let generate = || format!("{}{}", cardinal_base::random_id().simple(), cardinal_base::random_id().simple());
    Ok(SecretKey::of_text(&kept::find(&data_dir.join(FILE), is_sound, generate)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use cardinal_testkit::TempDir;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_a_data_directory() {
        let (one, other) = (TempDir::new("secret-key"), TempDir::new("secret-key"));
        let key = find(one.path()).unwrap();
        assert_eq!(find(one.path()).unwrap(), key);
        assert_ne!(find(other.path()).unwrap(), key);
        let mode = std::fs::metadata(one.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // As the setting does.
        assert_eq!(SecretKey::of_text(one.read(FILE).trim()), key);
        one.write(FILE, "short");
        assert_ne!(find(one.path()).unwrap(), key, "a damaged file is replaced");
    }
}
