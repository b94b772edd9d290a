use std::time::Duration;

use bytes::Bytes;
use cardinal_sdk::testing::Bench;
use serde_json::{Value, json};

use super::PLUGIN;
use crate::fixture::{World, consumer_id, said, sent, told};

const MISSING: &str = "401 error No API key found in request [Key]";
const DUPLICATE: &str = "401 error Duplicate API key found [Key]";
const UNKNOWN: &str = "401 error Unauthorized [Key]";

fn world() -> World {
    World::default()
        .consumer(1, "alice")
        .consumer(2, "guest")
        .credential("key-auth", 1, "k1", json!({"key": "k1"}))
        .credential("key-auth", 1, "short", json!({"key": "short", "created_at": 1_700_000_000, "ttl": 60}))
        .credential("key-auth", 1, "k 2/ä", json!({"key": "k 2/ä", "ttl": 0}))
}

fn bench(config: Value) -> Bench {
    Bench::with_ir(&PLUGIN, config, &world().0)
}

/// Sends one request: target, headers (`a: b` lines), body.
async fn check(config: Value, target: &str, headers: &[(&str, &str)], body: &str, expect: &str) -> Bench {
    let mut bench = bench(config.clone());
    bench.get(target);
    for (name, value) in headers {
        bench.header(name, value);
    }
    bench.body = Bytes::copy_from_slice(body.as_bytes());
    let reply = bench.request().await;
    assert_eq!(said(reply.as_ref()), expect, "{config} {target} {headers:?} {body}");
    bench
}

