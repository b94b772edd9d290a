//! Documents of the store that cannot be read: they are left out, and what one of them may have restricted is closed.

use std::collections::BTreeSet;

use cardinal_ir::{Code, Diagnostic, Origin, Severity};
use cardinal_kong::Registry;
use cardinal_store::{Contents, Document, Reference, StoreError, Unreadable};
use serde_json::{Map, Value, json};

use crate::dao::members;

const HINT: &str = "restore the database from a backup; if its secrets cannot be decrypted, set store_key to the key that \
                    they were encrypted with";

/// What a plugin applies to.
const SCOPE: [&str; 4] = ["route", "service", "consumer", "consumer_group"];
/// References without which an entity means nothing. A route without its service answers with 503, and so on.
const OWNERS: [&str; 6] = ["route", "consumer", "consumer_group", "upstream", "certificate", "set"];

/// Takes documents out that cannot be read, with those that mean nothing without them.
///
/// - A plugin has no name then, and refuses the requests that it applies to.
/// - Memberships of consumers in groups are known by their references.
/// - Consumers with something that may restrict them (a group, an ACL group) cannot authenticate.
///
/// # Errors
/// It is not known what a document restricts.
pub(crate) fn close_unreadable(registry: &Registry, contents: &mut Contents) -> Result<Vec<Diagnostic>, StoreError> {
    let (mut found, mut gone) = (Vec::new(), BTreeSet::new());
    let unreadable = std::mem::take(&mut contents.unreadable);
    for document in &unreadable {
        let Unreadable { key, space, references, why } = document;
        let unknown = || {
            StoreError::Corrupt(format!(
                "{why}, and it is not known which requests {key} restricts: the configuration is not loaded; {HINT}"
            ))
        };
        found.extend(diagnostic(document));
        if &*key.kind == members::KIND {
            let [group, consumer] =
                ["consumer_group", "consumer"].map(|field| referenced(references.as_deref(), field));
            let (group, consumer) = group.zip(consumer).ok_or_else(unknown)?;
            let (key, value) = (key.clone(), members::value(&group, &consumer));
            contents.documents.push(Document { key, space: space.clone(), value, revision: 0, tags: Vec::new() });
        } else if &*key.kind == "plugins" {
            let references = references.as_ref().ok_or_else(unknown)?;
            let scope = references
                .iter()
                .filter(|to| SCOPE.contains(&&*to.field))
                .map(|to| (to.field.to_string(), json!({ "id": &*to.to.id })));
            let mut value: Map<String, Value> = scope.collect();
            value.extend([("name".to_owned(), "".into()), ("enabled".to_owned(), true.into())]);
            let (key, space, value) = (key.clone(), space.clone(), Value::Object(value));
            contents.documents.push(Document { key, space, value, revision: 0, tags: Vec::new() });
        } else if let Some(kind) = registry.kind(&key.kind) {
            gone.insert(key.id.to_string());
            // Something that belongs to a consumer and does not authenticate, such as an ACL group.
            if kind.brought_by.is_some_and(|def| !def.unique) {
                gone.insert(referenced(references.as_deref(), "consumer").ok_or_else(unknown)?);
            }
        }
    }
    // Members of a group that may be restricted by it.
    let groups = |document: &&Document| &*document.key.kind == members::KIND;
    let of_groups = contents
        .documents
        .iter()
        .filter(groups)
        .filter(|member| id_of(&member.value, "consumer_group").is_some_and(|group| gone.contains(group)));
    let consumers: Vec<String> =
        of_groups.filter_map(|member| id_of(&member.value, "consumer")).map(str::to_owned).collect();
    gone.extend(consumers);
    remove(&mut contents.documents, gone);
    Ok(found)
}

/// Removes documents, and those that mean nothing without them.
fn remove(documents: &mut Vec<Document>, mut gone: BTreeSet<String>) {
    while !gone.is_empty() {
        let mut next = BTreeSet::new();
        documents.retain(|document| {
            let is_gone = gone.contains(&*document.key.id)
                || gone.contains(&*document.space)
                || OWNERS.iter().any(|field| id_of(&document.value, field).is_some_and(|id| gone.contains(id)));
            if is_gone && !gone.contains(&*document.key.id) {
                next.insert(document.key.id.to_string());
            }
            !is_gone
        });
        gone = next;
    }
}

fn id_of<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    value.get(field)?.get("id")?.as_str()
}

fn referenced(references: Option<&[Reference]>, field: &str) -> Option<String> {
    Some(references?.iter().find(|reference| *reference.field == *field)?.to.id.to_string())
}

fn diagnostic(Unreadable { key, why, .. }: &Unreadable) -> Option<Diagnostic> {
    let origin = Origin::new("kong", &key.kind, key.id.parse().ok()?);
    let (code, message) = (Code::Schema, format!("it cannot be read: {why}"));
    let hint = Some(HINT.to_owned());
    Some(Diagnostic { severity: Severity::Error, code, origin, location: None, path: String::new(), message, hint })
}

#[cfg(test)]
mod tests {
    use cardinal_ir::Id;
    use cardinal_store::{Key, OnDelete};

