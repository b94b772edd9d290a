//! [`Transfer`]: the parts of one generation, made one by one as the connection takes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cardinal_ir::{Digest, Id, RecordKind, SecretRef};
use prost::Message as _;

use super::history::Published;
use super::wire::{AnyValue, Part, Resource, Response, SECRET_TYPE, type_url};
use crate::restricting;

/// What a data plane has, by type and id.
#[derive(Debug, Default)]
pub(super) struct HeldRecords {
    pub(super) records: BTreeMap<(Box<str>, Id), Digest>,
    pub(super) secrets: Vec<SecretRef>,
}

/// What a transfer starts from.
#[derive(Debug)]
pub(super) enum Base {
    /// Nothing.
    Nothing,
    /// A generation that the control plane knows.
    Generation(Arc<Published>),
    /// What the data plane has listed.
    Listed(HeldRecords),
}

/// One thing to send.
#[derive(Debug)]
enum Item {
    /// A record: new, changed or gone.
    Record(RecordKind, Id),
    /// A record of a type that this version of the program does not know; it is gone.
    Unknown(Box<str>, Id),
    /// A secret that is new, or gone.
    Secret(SecretRef),
}

/// The parts of one generation.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) target: Arc<Published>,
    pub(super) nonce: String,
    whole: bool,
    items: Vec<Item>,
    at: usize,
    part: u64,
    is_done: bool,
}

impl Transfer {
    /// From `base` to `target`. Without `secrets`, none is sent.
    pub(super) fn new(base: &Base, target: Arc<Published>, secrets: bool, nonce: String) -> Self {
        let mut items = Vec::new();
        match base {
            Base::Nothing => target.versions().iter().for_each(|(kind, id, _)| items.push(Item::Record(*kind, *id))),
            Base::Generation(base) => {
                base.ir.diff(&target.ir).for_each_id(|kind, id| items.push(Item::Record(kind, id)));
            }
            Base::Listed(held) => compare(held, &target, &mut items),
        }
        if secrets {
            items.extend(secret_items(base, &target));
        }
        let whole = matches!(base, Base::Nothing);
        Self { target, nonce, whole, items, at: 0, part: 0, is_done: false }
    }

    /// Whether all parts were made.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// The next part: records of one type, about `bytes_max` of them.
    pub(super) fn next_part(&mut self, bytes_max: usize) -> Response {
        let mut response = Response { nonce: self.nonce.clone(), newest: self.target.id.number, ..Response::default() };
        let (mut size, mut of_type) = (0, None);
        while let Some(item) = self.items.get(self.at) {
            let name = item.type_name();
            if size >= bytes_max || of_type.is_some_and(|known| known != name) {
                break;
            }
            size += item.write(&self.target, &mut response);
            of_type = Some(name);
            self.at += 1;
        }
        response.type_url = of_type.map(type_url).unwrap_or_default();
        self.is_done = self.at == self.items.len();
        response.part = Some(Part {
            generation: Some(self.target.id.to_wire()),
            index: self.part,
            last: self.is_done,
            whole: self.whole,
        });
        self.part += 1;
        response
    }
}

impl Item {
    fn type_name(&self) -> &str {
        match self {
            Self::Record(kind, _) => kind.type_name(),
            Self::Unknown(name, _) => name,
            Self::Secret(_) => SECRET_TYPE,
        }
    }

    /// Adds it to a response, and gives its size.
    fn write(&self, target: &Published, response: &mut Response) -> usize {
        let removed = |name: String, response: &mut Response| {
            let size = name.len() + 2;
            response.removed_resources.push(name);
            size
        };
        let (name, version, value, restricts) = match self {
            Self::Unknown(_, id) => return removed(id.to_string(), response),
            Self::Record(kind, id) => {
                // A record that has no binary form does not exist.
                let Some(value) = target.ir.get(*kind, id).and_then(|record| record.encode().ok()) else {
                    return removed(id.to_string(), response);
                };
                (id.to_string(), Digest::of_encoded(&value).to_string(), value, restricting::restricts(*kind))
            }
            Self::Secret(reference) => match target.secrets.get(*reference) {
                None => return removed(reference.to_string(), response),
                Some(secret) => (reference.to_string(), String::new(), secret.expose().as_bytes().to_vec(), false),
            },
        };
        let resource = Some(AnyValue { type_url: String::new(), value });
        let resource = Resource { version, resource, name, restricts };
        let size = resource.encoded_len();
        response.resources.push(resource);
        size
    }
}

/// What differs between what a data plane has and a generation; both in the order of types and ids.
fn compare(held: &HeldRecords, target: &Published, items: &mut Vec<Item>) {
    for (kind, id, version) in target.versions() {
        // The map is asked by a key of its own type.
        let key = (Box::from(kind.type_name()), *id);
        if held.records.get(&key) != Some(version) {
            items.push(Item::Record(*kind, *id));
        }
    }
    for (type_name, id) in held.records.keys() {
        match RecordKind::of_type(type_name) {
            None => items.push(Item::Unknown(type_name.clone(), *id)),
            Some(kind) if !target.ir.contains(kind, id) => items.push(Item::Record(kind, *id)),
            Some(_) => {}
        }
    }
}

fn secret_items(base: &Base, target: &Published) -> Vec<Item> {
    let mut items: Vec<Item> = match base {
        Base::Nothing => target.secrets.iter().map(|(reference, _)| Item::Secret(reference)).collect(),
        Base::Generation(base) => {
            base.secrets.diff(&target.secrets).iter().map(|(reference, _)| Item::Secret(*reference)).collect()
        }
        Base::Listed(held) => {
            let mut known = held.secrets.clone();
            known.sort_unstable();
            let new = target.secrets.iter().map(|(reference, _)| reference);
            let new = new.filter(|reference| known.binary_search(reference).is_err());
            new.map(Item::Secret).collect()
        }
    };
    if let Base::Listed(held) = base {
        let gone = held.secrets.iter().filter(|reference| target.secrets.get(**reference).is_none());
        items.extend(gone.map(|reference| Item::Secret(*reference)));
    }
    items
}
