//! `cardinal history`, `show`, `diff`, `rollback` and `audit verify`: the change log of the store.

mod text;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use cardinal_control::history as log;
use cardinal_sdk::PluginDef;
use cardinal_store::{Broken, verify as verify_chain};
use serde_json::{Value, json};

use crate::args::{DiffArgs, HistoryArgs, Output, RollbackArgs, ShowArgs, StatusArgs};
use crate::out;
use crate::store::{Missing, Opened, render_changes};

type Plugins = &'static [&'static PluginDef];
type Env = BTreeMap<String, String>;

pub(crate) fn history(args: HistoryArgs, plugins: Plugins, env: Env) -> Result<ExitCode> {
    let opened = Opened::new(args.store, plugins, env, Missing::Refuse)?;
    let found = opened.wait(log::revisions(&*opened.store, args.before, args.limit))?;
    let shown = || found.iter().map(log::Revision::to_json).collect::<Value>();
    print(args.output, shown, || text::revisions(&found))
}

pub(crate) fn show(args: ShowArgs, plugins: Plugins, env: Env) -> Result<ExitCode> {
    let opened = Opened::new(args.store, plugins, env, Missing::Refuse)?;
    let found = opened.wait(log::revision_changes(&opened.dao, args.revision, args.reveal))?;
    print(args.output, || found.to_json(), || text::revision(&found))
}

pub(crate) fn diff(args: DiffArgs, plugins: Plugins, env: Env) -> Result<ExitCode> {
    let opened = Opened::new(args.store, plugins, env, Missing::Refuse)?;
    let to = args.to.map_or_else(|| opened.revision(), Ok)?;
    let compared = log::diff(&opened.dao, &opened.place.settings, (args.from, to), args.reveal);
    let compared = opened.wait(compared)?;
    print(args.output, || compared.to_json(), || text::comparison(&compared))
}

pub(crate) fn rollback(args: RollbackArgs, plugins: Plugins, env: Env) -> Result<ExitCode> {
    let opened = Opened::new(args.store, plugins, env, Missing::Refuse)?;
    let author = opened.tenant().author;
    let done = opened.wait(log::rollback(&opened.dao, &author, args.revision, args.dry_run))?;
    let text = || {
        let end = match (done.entities.is_empty(), args.dry_run) {
            (true, _) => format!("the entities are those of revision {} already", done.to),
            (false, true) => format!("{} would change (--dry-run)", out::count(done.entities.len(), "entity")),
            (false, false) => format!("restored revision {}; the store is at revision {}", done.to, done.revision),
        };
        render_changes(&done.entities) + &end + "\n"
    };
    print(args.output, || done.to_json(), text)
}

pub(crate) fn verify(args: StatusArgs, plugins: Plugins, env: Env) -> Result<ExitCode> {
    let opened = Opened::new(args.store, plugins, env, Missing::Refuse)?;
    match opened.wait(verify_chain(&*opened.store)) {
        Ok(found) => {
            let hash: String = found.hash.iter().map(|byte| format!("{byte:02x}")).collect();
            let text = || {
                let entries = out::count(usize::try_from(found.entries).unwrap_or(usize::MAX), "entry");
                let documents = out::count(usize::try_from(found.documents).unwrap_or(usize::MAX), "document");
                let revision = found.revision;
                format!(
                    "the change log is intact: {entries} up to revision {revision}\n{documents} as it says\nhash {hash}\n"
                )
            };
            let shown = || {
                json!({ "intact": true, "entries": found.entries, "documents": found.documents,
                    "revision": found.revision, "oldest": found.oldest, "hash": hash })
            };
            print(args.output, shown, text)
        }
        Err(Broken::Documents(tampered)) => {
            let shown = || {
                let documents =
                    tampered.iter().map(|one| json!({ "kind": &*one.key.kind, "id": &*one.key.id, "why": one.why }));
                json!({ "intact": false, "documents": documents.collect::<Value>() })
            };
            match args.output {
                Output::Json => out::print(&format!("{}\n", shown()))?,
                Output::Human => out::complain(&format!("error: {}\n", Broken::Documents(tampered))),
            }
            Ok(ExitCode::FAILURE)
        }
        Err(Broken::At { revision, position, why }) => {
            let error = Broken::At { revision, position, why };
            let shown = || json!({ "intact": false, "revision": revision, "position": position, "why": why });
            match args.output {
                Output::Json => out::print(&format!("{}\n", shown()))?,
                Output::Human => out::complain(&format!("error: {error}\n")),
            }
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}

fn print(output: Output, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Result<ExitCode> {
    let text = match output {
        Output::Human => text(),
        Output::Json => format!("{}\n", json()),
    };
    out::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
