//! [`History`]: the generations that a control plane has published lately.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use cardinal_ir::{Digest, Id, Ir, RecordKind, Secrets};

use serde_json::{Value, json};

use super::fingerprint::{Fingerprint, each_version};
use super::wire::WireGeneration;

/// Generations that are kept, so that a data plane which has one of them catches up by their difference.
const KEPT_MAX: usize = 256;
/// Records that kept generations may differ in, however small the newest one is.
const CHANGED_MAX_LEAST: usize = 4_096;

/// Names a generation, and says what it consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationId {
    /// What its number counts in: a store, or the life of a process that has none. Numbers of one history only grow.
    pub history: Id,
    /// Its number.
    pub number: u64,
    /// Fingerprint of the records.
    pub records: Fingerprint,
    /// Fingerprint of the secrets.
    pub secrets: Fingerprint,
}

impl GenerationId {
    /// Whether both have the same records and secrets.
    pub fn has_content_of(&self, other: &Self) -> bool {
        self.records == other.records && self.secrets == other.secrets
    }

    /// As JSON, for [`LastGood`](crate::LastGood).
    pub fn to_json(self) -> Value {
        json!({
            "history": self.history.to_string(),
            "number": self.number,
            "records": self.records.to_string(),
            "secrets": self.secrets.to_string(),
        })
    }

    /// From its JSON.
    pub fn of_json(value: &Value) -> Option<Self> {
        Some(Self {
            history: Id::parse_str(value.get("history")?.as_str()?).ok()?,
            number: value.get("number")?.as_u64()?,
            records: value.get("records")?.as_str()?.parse().ok()?,
            secrets: value.get("secrets")?.as_str()?.parse().ok()?,
        })
    }

    pub(super) fn to_wire(self) -> WireGeneration {
        WireGeneration {
            history: self.history.as_bytes().to_vec(),
            number: self.number,
            records: self.records.to_bytes().to_vec(),
            secrets: self.secrets.to_bytes().to_vec(),
        }
    }

    pub(super) fn of_wire(wire: &WireGeneration) -> Option<Self> {
        Some(Self {
            history: Id::from_slice(&wire.history).ok()?,
            number: wire.number,
            records: Fingerprint::from_bytes(&wire.records)?,
            secrets: Fingerprint::from_bytes(&wire.secrets)?,
        })
    }
}

/// A generation that was published.
#[derive(Debug)]
pub struct Published {
    /// Its name.
    pub id: GenerationId,
    /// Its records.
    pub ir: Arc<Ir>,
    /// Its secrets.
    pub secrets: Secrets,
    /// Records that differ from the generation before.
    changed: usize,
    versions: OnceLock<Vec<(RecordKind, Id, Digest)>>,
}

impl Published {
    /// Kind, id and version of each record, in this order. Computed once.
    pub(super) fn versions(&self) -> &[(RecordKind, Id, Digest)] {
        self.versions.get_or_init(|| {
            let mut versions = Vec::with_capacity(self.ir.len());
            each_version(&self.ir, &mut |kind, id, version| versions.push((kind, id, version)));
            versions
        })
    }
}

/// The generations that a control plane has published lately.
///
/// It keeps the newest one, and older ones as long as these do not differ in more records than the newest one has: its
/// memory is limited by about twice the size of a generation.
#[derive(Debug)]
pub struct History {
    id: Id,
    kept: VecDeque<Arc<Published>>,
}

/// A generation whose number is not higher than that of the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("generation {number} is not newer than generation {newest}, which was published before")]
pub struct Outdated {
    /// Its number.
    pub number: u64,
    /// That of the newest one.
    pub newest: u64,
}

impl History {
    /// Without generations. The id belongs to the store, so that control planes with one store have the same.
    pub fn new(id: Id) -> Self {
        Self { id, kept: VecDeque::new() }
    }

    /// Its id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The newest generation.
    pub fn newest(&self) -> Option<&Arc<Published>> {
        self.kept.back()
    }

    /// A generation with the same records and secrets.
    pub fn find(&self, id: &GenerationId) -> Option<&Arc<Published>> {
        self.kept.iter().rev().find(|kept| kept.id.has_content_of(id))
    }

    /// The generation of this number.
    pub fn numbered(&self, number: u64) -> Option<&Arc<Published>> {
        self.kept.iter().rev().find(|kept| kept.id.number == number)
    }

    /// A generation with the same records, whatever the secrets.
    pub(super) fn find_records(&self, records: Fingerprint) -> Option<&Arc<Published>> {
        self.kept.iter().rev().find(|kept| kept.id.records == records)
    }

