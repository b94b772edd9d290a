//! proxy-cache: cached and uncached responses, as seen by clients.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cardinal_base::ManualClock;
use serde_json::{Value, json};

use super::Stage;

/// A configuration with its own memory, and the fields of `more`.
fn cache(memory: &str, more: Value) -> Value {
    let mut config = json!({"strategy": "memory", "content_type": ["application/json"],
        "memory": {"dictionary_name": memory}});
    if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    json!([{"name": "proxy-cache", "config": config}])
}

/// The status of the cache for a request.
async fn status(stage: &mut Stage, method: &str, target: &str, fields: &[(&str, &str)]) -> Result<String> {
    let response = stage.client.request(method, target, "a", fields, b"").await?;
    Ok(response.header("x-cache-status").unwrap_or("none").to_owned())
}

#[tokio::test]
async fn a_hit_is_the_response_again() -> Result<()> {
    let mut stage = Stage::start(cache("hit", json!({})), json!({})).await?;
    let behaviour = [("X-Echo", "header:X-Own=1,header:Connection=X-Hop,header:X-Hop=1")];
    let miss = stage.get("/a?x=1&y=2", &behaviour).await?;
    assert_eq!((miss.status, miss.header("x-cache-status")), (200, Some("Miss")));
    let key = miss.header("x-cache-key").expect("a key").to_owned();
    assert_eq!(key.len(), 64);
    for target in ["/a?x=1&y=2", "/a?y=2&x=1"] {
        let hit = stage.get(target, &[]).await?;
        assert_eq!((hit.status, hit.header("x-cache-status")), (200, Some("Hit")), "{target}");
        assert_eq!((hit.body.clone(), hit.header("x-own"), hit.header("x-hop")), (miss.body.clone(), Some("1"), None));
        assert_eq!((hit.header("x-cache-key"), hit.header("content-type")), (Some(&*key), Some("application/json")));
        assert!(hit.header("age").is_some_and(|age| age.parse::<u32>().is_ok()));
        assert_eq!(hit.headers.all("content-length").collect::<Vec<_>>(), [miss.body.len().to_string()]);
        assert!(hit.header("x-kong-upstream-latency").is_none());
    }
    let mut client = stage.h2().await?;
    let hit = client.request("GET", "a.test", "/a?x=1&y=2", &[], b"").await?;
    assert_eq!((hit.header("x-cache-status"), &hit.body), (Some("Hit"), &miss.body));
    assert_eq!(stage.echo.requests(), 1);
    Ok(())
}

#[tokio::test]
async fn a_head_is_kept_apart_from_a_get() -> Result<()> {
    let mut stage = Stage::start(cache("head", json!({})), json!({})).await?;
    let first = stage.client.request("HEAD", "/h", "a", &[], b"").await?;
    assert_eq!((first.header("x-cache-status"), first.body.len()), (Some("Miss"), 0));
    let again = stage.client.request("HEAD", "/h", "a", &[], b"").await?;
    assert_eq!((again.header("x-cache-status"), again.body.len()), (Some("Hit"), 0));
    assert_eq!(again.header("content-type"), Some("application/json"));
    let get = stage.client.request("GET", "/h", "a", &[], b"").await?;
    assert_eq!((get.header("x-cache-status"), get.json()["method"].as_str()), (Some("Miss"), Some("GET")));
    assert_eq!(status(&mut stage, "GET", "/h", &[]).await?, "Hit");
    Ok(())
}

#[tokio::test]
async fn some_requests_and_responses_bypass() -> Result<()> {
    let mut stage = Stage::start(cache("bypass", json!({})), json!({})).await?;
    for (method, behaviour) in
        [("POST", "status:200"), ("GET", "status:500"), ("GET", "bytes:10,header:Content-Type=text/html")]
    {
        for _ in 0..2 {
            let found = status(&mut stage, method, "/b", &[("X-Echo", behaviour)]).await?;
            assert_eq!(found, "Bypass", "{method} {behaviour}");
        }
    }
    assert_eq!(stage.echo.requests(), 6);
    Ok(())
}

