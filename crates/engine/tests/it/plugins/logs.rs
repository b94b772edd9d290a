//! file-log and http-log: the record of a request.

use anyhow::Result;
use cardinal_testkit::{Authority, EchoServer, H1Client, ScriptedPeer, Step, TempDir, World};
use serde_json::{Value, json};

use super::Stage;
use super::order::lines;

#[tokio::test]
async fn custom_fields_are_computed_from_the_request() -> Result<()> {
    let folder = TempDir::new("logs");
    let path = folder.path().join("log");
    let list = json!([{"name": "file-log", "config": {"path": path, "custom_fields_by_lua": {
        "request_id": "return kong.request.get_header(\"x-request-id\") or \"none\"",
        "path": "return kong.request.get_path()",
        "failed": "return kong.response.get_status() >= 400",
        "request.url": "return nil",
        "broken": "return kong.request.get_header('absent'):upper()",
    }}}]);
    let mut stage = Stage::start(list, json!({})).await?;
    stage.get("/a//%62?q=1", &[("X-Request-Id", "r1")]).await?;
    stage.get("/a", &[("X-Echo", "status:404")]).await?;
    let records = lines(&folder, "log", 2).await;
    let fields = |record: &Value| json!([record["request_id"], record["path"], record["failed"], record["broken"]]);
    assert_eq!(fields(&records[0]), json!(["r1", "/a/b", false, null]));
    assert_eq!(fields(&records[1]), json!(["none", "/a", true, null]));
    assert!(records.iter().all(|record| record["request"].get("url").is_none()));
    Ok(())
}

/// The keys of an object, sorted.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Checks the shape of a record of a proxied request of alice.
fn check(record: &Value, port: u16) {
    assert_eq!(
        keys(record),
        [
            "authenticated_entity",
            "client_ip",
            "consumer",
            "correlation_id",
            "latencies",
            "request",
            "response",
            "route",
            "service",
            "source",
            "started_at",
            "tries",
            "upstream_status",
            "upstream_uri",
            "workspace",
            "workspace_name"
        ]
    );
    let request = &record["request"];
    assert_eq!(keys(request), ["headers", "id", "method", "querystring", "size", "uri", "url"]);
    assert_eq!((&request["method"], &request["uri"]), (&json!("POST"), &json!("/p%20q?a=1&b=2&b=3")));
    assert_eq!(request["querystring"], json!({"a": "1", "b": ["2", "3"]}));
    assert!(
        request["url"]
            .as_str()
            .is_some_and(|url| url.starts_with("http://a.test:") && url.ends_with("/p%20q?a=1&b=2&b=3")
                || url.starts_with("http://a.test/")),
        "{request}"
    );
    assert_eq!(request["headers"]["authorization"], "REDACTED");
    assert_eq!(request["headers"]["x-two"], json!(["1", "2"]));
    assert_eq!(request["id"].as_str().map(str::len), Some(32));
    assert!(request["size"].as_u64().is_some_and(|size| size > 100), "{request}");
    let response = &record["response"];
    assert_eq!(keys(response), ["headers", "size", "status"]);
    assert_eq!((&response["status"], &response["headers"]["x-own"]), (&json!(201), &json!("1")));
    assert!(response["size"].as_u64().is_some_and(|size| size > 100), "{response}");
    assert_eq!(keys(&record["latencies"]), ["kong", "proxy", "receive", "request"]);
    assert!(record["latencies"].as_object().expect("an object").values().all(Value::is_i64), "{record}");
    assert_eq!((&record["upstream_status"], &record["source"]), (&json!("201"), &json!("upstream")));
    assert_eq!(record["upstream_uri"], "/p%20q?a=1&b=2&b=3");
    let tries = &record["tries"][0];
    assert_eq!((&tries["ip"], &tries["port"]), (&json!("127.0.0.1"), &json!(port)));
    for name in ["balancer_start", "balancer_start_ns", "balancer_latency", "balancer_latency_ns"] {
        assert!(tries[name].is_u64(), "{name}: {tries}");
    }
    assert!(tries.get("state").is_none() && tries.get("code").is_none(), "{tries}");
    assert_eq!((&record["consumer"]["username"], &record["client_ip"]), (&json!("alice"), &json!("127.0.0.1")));
    assert_eq!(record["authenticated_entity"]["consumer_id"], record["consumer"]["id"]);
    assert_eq!((&record["service"]["name"], &record["route"]["name"]), (&json!("s"), &json!("r")));
    assert_eq!(record["route"]["service"], json!({"id": record["service"]["id"]}));
    assert_eq!(record["route"]["paths"], json!(["/"]));
    assert!(record["started_at"].as_u64().is_some_and(|ms| ms > 1_600_000_000_000));
    assert_eq!(record["workspace"], "0dc6f45b-8f8d-40d2-a504-473544ee190b");
    assert_eq!((&record["workspace_name"], &record["correlation_id"]), (&json!("default"), &json!("mine")));
}

