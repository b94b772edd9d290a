//! Chains of filters and policies against a naive resolution, built from scratch and incrementally.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use cardinal_base::{Rng as _, SeededRng};
use cardinal_ir::policy::{Authorization, ClientMatch, PluginInstance, Respond};
use cardinal_ir::{
    Backend, Filter, FilterSet, Host, HttpVersion, ListenerGroup, Matches, Origin, PathMatch, Policy, PolicySpec,
    Principal, Rank, Scope, Target, Wire,
};
use cardinal_sdk::{Client, Exchange, PrincipalEntry};

use super::*;
use crate::plan::{NOT_CHOSEN, Phase};

const ROUTES: [u128; 3] = [1, 2, 3];
const BACKEND: u128 = 11;
const GROUP: u128 = 31;
const PRINCIPALS: [u128; 2] = [21, 22];
/// Filter sets and policies may have the same id.
const RECORDS: u64 = 8;

fn id(number: u128) -> Id {
    Id::from_u128(number)
}

fn origin(kind: &str, number: u128) -> Origin {
    Origin::new("test", kind, id(number))
}

/// The listener group of a route: the second route has a group of its own.
fn group_of(route: u128) -> Option<Id> {
    (route == 2).then_some(id(GROUP))
}

/// Three routes, two of which go to the backend.
fn skeleton() -> Ir {
    let mut ir = Ir::default();
    let group = ListenerGroup { origin: origin("listener_groups", GROUP), name: "g".into() };
    ir.listener_groups.insert(id(GROUP), group);
    let target = Target::Host(Host { host: "127.0.0.1".into(), port: 1 });
    let http = Some(HttpVersion::H1);
    ir.backends
        .insert(id(BACKEND), Backend { origin: origin("services", BACKEND), http, target, ..Backend::default() });
    for number in ROUTES {
        let paths = vec![PathMatch::Prefix(format!("/{number}").into())];
        let matches = Matches::from(cardinal_ir::Criteria { paths, ..Default::default() });
        let (rank, action) = (Rank { weight: 0, tie: number }, (number != 3).then_some(id(BACKEND)).into());
        let (origin, group) = (origin("routes", number), group_of(number));
        let route = Route { origin, group, rank, matches, action, ..Route::default() };
        ir.routes.insert(id(number), route);
    }
    for number in PRINCIPALS {
        ir.principals.insert(id(number), Principal { origin: origin("consumers", number), ..Principal::default() });
    }
    ir
}

struct Dice(SeededRng);

impl Dice {
    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.0.below(of.len() as u64) as usize].clone()
    }

    fn scope(&mut self) -> Scope {
        Scope {
            listeners: self.one(&[None, None, Some(id(GROUP))]),
            route: self.one(&[None, None, Some(id(1)), Some(id(2))]),
            backend: self.one(&[None, None, Some(id(BACKEND))]),
            principal: self.one(&[None, None, Some(id(21)), Some(id(22))]),
            group: None,
        }
    }

    fn wires(&mut self) -> Vec<Wire> {
        self.one(&[vec![], vec![], vec![Wire::Http], vec![Wire::Tcp]])
    }

    /// Adds or removes a record.
    fn edit(&mut self, ir: &mut Ir) {
        let number = u128::from(100 + self.0.below(RECORDS));
        let precedence = self.0.below(3) as u32;
        match self.0.below(5) {
            0 => drop(ir.filter_sets.remove(&id(number))),
            1 => drop(ir.policies.remove(&id(number))),
            2 => {
                let kind = self.one(&["key-auth", "request-termination", "response-transformer"]);
                let params = json!({"key_names": ["k"], "status_code": 404, "echo": false}).into();
                let filter = Filter { kind: kind.into(), params, wires: self.wires(), instance_name: None };
                let (origin, scope) = (origin("sets", number), self.scope());
                ir.filter_sets.insert(id(number), FilterSet { origin, scope, precedence, filters: vec![filter] });
            }
            _ => {
                let name = self.one(&["", "", "request-termination", "unknown"]);
                let spec = self.one(&[
                    PolicySpec::Respond(Respond::default()),
                    PolicySpec::Authorization(Authorization::default()),
                ]);
                let plugin =
                    (!name.is_empty()).then(|| PluginInstance { name: name.into(), ..PluginInstance::default() });
                let network = |text: &str| vec![ClientMatch::Network(text.parse().unwrap())];
                let clients = self.one(&[vec![], vec![], network("127.0.0.0/8"), network("10.0.0.0/8")]);
                let (scope, wires, order) = (self.scope(), self.wires(), self.one(&[1, 2, 1_250]));
                // All instances of a plugin have the same position.
                let (spec, order) = if name == "unknown" { (PolicySpec::default(), 2) } else { (spec, order) };
                let origin = origin("policies", number);
                let policy = Policy { origin, scope, clients, precedence, order, wires, plugin, spec };
                ir.policies.insert(id(number), policy);
            }
        }
    }
}

