//! A generation planned from the previous one equals the same generation planned from scratch.

use std::collections::BTreeMap;

use cardinal_base::ManualClock;
use cardinal_ir::Route;
use cardinal_ir::{Action, WeightedBackend};
use cardinal_testkit::{Authority, World};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod chains;

const PLUGINS: &[&PluginDef] = &[
    &cardinal_plugins_auth::key_auth::PLUGIN,
    &cardinal_plugins_auth::acl::PLUGIN,
    &cardinal_plugins_security::request_termination::PLUGIN,
    &cardinal_plugins_transform::response_transformer::PLUGIN,
];

/// A file with a few optional objects.
#[derive(Clone, Debug, Default)]
struct Model {
    services: BTreeMap<u8, (u8, bool, u8)>,
    /// Routes whose requests are split over all services, by the weight of the first.
    splits: BTreeMap<u8, u8>,
    routes: BTreeMap<u8, (u8, u8, bool)>,
    plugins: BTreeMap<u8, (u8, u8, u8)>,
    consumers: BTreeMap<u8, u8>,
    keys: BTreeMap<u8, (u8, u8)>,
    targets: BTreeMap<u8, u8>,
    certificate: u8,
}

#[derive(Clone, Debug)]
enum Edit {
    Service(u8, Option<(u8, bool, u8)>),
    Route(u8, Option<(u8, u8, bool)>),
    Plugin(u8, Option<(u8, u8, u8)>),
    Consumer(u8, Option<u8>),
    Key(u8, Option<(u8, u8)>),
    Target(u8, Option<u8>),
    Certificate(u8),
    Split(u8, Option<u8>),
}

fn edit() -> impl Strategy<Value = Edit> {
    use proptest::option::weighted;
    prop_oneof![
        (0_u8..3, weighted(0.8, (0_u8..3, any::<bool>(), 0_u8..2))).prop_map(|(id, to)| Edit::Service(id, to)),
        (0_u8..4, weighted(0.8, (0_u8..4, 0_u8..3, any::<bool>()))).prop_map(|(id, to)| Edit::Route(id, to)),
        (0_u8..4, weighted(0.7, (0_u8..3, 0_u8..6, 0_u8..3))).prop_map(|(id, to)| Edit::Plugin(id, to)),
        (0_u8..3, weighted(0.8, 0_u8..3)).prop_map(|(id, to)| Edit::Consumer(id, to)),
        (0_u8..4, weighted(0.8, (0_u8..3, 0_u8..3))).prop_map(|(id, to)| Edit::Key(id, to)),
        (0_u8..3, weighted(0.8, 0_u8..3)).prop_map(|(id, to)| Edit::Target(id, to)),
        (0_u8..3).prop_map(Edit::Certificate),
        (0_u8..4, weighted(0.6, 0_u8..3)).prop_map(|(id, to)| Edit::Split(id, to)),
    ]
}

fn put<T>(table: &mut BTreeMap<u8, T>, id: u8, to: Option<T>) {
    match to {
        Some(to) => drop(table.insert(id, to)),
        None => drop(table.remove(&id)),
    }
}

