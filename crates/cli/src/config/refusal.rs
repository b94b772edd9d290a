//! [`Refusal`]: why there is nothing to serve, for people.

use std::path::PathBuf;

use cardinal_gateway::declarative::{Place, excerpt};
use cardinal_gateway::settings::Note;
use cardinal_gateway::{LoadErrors, Source};
use cardinal_ir::{Diagnostic, Severity};

/// Why a configuration cannot be had.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Settings are wrong; warnings are among the notes.
    Settings(Vec<Note>),
    /// A file cannot be read.
    Read { path: PathBuf, why: String },
    /// Entities are wrong.
    Load(Box<LoadErrors>),
    /// Something would have to be left out, and that was not wanted; with the files.
    Incomplete(Vec<Diagnostic>, Vec<Source>),
    /// The program could not look.
    Internal(anyhow::Error),
}

impl Refusal {
    /// Everything that is wrong, with places and source lines where they are known. Ends with a line end.
    pub(crate) fn render(&self) -> String {
        match self {
            Self::Settings(notes) => notes.iter().map(render_note).collect(),
            Self::Read { path, why } => format!("error: cannot read {}: {why}\n", path.display()),
            Self::Load(errors) => errors.render(),
            Self::Incomplete(diagnostics, sources) => render_diagnostics(diagnostics, sources),
            Self::Internal(error) => format!("error: {error:#}\n"),
        }
    }

    /// The first line of it.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Load(errors) => match errors.findings() {
                [] => errors.message(),
                [only] => only.message.clone(),
                [first, rest @ ..] => format!("{} (and {} more)", first.message, rest.len()),
            },
            other => other.render().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.summary())
    }
}

impl std::error::Error for Refusal {}

fn render_note(note: &Note) -> String {
    format!("{}: {note}\n", if note.is_error { "error" } else { "warning" })
}

/// Diagnostics with their places and source lines.
pub(crate) fn render_diagnostics(diagnostics: &[Diagnostic], sources: &[Source]) -> String {
    diagnostics.iter().map(|diagnostic| render_diagnostic(diagnostic, sources)).collect()
}

fn render_diagnostic(diagnostic: &Diagnostic, sources: &[Source]) -> String {
    let word = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let path = if diagnostic.path.is_empty() { String::new() } else { format!("{}: ", diagnostic.path) };
    let mut out = format!("{word}: {}: {path}{}\n", diagnostic.origin.label(), diagnostic.message);
    if let Some(at) = diagnostic.origin.location() {
        out.push_str(&format!("  --> {}:{}:{}\n", at.file, at.line, at.column));
        let source = sources.iter().find(|source| *source.name == *at.file);
        let place = Place { line: at.line, column: at.column };
        out.extend(source.and_then(|source| excerpt(source, place)));
    }
    if let Some(hint) = &diagnostic.hint {
        out.push_str(&format!("  = help: {hint}\n"));
    }
    out.push('\n');
    out
}
