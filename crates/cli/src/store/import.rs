//! `cardinal store import`: declarative files as one revision.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use cardinal_control::history::{Action, EntityChange};

use super::{Env, Missing, Opened, Plugins};
use crate::args::ImportArgs;
use crate::config::{Refusal, Site};
use crate::out;

pub(super) fn import(args: ImportArgs, plugins: Plugins, env: Env) -> Result<ExitCode> {
    let site = Site::new(plugins, args.files, args.store.settings.clone(), env.clone());
    let refused = |refusal: Refusal| anyhow!(refusal.report());
    let preferences = site.settings().map_err(refused)?;
    let sources = site.texts(&preferences).map_err(refused)?.sources;
    let loaded = site.load(&preferences.settings, &sources).map_err(refused)?;
    let missing = if args.dry_run { Missing::Refuse } else { Missing::Create };
    let opened = Opened::new(args.store, plugins, env, missing)?;
    let import = opened.wait(opened.dao.plan_import(&opened.tenant(), &loaded.snapshot, args.merge))?;
    let summary = summary(&import.entities);
    out::print(&render_changes(&import.entities))?;
    if args.dry_run {
        out::print(&format!("{summary}; nothing was written (--dry-run)\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let revision = opened.wait(opened.dao.import(import))?;
    out::print(&format!("{summary}; the store is at revision {revision}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// `2 added, 1 changed`
fn summary(changes: &[EntityChange]) -> String {
    let count = |action: Action| changes.iter().filter(|change| change.action == action).count();
    let counts = [Action::Added, Action::Removed, Action::Changed].map(|action| (count(action), action.as_str()));
    let texts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, action)| format!("{count} {action}")).collect();
    if texts.is_empty() { "nothing differs".to_owned() } else { texts.join(", ") }
}

/// A line for each entity.
pub(crate) fn render_changes(changes: &[EntityChange]) -> String {
    let line = |change: &EntityChange| {
        let sign = match change.action {
            Action::Added => '+',
            Action::Removed => '-',
            Action::Changed => '~',
        };
        let fields: Vec<&str> = change.fields.iter().map(|field| field.path.as_str()).collect();
        let fields = if change.action == Action::Changed { format!(": {}", fields.join(", ")) } else { String::new() };
        format!("{sign} {} {}{fields}\n", change.kind, change.label())
    };
    changes.iter().map(line).collect()
}