impl Model {
    fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::Service(id, to) => put(&mut self.services, id, to),
            Edit::Route(id, to) => put(&mut self.routes, id, to),
            Edit::Plugin(id, to) => put(&mut self.plugins, id, to),
            Edit::Consumer(id, to) => put(&mut self.consumers, id, to),
            Edit::Key(id, to) => put(&mut self.keys, id, to),
            Edit::Target(id, to) => put(&mut self.targets, id, to),
            Edit::Certificate(to) => self.certificate = to,
            Edit::Split(id, to) => put(&mut self.splits, id, to),
        }
    }

    /// The configuration of the file, with the routes split as described.
    fn configuration(&self, pairs: &[(String, String)]) -> anyhow::Result<Configuration> {
        let mut made = compiled(&self.file(pairs).to_string())?;
        let mut ir = Ir::clone(&made.ir);
        for (id, route) in made.ir.routes.iter() {
            let number = route.origin.name.as_deref().and_then(|name| name.strip_prefix('r')?.parse().ok());
            let Some(weight) = number.and_then(|number: u8| self.splits.get(&number)) else { continue };
            let backends = made.ir.backends.iter().zip(u32::from(*weight)..);
            let weighted = backends.map(|((backend, _), weight)| WeightedBackend { backend: *backend, weight });
            let action = Action::Split(weighted.collect());
            ir.routes.insert(*id, Route { action, ..Route::clone(route) });
        }
        made.ir = Arc::new(ir);
        Ok(made)
    }

    fn file(&self, pairs: &[(String, String)]) -> Value {
        let id = |kind: u8, number: u8| format!("00000000-0000-4000-8000-0000000{kind:02}{number:03}");
        let has =
            |kind: u8, table: &dyn Fn(u8) -> bool, number: u8| table(number).then(|| json!({"id": id(kind, number)}));
        let service = |number: u8| has(1, &|n| self.services.contains_key(&n), number);
        let consumer = |number: u8| has(4, &|n| self.consumers.contains_key(&n), number);
        let services = self.services.iter().map(|(n, (host, tls, path))| {
            let host = ["one.test", "127.0.0.1", "u"][usize::from(*host)];
            json!({"id": id(1, *n), "name": format!("s{n}"), "host": host, "port": 80,
                "protocol": if *tls { "https" } else { "http" }, "path": format!("/{path}")})
        });
        let routes = self.routes.iter().map(|(n, (to, path, split))| {
            let mut paths = vec![format!("/r{path}")];
            paths.extend(split.then(|| format!("/longer/r{path}")));
            json!({"id": id(2, *n), "name": format!("r{n}"), "service": service(*to), "paths": paths})
        });
        let plugins = self.plugins.iter().filter_map(|(n, (kind, scope, variant))| {
            let (name, config) = match kind {
                0 => ("key-auth", json!({"key_names": [format!("k{variant}")]})),
                1 => ("request-termination", json!({"status_code": 400 + u16::from(*variant)})),
                _ => ("response-transformer", json!({"add": {"headers": [format!("x:{variant}")]}})),
            };
            let mut plugin = json!({"id": id(3, *n), "name": name, "config": config});
            match scope {
                0 => {}
                1 | 2 => plugin["service"] = service(*variant)?,
                3 | 4 => plugin["route"] = has(2, &|n| self.routes.contains_key(&n), *variant)?,
                _ if *kind == 0 => return None,
                _ => plugin["consumer"] = consumer(*variant)?,
            }
            Some(plugin)
        });
        let consumers = self.consumers.iter().map(
            |(n, custom)| json!({"id": id(4, *n), "username": format!("c{n}"), "custom_id": format!("x{n}{custom}")}),
        );
        let keys = self.keys.iter().filter_map(|(n, (to, key))| {
            Some(json!({"id": id(5, *n), "consumer": consumer(*to)?, "key": format!("key{n}{key}")}))
        });
        let acls = self.keys.iter().filter_map(|(n, (to, key))| {
            Some(json!({"id": id(6, *n), "consumer": consumer(*to)?, "group": format!("g{n}{key}")}))
        });
        let targets = self
            .targets
            .iter()
            .map(|(n, weight)| json!({"id": id(8, *n), "target": format!("10.0.0.{n}:80"), "weight": 10 + weight}));
        let upstream = json!({"id": id(7, 0), "name": "u", "targets": targets.collect::<Vec<_>>()});
        let certificates = pairs.get(usize::from(self.certificate)).map(|(cert, key)| {
            json!({"id": id(9, 0), "cert": cert, "key": key, "snis": [{"id": id(10, 0), "name": "tls.test"}]})
        });
        json!({
            "_format_version": "3.0",
            "services": services.collect::<Vec<_>>(),
            "routes": routes.collect::<Vec<_>>(),
            "plugins": plugins.collect::<Vec<_>>(),
            "consumers": consumers.collect::<Vec<_>>(),
            "keyauth_credentials": keys.collect::<Vec<_>>(),
            "acls": acls.collect::<Vec<_>>(),
            "upstreams": [upstream],
            "certificates": certificates.into_iter().collect::<Vec<_>>(),
        })
    }
}

