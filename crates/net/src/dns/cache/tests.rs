use cardinal_base::{Rng, SeededRng};

use super::*;
use crate::dns::answer::Record;

fn settings() -> Resolver {
    Resolver { stale_ttl_s: 60, not_found_ttl_s: 30, error_ttl_s: 1, ..Resolver::default() }
}

fn at(seconds: u64) -> Tick {
    Tick::from_millis(seconds * 1_000)
}

/// An answer identified by its last byte.
fn found(n: u8, ttl_s: u32) -> Result<Fetched, DnsError> {
    let records = Records::One(Record::plain([10, 0, 0, n].into()));
    Ok(Fetched { records, ttl_s, kind: Kind::A })
}

/// The step as a short text: `serve 1`, `serve 1 + fetch`, `fail`, `wait`, `fetch`.
fn ask(cache: &mut DnsCache<()>, seconds: u64) -> String {
    short(&cache.ask("a", at(seconds), || ()))
}

fn short(step: &Step<()>) -> String {
    let last = |good: &Good| match good.records.as_slice()[0].ip {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => unreachable!(),
    };
    match step {
        Step::Serve(good) => format!("serve {}", last(good)),
        Step::ServeAndFetch(good, ()) => format!("serve {} + fetch", last(good)),
        Step::Fail(error) => format!("fail {error}"),
        Step::Wait(()) => "wait".into(),
        Step::Fetch(()) => "fetch".into(),
    }
}

#[test]
fn one_fetch_serves_all_that_ask_meanwhile() {
    let mut cache = DnsCache::new(&settings());
    assert_eq!(ask(&mut cache, 0), "fetch");
    assert_eq!(ask(&mut cache, 0), "wait");
    assert_eq!(cache.fetches(), 1);
    cache.fetched("a", found(1, 10), at(1)).unwrap();
    assert_eq!(cache.fetches(), 0);
    assert_eq!(ask(&mut cache, 1), "serve 1");
    assert!(cache.peek("a", at(10)).is_some());
    assert!(cache.peek("a", at(11)).is_none());
}

#[test]
fn an_expired_answer_is_served_while_a_new_one_is_fetched() {
    let mut cache = DnsCache::new(&settings());
    cache.fetched("a", found(1, 10), at(0)).unwrap();
    assert_eq!(ask(&mut cache, 10), "serve 1 + fetch");
    assert_eq!(ask(&mut cache, 10), "serve 1");
    cache.fetched("a", found(2, 10), at(11)).unwrap();
    assert_eq!(ask(&mut cache, 12), "serve 2");
    // After the stale time, the answer is removed.
    assert_eq!(ask(&mut cache, 81), "fetch");
}

#[test]
fn a_failing_server_does_not_take_a_stale_answer_away() {
    let mut cache = DnsCache::new(&settings());
    cache.fetched("a", found(1, 10), at(0)).unwrap();
    let failed = DnsError::Server { code: 2 };
    assert_eq!(ask(&mut cache, 20), "serve 1 + fetch");
    assert!(cache.fetched("a", Err(failed), at(20)).is_ok());
    assert_eq!(ask(&mut cache, 20), "serve 1");
    // One second later, another attempt is made.
    assert_eq!(ask(&mut cache, 21), "serve 1 + fetch");
    assert_eq!(cache.fetched("a", Err(failed), at(70)), Err(failed));
    assert_eq!(ask(&mut cache, 70), "fail dns server error: 2 server failure");
}

#[test]
fn no_such_name_takes_the_stale_answer_away() {
    let mut cache = DnsCache::new(&settings());
    cache.fetched("a", found(1, 10), at(0)).unwrap();
    assert_eq!(cache.fetched("a", Err(DnsError::NotFound), at(20)), Err(DnsError::NotFound));
    assert_eq!(ask(&mut cache, 49), "fail dns server error: 3 name error");
    assert_eq!(ask(&mut cache, 50), "fetch");
}

#[test]
fn ttl_zero_is_fetched_each_time_and_stale_only_on_failure() {
    let mut cache = DnsCache::new(&settings());
    cache.fetched("a", found(1, 0), at(0)).unwrap();
    assert!(cache.peek("a", at(0)).is_none());
    assert_eq!(ask(&mut cache, 0), "fetch");
    assert_eq!(ask(&mut cache, 0), "wait");
    assert!(cache.fetched("a", Err(DnsError::Unreachable("timeout")), at(5)).is_ok());
    assert_eq!(ask(&mut cache, 5), "serve 1");
    assert_eq!(ask(&mut cache, 6), "fetch");
}

#[test]
fn a_configured_ttl_replaces_that_of_the_answer() {
    let mut cache: DnsCache<()> = DnsCache::new(&Resolver { valid_ttl_s: Some(5), ..settings() });
    cache.fetched("a", found(1, 1_000), at(0)).unwrap();
    assert!(cache.peek("a", at(4)).is_some() && cache.peek("a", at(5)).is_none());
}

