//! rate-limiting and request-size-limiting.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cardinal_base::ManualClock;
use cardinal_engine::explain::{Explainer, Question};
use cardinal_test_tools::tools;
use cardinal_testkit::{Authority, H1Client, ScriptedPeer, Server, Step, TempDir, World, free_port};
use serde_json::{Value, json};

use super::Stage;
use crate::plugins;

fn rate(config: Value) -> Value {
    json!([{"name": "rate-limiting", "config": config}])
}

#[tokio::test]
async fn limits_are_told_and_hold() -> Result<()> {
    let mut stage = Stage::start(rate(json!({"hour": 3, "day": 100})), json!({})).await?;
    for left in ["2", "1", "0"] {
        let response = stage.get("/", &[]).await?;
        assert_eq!(response.status, 200);
        assert_eq!(response.header("x-ratelimit-limit-hour"), Some("3"));
        assert_eq!(response.header("x-ratelimit-remaining-hour"), Some(left));
        assert_eq!(response.header("x-ratelimit-limit-day"), Some("100"));
        assert_eq!(response.header("ratelimit-limit"), Some("3"));
        assert_eq!(response.header("ratelimit-remaining"), Some(left));
        assert!(response.header("ratelimit-reset").is_some_and(|s| (1..=3600).contains(&s.parse().unwrap_or(0))));
        assert_eq!(response.header("retry-after"), None);
    }
    let refused = stage.get("/", &[]).await?;
    assert_eq!((refused.status, refused.json()["message"].as_str()), (429, Some("API rate limit exceeded")));
    assert_eq!(refused.header("retry-after"), refused.header("ratelimit-reset"));
    assert_eq!(refused.header("x-ratelimit-remaining-hour"), Some("0"));
    let mut client = stage.h2().await?;
    let refused = client.request("POST", "a", "/", &[], &[b'x'; 100_000]).await?;
    assert_eq!(refused.status, 429);
    assert_eq!(stage.echo.requests(), 3);
    Ok(())
}

#[tokio::test]
async fn requests_are_counted_by_what_is_asked_for() -> Result<()> {
    let config = json!({"hour": 1, "limit_by": "header", "header_name": "X-Tenant", "error_code": 420,
        "error_message": "slow down", "hide_client_headers": true});
    let mut stage = Stage::start(rate(config), json!({})).await?;
    assert_eq!(stage.said("/", &[("X-Tenant", "a")]).await?, "200");
    assert_eq!(stage.said("/", &[("X-Tenant", "a")]).await?, "420 slow down");
    let other = stage.get("/", &[("X-Tenant", "b")]).await?;
    assert_eq!((other.status, other.header("x-ratelimit-limit-hour")), (200, None));

    let mut list = rate(json!({"hour": 1}));
    list.as_array_mut().expect("a list").push(json!({"name": "key-auth"}));
    let more = json!({"consumers": [
        {"username": "alice", "keyauth_credentials": [{"key": "a1"}, {"key": "a2"}]},
        {"username": "bob", "keyauth_credentials": [{"key": "b"}]}
    ]});
    let mut stage = Stage::start(list, more).await?;
    for (key, status) in [("a1", 200), ("a2", 429), ("b", 200), ("b", 429), ("none", 401)] {
        assert_eq!(stage.get("/", &[("apikey", key)]).await?.status, status, "{key}");
    }
    Ok(())
}

#[tokio::test]
async fn all_spellings_of_a_path_have_one_counter() -> Result<()> {
    for window in ["fixed", "sliding"] {
        let config = json!({"hour": 1, "limit_by": "path", "path": "/rp/x", "window_type": window});
        let mut stage = Stage::start(rate(config), json!({})).await?;
        assert_eq!(stage.said("/rp/x", &[]).await?, "200");
        for target in ["/rp/x", "/rp/%78", "/rp//x", "/rp/./x", "/rp/y/../x", "/%72p/x?q=1"] {
            assert_eq!(stage.said(target, &[]).await?, "429 API rate limit exceeded", "{target}");
        }
        let mut client = stage.h2().await?;
        assert_eq!(client.request("GET", "a", "/rp/%78", &[], b"").await?.status, 429);
        // Other paths count by address.
        assert_eq!(stage.said("/rp/X", &[]).await?, "200");
        assert_eq!(stage.said("/rp/x/", &[]).await?, "429 API rate limit exceeded");
    }
    Ok(())
}