fn compiled(file: &str) -> anyhow::Result<Configuration> {
    // The test world uses another build of this crate.
    let made = World::compiled(PLUGINS, file, &[])?;
    Ok(Configuration { ir: made.ir, secrets: made.secrets, node: made.node })
}

/// The observable properties of a plan.
fn digest(plan: &Plan, registry: &Registry) -> Vec<String> {
    let mut all = vec![plan.group(None).unrouted.describe()];
    let group = plan.group(None);
    let tables = [(&group.http, &group.http_routes), (&group.stream, &group.stream_routes)];
    let mut routes: Vec<String> = Vec::new();
    for (router, plans) in tables {
        for (slot, id, route) in router.routes() {
            let plan = plans.get(slot).expect("a route has a plan");
            assert!(Arc::ptr_eq(&plan.route, route), "the plan of another route");
            for to in plan.destinations() {
                let backend = to.backend.as_ref().map(|b| {
                    let names = b.group.names();
                    (b.id, Arc::as_ptr(&b.backend), b.group.id(), names, b.group.status().weight, b.tls.is_some())
                });
                routes.push(format!("{id} {:?} {backend:?} {}", Arc::as_ptr(route), to.chain.describe()));
            }
        }
        assert_eq!(plans.iter().count(), router.len());
    }
    routes.sort();
    all.extend(routes);
    for (id, record) in plan.ir.principals.iter() {
        let entry = plan.directory.principal(id).map(|entry| Arc::as_ptr(&entry.record));
        let own = |kind| plan.directory.attached(kind, id).iter().map(|e| e.id).collect::<Vec<_>>();
        all.push(format!("{entry:?} {:?} {:?} {:?}", Arc::as_ptr(record), own("key-auth"), own("acl")));
    }
    for (_, record) in plan.ir.credentials.iter() {
        let lookup = match &record.lookup {
            cardinal_ir::Lookup::Text(text) => text,
            cardinal_ir::Lookup::Secret(reference) => plan.secrets.get(*reference).expect("a secret").expose(),
        };
        let found = plan.directory.credential(&record.kind, lookup);
        all.push(format!("{} {:?}", record.lookup, found.map(|entry| Arc::as_ptr(&entry.record))));
    }
    let served = plan.tls.names.find(Some("tls.test")).first().and_then(|pair| pair.end_entity_cert().ok());
    all.push(format!("{:?}", plan.ir.certificates.is_empty() || served.is_some()));
    all.push(format!("{:?}", (!plan.ir.certificates.is_empty()).then_some(served)));
    all.push(registry.describe());
    let mut said: Vec<String> = plan.diagnostics().iter().map(ToString::to_string).collect();
    said.sort();
    all.extend(said);
    all
}

struct Bench {
    services: Services,
    pairs: Vec<(String, String)>,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let services = cardinal_sdk::testing::services(Arc::new(ManualClock::default()));
        drop(_entered);
        let authority = Authority::new("tests");
        let issued = [authority.issue(&["tls.test"]), authority.issue(&["tls.test"])];
        let pairs = issued.into_iter().map(|issued| (issued.cert_pem, issued.key_pem)).collect();
        Self { services, pairs, runtime }
    }

    fn validated(&self, configuration: &Configuration) -> Vec<Diagnostic> {
        let registry = Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap();
        let cx = PlanCx { plugins: PLUGINS, services: self.services.clone(), registry: &registry, previous: None };
        let _entered = self.runtime.enter();
        validate(configuration, &cx).expect("a generation that can be served")
    }

    fn plan(
        &self,
        configuration: &Configuration,
        generation: u64,
        registry: &Registry,
        previous: Option<&Plan>,
    ) -> Plan {
        let cx = PlanCx { plugins: PLUGINS, services: self.services.clone(), registry, previous };
        let _entered = self.runtime.enter();
        Plan::build(configuration.clone(), generation, &cx).expect("a generation that can be served").0
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_made_from_the_last_one_equals_one_made_from_nothing(
        steps in proptest::collection::vec(proptest::collection::vec(edit(), 1..5), 2..12),
    ) {
        let bench = Bench::new();
        let registry = Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap();
        let mut model = Model::default();
        let mut last: Option<Plan> = None;
        for (step, generation) in steps.into_iter().zip(1..) {
            step.into_iter().for_each(|edit| model.apply(edit));
            let made = model.configuration(&bench.pairs);
            let made = made.map_err(|e| TestCaseError::fail(format!("{e}: {model:?}")))?;
            let next = bench.plan(&made, generation, &registry, last.as_ref());
            prop_assert_eq!(&next.ir, &made.ir);
            prop_assert_eq!(next.ir.digest(), made.ir.digest());
            let fresh_registry = Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap();
            // The same records: they are compared by address.
            let same = Configuration { ir: Arc::clone(&next.ir), ..made };
            let fresh = bench.plan(&same, 1, &fresh_registry, None);
            prop_assert_eq!(digest(&next, &registry), digest(&fresh, &fresh_registry));
            prop_assert_eq!(bench.validated(&same), fresh.diagnostics());
            last = Some(next);
        }
    }
}

