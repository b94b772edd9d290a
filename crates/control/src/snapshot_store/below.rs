//! [`Below`]: the contents of the store as what a batch is decided on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cardinal_kong::entities::Kind;
use cardinal_kong::{Entity, Registry};
use cardinal_store::{Key, NewDocument, OnDelete, Reference, Referrer, StoreError, Stored, Unique, View};
use serde_json::{Map, Value};

use super::contents::{Contents, member_id};
use crate::dao::document::{document, references};
use crate::dao::{DEFAULT_WORKSPACE, members};

/// What a batch is decided on.
pub(super) struct Below<'b> {
    pub(super) contents: Arc<Contents>,
    pub(super) registry: &'b Registry,
}

impl Below<'_> {
    fn document(&self, key: &Key) -> Option<Stored> {
        let contents = &self.contents;
        if &*key.kind == members::KIND {
            let member = contents.index.members.iter().find(|member| member_id(member) == *key.id)?;
            let (group, consumer) = member;
            let document = members::document(&DEFAULT_WORKSPACE.into(), &group.to_string(), &consumer.to_string());
            return Some(Stored { document: Box::new(document), revision: contents.revision });
        }
        let kind = self.registry.kind(&key.kind)?;
        let entity = contents.snapshot.get(kind.name, &key.id.parse().ok()?)?;
        Some(Stored { document: Box::new(self.form(kind, entity)?), revision: contents.revision })
    }

    fn form(&self, kind: &Kind, entity: Entity) -> Option<NewDocument> {
        let Value::Object(fields) = self.contents.document(kind, entity).value else { return None };
        let schema = self.registry.schema_of(kind, &fields).ok()?;
        Some(document(kind, schema, &DEFAULT_WORKSPACE.into(), fields))
    }

    fn referrers_of(&self, key: &Key) -> Vec<Referrer> {
        let mut out = Vec::new();
        let authorities = format!("ca_certificates/{}", key.id);
        for kind in self.registry.kinds() {
            let mut fields: Vec<&str> =
                kind.references().filter(|(_, target)| *target == &*key.kind).map(|(field, _)| field).collect();
            if &*key.kind == "ca_certificates" {
                fields.push(&authorities);
            }
            for field in fields {
                for id in self.contents.index.referrers(kind.name, field, key) {
                    let reference = self.reference(kind, id, field);
                    out.extend(
                        reference.map(|reference| Referrer { by: Key::new(kind.name, id.to_string()), reference }),
                    );
                }
            }
        }
        out.extend(self.members_of(key));
        out
    }

    fn reference(&self, kind: &Kind, id: &cardinal_ir::Id, field: &str) -> Option<Reference> {
        let value: Map<String, Value> = self.contents.snapshot.get(kind.name, id)?.value;
        references(kind, &value).into_iter().find(|reference| &*reference.field == field)
    }

    fn members_of(&self, key: &Key) -> Vec<Referrer> {
        let field = match &*key.kind {
            "consumers" => "consumer",
            "consumer_groups" => "consumer_group",
            _ => return Vec::new(),
        };
        let Ok(id) = key.id.parse::<cardinal_ir::Id>() else { return Vec::new() };
        let of = self
            .contents
            .index
            .members
            .iter()
            .filter(|(group, consumer)| *(if field == "consumer" { consumer } else { group }) == id);
        let referrer = |member| Referrer {
            by: Key::new(members::KIND, member_id(member)),
            reference: Reference { field: field.into(), to: key.clone(), on_delete: OnDelete::Cascade },
        };
        of.map(referrer).collect()
    }
}

impl View for Below<'_> {
    async fn revision(&mut self) -> Result<u64, StoreError> {
        Ok(self.contents.revision)
    }

    async fn stored(&mut self, keys: &[Key]) -> Result<HashMap<Key, Stored>, StoreError> {
        Ok(keys.iter().filter_map(|key| Some((key.clone(), self.document(key)?))).collect())
    }

    async fn existing(&mut self, keys: &[Key]) -> Result<HashSet<Key>, StoreError> {
        Ok(keys.iter().filter(|key| self.document(key).is_some()).cloned().collect())
    }

    async fn owners(&mut self, uniques: &[(Arc<str>, Unique)]) -> Result<Vec<Option<Key>>, StoreError> {
        let owner = |(kind, unique): &(Arc<str>, Unique)| {
            let id = self.contents.index.owner(kind, &unique.name, &unique.value)?;
            let key = Key::new(Arc::clone(kind), id.to_string());
            // Another value may have the same hash.
            let has = self.document(&key)?.document.uniques.contains(unique);
            has.then_some(key)
        };
        Ok(uniques.iter().map(owner).collect())
    }

    async fn referrers(&mut self, keys: &[Key]) -> Result<Vec<Referrer>, StoreError> {
        Ok(keys.iter().flat_map(|key| self.referrers_of(key)).collect())
    }
}
