//! What becomes of a Kong configuration here: the same, something else, or nothing.

mod order;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use cardinal_ir::{Diagnostic, Id, Ir, Location, Severity};
use cardinal_schema::{Field, Kind as FieldKind, Schema};
use serde_json::{Map, Value};

use crate::declarative::{Entity, Finding, LoadErrors, Snapshot};
use crate::entities::{Registry, TAG_UPGRADE_PROTOCOL, TAG_UPSTREAM_HTTP2, upgrade_protocols, vaults};
use crate::settings::{RouterFlavor, Settings};

pub use order::{OrderPair, OrderReport, RouteLabel, order_report, why_first};

/// How an entity or a field of it fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As in Kong.
    Same,
    /// It works, but not just as in Kong.
    Changed,
    /// It does nothing here, or is refused.
    Unsupported,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where the entity was written, if it was read from a file.
    pub location: Option<Location>,
    /// How it fares.
    pub verdict: Verdict,
    /// The entity: `services "a"`.
    pub subject: String,
    /// The field; empty for the whole entity.
    pub path: String,
    /// What differs; empty when nothing does.
    pub how: String,
}

/// A line for each entity, or for each of its fields that differ, in the order of the files. `diagnostics` are those of
/// the whole way to what is served: an entity that is left out is not the same.
pub fn check(
    snapshot: &Snapshot,
    (registry, settings): (&Registry, &Settings),
    ir: &Ir,
    diagnostics: &[Diagnostic],
) -> Vec<Line> {
    let mut lines: Vec<Line> = snapshot.differences().iter().map(of_difference).collect();
    let unmatchable = crate::lower::unmatchable(ir);
    let mut told: HashMap<Id, Vec<&Diagnostic>> = HashMap::new();
    for diagnostic in diagnostics.iter().chain(&unmatchable) {
        told.entry(diagnostic.origin.id).or_default().push(diagnostic);
    }
    for kind in registry.kinds() {
        for entity in snapshot.of(kind.name) {
            let before = lines.len();
            let origin = entity.origin(kind.name);
            let (subject, location) = (origin.label(), origin.location());
            let mut add = |verdict: Verdict, path: &str, how: &str| {
                let (subject, path, how) = (subject.clone(), path.to_owned(), how.to_owned());
                lines.push(Line { location: location.clone(), verdict, subject, path, how });
            };
            let told = || told.get(&entity.id).into_iter().flatten().filter(|d| d.origin.kind() == kind.name);
            differences(kind.name, &entity, settings, &mut |verdict, path, how| {
                // What is wrong with a field is told below.
                if path.is_empty() || !told().any(|diagnostic| diagnostic.path.starts_with(path)) {
                    add(verdict, path, how);
                }
            });
            if let Ok(schema) = registry.schema_of(kind, &entity.value) {
                additions(schema, &entity.value, "", &mut |path, how| {
                    if path != IDENTITY_REALMS {
                        add(Verdict::Changed, path, how);
                    }
                });
            }
            for diagnostic in told() {
                add(verdict_of(diagnostic), &diagnostic.path, &diagnostic.message);
            }
            if lines.len() == before {
                lines.push(Line { location, verdict: Verdict::Same, subject, path: String::new(), how: String::new() });
            }
        }
    }
    // Stable: the fields of an entity stay in their order.
    lines.sort_by(|a, b| place(a).cmp(&place(b)));
    lines
}

fn of_difference(difference: &Diagnostic) -> Line {
    Line {
        location: difference.origin.location(),
        verdict: Verdict::Changed,
        subject: difference.origin.label(),
        path: difference.path.clone(),
        how: difference.message.clone(),
    }
}

/// Told with the other differences of plugins, as it has no effect.
const IDENTITY_REALMS: &str = "config.identity_realms";

/// The fields and values of an entity that its schema marks as not being in Kong's open-source edition.
fn additions(schema: &Schema, value: &Map<String, Value>, path: &str, add: &mut dyn FnMut(&str, &str)) {
    for named in &schema.fields {
        let Some(value) = value.get(named.name).filter(|value| !value.is_null()) else { continue };
        let path = if path.is_empty() { named.name.to_owned() } else { format!("{path}.{}", named.name) };
        addition(&named.field, value, &path, add);
    }
}

