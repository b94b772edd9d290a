//! `explain` agrees with the data plane, for random configurations and random requests.

use anyhow::Result;
use cardinal_base::{Rng, SeededRng};
use cardinal_engine::explain::{Explainer, Question};
use cardinal_testkit::{EchoServer, H1Client, World};
use serde_json::{Value, json};

use crate::plugins;

const CONFIGS: u32 = 100;
const REQUESTS: u32 = 100;

const HOSTS: &[&str] = &["a.test", "b.test", "*.wild.test", "pre.*", "a.test:8080"];
const PATHS: &[&str] = &["/", "/a", "/a/b", "/a/b/", "/ab", "~/a/\\d+", "~/(?<word>[a-z]+)/x$", "/zz"];
const METHODS: &[&str] = &["GET", "POST", "DELETE"];

struct Dice(SeededRng);

impl Dice {
    fn one<'x, T>(&mut self, of: &'x [T]) -> &'x T {
        &of[usize::try_from(self.0.below(of.len() as u64)).unwrap()]
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.0.below(100) < percent
    }

    fn some(&mut self, of: &[&str], percent: u64) -> Option<Vec<String>> {
        let count = 1 + usize::try_from(self.0.below(2)).unwrap();
        self.chance(percent).then(|| (0..count).map(|_| (*self.one(of)).to_owned()).collect())
    }
}

fn plugin(dice: &mut Dice) -> Value {
    match dice.0.below(7) {
        0 => json!({"name": "key-auth"}),
        1 => json!({"name": "request-termination", "config": {"status_code": 418, "message": "tea"}}),
        2 => json!({"name": "ip-restriction", "config": {"deny": ["127.0.0.0/8"]}}),
        3 => json!({"name": "ip-restriction", "config": {"allow": ["127.0.0.1"]}}),
        4 => json!({"name": "request-transformer",
            "config": {"add": {"headers": ["X-Added:1"], "querystring": ["added:yes"]}, "remove": {"querystring": ["q"]}}}),
        5 => json!({"name": "cors", "config": {"origins": ["http://o.test"]}}),
        _ => json!({"name": "correlation-id", "config": {"header_name": "X-Correlation"}}),
    }
}

fn plugins_of(dice: &mut Dice, percent: u64) -> Vec<Value> {
    let mut list: Vec<Value> = Vec::new();
    while dice.chance(percent) && list.len() < 3 {
        let next = plugin(dice);
        if list.iter().all(|p| p["name"] != next["name"]) {
            list.push(next);
        }
    }
    list
}

fn route(dice: &mut Dice, number: usize) -> Value {
    let mut route =
        json!({"name": format!("r{number}"), "strip_path": dice.chance(50), "preserve_host": dice.chance(30)});
    if let Some(hosts) = dice.some(HOSTS, 40) {
        route["hosts"] = json!(hosts);
    }
    if let Some(methods) = dice.some(METHODS, 25) {
        route["methods"] = json!(methods);
    }
    if dice.chance(20) {
        route["headers"] = json!({"x-pick": ["one", "~*^t"]});
    }
    let plain = route.get("hosts").or(route.get("methods")).or(route.get("headers")).is_none();
    if let Some(paths) = dice.some(PATHS, if plain { 100 } else { 60 }) {
        route["paths"] = json!(paths);
    }
    if dice.chance(15) {
        route["protocols"] = json!(["https"]);
        route["https_redirect_status_code"] = json!(*dice.one(&[426, 301]));
    }
    route["regex_priority"] = json!(dice.0.below(3));
    route["plugins"] = json!(plugins_of(dice, 25));
    route
}

