//! Self-signed certificates that are among the trusted CA certificates: of upstreams and of clients.

use std::sync::Arc;

use anyhow::Result;
use cardinal_net::tls::{ClientSettings, certified_key, client_config};
use cardinal_test_tools::tools;
use cardinal_testkit::{Authority, EchoServer, ExtendedKeyUsagePurpose, H1Client, Issued, TempDir, World};
use rustls::SupportedProtocolVersion;
use serde_json::{Value, json};

use crate::odd_certificates::{openssl, shows};
use crate::plugins;
use crate::scene::{certificate, file, merged, service_of};

const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];
const NOW: (i32, i32) = (1975, 4096);
const PAST: (i32, i32) = (2000, 2001);
const CA: &str = "c5d5d4ee-2b5f-4b9c-a1c8-0d4a3f1b8f01";

/// Certificate and key in PEM.
type Pair = (String, String);

/// A self-signed certificate for these names, or only for the common name.
fn own(names: &[&str], uses: &[ExtendedKeyUsagePurpose], years: (i32, i32)) -> Pair {
    let issued = Issued::self_signed(names, "localhost", uses, years);
    (issued.cert_pem, issued.key_pem)
}

/// A self-signed certificate created by openssl; X.509 version 1 if there are no extensions.
fn made(common_name: &str, extensions: &str) -> Result<Pair> {
    let folder = TempDir::new("trusted");
    folder.write("extensions", extensions);
    openssl(&folder, &["genpkey", "-out", "key", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])?;
    openssl(&folder, &["req", "-new", "-key", "key", "-subj", &format!("/CN={common_name}"), "-out", "csr"])?;
    let sign =
        ["x509", "-req", "-in", "csr", "-signkey", "key", "-days", "30", "-out", "crt", "-extfile", "extensions"];
    openssl(&folder, if extensions.is_empty() { &sign[..sign.len() - 2] } else { &sign })?;
    Ok((folder.read("crt"), folder.read("key")))
}

/// The status of a request to an upstream that presents a certificate.
async fn proxied(
    (shown, key): &Pair,
    version: &'static SupportedProtocolVersion,
    service: Value,
    trusted: (&str, &str),
) -> Result<u16> {
    let pair = Arc::unwrap_or_clone(certified_key(shown, key)?);
    let echo = EchoServer::start_tls("e", shows(pair, &[version])).await;
    let url = format!("https://localhost:{}", echo.address().port());
    let service = merged(json!({ "tls_verify": true, "retries": 0 }), service);
    let mut tables = json!({ "services": [service_of(&url, service, json!({}))] });
    let settings = match trusted {
        ("ca_certificates", pem) => {
            tables["ca_certificates"] = json!([{ "id": CA, "cert": pem }]);
            tables["services"][0]["ca_certificates"] = json!([CA]);
            vec![]
        }
        setting => vec![setting],
    };
    let world = World::start(plugins(), &file(tables), &settings)?;
    Ok(H1Client::connect(world.http()).await?.get("/", "a", &[]).await?.status)
}

const SETTING: &str = "lua_ssl_trusted_certificate";
const TABLE: &str = "ca_certificates";

