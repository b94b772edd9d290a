//! The rules of resolution, with a scripted DNS client.

use std::collections::HashMap;
use std::sync::Mutex;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::*;
use crate::dns::{Data, Found, Kind};

/// A DNS client that answers from a table, records queries, and can be paused.
#[derive(Clone, Debug)]
struct Script(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Mutex<HashMap<(String, Kind), Result<Found, DnsError>>>,
    asked: Mutex<Vec<String>>,
    gate: Semaphore,
}

impl Script {
    fn new() -> Self {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner { table: Mutex::default(), asked: Mutex::default(), gate }))
    }

    fn set(&self, name: &str, kind: Kind, result: Result<Found, DnsError>) {
        self.0.table.lock().unwrap().insert((name.to_owned(), kind), result);
    }

    fn a(&self, name: &str, ttl_s: u32, ips: &[&str]) {
        let data = ips.iter().map(|ip| Data::Ip(ip.parse().unwrap())).collect();
        self.set(name, Kind::A, Ok(Found { data, ttl_s }));
    }

    fn srv(&self, name: &str, ttl_s: u32, records: &[(u16, u16, u16, &str)]) {
        let data = records
            .iter()
            .map(|(priority, weight, port, target)| Data::Srv {
                priority: *priority,
                weight: *weight,
                port: *port,
                target: (*target).into(),
            })
            .collect();
        self.set(name, Kind::Srv, Ok(Found { data, ttl_s }));
    }

    /// The queries since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.asked.lock().unwrap())
    }

    /// Pauses queries until `open`.
    fn close(&self) {
        self.0.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn open(&self) {
        self.0.gate.add_permits(100_000);
    }
}

impl Lookup for Script {
    fn lookup<'a>(&'a self, name: &'a str, kind: Kind) -> BoxFuture<'a, Result<Found, DnsError>> {
        async move {
            self.0.asked.lock().unwrap().push(format!("{name} {kind:?}"));
            let _permit = self.0.gate.acquire().await;
            let table = self.0.table.lock().unwrap();
            table.get(&(name.to_owned(), kind)).cloned().unwrap_or(Err(DnsError::NotFound))
        }
        .boxed()
    }
}

#[tokio::test]
async fn types_are_tried_in_order_and_the_last_successful_one_first() {
    let (wire, clock) = (Script::new(), clock());
    wire.a("a.example", 10, &["10.0.0.1", "10.0.0.2"]);
    let dns = dns(&settings(), &clock, wire.clone());
    assert_eq!(text(&dns.resolve("A.example", 80).await), "10.0.0.1:80 10.0.0.2:80");
    assert_eq!(wire.asked(), ["a.example Srv", "a.example A"]);
    assert_eq!(text(&Ok(dns.cached("a.example", 81).unwrap())), "10.0.0.1:81 10.0.0.2:81");
    // Expired beyond the stale time: a new query, for the type of the last answer.
    clock.advance(seconds(100));
    assert!(dns.cached("a.example", 80).is_none());
    assert!(dns.resolve("a.example", 80).await.is_ok());
    assert_eq!(wire.asked(), ["a.example A"]);
}

#[tokio::test]
async fn the_last_failure_is_told_and_remembered() {
    let (wire, clock) = (Script::new(), clock());
    let dns = dns(&settings(), &clock, wire.clone());
    assert_eq!(dns.resolve("no.example", 80).await.unwrap_err(), DnsError::NotFound);
    assert_eq!(wire.asked(), ["no.example Srv", "no.example A", "no.example Aaaa", "no.example Cname"]);
    assert_eq!(dns.resolve("no.example", 80).await.unwrap_err(), DnsError::NotFound);
    assert_eq!(wire.asked(), [""; 0]);
    clock.advance(seconds(30));
    wire.set("no.example", Kind::Cname, Err(DnsError::Empty));
    assert_eq!(dns.resolve("no.example", 80).await.unwrap_err(), DnsError::Empty);
}

