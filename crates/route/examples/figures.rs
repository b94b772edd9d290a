//! What the router costs: times, memory and, under callgrind, instructions.
//!
//! `figures [MOST]` prints a table of all sets, with up to so many routes; `figures find SET ROUTES TIMES` builds a set
//! and finds so often, for `valgrind --tool=callgrind`.

#![allow(unsafe_code, reason = "an allocator that counts can only be written so")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "an example measures and prints")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cardinal_ir::{
    Criteria, HostMatch, HostPattern, Id, ImpliedPort, Ir, Matches, Origin, PathMatch, Rank, Route, Traffic, Wire,
};
use cardinal_route::{NoHeaders, Request, Router};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SETS: [&str; 7] = ["hosts", "paths", "both", "same", "bench", "mixed", "regexes"];

/// A route of a set, and a request for it.
struct Sample {
    host: String,
    path: String,
    matches: Matches,
    weight: u128,
}

fn sample(set: &str, number: usize) -> Sample {
    let (host, prefix, regex) = match set {
        "hosts" => (Some(format!("h{number}.example.com")), "/".to_owned(), None),
        "paths" => (None, format!("/api/p{number:06}/x"), None),
        "both" => (Some(format!("h{}.example.com", number / 100)), format!("/api/p{:03}/x", number % 100), None),
        "same" => (Some("same.example.com".to_owned()), "/".to_owned(), None),
        "regexes" => (Some("api.example.com".to_owned()), format!("/r{number:06}/1"), Some("/\\d+$")),
        "bench" => (Some(format!("host{}.example.com", number / 4)), format!("/api/v{}/", number % 4), None),
        _ => match number % 10 {
            0 => (None, format!("/open/{number}"), None),
            1 => (Some(format!("a.w{number}.example.com")), format!("/wild/{number}"), None),
            2 => (Some(format!("r{}.example.com", number / 50)), format!("/r{number}/1"), Some("/[0-9]$")),
            _ => (Some(format!("h{}.example.com", number / 50)), format!("/api/{}/{number}", number % 7), None),
        },
    };
    let path = match regex {
        Some(rest) => PathMatch::Regex(format!("{}{rest}", &prefix[..prefix.len() - 2]).into()),
        None => PathMatch::Prefix(prefix.as_str().into()),
    };
    let pattern = |host: &String| match host.strip_prefix("a.w") {
        Some(rest) => HostPattern::Suffix(format!(".w{rest}").into()),
        None => HostPattern::Exact(host.as_str().into()),
    };
    let hosts = host
        .iter()
        .map(|host| HostMatch { host: pattern(host), port: None, implied_port: ImpliedPort::default() })
        .collect();
    let weight = 1 << 61 | prefix.len() as u128;
    let conditions = Criteria { hosts, paths: vec![path], ..Criteria::default() };
    let path = if regex.is_some() { prefix } else { prefix + "items" };
    let matches = Matches::from(conditions);
    Sample { host: host.unwrap_or_else(|| "other.example.com".to_owned()), path, matches, weight }
}

/// Ids without an order, as real ones are.
fn id(number: usize) -> Id {
    let mixed = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    Id::from_u128(mixed)
}

fn route(set: &str, number: usize) -> Route {
    let sample = sample(set, number);
    Route {
        origin: Origin::default(),
        group: None,
        rank: Rank { weight: sample.weight, tie: id(number).as_u128() },
        traffic: Traffic::Http,
        matches: sample.matches,
        ..Route::default()
    }
}

fn generation(set: &str, count: usize) -> Ir {
    let mut ir = Ir::default();
    for number in 0..count {
        ir.routes.insert(id(number), route(set, number));
    }
    ir
}

fn requests(set: &str, count: usize) -> Vec<(String, String)> {
    // A stride without a common factor: each request is far from the last.
    let order = (0..count).map(|at| at * 7919 % count);
    order
        .map(|number| {
            let Sample { host, path, .. } = sample(set, number);
            (host, path)
        })
        .collect()
}

