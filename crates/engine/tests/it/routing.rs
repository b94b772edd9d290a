//! Routes through the whole stack. Details of matching are covered by the matcher's own tests.

use anyhow::Result;
use cardinal_testkit::{EchoServer, H1Client, H2Client, World};
use serde_json::{Value, json};

use crate::plugins;
use crate::scene::{file, merged, outcome, sent};

/// A world with these routes to one backend, which reports the route.
fn world(echo: &EchoServer, routes: Value, flavor: &str) -> Result<World> {
    let yaml = file(json!({ "services": [{ "name": "s", "url": echo.url(), "routes": routes }] }));
    World::start(plugins(), &yaml, &[("router_flavor", flavor), ("allow_debug_header", "on")])
}

/// The name of the route that serves a request; empty if none does.
async fn route(
    client: &mut H1Client,
    method: &str,
    target: &str,
    host: &str,
    fields: &[(&str, &str)],
) -> Result<String> {
    let mut all = vec![("Kong-Debug", "1")];
    all.extend_from_slice(fields);
    let response = client.request(method, target, host, &all, b"").await?;
    let name = response.header("kong-route-name").unwrap_or_default().to_owned();
    assert_eq!(response.status, if name.is_empty() { 404 } else { 200 }, "{}", response.text());
    Ok(name)
}

