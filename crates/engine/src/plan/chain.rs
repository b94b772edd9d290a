//! Filters of a route, in order, with a list for each phase.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cardinal_base::task::panic_text;
use cardinal_ir::resolve::{Candidate, Slot};
use cardinal_ir::{Code, Delta, Diagnostic, Diagnostics, FilterSet, Id, Scope, Severity, Wire};
use cardinal_sdk::{Admit, BuildCx, ConnectCx, FailureMode, Filter, Flow, HeadCx, Identity, Phases, PluginDef};
use serde_json::Value;
use smallvec::SmallVec;

use super::PlanCx;

/// No candidate of a slot applies to a request.
pub(crate) const NOT_CHOSEN: u16 = u16::MAX;

/// Candidates of one slot at most; more are refused when planning.
const CANDIDATES_MAX: usize = NOT_CHOSEN as usize - 2;

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
    /// The lists of all phases, one after the other.
    lists: Box<[u16]>,
    /// Where the list of each phase ends.
    ends: [u16; PHASES.len()],
}

/// All instances of one plugin that may apply.
struct SlotPlan {
    plugin: &'static PluginDef,
    /// Best first. Nearly always one.
    candidates: SmallVec<[CandidatePlan; 1]>,
}

#[derive(Clone)]
struct CandidatePlan {
    filter: Contained,
    set: Arc<FilterSet>,
    /// Of the filter in its set.
    index: u32,
    phases: Phases,
    /// Applies to everybody.
    any_identity: bool,
    /// Applies to all wire forms.
    any_wire: bool,
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
        let end = |phase: usize| self.ends.get(phase).map_or(0, |end| usize::from(*end));
        let start = (phase as usize).checked_sub(1).map_or(0, end);
        self.lists.get(start..end(phase as usize)).unwrap_or_default()
    }

    /// Which candidate of a slot applies to a request; [`NOT_CHOSEN`] for none.
    #[allow(clippy::cast_possible_truncation, reason = "at most CANDIDATES_MAX")]
    pub(crate) fn choose(&self, slot: u16, wire: Wire, identity: &Identity) -> u16 {
        let Some(slot) = self.slots.get(usize::from(slot)) else { return NOT_CHOSEN };
        let chosen = slot.candidates.iter().position(|candidate| candidate.applies(identity));
        match chosen.and_then(|at| Some((at, slot.candidates.get(at)?))) {
            Some((at, candidate)) if candidate.takes(wire) => at as u16,
            _ => NOT_CHOSEN,
        }
    }

    /// The filter that was chosen, if it wants `phase`.
    pub(crate) fn filter(&self, slot: u16, choice: u16, phase: Phases) -> Option<&Arc<dyn Filter>> {
        let candidate = self.slots.get(usize::from(slot))?.candidates.get(usize::from(choice))?;
        if candidate.phases.has(phase) { candidate.filter.0.as_ref() } else { None }
    }

    /// The plugin's name.
    pub(crate) fn name(&self, slot: u16) -> &'static str {
        self.slots.get(usize::from(slot)).map_or("", |slot| slot.plugin.name)
    }

    /// Whether a filter of the chain, chosen or not, owns a request header: see [`Filter::owns_header`].
    pub(crate) fn owns_header(&self, name: &[u8]) -> bool {
        self.slots.iter().flat_map(|slot| &slot.candidates).any(|candidate| candidate.filter.owns_header(name))
    }

    /// The instance that was chosen.
    pub(crate) fn instance(&self, slot: u16, choice: u16) -> Option<Instance<'_>> {
        let slot = self.slots.get(usize::from(slot))?;
        let candidate = slot.candidates.get(usize::from(choice))?;
        Some(Instance { plugin: slot.plugin, id: candidate.set.origin.id, set: &candidate.set })
    }

    /// The instance of a filter that this chain has, too.
    fn shared(&self, plugin: &PluginDef, wanted: &Candidate) -> Option<&CandidatePlan> {
        let slot = self.slots.iter().find(|slot| std::ptr::eq(slot.plugin, plugin))?;
        slot.candidates.iter().find(|c| c.index as usize == wanted.index && Arc::ptr_eq(&c.set, &wanted.set))
    }

    /// What distinguishes chains to an observer: plugins, sets in order, and what each phase runs.
    #[cfg(test)]
    pub(crate) fn describe(&self) -> String {
        let slots = self.slots.iter().map(|slot| {
            let one = |c: &CandidatePlan| {
                format!("{}/{} {:?} {} {}", c.set.origin.id, c.index, c.phases, c.any_identity, c.any_wire)
            };
            (slot.plugin.name, slot.candidates.iter().map(one).collect::<Vec<_>>())
        });
        format!("{:?} {:?} {:?}", slots.collect::<Vec<_>>(), self.lists, self.ends)
    }
}

