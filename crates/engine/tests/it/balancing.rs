//! Load balancing: the target selected for each request.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use cardinal_testkit::{EchoServer, H1Client, ScriptedPeer, Step, World, free_port};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::plugins;
use crate::scene::{JSON, balanced, file, merged, no_peer, outcome, sent, service_of, target};

/// Backends named `0`, `1`, and so on.
async fn echoes(count: usize) -> Vec<EchoServer> {
    let mut all = Vec::new();
    for name in 0..count {
        all.push(EchoServer::start(&name.to_string()).await);
    }
    all
}

fn targets(echoes: &[EchoServer]) -> Vec<(String, u32)> {
    echoes.iter().map(|echo| target(echo.address())).collect()
}

/// The server that responded.
async fn server(client: &mut H1Client, path: &str, fields: &[(&str, &str)]) -> Result<String> {
    let response = client.get(path, "a.test", fields).await?;
    assert_eq!(response.status, 200, "{}", response.text());
    Ok(response.json()["server"].as_str().unwrap().to_owned())
}

/// How many of this many requests on one connection each backend received.
async fn counts(world: &World, requests: usize) -> Result<BTreeMap<String, usize>> {
    let mut client = H1Client::connect(world.http()).await?;
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(server(&mut client, "/", &[]).await?).or_default() += 1;
    }
    Ok(counts)
}

fn expected(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[tokio::test]
async fn turns_follow_weights() -> Result<()> {
    let echoes = echoes(3).await;
    for (weights, requests, expect) in [
        ([100, 100, 100], 30, vec![("0", 10), ("1", 10), ("2", 10)]),
        ([300, 100, 0], 40, vec![("0", 30), ("1", 10)]),
        ([1, 2, 3], 60, vec![("0", 10), ("1", 20), ("2", 30)]),
    ] {
        let targets: Vec<_> = targets(&echoes).into_iter().zip(weights).map(|((t, _), w)| (t, w)).collect();
        let world = World::start(plugins(), &balanced(&targets, json!({}), json!({})), &[])?;
        for _ in 0..2 {
            assert_eq!(counts(&world, requests).await?, expected(&expect), "{weights:?}");
        }
    }
    let none = [(echoes[0].address().to_string(), 0)];
    let world = World::start(plugins(), &balanced(&none, json!({}), json!({})), &[])?;
    let refused = H1Client::connect(world.http()).await?.get("/", "a", &[JSON]).await?;
    assert_eq!(outcome(&refused), no_peer(), "no weight, no traffic");
    Ok(())
}

#[tokio::test]
async fn the_target_says_the_port_and_the_host() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let (port, address) = (echo.address().port(), echo.address().to_string());
    let by_name = vec![(format!("localhost:{port}"), 10)];
    for (targets, upstream, route, host) in [
        (vec![target(echo.address())], json!({}), json!({}), address),
        (by_name.clone(), json!({}), json!({}), format!("localhost:{port}")),
        (by_name.clone(), json!({ "host_header": "up.test" }), json!({}), format!("up.test:{port}")),
        (by_name, json!({ "host_header": "up.test" }), json!({ "preserve_host": true }), "a.test:77".to_owned()),
    ] {
        let routes = json!([merged(json!({ "name": "r", "paths": ["/"] }), route)]);
        let yaml = balanced(&targets, upstream, json!({ "port": 1, "routes": routes, "path": "/base" }));
        let world = World::start(plugins(), &yaml, &[])?;
        let seen = H1Client::connect(world.http()).await?.get("/x", "a.test:77", &[]).await?.json();
        assert_eq!((seen["authority"].as_str(), seen["target"].as_str()), (Some(&*host), Some("/base/x")));
    }
    Ok(())
}

#[tokio::test]
async fn the_least_busy_gets_the_next() -> Result<()> {
    let echoes = echoes(2).await;
    for (weights, expect) in [([100, 100], [4, 4]), ([300, 100], [6, 2])] {
        let targets: Vec<_> = targets(&echoes).into_iter().zip(weights).map(|((t, _), w)| (t, w)).collect();
        let world =
            World::start(plugins(), &balanced(&targets, json!({ "algorithm": "least-connections" }), json!({})), &[])?;
        let before: Vec<u64> = echoes.iter().map(EchoServer::requests).collect();
        let mut open = Vec::new();
        for n in 0..8 {
            let mut client = H1Client::connect(world.http()).await?;
            client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Echo: delay:300\r\n\r\n").await?;
            let arrived = || echoes.iter().map(EchoServer::requests).sum::<u64>() - before.iter().sum::<u64>() == n + 1;
            assert!(crate::scene::eventually(arrived).await);
            open.push(client);
        }
        let shares: Vec<u64> = echoes.iter().zip(&before).map(|(echo, before)| echo.requests() - before).collect();
        assert_eq!(shares, expect, "{weights:?}");
        for client in &mut open {
            assert_eq!(client.response().await?.status, 200);
        }
    }
    Ok(())
}

