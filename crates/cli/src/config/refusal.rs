//! [`Refusal`]: why a configuration is rejected, for people.

use std::path::PathBuf;

use cardinal_ir::{Code, Diagnostic, Severity};
use cardinal_kong::declarative::{Excerpts, Finding, Place};
use cardinal_kong::settings::Note;
use cardinal_kong::{LoadErrors, Source};
use cardinal_sync::ConfigProblem;

/// Why a configuration is rejected.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Settings are wrong; warnings are among the notes.
    Settings {
        notes: Vec<Note>,
        /// A file that they name may be readable a little later.
        transient: bool,
    },
    /// A file cannot be read.
    Read {
        path: PathBuf,
        why: String,
        /// It may be readable a little later.
        transient: bool,
    },
    /// Entities are wrong.
    Load(Box<LoadErrors>),
    /// An entity would be left out, with `--strict`; with the files.
    Incomplete(Vec<Diagnostic>, Vec<Source>),
    /// An internal error.
    Internal(anyhow::Error),
}

impl Refusal {
    /// Everything that is wrong, with places and source lines where they are known. Ends with a line end.
    pub(crate) fn render(&self) -> String {
        match self {
            Self::Settings { notes, .. } => notes.iter().map(render_note).collect(),
            Self::Read { path, why, .. } => format!("error: cannot read {}: {why}\n", path.display()),
            Self::Load(errors) => errors.render(),
            Self::Incomplete(diagnostics, sources) => render_diagnostics(diagnostics, sources),
            Self::Internal(error) => format!("error: {error:#}\n"),
        }
    }

    /// The same with a headline, as the text of an error. Ends without a line end.
    pub(crate) fn report(&self) -> String {
        match self {
            Self::Settings { .. } => format!("invalid settings\n{}", self.render().trim_end()),
            Self::Read { .. } | Self::Internal(_) => self.render().trim_start_matches("error: ").trim_end().to_owned(),
            Self::Load(_) | Self::Incomplete(..) => {
                format!("cannot load the configuration\n{}", self.render().trim_end())
            }
        }
    }

    /// The first problem, with its place, in one line; preferably one that there is help for, as others may follow from
    /// it.
    pub(crate) fn summary(&self) -> String {
        let problems = self.problems();
        let Some(first) = problems.iter().find(|problem| problem.help.is_some()).or(problems.first()) else {
            return "unknown reason".to_owned();
        };
        let mut text = String::new();
        for part in [&first.entity, &first.field].into_iter().filter(|part| !part.is_empty()) {
            text.push_str(&format!("{part}: "));
        }
        text.push_str(&first.message.replace('\n', " "));
        match (first.file.as_str(), first.line) {
            ("", _) => {}
            // The message names the file.
            (file, 0) if first.message.contains(file) => {}
            (file, 0) => text.push_str(&format!(" ({file})")),
            (file, line) => text.push_str(&format!(" ({file}:{line}:{})", first.column)),
        }
        if let Some(help) = &first.help {
            text.push_str(&format!("; {}", help.replace('\n', " ")));
        }
        match problems.len() {
            0 | 1 => text,
            count => format!("{text} (and {})", crate::out::count(count - 1, "more error")),
        }
    }

    /// Whether the same configuration may be readable a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Settings { transient, .. } | Self::Read { transient, .. } => *transient,
            Self::Incomplete(diagnostics, _) => diagnostics.iter().any(|found| found.code == Code::Shortage),
            Self::Load(_) | Self::Internal(_) => false,
        }
    }

    /// Everything that is wrong, with places.
    pub(crate) fn problems(&self) -> Vec<ConfigProblem> {
        let message = |message: String| ConfigProblem { message, ..ConfigProblem::default() };
        match self {
            Self::Settings { notes, .. } => notes.iter().filter(|note| note.is_error).map(of_note).collect(),
            Self::Read { path, why, .. } => {
                let file = path.display().to_string();
                vec![ConfigProblem { message: format!("cannot read {file}: {why}"), file, ..ConfigProblem::default() }]
            }
            Self::Load(errors) if errors.findings().is_empty() => vec![message(errors.message())],
            Self::Load(errors) => errors.findings().iter().map(|finding| of_finding(errors, finding)).collect(),
            Self::Incomplete(diagnostics, _) => {
                let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
                errors.map(ConfigProblem::from).collect()
            }
            Self::Internal(error) => vec![message(format!("{error:#}"))],
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.summary())
    }
}

impl std::error::Error for Refusal {}

fn of_note(note: &Note) -> ConfigProblem {
    // `kong.conf:12`, or the name of a variable.
    let place = note.at.rsplit_once(':').and_then(|(file, line)| Some((file.to_owned(), line.parse().ok()?)));
    let (file, line) = place.unwrap_or((note.at.clone(), 0));
    let column = usize::from(line > 0);
    ConfigProblem { file, line, column, field: note.name.clone(), message: note.message.clone(), ..Default::default() }
}

fn of_finding(errors: &LoadErrors, finding: &Finding) -> ConfigProblem {
    ConfigProblem {
        file: errors.file_name(finding).to_owned(),
        line: finding.place.line as usize,
        column: finding.place.column as usize,
        entity: finding.subject.clone(),
        field: finding.path.clone(),
        message: finding.message.clone(),
        help: finding.hint.clone(),
    }
}

fn render_note(note: &Note) -> String {
    format!("{}: {note}\n", if note.is_error { "error" } else { "warning" })
}

/// Diagnostics with their places and source lines.
pub(crate) fn render_diagnostics(diagnostics: &[Diagnostic], sources: &[Source]) -> String {
    let mut excerpts = Excerpts::default();
    diagnostics.iter().map(|diagnostic| render_diagnostic(diagnostic, sources, &mut excerpts)).collect()
}

fn render_diagnostic<'s>(diagnostic: &Diagnostic, sources: &'s [Source], excerpts: &mut Excerpts<'s>) -> String {
    let word = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let path = if diagnostic.path.is_empty() { String::new() } else { format!("{}: ", diagnostic.path) };
    let text = format!("{}: {path}{}", diagnostic.origin.label(), diagnostic.message).replace('\n', "\\n");
    let mut out = format!("{word}: {text}\n");
    if let Some(at) = &diagnostic.location {
        out.push_str(&format!("  --> {}:{}:{}\n", at.file, at.line, at.column));
        let source = sources.iter().find(|source| *source.name == *at.file);
        let place = Place { line: at.line, column: at.column };
        out.extend(source.and_then(|source| excerpts.of(source, place)));
    }
    if let Some(hint) = &diagnostic.hint {
        out.push_str(&format!("  = help: {hint}\n"));
    }
    out.push('\n');
    out
}