#[tokio::test]
async fn silence_ends_the_search_and_a_servers_failure_does_not() {
    let (wire, clock) = (Script::new(), clock());
    wire.set("dead.example", Kind::Srv, Err(DnsError::Unreachable("timeout")));
    wire.set("ill.example", Kind::Srv, Err(DnsError::Server { code: 2 }));
    wire.a("ill.example", 10, &["10.0.0.1"]);
    let dns = dns(&settings(), &clock, wire.clone());
    assert_eq!(text(&dns.resolve("dead.example", 80).await), "no answer from a DNS server: timeout");
    assert_eq!(wire.asked(), ["dead.example Srv"]);
    assert_eq!(text(&dns.resolve("ill.example", 80).await), "10.0.0.1:80");
}

#[tokio::test]
async fn srv_records_lead_to_the_addresses_of_the_preferred_targets() {
    let (wire, clock) = (Script::new(), clock());
    let records = [
        (2, 1, 9_000, "later.example."),
        (1, 7, 8_000, "One.example."),
        (1, 0, 0, "two.example."),
        (1, 9, 1, "gone.example."),
    ];
    wire.srv("s.example", 100, &records);
    wire.a("one.example.", 50, &["10.0.0.1", "10.0.0.2"]);
    wire.a("two.example.", 70, &["10.0.0.3"]);
    let dns = dns(&settings(), &clock, wire.clone());
    let answer = dns.resolve("s.example", 80).await;
    assert_eq!(text(&answer), "10.0.0.1:8000/7 10.0.0.2:8000/7 10.0.0.3:80/0");
    let answer = answer.unwrap();
    let shared: Vec<(u32, &str)> = answer.addresses().map(|a| (a.shared_by, &**a.srv_target.unwrap())).collect();
    assert_eq!(shared, [(2, "one.example"), (2, "one.example"), (1, "two.example")]);
    // The minimum TTL is used.
    assert_eq!(answer.expires().millis(), 50_000);
    assert!(!wire.asked().contains(&"later.example. A".to_owned()));
}

#[tokio::test]
async fn srv_records_that_lead_back_are_passed_over() {
    let (wire, clock) = (Script::new(), clock());
    wire.srv("loop.example", 100, &[(1, 1, 80, "loop.example.")]);
    wire.a("loop.example", 100, &["10.0.0.1"]);
    let dns = dns(&settings(), &clock, wire.clone());
    assert_eq!(text(&dns.resolve("loop.example", 80).await), "10.0.0.1:80");
}

#[tokio::test]
async fn aliases_are_followed_but_not_for_ever() {
    let (wire, clock) = (Script::new(), clock());
    let cname = |to: &str| Ok(Found { data: vec![Data::Cname(to.into())], ttl_s: 5 });
    wire.set("alias.example", Kind::Cname, cname("real.example"));
    wire.a("real.example.", 10, &["10.0.0.1"]);
    wire.set("ping.example", Kind::Cname, cname("pong.example"));
    wire.set("pong.example.", Kind::Cname, cname("ping.example"));
    wire.set("ping.example.", Kind::Cname, cname("pong.example"));
    let dns = dns(&settings(), &clock, wire.clone());
    let answer = dns.resolve("alias.example", 80).await.unwrap();
    assert_eq!((text(&Ok(answer.clone())).as_str(), answer.expires().millis()), ("10.0.0.1:80", 5_000));
    assert_eq!(dns.resolve("ping.example", 80).await.unwrap_err(), DnsError::Recursion);
}

#[tokio::test]
async fn requests_for_one_name_share_a_question() {
    let (wire, clock) = (Script::new(), clock());
    wire.a("a.example", 0, &["10.0.0.1"]);
    wire.close();
    let dns = dns(&Resolver { order: vec!["A".into()], ..settings() }, &clock, wire.clone());
    let many: Vec<_> = (0..20).map(|port| dns.resolve("a.example", port)).collect();
    let all = futures_util::future::join_all(many);
    let (all, ()) = tokio::join!(all, async {
        settle().await;
        wire.open();
    });
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(wire.asked(), ["a.example A"]);
    // TTL 0: the next request sends a query again.
    assert!(dns.cached("a.example", 80).is_none());
    assert!(dns.resolve("a.example", 80).await.is_ok());
    assert_eq!(wire.asked(), ["a.example A"]);
}

