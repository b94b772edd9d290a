//! [`Directory`]: principals and credentials of one generation, indexed.
//!
//! The indexes contain no text: they find entries by hash and compare with the text in the record. A generation shares
//! the unchanged parts with the previous one.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

use cardinal_base::{Keyed, OneOrMany, Sharded};
use cardinal_ir::{
    Code, Credential, Diagnostic, Id, Ir, IrDelta, Lookup, Principal, Secret, Secrets, Severity, UnresolvedSecret,
};

use crate::def::{PluginDef, Prepare};

/// A principal and its groups.
#[derive(Debug)]
pub struct PrincipalEntry {
    /// The id known to users.
    pub id: Id,
    /// The record.
    pub record: Arc<Principal>,
    /// Ids of its groups, in alphabetical order of the groups' names.
    pub groups: Box<[Id]>,
    /// The names of its groups, in the same order.
    pub group_names: Box<[Box<str>]>,
}

/// A credential, prepared by its plugin.
pub struct CredentialEntry {
    /// The id known to users.
    pub id: Id,
    /// The record.
    pub record: Arc<Credential>,
    /// The result of the plugin's preparation at plan time, such as parsed keys.
    pub prepared: Option<Arc<dyn Any + Send + Sync>>,
    /// The lookup, if it is a secret.
    secret: Option<Arc<Secret>>,
}

impl CredentialEntry {
    /// The value by which requests refer to it.
    pub fn lookup(&self) -> &str {
        match (&self.secret, &self.record.lookup) {
            (Some(secret), _) => secret.expose(),
            (None, Lookup::Text(text)) => text,
            // A credential in this state is rejected before.
            (None, Lookup::Secret(_)) => "",
        }
    }
}

impl fmt::Debug for CredentialEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialEntry").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Principals and credentials of one generation. Clones share all data.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    principals: Sharded<ById>,
    by_name: Unique<ByName>,
    by_custom_id: Unique<ByCustomId>,
    /// One for each plugin that has credentials.
    kinds: Vec<Kind>,
    /// Credentials rejected by their plugin, of all tenants.
    refused: BTreeMap<Id, Diagnostic>,
    /// What belongs to tenants, and is known to their requests only.
    tenants: BTreeMap<Id, Arc<Directory>>,
}