/// A file with this many services with one route each.
fn many(services: u8) -> Model {
    let mut model = Model::default();
    for n in 0..services {
        model.apply(Edit::Service(n, Some((0, false, n % 2))));
        model.apply(Edit::Route(n, Some((n, n % 3, false))));
    }
    model
}

#[test]
fn tls_settings_of_replaced_generations_are_freed() {
    let (bench, registry) = (Bench::new(), Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap());
    let authority = Authority::new("clients");
    let id = "00000000-0000-4000-8000-000000009000";
    let mut last: Option<Plan> = None;
    for generation in 1..=1_000 {
        let shown = authority.issue(&["gateway"]);
        let file = json!({
            "_format_version": "3.0",
            "certificates": [{"id": id, "cert": shown.cert_pem, "key": shown.key_pem}],
            "services": [{"name": "s", "url": "https://127.0.0.1:1", "client_certificate": {"id": id}}],
        });
        let made = compiled(&file.to_string()).unwrap();
        let plan = bench.plan(&made, generation, &registry, last.as_ref());
        // The settings of this generation, and of the previous one, which still exists.
        assert_eq!(registry.tls_settings(), usize::from(last.is_some()) + 1, "generation {generation}");
        last = Some(plan);
    }
}

#[test]
fn what_did_not_change_is_the_same_object() {
    let (bench, registry) = (Bench::new(), Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap());
    let mut model = many(40);
    model.apply(Edit::Plugin(0, Some((2, 0, 0))));
    model.apply(Edit::Plugin(1, Some((1, 3, 7))));
    let compiled = |model: &Model| compiled(&model.file(&[]).to_string()).unwrap();
    let first = bench.plan(&compiled(&model), 1, &registry, None);
    // One service, and the plugin of one route.
    model.apply(Edit::Service(3, Some((0, false, 9))));
    model.apply(Edit::Plugin(1, Some((1, 3, 8))));
    let second = bench.plan(&compiled(&model), 2, &registry, Some(&first));
    let (mut backends, mut chains) = (Vec::new(), Vec::new());
    for (slot, id, _) in second.group(None).http.routes() {
        let (old, new) =
            (first.group(None).http_routes.get(slot).unwrap(), second.group(None).http_routes.get(slot).unwrap());
        let (old, new) = (old.destination(0), new.destination(0));
        if !Arc::ptr_eq(old.backend.as_ref().unwrap(), new.backend.as_ref().unwrap()) {
            backends.push(id.as_u128() % 0x1000);
        }
        if !Arc::ptr_eq(&old.chain, &new.chain) {
            chains.push(id.as_u128() % 0x1000);
        }
    }
    chains.sort_unstable();
    assert_eq!((backends, chains), (vec![0x003], vec![0x007, 0x008]));
    assert!(Arc::ptr_eq(first.tls.http2.config(), second.tls.http2.config()));
    assert!(Arc::ptr_eq(&first.group(None).unrouted, &second.group(None).unrouted));
}

