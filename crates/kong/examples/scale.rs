//! What a large configuration costs: the time of each step from text to a verified IR, and the bytes of each record.
//!
//! `cargo run --profile profiling -p cardinal-kong --example scale -- routes 100000 100 yaml`: a kind
//! (`routes`, `consumers`), how many, how many routes a service has, and the format (`yaml`, `json`).

#![allow(unsafe_code, reason = "an allocator that counts can only be written so")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "it prints what it measures")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use cardinal_ir::Verified;
use cardinal_kong::{Edit, Lowered, Registry, Settings, Snapshot, Source, declarative, load, lower};
use cardinal_sdk::PluginDef;

struct Counting;

/// Bytes that were asked for, and what the C library's allocator makes of them.
static ASKED: AtomicUsize = AtomicUsize::new(0);
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Blocks have a header of 8 bytes and come in steps of 16, from 32 on.
fn taken(size: usize) -> usize {
    ((size + 8).div_ceil(16) * 16).max(32)
}

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Relaxed);
        TAKEN.fetch_add(taken(layout.size()), Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        ASKED.fetch_sub(layout.size(), Relaxed);
        TAKEN.fetch_sub(taken(layout.size()), Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static PLUGINS: &[&PluginDef] = cardinal_plugins_auth::PLUGINS;

fn routes(count: usize, each: usize) -> String {
    let mut out = "_format_version: \"3.0\"\nservices:\n".to_owned();
    for s in 0..count / each {
        writeln!(out, "- name: service-{s}\n  url: http://backend-{s}.internal:8080\n  routes:").unwrap();
        for r in 0..each {
            let n = s * each + r;
            write!(
                out,
                "  - name: route-{n}\n    hosts:\n    - host-{n}.example.com\n    paths:\n    - /api/v1/items-{r}\n"
            )
            .unwrap();
            if n.is_multiple_of(2) {
                writeln!(out, "    - /api/v2/items-{r}").unwrap();
            }
        }
    }
    out
}

fn consumers(count: usize) -> String {
    let mut out = "_format_version: \"3.0\"\nconsumers:\n".to_owned();
    for n in 0..count {
        writeln!(out, "- username: user-{n}\n  keyauth_credentials:\n  - key: key-{n:08}").unwrap();
    }
    out
}

fn main() {
    let mut args = std::env::args().skip(1);
    let kind = args.next().unwrap_or_else(|| "routes".into());
    let count: usize = args.next().map_or(100_000, |n| n.parse().unwrap());
    let each: usize = args.next().map_or(100, |n| n.parse().unwrap());
    let mut text = if kind == "routes" { routes(count, each) } else { consumers(count) };
    if args.next().is_some_and(|format| format == "json") {
        text = declarative::parse(&text).unwrap().to_value().to_string();
    }
    let registry = Registry::new(PLUGINS);
    let settings = Settings::default();
    println!("{kind}: {count}, {} MiB of text", text.len() >> 20);

    let sources = [Source::new("kong.yaml", text)];
    let step = |what: &str, since: Instant| println!("{what}: {} ms", since.elapsed().as_millis());
    let since = Instant::now();
    drop(declarative::parse(&sources[0].text).unwrap());
    step("parse alone (not counted again)", since);
    let all = Instant::now();
    let since = Instant::now();
    let snapshot = load(&sources, &registry, &settings).unwrap_or_else(|e| panic!("{}", e.render()));
    step("load", since);
    let (asked, used) = (ASKED.load(Relaxed), TAKEN.load(Relaxed));
    let since = Instant::now();
    let (ir, _, diagnostics) = lower(&snapshot, &registry, &settings);
    step("lower", since);
    let of_lowering = (ASKED.load(Relaxed) - asked, TAKEN.load(Relaxed) - used);
    let since = Instant::now();
    assert_eq!((ir.verify().len(), diagnostics.len()), (0, 0));
    step("verify", since);
    step("all", all);
    println!("of each of {count}: {} bytes asked for, {} taken", of_lowering.0 / count, of_lowering.1 / count);
    let (before, taken_before) = (ASKED.load(Relaxed), TAKEN.load(Relaxed));
    drop(snapshot);
    let of_snapshot = (before - ASKED.load(Relaxed), taken_before - TAKEN.load(Relaxed));
    println!("the snapshot held {} bytes asked for, {} taken, of each", of_snapshot.0 / count, of_snapshot.1 / count);
    let records = [("routes", ir.routes.len()), ("backends", ir.backends.len()), ("principals", ir.principals.len())];
    println!("{records:?} credentials {}", ir.credentials.len());
    edit_one(load(&sources, &registry, &settings).unwrap_or_else(|e| panic!("{}", e.render())), registry, settings);
    let mut ir = ir;
    freed("routes", &mut ir.routes);
    freed("backends", &mut ir.backends);
    freed("principals", &mut ir.principals);
    freed("credentials", &mut ir.credentials);
}

/// A change of one entity, as the Admin API makes it, and a reload in which nothing changed.
fn edit_one(snapshot: Snapshot, registry: Registry, settings: Settings) {
    let since = Instant::now();
    let (again, ..) = lower(&snapshot, &registry, &settings);
    let mut lowered = Lowered::new(snapshot, Arc::new(registry), Arc::new(settings));
    let verified = Verified::new(Arc::new(lowered.ir().clone())).unwrap();
    println!("a state to edit: {} ms", since.elapsed().as_millis());
    let since = Instant::now();
    let nothing = lowered.ir().diff(&again);
    println!("difference to the generation before: {} ms", since.elapsed().as_millis());
    assert!(nothing.is_empty());
    drop(again);
    let kind = if lowered.ir().routes.is_empty() { "consumers" } else { "routes" };
    let mut entity = lowered.snapshot().of(kind).nth(777).unwrap().clone();
    entity.value.insert("tags".into(), vec!["edited"].into());
    let before = lowered.ir().clone();
    let since = Instant::now();
    lowered.edit([Edit::Put(kind, entity)]);
    let edited = since.elapsed();
    let next = Arc::new(lowered.ir().clone());
    let since = Instant::now();
    let delta = before.diff(&next);
    let found = since.elapsed();
    let since = Instant::now();
    drop(verified.advance(Arc::clone(&next), &delta).unwrap());
    println!("one edit: {} us, verified in {} us", edited.as_micros(), since.elapsed().as_micros());
    println!("{} records changed, found in {} us", delta.len(), found.as_micros());
}

/// What a table held, for each of its records.
fn freed<T>(what: &str, table: &mut cardinal_ir::Table<T>) {
    let count = table.len().max(1);
    let (asked, used) = (ASKED.load(Relaxed), TAKEN.load(Relaxed));
    drop(std::mem::take(table));
    let (asked, used) = (asked - ASKED.load(Relaxed), used - TAKEN.load(Relaxed));
    println!("{what}: {} bytes a record asked for, {} taken", asked / count, used / count);
}
