//! Picks and reports of good news allocate nothing, whatever the algorithm.

#![allow(unsafe_code, reason = "a global allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use cardinal_balance::{Group, Member, Outcome, PickInput};
use cardinal_base::{SeededRng, Tick};
use cardinal_ir::policy::{CircuitLimits, Detectors, OutlierDetection, SuccessRate};
use cardinal_ir::{Algorithm, Cluster, Counts, Endpoint, HashInput, HealthChecks, Host, Id, Origin, Passive};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; counting touches a plain thread-local number only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn group(algorithm: Algorithm, policies: bool) -> Arc<Group> {
    let counts = Counts { healthy_statuses: vec![200], successes: 1, tcp_failures: 1, ..Counts::default() };
    let health = HealthChecks { passive: Passive { counts, ..Passive::default() }, ..HealthChecks::default() };
    let spec = Cluster {
        origin: Origin::default(),
        algorithm,
        slots: 10_000,
        hash_on: HashInput::Ip,
        hash_fallback: HashInput::None,
        health,
        outlier: policies.then(|| {
            let detectors = Detectors { total: 5, success_rate: Some(SuccessRate::default()), ..Detectors::default() };
            Box::new(OutlierDetection { detectors, ..OutlierDetection::default() })
        }),
        circuit: policies.then(|| Box::new(CircuitLimits { max_requests: Some(100), ..CircuitLimits::default() })),
        locality: policies.then(Box::default),
        document: "{}".into(),
        ..Cluster::default()
    };
    let member = |n: u128| Member {
        id: Id::from_u128(n),
        endpoint: Arc::new(Endpoint {
            origin: Origin::default(),
            cluster: Id::nil(),
            host: Host { host: format!("10.0.0.{n}").into(), port: 80 },
            weight: 10,
            // Two priorities, of which both serve once some are down.
            priority: u32::from(n > 3),
            ..Endpoint::default()
        }),
    };
    Group::new(Id::nil(), Arc::new(spec), (1..=5).map(member).collect(), 1, Tick(0))
}

#[test]
fn picks_and_reports_allocate_nothing() {
    let algorithms = [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::ConsistentHashing,
        Algorithm::Latency,
        Algorithm::Sticky { cookie: "c".into(), path: "/".into() },
    ];
    for algorithm in algorithms {
        // Without policies, and with all of them.
        for policies in [false, true] {
            let group = group(algorithm.clone(), policies);
            let mut picker = group.picker(Box::new(SeededRng::new(1)));
            let tried = [picker.pick(&PickInput::default()).unwrap().key()];
            let before = ALLOCATIONS.get();
            for i in 0..1_000 {
                let now = Tick::from_millis(i);
                let input = PickInput {
                    now,
                    hash: Some(b"10.1.2.3"),
                    tried: &tried,
                    cookie: Some("unknown"),
                    uncounted: false,
                };
                let picked = picker.pick(&input).unwrap();
                group.report(&picked, Outcome::Status(200), now);
                group.report(&picked, Outcome::Ok { latency: Duration::from_millis(5) }, now);
            }
            assert_eq!(ALLOCATIONS.get() - before, 0, "{algorithm:?}");
        }
    }
    let before = ALLOCATIONS.get();
    drop(Box::new(1));
    assert_eq!(ALLOCATIONS.get() - before, 1, "the counter counts");
}
