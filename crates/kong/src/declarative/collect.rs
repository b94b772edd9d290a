//! From nested lists to flat items: every entity of every file, with its parent and its place.

use std::collections::HashMap;
use std::rc::Rc;

use cardinal_ir::{Code, Diagnostic};
use cardinal_schema::{Errors, Kind as FieldKind};
use serde_json::{Map, Value};

use super::ids::{Anonymous, Names, key_text};
use super::item::{IdSource, Item, ItemId, Position};
use super::migrate::migrate_paths;
use super::report::Finding;
use super::source::{Data, Key, Node, Place, Scalar, Source};
use crate::entities::{Kind, Registry};

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
    /// The consumer or group with this name or id.
    Named(String),
}

/// All there is in the files.
#[derive(Default)]
pub(super) struct Collected<'r, 'n> {
    pub(super) items: Vec<Item<'r, 'n>>,
    /// References by name (`{name: x}`) as they were written, by item and field; the items have the names.
    pub(super) by_name: Vec<(usize, &'static str, Value)>,
    pub(super) memberships: Vec<Membership>,
    /// What is wrong outside of entities: unknown keys, lists that are none.
    pub(super) root: Errors,
    pub(super) findings: Vec<Finding>,
    /// For entities that are declared again: their item, the message, and file and place of the first one.
    pub(super) declared_first: Vec<(usize, String, (u32, Place))>,
    /// What is accepted and means something else here, or nothing.
    pub(super) notes: Vec<Note>,
    /// Accepted here and rejected by Kong; reported by `check` only.
    pub(super) differences: Vec<Note>,
    /// Passwords and secrets are written as plain text, not as they are stored.
    pub(super) transform: bool,
    /// The items have no nodes: errors and warnings have no places.
    pub(super) without_nodes: bool,
}

/// Something that is accepted and means something else here, or nothing.
pub(super) struct Note {
    pub(super) file: usize,
    pub(super) place: Place,
    pub(super) key: &'static str,
    pub(super) message: &'static str,
    /// Number of occurrences; reported once for each file.
    pub(super) count: usize,
}

impl Note {
    /// As a warning; none without files.
    pub(super) fn told(&self, files: &[Source]) -> Option<Diagnostic> {
        let message = match self.count {
            1 => self.message.to_owned(),
            count => format!("{} ({count} times in this file)", self.message),
        };
        Some(super::warning(files.get(self.file)?, ("key", Some(self.key)), self.place, Code::Unsupported, message))
    }
}

impl Collected<'_, '_> {
    /// Whether nothing is wrong so far.
    pub(super) fn is_sound(&self) -> bool {
        self.root.is_empty() && self.items.iter().all(|item| item.errors().is_empty())
    }
}

const FORMATS: [&str; 3] = ["1.1", "2.1", "3.0"];
/// Keys that other tools write and that mean nothing here.
const IGNORED: [&str; 7] = ["_comment", "_ignore", "_info", "_workspace", "_konnect", "_plugin_configs", "_transform"];

const WEBSOCKET: &str = "ws and wss mean http and https here: requests that upgrade to WebSocket are served by those";

const BY_NAME: &str = "a reference by name in a map is resolved as decK resolves it, while Kong itself refuses it";

/// Collects the entities of all files. Lists of the same kind are joined in the order of the files.
pub(super) fn collect<'r, 'n>(registry: &'r Registry, files: &'n [Node]) -> Collected<'r, 'n> {
    let mut out = Collected { transform: true, ..Collected::default() };
    walk(registry, files, Vec::new(), Some, &mut out);
    out
}

/// The same without nodes: the tree of an entity is freed when the entity has been collected, which large files need
/// less memory for.
pub(super) fn consume<'r>(registry: &'r Registry, mut files: Vec<Node>) -> Collected<'r, 'static> {
    let mut out = Collected { transform: true, without_nodes: true, ..Collected::default() };
    let taken: Vec<Taken> = files.iter_mut().map(|root| take_lists(registry, root)).collect();
    // A list that grows leaves gaps where it was.
    out.items.reserve_exact(taken.iter().flatten().flatten().map(|list| entities(list)).sum());
    walk(registry, &files, taken, |_| None, &mut out);
    out
}

/// The lists of entities of a file, by the position of their key.
type Taken = Vec<Option<Box<[Node]>>>;

