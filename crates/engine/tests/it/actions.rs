//! Route actions and conditions that configuration files cannot express yet, through the product: records are served,
//! and `explain` agrees.

use std::sync::Arc;

use anyhow::{Result, ensure};
use cardinal_engine::Configuration;
use cardinal_engine::explain::{Decision, Explainer, Question};
use cardinal_ir::policy::{HeaderEdits, RoutePolicies, UrlRewrite};
use cardinal_ir::{
    Action, Criteria, DirectResponse, Filter, FilterSet, HeaderMatch, Id, Ir, Origin, PathMatch, PathRewrite,
    QueryMatch, Rank, Redirect, Route, Scheme, Scope, TextMatch, ValueMatch, WeightedBackend,
};
use cardinal_testkit::{EchoServer, H1Client, Response, World};
use serde_json::json;

use crate::plugins;
use crate::records::{backend, node, origin};
use crate::scene::sent_all;

/// A generation to be edited.
#[derive(Default)]
struct Records(Ir);

impl Records {
    fn backend(&mut self, number: u128, echo: &EchoServer) -> Id {
        let id = Id::from_u128(number);
        self.0.backends.insert(id, backend(id, echo.address()));
        id
    }

    /// A route with this number; lower numbers are tried first.
    fn route(&mut self, number: u128, criteria: Criteria, action: Action) -> Id {
        let id = Id::from_u128(number);
        let rank = Rank { weight: u128::MAX - number, tie: number };
        let origin = origin("routes", id).named(&format!("r{number}"));
        self.0.routes.insert(id, Route { origin, rank, matches: criteria.into(), action, ..Route::default() });
        id
    }

    /// A filter that replies to requests to this backend.
    fn termination(&mut self, number: u128, backend: Id, status: u16) {
        let id = Id::from_u128(number);
        let params = json!({"status_code": status, "message": "no", "echo": false});
        let filters = vec![Filter { kind: "request-termination".into(), params: params.into(), ..Filter::default() }];
        let scope = Scope { backend: Some(backend), ..Scope::default() };
        self.0.filter_sets.insert(id, FilterSet { origin: origin("plugins", id), scope, precedence: 1, filters });
    }

    fn configuration(&self) -> Configuration {
        Configuration { ir: Arc::new(self.0.clone()), node: node(), ..Configuration::default() }
    }

    fn serve(&self) -> Result<World> {
        World::of(plugins(), self.configuration())
    }

    async fn explain(&self, target: &str, headers: &[(&str, &str)]) -> Result<Decision> {
        let (explainer, problems) = Explainer::new(self.configuration(), plugins())?;
        ensure!(problems.is_empty(), "{problems:?}");
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let url = format!("http://a.test{target}");
        Ok(explainer.decide(&Question { method: "GET".into(), url, headers, ..Question::default() }, 9).await?)
    }
}

fn paths(path: PathMatch) -> Criteria {
    Criteria { paths: vec![path], ..Criteria::default() }
}

fn split(shares: &[(Id, u32)]) -> Action {
    let weighted = shares.iter().map(|(backend, weight)| WeightedBackend { backend: *backend, weight: *weight });
    Action::Split(weighted.collect())
}

fn status(status: u16) -> Action {
    Action::Respond(DirectResponse { status, ..DirectResponse::default() }.into())
}

async fn get(world: &World, target: &str, headers: &[(&str, &str)]) -> Result<Response> {
    H1Client::connect(world.http()).await?.get(target, "a.test", headers).await
}

/// Fields of a request.
type Headers = &'static [(&'static str, &'static str)];

