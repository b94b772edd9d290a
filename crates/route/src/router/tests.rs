use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use cardinal_ir::{
    AddrMatch, Conditions, Field, HeaderMatch, HostMatch, HostPattern, Id, Literal, Matches, Op, Origin, PathMatch,
    Predicate, Rank, Require, Rewrite, Route, TextMatch, Traffic, Wire,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::{Headers, Kind, NoHeaders, Reason, Request, Router, naive};

fn route(matches: Matches, weight: u128, tie: u128) -> (Id, Arc<Route>) {
    let route = Route {
        origin: Origin::default(),
        rank: Rank { weight, tie },
        traffic: Traffic::Http,
        matches,
        backend: None,
        rewrite: Rewrite::default(),
        require: Require::default(),
        request_buffering: true,
        response_buffering: true,
        document: "".into(),
    };
    (Id::from_u128(tie + 1), Arc::new(route))
}

fn conditions(conditions: Conditions) -> Matches {
    Matches::Conditions(Box::new(conditions))
}

fn request<'a>(host: &'a str, path: &'a str) -> Request<'a> {
    Request {
        wire: Wire::Http,
        method: "GET",
        host: Some(host),
        path: path.as_bytes(),
        query: b"",
        headers: &NoHeaders,
        sni: None,
        source: SocketAddr::from(([10, 0, 0, 1], 4000)),
        destination: SocketAddr::from(([10, 0, 0, 2], 80)),
    }
}

/// A request with its parts owned.
#[derive(Clone, Debug)]
struct Sent {
    wire: Wire,
    method: &'static str,
    host: Option<String>,
    path: String,
    query: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    sni: Option<String>,
    source: SocketAddr,
    destination: SocketAddr,
}

impl Headers for Sent {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
        for (key, value) in &self.headers {
            if *key == name && visit(value.as_bytes()).is_break() {
                return;
            }
        }
    }
}

impl Sent {
    fn view(&self) -> Request<'_> {
        Request {
            wire: self.wire,
            method: self.method,
            host: self.host.as_deref(),
            path: self.path.as_bytes(),
            query: self.query.as_bytes(),
            headers: self,
            sni: self.sni.as_deref(),
            source: self.source,
            destination: self.destination,
        }
    }
}

fn wire() -> impl Strategy<Value = Wire> {
    select(vec![Wire::Http, Wire::Https, Wire::Tcp, Wire::Tls, Wire::TlsPassthrough])
}

fn name() -> impl Strategy<Value = String> {
    "(a|b)(\\.(a|b)){0,2}\\.(com|org)"
}

fn name_pattern() -> impl Strategy<Value = HostPattern> {
    prop_oneof![
        4 => name().prop_map(|name| HostPattern::Exact(name.into())),
        2 => "(\\.a){0,2}\\.(com|org)|com|\\.b\\.com".prop_map(|suffix| HostPattern::Suffix(suffix.into())),
        2 => "(a|b)\\.(a\\.)?|a|".prop_map(|prefix| HostPattern::Prefix(prefix.into())),
    ]
}

fn path() -> impl Strategy<Value = String> {
    "(/(a|b|ab|1|A|c)){0,4}/?".prop_map(|path| if path.is_empty() { "/".to_owned() } else { path })
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        3 => path().prop_map(|path| PathMatch::Prefix(path.into())),
        1 => Just(PathMatch::Prefix("".into())),
        2 => regex().prop_map(|text| PathMatch::Regex(text.into())),
    ]
}

fn regex() -> impl Strategy<Value = &'static str> {
    select(vec!["/a/\\d", "/(a|b)/c", "/a.*1", "[^/]*", "(?i)/ab", "/a|/b/a", "/a$", "/?a?", "/(?<x>a+)b?", ".*c"])
}

fn addr_match() -> impl Strategy<Value = AddrMatch> {
    let net = select(vec!["10.0.0.0/8", "10.0.0.1/32", "::/0", "192.168.0.0/16"]);
    (option::of(net.prop_map(|net| net.parse().unwrap())), option::of(select(vec![80_u16, 443])))
        .prop_map(|(net, port)| AddrMatch { net, port })
}

fn addr() -> impl Strategy<Value = SocketAddr> {
    let ip = select(vec!["10.0.0.1", "10.9.9.9", "192.168.1.1", "::1", "::ffff:10.0.0.1"]);
    (ip, select(vec![80_u16, 443])).prop_map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), port))
}

fn header_match() -> impl Strategy<Value = HeaderMatch> {
    let exact = select(vec!["v1", "v2"]).prop_map(|text| TextMatch::Exact(text.into()));
    let regex = select(vec!["^v", "2$"]).prop_map(|text| TextMatch::Regex(text.into()));
    (select(vec!["x-a", "x_b"]), vec(prop_oneof![exact, regex], 1..3))
        .prop_map(|(name, any_of)| HeaderMatch { name: name.into(), any_of })
}

/// A list that is mostly empty.
fn few<T: Clone + std::fmt::Debug>(of: impl Strategy<Value = T> + 'static) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![3 => Just(Vec::new()), 2 => vec(of, 1..3)]
}

