//! The effect of a change on routes: what they match, where they forward, which plugins run.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use cardinal_ir::{Action as RouteAction, Backend, Id, Ir, Origin, Route, Scope, Target};
use serde_json::{Value, json};

use super::action::Action;

/// How a route of the user changed.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteEffect {
    /// Id of the route.
    pub id: Id,
    /// Its name, else its id.
    pub name: String,
    /// What happened.
    pub action: Action,
    /// It matches other requests, or has another rank.
    pub matches: bool,
    /// It treats a request differently besides its backend and plugins.
    pub options: bool,
    /// Where it forwards, before and afterwards, if that differs.
    pub backend: Option<(Option<String>, Option<String>)>,
    /// Plugins that are added, removed or changed, by name. Those of one name are told apart by scope.
    pub plugins: Vec<(String, Action)>,
}

impl RouteEffect {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        let backend = self.backend.as_ref().map(|(old, new)| json!({ "old": old, "new": new }));
        let plugin = |(name, action): &(String, Action)| json!({ "name": name, "action": action.as_str() });
        let plugins: Vec<Value> = self.plugins.iter().map(plugin).collect();
        json!({ "id": self.id.to_string(), "name": self.name, "action": self.action.as_str(), "matches": self.matches,
            "options": self.options, "backend": backend, "plugins": plugins })
    }

    fn is_none(&self) -> bool {
        self.action == Action::Changed
            && !self.matches
            && !self.options
            && self.backend.is_none()
            && self.plugins.is_empty()
    }
}

/// The routes that are different in a newer configuration, in the order of their ids.
pub fn effects(old: &Ir, new: &Ir) -> Vec<RouteEffect> {
    let changed = Changed::between(old, new);
    let concerned: BTreeSet<Id> = [old, new]
        .into_iter()
        .flat_map(|ir| ir.routes.iter())
        .filter(|(id, route)| changed.concerns(id, route))
        .map(|(_, route)| route.origin.id)
        .collect();
    if concerned.is_empty() {
        return Vec::new();
    }
    let (before, after) = (View::of_all(old, &concerned), View::of_all(new, &concerned));
    let effect = |id: Id| {
        let (before, after) = (before.get(&id), after.get(&id));
        let action = Action::between(before, after)?;
        let none = View::default();
        let (old, new) = (before.unwrap_or(&none), after.unwrap_or(&none));
        let is_changed = action == Action::Changed;
        let backend = || (old.backend_text(), new.backend_text());
        let effect = RouteEffect {
            id,
            name: label(&after.or(before)?.origin),
            action,
            matches: is_changed && old.matches() != new.matches(),
            options: is_changed && old.options() != new.options(),
            backend: (!is_changed || changed.moves(old, new)).then(backend),
            plugins: if is_changed { changed.plugins(old, new) } else { Vec::new() },
        };
        (!effect.is_none()).then_some(effect)
    };
    concerned.iter().filter_map(|id| effect(*id)).collect()
}

fn label(origin: &Origin) -> String {
    origin.name.as_deref().map_or_else(|| origin.id.to_string(), str::to_owned)
}

/// A route of the user, which may be several records.
#[derive(Default)]
struct View {
    origin: Origin,
    parts: Vec<(Id, std::sync::Arc<Route>)>,
    /// The backends it forwards to, with what to call them.
    backends: BTreeMap<Id, String>,
}

impl View {
    fn of_all(ir: &Ir, concerned: &BTreeSet<Id>) -> BTreeMap<Id, Self> {
        let mut all: BTreeMap<Id, Self> = BTreeMap::new();
        for (id, route) in ir.routes.iter().filter(|(_, route)| concerned.contains(&route.origin.id)) {
            let view = all.entry(route.origin.id).or_default();
            view.origin = route.origin.clone();
            let backends = route.action.backends().filter_map(|to| Some((to.backend, ir.backends.get(&to.backend)?)));
            view.backends.extend(backends.map(|(id, backend)| (id, backend_text(backend, ir))));
            view.parts.push((*id, std::sync::Arc::clone(route)));
        }
        all
    }

    fn matches(&self) -> Vec<Route> {
        let only = |route: &Route| Route {
            group: route.group,
            of_tenant: route.of_tenant,
            rank: route.rank,
            traffic: route.traffic,
            matches: route.matches.clone(),
            ..Route::default()
        };
        self.parts.iter().map(|(_, route)| only(route)).collect()
    }

    /// Everything else of the records.
    fn options(&self) -> Vec<Route> {
        let rest = |route: &Route| {
            let mut rest = route.clone();
            let none = Route::default();
            (rest.group, rest.of_tenant) = (none.group, none.of_tenant);
            (rest.rank, rest.traffic, rest.matches) = (none.rank, none.traffic, none.matches);
            (rest.origin, rest.document) = (none.origin, none.document);
            if !rest.action.backends().any(|_| true) {
                return rest;
            }
            rest.action = RouteAction::None;
            rest
        };
        let mut all: Vec<Route> = Vec::new();
        for rest in self.parts.iter().map(|(_, route)| rest(route)) {
            if !all.contains(&rest) {
                all.push(rest);
            }
        }
        all
    }

