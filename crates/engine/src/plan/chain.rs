//! Filters of a route, in order, with a list for each phase.

use std::collections::HashMap;
use std::sync::Arc;

use cardinal_ir::resolve::{Candidate, Slot};
use cardinal_ir::{Code, Diagnostic, FilterSet, Id, Scope, Severity, Wire};
use cardinal_sdk::{Admit, BuildCx, ConnectCx, Filter, Flow, HeadCx, Identity, Phases, PluginDef};

use super::PlanCx;

/// No candidate of a slot applies to a request.
pub(crate) const NOT_CHOSEN: u8 = u8::MAX;

/// Candidates of one slot at most; more are refused when planning.
const CANDIDATES_MAX: usize = NOT_CHOSEN as usize - 1;

/// A phase's list.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// Request heads.
    Request,
    /// Response heads.
    Response,
    /// Response bodies.
    Body,
    /// The end.
    Log,
    /// Connections.
    Connect,
}

const PHASES: [(Phase, Phases); 5] = [
    (Phase::Request, Phases::REQUEST),
    (Phase::Response, Phases::RESPONSE),
    (Phase::Body, Phases::RESPONSE_BODY),
    (Phase::Log, Phases::LOG),
    (Phase::Connect, Phases::CONNECT),
];

/// Filters of a route. Slots are in the order of the plugins' priorities; each phase lists the slots that want it.
#[derive(Default)]
pub(crate) struct Chain {
    slots: Box<[SlotPlan]>,
    phases: [Box<[u16]>; 5],
}

/// All instances of one plugin that may apply.
struct SlotPlan {
    plugin: &'static PluginDef,
    /// Best first.
    candidates: Box<[CandidatePlan]>,
}

#[derive(Clone)]
struct CandidatePlan {
    scope: Scope,
    wires: Box<[Wire]>,
    filter: Arc<dyn Filter>,
    phases: Phases,
    set: Arc<FilterSet>,
    id: Id,
}

/// An instance, for people who ask.
pub(crate) struct Instance<'x> {
    pub(crate) plugin: &'static PluginDef,
    pub(crate) id: Id,
    pub(crate) set: &'x FilterSet,
}

impl Chain {
    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The slots that want a phase, in order.
    pub(crate) fn list(&self, phase: Phase) -> &[u16] {
        self.phases.get(phase as usize).map_or(&[], |list| list)
    }

    /// Which candidate of a slot applies to a request; [`NOT_CHOSEN`] for none.
    #[allow(clippy::cast_possible_truncation, reason = "at most CANDIDATES_MAX")]
    pub(crate) fn choose(&self, slot: u16, wire: Wire, identity: &Identity) -> u8 {
        let Some(slot) = self.slots.get(usize::from(slot)) else { return NOT_CHOSEN };
        let chosen = slot.candidates.iter().position(|candidate| applies(&candidate.scope, identity));
        match chosen.and_then(|at| Some((at, slot.candidates.get(at)?))) {
            Some((at, candidate)) if candidate.wires.is_empty() || candidate.wires.contains(&wire) => at as u8,
            _ => NOT_CHOSEN,
        }
    }

    /// The filter that was chosen, if it wants `phase`.
    pub(crate) fn filter(&self, slot: u16, choice: u8, phase: Phases) -> Option<&Arc<dyn Filter>> {
        let candidate = self.slots.get(usize::from(slot))?.candidates.get(usize::from(choice))?;
        candidate.phases.has(phase).then_some(&candidate.filter)
    }

    /// The plugin's name.
    pub(crate) fn name(&self, slot: u16) -> &'static str {
        self.slots.get(usize::from(slot)).map_or("", |slot| slot.plugin.name)
    }

    /// The instance that was chosen.
    pub(crate) fn instance(&self, slot: u16, choice: u8) -> Option<Instance<'_>> {
        let slot = self.slots.get(usize::from(slot))?;
        let candidate = slot.candidates.get(usize::from(choice))?;
        Some(Instance { plugin: slot.plugin, id: candidate.id, set: &candidate.set })
    }
}

/// Whether the conditions of a scope that are not known from the route hold.
fn applies(scope: &Scope, identity: &Identity) -> bool {
    if scope.is_static() {
        return true;
    }
    let Some(principal) = &identity.principal else { return false };
    scope.principal.is_none_or(|id| id == principal.id) && scope.group.is_none_or(|id| principal.groups.contains(&id))
}

/// Stands for an instance that cannot be built. What it should have guarded does not go open.
struct Unbuildable;

impl Filter for Unbuildable {
    fn phases(&self) -> Phases {
        Phases::REQUEST.and(Phases::CONNECT)
    }