    use super::*;

    fn id(number: u128) -> String {
        Id::from_u128(number).to_string()
    }

    fn document(kind: &str, number: u128, value: Value) -> Document {
        Document { key: Key::new(kind, id(number)), space: "default".into(), value, revision: 1, tags: Vec::new() }
    }

    fn damaged(kind: &str, number: u128, references: &[(&str, u128)]) -> Unreadable {
        let reference = |(field, to): &(&str, u128)| Reference {
            field: (*field).into(),
            to: Key::new(format!("{field}s"), id(*to)),
            on_delete: OnDelete::Cascade,
        };
        let references = Some(references.iter().map(reference).collect());
        Unreadable { key: Key::new(kind, id(number)), space: "default".into(), references, why: "damaged".to_owned() }
    }

    /// A service with a route and a plugin, and two consumers with a key each, of which the first is in a group.
    fn documents() -> Vec<Document> {
        let below = |field: &str, number: u128| json!({ field: { "id": id(number) } });
        let member = json!({ "consumer": { "id": id(10) }, "consumer_group": { "id": id(20) } });
        vec![
            document("services", 1, json!({})),
            document("routes", 2, below("service", 1)),
            document("plugins", 3, below("route", 2)),
            document("consumers", 10, json!({})),
            document("consumers", 11, json!({})),
            document("keyauth_credentials", 12, below("consumer", 10)),
            document("keyauth_credentials", 13, below("consumer", 11)),
            document("consumer_groups", 20, json!({})),
            document(members::KIND, 21, member),
        ]
    }

    /// What is left without these documents, and the errors.
    fn left(unreadable: Vec<Unreadable>) -> Result<(Vec<Document>, Vec<Diagnostic>), StoreError> {
        let is_readable = |document: &Document| unreadable.iter().all(|damaged| damaged.key != document.key);
        let documents = documents().into_iter().filter(is_readable).collect();
        let mut contents = Contents { revision: 1, documents, unreadable };
        let found = close_unreadable(&Registry::new(cardinal_plugins_auth::PLUGINS), &mut contents)?;
        Ok((contents.documents, found))
    }

    fn numbers(documents: &[Document]) -> Vec<u128> {
        let mut numbers: Vec<u128> =
            documents.iter().map(|left| left.key.id.parse::<Id>().unwrap().as_u128()).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn what_depends_on_an_unreadable_entity_is_left_out() {
        for (damaged, expected) in [
            // The route answers 503 without its service.
            (damaged("services", 1, &[]), &[2, 3, 10, 11, 12, 13, 20, 21][..]),
            (damaged("routes", 2, &[("service", 1)]), &[1, 10, 11, 12, 13, 20, 21]),
            (damaged("consumers", 10, &[]), &[1, 2, 3, 11, 13, 20]),
            (damaged("keyauth_credentials", 12, &[("consumer", 10)]), &[1, 2, 3, 10, 11, 13, 20, 21]),
            // A group may restrict its members, and an ACL group its consumer.
            (damaged("consumer_groups", 20, &[]), &[1, 2, 3, 11, 13]),
            (damaged("acls", 30, &[("consumer", 10)]), &[1, 2, 3, 11, 13, 20]),
            (
                damaged(members::KIND, 21, &[("consumer", 10), ("consumer_group", 20)]),
                &[1, 2, 3, 10, 11, 12, 13, 20, 21],
            ),
            // Not what a node serves.
            (damaged("rbac_users", 40, &[]), &[1, 2, 3, 10, 11, 12, 13, 20, 21]),
        ] {
            let (key, (left, found)) = (damaged.key.clone(), left(vec![damaged]).unwrap());
            assert_eq!(numbers(&left), expected, "{key}");
            assert_eq!(found.len(), 1, "{key}");
        }
    }

    #[test]
    fn an_unreadable_plugin_refuses_the_requests_of_its_scope() {
        let (documents, found) = left(vec![damaged("plugins", 3, &[("route", 2)])]).unwrap();
        assert_eq!(numbers(&documents), [1, 2, 3, 10, 11, 12, 13, 20, 21]);
        let plugin = documents.iter().find(|document| &*document.key.kind == "plugins").unwrap();
        assert_eq!(plugin.value, json!({ "route": { "id": id(2) }, "name": "", "enabled": true }));
        assert!(found[0].to_string().contains("it cannot be read: damaged"), "{}", found[0]);
        // Without its route it concerns nothing.
        let both = vec![damaged("plugins", 3, &[("route", 2)]), damaged("routes", 2, &[("service", 1)])];
        assert_eq!(numbers(&left(both).unwrap().0), [1, 10, 11, 12, 13, 20, 21]);
    }

    #[test]
    fn nothing_is_loaded_if_it_is_not_known_what_is_restricted() {
        for kind in ["plugins", "acls", members::KIND] {
            let damaged = Unreadable { references: None, ..damaged(kind, 3, &[]) };
            let error = left(vec![damaged]).unwrap_err().to_string();
            assert!(error.contains("it is not known which requests") && error.contains("restore"), "{error}");
        }
    }
}
