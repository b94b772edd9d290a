use cardinal_http::{Method, ResponseHead};
use cardinal_sdk::testing::Bench;
use cardinal_sdk::{ReplyBody, Source};
use serde_json::{Value, json};

use super::PLUGIN;

const METHODS: &str = "GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT";

/// All CORS headers and `Vary`, as `name=value`, in alphabetical order.
fn told(headers: &cardinal_http::HeaderList) -> Vec<String> {
    let mut told: Vec<_> = headers
        .iter()
        .map(|(name, value)| (String::from_utf8_lossy(name).to_ascii_lowercase(), String::from_utf8_lossy(value)))
        .filter_map(|(name, value)| {
            let short = name.strip_prefix("access-control-").or((name == "vary").then_some("vary"))?;
            Some(format!("{short}={value}"))
        })
        .collect();
    told.sort();
    told
}

/// What a preflight request is answered with.
async fn check_preflight(config: Value, headers: &[(&str, &str)], expect: &[&str]) {
    let mut bench = Bench::new(&PLUGIN, config.clone());
    bench.request.method = Method::Options;
    bench.header("Access-Control-Request-Method", "GET");
    for (name, value) in headers {
        bench.header(name, value);
    }
    let reply = bench.request().await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(matches!(reply.body, ReplyBody::Empty));
    assert_eq!(told(&reply.headers), expect, "{config} {headers:?}");
    // The response phase leaves the answer alone.
    let mut head = ResponseHead::new(200);
    bench.response(&mut head, Source::Local);
    assert!(head.headers.is_empty());
}

/// What the response to a `GET` of this origin is given; the upstream says `upstream`.
async fn check(config: Value, origin: Option<&str>, upstream: &[(&str, &str)], expect: &[&str]) {
    let mut bench = Bench::new(&PLUGIN, config.clone());
    if let Some(origin) = origin {
        bench.header("origin", origin);
    }
    assert!(bench.request().await.is_none());
    let mut head = ResponseHead::new(200);
    for (name, value) in upstream {
        head.headers.append(name.as_bytes(), value.as_bytes());
    }
    bench.response(&mut head, Source::Upstream);
    assert_eq!(told(&head.headers), expect, "{config} {origin:?}");
}

#[tokio::test]
async fn preflight_requests_are_answered() {
    let methods = format!("allow-methods={METHODS}");
    let origin = ("Origin", "http://a.test");
    check_preflight(json!({}), &[origin], &[&methods, "allow-origin=*"]).await;
    let asked = [origin, ("Access-Control-Request-Headers", "X-A, X-B")];
    check_preflight(json!({}), &asked, &["allow-headers=X-A, X-B", &methods, "allow-origin=*"]).await;
    let all = json!({"origins": ["http://b.test"], "headers": ["X-C", "X-D"], "methods": ["GET", "PUT"],
        "exposed_headers": ["X-E"], "max_age": 23, "credentials": true, "private_network": true});
    let answer = |more: &[&'static str]| {
        let mut all = vec![
            "allow-credentials=true",
            "allow-headers=X-C,X-D",
            "allow-methods=GET,PUT",
            "allow-origin=http://b.test",
            "max-age=23",
            "vary=Origin",
        ];
        all.extend(more);
        all.sort_unstable();
        all
    };
    check_preflight(all.clone(), &asked, &answer(&[])).await;
    let private = [origin, ("Access-Control-Request-Private-Network", "true")];
    check_preflight(all, &private, &answer(&["allow-private-network=true"])).await;
    let anyone = json!({"credentials": true, "methods": null});
    let expect = ["allow-credentials=true", &methods, "allow-origin=http://a.test", "vary=Origin"];
    check_preflight(anyone, &[origin], &expect).await;
}

#[tokio::test]
async fn only_preflight_requests_are() {
    let with = |headers: &'static [(&'static str, &'static str)], method: Method, config: Value| async move {
        let mut bench = Bench::new(&PLUGIN, config);
        bench.request.method = method;
        for (name, value) in headers {
            bench.header(name, value);
        }
        let replied = bench.request().await.is_some();
        let mut head = ResponseHead::new(200);
        bench.response(&mut head, Source::Upstream);
        (replied, told(&head.headers).join(" "))
    };
    let any = || "allow-origin=*".to_owned();
    let full = &[("origin", "http://a"), ("access-control-request-method", "GET")];
    assert_eq!(with(full, Method::Options, json!({})).await, (true, String::new()));
    assert_eq!(with(full, Method::Get, json!({})).await, (false, any()));
    assert_eq!(with(&[("origin", "http://a")], Method::Options, json!({})).await, (false, any()));
    let unsaid = &[("origin", ""), ("access-control-request-method", "GET")];
    assert_eq!(with(unsaid, Method::Options, json!({})).await, (false, any()));
    assert_eq!(with(full, Method::Options, json!({"preflight_continue": true})).await, (false, String::new()));
}

