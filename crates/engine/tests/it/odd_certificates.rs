//! Certificates that OpenSSL accepts but a strict verification rejects: of upstreams, and of the node itself.

use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use cardinal_net::tls::certified_key;
use cardinal_test_tools::{find, tools};
use cardinal_testkit::{Authority, EchoServer, H1Client, Server, Socket, TempDir, World};
use rustls::crypto::aws_lc_rs;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, SupportedProtocolVersion};
use serde_json::{Value, json};

use crate::plugins;
use crate::scene::{certificate, file, merged, service_of};

/// Runs openssl in a folder.
pub(crate) fn openssl(folder: &TempDir, arguments: &[&str]) -> Result<()> {
    let program = find("openssl").context("openssl is not installed")?;
    let output = Command::new(program).args(arguments).current_dir(folder.path()).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Writes the certificate `crt` and its key `key` for `up.test` into a folder.
fn make(folder: &TempDir, key: &[&str], extensions: &str, signed: &[&str]) -> Result<()> {
    openssl(folder, &[&["genpkey", "-out", "key", "-algorithm"], key].concat())?;
    openssl(folder, &["req", "-new", "-key", "key", "-subj", "/CN=up.test", "-out", "csr"])?;
    let mut sign = vec!["x509", "-req", "-in", "csr", "-signkey", "key", "-days", "30", "-out", "crt"];
    folder.write("extensions", extensions);
    if !extensions.is_empty() {
        sign.extend(["-extfile", "extensions"]);
    }
    openssl(folder, &[&sign, signed].concat())
}

/// A certificate of X.509 version 1 with its key, in PEM.
fn version_1(bits: &str) -> Result<(String, String)> {
    let folder = TempDir::new("certificate");
    make(&folder, &["RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")], "", &[])?;
    Ok((folder.read("crt"), folder.read("key")))
}

/// A server that presents this certificate, valid or not.
pub(crate) fn shows(pair: CertifiedKey, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    Arc::new(config)
}

