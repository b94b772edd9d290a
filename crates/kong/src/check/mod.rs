//! How a Kong configuration is served here, per entity and field: the same, changed, or unsupported.

mod order;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use cardinal_ir::{Diagnostic, Id, Location, Origin, Severity};
use cardinal_schema::{Field, Kind as FieldKind, Schema};
use serde_json::{Map, Value};

use crate::declarative::{Entity, Finding, LoadErrors, Snapshot};
use crate::entities::{Registry, TAG_UPGRADE_PROTOCOL, TAG_UPSTREAM_HTTP2, upgrade_protocols, vaults};
use crate::lower::OriginKinds;
use crate::settings::{RouterFlavor, Settings};

pub use crate::lower::unmatchable;
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

/// The report about a configuration. It references neither the entities nor the IR, so that a large
/// configuration can be freed.
#[derive(Debug)]
pub struct Report {
    /// In the order of the files.
    subjects: Vec<Subject>,
}

/// An entity, or another place of a file.
#[derive(Debug)]
struct Subject {
    origin: Origin,
    location: Option<Location>,
    is_entity: bool,
    found: Box<[Difference]>,
}

/// What differs about a subject.
#[derive(Debug)]
struct Difference {
    verdict: Verdict,
    path: String,
    how: String,
    /// A diagnostic of the same field replaces it.
    yields: bool,
}

impl Report {
    /// Examines the entities of a snapshot.
    pub fn new(snapshot: &Snapshot, registry: &Registry, settings: &Settings) -> Self {
        let mut kinds = OriginKinds::default();
        let mut subjects: Vec<Subject> = Vec::with_capacity(snapshot.differences().len() + snapshot.len());
        subjects.extend(snapshot.differences().iter().map(of_difference));
        for kind in registry.kinds() {
            for entity in snapshot.of(kind.name) {
                let mut found = Vec::new();
                let mut add = |verdict, path: &str, how: &str, yields| {
                    found.push(Difference { verdict, path: path.to_owned(), how: how.to_owned(), yields });
                };
                differences(kind.name, &entity, settings, &mut |verdict, path, how| add(verdict, path, how, true));
                if let Ok(schema) = registry.schema_of(kind, &entity.value) {
                    additions(schema, &entity.value, "", &mut |path, how| {
                        if path != IDENTITY_REALMS {
                            add(Verdict::Changed, path, how, false);
                        }
                    });
                }
                let (origin, location) = (kinds.origin(kind.name, &entity), entity.location);
                subjects.push(Subject { origin, location, is_entity: true, found: found.into() });
            }
        }
        // Stable: what is found at one place stays in its order.
        subjects.sort_by(|a, b| a.location.cmp(&b.location));
        Self { subjects }
    }

    /// A line for each entity, or for each of its fields that differ, in the order of the files. `diagnostics` are
    /// those of the whole way to what is served, [`unmatchable`] included: an entity that is left out is not the same.
    pub fn lines<'r>(&'r self, diagnostics: impl IntoIterator<Item = &'r Diagnostic>) -> impl Iterator<Item = Line> {
        let mut told: HashMap<Id, Vec<&Diagnostic>> = HashMap::new();
        for diagnostic in diagnostics {
            told.entry(diagnostic.origin.id).or_default().push(diagnostic);
        }
        self.subjects.iter().flat_map(move |subject| {
            let kind = subject.origin.kind();
            let told = told.get(&subject.origin.id).filter(|_| subject.is_entity).into_iter().flatten();
            let told: Vec<&Diagnostic> = told.copied().filter(|told| told.origin.kind() == kind).collect();
            subject.lines(&told)
        })
    }
}

impl Subject {
    fn lines(&self, told: &[&Diagnostic]) -> Vec<Line> {
        let line = |verdict, path: &str, how: &str| {
            let (location, subject) = (self.location.clone(), self.origin.label());
            Line { location, verdict, subject, path: path.to_owned(), how: how.to_owned() }
        };
        // Errors of fields are reported by their diagnostics.
        let is_told = |d: &Difference| !d.path.is_empty() && told.iter().any(|told| told.path.starts_with(&d.path));
        let found = self.found.iter().filter(|d| !d.yields || !is_told(d));
        let mut lines: Vec<Line> = found.map(|d| line(d.verdict, &d.path, &d.how)).collect();
        lines.extend(told.iter().map(|told| line(verdict_of(told), &told.path, &told.message)));
        if lines.is_empty() {
            lines.push(line(Verdict::Same, "", ""));
        }
        lines
    }
}

fn of_difference(difference: &Diagnostic) -> Subject {
    let (path, how) = (difference.path.clone(), difference.message.clone());
    let found = Difference { verdict: Verdict::Changed, path, how, yields: false };
    let (origin, location) = (difference.origin.clone(), difference.location.clone());
    Subject { origin, location, is_entity: false, found: [found].into() }
}

/// Reported with the other differences of plugins, as it has no effect.
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

fn verdict_of(diagnostic: &Diagnostic) -> Verdict {
    match diagnostic.severity {
        // Kong's other router flavors do not honour it either.
        _ if diagnostic.path == "path_handling" => Verdict::Same,
        Severity::Warning => Verdict::Changed,
        Severity::Error => Verdict::Unsupported,
    }
}

/// The same for a rejected configuration: its errors, and the valid entities.
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
        "keys" | "key_sets" => add(Unsupported, "", "accepted, but not used by any plugin"),
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
