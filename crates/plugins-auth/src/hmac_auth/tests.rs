use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cardinal_base::UnixMillis;
use cardinal_http::{Method, Version};
use cardinal_sdk::testing::{Bench, build, services};
use cardinal_sdk::{Directory, Verdict};
use serde_json::{Value, json};

use super::PLUGIN;
use super::parameters::Parameters;
use super::signing::Algorithm;
use crate::fixture::{World, said, sent, told};

/// The time of a bench.
const NOW: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
const SECRET: &str = "sekrit/ü";

const MISSING: &str = "401 error Unauthorized [hmac]";
const NO_DATE: &str = "401 error HMAC signature cannot be verified, a valid date or x-date header is required for \
                       HMAC Authentication [hmac]";
const NOT_VERIFIABLE: &str = "401 error HMAC signature cannot be verified [hmac]";
const NOT_EQUAL: &str = "401 error HMAC signature does not match [hmac]";

fn world() -> World {
    let account = |name: &str, secret: &str| json!({"username": name, "secret": secret});
    World::default()
        .consumer(1, "alice-consumer")
        .consumer(2, "guest")
        .credential("hmac-auth", 1, "alice", account("alice", SECRET))
        .credential("hmac-auth", 1, "o\"neill, jürgen", account("o\"neill, jürgen", SECRET))
        .credential("hmac-auth", 2, "other", account("other", "another secret"))
}

fn bench(config: Value) -> Bench {
    Bench::with_ir(&PLUGIN, config, &world().0)
}

/// The signature that `secret` makes of a text.
fn signature(secret: &str, text: &str) -> String {
    STANDARD.encode(hmac::sign(&hmac::Key::new(HMAC_SHA256, secret.as_bytes()), text.as_bytes()))
}

fn header(username: &str, headers: &str, signature: &str) -> String {
    format!("hmac username=\"{username}\", algorithm=\"hmac-sha256\", headers=\"{headers}\", signature=\"{signature}\"")
}

/// The header of alice for this list and the text that it means.
fn signed(headers: &str, text: &str) -> String {
    header("alice", headers, &signature(SECRET, text))
}

/// The header of alice for the date alone.
fn dated() -> String {
    signed("date", &format!("date: {NOW}"))
}

async fn check(config: Value, headers: &[(&str, &str)], expect: &str) -> Bench {
    let mut bench = bench(config.clone());
    for (name, value) in headers {
        bench.header(name, value);
    }
    let reply = bench.request().await;
    assert_eq!(said(reply.as_ref()), expect, "{config} {headers:?}");
    bench
}

/// Sends a header of the client's beside the date.
async fn authorize(value: &str, expect: &str) {
    check(json!({}), &[("date", NOW), ("authorization", value)], expect).await;
}