#[tokio::test]
async fn responses() {
    let a = Some("http://a.test");
    check(json!({}), a, &[], &["allow-origin=*"]).await;
    check(json!({}), None, &[], &["allow-origin=*"]).await;
    check(json!({"allow_origin_absent": false}), None, &[], &[]).await;
    check(json!({"allow_origin_absent": false}), Some(""), &[], &[]).await;
    check(json!({"origins": []}), a, &[("Access-Control-Allow-Origin", "http://evil")], &["allow-origin=*"]).await;
    check(json!({"origins": ["*"], "credentials": true}), None, &[], &["allow-origin=*"]).await;
    let echoed = ["allow-credentials=true", "allow-origin=http://a.test", "vary=Origin"];
    check(json!({"origins": ["*"], "credentials": true}), a, &[], &echoed).await;
    check(json!({"origins": ["http://x", "*"], "credentials": true}), a, &[], &echoed).await;
    check(json!({"origins": ["http://x", "*"]}), a, &[], &["allow-origin=*", "vary=Origin"]).await;
    check(json!({"origins": ["http://x", "*"]}), None, &[], &["vary=Origin"]).await;
    let two = || json!({"origins": ["http://a.test", "http://b.test:80", "https://c.test:8443"]});
    check(two(), a, &[], &["allow-origin=http://a.test", "vary=Origin"]).await;
    check(two(), Some("http://b.test"), &[], &["allow-origin=http://b.test", "vary=Origin"]).await;
    let upstream = [("Access-Control-Allow-Origin", "*"), ("Vary", "Accept-Encoding")];
    check(two(), Some("http://evil.test"), &upstream, &["vary=Accept-Encoding", "vary=Origin"]).await;
    check(two(), Some("https://c.test"), &[("vary", "x, origin")], &["vary=x, origin"]).await;
    check(json!({"exposed_headers": ["X-A", "X-B"]}), a, &[], &["allow-origin=*", "expose-headers=X-A,X-B"]).await;
}

/// The allowed origin that each of some origins gets; `None` is none.
async fn check_origins(origins: &[&str], cases: &[(&str, Option<&str>)]) {
    for (origin, expect) in cases {
        let allowed = expect.map(|origin| format!("allow-origin={origin}"));
        let expect: Vec<&str> = allowed.as_deref().into_iter().chain(["vary=Origin"]).collect();
        check(json!({"origins": origins}), Some(origin), &[], &expect).await;
    }
}

#[tokio::test]
async fn origins_in_all_spellings() {
    let same = |origin| (origin, Some(origin));
    // One literal is sent to all origins.
    check_origins(&["foo.test"], &[("http://evil.test", Some("foo.test")), ("x", Some("foo.test"))]).await;
    // An expression without a colon is for the host.
    let foo = [
        same("http://foo.test"),
        ("http://foo.test:80", Some("http://foo.test")),
        same("https://foo.test:8000"),
        ("https://foo.test:443", Some("https://foo.test")),
        same("foo.test"),
        ("http://foo.test.evil.test", None),
        ("http://evilfoo.test", None),
        ("http://foobtest", None),
        ("http://foo.test\\@evil.test", None),
        ("null", None),
    ];
    check_origins(&["foo\\.test"], &foo).await;
    check_origins(&["^foo\\.test$"], &foo).await;
    check_origins(&["(.*[./])?foo\\.test"], &foo).await;
    check_origins(&["(.*[./])?foo\\.test"], &[same("http://sub.foo.test")]).await;
    check_origins(
        &["https://(.*[.])?foo\\.test:8000"],
        &[same("https://foo.test:8000"), same("https://a.foo.test:8000"), ("http://foo.test:8000", None)],
    )
    .await;
    // Both alternatives are for the whole origin.
    let alternatives = "http://a\\.test|http://b\\.test";
    check_origins(&[alternatives], &[same("http://a.test"), same("http://b.test"), ("http://a.test.evil", None)]).await;
    check_origins(&["^https://(?!evil)\\w+\\.test$"], &[same("https://good.test"), ("https://evil.test", None)]).await;
    let literals = ["http://a.test", "b.test"];
    let cases =
        [same("http://a.test"), ("http://a.test:80", Some("http://a.test")), ("http://b.test", None), same("b.test")];
    check_origins(&literals, &cases).await;
    let v6 = ["http://\\[::1\\]:8000", "x"];
    check_origins(&v6, &[same("http://[::1]:8000"), ("http://[::1]", None), ("http://[", None), ("http://:1", None)])
        .await;
}

#[tokio::test]
async fn hostile_origins_cost_little_and_get_nothing() {
    let long = format!("http://{}!", "a".repeat(60_000));
    for origin in [&*long, "//", "http://", "://", "http://@:", "\u{e4}", "http://a.test, http://b.test"] {
        check(json!({"origins": ["(a+)+\\.test", "(?=(a+)+$)b"]}), Some(origin), &[], &["vary=Origin"]).await;
    }
    let mut bench = Bench::new(&PLUGIN, json!({"origins": ["\u{e4}.*"]}));
    bench.request.headers.append(b"Origin", b"\xff\xfe");
    let mut head = ResponseHead::new(200);
    bench.response(&mut head, Source::Upstream);
    assert_eq!(told(&head.headers), ["vary=Origin"]);
}

#[tokio::test]
async fn what_cannot_work_is_said_when_configured() {
    let bench = Bench::new(&PLUGIN, json!({}));
    for (config, why) in [
        (json!({"origins": ["http://a["]}), "is not a valid regex"),
        (json!({"origins": ["a\nb"]}), "header"),
        (json!({"methods": ["get"]}), "expected one of"),
        (json!({"headers": ["a\nb"]}), "header"),
        (json!({"exposed_headers": ["a\rb"]}), "header"),
    ] {
        let built = cardinal_sdk::testing::build(&PLUGIN, config.clone(), &bench.services).err();
        assert!(built.as_ref().is_some_and(|text| text.contains(why)), "{config} {built:?}");
    }
}
