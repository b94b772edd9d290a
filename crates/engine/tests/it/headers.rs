//! Hop-by-hop fields, fields that are added, and the sources that may change them.

use anyhow::Result;
use cardinal_testkit::{EchoServer, H1Client, H2Client, Response, ScriptedPeer, Step, World};
use serde_json::{Value, json};

use crate::plugins;
use crate::scene::{file, one, sent, sent_all, service_of};

const VIA: &str = "cardinal";

/// A world with one backend that reports requests.
async fn plain(settings: &[(&str, &str)]) -> Result<(EchoServer, World)> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &one(&echo.url(), json!({}), json!({})), settings)?;
    Ok((echo, world))
}

/// The response received by a client for an upstream response.
async fn answered(answer: &str, settings: &[(&str, &str)]) -> Result<Response> {
    let peer = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(answer)]]).await;
    let url = format!("http://{}", peer.address());
    let world = World::start(plugins(), &one(&url, json!({ "retries": 0 }), json!({})), settings)?;
    H1Client::connect(world.http()).await?.get("/", "a", &[]).await
}

fn names(response: &Response) -> Vec<String> {
    response.headers.0.iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
}

#[tokio::test]
async fn what_belongs_to_a_connection_stays_on_it() -> Result<()> {
    let (_echo, world) = plain(&[]).await?;
    let mut client = H1Client::connect(world.http()).await?;
    let fields = [
        ("Connection", "keep-alive, X-Drop , x-other"),
        ("X-Drop", "1"),
        ("X-OTHER", "2"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy", "httpoxy"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "deflate, trailers"),
        ("Upgrade", "h2c"),
        ("X-Kept", "one"),
        ("X-Kept", "two"),
        ("Proxy-Authorization", "Basic eA=="),
    ];
    let seen = client.get("/", "a", &fields).await?.json();
    for name in ["x-drop", "x-other", "keep-alive", "proxy", "proxy-connection", "upgrade", "transfer-encoding"] {
        assert_eq!(sent_all(&seen, name), Vec::<String>::new(), "{name}");
    }
    assert_eq!((sent(&seen, "connection").as_str(), sent(&seen, "te").as_str()), ("keep-alive", "trailers"));
    assert_eq!(sent_all(&seen, "x-kept"), ["one", "two"], "repeated fields stay, in order");
    assert_eq!(sent(&seen, "proxy-authorization"), "Basic eA==");
    let seen = client.get("/", "a", &[("TE", "gzip"), ("Connection", "TE, Host, Content-Length")]).await?.json();
    assert_eq!(sent_all(&seen, "te"), Vec::<String>::new(), "nothing but trailers is passed on");
    assert!(!sent(&seen, "host").is_empty(), "what a message needs cannot be taken from it");
    let seen =
        client.request("POST", "/", "a", &[("Connection", "content-length, transfer-encoding")], b"body").await?.json();
    assert_eq!((&seen["body"]["text"], sent(&seen, "content-length").as_str()), (&json!("body"), "4"));
    let upgrade = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")];
    let response = client.get("/", "a", &upgrade).await?;
    assert_eq!(response.status, 200, "no tunnel is opened for HTTP/2");
    for name in ["upgrade", "http2-settings"] {
        assert_eq!(sent_all(&response.json(), name), Vec::<String>::new(), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn what_filters_add_cannot_be_taken_away() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let service = service_of(&echo.url(), json!({ "plugins": [{ "name": "key-auth" }] }), json!({}));
    let consumer = json!({ "username": "alice", "keyauth_credentials": [{ "key": "secret" }] });
    let world = World::start(plugins(), &file(json!({ "services": [service], "consumers": [consumer] })), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let fields = [
        ("apikey", "secret"),
        ("Connection", "X-Consumer-Username, X-Forwarded-For, X-Real-IP, Via, X-Kong-Request-Id"),
        ("X-Consumer-Username", "root"),
        ("X-Consumer-Username", "admin"),
        ("X-Kong-Request-Id", "mine"),
    ];
    let response = client.get("/", "a", &fields).await?;
    let seen = response.json();
    assert_eq!(sent(&seen, "x-consumer-username"), "alice");
    assert_eq!((sent(&seen, "x-real-ip"), sent(&seen, "x-forwarded-for")), ("127.0.0.1".into(), "127.0.0.1".into()));
    assert_eq!(sent(&seen, "via"), format!("1.1 {VIA}"));
    let id = sent(&seen, "x-kong-request-id");
    assert_eq!((id.len(), response.header("x-kong-request-id")), (32, Some(id.as_str())));
    Ok(())
}

/// Fields that the node sets, with all plugins of the test.
const OWN: [&str; 15] = [
    "X-Consumer-ID",
    "X-Consumer-Custom-ID",
    "X-Consumer-Username",
    "X-Consumer-Groups",
    "X-Authenticated-Groups",
    "X-Credential-Identifier",
    "X-Anonymous-Consumer",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Forwarded-Path",
    "X-Forwarded-Prefix",
    "X-Real-IP",
    "X-Kong-Request-Id",
];

/// The name of the variable in CGI and similar interfaces.
fn variable(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

#[tokio::test]
async fn no_spelling_of_a_field_that_the_node_sets_comes_from_clients() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let key = json!({ "name": "key-auth", "config": { "anonymous": "nobody" } });
    let id = json!({ "name": "correlation-id", "config": { "header_name": "X-Trace-Id" } });
    let acl = json!({ "name": "acl", "config": { "allow": ["staff"] } });
    let consumers = json!([
        { "username": "alice", "custom_id": "c", "keyauth_credentials": [{ "key": "secret" }],
          "acls": [{ "group": "staff" }] },
        { "username": "nobody" },
    ]);
    for (list, key) in [(json!([key, id]), "wrong"), (json!([key, id]), "secret"), (json!([key, id, acl]), "secret")] {
        for tags in [json!([]), json!(["upstream-http2"])] {
            let service = service_of(&echo.url(), json!({ "plugins": list, "tags": tags }), json!({}));
            let tables = json!({ "services": [service], "consumers": consumers });
            let world = World::start(plugins(), &file(tables), &[("trusted_ips", "127.0.0.0/8")])?;
            let all_dashed = OWN.iter().filter(|name| !name.contains("Forwarded")).map(|name| (*name).to_owned());
            let respelled = OWN.iter().flat_map(|name| {
                let underscored = name.replace('-', "_");
                [
                    underscored.to_ascii_lowercase(),
                    underscored,
                    name.replacen('-', "_", 1),
                    name.replacen("X-", "X_", 1),
                ]
            });
            let names: Vec<String> = respelled
                .chain(all_dashed)
                .chain(["X_Trace_Id".into()])
                .map(|name| name.to_ascii_lowercase())
                .collect();
            let mut fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "root")).collect();
            fields.extend([("apikey", key), ("x_free", "1"), ("content_type", "a/b")]);
            let one = H1Client::connect(world.http()).await?.get("/", "a", &fields).await?.json();
            let two = H2Client::connect(world.http()).await?.request("GET", "a", "/", &fields, b"").await?.json();
            for seen in [one, two] {
                let sent: Vec<(String, &str)> = (seen["headers"].as_array().unwrap().iter())
                    .map(|field| (field[0].as_str().unwrap().to_ascii_lowercase(), field[1].as_str().unwrap()))
                    .collect();
                for name in OWN.iter().chain(&["X-Trace-Id"]) {
                    let same: Vec<_> = sent.iter().filter(|(other, _)| variable(other) == variable(name)).collect();
                    assert!(same.len() < 2, "{name}: {same:?}");
                    assert!(same.iter().all(|(other, value)| !other.contains('_') && *value != "root"), "{same:?}");
                }
                assert!(sent.iter().any(|(name, value)| name == "x-trace-id" && value.len() == 38), "{sent:?}");
                assert!(sent.contains(&("x_free".into(), "1")) && sent.contains(&("content_type".into(), "a/b")));
                assert!(sent.contains(&("x-real-ip".into(), "127.0.0.1")), "{sent:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn proxies_name_themselves() -> Result<()> {
    let (_echo, world) = plain(&[]).await?;
    let mut h1 = H1Client::connect(world.http()).await?;
    let seen = h1.get("/", "a", &[("Via", "1.0 fred"), ("Via", "1.1 barney")]).await?;
    assert_eq!(sent(&seen.json(), "via"), format!("1.0 fred, 1.1 barney, 1.1 {VIA}"));
    assert_eq!(seen.header("via"), Some(format!("1.1 {VIA}").as_str()));
    let mut h2 = H2Client::connect(world.http()).await?;
    let seen = h2.request("GET", "a", "/", &[], b"").await?.json();
    assert_eq!(sent(&seen, "via"), format!("2 {VIA}"));
    let answer = "HTTP/1.1 200 OK\r\nVia: 1.1 up\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n";
    let response = answered(answer, &[]).await?;
    let via: Vec<&str> = response.headers.all("via").collect();
    assert_eq!((via.join(", "), response.header("server")), (format!("1.1 up, 1.1 {VIA}"), Some("nginx")));
    Ok(())
}

#[tokio::test]
async fn a_setting_selects_the_product_that_is_named() -> Result<()> {
    let own = format!("cardinal/{}", env!("CARGO_PKG_VERSION"));
    for (settings, via, server) in [
        (vec![], "cardinal", own.as_str()),
        (vec![("server_identity", "cardinal")], "cardinal", &own),
        (vec![("server_identity", "kong")], "kong/3.10.0", "kong/3.10.0"),
    ] {
        let echo = EchoServer::start("e").await;
        let yaml = one(&echo.url(), json!({}), json!({ "paths": ["/here"] }));
        let settings: Vec<_> = settings.into_iter().chain([("status_listen", "127.0.0.1:0")]).collect();
        let world = World::start(plugins(), &yaml, &settings)?;
        let mut h1 = H1Client::connect(world.http()).await?;
        let mut h2 = H2Client::connect(world.http()).await?;
        let proxied =
            [(h1.get("/here", "a", &[]).await?, "1.1"), (h2.request("GET", "a", "/here", &[], b"").await?, "2")];
        for (response, version) in proxied {
            assert_eq!(response.header("via"), Some(format!("1.1 {via}").as_str()));
            assert_eq!(sent(&response.json(), "via"), format!("{version} {via}"));
        }
        for local in [h1.get("/none", "a", &[]).await?, h2.request("GET", "a", "/none", &[], b"").await?] {
            assert_eq!((local.status, local.header("server"), local.header("via")), (404, Some(server), None));
        }
        let status = H1Client::connect(world.status()).await?.get("/status", "a", &[]).await?;
        assert_eq!(status.header("server"), Some(server));
    }
    Ok(())
}

#[tokio::test]
async fn a_setting_says_what_is_told() -> Result<()> {
    let told = [
        "via",
        "server",
        "x-kong-upstream-latency",
        "x-kong-proxy-latency",
        "x-kong-response-latency",
        "x-kong-request-id",
        "x-kong-upstream-status",
    ];
    for (setting, proxied, local) in [
        (
            "server_tokens, latency_tokens, X-Kong-Request-Id",
            vec!["via", "x-kong-upstream-latency", "x-kong-proxy-latency", "x-kong-request-id"],
            vec!["server", "x-kong-response-latency", "x-kong-request-id"],
        ),
        ("off", vec![], vec![]),
        ("X-Kong-Upstream-Status", vec!["x-kong-upstream-status"], vec![]),
        ("X-Kong-Proxy-Latency, Via", vec!["via", "x-kong-proxy-latency"], vec![]),
        ("latency_tokens", vec!["x-kong-upstream-latency", "x-kong-proxy-latency"], vec!["x-kong-response-latency"]),
    ] {
        let echo = EchoServer::start("e").await;
        let yaml = one(&echo.url(), json!({}), json!({ "paths": ["/here"] }));
        let world = World::start(plugins(), &yaml, &[("headers", setting)])?;
        let mut client = H1Client::connect(world.http()).await?;
        let response = client.get("/here", "a", &[("X-Echo", "status:201")]).await?;
        let found = |response: &Response| -> Vec<&str> {
            let names = names(response);
            told.into_iter().filter(|name| names.iter().any(|n| n == name)).collect()
        };
        assert_eq!(found(&response), proxied, "{setting}");
        if setting.contains("Status") {
            assert_eq!(response.header("x-kong-upstream-status"), Some("201"));
        }
        let response = client.get("/nothing", "a", &[]).await?;
        assert_eq!((response.status, found(&response)), (404, local), "{setting}");
    }
    let (_echo, world) = plain(&[("headers_upstream", "off")]).await?;
    let seen = H1Client::connect(world.http()).await?.get("/", "a", &[]).await?.json();
    assert_eq!(sent(&seen, "x-kong-request-id"), "");
    Ok(())
}

#[tokio::test]
async fn who_served_is_told_to_who_may_ask() -> Result<()> {
    for (settings, asked, told) in [
        (vec![("allow_debug_header", "on")], "1", true),
        (vec![("allow_debug_header", "on")], "0", false),
        (vec![], "1", false),
    ] {
        let (_echo, world) = plain(&settings).await?;
        let response = H1Client::connect(world.http()).await?.get("/", "a", &[("Kong-Debug", asked)]).await?;
        let tell = |name: &str| response.header(name).map(str::to_owned);
        assert_eq!(tell("kong-route-name"), told.then(|| "r".to_owned()), "{settings:?} {asked}");
        assert_eq!(tell("kong-service-name"), told.then(|| "s".to_owned()));
        assert_eq!(tell("kong-route-id").map(|id| id.len()), told.then_some(36));
        assert_eq!(tell("kong-service-id").map(|id| id.len()), told.then_some(36));
    }
    Ok(())
}

#[tokio::test]
async fn an_upstreams_connection_is_its_own() -> Result<()> {
    let answer = "HTTP/1.1 200 OK\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=9\r\n\
        Proxy-Connection: close\r\nUpgrade: x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nDate: then\r\n\
        Content-Length: 2\r\n\r\nok";
    let response = answered(answer, &[]).await?;
    let names = names(&response);
    for name in ["x-secret", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding"] {
        assert!(!names.iter().any(|n| n == name), "{name} in {names:?}");
    }
    assert_eq!(response.header("connection"), Some("keep-alive"), "the client's connection goes on");
    assert_eq!(response.headers.all("set-cookie").collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!((response.headers.all("date").collect::<Vec<_>>(), response.text().as_str()), (vec!["then"], "ok"));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: x\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let response = answered(chunked, &[]).await?;
    assert_eq!((response.text().as_str(), response.header("content-length")), ("ok", None));
    Ok(())
}

#[tokio::test]
async fn old_clients_may_keep_their_connection() -> Result<()> {
    let (echo, world) = plain(&[]).await?;
    let mut client = H1Client::connect(world.http()).await?;
    for _ in 0..3 {
        client.send("GET /old HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n").await?;
        let response = client.response().await?;
        assert_eq!((response.status, response.header("connection")), (200, Some("keep-alive")));
        assert_eq!(response.json()["version"], "1.1", "what goes upstream is HTTP/1.1");
        assert_eq!(sent(&response.json(), "via"), format!("1.0 {VIA}"));
    }
    client.send("GET /old HTTP/1.0\r\n\r\n").await?;
    let response = client.response().await?;
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert!(client.read_some().await?.is_empty(), "without being asked the connection ends");
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.get("/", "a", &[("Connection", "close")]).await?;
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.read_some().await?.is_empty());
    assert!(echo.connections() <= 2, "a worker keeps the upstream's connection: {}", echo.connections());
    Ok(())
}

#[tokio::test]
async fn targets_come_in_several_forms() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let routes: Value = json!([
        { "name": "b", "hosts": ["b.test"], "preserve_host": true },
        { "name": "a", "hosts": ["a.test"] },
    ]);
    let yaml = file(json!({ "services": [{ "name": "s", "url": echo.url(), "routes": routes }] }));
    let world = World::start(plugins(), &yaml, &[("allow_debug_header", "on")])?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send("GET http://B.test:81/x%2Fy?q=1 HTTP/1.1\r\nHost: a.test\r\nKong-Debug: 1\r\n\r\n").await?;
    let response = client.response().await?;
    assert_eq!(response.header("kong-route-name"), Some("b"), "the target's host counts");
    let seen = response.json();
    assert_eq!((&seen["target"], sent(&seen, "host").as_str()), (&json!("/x%2Fy?q=1"), "B.test:81"));
    assert_eq!((sent(&seen, "x-forwarded-host"), sent(&seen, "x-forwarded-port")), ("b.test".into(), "81".into()));
    client.send("GET http://b.test HTTP/1.1\r\nHost: b.test\r\n\r\n").await?;
    assert_eq!(client.response().await?.json()["target"], "/");
    for target in ["*", "b.test:80", "nothing"] {
        let mut client = H1Client::connect(world.http()).await?;
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: b.test\r\n\r\n")).await?;
        assert_eq!(client.response().await?.status, 400, "{target}");
    }
    let mut client = H1Client::connect(world.http()).await?;
    client.send("CONNECT b.test:80 HTTP/1.1\r\nHost: b.test:80\r\n\r\n").await?;
    let (status, fields) = client.head().await?;
    assert_eq!((status, fields.get("connection")), (405, Some("close")), "a gateway is no tunnel");
    assert_eq!(echo.requests(), 2);
    Ok(())
}