fn consumers() -> Value {
    json!({"consumers": [{"username": "alice", "keyauth_credentials": [{"key": "k"}]}]})
}

async fn ask(client: &mut H1Client) -> Result<()> {
    let fields = [
        ("apikey", "k"),
        ("Authorization", "Bearer hush"),
        ("X-Two", "1"),
        ("X-Two", "2"),
        ("X-Id", "mine"),
        ("X-Echo", "status:201,header:X-Own=1"),
    ];
    let response = client.request("POST", "/p%20q?a=1&b=2&b=3", "a.test", &fields, b"hello").await?;
    assert_eq!(response.status, 201, "{}", response.text());
    Ok(())
}

#[tokio::test]
async fn records_have_kongs_shape_in_a_file() -> Result<()> {
    let folder = TempDir::new("log");
    let path = folder.path().join("log").display().to_string();
    let mut stage = Stage::start(
        json!([{"name": "key-auth"}, {"name": "correlation-id", "config": {"header_name": "X-Id"}},
            {"name": "file-log", "config": {"path": path}}]),
        consumers(),
    )
    .await?;
    ask(&mut stage.client).await?;
    check(&lines(&folder, "log", 1).await[0], stage.echo.address().port());
    assert_eq!(stage.get("/", &[]).await?.status, 401);
    let refused = lines(&folder, "log", 2).await.remove(1);
    assert!(refused.get("consumer").is_none() && refused.get("authenticated_entity").is_none());
    assert_eq!((&refused["upstream_status"], &refused["tries"]), (&json!(""), &json!([])));
    assert_eq!((&refused["latencies"]["proxy"], &refused["source"]), (&json!(-1), &json!("kong")));
    let text = folder.read("log");
    assert!(!text.contains("hush"));
    Ok(())
}

#[tokio::test]
async fn records_are_posted_alone_or_in_lists() -> Result<()> {
    let answer = || {
        vec![
            Step::until("\r\n\r\n"),
            Step::Pause(std::time::Duration::from_millis(50)),
            Step::send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            Step::Drain,
        ]
    };
    let single = ScriptedPeer::start(vec![answer()]).await;
    let list = ScriptedPeer::start(vec![answer()]).await;
    let log = |peer: &ScriptedPeer, path: &str, batch: u32| {
        json!({"name": "http-log", "config": {
        "http_endpoint": format!("http://user:pass@{}/{path}", peer.address()), "headers": {"X-Source": "gw"},
        "queue": {"max_batch_size": batch, "max_coalescing_delay": 0.1}}})
    };
    let mut global = log(&list, "list", 10);
    global["service"] = json!("s");
    let mut more = consumers();
    more["plugins"] =
        json!([{"name": "key-auth"}, {"name": "correlation-id", "config": {"header_name": "X-Id"}}, global]);
    let mut stage = Stage::start(json!([]), more.clone()).await?;
    ask(&mut stage.client).await?;
    ask(&mut stage.client).await?;
    let sent = received(&list, "/list").await;
    assert_eq!(sent.as_array().map(Vec::len), Some(2));
    check(&sent[0], stage.echo.address().port());
    check(&sent[1], stage.echo.address().port());
    more["plugins"][2] = log(&single, "one", 1);
    stage.world.apply(&super::file(&stage.echo.url(), json!([]), more))?;
    ask(&mut stage.client).await?;
    check(&received(&single, "/one").await, stage.echo.address().port());
    Ok(())
}

