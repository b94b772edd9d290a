//! An entity as the user wrote it, held as small as it can be: a large file is hundreds of thousands of them.

use std::fmt;

use cardinal_ir::Id;
use cardinal_schema::Errors;
use serde_json::{Map, Value};

use super::source::{Node, Place};
use crate::entities::Kind;
use crate::packed::{Names, Packed, usual_id};

/// An entity as the user wrote it.
pub(super) struct Item<'r, 'n> {
    pub(super) kind: &'r Kind,
    names: &'r Names,
    own: Packed,
    /// The whole entity; `None` while nothing is known to be wrong, so that large files need not be held as nodes.
    pub(super) node: Option<&'n Node>,
    pub(super) place: Place,
    pub(super) file: u32,
    /// Position in the list it stands in.
    pub(super) index: u32,
    /// Position of the entity that it is nested in, and the field that references it.
    pub(super) parent: Option<(usize, &'static str)>,
    pub(super) id: ItemId,
    pub(super) id_source: IdSource,
    /// There is a name that is no text, so that Kong makes no id.
    pub(super) is_misnamed: bool,
    errors: Option<Box<Errors>>,
}

/// Where the id of an item comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdSource {
    /// The user gave it.
    Given,
    /// It is made from what identifies the entity.
    Key,
    /// It is made from the contents; Kong draws a random one.
    Contents,
}

/// The text of an id, which a user may write in any form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ItemId {
    /// A UUID in its usual form.
    Usual(Id),
    Text(Box<str>),
}

/// Where an item is found in the files.
pub(super) struct Position<'n> {
    pub(super) node: Option<&'n Node>,
    pub(super) place: Place,
    pub(super) file: usize,
    pub(super) index: usize,
    pub(super) parent: Option<(usize, &'static str)>,
}

/// Nothing that is wrong.
static NO_ERRORS: Errors = Errors::Fields { entity: Vec::new(), fields: std::collections::BTreeMap::new() };

impl<'r, 'n> Item<'r, 'n> {
    /// An item with these fields of its own: no nested entities, no comments.
    pub(super) fn new(
        (kind, names): (&'r Kind, &'r Names),
        own: &Map<String, Value>,
        position: Position<'n>,
        (id, id_source): (ItemId, IdSource),
        errors: Errors,
    ) -> Self {
        let Position { node, place, file, index, parent } = position;
        let is_misnamed = kind.cache_key.is_empty()
            && own.get(kind.primary_key).is_none()
            && kind
                .key
                .and_then(|key| own.get(key.field))
                .is_some_and(|name| !name.is_string() && *name != Value::Bool(false));
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (own, file, index) = (Packed::new(own, names), small(file), small(index));
        let errors = (errors != NO_ERRORS).then(|| Box::new(errors));
        Self { kind, names, own, node, place, file, index, parent, id, id_source, is_misnamed, errors }
    }

    /// Its own fields: no nested entities, no comments.
    pub(super) fn own(&self) -> Map<String, Value> {
        self.own.unpack(self.names)
    }

    /// Replaces its own fields with the complete ones.
    pub(super) fn complete(&mut self, fields: Packed) {
        self.own = fields;
    }

    /// Its fields, packed.
    pub(super) fn into_fields(self) -> Packed {
        self.own
    }

    pub(super) fn set_own(&mut self, own: &Map<String, Value>) {
        self.own = Packed::new(own, self.names);
    }

    /// One of its own fields.
    pub(super) fn get(&self, field: &str) -> Option<Value> {
        self.own.get(field, self.names)
    }

    /// One of its own fields, if that is a text.
    pub(super) fn text(&self, field: &str) -> Option<String> {
        match self.get(field)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// What to call it.
    pub(super) fn label(&self) -> Option<String> {
        self.text(self.kind.label_field()?)
    }

    /// The value of a lookup key that is unique among all entities of the kind.
    pub(super) fn unique_name(&self) -> Option<String> {
        self.text(self.kind.key.filter(|key| key.unique)?.field)
    }

    /// The id as entities that are nested in this one see it.
    pub(super) fn id_seen_by_children(&self) -> Option<Value> {
        match self.get("id") {
            Some(id) => Some(id),
            None => (!self.is_misnamed).then(|| self.id.to_string().into()),
        }
    }

    pub(super) fn errors(&self) -> &Errors {
        self.errors.as_deref().unwrap_or(&NO_ERRORS)
    }

    pub(super) fn errors_mut(&mut self) -> &mut Errors {
        self.errors.get_or_insert_default()
    }

    /// Where a field stands, as far as that is known.
    pub(super) fn place_of(&self, path: &str) -> Place {
        self.node.map_or(self.place, |node| node.place_of(path))
    }
}

impl ItemId {
    /// Whether this is the text.
    pub(super) fn is(&self, text: &str) -> bool {
        match self {
            Self::Usual(id) => usual_id(text) == Some(*id),
            Self::Text(own) => **own == *text,
        }
    }

    /// The id that the text means.
    pub(super) fn parsed(&self) -> Option<Id> {
        match self {
            Self::Usual(id) => Some(*id),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

impl From<&str> for ItemId {
    fn from(text: &str) -> Self {
        usual_id(text).map_or_else(|| Self::Text(text.into()), Self::Usual)
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual(id) => id.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}
