//! [`Lowered`]: a configuration that stays lowered while its entities are edited, at the cost of what an edit concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cardinal_ir::{Diagnostic, Id, Ir, Secrets};

use super::{Lowering, Memory, Names, Taken, lower_all};
use crate::declarative::{Entity, Snapshot};
use crate::entities::{Registry, WORKSPACES};
use crate::settings::Settings;

/// A change of one entity.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Adds or replaces an entity of this kind, complete with defaults and its references resolved.
    Put(&'static str, Entity),
    /// Takes one away.
    Remove(&'static str, Id),
    /// A consumer is in these groups, in ascending order of their ids, and in no others.
    Groups(Id, Vec<Id>),
}

/// A configuration with its IR.
pub struct Lowered {
    snapshot: Snapshot,
    registry: Arc<Registry>,
    settings: Arc<Settings>,
    names: Names,
    memory: Memory,
    ir: Ir,
    /// What the records refer to, and some that they referred to before.
    secrets: Secrets,
    /// Number of secrets above which those that are not used are removed.
    secrets_max: usize,
    diagnostics: BTreeMap<Key, Vec<Diagnostic>>,
    /// Which entities are to be looked at again when another one changes.
    concerned: HashMap<Cause, BTreeSet<Key>>,
}

/// An entity: its place in the order of lowering, its kind, its id.
type Key = (usize, &'static str, Id);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Cause {
    /// The entity with this id.
    Entity(Id),
    /// The upstream of this name in a workspace.
    Upstream(Option<Id>, Box<str>),
    /// The order among consumer groups.
    Groups,
}

/// Secrets that are kept at least before unused ones are removed.
const UNUSED_SECRETS_MAX: usize = 1_024;

/// The kinds that are lowered, those that others refer to first; the credentials of plugins come last.
const ORDER: [&str; 10] = [
    WORKSPACES,
    "certificates",
    "ca_certificates",
    "consumer_groups",
    "consumers",
    "upstreams",
    "targets",
    "services",
    "routes",
    "plugins",
];

impl std::fmt::Debug for Lowered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lowered").field("entities", &self.snapshot.len()).finish_non_exhaustive()
    }
}

impl Lowered {
    /// Lowers a whole configuration.
    pub fn new(snapshot: Snapshot, registry: Arc<Registry>, settings: Arc<Settings>) -> Self {
        let (names, mut memory) = (Names::of(&snapshot), Memory::new(&registry, &settings));
        let (ir, secrets, found) = lower_all((&snapshot, Taken::new()), &registry, &settings, &names, &mut memory);
        let mut concerned: HashMap<Cause, BTreeSet<Key>> = HashMap::new();
        for kind in snapshot.kinds() {
            for entity in snapshot.of(kind) {
                for cause in causes(kind, &entity) {
                    concerned.entry(cause).or_default().insert(key(kind, entity.id));
                }
            }
        }
        let secrets_max = secrets_max(&secrets);
        let diagnostics = BTreeMap::new();
        let mut lowered =
            Self { snapshot, registry, settings, names, memory, ir, secrets, secrets_max, diagnostics, concerned };
        lowered.note(found);
        lowered
    }

    /// The entities.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The lowered records. A clone is cheap and immutable.
    pub fn ir(&self) -> &Ir {
        &self.ir
    }