/// The JSON of the first call of the peer.
async fn received(peer: &ScriptedPeer, path: &str) -> Value {
    let record = cardinal_testkit::until_some("a record", async || {
        let text = peer.received().first().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        let parts = text.split_once("\r\n\r\n");
        if let Some((head, value)) = parts.and_then(|(head, body)| Some((head, serde_json::from_str(body).ok()?))) {
            let head = head.to_ascii_lowercase();
            assert!(head.starts_with(&format!("post {path} http/1.1\r\n")), "{head}");
            assert!(head.contains("\r\nauthorization: basic dxnlcjpwyxnz"), "{head}");
            assert!(head.contains("\r\nx-source: gw"), "{head}");
            assert!(head.contains("\r\ncontent-type: application/json"), "{head}");
            return Some(value);
        }
        None
    });
    record.await.unwrap_or_else(|error| panic!("{error}: {:?}", peer.errors()))
}

#[tokio::test]
async fn records_of_tls_and_failed_tries() -> Result<()> {
    let folder = TempDir::new("log");
    let path = folder.path().join("log").display().to_string();
    let echo = EchoServer::start("e").await;
    let authority = Authority::new("test root");
    let issued = authority.issue(&["secure.test"]);
    let closed = cardinal_testkit::free_port();
    let file = json!({"_format_version": "3.0",
        "certificates": [{"cert": issued.cert_pem, "key": issued.key_pem, "snis": [{"name": "secure.test"}]}],
        "plugins": [{"name": "file-log", "config": {"path": path,
            "custom_fields_by_lua": {"extra.field": "return 'x'", "client_ip": "return nil"}}}],
        "services": [{"name": "s", "url": echo.url(), "routes": [{"name": "r", "paths": ["/ok"]}]},
            {"name": "dead", "url": format!("http://127.0.0.1:{closed}"), "retries": 1, "routes": [{"name": "d", "paths": ["/dead"]}]}]});
    let world = World::start(crate::plugins(), &file.to_string(), &[])?;
    let mut client = H1Client::connect_tls(world.https(), "secure.test", authority.client(None, &[])).await?;
    assert_eq!(client.get("/ok", "secure.test", &[]).await?.status, 200);
    assert_eq!(client.get("/dead", "secure.test", &[]).await?.status, 502);
    let records = lines(&folder, "log", 2).await;
    assert_eq!(keys(&records[0]["request"]["tls"]), ["cipher", "client_verify", "version"]);
    assert_eq!(records[0]["request"]["tls"]["version"], "TLSv1.3");
    assert_eq!(records[0]["request"]["tls"]["client_verify"], "NONE");
    assert_eq!((&records[0]["extra"]["field"], records[0].get("client_ip")), (&json!("x"), None));
    let tries = records[1]["tries"].as_array().expect("tries");
    assert_eq!(tries.len(), 2, "{}", records[1]);
    assert!(tries[0]["state"] == "failed" || tries[0]["state"] == "next", "{}", records[1]);
    assert_eq!(records[1]["source"], "kong");
    Ok(())
}

#[tokio::test]
async fn the_body_counts_once_in_the_size_of_a_request() -> Result<()> {
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let json_answer = ("X-Echo", "header:Content-Type=application/json");
    let collects_request = json!({"name": "request-transformer", "config": {"add": {"body": ["a:b"]}}});
    let collects_response = json!({"name": "response-transformer", "config": {"add": {"json": ["a:b"]}}});
    // A POST is streamed; a PUT is buffered for retries, unless a plugin buffers it.
    for (method, collecting) in [
        ("POST", vec![]),
        ("PUT", vec![]),
        ("POST", vec![collects_request.clone()]),
        ("POST", vec![collects_response.clone()]),
        ("PUT", vec![collects_request, collects_response]),
    ] {
        let folder = TempDir::new("logs");
        let log = json!({"name": "file-log", "config": {"path": folder.path().join("log")}});
        let mut stage = Stage::start(json!([vec![log], collecting.clone()].concat()), json!({})).await?;
        for length in [1_000, 9_000] {
            let body = vec![b'x'; length];
            let response = stage.client.request(method, "/", "a", &[form, json_answer], &body).await?;
            assert_eq!(response.status, 200, "{method} {collecting:?}");
        }
        let sizes: Vec<_> =
            lines(&folder, "log", 2).await.iter().map(|line| line["request"]["size"].as_u64()).collect();
        assert_eq!(sizes[1].zip(sizes[0]).map(|(two, one)| two - one), Some(8_000), "{method} {collecting:?}");
    }
    Ok(())
}
