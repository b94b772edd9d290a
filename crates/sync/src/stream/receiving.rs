//! [`Receiving`]: a generation of which not all parts have come.

use cardinal_ir::{Digest, Id, RecordKind, Secret, SecretRef};

use super::fingerprint::Fingerprint;
use super::held::Held;
use super::history::GenerationId;
use super::wire::{Part, Resource, Response, SECRET_TYPE, TYPE_PREFIX};

/// Why a part cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadPart {
    /// A message that no control plane sends.
    Malformed(&'static str),
    /// The generation is larger than this node allows.
    TooLarge,
}

/// A generation of which not all parts have come.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) id: GenerationId,
    pub(super) nonce: String,
    parts: u64,
    bytes: usize,
    held: Held,
    records: Fingerprint,
    secrets: Fingerprint,
}

impl Receiving {
    /// Begins with what the node has, or with nothing if the generation comes whole.
    pub(super) fn new(held: &Held, id: GenerationId, part: &Part, nonce: String) -> Self {
        let base = if part.whole { Held::default() } else { held.clone() };
        let (records, secrets) = base.id.map(|id| (id.records, id.secrets)).unwrap_or_default();
        Self { id, nonce, parts: 0, bytes: 0, held: base, records, secrets }
    }

    /// Whether a part is the next one of this generation.
    pub(super) fn is_next(&self, id: &GenerationId, part: &Part, nonce: &str) -> bool {
        self.id == *id && self.nonce == nonce && self.parts == part.index
    }

    /// Takes a part.
    pub(super) fn take(&mut self, response: Response, bytes_max: usize) -> Result<(), BadPart> {
        self.parts += 1;
        let type_name = response.type_url.strip_prefix(TYPE_PREFIX).unwrap_or(&response.type_url);
        for name in &response.removed_resources {
            match type_name {
                SECRET_TYPE => self.remove_secret(name)?,
                _ => self.remove(type_name, name)?,
            }
        }
        for resource in response.resources {
            // The struct and its texts, however short they are.
            self.bytes += 256 + resource.resource.as_ref().map_or(0, |any| any.value.len());
            if self.bytes > bytes_max {
                return Err(BadPart::TooLarge);
            }
            match type_name {
                SECRET_TYPE => self.put_secret(resource)?,
                _ => self.put(type_name, resource)?,
            }
        }
        Ok(())
    }

    /// What the node has then, if it is what was announced.
    pub(super) fn finish(self, with_secrets: bool) -> Option<Held> {
        let secrets = if with_secrets { self.secrets } else { self.id.secrets };
        let is_announced = self.records == self.id.records && secrets == self.id.secrets;
        // Where secrets are not subscribed to, the generation is known by its records.
        is_announced.then(|| Held { id: Some(self.id), ..self.held })
    }

    fn put(&mut self, type_name: &str, resource: Resource) -> Result<(), BadPart> {
        let id = record_id(&resource.name)?;
        let bytes = resource.resource.map(|any| any.value).unwrap_or_default();
        self.subtract(type_name, id);
        self.records.add(type_name, id, Digest::of_encoded(&bytes));
        // What this version of the program knows to restrict does so, whatever an older one says.
        let restricts = resource.restricts || RecordKind::of_type(type_name).is_some_and(crate::restricting::restricts);
        self.held.put(type_name, id, &bytes, restricts);
        Ok(())
    }

    fn remove(&mut self, type_name: &str, name: &str) -> Result<(), BadPart> {
        let id = record_id(name)?;
        self.subtract(type_name, id);
        self.held.remove(type_name, id);
        Ok(())
    }

    fn subtract(&mut self, type_name: &str, id: Id) {
        if let Some(version) = self.held.version(type_name, id) {
            self.records.subtract(type_name, id, version);
        }
    }

    fn put_secret(&mut self, resource: Resource) -> Result<(), BadPart> {
        let reference = secret_ref(&resource.name)?;
        let bytes = zeroize::Zeroizing::new(resource.resource.map(|any| any.value).unwrap_or_default());
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return Err(BadPart::Malformed("a secret that is no text"));
        };
        if self.held.secrets.get(reference).is_none() {
            self.secrets.add_secret(reference);
        }
        self.held.secrets.insert(reference, Secret::from(text));
        Ok(())
    }

    fn remove_secret(&mut self, name: &str) -> Result<(), BadPart> {
        let reference = secret_ref(name)?;
        if self.held.secrets.remove(reference) {
            self.secrets.subtract_secret(reference);
        }
        Ok(())
    }
}

fn record_id(name: &str) -> Result<Id, BadPart> {
    Id::parse_str(name).map_err(|_| BadPart::Malformed("a record without an id"))
}

fn secret_ref(name: &str) -> Result<SecretRef, BadPart> {
    name.parse().map_err(|_| BadPart::Malformed("a secret without a reference"))
}
