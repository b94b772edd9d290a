//! From a [`Snapshot`] to the IR. Pure: no clock, no I/O, and the order of the input does not matter.
//!
//! A bad entity becomes a diagnostic and is left out, with what cannot be without it; its neighbours live
//! ([`lower`]). [`lower_strict`] refuses the whole set instead.

mod backends;
mod document;
mod endpoints;
mod filters;
mod identity;
mod routes;
mod secrets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use cardinal_ir::{Code, Diagnostic, Id, Ir, Severity, Traffic};
use cardinal_route::Router;

use crate::declarative::{Entity, Snapshot};
use crate::entities::Registry;
use crate::secrets::Vault;
use crate::settings::Settings;

/// The IR of a snapshot on a node with these settings, and what is to be said about it: an error means that the
/// entity was left out.
pub fn lower(snapshot: &Snapshot, registry: &Registry, settings: &Settings) -> (Ir, Vec<Diagnostic>) {
    let mut lowering = Lowering::new(snapshot, registry, settings);
    settings.lower_into(&mut lowering.ir);
    // What others refer to comes first.
    lowering.certificates();
    lowering.trusts();
    lowering.groups();
    lowering.principals();
    lowering.upstreams();
    lowering.services();
    lowering.routes();
    lowering.plugins();
    lowering.credentials();
    let Lowering { ir, diagnostics: of_entities, .. } = lowering;
    let mut diagnostics = snapshot.warnings().to_vec();
    diagnostics.extend(of_entities);
    (ir, diagnostics)
}

/// The same, all or nothing.
///
/// # Errors
/// All diagnostics, when one of them is an error.
pub fn lower_strict(
    snapshot: &Snapshot,
    registry: &Registry,
    settings: &Settings,
) -> Result<(Ir, Vec<Diagnostic>), Vec<Diagnostic>> {
    let (ir, mut diagnostics) = lower(snapshot, registry, settings);
    diagnostics.extend(ir.verify());
    diagnostics.extend(unmatchable(&ir));
    if diagnostics.iter().any(|d| d.severity == Severity::Error) { Err(diagnostics) } else { Ok((ir, diagnostics)) }
}

/// What the matcher has to say about the routes: patterns that it cannot compile.
pub(crate) fn unmatchable(ir: &Ir) -> Vec<Diagnostic> {
    let said = |traffic| Router::build(ir, traffic).1;
    [Traffic::Http, Traffic::Stream].into_iter().flat_map(said).collect()
}

struct Lowering<'l> {
    snapshot: &'l Snapshot,
    registry: &'l Registry,
    settings: &'l Settings,
    vaults: BTreeMap<&'l str, Vault>,
    /// Upstreams by name.
    upstreams: BTreeMap<&'l str, Id>,
    /// Services that routes do not lead to because they are disabled.
    disabled: BTreeSet<Id>,
    ir: Ir,
    diagnostics: Vec<Diagnostic>,
}

impl<'l> Lowering<'l> {
    fn new(snapshot: &'l Snapshot, registry: &'l Registry, settings: &'l Settings) -> Self {
        let vaults = snapshot.of("vaults").filter_map(secrets::vault).collect();
        let upstreams = snapshot.of("upstreams").filter_map(|u| Some((u.text("name")?, u.id))).collect();
        let disabled = snapshot.of("services").filter(|s| !s.flag("enabled")).map(|s| s.id).collect();
        let (ir, diagnostics) = (Ir::default(), Vec::new());
        Self { snapshot, registry, settings, vaults, upstreams, disabled, ir, diagnostics }
    }

    /// Says why an entity is left out.
    fn refuse(&mut self, kind: &str, entity: &Entity, code: Code, path: &str, message: impl Into<String>) {
        self.diagnostics.push(diagnostic(kind, entity, code, path, message.into()));
    }

    /// Says what is probably not meant.
    fn warn(&mut self, kind: &str, entity: &Entity, code: Code, path: &str, message: impl Into<String>) {
        let error = diagnostic(kind, entity, code, path, message.into());
        self.diagnostics.push(Diagnostic { severity: Severity::Warning, ..error });
    }
}

fn diagnostic(kind: &str, entity: &Entity, code: Code, path: &str, message: String) -> Diagnostic {
    let (origin, path) = (entity.origin(kind), path.to_owned());
    Diagnostic { severity: Severity::Error, code, origin, path, message, hint: None }
}
