//! request-transformer, response-transformer and correlation-id.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Stage, told};

fn request_rules() -> Value {
    json!([{"name": "request-transformer", "config": {
        "remove": {"headers": ["X-Gone"], "querystring": ["gone"], "body": ["gone"]},
        "rename": {"headers": ["X-Old:X-New"], "querystring": ["old:new"], "body": ["old:new"]},
        "replace": {"headers": ["X-Set:set"], "querystring": ["set:set"], "body": ["set:set"]},
        "add": {"headers": ["X-Add:$(headers.x_from)"], "querystring": ["add:a b"], "body": ["add:added"]},
        "append": {"headers": ["X-More:2"], "querystring": ["more:2"], "body": ["more:2"]}
    }}])
}

const FIELDS: [(&str, &str); 6] = [
    ("x-gone", "1"),
    ("x-old", "1"),
    ("x-set", "1"),
    ("x-from", "there"),
    ("x-more", "1"),
    ("content-type", "application/json"),
];

fn check_request(report: &Value) -> Result<()> {
    assert!(told(report, "x-gone").is_empty() && told(report, "x-old").is_empty());
    assert_eq!(told(report, "x-new"), ["1"]);
    assert_eq!(told(report, "x-set"), ["set"]);
    assert_eq!(told(report, "x-add"), ["there"]);
    assert_eq!(told(report, "x-more"), ["1", "2"]);
    let query = report["query"].as_str().unwrap_or_default();
    let mut pairs: Vec<_> = query.split('&').collect();
    pairs.sort_unstable();
    assert_eq!(pairs, ["add=a%20b", "keep=%2F", "more=1", "more=2", "new=1", "set=set"]);
    let text = report["body"]["text"].as_str().unwrap_or_default();
    let body: Value = serde_json::from_str(text)?;
    assert_eq!(body, json!({"new": 1, "set": "set", "more": ["1", "2"], "keep": {"x": [1.5]}, "add": "added"}));
    assert_eq!(told(report, "content-length"), [text.len().to_string()]);
    assert!(told(report, "transfer-encoding").is_empty());
    Ok(())
}

#[tokio::test]
async fn requests_are_changed_alike_for_every_client() -> Result<()> {
    let mut stage = Stage::start(request_rules(), json!({})).await?;
    let target = "/p?gone=1&old=1&set=1&more=1&keep=%2F";
    let body = r#"{"gone": 1, "old": 1, "set": 1, "more": "1", "keep": {"x": [1.5]}}"#;
    let response = stage.client.request("POST", target, "a", &FIELDS, body.as_bytes()).await?;
    check_request(&response.json())?;
    let fields: String = FIELDS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (one, two) = body.split_at(20);
    stage
        .client
        .send(format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\n{fields}Transfer-Encoding: chunked\r\n\r\n14\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
            two.len()
        ))
        .await?;
    check_request(&stage.client.response().await?.json())?;
    let mut client = stage.h2().await?;
    check_request(&client.request("POST", "a", target, &FIELDS, body.as_bytes()).await?.json())?;
    // The connections stay open.
    assert_eq!(stage.get("/", &[]).await?.status, 200);
    assert!(stage.echo.failures().is_empty(), "{:?}", stage.echo.failures());
    Ok(())
}

#[tokio::test]
async fn forms_methods_and_paths_are_changed() -> Result<()> {
    let rules = json!([{"name": "request-transformer", "config": {"http_method": "GET",
        "replace": {"uri": "/people/$(query_params.id)"}, "add": {"body": ["b:2"]}}}]);
    let mut stage = Stage::start(rules, json!({})).await?;
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let report = stage.client.request("POST", "/x?id=7", "a", &form, b"a=1").await?.json();
    assert_eq!((report["method"].as_str(), report["path"].as_str()), (Some("GET"), Some("/people/7")));
    let query = report["query"].as_str().unwrap_or_default();
    assert!(query.contains("id=7") && query.contains("a=1"), "{query}");
    Ok(())
}

