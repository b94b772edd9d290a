//! Filters that supply the certificate of a TLS handshake.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cardinal_base::{Clock as _, ManualClock};
use cardinal_engine::Options;
use cardinal_ir::{Ir, ListenerKind, NodeSettings};
use cardinal_schema::{field, record, string};
use cardinal_sdk::{
    BuildCx, BuildError, CertificateAnswer, CertificateCx, CertificateDecision, CertificateStep, FailureMode, Filter,
    Phases, PluginDef, Scopes, ServerCertificate, TlsAlert,
};
use cardinal_testkit::{Authority, EchoServer, H1Client, H2Client, Issued, Socket, World, until, while_time_passes};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::yield_now;

use super::failures;
use crate::listeners::front::{Domain, Front, LISTENER, listener, route};
use crate::resumption::Outcome::{Full, Refused, Resumed};
use crate::resumption::{BOTH, NAME, client, request, verify};
use crate::scene::{certificate, eventually, file, service_of};
use crate::secrets::known;

/// A name without a supplied certificate.
const OTHER: &str = "other.test";

/// Supplies a certificate for [`NAME`], as configured by its parameter `does`.
static STORE: PluginDef = PluginDef {
    name: "store",
    summary: "Supplies a certificate.",
    priority: 50,
    schema: || record([field("does", string().required()), field("cert", string()), field("key", string())]),
    entities: &[],
    scopes: Scopes::ALL,
    protocols: &["http", "https", "tls"],
    failure: FailureMode::Open,
    build: |params, cx| build(params, cx),
    lower: None,
};

/// The same, later in the order, and failing closed.
static STRICT: PluginDef = PluginDef {
    name: "strict-store",
    summary: "Supplies a certificate.",
    priority: 40,
    schema: || record([field("does", string().required()), field("cert", string()), field("key", string())]),
    entities: &[],
    scopes: Scopes::ALL,
    protocols: &["http", "https", "tls"],
    failure: FailureMode::Closed,
    build: |params, cx| build(params, cx),
    lower: None,
};

const PLUGINS: &[&PluginDef] = &[&STORE, &STRICT];

struct Store {
    does: String,
    certificate: Option<ServerCertificate>,
}

fn build(params: &Value, cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let text = |name: &str| params[name].as_str().unwrap_or_default().to_owned();
    let parsed = params["cert"].as_str().map(|chain| cx.services.certificates.parse(chain, &text("key")));
    let certificate = parsed.transpose().map_err(|error| BuildError::new("cert", error.to_string()))?;
    Ok(Arc::new(Store { does: text("does"), certificate }))
}

/// The names for which filters wait, one entry for each.
static WAITING: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A filter waits for the certificate of a name, until this is dropped.
struct Waiting(String);

impl Waiting {
    fn start(name: Option<&str>) -> Self {
        let name = name.unwrap_or_default().to_owned();
        WAITING.lock().unwrap().push(name.clone());
        Self(name)
    }

    fn count(name: &str) -> usize {
        WAITING.lock().unwrap().iter().filter(|waiting| *waiting == name).count()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut all = WAITING.lock().unwrap();
        let place = all.iter().position(|name| *name == self.0).unwrap();
        all.swap_remove(place);
    }
}

impl Store {
    fn decide(&self, name: Option<&str>) -> CertificateDecision {
        match &self.certificate {
            Some(certificate) if name == Some(NAME) => CertificateDecision::serve(certificate.clone()),
            _ => CertificateDecision::Continue,
        }
    }
}

impl Filter for Store {
    fn phases(&self) -> Phases {
        if self.does == "nothing" { Phases::NONE } else { Phases::CERTIFICATE }
    }