fn any_conditions() -> impl Strategy<Value = Matches> {
    let host = (name_pattern(), prop_oneof![3 => Just(None), 1 => Just(Some(80_u16))]);
    let host = host.prop_map(|(host, port)| HostMatch { host, port });
    let method = select(vec!["GET", "POST"]).prop_map(Box::<str>::from);
    (
        few(method),
        few(host),
        few(path_match()),
        few(header_match()),
        few(name_pattern()),
        few(addr_match()),
        few(addr_match()),
        few(wire()),
    )
        .prop_map(|(methods, hosts, paths, headers, snis, sources, destinations, wires)| {
            conditions(Conditions { methods, hosts, paths, headers, snis, sources, destinations, wires })
        })
}

fn text_test() -> impl Strategy<Value = Predicate> {
    let field = prop_oneof![
        3 => Just(Field::Path),
        3 => Just(Field::Host),
        2 => Just(Field::Sni),
        1 => Just(Field::Method),
        1 => Just(Field::Protocol),
        1 => (0_u16..3, 0_u16..3).prop_map(|(from, to)| Field::Segments(from, to)),
        1 => Just(Field::Header("x_a".into())),
        1 => Just(Field::Query("q".into())),
    ];
    let op =
        select(vec![Op::Equal, Op::Equal, Op::NotEqual, Op::StartsWith, Op::StartsWith, Op::EndsWith, Op::Contains]);
    let plain = (op, prop_oneof![path(), name(), Just("a".to_owned()), Just(".com".to_owned()), Just("v1".to_owned())]);
    let pattern = prop_oneof![regex().prop_map(str::to_owned), regex().prop_map(|text| format!("^{text}"))];
    let check = prop_oneof![3 => plain, 1 => pattern.prop_map(|text| (Op::Regex, text))];
    (field, prop::bool::weighted(0.2), any::<bool>(), check).prop_map(|(field, lower, any, (op, text))| {
        Predicate::Compare { field, lower, any, op, value: Literal::Text(text.into()) }
    })
}

fn other_test() -> impl Strategy<Value = Predicate> {
    let compare = |field, op, value| Predicate::Compare { field, lower: false, any: false, op, value };
    let int = select(vec![Op::Equal, Op::NotEqual, Op::Greater, Op::GreaterOrEqual, Op::Less, Op::LessOrEqual]);
    prop_oneof![
        (int.clone(), 0_i64..5).prop_map(move |(op, n)| compare(Field::SegmentCount, op, Literal::Int(n))),
        int.prop_map(move |op| compare(Field::DestinationPort, op, Literal::Int(80))),
        any::<bool>().prop_map(move |equal| {
            let op = if equal { Op::Equal } else { Op::NotEqual };
            compare(Field::SourceIp, op, Literal::Ip("10.0.0.1".parse().unwrap()))
        }),
        any::<bool>().prop_map(move |inside| {
            let op = if inside { Op::In } else { Op::NotIn };
            compare(Field::DestinationIp, op, Literal::Net("10.0.0.0/8".parse().unwrap()))
        }),
    ]
}

fn any_predicate() -> impl Strategy<Value = Matches> {
    let leaf = prop_oneof![4 => text_test(), 1 => other_test()];
    let tree = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            4 => vec(inner.clone(), 0..4).prop_map(Predicate::All),
            2 => vec(inner.clone(), 0..4).prop_map(Predicate::Any),
            1 => inner.prop_map(|inner| Predicate::Not(Box::new(inner))),
        ]
    });
    tree.prop_map(Matches::Predicate)
}

fn sent() -> impl Strategy<Value = Sent> {
    let header = (select(vec!["x-a", "x-b"]), select(vec!["v1", "V1", "v2", "w", "\u{c9}"]));
    let query = select(vec!["", "q=v1", "q=a&q=v1", "q", "%71=%2fa", "p=1"]);
    (
        wire(),
        select(vec!["GET", "POST"]),
        option::of(name()),
        path(),
        query,
        vec(header, 0..3),
        option::of(name()),
        addr(),
        addr(),
    )
        .prop_map(|(wire, method, host, path, query, headers, sni, source, destination)| Sent {
            wire,
            method,
            host,
            path,
            query,
            headers,
            sni,
            source,
            destination,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_index_finds_what_looking_at_all_finds(
        routes in vec((prop_oneof![2 => any_conditions(), 1 => any_predicate()], 0_u128..4), 0..24),
        requests in vec(sent(), 1..12),
    ) {
        let routes = (0_u128..).zip(routes).map(|(tie, (matches, weight))| route(matches, weight, tie));
        let routes: Vec<_> = routes.collect();
        let (router, diagnostics) = Router::from_routes(routes.iter().cloned());
        prop_assert!(diagnostics.is_empty(), "{:?}", diagnostics);
        for sent in &requests {
            let request = sent.view();
            let expect = naive::find(routes.iter().map(|(_, route)| &**route), &request);
            let expect = expect.map(|(at, len)| (routes[at].0, len));
            let found = router.find(&request);
            prop_assert_eq!(found.map(|found| (found.id, found.path_len)), expect, "{:?}", sent);

            let explained = router.explain(&request, usize::MAX);
            prop_assert_eq!(explained.losers.len(), routes.len() - usize::from(found.is_some()));
            for loser in explained.losers {
                let fits = naive::find([&**loser.route], &request).is_some();
                prop_assert_eq!(fits, loser.reason == Reason::RankedLower);
                prop_assert!(!fits || found.is_some_and(|found| found.index < loser.index));
            }
        }
    }
}

fn prefix(path: &str) -> Matches {
    conditions(Conditions { paths: vec![PathMatch::Prefix(path.into())], ..Conditions::default() })
}

fn pattern(path: &str) -> Matches {
    conditions(Conditions { paths: vec![PathMatch::Regex(path.into())], ..Conditions::default() })
}

#[test]
fn a_wrong_pattern_leaves_only_its_route_out() {
    let (router, diagnostics) =
        Router::from_routes([route(pattern("/("), 2, 0), route(prefix("/"), 1, 1), route(pattern("/(?!b)"), 3, 2)]);
    assert_eq!(router.len(), 2);
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].code, cardinal_ir::Code::Pattern);
    assert_eq!(diagnostics[0].path, "paths[0]");
    assert_eq!(router.find(&request("a", "/a")).unwrap().route.rank.weight, 3);
    assert_eq!(router.find(&request("a", "/b")).unwrap().route.rank.weight, 1);
}