#[tokio::test]
async fn too_many_lookups_at_once_are_refused() {
    let (wire, clock) = (Script::new(), clock());
    wire.a("n0.example", 100, &["10.0.0.1"]);
    wire.close();
    let dns = dns(&settings(), &clock, wire.clone());
    let names: Vec<String> = (0..1_024).map(|i| format!("n{i}.example")).collect();
    let flying = futures_util::future::join_all(names.iter().map(|name| dns.resolve(name, 80)));
    let (_, ()) = tokio::join!(flying, async {
        assert_eq!(dns.resolve("one-too-many.example", 80).await.unwrap_err(), DnsError::Busy);
        // Requests that only join a lookup in progress are not limited.
        let (joined, ()) = tokio::join!(dns.resolve("n0.example", 80), async { wire.open() });
        assert!(joined.is_ok());
    });
    assert_eq!(dns.resolve("one-too-many.example", 80).await.unwrap_err(), DnsError::NotFound);
}

#[tokio::test]
async fn stale_answers_are_served_at_once_and_refreshed_behind() {
    let (wire, clock) = (Script::new(), clock());
    wire.a("a.example", 10, &["10.0.0.1"]);
    let dns = dns(&settings(), &clock, wire.clone());
    assert!(dns.resolve("a.example", 80).await.is_ok());
    clock.advance(seconds(11));
    wire.a("a.example", 10, &["10.0.0.2"]);
    assert_eq!(text(&dns.resolve("a.example", 80).await), "10.0.0.1:80");
    settle().await;
    assert_eq!(text(&dns.resolve("a.example", 80).await), "10.0.0.2:80");
}

#[tokio::test]
async fn addresses_and_bad_names_need_no_server() {
    let (wire, clock) = (Script::new(), clock());
    let dns = dns(&settings(), &clock, wire.clone());
    assert_eq!(text(&dns.resolve("10.1.2.3", 80).await), "10.1.2.3:80");
    assert_eq!(text(&dns.resolve("[2001:DB8::1]", 80).await), "[2001:db8::1]:80");
    assert_eq!(text(&dns.resolve("localhost", 80).await), "127.0.0.1:80");
    assert_eq!(dns.resolve("", 80).await.unwrap_err(), DnsError::Name);
    assert_eq!(dns.resolve(&"x".repeat(255), 80).await.unwrap_err(), DnsError::Name);
    assert_eq!(wire.asked(), [""; 0]);
}

#[tokio::test]
async fn a_lookup_that_panics_ends_with_a_failure() {
    #[derive(Debug)]
    struct Broken;
    impl Lookup for Broken {
        fn lookup<'a>(&'a self, _: &'a str, _: Kind) -> BoxFuture<'a, Result<Found, DnsError>> {
            async { panic!("on purpose") }.boxed()
        }
    }
    let clock = clock();
    let dns = dns(&settings(), &clock, Broken);
    for _ in 0..2 {
        assert!(matches!(dns.resolve("a.example", 80).await, Err(DnsError::Unreachable(_))));
        clock.advance(seconds(2));
    }
}

#[tokio::test]
async fn the_order_is_checked() {
    for (order, ok) in [(vec!["last", "a"], true), (vec!["MX"], false), (vec!["LAST"], false), (vec![], false)] {
        let settings = Resolver { order: order.iter().map(|s| (*s).into()).collect(), ..settings() };
        let made = Dns::with_lookup(&settings, clock(), Handle::current(), Box::new(Script::new()));
        assert_eq!(made.is_ok(), ok, "{order:?}");
    }
}