#[test]
fn parameters_are_read_in_their_order_only() {
    let check = |text: &str, expect: Option<[&str; 4]>| {
        let expect = expect.map(|[username, algorithm, headers, signature]| Parameters {
            username: username.as_bytes(),
            algorithm: algorithm.as_bytes(),
            headers: headers.as_bytes(),
            signature: signature.as_bytes(),
        });
        assert_eq!(Parameters::parse(text.as_bytes()), expect, "{text}");
    };
    let plain = Some(["u", "a", "h i", "s="]);
    check(r#"hmac username="u", algorithm="a", headers="h i", signature="s=""#, plain);
    check(r#"  Hmac  username="u",algorithm="a",   headers="h i",signature="s=" and more"#, plain);
    check(r#"hmacusername="u",algorithm="a",headers="h i",signature="s=""#, plain);
    check(r#"HMAC username="u", algorithm="a", headers="h i", signature="s=""#, None);
    check(r#"Bearer hmac username="u", algorithm="a", headers="h i", signature="s=""#, None);
    check(r#"hmac algorithm="a", username="u", headers="h i", signature="s=""#, None);
    check(r#"hmac username="u", algorithm="a", signature="s=", headers="h i""#, None);
    check(r#"hmac username="u" algorithm="a" headers="h i" signature="s=""#, None);
    check(r#"hmac username="u" , algorithm="a", headers="h i", signature="s=""#, None);
    check(r#"hmac username="", algorithm="a", headers="h i", signature="s=""#, None);
    check(r#"hmac username="u", algorithm="", headers="h i", signature="s=""#, None);
    check(r#"hmac username="u", algorithm="a", headers="", signature="s=""#, None);
    check(r#"hmac username="u", algorithm="a", headers="h i", signature="""#, None);
    check(r#"hmac username="u", algorithm="a", headers="h i", signature="s="#, None);
    check(r#"hmac username=u, algorithm=a, headers=h, signature=s"#, None);
    // What occurs twice becomes part of the value before it.
    check(
        r#"hmac username="u", username="v", algorithm="a", headers="h", signature="s""#,
        Some([r#"u", username="v"#, "a", "h", "s"]),
    );
    check(
        r#"hmac username="u", algorithm="a", algorithm="b", headers="h", headers="i", signature="s", signature="t""#,
        Some([r#"u", algorithm="a"#, r#"b", headers="h"#, r#"i", signature="s"#, "t"]),
    );
    check(
        r#"hmac username="u", algorithm="a", headers="h", signature="s", signature="""#,
        Some(["u", "a", "h", r#"s", signature=""#]),
    );
}

#[test]
fn hostile_headers_are_read_in_one_pass() {
    for text in
        ["", "hmac", "hmac ", "Hmac username", "hmac username=\"", "hmac username=\"\"", "hmac\u{0}username=\"u"]
    {
        assert_eq!(Parameters::parse(text.as_bytes()), None, "{text:?}");
    }
    let mut text = b"hmac username=\"u".to_vec();
    for _ in 0..10_000 {
        text.extend_from_slice(b"\", algorithm=\"\", headers=\"\", signature=\"");
    }
    // No value may be empty, so each of the last ones begins with a quote and is as long as a whole round.
    let found = Parameters::parse(&text).unwrap();
    assert!(found.headers.starts_with(b"\", signature=") && found.headers.len() < 60);
    text.extend_from_slice(b"x\"");
    assert_eq!(Parameters::parse(&text).unwrap().signature, b"x");
    let quotes = [b"hmac username=\"".as_slice(), &b"\"".repeat(50_000)].concat();
    assert_eq!(Parameters::parse(&quotes), None);
    let spaces = [b"hmac username=\"u\",".as_slice(), &b" ".repeat(50_000), b"algorithm=\"a\""].concat();
    assert_eq!(Parameters::parse(&spaces), None);
    let bytes = b"hmac username=\"\xff\xfe\", algorithm=\"\x80\", headers=\"\xc3\", signature=\"\xf0\"";
    let found = Parameters::parse(bytes).unwrap();
    assert_eq!([found.username, found.algorithm, found.headers], [b"\xff\xfe".as_slice(), b"\x80", b"\xc3"]);
}

/// Made with Python's `hmac` and `hashlib`.
#[tokio::test]
async fn signatures_of_every_algorithm() {
    let list = "date host @request-target request-line x-absent";
    for (algorithm, signature) in [
        ("hmac-sha1", "+l0qeOP2Ajvc/f99EqJEWOHT5H4="),
        ("hmac-sha224", "sUm4WYMvyQZOu4qEnPGWcMoYiW9xW0iaQiuQZA=="),
        ("hmac-sha256", "2OfWGrw7S+l0PvxtqD2BBRJK6uBCz/UsHm/Jr3HGiWE="),
        ("hmac-sha384", "8QPX6mP+PCIKCm48p0M55mcJT+hNC4AAshSi+KOxOtZu33PhzT2IhrJzRtS6FvNp"),
        ("hmac-sha512", "PH76bjXT0X1VCfBI2cbpDkESQxTunHg8GD2CY6DWmmK1RH0XEbqpvkfQ4E3gahjWX/zD0mbWP/EpMbbTYSjuhg=="),
    ] {
        let send = async |algorithms: &[&str], target: &str, named: &str, signature: &str| {
            let mut bench = bench(json!({"algorithms": algorithms}));
            let value = header("alice", list, signature).replace("hmac-sha256", named);
            bench.get(target).header("Date", NOW).header("Authorization", &value);
            said(bench.request().await.as_ref())
        };
        let target = "/orders?id=7&x=%20y";
        let only = [algorithm];
        assert_eq!(send(&only, target, algorithm, signature).await, "pass", "{algorithm}");
        assert_eq!(send(&only, target, algorithm, signature.trim_end_matches('=')).await, "pass", "{algorithm}");
        assert_eq!(send(&only, "/orders?id=8&x=%20y", algorithm, signature).await, NOT_EQUAL, "{algorithm}");
        assert_eq!(send(&only, target, &algorithm.to_uppercase(), signature).await, NOT_VERIFIABLE, "{algorithm}");
        let others: Vec<&str> = Algorithm::ALL.map(Algorithm::name).into_iter().filter(|a| *a != algorithm).collect();
        assert_eq!(send(&others, target, algorithm, signature).await, NOT_VERIFIABLE, "{algorithm}");
        for other in &others {
            assert_eq!(send(&others, target, other, signature).await, NOT_EQUAL, "{algorithm} as {other}");
        }
    }
}

#[tokio::test]
async fn sha224_is_off_unless_named() {
    authorize(&dated().replace("sha256", "sha224"), NOT_VERIFIABLE).await;
    authorize(&dated().replace("sha256", "sha512"), NOT_EQUAL).await;
    check(json!({"algorithms": []}), &[("date", NOW), ("authorization", &dated())], NOT_VERIFIABLE).await;
}

#[tokio::test]
async fn signatures_that_are_refused() {
    let date = format!("date: {NOW}");
    authorize(&dated(), "pass").await;
    authorize(&header("alice", "date", &signature("another secret", &date)), NOT_EQUAL).await;
    authorize(&header("other", "date", &signature(SECRET, &date)), NOT_EQUAL).await;
    authorize(&header("nobody", "date", &signature(SECRET, &date)), NOT_VERIFIABLE).await;
    authorize(&header("alice", "date", "not base64!"), NOT_EQUAL).await;
    authorize(&header("alice", "date", "="), NOT_EQUAL).await;
    authorize(&header("alice", "date", &"A".repeat(89)), NOT_EQUAL).await;
    authorize(&header("alice", "date", &"A".repeat(10_000)), NOT_EQUAL).await;
    let whole = signature(SECRET, &date);
    authorize(&header("alice", "date", &whole[..20]), NOT_EQUAL).await;
    authorize(&header("alice", "date", &format!("{}==\", keyId=\"1", whole.trim_end_matches('='))), "pass").await;
    for value in ["", "hmac", "hmac :abc", "Basic YTpi", "hmac username=,algorithm,headers,YTpi", "hmac username"] {
        authorize(value, NOT_VERIFIABLE).await;
    }
    check(json!({}), &[("date", NOW)], MISSING).await;
    let realm = json!({"realm": "r 1"});
    check(realm, &[("date", NOW)], "401 error Unauthorized [hmac realm=\"r 1\"]").await;
}

#[tokio::test]
async fn names_that_are_not_text() {
    let mut bench = bench(json!({}));
    bench.header("date", NOW);
    let value = b"hmac username=\"\xff\xfe\", algorithm=\"hmac-sha256\", headers=\"date\", signature=\"AAAA\"";
    assert!(bench.request.headers.append(b"authorization", value));
    assert_eq!(said(bench.request().await.as_ref()), NOT_VERIFIABLE);
    let text = "o\"neill, jürgen";
    authorize(&header(text, "date", &signature(SECRET, &format!("date: {NOW}"))), "pass").await;
}

#[tokio::test]
async fn what_is_signed() {
    let send = async |list: &str, text: &str| {
        let mut bench = bench(json!({}));
        bench.get("/a//b?q").header("Date", NOW).header("X-A", "1").header("x-a", "2").header("X-B", "");
        bench.header("authorization", &signed(list, text));
        said(bench.request().await.as_ref())
    };
    assert_eq!(send("x-a", "x-a: 1").await, "pass", "the first of several");
    assert_eq!(send("X-a", "X-a: 1").await, "pass", "names as they are listed");
    assert_eq!(send("X-a", "x-a: 1").await, NOT_EQUAL);
    assert_eq!(send("x-b", "x-b: ").await, "pass", "an empty value");
    assert_eq!(send("x-c", "x-c:").await, "pass", "no value");
    assert_eq!(send("x-a  x-b", "x-a: 1\n:\nx-b: ").await, "pass", "two spaces have a name between them");
    assert_eq!(send("x-a x-a", "x-a: 1\nx-a: 1").await, "pass");
    assert_eq!(send("@request-target", "@request-target: get /a//b?q").await, "pass", "the target as it came");
    assert_eq!(send("request-line", "GET /a//b?q HTTP/1.1").await, "pass");
    assert_eq!(send("Request-Line", "GET /a//b?q HTTP/1.1").await, NOT_EQUAL, "a header that is absent");

    for (version, line) in [(Version::H10, "PROPFIND / HTTP/1.0"), (Version::H2, "PROPFIND / HTTP/2.0")] {
        let mut bench = bench(json!({}));
        bench.exchange.original.method = Method::Other("PROPFIND".into());
        bench.exchange.client.version = version;
        let text = format!("{line}\n@request-target: propfind /");
        bench.header("date", NOW).header("authorization", &signed("request-line @request-target", &text));
        assert_eq!(said(bench.request().await.as_ref()), "pass", "{line}");
    }
    let mut bench = bench(json!({}));
    bench.header("date", NOW).header("Request-Line", "x");
    bench.header("authorization", &signed("request-line", "request-line: x"));
    assert_eq!(said(bench.request().await.as_ref()), "pass", "a header of this name is signed as such");
}

#[tokio::test]
async fn lists_are_bounded() {
    let list = |count: usize| (vec!["a"; count].join(" "), vec!["a:"; count].join("\n"));
    let (names, text) = list(100);
    authorize(&signed(&names, &text), "pass").await;
    for count in [101, 10_000] {
        let (names, text) = list(count);
        authorize(&signed(&names, &text), NOT_VERIFIABLE).await;
    }
    // A long value that is listed again and again.
    let long = "x".repeat(10_000);
    let mut bench = bench(json!({}));
    let text = vec![format!("long: {long}"); 50].join("\n");
    bench.header("date", NOW).header("long", &long).header("authorization", &signed(&["long"; 50].join(" "), &text));
    assert_eq!(said(bench.request().await.as_ref()), NOT_VERIFIABLE);
}

#[tokio::test]
async fn dates() {
    let at = |seconds: i64| {
        let unix = UnixMillis(1_700_000_000_000_u64.checked_add_signed(seconds * 1_000).unwrap());
        httpdate::fmt_http_date(unix.system_time())
    };
    let send = async |config: Value, name: &str, date: &str, expect: &str| {
        let value = signed(name, &format!("{name}: {date}"));
        check(config, &[(name, date), ("authorization", &value)], expect).await;
    };
    for name in ["date", "x-date"] {
        for (seconds, expect) in [(0, "pass"), (300, "pass"), (-300, "pass"), (301, NO_DATE), (-301, NO_DATE)] {
            send(json!({}), name, &at(seconds), expect).await;
        }
        send(json!({"clock_skew": 0.5}), name, &at(0), "pass").await;
        send(json!({"clock_skew": 0.5}), name, &at(1), NO_DATE).await;
        send(json!({"clock_skew": 1.5}), name, &at(1), "pass").await;
        send(json!({}), name, "Tuesday, 14-Nov-23 22:13:20 GMT", "pass").await;
        send(json!({}), name, "Tue Nov 14 22:13:20 2023", "pass").await;
        for date in ["", "now", "1700000000", "Tue, 14 Nov 2023", "Thu, 01 Jan 1960 00:00:00 GMT", "\u{fc}"] {
            send(json!({}), name, date, NO_DATE).await;
        }
    }
    // One of the two is enough.
    let old = at(-5_000);
    check(json!({}), &[("x-date", &old), ("date", NOW), ("authorization", &dated())], "pass").await;
    let x_dated = signed("x-date", &format!("x-date: {NOW}"));
    check(json!({}), &[("date", &old), ("x-date", NOW), ("authorization", &x_dated)], "pass").await;
    check(json!({}), &[("authorization", &dated())], NO_DATE).await;
    check(json!({}), &[("authorization", "junk")], NO_DATE).await;
    // The clock is the node's.
    let mut bench = bench(json!({}));
    bench.header("date", NOW).header("authorization", &dated());
    bench.clock.advance(Duration::from_secs(301));
    assert_eq!(said(bench.request().await.as_ref()), NO_DATE);
}

#[tokio::test]
async fn headers_that_must_be_signed() {
    let config = json!({"enforce_headers": ["date", "request-line"]});
    let both = signed("request-line date", &format!("GET / HTTP/1.1\ndate: {NOW}"));
    check(config.clone(), &[("date", NOW), ("authorization", &both)], "pass").await;
    check(config.clone(), &[("date", NOW), ("authorization", &dated())], NOT_VERIFIABLE).await;
    let other_case = signed("request-line Date", &format!("GET / HTTP/1.1\nDate: {NOW}"));
    check(config.clone(), &[("date", NOW), ("authorization", &other_case)], NOT_VERIFIABLE).await;
    let filter = bench(config).filter;
    let owned = [b"date".as_slice(), b"X-Date", b"request_line", b"digest"].map(|name| filter.owns_header(name));
    assert_eq!(owned, [true, true, true, false]);
    assert!(bench(json!({"validate_request_body": true})).filter.owns_header(b"Digest"));
}

#[tokio::test]
async fn proxy_authorization_comes_first() {
    let (good, wrong) = (dated(), header("other", "date", &signature(SECRET, &format!("date: {NOW}"))));
    let proxy = "proxy-authorization";
    check(json!({}), &[("date", NOW), (proxy, &good)], "pass").await;
    check(json!({}), &[("date", NOW), (proxy, &good), ("authorization", &wrong)], "pass").await;
    check(json!({}), &[("date", NOW), (proxy, &wrong), ("authorization", &good)], NOT_EQUAL).await;
    check(json!({}), &[("date", NOW), (proxy, "junk"), ("authorization", &good)], "pass").await;
    check(json!({}), &[("date", NOW), (proxy, "junk")], NOT_VERIFIABLE).await;

    let hide = json!({"hide_credentials": true});
    let fields = [("date", NOW), (proxy, good.as_str()), ("authorization", "Bearer x")];
    let bench = check(hide.clone(), &fields, "pass").await;
    assert_eq!((sent(&bench, proxy), sent(&bench, "authorization")), ("", "Bearer x"));
    let fields = [("date", NOW), (proxy, "junk"), ("authorization", good.as_str())];
    let bench = check(hide, &fields, "pass").await;
    assert_eq!((sent(&bench, proxy), sent(&bench, "authorization")), ("junk", ""));
    let bench = check(json!({}), &fields, "pass").await;
    assert_eq!(sent(&bench, "authorization"), good);
}

#[tokio::test]
async fn identity_and_anonymous() {
    let forged =
        [("x-consumer-username", "root"), ("x-credential-identifier", "root"), ("x-anonymous-consumer", "true")];
    let good = dated();
    let fields = [&forged[..], &[("date", NOW), ("authorization", &good)]].concat();
    let bench = check(json!({}), &fields, "pass").await;
    assert_eq!(told(&bench), ("alice-consumer", "alice", ""));
    assert_eq!(sent(&bench, "x-consumer-custom-id"), "custom-alice-consumer");
    assert!(bench.exchange.identity.is_authenticated());

    let guest = json!({"anonymous": "guest", "hide_credentials": true});
    let bench = check(guest.clone(), &fields, "pass").await;
    assert_eq!(told(&bench), ("alice-consumer", "alice", ""));
    for refused in [
        vec![],
        vec![("authorization", good.as_str())],
        vec![("date", NOW), ("authorization", "hmac x")],
        vec![("date", "x")],
    ] {
        let fields = [&forged[..], &refused].concat();
        let bench = check(guest.clone(), &fields, "pass").await;
        assert_eq!(told(&bench), ("guest", "", "true"), "{refused:?}");
    }
    let missing = "500 error anonymous consumer nobody is configured but doesn't exist";
    check(json!({"anonymous": "nobody"}), &[], missing).await;
}

#[tokio::test]
async fn bodies() {
    // printf '{"a":1}' | openssl dgst -sha256 -binary | base64
    const DIGEST: &str = "SHA-256=AVq9f1zFei3ZS3WQ8ErYCEJzkF7jPsXOvq5iJ2qX+GI=";
    const OF_NOTHING: &str = "SHA-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let send = async |body: &'static str, digest: Option<&str>| {
        let mut bench = bench(json!({"validate_request_body": true, "hide_credentials": true}));
        let mut text = format!("date: {NOW}\ndigest:");
        bench.header("date", NOW);
        if let Some(digest) = digest {
            bench.header("Digest", digest);
            text.push_str(&format!(" {digest}"));
        }
        bench.header("authorization", &signed("date digest", &text));
        bench.body = Bytes::from_static(body.as_bytes());
        let reply = bench.request().await;
        (said(reply.as_ref()), bench.upstream.body.is_some())
    };
    let pass = |held| ("pass".to_owned(), held);
    let refused = |held| (NOT_EQUAL.to_owned(), held);
    assert_eq!(send("{\"a\":1}", Some(DIGEST)).await, pass(true));
    assert_eq!(send("{\"a\":2}", Some(DIGEST)).await, refused(true));
    assert_eq!(send("{\"a\":1}", Some(&DIGEST.to_lowercase())).await, refused(true));
    assert_eq!(send("{\"a\":1}", Some("MD5=x")).await, refused(true));
    assert_eq!(send("{\"a\":1}", Some("")).await, refused(true));
    assert_eq!(send("{\"a\":1}", None).await, refused(false), "there is nothing to compare the body with");
    assert_eq!(send("", Some(OF_NOTHING)).await, pass(false));
    assert_eq!(send("", Some(DIGEST)).await, refused(false));
    assert_eq!(send("", None).await, pass(false));
}

#[tokio::test]
async fn bodies_are_read_only_for_those_who_signed() {
    let send = async |authorization: &str| {
        let mut bench = bench(json!({"validate_request_body": true}));
        bench.header("date", NOW).header("digest", "SHA-256=x").header("authorization", authorization);
        bench.body = Bytes::from_static(b"x");
        assert!(matches!(bench.verdict().await, Verdict::Reply(_)));
        bench.upstream.body.is_some()
    };
    assert!(send(&dated()).await);
    assert!(!send(&header("alice", "date", "AAAA")).await);
    let mut bench = bench(json!({"validate_request_body": true}));
    bench.header("date", NOW).header("digest", "SHA-256=x").header("authorization", &dated());
    bench.body = Bytes::from(vec![0; (64 << 20) + 1]);
    let Verdict::Reply(reply) = bench.verdict().await else { panic!("a body that is too long passes") };
    assert_eq!(reply.status, 413);
}

#[test]
fn a_credential_needs_a_secret() {
    for data in
        [json!({"username": "a"}), json!({"username": "a", "secret": ""}), json!({"username": "a", "secret": 1})]
    {
        let ir = World::default().consumer(1, "a").credential("hmac-auth", 1, "a", data.clone()).0;
        let (directory, refused) = Directory::build(&ir, &[&PLUGIN]);
        assert_eq!(refused.len(), 1, "{data}");
        assert!(directory.credential("hmac-auth", "a").is_none(), "{data}");
    }
    let (directory, _) = Directory::build(&world().0, &[&PLUGIN]);
    assert!(!format!("{:?}", directory.credential("hmac-auth", "alice")).contains("sekrit"));
}

#[tokio::test]
async fn configurations() {
    let services = services(Arc::new(cardinal_base::ManualClock::default()));
    let error = |config: Value| build(&PLUGIN, config, &services).err().unwrap_or_default();
    assert_eq!(error(json!({"clock_skew": 1})), "");
    assert!(error(json!({"clock_skew": 0})).contains("value must be greater than 0"));
    assert!(error(json!({"clock_skew": "soon"})).contains("expected a number"));
    assert!(
        error(json!({"algorithms": ["hmac-md5"]})).contains("expected one of: hmac-sha1, hmac-sha224, hmac-sha256")
    );
    assert!(error(json!({"enforce_headers": "date"})).contains("expected an array"));
    assert!(error(json!({"realm": "a\r\nb"})).contains("must not contain control characters"));
    assert!(error(json!({"unknown": 1})).contains("unknown field"));
}