impl CandidatePlan {
    fn new(filter: Arc<dyn Filter>, candidate: &Candidate) -> Self {
        Self {
            phases: filter.phases(),
            filter: Contained(Some(filter)),
            set: Arc::clone(&candidate.set),
            index: u32::try_from(candidate.index).unwrap_or(u32::MAX),
            any_identity: candidate.scope().is_static(),
            any_wire: candidate.filter().is_none_or(|filter| filter.wires.is_empty()),
        }
    }

    /// Whether the conditions of the scope that are not known from the route hold.
    fn applies(&self, identity: &Identity) -> bool {
        self.any_identity || applies(&self.set.scope, identity)
    }

    fn takes(&self, wire: Wire) -> bool {
        self.any_wire || self.set.filters.get(self.index as usize).is_some_and(|filter| filter.wires.contains(&wire))
    }
}

/// Whether the conditions of a scope that are not known from the route hold.
fn applies(scope: &Scope, identity: &Identity) -> bool {
    let Some(principal) = &identity.principal else { return false };
    scope.principal.is_none_or(|id| id == principal.id) && scope.group.is_none_or(|id| principal.groups.contains(&id))
}

/// Stands for an instance that cannot be built and that requests do not depend on. It keeps its place, so that no other
/// instance of the plugin runs instead.
struct Absent;

impl Filter for Absent {
    fn phases(&self) -> Phases {
        Phases::NONE
    }
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

/// An instance of a plugin. A panic while it is freed is logged and goes no further: it would end the thread that frees
/// plans, or the process if two instances panicked.
#[derive(Clone)]
struct Contained(Option<Arc<dyn Filter>>);

impl Deref for Contained {
    type Target = dyn Filter;

    fn deref(&self) -> &(dyn Filter + 'static) {
        // There is none only while it is dropped.
        self.0.as_deref().unwrap_or(&Absent)
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let Some(filter) = self.0.take() else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(filter))) {
            tracing::error!("a plugin panicked while an instance was freed: {}", panic_text(&*panic));
        }
    }
}

fn error(candidate: &Candidate, code: Code, path: &str, message: String) -> Diagnostic {
    let (origin, path) = (candidate.set.origin.clone(), path.to_owned());
    Diagnostic { severity: Severity::Error, code, origin, location: None, path, message, hint: None }
}

/// Builds filters, each instance once; one whose set did not change is taken from where it was.
pub(super) struct ChainBuilder<'x> {
    cx: &'x PlanCx<'x>,
    plugins: HashMap<&'static str, &'static PluginDef>,
    built: HashMap<(Id, usize), CandidatePlan>,
    problems: BTreeMap<Id, Vec<Diagnostic>>,
}

impl<'x> ChainBuilder<'x> {
    pub(super) fn new(cx: &'x PlanCx<'x>) -> Self {
        let plugins = cx.plugins.iter().map(|plugin| (plugin.name, *plugin)).collect();
        Self { cx, plugins, built: HashMap::new(), problems: BTreeMap::new() }
    }

    /// Builds the instances of all sets that are new or differ.
    ///
    /// # Errors
    /// The instances whose plugins panicked: a generation with them is not served.
    pub(super) fn build_all(&mut self, changes: &Delta<FilterSet>) -> Result<(), Diagnostics> {
        let mut panics = Vec::new();
        for (id, set) in changes.put() {
            for (index, filter) in set.filters.iter().enumerate() {
                let Some(plugin) = self.plugins.get(&*filter.kind).copied() else { continue };
                let candidate = Candidate { id, set: Arc::clone(set), index };
                match self.build(plugin, &candidate) {
                    Ok(built) => drop(self.built.insert((id, index), built)),
                    Err(panic) => panics.push(*panic),
                }
            }
        }
        Diagnostics::of(panics).map_or(Ok(()), Err)
    }

    /// What was refused, by the ids of the sets.
    pub(super) fn into_problems(self) -> BTreeMap<Id, Vec<Diagnostic>> {
        self.problems
    }

