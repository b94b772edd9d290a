//! Problems as objects for editors and CI: place, message and help.

use cardinal_ir::{Diagnostic, Location, Severity};
use cardinal_kong::LoadErrors;
use cardinal_kong::check::{Line, Verdict};
use cardinal_kong::declarative::{discreet, redact};
use cardinal_kong::settings::Note;
use serde_json::{Value, json};

/// All errors of a configuration.
pub(super) fn of_refusal(errors: &LoadErrors) -> Value {
    if errors.findings().is_empty() {
        return json!([object(None, "error", "", "", &errors.message(), None)]);
    }
    let of = |finding: &cardinal_kong::declarative::Finding| {
        let place = finding.place;
        let at = (errors.file_name(finding), place.line, place.column);
        object(Some(at), "error", &finding.subject, &finding.path, &finding.message, finding.hint.as_deref())
    };
    errors.findings().iter().map(of).collect()
}

/// An error or warning about an entity.
pub(super) fn of_diagnostic(diagnostic: &Diagnostic) -> Value {
    let location = diagnostic.location.as_ref();
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let (subject, message) = (diagnostic.origin.label(), discreet(&diagnostic.message));
    object(location.map(place), severity, &subject, &diagnostic.path, &message, diagnostic.hint.as_deref())
}

/// An error or warning about a setting.
pub(super) fn of_note(note: &Note) -> Value {
    // A line of a file, or the name of a variable.
    let at = note.at.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?, 1)));
    let severity = if note.is_error { "error" } else { "warning" };
    object(at, severity, "settings", &note.name, &note.message, None)
}

/// How an entity or field differs from Kong.
pub(super) fn of_line(line: &Line) -> Value {
    let verdict = match line.verdict {
        Verdict::Same => "same",
        Verdict::Changed => "changed",
        Verdict::Unsupported => "unsupported",
    };
    let mut found = object(line.location.as_ref().map(place), "", &line.subject, &line.path, &line.how, None);
    if let Value::Object(map) = &mut found {
        map.shift_remove("severity");
        map.insert("verdict".to_owned(), verdict.into());
    }
    found
}

/// An entry of `flattened_errors` without secrets.
pub(super) fn redacted(entry: &Value) -> Value {
    let mut shown = entry.clone();
    if let Some(entity) = shown.get_mut("entity") {
        *entity = redact(entity, None);
    }
    for error in shown.get_mut("errors").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(message) = error.get("message").and_then(Value::as_str).map(discreet) {
            error["message"] = message.into();
        }
    }
    shown
}

fn place(at: &Location) -> (&str, u32, u32) {
    (&at.file, at.line, at.column)
}

/// Line and column are null where only the file is known.
fn object(
    at: Option<(&str, u32, u32)>,
    severity: &str,
    entity: &str,
    field: &str,
    message: &str,
    help: Option<&str>,
) -> Value {
    let number = |n: u32| if n == 0 { Value::Null } else { n.into() };
    let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    json!({
        "file": at.map(|(file, ..)| file),
        "line": at.map(|(_, line, _)| number(line)),
        "column": at.map(|(.., column)| number(column)),
        "severity": severity,
        "entity": text(entity),
        "field": text(field),
        "message": message,
        "help": help,
    })
}
