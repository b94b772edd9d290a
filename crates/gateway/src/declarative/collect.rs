//! From nested lists to flat items: every entity of every file, with its parent and its place.

use std::collections::HashMap;
use std::rc::Rc;

use cardinal_schema::{Errors, Kind as FieldKind};
use serde_json::{Map, Value};

use super::ids::{Anonymous, Names, key_text};
use super::migrate::migrate_paths;
use super::report::Finding;
use super::source::{Data, Key, Node, Place, Scalar};
use crate::entities::{Kind, Registry};

/// An entity as the user wrote it.
pub(super) struct Item<'r, 'n> {
    pub(super) kind: &'r Kind,
    /// Its own fields: no nested entities, no comments.
    pub(super) own: Map<String, Value>,
    /// The whole entity.
    pub(super) node: &'n Node,
    pub(super) file: usize,
    /// Position of the entity that it is nested in, and the field that references it.
    pub(super) parent: Option<(usize, &'static str)>,
    /// Position in the list it stands in.
    pub(super) index: usize,
    pub(super) id: String,
    /// The user gave the id.
    pub(super) id_given: bool,
    pub(super) errors: Errors,
}

/// A consumer's membership of a group, both by name or id.
pub(super) struct Membership {
    pub(super) consumer: Member,
    pub(super) group: Member,
    pub(super) place: Place,
    pub(super) file: usize,
}

/// One side of a membership.
pub(super) enum Member {
    /// The item at this position.
    Item(usize),
    /// Who has this name or id.
    Named(String),
}

/// All there is in the files.
#[derive(Default)]
pub(super) struct Collected<'r, 'n> {
    pub(super) items: Vec<Item<'r, 'n>>,
    pub(super) memberships: Vec<Membership>,
    /// What is wrong outside of entities: unknown keys, lists that are none.
    pub(super) root: Errors,
    pub(super) findings: Vec<Finding>,
    /// Passwords and secrets are written as plain text, not as they are stored.
    pub(super) transform: bool,
}

const FORMATS: [&str; 3] = ["1.1", "2.1", "3.0"];
/// Keys that other tools write and that mean nothing here.
const IGNORED: [&str; 6] = ["_comment", "_ignore", "_info", "_workspace", "_konnect", "_transform"];

/// Collects the entities of all files. Lists of the same kind are joined in the order of the files.
pub(super) fn collect<'r, 'n>(registry: &'r Registry, files: &'n [Node]) -> Collected<'r, 'n> {
    let mut out = Collected { transform: true, ..Collected::default() };
    let mut walk = Walk {
        registry,
        out: &mut out,
        anonymous: Anonymous::default(),
        names: Names::default(),
        children: HashMap::new(),
        file: 0,
        migrate: false,
        defaults: None,
    };
    for (file, root) in files.iter().enumerate() {
        walk.file = file;
        walk.root(root);
    }
    out
}

struct Walk<'o, 'r, 'n> {
    registry: &'r Registry,
    out: &'o mut Collected<'r, 'n>,
    anonymous: Anonymous,
    names: Names,
    children: HashMap<&'static str, Rc<[(&'r Kind, &'static str)]>>,
    file: usize,
    migrate: bool,
    defaults: Option<&'n Node>,
}