#[tokio::test]
async fn entries_grow_old() -> Result<()> {
    let clock = Arc::new(ManualClock::default());
    let config = cache("old", json!({"cache_ttl": 1, "storage_ttl": 60}));
    let mut stage = Stage::with_clock(config, clock.clone()).await?;
    assert_eq!(status(&mut stage, "GET", "/o", &[]).await?, "Miss");
    assert_eq!(status(&mut stage, "GET", "/o", &[]).await?, "Hit");
    clock.advance(Duration::from_millis(2_050));
    assert_eq!(status(&mut stage, "GET", "/o", &[]).await?, "Refresh");
    assert_eq!(status(&mut stage, "GET", "/o", &[]).await?, "Hit");
    Ok(())
}

#[tokio::test]
async fn cache_control_is_obeyed() -> Result<()> {
    let mut stage = Stage::start(cache("control", json!({"cache_control": true})), json!({})).await?;
    let kept = ("X-Echo", "header:Cache-Control=max-age=60");
    assert_eq!(status(&mut stage, "GET", "/c", &[kept]).await?, "Miss");
    assert_eq!(status(&mut stage, "GET", "/c", &[kept]).await?, "Hit");
    assert_eq!(status(&mut stage, "GET", "/c", &[kept, ("Cache-Control", "no-store")]).await?, "Bypass");
    assert_eq!(status(&mut stage, "GET", "/c", &[kept, ("Authorization", "x")]).await?, "Bypass");
    let only = stage.get("/never", &[("Cache-Control", "only-if-cached")]).await?;
    assert_eq!(only.status, 504);
    for control in ["private", "no-store", "no-cache", "max-age=0"] {
        let behaviour = format!("header:Cache-Control={control}");
        for _ in 0..2 {
            let found = status(&mut stage, "GET", &format!("/{control}"), &[("X-Echo", &behaviour)]).await?;
            assert_eq!(found, "Bypass", "{control}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn named_headers_and_arguments_tell_requests_apart() -> Result<()> {
    let vary = json!({"vary_headers": ["X-Lang"], "vary_query_params": ["page"]});
    let mut stage = Stage::start(cache("vary", vary), json!({})).await?;
    for (target, lang, expect) in [
        ("/v?page=1&junk=1", "de", "Miss"),
        ("/v?page=1&junk=2", "de", "Hit"),
        ("/v?page=1", "fr", "Miss"),
        ("/v?page=2", "de", "Miss"),
        ("/v?page=2&junk=2", "de", "Hit"),
    ] {
        assert_eq!(status(&mut stage, "GET", target, &[("X-Lang", lang)]).await?, expect, "{target} {lang}");
    }
    Ok(())
}

#[tokio::test]
async fn consumers_do_not_see_each_others_entries() -> Result<()> {
    let mut list = cache("consumers", json!({}));
    list.as_array_mut().expect("a list").push(json!({"name": "key-auth", "config": {"hide_credentials": true}}));
    let more = json!({"consumers": [
        {"username": "alice", "keyauth_credentials": [{"key": "ka"}]},
        {"username": "bob", "keyauth_credentials": [{"key": "kb"}]}
    ]});
    let mut stage = Stage::start(list, more).await?;
    for (key, name, expect) in
        [("ka", "alice", "Miss"), ("kb", "bob", "Miss"), ("ka", "alice", "Hit"), ("kb", "bob", "Hit")]
    {
        let response = stage.get("/x", &[("apikey", key)]).await?;
        assert_eq!(response.header("x-cache-status"), Some(expect), "{key}");
        assert_eq!(super::told(&response.json(), "x-consumer-username"), [name]);
    }
    assert_eq!(stage.get("/x", &[]).await?.status, 401, "a hit does not go around authentication");
    Ok(())
}

#[tokio::test]
async fn keys_do_not_collide() -> Result<()> {
    let mut stage = Stage::start(cache("keys", json!({"vary_headers": ["x-a", "x-b"]})), json!({})).await?;
    let many: String = (0..100).map(|n| format!("a{n:02}=1&")).collect();
    let (one, two) = (format!("/n?{many}id=1"), format!("/n?{many}id=2"));
    for (first, second) in [
        ("/k?a=1%3Ab%3D2", "/k?a=1&b=2"),
        ("/k?c=1%2C2", "/k?c=1&c=2"),
        ("/x|b=1?", "/x?b=1%7C"),
        (one.as_str(), two.as_str()),
    ] {
        for target in [first, second] {
            assert_eq!(status(&mut stage, "GET", target, &[]).await?, "Miss", "{target}");
            assert_eq!(status(&mut stage, "GET", target, &[]).await?, "Hit", "{target}");
        }
    }
    assert_eq!(status(&mut stage, "GET", "/h", &[("x-a", "1:x-b=2")]).await?, "Miss");
    assert_eq!(status(&mut stage, "GET", "/h", &[("x-a", "1"), ("x-b", "2")]).await?, "Miss");
    assert_eq!(status(&mut stage, "GET", "/k?a=1&b=2", &[("Authorization", "Basic eDp5")]).await?, "Miss");
    Ok(())
}

#[tokio::test]
async fn hosts_do_not_share_entries() -> Result<()> {
    let mut stage = Stage::start(cache("hosts", json!({})), json!({})).await?;
    for (host, expect) in [("a.example", "Miss"), ("b.example", "Miss"), ("a.example", "Hit")] {
        let response = stage.client.request("GET", "/", host, &[], b"").await?;
        assert_eq!(response.header("x-cache-status"), Some(expect), "{host}");
    }
    Ok(())
}

#[tokio::test]
async fn a_body_is_not_part_of_the_key() -> Result<()> {
    let mut stage = Stage::start(cache("body", json!({"request_method": ["GET", "POST"]})), json!({})).await?;
    for method in ["GET", "POST"] {
        let with_body = stage.client.request(method, "/q", "a", &[], b"id=1").await?;
        assert_eq!(with_body.header("x-cache-status"), Some("Bypass"), "{method}");
        assert_eq!(status(&mut stage, method, "/q", &[]).await?, "Miss", "{method}");
        let with_body = stage.client.request(method, "/q", "a", &[], b"id=1").await?;
        assert_eq!(with_body.header("x-cache-status"), Some("Bypass"), "{method}");
        assert_eq!(status(&mut stage, method, "/q", &[]).await?, "Hit", "{method}");
    }
    let mut client = stage.h2().await?;
    let with_body = client.request("GET", "a", "/q", &[], b"id=1").await?;
    assert_eq!(with_body.header("x-cache-status"), Some("Bypass"));
    Ok(())
}

#[tokio::test]
async fn names_with_underscores_are_no_way_into_the_entry_of_others() -> Result<()> {
    let mut stage = Stage::start(cache("respelled", json!({ "vary_headers": ["x-flavor"] })), json!({})).await?;
    let varies = ("X-Echo", "header:Vary=User-Agent");
    // CGI-like servers derive the same variable from all of these; other servers do not.
    let requests: [&[(&str, &str)]; 8] = [
        &[("User-Agent", "a")],
        &[("User_Agent", "a")],
        &[("User-Agent", "a"), ("User_Agent", "b")],
        &[("User_Agent", "b"), ("User-Agent", "a")],
        &[("User-Agent", "a"), ("X-Flavor", "1")],
        &[("User-Agent", "a"), ("X_Flavor", "1")],
        &[("User-Agent", "a"), ("X-Flavor", "1"), ("X_Flavor", "2")],
        &[("User-Agent", "a"), ("X_Flavor", "1"), ("X_Flavor", "2")],
    ];
    for expect in ["Miss", "Hit"] {
        for fields in requests {
            let fields: Vec<_> = fields.iter().copied().chain([varies]).collect();
            assert_eq!(status(&mut stage, "GET", "/", &fields).await?, expect, "{fields:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn responses_vary_as_they_say() -> Result<()> {
    let mut stage = Stage::start(cache("varying", json!({})), json!({})).await?;
    let varies = ("X-Echo", "header:Vary=Accept-Language");
    for (language, expect) in [("de", "Miss"), ("fr", "Miss"), ("de", "Hit"), ("fr", "Hit")] {
        let found = status(&mut stage, "GET", "/", &[varies, ("Accept-Language", language)]).await?;
        assert_eq!(found, expect, "{language}");
    }
    for (behaviour, target) in
        [("header:Vary=*", "/1"), ("header:Set-Cookie=id=1", "/2"), ("status:206", "/3"), ("status:304", "/4")]
    {
        for _ in 0..2 {
            assert_eq!(status(&mut stage, "GET", target, &[("X-Echo", behaviour)]).await?, "Bypass", "{behaviour}");
        }
    }
    Ok(())
}
