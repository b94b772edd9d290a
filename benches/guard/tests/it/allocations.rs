//! The number of allocations per request, on the thread that serves it, once everything is warm.

#![allow(unsafe_code, reason = "a global allocator is unsafe to make; this one hands everything on to the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use cardinal_guard::{Prepared, Workload};

/// Number of measured requests; as many are made before to warm up.
const REQUESTS: usize = 2_000;

/// Number of requests whose allocations are listed if there are too many.
const TRACED: usize = 50;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static TRACING: Cell<bool> = const { Cell::new(false) };
    static TRACES: RefCell<Vec<Backtrace>> = const { RefCell::new(Vec::new()) };
}

/// The system allocator with a count of allocations per thread.
struct Counting;

impl Counting {
    fn count() {
        // A thread that is exiting has no counter any more.
        COUNT.try_with(|count| count.set(count.get() + 1)).ok();
        if TRACING.try_with(Cell::take) == Ok(true) {
            TRACES.with_borrow_mut(|traces| traces.push(Backtrace::force_capture()));
            TRACING.set(true);
        }
    }
}

// SAFETY: each call is passed on unchanged; the additional code does not use the memory, and its own allocations pass
// through here without being traced.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

/// Makes requests; returns the number of allocations.
fn count(prepared: &mut Prepared, requests: usize) -> u64 {
    let before = COUNT.get();
    prepared.run(requests).unwrap();
    COUNT.get() - before
}

/// Checks the maximum number of allocations of a thousand requests of the workload.
fn check(workload: Workload, thousand_max: u64) {
    let mut prepared = workload.prepare().unwrap();
    prepared.run(REQUESTS).unwrap();
    let allocations = count(&mut prepared, REQUESTS);
    let max = thousand_max * REQUESTS as u64 / 1_000;
    if allocations > max {
        let places = places(&mut prepared);
        panic!("{workload:?}: {REQUESTS} requests made {allocations} allocations; {max} are allowed. {places}");
    }
}

/// The places at which requests allocate.
fn places(prepared: &mut Prepared) -> String {
    TRACING.set(true);
    prepared.run(TRACED).unwrap();
    TRACING.set(false);
    let mut places = BTreeMap::<String, usize>::new();
    for trace in TRACES.take() {
        *places.entry(own_frames(&trace.to_string())).or_default() += 1;
    }
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    let mut text = format!("In {TRACED} more:");
    for (place, times) in places {
        text.push_str(&format!("\n{times} times:\n{place}"));
    }
    text
}

/// The innermost frames of a trace that belong neither to the counting nor to the standard library. Their positions are
/// known if the build has debug information.
fn own_frames(trace: &str) -> String {
    let lines: Vec<&str> = trace.lines().map(str::trim).collect();
    let place_after = |at: usize| lines.get(at + 1).and_then(|line| line.strip_prefix("at "));
    let frame = |(at, line): (usize, &&str)| {
        let (number, name) = line.split_once(": ")?;
        number.parse::<usize>().ok()?;
        Some((name.to_owned(), place_after(at)))
    };
    let frames: Vec<(String, Option<&str>)> = lines.iter().enumerate().filter_map(frame).collect();
    // The frames below belong to the allocator and to the creation of the trace.
    let asked = frames.iter().position(|(name, _)| name.contains("__rust_") && name.contains("alloc"));
    let asked = asked.or_else(|| frames.iter().rposition(|(name, _)| name.contains("Counting")));
    let own = frames.iter().skip(asked.map_or(0, |at| at + 1)).filter(|(name, place)| match place {
        Some(place) => !place.starts_with("/rustc/"),
        None => !["alloc::", "core::", "std::"].iter().any(|own| name.trim_start_matches('<').starts_with(own)),
    });
    own.take(6)
        .map(|(name, place)| match place {
            Some(place) => format!("    {} at {}\n", short(name), in_crate(place)),
            None => format!("    {}\n", short(name)),
        })
        .collect()
}

/// A name without its type parameters.
fn short(name: &str) -> &str {
    name.split_once('<').map_or(name, |(short, _)| if short.is_empty() { name } else { short })
}

/// A path in a crate of the registry, without the directories above.
fn in_crate(place: &str) -> &str {
    place.split_once("/registry/src/").and_then(|(_, rest)| rest.split_once('/')).map_or(place, |(_, rest)| rest)
}

#[test]
fn a_request_allocates_nothing() {
    check(Workload::Plain, 0);
}

#[test]
fn a_key_a_limit_and_an_id_allocate_little() {
    check(Workload::Plugins, 3_000);
}

#[test]
fn long_bodies_down_allocate_nothing() {
    check(Workload::Down64k, 0);
}

#[test]
fn long_bodies_up_allocate_nothing() {
    check(Workload::Up64k, 0);
}

/// Four of the allocations are for the in-memory connection itself.
#[test]
fn a_connection_allocates_little() {
    check(Workload::Fresh, 8_050);
}

#[test]
fn a_stream_allocates_little() {
    check(Workload::H2, 15_000);
}

#[test]
fn a_stream_to_a_stream_allocates_little() {
    check(Workload::Grpc, 37_100);
}

#[test]
fn an_allocation_is_counted_and_its_place_told() {
    let before = COUNT.get();
    TRACING.set(true);
    let memory = std::hint::black_box(Vec::<u8>::with_capacity(64));
    TRACING.set(false);
    drop(memory);
    let trace = TRACES.take().pop().unwrap().to_string();
    assert!(COUNT.get() > before);
    let own = own_frames(&trace);
    let frame = own.lines().find(|line| line.contains("an_allocation_is_counted_and_its_place_told"));
    let frame = frame.unwrap_or_else(|| panic!("{own}\nof {trace}"));
    // Without debug information, there are only names.
    let has_places = trace.contains("allocations.rs:");
    assert_eq!(frame.contains("allocations.rs:"), has_places, "{trace}");
}