    fn on_request_head<'a>(&'a self, _cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        Flow::Fail("the instance could not be built: see the log of the generation".to_owned())
    }

    fn on_connect(&self, _cx: &mut ConnectCx<'_>) -> Admit {
        Admit::No
    }
}

/// Builds filters, each instance once for a generation.
pub(super) struct ChainBuilder<'x> {
    cx: &'x PlanCx<'x>,
    plugins: HashMap<&'static str, &'static PluginDef>,
    built: HashMap<(Id, usize), Option<CandidatePlan>>,
    diagnostics: Vec<Diagnostic>,
}

impl<'x> ChainBuilder<'x> {
    pub(super) fn new(cx: &'x PlanCx<'x>) -> Self {
        let plugins = cx.plugins.iter().map(|plugin| (plugin.name, *plugin)).collect();
        Self { cx, plugins, built: HashMap::new(), diagnostics: Vec::new() }
    }

    pub(super) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }

    pub(super) fn chain(&mut self, slots: Vec<Slot>) -> Chain {
        let mut planned: Vec<SlotPlan> = slots.into_iter().filter_map(|slot| self.slot(slot)).collect();
        // Equal priorities run in reverse alphabetical order (Kong).
        planned
            .sort_by(|a, b| b.plugin.priority.cmp(&a.plugin.priority).then_with(|| b.plugin.name.cmp(a.plugin.name)));
        let phases = PHASES.map(|(_, wanted)| {
            let wants = |slot: &SlotPlan| slot.candidates.iter().any(|c| c.phases.has(wanted));
            let list = planned.iter().enumerate().filter(|(_, slot)| wants(slot));
            list.filter_map(|(number, _)| u16::try_from(number).ok()).collect()
        });
        Chain { slots: planned.into(), phases }
    }

    fn slot(&mut self, slot: Slot) -> Option<SlotPlan> {
        let Some(plugin) = self.plugins.get(&*slot.kind).copied() else {
            if let Some(candidate) = slot.candidates.first() {
                let message = format!("no plugin {:?} in this program", slot.kind);
                self.refuse(&candidate.set, Code::Unsupported, "name", message);
            }
            return None;
        };
        if let Some(over) = slot.candidates.get(CANDIDATES_MAX) {
            let message = format!("more than {CANDIDATES_MAX} instances of {:?} compete on one route", slot.kind);
            self.refuse(&Arc::clone(&over.set), Code::Invariant, "", message);
        }
        let candidates: Box<[_]> = slot
            .candidates
            .iter()
            .take(CANDIDATES_MAX)
            .filter_map(|candidate| self.candidate(plugin, candidate))
            .collect();
        (!candidates.is_empty()).then_some(SlotPlan { plugin, candidates })
    }

    fn candidate(&mut self, plugin: &'static PluginDef, candidate: &Candidate) -> Option<CandidatePlan> {
        let key = (candidate.id, candidate.index);
        if let Some(built) = self.built.get(&key) {
            return built.clone();
        }
        let built = self.build(plugin, candidate);
        self.built.insert(key, built.clone());
        built
    }

    fn build(&mut self, plugin: &'static PluginDef, candidate: &Candidate) -> Option<CandidatePlan> {
        let filter = candidate.filter()?;
        let scope = candidate.scope();
        let cx = BuildCx {
            services: &self.cx.services,
            id: candidate.set.origin.id,
            route: scope.route,
            backend: scope.backend,
            principal: scope.principal,
        };
        match (plugin.build)(&filter.params, &cx) {
            Ok(built) => Some(CandidatePlan {
                scope: *scope,
                wires: filter.wires.clone().into(),
                phases: built.phases(),
                filter: built,
                set: Arc::clone(&candidate.set),
                id: candidate.set.origin.id,
            }),
            Err(error) => {
                let path = format!("config.{}", error.path.trim_start_matches("config."));
                let message = format!("{}; requests that it is for are answered 500", error.message);
                self.refuse(&candidate.set, Code::Schema, &path, message);
                Some(CandidatePlan {
                    scope: *scope,
                    wires: filter.wires.clone().into(),
                    phases: Unbuildable.phases(),
                    filter: Arc::new(Unbuildable),
                    set: Arc::clone(&candidate.set),
                    id: candidate.set.origin.id,
                })
            }
        }
    }

    fn refuse(&mut self, set: &FilterSet, code: Code, path: &str, message: String) {
        let (origin, path) = (set.origin.clone(), path.to_owned());
        self.diagnostics.push(Diagnostic { severity: Severity::Error, code, origin, path, message, hint: None });
    }
}
