//! [`Held`]: what a data plane has, in the form in which changes are applied to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cardinal_ir::{Digest, Id, Ir, Record, RecordKind, Secrets};

use super::fingerprint::{Fingerprint, each_version};
use super::history::GenerationId;
use super::report::Rejection;
use super::wire::{HeldVersions, PART_BYTES, SECRET_TYPE};

/// Records whose bytes on this node are not those of the control plane, by type and id.
pub(super) type Foreign = BTreeMap<(Box<str>, Id), ForeignRecord>;

/// A record whose bytes on this node are not those of the control plane: that has another version of the program.
#[derive(Clone, Debug)]
pub(super) struct ForeignRecord {
    /// The hash of its bytes on the control plane.
    pub(super) version: Digest,
    /// Why it cannot be read; `None` if only fields are unknown.
    pub(super) problem: Option<Box<str>>,
    /// It cannot be left out.
    pub(super) restricts: bool,
}

/// What a data plane has received.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// The generation; `None` before the first one.
    pub(super) id: Option<GenerationId>,
    pub(super) ir: Ir,
    pub(super) secrets: Secrets,
    pub(super) foreign: Foreign,
}

/// Records and secrets that can be served.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) ir: Arc<Ir>,
    /// Records that are left out.
    pub(super) left_out: Vec<Rejection>,
}

impl Held {
    /// What was saved: the records, the secrets, and the generation that they belong to. `is_exact`: the records are, byte for
    /// byte, all those of it.
    pub fn restored(ir: &Ir, secrets: Secrets, generation: GenerationId, is_exact: bool) -> Self {
        let mut id = GenerationId { secrets: Fingerprint::default(), ..generation };
        // Secrets that no record refers to are not saved.
        secrets.iter().for_each(|(reference, _)| id.secrets.add_secret(reference));
        if !is_exact {
            id.records = Fingerprint::of(ir);
        }
        Self { id: Some(id), ir: ir.clone(), secrets, foreign: Foreign::new() }
    }

    /// The generation.
    pub fn generation(&self) -> Option<GenerationId> {
        self.id
    }

    /// The version of a record, as the control plane knows it.
    pub(super) fn version(&self, type_name: &str, id: Id) -> Option<Digest> {
        if !self.foreign.is_empty()
            && let Some(foreign) = self.foreign.get(&(Box::from(type_name), id))
        {
            return Some(foreign.version);
        }
        self.ir.get(RecordKind::of_type(type_name)?, &id).map(|record| record.digest())
    }

    /// Takes out a record.
    pub(super) fn remove(&mut self, type_name: &str, id: Id) {
        if !self.foreign.is_empty() {
            self.foreign.remove(&(Box::from(type_name), id));
        }
        if let Some(kind) = RecordKind::of_type(type_name) {
            self.ir.remove(kind, &id);
        }
    }

    /// Adds a record in its binary form, whose hash is `version`.
    pub(super) fn put(&mut self, type_name: &str, id: Id, bytes: &[u8], restricts: bool) {
        self.remove(type_name, id);
        let version = Digest::of_encoded(bytes);
        let read = match RecordKind::of_type(type_name) {
            None => Err(format!("this version of the program has no records of the type {type_name:?}")),
            Some(kind) => Record::decode(kind, bytes).map_err(|error| error.to_string()),
        };
        let problem = match read {
            Ok(record) => {
                let is_same = record.digest() == version;
                self.ir.insert(id, record);
                if is_same {
                    return;
                }
                None
            }
            Err(problem) => Some(problem.into()),
        };
        self.foreign.insert((type_name.into(), id), ForeignRecord { version, problem, restricts });
    }

    /// What can be served of it.
    ///
    /// # Errors
    /// All records that are left out, if one of them restricts access.
    pub(super) fn view(&self) -> Result<View, Vec<Rejection>> {
        let unread: Vec<_> = self.foreign.iter().filter_map(|(key, f)| Some((key, f, f.problem.as_deref()?))).collect();
        let mut left_out: Vec<Rejection> = unread
            .iter()
            .map(|((type_name, id), _, problem)| Rejection {
                type_name: type_name.to_string(),
                name: id.to_string(),
                reason: (*problem).to_owned(),
                is_inexpressible: true,
            })
            .collect();
        if unread.iter().any(|(_, foreign, _)| foreign.restricts) {
            return Err(left_out);
        }
        let mut ir = self.ir.clone();
        if !left_out.is_empty() {
            let removed = ir.remove_dangling();
            let lost = crate::restricting::lost_policy(&self.ir.policies, &ir, &removed);
            left_out.extend(removed.into_iter().map(|rejected| Rejection {
                type_name: rejected.kind.type_name().to_owned(),
                name: rejected.id,
                reason: rejected.reason,
                is_inexpressible: true,
            }));
            if lost.is_some() {
                return Err(left_out);
            }
        }
        Ok(View { ir: Arc::new(ir), left_out })
    }

    /// Whether its records are byte for byte those of the control plane.
    pub(super) fn is_exact(&self) -> bool {
        self.foreign.is_empty()
    }

    /// The list of its versions, in messages of limited size.
    pub(super) fn listed(&self, secrets: bool) -> Vec<HeldVersions> {
        let mut list = Lists::default();
        each_version(&self.ir, &mut |kind, id, version| {
            // Foreign records follow.
            if self.foreign.is_empty() || !self.foreign.contains_key(&(Box::from(kind.type_name()), id)) {
                list.add(kind.type_name(), id, Some(version));
            }
        });
        for ((type_name, id), foreign) in &self.foreign {
            list.add(type_name, *id, Some(foreign.version));
        }
        if secrets {
            for (reference, _) in self.secrets.iter() {
                let text = reference.to_string();
                let id = text.strip_prefix("secret:").and_then(|digits| Id::parse_str(digits).ok());
                id.into_iter().for_each(|id| list.add(SECRET_TYPE, id, None));
            }
        }
        list.0.push(HeldVersions { last: true, ..HeldVersions::default() });
        list.0
    }
}

#[derive(Default)]
struct Lists(Vec<HeldVersions>);

impl Lists {
    fn add(&mut self, type_name: &str, id: Id, version: Option<Digest>) {
        let fits = |list: &&mut HeldVersions| list.type_name == type_name && list.packed.len() < PART_BYTES;
        let list = match self.0.last_mut().filter(fits) {
            Some(list) => list,
            None => {
                self.0.push(HeldVersions { type_name: type_name.to_owned(), ..HeldVersions::default() });
                let Some(list) = self.0.last_mut() else { return };
                list
            }
        };
        list.packed.extend_from_slice(id.as_bytes());
        list.packed.extend(version.iter().flat_map(Digest::as_bytes));
    }
}