    fn shares(&self) -> HashSet<(Id, u32)> {
        let backends = self.parts.iter().flat_map(|(_, route)| route.action.backends());
        backends.map(|to| (to.backend, to.weight)).collect()
    }

    fn backend_text(&self) -> Option<String> {
        let texts: Vec<&str> = self.backends.values().map(String::as_str).collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    }

    /// Whether a scope covers requests of the route.
    fn is_in(&self, scope: &Scope) -> bool {
        let is_here = scope.route.is_some() || self.parts.iter().any(|(_, route)| route.group == scope.listeners);
        is_here
            && scope.route.is_none_or(|route| route == self.origin.id)
            && scope.backend.is_none_or(|backend| self.backends.contains_key(&backend))
    }
}

/// `service orders (api.test:80)`
fn backend_text(backend: &Backend, ir: &Ir) -> String {
    let target = match &backend.target {
        Target::Host(host) => format!("{}:{}", host.host, host.port),
        Target::Cluster { id, .. } => {
            ir.clusters.get(id).map_or_else(|| id.to_string(), |cluster| label(&cluster.origin))
        }
    };
    let path = backend.path.as_deref().unwrap_or_default();
    format!("{} ({target}{path})", label(&backend.origin))
}

/// What differs between two configurations and routes depend on.
struct Changed {
    routes: HashSet<Id>,
    backends: HashSet<Id>,
    plugins: BTreeMap<Id, (Option<Plugin>, Option<Plugin>)>,
}

/// A plugin instance.
struct Plugin {
    name: String,
    scope: Scope,
}

impl Changed {
    fn between(old: &Ir, new: &Ir) -> Self {
        let delta = old.diff(new);
        let mut clusters: HashSet<Id> = delta.clusters.iter().map(|change| change.id).collect();
        let endpoints = delta.endpoints.iter().flat_map(|change| [&change.old, &change.new]);
        clusters.extend(endpoints.flatten().map(|endpoint| endpoint.cluster));
        let mut backends: HashSet<Id> = delta.backends.iter().map(|change| change.id).collect();
        for (id, backend) in new.backends.iter() {
            if matches!(&backend.target, Target::Cluster { id, .. } if clusters.contains(id)) {
                backends.insert(*id);
            }
        }
        let mut plugins = BTreeMap::new();
        for change in &delta.filter_sets {
            let plugin = |set: &cardinal_ir::FilterSet| Plugin { name: label(&set.origin), scope: set.scope };
            plugins.insert(change.id, (change.old.as_deref().map(plugin), change.new.as_deref().map(plugin)));
        }
        for change in &delta.policies {
            let plugin = |policy: &cardinal_ir::Policy| Plugin { name: label(&policy.origin), scope: policy.scope };
            let (old, new) = (change.old.as_deref().map(plugin), change.new.as_deref().map(plugin));
            let entry = plugins.entry(change.id).or_insert((None, None));
            // An instance that is a filter in one configuration may be a policy in the other.
            *entry = (old.or(entry.0.take()), new.or(entry.1.take()));
        }
        Self { routes: delta.routes.iter().map(|change| change.id).collect(), backends, plugins }
    }

    fn concerns(&self, id: &Id, route: &Route) -> bool {
        let covers = |plugin: &Plugin| {
            let backend = |id| route.action.backends().any(|to| to.backend == id);
            let is_here = plugin.scope.route.is_some() || plugin.scope.listeners == route.group;
            is_here
                && plugin.scope.route.is_none_or(|id| id == route.origin.id)
                && plugin.scope.backend.is_none_or(backend)
        };
        self.routes.contains(id)
            || route.action.backends().any(|to| self.backends.contains(&to.backend))
            || self.plugins.values().any(|(old, new)| [old, new].into_iter().flatten().any(covers))
    }

    /// Whether requests of a route go elsewhere, or are sent differently.
    fn moves(&self, old: &View, new: &View) -> bool {
        old.shares() != new.shares() || new.backends.keys().any(|id| self.backends.contains(id))
    }

    fn plugins(&self, before: &View, after: &View) -> Vec<(String, Action)> {
        let mut out = Vec::new();
        for (old, new) in self.plugins.values() {
            let old = old.as_ref().filter(|plugin| before.is_in(&plugin.scope));
            let new = new.as_ref().filter(|plugin| after.is_in(&plugin.scope));
            if let (Some(action), Some(plugin)) = (Action::between(old, new), new.or(old)) {
                out.push((plugin.text(), action));
            }
        }
        out.sort_by(|a, b| a.0.cmp(&b.0));
        out
    }
}

impl Plugin {
    fn text(&self) -> String {
        let scopes = [
            (self.scope.route.is_some(), "route"),
            (self.scope.backend.is_some(), "service"),
            (self.scope.principal.is_some(), "consumer"),
            (self.scope.group.is_some(), "consumer group"),
        ];
        let scopes: Vec<&str> = scopes.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect();
        let scope = if scopes.is_empty() { "global".to_owned() } else { format!("of the {}", scopes.join(" and ")) };
        format!("{} ({scope})", self.name)
    }
}
