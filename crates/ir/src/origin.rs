//! Where a record came from, and what a front end has to say about it.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Id;

/// The user's own object behind an IR record, for logs, metrics, errors and `explain`.
#[derive(Debug, Default)]
pub struct Origin {
    /// What it shares with others; `None` is [`Noun::default`].
    noun: Option<Arc<Noun>>,
    /// The id users know the object by.
    pub id: Id,
    /// The name users know the object by, if it has one.
    pub name: Option<Box<str>>,
    line: AtomicU32,
    column: AtomicU32,
}

/// What kind of object it is, and the file it was written in; shared by all records that are alike in this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noun {
    /// The front end that lowered it: `kong`, `kuma`.
    pub front_end: Box<str>,
    /// The front end's own noun: `routes`, `MeshHTTPRoute`.
    pub kind: Box<str>,
    /// The file, as the user names it; `None` for an object that was not read from one.
    pub file: Option<Arc<str>>,
}

impl Origin {
    /// An object of this front end and kind, without a name, from no file.
    pub fn new(front_end: &str, kind: &str, id: Id) -> Self {
        let noun = Noun { front_end: front_end.into(), kind: kind.into(), file: None };
        Self::at(&Arc::new(noun), id, None, 0, 0)
    }

    /// An object with its name and its place in the noun's file.
    pub fn at(noun: &Arc<Noun>, id: Id, name: Option<Box<str>>, line: u32, column: u32) -> Self {
        Self { noun: Some(Arc::clone(noun)), id, name, line: line.into(), column: column.into() }
    }

    /// The same with a name.
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The front end that lowered it; empty when nobody said.
    pub fn front_end(&self) -> &str {
        self.noun.as_ref().map_or("", |noun| &noun.front_end)
    }

    /// The front end's own noun.
    pub fn kind(&self) -> &str {
        self.noun.as_ref().map_or("", |noun| &noun.kind)
    }

    /// Where it was written, if it was read from a file.
    pub fn location(&self) -> Option<Location> {
        let file = self.noun.as_ref()?.file.as_ref()?;
        let place = |n: &AtomicU32| n.load(Ordering::Relaxed);
        Some(Location { file: Arc::clone(file), line: place(&self.line), column: place(&self.column) })
    }

    /// File, line and column of where it was written: what origins are sorted by.
    pub fn place(&self) -> Option<(&str, u32, u32)> {
        let file = self.noun.as_ref()?.file.as_ref()?;
        Some((file, self.line.load(Ordering::Relaxed), self.column.load(Ordering::Relaxed)))
    }

    /// Notes that the object stands elsewhere in its file now. It is the same object, so its record stays the same and
    /// stays shared: of all that a record says, this alone may change.
    pub fn moved_to(&self, line: u32, column: u32) {
        self.line.store(line, Ordering::Relaxed);
        self.column.store(column, Ordering::Relaxed);
    }

    /// Notes the place of another, equal, origin.
    pub(crate) fn moved_with(&self, other: &Self) {
        let place = |n: &AtomicU32| n.load(Ordering::Relaxed);
        let (line, column) = (place(&other.line), place(&other.column));
        if (place(&self.line), place(&self.column)) != (line, column) {
            self.moved_to(line, column);
        }
    }

    /// What to call the object in a message: its name, else its id.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{} {:?}", self.kind(), name),
            None => format!("{} {}", self.kind(), self.id),
        }
    }
}

impl Clone for Origin {
    fn clone(&self) -> Self {
        let place = |n: &AtomicU32| n.load(Ordering::Relaxed).into();
        let (line, column) = (place(&self.line), place(&self.column));
        Self { noun: self.noun.clone(), id: self.id, name: self.name.clone(), line, column }
    }
}

/// An object that stands elsewhere in its file is the same object: see [`Origin::moved_to`].
impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        let same_noun = match (&self.noun, &other.noun) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            (a, b) => a.as_deref().unwrap_or(&Noun::default()) == b.as_deref().unwrap_or(&Noun::default()),
        };
        same_noun && self.id == other.id && self.name == other.name
    }
}

impl Eq for Origin {}

/// How an origin travels.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename = "Origin", default)]
struct Form<'o> {
    front_end: Cow<'o, str>,
    kind: Cow<'o, str>,
    id: Id,
    name: Option<Cow<'o, str>>,
    location: Option<Location>,
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (front_end, kind) = (self.front_end().into(), self.kind().into());
        let name = self.name.as_deref().map(Cow::Borrowed);
        Form { front_end, kind, id: self.id, name, location: self.location() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Form { front_end, kind, id, name, location } = Form::deserialize(deserializer)?;
        let (line, column) = location.as_ref().map_or((0, 0), |at| (at.line, at.column));
        let noun = Noun { front_end: front_end.into(), kind: kind.into(), file: location.map(|at| at.file) };
        Ok(Self::at(&Arc::new(noun), id, name.map(Into::into), line, column))
    }
}

/// A place in a file. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// File name as given by the user.
    pub file: Arc<str>,
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
    /// The node has run out of descriptors or memory; the same configuration may be usable a little later.
    Shortage,
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
        if let Some(at) = self.origin.location() {
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
