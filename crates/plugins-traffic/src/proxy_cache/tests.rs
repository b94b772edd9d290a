use std::sync::Arc;
use std::time::Duration;

use cardinal_http::ResponseHead;
use cardinal_ir::Id;
use cardinal_sdk::testing::{self, Bench, build, services};
use cardinal_sdk::{BodyMode, Reply, ReplyBody, Source};
use serde_json::{Value, json};

use super::{PLUGIN, fetch, flush, purge};

struct Upstream {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    parts: Vec<&'static str>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self { status: 200, headers: vec![("Content-Type", "text/plain")], parts: vec!["hel", "lo"] }
    }
}

fn bench(config: Value) -> Bench {
    let mut all = json!({"strategy": "memory"});
    for (name, value) in config.as_object().unwrap() {
        all[name] = value.clone();
    }
    Bench::new(&PLUGIN, all)
}

/// Sends the bench's request through, the upstream answering if the cache does not. What the client sees:
/// `status cache-status body`.
async fn send(bench: &mut Bench, upstream: &Upstream) -> (String, ResponseHead) {
    let reply = bench.request().await;
    let from_cache = reply.is_some();
    let (mut head, body) = match reply {
        None => {
            let mut head = ResponseHead::new(upstream.status);
            for (name, value) in &upstream.headers {
                head.headers.append(name.as_bytes(), value.as_bytes());
            }
            (head, upstream.parts.concat())
        }
        Some(Reply { status, headers, body: ReplyBody::Bytes(body) }) => {
            let mut head = ResponseHead::new(status);
            head.headers = headers;
            (head, String::from_utf8(body.to_vec()).unwrap())
        }
        Some(Reply { status, headers, body: ReplyBody::Omitted }) => {
            let mut head = ResponseHead::new(status);
            head.headers = headers;
            (head, String::new())
        }
        Some(Reply { status, body: ReplyBody::Empty, .. }) => (ResponseHead::new(status), String::new()),
        Some(other) => panic!("{other:?}"),
    };
    let mode = bench.response(&mut head, if from_cache { Source::Local } else { Source::Upstream });
    if !from_cache && mode == BodyMode::Chunks {
        for (at, part) in upstream.parts.iter().enumerate() {
            let out = bench.body_part(&head, part.as_bytes(), at + 1 == upstream.parts.len());
            assert_eq!(out, part.as_bytes(), "bytes pass unchanged");
        }
    }
    let status = head.headers.get_str("X-Cache-Status").unwrap_or("-").to_owned();
    (format!("{} {status} {body}", head.status), head)
}

async fn get(bench: &mut Bench, target: &str, headers: &[(&str, &str)], upstream: &Upstream) -> String {
    bench.get(target);
    for (name, value) in headers {
        bench.header(name, value);
    }
    send(bench, upstream).await.0
}

#[tokio::test]
async fn the_second_request_is_answered_from_memory() {
    let mut bench = bench(json!({}));
    let upstream = Upstream {
        headers: vec![
            ("Content-Type", "text/plain"),
            ("X-Two", "a"),
            ("X-Two", "b"),
            ("Connection", "close"),
            ("Content-Length", "5"),
            ("X-RateLimit-Remaining-Minute", "3"),
            ("X-RateLimit-Limit-Minute", "4"),
            ("Age", "77"),
        ],
        ..Upstream::default()
    };
    let (first, head) = send(&mut bench, &upstream).await;
    assert_eq!(first, "200 Miss hello");
    let key = head.headers.get_str("X-Cache-Key").unwrap().to_owned();
    assert!(key.len() == 64 && key.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f')), "{key}");

    bench.clock.advance(Duration::from_secs(7));
    bench.get("/");
    let (second, head) = send(&mut bench, &Upstream::default()).await;
    assert_eq!(second, "200 Hit hello");
    let fields: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)))
        .collect();
    let expect = ["Content-Type: text/plain", "X-Two: a", "X-Two: b", "X-RateLimit-Limit-Minute: 4", "Age: 7"];
    assert_eq!(fields[..5], expect);
    assert_eq!(fields[5..], ["X-Cache-Status: Hit".to_owned(), format!("X-Cache-Key: {key}")]);
}