fn find(router: &Router, (host, path): &(String, String)) -> bool {
    let request = Request {
        wire: Wire::Http,
        method: "GET",
        host: Some(host),
        host_port: None,
        path: path.as_bytes(),
        query: b"",
        headers: &NoHeaders,
        sni: None,
        source: SocketAddr::from(([10, 0, 0, 1], 4000)),
        destination: SocketAddr::from(([10, 0, 0, 2], 80)),
    };
    black_box(router.find(black_box(&request))).is_some()
}

fn ms<T>(what: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let value = what();
    (start.elapsed().as_secs_f64() * 1e3, value)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds for one request, over all requests of the set in turn.
fn find_ns(router: &Router, requests: &[(String, String)]) -> f64 {
    let round = || {
        let count = 100_000;
        let (spent, found) = ms(|| requests.iter().cycle().take(count).filter(|one| find(router, one)).count());
        assert_eq!(found, count);
        spent * 1e6 / count as f64
    };
    median((0..5).map(|_| round()).collect())
}

/// Milliseconds for one edit and for dropping what it replaces, taken over a chain of generations.
fn edit_ms(router: &Router, ir: &Ir, mut edit: impl FnMut(&mut Ir, usize)) -> (f64, f64) {
    let mut ir = ir.clone();
    let (mut edits, mut drops) = (Vec::new(), Vec::new());
    let mut current = router.rebuild(&ir, Traffic::Http).0;
    for round in 0..15 {
        edit(&mut ir, round);
        let (spent, (next, diagnostics)) = ms(|| current.rebuild(&ir, Traffic::Http));
        assert!(diagnostics.is_empty());
        edits.push(spent);
        let old = std::mem::replace(&mut current, next);
        drops.push(ms(|| drop(old)).0);
    }
    (median(edits), median(drops))
}

fn report(set: &str, count: usize) {
    let ir = generation(set, count);
    let before = LIVE.load(Ordering::Relaxed);
    let (build, (router, diagnostics)) = ms(|| Router::build(&ir, Traffic::Http));
    let bytes = (LIVE.load(Ordering::Relaxed) - before) as f64 / count as f64;
    assert!(diagnostics.is_empty());
    let find = find_ns(&router, &requests(set, count));
    let (change, drops) = edit_ms(&router, &ir, |ir, round| {
        let number = round * 997 % count;
        let mut record = ir.routes.get(&id(number)).map(|route| Route::clone(route)).unwrap_or(route(set, number));
        record.rank.weight += 1;
        ir.routes.insert_shared(id(number), Arc::new(record));
    });
    let (add, _) = edit_ms(&router, &ir, |ir, round| {
        let number = count + round * 31;
        ir.routes.insert(id(number), route(set, number));
    });
    let (remove, _) = edit_ms(&router, &ir, |ir, round| {
        ir.routes.remove(&id(round * 31 % count));
    });
    let (all, _) = ms(|| drop(router));
    println!(
        "{set:8} {count:7} {build:9.2} {change:9.3} {add:9.3} {remove:9.3} {drops:9.3} {all:9.2} {bytes:9.0} {find:9.0}"
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        ["find", set, count, times] => {
            let (count, times) = (count.parse().unwrap_or(16), times.parse().unwrap_or(1));
            let (router, _) = Router::build(&generation(set, count), Traffic::Http);
            let requests = requests(set, count);
            let found = requests.iter().cycle().take(times).filter(|one| find(&router, one)).count();
            println!("{found} of {times}");
        }
        ref limits => {
            let most = limits.first().and_then(|limit| limit.parse().ok()).unwrap_or(100_000);
            println!("Milliseconds, but for bytes a route and nanoseconds a request.");
            println!("set       routes     build    change       add    remove  drop old  drop all  B/route  find ns");
            for set in SETS {
                for count in [16, 100, 10_000, 100_000] {
                    if count <= most {
                        report(set, count);
                    }
                }
            }
        }
    }
}
