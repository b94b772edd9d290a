//! Measures the cost of a generation: times of first plans and of edits, memory, and lookups of credentials.
//!
//! `plans [ROUTES] [SERVICES] [CONSUMERS]` prints a table. `plans serve PORT` serves requests and applies a generation
//! of 100,000 other routes twice a second from the sixth second on, to show the effect on latencies; `plans edit PORT`
//! changes one of the 100,000 routes ten times a second instead. `taskset` selects the cores.

#![allow(unsafe_code, reason = "an allocator that counts can only be written so")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "an example measures and prints")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cardinal_base::{ManualClock, SystemClock};
use cardinal_engine::plan::{Plan, PlanCx, Registry};
use cardinal_engine::{Configuration, Engine, Options};
use cardinal_ir::policy::Retry;
use cardinal_ir::{
    Action, Attributes, Backend, Credential, Criteria, Filter, FilterSet, Host, HostMatch, HostPattern, HttpVersion,
    Id, ImpliedPort, Ir, L4, Listener, Matches, NodeSettings, Origin, PathMatch, Principal, Rank, Rewrite, Route,
    Scope, Target, Timeouts, Traffic,
};
use cardinal_route::Router;
use cardinal_sdk::{Directory, PluginDef};
use serde_json::json;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller fulfils the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller fulfils the same contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static PLUGINS: &[&PluginDef] =
    &[&cardinal_plugins_auth::key_auth::PLUGIN, &cardinal_plugins_security::request_termination::PLUGIN];

const ROUTE: u128 = 1 << 96;
const SERVICE: u128 = 2 << 96;
const CONSUMER: u128 = 3 << 96;
const KEY: u128 = 4 << 96;
const PLUGIN: u128 = 5 << 96;

/// Ids that are distributed like random ones.
fn id(kind: u128, number: usize) -> Id {
    let mixed = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    Id::from_u128(mixed ^ kind)
}

fn origin(id: Id) -> Origin {
    Origin::new("example", "objects", id)
}

fn route(number: usize, services: usize, strip_path: bool) -> Route {
    let host = HostPattern::Exact(format!("h{}.example.com", number / 10).into());
    let criteria = Criteria {
        hosts: [HostMatch { host, port: None, implied_port: ImpliedPort::default() }].into_iter().collect(),
        paths: [PathMatch::Prefix(format!("/api/p{}", number % 10).into())].into_iter().collect(),
        ..Criteria::default()
    };
    let tie = id(ROUTE, number).as_u128();
    Route {
        origin: origin(id(ROUTE, number)).named(&format!("route-{number}")),
        group: None,
        rank: Rank { weight: 1, tie },
        traffic: Traffic::Http,
        matches: Matches::from(criteria),
        action: Action::Forward(id(SERVICE, number % services)),
        rewrite: Rewrite { strip_path, ..Rewrite::default() },
        document: "{}".into(),
        ..Route::default()
    }
}

fn service(number: usize, retries: u16, named: bool) -> Backend {
    let host = if named { format!("s{number}.example.com") } else { format!("10.1.{}.{}", number / 250, number % 250) };
    Backend {
        origin: origin(id(SERVICE, number)).named(&format!("s{number}")),
        l4: L4::Tcp,
        http: Some(HttpVersion::H1),
        grpc: false,
        tls: None,
        target: Target::Host(Host { host: host.into(), port: 80 }),
        path: None,
        timeouts: Timeouts::default(),
        retry: (retries > 0).then(|| Arc::new(Retry { attempts: retries, ..Retry::default() })),
        upgrade_protocols: Vec::new(),
        document: "{}".into(),
    }
}

fn termination(number: usize, scope: Scope, status: u16) -> FilterSet {
    FilterSet {
        origin: origin(id(PLUGIN, number)),
        scope,
        precedence: u32::from(scope.route.is_some()),
        filters: vec![Filter {
            kind: "request-termination".into(),
            params: Arc::new(
                json!({"status_code": status, "message": null, "body": null, "content_type": null, "echo": false, "trigger": null}),
            ),
            wires: Vec::new(),
            instance_name: None,
        }],
    }
}

fn routes(count: usize, services: usize, named: bool, own_plugins: usize) -> Ir {
    let mut ir = Ir::default();
    for number in 0..services {
        ir.backends.insert(id(SERVICE, number), service(number, 5, named));
    }
    for number in 0..count {
        ir.routes.insert(id(ROUTE, number), route(number, services, true));
    }
    for number in 0..own_plugins {
        let scope = Scope { route: Some(id(ROUTE, number)), ..Scope::default() };
        ir.filter_sets.insert(id(PLUGIN, number), termination(number, scope, 418));
    }
    ir
}

