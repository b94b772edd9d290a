use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cardinal_base::ManualClock;
use cardinal_http::ResponseHead;
use cardinal_ir::policy::{LimitBy, Limiter, RateLimit, RatePeriod, RateWindow, Windows};
use cardinal_ir::{Id, PolicySpec};
use cardinal_sdk::redis::{RedisError, RedisReply, RedisSettings};
use cardinal_sdk::testing::{Bench, FakeRedis, build, lower, services};
use cardinal_sdk::{Reply, ReplyBody, Source, Verdict};
use serde_json::{Value, json};

use super::PLUGIN;

/// Sends a request; what became of it and the rate limit headers of the response.
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

/// Sends a new request; whether it passed.
async fn passes(bench: &mut Bench, target: &str, header: Option<(&str, &str)>) -> bool {
    bench.get(target);
    if let Some((name, value)) = header {
        bench.header(name, value);
    }
    bench.request().await.is_none()
}

/// The plugin's configuration as it stands in an instance.
fn check(config: Value, expect: Result<&str, &str>) {
    let instance = cardinal_schema::record([cardinal_schema::field("config", (PLUGIN.schema)())]);
    let result = instance.process(&json!({ "config": config }), &Default::default());
    match (result, expect) {
        (Ok(value), Ok(field)) => assert!(value["config"].get(field).is_some(), "{value}"),
        (Err(errors), Err(text)) => assert!(format!("{errors:?}").contains(text), "{errors:?}"),
        (result, _) => panic!("{config}: {result:?}"),
    }
}

#[test]
fn configurations_are_checked_as_in_kong() {
    check(json!({}), Err("at least one of these fields must be non-empty"));
    check(json!({"minute": 0}), Err("value must be greater than 0"));
    check(
        json!({"minute": 5, "hour": 3}),
        Err("The limit for hour(3.0) cannot be lower than the limit for minute(5.0)"),
    );
    check(json!({"minute": 5, "policy": "cluster"}), Err("expected one of: local, redis"));
    check(json!({"minute": 5, "policy": "redis"}), Err("redis"));
    check(json!({"minute": 5, "sync_rate": 1}), Err("sync_rate can only be used with the redis policy"));
    let redis = json!({"minute": 5, "policy": "redis", "sync_rate": 0.01, "redis": {"host": "h"}});
    check(redis, Err("sync_rate must be greater than 0.02, or -1 to disable"));
    check(json!({"minute": 5, "limit_by": "header"}), Err("header_name"));
    check(json!({"minute": 5, "limit_by": "path"}), Err("path"));
    check(json!({"minute": 5, "redis_host": "h", "policy": "redis"}), Ok("redis"));
    check(json!({"minute": 5, "window_type": "sliding"}), Ok("window_type"));
}

#[test]
fn an_addition_does_not_show_in_what_kong_would_show() {
    let value = (PLUGIN.schema)().process(&json!({"minute": 123}), &Default::default()).unwrap();
    let expect = json!({
        "second": null, "minute": 123, "hour": null, "day": null, "month": null, "year": null,
        "limit_by": "consumer", "header_name": null, "path": null, "policy": "local", "fault_tolerant": true,
        "redis": {"host": null, "port": 6379, "timeout": 2000, "username": null, "password": null, "database": 0,
                  "ssl": false, "ssl_verify": false, "server_name": null},
        "hide_client_headers": false, "error_code": 429, "error_message": "API rate limit exceeded",
        "sync_rate": -1,
    });
    assert_eq!(value, expect);
}

#[tokio::test]
async fn building_says_what_is_wrong() {
    let services = services(Arc::new(ManualClock::default()));
    let config = json!({"minute": 1, "error_code": 42});
    let error = build(&PLUGIN, config, &services).err().unwrap();
    assert_eq!(error, "config.error_code: must be a status from 100 to 599");
}

