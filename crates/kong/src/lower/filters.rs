//! Plugin instances, to policies and filter sets with scope and precedence.

use std::collections::BTreeMap;

use cardinal_ir::policy::{Authorization, PluginInstance, PolicySpec, Refusal, RefusalMessage};
use cardinal_ir::{Code, Filter, FilterSet, Id, Policy, Scope, Wire};
use serde_json::Value;

use super::Lowering;
use crate::declarative::Entity;

/// Room below each combination of scopes for the order among groups.
const STEP: u32 = 1 << 24;
/// Below the priorities of all plugins that authenticate.
const AFTER_AUTHENTICATION: i32 = 951;

impl Lowering<'_> {
    pub(super) fn plugins(&mut self) {
        let group_order = self.group_order();
        self.each("plugins", |lowering, entity| lowering.plugin(entity, &group_order));
    }

    pub(super) fn plugin(&mut self, entity: &Entity, group_order: &BTreeMap<Id, u32>) {
        let Some(kind) = entity.text("name").filter(|_| entity.flag("enabled")) else { return };
        let scope = Scope {
            listeners: entity.workspace(),
            route: entity.reference("route"),
            backend: entity.reference("service"),
            principal: entity.reference("consumer"),
            group: entity.reference("consumer_group"),
        };
        let Some(plugin) = self.registry.plugin(kind) else {
            // Without a name it could not be read, which is reported elsewhere.
            if !kind.is_empty() {
                let why = format!("there is no plugin '{kind}': the requests that it applies to are answered with 503");
                self.refuse("plugins", entity, Code::Unsupported, "name", why);
            }
            return self.fail_closed(entity, scope, group_order);
        };
        let scopes = plugin.def.scopes;
        let unsupported = [
            ("route", scope.route.is_some() && !scopes.route),
            ("service", scope.backend.is_some() && !scopes.service),
            ("consumer", scope.principal.is_some() && !scopes.consumer),
            ("consumer_group", scope.group.is_some() && !scopes.consumer_group),
        ];
        if let Some((field, _)) = unsupported.into_iter().find(|(_, unsupported)| *unsupported) {
            // Kong accepts this below a consumer. An instance without its scope would apply to everybody.
            let why = format!("the plugin '{kind}' does not support this scope; the instance never runs, as in Kong");
            self.warn("plugins", entity, Code::Unsupported, field, why);
            return;
        }
        // It could never apply: the service is disabled or was left out.
        if scope.backend.is_some_and(|backend| !self.ir.backends.contains(&backend)) {
            return;
        }
        let mut params = self.resolved("plugins", entity).get("config").cloned().unwrap_or(Value::Null);
        // Parameters that cannot be lowered cannot be built either: the engine says why, and lets nothing through.
        let spec = plugin.def.lower.and_then(|lower| lower(&params).ok().flatten());
        self.take_secrets(&mut params, Some(&plugin.config), &[]);
        let params = self.memory.shared_params(kind, params);
        let precedence = precedence(&scope, group_order);
        let origin = self.memory.origins.origin("plugins", entity);
        let (wires, instance_name) = (wires(entity), entity.text("instance_name").map(Into::into));
        if let Some(spec) = spec {
            let (name, order) = (kind.into(), plugin.def.priority);
            let plugin = Some(PluginInstance { name, instance_name, params });
            let clients = Vec::new();
            let policy = Policy { origin, scope, clients, precedence, order, wires, plugin, spec };
            self.ir.policies.insert(entity.id, policy);
        } else {
            let filters = vec![Filter { kind: kind.into(), params, wires, instance_name }];
            self.ir.filter_sets.insert(entity.id, FilterSet { origin, scope, precedence, filters });
        }
    }

    /// In place of a plugin that cannot be run: whatever it would have done, its requests are refused.
    fn fail_closed(&mut self, entity: &Entity, scope: Scope, group_order: &BTreeMap<Id, u32>) {
        if scope.backend.is_some_and(|backend| !self.ir.backends.contains(&backend)) {
            return;
        }
        let message = RefusalMessage::Text("An unexpected error occurred".into());
        let refusal = Refusal { status: 503, message };
        // Who the client is, is known after authentication.
        let order = if scope.is_static() { i32::MAX } else { AFTER_AUTHENTICATION };
        let policy = Policy {
            origin: self.memory.origins.origin("plugins", entity),
            precedence: precedence(&scope, group_order),
            scope,
            order,
            spec: PolicySpec::Authorization(Authorization { refusal, ..Authorization::default() }),
            ..Policy::default()
        };
        self.ir.policies.insert(entity.id, policy);
    }

    /// Groups by name: of a consumer's groups, the alphabetically first counts.
    pub(super) fn group_order(&self) -> BTreeMap<Id, u32> {
        let named = |group: Entity| (group.text("name").unwrap_or_default().to_owned(), group.id);
        let mut groups: Vec<(String, Id)> = self.snapshot.of("consumer_groups").map(named).collect();
        groups.sort();
        groups.into_iter().zip(0..).map(|((_, id), n)| (id, n)).collect()
    }
}

/// Which of several instances of one plugin counts for a request: the more is named, the higher, in Kong's order.
fn precedence(scope: &Scope, group_order: &BTreeMap<Id, u32>) -> u32 {
    let who = if scope.principal.is_some() { 2 } else { u32::from(scope.group.is_some()) };
    let combination = match (who, scope.route.is_some(), scope.backend.is_some()) {
        (2, true, true) => 12,
        (1, true, true) => 11,
        (2, true, false) => 10,
        (2, false, true) => 9,
        (1, true, false) => 8,
        (1, false, true) => 7,
        (_, true, true) => 6,
        (2, false, false) => 5,
        (1, false, false) => 4,
        (_, true, false) => 3,
        (_, false, true) => 2,
        (_, false, false) => 1,
    };
    let later = scope.group.and_then(|id| group_order.get(&id)).copied().unwrap_or(0).min(STEP - 1);
    combination * STEP + (STEP - 1 - later)
}

/// Kong looks only at whether a plugin is for requests or for connections.
fn wires(entity: &Entity) -> Vec<Wire> {
    let http = entity.texts("protocols").any(|p| matches!(p, "http" | "https" | "grpc" | "grpcs"));
    let stream = entity.texts("protocols").any(|p| matches!(p, "tcp" | "tls" | "udp" | "tls_passthrough"));
    match (http, stream) {
        (true, false) => vec![Wire::Http, Wire::Https],
        (false, true) => vec![Wire::Tcp, Wire::Tls, Wire::TlsPassthrough, Wire::Udp],
        _ => Vec::new(),
    }
}
