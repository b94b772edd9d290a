//! TLS on both sides: certificate selection, and verification of peers.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use cardinal_net::tls::unverified;
use cardinal_testkit::{Authority, EchoServer, H1Client, H2Client, Issued, Socket, World};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ProtocolVersion, ServerConfig};
use serde_json::{Value, json};

use crate::plugins;
use crate::scene::{JSON, certificate, file, merged, one, outcome, sent, service_of};

/// A client that accepts any certificate with a key of this kind (`RSA`, `ECDSA`, or both if empty).
fn client(version: &'static rustls::SupportedProtocolVersion, kind: &str) -> Arc<ClientConfig> {
    let mut provider = aws_lc_rs::default_provider();
    let mapping = provider.signature_verification_algorithms.mapping.iter().copied();
    let mapping: Vec<_> = mapping.filter(|(scheme, _)| format!("{scheme:?}").contains(kind)).collect();
    provider.signature_verification_algorithms.mapping = Vec::leak(mapping);
    let provider = Arc::new(provider);
    let verifier = unverified(Arc::clone(&provider));
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Arc::new(config)
}

/// Connects; returns the connection, the presented certificate, and the version.
async fn handshake(
    world: &World,
    name: &str,
    config: Arc<ClientConfig>,
) -> Result<(Socket, CertificateDer<'static>, ProtocolVersion)> {
    let socket = Socket::connect(world.https()).await?.start_tls(name, config).await?;
    let Socket::Tls(tls) = &socket else { panic!("no TLS") };
    let session = tls.get_ref().1;
    let shown = session.peer_certificates().and_then(<[_]>::first).context("no certificate")?.clone().into_owned();
    let version = session.protocol_version().context("no version")?;
    Ok((socket, shown, version))
}

const BOTH: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

#[tokio::test]
async fn names_choose_certificates() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let authority = Authority::new("root");
    let issued: Vec<Issued> = (0..4).map(|_| authority.issue(&["any"])).collect();
    let table: Vec<Value> = issued
        .iter()
        .zip([&["exact.wild.test"][..], &["*.wild.test"], &["pre.*"], &["*"]])
        .map(|(issued, names)| certificate(issued, names))
        .collect();
    let tables = |from: &[Value]| {
        file(json!({ "certificates": from, "services": [service_of(&echo.url(), json!({}), json!({}))] }))
    };
    let world = World::start(plugins(), &tables(&table), &[])?;
    for (name, which) in [
        ("exact.wild.test", 0),
        ("EXACT.wild.test", 0),
        ("other.wild.test", 1),
        ("pre.org", 2),
        ("deep.other.wild.test", 3),
        ("unknown.test", 3),
    ] {
        for version in BOTH {
            let (socket, shown, spoken) = handshake(&world, name, client(version, "")).await?;
            assert_eq!((shown.as_ref(), spoken), (issued[which].cert.as_ref(), version.version), "{name}");
            assert_eq!(H1Client::over(socket).get("/", name, &[]).await?.status, 200, "{name}");
        }
    }
    world.apply(&tables(&table[..1]))?;
    let (socket, shown, _) = handshake(&world, "unknown.test", client(BOTH[1], "")).await?;
    assert!(issued.iter().all(|issued| issued.cert != shown), "the node's own certificate for names without one");
    assert_eq!(H1Client::over(socket).get("/", "unknown.test", &[]).await?.status, 200);
    let again = handshake(&world, "127.0.0.1", client(BOTH[0], "")).await?.1;
    assert_eq!(shown, again, "it is made once, and shown to clients without a name");
    Ok(())
}

#[tokio::test]
async fn a_certificate_may_have_two_keys() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let authority = Authority::new("root");
    let (rsa, ecdsa) = (authority.issue_rsa(&["a.test"]), authority.issue(&["a.test"]));
    let both = merged(certificate(&rsa, &["a.test"]), json!({ "cert_alt": ecdsa.cert_pem, "key_alt": ecdsa.key_pem }));
    let yaml = file(json!({ "certificates": [both], "services": [service_of(&echo.url(), json!({}), json!({}))] }));
    let world = World::start(plugins(), &yaml, &[])?;
    for version in BOTH {
        for (kind, expect) in [("RSA", &rsa), ("ECDSA", &ecdsa)] {
            let (socket, shown, spoken) = handshake(&world, "a.test", client(version, kind)).await?;
            assert_eq!((&shown, spoken), (&expect.cert, version.version), "{kind}");
            assert_eq!(H1Client::over(socket).get("/", "a.test", &[]).await?.status, 200);
        }
    }
    let modern = World::start(plugins(), &yaml, &[("ssl_cipher_suite", "modern")])?;
    assert!(handshake(&modern, "a.test", client(BOTH[0], "")).await.is_err(), "TLS 1.2 is not served");
    handshake(&modern, "a.test", client(BOTH[1], "")).await?;
    Ok(())
}

