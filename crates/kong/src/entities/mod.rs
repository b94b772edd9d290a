//! The entities of Kong, one file each: schema, checks across fields, keys.
//!
//! [`Registry`] holds all kinds there are: the core ones, and the credentials that plugins bring.

mod ca_certificates;
mod certificates;
mod consumer_groups;
mod consumers;
mod credentials;
mod exported;
mod filter_chains;
mod key_sets;
mod keys;
pub mod pem;
mod plugins;
mod routes;
mod services;
mod snis;
mod targets;
#[cfg(test)]
pub(crate) mod tests;
mod upstreams;
pub(crate) mod vaults;
mod workspaces;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use cardinal_schema::{Errors, Kind as FieldKind, Named, Schema, field, typedefs};
use cardinal_sdk::{EntityDef, PluginDef};
use indexmap::IndexMap;
use serde_json::{Map, Value};

pub use services::{TAG_UPGRADE_PROTOCOL, TAG_UPSTREAM_HTTP2, upgrade_protocols};

use crate::packed::Names;
use crate::settings::{Note, RouterFlavor, Settings};

/// The kind of workspaces.
pub const WORKSPACES: &str = "workspaces";

/// A kind of entity.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Name in declarative files: `services`.
    pub name: &'static str,
    /// Name in Admin API paths: `key-sets`.
    pub collection: &'static str,
    /// The schema; for plugins, vaults and routes see [`Registry::schema_of`].
    pub schema: Schema,
    /// The field that holds the id.
    pub primary_key: &'static str,
    /// The field that users name an entity by, other than its id.
    pub key: Option<LookupKey>,
    /// The fields that together identify an entity (Kong's `cache_key`); empty when `key` or the id does.
    pub cache_key: &'static [&'static str],
    /// References that take the entity along when their target is deleted.
    pub cascade: &'static [&'static str],
    /// The plugin's description, for an entity that a plugin brings.
    pub brought_by: Option<&'static EntityDef>,
}

/// The field that users name an entity by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupKey {
    /// Name of the field.
    pub field: &'static str,
    /// Unique among all entities of the kind, not only below one parent.
    pub unique: bool,
}

impl Kind {
    fn new(name: &'static str, schema: Schema) -> Self {
        let primary_key = "id";
        Self { name, collection: name, schema, primary_key, key: None, cache_key: &[], cascade: &[], brought_by: None }
    }

    fn key(mut self, field: &'static str) -> Self {
        self.key = Some(LookupKey { field, unique: true });
        self
    }

    /// The fields that reference other entities, with the kind they reference.
    pub fn references(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.schema.fields.iter().filter_map(|named| match named.field.kind {
            FieldKind::Foreign(kind) => Some((named.name, kind)),
            _ => None,
        })
    }

    /// The name of one entity of the kind: `service`.
    pub fn singular(&self) -> Cow<'static, str> {
        match self.name {
            "basicauth_credentials" | "jwt_secrets" | "keyauth_credentials" => {
                Cow::Borrowed(&self.name[..self.name.len() - 1])
            }
            name => match name.strip_suffix('s') {
                Some(stem) => Cow::Borrowed(stem),
                None => Cow::Borrowed(name),
            },
        }
    }

    /// The value of the lookup key, to call an entity by. A secret key is not shown.
    pub fn label<'v>(&self, entity: &'v Map<String, Value>) -> Option<&'v str> {
        entity.get(self.label_field()?)?.as_str()
    }

    /// The field that holds the label.
    pub(crate) fn label_field(&self) -> Option<&'static str> {
        let key = self.key?.field;
        let is_secret =
            self.brought_by.is_some() && (key == "key" || self.schema.field(key).is_some_and(|f| f.encrypted));
        (!is_secret).then_some(key)
    }
}

/// All kinds of entities and plugins there are.
#[derive(Clone, Debug)]
pub struct Registry {
    kinds: IndexMap<&'static str, Kind>,
    /// A kind of list in declarative files that is no kind of entity.
    exported: Kind,
    /// Plugins of the program that the settings do not load.
    disabled: Vec<&'static str>,
    plugins: IndexMap<&'static str, PluginKind>,
    vaults: IndexMap<&'static str, Schema>,
    routes: routes::RouteSchemas,
    /// For each kind, the kinds that reference it, with the field that does.
    children: HashMap<&'static str, Vec<(&'static str, &'static str)>>,
    names: Arc<Names>,
}

/// A plugin with the schema of its instances.
#[derive(Clone, Debug)]
pub struct PluginKind {
    /// The plugin.
    pub def: &'static PluginDef,
    /// Schema of an instance, `config` included.
    pub schema: Schema,
    /// Schema of `config`.
    pub config: Schema,
}