#[test]
fn local_counters_are_a_policy() {
    let limit = |limits: &[(RatePeriod, f64)], by, sliding| RateLimit {
        limiter: Limiter::Windows(Windows {
            limits: limits.iter().map(|(period, limit)| RateWindow { period: *period, limit: *limit }).collect(),
            sliding,
        }),
        by,
        status: 429,
        message: "API rate limit exceeded".into(),
        ..RateLimit::default()
    };
    let check = |config: Value, expect: Option<RateLimit>| {
        assert_eq!(lower(&PLUGIN, &config), Ok(expect.map(PolicySpec::RateLimit)), "{config}");
    };
    let second = [(RatePeriod::Second, 2.5), (RatePeriod::Year, 100.0)];
    check(json!({"second": 2.5, "year": 100}), Some(limit(&second, LimitBy::Principal, false)));
    let hour = [(RatePeriod::Hour, 1.0)];
    let sliding = json!({"hour": 1, "limit_by": "header", "header_name": "X-Key", "window_type": "sliding"});
    check(sliding, Some(limit(&hour, LimitBy::Header("X-Key".into()), true)));
    let worded = json!({"hour": 1, "limit_by": "path", "path": "/a", "error_code": 403, "error_message": "slow down",
        "hide_client_headers": true});
    let expect = RateLimit {
        status: 403,
        message: "slow down".into(),
        hide_headers: true,
        ..limit(&hour, LimitBy::Path("/a".into()), false)
    };
    check(worded, Some(expect));
    for (by, expect) in
        [("ip", LimitBy::ClientAddress), ("credential", LimitBy::Credential), ("service", LimitBy::Backend)]
    {
        check(json!({"hour": 1, "limit_by": by}), Some(limit(&hour, expect, false)));
    }
    check(with_redis(json!({"hour": 1, "redis": {}})), None);
}

/// A Redis server with counters, as the scripts of the plugin keep them.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<HashMap<String, (u64, u64)>>>);

impl Counts {
    /// A server for [`Bench::services`](testing::services).
    fn redis(&self) -> Arc<FakeRedis> {
        let counts = self.clone();
        Arc::new(FakeRedis::new(move |words| Ok(counts.run(words))))
    }

    /// The count of a key, and for how many seconds it is kept.
    fn get(&self, key: &str) -> Option<(u64, u64)> {
        self.0.lock().unwrap().get(key).copied()
    }

    fn run(&self, words: &[&[u8]]) -> RedisReply {
        let words: Vec<_> = words.iter().map(|word| std::str::from_utf8(word).unwrap()).collect();
        let (by, lifetime, reply_before) = match words[..] {
            ["GET", key] => {
                return self.get(key).map_or(RedisReply::Nil, |(count, _)| RedisReply::Bytes(count.to_string().into()));
            }
            ["EVAL", script, "1", _, lifetime] if script.contains("'INCR'") => (1, lifetime, true),
            ["EVAL", script, "1", _, by, lifetime] if script.contains("'INCRBY'") => {
                (by.parse().unwrap(), lifetime, false)
            }
            ref other => panic!("{other:?}"),
        };
        let mut counts = self.0.lock().unwrap();
        let (count, _) = counts.entry(words[3].to_owned()).or_insert((0, lifetime.parse().unwrap()));
        *count += by;
        RedisReply::Integer(i64::try_from(*count - u64::from(reply_before)).unwrap())
    }
}

/// A bench whose node has this Redis client.
fn bench(redis: Arc<FakeRedis>, config: Value) -> Bench {
    let mut bench = Bench::new(&PLUGIN, json!({"minute": 1}));
    bench.services.redis = redis;
    bench.filter = build(&PLUGIN, with_redis(config), &bench.services).unwrap();
    bench
}

fn with_redis(mut config: Value) -> Value {
    config["policy"] = "redis".into();
    config["redis"]["host"] = "redis.test".into();
    config
}

#[tokio::test]
async fn redis_counts_under_the_keys_of_kong() {
    let counts = Counts::default();
    let mut one = bench(counts.redis(), json!({"minute": 2, "hour": 5}));
    let nil = Id::nil();
    let minute = format!("ratelimit:{nil}:{nil}:127.0.0.1:1699999980000:minute");
    let hour = format!("ratelimit:{nil}:{nil}:127.0.0.1:1699999200000:hour");

    assert!(send(&mut one).await.starts_with("passed | X-RateLimit-Limit-Minute: 2 | X-RateLimit-Remaining-Minute: 1"));
    assert_eq!(counts.get(&minute), Some((1, 60)));
    assert_eq!(counts.get(&hour), Some((1, 3_600)));

    let mut other_node = bench(counts.redis(), json!({"minute": 2, "hour": 5}));
    assert!(send(&mut other_node).await.starts_with("passed"));
    assert!(send(&mut one).await.starts_with("429 "));
    assert_eq!(counts.get(&minute), Some((3, 60)), "refused requests count too");
}

