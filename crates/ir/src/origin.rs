//! The origin of a record, and diagnostics of front ends.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Id;

/// The user's own object from which an IR record was lowered, for logs, metrics, errors and `explain`. It is stable and
/// does not depend on where the object was written: positions in files are kept by front ends.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Shared by all objects of one kind; `None` is [`OriginKind::default`].
    kind: Option<Arc<OriginKind>>,
    /// The id by which users know the object.
    pub id: Id,
    /// The name by which users know the object, if it has one.
    pub name: Option<Box<str>>,
}

/// The kind of a user's object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OriginKind {
    /// The front end that lowered the object: `kong`, `kuma`.
    pub front_end: Box<str>,
    /// The front end's own noun: `routes`, `MeshHTTPRoute`.
    pub noun: Box<str>,
}

impl Origin {
    /// An object of this front end and kind, without a name.
    pub fn new(front_end: &str, noun: &str, id: Id) -> Self {
        let kind = OriginKind { front_end: front_end.into(), noun: noun.into() };
        Self::of(&Arc::new(kind), id, None)
    }

    /// An object of a shared kind.
    pub fn of(kind: &Arc<OriginKind>, id: Id, name: Option<Box<str>>) -> Self {
        Self { kind: Some(Arc::clone(kind)), id, name }
    }

    /// Adds a name.
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The front end that lowered the object; empty if unknown.
    pub fn front_end(&self) -> &str {
        self.kind.as_ref().map_or("", |kind| &kind.front_end)
    }

    /// The front end's own noun.
    pub fn kind(&self) -> &str {
        self.kind.as_ref().map_or("", |kind| &kind.noun)
    }

    /// The text for the object in a message: its name, or else its id.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{} {:?}", self.kind(), name),
            None => format!("{} {}", self.kind(), self.id),
        }
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        let same_kind = match (&self.kind, &other.kind) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            (a, b) => a.as_deref().unwrap_or(&OriginKind::default()) == b.as_deref().unwrap_or(&OriginKind::default()),
        };
        same_kind && self.id == other.id && self.name == other.name
    }
}

impl Eq for Origin {}

/// The serial form.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename = "Origin", default)]
struct Form<'o> {
    front_end: Cow<'o, str>,
    kind: Cow<'o, str>,
    id: Id,
    name: Option<Cow<'o, str>>,
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (front_end, kind) = (self.front_end().into(), self.kind().into());
        let name = self.name.as_deref().map(Cow::Borrowed);
        Form { front_end, kind, id: self.id, name }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Form { front_end, kind, id, name } = Form::deserialize(deserializer)?;
        let kind = OriginKind { front_end: front_end.into(), noun: kind.into() };
        Ok(Self::of(&Arc::new(kind), id, name.map(Into::into)))
    }
}

/// A position in a file. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    /// File name as given by the user.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
}

/// The severity of a diagnostic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Valid, but probably not intended.
    Warning,
    /// The object is left out (or the whole set is rejected, in strict mode).
    Error,
}

/// The rule that a diagnostic is about. Closed, so that codes can be documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// A field or a set of fields violates its schema.
    Schema,
    /// A reference to an unknown object.
    Reference,
    /// Two objects have the same unique value.
    Unique,
    /// The object requires something that this program does not support.
    Unsupported,
    /// A regular expression or expression is invalid.
    Pattern,
    /// A key or certificate cannot be used.
    Certificate,
    /// The record violates an invariant of the IR.
    Invariant,
    /// A secret cannot be resolved.
    Secret,
    /// The node has run out of descriptors or memory; the same configuration may be usable later.
    Shortage,
    /// A plugin panicked.
    Panic,
    /// A listener cannot be opened.
    Listener,
}

/// A problem of one object. Several are reported at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The severity.
    pub severity: Severity,
    /// The violated rule.
    pub code: Code,
    /// The object.
    pub origin: Origin,
    /// Where the object was written, if its front end read it from a file and recorded the position.
    pub location: Option<Location>,
    /// The field within the object, dotted (`config.minute`, `paths[0]`); empty for the whole object.
    pub path: String,
    /// The problem, in one sentence.
    pub message: String,
    /// How to fix it, if known.
    pub hint: Option<String>,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(at) = &self.location {
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

/// The reasons for rejecting something as a whole: at least one diagnostic.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostics(Box<[Diagnostic]>);

impl Diagnostics {
    /// These diagnostics, if there are any.
    pub fn of(all: impl IntoIterator<Item = Diagnostic>) -> Option<Self> {
        let all: Box<[Diagnostic]> = all.into_iter().collect();
        (!all.is_empty()).then_some(Self(all))
    }

    /// All diagnostics, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// All diagnostics, in order.
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.0.into_vec()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(only: Diagnostic) -> Self {
        Self([only].into())
    }
}

impl std::fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, diagnostic) in self.0.iter().enumerate() {
            let line_end = if number > 0 { "\n" } else { "" };
            write!(f, "{line_end}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