impl Registry {
    /// The core entities, and what these plugins bring, for the default router flavor.
    pub fn new(plugins: &[&'static PluginDef]) -> Self {
        Self::with_flavor(plugins, RouterFlavor::default())
    }

    /// The same for a node: its router flavor, and only the plugins it loads.
    ///
    /// # Errors
    /// The unknown plugins and vaults in its settings.
    pub fn for_settings(plugins: &[&'static PluginDef], settings: &Settings) -> Result<Self, Vec<Note>> {
        let mut notes = choices(plugins, settings);
        notes.retain(|note| note.is_error);
        if !notes.is_empty() {
            return Err(notes);
        }
        let (chosen, others): (Vec<_>, Vec<_>) =
            plugins.iter().copied().partition(|def| settings.plugins.takes(def.name));
        let mut registry = Self::with_flavor(&chosen, settings.router_flavor);
        registry.disabled = others.into_iter().map(|def| def.name).collect();
        Ok(registry)
    }

    /// Whether the program has this plugin, and the settings do not load it.
    pub(crate) fn has_disabled(&self, name: &str) -> bool {
        self.disabled.contains(&name)
    }

    /// Why there is no plugin of this name, beyond what Kong says of one that is not enabled: the program does not have
    /// it, or the name is misspelt. `None` for a plugin that only the settings leave out.
    pub fn why_no_plugin(&self, name: &str) -> Option<String> {
        (!self.has_disabled(name)).then(|| no_plugin(name, self.plugins.keys().copied()))
    }

    /// The same for a router flavor: `expressions` adds fields to routes, `traditional` takes fewer SNIs.
    pub fn with_flavor(plugins: &[&'static PluginDef], flavor: RouterFlavor) -> Self {
        let routes = routes::RouteSchemas::new(flavor);
        let mut all = vec![
            workspaces::kind(),
            consumers::kind(),
            consumer_groups::kind(),
            certificates::kind(),
            ca_certificates::kind(),
            services::kind(),
            routes::kind(&routes),
            snis::kind(),
            upstreams::kind(),
            targets::kind(),
            vaults::kind(),
            key_sets::kind(),
            keys::kind(),
            filter_chains::kind(),
        ];
        for def in plugins {
            all.extend(def.entities.iter().map(credentials::kind));
        }
        all.push(plugins::kind());
        let plugins = plugins.iter().map(|def| (def.name, plugins::instance(def))).collect();
        let mut children: HashMap<_, Vec<_>> = HashMap::new();
        for kind in &all {
            for (field, target) in kind.references() {
                children.entry(target).or_default().push((kind.name, field));
            }
        }
        let names = field_names(&all, &plugins);
        let kinds = all.into_iter().map(|kind| (kind.name, kind)).collect();
        Self {
            kinds,
            exported: exported::parameters(),
            disabled: Vec::new(),
            plugins,
            vaults: vaults::types(),
            routes,
            children,
            names,
        }
    }

    /// The names of all fields, for entities at rest.
    pub(crate) fn field_names(&self) -> Arc<Names> {
        Arc::clone(&self.names)
    }

    /// The same, borrowed.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The kinds, referenced ones before those that reference them.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.values()
    }

    /// A kind by its name in declarative files.
    pub fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.get(name)
    }

    /// A kind of list in declarative files: a kind of entity, or one that is checked and not kept.
    pub(crate) fn list_kind(&self, name: &str) -> Option<&Kind> {
        self.kind(name).or_else(|| (self.exported.name == name).then_some(&self.exported))
    }

    /// Whether a list in declarative files is kept: files are one workspace.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        name != WORKSPACES && self.kind(name).is_some()
    }

    /// The plugins, in the order given.
    pub fn plugins(&self) -> impl Iterator<Item = &PluginKind> {
        self.plugins.values()
    }

    /// A plugin by name.
    pub fn plugin(&self, name: &str) -> Option<&PluginKind> {
        self.plugins.get(name)
    }

    /// A type of vaults by name: the schema of its entities.
    pub fn vault(&self, name: &str) -> Option<&Schema> {
        self.vaults.get(name)
    }

    /// The types of vaults, with the schemas of their entities.
    pub fn vaults(&self) -> impl Iterator<Item = (&'static str, &Schema)> {
        self.vaults.iter().map(|(name, schema)| (*name, schema))
    }

    /// The kinds whose entities may be nested in an entity of the kind `parent`, with the field that references it.
    pub fn children(&self, parent: &str) -> impl Iterator<Item = (&Kind, &'static str)> {
        let children = self.children.get(parent).into_iter().flatten();
        children.filter_map(|(name, field)| Some((self.kinds.get(name)?, *field)))
    }