    fn on_certificate<'a>(&'a self, cx: &'a mut CertificateCx<'_>) -> CertificateStep<'a> {
        let answer = CertificateStep::Answer;
        match &*self.does {
            "later" => CertificateStep::Wait(Box::pin(async move {
                yield_now().await;
                assert!(cx.client.peer.ip().is_loopback() && cx.client.local.ip().is_loopback());
                self.decide(cx.server_name)
            })),
            "fail" => CertificateStep::Fail("no store".to_owned()),
            "fail-later" => CertificateStep::Wait(Box::pin(async {
                yield_now().await;
                CertificateDecision::Fail("no store".to_owned())
            })),
            "never" => CertificateStep::Wait(Box::pin(std::future::pending())),
            "counted" => {
                let waiting = Waiting::start(cx.server_name);
                CertificateStep::Wait(Box::pin(async move {
                    let _waiting = waiting;
                    std::future::pending().await
                }))
            }
            "panic" => panic!("on purpose"),
            "foreign" => CertificateStep::serve(ServerCertificate::new("not of the node")),
            "refuse" => answer(CertificateAnswer::Refuse(TlsAlert::UnrecognizedName)),
            "challenge" => match &self.certificate {
                Some(found) if cx.offers(b"acme-tls/1") => answer(CertificateAnswer::Challenge {
                    certificate: found.clone(),
                    protocol: (*b"acme-tls/1").into(),
                }),
                _ => CertificateStep::Continue,
            },
            _ => match self.decide(cx.server_name) {
                CertificateDecision::Answer(given) => answer(given),
                CertificateDecision::Continue | CertificateDecision::Fail(_) => CertificateStep::Continue,
            },
        }
    }
}

/// An authority, the certificate of the configuration, and a supplied one.
struct Keys {
    authority: Authority,
    configured: Issued,
    supplied: Issued,
}

impl Keys {
    fn new() -> Self {
        let authority = Authority::new("ours");
        let (configured, supplied) = (authority.issue(&[NAME, OTHER]), authority.issue(&[NAME]));
        Self { authority, configured, supplied }
    }

    fn instance(&self, plugin: &str, does: &str) -> Value {
        instance(plugin, does, &self.supplied)
    }

    fn file(&self, echo: &EchoServer, plugins: &[Value]) -> String {
        let stream = json!({
            "name": "stream", "url": format!("tcp://{}", echo.address()),
            "routes": [{ "name": "stream", "protocols": ["tls"], "snis": [NAME, OTHER] }],
        });
        file(json!({
            "certificates": [certificate(&self.configured, &[NAME, OTHER])],
            "services": [service_of(&echo.url(), json!({}), json!({})), stream],
            "plugins": plugins,
        }))
    }

    /// The certificate presented to a client.
    async fn shown(&self, address: SocketAddr, name: &str, alpn: &[&str]) -> Result<&'static str> {
        let config = self.authority.client(None, alpn);
        let (shown, _) = handshake(address, name, config).await?;
        Ok(match shown {
            shown if shown == self.supplied.cert => "supplied",
            shown if shown == self.configured.cert => "configured",
            _ => "unknown",
        })
    }
}

fn instance(plugin: &str, does: &str, supplied: &Issued) -> Value {
    json!({ "name": plugin, "config": { "does": does, "cert": supplied.cert_pem, "key": supplied.key_pem } })
}

async fn handshake(
    address: SocketAddr,
    name: &str,
    config: Arc<ClientConfig>,
) -> Result<(CertificateDer<'static>, Socket)> {
    let socket = Socket::connect(address).await?.start_tls(name, config).await?;
    let Socket::Tls(tls) = &socket else { bail!("no TLS") };
    let shown = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).context("a certificate")?;
    Ok((shown.clone(), socket))
}

const STREAM: (&str, &str) = ("stream_listen", "127.0.0.1:0 ssl");

/// A world with other settings of the node.
fn changed(yaml: &str, change: impl FnOnce(&mut NodeSettings)) -> Result<World> {
    let mut configuration = World::compiled(PLUGINS, yaml, &[STREAM])?;
    change(Arc::make_mut(&mut configuration.node));
    World::of(PLUGINS, configuration)
}