/// The client of a request.
#[derive(Clone, Copy, Debug)]
struct Asker {
    route: u128,
    principal: Option<u128>,
    ip: IpAddr,
}

impl Asker {
    fn exchange(&self) -> Exchange {
        let mut exchange =
            Exchange::new(Client::at(SocketAddr::new(self.ip, 1), SocketAddr::from(([127, 0, 0, 1], 80))));
        exchange.identity.principal = self.principal.map(|number| {
            Arc::new(PrincipalEntry {
                id: id(number),
                record: Arc::default(),
                groups: [].into(),
                group_names: [].into(),
            })
        });
        exchange
    }

    fn has(&self, scope: &Scope) -> bool {
        (scope.route.is_some() || scope.listeners == group_of(self.route))
            && scope.route.is_none_or(|route| route == id(self.route))
            && scope.backend.is_none_or(|_| self.route != 3)
            && scope.principal.is_none_or(|principal| self.principal.map(id) == Some(principal))
    }

    /// The applicable records: position, name and id, by examining every record.
    fn naive<'r>(&self, ir: &'r Ir) -> Vec<(i32, &'static str, Id)> {
        let plugin = |name: &str| PLUGINS.iter().find(|plugin| plugin.name == name);
        // The sort key of candidates: precedence, table and id, position, name, wires.
        type Best<'r> = (u32, std::cmp::Reverse<(Id, u8)>, i32, &'static str, &'r [Wire]);
        let mut best: BTreeMap<String, Best<'r>> = BTreeMap::new();
        let mut offer = |key: String, one: Best<'r>| match best.get(&key) {
            Some(better) if (better.0, better.1) >= (one.0, one.1) => {}
            _ => drop(best.insert(key, one)),
        };
        for (number, set) in ir.filter_sets.iter().filter(|(_, set)| self.has(&set.scope)) {
            for filter in &set.filters {
                if let Some(plugin) = plugin(&filter.kind) {
                    let order = (set.precedence, std::cmp::Reverse((*number, 0)));
                    let one = (order.0, order.1, plugin.priority, plugin.name, &*filter.wires);
                    offer(plugin.name.to_owned(), one);
                }
            }
        }
        let takes = |wires: &[Wire]| wires.is_empty() || wires.contains(&Wire::Http);
        for (number, policy) in ir.policies.iter().filter(|(_, policy)| self.has(&policy.scope)) {
            // Instances of a plugin are selected first, and are inactive in this case.
            if policy.plugin.is_none() && !takes(&policy.wires) {
                continue;
            }
            let is_client = |client: &ClientMatch| matches!(client, ClientMatch::Network(n) if n.contains(&self.ip));
            if !policy.clients.is_empty() && !policy.clients.iter().any(is_client) {
                continue;
            }
            let known = policy.plugin.as_ref().map(|of| (&of.name, plugin(&of.name)));
            let kind = policy.spec.kind().as_str();
            let (key, at, name) = match known {
                Some((_, Some(plugin))) => (plugin.name.to_owned(), plugin.priority, plugin.name),
                Some((name, None)) => (name.to_string(), policy.order, kind),
                None => (format!("{kind} {}", policy.order), policy.order, kind),
            };
            offer(key, (policy.precedence, std::cmp::Reverse((*number, 1)), at, name, &*policy.wires));
        }
        let chosen = best.into_values().filter(|(.., wires)| takes(wires));
        let mut all: Vec<_> = chosen.map(|(_, std::cmp::Reverse((id, _)), at, name, _)| (at, name, id)).collect();
        all.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)));
        all
    }

    /// The selection of a plan: name and id, in the order of execution.
    fn planned(&self, plan: &Plan) -> Vec<(&'static str, Id)> {
        let group = plan.group(group_of(self.route));
        let route = group.http_routes.iter().find(|route| route.route.origin.id == id(self.route)).unwrap();
        let (exchange, chain) = (self.exchange(), &route.destination(0).chain);
        let slots = 0..u16::try_from(chain.len()).unwrap();
        let chosen = slots.filter_map(|slot| match chain.choose(slot, &exchange) {
            NOT_CHOSEN => None,
            choice => chain.instance(slot, choice),
        });
        chosen.map(|instance| (instance.name, instance.record.origin().id)).collect()
    }
}

