//! Filters with an attempt phase.

use anyhow::{Result, ensure};
use cardinal_engine::explain::{Explainer, Question};
use cardinal_testkit::{EchoServer, H1Client, ScriptedPeer, Step, World};
use serde_json::json;

use super::{PLUGINS, both, only_failed, world};
use crate::scene::{eventually, one, sent, sent_all};

#[tokio::test]
async fn fields_of_an_attempt_replace_those_of_the_request() -> Result<()> {
    let echo = EchoServer::start("e").await;
    for service in [json!({}), json!({ "tags": ["upstream-http2"] })] {
        let world = world(&echo.url(), "sign", service.clone())?;
        for response in both(&world, "POST", b"abc").await? {
            let (report, address) = (response.json(), echo.address());
            assert_eq!(sent(&report, "x-attempt"), format!("1 {address} {address}"), "{service}");
            assert_eq!(sent_all(&report, "x-old"), ["new"], "{service}");
            assert_eq!(sent(&report, "x-first"), "1");
            // Filters cannot set the framing fields and the host.
            assert!(!sent_all(&report, "content-length").contains(&"999".to_owned()), "{service}: {report}");
            assert!(!response.text().contains("evil"), "{}", response.text());
        }
    }
    Ok(())
}

#[tokio::test]
async fn each_attempt_has_fields_of_its_own() -> Result<()> {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let plays = vec![vec![Step::until("\r\n\r\n"), Step::Reset], vec![Step::until("\r\n\r\n"), Step::send(ok)]];
    let peer = ScriptedPeer::start(plays).await;
    let world = world(&format!("http://{}", peer.address()), "sign", json!({ "retries": 1 }))?;
    let response = H1Client::connect(world.http()).await?.get("/", "a", &[]).await?;
    assert_eq!(response.status, 200);
    let heads: Vec<String> = peer.received().iter().map(|head| String::from_utf8_lossy(head).into_owned()).collect();
    let [first, second] = &*heads else { anyhow::bail!("{heads:?}") };
    assert!(first.contains("X-Attempt: 1 ") && first.contains("X-First: 1\r\n"), "{first}");
    assert!(second.contains("X-Attempt: 2 ") && !second.contains("X-First"), "{second}");
    Ok(())
}

#[tokio::test]
async fn an_attempt_waits_for_a_filter() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = world(&echo.url(), "sign-later", json!({}))?;
    for response in both(&world, "GET", b"").await? {
        assert!(sent(&response.json(), "x-attempt").starts_with("1 "), "{}", response.text());
    }
    Ok(())
}

#[tokio::test]
async fn a_filter_replies_or_fails_instead_of_an_attempt() -> Result<()> {
    let echo = EchoServer::start("e").await;
    for (does, status, body) in [
        ("attempt-reply", 402, "{\"message\":\"pay first\"}"),
        ("attempt-fail", 500, "{\"message\":\"An unexpected error occurred\"}"),
    ] {
        let world = world(&echo.url(), does, json!({}))?;
        for response in both(&world, "POST", b"abc").await? {
            assert_eq!((response.status, &*response.text()), (status, body), "{does}");
        }
    }
    assert_eq!(echo.requests(), 0);
    Ok(())
}

#[tokio::test]
async fn waiting_for_an_attempt_has_an_end() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let limited = world(&echo.url(), "attempt-never", json!({ "connect_timeout": 50 }))?;
    for response in both(&limited, "GET", b"").await? {
        assert_eq!(response.status, 500);
    }
    only_failed(&limited, "filter", 2).await?;
    // The client may disconnect during the wait.
    let patient = world(&echo.url(), "attempt-never", json!({}))?;
    let mut client = H1Client::connect(patient.http()).await?;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    let writing = || patient.engine().services().node.connections().writing;
    ensure!(eventually(|| writing() == 1).await);
    drop(client);
    only_failed(&patient, "client_closed", 1).await
}

#[tokio::test]
async fn a_plugin_of_attempts_is_explained() -> Result<()> {
    let plugins = json!([{ "name": "probe", "config": { "does": "sign" } }]);
    let file = one("http://127.0.0.1:1", json!({}), json!({ "plugins": plugins }));
    let (explainer, _) = Explainer::new(World::compiled(PLUGINS, &file, &[])?, PLUGINS)?;
    let question = Question { method: "GET".into(), url: "http://a/".into(), ..Question::default() };
    let decision = explainer.decide(&question, 0).await?;
    let names: Vec<_> = decision.plugins.iter().map(|plugin| plugin.name).collect();
    assert_eq!(names, ["probe"]);
    Ok(())
}