    /// The chain of these slots. Instances that one of the chains `old` has are not built again.
    pub(super) fn chain(&mut self, slots: Vec<Slot>, old: &[&Chain]) -> Chain {
        let mut planned: Vec<SlotPlan> = slots.into_iter().filter_map(|slot| self.slot(slot, old)).collect();
        // Equal priorities run in the reverse order of names, so that the order is the same on every node.
        planned
            .sort_by(|a, b| b.plugin.priority.cmp(&a.plugin.priority).then_with(|| b.plugin.name.cmp(a.plugin.name)));
        let (mut lists, mut ends) = (Vec::new(), [0; PHASES.len()]);
        for ((_, wanted), end) in PHASES.iter().zip(&mut ends) {
            let wants = |slot: &SlotPlan| slot.candidates.iter().any(|c| c.phases.has(*wanted));
            let list = planned.iter().enumerate().filter(|(_, slot)| wants(slot));
            lists.extend(list.filter_map(|(number, _)| u16::try_from(number).ok()));
            *end = u16::try_from(lists.len()).unwrap_or(u16::MAX);
        }
        Chain { slots: planned.into(), lists: lists.into(), ends }
    }

    fn slot(&mut self, slot: Slot, old: &[&Chain]) -> Option<SlotPlan> {
        let Some(plugin) = self.plugins.get(&*slot.kind).copied() else {
            if let Some(candidate) = slot.candidates.first() {
                let message = format!("no plugin {:?} in this program", slot.kind);
                self.refuse(candidate, Code::Unsupported, "name", message);
            }
            return None;
        };
        if let Some(over) = slot.candidates.get(CANDIDATES_MAX) {
            let message = format!("more than {CANDIDATES_MAX} instances of {:?} apply to one route", slot.kind);
            self.refuse(over, Code::Invariant, "", message);
        }
        let candidates = slot.candidates.iter().take(CANDIDATES_MAX);
        let mut candidates: SmallVec<[CandidatePlan; 1]> =
            candidates.filter_map(|c| self.candidate(plugin, c, old)).collect();
        if let (Some(over), FailureMode::Closed) = (slot.candidates.get(CANDIDATES_MAX), plugin.failure) {
            // For all that only the instances left out would have been for.
            let stand_in = CandidatePlan::new(Arc::new(Unbuildable), over);
            candidates.push(CandidatePlan { any_identity: true, any_wire: true, ..stand_in });
        }
        candidates.shrink_to_fit();
        (!candidates.is_empty()).then_some(SlotPlan { plugin, candidates })
    }

    fn candidate(
        &mut self,
        plugin: &'static PluginDef,
        candidate: &Candidate,
        old: &[&Chain],
    ) -> Option<CandidatePlan> {
        let key = (candidate.id, candidate.index);
        if let Some(built) = self.built.get(&key) {
            return Some(built.clone());
        }
        let found = match old.iter().find_map(|chain| chain.shared(plugin, candidate)) {
            Some(same) => same.clone(),
            // It was known before, and only now a route needs it.
            None => self.build(plugin, candidate).unwrap_or_else(|panic| {
                self.problems.entry(candidate.id).or_default().push(*panic);
                CandidatePlan::new(Arc::new(Unbuildable), candidate)
            }),
        };
        // What is for one route is met again only by its own chain.
        if candidate.scope().route.is_none() {
            self.built.insert(key, found.clone());
        }
        Some(found)
    }

    /// Builds an instance. The error is a panic of the plugin.
    fn build(&mut self, plugin: &'static PluginDef, candidate: &Candidate) -> Result<CandidatePlan, Box<Diagnostic>> {
        let params = candidate.filter().map_or(&Value::Null, |filter| &*filter.params);
        let scope = candidate.scope();
        let cx = BuildCx {
            services: &self.cx.services,
            id: candidate.set.origin.id,
            route: scope.route,
            backend: scope.backend,
            principal: scope.principal,
        };
        let built = catch_unwind(AssertUnwindSafe(|| (plugin.build)(params, &cx))).map_err(|panic| {
            let message =
                format!("plugin {:?} panicked while an instance was built: {}", plugin.name, panic_text(&*panic));
            Box::new(error(candidate, Code::Panic, "", message))
        })?;
        let built = built.unwrap_or_else(|error| {
            let path = format!("config.{}", error.path.trim_start_matches("config."));
            let (effect, stand_in): (_, Arc<dyn Filter>) = match plugin.failure {
                FailureMode::Open => ("requests are served without this instance", Arc::new(Absent)),
                FailureMode::Closed => ("requests that it is for are answered 500", Arc::new(Unbuildable)),
            };
            self.refuse(candidate, Code::Schema, &path, format!("{}; {effect}", error.message));
            stand_in
        });
        Ok(CandidatePlan::new(built, candidate))
    }

    fn refuse(&mut self, candidate: &Candidate, code: Code, path: &str, message: String) {
        let problem = error(candidate, code, path, message);
        let known = self.problems.entry(candidate.id).or_default();
        if !known.contains(&problem) {
            known.push(problem);
        }
    }
}
