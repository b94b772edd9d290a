//! cors: preflights are answered, other responses are marked.

use anyhow::Result;
use serde_json::json;

use super::Stage;

fn preflight<'a>(origin: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("Origin", origin), ("Access-Control-Request-Method", "PUT")], more].concat()
}

#[tokio::test]
async fn preflights_are_answered_before_authentication() -> Result<()> {
    let config = json!({"origins": ["http://one.test", "http://two.test"], "methods": ["GET", "PUT"], "max_age": 60,
        "credentials": true, "exposed_headers": ["X-Seen"]});
    let mut stage = Stage::start(json!([{"name": "key-auth"}, {"name": "cors", "config": config}]), json!({})).await?;
    let fields = preflight("http://two.test", &[("Access-Control-Request-Headers", "X-A, X-B")]);
    let response = stage.client.request("OPTIONS", "/", "a", &fields, b"").await?;
    assert_eq!((response.status, response.body.len()), (200, 0));
    assert_eq!(response.header("content-length"), Some("0"));
    assert_eq!(response.header("access-control-allow-origin"), Some("http://two.test"));
    assert_eq!(response.header("access-control-allow-methods"), Some("GET,PUT"));
    assert_eq!(response.header("access-control-allow-headers"), Some("X-A, X-B"));
    assert_eq!(response.header("access-control-max-age"), Some("60"));
    assert_eq!(response.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(response.header("vary"), Some("Origin"));
    let response = stage.client.request("OPTIONS", "/", "a", &[("Origin", "http://two.test")], b"").await?;
    assert_eq!(response.status, 401, "without a method asked for it is no preflight");
    let response = stage.get("/", &[("Origin", "http://one.test")]).await?;
    assert_eq!(response.status, 401);
    assert_eq!(response.header("access-control-allow-origin"), Some("http://one.test"), "errors are marked, too");
    assert_eq!(response.header("access-control-expose-headers"), Some("X-Seen"));
    assert_eq!(stage.echo.requests(), 0);
    Ok(())
}

#[tokio::test]
async fn actual_requests_are_marked_by_origin() -> Result<()> {
    let several = json!({"origins": ["http://one.test", "https://.*\\.two\\.test"]});
    let mut stage = Stage::start(json!([{"name": "cors", "config": several}]), json!({})).await?;
    let echo = ("X-Echo", "header:Access-Control-Allow-Origin=http://backend,header:Vary=Accept");
    for (origin, allowed) in [
        ("http://one.test", Some("http://one.test")),
        ("http://one.test:80", Some("http://one.test")),
        ("https://a.two.test", Some("https://a.two.test")),
        ("https://a.two.test.evil", None),
        ("http://other.test", None),
    ] {
        let response = stage.get("/", &[("Origin", origin), echo]).await?;
        assert_eq!(response.header("access-control-allow-origin"), allowed, "{origin}");
        let vary: Vec<_> = response.headers.all("vary").flat_map(|v| v.split(", ")).collect();
        assert_eq!(vary, ["Accept", "Origin"], "{origin}");
    }
    let mut stage = Stage::start(json!([{"name": "cors"}]), json!({})).await?;
    let mut client = stage.h2().await?;
    let response = client.request("GET", "a", "/", &[("origin", "http://any")], b"").await?;
    assert_eq!((response.header("access-control-allow-origin"), response.header("vary")), (Some("*"), None));
    let on = json!([{"name": "cors", "config": {"preflight_continue": true}}]);
    stage = Stage::start(on, json!({})).await?;
    let response = stage.client.request("OPTIONS", "/", "a", &preflight("http://x", &[]), b"").await?;
    assert_eq!((response.status, response.json()["method"].as_str()), (200, Some("OPTIONS")));
    Ok(())
}