#[tokio::test]
async fn clients_show_certificates() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (server, good, bad) = (ours.issue(&["a.test"]), ours.issue(&["client"]), theirs.issue(&["client"]));
    let yaml = file(json!({
        "certificates": [certificate(&server, &["a.test"])],
        "services": [service_of(&echo.url(), json!({}), json!({}))],
    }));
    for (verify, anonymous, stranger) in [("off", true, true), ("optional", true, false), ("on", false, false)] {
        let settings =
            [("nginx_proxy_ssl_verify_client", verify), ("nginx_proxy_ssl_client_certificate", ours.cert_pem())];
        let world = World::start(plugins(), &yaml, &settings)?;
        for (identity, served) in [(None, anonymous), (Some(&good), true), (Some(&bad), stranger)] {
            let served_is = async {
                let config = ours.client(identity, &["http/1.1"]);
                let mut client = H1Client::connect_tls(world.https(), "a.test", config).await?;
                anyhow::Ok(client.get("/", "a.test", &[]).await?.status)
            };
            let status = served_is.await.ok();
            assert_eq!(status, served.then_some(200), "{verify}, {:?}", identity.map(|i| &i.cert_pem));
        }
    }
    Ok(())
}

#[tokio::test]
async fn routes_for_https_say_so_to_others() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let authority = Authority::new("root");
    let issued = authority.issue(&["a.test"]);
    let route = |status: u16, path: &str| json!({ "paths": [path], "protocols": ["https"], "https_redirect_status_code": status, "strip_path": false });
    let routes =
        [route(426, "/up"), route(301, "/moved"), route(302, "/found"), route(307, "/temp"), route(308, "/perm")];
    let yaml = file(json!({
        "certificates": [certificate(&issued, &["a.test"])],
        "services": [{ "name": "s", "url": echo.url(), "routes": routes }],
    }));
    let world = World::start(plugins(), &yaml, &[])?;
    let mut http = H1Client::connect(world.http()).await?;
    let refused = http.get("/up", "a.test", &[("X-Forwarded-Proto", "https")]).await?;
    assert_eq!(outcome(&refused), (426, "Please use HTTPS protocol".to_owned()), "an untrusted claim counts nothing");
    assert_eq!(refused.header("upgrade"), Some("TLS/1.2, HTTP/1.1"));
    assert!(refused.headers.all("connection").any(|value| value.contains("Upgrade")), "{:?}", refused.headers);
    for (status, path) in [(301, "/moved"), (302, "/found"), (307, "/temp"), (308, "/perm")] {
        let moved = http.get(&format!("{path}/x%20y?q=1&r=%20"), "A.test:8000", &[]).await?;
        let location = format!("https://a.test{path}/x%20y?q=1&r=%20");
        assert_eq!((moved.status, moved.header("location"), moved.body.len()), (status, Some(&*location), 0));
    }
    let mut h2 = H2Client::connect(world.http()).await?;
    let refused = h2.request("GET", "a.test", "/up", &[], b"").await?;
    assert_eq!((refused.status, refused.header("connection")), (426, None));
    let config = authority.client(None, &["http/1.1"]);
    let mut https = H1Client::connect_tls(world.https(), "a.test", config).await?;
    let served = https.get("/moved", "a.test", &[]).await?;
    assert_eq!(sent(&served.json(), "x-forwarded-proto"), "https");
    assert_eq!(echo.requests(), 1, "nothing else reached the backend");

    let world = World::start(plugins(), &yaml, &[("trusted_ips", "127.0.0.0/8")])?;
    let mut http = H1Client::connect(world.http()).await?;
    let served = http.get("/up", "a.test", &[("X-Forwarded-Proto", "https")]).await?;
    assert_eq!((served.status, sent(&served.json(), "x-forwarded-proto").as_str()), (200, "https"));
    let moved = http.get("/moved", "a.test", &[("X-Forwarded-Host", "front.test")]).await?;
    assert_eq!(moved.header("location"), Some("https://front.test/moved"));
    Ok(())
}