impl<'r, 'n> Walk<'_, 'r, 'n> {
    fn root(&mut self, root: &'n Node) {
        let Data::Map(map) = &root.data else {
            // An empty file is no wish to serve nothing: it may be one that is being written.
            let hint = root.is_null().then(|| "the file is empty; write at least _format_version: \"3.0\"".to_owned());
            self.fail("", root.place, "expected an object", hint);
            return;
        };
        self.format(root);
        self.defaults = root.get("_info").and_then(|info| info.get("defaults"));
        if let Some(Data::Scalar(Scalar::Bool(false))) = root.get("_transform").map(|n| &n.data) {
            self.out.transform = false;
        }
        for (key, place, node) in map {
            let key = &**key;
            match self.registry.kind(key) {
                Some(kind) => self.list(kind, key, node, None),
                None if key == "consumer_group_consumers" => self.member_list(node),
                None if key == "_format_version" => {}
                None if IGNORED.contains(&key) => self.check_meta(key, *place, node),
                None => {
                    let names = self.registry.kinds().map(|k| k.name).chain(["_format_version", "_transform"]);
                    let hint = cardinal_schema::suggest(key, names).map(|s| format!("did you mean '{s}'?"));
                    self.fail(key, *place, "unknown field", hint.or_else(|| deck_hint(key)));
                }
            }
        }
    }

    fn format(&mut self, root: &Node) {
        let message = match root.get("_format_version") {
            None => "required field missing".to_owned(),
            Some(node) => match &node.data {
                Data::Scalar(Scalar::String(v)) if FORMATS.contains(&&**v) => {
                    self.migrate = **v != *"3.0";
                    return;
                }
                Data::Scalar(Scalar::String(_)) => format!("expected one of: {}", FORMATS.join(", ")),
                _ => "expected a string".to_owned(),
            },
        };
        let hint = Some("write _format_version: \"3.0\", in quotes".to_owned());
        let place = root.place_of("_format_version");
        self.fail("_format_version", place, &message, hint);
    }

    fn check_meta(&mut self, key: &str, place: Place, node: &Node) {
        let expected = match (key, &node.data) {
            ("_transform", Data::Scalar(Scalar::Bool(_) | Scalar::Null)) => None,
            ("_transform", _) => Some("expected a boolean"),
            ("_comment", Data::Scalar(Scalar::String(_) | Scalar::Null)) => None,
            ("_comment", _) => Some("expected a string"),
            ("_ignore", Data::List(_) | Data::Scalar(Scalar::Null)) => None,
            ("_ignore", _) => Some("expected an array"),
            _ => None,
        };
        if let Some(expected) = expected {
            self.fail(key, place, expected, None);
        }
    }

    /// Something wrong outside of entities.
    fn fail(&mut self, key: &str, place: Place, message: &str, hint: Option<String>) {
        if key.is_empty() {
            self.out.root.push_entity(message);
        } else {
            self.out.root.set(key, message.into());
        }
        self.out.findings.push(Finding::at(self.file, place, key, message, hint));
    }

    /// A list of entities of one kind.
    fn list(&mut self, kind: &'r Kind, key: &str, node: &'n Node, parent: Option<(usize, &'static str)>) {
        if node.is_null() {
            return;
        }
        let Some(list) = node.list() else {
            match parent {
                None => self.fail(key, node.place, "expected an array", None),
                Some((at, _)) => self.out.items[at].errors.set(key, "expected an array".into()),
            }
            return;
        };
        // Lists of several files continue one another.
        let first = match parent {
            None => self.out.items.iter().filter(|i| i.kind.name == kind.name && i.parent.is_none()).count(),
            Some(_) => 0,
        };
        for (i, node) in list.iter().enumerate() {
            self.item(kind, node, parent, first + i);
        }
    }

    fn item(&mut self, kind: &'r Kind, node: &'n Node, parent: Option<(usize, &'static str)>, index: usize) {
        let children = self.children(kind);
        let mut errors = Errors::default();
        let mut own;
        let mut nested: Vec<(&'r Kind, &'static str, &str, &'n Node)> = Vec::new();
        let mut members: Option<(&str, &'n Node)> = None;
        let map: &'n [(Key, Place, Node)] = match &node.data {
            Data::Map(map) => map,
            Data::List(list) if list.is_empty() => &[],
            Data::Scalar(_) | Data::List(_) => {
                errors = "expected a record".into();
                &[]
            }
        };
        own = Map::with_capacity(map.len() + 2);
        for (key, _, value) in map {
            let child = children.iter().copied().find(|(child, _)| *child.name == **key);
            match (kind.name, &**key) {
                (_, "_comment" | "_ignore") => {}
                ("consumers", "groups") | ("consumer_groups", "consumers") => members = Some((key, value)),
                _ => match child {
                    Some((child, field)) if !is_plain_field(kind, key, value) => {
                        nested.push((child, field, key, value));
                    }
                    _ => {
                        own.insert(key.to_string(), value.to_value());
                    }
                },
            }
        }
        self.prepare(kind, &mut own);
        let parent_ids = parent.map(|(at, field)| (field, self.out.items[at].id.clone()));
        let parent_ref = parent_ids.as_ref().map(|(field, id)| (*field, id.as_str()));
        let given = own.get("id").and_then(Value::as_str).map(str::to_owned);
        let id = given.clone().unwrap_or_else(|| match key_text(kind, &own, parent_ref) {
            Some(key) => self.names.id_of(kind.name, &key).to_string(),
            None => self.anonymous.id_of(kind.name, &own, parent_ref.map(|(_, id)| id)).to_string(),
        });
        let at = self.out.items.len();
        let file = self.file;
        self.out.items.push(Item { kind, own, node, file, parent, index, id, id_given: given.is_some(), errors });
        if let Some((key, list)) = members {
            self.members(at, key, list);
        }
        for (child, field, key, value) in nested {
            self.list(child, key, value, Some((at, field)));
        }
    }

    /// The kinds that may be nested in one of this kind.
    fn children(&mut self, kind: &'r Kind) -> Rc<[(&'r Kind, &'static str)]> {
        let registry = self.registry;
        let made = self.children.entry(kind.name).or_insert_with(|| registry.children(kind.name).collect());
        Rc::clone(made)
    }

    /// What earlier formats and `_info.defaults` do to an entity before it is looked at.
    fn prepare(&self, kind: &Kind, own: &mut Map<String, Value>) {
        if self.migrate
            && kind.name == "routes"
            && let Some(paths) = own.get_mut("paths")
        {
            migrate_paths(paths);
        }
        let singular = kind.singular();
        if let Some(Data::Map(defaults)) = self.defaults.and_then(|d| d.get(&singular)).map(|n| &n.data) {
            for (key, _, value) in defaults {
                if !own.contains_key(&**key) && !own.contains_key("url") {
                    own.insert(key.to_string(), value.to_value());
                }
            }
        }
    }

    /// `consumers[].groups` and `consumer_groups[].consumers`: `[{name: x}]`, or names.
    fn members(&mut self, at: usize, key: &str, node: &'n Node) {
        let Some(list) = node.list() else {
            if !node.is_null() {
                self.out.items[at].errors.set(key, "expected an array".into());
            }
            return;
        };
        let of_groups = key == "groups";
        let mut errors = Vec::new();
        for node in list {
            let name = if of_groups {
                reference_text(node, &["id", "name"])
            } else {
                reference_text(node, &["id", "username"])
            };
            errors.push(name.is_none().then(|| Errors::from("expected a name or an id")));
            let Some(name) = name else { continue };
            let (item, named) = (Member::Item(at), Member::Named(name));
            let (consumer, group) = if of_groups { (item, named) } else { (named, item) };
            self.out.memberships.push(Membership { consumer, group, place: node.place, file: self.file });
        }
        if errors.iter().any(Option::is_some) {
            self.out.items[at].errors.set(key, Errors::Items(errors));
        }
    }

    /// Top level `consumer_group_consumers`: `[{consumer: x, consumer_group: y}]`.
    fn member_list(&mut self, node: &'n Node) {
        let Some(list) = node.list() else {
            self.fail("consumer_group_consumers", node.place, "expected an array", None);
            return;
        };
        for node in list {
            let side = |name: &str| node.get(name).and_then(|n| reference_text(n, &["id", "name", "username"]));
            match (side("consumer"), side("consumer_group")) {
                (Some(consumer), Some(group)) => self.out.memberships.push(Membership {
                    consumer: Member::Named(consumer),
                    group: Member::Named(group),
                    place: node.place,
                    file: self.file,
                }),
                _ => self.fail(
                    "consumer_group_consumers",
                    node.place,
                    "expected a record with 'consumer' and 'consumer_group'",
                    None,
                ),
            }
        }
    }
}

/// `certificates[].snis` may be a list of names, which is a field, or of entities.
fn is_plain_field(kind: &Kind, key: &str, value: &Node) -> bool {
    let is_list_of_text =
        || value.list().is_some_and(|l| l.iter().all(|n| matches!(n.data, Data::Scalar(Scalar::String(_)))));
    let field = kind.schema.field(key);
    field.is_some_and(|f| matches!(f.kind, FieldKind::Array(_)) && (is_list_of_text() || value.is_null()))
}

fn reference_text(node: &Node, keys: &[&str]) -> Option<String> {
    let text = |node: &Node| match &node.data {
        Data::Scalar(Scalar::String(text)) => Some(text.to_string()),
        _ => None,
    };
    text(node).or_else(|| keys.iter().find_map(|key| node.get(key).and_then(text)))
}

fn deck_hint(key: &str) -> Option<String> {
    let known = ["_plugin_configs", "_kubernetes", "_konnect", "_workspace"];
    known.contains(&key).then(|| "a key of decK: run `deck file render` first".to_owned())
}
