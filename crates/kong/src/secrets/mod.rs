//! References to secrets: `{vault://<vault>/<resource>[/<key>][?option=value][#version]}`.
//!
//! A reference is resolved when a snapshot is lowered, from what was read beforehand: the environment, and the files
//! below one directory. What cannot be resolved becomes empty text and a diagnostic, as in Kong.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cardinal_base::descriptors;
use serde_json::Value;

use crate::entities::vaults;
use crate::settings::Choice;

/// Largest file of secrets, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most files read.
const FILES_MAX: usize = 10_000;

/// Where references are looked up.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Put in front of names of the environment where neither the reference nor the vault has a prefix.
    pub env_prefix: String,
    /// Contents of the files below `dir`, by path relative to it.
    pub files: BTreeMap<String, String>,
    /// The directory of the `file` vault.
    pub dir: Option<String>,
    /// Types of vaults that may be used.
    pub enabled: Choice,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// A vault entity, as far as references need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vault {
    /// `env` or `file`.
    pub(crate) kind: String,
    /// `config.prefix`.
    pub(crate) prefix: String,
}

/// A reference taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Reference<'t> {
    vault: &'t str,
    resource: &'t str,
    key: Option<&'t str>,
    prefix: Option<&'t str>,
}

impl Secrets {
    /// Reads the files of the `file` vault: a directory of files, or a single file. Hidden files are left out, as are
    /// files that are not UTF-8 or larger than 1 MiB.
    ///
    /// # Errors
    /// The directory cannot be read, or holds too many files.
    pub fn read_files(&mut self) -> std::io::Result<()> {
        self.files.clear();
        let Some(dir) = self.dir.clone() else { return Ok(()) };
        let mut open = vec![(std::path::PathBuf::from(dir), String::new())];
        while let Some((path, name)) = open.pop() {
            let meta = std::fs::metadata(&path)?;
            if meta.is_file() {
                if meta.len() <= FILE_BYTES_MAX {
                    match std::fs::read_to_string(&path) {
                        Ok(text) => drop(self.files.insert(name, text)),
                        // The secret is there; it must not be taken for one that is missing.
                        Err(error) if descriptors::is_transient(&error) => return Err(error),
                        Err(_) => {}
                    }
                }
                continue;
            }
            for entry in std::fs::read_dir(&path)? {
                let entry = entry?;
                let Ok(file) = entry.file_name().into_string() else { continue };
                if file.starts_with('.') {
                    continue;
                }
                let below = if name.is_empty() { file } else { format!("{name}/{file}") };
                open.push((entry.path(), below));
            }
            if open.len() + self.files.len() > FILES_MAX {
                return Err(std::io::Error::other(format!("more than {FILES_MAX} files")));
            }
        }
        Ok(())
    }

    /// The secret that a reference names. `vaults` are the entities, by prefix.
    pub(crate) fn resolve(&self, text: &str, vaults: &BTreeMap<String, Vault>) -> Result<String, String> {
        let reference = parse(text).ok_or("not a reference of the form {vault://<vault>/<resource>}")?;
        let by_type = Vault { kind: reference.vault.to_owned(), prefix: String::new() };
        let vault = vaults.get(reference.vault).unwrap_or(&by_type);
        if !self.enabled.takes(&vault.kind) {
            return Err(format!("vault '{}' is not installed", vault.kind));
        }
        let prefix = match reference.prefix {
            Some(prefix) => prefix,
            None if vault.kind == "env" && vault.prefix.is_empty() => &self.env_prefix,
            None => &vault.prefix,
        };
        let found = match vault.kind.as_str() {
            "env" => {
                let name = format!("{prefix}{}", reference.resource).to_ascii_uppercase().replace('-', "_");
                self.env.get(&name).cloned().ok_or_else(|| format!("the environment has no {name}"))
            }
            "file" => self.find_in_files(prefix, reference.resource),
            other if vaults::ENTERPRISE_TYPES.contains(&other) => {
                Err(format!("this version does not have the vault '{other}' of Kong Enterprise"))
            }
            other => Err(format!("there is no vault '{other}'")),
        }?;
        match reference.key {
            None => Ok(found),
            Some(key) => member(&found, key).ok_or_else(|| format!("the secret is not JSON with a text '{key}'")),
        }
    }

    fn find_in_files(&self, prefix: &str, resource: &str) -> Result<String, String> {
        let Some(dir) = &self.dir else { return Err("vault_file_dir is not set".to_owned()) };
        let prefix = prefix.trim_matches('/');
        let path = if prefix.is_empty() { resource.to_owned() } else { format!("{prefix}/{resource}") };
        if let Some(text) = self.files.get(&path) {
            return Ok(text.trim_end_matches(['\n', '\r']).to_owned());
        }
        // A single file, or one that the prefix names, holds secrets as JSON.
        let holder = self.files.get(prefix).or_else(|| self.files.get(&format!("{prefix}.json")));
        match holder.and_then(|text| member(text, resource)) {
            Some(text) => Ok(text),
            None => Err(format!("{dir} has no {path}")),
        }
    }
}

/// A text, or another plain value as text, in a JSON object.
fn member(json: &str, key: &str) -> Option<String> {
    match serde_json::from_str::<Value>(json).ok()?.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

fn parse(text: &str) -> Option<Reference<'_>> {
    let inner = text.strip_prefix("{vault://")?.strip_suffix('}')?;
    let inner = inner.split('#').next()?;
    let (path, query) = inner.split_once('?').unwrap_or((inner, ""));
    let (vault, rest) = path.split_once('/')?;
    let (resource, key) = match rest.split_once('/') {
        Some((resource, key)) => (resource, Some(key)),
        None => (rest, None),
    };
    if vault.is_empty() || resource.is_empty() || key == Some("") {
        return None;
    }
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix="));
    Some(Reference { vault, resource, key, prefix })
}
