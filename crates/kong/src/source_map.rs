//! [`SourceMap`]: where the objects behind the records of a generation were written.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::Arc;

use cardinal_ir::{Diagnostic, Id, Location};
use foldhash::fast::FixedState;

use crate::declarative::Snapshot;

/// Places of entities in files. Records do not have them, as they differ between nodes that serve the same configuration;
/// diagnostics about records get them here.
///
/// A large configuration has hundreds of thousands of entities, so that an entry holds a hash of kind and id instead of
/// both. Should two be equal, one message names a wrong line.
#[derive(Debug, Default)]
pub struct SourceMap {
    files: Vec<Arc<str>>,
    /// In the order of the hashes.
    places: Box<[Entry]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    hash: u64,
    line: u32,
    /// At most 65,535, as is the number of files.
    column: u16,
    file: u16,
}

impl SourceMap {
    /// The places of all entities.
    pub fn of(snapshot: &Snapshot) -> Self {
        let (mut files, mut numbers) = (Vec::new(), HashMap::new());
        let mut places = Vec::new();
        snapshot.each_location(|kind, id, at| {
            let number = *numbers.entry(Arc::as_ptr(&at.file)).or_insert_with(|| {
                files.push(Arc::clone(&at.file));
                files.len() - 1
            });
            let Ok(file) = u16::try_from(number) else { return };
            let column = u16::try_from(at.column).unwrap_or(u16::MAX);
            places.push(Entry { hash: hash(kind, id), line: at.line, column, file });
        });
        places.sort_unstable();
        Self { files, places: places.into() }
    }

    /// Where an entity was written; `None` for what was not read from a file.
    pub fn locate(&self, kind: &str, id: &Id) -> Option<Location> {
        let hash = hash(kind, id);
        let at = self.places.binary_search_by_key(&hash, |entry| entry.hash).ok()?;
        let entry = self.places.get(at)?;
        let file = Arc::clone(self.files.get(usize::from(entry.file))?);
        Some(Location { file, line: entry.line, column: u32::from(entry.column) })
    }

    /// Adds the locations to diagnostics that have none.
    pub fn fill<'d>(&self, diagnostics: impl IntoIterator<Item = &'d mut Diagnostic>) {
        for diagnostic in diagnostics {
            if diagnostic.location.is_none() {
                diagnostic.location = self.locate(diagnostic.origin.kind(), &diagnostic.origin.id);
            }
        }
    }
}

fn hash(kind: &str, id: &Id) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    kind.hash(&mut hasher);
    id.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use cardinal_ir::{Code, Origin, Severity};

    use super::*;
    use crate::{Registry, Settings, Source, load};

    #[test]
    fn entities_are_found_in_their_files() {
        let files = [
            Source::new(
                "a.yaml",
                "_format_version: '3.0'\nservices:\n- name: s\n  host: h\n  routes:\n  - name: r\n    paths: [/]\n",
            ),
            Source::new("b.yaml", "_format_version: '3.0'\nconsumers:\n\n- username: c\n"),
        ];
        let (registry, settings) = (Registry::new(&[]), Settings::default());
        let snapshot = load(&files, &registry, &settings).unwrap();
        let map = SourceMap::of(&snapshot);
        for (kind, place) in [("services", "a.yaml:3:3"), ("routes", "a.yaml:6:5"), ("consumers", "b.yaml:4:3")] {
            let id = snapshot.of(kind).next().unwrap().id;
            let at = map.locate(kind, &id).unwrap();
            assert_eq!(format!("{}:{}:{}", at.file, at.line, at.column), place);
            assert_eq!(map.locate("plugins", &id), None, "another kind of the same id");
            let mut diagnostic = Diagnostic {
                severity: Severity::Error,
                code: Code::Schema,
                origin: Origin::new("kong", kind, id),
                location: None,
                path: String::new(),
                message: "is odd".to_owned(),
                hint: None,
            };
            map.fill([&mut diagnostic]);
            assert_eq!(diagnostic.to_string(), format!("{place}: {kind} {id}: is odd"));
        }
        assert_eq!(SourceMap::default().locate("routes", &Id::nil()), None);
    }
}