#[tokio::test]
async fn a_certificate_is_supplied_by_name() -> Result<()> {
    let (echo, keys) = (EchoServer::start("e").await, Keys::new());
    for does in ["now", "later"] {
        let world = World::start(PLUGINS, &keys.file(&echo, &[keys.instance("store", does)]), &[STREAM])?;
        for address in [world.https(), world.stream(true)] {
            assert_eq!(keys.shown(address, NAME, &[]).await?, "supplied", "{does}");
            assert_eq!(keys.shown(address, "A.Test", &[]).await?, "supplied", "{does}");
            assert_eq!(keys.shown(address, OTHER, &[]).await?, "configured", "{does}");
        }
        for name in [NAME, OTHER] {
            let h1 = || keys.authority.client(None, &["http/1.1"]);
            let mut client = H1Client::connect_tls(world.https(), name, h1()).await?;
            assert_eq!(client.get("/", name, &[]).await?.status, 200);
            let mut client = H2Client::connect_tls(world.https(), name, keys.authority.client(None, &["h2"])).await?;
            assert_eq!(client.request("GET", name, "/", &[], b"").await?.status, 200);
            // Bytes of a stream, which are those of HTTP here.
            let mut client = H1Client::connect_tls(world.stream(true), name, keys.authority.client(None, &[])).await?;
            assert_eq!(client.get("/", name, &[]).await?.status, 200);
        }
        let of_handshakes = failures(&world).into_iter().filter(|(kind, _)| ["filter", "client_tls"].contains(kind));
        assert_eq!(of_handshakes.collect::<Vec<_>>(), []);
        // Clear text is handled in the same way as without filters.
        assert_eq!(H1Client::connect(world.https()).await?.get("/", NAME, &[]).await?.status, 400);
    }
    Ok(())
}

