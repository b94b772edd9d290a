//! TLS session resumption after configuration changes.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use cardinal_testkit::{Authority, EchoServer, H1Client, H2Client, Issued, Socket, World};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use serde_json::{Value, json};

use crate::plugins;
use crate::scene::{certificate, file, merged, service_of};

pub(crate) const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// The name of the node, and of its certificate.
pub(crate) const NAME: &str = "a.test";

/// A client that keeps its sessions from one connection to the next.
pub(crate) fn client(
    version: &'static SupportedProtocolVersion,
    trusted: &Authority,
    identity: Option<&Issued>,
    alpn: &str,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.cert().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(issued) => config.with_client_auth_cert(vec![issued.cert.clone()], issued.key()).unwrap(),
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    Arc::new(config)
}

/// The outcome of a request: rejected (in the handshake or after it), or served after a full or a resumed handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Refused,
    Full,
    Resumed,
}

use Outcome::{Full, Refused, Resumed};

pub(crate) async fn request(world: &World, stream: bool, config: &Arc<ClientConfig>) -> Outcome {
    let attempt = async {
        let address = if stream { world.stream(true) } else { world.https() };
        let socket = Socket::connect(address).await?.start_tls(NAME, Arc::clone(config)).await?;
        let Socket::Tls(tls) = &socket else { panic!("no TLS") };
        let kind = tls.get_ref().1.handshake_kind().context("a handshake")?;
        let response = H1Client::over(socket).get("/", NAME, &[]).await?;
        assert_eq!(response.status, 200);
        anyhow::Ok(kind)
    };
    match attempt.await {
        Err(_) => Refused,
        Ok(HandshakeKind::Resumed) => Resumed,
        Ok(_) => Full,
    }
}

/// A node's settings for the verification of clients.
pub(crate) fn verify<'x>(mode: &'x str, authority: &'x str) -> Vec<(&'x str, &'x str)> {
    let mut settings = vec![("stream_listen", "127.0.0.1:0 ssl"), ("nginx_proxy_ssl_verify_client", mode)];
    if mode != "off" {
        settings.push(("nginx_proxy_ssl_client_certificate", authority));
    }
    settings
}

fn tables(server: &Issued, echo: &EchoServer, note: &str) -> String {
    let stream = json!({
        "name": "stream", "url": format!("tcp://{}", echo.address()),
        "routes": [{ "name": "stream", "protocols": ["tls"], "snis": [NAME] }],
    });
    file(json!({
        "certificates": [certificate(server, &[NAME])],
        "services": [service_of(&echo.url(), json!({ "tags": [note] }), json!({})), stream],
    }))
}