#[tokio::test]
async fn routes_are_chosen_in_both_traditional_flavors() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let routes = json!([
        { "name": "all", "paths": ["/"] },
        { "name": "short", "paths": ["/a"] },
        { "name": "long", "paths": ["/a/b"] },
        { "name": "regex", "paths": ["~/a/\\d+$"] },
        { "name": "host", "hosts": ["h.test"] },
        { "name": "wild", "hosts": ["*.h.test"], "paths": ["/"] },
        { "name": "both", "hosts": ["h.test"], "paths": ["/a"] },
        { "name": "port", "hosts": ["p.test:8080"] },
        { "name": "post", "methods": ["POST"], "paths": ["/m"] },
        { "name": "header", "headers": { "X-Pick": ["one", "two"] }, "paths": ["/a"] },
        { "name": "pattern", "headers": { "X-Pick": ["~*^re.*x$"] }, "paths": ["/a"] },
    ]);
    for flavor in ["traditional_compatible", "traditional"] {
        let world = world(&echo, routes.clone(), flavor)?;
        let mut client = H1Client::connect(world.http()).await?;
        for (method, target, host, fields, expect) in [
            ("GET", "/", "x", vec![], "all"),
            ("GET", "/abc", "x", vec![], "short"),
            ("GET", "/a/bc?q=/zzz", "x", vec![], "long"),
            ("GET", "/a/12", "x", vec![], "regex"),
            ("GET", "/a/12/", "x", vec![], "short"),
            ("GET", "/%61/%62", "x", vec![], "long"),
            ("GET", "//a/./x/../b", "x", vec![], "long"),
            ("GET", "/", "H.Test", vec![], "host"),
            ("GET", "/", "h.test:99", vec![], "host"),
            ("GET", "/z", "sub.h.test", vec![], "wild"),
            ("GET", "/a", "h.test", vec![], "both"),
            ("GET", "/", "p.test:8080", vec![], "port"),
            ("GET", "/", "p.test", vec![], "all"),
            ("POST", "/m", "x", vec![], "post"),
            ("GET", "/m", "x", vec![], "all"),
            ("GET", "/a", "x", vec![("X-Pick", "TWO")], "header"),
            ("GET", "/a", "x", vec![("x-pick", "no"), ("x-pick", "one")], "header"),
            ("GET", "/a", "x", vec![("x-pick", "REGEX")], "pattern"),
            ("GET", "/a", "x", vec![("x-pick", "three")], "short"),
        ] {
            let found = route(&mut client, method, target, host, &fields).await?;
            assert_eq!(found, expect, "{flavor}: {method} {host}{target} {fields:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn dashes_and_underscores_of_header_names_are_the_same() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let fields = json!([
        { "name": "agent", "headers": { "user_agent": ["foo"] } },
        { "name": "dash", "headers": { "X-Pick-It": ["one"] } },
        { "name": "mixed", "headers": { "x-a_b": ["~*^o"] } },
    ]);
    let expressions = json!([
        { "name": "agent", "expression": "http.headers.user_agent == \"foo\"" },
        { "name": "dash", "expression": "lower(any(http.headers.x_pick_it)) == \"one\"" },
        { "name": "mixed", "expression": "http.headers.x_a_b ^= \"o\"" },
    ]);
    for (flavor, routes) in [
        ("traditional_compatible", &fields),
        ("traditional", &fields),
        ("expressions", &fields),
        ("expressions", &expressions),
    ] {
        let world = world(&echo, routes.clone(), flavor)?;
        let mut h1 = H1Client::connect(world.http()).await?;
        let mut h2 = H2Client::connect(world.http()).await?;
        for (name, value, expect) in [
            ("user_agent", "foo", "agent"),
            ("User-Agent", "foo", "agent"),
            ("user_agent", "bar", ""),
            ("useragent", "foo", ""),
            ("x_pick_it", "one", "dash"),
            ("X-Pick_It", "one", "dash"),
            ("x-pick-it", "one", "dash"),
            ("x_a_b", "one", "mixed"),
            ("x-a-b", "one", "mixed"),
        ] {
            let found = route(&mut h1, "GET", "/", "h.test", &[(name, value)]).await?;
            assert_eq!(found, expect, "{flavor}: {name}: {value}");
            let name = name.to_ascii_lowercase();
            let response = h2.request("GET", "h.test", "/", &[("kong-debug", "1"), (&name, value)], b"").await?;
            assert_eq!(response.header("kong-route-name").unwrap_or_default(), expect, "{flavor}, HTTP/2: {name}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_traditional_flavor_has_hosts_ports_and_patterns_of_its_own() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let routes = json!([
        { "name": "plain", "hosts": ["p.test"], "created_at": 1 },
        { "name": "port", "hosts": ["p.test:8080", "*.p.test"], "created_at": 2 },
        { "name": "never", "hosts": ["q.test:80"] },
        { "name": "wild", "hosts": ["*.w.test:80"] },
        { "name": "braces", "paths": ["~/{id}/x$"], "strip_path": false },
        { "name": "quoted", "paths": [r"~/q/\Qa.b\E"] },
        { "name": "atomic", "paths": ["~/at/(?>a+)b"] },
        { "name": "look", "paths": ["~/look/(?!admin)(?<who>[a-z]+)/(?:\\1x)"] },
        { "name": "word", "paths": [r"~/w/\w+$"] },
        { "name": "header", "headers": { "x-p": [r"~*^\Qa+\E$"] } },
    ]);
    let world = world(&echo, routes, "traditional")?;
    let mut client = H1Client::connect(world.http()).await?;
    for (target, host, fields, expect) in [
        ("/", "p.test", vec![], "plain"),
        ("/", "p.test:8080", vec![], "port"),
        ("/", "p.test:81", vec![], "plain"),
        ("/", "q.test", vec![], ""),
        ("/", "q.test:80", vec![], "never"),
        ("/", "a.w.test", vec![], "wild"),
        ("/", "a.w.test:81", vec![], ""),
        ("/%7Bid%7D/x", "x", vec![], "braces"),
        ("/q/a.b", "x", vec![], "quoted"),
        ("/q/axb", "x", vec![], ""),
        ("/at/aab", "x", vec![], "atomic"),
        ("/look/bob/bobx", "x", vec![], "look"),
        ("/look/admin/adminx", "x", vec![], ""),
        ("/w/cafe", "x", vec![], "word"),
        ("/w/caf%c3%a9", "x", vec![], ""),
        ("/", "x", vec![("x-p", "A+")], "header"),
        ("/", "x", vec![("x-p", "aa")], ""),
    ] {
        let found = route(&mut client, "GET", target, host, &fields).await?;
        assert_eq!(found, expect, "{host}{target} {fields:?}");
    }
    Ok(())
}

#[tokio::test]
async fn expressions_choose_by_priority() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let routes = json!([
        { "name": "low", "expression": "http.path ^= \"/a\"", "priority": 1 },
        { "name": "high", "expression": "http.path ^= \"/a\" && http.method == \"POST\"", "priority": 2 },
        { "name": "header", "expression": "any(http.headers.x_pick) == \"one\"", "priority": 3 },
        { "name": "query", "expression": "http.queries.q == \"1\" && http.host == \"h.test\"", "priority": 4 },
        { "name": "segment", "expression": "http.path.segments.1 == \"b\" && http.path.segments.len == 2", "priority": 5 },
        { "name": "from", "expression": "net.src.ip in 10.0.0.0/8", "priority": 9 },
    ]);
    let world = world(&echo, routes, "expressions")?;
    let mut client = H1Client::connect(world.http()).await?;
    for (method, target, host, fields, expect) in [
        ("GET", "/a", "x", vec![], "low"),
        ("POST", "/a", "x", vec![], "high"),
        ("POST", "/a", "x", vec![("X-Pick", "two"), ("X-Pick", "one")], "header"),
        ("POST", "/a?q=1", "H.test:8", vec![("X-Pick", "one")], "query"),
        ("GET", "/a/b", "x", vec![], "segment"),
        ("GET", "/a/b/c", "x", vec![], "low"),
        ("GET", "/b", "x", vec![], ""),
    ] {
        let found = route(&mut client, method, target, host, &fields).await?;
        assert_eq!(found, expect, "{method} {host}{target} {fields:?}");
    }
    Ok(())
}