#[tokio::test]
async fn only_what_the_configuration_names_is_kept() {
    let kept = async |config: Value, target: &str, upstream: Upstream| {
        let mut bench = bench(config);
        let first = get(&mut bench, target, &[], &upstream).await;
        (first, get(&mut bench, target, &[], &upstream).await)
    };
    let typed = |content_type| Upstream { headers: vec![("Content-Type", content_type)], ..Upstream::default() };
    let bypass = ("200 Bypass hello".to_owned(), "200 Bypass hello".to_owned());
    let hit = ("200 Miss hello".to_owned(), "200 Hit hello".to_owned());

    assert_eq!(kept(json!({}), "/", typed("text/html")).await, bypass);
    assert_eq!(kept(json!({}), "/", typed("application/json")).await, hit);
    assert_eq!(kept(json!({}), "/", typed("application/json; charset=utf-8")).await, bypass);
    assert_eq!(kept(json!({"content_type": ["*/*"]}), "/", typed("text/html")).await, hit);
    let twice = Upstream {
        headers: vec![("Content-Type", "text/plain"), ("Content-Type", "text/plain")],
        ..Upstream::default()
    };
    assert_eq!(kept(json!({}), "/", twice).await, bypass);
    let (first, second) = kept(json!({}), "/", Upstream { status: 500, ..Upstream::default() }).await;
    assert_eq!((&*first, &*second), ("500 Bypass hello", "500 Bypass hello"));
    assert_eq!(kept(json!({"request_method": ["POST"]}), "/", Upstream::default()).await, bypass);
    let (first, second) = kept(json!({"response_headers": {"X-Cache-Status": false}}), "/", Upstream::default()).await;
    assert_eq!((&*first, &*second), ("200 - hello", "200 - hello"));
}

#[tokio::test]
async fn requests_are_told_apart_by_consumer_route_path_and_query() {
    let check = async |config: Value, first: &str, second: &str, same: bool| {
        let mut bench = bench(config.clone());
        assert_eq!(get(&mut bench, first, &[], &Upstream::default()).await, "200 Miss hello");
        let expect = if same { "200 Hit hello" } else { "200 Miss hello" };
        assert_eq!(get(&mut bench, second, &[], &Upstream::default()).await, expect, "{config} {first} {second}");
    };
    check(json!({}), "/a", "/b", false).await;
    check(json!({}), "/a", "/A", false).await;
    check(json!({"ignore_uri_case": true}), "/a", "/A", true).await;
    check(json!({}), "/?a=1&b=2", "/?b=2&a=1", true).await;
    check(json!({}), "/?a=1&b=2&a=3", "/?b=2&a=1&a=3", true).await;
    check(json!({}), "/?a=1&a=2", "/?a=2&a=1", false).await;
    check(json!({}), "/?a", "/?a=", false).await;
    check(json!({}), "/", "/?", false).await;
    check(json!({}), "/?a=1%3Ab%3D2", "/?a=1&b=2", false).await;
    check(json!({}), "/?a=1%2C2", "/?a=1&a=2", false).await;
    check(json!({}), "/?a=true", "/?a", false).await;
    check(json!({}), "/x|b=1?", "/x?b=1%7C", false).await;
    let many: String = (0..150).map(|n| format!("a{n}=1&")).collect();
    check(json!({}), &format!("/?{many}id=1"), &format!("/?{many}id=2"), false).await;
    check(json!({"vary_query_params": ["id"]}), &format!("/?{many}id=1"), &format!("/?{many}id=2"), false).await;
    check(json!({"vary_query_params": ["id"]}), "/?id=1", "/?%69d=2", false).await;
    check(json!({"vary_query_params": ["b"]}), "/?a=1&b=2", "/?a=7&b=2", true).await;
    check(json!({"vary_query_params": ["b"]}), "/?a=1&b=2", "/?a=1&b=3", false).await;

    let mut bench1 = bench(json!({"vary_headers": ["X-A", "X-B"]}));
    let sets: [&[(&str, &str)]; 6] = [
        &[("X-A", "1:x-b=2")],
        &[("X-A", "1"), ("X-B", "2")],
        &[("X-A", "1,2")],
        &[("X-A", "1"), ("X-A", "2")],
        &[("X-A", "")],
        &[],
    ];
    for fields in sets {
        assert_eq!(get(&mut bench1, "/", fields, &Upstream::default()).await, "200 Miss hello", "{fields:?}");
    }

    let mut bench = bench(json!({"vary_headers": ["X-Lang"]}));
    for (lang, expect) in [("de", "200 Miss hello"), ("fr", "200 Miss hello"), ("de", "200 Hit hello")] {
        assert_eq!(get(&mut bench, "/", &[("x-lang", lang)], &Upstream::default()).await, expect);
    }
    let mut bench1 = Bench::new(&PLUGIN, json!({"strategy": "memory", "vary_headers": ["X-A"]}));
    assert_eq!(get(&mut bench1, "/", &[("X-A", "1")], &Upstream::default()).await, "200 Miss hello");
    let changed = json!({"strategy": "memory", "vary_headers": ["X-B"]});
    bench1.filter = build(&PLUGIN, changed, &bench1.services).unwrap();
    assert_eq!(get(&mut bench1, "/", &[("X-B", "1")], &Upstream::default()).await, "200 Miss hello");

    for (route, expect) in [(1, "200 Miss hello"), (2, "200 Miss hello"), (1, "200 Hit hello")] {
        bench.get("/");
        bench.exchange.route = Some(testing::route(Id::from_u128(route), None, "{}"));
        assert_eq!(send(&mut bench, &Upstream::default()).await.0, expect);
    }
}