#[tokio::test]
async fn conditions_on_paths_headers_and_parameters() -> Result<()> {
    let mut records = Records::default();
    let header = |wanted| Criteria {
        headers: vec![HeaderMatch { name: "x-pick".into(), any_of: vec![wanted] }],
        ..paths(PathMatch::SegmentPrefix("/headers".into()))
    };
    let query = |wanted| Criteria {
        queries: vec![QueryMatch { name: "q".into(), any_of: vec![wanted] }],
        ..paths(PathMatch::Exact("/query".into()))
    };
    records.route(1, paths(PathMatch::Exact("/exact".into())), status(201));
    records.route(2, paths(PathMatch::FullRegex("/full/[0-9]+".into())), status(202));
    records.route(3, paths(PathMatch::SegmentPrefix("/segments/".into())), status(203));
    records.route(4, header(TextMatch::Value(ValueMatch::Exact("One".into()))), status(211));
    records.route(5, header(TextMatch::Value(ValueMatch::Prefix("tw".into()))), status(212));
    records.route(6, header(TextMatch::Value(ValueMatch::Regex("th.*e".into()))), status(213));
    records.route(7, header(TextMatch::Absent), status(214));
    records.route(8, header(TextMatch::Value(ValueMatch::Present)), status(215));
    records.route(9, query(ValueMatch::Exact("a b".into())), status(221));
    records.route(10, query(ValueMatch::Prefix("pre".into())), status(222));
    records.route(11, query(ValueMatch::Regex("[0-9]{2}".into())), status(223));
    records.route(12, query(ValueMatch::Present), status(224));
    records.route(13, Criteria::default(), status(418));
    let world = records.serve()?;
    let none: Headers = &[];
    let cases: &[(&str, Headers, u16)] = &[
        ("/exact", none, 201),
        ("/exact/", none, 418),
        ("/exact/x", none, 418),
        ("/ex%61ct?q", none, 201),
        ("/full/12", none, 202),
        ("/full/12/", none, 418),
        ("/segments", none, 203),
        ("/segments/a", none, 203),
        ("/segmentsa", none, 418),
        ("/headers", &[("X-Pick", "One")], 211),
        ("/headers", &[("X-Pick", "one")], 215),
        ("/headers", &[("X-Pick", "other"), ("x-pick", "One")], 211),
        ("/headers", &[("X-Pick", "two")], 212),
        ("/headers", &[("X-Pick", "three")], 213),
        ("/headers", &[("X-Pick", "threes")], 215),
        ("/headers", &[("X-Pick", "")], 215),
        ("/headers", &[("X-Picks", "One")], 214),
        ("/query?q=a+b", none, 221),
        ("/query?%71=a%20b&q=x", none, 221),
        ("/query?q=x&q=a+b", none, 224),
        ("/query?q=prefix", none, 222),
        ("/query?q=42", none, 223),
        ("/query?q=421", none, 224),
        ("/query?q", none, 224),
        ("/query?Q=42", none, 418),
    ];
    for (target, headers, expect) in cases {
        let served = get(&world, target, headers).await?.status;
        let explained = records.explain(target, headers).await?;
        assert_eq!(
            (served, explained.reply.map(|(status, _)| status)),
            (*expect, Some(*expect)),
            "{target} {headers:?}"
        );
    }
    let losers = records.explain("/query?q=421", &[]).await?.losers;
    let reasons: Vec<&str> = losers.iter().take(4).map(|loser| &*loser.reason).collect();
    assert_eq!(
        reasons,
        [
            "matches, but ranks below",
            "does not match: query q (route: exactly a b; request: 421)",
            "does not match: query q (route: pre*; request: 421)",
            "does not match: query q (route: ~^[0-9]{2}$; request: 421)",
        ]
    );
    Ok(())
}

/// The servers that responded to this many requests.
async fn servers(world: &World, requests: usize) -> Result<Vec<String>> {
    let mut client = H1Client::connect(world.http()).await?;
    let mut seen = Vec::new();
    for _ in 0..requests {
        let response = client.get("/x", "a.test", &[]).await?;
        seen.push(match response.status {
            200 => response.json()["server"].as_str().unwrap_or_default().to_owned(),
            other => other.to_string(),
        });
    }
    Ok(seen)
}