const RSA_1024: &[&str] = &["RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
const RSA_2048: &[&str] = &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const PSS_2048: &[&str] = &["RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"];
const PSS_1024: &[&str] = &["RSA-PSS", "-pkeyopt", "rsa_keygen_bits:1024"];
const EC: &[&str] = &["EC", "-pkeyopt"];

/// The description of the certificate, its key, its extensions, how it is signed, and how the server is started.
type Case = (&'static str, Vec<&'static str>, &'static str, &'static [&'static str], &'static [&'static str]);

fn cases() -> Vec<Case> {
    let v3 = "subjectAltName=DNS:up.test";
    let curve = |name| [EC, &[name]].concat();
    vec![
        ("v1-tls12", RSA_2048.to_vec(), "", &[], &["-tls1_2"]),
        ("v1-tls13", RSA_2048.to_vec(), "", &[], &["-tls1_3"]),
        ("v1-ec", curve("ec_paramgen_curve:P-256"), "", &[], &[]),
        ("critical", RSA_2048.to_vec(), "1.2.3.4.5=critical,DER:0500", &[], &[]),
        ("no-name", RSA_2048.to_vec(), "subjectAltName=DER:0102030405", &[], &[]),
        ("constraints", RSA_2048.to_vec(), "basicConstraints=critical,CA:true\nkeyUsage=critical,cRLSign", &[], &[]),
        ("wrong-usage", RSA_2048.to_vec(), "extendedKeyUsage=critical,codeSigning", &[], &[]),
        ("md5", RSA_2048.to_vec(), v3, &["-md5"], &[]),
        ("sha1", RSA_2048.to_vec(), v3, &["-sha1"], &[]),
        ("1024-tls13", RSA_1024.to_vec(), v3, &[], &["-tls1_3"]),
        ("1024-pss", RSA_1024.to_vec(), "", &[], &["-tls1_2", "-sigalgs", "RSA-PSS+SHA256"]),
        ("1024-sha256", RSA_1024.to_vec(), v3, &[], &["-tls1_2", "-sigalgs", "RSA+SHA256"]),
        ("1024-sha384", RSA_1024.to_vec(), v3, &[], &["-tls1_2", "-sigalgs", "RSA+SHA384"]),
        ("1024-sha512", RSA_1024.to_vec(), v3, &[], &["-tls1_2", "-sigalgs", "RSA+SHA512"]),
        ("2048-sha384", RSA_2048.to_vec(), v3, &[], &["-tls1_2", "-sigalgs", "RSA+SHA384"]),
        ("1536", vec!["RSA", "-pkeyopt", "rsa_keygen_bits:1536"], v3, &[], &[]),
        ("pss", PSS_2048.to_vec(), v3, &[], &["-tls1_3"]),
        ("pss-1024", PSS_1024.to_vec(), v3, &[], &["-tls1_3"]),
        ("p384", curve("ec_paramgen_curve:P-384"), "", &[], &["-tls1_2"]),
        ("p521", curve("ec_paramgen_curve:P-521"), "", &[], &["-tls1_3"]),
        ("ed25519", vec!["ED25519"], "", &[], &["-tls1_3"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_that_are_not_verified_may_show_anything() -> Result<()> {
    let Some([openssl_path]) = tools!("openssl") else { return Ok(()) };
    let (mut servers, mut services) = (Vec::new(), Vec::new());
    for (name, key, extensions, signed, started) in cases() {
        let folder = TempDir::new(name);
        make(&folder, &key, extensions, signed).context(name)?;
        let mut command = Command::new(&openssl_path);
        let path = |file: &str| folder.path().join(file).display().to_string();
        command.args(["s_server", "-cert", &path("crt"), "-key", &path("key"), "-www"]);
        command.args(["-cipher", "DEFAULT@SECLEVEL=0"]).args(started);
        let server = Server::start(name, command, folder, |command, port| {
            command.args(["-accept", &format!("127.0.0.1:{port}")]);
        })?;
        let routes = json!([{ "name": name, "paths": [format!("/{name}")] }]);
        let url = format!("https://{}", server.address());
        services.push(json!({ "name": name, "url": url, "retries": 0, "routes": routes }));
        servers.push((name, server));
    }
    let world = World::start(plugins(), &file(json!({ "services": services })), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    for (name, server) in &servers {
        // Twice: the second handshake may resume the session of the first one.
        for _ in 0..2 {
            let response = client.get(&format!("/{name}"), "a", &[]).await?;
            assert_eq!(response.status, 200, "{name}: {}", server.folder().read("output"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_upstream_needs_the_key_of_its_certificate() -> Result<()> {
    if tools!("openssl").is_none() {
        return Ok(());
    }
    let authority = Authority::new("root");
    let (rsa, other_rsa, ec) = (authority.issue_rsa(&["a"]), authority.issue_rsa(&["a"]), authority.issue(&["a"]));
    let (v1, v1_key) = version_1("2048")?;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (chain, key, status) in [
            (&rsa.cert_pem, &rsa.key_pem, 200),
            (&rsa.cert_pem, &other_rsa.key_pem, 502),
            (&rsa.cert_pem, &ec.key_pem, 502),
            (&ec.cert_pem, &rsa.key_pem, 502),
            (&v1, &v1_key, 200),
            (&v1, &rsa.key_pem, 502),
        ] {
            // The chain of one certificate, the key of the other.
            let own = [&rsa, &other_rsa, &ec].into_iter().find(|issued| issued.key_pem == *key);
            let own = own.map_or(&v1, |issued| &issued.cert_pem);
            let mut pair = Arc::unwrap_or_clone(certified_key(own, key)?);
            pair.cert = cardinal_net::tls::certificates(chain)?;
            let echo = EchoServer::start_tls("e", shows(pair, &[version])).await;
            let service = service_of(&echo.url(), json!({ "retries": 0 }), json!({}));
            let world = World::start(plugins(), &file(json!({ "services": [service] })), &[])?;
            let response = H1Client::connect(world.http()).await?.get("/", "a", &[]).await?;
            assert_eq!(response.status, status, "{:?} {chain} {key}", version.version);
        }
    }
    Ok(())
}

#[tokio::test]
async fn whoever_is_not_verified_may_show_version_1() -> Result<()> {
    if tools!("openssl").is_none() {
        return Ok(());
    }
    let (cert, key) = version_1("2048")?;
    let config = || shows(Arc::unwrap_or_clone(certified_key(&cert, &key).unwrap()), rustls::ALL_VERSIONS);
    let (backend, logs) = (EchoServer::start_tls("e", config()).await, EchoServer::start_tls("l", config()).await);
    let checks = json!({
        "type": "https", "https_verify_certificate": false, "http_path": "/probe", "timeout": 5,
        "healthy": { "interval": 0.02, "successes": 1 },
        "unhealthy": { "interval": 0.02, "tcp_failures": 1, "http_failures": 1, "timeouts": 1 },
    });
    let tables = json!({
        "upstreams": [{
            "name": "u", "targets": [{ "target": backend.address().to_string() }],
            "healthchecks": { "active": checks },
        }],
        "services": [
            service_of("https://u", json!({ "retries": 0 }), json!({})),
            { "name": "stream", "url": format!("tls://{}", backend.address()), "routes": [
                { "name": "stream", "protocols": ["tcp"], "destinations": [{ "ip": "127.0.0.0/8" }] }
            ] },
        ],
        "plugins": [{ "name": "http-log", "config": { "http_endpoint": logs.url() } }],
    });
    let world = World::start(plugins(), &file(tables), &[("stream_listen", "127.0.0.1:0")])?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.status, 200);
    let mut stream = H1Client::connect(world.stream(false)).await?;
    assert_eq!(stream.get("/", "a", &[]).await?.status, 200);
    let probes = || backend.seen().iter().filter(|seen| seen.target == "/probe").count();
    cardinal_testkit::until("logs and probes", || logs.requests() > 0 && probes() >= 3).await?;
    assert_eq!(client.get("/", "a", &[]).await?.status, 200, "the target is healthy");
    Ok(())
}

#[tokio::test]
async fn expired_upstreams_are_refused_when_verified() -> Result<()> {
    let authority = Authority::new("root");
    let expired = authority.issue_expired(&["localhost"]);
    let echo = EchoServer::start_tls("e", authority.server(&expired, &[], false)).await;
    let url = format!("https://localhost:{}", echo.address().port());
    for (verify, status) in [(false, 200), (true, 502)] {
        let service = service_of(&url, json!({ "tls_verify": verify, "retries": 0 }), json!({}));
        let settings = [("lua_ssl_trusted_certificate", authority.cert_pem())];
        let world = World::start(plugins(), &file(json!({ "services": [service] })), &settings)?;
        assert_eq!(H1Client::connect(world.http()).await?.get("/", "a", &[]).await?.status, status, "{verify}");
    }
    Ok(())
}

/// The certificate that a client with this server name receives.
async fn shown(world: &World, name: &str) -> Result<Vec<u8>> {
    let config = cardinal_net::tls::client_config(&cardinal_net::tls::ClientSettings::default())?;
    let socket = Socket::connect(world.https()).await?.start_tls(name, config).await?;
    let Socket::Tls(tls) = &socket else { panic!("no TLS") };
    let shown = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).context("a certificate")?.to_vec();
    assert_eq!(H1Client::over(socket).get("/", name, &[]).await?.status, 200);
    Ok(shown)
}

#[tokio::test]
async fn the_node_shows_version_1_and_leaves_weak_keys_out() -> Result<()> {
    if tools!("openssl").is_none() {
        return Ok(());
    }
    let echo = EchoServer::start("e").await;
    let (cert, key) = version_1("2048")?;
    let (weak, weak_key) = version_1("1024")?;
    let authority = Authority::new("root");
    let fine = authority.issue(&["fine.test"]);
    let weak_id = "c5d5d4ee-2b5f-4b9c-a1c8-0d4a3f1b8f01";
    let tables = json!({
        "certificates": [
            { "cert": cert, "key": key, "snis": [{ "name": "v1.test" }] },
            { "id": weak_id, "cert": weak, "key": weak_key, "snis": [{ "name": "weak.test" }] },
            merged(certificate(&fine, &["fine.test"]), json!({ "cert_alt": weak, "key_alt": weak_key })),
        ],
        "services": [
            service_of(&echo.url(), json!({}), json!({})),
            merged(
                service_of("https://127.0.0.1:1", json!({ "client_certificate": { "id": weak_id } }), json!({
                    "name": "c", "paths": ["/c"]
                })),
                json!({ "name": "c" }),
            ),
        ],
    });
    let world = World::start_lenient(plugins(), &file(tables), &[])?;
    let said: Vec<String> = world.diagnostics.iter().map(ToString::to_string).collect();
    let reason = "an RSA key of 1024 bits cannot be used for TLS: 2048 to 8192 bits are supported";
    assert_eq!(said.iter().filter(|line| line.contains(reason)).count(), 2, "{said:?}");
    let der = |pem: &str| cardinal_net::tls::certificates(pem).unwrap()[0].to_vec();
    assert_eq!(shown(&world, "v1.test").await?, der(&cert));
    assert_eq!(shown(&world, "fine.test").await?, fine.cert.to_vec());
    let default = shown(&world, "weak.test").await?;
    assert!(![der(&cert), der(&weak), fine.cert.to_vec()].contains(&default));
    let left_out = H1Client::connect(world.http()).await?.get("/c", "a", &[]).await?;
    assert_eq!(left_out.status, 503, "a service without its client certificate is not served");

    let (ssl_cert, ssl_cert_key) = (("ssl_cert", cert.as_str()), ("ssl_cert_key", key.as_str()));
    let tables = json!({ "services": [service_of(&echo.url(), json!({}), json!({}))] });
    let world = World::start(plugins(), &file(tables.clone()), &[ssl_cert, ssl_cert_key])?;
    assert_eq!(shown(&world, "any.test").await?, der(&cert));
    let refused = World::start(plugins(), &file(tables), &[("ssl_cert", &weak), ("ssl_cert_key", &weak_key)]);
    let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("ssl_cert_key") && refused.contains(reason), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_client_certificate_may_be_of_version_1() -> Result<()> {
    let Some([openssl_path]) = tools!("openssl") else { return Ok(()) };
    let (cert, key) = version_1("2048")?;
    let folder = TempDir::new("server");
    make(&folder, RSA_2048, "", &[])?;
    let mut command = Command::new(&openssl_path);
    let path = |file: &str| folder.path().join(file).display().to_string();
    command.args(["s_server", "-cert", &path("crt"), "-key", &path("key"), "-www", "-Verify", "1"]);
    let server = Server::start("mutual", command, folder, |command, port| {
        command.args(["-accept", &format!("127.0.0.1:{port}")]);
    })?;
    let id = "c5d5d4ee-2b5f-4b9c-a1c8-0d4a3f1b8f01";
    for (client, status) in [(json!({ "client_certificate": { "id": id } }), 200), (json!({}), 502)] {
        let service = service_of(&format!("https://{}", server.address()), client, json!({}));
        let tables: Value = json!({ "certificates": [{ "id": id, "cert": cert, "key": key }], "services": [service] });
        let world = World::start(plugins(), &file(tables), &[])?;
        let response = H1Client::connect(world.http()).await?.get("/", "a", &[]).await?;
        assert_eq!(response.status, status, "{}", server.folder().read("output"));
    }
    Ok(())
}
