//! [`Parsed`]: files as trees, with the entities that are written in them.

use std::collections::{HashMap, HashSet};

use cardinal_ir::Id;

use super::super::collect::collect;
use super::super::source::{Data, Node, Scalar, Source};
use super::super::{fill, parse_all, without_mark};
use super::style::Style;
use super::tree::{NodeId, Shape, Tree};
use super::verify::Mismatch;
use super::{Changes, EditError, LoadErrors};
use crate::entities::{Kind, Registry};

/// Files as trees.
pub(super) struct Parsed<'p> {
    pub(super) registry: &'p Registry,
    pub(super) files: Vec<File>,
    pub(super) entities: Vec<Written<'p>>,
    pub(super) index: HashMap<(&'static str, Id), usize>,
    /// Passwords are written as plain text.
    pub(super) transform: bool,
}

/// A file.
pub(super) struct File {
    pub(super) name: String,
    /// Its text, without a byte order mark.
    pub(super) text: String,
    mark: &'static str,
    /// The same with letters in place of expressions.
    masked: String,
    fills: Vec<std::ops::Range<usize>>,
}

/// An entity that is written in a file.
pub(super) struct Written<'p> {
    pub(super) kind: &'p Kind,
    pub(super) id: Id,
    pub(super) file: usize,
    pub(super) line: usize,
    /// `None` if it is repeated by an alias, or merged from elsewhere.
    pub(super) node: Option<NodeId>,
    /// The entity that it is nested in, and the field that references that one.
    pub(super) parent: Option<(usize, &'static str)>,
}

/// Who holds a list of entities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    File(usize),
    Entity(&'static str, Id),
}