#[tokio::test]
async fn everything_the_upstream_is_told_tells_requests_apart() {
    type Change = fn(&mut Bench);
    let changes: [(&str, Change); 9] = [
        ("nothing", |_| {}),
        ("host", |bench| {
            bench.request.headers.set(b"Host", b"other.example");
        }),
        ("port", |bench| bench.exchange.original.port = 8443),
        ("scheme", |bench| bench.exchange.client.https = true),
        ("host for the upstream", |bench| assert!(bench.upstream.set_host(b"b"))),
        ("path for the upstream", |bench| bench.upstream.path = b"/b".to_vec()),
        ("authorization", |bench| {
            bench.header("Authorization", "Bearer x");
        }),
        ("credential", |bench| {
            bench.exchange.identity.credential = Some(cardinal_sdk::CredentialRef::foreign("x", None));
        }),
        ("groups", |bench| bench.exchange.identity.authenticated_groups = Some(vec!["g".into()])),
    ];
    let mut bench = bench(json!({}));
    for expect in ["200 Miss hello", "200 Hit hello"] {
        for (name, change) in changes {
            bench.get("/");
            bench.exchange.client.https = false;
            bench.exchange.original.port = 80;
            change(&mut bench);
            assert_eq!(send(&mut bench, &Upstream::default()).await.0, expect, "{name}");
        }
    }
}

#[tokio::test]
async fn responses_are_given_only_to_requests_that_vary_alike() {
    let with = |fields: &[(&'static str, &'static str)]| {
        let mut headers = vec![("Content-Type", "text/plain")];
        headers.extend(fields);
        Upstream { headers, ..Upstream::default() }
    };
    let mut bench1 = bench(json!({}));
    let by_language = with(&[("Vary", "Accept-Language, origin")]);
    for (language, expect) in
        [("de", "200 Miss hello"), ("fr", "200 Miss hello"), ("de", "200 Hit hello"), ("fr", "200 Hit hello")]
    {
        assert_eq!(get(&mut bench1, "/", &[("accept-language", language)], &by_language).await, expect);
    }
    assert_eq!(get(&mut bench1, "/", &[], &with(&[])).await, "200 Miss hello");
    let both = [("Accept-Language", "de"), ("Origin", "http://a")];
    assert_eq!(get(&mut bench1, "/", &both, &with(&[])).await, "200 Miss hello", "names of before still count");
    assert_eq!(get(&mut bench1, "/", &both, &with(&[])).await, "200 Hit hello");

    for uncacheable in ["*", "accept, *", "X-Forwarded-For", "via"] {
        for _ in 0..2 {
            let target = format!("/{}", uncacheable.len());
            assert_eq!(get(&mut bench1, &target, &[], &with(&[("Vary", uncacheable)])).await, "200 Bypass hello");
        }
    }
    let zipped = with(&[("Content-Encoding", "gzip")]);
    assert_eq!(get(&mut bench1, "/z", &[("Accept-Encoding", "gzip")], &zipped).await, "200 Miss hello");
    assert_eq!(get(&mut bench1, "/z", &[("Accept-Encoding", "gzip")], &zipped).await, "200 Hit hello");
    assert_eq!(get(&mut bench1, "/z", &[], &zipped).await, "200 Miss hello");
}

