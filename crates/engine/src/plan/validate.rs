//! Validates a configuration: lists entities that planning would skip, without building the plan.

use std::collections::BTreeMap;

use cardinal_ir::{Code, Diagnostic, Diagnostics, Ir, IrDelta};
use cardinal_route::Router;
use cardinal_sdk::Directory;

use super::PlanCx;
use super::backend::{self, Backends, Records};
use super::chain::ChainBuilder;
use super::changes::Changes;
use super::groups::{note_unmatchable, route_tables};
use super::identities::Prepared;
use super::listeners::{Listeners, ListenersCx};
use super::planner::Planner;
use super::tls::{self, TlsPlan};
use crate::configuration::Configuration;
use crate::policy::telemetry::TelemetryPlans;

/// Lists what [`Plan::build`](super::Plan::build) would leave out of a configuration, with the reasons. Routes and
/// principals are not indexed, which saves most of the work for a large configuration. Must be called within a runtime.
///
/// # Errors
/// See `Plan::build`.
pub(crate) fn validate(configuration: &Configuration, cx: &PlanCx<'_>) -> Result<Vec<Diagnostic>, Diagnostics> {
    let Configuration { ir, secrets, node } = configuration;
    if let Some(found) = Diagnostics::of(ir.verify()) {
        return Err(found);
    }
    let tls = TlsPlan::build((ir, secrets, node), cx.registry, None)?;
    if let Err(error) = backend::read_system_authorities(ir, node) {
        return Err(tls::node_error(Code::Shortage, error.to_string()).into());
    }
    let nothing = Ir::default();
    let delta = IrDelta {
        identities: nothing.identities.diff(&ir.identities),
        trust_bundles: nothing.trust_bundles.diff(&ir.trust_bundles),
        listeners: nothing.listeners.diff(&ir.listeners),
        clusters: nothing.clusters.diff(&ir.clusters),
        endpoints: nothing.endpoints.diff(&ir.endpoints),
        backends: nothing.backends.diff(&ir.backends),
        filter_sets: nothing.filter_sets.diff(&ir.filter_sets),
        policies: nothing.policies.diff(&ir.policies),
        ..IrDelta::default()
    };
    let changes = Changes { node: true, delta };
    let mut builder = ChainBuilder::new(cx.plugins, &cx.services, secrets);
    builder.build_all(&changes.delta)?;
    let mut all = Directory::unusable_credentials(ir, secrets, cx.plugins);
    all.extend(tls.diagnostics());
    let listeners = ListenersCx { ir, node, tls: &tls, registry: cx.registry, changes: &changes };
    all.extend(Listeners::build(&listeners, None).diagnostics());
    let mut identity_problems = BTreeMap::new();
    let identities = Prepared::new((ir, secrets), &changes, &mut identity_problems);
    identities.store(cx.registry.identities(), &mut identity_problems, ir);
    all.extend(identity_problems.into_values());
    let mut problems = BTreeMap::new();
    for table in route_tables(ir) {
        let (_, found) = Router::build(ir, table);
        note_unmatchable(&found, ir.routes.iter().map(|(id, route)| (*id, route)), table, &mut problems);
    }
    all.extend(problems.values().flatten().cloned());
    let records = Records { ir, secrets, node };
    let (backends, concerned) = cx.registry.backends(records, 1, &changes, &Backends::default(), &cx.services);
    all.extend(backends.diagnostics());
    let mut planner = Planner::new(None, builder, &changes, &backends, (super::groups::ids(ir), concerned));
    let matchable = ir.routes.iter().filter(|(id, _)| !problems.contains_key(*id));
    planner.build_chains(matchable.map(|(_, route)| &**route));
    all.extend(planner.finish().diagnostics());
    let telemetry = TelemetryPlans::build((ir, secrets), None, &cx.services);
    all.extend(telemetry.iter().flat_map(|telemetry| telemetry.diagnostics()));
    Ok(all)
}
