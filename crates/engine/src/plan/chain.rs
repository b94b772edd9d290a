//! The filter chain of a route: filters and policies in order, with one list per phase.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cardinal_base::task::panic_text;
use cardinal_ir::resolve::{Candidate, ScopedId, ScopedRecord, Slot, SlotKey};
use cardinal_ir::{
    Code, Diagnostic, Diagnostics, IrDelta, Policy, PolicyKind, Scope, Secrets, Severity, UnresolvedSecret, Wire,
};
use cardinal_sdk::{
    Admit, BuildCx, BuildError, ConnectCx, Exchange, FailureMode, Filter, Flow, HeadCx, Identity, Phases, PluginDef,
    Services,
};
use serde_json::Value;
use smallvec::SmallVec;

use crate::policy::{self, Clients, PolicyCx};

/// Marks a slot in which no candidate applies to a request.
pub(crate) const NOT_CHOSEN: u16 = u16::MAX;

/// Maximum number of candidates of a slot; planning rejects more.
const CANDIDATES_MAX: usize = NOT_CHOSEN as usize - 2;

/// Maximum number of slots of a route; planning rejects more. The lists of all phases together are indexed by 16 bits.
pub(super) const SLOTS_MAX: usize = u16::MAX as usize / PHASES.len();

/// The phases with a list of slots.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// Request heads.
    Request,
    /// Response heads.
    Response,
    /// Response bodies.
    Body,
    /// The log phase.
    Log,
    /// New connections of stream routes.
    Connect,
    /// Chunks of request bodies.
    RequestBody,
    /// Attempts to reach an upstream.
    Attempt,
    /// TLS handshakes.
    Certificate,
}

const PHASES: [(Phase, Phases); 8] = [
    (Phase::Request, Phases::REQUEST),
    (Phase::Response, Phases::RESPONSE),
    (Phase::Body, Phases::RESPONSE_BODY),
    (Phase::Log, Phases::LOG),
    (Phase::Connect, Phases::CONNECT),
    (Phase::RequestBody, Phases::REQUEST_BODY),
    (Phase::Attempt, Phases::ATTEMPT),
    (Phase::Certificate, Phases::CERTIFICATE),
];

/// Filters and policies of a route. Slots are sorted by position; each phase lists the slots that take part in it.
#[derive(Default)]
pub(crate) struct Chain {
    slots: Box<[SlotPlan]>,
    /// The lists of all phases, one after the other.
    lists: Box<[u16]>,
    /// The end of each phase's list.
    ends: [u16; PHASES.len()],
}

/// The instances of one plugin, or the policies of one kind and position, that may apply.
struct SlotPlan {
    place: Place,
    /// The best first; nearly always one.
    candidates: SmallVec<[CandidatePlan; 1]>,
}

/// The key by which instances compete for a slot.
#[derive(Clone, Copy)]
enum Place {
    /// Instances of a plugin: filters or policies.
    Plugin(&'static PluginDef),
    /// Policies of a kind at a position.
    Policy(PolicyKind, i32),
}

impl Place {
    /// Slots with a higher order run first.
    fn order(self) -> i32 {
        match self {
            Self::Plugin(plugin) => plugin.priority,
            Self::Policy(_, order) => order,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plugin(plugin) => plugin.name,
            Self::Policy(kind, _) => kind.as_str(),
        }
    }

    fn failure(self) -> FailureMode {
        match self {
            Self::Plugin(plugin) => plugin.failure,
            Self::Policy(..) => FailureMode::Closed,
        }
    }

    fn is(self, other: Self) -> bool {
        match (self, other) {
            (Self::Plugin(a), Self::Plugin(b)) => std::ptr::eq(a, b),
            (Self::Policy(a, at), Self::Policy(b, other_at)) => (a, at) == (b, other_at),
            _ => false,
        }
    }
}

#[derive(Clone)]
struct CandidatePlan {
    filter: Contained,
    record: ScopedRecord,
    /// The index of the filter in its set.
    index: u32,
    phases: Phases,
    /// Applies to all clients.
    any_client: bool,
    /// Applies to all wire forms.
    any_wire: bool,
    /// If it does not apply to the wire form, the next candidate may.
    by_wire: bool,
    /// Conditions on the client that do not depend on authentication.
    clients: Option<Arc<Clients>>,
}

/// Describes an instance for `explain`.
pub(crate) struct Instance<'x> {
    pub(crate) name: &'static str,
    pub(crate) record: &'x ScopedRecord,
    pub(crate) index: usize,
}