#[test]
fn captures_are_ranges_of_the_path() {
    let (router, _) = Router::from_routes([route(pattern(r"/users/(?<id>\d+)"), 1, 0)]);
    let path = "/users/42/x";
    let found = router.find(&request("a", path)).unwrap();
    assert_eq!(found.path_len, Some(9));
    assert!(found.has_captures());
    let captures = found.captures(path.as_bytes()).unwrap();
    assert_eq!(&path[captures.name("id").unwrap()], "42");

    let predicate = crate::expression::parse(r#"http.path ~ "/(x)" && http.path ^= "/u""#).unwrap();
    let (router, _) = Router::from_routes([route(Matches::Predicate(predicate), 1, 0)]);
    let found = router.find(&request("a", path)).unwrap();
    assert_eq!(found.path_len, Some(2));
    assert_eq!(found.captures(path.as_bytes()).unwrap().group(1), Some(10..11));
}

#[test]
fn losers_are_explained() {
    let post = Conditions {
        methods: vec!["POST".into()],
        paths: vec![PathMatch::Prefix("/a".into())],
        ..Conditions::default()
    };
    let far = Conditions {
        methods: vec!["POST".into()],
        hosts: vec![HostMatch { host: HostPattern::Exact("b".into()), port: None }],
        ..Conditions::default()
    };
    let (router, _) = Router::from_routes([
        route(prefix("/a"), 2, 0),
        route(prefix("/"), 1, 1),
        route(conditions(post), 3, 2),
        route(conditions(far), 4, 3),
    ]);
    let explained = router.explain(&request("a", "/a/b"), 2);
    assert_eq!(explained.matched.unwrap().route.rank.weight, 2);
    let reasons: Vec<_> = explained.losers.iter().map(|loser| loser.reason.clone()).collect();
    assert_eq!(reasons, [Reason::RankedLower, Reason::Misses(vec![Kind::Method])]);
    let all = router.explain(&request("a", "/a/b"), 9);
    assert_eq!(all.losers.last().unwrap().reason.to_string(), "method, host");
}

#[test]
fn rebuilding_keeps_what_was_compiled() {
    let first = route(pattern("/a"), 1, 0);
    let (old, _) = Router::from_routes([first.clone()]);
    let (new, _) = old.rebuild_from([first, route(pattern("/b"), 2, 1)]);
    assert!(Arc::ptr_eq(&old.routes[0], &new.routes[1]));
    assert_eq!(new.len(), 2);
}

#[test]
fn candidates_do_not_grow_with_the_routes() {
    for count in [10_u128, 10_000] {
        let hosts = (0..count).map(|n| {
            let host = HostMatch { host: HostPattern::Exact(format!("h{n}.example.com").into()), port: None };
            route(conditions(Conditions { hosts: vec![host], ..Conditions::default() }), n, n)
        });
        let paths = (0..count).map(|n| route(prefix(&format!("/p{n:06}/x")), n, n + count));
        let patterns = (0..count.min(100)).map(|n| route(pattern(&format!("/r{n:06}/\\d+")), n, n + 2 * count));
        let (router, _) = Router::from_routes(hosts.chain(paths).chain(patterns));
        let candidates = |host: &str, path: &str| router.index.candidates(&request(host, path)).count();
        assert_eq!(candidates("h7.example.com", "/"), 1);
        assert_eq!(candidates("other", "/p000003/x/y"), 1);
        assert_eq!(candidates("other", "/r000003/1"), 1);
        assert_eq!(candidates("h7.example.com", "/p000003/x"), 2);
        assert_eq!(candidates("other", "/q"), 0);
    }
}
