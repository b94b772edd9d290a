//! Finding a route allocates nothing.

#![allow(unsafe_code, reason = "an allocator that counts can only be written so")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use cardinal_ir::{
    Criteria, HeaderMatch, HostMatch, HostPattern, Id, ImpliedPort, Matches, Origin, PathMatch, Rank, Route, TextMatch,
    Traffic, Wire,
};
use cardinal_route::{Headers, Request, Router, expression, normalize_path, split_host, upstream_uri::Parts};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Sent;

impl Headers for Sent {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
        if name == "x-version" {
            let _done = visit(b"V2");
        }
    }
}

fn route(number: u128, matches: Matches) -> (Id, Arc<Route>) {
    let route = Route {
        origin: Origin::default(),
        group: None,
        rank: Rank { weight: number, tie: number },
        traffic: Traffic::Http,
        matches,
        ..Route::default()
    };
    (Id::from_u128(number), Arc::new(route))
}

fn router() -> Router {
    let host = |pattern| vec![HostMatch { host: pattern, port: None, implied_port: ImpliedPort::default() }];
    let prefix = |path: &str| vec![PathMatch::Prefix(path.into())];
    let routes = (1..2000_u128).map(|number| {
        let hosts = match number % 4 {
            0 => host(HostPattern::Exact(format!("h{number}.example.com").into())),
            1 => host(HostPattern::Suffix(format!(".h{number}.example.com").into())),
            2 => host(HostPattern::Prefix(format!("h{number}.").into())),
            _ => Vec::new(),
        };
        let paths = if number % 3 == 0 { prefix(&format!("/p{number}")) } else { prefix("/") };
        route(number, Matches::from(Criteria { hosts, paths, ..Criteria::default() }))
    });
    let pattern = Criteria { paths: vec![PathMatch::Regex(r"/users/(?<id>\d+)".into())], ..Criteria::default() };
    let header = HeaderMatch { name: "x-version".into(), any_of: vec![TextMatch::Regex("^v2$".into())] };
    let header = Criteria { paths: prefix("/versions"), headers: vec![header], ..Criteria::default() };
    let predicate = expression::parse(r#"http.path ^= "/e" && lower(http.headers.x_version) == "v2""#).unwrap();
    let others = [
        route(5000, Matches::from(pattern)),
        route(5001, Matches::from(header)),
        route(5002, Matches::Predicate(predicate)),
    ];
    let (router, diagnostics) = Router::from_routes(routes.chain(others));
    assert!(diagnostics.is_empty());
    router
}

/// From the raw head to the upstream path; returns the rank of the match.
fn serve(router: &Router, host: &str, path: &str, out: &mut Vec<u8>) -> Option<u128> {
    let (host, port) = split_host(host);
    let path = normalize_path(path.as_bytes());
    let found = router.find(&Request {
        wire: Wire::Http,
        method: "GET",
        host: Some(&host),
        host_port: port,
        path: &path,
        query: b"a=1",
        headers: &Sent,
        sni: None,
        source: SocketAddr::from(([10, 0, 0, 1], 4000)),
        destination: SocketAddr::from(([10, 0, 0, 2], port.unwrap_or(80))),
    })?;
    let handling = found.route.rewrite.path_handling;
    out.clear();
    Parts { base: "/base", path: &path, matched: found.path_len, strip: true, handling }.write(out);
    Some(found.route.rank.weight)
}

#[test]
fn finding_allocates_nothing() {
    let router = router();
    let mut out = Vec::with_capacity(256);
    let requests = [
        ("h8.example.com", "/x", 1999),
        ("a.h1801.example.com:8080", "/p1801/x", 1999),
        ("h1902.net", "/", 1999),
        ("other", "/p1995/x", 1999),
        ("other", "/users/42/x", 5000),
        ("other", "/versions/1", 5001),
        ("other", "/e/%2F", 5002),
    ];
    for round in 0..3 {
        for (host, path, weight) in requests {
            let before = COUNT.with(Cell::get);
            let found = serve(&router, host, path, &mut out);
            let allocations = COUNT.with(Cell::get) - before;
            assert_eq!(found, Some(weight), "{host} {path}");
            // In the first round, patterns make their scratch space.
            assert!(round == 0 || allocations == 0, "{host} {path}: {allocations} allocations");
        }
    }
}
