//! Ids of entities that the file gives none: made from what identifies the entity, so that they are the same on every
//! load and every node. Kong: `generate_ids` of `kong/db/schema/others/declarative_config.lua`.

use std::collections::HashMap;

use cardinal_ir::Id;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::entities::Kind;

/// The root of all names.
const ENTITIES: Uuid = Uuid::from_u128(0xfd02_801f_0957_4a15_a55a_c8d9_606f_30b5);

/// The id of an entity of a kind with this key.
pub(super) fn id_of(kind: &str, key: &str) -> Uuid {
    let namespace = Uuid::new_v5(&ENTITIES, kind.as_bytes());
    Uuid::new_v5(&namespace, key.as_bytes())
}

/// The id that an entity has in a file that gives it none, if something identifies it there: its name, or its name within
/// the one entity that it references and is nested in.
pub fn usual_id(kind: &Kind, fields: &Map<String, Value>) -> Option<Id> {
    let given = |field: &str| fields.get(field)?.get("id")?.as_str();
    let references: Vec<(&str, &str)> =
        kind.references().filter_map(|(field, _)| Some((field, given(field)?))).collect();
    let parent = match references.as_slice() {
        [] => None,
        [(field, id)] => Some((*field, Some(*id))),
        _ => return None,
    };
    let is_own =
        |(name, value): &(&String, &Value)| !value.is_null() && !kind.references().any(|(field, _)| field == *name);
    let own = fields.iter().filter(is_own).map(|(name, value)| (name.clone(), value.clone())).collect();
    key_text(kind, &own, parent).map(|key| id_of(kind.name, &key))
}

/// The same for many entities: the part that a kind's ids share is made once.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(&'static str, Uuid)>);

impl Names {
    pub(super) fn id_of(&mut self, kind: &'static str, key: &str) -> Uuid {
        let namespace = match self.0.iter().find(|(name, _)| *name == kind) {
            Some((_, namespace)) => *namespace,
            None => {
                let made = Uuid::new_v5(&ENTITIES, kind.as_bytes());
                self.0.push((kind, made));
                made
            }
        };
        Uuid::new_v5(&namespace, key.as_bytes())
    }
}

/// Counts equal entities without a key, so that each gets an id of its own.
#[derive(Debug, Default)]
pub(super) struct Anonymous(HashMap<Uuid, u32>);

impl Anonymous {
    /// An id made from the contents. Kong draws a random one here; this one survives a reload.
    pub(super) fn id_of(&mut self, kind: &str, own: &Map<String, Value>, parent: Option<&str>) -> Uuid {
        let contents = Value::Object(own.clone()).to_string();
        let first = id_of(kind, &format!("anonymous:{}:{contents}", parent.unwrap_or_default()));
        let seen = self.0.entry(first).or_default();
        *seen += 1;
        if *seen == 1 { first } else { id_of(kind, &format!("anonymous:{first}:{seen}")) }
    }
}

/// What identifies an entity, as text; `None` when nothing does. The parent's id is `None` when nothing identifies the
/// parent.
pub(super) fn key_text(kind: &Kind, own: &Map<String, Value>, parent: Option<(&str, Option<&str>)>) -> Option<String> {
    if !kind.cache_key.is_empty() {
        return cache_key_text(kind, own, parent);
    }
    let key = kind.key?;
    let value = own.get(key.field)?.as_str()?;
    Some(value.to_owned())
}

fn cache_key_text(kind: &Kind, own: &Map<String, Value>, parent: Option<(&str, Option<&str>)>) -> Option<String> {
    let mut parts = vec![kind.name.to_owned(), "*".to_owned()];
    // Kong's open edition has no consumer groups: without one, the key is the same.
    let group = (kind.name == "plugins").then_some("consumer_group");
    let group = group.filter(|g| own.get(*g).is_some_and(Value::is_string) || parent.is_some_and(|(f, _)| f == *g));
    for name in kind.cache_key.iter().copied().chain(group) {
        let field = kind.schema.field(name)?;
        if field.auto {
            return None;
        }
        match own.get(name) {
            Some(Value::String(text)) => parts.push(text.clone()),
            // Neither text nor absent: Kong leaves the part out.
            Some(_) => {}
            None => match parent {
                Some((field, id)) if field == name => parts.push(id?.to_owned()),
                _ if field.is_required() => return None,
                _ => parts.push(String::new()),
            },
        }
    }
    Some(parts.join(":"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Source, load};
    use super::*;
    use crate::{Registry, Settings};

    #[test]
    fn the_usual_id_is_the_one_that_a_file_gives() {
        let text = "_format_version: '3.0'
services:
- name: s
  host: h.test
  routes:
  - name: r
    paths: [/]
upstreams:
- name: up
  targets:
  - target: 10.0.0.1:80
certificates: []
";
        let registry = Registry::new(&[]);
        let snapshot = load(&[Source::new("a.yaml", text)], &registry, &Settings::default()).unwrap();
        for kind in ["services", "routes", "upstreams", "targets"] {
            let entity = snapshot.of(kind).next().unwrap();
            assert_eq!(usual_id(registry.kind(kind).unwrap(), &entity.value), Some(entity.id), "{kind}");
        }
        let nameless = json!({ "name": null, "paths": ["/"] });
        assert_eq!(usual_id(registry.kind("routes").unwrap(), nameless.as_object().unwrap()), None);
    }
}