    /// The secrets that the records refer to. There may be more.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Diagnostics of the entities, in the order of lowering.
    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.snapshot.warnings().iter().chain(self.diagnostics.values().flatten())
    }

    /// Changes entities. The outcome is that of lowering all of them anew; records that are equal stay the same.
    pub fn edit(&mut self, edits: impl IntoIterator<Item = Edit>) {
        let mut touched: BTreeMap<Key, Option<Entity>> = BTreeMap::new();
        let mut dirty: BTreeSet<Key> = BTreeSet::new();
        for edit in edits {
            let (kind, id) = match &edit {
                Edit::Put(kind, entity) => (*kind, entity.id),
                Edit::Remove(kind, id) => (*kind, *id),
                Edit::Groups(consumer, _) => ("consumers", *consumer),
            };
            dirty.insert(key(kind, id));
            let old = match edit {
                Edit::Put(kind, entity) => self.snapshot.put(kind, entity),
                Edit::Remove(kind, id) => self.snapshot.remove(kind, &id),
                Edit::Groups(consumer, groups) => {
                    self.snapshot.set_groups(consumer, groups);
                    continue;
                }
            };
            // Of several edits of one entity the first one found what was lowered.
            touched.entry(key(kind, id)).or_insert(old);
        }
        self.reindex(&touched, &mut dirty);
        let before = self.ir.clone();
        // Any field may refer to a vault.
        if dirty.iter().any(|(_, kind, _)| *kind == "vaults") {
            let entities = (&self.snapshot, Taken::new());
            let (ir, secrets, found) =
                lower_all(entities, &self.registry, &self.settings, &self.names, &mut self.memory);
            (self.ir, self.secrets, self.secrets_max) = (before, secrets.clone(), secrets_max(&secrets));
            let delta = self.ir.diff(&ir);
            self.ir.apply(delta);
            self.diagnostics.clear();
            self.note(found);
            return;
        }
        self.spread(&mut dirty);
        self.lower(&dirty, &touched);
        let delta = before.diff(&self.ir);
        self.ir = before;
        self.ir.apply(delta);
        if self.secrets.len() > self.secrets_max {
            self.secrets.retain_used(&self.ir);
            self.secrets_max = secrets_max(&self.secrets);
        }
    }

    /// Updates the index of names and the dependencies for entities whose old forms are given.
    fn reindex(&mut self, touched: &BTreeMap<Key, Option<Entity>>, dirty: &mut BTreeSet<Key>) {
        for (key, old) in touched {
            let new = self.snapshot.get(key.1, &key.2);
            for cause in old.iter().flat_map(|old| causes(key.1, old)) {
                if let Some(set) = self.concerned.get_mut(&cause) {
                    set.remove(key);
                    if set.is_empty() {
                        self.concerned.remove(&cause);
                    }
                }
            }
            for cause in new.iter().flat_map(|new| causes(key.1, new)) {
                self.concerned.entry(cause).or_default().insert(*key);
            }
            for entity in old.iter().chain(&new) {
                let concerned = effects(key.1, entity).and_then(|effect| self.concerned.get(&effect));
                dirty.extend(concerned.into_iter().flatten().copied());
                // A server name is a part of its certificate.
                if key.1 == "snis" {
                    dirty.extend(entity.reference("certificate").map(|id| self::key("certificates", id)));
                }
            }
        }
        if touched.keys().any(|(_, kind, _)| matches!(*kind, "vaults" | "upstreams" | "snis")) {
            self.names = Names::of(&self.snapshot);
        }
    }

    /// Adds the entities that depend on dirty ones, transitively.
    fn spread(&self, dirty: &mut BTreeSet<Key>) {
        let mut open: Vec<Key> = dirty.iter().copied().collect();
        while let Some((_, kind, id)) = open.pop() {
            let mut causes = vec![Cause::Entity(id)];
            causes.extend(self.snapshot.get(kind, &id).iter().flat_map(|entity| effects(kind, entity)));
            for key in causes.iter().filter_map(|cause| self.concerned.get(cause)).flatten() {
                if dirty.insert(*key) {
                    open.push(*key);
                }
            }
        }
    }

    /// Lowers some entities anew.
    fn lower(&mut self, dirty: &BTreeSet<Key>, touched: &BTreeMap<Key, Option<Entity>>) {
        let Self { snapshot, registry, settings, names, memory, ir, secrets, .. } = self;
        let (ir, secrets, diagnostics) = (std::mem::take(ir), std::mem::take(secrets), Vec::new());
        let taken = Taken::new();
        let mut lowering = Lowering { snapshot, taken, registry, settings, names, memory, ir, secrets, diagnostics };
        let has_plugins = dirty.iter().any(|(_, kind, _)| *kind == "plugins");
        let group_order = if has_plugins { lowering.group_order() } else { BTreeMap::new() };
        let mut records = Vec::new();
        for key @ (_, kind, id) in dirty {
            let entity = lowering.snapshot.get(kind, id);
            lowering.take_out(kind, *id, touched.get(key).map_or(entity.as_ref(), Option::as_ref));
            let Some(entity) = &entity else { continue };
            match *kind {
                WORKSPACES => lowering.workspace(entity),
                "certificates" => lowering.certificate(entity),
                "ca_certificates" => lowering.trust(entity),
                "consumer_groups" => lowering.group(entity),
                "consumers" => lowering.principal(entity),
                "upstreams" => lowering.upstream(entity),
                "targets" => lowering.target(entity),
                "services" => lowering.service(entity),
                "routes" => lowering.route(entity, &mut records),
                "plugins" => lowering.plugin(entity, &group_order),
                kind => {
                    if let Some(def) = lowering.registry.kind(kind).and_then(|kind| kind.brought_by) {
                        lowering.credential(def.name, def, entity);
                    }
                }
            }
        }
        for (id, record) in records {
            lowering.ir.routes.insert_shared(id, record);
        }
        let Lowering { ir, secrets, diagnostics: found, .. } = lowering;
        (self.ir, self.secrets) = (ir, secrets);
        for key in dirty {
            self.diagnostics.remove(key);
        }
        self.note(found);
    }

    fn note(&mut self, found: Vec<Diagnostic>) {
        for diagnostic in found {
            let kind = self.registry.kind(diagnostic.origin.kind()).map_or("", |kind| kind.name);
            self.diagnostics.entry(key(kind, diagnostic.origin.id)).or_default().push(diagnostic);
        }
    }
}