fn credential(attributes: &Arc<Attributes>, number: usize, text: &str) -> Credential {
    let origin = origin(id(KEY, number));
    Credential::new(origin, Arc::clone(attributes), id(CONSUMER, number), text.into())
}

fn attributes() -> Arc<Attributes> {
    Arc::new(Attributes::new("key-auth", json!({"key": "x", "ttl": null}), "key"))
}

fn consumers(count: usize) -> Ir {
    let mut ir = Ir::default();
    let attributes = attributes();
    for number in 0..count {
        let name = Some(format!("consumer-{number}").into());
        let origin = origin(id(CONSUMER, number));
        let principal =
            Principal { origin, name, custom_id: None, groups: Vec::new(), tenant: None, document: "{}".into() };
        ir.principals.insert(id(CONSUMER, number), principal);
        ir.credentials.insert(id(KEY, number), credential(&attributes, number, &format!("key-{number:032}")));
    }
    ir
}

fn ms(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e3
}

/// Runs `work`; returns its result and the memory still allocated afterwards.
fn bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    let made = work();
    (made, LIVE.load(Ordering::Relaxed).saturating_sub(before))
}

fn first_plan(what: &str, ir: &Arc<Ir>, count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _entered = runtime.enter();
    let services = cardinal_sdk::testing::services(Arc::new(ManualClock::default()));
    let registry = Registry::new(Arc::new(SystemClock::new())).expect("randomness");
    let cx = PlanCx { plugins: PLUGINS, services, registry: &registry, previous: None };
    let (router, of_router) = bytes(|| Router::build(ir, Traffic::Http).0);
    drop(router);
    let mut took = 0.0;
    let (plan, all) = bytes(|| {
        let mut plan = None;
        took = ms(|| plan = Plan::build(Configuration { ir: Arc::clone(ir), ..Default::default() }, 1, &cx).ok());
        plan
    });
    let each = all.saturating_sub(of_router) as f64 / count as f64;
    let freed = ms(|| drop(plan));
    println!("{what}: first plan {took:.1} ms, {each:.1} bytes each beyond ir and router, freed in {freed:.1} ms");
}

fn edits(what: &str, engine: &Engine, ir: &mut Ir, mut edit: impl FnMut(&mut Ir, usize)) {
    let mut all: Vec<f64> = (0..25)
        .map(|turn| {
            edit(ir, turn);
            let next = Configuration::from(ir.clone());
            ms(|| drop(engine.apply(engine.update(next)).expect("a generation that can be served")))
        })
        .collect();
    all.sort_by(f64::total_cmp);
    println!("  apply, {what}: median {:.2} ms, worst {:.2} ms", all[12], all[24]);
}

fn start(ir: &Ir) -> Engine {
    let options = Options { workers: 1, plugins: PLUGINS.to_vec(), ..Options::default() };
    Engine::start(ir.clone().into(), options).expect("an engine").0
}

fn lookups(ir: &Ir, count: usize) {
    let (directory, of_all) = bytes(|| Directory::build(ir, PLUGINS).0);
    let mut alone = ir.clone();
    alone.credentials = Default::default();
    let (of_principals, principals) = bytes(|| Directory::build(&alone, PLUGINS).0);
    drop(of_principals);
    let keys: Vec<String> = (0..count).map(|n| format!("key-{:032}", n.wrapping_mul(48_271) % count)).collect();
    let calls = CALLS.load(Ordering::Relaxed);
    let took = ms(|| {
        for key in &keys {
            let entry = directory.credential("key-auth", key).expect("a key");
            black_box(directory.principal(&entry.record.principal));
        }
    });
    println!(
        "directory: {:.0} bytes a principal, {:.0} bytes a credential; key and principal found in {:.0} ns, {} allocations",
        principals as f64 / count as f64,
        (of_all - principals) as f64 / count as f64,
        took * 1e6 / count as f64,
        CALLS.load(Ordering::Relaxed) - calls
    );
}