/// The ids of the entities in each list, in their order.
#[derive(Debug, Default)]
pub(super) struct Expected(pub(super) HashMap<(Owner, &'static str), Vec<Id>>);

impl File {
    fn of(source: &Source) -> Self {
        let text = without_mark(&source.text);
        let mark = if text.len() < source.text.len() { "\u{feff}" } else { "" };
        let (masked, fills) = match source.filled {
            Some(_) => fill::masked(text),
            None => (text.to_owned(), Vec::new()),
        };
        Self { name: source.name.clone(), text: text.to_owned(), mark, masked, fills }
    }

    /// The file with another text.
    pub(super) fn marked(&self, text: &str) -> String {
        format!("{}{text}", self.mark)
    }

    pub(super) fn tree(&self) -> Result<Tree<'_>, EditError> {
        Tree::read(&self.masked, self.fills.clone()).map_err(|(message, line)| self.refused(line, &message))
    }

    pub(super) fn refused(&self, line: usize, message: &str) -> EditError {
        EditError { file: self.name.clone(), line, message: message.to_owned() }
    }
}

impl<'p> Parsed<'p> {
    pub(super) fn of(sources: &[Source], registry: &'p Registry) -> Result<Self, EditError> {
        let unreadable = |errors: Box<LoadErrors>| EditError {
            file: String::new(),
            line: 0,
            message: format!("the files cannot be read: {}", super::first_of(&errors)),
        };
        let (roots, _) = parse_all(sources, registry).map_err(unreadable)?;
        let files: Vec<File> = sources.iter().map(File::of).collect();
        let mut nodes = HashMap::new();
        for (file, root) in files.iter().zip(&roots) {
            check_format(file, root)?;
            let tree = file.tree()?;
            let mut found = |value: &Node, id: NodeId| {
                // What an alias repeats has no place of its own.
                let is_own = !matches!(tree.node(id).shape, Shape::Alias(_));
                nodes.extend(is_own.then_some((std::ptr::from_ref(value), id)));
            };
            tree.pair_with((root, tree.root), &mut found).map_err(|(message, line)| file.refused(line, &message))?;
        }
        let all = collect(registry, &roots);
        let entity = |item: &super::super::item::Item<'p, '_>| Written {
            kind: item.kind,
            id: item.id.parsed().unwrap_or_default(),
            file: item.file as usize,
            line: item.place.line as usize,
            node: item.node.and_then(|node| nodes.get(&std::ptr::from_ref(node)).copied()),
            parent: item.parent,
        };
        let entities: Vec<Written<'p>> = all.items.iter().map(entity).collect();
        let index = entities.iter().enumerate().map(|(at, entity)| ((entity.kind.name, entity.id), at)).collect();
        Ok(Self { registry, files, entities, index, transform: all.transform })
    }

    pub(super) fn find(&self, kind: &'static str, id: &Id) -> Option<&Written<'p>> {
        self.entities.get(*self.index.get(&(kind, *id))?)
    }

    /// Who holds an entity.
    pub(super) fn owner(&self, entity: &Written<'p>) -> Owner {
        match entity.parent.and_then(|(at, _)| self.entities.get(at)) {
            Some(parent) => Owner::Entity(parent.kind.name, parent.id),
            None => Owner::File(entity.file),
        }
    }

    /// Why an entity cannot be changed, at its place.
    pub(super) fn refused(&self, entity: &Written<'p>, message: &str) -> EditError {
        match self.files.get(entity.file) {
            Some(file) => file.refused(entity.line, message),
            None => EditError { file: String::new(), line: 0, message: message.to_owned() },
        }
    }

    /// The error about a change that would mean something else.
    pub(super) fn mismatch(&self, mismatch: &Mismatch) -> EditError {
        let Mismatch { kind, id, why } = mismatch;
        let text = format!("the change cannot be written to this file: {kind} {id}: {why}");
        match self.find(kind, id) {
            Some(entity) => self.refused(entity, &format!("{text}{}", self.shared(entity))),
            None => EditError { file: String::new(), line: 0, message: text },
        }
    }

    /// The error about a change after which the files cannot be read.
    pub(super) fn explained(&self, changes: &Changes<'_>, why: &str) -> EditError {
        let text = format!("the change cannot be written to this file: {why}");
        let concerned = self.entities.iter().filter(|entity| changes.of(entity.kind.name, &entity.id).is_some());
        let shared = concerned.map(|entity| (entity, self.shared(entity))).find(|(_, shared)| !shared.is_empty());
        match shared {
            Some((entity, shared)) => self.refused(entity, &format!("{text}{shared}")),
            None => EditError { file: String::new(), line: 0, message: text },
        }
    }

    /// A note that an entity shares text with others.
    fn shared(&self, entity: &Written<'p>) -> String {
        let Some(file) = self.files.get(entity.file) else { return String::new() };
        let (Ok(tree), Some(node)) = (file.tree(), entity.node) else {
            return "; it is repeated by an alias (*): write it out, or change the original".to_owned();
        };
        let range = tree.node(node).start..tree.node(node).range.end;
        let shared = tree
            .nodes()
            .map(|(_, node)| node)
            .find(|node| range.contains(&node.start) && (node.anchor > 0 || matches!(node.shape, Shape::Alias(_))));
        match shared {
            Some(node) => {
                let line = tree.line_number(node.start);
                format!(
                    "; line {line} has an anchor (&) or an alias (*) that shares text with other places: change the file"
                )
            }
            None => String::new(),
        }
    }
}

/// Only files of the format 3.0 are changed: earlier ones mean something else.
fn check_format(file: &File, root: &Node) -> Result<(), EditError> {
    match root.get("_format_version").map(|node| &node.data) {
        Some(Data::Scalar(Scalar::String(version))) if **version != *"3.0" => {
            let line = root.place_of("_format_version").line as usize;
            let message = format!("files of the format {version} are not changed: convert them to 3.0 first");
            Err(file.refused(line, &message))
        }
        _ => Ok(()),
    }
}

impl Expected {
    /// The entities whose ids differ from what is expected, in files that were read again.
    pub(super) fn wrong_ids(
        &self,
        files: &[Source],
        registry: &Registry,
    ) -> Result<HashSet<(&'static str, Id)>, Box<LoadErrors>> {
        let (roots, _) = parse_all(files, registry)?;
        let all = collect(registry, &roots);
        let mut counts: HashMap<(Owner, &'static str), usize> = HashMap::new();
        let mut found: Vec<Option<(&'static str, Id)>> = Vec::with_capacity(all.items.len());
        let mut wrong = HashSet::new();
        for item in &all.items {
            let owner = match item.parent {
                Some((at, _)) => found
                    .get(at)
                    .copied()
                    .flatten()
                    .map_or(Owner::File(usize::MAX), |(kind, id)| Owner::Entity(kind, id)),
                None => Owner::File(item.file as usize),
            };
            let count = counts.entry((owner, item.kind.name)).or_default();
            let expected = self.0.get(&(owner, item.kind.name)).and_then(|list| list.get(*count)).copied();
            *count += 1;
            if let Some(expected) = expected
                && item.id.parsed() != Some(expected)
            {
                wrong.insert((item.kind.name, expected));
            }
            found.push(expected.map(|id| (item.kind.name, id)));
        }
        Ok(wrong)
    }
}

/// The style of a file.
pub(super) fn style(tree: &Tree<'_>) -> Style {
    Style::of(tree)
}
