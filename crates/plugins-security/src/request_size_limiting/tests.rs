use cardinal_sdk::testing::Bench;
use cardinal_sdk::{Reply, ReplyBody};
use serde_json::{Value, json};

use super::PLUGIN;

/// What a request with these headers meets: a reply, or a limit on its body.
async fn check(config: Value, headers: &[(&str, &str)], expect: &str) {
    let mut bench = Bench::new(&PLUGIN, config.clone());
    for (name, value) in headers {
        bench.header(name, value);
    }
    let said = match bench.request().await {
        Some(Reply { status, body: ReplyBody::Error(text), .. }) => format!("{status} {text}"),
        Some(other) => panic!("{other:?}"),
        None => bench.exchange.request_body_max.map_or("pass".to_owned(), |(max, _)| format!("limit {max}")),
    };
    assert_eq!(said, expect, "{config} {headers:?}");
}

#[tokio::test]
async fn declared_lengths() {
    let bytes = |n: i64| json!({"allowed_payload_size": n, "size_unit": "bytes"});
    check(bytes(10), &[("content-length", "10")], "pass").await;
    check(bytes(10), &[("content-length", "0")], "pass").await;
    check(bytes(10), &[("content-length", "11")], "413 Request size limit exceeded").await;
    check(bytes(0), &[("content-length", "1")], "413 Request size limit exceeded").await;
    let expect = [("content-length", "11"), ("expect", "100-Continue")];
    check(bytes(10), &expect, "417 Request size limit exceeded").await;
    check(bytes(10), &[("content-length", "99999999999999999999999")], "413 Request size limit exceeded").await;
    check(json!({}), &[("content-length", "134217728")], "pass").await;
    check(json!({}), &[("content-length", "134217729")], "413 Request size limit exceeded").await;
    let kilobytes = json!({"allowed_payload_size": 1, "size_unit": "kilobytes"});
    check(kilobytes, &[("content-length", "1025")], "413 Request size limit exceeded").await;
    let huge = json!({"allowed_payload_size": 9_000_000_000_000_000_i64});
    check(huge, &[("content-length", "18446744073709551615")], "pass").await;
}

#[tokio::test]
async fn unknown_lengths() {
    check(json!({}), &[], "limit 134217728").await;
    check(json!({}), &[("transfer-encoding", "chunked")], "limit 134217728").await;
    for odd in ["", "x", "-1", "0x10", "1e3", "1 0"] {
        check(json!({"allowed_payload_size": 1}), &[("content-length", odd)], "limit 1048576").await;
    }
    let strict = || json!({"require_content_length": true});
    let required = "411 A valid Content-Length header is required";
    check(strict(), &[], required).await;
    check(strict(), &[("content-length", "x")], required).await;
    check(strict(), &[("transfer-encoding", "gzip")], required).await;
    check(strict(), &[("transfer-encoding", "chunked")], "limit 134217728").await;
    check(strict(), &[("content-length", "5")], "pass").await;
}

#[tokio::test]
async fn a_negative_size_is_refused() {
    let services = cardinal_sdk::testing::services(Bench::new(&PLUGIN, json!({})).clock);
    let built = cardinal_sdk::testing::build(&PLUGIN, json!({"allowed_payload_size": -1}), &services);
    assert_eq!(built.err().as_deref(), Some("allowed_payload_size: must not be negative"));
}
