//! `cardinal store`: the state, the content and copies of the store.

mod backup;
mod export;
mod import;
mod open;
mod quarantine;
mod yaml;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use cardinal_kong::Source;
use cardinal_sdk::PluginDef;
use cardinal_store::{Store as _, documents_at};
use serde_json::json;

use crate::args::{Output, StatusArgs, StoreArgs, StoreCommand};
use crate::out;

pub(crate) use import::render_changes;
use open::Place;
pub(crate) use open::{Missing, Opened, default_data_dir, open};

type Plugins = &'static [&'static PluginDef];
type Env = BTreeMap<String, String>;

pub(crate) fn run(command: StoreCommand, plugins: Plugins, env: Env) -> Result<ExitCode> {
    match command {
        StoreCommand::Status(args) => status(args, plugins, env),
        StoreCommand::Quarantine(args) => quarantine::quarantine(args, plugins, env),
        StoreCommand::Migrate(args) => migrate(args, plugins, env),
        StoreCommand::Export(args) => export::export(args, plugins, env),
        StoreCommand::Import(args) => import::import(args, plugins, env),
        StoreCommand::Backup(args) => backup::backup(args, plugins, env),
        StoreCommand::Restore(args) => backup::restore(args, plugins, env),
    }
}

/// The entities at a revision, as a declarative file.
pub(crate) fn source_at(args: StoreArgs, plugins: Plugins, env: Env, revision: u64) -> Result<Source> {
    let opened = Opened::new(args, plugins, env, Missing::Refuse)?;
    let documents = opened.wait(documents_at(&*opened.store, revision))?;
    let values = documents.into_iter().map(|(key, document)| (key, document.value));
    Ok(Source::new(format!("revision {revision}"), export::file_text(opened.dao.registry(), values)))
}

fn status(args: StatusArgs, plugins: Plugins, env: Env) -> Result<ExitCode> {
    let opened = Opened::new(args.store, plugins, env, Missing::Refuse)?;
    let status = opened.wait(opened.store.status())?;
    let (_, documents) = opened.wait(opened.store.snapshot())?;
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for document in &documents {
        *kinds.entry(document.key.kind.to_string()).or_default() += 1;
    }
    let text = match args.output {
        Output::Json => {
            let mut shown = serde_json::to_value(&status)?;
            if let Some(shown) = shown.as_object_mut() {
                shown.insert("kinds".to_owned(), json!(kinds));
            }
            format!("{shown}\n")
        }
        Output::Human => {
            let mut text = format!(
                "engine           {}\nlocation         {}\nschema           {}\nrevision         {}\noldest revision  {}\n\
                 documents        {}\n",
                status.engine, status.location, status.schema, status.revision, status.oldest, status.documents
            );
            for (kind, count) in kinds {
                text += &format!("  {count:>8}  {kind}\n");
            }
            text
        }
    };
    out::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn migrate(args: StoreArgs, plugins: Plugins, env: Env) -> Result<ExitCode> {
    let opened = Opened::new(args, plugins, env, Missing::Create)?;
    let status = opened.wait(opened.store.status())?;
    out::print(&format!("the schema of {} has version {}\n", status.location, status.schema))?;
    Ok(ExitCode::SUCCESS)
}