#[tokio::test]
async fn a_header_that_changes_after_the_lookup_is_not_varied_by() {
    let mut bench = bench(json!({}));
    for _ in 0..2 {
        bench.get("/").header("X-Tenant", "a");
        assert!(bench.request().await.is_none());
        bench.request.headers.set(b"X-Tenant", b"b");
        let mut head = ResponseHead::new(200);
        head.headers.append(b"Content-Type", b"text/plain");
        head.headers.append(b"Vary", b"X-Tenant");
        assert_eq!(bench.response(&mut head, Source::Upstream), BodyMode::Pass);
        assert_eq!(head.headers.get_str("X-Cache-Status"), Some("Bypass"));
    }
}

#[tokio::test]
async fn answers_for_one_client_are_not_kept() {
    let all = json!({"response_code": [200, 206, 304, 404, 412, 416]});
    let mut bench1 = bench(all);
    for status in [206, 304, 412, 416] {
        let upstream = Upstream { status, ..Upstream::default() };
        for _ in 0..2 {
            assert_eq!(get(&mut bench1, "/", &[], &upstream).await, format!("{status} Bypass hello"));
        }
    }
    let session =
        Upstream { headers: vec![("Content-Type", "text/plain"), ("Set-Cookie", "id=1")], ..Upstream::default() };
    for _ in 0..2 {
        assert_eq!(get(&mut bench1, "/", &[], &session).await, "200 Bypass hello");
    }
    for field in [
        "Upgrade",
        "X-HTTP-Method-Override",
        "X_HTTP_Method_Override",
        "X-Original-URL",
        "X-Rewrite_URL",
        "X-HTTP-Method",
    ] {
        assert_eq!(get(&mut bench1, "/", &[(field, "x")], &Upstream::default()).await, "200 Bypass hello", "{field}");
    }
    bench1.get("/");
    bench1.body = "query".into();
    assert_eq!(send(&mut bench1, &Upstream::default()).await.0, "200 Bypass hello");
    assert_eq!(get(&mut bench1, "/", &[], &Upstream::default()).await, "200 Miss hello", "nothing was kept");

    bench1.get("/local");
    assert!(bench1.request().await.is_none());
    let mut head = ResponseHead::new(404);
    head.headers.append(b"Content-Type", b"text/plain");
    bench1.response(&mut head, Source::Local);
    assert_eq!(head.headers.get_str("X-Cache-Status"), Some("Bypass"), "not the upstream's answer");
}

#[tokio::test]
async fn entries_grow_stale_and_are_forgotten() {
    let mut bench = bench(json!({"cache_ttl": 10, "storage_ttl": 100}));
    let steps = [
        (0, "200 Miss hello"),
        (10, "200 Hit hello"),
        (1, "200 Refresh hello"),
        (1, "200 Hit hello"),
        (100, "200 Miss hello"),
    ];
    for (seconds, expect) in steps {
        bench.clock.advance(Duration::from_secs(seconds));
        assert_eq!(get(&mut bench, "/", &[], &Upstream::default()).await, expect);
    }
}