#[tokio::test]
async fn requests_are_split_by_weight() -> Result<()> {
    let (one, two) = (EchoServer::start("one").await, EchoServer::start("two").await);
    let mut records = Records::default();
    let (a, b) = (records.backend(1, &one), records.backend(2, &two));
    records.route(9, Criteria::default(), split(&[(a, 100), (b, 0)]));
    let world = records.serve()?;
    assert_eq!(servers(&world, 20).await?, vec!["one"; 20]);

    // The weights change under traffic: only the record changes.
    records.route(9, Criteria::default(), split(&[(a, 0), (b, 100)]));
    world.serve_other(records.configuration())?;
    assert_eq!(servers(&world, 20).await?, vec!["two"; 20]);

    // With equal shares, the probability that 300 requests all go to one of them is less than 2^-298.
    records.route(9, Criteria::default(), split(&[(a, 5), (b, 5)]));
    world.serve_other(records.configuration())?;
    let seen = servers(&world, 300).await?;
    assert!(seen.iter().any(|name| name == "one") && seen.iter().any(|name| name == "two"), "{seen:?}");

    for none in [&[][..], &[(a, 0), (b, 0)]] {
        records.route(9, Criteria::default(), split(none));
        world.serve_other(records.configuration())?;
        assert_eq!(servers(&world, 2).await?, ["503", "503"]);
        assert_eq!(records.explain("/x", &[]).await?.reply.map(|(status, _)| status), Some(503));
    }
    Ok(())
}

#[tokio::test]
async fn the_filters_are_those_of_the_chosen_backend() -> Result<()> {
    let (one, two) = (EchoServer::start("one").await, EchoServer::start("two").await);
    let mut records = Records::default();
    let (a, b) = (records.backend(1, &one), records.backend(2, &two));
    records.termination(5, b, 451);
    records.route(9, Criteria::default(), split(&[(a, 1), (b, 1)]));
    let world = records.serve()?;
    let seen = servers(&world, 300).await?;
    let allowed = |name: &String| name == "one" || name == "451";
    assert!(
        seen.iter().all(allowed) && seen.contains(&"one".to_owned()) && seen.contains(&"451".to_owned()),
        "{seen:?}"
    );
    records.route(9, Criteria::default(), split(&[(a, 0), (b, 1)]));
    world.serve_other(records.configuration())?;
    assert_eq!(servers(&world, 3).await?, ["451", "451", "451"]);
    Ok(())
}

#[tokio::test]
async fn shares_are_explained() -> Result<()> {
    let (one, two) = (EchoServer::start("one").await, EchoServer::start("two").await);
    let mut records = Records::default();
    let (a, b) = (records.backend(1, &one), records.backend(2, &two));
    records.termination(5, b, 451);
    records.route(9, Criteria::default(), split(&[(a, 1), (b, 3), (a, 0)]));
    let decision = records.explain("/x", &[]).await?;
    let shares: Vec<_> = decision.shares.iter().map(|share| (share.backend.id, share.weight, share.percent)).collect();
    assert_eq!(shares, [(a, 1, 25.0), (b, 3, 75.0), (a, 0, 0.0)]);
    // The decision describes the backend with the largest share.
    assert_eq!(decision.backend.map(|service| service.id), Some(b));
    assert_eq!(decision.reply.map(|(status, _)| status), Some(451));
    assert!(records.explain("/x", &[]).await?.plugins.iter().any(|plugin| plugin.name == "request-termination"));
    Ok(())
}

#[tokio::test]
async fn redirects_and_fixed_responses() -> Result<()> {
    let mut records = Records::default();
    let redirect = |redirect: Redirect| Action::Redirect(redirect.into());
    records.route(
        1,
        paths(PathMatch::SegmentPrefix("/old".into())),
        redirect(Redirect {
            host: Some("b.test".into()),
            port: Some(8443),
            scheme: Some(Scheme::Https),
            path: Some(PathRewrite::Prefix("/new".into())),
            status: 308,
        }),
    );
    records.route(
        2,
        paths(PathMatch::Exact("/moved".into())),
        redirect(Redirect { path: Some(PathRewrite::Full("/here".into())), ..Redirect::default() }),
    );
    let response = DirectResponse {
        status: 404,
        headers: vec![("Content-Type".into(), "text/plain".into())],
        body: "no such page".into(),
    };
    records.route(3, Criteria::default(), Action::Respond(response.into()));
    let world = records.serve()?;
    let port = world.http().port();

    let moved = get(&world, "/old/a%20b?q=1", &[]).await?;
    let location = "https://b.test:8443/new/a%20b?q=1";
    assert_eq!((moved.status, moved.header("location"), &*moved.body), (308, Some(location), &b""[..]));
    let explained = records.explain("/old/a%20b?q=1", &[]).await?;
    assert_eq!(explained.reply, Some((308, format!("Location: {location}"))));

    let moved = get(&world, "/moved?x", &[]).await?;
    assert_eq!((moved.status, moved.header("location")), (302, Some(&*format!("http://a.test:{port}/here?x"))));

    let fixed = get(&world, "/anything", &[]).await?;
    assert_eq!(
        (fixed.status, fixed.header("content-type"), &*fixed.body),
        (404, Some("text/plain"), &b"no such page"[..])
    );
    let head = H1Client::connect(world.http()).await?.request("HEAD", "/anything", "a.test", &[], b"").await?;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (404, Some("12"), 0));
    assert_eq!(records.explain("/anything", &[]).await?.reply, Some((404, "no such page".to_owned())));
    Ok(())
}