fn take_lists(registry: &Registry, root: &mut Node) -> Taken {
    let Data::Map(map) = &mut root.data else { return Vec::new() };
    let of = |(key, _, node): &mut (Key, Place, Node)| match (registry.list_kind(key), &mut node.data) {
        (Some(_), Data::List(list)) => Some(std::mem::take(list)),
        _ => None,
    };
    map.iter_mut().map(of).collect()
}

/// How many entities there are in a list, those that are nested in them included, or a few more.
fn entities(list: &[Node]) -> usize {
    let below = |node: &Node| match &node.data {
        Data::Map(map) => map.iter().filter_map(|(.., node)| maps(node)).map(entities).sum(),
        Data::Scalar(_) | Data::List(_) => 0,
    };
    list.iter().map(|node| 1 + below(node)).sum()
}

/// A list of maps.
fn maps(node: &Node) -> Option<&[Node]> {
    node.list().filter(|list| list.first().is_some_and(|first| matches!(first.data, Data::Map(_))))
}

/// How an item keeps its node.
type Keep<'x, 'n> = fn(&'x Node) -> Option<&'n Node>;

fn walk<'r, 'n, 'f>(
    registry: &'r Registry,
    files: &'f [Node],
    taken: Vec<Taken>,
    keep: Keep<'f, 'n>,
    out: &mut Collected<'r, 'n>,
) {
    let mut walk = Walk {
        registry,
        out,
        anonymous: Anonymous::default(),
        names: Names::default(),
        children: HashMap::new(),
        file: 0,
        migrate: false,
        defaults: None,
        plugin_configs: None,
    };
    let mut taken = taken.into_iter();
    for (file, root) in files.iter().enumerate() {
        walk.file = file;
        walk.root(root, taken.next().unwrap_or_default(), keep);
    }
}

struct Walk<'o, 'r, 'n, 'f> {
    registry: &'r Registry,
    out: &'o mut Collected<'r, 'n>,
    anonymous: Anonymous,
    names: Names,
    children: HashMap<&'static str, Rc<[(&'r Kind, &'static str)]>>,
    file: usize,
    migrate: bool,
    defaults: Option<&'f Node>,
    /// decK: parts of configurations that plugins name.
    plugin_configs: Option<&'f Node>,
}