#[tokio::test]
async fn a_listener_that_detects_protocols_asks_filters() -> Result<()> {
    let (echo, keys) = (EchoServer::start("e").await, Keys::new());
    let yaml = keys.file(&echo, &[keys.instance("store", "later")]);
    let world = changed(&yaml, |node| {
        let listener = node.listeners.iter_mut().find(|l| l.tls.is_some() && l.kind == ListenerKind::Http);
        listener.expect("a listener with TLS").kind = ListenerKind::Detect;
    })?;
    let all = world.engine().addresses();
    let address = all.iter().find(|(l, _)| l.kind == ListenerKind::Detect).context("it is open")?.1;
    assert_eq!(keys.shown(address, NAME, &["h2"]).await?, "supplied");
    assert_eq!(keys.shown(address, OTHER, &[]).await?, "configured");
    let mut client = H1Client::connect_tls(address, NAME, keys.authority.client(None, &[])).await?;
    assert_eq!(client.get("/", NAME, &[]).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn the_first_filter_that_answers_decides() -> Result<()> {
    let (echo, keys) = (EchoServer::start("e").await, Keys::new());
    let unknown = keys.authority.issue(&[NAME]);
    let later = instance("strict-store", "now", &unknown);
    for (does, expect) in [("now", "supplied"), ("nothing", "unknown"), ("challenge", "unknown"), ("fail", "unknown")] {
        let plugins = [later.clone(), keys.instance("store", does)];
        let world = World::start(PLUGINS, &keys.file(&echo, &plugins), &[STREAM])?;
        for address in [world.https(), world.stream(true)] {
            assert_eq!(keys.shown(address, NAME, &[]).await?, expect, "{does}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_failure_leads_to_the_certificates_of_the_configuration_or_closes() -> Result<()> {
    let (echo, keys) = (EchoServer::start("e").await, Keys::new());
    for does in ["fail", "fail-later", "foreign", "never"] {
        for (plugin, opens) in [("store", true), ("strict-store", false)] {
            let yaml = keys.file(&echo, &[keys.instance(plugin, does)]);
            let world = changed(&yaml, |node| {
                if does == "never" {
                    node.limits.handshake_timeout_ms = 1_000;
                }
            })?;
            for address in [world.https(), world.stream(true)] {
                match keys.shown(address, NAME, &[]).await {
                    Ok(shown) => assert_eq!((shown, opens), ("configured", true), "{does}"),
                    Err(error) => {
                        assert!(!opens && format!("{error:?}").contains("InternalError"), "{does}: {error:?}");
                    }
                }
            }
            let expect: &[_] = if opens { &[("filter", 2)] } else { &[("client_tls", 2), ("filter", 2)] };
            let found = || {
                let mut found = failures(&world);
                found.retain(|(kind, _)| *kind != "client_closed");
                found.sort_unstable();
                found
            };
            assert!(eventually(|| found() == expect).await, "{does} {plugin}: {:?}", failures(&world));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_handshake_is_refused_with_an_alert() -> Result<()> {
    let (echo, keys) = (EchoServer::start("e").await, Keys::new());
    let world = World::start(PLUGINS, &keys.file(&echo, &[keys.instance("store", "refuse")]), &[STREAM])?;
    for address in [world.https(), world.stream(true)] {
        let error = keys.shown(address, NAME, &[]).await.expect_err("a refusal");
        assert!(format!("{error:?}").to_lowercase().contains("unrecogni"), "{error:?}");
    }
    assert!(eventually(|| failures(&world) == [("client_tls", 2)]).await, "{:?}", failures(&world));
    Ok(())
}

/// Its server name is unknown, and it must not bypass a filter that refuses handshakes.
#[tokio::test]
async fn a_client_hello_that_is_too_long_is_refused() -> Result<()> {
    let (echo, keys) = (EchoServer::start("e").await, Keys::new());
    let long: Vec<String> = (0..100).map(|number| format!("{number:0>200}")).collect();
    let offered: Vec<&str> = ["http/1.1"].into_iter().chain(long.iter().map(|name| &**name)).collect();
    for (does, is_served) in [("nothing", true), ("now", false)] {
        let world = World::start(PLUGINS, &keys.file(&echo, &[keys.instance("store", does)]), &[])?;
        assert_eq!(keys.shown(world.https(), NAME, &offered).await.is_ok(), is_served, "{does}");
        let expect: &[_] = if is_served { &[] } else { &[("client_tls", 1)] };
        assert!(eventually(|| failures(&world) == expect).await, "{:?}", failures(&world));
        assert_eq!(keys.shown(world.https(), OTHER, &["http/1.1"]).await?, "configured");
    }
    Ok(())
}

#[tokio::test]
async fn a_panic_ends_one_connection() -> Result<()> {
    let (echo, keys) = (EchoServer::start("e").await, Keys::new());
    let world = World::start(PLUGINS, &keys.file(&echo, &[keys.instance("store", "panic")]), &[STREAM])?;
    let mut other = H1Client::connect(world.http()).await?;
    for address in [world.https(), world.stream(true), world.https()] {
        assert!(keys.shown(address, NAME, &[]).await.is_err());
        assert_eq!(other.get("/", NAME, &[]).await?.status, 200);
    }
    drop(other);
    let counts = || world.engine().services().node.connections();
    assert!(eventually(|| (counts().active, counts().writing) == (0, 0)).await, "{:?}", counts());
    world.apply(&keys.file(&echo, &[keys.instance("store", "now")]))?;
    assert_eq!(keys.shown(world.https(), NAME, &[]).await?, "supplied");
    Ok(())
}

#[tokio::test]
async fn a_challenge_is_answered_and_nothing_is_served() -> Result<()> {
    let (echo, keys) = (EchoServer::start("e").await, Keys::new());
    let settings = verify("on", keys.authority.cert_pem());
    let world = World::start(PLUGINS, &keys.file(&echo, &[keys.instance("store", "challenge")]), &settings)?;
    for address in [world.https(), world.stream(true)] {
        // It requires no client certificate, unlike all other connections.
        let (shown, socket) = handshake(address, NAME, keys.authority.client(None, &["acme-tls/1"])).await?;
        assert_eq!((shown == keys.supplied.cert, socket.alpn()), (true, Some(&b"acme-tls/1"[..])));
        assert!(H1Client::over(socket).get("/", NAME, &[]).await.is_err(), "the connection is closed");
        for version in BOTH {
            let config = client(version, &keys.authority, None, "acme-tls/1");
            for _ in 0..2 {
                let (_, socket) = handshake(address, NAME, Arc::clone(&config)).await?;
                let Socket::Tls(tls) = &socket else { bail!("no TLS") };
                assert_eq!(tls.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
            }
        }
    }
    for (identity, expect) in [(None, Refused), (Some(keys.authority.issue(&["me"])), Full)] {
        let config = client(BOTH[1], &keys.authority, identity.as_ref(), "http/1.1");
        assert_eq!(request(&world, false, &config).await, expect);
    }
    assert_eq!(echo.requests(), 1);
    Ok(())
}

#[tokio::test]
async fn sessions_end_with_the_certificate_under_which_they_began() -> Result<()> {
    let (echo, keys) = (EchoServer::start("e").await, Keys::new());
    let renewed = keys.authority.issue(&[NAME]);
    let settings = verify("on", keys.authority.cert_pem());
    let (good, none) = (keys.authority.issue(&["me"]), keys.file(&echo, &[]));
    let first = keys.file(&echo, &[keys.instance("store", "now")]);
    let second = keys.file(&echo, &[instance("store", "later", &renewed)]);
    let world = World::start(PLUGINS, &none, &settings)?;
    for (version, stream) in [(BOTH[0], false), (BOTH[1], false), (BOTH[0], true), (BOTH[1], true)] {
        let who = |identity| client(version, &keys.authority, identity, "http/1.1");
        let (nobody, good) = (who(None), who(Some(&good)));
        let outcomes = [
            (&none, Full),
            (&none, Resumed),
            (&first, Full),
            (&first, Resumed),
            (&second, Full),
            (&second, Resumed),
            (&none, Full),
            (&none, Resumed),
        ];
        for (step, (yaml, expect)) in outcomes.into_iter().enumerate() {
            world.apply_with(yaml, &settings)?;
            let found = request(&world, stream, &good).await;
            assert_eq!(found, expect, "{:?}, stream: {stream}, step {step}", version.version);
            assert_eq!(request(&world, stream, &nobody).await, Refused, "clients are verified");
        }
        // Sessions under a certificate are invalid under another client verification.
        world.apply_with(&first, &verify("optional", keys.authority.cert_pem()))?;
        for (who, expect) in [(&nobody, Full), (&nobody, Resumed), (&good, Full)] {
            assert_eq!(request(&world, stream, who).await, expect, "{:?}, stream: {stream}", version.version);
        }
        world.apply_with(&first, &settings)?;
        assert_eq!(request(&world, stream, &nobody).await, Refused);
    }
    Ok(())
}

/// The ClientHello of a client with this server name.
fn client_hello(name: &'static str, config: Arc<ClientConfig>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    rustls::ClientConnection::new(config, name.try_into()?)?.write_tls(&mut bytes)?;
    Ok(bytes)
}

/// A world with a manual clock.
fn timed(clock: &Arc<ManualClock>, yaml: &str) -> Result<World> {
    let options = Options { clock: Some(clock.clone()), ..Options::default() };
    World::start_with(PLUGINS, yaml, &[STREAM], options)
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_waiting_of_a_filter() -> Result<()> {
    const NAME: &str = "leaves.test";
    let (echo, keys) = (EchoServer::start("e").await, Keys::new());
    let clock = Arc::new(ManualClock::default());
    let yaml = keys.file(&echo, &[keys.instance("store", "counted")]).replace(OTHER, NAME);
    let world = timed(&clock, &yaml)?;
    let hello = client_hello(NAME, keys.authority.client(None, &[]))?;
    for address in [world.https(), world.stream(true)] {
        for resets in [false, true] {
            let mut tcp = TcpStream::connect(address).await?;
            tcp.write_all(&hello).await?;
            until("the filter to wait", || Waiting::count(NAME) == 1).await?;
            if resets {
                tcp.set_zero_linger()?;
            } else {
                // Early data of a client does not hide that it disconnects.
                tcp.write_all(b"early").await?;
            }
            drop(tcp);
            until("the future to be dropped", || Waiting::count(NAME) == 0).await?;
        }
    }
    let counts = || world.engine().services().node.connections();
    until("the connections to end", || counts().active == 0).await
}

/// A late ClientHello, the wait of a filter and the handshake together do not exceed the limit.
#[tokio::test]
async fn an_arrival_has_one_deadline() -> Result<()> {
    const NAME: &str = "slow.test";
    let (echo, keys) = (EchoServer::start("e").await, Keys::new());
    let yaml = keys.file(&echo, &[keys.instance("store", "counted")]).replace(OTHER, NAME);
    let hello = client_hello(NAME, keys.authority.client(None, &[]))?;
    for stream in [false, true] {
        let clock = Arc::new(ManualClock::default());
        let world = timed(&clock, &yaml)?;
        let address = if stream { world.stream(true) } else { world.https() };
        let mut tcp = TcpStream::connect(address).await?;
        until("the connection to be accepted", || world.engine().totals().accepted == 1).await?;
        clock.advance(Duration::from_millis(7_000));
        tcp.write_all(&hello).await?;
        until("the filter to wait", || Waiting::count(NAME) == 1).await?;
        let mut answer = Vec::new();
        let ends = tcp.read_to_end(&mut answer);
        while_time_passes("the end", &clock, Duration::from_millis(20), ends).await?.ok();
        let passed_ms = clock.tick().millis();
        assert!((10_000..11_000).contains(&passed_ms), "{passed_ms} ms, stream: {stream}");
        assert!(!answer.is_empty(), "the handshake went on without the filter");
    }
    Ok(())
}

/// The rest of the ClientHello is still unread when the alert is sent.
#[tokio::test]
async fn the_alert_for_a_client_hello_that_is_too_long_arrives() -> Result<()> {
    let (echo, keys) = (EchoServer::start("e").await, Keys::new());
    let world = World::start(PLUGINS, &keys.file(&echo, &[keys.instance("store", "now")]), &[])?;
    // Records of a ClientHello of 1 MiB.
    let mut hello = vec![22, 3, 1, 64, 0, 1, 16, 0, 0, 3, 3];
    hello.resize(5 + 16_384, 0);
    for _ in 0..12 {
        hello.extend([22, 3, 1, 64, 0]);
        hello.resize(hello.len() + 16_384, 0);
    }
    let mut tcp = TcpStream::connect(world.https()).await?;
    tcp.write_all(&hello).await?;
    tcp.shutdown().await?;
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await?;
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 40], "handshake_failure");
    Ok(())
}

#[tokio::test]
async fn listeners_with_an_identity_do_not_ask_filters() -> Result<()> {
    let (echo, keys) = (EchoServer::start("e").await, Keys::new());
    let domain = Domain::new("example.org");
    let mut configuration =
        World::compiled(PLUGINS, &keys.file(&echo, &[keys.instance("strict-store", "refuse")]), &[])?;
    let ir = configuration.ir_mut();
    domain.join(ir, "/far");
    listener(ir, |listener| (listener.group, listener.tls) = (None, domain.server(&["/near"])));
    configuration.secrets.merge(&known());
    let world = World::of(PLUGINS, configuration)?;
    assert!(keys.shown(world.https(), NAME, &[]).await.is_err(), "other listeners ask the filter, which refuses");
    let all = world.engine().addresses();
    let to = all.iter().find(|(listener, _)| listener.origin.id == LISTENER).context("it is open")?.1;
    let mut near = Front::start(Ir::default());
    let found = near.change(|ir| {
        domain.join(ir, "/near");
        route(ir, None, to, |backend, _| backend.tls = domain.client(&["/far"]));
    });
    assert_eq!(found, [""; 0]);
    assert_eq!(H1Client::connect(near.own()).await?.get("/", NAME, &[]).await?.status, 200);
    assert_eq!(echo.requests(), 1);
    Ok(())
}