#[tokio::test]
async fn headers_are_edited_and_urls_rewritten() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let mut records = Records::default();
    let a = records.backend(1, &echo);
    let pairs = |list: &[(&str, &str)]| list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let policies = RoutePolicies {
        request_headers: Some(HeaderEdits {
            remove: vec!["X-Secret".into()],
            set: pairs(&[("X-Set", "1")]),
            add: pairs(&[("X-Add", "2")]),
        }),
        response_headers: Some(HeaderEdits { set: pairs(&[("X-Response", "3")]), ..HeaderEdits::default() }),
        rewrite: Some(UrlRewrite { host: Some("b.test".into()), path: Some(PathRewrite::Prefix("/new".into())) }),
        ..RoutePolicies::default()
    };
    let criteria = || paths(PathMatch::SegmentPrefix("/old".into()));
    let id = records.route(9, criteria(), Action::Forward(a));
    let with = |records: &mut Records, id: Id| {
        let route = Route::clone(records.0.routes.get(&id).unwrap());
        records.0.routes.insert(id, Route { policies: Some(policies.clone().into()), ..route });
    };
    with(&mut records, id);
    let id = records.route(10, Criteria::default(), status(204));
    with(&mut records, id);
    let world = records.serve()?;

    let sent = [("x-secret", "s"), ("X_Secret", "s"), ("x-set", "0"), ("x-add", "1")];
    let response = get(&world, "/old/x?q", &sent).await?;
    let report = response.json();
    assert_eq!((report["target"].as_str(), report["authority"].as_str()), (Some("/new/x?q"), Some("b.test")));
    assert_eq!(sent_all(&report, "x-secret").len() + sent_all(&report, "x_secret").len(), 0);
    assert_eq!((sent_all(&report, "x-set"), sent_all(&report, "x-add")), (strings(&["1"]), strings(&["1", "2"])));
    assert_eq!(response.header("x-response"), Some("3"));

    let decision = records.explain("/old/x?q", &sent).await?;
    assert_eq!(
        (decision.upstream_uri.as_deref(), decision.upstream_host.as_deref()),
        (Some("/new/x?q"), Some("b.test"))
    );
    let head = decision.upstream_head.unwrap_or_default().to_lowercase();
    assert!(head.contains("\r\nx-set: 1\r\n") && !head.contains("secret"), "{head}");

    let fixed = get(&world, "/other", &[]).await?;
    assert_eq!((fixed.status, fixed.header("x-response")), (204, Some("3")));
    Ok(())
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn a_filter_answers_before_the_action_does() -> Result<()> {
    let mut records = Records::default();
    let route = records.route(1, Criteria::default(), status(204));
    let id = Id::from_u128(5);
    let params = json!({"status_code": 451, "message": "no", "echo": false});
    let filters = vec![Filter { kind: "request-termination".into(), params: params.into(), ..Filter::default() }];
    let scope = Scope { route: Some(route), ..Scope::default() };
    let world = records.serve()?;
    assert_eq!(get(&world, "/", &[]).await?.status, 204);
    records
        .0
        .filter_sets
        .insert(id, FilterSet { origin: Origin::new("test", "plugins", id), scope, precedence: 1, filters });
    world.serve_other(records.configuration())?;
    assert_eq!(get(&world, "/", &[]).await?.status, 451);
    assert_eq!(records.explain("/", &[]).await?.reply.map(|(status, _)| status), Some(451));
    Ok(())
}