#[test]
fn another_weight_plans_one_route_anew() {
    let (bench, registry) = (Bench::new(), Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap());
    let mut model = many(40);
    // A filter of the route, one of a service.
    model.apply(Edit::Plugin(0, Some((1, 3, 7))));
    model.apply(Edit::Plugin(1, Some((2, 1, 3))));
    model.apply(Edit::Split(7, Some(0)));
    let first = bench.plan(&model.configuration(&[]).unwrap(), 1, &registry, None);
    model.apply(Edit::Split(7, Some(5)));
    let second = bench.plan(&model.configuration(&[]).unwrap(), 2, &registry, Some(&first));
    let delta = first.ir.diff(&second.ir);
    assert_eq!((delta.len(), delta.routes.len()), (1, 1));
    assert_eq!(second.group(None).http.changes_since(&first.group(None).http).len(), 1);
    for (slot, _, route) in second.group(None).http.routes() {
        let (old, new) =
            (first.group(None).http_routes.get(slot).unwrap(), second.group(None).http_routes.get(slot).unwrap());
        let is_split = matches!(route.action, Action::Split(_));
        assert_eq!(Arc::ptr_eq(&old.route, &new.route), !is_split);
        assert_eq!(new.destinations().count(), if is_split { 41 } else { 1 });
        // The chains and backends are still the same objects.
        for (old, new) in old.destinations().zip(new.destinations()) {
            assert!(Arc::ptr_eq(&old.chain, &new.chain));
            assert_eq!(old.backend.as_ref().map(Arc::as_ptr), new.backend.as_ref().map(Arc::as_ptr));
        }
    }
}

#[test]
fn validating_finds_what_planning_leaves_out() {
    use cardinal_ir::{
        Backend, Certificate, Filter, FilterSet, HttpVersion, KeyPair, Matches, Origin, PathMatch, Rank, Scope,
        UpstreamTls,
    };
    let (bench, id) = (Bench::new(), Id::from_u128);
    let origin = |kind: &str, number: u128| Origin::new("test", kind, id(number));
    let mut ir = Ir::default();
    let mut secrets = cardinal_ir::Secrets::default();
    let key = secrets.add(&cardinal_ir::SecretKey::default(), "no key");
    let pairs = vec![KeyPair { chain: "no PEM".into(), key }];
    ir.certificates.insert(id(1), Certificate { origin: origin("certificates", 1), pairs, ..Default::default() });
    let tls = Some(UpstreamTls { client_certificate: Some(id(1)), ..Default::default() });
    let (http, origin_of) = (Some(HttpVersion::H1), origin("services", 2));
    ir.backends.insert(id(2), Backend { origin: origin_of, tls, http, ..Backend::default() });
    for (number, pattern) in [(3, "("), (4, "/a"), (5, "[")] {
        let paths = vec![PathMatch::Regex(pattern.into())];
        let matches = Matches::from(cardinal_ir::Criteria { paths, ..Default::default() });
        let rank = Rank { weight: 0, tie: number };
        ir.routes.insert(id(number), Route { origin: origin("routes", number), rank, matches, ..Route::default() });
    }
    for (number, kind, scope) in [
        (6, "no-such-plugin", Scope::default()),
        (7, "no-such-plugin", Scope { route: Some(id(4)), ..Scope::default() }),
        (8, "key-auth", Scope { backend: Some(id(2)), ..Scope::default() }),
        (9, "request-termination", Scope { route: Some(id(4)), ..Scope::default() }),
    ] {
        let filters = vec![Filter { kind: kind.into(), params: json!({"key_names": 7}).into(), ..Filter::default() }];
        ir.filter_sets
            .insert(id(number), FilterSet { origin: origin("plugins", number), scope, filters, precedence: 1 });
    }
    let configuration = Configuration::from(ir).with_secrets(secrets);
    let planned = bench
        .plan(&configuration, 1, &Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap(), None)
        .diagnostics();
    assert_eq!(bench.validated(&configuration), planned);
    assert!(planned.len() > 5, "{planned:?}");
    // An update that is rejected as a whole has the same error message.
    let mut broken = configuration;
    broken.ir_mut().routes.insert(id(4), Route { action: Action::Forward(id(77)), ..Route::default() });
    let registry = Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap();
    let cx = PlanCx { plugins: PLUGINS, services: bench.services.clone(), registry: &registry, previous: None };
    let _entered = bench.runtime.enter();
    let refused = Plan::build(broken.clone(), 1, &cx).err().expect("a refusal");
    assert_eq!(validate(&broken, &cx), Err(refused));
}