#[tokio::test]
async fn an_upstream_may_show_a_certificate_that_is_trusted_itself() -> Result<()> {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let (good, twin) = (own(&["localhost"], &[], NOW), own(&["localhost"], &[], NOW));
    let other_name = own(&["other.test"], &[], NOW);
    let server_only = own(&["localhost"], &[ServerAuth], NOW);
    let client_only = own(&["localhost"], &[ClientAuth], NOW);
    let both = format!("{}{}", twin.0, good.0);
    for version in BOTH {
        for (what, shown, service, trusted, status) in [
            ("itself", &good, json!({}), (TABLE, &*good.0), 200),
            ("itself, as setting", &good, json!({}), (SETTING, &good.0), 200),
            ("itself among others", &good, json!({}), (SETTING, &both), 200),
            ("no intermediates allowed", &good, json!({ "tls_verify_depth": 0 }), (TABLE, &good.0), 200),
            ("other key, same subject", &twin, json!({}), (TABLE, &good.0), 502),
            ("other key, as setting", &twin, json!({}), (SETTING, &good.0), 502),
            ("other name, though the common name fits", &other_name, json!({}), (TABLE, &other_name.0), 502),
            ("server", &server_only, json!({}), (TABLE, &server_only.0), 200),
            ("client", &client_only, json!({}), (TABLE, &client_only.0), 502),
        ] {
            assert_eq!(proxied(shown, version, service, trusted).await?, status, "{what}: {:?}", version.version);
        }
        for (years, status) in [(NOW, 200), (PAST, 502), ((4000, 4096), 502)] {
            let shown = own(&["localhost"], &[], years);
            assert_eq!(proxied(&shown, version, json!({}), (SETTING, &shown.0)).await?, status, "{years:?}");
        }
        let no_names = own(&[], &[], NOW);
        assert_eq!(proxied(&no_names, version, json!({}), (TABLE, &no_names.0)).await?, 200, "common name");
    }
    Ok(())
}

#[tokio::test]
async fn a_trusted_certificate_may_be_of_version_1() -> Result<()> {
    if tools!("openssl").is_none() {
        return Ok(());
    }
    let (good, twin, other_name) = (made("localhost", "")?, made("localhost", "")?, made("other.test", "")?);
    let signing_only = made("localhost", "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign")?;
    for version in BOTH {
        for (what, shown, trusted, status) in [
            ("itself", &good, &good, 200),
            ("other key", &twin, &good, 502),
            ("other name", &other_name, &other_name, 502),
            ("key usage", &signing_only, &signing_only, 502),
        ] {
            let trusted = (SETTING, &*trusted.0);
            assert_eq!(proxied(shown, version, json!({}), trusted).await?, status, "{what}: {:?}", version.version);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_client_may_show_a_certificate_that_is_trusted_itself() -> Result<()> {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let echo = EchoServer::start("e").await;
    let server = Authority::new("root").issue(&["a.test"]);
    let tables = file(json!({
        "certificates": [certificate(&server, &["a.test"])],
        "services": [service_of(&echo.url(), json!({}), json!({}))],
    }));
    let (good, twin) = (own(&[], &[], NOW), own(&[], &[], NOW));
    let (client_only, server_only) = (own(&[], &[ClientAuth], NOW), own(&[], &[ServerAuth], NOW));
    let expired = own(&[], &[], PAST);
    let mut cases = vec![
        ("itself", good.clone(), good.0.clone(), true),
        ("other key, same subject", twin, good.0, false),
        ("client", client_only.clone(), client_only.0, true),
        ("server", server_only.clone(), server_only.0, false),
        ("expired", expired.clone(), expired.0, false),
    ];
    if tools!("openssl").is_some() {
        let (v1, other) = (made("localhost", "")?, made("localhost", "")?);
        cases.push(("version 1", v1.clone(), v1.0, true));
        cases.push(("version 1, other key", other, cases[5].2.clone(), false));
    }
    for mode in ["on", "optional"] {
        for (what, (chain, key), trusted, served) in &cases {
            let settings = [("nginx_proxy_ssl_verify_client", mode), ("nginx_proxy_ssl_client_certificate", trusted)];
            let world = World::start(plugins(), &tables, &settings)?;
            let client = Some((chain.as_str().into(), key.as_str().into()));
            let config = client_config(&ClientSettings { client, ..ClientSettings::default() })?;
            let outcome = async {
                let mut client = H1Client::connect_tls(world.https(), "a.test", config).await?;
                anyhow::Ok(client.get("/", "a.test", &[]).await?.status)
            };
            assert_eq!(outcome.await.ok(), served.then_some(200), "{mode}: {what}");
        }
    }
    Ok(())
}
