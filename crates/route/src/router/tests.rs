use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use cardinal_ir::{
    AddrMatch, Criteria, Field, HeaderMatch, HostMatch, HostPattern, Id, ImpliedPort, Ir, Literal, Matches, Op,
    PathMatch, Predicate, QueryMatch, Rank, Route, Selection, TextMatch, Traffic, ValueMatch, Wire,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::{Headers, Kind, NoHeaders, Reason, Request, Router, naive};

fn route(matches: Matches, weight: u128, tie: u128) -> (Id, Arc<Route>) {
    let route = Route { rank: Rank { weight, tie }, matches, ..Route::default() };
    (Id::from_u128(tie + 1), Arc::new(route))
}

fn conditions(conditions: Criteria) -> Matches {
    conditions.into()
}

fn plain_host(name: &str) -> HostMatch {
    HostMatch { host: HostPattern::Exact(name.into()), port: None, implied_port: ImpliedPort::default() }
}

fn request<'a>(host: &'a str, path: &'a str) -> Request<'a> {
    Request {
        wire: Wire::Http,
        method: "GET",
        host: Some(host),
        host_port: None,
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
            host_port: (self.destination.port() == 8080).then_some(8080),
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
        2 => path().prop_map(|path| PathMatch::Exact(path.into())),
        2 => path().prop_map(|path| PathMatch::SegmentPrefix(path.into())),
        1 => regex().prop_map(|text| PathMatch::FullRegex(text.into())),
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
    let value = value_match().prop_map(TextMatch::Value);
    (select(vec!["x-a", "x_b"]), vec(prop_oneof![exact, regex, value, Just(TextMatch::Absent)], 1..3))
        .prop_map(|(name, any_of)| HeaderMatch { name: name.into(), any_of })
}

fn value_match() -> impl Strategy<Value = ValueMatch> {
    let text = || select(vec!["v1", "V1", "v", "", "/a", "\u{c9}"]).prop_map(Box::<str>::from);
    prop_oneof![
        Just(ValueMatch::Present),
        text().prop_map(ValueMatch::Exact),
        text().prop_map(ValueMatch::Prefix),
        select(vec!["v.", "v|V1", "", ".*a"]).prop_map(|text| ValueMatch::Regex(text.into())),
    ]
}

fn query_match() -> impl Strategy<Value = QueryMatch> {
    (select(vec!["q", "p", "Q"]), vec(value_match(), 1..3))
        .prop_map(|(name, any_of)| QueryMatch { name: name.into(), any_of })
}

/// A list that is mostly empty.
fn few<T: Clone + std::fmt::Debug>(of: impl Strategy<Value = T> + 'static) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![3 => Just(Vec::new()), 2 => vec(of, 1..3)]
}

fn any_conditions() -> impl Strategy<Value = Matches> {
    let port = prop_oneof![3 => Just(None), 1 => Just(Some(80_u16)), 1 => Just(Some(8080_u16))];
    let implied = select(vec![ImpliedPort::Listener, ImpliedPort::Scheme, ImpliedPort::None]);
    let host = (name_pattern(), port, implied);
    let host = host.prop_map(|(host, port, implied_port)| HostMatch { host, port, implied_port });
    let method = select(vec!["GET", "POST"]).prop_map(Box::<str>::from);
    (
        few(method),
        few(host),
        few(path_match()),
        (few(header_match()), few(query_match())),
        few(name_pattern()),
        few(addr_match()),
        few(addr_match()),
        few(wire()),
    )
        .prop_map(|(methods, hosts, paths, (headers, queries), snis, sources, destinations, wires)| {
            let selection = Selection::ByRank;
            let criteria =
                Criteria { methods, hosts, paths, headers, queries, snis, sources, destinations, wires, selection };
            conditions(criteria)
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
    let query = select(vec!["", "q=v1", "q=a&q=v1", "q", "%71=%2fa", "p=1", "Q=V1&q=V1", "p=v+1&q=%56%31"]);
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
                prop_assert_eq!(fits, loser.comparisons.is_empty());
                let rank = (loser.route.rank, loser.id);
                prop_assert!(!fits || found.is_some_and(|found| found.rank() > rank));
            }
        }
    }

    /// Generations that are derived from one another route like those built from scratch, and report what changed.
    #[test]
    fn edits_one_after_the_other_come_to_what_a_fresh_build_does(
        steps in vec(vec((0_u128..20, option::weighted(0.7, any_route())), 1..6), 1..8),
        requests in vec(sent(), 1..8),
    ) {
        let mut ir = Ir::default();
        let mut router = Router::default();
        for (number, step) in steps.iter().enumerate() {
            let mut changes = Vec::new();
            for (tie, record) in step {
                let record = record.clone().map(|(matches, weight, traffic)| {
                    let (_, mut record) = route(matches, weight, *tie);
                    Arc::get_mut(&mut record).unwrap().traffic = traffic;
                    record
                });
                let id = Id::from_u128(tie + 1);
                match &record {
                    Some(record) => ir.routes.insert_shared(id, Arc::clone(record)),
                    None => ir.routes.remove(&id),
                };
                changes.push((id, record));
            }
            let older = router.clone();
            let (next, diagnostics) = match number % 2 {
                0 => router.rebuild(&ir, Traffic::Http),
                _ => router.update(changes, Traffic::Http),
            };
            prop_assert!(diagnostics.is_empty(), "{:?}", diagnostics);
            same_as_fresh(&next, &ir, &requests);
            let changed: Vec<usize> =
                (0..next.slots().max(older.slots())).filter(|slot| !same_in(&next, &older, *slot)).collect();
            prop_assert_eq!(next.changes_since(&older), changed);
            for (slot, id, _) in older.routes() {
                let now = next.routes().find(|(_, other, _)| *other == id);
                prop_assert!(now.is_none_or(|(now, _, _)| now == slot));
            }
            router = next;
        }
    }

    /// The same where the edits are so many that all is built anew, and few again.
    #[test]
    fn many_edits_come_to_what_a_fresh_build_does(
        steps in vec(vec((0_u128..64, option::weighted(0.6, any_route())), 1..64), 1..4),
        requests in vec(sent(), 1..8),
    ) {
        let mut ir = Ir::default();
        let mut router = Router::default();
        for step in steps {
            for (tie, record) in step {
                let id = Id::from_u128(tie + 1);
                match record {
                    Some((matches, weight, _)) => ir.routes.insert_shared(id, route(matches, weight, tie).1),
                    None => ir.routes.remove(&id),
                };
            }
            router = router.rebuild(&ir, Traffic::Http).0;
            same_as_fresh(&router, &ir, &requests);
        }
    }
}

fn any_route() -> impl Strategy<Value = (Matches, u128, Traffic)> {
    let traffic = prop_oneof![5 => Just(Traffic::Http), 1 => Just(Traffic::Stream)];
    (prop_oneof![2 => any_conditions(), 1 => any_predicate()], 0_u128..4, traffic)
}

fn same_in(a: &Router, b: &Router, slot: usize) -> bool {
    match (a.route(slot), b.route(slot)) {
        (Some((a, left)), Some((b, right))) => a == b && Arc::ptr_eq(left, right),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Checks that a router answers like one of the same generation that is made from nothing, and like the naive one.
fn same_as_fresh(router: &Router, ir: &Ir, requests: &[Sent]) {
    let (fresh, _) = Router::build(ir, Traffic::Http);
    let by_id = |router: &Router| {
        let mut all: Vec<_> = router.routes().map(|(_, id, route)| (id, Arc::as_ptr(route))).collect();
        all.sort();
        all
    };
    assert_eq!(by_id(router), by_id(&fresh));
    assert_eq!((router.len(), router.is_empty()), (fresh.len(), fresh.is_empty()));
    for (slot, id, route) in router.routes() {
        assert!(slot < router.slots());
        assert!(router.route(slot).is_some_and(|(other, same)| other == id && Arc::ptr_eq(route, same)));
    }
    let routes: Vec<_> = ir.routes.iter().filter(|(_, route)| route.traffic == Traffic::Http).collect();
    for sent in requests {
        let request = sent.view();
        let found = |router: &Router| router.find(&request).map(|found| (found.id, found.path_len));
        assert_eq!(found(router), found(&fresh), "{sent:?}");
        let expect = naive::find(routes.iter().map(|(_, route)| &***route), &request);
        assert_eq!(found(router), expect.map(|(at, len)| (*routes[at].0, len)), "{sent:?}");
        let at = router.find(&request).and_then(|found| router.route(found.slot).map(|(id, _)| id));
        assert_eq!(at, expect.map(|(at, _)| *routes[at].0));
        assert_eq!(router.candidates(&request), fresh.candidates(&request));
        let losers = |router: &Router| -> Vec<(Id, Reason)> {
            let explained = router.explain(&request, usize::MAX);
            explained.losers.into_iter().map(|loser| (loser.id, loser.reason)).collect()
        };
        assert_eq!(losers(router), losers(&fresh));
    }
}

fn prefix(path: &str) -> Matches {
    conditions(Criteria { paths: vec![PathMatch::Prefix(path.into())], ..Criteria::default() })
}

fn pattern(path: &str) -> Matches {
    conditions(Criteria { paths: vec![PathMatch::Regex(path.into())], ..Criteria::default() })
}

#[test]
fn a_wrong_pattern_leaves_only_its_route_out() {
    let (router, diagnostics) =
        Router::from_routes([route(pattern("/("), 2, 0), route(prefix("/"), 1, 1), route(pattern("/(?!b)"), 3, 2)]);
    assert_eq!(router.len(), 2);
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].code, cardinal_ir::Code::Pattern);
    assert_eq!(diagnostics[0].path, "paths[0]");
    let weight = |path| router.find(&request("a", path)).unwrap().route.rank.weight;
    assert_eq!((weight("/a"), weight("/b")), (3, 1));
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
    let post =
        Criteria { methods: vec!["POST".into()], paths: vec![PathMatch::Prefix("/a".into())], ..Criteria::default() };
    let far = Criteria { methods: vec!["POST".into()], hosts: vec![plain_host("b")], ..Criteria::default() };
    let (router, _) = Router::from_routes([
        route(prefix("/a"), 2, 0),
        route(prefix("/"), 1, 1),
        route(conditions(post), 3, 2),
        route(conditions(far), 4, 3),
    ]);
    let explained = router.explain(&request("a", "/a/b"), 2);
    assert_eq!({ explained.matched.unwrap().route.rank.weight }, 2);
    let reasons: Vec<_> = explained.losers.iter().map(|loser| loser.reason.clone()).collect();
    assert_eq!(reasons, [Reason::RankedLower, Reason::Misses(vec![Kind::Method])]);
    let all = router.explain(&request("a", "/a/b"), 9);
    assert_eq!(all.losers.last().unwrap().reason.to_string(), "method, host");
    assert_eq!((explained.more, all.more), (1, 0));
    let far = &all.losers.last().unwrap().comparisons;
    assert_eq!(far, &["method (route: POST; request: GET)", "host (route: b; request: a)"]);
}

#[test]
fn what_is_wanted_and_what_was_sent_are_shown() {
    let header = |name: &str, any_of: Vec<TextMatch>| HeaderMatch { name: name.into(), any_of };
    let criteria = Criteria {
        paths: ["/a", "/b", "/c", "/d"].map(|path| PathMatch::Prefix(path.into())).into(),
        headers: vec![header("x-a", vec![TextMatch::Exact("1".into()), TextMatch::Regex("^v".into())])],
        ..Criteria::default()
    };
    let (router, _) = Router::from_routes([route(conditions(criteria), 1, 0), route(prefix("/zz/top"), 0, 1)]);
    let explained = router.explain(&request("a", "/zz\u{1b}"), 9);
    let comparisons: Vec<_> = explained.losers.into_iter().map(|loser| loser.comparisons).collect();
    let nearest = vec!["path (route: /zz/top; request: /zz\\u{1b})".to_owned()];
    let other = vec![
        "path (route: /a, /b, /c and 1 more; request: /zz\\u{1b})".to_owned(),
        "header x-a (route: 1, ~*^v; request: none)".to_owned(),
    ];
    assert_eq!(comparisons, [nearest, other]);
}

/// Which of these paths a condition matches, and how much of each.
fn path_lens(wanted: PathMatch, paths: &[&str]) -> Vec<Option<usize>> {
    let matches = conditions(Criteria { paths: vec![wanted], ..Criteria::default() });
    let (router, diagnostics) = Router::from_routes([route(matches, 1, 0)]);
    assert!(diagnostics.is_empty());
    paths.iter().map(|path| router.find(&request("a", path)).map(|found| found.path_len.unwrap())).collect()
}

#[test]
fn paths_are_compared_as_a_whole_or_by_segments() {
    let paths = ["/a", "/a/", "/a/b", "/ab", "/", "/A", "/b/a"];
    let (two, all) = (Some(2), [Some(0); 7]);
    assert_eq!(path_lens(PathMatch::Exact("/a".into()), &paths), [two, None, None, None, None, None, None]);
    for prefix in ["/a", "/a/"] {
        let lens = path_lens(PathMatch::SegmentPrefix(prefix.into()), &paths);
        assert_eq!(lens, [two, two, two, None, None, None, None]);
    }
    assert_eq!(path_lens(PathMatch::SegmentPrefix("/".into()), &paths), all);
    let lens = path_lens(PathMatch::FullRegex("/[a-z]".into()), &paths);
    assert_eq!(lens, [two, None, None, None, None, None, None]);
    let long = format!("/{}", "x".repeat(400));
    let lens =
        path_lens(PathMatch::SegmentPrefix(long.as_str().into()), &[&long, &format!("{long}/y"), &format!("{long}y")]);
    assert_eq!(lens, [Some(401), Some(401), None]);
}

/// Whether a request with these headers and this query is matched.
fn is_matched(criteria: Criteria, headers: &[(&'static str, &'static str)], query: &'static str) -> bool {
    let (router, diagnostics) = Router::from_routes([route(conditions(criteria), 1, 0)]);
    assert!(diagnostics.is_empty());
    let address = SocketAddr::from(([10, 0, 0, 1], 80));
    let sent = Sent {
        wire: Wire::Http,
        method: "GET",
        host: None,
        path: "/".to_owned(),
        query,
        headers: headers.to_vec(),
        sni: None,
        source: address,
        destination: address,
    };
    router.find(&sent.view()).is_some()
}

#[test]
fn headers_are_present_absent_or_compared_with_regard_to_case() {
    let check = |wanted: TextMatch, expect: [bool; 4]| {
        let sent: [&[_]; 4] = [&[], &[("x-a", "")], &[("x-a", "No"), ("x-a", "Yes")], &[("x-a", "yes, no")]];
        let headers = vec![HeaderMatch { name: "x-a".into(), any_of: vec![wanted.clone()] }];
        let criteria = Criteria { headers, ..Criteria::default() };
        assert_eq!(sent.map(|sent| is_matched(criteria.clone(), sent, "")), expect, "{wanted:?}");
    };
    check(TextMatch::Absent, [true, false, false, false]);
    check(TextMatch::Value(ValueMatch::Present), [false, true, true, true]);
    check(TextMatch::Value(ValueMatch::Exact("Yes".into())), [false, false, true, false]);
    check(TextMatch::Value(ValueMatch::Exact("yes".into())), [false; 4]);
    check(TextMatch::Exact("yes".into()), [false, false, true, false]);
    check(TextMatch::Value(ValueMatch::Prefix("yes".into())), [false, false, false, true]);
    check(TextMatch::Value(ValueMatch::Regex("Y.s".into())), [false, false, true, false]);
    check(TextMatch::Value(ValueMatch::Regex("e".into())), [false; 4]);
}

#[test]
fn of_a_query_parameter_the_first_value_counts_decoded() {
    let check = |wanted: ValueMatch, expect: [bool; 5]| {
        let sent = ["", "a=1", "q", "q=A+%62&q=x", "q=x&q=A+b"];
        let queries = vec![QueryMatch { name: "q".into(), any_of: vec![wanted.clone()] }];
        let criteria = Criteria { queries, ..Criteria::default() };
        assert_eq!(sent.map(|query| is_matched(criteria.clone(), &[], query)), expect, "{wanted:?}");
    };
    check(ValueMatch::Present, [false, false, true, true, true]);
    check(ValueMatch::Exact("".into()), [false, false, true, false, false]);
    check(ValueMatch::Exact("A b".into()), [false, false, false, true, false]);
    check(ValueMatch::Prefix("A".into()), [false, false, false, true, false]);
    check(ValueMatch::Regex("[A-Z] ?b".into()), [false, false, false, true, false]);
    check(ValueMatch::Regex("b".into()), [false; 5]);
}

#[test]
fn wrong_patterns_of_values_are_reported() {
    let headers = vec![HeaderMatch {
        name: "x-a".into(),
        any_of: vec![TextMatch::Absent, TextMatch::Value(ValueMatch::Regex("(".into()))],
    }];
    let queries = vec![QueryMatch { name: "q".into(), any_of: vec![ValueMatch::Regex("[".into())] }];
    let routes = [
        route(conditions(Criteria { headers, ..Criteria::default() }), 1, 0),
        route(conditions(Criteria { queries, ..Criteria::default() }), 1, 1),
    ];
    let (router, diagnostics) = Router::from_routes(routes);
    assert!(router.is_empty());
    let paths: Vec<_> = diagnostics.iter().map(|diagnostic| &*diagnostic.path).collect();
    assert_eq!(paths, ["headers.x-a", "queries.q"]);
}

#[test]
fn losers_tell_which_value_is_required() {
    let criteria = Criteria {
        paths: vec![
            PathMatch::Exact("/a".into()),
            PathMatch::SegmentPrefix("/b/".into()),
            PathMatch::FullRegex("/c+".into()),
        ],
        headers: vec![HeaderMatch {
            name: "x-a".into(),
            any_of: vec![TextMatch::Absent, TextMatch::Value(ValueMatch::Exact("V".into()))],
        }],
        queries: vec![
            QueryMatch { name: "p".into(), any_of: vec![ValueMatch::Exact("1".into())] },
            QueryMatch {
                name: "q".into(),
                any_of: vec![ValueMatch::Prefix("v".into()), ValueMatch::Regex("w+".into())],
            },
        ],
        ..Criteria::default()
    };
    let (router, _) = Router::from_routes([route(conditions(criteria), 1, 0)]);
    let address = SocketAddr::from(([10, 0, 0, 1], 80));
    let sent = Sent {
        wire: Wire::Http,
        method: "GET",
        host: None,
        path: "/x".to_owned(),
        query: "p=1&q=%78",
        headers: vec![("x-a", "v")],
        sni: None,
        source: address,
        destination: address,
    };
    let loser = router.explain(&sent.view(), 9).losers.remove(0);
    assert_eq!(loser.reason.to_string(), "path, header, query");
    assert_eq!(
        loser.comparisons,
        [
            "path (route: exactly /a, /b/..., ~^/c+$; request: /x)",
            "header x-a (route: absent, exactly V; request: v)",
            "query q (route: v*, ~^w+$; request: x)",
        ]
    );
}

fn ir_of(routes: impl IntoIterator<Item = (Id, Arc<Route>)>) -> Ir {
    let mut ir = Ir::default();
    for (id, route) in routes {
        ir.routes.insert_shared(id, route);
    }
    ir
}

#[test]
fn an_edit_copies_the_parts_it_is_in_and_shares_the_rest() {
    let mut ir = ir_of((0..5000).map(|n| route(prefix(&format!("/{n}")), 1, n)));
    let (old, _) = Router::build(&ir, Traffic::Http);
    let (same, _) = old.rebuild(&ir, Traffic::Http);
    assert!(same.changes_since(&old).is_empty());

    // Of the 40 pages of slots, two are copied.
    ir.routes.insert_shared(Id::from_u128(1), route(prefix("/a"), 1, 0).1);
    ir.routes.remove(&Id::from_u128(5000));
    let (new, _) = old.rebuild(&ir, Traffic::Http);
    assert_eq!(new.changes_since(&old), [0, 4999]);
    assert_eq!(new.slots.shared_pages(&old.slots), 38);
    assert_eq!(new.find(&request("a", "/a")).unwrap().slot, 0);
    assert!(new.find(&request("a", "/0")).is_none() && old.find(&request("a", "/a")).is_none());

    // A free slot is taken again.
    let (newer, _) = new.update([route(prefix("/b"), 1, 9000)].map(|(id, route)| (id, Some(route))), Traffic::Http);
    assert_eq!(newer.find(&request("a", "/b")).unwrap().slot, 4999);
    assert_eq!((newer.len(), newer.slots()), (5000, 5000));
}

#[test]
fn patterns_stay_compiled_where_a_record_changes_otherwise() {
    let (id, first) = route(pattern("/(a)"), 1, 0);
    let (old, _) = Router::from_routes([(id, Arc::clone(&first))]);
    let changed = Arc::new(Route { request_buffering: false, ..Route::clone(&first) });
    let (new, _) = old.update([(id, Some(changed))], Traffic::Http);
    assert_eq!(new.changes_since(&old), [0]);
    let pattern =
        |router: &Router| std::ptr::from_ref(router.find(&request("a", "/a")).unwrap().trace.pattern.unwrap());
    assert_eq!(pattern(&old), pattern(&new));
    assert!(!new.find(&request("a", "/a")).unwrap().route.request_buffering);
}

#[test]
fn what_turns_wrong_or_to_other_traffic_is_left_out_and_comes_back() {
    let (id, good) = route(prefix("/a"), 1, 0);
    let (old, _) = Router::from_routes([(id, Arc::clone(&good)), route(prefix("/"), 0, 1)]);
    let weight = |router: &Router| router.find(&request("a", "/a")).unwrap().route.rank.weight;
    let stream = Arc::new(Route { traffic: Traffic::Stream, ..Route::clone(&good) });
    for (bad, told) in [(Some(route(pattern("/("), 1, 0).1), 1), (Some(stream), 0), (None, 0)] {
        let (without, diagnostics) = old.update([(id, bad)], Traffic::Http);
        assert_eq!((diagnostics.len(), without.len(), weight(&without)), (told, 1, 0));
        let (again, _) = without.update([(id, Some(Arc::clone(&good)))], Traffic::Http);
        assert_eq!((again.len(), weight(&again)), (2, 1));
    }
}

#[test]
fn slots_do_not_grow_where_routes_come_and_go() {
    let ir = ir_of((0..4000).map(|n| route(prefix(&format!("/{n}")), 1, n)));
    let (mut router, _) = Router::build(&ir, Traffic::Http);
    for n in 0..100 {
        let fresh = route(prefix("/x"), 1, 5000 + n);
        router = router.update([(fresh.0, Some(fresh.1)), (Id::from_u128(n + 1), None)], Traffic::Http).0;
    }
    assert!(router.len() == 4000 && router.slots() <= 4001);
    let few = ir_of([route(prefix("/y"), 1, 1)]);
    let (router, _) = router.rebuild(&few, Traffic::Http);
    assert_eq!((router.len(), router.slots()), (1, 1));
    assert_eq!(router.find(&request("a", "/y")).unwrap().slot, 0);
}

#[test]
fn long_prefixes_are_compared_to_their_ends() {
    let long = format!("/{}", "x".repeat(400));
    let routes = [route(prefix(&long), 2, 0), route(prefix(&long[..300]), 1, 1), route(prefix("/"), 0, 2)];
    let (router, _) = Router::from_routes(routes);
    let found = |len: usize| router.find(&request("a", &long[..len])).unwrap().path_len;
    assert_eq!([found(401), found(400), found(299)], [Some(401), Some(300), Some(1)]);
}

#[test]
fn candidates_do_not_grow_with_the_routes() {
    for count in [10_u128, 10_000] {
        let hosts = (0..count).map(|n| {
            let host = plain_host(&format!("h{n}.example.com"));
            route(conditions(Criteria { hosts: vec![host], ..Criteria::default() }), n, n)
        });
        let paths = (0..count).map(|n| route(prefix(&format!("/p{n:06}/x")), n, n + count));
        let patterns = (0..count.min(100)).map(|n| route(pattern(&format!("/r{n:06}/\\d+")), n, n + 2 * count));
        let (router, _) = Router::from_routes(hosts.chain(paths).chain(patterns));
        let candidates = |host: &str, path: &str| router.candidates(&request(host, path)).len();
        assert_eq!(candidates("h7.example.com", "/"), 1);
        assert_eq!(candidates("other", "/p000003/x/y"), 1);
        assert_eq!(candidates("other", "/r000003/1"), 1);
        assert_eq!(candidates("h7.example.com", "/p000003/x"), 2);
        assert_eq!(candidates("other", "/q"), 0);
    }
}