#[test]
fn the_least_recently_used_names_go_first() {
    let mut cache: DnsCache<()> = DnsCache::new(&Resolver { names_max: 32, ..settings() });
    for i in 0..32_u64 {
        cache.fetched(&format!("n{i}"), found(1, 1_000), at(0)).unwrap();
        assert!(cache.peek(&format!("n{i}"), Tick(i)).is_some());
    }
    // The oldest name is used again, so the next oldest ones are evicted.
    assert!(cache.peek("n0", Tick(100)).is_some());
    assert_eq!(cache.ask("new", Tick(101), || ()), Step::Fetch(()));
    assert_eq!(cache.len(), 30);
    let held = |i: u64| cache.peek(&format!("n{i}"), Tick(102)).is_some();
    assert!(held(0) && !held(1) && !held(2) && !held(3) && (4..32).all(held));
}

#[test]
fn dead_names_go_before_living_ones() {
    let mut cache: DnsCache<()> = DnsCache::new(&Resolver { names_max: 2, ..settings() });
    cache.fetched("old", found(1, 1_000), at(0)).unwrap();
    cache.fetched("dead", Err(DnsError::NotFound), at(1)).unwrap_err();
    cache.fetched("new", found(1, 1_000), at(40)).unwrap();
    assert!(cache.peek("old", at(41)).is_some() && cache.peek("new", at(41)).is_some());
}

/// A naive cache for one name.
#[derive(Clone, Copy, Default)]
struct Naive {
    good: Option<(u8, u64, u32)>,
    bad: Option<(DnsError, u64)>,
    fetching: bool,
}

impl Naive {
    fn ask(&mut self, now: u64) -> String {
        let fresh = self.good.filter(|(_, since, ttl)| now < since + u64::from(*ttl));
        let usable = self.good.filter(|(_, since, ttl)| now < since + u64::from(*ttl) + 60);
        let failing = self.bad.filter(|(e, since)| now < since + if e.is_definite() { 30 } else { 1 });
        let was_fetching = self.fetching;
        match (failing, fresh, usable) {
            (Some(_), _, Some((n, ..))) | (None, Some((n, ..)), _) => format!("serve {n}"),
            (Some((error, _)), _, None) => format!("fail {error}"),
            (None, None, Some((n, _, ttl))) if ttl > 0 => {
                self.fetching = true;
                if was_fetching { format!("serve {n}") } else { format!("serve {n} + fetch") }
            }
            _ => {
                self.fetching = true;
                if was_fetching { "wait".into() } else { "fetch".into() }
            }
        }
    }

    fn fetched(&mut self, result: Result<(u8, u32), DnsError>, now: u64) {
        self.fetching = false;
        match result {
            Ok((n, ttl)) => (self.good, self.bad) = (Some((n, now, ttl)), None),
            Err(error) => {
                self.bad = Some((error, now));
                if error == DnsError::NotFound {
                    self.good = None;
                }
            }
        }
    }
}

#[test]
fn agrees_with_a_naive_memory_in_simulation() {
    let failures =
        [DnsError::NotFound, DnsError::Empty, DnsError::Server { code: 2 }, DnsError::Unreachable("timeout")];
    for seed in 0..100 {
        let mut rng = SeededRng::new(seed);
        let mut cache: DnsCache<()> = DnsCache::new(&settings());
        let mut naive = [Naive::default(); 3];
        let mut now = 0;
        for step in 0..2_000_u32 {
            now += rng.below(4) * rng.below(8);
            let i = rng.below(3) as usize;
            let host = format!("host{i}");
            if rng.below(3) > 0 {
                assert_eq!(short(&cache.ask(&host, at(now), || ())), naive[i].ask(now), "seed {seed} step {step}");
            } else if naive[i].fetching {
                let result = match rng.below(6) {
                    kind @ 0..4 => Err(failures[kind as usize]),
                    _ => Ok((step as u8, [0, 5, 30, 300][rng.below(4) as usize])),
                };
                cache.fetched(&host, result.and_then(|(n, ttl_s)| found(n, ttl_s)), at(now)).ok();
                naive[i].fetched(result, now);
            }
            assert_eq!(cache.fetches(), naive.iter().filter(|n| n.fetching).count());
            let fresh = naive[i].good.is_some_and(|(_, since, ttl)| now < since + u64::from(ttl));
            assert_eq!(cache.peek(&host, at(now)).is_some(), fresh, "seed {seed} step {step}");
        }
    }
}

#[test]
fn the_bound_holds_in_simulation() {
    let mut rng = SeededRng::new(5);
    let mut cache: DnsCache<()> = DnsCache::new(&Resolver { names_max: 50, ..settings() });
    let mut flying: Vec<String> = Vec::new();
    for now in 0..5_000 {
        let host = format!("host{}", rng.below(1_000));
        if matches!(cache.ask(&host, at(now), || ()), Step::Fetch(()) | Step::ServeAndFetch(..)) {
            flying.push(host);
        }
        if flying.len() > 10 {
            let host = flying.remove(rng.below(10) as usize);
            cache.fetched(&host, found(1, 100), at(now)).unwrap();
        }
        assert_eq!(cache.fetches(), flying.len());
        assert!(cache.len() <= 61, "{}", cache.len());
    }
}