/// The results reported to a watch.
fn told(dns: &Dns, host: &str) -> (crate::dns::WatchGuard, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let guard = dns.watch(host, 80, move |result| sink.lock().unwrap().push(text(result)));
    (guard, told)
}

fn take(told: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut told.lock().unwrap())
}

#[tokio::test]
async fn a_watch_is_told_of_changes_only() {
    let (wire, clock) = (Script::new(), clock());
    wire.a("a.example", 10, &["10.0.0.1"]);
    let dns = dns(&settings(), &clock, wire.clone());
    let (guard, told) = told(&dns, "a.example");
    settle().await;
    assert_eq!(take(&told), ["10.0.0.1:80"]);
    let step = async |advance| {
        clock.advance(seconds(advance));
        dns.maintain();
        settle().await;
        take(&told)
    };
    wire.asked();
    assert_eq!(step(9).await, [""; 0]);
    assert_eq!(wire.asked(), [""; 0]);
    // Expired: queried again; with the same answer, the callback is not called.
    assert_eq!(step(1).await, [""; 0]);
    assert_eq!(wire.asked(), ["a.example A"]);
    wire.a("a.example", 10, &["10.0.0.2"]);
    assert_eq!(step(10).await, ["10.0.0.2:80"]);
    // A failing server: the stale answer is kept for its time, then the failure is reported once.
    for kind in [Kind::Srv, Kind::A, Kind::Aaaa, Kind::Cname] {
        wire.set("a.example", kind, Err(DnsError::Server { code: 2 }));
    }
    for _ in 0..68 {
        assert_eq!(step(1).await, [""; 0]);
    }
    let mut later = Vec::new();
    for _ in 0..10 {
        later.extend(step(1).await);
    }
    assert_eq!(later, ["dns server error: 2 server failure"]);
    wire.a("a.example", 10, &["10.0.0.2"]);
    assert_eq!(step(1).await, ["10.0.0.2:80"]);
    drop(guard);
    wire.asked();
    assert_eq!(step(100).await, [""; 0]);
    assert_eq!(wire.asked(), [""; 0]);
}

#[tokio::test]
async fn a_watch_of_ttl_zero_asks_once_a_second() {
    let (wire, clock) = (Script::new(), clock());
    wire.a("a.example", 0, &["10.0.0.1"]);
    let dns = dns(&Resolver { order: vec!["A".into()], ..settings() }, &clock, wire.clone());
    let (_guard, told) = told(&dns, "a.example");
    settle().await;
    for _ in 0..40 {
        clock.advance(Duration::from_millis(100));
        dns.maintain();
        settle().await;
    }
    assert_eq!(take(&told), ["10.0.0.1:80"]);
    let asked = wire.asked().len();
    assert!((4..=6).contains(&asked), "{asked}");
}

#[tokio::test]
async fn the_hosts_file_goes_first_and_is_read_again_when_it_changes() {
    let path = std::env::temp_dir().join(format!("cardinal-hosts-{}", cardinal_base::Id::new_v4()));
    std::fs::write(&path, "10.9.9.9 a.example\n").unwrap();
    let (wire, clock) = (Script::new(), clock());
    wire.a("a.example", 10, &["10.0.0.1"]);
    let settings = Resolver { hosts_file: path.to_str().unwrap().into(), ..settings() };
    let dns = dns(&settings, &clock, wire.clone());
    let (_guard, told) = told(&dns, "a.example");
    assert_eq!(take(&told), ["10.9.9.9:80"]);
    assert_eq!(text(&dns.resolve("a.example", 80).await), "10.9.9.9:80");
    // Another length, since the file system's clock may be coarse.
    std::fs::write(&path, "10.9.9.10 a.example # moved\n").unwrap();
    clock.advance(seconds(5));
    dns.maintain();
    assert_eq!(take(&told), ["10.9.9.10:80"]);
    std::fs::remove_file(&path).unwrap();
    clock.advance(seconds(5));
    dns.maintain();
    settle().await;
    assert_eq!(take(&told), ["10.0.0.1:80"]);
}
