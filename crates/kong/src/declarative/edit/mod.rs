//! Changes of entities as changes of the texts they were written in: [`edit`].
//!
//! Comments, order, quotes and blank lines of everything else stay as they are. A text is read as a tree with the places
//! of its nodes ([`tree`]); the [`plan`] says what is to be done to which node, and [`patch`] does it in the [`style`] of
//! the file. The result is read again and compared with what it should be ([`verify`]): a change that cannot be written
//! correctly is refused, whatever the reason.

mod fields;
mod members;
mod minimal;
mod parsed;
mod patch;
mod plan;
mod style;
#[cfg(test)]
mod tests;
mod tree;
mod update;
mod verify;

use std::collections::{HashMap, HashSet};

use cardinal_ir::Id;
use serde_json::{Map, Value};

use super::report::LoadErrors;
use super::snapshot::Snapshot;
use super::source::Source;
use crate::entities::Registry;
use crate::settings::Settings;
use parsed::Parsed;
use plan::Plan;

/// How often ids are added to a text, and with them to what is nested in their entities, until all are as they should be.
const ROUNDS_MAX: usize = 8;

/// A change of the entities of a configuration. Entities are complete: with defaults, and with references `{"id": id}`.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An entity is created or replaced. What is hashed when it is read, such as a password, is not hashed yet, unless it
    /// stays as it was.
    Put {
        /// Its kind.
        kind: &'static str,
        /// Its id.
        id: Id,
        /// All fields.
        value: Map<String, Value>,
    },
    /// An entity is removed. What goes with it is removed by changes of its own.
    Delete {
        /// Its kind.
        kind: &'static str,
        /// Its id.
        id: Id,
    },
    /// A consumer becomes a member of a group.
    Join {
        /// The consumer.
        consumer: Id,
        /// The group.
        group: Id,
    },
    /// A consumer leaves a group.
    Leave {
        /// The consumer.
        consumer: Id,
        /// The group.
        group: Id,
    },
}

/// Why a change cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", place(.file, *.line))]
pub struct EditError {
    /// The file; empty if it is none in particular.
    pub file: String,
    /// The line, from 1; 0 is none in particular.
    pub line: usize,
    /// Why, and what to do.
    pub message: String,
}

fn place(file: &str, line: usize) -> String {
    match (file, line) {
        ("", _) => String::new(),
        (file, 0) => format!("{file}: "),
        (file, line) => format!("{file}:{line}: "),
    }
}

/// What an entity becomes; `None` if it is removed.
type Becomes<'c> = Option<&'c Map<String, Value>>;

/// Changes by the entities that they concern.
struct Changes<'c> {
    list: &'c [Change],
    of: HashMap<&'static str, HashMap<Id, Becomes<'c>>>,
}

impl<'c> Changes<'c> {
    fn new(list: &'c [Change]) -> Self {
        let mut of: HashMap<&'static str, HashMap<_, _>> = HashMap::new();
        for change in list {
            let (kind, id, value) = match change {
                Change::Put { kind, id, value } => (*kind, *id, Some(value)),
                Change::Delete { kind, id } => (*kind, *id, None),
                Change::Join { .. } | Change::Leave { .. } => continue,
            };
            of.entry(kind).or_default().insert(id, value);
        }
        Self { list, of }
    }

    /// What an entity becomes: `None` if it stays, `Some(None)` if it is removed.
    fn of(&self, kind: &str, id: &Id) -> Option<Becomes<'c>> {
        self.of.get(kind)?.get(id).copied()
    }

    /// The entities of a kind that are created or replaced.
    fn new_of(&self, kind: &str) -> impl Iterator<Item = (Id, &'c Map<String, Value>)> {
        let all = self.of.get(kind).into_iter().flatten();
        all.filter_map(|(id, new)| Some((*id, (*new)?)))
    }
}

/// Fills in variables in files.
pub type Fill<'f> = dyn Fn(&[Source]) -> Result<Vec<Source>, Box<LoadErrors>> + 'f;

/// How files become entities.
pub struct Meaning<'m> {
    /// The kinds of entities.
    pub registry: &'m Registry,
    /// The settings that entities are read with.
    pub settings: &'m Settings,
    /// Fills in variables of the environment, if that is done.
    pub fill: &'m Fill<'m>,
}

/// Writes changes into the files that a snapshot was read from, which are filled in if that is done.
///
/// The result has all files, with new texts. Read again, they have exactly the entities that they should have, apart from
/// times of creation and change, which are written only where they are written already.
///
/// # Errors
/// A file cannot be read, or the change cannot be written without losing something: an alias, a merge or a variable of the
/// environment would have to be replaced by its value.
pub fn edit(
    files: &[Source],
    before: &Snapshot,
    changes: &[Change],
    meaning: &Meaning<'_>,
) -> Result<Vec<Source>, EditError> {
    let changes = Changes::new(changes);
    let first = match attempt(files, before, &changes, meaning, false) {
        Ok(files) => return Ok(files),
        Err(error) => error,
    };
    // Where the smallest change means something else, a field as a whole may be what is needed.
    attempt(files, before, &changes, meaning, true).map_err(|_| first)
}

fn attempt(
    files: &[Source],
    before: &Snapshot,
    changes: &Changes<'_>,
    meaning: &Meaning<'_>,
    coarse: bool,
) -> Result<Vec<Source>, EditError> {
    let mut ids = HashSet::new();
    let parsed = Parsed::of(files, meaning.registry)?;
    for _ in 0..ROUNDS_MAX {
        let plan = Plan::new(&parsed, before, changes, &ids, coarse)?;
        let (texts, expected) = plan.written()?;
        let sources: Vec<Source> =
            files.iter().zip(texts).map(|(file, text)| Source::new(file.name.clone(), text)).collect();
        let wrong = |errors: Box<LoadErrors>| parsed.explained(changes, &first_of(&errors));
        let filled = (meaning.fill)(&sources).map_err(wrong)?;
        let more = expected.wrong_ids(&filled, meaning.registry).map_err(wrong)?;
        let known = ids.len();
        ids.extend(more);
        if ids.len() > known {
            continue;
        }
        let after = super::load(&filled, meaning.registry, meaning.settings).map_err(wrong)?;
        return match verify::verify(before, &after, changes, meaning.registry) {
            Ok(()) => Ok(sources),
            Err(mismatch) => Err(parsed.mismatch(&mismatch)),
        };
    }
    Err(EditError { file: String::new(), line: 0, message: "the ids of the entities cannot be kept".to_owned() })
}

/// The first of the errors, in one line.
fn first_of(errors: &LoadErrors) -> String {
    match errors.findings().first() {
        Some(finding) => {
            let parts = [&finding.subject, &finding.path, &finding.message];
            parts.into_iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(": ")
        }
        None => errors.message(),
    }
}