#[tokio::test]
async fn a_header_value_does_not_count_for_somebody_else() -> Result<()> {
    let config = json!({"hour": 1, "limit_by": "header", "header_name": "X-Tenant"});
    let mut stage = Stage::start(rate(config), json!({})).await?;
    assert_eq!(stage.said("/", &[("X-Tenant", "127.0.0.1")]).await?, "200");
    assert_eq!(stage.said("/", &[]).await?, "200", "the client's address has a counter of its own");
    let long = "x".repeat(4_000);
    assert_eq!(stage.said("/", &[("X-Tenant", &long)]).await?, "200");
    assert_eq!(stage.said("/", &[("X-Tenant", &long)]).await?, "429 API rate limit exceeded");
    Ok(())
}

#[tokio::test]
async fn nodes_share_counters_in_redis() -> Result<()> {
    let Some(_) = tools!("redis-server") else { return Ok(()) };
    let mut redis = Server::redis(&[])?;
    let config = |tolerant: bool, limit: u32| {
        rate(json!({"hour": limit, "policy": "redis", "fault_tolerant": tolerant,
            "redis": {"host": "127.0.0.1", "port": redis.address().port(), "timeout": 500}}))
    };
    // The same service on two nodes: the counters are keyed by its id.
    let mut one = Stage::start(config(true, 3), json!({})).await?;
    let mut two = Stage::start(config(true, 3), json!({})).await?;
    let mut strict = Stage::start(config(false, 100), json!({})).await?;
    assert_eq!(one.get("/", &[]).await?.header("x-ratelimit-remaining-hour"), Some("2"));
    assert_eq!(two.get("/", &[]).await?.header("x-ratelimit-remaining-hour"), Some("1"));
    assert_eq!(one.get("/", &[]).await?.header("x-ratelimit-remaining-hour"), Some("0"));
    assert_eq!(two.get("/", &[]).await?.status, 429);
    assert_eq!(one.get("/", &[]).await?.status, 429);
    assert_eq!(strict.get("/", &[]).await?.status, 200);
    redis.kill();
    for _ in 0..3 {
        let open = one.get("/", &[]).await?;
        assert_eq!((open.status, open.header("x-ratelimit-limit-hour")), (200, None), "{}", open.text());
        assert_eq!(strict.said("/", &[]).await?, "500 An unexpected error occurred");
    }
    Ok(())
}

#[tokio::test]
async fn a_redis_that_never_was_is_tolerated_or_not() -> Result<()> {
    let config = |tolerant: bool| {
        rate(json!({"hour": 1, "policy": "redis", "fault_tolerant": tolerant,
            "redis": {"host": "127.0.0.1", "port": free_port(), "timeout": 200}}))
    };
    let mut open = Stage::start(config(true), json!({})).await?;
    let mut strict = Stage::start(config(false), json!({})).await?;
    for _ in 0..3 {
        assert_eq!(open.get("/", &[]).await?.status, 200);
        assert_eq!(strict.get("/", &[]).await?.status, 500);
    }
    Ok(())
}

#[tokio::test]
async fn redis_counts_are_exchanged_in_the_background() -> Result<()> {
    let Some(_) = tools!("redis-server") else { return Ok(()) };
    let redis = Server::redis(&[])?;
    let config = rate(json!({"hour": 10, "policy": "redis", "sync_rate": 0.05,
        "redis": {"host": "127.0.0.1", "port": redis.address().port()}}));
    let clock = Arc::new(ManualClock::default());
    let mut one = Stage::with_clock(config.clone(), clock.clone()).await?;
    let mut two = Stage::with_clock(config, clock.clone()).await?;
    for _ in 0..4 {
        assert_eq!(one.get("/", &[]).await?.status, 200);
    }
    // The requests counted by the other node itself are included.
    let mut own = 0;
    let heard = cardinal_testkit::until_some("the other node to hear of the requests", async || {
        clock.advance(Duration::from_millis(50));
        own += 1;
        let response = two.get("/", &[("X-Echo", "status:200")]).await.ok()?;
        let left: u32 = response.header("x-ratelimit-remaining-hour")?.parse().ok()?;
        (left + own == 6).then_some(())
    });
    heard.await
}

