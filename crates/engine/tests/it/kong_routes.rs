//! Kong's results for 900 random route tables, compared with `explain` and with requests.
//!
//! The cases are those of `cardinal-kong`, whose tests run them with the matcher.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use cardinal_engine::explain::{Explainer, Question};
use cardinal_testkit::{Authority, EchoServer, H1Client, World, free_port};
use serde_json::{Value, json};

use crate::plugins;

const HOSTS: [&str; 4] = ["a.test", "b.test", "x.a.test", "other.test"];

fn cases() -> Result<Vec<Value>> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../kong/tests/conformance/router.json.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(file)?).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// The file of a case, with one backend for all services.
fn file(case: &Value, echo: &EchoServer) -> String {
    let (mut services, mut routes) = (Vec::new(), Vec::new());
    for (number, entry) in case["routes"].as_array().unwrap().iter().enumerate() {
        let mut route = entry["route"].clone();
        if !entry["service"].is_null() {
            let name = format!("s{number}");
            route["service"] = json!(name);
            services.push(json!({
                "name": name, "host": "127.0.0.1", "port": echo.address().port(), "path": entry["service"]["path"],
            }));
        }
        routes.push(route);
    }
    json!({ "_format_version": "3.0", "services": services, "routes": routes }).to_string()
}

/// A node with a router flavor and an order of routes, and its clients.
struct Node {
    world: World,
    authority: Authority,
}

impl Node {
    fn start(flavor: &str, order: &str) -> Result<Self> {
        let authority = Authority::new("router");
        let issued = authority.issue(&HOSTS);
        let (http, https) = (free_port(), free_port());
        let settings = [
            ("router_flavor", flavor),
            ("router_order", order),
            ("allow_debug_header", "on"),
            ("proxy_listen", &format!("127.0.0.1:{http}, 127.0.0.1:{https} ssl http2")),
            ("port_maps", &format!("80:{http}, 443:{https}")),
            ("ssl_cert", &issued.cert_pem),
            ("ssl_cert_key", &issued.key_pem),
        ];
        let world = World::start(plugins(), r#"{"_format_version": "3.0"}"#, &settings)?;
        Ok(Self { world, authority })
    }

    /// Compares the results of a case with the expected ones; returns whether the request reached the backend.
    async fn check(&self, case: &Value, expected: Option<&str>, echo: &EchoServer) -> Result<bool> {
        let yaml = file(case, echo);
        // The path recorded by Kong belongs to the route selected by Kong.
        let path = case["expect"]["upstream_uri"].as_str().filter(|_| expected == case["expect"]["route"].as_str());
        let explained = self.explain(case, &yaml).await?;
        let served = self.serve(case, &yaml).await?;
        for (what, (route, upstream)) in [("explained", &explained), ("served", &served)] {
            let context = || format!("{what}: {route:?} {upstream:?}, expected {expected:?} {path:?}\n{case}");
            assert_eq!(route.as_deref(), expected, "{}", context());
            if let (Some(upstream), Some(path)) = (upstream, path) {
                assert_eq!(upstream.split('?').next(), Some(path), "{}", context());
            }
        }
        assert_eq!(explained.1, served.1, "{case}");
        Ok(served.1.is_some())
    }

    async fn explain(&self, case: &Value, yaml: &str) -> Result<(Option<String>, Option<String>)> {
        let request = &case["request"];
        let (explainer, _) =
            Explainer::new(self.world.compile(yaml)?, plugins()).map_err(|diagnostics| anyhow!("{diagnostics:?}"))?;
        let text = |name: &str| request[name].as_str().unwrap_or_default();
        let scheme = request["vars"]["scheme"].as_str().unwrap_or_default();
        let question = Question {
            method: text("method").to_owned(),
            url: format!("{scheme}://{}{}", text("host"), text("uri")),
            headers: fields(request).into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            sni: request["sni"].as_str().map(str::to_owned),
            ..Question::default()
        };
        let decision = explainer.decide(&question, 3).await?;
        Ok((decision.route.map(|route| route.id.to_string()), decision.upstream_uri))
    }

    async fn serve(&self, case: &Value, yaml: &str) -> Result<(Option<String>, Option<String>)> {
        let request = &case["request"];
        self.world.apply(yaml)?;
        let mut client = match request["sni"].as_str() {
            Some(sni) => {
                let config = self.authority.client(None, &["http/1.1"]);
                H1Client::connect_tls(self.world.https(), sni, config).await?
            }
            None => H1Client::connect(self.world.http()).await?,
        };
        let text = |name: &str| request[name].as_str().unwrap_or_default();
        let mut fields = fields(request);
        fields.push(("Kong-Debug", "1"));
        let response = client.request(text("method"), text("uri"), text("host"), &fields, b"").await?;
        let route = response.header("kong-route-id").map(str::to_owned);
        assert_eq!(response.status == 404, route.is_none(), "{response:?}");
        let target = (response.status == 200).then(|| response.json()["target"].as_str().map(str::to_owned)).flatten();
        Ok((route, target))
    }
}

/// The header fields of a request; a list stands for several.
fn fields(request: &Value) -> Vec<(&str, &str)> {
    let mut fields = Vec::new();
    for (name, values) in request["headers"].as_object().into_iter().flatten() {
        let values = values.as_array().map_or(std::slice::from_ref(values), |list| list);
        fields.extend(values.iter().filter_map(|value| Some((name.as_str(), value.as_str()?))));
    }
    fields
}

#[tokio::test]
async fn requests_take_the_routes_that_they_take_in_kong() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let traditional = Node::start("traditional", "kong")?;
    let compatible = Node::start("traditional_compatible", "kong")?;
    let documented = Node::start("traditional_compatible", "documented")?;
    let (mut proxied, mut other) = (0, 0);
    for case in &cases()? {
        let is_oldest = case["flavor"] == "traditional";
        let node = if is_oldest { &traditional } else { &compatible };
        let of_case = || case.to_string();
        let expected = case["expect"]["route"].as_str();
        proxied += usize::from(node.check(case, expected, &echo).await.with_context(of_case)?);
        if let Some(expected) = case.get("expect_documented") {
            other += 1;
            documented.check(case, expected.as_str(), &echo).await.with_context(of_case)?;
        }
    }
    assert!(proxied > 150 && other == 16, "{proxied} reached the backend, {other} with another route");
    Ok(())
}
