//! Where a record came from, and what a front end has to say about it.

use serde::{Deserialize, Serialize};

use crate::Id;

/// The user's own object behind an IR record, for logs, metrics, errors and `explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The front end that lowered it: `kong`, `kuma`.
    pub front_end: Box<str>,
    /// The front end's own noun: `routes`, `MeshHTTPRoute`.
    pub kind: Box<str>,
    /// The id users know the object by.
    pub id: Id,
    /// The name users know the object by, if it has one.
    pub name: Option<Box<str>>,
    /// Where it was written, if it was read from a file.
    pub location: Option<Location>,
}

impl Origin {
    /// What to call the object in a message: its name, else its id.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{} {:?}", self.kind, name),
            None => format!("{} {}", self.kind, self.id),
        }
    }
}

/// A place in a file. Lines and columns count from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// File name as given by the user.
    pub file: Box<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
}

/// How bad a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Works, but probably not what was meant.
    Warning,
    /// The object is left out (or the whole set refused, in strict mode).
    Error,
}

/// Which rule a diagnostic is about. Closed, so that codes can be documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// A field or a set of fields breaks its schema.
    Schema,
    /// A reference names nothing.
    Reference,
    /// Two objects claim one unique value.
    Unique,
    /// The object needs something that this program does not have.
    Unsupported,
    /// A regular expression or expression does not compile.
    Pattern,
    /// Key material or a certificate cannot be used.
    Certificate,
    /// The record breaks an invariant of the IR.
    Invariant,
    /// A secret could not be resolved.
    Secret,
}

/// One thing wrong with one object. Many are reported at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// Which rule.
    pub code: Code,
    /// The object.
    pub origin: Origin,
    /// The field within the object, dotted (`config.minute`, `paths[0]`); empty for the whole object.
    pub path: String,
    /// What is wrong, one sentence.
    pub message: String,
    /// What to do about it, if that can be said.
    pub hint: Option<String>,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(at) = &self.origin.location {
            write!(f, "{}:{}:{}: ", at.file, at.line, at.column)?;
        }
        write!(f, "{}", self.origin.label())?;
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}