    /// The schema that this entity must follow: that of its plugin, vault type or protocols.
    ///
    /// # Errors
    /// The plugin or type does not exist.
    pub fn schema_of<'r>(&'r self, kind: &'r Kind, entity: &Map<String, Value>) -> Result<&'r Schema, Errors> {
        match kind.name {
            "plugins" => by_name(
                entity,
                |name| self.plugins.get(name).map(|p| &p.schema),
                |name| format!("plugin '{name}' not enabled; add it to the 'plugins' configuration property"),
            ),
            "vaults" => {
                by_name(entity, |name| self.vaults.get(name), |name| format!("vault '{name}' is not installed"))
            }
            "routes" => self.routes.of(entity),
            _ => Ok(&kind.schema),
        }
    }
}

/// Errors and warnings about the plugins and vaults that settings name. A missing plugin is a warning, because
/// possibly no entity uses it; an unknown vault is an error.
pub fn choices(plugins: &[&'static PluginDef], settings: &Settings) -> Vec<Note> {
    let [plugins_at, vaults_at] = &settings.choice_places;
    let note = |is_error, name: &str, at: &str, message| Note { is_error, name: name.into(), at: at.into(), message };
    let mut out = Vec::new();
    for name in settings.plugins.names().iter().filter(|name| !plugins.iter().any(|def| def.name == **name)) {
        let message = no_plugin(name, plugins.iter().map(|def| def.name).chain(["bundled", "off"]));
        out.push(note(false, "plugins", plugins_at, format!("{message}; a file that uses '{name}' is refused")));
    }
    for name in settings.secrets.enabled.names().iter().filter(|name| !vaults::is_type(name)) {
        out.push(note(
            true,
            "vaults",
            vaults_at,
            unknown("vault", name, vaults::TYPES.into_iter().chain(["bundled", "off"])),
        ));
    }
    out
}

/// The message for a missing plugin: one of Kong's, or a misspelt one of `names`.
pub fn no_plugin<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    if crate::known::is_plugin(name) { crate::known::no_plugin(name) } else { unknown("plugin", name, names) }
}

fn unknown<'n>(noun: &str, name: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    match cardinal_schema::suggest(name, names) {
        Some(near) => format!("there is no {noun} '{name}', did you mean '{near}'?"),
        None => format!("there is no {noun} '{name}'"),
    }
}

fn by_name<'r>(
    entity: &Map<String, Value>,
    find: impl Fn(&str) -> Option<&'r Schema>,
    missing: impl Fn(&str) -> String,
) -> Result<&'r Schema, Errors> {
    match entity.get("name") {
        None | Some(Value::Null) => Err(Errors::field("name", "required field missing")),
        Some(Value::String(name)) => find(name).ok_or_else(|| Errors::field("name", missing(name))),
        Some(Value::Array(list)) => Err(Errors::field("name", missing(&first_name(list)))),
        Some(_) => Err(Errors::field("name", missing("nil"))),
    }
}

/// What Kong calls a list that stands in place of a name.
fn first_name(list: &[Value]) -> String {
    match list.first() {
        Some(Value::String(name)) => name.clone(),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        Some(Value::Null) => "userdata: NULL".to_owned(),
        _ => "nil".to_owned(),
    }
}

/// `id`, `created_at`, `updated_at`.
fn base_fields() -> [Named; 3] {
    [
        field("id", typedefs::uuid().describe("Made from the name when absent.")),
        field("created_at", typedefs::auto_timestamp_s().describe("Seconds since the epoch.")),
        field("updated_at", typedefs::auto_timestamp_s().describe("Seconds since the epoch.")),
    ]
}

fn tags_field() -> Named {
    field("tags", typedefs::tags())
}

/// The names of all fields, those of entities before those within them.
fn field_names(kinds: &[Kind], plugins: &IndexMap<&'static str, PluginKind>) -> Arc<Names> {
    let own = kinds.iter().flat_map(|kind| &kind.schema.fields).map(|named| named.name);
    let mut names: Vec<&'static str> = own.chain(["ttl", crate::declarative::WORKSPACE_FIELD]).collect();
    let schemas = kinds.iter().map(|kind| &kind.schema).chain(plugins.values().map(|plugin| &plugin.schema));
    schemas.for_each(|schema| nested_names(schema, &mut names));
    Names::new(names)
}

fn nested_names(schema: &Schema, names: &mut Vec<&'static str>) {
    for named in &schema.fields {
        names.push(named.name);
        let mut field = &named.field;
        while let FieldKind::Array(of) | FieldKind::Set(of) | FieldKind::Map(_, of) = &field.kind {
            field = of;
        }
        if let FieldKind::Record(schema) = &field.kind {
            nested_names(schema, names);
        }
    }
}
