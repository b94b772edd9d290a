//! From a [`Snapshot`] to the IR. Pure: no clock, no I/O, and the order of the input does not matter.
//!
//! An invalid entity becomes a diagnostic and is left out, with the entities that depend on it; the others are lowered
//! ([`lower`]). [`lower_strict`] rejects the whole set instead.

mod backends;
mod document;
mod endpoints;
mod filters;
mod identity;
mod incremental;
mod routes;
mod secrets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use cardinal_ir::policy::Retry;
use cardinal_ir::{Attributes, Code, Diagnostic, Document, Id, Ir, Origin, OriginKind, Secrets, Severity, Traffic};
use cardinal_route::Router;
use serde_json::Value;

pub use incremental::{Edit, Lowered};
pub(crate) use routes::{RoutePart, route_parts};
pub(crate) use secrets::vault as vault_of;

use crate::declarative::{Entity, Snapshot};
use crate::entities::Registry;
use crate::secrets::Vault;
use crate::settings::Settings;

/// The IR of a snapshot, the secrets that it refers to, and diagnostics: an error means that the entity was left out. Of the
/// settings, only those that concern the meaning of entities count here; the settings of the node are in [`Settings::node`].
pub fn lower(snapshot: &Snapshot, registry: &Registry, settings: &Settings) -> (Ir, Secrets, Vec<Diagnostic>) {
    let (names, mut memory) = (Names::of(snapshot), Memory::new(registry, settings));
    let (ir, secrets, of_entities) = lower_all((snapshot, Taken::new()), registry, settings, &names, &mut memory);
    let mut diagnostics = snapshot.warnings().to_vec();
    diagnostics.extend(of_entities);
    (ir, secrets, diagnostics)
}

/// The same for a snapshot that is no longer needed: most entities are freed as soon as they are lowered, so that a
/// large configuration is not in memory twice.
pub fn lower_owned(mut snapshot: Snapshot, registry: &Registry, settings: &Settings) -> (Ir, Secrets, Vec<Diagnostic>) {
    let (names, mut memory) = (Names::of(&snapshot), Memory::new(registry, settings));
    let credentials = registry.kinds().filter(|kind| kind.brought_by.is_some()).map(|kind| kind.name);
    let kinds = ["consumers", "targets", "routes", "plugins"].into_iter().chain(credentials);
    let taken = kinds.map(|kind| (kind, Box::new(snapshot.take(kind)) as Box<dyn Iterator<Item = Entity>>)).collect();
    let (ir, secrets, of_entities) = lower_all((&snapshot, taken), registry, settings, &names, &mut memory);
    let mut diagnostics = snapshot.warnings().to_vec();
    diagnostics.extend(of_entities);
    (ir, secrets, diagnostics)
}

/// Entities that no others are looked up in, by kind, where they are lowered one after the other and freed.
type Taken = HashMap<&'static str, Box<dyn Iterator<Item = Entity>>>;

fn lower_all(
    (snapshot, taken): (&Snapshot, Taken),
    registry: &Registry,
    settings: &Settings,
    names: &Names,
    memory: &mut Memory,
) -> (Ir, Secrets, Vec<Diagnostic>) {
    let (ir, secrets, diagnostics) = (Ir::default(), Secrets::default(), Vec::new());
    let mut lowering = Lowering { snapshot, taken, registry, settings, names, memory, ir, secrets, diagnostics };
    // What others refer to comes first.
    lowering.workspaces();
    lowering.certificates();
    lowering.trusts();
    lowering.groups();
    lowering.principals();
    lowering.upstreams();
    lowering.targets();
    lowering.services();
    lowering.routes();
    lowering.plugins();
    lowering.credentials();
    (lowering.ir, lowering.secrets, lowering.diagnostics)
}

/// The same, all or nothing.
///
/// # Errors
/// All diagnostics, when one of them is an error.
pub fn lower_strict(
    snapshot: &Snapshot,
    registry: &Registry,
    settings: &Settings,
) -> Result<(Ir, Secrets, Vec<Diagnostic>), Vec<Diagnostic>> {
    let (ir, secrets, mut diagnostics) = lower(snapshot, registry, settings);
    diagnostics.extend(ir.verify());
    diagnostics.extend(unmatchable(&ir));
    if diagnostics.iter().any(|d| d.severity == Severity::Error) {
        Err(diagnostics)
    } else {
        Ok((ir, secrets, diagnostics))
    }
}

/// Diagnostics of the matcher about the routes: patterns that it cannot compile.
pub fn unmatchable(ir: &Ir) -> Vec<Diagnostic> {
    let said = |traffic| Router::build(ir, traffic).1;
    [Traffic::Http, Traffic::Stream].into_iter().flat_map(said).collect()
}

struct Lowering<'l> {
    snapshot: &'l Snapshot,
    taken: Taken,
    registry: &'l Registry,
    settings: &'l Settings,
    names: &'l Names,
    memory: &'l mut Memory,
    ir: Ir,
    /// What the records refer to.
    secrets: Secrets,
    diagnostics: Vec<Diagnostic>,
}