#[tokio::test]
async fn sessions_end_with_the_verification_under_which_they_began() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (server, good, other) = (ours.issue(&[NAME]), ours.issue(&["good"]), theirs.issue(&["other"]));
    let (a, b) = (ours.cert_pem(), theirs.cert_pem());
    let twice = format!("{b}\n{a}\n{b}");
    let world = World::start(plugins(), &tables(&server, &echo, "start"), &verify("off", a))?;
    for (version, stream) in [(BOTH[0], false), (BOTH[1], false), (BOTH[0], true), (BOTH[1], true)] {
        let who = |identity| client(version, &ours, identity, "http/1.1");
        let (nobody, good, other) = (who(None), who(Some(&good)), who(Some(&other)));
        // The changed settings, and the outcome for clients without a certificate, with a good one, and with another
        // one.
        for (mode, authority, expect) in [
            ("off", a, [Full, Full, Full]),
            // Unchanged settings: sessions stay valid.
            ("off", a, [Resumed, Resumed, Resumed]),
            ("on", a, [Refused, Full, Refused]),
            ("on", a, [Refused, Resumed, Refused]),
            ("optional", a, [Full, Full, Refused]),
            ("optional", a, [Resumed, Resumed, Refused]),
            ("on", a, [Refused, Full, Refused]),
            ("on", b, [Refused, Refused, Full]),
            ("on", &twice, [Refused, Full, Full]),
            // The same authorities in another order.
            ("on", &format!("{a}{b}"), [Refused, Resumed, Resumed]),
            ("on", a, [Refused, Full, Refused]),
            ("off", a, [Full, Full, Full]),
        ] {
            world.apply_with(&tables(&server, &echo, &format!("{mode}-{}", expect.len())), &verify(mode, authority))?;
            for (client, expect) in [&nobody, &good, &other].into_iter().zip(expect) {
                let found = request(&world, stream, client).await;
                assert_eq!(found, expect, "{:?}, stream: {stream}, {mode}", version.version);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn sessions_outlive_other_changes() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let ours = Authority::new("ours");
    let (server, good) = (ours.issue(&[NAME]), ours.issue(&["good"]));
    let on = verify("on", ours.cert_pem());
    let world = World::start(plugins(), &tables(&server, &echo, "one"), &on)?;
    for version in BOTH {
        let config = client(version, &ours, Some(&good), "http/1.1");
        assert_eq!(request(&world, false, &config).await, Full);
        // Other routes, certificates and limits.
        let more = file(json!({
            "certificates": [certificate(&ours.issue(&[NAME, "b.test"]), &[NAME, "b.test"])],
            "services": [service_of(&echo.url(), json!({ "retries": 1 }), json!({}))],
        }));
        world.apply_with(&more, &[&on[..], &[("client_max_body_size", "1m")]].concat())?;
        assert_eq!(request(&world, false, &config).await, Resumed, "{:?}", version.version);
        world.apply_with(&tables(&server, &echo, "one"), &on)?;
        // Sessions of the two kinds of listeners are separate.
        assert_eq!(request(&world, true, &config).await, Full);
    }
    Ok(())
}

#[tokio::test]
async fn open_connections_end_with_the_verification_under_which_they_began() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let ours = Authority::new("ours");
    let server = ours.issue(&[NAME]);
    let off = verify("off", "");
    let world = World::start(plugins(), &tables(&server, &echo, "one"), &off)?;
    for version in BOTH {
        let config = client(version, &ours, None, "http/1.1");
        let mut h1 = H1Client::connect_tls(world.https(), NAME, config).await?;
        let mut h2 = H2Client::connect_tls(world.https(), NAME, client(version, &ours, None, "h2")).await?;
        let mut clear = H1Client::connect(world.http()).await?;
        for note in ["one", "two"] {
            world.apply_with(&tables(&server, &echo, note), &off)?;
            assert_eq!(h1.get("/", NAME, &[]).await?.status, 200);
            assert_eq!(h2.request("GET", NAME, "/", &[], b"").await?.status, 200);
            assert_eq!(clear.get("/", NAME, &[]).await?.status, 200);
        }
        let served = echo.requests();
        world.apply_with(&tables(&server, &echo, "two"), &verify("on", ours.cert_pem()))?;
        assert!(h1.get("/", NAME, &[]).await.is_err());
        let refused = h2.request("GET", NAME, "/", &[], b"").await;
        let text = format!("{:?}", refused.as_ref().err());
        assert!(text.contains("REFUSED_STREAM") || text.to_lowercase().contains("refused"), "{text}");
        assert_eq!(echo.requests(), served, "nothing reached the backend");
        assert_eq!(clear.get("/", NAME, &[]).await?.status, 200, "clear text has no verification");
        world.apply_with(&tables(&server, &echo, "two"), &off)?;
    }
    Ok(())
}

const GOOD: &str = "c5d5d4ee-2b5f-4b9c-a1c8-0d4a3f1b8f01";
const OTHER: &str = "c5d5d4ee-2b5f-4b9c-a1c8-0d4a3f1b8f02";
const SHOWN: &str = "c5d5d4ee-2b5f-4b9c-a1c8-0d4a3f1b8f03";

#[tokio::test]
async fn sessions_with_upstreams_end_with_their_settings() -> Result<()> {
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let echo = EchoServer::start_tls("e", good.server(&good.issue(&["localhost"]), &[], false)).await;
    let url = format!("https://localhost:{}", echo.address().port());
    let tables = |service: Value| {
        file(json!({
            "certificates": [merged(certificate(&good.issue(&["gateway"]), &[]), json!({ "id": SHOWN }))],
            "ca_certificates": [{ "id": GOOD, "cert": good.cert_pem() }, { "id": OTHER, "cert": other.cert_pem() }],
            "services": [service_of(&url, merged(service, json!({ "retries": 0 })), json!({}))],
        }))
    };
    // No connection is kept, so that every request performs a handshake; the default authority has signed none of the
    // certificates.
    let settings = [("upstream_keepalive_pool_size", "0"), ("lua_ssl_trusted_certificate", other.cert_pem())];
    let world = World::start(plugins(), &tables(json!({})), &settings)?;
    let mut client = H1Client::connect(world.http()).await?;
    for (service, expect) in [
        (json!({}), Some(false)),
        (json!({ "tls_verify": true }), None),
        (json!({ "tls_verify": true, "ca_certificates": [OTHER] }), None),
        (json!({ "tls_verify": true, "ca_certificates": [GOOD] }), Some(false)),
        (json!({ "tls_verify": true, "ca_certificates": [GOOD], "client_certificate": { "id": SHOWN } }), Some(true)),
        (json!({ "client_certificate": { "id": SHOWN } }), Some(true)),
        (json!({}), Some(false)),
        (json!({ "tls_verify": true, "ca_certificates": [OTHER] }), None),
        (json!({ "tls_verify": false, "ca_certificates": [OTHER] }), Some(false)),
    ] {
        world.apply_with(&tables(service.clone()), &settings)?;
        for _ in 0..3 {
            let response = client.get("/", "a", &[]).await?;
            let shown = (response.status == 200).then(|| response.json()["client_certificate"] == json!(true));
            assert_eq!(shown, expect, "{service}: {}", response.text());
        }
    }
    Ok(())
}

/// The ids and names stay the same: only the referenced entities change.
#[tokio::test]
async fn sessions_with_upstreams_end_with_what_their_settings_refer_to() -> Result<()> {
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let echo = EchoServer::start_tls("e", good.server(&good.issue(&["localhost"]), &[], false)).await;
    let url = format!("https://localhost:{}", echo.address().port());
    let tables = |shown: &Issued, trusted: Option<&Authority>| {
        let service = json!({ "tls_verify": true, "client_certificate": { "id": SHOWN }, "retries": 0 });
        let trusts = trusted.map(|trusted| json!({ "id": GOOD, "cert": trusted.cert_pem() }));
        let service = merged(service, trusted.map_or(json!({}), |_| json!({ "ca_certificates": [GOOD] })));
        file(json!({
            "certificates": [merged(certificate(shown, &[]), json!({ "id": SHOWN }))],
            "ca_certificates": trusts.into_iter().collect::<Vec<_>>(),
            "services": [service_of(&url, service, json!({}))],
        }))
    };
    let (known, unknown) = (good.issue(&["gateway"]), other.issue(&["gateway"]));
    let node_trusts = |authority: &Authority| authority.cert_pem().to_owned();
    let mut world = None;
    for (shown, trusted, node, expect) in [
        (&known, Some(&good), &other, 200),
        (&known, Some(&other), &other, 502),
        (&known, Some(&good), &other, 200),
        // The upstream trusts only certificates of the first authority.
        (&unknown, Some(&good), &other, 502),
        (&known, Some(&good), &other, 200),
        (&known, None, &good, 200),
        (&known, None, &other, 502),
        (&known, None, &good, 200),
        (&unknown, None, &good, 502),
    ] {
        let node = node_trusts(node);
        let settings = [("upstream_keepalive_pool_size", "0"), ("lua_ssl_trusted_certificate", node.as_str())];
        let yaml = tables(shown, trusted);
        let world: &World = match &world {
            None => world.insert(World::start(plugins(), &yaml, &settings)?),
            Some(world) => {
                world.apply_with(&yaml, &settings)?;
                world
            }
        };
        let mut client = H1Client::connect(world.http()).await?;
        for _ in 0..3 {
            let response = client.get("/", "a", &[]).await?;
            assert_eq!(response.status, expect, "{yaml}: {}", response.text());
        }
    }
    Ok(())
}