impl Directory {
    /// Indexes the principals and credentials of `ir`, which refers to no secrets. A credential that its plugin rejects
    /// is left out and reported.
    pub fn build(ir: &Ir, plugins: &[&'static PluginDef]) -> (Self, Vec<Diagnostic>) {
        let directory = Self::default().rebuild(&Ir::default().diff(ir), (ir, &Secrets::default()), plugins);
        let refused = directory.diagnostics();
        (directory, refused)
    }

    /// The directory of `ir`, the result of applying `delta` to the generation of `self`. The cost depends on the
    /// changes. A credential whose secrets cannot be resolved is left out.
    pub fn rebuild(&self, delta: &IrDelta, (ir, secrets): (&Ir, &Secrets), plugins: &[&'static PluginDef]) -> Self {
        let mut next = self.clone();
        for change in &delta.principals {
            if let Some(old) = &change.old {
                next.part(tenant_of(old)).put_principal(change.id, None, ir);
            }
            if let Some(new) = &change.new {
                next.part(tenant_of(new)).put_principal(change.id, Some(new), ir);
            }
        }
        if !delta.groups.is_empty() {
            // The groups of a principal are sorted by name.
            let groups: HashSet<Id> = delta.groups.iter().map(|change| change.id).collect();
            let concerned = |p: &&ById| p.0.record.groups.iter().any(|group| groups.contains(group));
            let parts = [self].into_iter().chain(self.tenants.values().map(|part| &**part));
            for ById(entry) in parts.flat_map(|part| part.principals.iter()).filter(concerned) {
                if let Some(record) = ir.principals.get(&entry.id) {
                    next.part(tenant_of(record)).put_principal(entry.id, Some(record), ir);
                }
            }
        }
        let entities = entities_of(plugins);
        for change in &delta.credentials {
            if let Some(old) = &change.old {
                next.refused.remove(&change.id);
                next.part(old.tenant).remove_credential(change.id, old);
            }
            if let Some(new) = &change.new {
                let entity = entities.get(&*new.kind).copied().unwrap_or_default();
                match entry_of(change.id, new, secrets, entity) {
                    Ok(entry) => next.part(new.tenant).add_credential(entry, entity),
                    Err(problem) => drop(next.refused.insert(change.id, *problem)),
                }
            }
        }
        next.tenants.retain(|tenant, _| ir.listener_groups.contains(tenant));
        next
    }

    /// What requests of a tenant know; `None` is the default group.
    #[inline]
    pub fn of(&self, tenant: Option<Id>) -> &Self {
        static NOBODY: LazyLock<Arc<Directory>> = LazyLock::new(Arc::default);
        match tenant {
            None => self,
            Some(tenant) => self.tenants.get(&tenant).unwrap_or_else(|| &NOBODY),
        }
    }

    /// The part of a tenant, to be changed.
    fn part(&mut self, tenant: Option<Id>) -> &mut Self {
        match tenant {
            None => self,
            Some(tenant) => Arc::make_mut(self.tenants.entry(tenant).or_default()),
        }
    }

    /// The credentials of `ir` that their plugins reject, as building the directory would report them.
    pub fn unusable_credentials(ir: &Ir, secrets: &Secrets, plugins: &[&'static PluginDef]) -> Vec<Diagnostic> {
        let entities = entities_of(plugins);
        let problem = |(id, record): (&Id, &Arc<Credential>)| {
            let entity = entities.get(&*record.kind).copied().unwrap_or_default();
            entry_of(*id, record, secrets, entity).err().map(|problem| *problem)
        };
        ir.credentials.iter().filter_map(problem).collect()
    }

    /// The credentials that were left out, with the reasons.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.refused.values().cloned().collect()
    }

    /// Replaces the entry of a principal; removes it if there is no record.
    fn put_principal(&mut self, id: Id, record: Option<&Arc<Principal>>, ir: &Ir) {
        if let Some(ById(old)) = self.principals.remove(&id) {
            self.by_name.remove(&ByName(Arc::clone(&old)));
            self.by_custom_id.remove(&ByCustomId(old));
        }
        let Some(record) = record else { return };
        let mut groups: Vec<_> = record.groups.iter().filter_map(|g| Some((&ir.groups.get(g)?.name, *g))).collect();
        groups.sort();
        let group_names = groups.iter().map(|(name, _)| Box::from(&***name)).collect();
        let groups = groups.into_iter().map(|(_, id)| id).collect();
        let entry = Arc::new(PrincipalEntry { id, record: Arc::clone(record), groups, group_names });
        if record.name.is_some() {
            self.by_name.insert(ByName(Arc::clone(&entry)));
        }
        if record.custom_id.is_some() {
            self.by_custom_id.insert(ByCustomId(Arc::clone(&entry)));
        }
        self.principals.insert(ById(entry));
    }

    fn add_credential(&mut self, entry: CredentialEntry, entity: EntityUse) {
        let (id, entry) = (entry.id, Arc::new(entry));
        let record = &entry.record;
        let at = self.kinds.iter().position(|kind| *kind.name == *record.kind).unwrap_or_else(|| {
            self.kinds.push(Kind {
                name: record.kind.clone(),
                by_lookup: Unique::default(),
                by_principal: Sharded::default(),
            });
            self.kinds.len() - 1
        });
        let Some(kind) = self.kinds.get_mut(at) else { return };
        if entity.unique {
            kind.by_lookup.insert(ByLookup(Arc::clone(&entry)));
        }
        let attached = match kind.by_principal.remove(&record.principal) {
            None => Attached(OneOrMany::One(Arc::clone(&entry))),
            Some(Attached(others)) => Attached(others.with(Arc::clone(&entry), |other| other.id < id)),
        };
        kind.by_principal.insert(attached);
    }

    fn remove_credential(&mut self, id: Id, record: &Credential) {
        let Some(kind) = self.kinds.iter_mut().find(|kind| *kind.name == *record.kind) else { return };
        let Some(Attached(all)) = kind.by_principal.remove(&record.principal) else { return };
        if let Some(entry) = all.as_slice().iter().find(|entry| entry.id == id) {
            kind.by_lookup.remove(&ByLookup(Arc::clone(entry)));
        }
        if let Some(left) = all.without(|entry| entry.id == id) {
            kind.by_principal.insert(Attached(left));
        }
    }

    /// The principal with this id.
    pub fn principal(&self, id: &Id) -> Option<&Arc<PrincipalEntry>> {
        self.principals.find(id).map(|found| &found.0)
    }

    /// The principal with this name (Kong: `username`).
    pub fn principal_by_name(&self, name: &str) -> Option<&Arc<PrincipalEntry>> {
        self.by_name.table.find(name).map(|found| &found.0)
    }

    /// The principal with this custom id.
    pub fn principal_by_custom_id(&self, custom_id: &str) -> Option<&Arc<PrincipalEntry>> {
        self.by_custom_id.table.find(custom_id).map(|found| &found.0)
    }

    /// The principal that a setting refers to, by id or by name (Kong: `anonymous`).
    pub fn principal_by_id_or_name(&self, key: &str) -> Option<&Arc<PrincipalEntry>> {
        Id::parse_str(key).ok().and_then(|id| self.principal(&id)).or_else(|| self.principal_by_name(key))
    }

    /// The credential of this kind with this lookup. Kinds that are not unique are only found through their principal.
    pub fn credential(&self, kind: &str, lookup: &str) -> Option<&Arc<CredentialEntry>> {
        self.kind(kind)?.by_lookup.table.find(lookup).map(|found| &found.0)
    }

    /// All credentials of this kind that a principal has, ordered by id.
    pub fn attached(&self, kind: &str, principal: &Id) -> &[Arc<CredentialEntry>] {
        self.kind(kind).and_then(|kind| kind.by_principal.find(principal)).map_or(&[], |found| found.0.as_slice())
    }

    /// Whether a principal has any credentials.
    pub fn has_credentials(&self, principal: &Id) -> bool {
        self.kinds.iter().any(|kind| kind.by_principal.find(principal).is_some())
    }

    fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.iter().find(|kind| *kind.name == *name)
    }
}

fn tenant_of(record: &Principal) -> Option<Id> {
    record.tenant.as_deref().copied()
}

/// The entities of plugins, by kind.
fn entities_of(plugins: &[&'static PluginDef]) -> HashMap<&'static str, EntityUse> {
    let entities = plugins.iter().flat_map(|plugin| plugin.entities);
    entities.map(|entity| (entity.kind, EntityUse { prepare: entity.prepare, unique: entity.unique })).collect()
}

/// The relevant properties of a plugin's entity.
#[derive(Clone, Copy)]
struct EntityUse {
    prepare: Option<Prepare>,
    unique: bool,
}

/// For credentials whose plugin is not part of this program.
impl Default for EntityUse {
    fn default() -> Self {
        Self { prepare: None, unique: true }
    }
}

/// Credentials of one plugin.
#[derive(Clone, Debug)]
struct Kind {
    name: Box<str>,
    by_lookup: Unique<ByLookup>,
    by_principal: Sharded<Attached>,
}

/// The credentials of one principal, ordered by id.
#[derive(Clone, Debug)]
struct Attached(OneOrMany<Arc<CredentialEntry>>);

impl Keyed for Attached {
    type Key = Id;

    fn key(&self) -> &Id {
        static NOBODY: Id = Id::nil();
        self.0.as_slice().first().map_or(&NOBODY, |entry| &entry.record.principal)
    }
}

#[derive(Clone, Debug)]
struct ById(Arc<PrincipalEntry>);

impl Keyed for ById {
    type Key = Id;

    fn key(&self) -> &Id {
        &self.0.id
    }
}

/// A value with an id in addition to its key.
trait Numbered: Keyed {
    fn id(&self) -> Id;
}

macro_rules! keyed_by_text {
    ($name:ident($entry:ty), $key:expr) => {
        #[derive(Clone, Debug)]
        struct $name(Arc<$entry>);

        impl Keyed for $name {
            type Key = str;

            fn key(&self) -> &str {
                let key: fn(&$entry) -> &str = $key;
                key(&self.0)
            }
        }

        impl Numbered for $name {
            fn id(&self) -> Id {
                self.0.id
            }
        }
    };
}

keyed_by_text!(ByName(PrincipalEntry), |entry| entry.record.name.as_deref().unwrap_or_default());
keyed_by_text!(ByCustomId(PrincipalEntry), |entry| entry.record.custom_id.as_deref().unwrap_or_default());
keyed_by_text!(ByLookup(CredentialEntry), CredentialEntry::lookup);

/// Values that should have unique keys. If several values have the same key, the one with the highest id is found,
/// regardless of the order of insertion.
#[derive(Clone, Debug)]
struct Unique<T> {
    table: Sharded<T>,
    /// Values whose key another value has.
    hidden: Vec<T>,
}

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self { table: Sharded::default(), hidden: Vec::new() }
    }
}

impl<T: Numbered + Clone> Unique<T> {
    fn insert(&mut self, value: T) {
        let Some(other) = self.table.find(value.key()) else {
            self.table.insert(value);
            return;
        };
        if other.id() > value.id() {
            self.hidden.push(value);
        } else {
            self.hidden.extend(self.table.insert(value));
        }
    }

