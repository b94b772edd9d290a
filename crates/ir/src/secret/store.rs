//! [`Secrets`]: the secrets behind references.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Secret, SecretKey, SecretRef};
use crate::{Ir, Table};

/// The secrets to which the records of a generation refer. Clones share them.
///
/// It has no serial form and does not display its content. Code that sends or stores a generation handles the secrets
/// separately from the records, with [`Secrets::iter`].
#[derive(Clone, Default, PartialEq)]
pub struct Secrets(Table<Secret>);

/// A reference cannot be resolved: it is malformed, or the node does not have the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnresolvedSecret {
    /// The reference; `None` if it is malformed.
    pub reference: Option<SecretRef>,
    /// The position in a free-form value, dotted; empty for the value itself.
    pub path: String,
}

impl Secrets {
    /// Stores a secret, and returns its reference.
    pub fn add(&mut self, key: &SecretKey, secret: &str) -> SecretRef {
        let reference = key.reference(secret);
        if !self.0.contains(&reference.0) {
            self.0.insert(reference.0, Secret::from(secret));
        }
        reference
    }

    /// Stores a secret whose reference was derived elsewhere.
    pub fn insert(&mut self, reference: SecretRef, secret: Secret) {
        self.0.insert(reference.0, secret);
    }

    /// Adds the secrets of another store.
    pub fn merge(&mut self, other: &Self) {
        for change in &self.0.diff(&other.0) {
            if let Some(secret) = &change.new {
                self.0.insert_shared(change.id, Arc::clone(secret));
            }
        }
    }

    /// Removes a secret, and says whether it was there.
    pub fn remove(&mut self, reference: SecretRef) -> bool {
        self.0.remove(&reference.0).is_some()
    }

    /// What turns this store into a newer one: each secret that is new, and `None` for each that is gone. The cost depends on
    /// what they do not share.
    pub fn diff(&self, newer: &Self) -> Vec<(SecretRef, Option<Arc<Secret>>)> {
        self.0.diff(&newer.0).iter().map(|change| (SecretRef(change.id), change.new.clone())).collect()
    }

    /// Removes the secrets that no record refers to.
    pub fn retain_used(&mut self, ir: &Ir) {
        let mut used = HashSet::new();
        ir.secrets(&mut |reference| {
            used.insert(reference.0);
        });
        let kept = self.0.iter().filter(|(id, _)| used.contains(*id));
        let kept: Vec<_> = kept.map(|(id, secret)| (*id, Arc::clone(secret))).collect();
        if kept.len() < self.0.len() {
            self.0 = Table::from_shared(kept);
        }
    }

    /// The secret of a reference.
    pub fn get(&self, reference: SecretRef) -> Option<&Arc<Secret>> {
        self.0.get(&reference.0)
    }

    /// The secret of a reference.
    ///
    /// # Errors
    /// If the node does not have it.
    pub fn resolve(&self, reference: SecretRef) -> Result<&Arc<Secret>, UnresolvedSecret> {
        let unresolved = || UnresolvedSecret { reference: Some(reference), path: String::new() };
        self.get(reference).ok_or_else(unresolved)
    }

    /// The text itself, or the secret if it is a reference.
    ///
    /// # Errors
    /// If it is a reference that cannot be resolved.
    pub fn resolve_text<'t>(&'t self, text: &'t str) -> Result<&'t str, UnresolvedSecret> {
        if !SecretRef::is_meant_by(text) {
            return Ok(text);
        }
        let malformed = |_| UnresolvedSecret { reference: None, path: String::new() };
        Ok(self.resolve(text.parse().map_err(malformed)?)?.expose())
    }

    /// A free-form value with its references replaced by the secrets.
    ///
    /// # Errors
    /// The first unresolvable reference.
    pub fn resolve_value<'v>(&self, value: &'v Value) -> Result<Cow<'v, Value>, UnresolvedSecret> {
        if has_references(value) { self.resolved(value, "").map(Cow::Owned) } else { Ok(Cow::Borrowed(value)) }
    }

    fn resolved(&self, value: &Value, path: &str) -> Result<Value, UnresolvedSecret> {
        let below = |name: &dyn fmt::Display| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        match value {
            Value::String(text) => match self.resolve_text(text) {
                Ok(text) => Ok(text.into()),
                Err(unresolved) => Err(UnresolvedSecret { path: path.to_owned(), ..unresolved }),
            },
            Value::Array(list) => list.iter().zip(0..).map(|(v, n)| self.resolved(v, &below(&n))).collect(),
            Value::Object(map) => {
                let each = |(k, v): (&String, &Value)| Ok((k.clone(), self.resolved(v, &below(k))?));
                map.iter().map(each).collect::<Result<Map<_, _>, _>>().map(Value::Object)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
        }
    }

    /// All secrets with their references, ordered by reference.
    pub fn iter(&self) -> impl Iterator<Item = (SecretRef, &Secret)> {
        self.0.iter().map(|(id, secret)| (SecretRef(*id), &**secret))
    }

    /// The number of secrets.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no secrets.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.len())
    }
}

impl fmt::Display for UnresolvedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reference {
            Some(reference) => write!(f, "this node does not have {reference}"),
            None => f.write_str("the reference to a secret is not well-formed"),
        }
    }
}

impl std::error::Error for UnresolvedSecret {}

fn has_references(value: &Value) -> bool {
    match value {
        Value::String(text) => SecretRef::is_meant_by(text),
        Value::Array(list) => list.iter().any(has_references),
        Value::Object(map) => map.values().any(has_references),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Calls `visit` with each well-formed reference in a free-form value.
pub(crate) fn references_in(value: &Value, visit: &mut dyn FnMut(SecretRef)) {
    match value {
        Value::String(text) => {
            if let Ok(reference) = text.parse() {
                visit(reference);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| references_in(value, visit)),
        Value::Object(map) => map.values().for_each(|value| references_in(value, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