/// What is found by name while lowering, in each workspace (`None` is `default`).
#[derive(Debug, Default)]
struct Names {
    vaults: HashMap<Option<Id>, BTreeMap<String, Vault>>,
    upstreams: HashMap<Option<Id>, HashMap<Box<str>, Id>>,
    /// Server names that entities of their own give to certificates.
    snis: HashMap<Id, Vec<Box<str>>>,
}

impl Names {
    fn of(snapshot: &Snapshot) -> Self {
        let mut vaults: HashMap<_, BTreeMap<_, _>> = HashMap::new();
        for vault in snapshot.of("vaults") {
            vaults.entry(vault.workspace()).or_default().extend(secrets::vault(&vault));
        }
        let mut upstreams: HashMap<_, HashMap<_, _>> = HashMap::new();
        for upstream in snapshot.of("upstreams") {
            let named = upstream.text("name").map(|name| (name.into(), upstream.id));
            upstreams.entry(upstream.workspace()).or_default().extend(named);
        }
        let mut snis: HashMap<Id, Vec<Box<str>>> = HashMap::new();
        for sni in snapshot.of("snis") {
            if let (Some(certificate), Some(name)) = (sni.reference("certificate"), sni.text("name")) {
                snis.entry(certificate).or_default().push(name.into());
            }
        }
        Self { vaults, upstreams, snis }
    }

    /// The upstream of a workspace with this name.
    fn upstream(&self, workspace: Option<Id>, name: &str) -> Option<Id> {
        self.upstreams.get(&workspace)?.get(name).copied()
    }
}

/// What records share, kept for those that are made later.
struct Memory {
    origins: OriginKinds,
    documents: document::Documents,
    no_document: Document,
    /// What the last credential of each kind was.
    attributes: HashMap<&'static str, Arc<Attributes>>,
    /// The last different parameters of each plugin.
    params: HashMap<Box<str>, VecDeque<Arc<Value>>>,
    /// The policy of each number of retries.
    retries: HashMap<u16, Option<Arc<Retry>>>,
}

/// Different parameters of a plugin that are remembered.
const PARAMS_MAX: usize = 16;

impl Memory {
    fn new(registry: &Registry, settings: &Settings) -> Self {
        Self {
            origins: OriginKinds::default(),
            documents: document::Documents::new(registry, settings.loaded_at),
            no_document: Document::from(""),
            attributes: HashMap::new(),
            params: HashMap::new(),
            retries: HashMap::new(),
        }
    }

    /// The policy of so many retries, shared by all services that have as many.
    fn retry(&mut self, attempts: u16) -> Option<Arc<Retry>> {
        self.retries.entry(attempts).or_insert_with(|| backends::retry(attempts)).clone()
    }

    /// The parameters of an instance, shared with those of other instances of the plugin that say the same.
    fn shared_params(&mut self, plugin: &str, params: Value) -> Arc<Value> {
        if !self.params.contains_key(plugin) {
            self.params.insert(plugin.into(), VecDeque::new());
        }
        let Some(known) = self.params.get_mut(plugin) else { return Arc::new(params) };
        if let Some(same) = known.iter().find(|known| ***known == params) {
            return Arc::clone(same);
        }
        let made = Arc::new(params);
        if known.len() >= PARAMS_MAX {
            known.pop_front();
        }
        known.push_back(Arc::clone(&made));
        made
    }
}

impl Lowering<'_> {
    /// Lowers the entities of a kind, in the order of their ids.
    fn each(&mut self, kind: &str, mut lower: impl FnMut(&mut Self, &Entity)) {
        match self.taken.remove(kind) {
            Some(entities) => entities.for_each(|entity| lower(self, &entity)),
            None => self.snapshot.of(kind).for_each(|entity| lower(self, &entity)),
        }
    }

    /// Reports why an entity is left out.
    fn refuse(&mut self, kind: &str, entity: &Entity, code: Code, path: &str, message: impl Into<String>) {
        self.diagnostics.push(diagnostic(kind, entity, code, path, message.into()));
    }

    /// Reports a probable mistake.
    fn warn(&mut self, kind: &str, entity: &Entity, code: Code, path: &str, message: impl Into<String>) {
        let error = diagnostic(kind, entity, code, path, message.into());
        self.diagnostics.push(Diagnostic { severity: Severity::Warning, ..error });
    }
}

/// The kinds of origins, which all origins of a kind share.
#[derive(Default)]
pub(crate) struct OriginKinds(Vec<Arc<OriginKind>>);

impl OriginKinds {
    pub(crate) fn origin(&mut self, noun: &str, entity: &Entity) -> Origin {
        let kind = match self.0.iter().find(|kind| *kind.noun == *noun) {
            Some(kind) => Arc::clone(kind),
            None => {
                let made = Arc::new(OriginKind { front_end: "kong".into(), noun: noun.into() });
                self.0.push(Arc::clone(&made));
                made
            }
        };
        Origin::of(&kind, entity.id, entity.name.clone())
    }
}

fn diagnostic(kind: &str, entity: &Entity, code: Code, path: &str, message: String) -> Diagnostic {
    let (origin, location, path) = (entity.origin(kind), entity.location.clone(), path.to_owned());
    Diagnostic { severity: Severity::Error, code, origin, location, path, message, hint: None }
}