impl Chain {
    /// Number of slots.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The slots that take part in a phase, in order.
    pub(crate) fn list(&self, phase: Phase) -> &[u16] {
        let end = |phase: usize| self.ends.get(phase).map_or(0, |end| usize::from(*end));
        let start = (phase as usize).checked_sub(1).map_or(0, end);
        self.lists.get(start..end(phase as usize)).unwrap_or_default()
    }

    /// The candidate of a slot that applies to a request; [`NOT_CHOSEN`] if there is none.
    #[allow(clippy::cast_possible_truncation, reason = "at most CANDIDATES_MAX")]
    pub(crate) fn choose(&self, slot: u16, exchange: &Exchange) -> u16 {
        let Some(slot) = self.slots.get(usize::from(slot)) else { return NOT_CHOSEN };
        let wire = exchange.client.wire;
        let is_taken = |c: &CandidatePlan| (!c.by_wire || c.takes(wire)) && c.applies(exchange);
        let chosen = slot.candidates.iter().position(is_taken);
        match chosen.and_then(|at| Some((at, slot.candidates.get(at)?))) {
            Some((at, candidate)) if candidate.takes(wire) => at as u16,
            _ => NOT_CHOSEN,
        }
    }

    /// The selected filter, if it takes part in `phase`.
    pub(crate) fn filter(&self, slot: u16, choice: u16, phase: Phases) -> Option<&Arc<dyn Filter>> {
        let candidate = self.slots.get(usize::from(slot))?.candidates.get(usize::from(choice))?;
        if candidate.phases.has(phase) { candidate.filter.0.as_ref() } else { None }
    }

    /// The name of the plugin, or the kind of the policy.
    pub(crate) fn name(&self, slot: u16) -> &'static str {
        self.slots.get(usize::from(slot)).map_or("", |slot| slot.place.name())
    }

    /// Whether the filter fails open.
    pub(crate) fn fails_open(&self, slot: u16) -> bool {
        self.slots.get(usize::from(slot)).is_some_and(|slot| slot.place.failure() == FailureMode::Open)
    }

    /// Whether a filter of the chain, selected or not, owns a request header: see [`Filter::owns_header`].
    pub(crate) fn owns_header(&self, name: &[u8]) -> bool {
        self.slots.iter().flat_map(|slot| &slot.candidates).any(|candidate| candidate.filter.owns_header(name))
    }

    /// The selected instance.
    pub(crate) fn instance(&self, slot: u16, choice: u16) -> Option<Instance<'_>> {
        let slot = self.slots.get(usize::from(slot))?;
        let candidate = slot.candidates.get(usize::from(choice))?;
        Some(Instance { name: slot.place.name(), record: &candidate.record, index: candidate.index as usize })
    }

    /// The existing instance of a filter, if this chain has it too.
    fn shared(&self, place: Place, wanted: &Candidate) -> Option<&CandidatePlan> {
        let slot = self.slots.iter().find(|slot| slot.place.is(place))?;
        slot.candidates.iter().find(|c| c.index as usize == wanted.index && c.record.is(&wanted.record))
    }

    /// The observable properties of a chain: plugins, sets in order, and the slots of each phase.
    #[cfg(test)]
    pub(crate) fn describe(&self) -> String {
        let slots = self.slots.iter().map(|slot| {
            let one = |c: &CandidatePlan| {
                let id = c.record.origin().id;
                format!("{id}/{} {:?} {} {}", c.index, c.phases, c.any_client, c.any_wire)
            };
            (slot.place.name(), slot.place.order(), slot.candidates.iter().map(one).collect::<Vec<_>>())
        });
        format!("{:?} {:?} {:?}", slots.collect::<Vec<_>>(), self.lists, self.ends)
    }
}

impl CandidatePlan {
    fn new(filter: Arc<dyn Filter>, candidate: &Candidate) -> Self {
        let clients = match &candidate.record {
            ScopedRecord::Policy(policy) if !policy.clients.is_empty() => Some(Clients::new(&policy.clients).into()),
            ScopedRecord::Policy(_) | ScopedRecord::Filters(_) => None,
        };
        Self {
            phases: filter.phases(),
            filter: Contained(Some(filter)),
            record: candidate.record.clone(),
            index: u32::try_from(candidate.index).unwrap_or(u32::MAX),
            any_client: candidate.record.is_static(),
            any_wire: candidate.record.wires(candidate.index).is_empty(),
            by_wire: candidate.record.is_taken_by_wire(),
            clients,
        }
    }