    /// Removes the value with this key and id.
    fn remove(&mut self, value: &T) {
        let id = value.id();
        if self.table.find(value.key()).is_none_or(|found| found.id() != id) {
            self.hidden.retain(|hidden| hidden.id() != id);
            return;
        }
        self.table.remove(value.key());
        let rivals = self.hidden.iter().enumerate().filter(|(_, hidden)| hidden.key() == value.key());
        if let Some((at, _)) = rivals.max_by_key(|(_, hidden)| hidden.id()) {
            let next = self.hidden.swap_remove(at);
            self.table.insert(next);
        }
    }
}

/// Prepares a credential. The error states why it is left out.
fn entry_of(
    id: Id,
    record: &Arc<Credential>,
    secrets: &Secrets,
    entity: EntityUse,
) -> Result<CredentialEntry, Box<Diagnostic>> {
    let unresolved = |error: UnresolvedSecret| Box::new(unusable(record, Code::Secret, error.to_string()));
    let secret = match &record.lookup {
        Lookup::Text(_) => None,
        Lookup::Secret(reference) => Some(Arc::clone(secrets.resolve(*reference).map_err(unresolved)?)),
    };
    let resolved = record.resolved(secrets).map_err(unresolved)?;
    let prepared = entity.prepare.map(|prepare| prepare(&resolved)).transpose();
    let prepared = prepared.map_err(|message| Box::new(unusable(record, Code::Certificate, message)))?;
    Ok(CredentialEntry { id, record: Arc::clone(record), prepared, secret })
}

fn unusable(record: &Credential, code: Code, message: String) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code,
        origin: record.origin.clone(),
        location: None,
        path: String::new(),
        message,
        hint: None,
    }
}

#[cfg(test)]
mod tests;
