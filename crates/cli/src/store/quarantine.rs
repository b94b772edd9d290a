//! `cardinal store quarantine`: the entities of the store that are valid and cannot be served.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use cardinal_control::lower_contents;
use cardinal_engine::Configuration;
use cardinal_ir::{Diagnostic, Severity};
use cardinal_kong::{Snapshot, SourceMap};
use cardinal_sdk::PluginDef;
use cardinal_store::{Key, Store as _};
use serde_json::{Value, json};

use super::open::{Missing, Opened};
use crate::args::{Output, StatusArgs};
use crate::out;

/// An entity, and what the store knows of it.
struct Entity {
    error: Diagnostic,
    tags: Vec<Arc<str>>,
    /// The revision of its last write.
    revision: u64,
}

/// Makes what a node would serve, by the same functions, and prints what is left out.
pub(super) fn quarantine(
    args: StatusArgs,
    plugins: &'static [&'static PluginDef],
    env: BTreeMap<String, String>,
) -> Result<ExitCode> {
    let output = args.output;
    let entities = find(&Opened::new(args.store, plugins, env, Missing::Refuse)?)?;
    out::print(&match output {
        Output::Human if entities.is_empty() => "all entities can be served\n".to_owned(),
        Output::Human => entities.iter().map(text).collect(),
        Output::Json => format!("{}\n", entities.iter().map(shown).collect::<Value>()),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn find(opened: &Opened) -> Result<Vec<Entity>> {
    let settings = &opened.place.settings;
    let contents = opened.wait(opened.store.contents())?;
    let known =
        contents.documents.iter().map(|document| (document.key.clone(), (document.tags.clone(), document.revision)));
    let known: BTreeMap<Key, (Vec<Arc<str>>, u64)> = known.collect();
    let (ir, secrets, mut diagnostics) = lower_contents(opened.dao.registry(), settings, contents)?;
    let configuration = Configuration::new(ir, settings.node.clone()).with_secrets(secrets);
    diagnostics.extend(opened.place.site.plan(&configuration, &SourceMap::of(&Snapshot::default()))?);
    let mut found = BTreeMap::new();
    for error in diagnostics.into_iter().filter(|found| found.severity == Severity::Error) {
        let key = Key::new(error.origin.kind(), error.origin.id.to_string());
        let (tags, revision) = known.get(&key).cloned().unwrap_or_default();
        // The first error of an entity is its reason.
        found.entry(key).or_insert(Entity { error, tags, revision });
    }
    Ok(found.into_values().collect())
}

fn text(entity: &Entity) -> String {
    let Entity { error, tags, revision } = entity;
    let name = error.origin.name.as_deref().map(|name| format!("  {name}")).unwrap_or_default();
    let tags = if tags.is_empty() { String::new() } else { format!("  [{}]", tags.join(", ")) };
    let hint = error.hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    let (kind, id, reason) = (error.origin.kind(), error.origin.id, &error.message);
    format!("{kind}  {id}{name}{tags}  last written at revision {revision}\n  {reason}{hint}\n")
}

fn shown(entity: &Entity) -> Value {
    let Entity { error, tags, revision } = entity;
    json!({ "kind": error.origin.kind(), "id": error.origin.id, "name": error.origin.name, "tags": tags,
        "reason": error.message, "hint": error.hint, "revision": revision })
}