#[tokio::test]
async fn responses_are_changed_with_their_length() -> Result<()> {
    let rules = json!([{"name": "response-transformer", "config": {
        "remove": {"headers": ["X-Gone"], "json": ["headers", "trailers", "body"]},
        "rename": {"headers": ["X-Old:X-New"], "json": ["path:where"]},
        "replace": {"headers": ["X-Set:set"], "json": ["server:hidden"]},
        "add": {"headers": ["X-Add:1"], "json": ["version2:2", "flag:true"], "json_types": ["number", "boolean"]},
        "append": {"headers": ["X-More:2"], "json": ["list:x"]}
    }}]);
    let mut stage = Stage::start(rules, json!({})).await?;
    for framing in ["length", "chunked", "close"] {
        let echo = format!("framing:{framing},header:X-Gone=1,header:X-Old=1,header:X-Set=1,header:X-More=1");
        let fields = [("x-echo", echo.as_str())];
        let mut h2 = stage.h2().await?;
        for response in [stage.get("/p", &fields).await?, h2.request("GET", "a", "/p", &fields, b"").await?] {
            assert_eq!((response.header("x-gone"), response.header("x-old")), (None, None));
            assert_eq!((response.header("x-new"), response.header("x-set")), (Some("1"), Some("set")));
            assert_eq!(response.header("x-add"), Some("1"));
            assert_eq!(response.headers.all("x-more").collect::<Vec<_>>(), ["1", "2"]);
            let body = response.json();
            assert_eq!((&body["where"], &body["server"]), (&json!("/p"), &json!("hidden")));
            assert_eq!((&body["version2"], &body["flag"]), (&json!(2), &json!(true)));
            assert_eq!(body["list"], json!(["x"]));
            assert!(body.get("headers").is_none() && body.get("path").is_none());
            if let Some(length) = response.header("content-length") {
                assert_eq!(length, response.body.len().to_string(), "{framing}");
            }
        }
    }
    let text = stage.get("/", &[("x-echo", "bytes:100,header:Content-Type=text/plain")]).await?;
    assert_eq!((text.body.len(), text.header("x-add")), (100, Some("1")));
    let head = stage.client.request("HEAD", "/", "a", &[], b"").await?;
    assert_eq!((head.status, head.body.len(), head.header("x-add")), (200, 0, Some("1")));
    assert_eq!(stage.get("/", &[("x-echo", "status:204,body:empty")]).await?.status, 204);
    assert_eq!(stage.get("/", &[]).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn ids_are_made_kept_and_echoed() -> Result<()> {
    let rule = |echo: bool| json!([{"name": "correlation-id", "config": {"header_name": "X-Id", "generator": "uuid", "echo_downstream": echo}}]);
    let mut stage = Stage::start(rule(true), json!({})).await?;
    let made = stage.get("/", &[]).await?;
    let id = made.header("x-id").expect("an id").to_owned();
    assert_eq!((id.len(), told(&made.json(), "x-id")), (36, vec![id.clone()]));
    let next = stage.get("/", &[]).await?;
    assert_ne!(next.header("x-id"), Some(&*id));
    let kept = stage.get("/", &[("X-Id", "mine")]).await?;
    assert_eq!((kept.header("x-id"), told(&kept.json(), "x-id")), (Some("mine"), vec!["mine".to_owned()]));
    let mut client = stage.h2().await?;
    assert_eq!(client.request("GET", "a", "/", &[("x-id", "two")], b"").await?.header("x-id"), Some("two"));
    let mut stage = Stage::start(rule(false), json!({})).await?;
    let quiet = stage.get("/", &[]).await?;
    assert_eq!((quiet.header("x-id"), told(&quiet.json(), "x-id").len()), (None, 1));
    Ok(())
}

/// A header is selected by comparing other headers, as in public configurations.
#[tokio::test]
async fn templates_compare_and_take_texts_apart() -> Result<()> {
    let template = "$((headers.authorization ~= nil and headers.authorization:sub(1, 9) ~= 'Bearer k_' and \
        headers.authorization) or (headers.apikey == 'k_secret' and 'Bearer long-token') or headers.apikey)";
    let rules = |group: &str| json!([{"name": "request-transformer", "config": {group: {"headers": [format!("Authorization: {template}")]}}}]);
    let mut stage = Stage::start(rules("add"), json!({})).await?;
    for (fields, expect) in [
        (&[("apikey", "k_secret")][..], "Bearer long-token"),
        (&[("apikey", "k_other")], "k_other"),
        (&[("apikey", "k_secret"), ("Authorization", "Basic eDp5")], "Basic eDp5"),
    ] {
        let response = stage.get("/", fields).await?;
        assert_eq!(told(&response.json(), "authorization"), [expect], "{fields:?}");
    }
    let mut stage = Stage::start(rules("replace"), json!({})).await?;
    for (authorization, expect) in
        [("Bearer k_secret", "Bearer long-token"), ("Bearer user", "Bearer user"), ("Bearer k", "Bearer k")]
    {
        let response = stage.get("/", &[("apikey", "k_secret"), ("Authorization", authorization)]).await?;
        assert_eq!(told(&response.json(), "authorization"), [expect], "{authorization}");
    }
    Ok(())
}

#[tokio::test]
async fn a_template_that_cannot_be_evaluated_fails_the_request() -> Result<()> {
    let rules = json!([{"name": "request-transformer", "config": {"add": {"headers": [
        "X-User: $(headers.x_user:match('^(%w+)@'):lower())",
        "X-Long: $(headers.x_text:match((headers.x_pattern or '.'):rep(20)) and 'yes' or 'no')",
    ]}}}]);
    let mut stage = Stage::start(rules, json!({})).await?;
    let fine = stage.get("/", &[("X-User", "Ann@example.com"), ("X-Text", "x")]).await?;
    assert_eq!(told(&fine.json(), "x-user"), ["Ann@example.com"]);
    assert_eq!(told(&fine.json(), "x-long"), ["no"]);
    for fields in [
        &[("X-Text", "x")][..],
        &[("X-User", "nobody"), ("X-Text", "x")],
        &[("X-User", "a@b")],
        &[("X-User", "a@b"), ("X-Text", "x"), ("X-Pattern", "(")],
    ] {
        assert_eq!(stage.said("/", fields).await?, "500 An unexpected error occurred", "{fields:?}");
    }
    // A client's pattern cannot block a worker.
    let text = "a".repeat(4_000);
    let fields = [("X-User", "a@b"), ("X-Text", text.as_str()), ("X-Pattern", ".-b")];
    assert_eq!(stage.said("/", &fields).await?, "500 An unexpected error occurred");
    assert_eq!(stage.get("/", &[("X-User", "a@b"), ("X-Text", "x")]).await?.status, 200);
    Ok(())
}
