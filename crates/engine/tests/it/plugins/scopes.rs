//! The instance of a plugin that serves a request, if several are configured.

use anyhow::Result;
use cardinal_testkit::{EchoServer, H1Client, TempDir, World};
use serde_json::{Value, json};

use crate::plugins;

/// All scopes in order of precedence (Kong: `kong/runloop/plugins_iterator.lua`).
const SCOPES: [&[&str]; 12] = [
    &["consumer", "route", "service"],
    &["consumer_group", "service", "route"],
    &["consumer", "route"],
    &["consumer", "service"],
    &["consumer_group", "route"],
    &["consumer_group", "service"],
    &["route", "service"],
    &["consumer"],
    &["consumer_group"],
    &["route"],
    &["service"],
    &[],
];

/// The evidence that an instance ran.
enum Sign {
    Status(u16),
    Header(&'static str, &'static str),
    /// A header at the backend.
    Told(&'static str),
    /// A line in a file in the case's folder.
    File(&'static str),
    /// The backend is called at this path.
    Called(&'static str),
    /// A line of the metrics with this prefix; `CODE` stands for the status.
    Metric(&'static str),
}

struct Case {
    plugin: &'static str,
    /// The instance under test; the other instances use `off`.
    on: Value,
    off: Value,
    sign: Sign,
    /// Whether instances may be scoped to consumers and consumer groups.
    consumers: bool,
    /// Whether the client sends its key.
    known: bool,
}

fn case(plugin: &'static str, on: Value, off: Value, sign: Sign) -> Case {
    Case { plugin, on, off, sign, consumers: true, known: true }
}

fn without_consumers(plugin: &'static str, on: Value, off: Value, sign: Sign, known: bool) -> Case {
    Case { plugin, on, off, sign, consumers: false, known }
}

/// A plugin that refuses the client with its realm.
fn challenging(plugin: &'static str, challenge: &'static str) -> Case {
    let sign = Sign::Header("www-authenticate", challenge);
    without_consumers(plugin, json!({"realm": "on"}), json!({"realm": "off"}), sign, false)
}

/// `DIR` and `URL` in a configuration are replaced by the case's folder and the backend.
fn cases() -> Vec<Case> {
    vec![
        without_consumers("acl", json!({"deny": ["vip"]}), json!({"allow": ["vip"]}), Sign::Status(403), true),
        challenging("basic-auth", "Basic realm=\"on\""),
        challenging("hmac-auth", "hmac realm=\"on\""),
        challenging("jwt", "Bearer realm=\"on\""),
        challenging("key-auth", "Key realm=\"on\""),
        without_consumers(
            "cors",
            json!({"origins": ["http://on.test"]}),
            json!({"origins": ["http://off.test"]}),
            Sign::Header("access-control-allow-origin", "http://on.test"),
            false,
        ),
        without_consumers(
            "correlation-id",
            json!({"header_name": "X-On"}),
            json!({"header_name": "X-Off"}),
            Sign::Told("x-on"),
            true,
        ),
        case("ip-restriction", json!({"deny": ["127.0.0.1"]}), json!({"allow": ["127.0.0.1"]}), Sign::Status(403)),
        case(
            "request-size-limiting",
            json!({"allowed_payload_size": 1, "size_unit": "bytes"}),
            json!({"allowed_payload_size": 9, "size_unit": "bytes"}),
            Sign::Status(413),
        ),
        case("request-termination", json!({"status_code": 418}), json!({"status_code": 419}), Sign::Status(418)),
        case(
            "rate-limiting",
            json!({"minute": 77}),
            json!({"minute": 88}),
            Sign::Header("x-ratelimit-limit-minute", "77"),
        ),
        case(
            "proxy-cache",
            json!({"strategy": "memory"}),
            json!({"strategy": "memory", "response_headers": {"X-Cache-Status": false}}),
            Sign::Header("x-cache-status", "Bypass"),
        ),
        case(
            "request-transformer",
            json!({"add": {"headers": ["X-On:1"]}}),
            json!({"add": {"headers": ["X-Off:1"]}}),
            Sign::Told("x-on"),
        ),
        case(
            "response-transformer",
            json!({"add": {"headers": ["X-On:1"]}}),
            json!({"add": {"headers": ["X-Off:1"]}}),
            Sign::Header("x-on", "1"),
        ),
        case("file-log", json!({"path": "DIR/on"}), json!({"path": "DIR/off"}), Sign::File("on")),
        case("http-log", json!({"http_endpoint": "URL/on"}), json!({"http_endpoint": "URL/off"}), Sign::Called("/on")),
        case(
            "prometheus",
            json!({"status_code_metrics": true}),
            json!({"status_code_metrics": false}),
            Sign::Metric("kong_http_requests_total{service=\"s\",route=\"r\",code=\"CODE\""),
        ),
    ]
}

/// The setup of a case.
struct Scene {
    echo: EchoServer,
    folder: TempDir,
    world: World,
}

impl Scene {
    async fn start() -> Result<Self> {
        let echo = EchoServer::start("e").await;
        let status = [("status_listen", "127.0.0.1:0")];
        let world = World::start(plugins(), &super::file(&echo.url(), json!([]), json!({})), &status)?;
        Ok(Self { echo, folder: TempDir::new("scopes"), world })
    }

    /// Applies instances of the plugin at these scopes; the first one is the one under test.
    fn serve(&self, case: &Case, scopes: &[&[&str]]) -> Result<()> {
        let fill = |config: &Value| -> Result<Value> {
            let text = config.to_string().replace("DIR", &self.folder.path().display().to_string());
            Ok(serde_json::from_str(&text.replace("URL", &self.echo.url()))?)
        };
        let mut list = Vec::new();
        if case.known && case.plugin != "key-auth" {
            list.push(json!({"name": "key-auth"}));
        }
        for (at, scope) in scopes.iter().enumerate() {
            let config = if at == 0 { fill(&case.on)? } else { fill(&case.off)? };
            let mut instance = json!({"name": case.plugin, "config": config});
            for of in *scope {
                let name = match *of {
                    "service" => "s",
                    "route" => "r",
                    "consumer" => "alice",
                    _ => "gold",
                };
                instance[*of] = json!(name);
            }
            list.push(instance);
        }
        let more = json!({"plugins": list, "consumer_groups": [{"name": "gold"}], "consumers": [{
            "username": "alice", "groups": [{"name": "gold"}],
            "keyauth_credentials": [{"key": "k"}], "acls": [{"group": "vip"}]
        }]});
        self.world.apply(&super::file(&self.echo.url(), json!([]), more))?;
        Ok(())
    }

    /// Whether the instance under test served a request; `code` is the backend's status.
    async fn shows(&self, case: &Case, code: usize) -> Result<bool> {
        let before = self.folder.read("on").len();
        let calls = |path: &str| self.echo.seen().iter().filter(|r| r.target == path).count();
        let called = calls("/on");
        let mut client = H1Client::connect(self.world.http()).await?;
        let behaviour = format!("status:{code}");
        let mut fields = vec![("Origin", "http://x.test"), ("X-Echo", behaviour.as_str())];
        if case.known {
            fields.push(("apikey", "k"));
        }
        let response = client.request("POST", "/", "a.test", &fields, b"12345").await?;
        let seen = cardinal_testkit::until_some("a sign of the plugin", async || {
            let seen = match &case.sign {
                Sign::Status(status) => return Some(response.status == *status),
                Sign::Header(name, value) => return Some(response.header(name) == Some(value)),
                Sign::Told(name) => return Some(!super::told(&response.json(), name).is_empty()),
                Sign::File(name) => self.folder.read(name).len() > before,
                Sign::Called(path) => calls(path) > called,
                Sign::Metric(start) => {
                    let mut scrape = H1Client::connect(self.world.status()).await.ok()?;
                    let text = scrape.get("/metrics", "a", &[]).await.ok()?.text();
                    let start = start.replace("CODE", &code.to_string());
                    text.lines().any(|line| line.starts_with(&start))
                }
            };
            seen.then_some(true)
        });
        Ok(seen.await.unwrap_or(false))
    }
}

#[tokio::test]
async fn the_most_specific_instance_serves() -> Result<()> {
    let scene = Scene::start().await?;
    let names: Vec<_> = cases().iter().map(|case| case.plugin).collect();
    for plugin in plugins() {
        assert!(names.contains(&plugin.name), "{} has no case here", plugin.name);
    }
    for case in cases() {
        let fits = |scope: &&&[&str]| case.consumers || !scope.iter().any(|of| of.starts_with("consumer"));
        let scopes: Vec<&[&str]> = SCOPES.iter().filter(fits).copied().collect();
        for first in 0..scopes.len() {
            scene.serve(&case, &scopes[first..])?;
            let place = format!("{} at {:?}", case.plugin, scopes[first]);
            // Few statuses can be cached, so the cache always receives 200.
            let code = if case.plugin == "prometheus" { 220 + first } else { 200 };
            assert!(scene.shows(&case, code).await?, "{place} does not go before {:?}", &scopes[first + 1..]);
        }
    }
    Ok(())
}

#[tokio::test]
async fn instances_for_others_do_not_serve() -> Result<()> {
    let scene = Scene::start().await?;
    let echo = scene.echo.url();
    let termination = |status: u16, of: &str, whom: &str| json!({"name": "request-termination", of: whom, "config": {"status_code": status}});
    let more = json!({
        "plugins": [
            {"name": "key-auth", "config": {"anonymous": "nobody"}},
            termination(461, "consumer", "bob"), termination(462, "consumer_group", "gold"),
            termination(463, "route", "other")
        ],
        "consumer_groups": [{"name": "gold"}],
        "routes": [{"name": "other", "paths": ["/other"], "service": "s"}],
        "consumers": [
            {"username": "nobody"},
            {"username": "alice", "keyauth_credentials": [{"key": "a"}]},
            {"username": "bob", "keyauth_credentials": [{"key": "b"}]},
            {"username": "carol", "groups": [{"name": "gold"}], "keyauth_credentials": [{"key": "c"}]}
        ]
    });
    scene.world.apply(&super::file(&echo, json!([]), more))?;
    let mut client = H1Client::connect(scene.world.http()).await?;
    for (key, path, status) in [
        ("", "/", 200),
        ("a", "/", 200),
        ("b", "/", 461),
        ("c", "/", 462),
        ("a", "/other", 463),
        ("b", "/other", 461),
        ("c", "/other", 462),
        ("", "/other", 463),
    ] {
        let response = client.get(path, "a", &[("apikey", key)]).await?;
        assert_eq!(response.status, status, "{key:?} at {path}");
    }
    Ok(())
}

#[tokio::test]
async fn consumers_do_not_count_before_they_are_known() -> Result<()> {
    let mut stage = super::Stage::start(
        json!([{"name": "key-auth"}, {"name": "correlation-id", "config": {"header_name": "X-All"}}]),
        json!({"consumers": [{"username": "alice", "keyauth_credentials": [{"key": "k"}],
            "plugins": [{"name": "correlation-id", "config": {"header_name": "X-Alice"}}]}]}),
    )
    .await?;
    // correlation-id runs before key-auth.
    let report = stage.get("/", &[("apikey", "k")]).await?.json();
    assert_eq!((super::told(&report, "x-all").len(), super::told(&report, "x-alice").len()), (1, 0));
    Ok(())
}

/// Each consumer may have its own instance, in any number.
#[tokio::test]
async fn hundreds_of_consumers_have_their_own_instances() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let consumers: Vec<Value> = (0..400)
        .map(|n| {
            let own = json!({"name": "request-termination", "config": {"status_code": 400 + n / 3}});
            json!({"username": format!("c{n}"), "keyauth_credentials": [{"key": format!("k{n}")}], "plugins": [own]})
        })
        .collect();
    let file = json!({
        "_format_version": "3.0",
        "services": [{"name": "s", "url": echo.url(), "routes": [{"name": "r", "paths": ["/"]}]}],
        "plugins": [{"name": "key-auth"}],
        "consumers": consumers,
    });
    let world = World::start(plugins(), &file.to_string(), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    for n in [0, 100, 253, 256, 300, 399] {
        let response = client.get("/", "a", &[("apikey", &format!("k{n}"))]).await?;
        assert_eq!(response.status, 400 + n / 3, "{n}");
    }
    Ok(())
}