fn addition(field: &Field, value: &Value, path: &str, add: &mut dyn FnMut(&str, &str)) {
    if field.addition {
        add(path, "served, though open-source Kong does not have this field");
        return;
    }
    if let Some(text) = value.as_str().filter(|text| field.added_values.contains(text)) {
        add(path, &format!("'{text}' is served, though open-source Kong does not have it"));
    }
    match (&field.kind, value) {
        (FieldKind::Record(schema), Value::Object(map)) => additions(schema, map, path, add),
        (FieldKind::Array(of) | FieldKind::Set(of), Value::Array(list)) => {
            for (at, value) in list.iter().enumerate() {
                addition(of, value, &format!("{path}[{at}]"), add);
            }
        }
        _ => {}
    }
}

fn place(line: &Line) -> Option<(&str, u32, u32)> {
    line.location.as_ref().map(|at| (&*at.file, at.line, at.column))
}

fn verdict_of(diagnostic: &Diagnostic) -> Verdict {
    match diagnostic.severity {
        // Kong's other router flavors do not honour it either.
        _ if diagnostic.path == "path_handling" => Verdict::Same,
        Severity::Warning => Verdict::Changed,
        Severity::Error => Verdict::Unsupported,
    }
}

/// The same for a configuration that is refused: what is wrong, and which entities are sound.
pub fn check_refused(errors: &LoadErrors) -> Vec<Line> {
    let line = |f: &Finding| Line {
        location: None,
        verdict: Verdict::Unsupported,
        subject: f.subject.clone(),
        path: f.path.clone(),
        how: match &f.hint {
            Some(hint) => format!("{} ({hint})", f.message),
            None => f.message.clone(),
        },
    };
    let sound = errors.sound().iter().map(|subject| Line {
        location: None,
        verdict: Verdict::Same,
        subject: subject.clone(),
        path: String::new(),
        how: String::new(),
    });
    errors.findings().iter().map(line).chain(sound).collect()
}

fn differences(kind: &str, entity: &Entity, settings: &Settings, add: &mut dyn FnMut(Verdict, &str, &str)) {
    use Verdict::{Changed, Unsupported};
    match kind {
        "services" => service_differences(entity, add),
        // In the oldest flavor Kong anchors all of them too.
        "routes"
            if settings.router_flavor != RouterFlavor::Traditional && entity.texts("paths").any(has_alternatives) =>
        {
            add(Changed, "paths", "all alternatives start at the start of the path, in Kong the first one alone");
        }
        "plugins" => {
            let realms = entity.get("config").and_then(|config| config.get("identity_realms"));
            if realms.is_some_and(|realms| !realms.is_null()) {
                let how = "accepted without effect: keys are those of this configuration";
                add(Unsupported, IDENTITY_REALMS, how);
            }
            if entity.get("consumer_group").is_some() {
                add(Changed, "consumer_group", "served, though Kong has it in its Enterprise edition only");
            }
        }
        "consumer_groups" => add(Changed, "", "served, though Kong has them in its Enterprise edition only"),
        "keys" | "key_sets" => add(Unsupported, "", "kept, but no plugin here asks for it"),
        "vaults" if entity.text("name").is_some_and(|name| vaults::ENTERPRISE_TYPES.contains(&name)) => {
            add(Unsupported, "name", "accepted; references to it cannot be resolved");
        }
        "vaults" if entity.text("name") == Some("file") => {
            add(Changed, "name", "Kong has no vault of files");
        }
        _ => {}
    }
}

fn service_differences(entity: &Entity, add: &mut dyn FnMut(Verdict, &str, &str)) {
    let changed = Verdict::Changed;
    if entity.texts("tags").any(|t| t == TAG_UPSTREAM_HTTP2) {
        add(changed, "tags", "the tag upstream-http2 makes requests to the upstream HTTP/2");
    }
    if entity.texts("tags").any(|t| t.starts_with(TAG_UPGRADE_PROTOCOL)) {
        match upgrade_protocols(entity.texts("tags")).as_slice() {
            [] => add(changed, "tags", "a tag upgrade-protocol:NAME names no protocol that clients may switch to"),
            names => add(changed, "tags", &format!("clients may switch to {} with Upgrade", names.join(", "))),
        }
    }
    if entity.text("protocol") == Some("udp") && entity.int("retries") != Some(0) {
        add(changed, "retries", "datagrams are not sent again");
    }
}

/// Whether a pattern has alternatives that no group holds together.
fn has_alternatives(path: &str) -> bool {
    let mut depth = 0_i32;
    let mut escaped = false;
    path.starts_with('~')
        && path.chars().any(|c| {
            if std::mem::take(&mut escaped) {
                return false;
            }
            match c {
                '\\' => escaped = true,
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                _ => {}
            }
            c == '|' && depth == 0
        })
}