    /// Whether the conditions hold that do not follow from the route.
    fn applies(&self, exchange: &Exchange) -> bool {
        self.any_client
            || ((self.record.scope().is_static() || applies(self.record.scope(), &exchange.identity))
                && self.clients.as_ref().is_none_or(|clients| clients.contain(exchange, None)))
    }

    fn takes(&self, wire: Wire) -> bool {
        self.any_wire || self.record.wires(self.index as usize).contains(&wire)
    }
}

/// Whether the conditions of a scope hold that do not follow from the route.
fn applies(scope: &Scope, identity: &Identity) -> bool {
    let Some(principal) = &identity.principal else { return false };
    scope.principal.is_none_or(|id| id == principal.id) && scope.group.is_none_or(|id| principal.groups.contains(&id))
}

/// Placeholder for an instance that cannot be built and that is not critical. It occupies the slot, so that no other
/// instance of the plugin runs instead.
struct Absent;

impl Filter for Absent {
    fn phases(&self) -> Phases {
        Phases::NONE
    }
}

/// Placeholder for an instance that cannot be built: it fails closed, so that requests are not served without the
/// instance.
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

/// An instance of a plugin. A panic in its destructor is caught and logged: otherwise it would end the thread that
/// frees plans, or abort the process if two instances panicked.
#[derive(Clone)]
struct Contained(Option<Arc<dyn Filter>>);

impl Deref for Contained {
    type Target = dyn Filter;

    fn deref(&self) -> &(dyn Filter + 'static) {
        // The value is only absent during drop.
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
    let (origin, path) = (candidate.record.origin().clone(), path.to_owned());
    Diagnostic { severity: Severity::Error, code, origin, location: None, path, message, hint: None }
}

/// Why a filter or policy cannot be built.
struct NotMade {
    code: Code,
    error: BuildError,
}

impl From<BuildError> for NotMade {
    fn from(error: BuildError) -> Self {
        Self { code: Code::Schema, error }
    }
}

impl From<UnresolvedSecret> for NotMade {
    fn from(unresolved: UnresolvedSecret) -> Self {
        Self { code: Code::Secret, error: BuildError::new(unresolved.path.clone(), unresolved.to_string()) }
    }
}

/// Builds filters and policies, each instance once; instances of unchanged records are reused.
pub(super) struct ChainBuilder<'x> {
    services: &'x Services,
    secrets: &'x Secrets,
    plugins: HashMap<&'static str, &'static PluginDef>,
    built: HashMap<(ScopedId, usize), CandidatePlan>,
    problems: BTreeMap<ScopedId, Vec<Diagnostic>>,
}

