//! Entities of the store that are not served, as users see them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cardinal_base::UnixMillis;
use cardinal_ir::{Diagnostic, Id};

/// An entity that is valid by itself and cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The kind: `plugins`.
    pub kind: Arc<str>,
    /// The id.
    pub id: Id,
    /// The user's name for it.
    pub name: Option<Box<str>>,
    /// Why it cannot be served.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<Box<str>>,
    /// Since when this is the reason.
    pub since: UnixMillis,
    /// The revision that this was found at.
    pub revision: u64,
}

/// The entities that are not served, by kind and id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quarantine(BTreeMap<(Arc<str>, Id), Quarantined>);

impl Quarantine {
    /// Replaces the list by the entities of these errors. Those with the same reason as before stay as they are.
    pub(crate) fn update<'d>(
        &mut self,
        errors: impl IntoIterator<Item = &'d Diagnostic>,
        now: UnixMillis,
        revision: u64,
    ) {
        let old = std::mem::take(&mut self.0);
        for error in errors {
            let key = (Arc::from(error.origin.kind()), error.origin.id);
            // The first error of an entity is its reason.
            if self.0.contains_key(&key) {
                continue;
            }
            let known = old.get(&key).filter(|known| known.reason == error.message).cloned();
            let entity = known.unwrap_or_else(|| Quarantined {
                kind: Arc::clone(&key.0),
                id: key.1,
                name: error.origin.name.clone(),
                reason: error.message.clone(),
                hint: error.hint.as_deref().map(Into::into),
                since: now,
                revision,
            });
            self.0.insert(key, entity);
        }
    }

    /// All of them.
    pub(crate) fn list(&self) -> Vec<Quarantined> {
        self.0.values().cloned().collect()
    }

    /// The number of them by kind.
    pub(crate) fn kinds(&self) -> BTreeMap<Arc<str>, u64> {
        let mut kinds = BTreeMap::new();
        for (kind, _) in self.0.keys() {
            *kinds.entry(Arc::clone(kind)).or_default() += 1;
        }
        kinds
    }
}

#[cfg(test)]
mod tests {
    use cardinal_ir::{Code, Origin, Severity};

    use super::*;

    fn error(id: u128, message: &str) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code: Code::Unsupported,
            origin: Origin::new("kong", "plugins", Id::from_u128(id)),
            location: None,
            path: "config".to_owned(),
            message: message.to_owned(),
            hint: None,
        }
    }

    #[test]
    fn entities_keep_the_time_of_their_reason() {
        let mut quarantine = Quarantine::default();
        quarantine.update(&[error(1, "a"), error(2, "b"), error(2, "more")], UnixMillis(10), 3);
        quarantine.update(&[error(1, "a"), error(2, "c")], UnixMillis(20), 4);
        let found: Vec<_> =
            quarantine.list().into_iter().map(|entity| (entity.reason, entity.since.0, entity.revision)).collect();
        assert_eq!(found, [("a".to_owned(), 10, 3), ("c".to_owned(), 20, 4)]);
        assert_eq!(quarantine.kinds(), BTreeMap::from([(Arc::from("plugins"), 2)]));
        quarantine.update(&[], UnixMillis(30), 5);
        assert!(quarantine.list().is_empty());
    }
}