#[tokio::test]
async fn paths_go_upstream_as_the_table_says() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let table = [
        ("/", "/fv0", "/fv0/req", ["/req", "/fv0/req", "/req", "/fv0/req"]),
        ("/srv", "/rou", "/rou", ["/srv", "/srv/rou", "/srv", "/srvrou"]),
        ("/srv", "/rou", "/rou/req", ["/srv/req", "/srv/rou/req", "/srv/req", "/srvrou/req"]),
        ("/srv", "/rou", "/roureq", ["/srv/req", "/srv/roureq", "/srvreq", "/srvroureq"]),
        ("/srv/", "/rou/", "/rou/req", ["/srv/req", "/srv/rou/req", "/srv/req", "/srv/rou/req"]),
        ("/srv/", "/rou", "/rou", ["/srv", "/srv/rou", "/srv/", "/srv/rou"]),
    ];
    let kinds = [("v0", true), ("v0", false), ("v1", true), ("v1", false)];
    for flavor in ["traditional", "traditional_compatible"] {
        let mut services = Vec::new();
        for (row, (base, path, ..)) in table.iter().enumerate() {
            let routes: Vec<Value> = kinds
                .iter()
                .map(|(handling, strip)| {
                    let name = format!("{row}-{handling}-{strip}");
                    let host = format!("{name}.test");
                    json!({ "name": name, "hosts": [host], "paths": [path], "strip_path": strip,
                        "path_handling": handling })
                })
                .collect();
            services
                .push(json!({ "name": format!("s{row}"), "url": format!("{}{base}", echo.url()), "routes": routes }));
        }
        let yaml = file(json!({ "services": services }));
        let world = World::start(plugins(), &yaml, &[("router_flavor", flavor)])?;
        let mut client = H1Client::connect(world.http()).await?;
        for (row, (_, _, request, expect)) in table.iter().enumerate() {
            for (column, (handling, strip)) in kinds.iter().enumerate() {
                let host = format!("{row}-{handling}-{strip}.test");
                let seen = client.get(&format!("{request}?q=%2f"), &host, &[]).await?.json();
                // Only the traditional flavor supports the old handling.
                let column = if flavor == "traditional" { column } else { column % 2 };
                assert_eq!(seen["target"], format!("{}?q=%2f", expect[column]), "{flavor} {host} {request}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_stripped_and_preserved() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let routes = json!([
        { "name": "regex", "paths": ["~/re/(?<word>[a-z]+)"] },
        { "name": "kept", "paths": ["/kept"], "strip_path": false, "preserve_host": true },
        { "name": "stripped", "paths": ["/strip"] },
        { "name": "host", "hosts": ["only.test"] },
        { "name": "root", "paths": ["/"] },
    ]);
    let world = world(&echo, routes, "traditional_compatible")?;
    let mut client = H1Client::connect(world.http()).await?;
    let backend = echo.address().to_string();
    for (target, host, upstream, upstream_host, prefix, path) in [
        ("/re/abc/x?q", "a.test", "/x?q", backend.as_str(), "/re/abc", "/re/abc/x"),
        ("/kept/x", "A.test:99", "/kept/x", "A.test:99", "", "/kept/x"),
        ("/strip/%C3%A9%20x", "a.test", "/%C3%A9%20x", &backend, "/strip", "/strip/%C3%A9%20x"),
        ("/strip", "a.test", "/", &backend, "/strip", "/strip"),
        ("/any", "only.test", "/any", &backend, "", "/any"),
        ("/else/y", "a.test", "/else/y", &backend, "", "/else/y"),
    ] {
        let seen = client.get(target, host, &[]).await?.json();
        assert_eq!(
            (seen["target"].as_str(), sent(&seen, "host").as_str()),
            (Some(upstream), upstream_host),
            "{target}"
        );
        let forwarded = (sent(&seen, "x-forwarded-prefix"), sent(&seen, "x-forwarded-path"));
        assert_eq!(forwarded, (prefix.to_owned(), path.to_owned()), "{target}");
    }
    let mut h2 = H2Client::connect(world.http()).await?;
    let seen = h2.request("GET", "A.test:99", "/kept/x", &[], b"").await?.json();
    assert_eq!((seen["target"].as_str(), sent(&seen, "host").as_str()), (Some("/kept/x"), "A.test:99"));
    Ok(())
}

#[tokio::test]
async fn some_routes_lead_nowhere() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let terminated = json!([{ "name": "request-termination", "config": { "status_code": 418, "message": "tea" } }]);
    let tables = json!({
        "services": [
            { "name": "off", "url": echo.url(), "enabled": false, "routes": [{ "name": "off", "paths": ["/off"] }] },
            { "name": "on", "url": echo.url(), "routes": [{ "name": "on", "paths": ["/on"] }] },
        ],
        "routes": [
            { "name": "none", "paths": ["/none"] },
            { "name": "tea", "paths": ["/tea"], "plugins": terminated },
        ],
    });
    let world = World::start(plugins(), &file(merged(tables, json!({}))), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    for (path, status, message) in [
        ("/on", 200, ""),
        ("/off", 404, "no Route matched with those values"),
        ("/nothing", 404, "no Route matched with those values"),
        ("/none", 503, "no Service found with those values"),
        ("/tea", 418, "tea"),
    ] {
        let response = client.get(path, "a", &[crate::scene::JSON]).await?;
        assert_eq!(outcome(&response), (status, message.to_owned()), "{path}");
    }
    assert_eq!(echo.requests(), 1);
    Ok(())
}