#[tokio::test]
async fn cache_control_is_obeyed_when_told_to() {
    let with = |value| Upstream {
        headers: vec![("Content-Type", "text/plain"), ("Cache-Control", value)],
        ..Upstream::default()
    };
    let config = json!({"cache_control": true, "storage_ttl": 1000});
    for refused in ["private, max-age=9", "no-store, max-age=9", "no-cache, max-age=9", "max-age=0"] {
        let mut bench = bench(config.clone());
        assert_eq!(get(&mut bench, "/", &[], &with(refused)).await, "200 Bypass hello", "{refused}");
    }
    let mut bench = bench(config);
    assert_eq!(get(&mut bench, "/", &[("Cache-Control", "only-if-cached")], &with("")).await, "504 - ");
    assert_eq!(get(&mut bench, "/", &[], &with("max-age=100")).await, "200 Miss hello");
    bench.clock.advance(Duration::from_secs(20));
    for (asked, expect) in [
        ("no-store", "200 Bypass hello"),
        ("no-cache", "200 Bypass hello"),
        ("max-age=20", "200 Hit hello"),
        ("min-fresh=80", "200 Hit hello"),
        ("only-if-cached", "200 Hit hello"),
    ] {
        assert_eq!(get(&mut bench, "/", &[("Cache-Control", asked)], &with("no-store")).await, expect, "{asked}");
    }
    assert_eq!(get(&mut bench, "/", &[("Authorization", "x")], &with("no-store")).await, "200 Bypass hello");
    for asked in ["max-age=19", "min-fresh=81"] {
        assert_eq!(get(&mut bench, "/", &[("Cache-Control", asked)], &with("max-age=100")).await, "200 Refresh hello");
        bench.clock.advance(Duration::from_secs(20));
    }
    bench.clock.advance(Duration::from_secs(100));
    let stale = [("Cache-Control", "max-stale=20")];
    assert_eq!(get(&mut bench, "/", &stale, &with("no-store")).await, "200 Hit hello");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(get(&mut bench, "/", &stale, &with("max-age=100")).await, "200 Refresh hello");
}

#[tokio::test]
async fn cut_off_and_oversized_bodies_are_not_kept() {
    let short =
        Upstream { headers: vec![("Content-Type", "text/plain"), ("Content-Length", "9")], ..Upstream::default() };
    let mut bench1 = bench(json!({}));
    for _ in 0..2 {
        assert_eq!(get(&mut bench1, "/", &[], &short).await, "200 Miss hello");
    }
    let part: &'static str = "x".repeat(3 << 20).leak();
    let large = Upstream { parts: vec![part, part], ..Upstream::default() };
    let mut bench2 = bench(json!({}));
    for _ in 0..2 {
        assert!(get(&mut bench2, "/", &[], &large).await.starts_with("200 Miss"));
    }
}

#[tokio::test]
async fn a_head_response_is_kept_without_a_body() {
    let mut bench = bench(json!({}));
    for expect in ["200 Miss ", "200 Hit "] {
        bench.get("/");
        bench.request.method = cardinal_http::Method::Head;
        bench.exchange.original.method = cardinal_http::Method::Head;
        let upstream = Upstream { parts: vec![], ..Upstream::default() };
        assert_eq!(send(&mut bench, &upstream).await.0, expect);
    }
}

#[tokio::test]
async fn the_cache_can_be_looked_into_and_emptied() {
    let mut bench = bench(json!({}));
    let (_, head) = send(&mut bench, &Upstream::default()).await;
    let key = head.headers.get_str("X-Cache-Key").unwrap().to_owned();
    let shared = Arc::clone(&bench.services.shared);
    let entry = fetch(&shared, &key, 1_700_000_000).unwrap();
    assert_eq!(entry["body"], "hello");
    assert_eq!(entry["headers"], json!({"content-type": "text/plain"}));
    assert_eq!(
        (&entry["status"], &entry["ttl"], &entry["timestamp"]),
        (&json!(200), &json!(300), &json!(1_700_000_000))
    );
    assert!(fetch(&shared, "nothing", 0).is_none());
    assert!(!purge(&shared, &"0".repeat(64)));
    assert!(purge(&shared, &key));
    assert_eq!(get(&mut bench, "/", &[], &Upstream::default()).await, "200 Miss hello");
    flush(&shared);
    assert_eq!(get(&mut bench, "/", &[], &Upstream::default()).await, "200 Miss hello");
}

#[tokio::test]
async fn areas_are_shared_by_name() {
    let mut one = bench(json!({}));
    send(&mut one, &Upstream::default()).await;
    let rebuild = |bench: &mut Bench, name: &str| {
        let config = json!({"strategy": "memory", "memory": {"dictionary_name": name}});
        bench.filter = build(&PLUGIN, config, &bench.services).unwrap();
    };
    rebuild(&mut one, "other");
    assert_eq!(get(&mut one, "/", &[], &Upstream::default()).await, "200 Miss hello");
    rebuild(&mut one, "kong_db_cache");
    assert_eq!(get(&mut one, "/", &[], &Upstream::default()).await, "200 Hit hello");
    let services = services(one.clock.clone());
    assert!(build(&PLUGIN, json!({"strategy": "redis"}), &services).is_err());
}