const CA: &str = "c5d5d4ee-2b5f-4b9c-a1c8-0d4a3f1b8f01";
const OTHER: &str = "c5d5d4ee-2b5f-4b9c-a1c8-0d4a3f1b8f02";

fn authorities(list: &[(&str, &Authority)]) -> Value {
    list.iter().map(|(id, authority)| json!({ "id": id, "cert": authority.cert_pem() })).collect()
}

/// The response to a request through a service with these settings.
async fn by_service(tables: Value, settings: &[(&str, &str)]) -> Result<cardinal_testkit::Response> {
    let world = World::start(plugins(), &file(tables), settings)?;
    H1Client::connect(world.http()).await?.get("/", "client.test:99", &[JSON]).await
}

fn invalid() -> (u16, String) {
    (502, "An invalid response was received from the upstream server".to_owned())
}

#[tokio::test]
async fn upstreams_are_verified_when_wanted() -> Result<()> {
    let (good, bad) = (Authority::new("good"), Authority::new("bad"));
    let by_name = EchoServer::start_tls("n", good.server(&good.issue(&["localhost"]), &[], false)).await;
    let by_address = EchoServer::start_tls("a", good.server(&good.issue(&["127.0.0.1"]), &[], false)).await;
    let cas = authorities(&[(CA, &good), (OTHER, &bad)]);
    let url = |echo: &EchoServer, host: &str| format!("https://{host}:{}", echo.address().port());
    for (url, service, settings, served) in [
        (url(&by_name, "localhost"), json!({ "tls_verify": true, "ca_certificates": [CA] }), None, true),
        (url(&by_name, "localhost"), json!({ "tls_verify": true, "ca_certificates": [OTHER, CA] }), None, true),
        (url(&by_name, "localhost"), json!({ "tls_verify": true, "ca_certificates": [OTHER] }), None, false),
        (url(&by_name, "localhost"), json!({ "tls_verify": true }), Some(&good), true),
        (url(&by_name, "localhost"), json!({ "tls_verify": true }), Some(&bad), false),
        (url(&by_name, "127.0.0.1"), json!({ "tls_verify": true, "ca_certificates": [CA] }), None, false),
        (url(&by_address, "127.0.0.1"), json!({ "tls_verify": true, "ca_certificates": [CA] }), None, true),
        (url(&by_address, "localhost"), json!({ "tls_verify": true, "ca_certificates": [CA] }), None, false),
        (url(&by_name, "localhost"), json!({ "tls_verify": false, "ca_certificates": [OTHER] }), None, true),
        (url(&by_name, "127.0.0.1"), json!({}), Some(&bad), true),
    ] {
        let service_text = format!("{url} {service} {}", settings.is_some());
        let tables = json!({
            "ca_certificates": cas,
            "services": [service_of(&url, merged(service, json!({ "retries": 0 })), json!({}))],
        });
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|a| ("lua_ssl_trusted_certificate", a.cert_pem())).collect();
        let response = by_service(tables, &settings).await?;
        let expect = if served { (200, String::new()) } else { invalid() };
        assert_eq!(outcome(&response), expect, "{service_text}");
    }
    Ok(())
}

#[tokio::test]
async fn chains_are_no_longer_than_wanted() -> Result<()> {
    let root = Authority::new("root");
    let middle = root.intermediate("middle");
    let lower = middle.intermediate("lower");
    let issued = lower.issue(&["localhost"]);
    let chain = vec![issued.cert.clone(), lower.cert().clone(), middle.cert().clone()];
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, issued.key())?;
    let echo = EchoServer::start_tls("e", Arc::new(config)).await;
    let url = format!("https://localhost:{}", echo.address().port());
    for (depth, status) in [(json!(0), 502), (json!(1), 502), (json!(2), 200), (json!(3), 200), (json!(null), 200)] {
        let service = json!({
            "tls_verify": true, "tls_verify_depth": depth, "ca_certificates": [CA], "retries": 0
        });
        let tables = json!({
            "ca_certificates": authorities(&[(CA, &root)]), "services": [service_of(&url, service, json!({}))]
        });
        assert_eq!(by_service(tables, &[]).await?.status, status, "{depth}");
    }
    Ok(())
}