impl<'r, 'n, 'f> Walk<'_, 'r, 'n, 'f> {
    fn root(&mut self, root: &'f Node, taken: Taken, keep: Keep<'f, 'n>) {
        let Data::Map(map) = &root.data else {
            // An empty file is rejected: it may be one that is being written.
            let hint = root.is_null().then(|| "the file is empty; write at least _format_version: \"3.0\"".to_owned());
            self.fail("", root.place, "expected an object", hint);
            return;
        };
        self.format(root);
        self.defaults = root.get("_info").and_then(|info| info.get("defaults"));
        self.plugin_configs = root.get("_plugin_configs");
        if let Some(Data::Scalar(Scalar::Bool(false))) = root.get("_transform").map(|n| &n.data) {
            self.out.transform = false;
        }
        let mut taken = taken.into_iter();
        for (key, place, node) in map {
            let key = &**key;
            let taken = taken.next().flatten();
            match self.registry.list_kind(key) {
                Some(kind) => match taken {
                    Some(list) => self.taken(kind, list),
                    None => self.list(kind, key, node, None, keep),
                },
                None if key == "consumer_group_consumers" => self.member_list(node),
                None if key == "_format_version" => {}
                None if IGNORED.contains(&key) => {
                    self.check_meta(key, *place, node);
                    self.foreign_key(*place, key);
                }
                None => {
                    let names = self.registry.kinds().map(|k| k.name).chain(["_format_version", "_transform"]);
                    let hint = cardinal_schema::suggest(key, names).map(|s| format!("did you mean '{s}'?"));
                    let hint = crate::known::list(key).or_else(|| deck_hint(key)).or(hint);
                    self.fail(key, *place, "unknown field", hint);
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
                Data::Scalar(Scalar::Null) => "required field missing".to_owned(),
                _ => "expected a string".to_owned(),
            },
        };
        let hint = Some("write _format_version: \"3.0\", in quotes".to_owned());
        let place = root.place_of("_format_version");
        self.fail("_format_version", place, &message, hint);
    }

    fn check_meta(&mut self, key: &str, place: Place, node: &Node) {
        let wrong = match (key, &node.data) {
            ("_transform", Data::Scalar(Scalar::Bool(_) | Scalar::Null)) => None,
            ("_transform", _) => Some("expected a boolean".into()),
            ("_comment" | "_ignore", _) => check_note(key, node),
            ("_plugin_configs", Data::Map(_) | Data::Scalar(Scalar::Null)) => None,
            ("_plugin_configs", _) => Some("expected a map".into()),
            _ => None,
        };
        if let Some(wrong) = wrong {
            let found = wrong.messages();
            let found = found
                .into_iter()
                .map(|(path, text)| Finding::at(self.file, place, &format!("{key}{path}"), text, None));
            self.out.findings.extend(found.collect::<Vec<_>>());
            self.out.root.set(key, wrong);
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

    /// A list of entities of one kind, each of which is freed when it has been collected.
    fn taken(&mut self, kind: &'r Kind, list: Box<[Node]>) {
        let first = self.count(kind);
        for (i, node) in list.into_vec().into_iter().enumerate() {
            self.item(kind, &node, None, first + i, |_| None);
        }
    }

    /// How many items of a kind there are that are not nested: lists of several files continue one another.
    fn count(&self, kind: &Kind) -> usize {
        self.out.items.iter().filter(|i| i.kind.name == kind.name && i.parent.is_none()).count()
    }

    /// A list of entities of one kind.
    fn list<'x>(
        &mut self,
        kind: &'r Kind,
        key: &str,
        node: &'x Node,
        parent: Option<(usize, &'static str)>,
        keep: Keep<'x, 'n>,
    ) {
        if node.is_null() {
            return;
        }
        let Some(list) = node.list() else {
            match parent.and_then(|(at, _)| self.out.items.get_mut(at)) {
                None => self.fail(key, node.place, "expected an array", None),
                Some(parent) => parent.errors_mut().set(key, "expected an array".into()),
            }
            return;
        };
        let first = if parent.is_none() { self.count(kind) } else { 0 };
        for (i, node) in list.iter().enumerate() {
            self.item(kind, node, parent, first + i, keep);
        }
    }

    fn item<'x>(
        &mut self,
        kind: &'r Kind,
        node: &'x Node,
        parent: Option<(usize, &'static str)>,
        index: usize,
        keep: Keep<'x, 'n>,
    ) {
        let children = self.children(kind);
        let mut errors = Errors::default();
        let mut nested: Vec<(&'r Kind, &'static str, &str, &'x Node)> = Vec::new();
        let mut members: Option<(&str, &Node)> = None;
        let map: &'x [(Key, Place, Node)] = match &node.data {
            Data::Map(map) => map,
            Data::List(_) => &[],
            Data::Scalar(Scalar::Null) => {
                errors = "required field missing".into();
                &[]
            }
            Data::Scalar(_) => {
                errors = "expected a record".into();
                &[]
            }
        };
        let mut own = Map::with_capacity(map.len() + 2);
        if let Data::List(list) = &node.data {
            // A list is a table in Lua too: its keys are numbers, which no schema has.
            own.extend(list.iter().enumerate().map(|(i, node)| ((i + 1).to_string(), node.to_value())));
        }
        for (key, _, value) in map {
            let child = children.iter().copied().find(|(child, _)| *child.name == **key);
            match (kind.name, &**key) {
                (_, "_comment" | "_ignore") => {
                    if let Some(wrong) = check_note(key, value) {
                        errors.set(key, wrong);
                    }
                }
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
        let by_name = self.prepare(kind, node, &mut own);
        if let Err(unknown) = self.share_config(kind, &mut own) {
            errors.set("_config", unknown);
        }
        let above = parent.and_then(|(at, field)| Some((field, self.out.items.get(at)?)));
        let id_above = above.map(|(_, item)| item.id.to_string());
        let identified = above.map(|(field, item)| {
            let is_known = item.id_source != IdSource::Contents && !item.is_misnamed;
            (field, id_above.as_deref().filter(|_| is_known))
        });
        let given = own.get(kind.primary_key).and_then(Value::as_str);
        let id = match (given, key_text(kind, &own, identified)) {
            (Some(id), _) => (id.into(), IdSource::Given),
            (None, Some(key)) => (ItemId::Usual(self.names.id_of(kind.name, &key)), IdSource::Key),
            (None, None) => {
                let id = self.anonymous.id_of(kind.name, &own, id_above.as_deref());
                (ItemId::Usual(id), IdSource::Contents)
            }
        };
        let at = self.out.items.len();
        let position = Position { node: keep(node), place: node.place, file: self.file, index, parent };
        self.out.items.push(Item::new((kind, self.registry.names()), &own, position, id, errors));
        self.out.by_name.extend(by_name.into_iter().map(|(field, written)| (at, field, written)));
        if let Some((key, list)) = members {
            self.members(at, key, list);
        }
        for (child, field, key, value) in nested {
            self.list(child, key, value, Some((at, field)), keep);
        }
    }

    /// The kinds that may be nested in one of this kind.
    fn children(&mut self, kind: &'r Kind) -> Rc<[(&'r Kind, &'static str)]> {
        let registry = self.registry;
        let made = self.children.entry(kind.name).or_insert_with(|| registry.children(kind.name).collect());
        Rc::clone(made)
    }

    /// What earlier formats and `_info.defaults` do to an entity before it is looked at.
    fn prepare(&mut self, kind: &Kind, node: &Node, own: &mut Map<String, Value>) -> Vec<(&'static str, Value)> {
        if self.migrate
            && kind.name == "routes"
            && let Some(paths) = own.get_mut("paths")
        {
            migrate_paths(paths);
        }
        let mut by_name = Vec::new();
        for (field, _) in kind.references() {
            if let Some(name) = own.get(field).and_then(name_of_reference) {
                by_name.extend(own.insert(field.to_owned(), name).map(|written| (field, written)));
                self.differs(node.place_of(field), field, BY_NAME);
            }
        }
        let field = match kind.name {
            "plugins" | "routes" => "protocols",
            "services" => "protocol",
            _ => "",
        };
        if own.get_mut(field).is_some_and(without_websocket) {
            self.note(node.place_of(field), if field == "protocol" { "protocol" } else { "protocols" }, WEBSOCKET);
        }
        if kind.name == "services" && own.get_mut("url").is_some_and(url_without_websocket) {
            self.note(node.place_of("url"), "url", WEBSOCKET);
        }
        let singular = kind.singular();
        if let Some(Data::Map(defaults)) = self.defaults.and_then(|d| d.get(&singular)).map(|n| &n.data) {
            for (key, _, value) in defaults {
                if !own.contains_key(&**key) && !own.contains_key("url") {
                    own.insert(key.to_string(), value.to_value());
                }
            }
        }
        by_name
    }

    /// Puts the shared configuration that a plugin names below its own.
    fn share_config(&self, kind: &Kind, own: &mut Map<String, Value>) -> Result<(), Errors> {
        if kind.name != "plugins" || self.plugin_configs.is_none() {
            return Ok(());
        }
        let Some(name) = own.shift_remove("_config") else { return Ok(()) };
        let shared = name.as_str().and_then(|name| self.plugin_configs?.get(name));
        let Some(shared) = shared else {
            return Err(format!("there is no {name} in _plugin_configs").into());
        };
        let config = own.entry("config").or_insert_with(|| Value::Object(Map::new()));
        below(config, shared.to_value());
        Ok(())
    }

    /// Notes a key at the top of a file that Kong refuses.
    fn foreign_key(&mut self, place: Place, key: &str) {
        let how = match key {
            "_info" | "_plugin_configs" => "read as decK reads it, while Kong itself refuses the key",
            "_workspace" | "_konnect" => "has no effect, while Kong itself refuses the key",
            _ => return,
        };
        if let Some(key) = IGNORED.into_iter().find(|name| *name == key) {
            self.differs(place, key, how);
        }
    }

    /// Notes a difference once for each file and key.
    fn differs(&mut self, place: Place, key: &'static str, message: &'static str) {
        let file = self.file;
        let notes = &mut self.out.differences;
        match notes.iter_mut().find(|note| note.file == file && note.key == key && note.message == message) {
            Some(note) => note.count += 1,
            None => notes.push(Note { file, place, key, message, count: 1 }),
        }
    }

    /// Notes something once for each file.
    fn note(&mut self, place: Place, key: &'static str, message: &'static str) {
        let file = self.file;
        let notes = &mut self.out.notes;
        match notes.iter_mut().find(|note| note.file == file && note.message == message) {
            Some(note) => note.count += 1,
            None => notes.push(Note { file, place, key, message, count: 1 }),
        }
    }

    /// `consumers[].groups` and `consumer_groups[].consumers`: `[{name: x}]`, or names.
    fn members(&mut self, at: usize, key: &str, node: &Node) {
        let Some(list) = node.list() else {
            if !node.is_null() {
                self.out.items[at].errors_mut().set(key, "expected an array".into());
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
            self.out.items[at].errors_mut().set(key, Errors::Items(errors));
        }
    }

    /// Top level `consumer_group_consumers`: `[{consumer: x, consumer_group: y}]`.
    fn member_list(&mut self, node: &Node) {
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

/// What is wrong with a `_comment` or `_ignore`.
fn check_note(key: &str, node: &Node) -> Option<Errors> {
    match (key, &node.data) {
        (_, Data::Scalar(Scalar::Null)) => None,
        ("_comment", Data::Scalar(Scalar::String(text))) => {
            text.is_empty().then(|| Errors::from("length must be at least 1"))
        }
        ("_comment", _) => Some("expected a string".into()),
        (_, _) => match node.list() {
            None => Some("expected an array".into()),
            Some(list) => {
                let of = |node: &Node| node.is_null().then(|| Errors::from("required field missing"));
                let errors: Vec<_> = list.iter().map(of).collect();
                errors.iter().any(Option::is_some).then_some(Errors::Items(errors))
            }
        },
    }
}

/// `certificates[].snis` may be a list of names, which is a field, or of entities.
fn is_plain_field(kind: &Kind, key: &str, value: &Node) -> bool {
    let is_list_of_text = || {
        value
            .list()
            .is_some_and(|l| !l.is_empty() && l.iter().all(|n| matches!(n.data, Data::Scalar(Scalar::String(_)))))
    };
    let field = kind.schema.field(key);
    field.is_some_and(|f| matches!(f.kind, FieldKind::Array(_)) && (is_list_of_text() || value.is_null()))
}

/// The name in a reference by name: `{name: x}`, `{username: x}`.
fn name_of_reference(reference: &Value) -> Option<Value> {
    let map = reference.as_object().filter(|map| map.len() == 1)?;
    map.get("name").or_else(|| map.get("username")).filter(|name| name.is_string()).cloned()
}

/// Writes `http` for `ws` and `https` for `wss`, which exist in Kong Enterprise only. They are left out if the others
/// are present.
fn without_websocket(protocols: &mut Value) -> bool {
    let replaced = |name: &str| match name {
        "ws" => Some("http"),
        "wss" => Some("https"),
        _ => None,
    };
    match protocols {
        Value::String(name) => match replaced(name) {
            Some(other) => {
                *name = other.to_owned();
                true
            }
            None => false,
        },
        Value::Array(list) if list.iter().filter_map(Value::as_str).any(|name| replaced(name).is_some()) => {
            let is_other = |value: &Value| value.as_str().is_none_or(|name| replaced(name).is_none());
            if list.iter().any(is_other) {
                list.retain(is_other);
            } else {
                for value in list.iter_mut() {
                    *value = value.as_str().and_then(replaced).map_or(Value::Null, Value::from);
                }
            }
            true
        }
        _ => false,
    }
}

/// The same for the scheme of a URL.
fn url_without_websocket(url: &mut Value) -> bool {
    let Value::String(text) = url else { return false };
    let Some(rest) = text.strip_prefix("ws").filter(|rest| rest.starts_with("://") || rest.starts_with("s://")) else {
        return false;
    };
    *text = format!("http{rest}");
    true
}

/// Merges values as defaults: existing values win. Lists are not merged.
fn below(value: &mut Value, other: Value) {
    if let (Value::Object(map), Value::Object(other)) = (value, other) {
        for (key, other) in other {
            match map.get_mut(&key) {
                Some(value) => below(value, other),
                None => {
                    map.insert(key, other);
                }
            }
        }
    }
}

fn reference_text(node: &Node, keys: &[&str]) -> Option<String> {
    let text = |node: &Node| match &node.data {
        Data::Scalar(Scalar::String(text)) => Some(text.to_string()),
        _ => None,
    };
    text(node).or_else(|| keys.iter().find_map(|key| node.get(key).and_then(text)))
}

fn deck_hint(key: &str) -> Option<String> {
    (key == "_kubernetes").then(|| "a key of decK: run `deck file render` first".to_owned())
}