fn config(dice: &mut Dice, backend: &str) -> String {
    let mut services = Vec::new();
    let mut number = 0;
    for s in 0..1 + dice.0.below(4) {
        let path = dice.one(&["", "/", "/base", "/base/"]);
        let mut routes = Vec::new();
        for _ in 0..1 + dice.0.below(5) {
            number += 1;
            routes.push(route(dice, number));
        }
        services.push(json!({
            "name": format!("s{s}"), "url": format!("{backend}{path}"), "routes": routes, "plugins": plugins_of(dice, 20)
        }));
    }
    let consumers = json!([{"username": "u", "keyauth_credentials": [{"key": "k"}],
        "plugins": if dice.chance(30) { json!([{"name": "request-termination", "config": {"status_code": 419}}]) } else { json!([]) }}]);
    json!({"_format_version": "3.0", "services": services, "plugins": plugins_of(dice, 15), "consumers": consumers})
        .to_string()
}

fn question(dice: &mut Dice) -> Question {
    let host = *dice.one(&["a.test", "B.test", "x.wild.test", "pre.org", "a.test:8080", "none"]);
    let path = *dice.one(&[
        "/",
        "/a",
        "/a/b",
        "/a/b/c",
        "/abc",
        "/a/12/z",
        "/foo/x",
        "/c%20d/e",
        "/%c3%a9",
        "/a//b",
        "/a/./b/../c",
        "/zzz",
    ]);
    let query = *dice.one(&["", "?q=1", "?q=1&r=%20", "?"]);
    let mut headers = Vec::new();
    for (name, value, percent) in
        [("apikey", "k", 50), ("x-pick", "one", 40), ("x-pick", "Two", 20), ("Origin", "http://o.test", 20)]
    {
        if dice.chance(percent) {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    Question {
        method: (*dice.one(&["GET", "POST", "DELETE", "OPTIONS"])).to_owned(),
        url: format!("http://{host}{path}{query}"),
        headers,
        ..Question::default()
    }
}

#[tokio::test]
async fn ten_thousand_answers_are_what_is_served() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let (mut proxied, mut answered) = (0, 0);
    for seed in 0..CONFIGS {
        let mut dice = Dice(SeededRng::new(u64::from(seed)));
        let yaml = config(&mut dice, &echo.url());
        let world = World::start(plugins(), &yaml, &[("allow_debug_header", "on")])?;
        let configuration = world.compile(&yaml)?;
        let (explainer, _) = Explainer::new(configuration, plugins())?;
        let mut client = H1Client::connect(world.http()).await?;
        for _ in 0..REQUESTS {
            let question = question(&mut dice);
            let decision = explainer.decide(&question, 3).await?;
            let (authority, target) =
                question.url["http://".len()..].split_at(question.url["http://".len()..].find('/').unwrap());
            let mut fields: Vec<(&str, &str)> =
                question.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            fields.push(("Kong-Debug", "1"));
            let response = client.request(&question.method, target, authority, &fields, b"").await?;
            let context = || format!("seed {seed}\n{yaml}\n{question:?}\n{decision:#?}\n{response:?}");
            let served_route = response.header("kong-route-name").map(str::to_owned);
            let said_route = decision.route.as_ref().and_then(|r| r.name.clone());
            assert_eq!(served_route, said_route, "{}", context());
            match &decision.reply {
                Some((status, _)) => {
                    answered += 1;
                    assert_eq!(response.status, *status, "{}", context());
                    assert!(response.header("x-kong-response-latency").is_some(), "{}", context());
                }
                None => {
                    proxied += 1;
                    assert_eq!(response.status, 200, "{}", context());
                    let seen = response.json();
                    assert_eq!(seen["target"].as_str(), decision.upstream_uri.as_deref(), "{}", context());
                    assert_eq!(seen["authority"].as_str(), decision.upstream_host.as_deref(), "{}", context());
                    assert_eq!(
                        response.header("kong-service-name"),
                        decision.backend.as_ref().and_then(|s| s.name.as_deref())
                    );
                }
            }
        }
    }
    assert!(proxied > 1_000 && answered > 1_000, "{proxied} proxied, {answered} answered here");
    Ok(())
}
