//! [`Directory`]: principals and credentials of one generation, indexed.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cardinal_ir::{Code, Credential, Diagnostic, Id, Ir, Principal, Severity};

use crate::def::PluginDef;

/// A principal and what belongs to it.
#[derive(Debug)]
pub struct PrincipalEntry {
    /// The id users know.
    pub id: Id,
    /// The record.
    pub record: Arc<Principal>,
    /// Ids of its groups, in alphabetical order of the groups' names.
    pub groups: Vec<Id>,
}

/// A credential, made ready by its plugin.
pub struct CredentialEntry {
    /// The id users know.
    pub id: Id,
    /// The id as text, shared by all requests that it lets in.
    pub id_text: Arc<str>,
    /// The record.
    pub record: Arc<Credential>,
    /// What the plugin made of it at plan time: parsed keys.
    pub prepared: Option<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for CredentialEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialEntry").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Principals and credentials of one generation.
#[derive(Debug, Default)]
pub struct Directory {
    principals: HashMap<Id, Arc<PrincipalEntry>>,
    by_name: HashMap<Box<str>, Id>,
    by_custom_id: HashMap<Box<str>, Id>,
    credentials: HashMap<Box<str>, HashMap<Box<str>, Arc<CredentialEntry>>>,
    attached: HashMap<Box<str>, HashMap<Id, Vec<Arc<CredentialEntry>>>>,
}

impl Directory {
    /// Indexes the principals and credentials of `ir`. A credential that its plugin cannot use is left out and said.
    pub fn build(ir: &Ir, plugins: &[&'static PluginDef]) -> (Self, Vec<Diagnostic>) {
        let mut directory = Self::default();
        let mut diagnostics = Vec::new();
        for (id, record) in ir.principals.iter() {
            directory.add_principal(ir, *id, record);
        }
        let prepare: HashMap<&str, crate::def::Prepare> = plugins
            .iter()
            .flat_map(|plugin| plugin.entities)
            .filter_map(|entity| entity.prepare.map(|prepare| (entity.kind, prepare)))
            .collect();
        for (id, record) in ir.credentials.iter() {
            let prepared = match prepare.get(&*record.kind).map(|prepare| prepare(record)).transpose() {
                Ok(prepared) => prepared,
                Err(message) => {
                    diagnostics.push(unusable(record, message));
                    continue;
                }
            };
            let id_text = id.to_string().into();
            directory.add_credential(CredentialEntry { id: *id, id_text, record: Arc::clone(record), prepared });
        }
        (directory, diagnostics)
    }

    fn add_principal(&mut self, ir: &Ir, id: Id, record: &Arc<Principal>) {
        let mut groups: Vec<_> =
            record.groups.iter().filter_map(|g| Some((ir.groups.get(g)?.name.clone(), *g))).collect();
        groups.sort();
        let groups = groups.into_iter().map(|(_, id)| id).collect();
        if let Some(name) = &record.name {
            self.by_name.insert(name.clone(), id);
        }
        if let Some(custom_id) = &record.custom_id {
            self.by_custom_id.insert(custom_id.clone(), id);
        }
        self.principals.insert(id, Arc::new(PrincipalEntry { id, record: Arc::clone(record), groups }));
    }

    fn add_credential(&mut self, entry: CredentialEntry) {
        let (kind, principal) = (entry.record.kind.clone(), entry.record.principal);
        let entry = Arc::new(entry);
        self.attached.entry(kind.clone()).or_default().entry(principal).or_default().push(Arc::clone(&entry));
        self.credentials.entry(kind).or_default().insert(entry.record.lookup.clone(), entry);
    }

    /// The principal of this id.
    pub fn principal(&self, id: &Id) -> Option<&Arc<PrincipalEntry>> {
        self.principals.get(id)
    }

    /// The principal of this name (Kong: `username`).
    pub fn principal_by_name(&self, name: &str) -> Option<&Arc<PrincipalEntry>> {
        self.principals.get(self.by_name.get(name)?)
    }

    /// The principal of this custom id.
    pub fn principal_by_custom_id(&self, custom_id: &str) -> Option<&Arc<PrincipalEntry>> {
        self.principals.get(self.by_custom_id.get(custom_id)?)
    }

    /// The principal that a setting names, by id or by name (Kong: `anonymous`).
    pub fn principal_by_id_or_name(&self, key: &str) -> Option<&Arc<PrincipalEntry>> {
        Id::parse_str(key).ok().and_then(|id| self.principals.get(&id)).or_else(|| self.principal_by_name(key))
    }

    /// The credential of this kind that requests name so.
    pub fn credential(&self, kind: &str, lookup: &str) -> Option<&Arc<CredentialEntry>> {
        self.credentials.get(kind)?.get(lookup)
    }

    /// All credentials of this kind that a principal has.
    pub fn attached(&self, kind: &str, principal: &Id) -> &[Arc<CredentialEntry>] {
        self.attached.get(kind).and_then(|by| by.get(principal)).map_or(&[], Vec::as_slice)
    }
}

fn unusable(record: &Credential, message: String) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: Code::Certificate,
        origin: record.origin.clone(),
        path: String::new(),
        message,
        hint: None,
    }
}
