//! `cardinal check`: whether a configuration is valid, and how its entities differ from Kong.

mod problems;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Result, bail};
use cardinal_ir::{Diagnostic, Id, Severity};
use cardinal_kong::check::{self, Line, OrderReport, RouteLabel, Verdict, check_refused};
use cardinal_kong::declarative::Hidden;
use cardinal_kong::{LoadErrors, Source};
use cardinal_sdk::PluginDef;
use serde_json::{Map, Value, json};

use crate::args::{CheckArgs, Output};
use crate::config::{Counts, Entities, Examined, Preferences, Refusal, Site, render_diagnostics, sharpen};
use crate::out::{self, Screen};

pub(crate) fn check(
    args: CheckArgs,
    plugins: &'static [&'static PluginDef],
    env: BTreeMap<String, String>,
) -> Result<ExitCode> {
    let (output, quiet, strict) = (args.output, args.quiet, args.strict);
    let site = Site::new(plugins, [args.files, args.config].concat(), args.settings, env);
    let is_json = matches!(output, Output::Json);
    let found = examine(&site, strict, is_json)?;
    let is_valid = found.is_valid();
    let mut screen = Screen::new(found.hidden());
    if is_json {
        screen.complain(&found.oddities());
        found.write_json(&mut screen)?;
    } else {
        screen.complain(&found.warnings());
        found.write_human(quiet, &mut screen)?;
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
    Valid(Box<Report>),
    /// An entity would be left out, with `--strict`.
    Incomplete(Box<Report>),
    Invalid(Box<LoadErrors>),
}

/// The report about a configuration that can be served.
struct Report {
    lines: check::Report,
    order: OrderReport,
    counts: Counts,
    entities: Option<Entities>,
    /// Warnings about the files.
    warnings: Vec<Diagnostic>,
    /// All that was found on the way to what is served.
    diagnostics: Vec<Diagnostic>,
    /// Routes whose patterns the matcher cannot compile; planning reported them too.
    unmatchable: Vec<Diagnostic>,
    /// What output must not show.
    hidden: Hidden,
}

impl Report {
    fn lines(&self) -> impl Iterator<Item = Line> {
        self.lines.lines(self.diagnostics.iter().chain(&self.unmatchable))
    }
}

fn examine(site: &Site, strict: bool, entities_shown: bool) -> Result<Found> {
    let refused = |refusal: Refusal| anyhow::anyhow!(refusal.report());
    let preferences = site.settings().map_err(refused)?;
    let sources = site.texts(&preferences).map_err(refused)?.sources;
    if sources.is_empty() {
        bail!("nothing to check: name files, or set declarative_config");
    }
    let bytes: usize = sources.iter().map(|source| source.text.len()).sum();
    if bytes > 1 << 20 {
        out::progress(&format!("checking {} with {} MiB...", out::count(sources.len(), "file"), bytes >> 20));
    }
    let outcome = match site.examine(&preferences.settings, &sources, entities_shown) {
        Ok(examined) => {
            let Examined { configuration, mut diagnostics, warnings, report: lines, order, counts, .. } = examined;
            let (entities, hidden) = (examined.entities, examined.hidden);
            let unmatchable = check::unmatchable(&configuration.ir);
            diagnostics.extend(site.plan(&configuration, &examined.source_map)?);
            if strict {
                sharpen(&mut diagnostics);
            }
            let incomplete = diagnostics.iter().any(|d| d.severity == Severity::Error);
            let make = if strict && incomplete { Outcome::Incomplete } else { Outcome::Valid };
            make(Box::new(Report { lines, order, counts, entities, warnings, diagnostics, unmatchable, hidden }))
        }
        Err(Refusal::Load(errors)) => Outcome::Invalid(errors),
        Err(refusal) => return Err(refused(refusal)),
    };
    Ok(Found { preferences, sources, outcome })
}

impl Found {
    fn is_valid(&self) -> bool {
        matches!(self.outcome, Outcome::Valid(_))
    }

    /// What output must not show. Errors have it hidden already.
    fn hidden(&self) -> Hidden {
        match &self.outcome {
            Outcome::Valid(report) | Outcome::Incomplete(report) => report.hidden.clone(),
            Outcome::Invalid(_) => Hidden::default(),
        }
    }

    fn warnings(&self) -> String {
        self.preferences.notes.iter().map(|note| format!("warning: {note}\n")).collect()
    }

    /// Warnings about valid files, for standard error.
    fn oddities(&self) -> String {
        match &self.outcome {
            Outcome::Valid(report) => report.warnings.iter().map(|d| format!("warning: {d}\n")).collect(),
            Outcome::Incomplete(..) | Outcome::Invalid(_) => String::new(),
        }
    }

    /// One object in one line. Entities are written one after the other: there may be many.
    fn write_json(&self, screen: &mut Screen) -> Result<()> {
        let entities = match &self.outcome {
            Outcome::Valid(report) => report.entities.as_ref(),
            Outcome::Incomplete(_) | Outcome::Invalid(_) => None,
        };
        if let Some(entities) = entities {
            screen.print("{\"valid\":true,\"entities\":")?;
            entities.write(screen)?;
            screen.print(",")?;
            screen.print_members(self.json())?;
            screen.print("\n")
        } else {
            screen.print_json(self.json())
        }
    }

    /// The report without the entities and, for a valid configuration, the verdict.
    fn json(&self) -> Value {
        match &self.outcome {
            Outcome::Valid(report) => {
                let mut found = json!({});
                let errors: Vec<_> = report.diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
                if !errors.is_empty() {
                    // Kong accepts the file; entities that are not served here are listed in addition.
                    found["left_out"] = json!(flattened(&errors));
                }
                if !report.order.pairs.is_empty() {
                    found["route_order"] = order_json(&report.order);
                }
                self.add_problems(&mut found, report);
                found
            }
            Outcome::Incomplete(report) => {
                let errors: Vec<_> = report.diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
                let mut found =
                    json!({ "valid": false, "fields": fields(&errors), "flattened_errors": flattened(&errors) });
                self.add_problems(&mut found, report);
                found
            }
            Outcome::Invalid(errors) => {
                let fields = match errors.fields_without_secrets() {
                    // A file that is no YAML at all has no fields.
                    Value::Null => json!({ "error": errors.message() }),
                    Value::Object(map) if map.is_empty() => json!({ "error": errors.message() }),
                    fields => fields,
                };
                json!({
                    "valid": false,
                    "fields": fields,
                    "flattened_errors": errors.flattened_without_secrets().iter().map(problems::redacted).collect::<Value>(),
                    "errors": problems::of_refusal(errors),
                    "warnings": self.preferences.notes.iter().map(problems::of_note).collect::<Value>(),
                    "differences": [],
                })
            }
        }
    }

    /// Errors, warnings and differences with their places.
    fn add_problems(&self, found: &mut Value, report: &Report) {
        let of = |severity: Severity| report.diagnostics.iter().filter(move |d| d.severity == severity);
        let notes = self.preferences.notes.iter().map(problems::of_note);
        let differences = report.lines().filter(|line| line.verdict != Verdict::Same);
        found["errors"] = of(Severity::Error).map(problems::of_diagnostic).collect();
        found["warnings"] = of(Severity::Warning).map(problems::of_diagnostic).chain(notes).collect();
        found["differences"] = differences.map(|line| problems::of_line(&line)).collect();
    }

    fn write_human(&self, quiet: bool, screen: &mut Screen) -> Result<()> {
        match &self.outcome {
            Outcome::Valid(report) | Outcome::Incomplete(report) => {
                screen.print(&render_diagnostics(&report.diagnostics, &self.sources))?;
                write_table(report.lines(), quiet, screen)?;
                screen.print(&order_text(&report.order))?;
                let left_out = left_out(&report.diagnostics);
                let number = out::count(left_out.len(), "entity");
                let of_kind = |kind: &str| left_out.iter().filter(|(k, _)| *k == kind).count();
                let gone = || report.counts.summary(|kind, _| of_kind(kind));
                let rest = || report.counts.summary(|kind, all| all.saturating_sub(of_kind(kind)));
                let verdict = match (self.is_valid(), left_out.len()) {
                    (true, 0) => format!("valid: {}\n", report.counts.summary(|_, all| all)),
                    (true, _) => {
                        format!("valid, but {number} above would be left out: {}; served: {}\n", gone(), rest())
                    }
                    (false, _) => format!("invalid: {number} above would be left out: {}\n", gone()),
                };
                screen.print(&verdict)
            }
            Outcome::Invalid(errors) => {
                let sound = check_refused(errors).into_iter().filter(|line| line.verdict == Verdict::Same);
                screen.print(&errors.render())?;
                write_table(sound, quiet, screen)?;
                screen.print(&format!("invalid: {}\n", out::count(errors.findings().len().max(1), "error")))
            }
        }
    }
}

/// The entities with errors, by kind and id.
fn left_out(diagnostics: &[Diagnostic]) -> BTreeSet<(&str, Id)> {
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
    errors.map(|error| (error.origin.kind(), error.origin.id)).collect()
}

/// A line for each entity or field, verdict first.
fn write_table(lines: impl Iterator<Item = Line>, quiet: bool, screen: &mut Screen) -> Result<()> {
    let mut is_empty = true;
    for line in lines.filter(|line| !quiet || line.verdict != Verdict::Same) {
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
        screen.print(&format!("{verdict:<12} {line}\n"))?;
        is_empty = false;
    }
    if is_empty { Ok(()) } else { screen.print("\n") }
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
    let pair = |pair: &cardinal_kong::check::OrderPair| json!({ "kong": label(&pair.kong), "documented": label(&pair.documented) });
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