impl<'x> ChainBuilder<'x> {
    pub(super) fn new(plugins: &[&'static PluginDef], services: &'x Services, secrets: &'x Secrets) -> Self {
        let plugins = plugins.iter().map(|plugin| (plugin.name, *plugin)).collect();
        Self { services, secrets, plugins, built: HashMap::new(), problems: BTreeMap::new() }
    }

    /// Builds the instances of all new and changed records.
    ///
    /// # Errors
    /// The instances whose plugins panicked: such a generation is rejected.
    pub(super) fn build_all(&mut self, delta: &IrDelta) -> Result<(), Diagnostics> {
        let mut panics = Vec::new();
        for (id, set) in delta.filter_sets.put() {
            let record = ScopedRecord::Filters(Arc::clone(set));
            for (index, filter) in set.filters.iter().enumerate() {
                if let Some(plugin) = self.plugins.get(&*filter.kind).copied() {
                    let candidate = Candidate { id, record: record.clone(), index };
                    self.build_one(Place::Plugin(plugin), &candidate, &mut panics);
                }
            }
        }
        for (id, policy) in delta.policies.put() {
            let candidate = Candidate { id, record: ScopedRecord::Policy(Arc::clone(policy)), index: 0 };
            self.build_one(self.place_of(policy), &candidate, &mut panics);
        }
        Diagnostics::of(panics).map_or(Ok(()), Err)
    }

    fn build_one(&mut self, place: Place, candidate: &Candidate, panics: &mut Vec<Diagnostic>) {
        match self.build(place, candidate) {
            Ok(built) => drop(self.built.insert((candidate.scoped_id(), candidate.index), built)),
            Err(panic) => panics.push(*panic),
        }
    }

    /// The problems, by the ids of the records.
    pub(super) fn into_problems(self) -> BTreeMap<ScopedId, Vec<Diagnostic>> {
        self.problems
    }

    /// Builds the chain of these slots. Instances that one of the chains in `old` contains are reused.
    pub(super) fn chain(&mut self, mut slots: Vec<Slot>, old: &[&Chain]) -> Chain {
        let over = slots.get(SLOTS_MAX).and_then(|slot| slot.candidates.first().cloned());
        slots.truncate(SLOTS_MAX);
        let mut planned: Vec<SlotPlan> = slots.into_iter().filter_map(|slot| self.slot(slot, old)).collect();
        if let Some(over) = over {
            self.refuse_slots(&over, &mut planned);
        }
        // Equal positions run in reverse alphabetical order (Kong).
        planned.sort_by(|a, b| b.place.order().cmp(&a.place.order()).then_with(|| b.place.name().cmp(a.place.name())));
        let (mut lists, mut ends) = (Vec::new(), [0; PHASES.len()]);
        for ((_, wanted), end) in PHASES.iter().zip(&mut ends) {
            let wants = |slot: &SlotPlan| slot.candidates.iter().any(|c| c.phases.has(*wanted));
            let list = planned.iter().enumerate().filter(|(_, slot)| wants(slot));
            lists.extend(list.filter_map(|(number, _)| u16::try_from(number).ok()));
            *end = u16::try_from(lists.len()).unwrap_or(u16::MAX);
        }
        Chain { slots: planned.into(), lists: lists.into(), ends }
    }

    /// Makes the chain reject all requests, because it would lack some of its filters and policies.
    fn refuse_slots(&mut self, over: &Candidate, planned: &mut Vec<SlotPlan>) {
        let effect = "its requests are answered 500";
        let message = format!("more than {SLOTS_MAX} plugins and policies apply to one route; {effect}");
        self.refuse(over, Code::Invariant, "", message);
        let stand_in = CandidatePlan::new(Arc::new(Unbuildable), over);
        let stand_in = CandidatePlan { any_client: true, any_wire: true, ..stand_in };
        planned.truncate(SLOTS_MAX - 1);
        let place = Place::Policy(PolicyKind::Authorization, i32::MAX);
        planned.push(SlotPlan { place, candidates: SmallVec::from_iter([stand_in]) });
    }

    /// The slot key of a policy.
    fn place_of(&self, policy: &Policy) -> Place {
        let plugin = policy.plugin.as_ref().and_then(|plugin| self.plugins.get(&*plugin.name));
        plugin.map_or(Place::Policy(policy.spec.kind(), policy.order), |plugin| Place::Plugin(plugin))
    }

    /// Plans a slot. If the binary does not contain a plugin, only its policies remain.
    fn slot(&mut self, slot: Slot, old: &[&Chain]) -> Option<SlotPlan> {
        let Slot { key, mut candidates } = slot;
        let place = match key {
            SlotKey::Policy(kind, order) => Place::Policy(kind, order),
            SlotKey::Plugin(name) => match self.plugins.get(&*name).copied() {
                Some(plugin) => Place::Plugin(plugin),
                None => {
                    let is_filter = |c: &Candidate| matches!(c.record, ScopedRecord::Filters(_));
                    if let Some(filter) = candidates.iter().find(|c| is_filter(c)) {
                        let message = format!("no plugin {name:?} in this program");
                        self.refuse(filter, Code::Unsupported, "name", message);
                    }
                    candidates.retain(|candidate| !is_filter(candidate));
                    self.place_of_first(&candidates)?
                }
            },
        };
        self.slot_at(place, &candidates, old)
    }

    fn place_of_first(&self, candidates: &[Candidate]) -> Option<Place> {
        candidates.iter().find_map(|candidate| match &candidate.record {
            ScopedRecord::Policy(policy) => Some(self.place_of(policy)),
            ScopedRecord::Filters(_) => None,
        })
    }

    fn slot_at(&mut self, place: Place, all: &[Candidate], old: &[&Chain]) -> Option<SlotPlan> {
        if let Some(over) = all.get(CANDIDATES_MAX) {
            let message = format!("more than {CANDIDATES_MAX} instances of {:?} apply to one route", place.name());
            self.refuse(over, Code::Invariant, "", message);
        }
        let candidates = all.iter().take(CANDIDATES_MAX);
        let mut candidates: SmallVec<[CandidatePlan; 1]> =
            candidates.filter_map(|c| self.candidate(place, c, old)).collect();
        if let (Some(over), FailureMode::Closed) = (all.get(CANDIDATES_MAX), place.failure()) {
            // Stands in for requests to which only the omitted instances would have applied.
            let stand_in = CandidatePlan::new(Arc::new(Unbuildable), over);
            candidates.push(CandidatePlan { any_client: true, any_wire: true, ..stand_in });
        }
        candidates.shrink_to_fit();
        (!candidates.is_empty()).then_some(SlotPlan { place, candidates })
    }

    fn candidate(&mut self, place: Place, candidate: &Candidate, old: &[&Chain]) -> Option<CandidatePlan> {
        let key = (candidate.scoped_id(), candidate.index);
        if let Some(built) = self.built.get(&key) {
            return Some(built.clone());
        }
        let found = match old.iter().find_map(|chain| chain.shared(place, candidate)) {
            Some(same) => same.clone(),
            // The record is unchanged, but no route needed it before.
            None => self.build(place, candidate).unwrap_or_else(|panic| {
                self.problems.entry(candidate.scoped_id()).or_default().push(*panic);
                CandidatePlan::new(Arc::new(Unbuildable), candidate)
            }),
        };
        // An instance for a single route can only be shared with that route's own chain.
        if candidate.scope().route.is_none() {
            self.built.insert(key, found.clone());
        }
        Some(found)
    }

    /// Builds an instance. The error is a panic of the plugin.
    fn build(&mut self, place: Place, candidate: &Candidate) -> Result<CandidatePlan, Box<Diagnostic>> {
        let built = catch_unwind(AssertUnwindSafe(|| self.make(place, candidate))).map_err(|panic| {
            let (name, text) = (place.name(), panic_text(&*panic));
            let message = format!("plugin {name:?} panicked while an instance was built: {text}");
            Box::new(error(candidate, Code::Panic, "", message))
        })?;
        let built = built.unwrap_or_else(|NotMade { code, error }| {
            let path = match &candidate.record {
                ScopedRecord::Filters(_) => format!("config.{}", error.path.trim_start_matches("config.")),
                ScopedRecord::Policy(_) => error.path,
            };
            let (effect, stand_in): (_, Arc<dyn Filter>) = match place.failure() {
                FailureMode::Open => ("requests are served without this instance", Arc::new(Absent)),
                FailureMode::Closed => ("requests that it is for are answered 500", Arc::new(Unbuildable)),
            };
            self.refuse(candidate, code, &path, format!("{}; {effect}", error.message));
            stand_in
        });
        Ok(CandidatePlan::new(built, candidate))
    }

    /// Builds the filter of a candidate: a plugin's filter, or a policy.
    fn make(&self, place: Place, candidate: &Candidate) -> Result<Arc<dyn Filter>, NotMade> {
        let scope = candidate.scope();
        let policy_cx = |order, of_plugin| PolicyCx {
            services: self.services,
            label: candidate.record.origin().label(),
            id: candidate.id,
            scope,
            order,
            of_plugin,
        };
        let (set, plugin) = match (&candidate.record, place) {
            (ScopedRecord::Policy(policy), _) => {
                return Ok(policy::build(&policy.spec, &policy_cx(policy.order, policy.plugin.is_some()))?);
            }
            (ScopedRecord::Filters(set), Place::Plugin(plugin)) => (set, plugin),
            (ScopedRecord::Filters(_), Place::Policy(..)) => return Ok(Arc::new(Absent)),
        };
        let params = set.filters.get(candidate.index).map_or(&Value::Null, |filter| &*filter.params);
        let params = &*self.secrets.resolve_value(params)?;
        // The front end may not have lowered the parameters.
        if let Some(spec) = plugin.lower.map_or(Ok(None), |lower| lower(params))? {
            return Ok(policy::build(&spec, &policy_cx(plugin.priority, true))?);
        }
        let cx = BuildCx {
            services: self.services,
            id: set.origin.id,
            listeners: scope.listeners,
            route: scope.route,
            backend: scope.backend,
            principal: scope.principal,
        };
        Ok((plugin.build)(params, &cx)?)
    }

    fn refuse(&mut self, candidate: &Candidate, code: Code, path: &str, message: String) {
        let problem = error(candidate, code, path, message);
        let known = self.problems.entry(candidate.scoped_id()).or_default();
        if !known.contains(&problem) {
            known.push(problem);
        }
    }
}
