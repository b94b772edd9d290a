//! Revisions and comparisons as text.

use std::fmt::Write as _;

use cardinal_control::history::{Action, Comparison, EntityChange, Revision, RevisionChanges, RouteEffect, time_text};
use serde_json::Value;

use crate::out;

/// A line for each revision.
pub(super) fn revisions(all: &[Revision]) -> String {
    if all.is_empty() {
        return "no revisions\n".to_owned();
    }
    let rows = all.iter().map(|revision| {
        let kinds: Vec<String> = revision.kinds.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        let (number, hash) = (revision.revision.to_string(), short(&revision.hash).to_owned());
        [number, hash, time_text(revision.at_ms), by(revision), kinds.join(", ")]
    });
    let head = ["REVISION", "HASH", "TIME", "BY", "CHANGES"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let (first, second, third, fourth) = (width(0), width(1), width(2), width(3));
    let line = |[revision, hash, time, by, changes]: &[String; 5]| {
        format!("{revision:<first$}  {hash:<second$}  {time:<third$}  {by:<fourth$}  {changes}\n")
    };
    rows.iter().map(line).collect()
}

/// The start of a hash, which tells the revisions of a store apart.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// `anna from cli via rollback`
fn by(revision: &Revision) -> String {
    let author = &revision.author;
    let parts = [("", &author.name), ("from ", &author.from), ("via ", &author.via)];
    let parts: Vec<String> =
        parts.iter().filter(|(_, text)| !text.is_empty()).map(|(word, text)| format!("{word}{text}")).collect();
    parts.join(" ")
}

/// A revision and its changes.
pub(super) fn revision(changes: &RevisionChanges) -> String {
    let revision = &changes.revision;
    let count = out::count(changes.entities.len(), "change");
    let (time, by) = (time_text(revision.at_ms), by(revision));
    let head = format!("revision {}, {time}, {by}, {count}\nhash {}\n", revision.revision, revision.hash);
    head + &entities(&changes.entities)
}

fn entities(all: &[EntityChange]) -> String {
    let mut text = String::new();
    for change in all {
        let cascaded = if change.cascaded { " (with what it referenced)" } else { "" };
        writeln!(text, "\n{} {} {}{cascaded}", change.kind, change.label(), change.action.as_str()).ok();
        for field in &change.fields {
            if !field.old.is_null() {
                writeln!(text, "  - {}: {}", field.path, value(&field.old)).ok();
            }
            if !field.new.is_null() {
                writeln!(text, "  + {}: {}", field.path, value(&field.new)).ok();
            }
        }
    }
    text
}

/// A value in a line: JSON is YAML, too.
fn value(value: &Value) -> String {
    value.to_string()
}

/// What differs between two revisions.
pub(super) fn comparison(compared: &Comparison) -> String {
    let mut text = format!("from revision {} to {}\n", compared.from, compared.to);
    if compared.entities.is_empty() {
        return text + "nothing differs\n";
    }
    text += &entities(&compared.entities);
    text += "\neffect on routes:\n";
    if compared.routes.is_empty() {
        text += "  none\n";
    }
    for route in &compared.routes {
        writeln!(text, "  {} {}{}", route.name, route.action.as_str(), aspects(route)).ok();
    }
    text
}

fn aspects(route: &RouteEffect) -> String {
    let mut parts = Vec::new();
    if route.matches {
        parts.push("matches other requests".to_owned());
    }
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "no backend".to_owned());
    match (&route.backend, route.action) {
        (Some((_, new)), Action::Added) => parts.push(format!("to {}", or_none(new))),
        (Some((old, _)), Action::Removed) => parts.push(format!("from {}", or_none(old))),
        (Some((old, new)), Action::Changed) if old == new => parts.push(format!("backend {} changed", or_none(new))),
        (Some((old, new)), Action::Changed) => parts.push(format!("from {} to {}", or_none(old), or_none(new))),
        (None, _) => {}
    }
    if route.options {
        parts.push("options changed".to_owned());
    }
    parts.extend(route.plugins.iter().map(|(name, action)| format!("plugin {name} {}", action.as_str())));
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join("; ")) }
}