    /// Adds a generation. The secrets are those that its records refer to. Records that equal those of the generation before
    /// become the same allocation; where they are already, the cost depends on what changes.
    ///
    /// # Errors
    /// When the number is not higher than that of the newest generation.
    pub fn publish(&mut self, ir: &Arc<Ir>, secrets: Secrets, number: u64) -> Result<Arc<Published>, Outdated> {
        let published = match self.newest() {
            Some(newest) if newest.id.number >= number => {
                return Err(Outdated { number, newest: newest.id.number });
            }
            Some(newest) => Arc::new(following(newest, ir, secrets, number)),
            None => Arc::new(first(self.id, ir, secrets, number)),
        };
        self.kept.push_back(Arc::clone(&published));
        self.forget();
        Ok(published)
    }

    fn forget(&mut self) {
        let changed_max = self.newest().map_or(0, |newest| newest.ir.len()).max(CHANGED_MAX_LEAST);
        // What the first one of them differs in is no longer there.
        let mut changed: usize = self.kept.iter().skip(1).map(|kept| kept.changed).sum();
        while self.kept.len() > KEPT_MAX || (changed > changed_max && self.kept.len() > 1) {
            self.kept.pop_front();
            changed -= self.kept.front().map_or(0, |first| first.changed);
        }
    }
}

fn first(history: Id, ir: &Arc<Ir>, secrets: Secrets, number: u64) -> Published {
    let mut sum = Fingerprint::default();
    secrets.iter().for_each(|(reference, _)| sum.add_secret(reference));
    let id = GenerationId { history, number, records: Fingerprint::of(ir), secrets: sum };
    Published { id, changed: ir.len(), ir: Arc::clone(ir), secrets, versions: OnceLock::new() }
}

fn following(before: &Published, ir: &Ir, secrets: Secrets, number: u64) -> Published {
    let mut next = Ir::clone(&before.ir);
    let delta = next.apply(before.ir.diff(ir));
    let mut id = GenerationId { number, ..before.id };
    delta.for_each_id(|kind, record| {
        if let Some(old) = before.ir.get(kind, &record) {
            id.records.subtract(kind.type_name(), record, old.digest());
        }
        if let Some(new) = next.get(kind, &record) {
            id.records.add(kind.type_name(), record, new.digest());
        }
    });
    let changed_secrets = before.secrets.diff(&secrets);
    for (reference, new) in &changed_secrets {
        match new {
            // A reference stands for one secret: it was not there before.
            Some(_) if before.secrets.get(*reference).is_some() => {}
            Some(_) => id.secrets.add_secret(*reference),
            None => id.secrets.subtract_secret(*reference),
        }
    }
    let changed = delta.len() + changed_secrets.len();
    Published { id, ir: Arc::new(next), secrets, changed, versions: OnceLock::new() }
}

#[cfg(test)]
mod tests {
    use cardinal_ir::{PrincipalGroup, SecretKey};

    use super::*;

    fn ir(size: u128, name: &str) -> Arc<Ir> {
        let mut ir = Ir::default();
        for number in 0..size {
            let group = PrincipalGroup { name: name.into(), ..PrincipalGroup::default() };
            ir.groups.insert(Id::from_u128(number), group);
        }
        Arc::new(ir)
    }

    #[test]
    fn generations_are_known_by_their_content() {
        let mut history = History::new(Id::from_u128(7));
        let mut secrets = Secrets::default();
        secrets.add(&SecretKey::default(), "a");
        let one = history.publish(&ir(3, "a"), secrets.clone(), 4).unwrap().id;
        secrets.add(&SecretKey::default(), "b");
        let two = history.publish(&ir(2, "b"), secrets.clone(), 6).unwrap().id;
        assert_eq!(history.find(&one).unwrap().id, one);
        assert!(!one.has_content_of(&two));
        assert_eq!(history.publish(&ir(1, "a"), secrets.clone(), 6).unwrap_err(), Outdated { number: 6, newest: 6 });
        // As a process would that starts with it.
        let mut other = History::new(Id::from_u128(8));
        let same = other.publish(&ir(2, "b"), secrets, 1).unwrap().id;
        assert!(same.has_content_of(&two) && same != two);
        assert_eq!(GenerationId::of_wire(&two.to_wire()), Some(two));
        assert_eq!(GenerationId::of_json(&two.to_json()), Some(two));
        assert_eq!(GenerationId::of_json(&json!({"history": "x"})), None);
    }

    #[test]
    fn old_generations_are_forgotten() {
        let mut history = History::new(Id::nil());
        for number in 1..=1_000 {
            history.publish(&ir(3, &number.to_string()), Secrets::default(), number).unwrap();
        }
        assert_eq!(history.kept.len(), KEPT_MAX);
        for number in 1_001..=1_010 {
            history.publish(&ir(3_000, &number.to_string()), Secrets::default(), number).unwrap();
        }
        assert_eq!(history.kept.len(), 2, "two differ in 3000 records, three in 6000");
    }
}