impl Lowering<'_> {
    /// Takes the records of an entity out, which was lowered from this form of it.
    fn take_out(&mut self, kind: &str, id: Id, was: Option<&Entity>) {
        let ir = &mut self.ir;
        match kind {
            WORKSPACES => drop(ir.listener_groups.remove(&id)),
            "certificates" => drop(ir.certificates.remove(&id)),
            "ca_certificates" => drop(ir.trust_bundles.remove(&id)),
            "consumer_groups" => drop(ir.groups.remove(&id)),
            "consumers" => drop(ir.principals.remove(&id)),
            "upstreams" => drop(ir.clusters.remove(&id)),
            "targets" => drop(ir.endpoints.remove(&id)),
            "services" => drop(ir.backends.remove(&id)),
            "plugins" => {
                ir.filter_sets.remove(&id);
                ir.policies.remove(&id);
            }
            "routes" => {
                ir.routes.remove(&id);
                let settings = self.settings;
                for part in was.into_iter().flat_map(|entity| super::routes::part_ids(entity, settings)) {
                    ir.routes.remove(&part);
                }
            }
            _ => drop(ir.credentials.remove(&id)),
        }
    }
}

/// To look for secrets that are not used any more takes time that depends on the size of the configuration, so it is done
/// only when their number has doubled.
fn secrets_max(secrets: &Secrets) -> usize {
    2 * secrets.len() + UNUSED_SECRETS_MAX
}

fn key(kind: &'static str, id: Id) -> Key {
    (ORDER.iter().position(|other| *other == kind).unwrap_or(ORDER.len()), kind, id)
}

/// The entities that an entity depends on.
fn causes(kind: &str, entity: &Entity) -> Vec<Cause> {
    let by = |field: &str| entity.reference(field).map(Cause::Entity);
    match kind {
        "targets" => by("upstream").into_iter().collect(),
        "upstreams" => by("client_certificate").into_iter().collect(),
        "routes" => by("service").into_iter().collect(),
        "plugins" => {
            let groups = entity.reference("consumer_group").map(|_| Cause::Groups);
            groups.into_iter().chain(by("service")).collect()
        }
        "services" => {
            let trusts = entity.texts("ca_certificates").filter_map(|text| text.parse().ok()).map(Cause::Entity);
            let host = entity.text("host").map(|host| Cause::Upstream(entity.workspace(), host.into()));
            trusts.chain(host).chain(by("client_certificate")).collect()
        }
        _ => Vec::new(),
    }
}

