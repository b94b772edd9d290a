//! [`Contents`]: the entities of a configuration with an index, as documents.

use std::collections::HashMap;
use std::sync::Arc;

use cardinal_ir::Id;
use cardinal_kong::declarative::Change;
use cardinal_kong::entities::Kind;
use cardinal_kong::{Entity, Registry, Snapshot};
use cardinal_store::{Document, Key, Page, Query, TagFilter};
use serde_json::Value;

use super::index::Index;
use crate::dao::document::space;
use crate::dao::{DEFAULT_WORKSPACE, members};

/// The entities of a configuration.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) index: Index,
    pub(super) revision: u64,
    /// Times of creation and change of what was written here, which the files do not have.
    pub(super) times: Arc<Times>,
}

/// `created_at` and `updated_at`, by kind and id.
pub(super) type Times = HashMap<Key, [Value; 2]>;

impl Contents {
    pub(super) fn document(&self, kind: &Kind, entity: Entity) -> Document {
        let tags = entity.texts("tags").map(Into::into).collect();
        let mut value = entity.value;
        if kind.name == "certificates" {
            // They are entities of their own.
            value.shift_remove("snis");
        }
        let (key, space) = (Key::new(kind.name, entity.id.to_string()), space(kind, &DEFAULT_WORKSPACE.into()));
        for (name, time) in ["created_at", "updated_at"].iter().zip(self.times.get(&key).into_iter().flatten()) {
            if let Some(field) = value.get_mut(*name) {
                field.clone_from(time);
            }
        }
        Document { key, space, value: Value::Object(value), revision: self.revision, tags }
    }

    pub(super) fn membership(&self, member: &(Id, Id)) -> Document {
        let (group, consumer) = member;
        let value = members::value(&group.to_string(), &consumer.to_string());
        let key = Key::new(members::KIND, member_id(member));
        Document { key, space: DEFAULT_WORKSPACE.into(), value, revision: self.revision, tags: Vec::new() }
    }

    pub(super) fn members(&self, query: &Query) -> Page {
        let leads = |member: &&(Id, Id)| match &query.reference {
            None => true,
            Some((field, to)) => {
                let own = if &**field == "consumer" { member.1 } else { member.0 };
                to.id.parse() == Ok(own)
            }
        };
        let is_after = |member: &&(Id, Id)| query.after.as_ref().is_none_or(|after| *member_id(member) > **after);
        let mut matching = self.index.members.iter().filter(leads).filter(is_after);
        let taken = matching.by_ref().take(page_size(query));
        let documents: Vec<Document> = taken.map(|member| self.membership(member)).collect();
        let next = matching.next().and_then(|_| documents.last().map(|document| document.key.id.clone()));
        Page { documents, next }
    }

    pub(super) fn all(&self, registry: &Registry) -> Vec<Document> {
        let entities = registry.kinds().flat_map(|kind| self.snapshot.of(kind.name).map(move |entity| (kind, entity)));
        let entities = entities.map(|(kind, entity)| self.document(kind, entity));
        let mut all: Vec<Document> =
            entities.chain(self.index.members.iter().map(|member| self.membership(member))).collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }
}

pub(super) fn member_id((group, consumer): &(Id, Id)) -> String {
    members::id(&group.to_string(), &consumer.to_string())
}

pub(super) fn page_size(query: &Query) -> usize {
    query.limit.clamp(1, Query::LIMIT_MAX)
}

pub(super) fn has_tags(entity: &Entity, filter: &TagFilter) -> bool {
    let has = |tag: &Arc<str>| entity.texts("tags").any(|own| own == &**tag);
    match filter {
        TagFilter::None => true,
        TagFilter::All(tags) => tags.iter().all(has),
        TagFilter::Any(tags) => tags.iter().any(has),
    }
}

/// Notes the times of changed entities.
pub(super) fn note_times(times: &mut Times, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put { kind, id, value } => {
                let of = |name: &str| value.get(name).cloned().unwrap_or(Value::Null);
                times.insert(Key::new(*kind, id.to_string()), ["created_at", "updated_at"].map(of));
            }
            Change::Delete { kind, id } => drop(times.remove(&Key::new(*kind, id.to_string()))),
            Change::Join { .. } | Change::Leave { .. } => {}
        }
    }
}