#[tokio::test]
async fn redis_windows_can_slide() {
    let mut bench = bench(Counts::default().redis(), json!({"minute": 2, "window_type": "sliding"}));
    assert!(passes(&mut bench, "/", None).await);
    assert!(passes(&mut bench, "/", None).await);
    bench.clock.advance(Duration::from_secs(40));
    assert!(!passes(&mut bench, "/", None).await);
    bench.clock.advance(Duration::from_secs(59));
    assert!(passes(&mut bench, "/", None).await);
}

#[tokio::test]
async fn counts_are_exchanged_at_intervals() {
    let counts = Counts::default();
    let config = json!({"hour": 5, "sync_rate": 0.05});
    let key = format!("ratelimit:{0}:{0}:127.0.0.1:1699999200000:hour", Id::nil());
    let (mut one, mut two) = (bench(counts.redis(), config.clone()), bench(counts.redis(), config));
    for bench in [&mut one, &mut two] {
        for _ in 0..2 {
            assert!(passes(bench, "/", None).await);
        }
    }
    assert_eq!(counts.get(&key), None);
    for bench in [&one, &two] {
        bench.clock.pass(Duration::from_millis(60)).await;
    }
    assert_eq!(counts.get(&key), Some((4, 2_800)), "deltas of both nodes add up, and the key expires");
    // Both have heard of the other's requests by the next exchange, which drops what was not counted since.
    for _ in 0..4 {
        for bench in [&one, &two] {
            bench.clock.pass(Duration::from_millis(50)).await;
        }
    }
    assert!(passes(&mut two, "/", None).await);
    assert!(!passes(&mut two, "/", None).await);
}

#[tokio::test]
async fn without_redis_requests_pass_or_fail_as_configured() {
    for (error, says) in [
        (RedisError::Unreachable("refused".to_owned()), "redis redis.test:6379: cannot connect: refused"),
        (RedisError::Timeout("while connecting"), "redis redis.test:6379: timeout while connecting"),
        (RedisError::Local("no descriptors".to_owned()), "redis redis.test:6379: no descriptors"),
    ] {
        let redis = Arc::new(FakeRedis::new(move |_| Err(error.clone())));
        let mut open = bench(Arc::clone(&redis), json!({"minute": 1}));
        for _ in 0..3 {
            assert_eq!(send(&mut open).await, "passed | ");
            open.get("/");
        }
        let mut strict = bench(redis, json!({"minute": 1, "fault_tolerant": false}));
        assert!(matches!(strict.verdict().await, Verdict::Fail(reason) if reason == says), "{says}");
    }
}

#[tokio::test]
async fn a_command_that_redis_refuses_is_a_failure() {
    let refused = || RedisReply::Error { code: "READONLY".into(), message: "this is a replica".into() };
    for reply in [refused(), RedisReply::Status("OK".into())] {
        let redis = Arc::new(FakeRedis::new(move |_| Ok(reply.clone())));
        assert_eq!(send(&mut bench(Arc::clone(&redis), json!({"minute": 1}))).await, "passed | ");
        let mut strict = bench(redis, json!({"minute": 1, "fault_tolerant": false}));
        assert!(matches!(strict.verdict().await, Verdict::Fail(_)));
    }
}

#[tokio::test]
async fn the_configuration_says_how_to_reach_redis() {
    let redis = Counts::default().redis();
    let record = json!({"port": 7_000, "timeout": 300, "username": "u", "password": "p", "database": 3, "ssl": true,
        "ssl_verify": true, "server_name": "other.test"});
    bench(Arc::clone(&redis), json!({"minute": 1, "redis": record}));
    let mut expect = RedisSettings::new("redis.test", 7_000).with_tls(true, Some("other.test"));
    expect.timeout = Duration::from_millis(300);
    expect.connect_timeout = expect.timeout;
    expect.username = Some("u".into());
    expect.password = Some("p".into());
    expect.database = 3;
    assert_eq!(redis.settings(), [expect]);
}
