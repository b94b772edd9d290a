//! [`KeySource`]: where the key encryption key comes from.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::StoreError;

/// Bytes of a text that holds a key at most.
const TEXT_BYTES_MAX: u64 = 4096;
/// Bytes of a nonce, which comes before what is encrypted.
const NONCE_BYTES: usize = 12;

/// Where the key encryption key comes from. The key is 32 bytes, as 64 hexadecimal digits or in base64.
#[derive(Clone)]
pub enum KeySource {
    /// A file that only its owner can read.
    File {
        /// The file.
        path: PathBuf,
        /// Whether a key is made if there is no such file.
        create: bool,
    },
    /// The value of an environment variable, which the caller has read.
    Environment {
        /// The name of the variable, for messages.
        name: String,
        /// Its value.
        value: Zeroizing<String>,
    },
    /// What a program writes to its standard output. Its first element is the program.
    Command(Vec<String>),
}

/// What a store is opened with.
#[derive(Debug)]
pub enum StoreKey {
    /// Secrets are not encrypted.
    None,
    /// This key.
    Loaded(KeyEncryptionKey),
    /// The key that is there. It is read when it is known whether the store needs one: a key is never made for a store
    /// that has encrypted secrets.
    From(KeySource),
}

impl From<Option<KeyEncryptionKey>> for StoreKey {
    fn from(key: Option<KeyEncryptionKey>) -> Self {
        key.map_or(Self::None, Self::Loaded)
    }
}

impl StoreKey {
    /// The key, and the file if it was made now. `wrapped_by` is the id of the key that the store is encrypted with, if it
    /// is.
    pub(crate) async fn load(
        self,
        wrapped_by: Option<&str>,
    ) -> Result<(Option<KeyEncryptionKey>, Option<PathBuf>), StoreError> {
        let source = match self {
            Self::None => return Ok((None, None)),
            Self::Loaded(key) => return Ok((Some(key), None)),
            Self::From(source) => source,
        };
        match (source, wrapped_by) {
            (KeySource::File { path, .. }, Some(id)) if !path.exists() => Err(StoreError::Unavailable(format!(
                "the secrets are encrypted with key {id}, and {} does not exist: copy it from a node that uses this \
                 database, or from where it is kept beside backups",
                path.display()
            ))),
            (source, _) => source.load_or_make().await.map(|(key, made)| (Some(key), made)),
        }
    }
}

/// Without the key.
impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

impl KeySource {
    fn describe(&self) -> String {
        match self {
            Self::File { path, .. } => format!("the file {}", path.display()),
            Self::Environment { name, .. } => format!("the environment variable {name}"),
            Self::Command(words) => format!("the command {}", words.first().map_or("", String::as_str)),
        }
    }

    /// Reads the key.
    ///
    /// # Errors
    /// If it cannot be read, is no key, or if others can read the file.
    pub async fn load(self) -> Result<KeyEncryptionKey, StoreError> {
        Ok(self.load_or_make().await?.0)
    }

    /// The same, and the file if it was made now.
    async fn load_or_make(self) -> Result<(KeyEncryptionKey, Option<PathBuf>), StoreError> {
        // Files and programs may take their time.
        let loading = tokio::task::spawn_blocking(move || {
            let (text, made) = self.text()?;
            let source = self.describe();
            let wrong = || {
                StoreError::Unavailable(format!("{source} holds no key: expected 32 bytes, in hexadecimal or base64"))
            };
            let bytes = parse(&text).ok_or_else(wrong)?;
            Ok((KeyEncryptionKey::new(&bytes, source.clone()).ok_or_else(wrong)?, made))
        });
        loading.await.map_err(|_| StoreError::Unavailable("reading the encryption key failed".to_owned()))?
    }

    fn text(&self) -> Result<(Zeroizing<String>, Option<PathBuf>), StoreError> {
        let failed = |error: std::io::Error| {
            StoreError::Unavailable(format!("the encryption key cannot be read from {}: {error}", self.describe()))
        };
        match self {
            Self::Environment { value, .. } => Ok((value.clone(), None)),
            Self::File { path, create } => {
                let is_made = *create && !path.exists() && make(path).map_err(failed)?;
                let file = std::fs::File::open(path).map_err(failed)?;
                if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
                    let place = path.display();
                    return Err(StoreError::Unavailable(format!(
                        "{place} can be read by others: run chmod 600 {place}"
                    )));
                }
                Ok((limited(file).map_err(failed)?, is_made.then(|| path.clone())))
            }
            Self::Command(words) => Ok((run(words).map_err(failed)?, None)),
        }
    }
}

/// Writes a new key. If another process makes one at the same time, the first one stays, and this is `false`.
fn make(path: &Path) -> std::io::Result<bool> {
    let mut key = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *key).map_err(|_| std::io::Error::other("no randomness"))?;
    let text = Zeroizing::new(hex(&*key) + "\n");
    // Under another name first: no process reads half a key.
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&new, path);
    std::fs::remove_file(&new)?;
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn run(words: &[String]) -> std::io::Result<Zeroizing<String>> {
    let (program, arguments) = words.split_first().ok_or_else(|| std::io::Error::other("no command"))?;
    let mut child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let text = child.stdout.take().map(limited).transpose();
    let status = child.wait()?;
    if !status.success() {
        return Err(std::io::Error::other(format!("it ended with {status}")));
    }
    Ok(text?.unwrap_or_default())
}

fn limited(from: impl std::io::Read) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    from.take(TEXT_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.trim();
    let bytes = match text.len() {
        64 => (0..32).map(|n| u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()).collect::<Option<Vec<u8>>>()?,
        _ => BASE64_STANDARD.decode(text).ok()?,
    };
    Some(Zeroizing::new(bytes)).filter(|bytes| bytes.len() == 32)
}

/// A key of the operator, which encrypts data keys.
pub struct KeyEncryptionKey {
    /// Identifies the key in the database and in messages.
    id: String,
    source: String,
    key: RandomizedNonceKey,
}

impl std::fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyEncryptionKey").field("id", &self.id).field("source", &self.source).finish_non_exhaustive()
    }
}

impl KeyEncryptionKey {
    fn new(bytes: &[u8], source: String) -> Option<Self> {
        let digest = Sha256::new().chain_update(b"cardinal key encryption key").chain_update(bytes).finalize();
        let id = hex(digest.get(..8)?);
        Some(Self { id, source, key: RandomizedNonceKey::new(&AES_256_GCM, bytes).ok()? })
    }

    /// Identifies the key; it does not tell the key.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Encrypts another key.
    pub(crate) fn wrap(&self, bound_to: &[u8], key: &[u8]) -> Option<Vec<u8>> {
        encrypt(&self.key, bound_to, key.to_vec())
    }

    /// Decrypts another key.
    pub(crate) fn unwrap(&self, bound_to: &[u8], wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        decrypt(&self.key, bound_to, wrapped)
    }

    pub(super) fn cipher(&self) -> &RandomizedNonceKey {
        &self.key
    }
}

/// Encrypts: the nonce, then the ciphertext with its tag.
pub(super) fn encrypt(key: &RandomizedNonceKey, bound_to: &[u8], mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let nonce = key.seal_in_place_append_tag(Aad::from(bound_to), &mut bytes).ok()?;
    Some([nonce.as_ref().as_slice(), &bytes].concat())
}

pub(super) fn decrypt(key: &RandomizedNonceKey, bound_to: &[u8], bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
    let mut sealed = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let length = key.open_in_place(nonce, Aad::from(bound_to), &mut sealed).ok()?.len();
    sealed.truncate(length);
    Some(sealed)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