#[tokio::test]
async fn upstreams_are_shown_certificates() -> Result<()> {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = ours.issue(&["localhost"]);
    let strict = EchoServer::start_tls("strict", ours.server(&server, &[], true)).await;
    let lax = EchoServer::start_tls("lax", ours.server(&server, &[], false)).await;
    let with_id = |issued: &Issued, id: &str| merged(certificate(issued, &[]), json!({ "id": id }));
    let table = json!([with_id(&ours.issue(&["gateway"]), CA), with_id(&theirs.issue(&["gateway"]), OTHER)]);
    for (echo, service, upstream, expect) in [
        (&strict, Some(CA), None, Some(true)),
        (&strict, None, None, None),
        (&strict, Some(OTHER), None, None),
        (&strict, None, Some(CA), Some(true)),
        (&strict, Some(CA), Some(OTHER), Some(true)),
        (&lax, None, None, Some(false)),
        (&lax, Some(CA), None, Some(true)),
    ] {
        let reference = |id: Option<&str>| id.map_or(json!({}), |id| json!({ "client_certificate": { "id": id } }));
        let target = json!([{ "target": echo.address().to_string() }]);
        let tables = json!({
            "certificates": table,
            "upstreams": [merged(json!({ "name": "u", "targets": target }), reference(upstream))],
            "services": [service_of("https://u", merged(reference(service), json!({ "retries": 0 })), json!({}))],
        });
        let response = by_service(tables, &[]).await?;
        let shown = (response.status == 200).then(|| response.json()["client_certificate"] == json!(true));
        assert_eq!(shown, expect, "{service:?} {upstream:?}: {}", response.text());
    }
    Ok(())
}

#[tokio::test]
async fn the_server_name_is_the_host() -> Result<()> {
    let authority = Authority::new("root");
    let echo = EchoServer::start_tls("e", authority.server(&authority.issue(&["a"]), &[], false)).await;
    let port = echo.address().port();
    let upstream =
        |more: Value| merged(json!({ "name": "u", "targets": [{ "target": format!("127.0.0.1:{port}") }] }), more);
    let named = format!("https://localhost:{port}");
    for (url, up, route, sni, host) in [
        (named.as_str(), json!({}), json!({}), json!("localhost"), format!("localhost:{port}")),
        (&named, json!({}), json!({ "preserve_host": true }), json!("client.test"), "client.test:99".to_owned()),
        (&echo.url(), json!({}), json!({}), json!(null), format!("127.0.0.1:{port}")),
        ("https://u", json!({}), json!({}), json!(null), format!("127.0.0.1:{port}")),
        ("https://u", json!({ "host_header": "up.test" }), json!({}), json!("up.test"), format!("up.test:{port}")),
        (
            "https://u",
            json!({ "host_header": "up.test" }),
            json!({ "preserve_host": true }),
            json!("client.test"),
            "client.test:99".to_owned(),
        ),
    ] {
        let tables = json!({ "upstreams": [upstream(up)], "services": [service_of(url, json!({}), route.clone())] });
        let response = by_service(tables, &[]).await?;
        assert_eq!(response.status, 200, "{url}: {}", response.text());
        let seen = response.json();
        assert_eq!((&seen["sni"], seen["authority"].as_str()), (&sni, Some(host.as_str())), "{url} {route}");
    }
    Ok(())
}

#[tokio::test]
async fn connections_are_not_shared_across_names_or_identities() -> Result<()> {
    let authority = Authority::new("root");
    let echo = EchoServer::start_tls("e", authority.server(&authority.issue(&["a"]), &[], false)).await;
    let gateway = merged(certificate(&authority.issue(&["gateway"]), &[]), json!({ "id": CA }));
    let one_more = |name: &str, more: Value| {
        merged(
            service_of(&echo.url(), more, json!({ "name": name, "paths": [format!("/{name}")] })),
            json!({ "name": name }),
        )
    };
    let tables = json!({
        "certificates": [gateway],
        "services": [
            one_more("plain", json!({})),
            one_more("shown", json!({ "client_certificate": { "id": CA } })),
        ],
    });
    let world = World::start(plugins(), &file(tables), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    for _ in 0..3 {
        for (path, shown) in [("/plain", false), ("/shown", true)] {
            let seen = client.get(path, "a", &[]).await?.json();
            assert_eq!(seen["client_certificate"], shown, "{path}");
        }
    }
    assert_eq!(echo.connections(), 2);
    let world = World::start(plugins(), &one(&echo.url(), json!({}), json!({ "preserve_host": true })), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    for host in ["x.test", "y.test", "x.test"] {
        assert_eq!(client.get("/", host, &[]).await?.json()["sni"], host);
    }
    Ok(())
}
