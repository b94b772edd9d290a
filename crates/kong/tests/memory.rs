//! The memory that loading takes: a large configuration must not need many times the room of its text, not even for
//! a moment. Alone in its program, since it counts what the whole program allocates.

#![allow(unsafe_code, reason = "an allocator that counts can only be written so")]
#![allow(clippy::print_stdout, reason = "it prints what it measures")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use cardinal_kong::{Registry, Settings, Source, declarative, load, lower_owned};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// What the C library takes for a block: a header of 8 bytes, in steps of 16, from 32 on.
fn taken(size: usize) -> usize {
    ((size + 8).div_ceil(16) * 16).max(32)
}

fn add(size: usize) {
    let held = HELD.fetch_add(taken(size), Relaxed) + taken(size);
    PEAK.fetch_max(held, Relaxed);
}

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        HELD.fetch_sub(taken(layout.size()), Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Large blocks are moved by mapping their pages elsewhere, so that both never take room at once.
        HELD.fetch_sub(taken(layout.size()), Relaxed);
        add(size);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONSUMERS: usize = 20_000;
const ROUTES: usize = 20_000;

fn consumers() -> String {
    let mut out = "_format_version: \"3.0\"\nconsumers:\n".to_owned();
    for n in 0..CONSUMERS {
        writeln!(
            out,
            "- username: user-{n:06}\n  custom_id: customer-{n:06}-eu\n  keyauth_credentials:\n  - key: \
             {n:08x}a1b2c3d4e5f60718"
        )
        .unwrap();
    }
    out
}

fn routes() -> String {
    let mut out = "_format_version: \"3.0\"\nservices:\n".to_owned();
    for n in 0..ROUTES {
        if n.is_multiple_of(100) {
            writeln!(out, "- name: service-{n}\n  url: http://backend-{n}.internal:8080\n  routes:").unwrap();
        }
        write!(
            out,
            "  - name: route-{n}\n    hosts:\n    - host-{n}.example.com\n    paths:\n    - /api/v1/items-{n}\n    - \
             /api/v2/items-{n}\n"
        )
        .unwrap();
    }
    out
}

/// Loads and lowers a text; the most memory that this took at once besides the text, in times its size.
fn peak(text: String, registry: &Registry) -> f64 {
    let size = text.len();
    let settings = Settings::default();
    let sources = [Source::new("kong.yaml", text)];
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let snapshot = load(&sources, registry, &settings).unwrap_or_else(|errors| panic!("{}", errors.render()));
    let of_loading = PEAK.load(Relaxed) - before;
    let (ir, secrets, diagnostics) = lower_owned(snapshot, registry, &settings);
    let peak = PEAK.load(Relaxed) - before;
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    assert!(ir.principals.len() == CONSUMERS && ir.credentials.len() == CONSUMERS || ir.routes.len() == ROUTES);
    assert_eq!(secrets.len(), ir.credentials.len());
    let ratio = peak as f64 / size as f64;
    println!("{size} bytes of text: {of_loading} bytes at most to load it, {peak} to lower it, {ratio:.1} times");
    ratio
}

#[test]
fn a_large_file_takes_a_few_times_its_size() {
    let registry = Registry::new(cardinal_plugins_auth::PLUGINS);
    let json = |text: &str| declarative::parse(text).unwrap().to_value().to_string();
    let of = |text: String| peak(text, &registry);
    let found = [of(consumers()), of(json(&consumers())), of(routes()), of(json(&routes()))];
    assert!(found.iter().all(|ratio| *ratio < 6.3), "{found:?}");
}