/// The causes of a change of an entity, other than [`Cause::Entity`].
fn effects(kind: &str, entity: &Entity) -> Option<Cause> {
    match kind {
        "upstreams" => entity.text("name").map(|name| Cause::Upstream(entity.workspace(), name.into())),
        "consumer_groups" => Some(Cause::Groups),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::declarative::load_value;
    use crate::lower;

    /// The `n`-th form of a configuration: names stay, values differ, some entities are missing.
    fn document(choices: &[u8]) -> serde_json::Value {
        let at = |n: usize| choices.get(n % choices.len().max(1)).copied().unwrap_or(0);
        let some = |n: usize, of: u8| at(n) % of != 0;
        let services: Vec<_> = (0..4_usize)
            .filter(|n| some(*n, 5))
            .map(|n| {
                json!({"name": format!("s{n}"), "host": format!("u{}", at(n + 1) % 4), "port": 80 + at(n + 2) % 2,
                    "enabled": some(n + 3, 4), "retries": at(n + 4) % 3})
            })
            .collect();
        let there = |n: usize| services.iter().any(|s| s["name"] == format!("s{n}"));
        let routes: Vec<_> = (0..8_usize)
            .filter(|n| some(n + 20, 4) && there(n % 4))
            .map(|n| {
                json!({"name": format!("r{n}"), "service": format!("s{}", n % 4), "hosts": [format!("H{n}.a")],
                    "paths": if some(n + 5, 3) { json!(["/a", "/bbb", "~/c"]) } else { json!([format!("/{}", at(n))]) },
                    "tags": if some(n + 6, 2) { json!([format!("t{n}")]) } else { json!(null) }})
            })
            .collect();
        let upstreams: Vec<_> = (0..3_usize)
            .filter(|n| some(n + 30, 3))
            .map(|n| {
                json!({"name": format!("u{n}"), "slots": 10 + i32::from(at(n + 7) % 2),
                    "targets": [{"target": format!("t{}:80", at(n + 8) % 3)}]})
            })
            .collect();
        let groups: Vec<_> =
            (0..3_usize).filter(|n| some(n + 40, 3)).map(|n| json!({"name": format!("g{n}")})).collect();
        let consumers: Vec<_> = (0..4_usize)
            .filter(|n| some(n + 50, 4))
            .map(|n| {
                json!({"username": format!("c{n}"), "groups": groups.iter().take(usize::from(at(n + 9) % 3)).collect::<Vec<_>>(),
                    "keyauth_credentials": [{"key": format!("k{n}-{}", at(n + 10) % 3)}]})
            })
            .collect();
        let plugins: Vec<_> = groups
            .iter()
            .map(
                |g| json!({"name": "request-termination", "consumer_group": g["name"], "config": {"status_code": 403}}),
            )
            .chain([json!({"name": "key-auth", "enabled": some(60, 2)})])
            .collect();
        json!({"_format_version": "3.0", "services": services, "routes": routes, "upstreams": upstreams,
            "consumer_groups": groups, "consumers": consumers, "plugins": plugins})
    }

    /// What makes one snapshot of another.
    fn edits(old: &Snapshot, new: &Snapshot) -> Vec<Edit> {
        let mut edits = Vec::new();
        for kind in old.kinds().chain(new.kinds()).collect::<BTreeSet<_>>() {
            let gone = old.of(kind).filter(|e| !new.contains(kind, &e.id));
            edits.extend(gone.map(|e| Edit::Remove(kind, e.id)));
            let put = new.of(kind).filter(|e| old.get(kind, &e.id).as_ref() != Some(e));
            edits.extend(put.map(|e| Edit::Put(kind, e)));
        }
        let ids: BTreeSet<Id> = old.of("consumers").chain(new.of("consumers")).map(|c| c.id).collect();
        let moved = ids.iter().filter(|id| old.groups_of(id) != new.groups_of(id));
        edits.extend(moved.map(|id| Edit::Groups(*id, new.groups_of(id).to_vec())));
        edits
    }

    fn texts<'d>(diagnostics: impl IntoIterator<Item = &'d Diagnostic>) -> Vec<String> {
        let mut texts: Vec<String> = diagnostics.into_iter().map(ToString::to_string).collect();
        texts.sort();
        texts
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
        #[test]
        fn edits_come_to_what_lowering_anew_comes_to(
            forms in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 61), 2..6),
        ) {
            let mut plugins = cardinal_plugins_auth::PLUGINS.to_vec();
            plugins.extend(cardinal_plugins_security::PLUGINS);
            let registry = Arc::new(Registry::new(&plugins));
            let settings = Arc::new(Settings { loaded_at: 5.0, ..Settings::default() });
            let snapshot = |form: &[u8]| {
                load_value(&document(form), &registry, &settings).unwrap_or_else(|e| panic!("{e}"))
            };
            let mut lowered = Lowered::new(snapshot(&forms[0]), Arc::clone(&registry), Arc::clone(&settings));
            for form in &forms[1..] {
                let next = snapshot(form);
                let before = lowered.ir().clone();
                lowered.edit(edits(lowered.snapshot(), &next));
                let (ir, secrets, diagnostics) = lower(&next, &registry, &settings);
                prop_assert_eq!(lowered.ir(), &ir);
                let kept = |(reference, secret): (_, &cardinal_ir::Secret)| lowered.secrets().get(reference).is_some_and(|kept| **kept == *secret);
                prop_assert!(secrets.iter().all(kept));
                prop_assert_eq!(texts(lowered.diagnostics()), texts(&diagnostics));
                let shown = |ir: &Ir| serde_json::to_string(ir).unwrap();
                prop_assert_eq!(shown(lowered.ir()), shown(&ir));
                for (id, route) in before.routes.iter() {
                    if let Some(now) = ir.routes.get(id).filter(|now| *now == route) {
                        let kept = lowered.ir().routes.get(id).is_some_and(|kept| Arc::ptr_eq(kept, route));
                        prop_assert!(kept, "{:?} is equal and not the same", now.origin.name);
                    }
                }
            }
        }
    }
}
