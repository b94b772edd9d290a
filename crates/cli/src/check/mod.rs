//! `cardinal check`: is a configuration sound, and what becomes of it here?

mod problems;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Result, bail};
use cardinal_gateway::check::{Line, OrderReport, RouteLabel, Verdict, check as report, check_refused, order_report};
use cardinal_gateway::declarative::{Hidden, discreet};
use cardinal_gateway::{LoadErrors, Source};
use cardinal_ir::{Diagnostic, Id, Severity};
use cardinal_sdk::PluginDef;
use serde_json::{Map, Value, json};

use crate::args::{CheckArgs, Output};
use crate::config::{Loaded, Preferences, Refusal, Site, render_diagnostics, sharpen};
use crate::out;

pub(crate) fn check(
    args: CheckArgs,
    plugins: &'static [&'static PluginDef],
    env: BTreeMap<String, String>,
) -> Result<ExitCode> {
    let (output, quiet, strict) = (args.output, args.quiet, args.strict);
    let site = Site::new(plugins, [args.files, args.config].concat(), args.settings, env);
    let verdict = examine(&site, strict)?;
    let is_valid = verdict.is_valid();
    let mut screen = out::Screen::new(verdict.hidden());
    match output {
        Output::Json => {
            screen.complain(&verdict.oddities());
            screen.print_json(verdict.json())?;
        }
        Output::Human => {
            screen.complain(&verdict.warnings());
            screen.print(&verdict.human(quiet))?;
        }
    }
    screen.finish()?;
    Ok(if is_valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was found.
struct Found {
    preferences: Preferences,
    sources: Vec<Source>,
    outcome: Outcome,
}

enum Outcome {
    Valid(Box<Loaded>, Vec<Diagnostic>),
    /// Something would be left out, and that was not wanted.
    Incomplete(Box<Loaded>, Vec<Diagnostic>),
    Invalid(Box<LoadErrors>),
}

fn examine(site: &Site, strict: bool) -> Result<Found> {
    let refused =
        |refusal: Refusal| anyhow::anyhow!("the configuration cannot be read\n{}", refusal.render().trim_end());
    let preferences = site.settings().map_err(refused)?;
    let sources = site.texts(&preferences).map_err(refused)?.sources;
    if sources.is_empty() {
        bail!("nothing to check: name files, or set declarative_config");
    }
    let bytes: usize = sources.iter().map(|source| source.text.len()).sum();
    if bytes > 1 << 20 {
        out::progress(&format!("checking {} with {} MiB...", out::count(sources.len(), "file"), bytes >> 20));
    }
    let outcome = match site.load(&preferences.settings, &sources) {
        Ok(loaded) => {
            let mut diagnostics = loaded.diagnostics.clone();
            diagnostics.extend(site.plan(&loaded.ir)?);
            if strict {
                sharpen(&mut diagnostics);
            }
            let incomplete = diagnostics.iter().any(|d| d.severity == Severity::Error);
            let make = if strict && incomplete { Outcome::Incomplete } else { Outcome::Valid };
            make(Box::new(loaded), diagnostics)
        }
        Err(Refusal::Load(errors)) => Outcome::Invalid(errors),
        Err(refusal) => return Err(refused(refusal)),
    };
    Ok(Found { preferences, sources, outcome })
}

impl Found {
    fn is_valid(&self) -> bool {
        matches!(self.outcome, Outcome::Valid(..))
    }

    /// What output must not show. Errors have it hidden already.
    fn hidden(&self) -> Hidden {
        match &self.outcome {
            Outcome::Valid(loaded, _) | Outcome::Incomplete(loaded, _) => loaded.hidden.clone(),
            Outcome::Invalid(_) => Hidden::default(),
        }
    }

    fn warnings(&self) -> String {
        self.preferences.notes.iter().map(|note| format!("warning: {note}\n")).collect()
    }

    /// What is odd about valid files, for who does not read the report.
    fn oddities(&self) -> String {
        match &self.outcome {
            Outcome::Valid(loaded, _) => loaded.snapshot.warnings().iter().map(|d| format!("warning: {d}\n")).collect(),
            Outcome::Incomplete(..) | Outcome::Invalid(_) => String::new(),
        }
    }

    fn json(&self) -> Value {
        match &self.outcome {
            Outcome::Valid(loaded, diagnostics) => {
                let mut found = json!({ "valid": true, "entities": loaded.entities_json() });
                let errors: Vec<_> = diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
                if !errors.is_empty() {
                    // Kong takes the file; what of it would not be served here is said beside its verdict.
                    found["left_out"] = json!(flattened(&errors));
                }
                let order = order_report(&loaded.snapshot, &self.preferences.settings);
                if !order.pairs.is_empty() {
                    found["route_order"] = order_json(&order);
                }
                self.add_problems(&mut found, loaded, diagnostics);
                found
            }
            Outcome::Incomplete(loaded, diagnostics) => {
                let errors: Vec<_> = diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
                let mut found =
                    json!({ "valid": false, "fields": fields(&errors), "flattened_errors": flattened(&errors) });
                self.add_problems(&mut found, loaded, diagnostics);
                found
            }
            Outcome::Invalid(errors) => {
                let fields = match errors.fields() {
                    // A file that is no YAML at all has no fields.
                    Value::Null => json!({ "error": errors.message() }),
                    Value::Object(map) if map.is_empty() => json!({ "error": errors.message() }),
                    fields => messages_redacted(fields),
                };
                json!({
                    "valid": false,
                    "fields": fields,
                    "flattened_errors": errors.flattened().iter().map(problems::redacted).collect::<Value>(),
                    "errors": problems::of_refusal(errors),
                    "warnings": self.preferences.notes.iter().map(problems::of_note).collect::<Value>(),
                    "differences": [],
                })
            }
        }
    }

    /// Errors, warnings and differences with their places.
    fn add_problems(&self, found: &mut Value, loaded: &Loaded, diagnostics: &[Diagnostic]) {
        let of = |severity: Severity| diagnostics.iter().filter(move |d| d.severity == severity);
        let notes = self.preferences.notes.iter().map(problems::of_note);
        let lines = report(&loaded.snapshot, (&loaded.registry, &self.preferences.settings), &loaded.ir, diagnostics);
        let differences = lines.iter().filter(|line| line.verdict != Verdict::Same);
        found["errors"] = of(Severity::Error).map(problems::of_diagnostic).collect();
        found["warnings"] = of(Severity::Warning).map(problems::of_diagnostic).chain(notes).collect();
        found["differences"] = differences.map(problems::of_line).collect();
    }

    fn human(self, quiet: bool) -> String {
        let is_valid = self.is_valid();
        let Self { preferences, sources, outcome } = self;
        match outcome {
            Outcome::Valid(loaded, diagnostics) | Outcome::Incomplete(loaded, diagnostics) => {
                let settings = &preferences.settings;
                let lines = report(&loaded.snapshot, (&loaded.registry, settings), &loaded.ir, &diagnostics);
                let order = order_text(&order_report(&loaded.snapshot, settings));
                let left_out = left_out(&diagnostics);
                let number = out::count(left_out.len(), "entity");
                let of_kind = |kind: &str| left_out.iter().filter(|(k, _)| *k == kind).count();
                let gone = || loaded.summary_of(|kind, _| of_kind(kind));
                let rest = || loaded.summary_of(|kind, all| all.saturating_sub(of_kind(kind)));
                let verdict = match (is_valid, left_out.len()) {
                    (true, 0) => format!("valid: {}\n", loaded.summary()),
                    (true, _) => {
                        format!("valid, but {number} above would be left out: {}; served: {}\n", gone(), rest())
                    }
                    (false, _) => format!("invalid: {number} above would be left out: {}\n", gone()),
                };
                // The text of a large configuration takes the place of its entities.
                drop(loaded);
                let mut out = render_diagnostics(&diagnostics, &sources);
                out.push_str(&table(lines, quiet));
                out.push_str(&order);
                out.push_str(&verdict);
                out
            }
            Outcome::Invalid(errors) => {
                let sound = check_refused(&errors).into_iter().filter(|line| line.verdict == Verdict::Same);
                let sound: Vec<Line> = sound.collect();
                let mut out = errors.render();
                out.push_str(&table(sound, quiet));
                out.push_str(&format!("invalid: {}\n", out::count(errors.findings().len().max(1), "error")));
                out
            }
        }
    }
}

/// The entities with errors, by kind and id.
fn left_out(diagnostics: &[Diagnostic]) -> BTreeSet<(&str, Id)> {
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
    errors.map(|error| (error.origin.kind(), error.origin.id)).collect()
}

/// A tree of messages in which no message names a secret.
fn messages_redacted(tree: Value) -> Value {
    match tree {
        Value::Object(map) => map.into_iter().map(|(name, below)| (name, messages_redacted(below))).collect(),
        Value::Array(list) => list.into_iter().map(messages_redacted).collect(),
        Value::String(message) => discreet(&message).into(),
        other => other,
    }
}

/// A line for each entity or field, verdict first.
fn table(lines: Vec<Line>, quiet: bool) -> String {
    let mut out = String::new();
    for line in lines.into_iter().filter(|line| !quiet || line.verdict != Verdict::Same) {
        let verdict = match line.verdict {
            Verdict::Same => "same",
            Verdict::Changed => "changed",
            Verdict::Unsupported => "unsupported",
        };
        let path = if line.path.is_empty() { String::new() } else { format!(" {}", line.path) };
        let how = if line.how.is_empty() { String::new() } else { format!(": {}", line.how) };
        let at = line.location.as_ref().map(|at| format!("  {}:{}", at.file, at.line)).unwrap_or_default();
        // A line end in a name would begin a line that looks like another entity.
        let line = format!("{}{path}{how}{at}", line.subject).replace('\n', "\\n");
        out.push_str(&format!("{verdict:<12} {line}\n"));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// The pairs of routes for which the setting `router_order` matters.
fn order_text(report: &OrderReport) -> String {
    if report.pairs.is_empty() {
        return String::new();
    }
    let label = |route: &RouteLabel| {
        let at = route.location.as_ref().map(|at| format!(" ({}:{})", at.file, at.line)).unwrap_or_default();
        format!("{}{at}", route.label)
    };
    let mut out = String::from("routes whose order depends on router_order:\n");
    for pair in &report.pairs {
        let (kong, documented) = (label(&pair.kong), label(&pair.documented));
        out.push_str(&format!("  kong tries {kong} first, documented tries {documented} first\n"));
    }
    if report.is_cut {
        out.push_str("  and perhaps more: not all pairs were compared\n");
    }
    out.push('\n');
    out
}

fn order_json(report: &OrderReport) -> Value {
    let label = |route: &RouteLabel| {
        let at = route.location.as_ref().map(|at| format!("{}:{}", at.file, at.line));
        json!({ "id": route.id, "label": route.label, "location": at })
    };
    let pair = |pair: &cardinal_gateway::check::OrderPair| json!({ "kong": label(&pair.kong), "documented": label(&pair.documented) });
    json!({ "pairs": report.pairs.iter().map(pair).collect::<Vec<_>>(), "complete": !report.is_cut })
}

/// `{kind: {id: {path: message}}}`.
fn fields(errors: &[&Diagnostic]) -> Value {
    let mut out = Map::new();
    for error in errors {
        let kind = out.entry(error.origin.kind().to_owned()).or_insert_with(|| json!({}));
        let path = if error.path.is_empty() { "@entity" } else { error.path.as_str() };
        kind[error.origin.id.to_string()][path] = error.message.as_str().into();
    }
    Value::Object(out)
}

/// One entry for each entity, in the form that Kong flattens errors to.
fn flattened(errors: &[&Diagnostic]) -> Vec<Value> {
    let mut by_entity: BTreeMap<_, Vec<Value>> = BTreeMap::new();
    for error in errors {
        let kind = error.origin.kind().strip_suffix('s').unwrap_or(error.origin.kind());
        let of = by_entity.entry((kind, error.origin.id, error.origin.name.as_deref())).or_default();
        of.push(match error.path.as_str() {
            "" => json!({ "type": "entity", "message": error.message }),
            path => json!({ "type": "field", "field": path, "message": error.message }),
        });
    }
    let entry = |((kind, id, name), errors): ((&str, _, Option<&str>), Vec<Value>)| json!({ "entity_type": kind, "entity_id": id, "entity_name": name, "errors": errors });
    by_entity.into_iter().map(entry).collect()
}
