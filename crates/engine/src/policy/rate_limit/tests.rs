use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cardinal_base::{Rng as _, SeededRng};
use cardinal_http::ResponseHead;
use cardinal_ir::policy::{RatePeriod, RateWindow, Windows};
use cardinal_ir::{Id, Origin, PolicySpec, Principal};
use cardinal_plugins_traffic::rate_limiting::PLUGIN;
use cardinal_sdk::testing::{self, Bench};
use cardinal_sdk::{CredentialRef, PrincipalEntry, ReplyBody, Source};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::policy::tests::{bench, bench_of, built, lowered};

/// Sends a request; returns its outcome and the rate limit headers of the response.
async fn send(bench: &mut Bench) -> String {
    let reply = bench.request().await;
    let mut head = ResponseHead::new(200);
    bench.response(&mut head, if reply.is_some() { Source::Local } else { Source::Upstream });
    let headers: Vec<String> = head
        .headers
        .iter()
        .map(|(name, value)| format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)))
        .collect();
    let verdict = match reply {
        None => "passed".to_owned(),
        Some(Reply { status, body: ReplyBody::Error(message), .. }) => format!("{status} {message}"),
        Some(other) => panic!("{other:?}"),
    };
    format!("{verdict} | {}", headers.join(" | "))
}

/// Sends a new request; returns whether it was allowed.
async fn passes(bench: &mut Bench, target: &str, header: Option<(&str, &str)>) -> bool {
    bench.get(target);
    if let Some((name, value)) = header {
        bench.header(name, value);
    }
    bench.request().await.is_none()
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused_until_the_window_ends() {
    let mut bench = limiting(&PLUGIN, json!({"minute": 2}));
    let minute = |left| {
        format!(
            "X-RateLimit-Limit-Minute: 2 | X-RateLimit-Remaining-Minute: {left} | RateLimit-Limit: 2 | \
             RateLimit-Remaining: {left} | RateLimit-Reset: 40"
        )
    };
    assert_eq!(send(&mut bench).await, format!("passed | {}", minute(1)));
    assert_eq!(send(&mut bench).await, format!("passed | {}", minute(0)));
    let refused = format!("429 API rate limit exceeded | {} | Retry-After: 40", minute(0));
    assert_eq!(send(&mut bench).await, refused);
    assert_eq!(send(&mut bench).await, refused);
    bench.clock.advance(Duration::from_secs(40));
    assert!(
        send(&mut bench).await.starts_with("passed | X-RateLimit-Limit-Minute: 2 | X-RateLimit-Remaining-Minute: 1")
    );
}

#[tokio::test]
async fn refusals_can_be_worded_and_headers_hidden() {
    let config = json!({"hour": 1, "error_code": 403, "error_message": "slow down", "hide_client_headers": true});
    let mut bench = limiting(&PLUGIN, config);
    assert_eq!(send(&mut bench).await, "passed | ");
    assert_eq!(send(&mut bench).await, "403 slow down | ");
}

#[tokio::test]
async fn refused_requests_are_not_counted_locally() {
    let mut bench = limiting(&PLUGIN, json!({"second": 1, "minute": 3}));
    for expect in [true, false, false] {
        assert_eq!(passes(&mut bench, "/", None).await, expect);
    }
    bench.clock.advance(Duration::from_secs(1));
    bench.get("/");
    assert!(send(&mut bench).await.contains("X-RateLimit-Remaining-Minute: 1"));
}

#[tokio::test]
async fn a_sliding_window_remembers_the_one_before() {
    let mut bench = limiting(&PLUGIN, json!({"minute": 10, "window_type": "sliding"}));
    for _ in 0..10 {
        assert!(passes(&mut bench, "/", None).await);
    }
    assert!(!passes(&mut bench, "/", None).await);
    // 2023-11-14T22:13:20Z; the next window starts 40 seconds later, and half of it is over after 70.
    bench.clock.advance(Duration::from_secs(40));
    assert!(!passes(&mut bench, "/", None).await);
    bench.clock.advance(Duration::from_secs(30));
    for expect in [true, true, true, true, true, false] {
        assert_eq!(passes(&mut bench, "/", None).await, expect);
    }
    bench.clock.advance(Duration::from_secs(120));
    bench.get("/");
    assert!(send(&mut bench).await.contains("X-RateLimit-Remaining-Minute: 9"), "an older window is forgotten");
}

fn principal(number: u128) -> Arc<PrincipalEntry> {
    let record = Principal {
        origin: Origin::default(),
        name: None,
        custom_id: None,
        groups: Vec::new(),
        tenant: None,
        document: "{}".into(),
    };
    Arc::new(PrincipalEntry {
        id: Id::from_u128(number),
        record: Arc::new(record),
        groups: [].into(),
        group_names: [].into(),
    })
}

#[tokio::test]
async fn requests_are_counted_by_what_the_configuration_says() {
    let credential = |id: &str| Some(CredentialRef::foreign(id, None));

    let mut bench = limiting(&PLUGIN, json!({"hour": 1, "limit_by": "header", "header_name": "X-Key"}));
    assert!(passes(&mut bench, "/", Some(("x-key", "a"))).await);
    assert!(!passes(&mut bench, "/", Some(("X-Key", "a"))).await);
    assert!(passes(&mut bench, "/", Some(("X-Key", "b"))).await);
    assert!(passes(&mut bench, "/", None).await, "without the header, by address");
    assert!(!passes(&mut bench, "/", None).await);
    assert!(passes(&mut bench, "/", Some(("x-key", "127.0.0.1"))).await, "a value is no address");
    assert!(!passes(&mut bench, "/", Some(("x-key", "127.0.0.1"))).await);

    let mut bench = limiting(&PLUGIN, json!({"hour": 1, "limit_by": "path", "path": "/a"}));
    assert!(passes(&mut bench, "/a?x", None).await);
    assert!(!passes(&mut bench, "/a", None).await);
    assert!(passes(&mut bench, "/b", None).await);
    assert!(!passes(&mut bench, "/c", None).await, "other paths count by address");

    let mut bench = limiting(&PLUGIN, json!({"hour": 1}));
    for (consumer, key, expect) in [(1, "x", true), (1, "y", false), (2, "x", true)] {
        bench.get("/");
        bench.exchange.identity.principal = Some(principal(consumer));
        bench.exchange.identity.credential = credential(key);
        assert_eq!(bench.request().await.is_none(), expect);
    }
    bench.get("/");
    bench.exchange.identity.credential = credential("z");
    assert!(bench.request().await.is_none(), "a credential without a consumer counts by itself");

    let mut bench = limiting(&PLUGIN, json!({"hour": 1, "limit_by": "credential"}));
    for (consumer, key, expect) in [(1, "x", true), (2, "x", false), (2, "y", true)] {
        bench.get("/");
        bench.exchange.identity.principal = Some(principal(consumer));
        bench.exchange.identity.credential = credential(key);
        assert_eq!(bench.request().await.is_none(), expect);
    }

    let mut bench = limiting(&PLUGIN, json!({"hour": 1, "limit_by": "service"}));
    for (service, expect) in [(1, true), (1, false), (2, true)] {
        bench.get("/");
        bench.exchange.backend = Some(testing::backend(Id::from_u128(service), None, "h", "{}"));
        assert_eq!(bench.request().await.is_none(), expect);
    }

    let mut bench = limiting(&PLUGIN, json!({"hour": 1, "limit_by": "ip"}));
    for (ip, expect) in [("10.0.0.1", true), ("10.0.0.1", false), ("::1", true)] {
        bench.get("/");
        bench.exchange.client.ip = ip.parse().unwrap();
        assert_eq!(bench.request().await.is_none(), expect);
    }
}

#[tokio::test]
async fn counters_survive_a_new_configuration() {
    let mut bench = limiting(&PLUGIN, json!({"hour": 2}));
    assert!(passes(&mut bench, "/", None).await);
    bench.filter = built(&lowered(&PLUGIN, &json!({"hour": 1})), 1, &bench.services).unwrap();
    assert!(!passes(&mut bench, "/", None).await);
}

/// The same as [`bench`], for tests with a local variable of that name.
fn limiting(plugin: &'static cardinal_sdk::PluginDef, config: Value) -> Bench {
    bench(plugin, config)
}

fn bucket(tokens: u32, interval_ms: u64) -> RateLimit {
    let headers = |name: &str, value: &str| vec![(name.into(), value.into())];
    RateLimit {
        limiter: Limiter::Bucket(TokenBucket { tokens, interval_ms }),
        message: "too many".into(),
        set_headers: headers("x-limited", "yes"),
        add_headers: headers("x-limited", "very"),
        ..RateLimit::default()
    }
}

#[tokio::test]
async fn a_bucket_is_filled_after_each_interval() {
    let mut bench = bench_of(PolicySpec::RateLimit(bucket(2, 500)));
    bench.clock.advance(Duration::from_millis(700));
    for (wait_ms, expect) in [(0, true), (100, true), (199, false), (1, true), (0, true), (499, false), (1, true)] {
        bench.clock.advance(Duration::from_millis(wait_ms));
        bench.get("/");
        // All clients share the bucket.
        bench.exchange.client.ip = [10, 0, 0, wait_ms as u8].into();
        let reply = bench.request().await;
        assert_eq!(reply.is_none(), expect, "{wait_ms}");
        if let Some(reply) = reply {
            assert_eq!(reply.status, 429);
            assert!(matches!(&reply.body, ReplyBody::Error(text) if text == "too many"));
            let values: Vec<&[u8]> = reply.headers.get_all(b"x-limited").collect();
            assert_eq!(values, [b"yes".as_slice(), b"very"]);
            let mut head = ResponseHead::new(429);
            bench.response(&mut head, Source::Local);
            assert!(head.headers.is_empty(), "a bucket tells clients nothing");
        }
    }
}

#[tokio::test]
async fn buckets_of_connections_and_of_other_policies_are_their_own() {
    let mut bench = bench_of(PolicySpec::RateLimit(bucket(1, 1_000)));
    let connect = |bench: &mut Bench| {
        let mut cx = ConnectCx { exchange: &mut bench.exchange, services: &bench.services, slot: 0 };
        bench.filter.on_connect(&mut cx)
    };
    assert_eq!((connect(&mut bench), connect(&mut bench)), (Admit::Yes, Admit::No));
    let other = PolicySpec::RateLimit(RateLimit { by: LimitBy::ClientAddress, ..bucket(1, 1_000) });
    bench.filter = built(&other, 2, &bench.services).unwrap();
    assert_eq!((connect(&mut bench), connect(&mut bench)), (Admit::Yes, Admit::No));
    bench.exchange.client.ip = [10, 0, 0, 9].into();
    assert_eq!(connect(&mut bench), Admit::Yes);
    // The same policy, planned again, keeps its counters.
    bench.filter = built(&other, 2, &bench.services).unwrap();
    assert_eq!(connect(&mut bench), Admit::No);
    bench.filter = built(&PolicySpec::RateLimit(bucket(0, 0)), 3, &bench.services).unwrap();
    assert_eq!(connect(&mut bench), Admit::No, "nothing is allowed by default");
    let counts = bench.services.shared.get_or_insert(PolicyCounts::KEY, PolicyCounts::default);
    assert_eq!(counts.get(Event::Limited), 4);
}

#[tokio::test]
async fn limits_that_cannot_be_kept_are_refused() {
    let bench = bench_of(PolicySpec::RateLimit(bucket(1, 1)));
    let refused = |limit: RateLimit, field: &str| {
        let error = built(&PolicySpec::RateLimit(limit), 0, &bench.services).err().map(|error| error.path);
        assert_eq!(error.as_deref(), Some(field));
    };
    refused(RateLimit { limiter: Limiter::Windows(Windows::default()), ..RateLimit::default() }, "spec.limiter");
    refused(RateLimit { status: 99, ..RateLimit::default() }, "spec.status");
    refused(RateLimit { set_headers: vec![("a b".into(), "".into())], ..RateLimit::default() }, "spec.set_headers");
    refused(RateLimit { add_headers: vec![("a".into(), "\n".into())], ..RateLimit::default() }, "spec.add_headers");
}

#[tokio::test]
async fn limits_that_are_no_numbers_are_refused() {
    let bench = bench_of(PolicySpec::RateLimit(RateLimit {
        limiter: Limiter::Bucket(TokenBucket { tokens: 1, interval_ms: u64::MAX }),
        ..RateLimit::default()
    }));
    for (limit, is_refused) in
        [(f64::NAN, true), (f64::INFINITY, true), (-1.0, true), (-0.0, false), (0.5, false), (f64::MAX, false)]
    {
        let limits = vec![RateWindow { period: RatePeriod::Year, limit }];
        let limiter = Limiter::Windows(Windows { limits, sliding: true });
        let spec = PolicySpec::RateLimit(RateLimit { limiter, ..RateLimit::default() });
        assert_eq!(built(&spec, 0, &bench.services).is_err(), is_refused, "{limit}");
    }
}

/// A naive model of buckets and windows.
#[derive(Default)]
struct Model {
    passed: HashMap<(u8, &'static str, u64), u64>,
}

impl Model {
    /// `limits`: name, length in milliseconds, limit.
    fn passes(&mut self, key: u8, limits: &[(&'static str, u64, u64)], now_ms: u64) -> bool {
        let windows = || limits.iter().map(|(name, length, limit)| ((key, *name, now_ms / length), *limit));
        let passes = windows().all(|(window, limit)| self.passed.get(&window).copied().unwrap_or(0) < limit);
        if passes {
            windows().for_each(|(window, _)| *self.passed.entry(window).or_default() += 1);
        }
        passes
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Simulation: clients at random times, with the counters of a node, compared with the model.
    #[test]
    fn limits_count_as_a_naive_model(
        seed in any::<u64>(), per_second in 1_u32..5, per_minute in 1_u32..40, interval_ms in 51_u64..3_000, windows: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut rng = SeededRng::new(seed);
            let limits = vec![
                RateWindow { period: RatePeriod::Second, limit: f64::from(per_second) },
                RateWindow { period: RatePeriod::Minute, limit: f64::from(per_minute) },
            ];
            let limiter = match windows {
                true => Limiter::Windows(Windows { limits, sliding: false }),
                false => Limiter::Bucket(TokenBucket { tokens: per_second, interval_ms }),
            };
            let in_windows =
                [("second", 1_000, u64::from(per_second)), ("minute", 60_000, u64::from(per_minute))];
            let in_bucket = [("bucket", interval_ms, u64::from(per_second))];
            let limit = RateLimit { limiter, by: LimitBy::ClientAddress, ..RateLimit::default() };
            let mut bench = bench_of(PolicySpec::RateLimit(limit));
            let mut model = Model::default();
            for _ in 0..400 {
                bench.clock.advance(Duration::from_millis(rng.below(300)));
                let client = rng.below(3) as u8;
                bench.get("/");
                bench.exchange.client.ip = [10, 0, 0, client].into();
                let passes = bench.request().await.is_none();
                let expect = match windows {
                    true => model.passes(client, &in_windows, bench.services.clock.unix().0),
                    false => {
                        let now_ms = bench.services.clock.tick().millis_since(Tick::default());
                        model.passes(client, &in_bucket, now_ms)
                    }
                };
                assert_eq!(passes, expect);
            }
        });
    }
}