fn serve(port: u16, whole: bool) {
    let listener =
        Listener { name: "http".into(), address: ([127, 0, 0, 1], port).into(), http2: false, ..Listener::default() };
    let generation = || {
        let mut ir = routes(100_000, 1_000, true, 0);
        ir.filter_sets.insert(id(PLUGIN, 0), termination(0, Scope::default(), 200));
        ir
    };
    let node = Arc::new(NodeSettings { listeners: vec![listener], ..Default::default() });
    let served = |ir: &Ir| Configuration { ir: Arc::new(ir.clone()), node: Arc::clone(&node), ..Default::default() };
    let generations = [generation(), generation()];
    let options = Options { workers: 1, plugins: PLUGINS.to_vec(), ..Options::default() };
    let engine = Engine::start(served(&generations[0]), options).expect("an engine").0;
    println!("serving");
    std::thread::sleep(std::time::Duration::from_secs(5));
    if whole {
        for turn in 1..=20 {
            let next = served(&generations[turn % 2]);
            println!("applied in {:.1} ms", ms(|| drop(engine.apply(engine.update(next)))));
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        return;
    }
    let [mut ir, other] = generations;
    drop(other);
    for turn in 1..=100 {
        // Like after lowering: the record is replaced, the others are unchanged.
        let mut one = route(turn * 997, 1_000, true);
        one.rewrite.preserve_host = turn % 2 == 0;
        ir.routes.insert(id(ROUTE, turn * 997), one);
        let next = served(&ir);
        println!("applied in {:.2} ms", ms(|| drop(engine.apply(engine.update(next)))));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn main() {
    if let (Some(what @ ("serve" | "edit")), Some(port)) = (std::env::args().nth(1).as_deref(), std::env::args().nth(2))
    {
        return serve(port.parse().expect("a port"), what == "serve");
    }
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse().ok());
    let count = numbers.next().unwrap_or(100_000);
    let services = numbers.next().unwrap_or(20_000);
    let people = numbers.next().unwrap_or(100_000);

    first_plan("routes over few services", &Arc::new(routes(count, 1_000.min(count), false, 0)), count);
    first_plan("routes over many services", &Arc::new(routes(count, services, false, 0)), count);
    first_plan("routes with a plugin each", &Arc::new(routes(count, 1_000.min(count), false, count)), count);
    for named in [false, true] {
        let what = if named { "services with names" } else { "services with addresses" };
        first_plan(what, &Arc::new(routes(1, services, named, 0)), services);
    }
    let mut ir = routes(count, services, true, count / 2);
    let engine = start(&ir);
    println!("{count} routes over {services} services, every second one with a plugin:");
    let changed = |ir: &mut Ir, turn: usize| {
        ir.routes.insert(id(ROUTE, turn), route(turn, services, turn % 2 == 1));
    };
    edits("a route", &engine, &mut ir, changed);
    edits("a new route", &engine, &mut ir, |ir, turn| {
        ir.routes.insert(id(ROUTE, count + turn), route(count + turn, services, true));
    });
    edits("a route less", &engine, &mut ir, |ir, turn| drop(ir.routes.remove(&id(ROUTE, count + turn))));
    edits("a service", &engine, &mut ir, |ir, turn| {
        ir.backends.insert(id(SERVICE, turn), service(turn, 6, true));
    });
    edits("a service to another host", &engine, &mut ir, |ir, turn| {
        ir.backends.insert(id(SERVICE, turn), service(turn + services, 6, true));
    });
    edits("a plugin of a route", &engine, &mut ir, |ir, turn| {
        let scope = Scope { route: Some(id(ROUTE, turn)), ..Scope::default() };
        ir.filter_sets.insert(id(PLUGIN, turn), termination(turn, scope, 419));
    });
    edits("a plugin of a service", &engine, &mut ir, |ir, turn| {
        let scope = Scope { backend: Some(id(SERVICE, turn)), ..Scope::default() };
        ir.filter_sets.insert(id(PLUGIN, 2 * count + turn), termination(turn, scope, 419));
    });
    edits("a global plugin", &engine, &mut ir, |ir, turn| {
        ir.filter_sets.insert(id(PLUGIN, 3 * count), termination(turn, Scope::default(), 420));
    });
    edits("all routes others", &engine, &mut ir, |ir, turn| {
        if turn < 3 {
            ir.routes = routes(count, services, true, 0).routes;
        }
    });
    drop(engine);

    let mut ir = consumers(people);
    lookups(&ir, people);
    let engine = start(&ir);
    println!("{people} consumers with a key each:");
    let attributes = attributes();
    edits("a credential", &engine, &mut ir, |ir, turn| {
        ir.credentials.insert(id(KEY, turn), credential(&attributes, turn, &format!("other {turn}")));
    });
    edits("a consumer less", &engine, &mut ir, |ir, turn| {
        ir.credentials.remove(&id(KEY, turn));
        ir.principals.remove(&id(CONSUMER, turn));
    });
}