/// All requests with these fields go to one backend, across connections and generations.
async fn always(world: &World, path: &str, fields: &[(&str, &str)]) -> Result<String> {
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let mut client = H1Client::connect(world.http()).await?;
        for _ in 0..2 {
            seen.insert(server(&mut client, path, fields).await?);
        }
    }
    assert_eq!(seen.len(), 1, "{path} {fields:?} went to {seen:?}");
    Ok(seen.pop_first().unwrap())
}

#[tokio::test]
async fn equal_hashes_go_to_one_target() -> Result<()> {
    let echoes = echoes(4).await;
    let targets = targets(&echoes);
    let hashing = |more: Value| merged(json!({ "algorithm": "consistent-hashing" }), more);
    let header = |n: u32| ("/".to_owned(), vec![("X-Key".to_owned(), format!("v{n}"))]);
    let path = |n: u32| (format!("/p{n}"), Vec::new());
    let query = |n: u32| (format!("/?k=v{n}&other=1"), Vec::new());
    let word = |n: u32| (format!("/w/v{n}/rest"), Vec::new());
    let cookie = |n: u32| ("/".to_owned(), vec![("Cookie".to_owned(), format!("a=b; who=v{n}; c=d"))]);
    let client = |n: u32| ("/".to_owned(), vec![("X-Real-IP".to_owned(), format!("10.0.0.{n}"))]);
    type Make<'x> = &'x dyn Fn(u32) -> (String, Vec<(String, String)>);
    let kinds: [(Value, Value, Make<'_>); 8] = [
        (json!({ "hash_on": "header", "hash_on_header": "x-key" }), json!(["/"]), &header),
        (json!({ "hash_on": "path" }), json!(["/"]), &path),
        (json!({ "hash_on": "query_arg", "hash_on_query_arg": "k" }), json!(["/"]), &query),
        (json!({ "hash_on": "uri_capture", "hash_on_uri_capture": "word" }), json!(["~/w/(?<word>[a-z0-9]+)"]), &word),
        (json!({ "hash_on": "uri_capture", "hash_on_uri_capture": "1" }), json!(["~/w/([a-z0-9]+)"]), &word),
        (json!({ "hash_on": "cookie", "hash_on_cookie": "who" }), json!(["/"]), &cookie),
        (json!({ "hash_on": "ip" }), json!(["/"]), &client),
        (
            json!({ "hash_on": "header", "hash_on_header": "absent", "hash_fallback": "query_arg",
                "hash_fallback_query_arg": "k" }),
            json!(["/"]),
            &query,
        ),
    ];
    for (upstream, paths, make) in kinds {
        let routes = json!([{ "name": "r", "paths": paths, "strip_path": false }]);
        let yaml = balanced(&targets, hashing(upstream.clone()), json!({ "routes": routes }));
        let world = World::start(plugins(), &yaml, &[("trusted_ips", "127.0.0.1")])?;
        let mut chosen = Vec::new();
        for n in 0..12 {
            let (path, fields) = make(n);
            let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            chosen.push(always(&world, &path, &fields).await?);
        }
        let different: BTreeSet<&String> = chosen.iter().collect();
        assert!(different.len() > 1, "12 values of {upstream} all go to {different:?}");
        world.apply(&yaml)?;
        let (path, fields) = make(0);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(always(&world, &path, &fields).await?, chosen[0], "after a reload");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_hashed_follows_its_rules() -> Result<()> {
    let echoes = echoes(8).await;
    let upstream = json!({ "algorithm": "consistent-hashing", "hash_on": "query_arg", "hash_on_query_arg": "k" });
    let world = World::start(plugins(), &balanced(&targets(&echoes), upstream, json!({})), &[])?;
    let (mut same, mut other) = (0, 0);
    for n in 0..10 {
        let one = always(&world, &format!("/x?k=a{n}&k=b&z=1"), &[]).await?;
        assert_eq!(one, always(&world, &format!("/y?k=b&k=a{n}"), &[]).await?, "values are sorted");
        assert_eq!(one, always(&world, &format!("/y?k=b&k=%61{n}"), &[]).await?, "and decoded");
        if one == always(&world, &format!("/x?k=c{n}"), &[]).await? { same += 1 } else { other += 1 }
    }
    assert!(other > same, "{same} of 10 other values went to the same target");
    let nothing = always(&world, "/", &[]).await?;
    assert_eq!(nothing, always(&world, "/x?other=1", &[]).await?, "what has no value goes to one target");
    Ok(())
}

#[tokio::test]
async fn consumers_stay_with_their_target() -> Result<()> {
    let echoes = echoes(4).await;
    let table: Vec<Value> = targets(&echoes).iter().map(|(t, w)| json!({ "target": t, "weight": w })).collect();
    let upstream = json!({
        "name": "u", "targets": table, "algorithm": "consistent-hashing", "hash_on": "consumer",
        "hash_fallback": "header", "hash_fallback_header": "x-key",
    });
    let key_auth = json!([{ "name": "key-auth", "config": { "anonymous": "nobody" } }]);
    let consumer = |n: u32| json!({ "username": format!("u{n}"), "keyauth_credentials": [{ "key": format!("k{n}"), "tags": [] }] });
    let mut consumers: Vec<Value> = (0..10).map(consumer).collect();
    consumers.push(json!({ "username": "nobody" }));
    let service = service_of("", json!({ "host": "u", "plugins": key_auth }), json!({}));
    let yaml = file(json!({ "upstreams": [upstream], "services": [service], "consumers": consumers }));
    let world = World::start(plugins(), &yaml, &[])?;
    let mut chosen = BTreeSet::new();
    for n in 0..10 {
        let key = format!("k{n}");
        let one = always(&world, "/", &[("apikey", &key), ("X-Key", "a")]).await?;
        assert_eq!(one, always(&world, "/", &[("apikey", &key), ("X-Key", "b")]).await?);
        chosen.insert(one);
    }
    assert!(chosen.len() > 1, "{chosen:?}");
    Ok(())
}

#[tokio::test]
async fn a_cookie_is_made_when_there_is_none() -> Result<()> {
    let echoes = echoes(4).await;
    for (more, path) in [(json!({}), "/"), (json!({ "hash_on_cookie_path": "/shop" }), "/shop")] {
        let upstream =
            merged(json!({ "algorithm": "consistent-hashing", "hash_on": "cookie", "hash_on_cookie": "who" }), more);
        let world = World::start(plugins(), &balanced(&targets(&echoes), upstream, json!({})), &[])?;
        let mut client = H1Client::connect(world.http()).await?;
        let mut values = BTreeSet::new();
        for _ in 0..5 {
            let first = client.get("/", "a", &[]).await?;
            let cookie = first.header("set-cookie").unwrap_or_default().to_owned();
            let value = cookie.strip_prefix("who=").and_then(|c| c.split(';').next()).unwrap_or_default().to_owned();
            assert_eq!(cookie, format!("who={value}; Path={path}; Same-Site=Lax; HttpOnly"));
            assert_eq!((value.len(), value.matches('-').count()), (36, 4), "{value} is a UUID");
            let again = client.get("/", "a", &[("Cookie", &format!("who={value}"))]).await?;
            assert_eq!(again.json()["server"], first.json()["server"], "the cookie leads to the same target");
            assert_eq!(again.header("set-cookie"), None, "one that is there is not made again");
            values.insert(value);
        }
        assert_eq!(values.len(), 5);
    }
    Ok(())
}

#[tokio::test]
async fn sticky_sessions_name_their_target() -> Result<()> {
    let echoes = echoes(3).await;
    let group = json!({
        "algorithm": "sticky-sessions", "sticky_sessions_cookie": "stick", "sticky_sessions_cookie_path": "/p"
    });
    let yaml = balanced(&targets(&echoes), group, json!({}));
    let world = World::start(plugins(), &yaml, &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let mut cookies = BTreeMap::new();
    for _ in 0..6 {
        let first = client.get("/", "a", &[]).await?;
        let cookie = first.header("set-cookie").unwrap_or_default().to_owned();
        assert!(cookie.starts_with("stick=") && cookie.ends_with("; Path=/p; SameSite=Lax; HttpOnly"), "{cookie}");
        let server = first.json()["server"].as_str().unwrap().to_owned();
        cookies.insert(server, cookie.split(';').next().unwrap_or_default().to_owned());
    }
    assert_eq!(cookies.len(), 3, "without a cookie there are turns: {cookies:?}");
    for (name, cookie) in &cookies {
        for _ in 0..3 {
            let response = client.get("/", "a", &[("Cookie", cookie)]).await?;
            assert_eq!((response.json()["server"].as_str(), response.header("set-cookie")), (Some(&**name), None));
        }
    }
    let lost = client.get("/", "a", &[("Cookie", "stick=nobody")]).await?;
    assert!(lost.header("set-cookie").is_some_and(|c| cookies.values().any(|known| c.starts_with(known.as_str()))));
    Ok(())
}

#[tokio::test]
async fn the_fast_get_more_than_the_slow() -> Result<()> {
    let quick = EchoServer::start("quick").await;
    let slow = Step::Pause(Duration::from_millis(25));
    let answer = Step::send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let slow = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), slow, answer]]).await;
    let targets = [target(quick.address()), target(slow.address())];
    let world = World::start(plugins(), &balanced(&targets, json!({ "algorithm": "latency" }), json!({})), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    for _ in 0..40 {
        assert_eq!(client.get("/", "a", &[]).await?.status, 200);
    }
    assert!(quick.requests() >= 30, "the quick one served {} of 40", quick.requests());
    Ok(())
}

#[tokio::test]
async fn another_try_is_another_target() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let cutting = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n")]]).await;
    let dead = format!("127.0.0.1:{}", free_port());
    for algorithm in ["round-robin", "least-connections", "latency", "consistent-hashing"] {
        let hash = if algorithm == "consistent-hashing" { "path" } else { "none" };
        let upstream = json!({ "algorithm": algorithm, "hash_on": hash });
        let targets = [(dead.clone(), 100), target(cutting.address()), target(echo.address())];
        let world = World::start(plugins(), &balanced(&targets, upstream.clone(), json!({ "retries": 2 })), &[])?;
        let mut client = H1Client::connect(world.http()).await?;
        for n in 0..12 {
            assert_eq!(server(&mut client, &format!("/{n}"), &[]).await?, "e", "{algorithm}");
        }
        let world = World::start(plugins(), &balanced(&targets, upstream, json!({ "retries": 0 })), &[])?;
        let mut client = H1Client::connect(world.http()).await?;
        let mut statuses = BTreeSet::new();
        for n in 0..40 {
            statuses.insert(client.get(&format!("/{n}"), "a", &[]).await?.status);
        }
        assert!(statuses.contains(&502), "{algorithm} without retries: {statuses:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_body_is_sent_again_only_where_that_is_safe() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let dead = format!("127.0.0.1:{}", free_port());
    let yaml = balanced(&[(dead, 100), target(echo.address())], json!({}), json!({ "retries": 1 }));
    let world = World::start(plugins(), &yaml, &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for _ in 0..2 {
            let response = client.request(method, "/", "a", &[], b"body").await?;
            assert_eq!(response.status, 200, "{method}: nothing was sent to who is not there");
            assert_eq!(response.json()["body"]["text"], "body");
        }
    }
    Ok(())
}

#[tokio::test]
async fn targets_come_and_go_with_a_reload() -> Result<()> {
    let echoes = echoes(3).await;
    let all = targets(&echoes);
    let world = World::start(plugins(), &balanced(&all[..1], json!({}), json!({})), &[])?;
    assert_eq!(counts(&world, 6).await?, expected(&[("0", 6)]));
    world.apply(&balanced(&all, json!({}), json!({})))?;
    assert_eq!(counts(&world, 6).await?, expected(&[("0", 2), ("1", 2), ("2", 2)]));
    world.apply(&balanced(&all[1..], json!({ "host_header": "new.test" }), json!({})))?;
    assert_eq!(counts(&world, 6).await?, expected(&[("1", 3), ("2", 3)]));
    let seen = H1Client::connect(world.http()).await?.get("/", "a", &[]).await?.json();
    assert!(sent(&seen, "host").starts_with("new.test:"));
    Ok(())
}

#[tokio::test]
async fn many_connections_share_turns() -> Result<()> {
    let echoes = echoes(2).await;
    let world = World::start(plugins(), &balanced(&targets(&echoes), json!({}), json!({})), &[])?;
    let clients = (0..20).map(|_| counts(&world, 5));
    let total: usize = try_join_all(clients).await?.iter().flat_map(BTreeMap::values).sum();
    let (one, two) = (echoes[0].requests(), echoes[1].requests());
    assert_eq!((total, one + two), (100, 100));
    assert!(one.abs_diff(two) <= 2, "each worker has turns of its own: {one} and {two}");
    Ok(())
}