#[test]
fn chains_are_what_a_naive_resolution_comes_to() {
    let bench = Bench::new();
    let mut applied = 0;
    for seed in 0..60 {
        let mut dice = Dice(SeededRng::new(seed));
        let (registry, mut ir, mut last) =
            (Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap(), skeleton(), None::<Plan>);
        for generation in 1..20 {
            for _ in 0..=dice.0.below(4) {
                dice.edit(&mut ir);
            }
            let next = bench.plan(&Configuration::from(ir.clone()), generation, &registry, last.as_ref());
            for route in ROUTES {
                for principal in [None, Some(21), Some(22)] {
                    for ip in [[127, 0, 0, 1], [10, 0, 0, 1]] {
                        let asker = Asker { route, principal, ip: ip.into() };
                        let naive = asker.naive(&ir);
                        let mut expect: Vec<_> = naive.iter().map(|(_, name, id)| (*name, *id)).collect();
                        let mut found = asker.planned(&next);
                        applied += found.len();
                        // The order among equal positions and names is not defined.
                        let positions: Vec<_> = found.iter().map(|(name, _)| *name).collect();
                        assert_eq!(positions, naive.iter().map(|(_, name, _)| *name).collect::<Vec<_>>(), "{asker:?}");
                        expect.sort_unstable();
                        found.sort_unstable();
                        assert_eq!(found, expect, "seed {seed}, generation {generation}: {asker:?}");
                    }
                }
            }
            let same =
                Configuration { ir: Arc::clone(&next.ir), secrets: next.secrets.clone(), node: Arc::clone(&next.node) };
            let fresh_registry = Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap();
            let fresh = bench.plan(&same, 1, &fresh_registry, None);
            assert_eq!(digest(&next, &registry), digest(&fresh, &fresh_registry), "seed {seed}, {generation}");
            assert_eq!(bench.validated(&same), fresh.diagnostics());
            last = Some(next);
        }
    }
    assert!(applied > 10_000, "{applied}");
}

/// A policy for other wire forms does not replace one that applies.
#[test]
fn a_policy_for_streams_hides_none_for_requests() {
    let (bench, mut ir) = (Bench::new(), skeleton());
    for (number, precedence, wires) in [(101, 9, vec![Wire::Tcp]), (102, 5, vec![]), (103, 1, vec![Wire::Http])] {
        let origin = origin("policies", number);
        ir.policies.insert(id(number), Policy { origin, precedence, wires, ..Policy::default() });
    }
    let registry = Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap();
    let plan = bench.plan(&Configuration::from(ir), 1, &registry, None);
    let asker = Asker { route: 1, principal: None, ip: [127, 0, 0, 1].into() };
    assert_eq!(asker.planned(&plan), [("authorization", id(102))]);
}

/// A route with too many policies is not served without some of them: all requests are rejected.
#[test]
fn a_route_with_too_many_policies_is_closed() {
    let (bench, mut ir) = (Bench::new(), skeleton());
    for order in 0..20_000 {
        let number = 1_000 + order as u128;
        let spec = PolicySpec::Authorization(Authorization { allow_by_default: order > 0, ..Authorization::default() });
        let origin = origin("policies", number);
        ir.policies.insert(id(number), Policy { origin, order, spec, ..Policy::default() });
    }
    let registry = Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap();
    let plan = bench.plan(&Configuration::from(ir), 1, &registry, None);
    let found = plan.diagnostics();
    assert!(found.iter().any(|found| found.message.contains("plugins and policies apply to one route")), "{found:?}");
    let route = plan.group(None).http_routes.iter().next().unwrap();
    let chain = &route.destination(0).chain;
    let asker = Asker { route: 1, principal: None, ip: [127, 0, 0, 1].into() };
    let first = chain.list(Phase::Request).first().copied().unwrap();
    assert_eq!((first, chain.choose(first, &asker.exchange())), (0, 0));
    assert_eq!(chain.list(Phase::Connect).len(), chain.len());
    assert_eq!(chain.len(), super::super::chain::SLOTS_MAX);
}
