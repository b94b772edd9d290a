//! Settings as text: from a file, the environment and overrides, with where each came from.

use std::collections::BTreeMap;

use crate::secrets::Secrets;

use super::table::{FAMILIES, Row, Status, TABLE, row};

/// Where settings come from; later ones win: file, `KONG_*`, `CARDINAL_*`, overrides.
#[derive(Clone, Debug, Default)]
pub struct Inputs<'i> {
    /// Name and contents of a `kong.conf`.
    pub file: Option<(&'i str, &'i str)>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// From the command line, by setting name.
    pub overrides: BTreeMap<String, String>,
}

/// Something to say about a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The setting cannot be used; otherwise the note is a warning.
    pub is_error: bool,
    /// The setting.
    pub name: String,
    /// Where it was said: `kong.conf:12`, `KONG_X`, `command line`.
    pub at: String,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.at.is_empty() {
            write!(f, "{}: ", self.at)?;
        }
        write!(f, "{}: {}", self.name, self.message)
    }
}

/// A value with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) at: String,
}

/// The settings that somebody gave, by name.
#[derive(Debug, Default)]
pub(super) struct Values {
    given: BTreeMap<&'static str, Given>,
    pub(super) notes: Vec<Note>,
}

impl Values {
    pub(super) fn read(inputs: &Inputs<'_>) -> Self {
        let mut values = Self::default();
        if let Some((name, text)) = inputs.file {
            for (i, line) in text.lines().enumerate() {
                values.line(line, &format!("{name}:{}", i + 1));
            }
        }
        for prefix in ["KONG_", "CARDINAL_"] {
            for (var, text) in &inputs.env {
                if let Some(name) = var.strip_prefix(prefix) {
                    values.set(&name.to_ascii_lowercase(), text, var, true);
                }
            }
        }
        for (name, text) in &inputs.overrides {
            values.set(name, text, "command line", false);
        }
        values.resolve(&inputs.env);
        values
    }

    /// A value may be a reference to a secret in the environment.
    fn resolve(&mut self, env: &BTreeMap<String, String>) {
        let is_reference = |given: &Given| given.text.starts_with("{vault://");
        if !self.given.values().any(is_reference) {
            return;
        }
        let secrets = Secrets { env: env.clone(), ..Secrets::default() };
        let mut failed = Vec::new();
        for (name, given) in self.given.iter_mut().filter(|(_, g)| is_reference(g)) {
            match secrets.resolve(&given.text, &BTreeMap::new()) {
                Ok(secret) => given.text = secret,
                Err(why) => failed.push((*name, given.at.clone(), format!("{} cannot be resolved: {why}", given.text))),
            }
        }
        for (name, at, message) in failed {
            self.note(true, name, &at, &message);
        }
    }

    /// One line of a file: `name = value  # comment`; `\#` is a `#`.
    fn line(&mut self, line: &str, at: &str) {
        let text = without_comment(line);
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        match text.split_once('=') {
            Some((name, value)) => self.set(name.trim(), value.trim(), at, false),
            None => self.note(true, text, at, "expected name = value"),
        }
    }

    fn set(&mut self, name: &str, text: &str, at: &str, from_env: bool) {
        match row(name) {
            Some(row) => {
                let given = Given { text: text.trim().to_owned(), at: at.to_owned() };
                self.status_note(row, &given);
                self.given.insert(row.name, given);
            }
            None => self.unknown(name, at, from_env),
        }
    }

    fn status_note(&mut self, row: &Row, given: &Given) {
        let off = matches!(given.text.as_str(), "" | "off" | "NONE") || given.text == row.default;
        if row.status == Status::NotServed && !off {
            let message = format!("not served by this version: {}", row.text);
            self.note(false, row.name, &given.at, &message);
        }
    }

    fn unknown(&mut self, name: &str, at: &str, from_env: bool) {
        if let Some((_, why)) = FAMILIES.iter().find(|(prefix, _)| name.starts_with(prefix)) {
            self.note(false, name, at, &format!("has no effect: {why}"));
            return;
        }
        let near = cardinal_schema::suggest(name, TABLE.iter().map(|r| r.name));
        match near {
            Some(near) => self.note(false, name, at, &format!("unknown setting, did you mean '{near}'?")),
            // Kubernetes puts many variables that start with a service's name into the environment.
            None if from_env => {}
            None => self.note(false, name, at, "unknown setting"),
        }
    }

    pub(super) fn note(&mut self, is_error: bool, name: &str, at: &str, message: &str) {
        let (name, at, message) = (name.to_owned(), at.to_owned(), message.to_owned());
        self.notes.push(Note { is_error, name, at, message });
    }

    /// The value that somebody gave, or the default; `None` when there is neither.
    pub(super) fn get(&self, name: &str) -> Option<Given> {
        let given = self.given.get(name).cloned().filter(|g| !g.text.is_empty() && g.text != "NONE");
        given.or_else(|| {
            let default = row(name)?.default;
            (!default.is_empty()).then(|| Given { text: default.to_owned(), at: "default".to_owned() })
        })
    }
}

fn without_comment(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'#') => {
                out.push('#');
                chars.next();
            }
            '#' => break,
            c => out.push(c),
        }
    }
    out
}