#[tokio::test]
async fn keys_are_found_in_headers_and_query() {
    let none = json!({});
    check(none.clone(), "/", &[], "", MISSING).await;
    check(none.clone(), "/", &[("apikey", "")], "", MISSING).await;
    check(none.clone(), "/?apikey", &[], "", MISSING).await;
    check(none.clone(), "/?apikey=", &[], "", MISSING).await;
    check(none.clone(), "/", &[("APIKey", "k1")], "", "pass").await;
    check(none.clone(), "/?apikey=k1", &[], "", "pass").await;
    check(none.clone(), "/?x=%&api%6bey=k+2%2F%C3%A4", &[], "", "pass").await;
    check(none.clone(), "/?apikey=k1&apikey=k1", &[], "", DUPLICATE).await;
    check(none.clone(), "/", &[("apikey", "k1"), ("apikey", "k1")], "", DUPLICATE).await;
    check(none.clone(), "/", &[("apikey", "nobody's")], "", UNKNOWN).await;
    check(none.clone(), "/?apikey=%ff%fe", &[], "", UNKNOWN).await;
    check(none.clone(), "/?apikey=k1", &[("apikey", "wrong")], "", UNKNOWN).await;
    check(none, "/", &[], r#"{"apikey":"k1"}"#, MISSING).await;
    check(json!({"key_in_header": false}), "/", &[("apikey", "k1")], "", MISSING).await;
    check(json!({"key_in_query": false}), "/?apikey=k1", &[], "", MISSING).await;
    check(json!({"key_names": ["api_key"]}), "/", &[("api-key", "k1")], "", "pass").await;
    check(json!({"key_names": ["a", "b"]}), "/?b=k1", &[], "", "pass").await;
    check(json!({"key_names": ["a", "b"]}), "/?a&b=k1", &[], "", "pass").await;
    check(json!({"realm": "r"}), "/", &[], "", "401 error No API key found in request [Key realm=\"r\"]").await;
}

#[tokio::test]
async fn keys_are_found_in_bodies() {
    let config = json!({"key_in_body": true});
    let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    let json_type = [("content-type", "application/json")];
    let multipart = [("content-type", "multipart/form-data; boundary=\"xx\"")];
    check(config.clone(), "/", &form, "a=b&apikey=k1", "pass").await;
    check(config.clone(), "/", &form, "apikey=k1&apikey=k1", DUPLICATE).await;
    check(config.clone(), "/", &json_type, r#"{"apikey":"k1"}"#, "pass").await;
    check(config.clone(), "/", &json_type, r#"{"apikey":["k1"]}"#, DUPLICATE).await;
    check(config.clone(), "/", &json_type, r#"{"apikey":1}"#, MISSING).await;
    check(config.clone(), "/", &json_type, r#"["apikey"]"#, MISSING).await;
    check(config.clone(), "/", &json_type, "{", MISSING).await;
    check(config.clone(), "/", &[("content-type", "text/plain")], "apikey=k1", MISSING).await;
    check(config.clone(), "/", &[], "apikey=k1", MISSING).await;
    let part = "--xx\r\nContent-Disposition: form-data; name=\"apikey\"\r\n\r\nk1\r\n";
    check(config.clone(), "/", &multipart, &format!("{part}--xx--\r\n"), "pass").await;
    check(config.clone(), "/", &multipart, &format!("preamble\r\n{part}--xx--"), "pass").await;
    check(config.clone(), "/", &multipart, &format!("{part}{part}--xx--"), DUPLICATE).await;
    for broken in ["", "--xx", "--xx\r\n", "--xx\r\n\r\n--xx--", part, "\r\n--xx\r\nname\r\n--xx--"] {
        check(config.clone(), "/", &multipart, broken, MISSING).await;
    }
    check(config.clone(), "/", &[("content-type", "multipart/form-data")], part, MISSING).await;
    let huge = "x".repeat((1 << 20) + 1);
    check(config, "/", &form, &huge, "413 error Payload too large").await;
}

#[tokio::test]
async fn the_upstream_is_told_who_calls_and_nothing_the_client_made_up() {
    let forged = [
        ("apikey", "k1"),
        ("X-Consumer-ID", "root"),
        ("x-consumer-username", "root"),
        ("x-anonymous-consumer", "true"),
        ("x-credential-identifier", "root"),
        ("x-consumer-custom-id", "root"),
    ];
    let bench = check(json!({}), "/", &forged, "", "pass").await;
    assert_eq!(told(&bench), ("alice", "00000000-0000-0000-0000-000000000001", ""));
    assert_eq!(sent(&bench, "x-consumer-id"), consumer_id(1).to_string());
    assert_eq!(sent(&bench, "x-consumer-custom-id"), "custom-alice");
    assert_eq!(sent(&bench, "apikey"), "k1");
    let identity = &bench.exchange.identity;
    assert!(identity.is_authenticated());
    assert_eq!(identity.principal.as_ref().unwrap().id, consumer_id(1));
    assert_eq!(&*identity.credential.as_ref().unwrap().id(), "00000000-0000-0000-0000-000000000001");
}

#[tokio::test]
async fn hidden_keys_do_not_reach_the_upstream() {
    let config = json!({"hide_credentials": true, "key_in_body": true});
    let form = ("content-type", "application/x-www-form-urlencoded");
    let bench = check(config.clone(), "/p?a=1&apikey=k1&b=%20", &[form], "apikey=k1&c=d", "pass").await;
    assert_eq!(bench.request.query(), Some(&b"a=1&b=%20"[..]));
    assert_eq!(bench.upstream.body.as_deref(), Some(&b"c=d"[..]));
    let bench = check(config.clone(), "/?apikey=k1", &[("apikey", "k1")], "", "pass").await;
    assert_eq!((bench.request.query(), sent(&bench, "apikey")), (None, ""));
    let json_type = ("content-type", "application/json");
    let bench = check(config.clone(), "/", &[json_type], r#"{"z":1,"apikey":"k1","a":[2.5]}"#, "pass").await;
    assert_eq!(bench.upstream.body.as_deref(), Some(&br#"{"z":1,"a":[2.5]}"#[..]));
    let part = |name: &str| format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nk1\r\n");
    let body = format!("{}{}{}--x--\r\n", part("a"), part("apikey"), part("b"));
    let bench = check(config, "/", &[("content-type", "multipart/form-data; boundary=x")], &body, "pass").await;
    let left = format!("{}{}--x--\r\n", part("a"), part("b"));
    assert_eq!(bench.upstream.body.as_deref(), Some(left.as_bytes()));
    // The key is removed from rejected requests too: they may continue as the anonymous consumer.
    let config = json!({"hide_credentials": true, "anonymous": "guest"});
    let bench = check(config, "/", &[("apikey", "wrong")], "", "pass").await;
    assert_eq!(sent(&bench, "apikey"), "");
}

#[tokio::test]
async fn keys_expire() {
    let mut bench = bench(json!({}));
    for (wait, expect) in [(0, "pass"), (59, "pass"), (1, UNKNOWN)] {
        bench.clock.advance(Duration::from_secs(wait));
        bench.get("/").header("apikey", "short");
        assert_eq!(said(bench.request().await.as_ref()), expect);
    }
}

#[tokio::test]
async fn anonymous_requests_go_on_unless_somebody_proved_more() {
    for name in ["guest".to_owned(), consumer_id(2).to_string()] {
        let bench = check(json!({"anonymous": name}), "/", &[("apikey", "wrong")], "", "pass").await;
        assert_eq!(told(&bench), ("guest", "", "true"));
        assert!(!bench.exchange.identity.is_authenticated());
    }
    let missing = "500 error anonymous consumer nobody is configured but doesn't exist";
    check(json!({"anonymous": "nobody"}), "/", &[], "", missing).await;

    let mut bench = bench(json!({"anonymous": "guest"}));
    bench.header("apikey", "k1");
    assert_eq!(bench.request().await.map(|r| r.status), None);
    bench.request.headers.remove(b"apikey");
    assert_eq!(bench.request().await.map(|r| r.status), None, "a second plugin is satisfied by the first");
    assert_eq!(told(&bench).0, "alice");
}

#[tokio::test]
async fn preflight_requests_may_pass() {
    for (run, expect) in [(true, MISSING), (false, "pass")] {
        let mut bench = bench(json!({"run_on_preflight": run}));
        bench.request.method = cardinal_http::Method::Options;
        assert_eq!(said(bench.request().await.as_ref()), expect);
    }
}

#[tokio::test]
async fn what_cannot_work_is_said_when_configured() {
    let services = cardinal_sdk::testing::services(bench(json!({})).clock);
    let build = |config: Value| cardinal_sdk::testing::build(&PLUGIN, config, &services).err();
    assert!(build(json!({"realm": "a\r\nb"})).is_some_and(|e| e.contains("realm")));
    assert!(build(json!({"key_names": ["a b"]})).is_some_and(|e| e.contains("bad header name")));
    let ir = World::default().consumer(1, "a").credential("key-auth", 1, "k", json!({"key": "k", "ttl": 5})).0;
    let (directory, said) = cardinal_sdk::Directory::build(&ir, &[&PLUGIN]);
    assert!(directory.credential("key-auth", "k").is_none() && said.len() == 1);
}

#[test]
fn a_key_whose_ttl_is_no_number_of_seconds_is_left_out() {
    for ttl in [json!("60"), json!("x"), json!(-5), json!(0.5), json!(100_000_001), json!(true), json!([60])] {
        let credential = json!({"key": "k", "created_at": 1_700_000_000, "ttl": ttl});
        let ir = World::default().consumer(1, "a").credential("key-auth", 1, "k", credential).0;
        let (directory, said) = cardinal_sdk::Directory::build(&ir, &[&PLUGIN]);
        assert!(directory.credential("key-auth", "k").is_none(), "{ttl}");
        assert!(said.iter().any(|said| format!("{said:?}").contains("ttl must be an integer")), "{ttl} {said:?}");
    }
    for ttl in [json!(null), json!(0), json!(60.0), json!(100_000_000)] {
        let credential = json!({"key": "k", "created_at": 1_700_000_000, "ttl": ttl});
        let ir = World::default().consumer(1, "a").credential("key-auth", 1, "k", credential).0;
        assert!(cardinal_sdk::Directory::build(&ir, &[&PLUGIN]).0.credential("key-auth", "k").is_some(), "{ttl}");
    }
}

#[tokio::test]
async fn a_preflight_request_cannot_name_a_consumer() {
    let mut bench = bench(json!({"run_on_preflight": false}));
    bench.request.method = cardinal_http::Method::Options;
    let names = ["X-Consumer-ID", "X-Consumer-Custom-ID", "X-Consumer-Username", "X-Credential-Identifier"];
    for name in names {
        bench.header(name, "admin");
    }
    assert!(bench.request().await.is_none());
    for name in names {
        assert!(bench.request.headers.get(name.as_bytes()).is_none(), "{name}");
    }
}