/// A host that is only in the node's hosts file, and TLS verified by the node's certificate authorities.
#[tokio::test]
async fn redis_is_reached_by_the_nodes_resolver_and_authorities() -> Result<()> {
    let Some(_) = tools!("redis-server") else { return Ok(()) };
    let authority = Authority::new("ours");
    let redis = Server::redis_tls(&authority.issue(&["redis.internal"]), &[])?;
    let folder = TempDir::new("redis-node");
    let hosts = folder.write("hosts", "127.0.0.1 redis.internal other.internal\n");
    let ours = folder.write("ours.pem", authority.cert_pem());
    let theirs = folder.write("theirs.pem", Authority::new("theirs").cert_pem());
    let record = |host: &str, more: Value| {
        let mut record = json!({"host": host, "port": redis.address().port(), "ssl": true});
        record.as_object_mut().expect("a record").extend(more.as_object().expect("fields").clone());
        rate(json!({"hour": 100, "policy": "redis", "fault_tolerant": false, "redis": record}))
    };
    let verify = json!({"ssl_verify": true});
    let named = json!({"ssl_verify": true, "server_name": "redis.internal"});
    for (what, authorities, config, status) in [
        ("verified by the host", &ours, record("redis.internal", verify.clone()), 200),
        ("verified by the server name", &ours, record("other.internal", named.clone()), 200),
        ("another name", &ours, record("other.internal", verify.clone()), 500),
        ("another authority", &theirs, record("redis.internal", verify), 500),
        ("not verified", &theirs, record("other.internal", json!({"ssl_verify": false})), 200),
        ("a name that the hosts file does not have", &ours, record("nowhere.internal", named), 500),
    ] {
        let settings = [
            ("dns_hostsfile", hosts.to_str().expect("a path")),
            ("lua_ssl_trusted_certificate", authorities.to_str().expect("a path")),
            // No DNS server is listening here, so no real server is queried.
            ("dns_resolver", "127.0.0.1:9"),
        ];
        let mut stage = Stage::with_settings(config, json!({}), &settings).await?;
        let response = stage.get("/", &[]).await?;
        assert_eq!(response.status, status, "{what}: {}", response.text());
        assert_eq!(response.header("x-ratelimit-limit-hour").is_some(), status == 200, "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn a_changed_password_is_used_from_the_next_generation_on() -> Result<()> {
    let Some(_) = tools!("redis-server") else { return Ok(()) };
    let redis = Server::redis(&["--user", "alice", "on", ">first", "~*", "+@all"])?;
    let config = |password: &str| {
        rate(json!({"hour": 10, "policy": "redis", "fault_tolerant": false, "redis": {"host": "127.0.0.1",
            "port": redis.address().port(), "username": "alice", "password": password}}))
    };
    let mut stage = Stage::start(config("first"), json!({})).await?;
    for (password, left) in [("first", Some("9")), ("second", None), ("first", Some("8"))] {
        stage.world.apply(&super::file(&stage.echo.url(), config(password), json!({})))?;
        let response = stage.get("/", &[]).await?;
        assert_eq!(response.header("x-ratelimit-remaining-hour"), left, "{password}: {}", response.text());
        assert_eq!(response.status == 200, left.is_some());
    }
    Ok(())
}

#[tokio::test]
async fn counting_goes_on_when_redis_was_restarted() -> Result<()> {
    let Some(_) = tools!("redis-server") else { return Ok(()) };
    let mut redis = Server::redis(&[])?;
    let port = redis.address().port();
    let config = rate(json!({"hour": 10, "policy": "redis", "redis": {"host": "127.0.0.1", "port": port}}));
    let mut stage = Stage::start(config, json!({})).await?;
    assert_eq!(stage.get("/", &[]).await?.header("x-ratelimit-remaining-hour"), Some("9"));
    redis.kill();
    let open = stage.get("/", &[]).await?;
    assert_eq!((open.status, open.header("x-ratelimit-remaining-hour")), (200, None));
    let _redis = Server::redis_on(port, &[])?;
    let first = cardinal_testkit::until_some("counting to go on", async || {
        let response = stage.get("/", &[]).await.ok()?;
        assert_eq!(response.status, 200, "{}", response.text());
        response.header("x-ratelimit-remaining-hour").map(str::to_owned)
    });
    // The server has lost its counters and scripts.
    assert_eq!(first.await?, "9");
    Ok(())
}

/// Explaining a request must not count it.
#[tokio::test]
async fn explaining_does_not_ask_redis() -> Result<()> {
    let peer = ScriptedPeer::start(vec![vec![Step::Drain]]).await;
    let config = rate(json!({"hour": 1, "policy": "redis", "fault_tolerant": false,
        "redis": {"host": "127.0.0.1", "port": peer.address().port(), "timeout": 200}}));
    let stage = Stage::start(config.clone(), json!({})).await?;
    let file = super::file(&stage.echo.url(), config, json!({}));
    let (explainer, _) = Explainer::new(stage.world.compile(&file)?, plugins())?;
    let question = Question { method: "GET".to_owned(), url: "http://a.test/".to_owned(), ..Question::default() };
    for _ in 0..3 {
        let decision = explainer.decide(&question, 0).await?;
        assert_eq!(decision.reply, None);
    }
    assert_eq!(peer.connections(), 0);
    Ok(())
}

#[tokio::test]
async fn bodies_are_measured_in_every_framing() -> Result<()> {
    let size = json!([{"name": "request-size-limiting", "config": {"allowed_payload_size": 10, "size_unit": "bytes"}}]);
    let mut stage = Stage::start(size, json!({})).await?;
    assert_eq!(stage.client.request("POST", "/", "a", &[], &[b'x'; 10]).await?.status, 200);
    let over = stage.client.request("POST", "/", "a", &[], &[b'x'; 11]).await?;
    assert_eq!((over.status, over.json()["message"].as_str()), (413, Some("Request size limit exceeded")));
    let chunked = |count: usize| {
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{count:x}\r\n{}\r\n0\r\n\r\n",
            "x".repeat(count)
        )
    };
    let mut client = H1Client::connect(stage.world.http()).await?;
    client.send(chunked(10)).await?;
    assert_eq!(client.response().await?.json()["body"]["bytes"], 10);
    client.send(chunked(11)).await?;
    assert_eq!(client.response().await?.status, 413);
    let head =
        |count: usize| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {count}\r\nExpect: 100-continue\r\n\r\n");
    let mut client = H1Client::connect(stage.world.http()).await?;
    client.send(head(10)).await?;
    assert_eq!(client.head().await?.0, 100);
    client.send("0123456789").await?;
    assert_eq!(client.response().await?.status, 200);
    client.send(head(11)).await?;
    let refused = client.response().await?;
    assert_eq!((refused.status, refused.interim.len()), (417, 0), "the client is not told to go on");
    let mut client = stage.h2().await?;
    let mut exchange = client.open("POST", "a", "/", &[], false).await?;
    exchange.send(&[b'x'; 11], true).await?;
    assert_eq!(exchange.head().await?.0, 413);
    assert_eq!(client.request("POST", "a", "/", &[], b"ok").await?.status, 200);
    for seen in stage.echo.seen() {
        assert!(seen.body_bytes <= 10, "{seen:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_length_can_be_required() -> Result<()> {
    let size = json!([{"name": "request-size-limiting", "config": {"require_content_length": true}}]);
    let mut stage = Stage::start(size, json!({})).await?;
    assert_eq!(stage.said("/", &[]).await?, "411 A valid Content-Length header is required");
    assert_eq!(stage.client.request("POST", "/", "a", &[], b"x").await?.status, 200);
    let world: &World = &stage.world;
    let mut client = H1Client::connect(world.http()).await?;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n").await?;
    assert_eq!(client.response().await?.status, 200);
    Ok(())
}
