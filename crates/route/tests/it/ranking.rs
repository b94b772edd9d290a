//! Splitting and ranks.

use cardinal_ir::{HostMatch, HostPattern, Id, ImpliedPort, PathMatch, TextMatch, Wire};

use crate::rank::{Flavor, Peer, RouteFields, RouteOrder, expression_rank, split_and_rank, wires};

const COMPATIBLE: Flavor = Flavor::TraditionalCompatible;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn weight(flavor: Flavor, route: &RouteFields) -> u128 {
    weight_in(flavor, RouteOrder::Documented, route)
}

fn weight_in(flavor: Flavor, order: RouteOrder, route: &RouteFields) -> u128 {
    let split = split_and_rank(flavor, order, route);
    assert_eq!(split.len(), 1);
    split[0].2.weight
}

#[test]
fn paths_that_rank_differently_are_split() {
    let id = Id::from_u128(0xe8fb_37f1_102d_461e_9c51_6608_a6bb_8101);
    let paths = strings(&["~/re", "/aa", "/b", "/cc", "~/x"]);
    let split =
        split_and_rank(COMPATIBLE, RouteOrder::Documented, &RouteFields { id, paths, ..RouteFields::default() });
    let text = |path: &PathMatch| match path {
        PathMatch::Prefix(text) | PathMatch::Regex(text) => text.to_string(),
        other => panic!("not made by the ranking: {other:?}"),
    };
    let paths: Vec<Vec<String>> = split.iter().map(|(_, c, _)| c.paths.iter().map(text).collect()).collect();
    assert_eq!(paths, [vec!["/re", "/x"], vec!["/aa", "/cc"], vec!["/b"]]);
    let namespace = Id::from_u128(0x7f14_5bf9_0dce_4f91_98eb_debb_ce4b_9f6b);
    let expect = Id::new_v5(&namespace, b"e8fb37f1-102d-461e-9c51-6608a6bb8101#2");
    assert_eq!(split[1].0, expect);
    assert_eq!({ split[1].2.tie }, expect.as_u128());

    let whole = split_and_rank(
        COMPATIBLE,
        RouteOrder::Documented,
        &RouteFields { id, paths: strings(&["/a", "/b"]), ..RouteFields::default() },
    );
    assert_eq!((whole.len(), whole[0].0), (1, id));
}

#[test]
fn bits_of_the_compatible_priority() {
    let route = RouteFields {
        methods: strings(&["GET"]),
        hosts: strings(&["a.com"]),
        headers: vec![("X".to_owned(), strings(&["1"])), ("Y".to_owned(), strings(&["1"]))],
        paths: strings(&["~/a"]),
        regex_priority: 5,
        ..RouteFields::default()
    };
    assert_eq!(weight(COMPATIBLE, &route), 4 << 61 | 1 << 60 | 2 << 52 | 1 << 51 | 5 << 19);
    let plain = RouteFields { paths: strings(&["/abc"]), regex_priority: 5, ..RouteFields::default() };
    assert_eq!(weight(COMPATIBLE, &plain), 1 << 61 | 4);
    let wild = RouteFields { hosts: strings(&["*.a.com"]), ..RouteFields::default() };
    assert_eq!(weight(COMPATIBLE, &wild), 1 << 61);
    assert!(expression_rank(0, Id::nil()).weight > weight(COMPATIBLE, &route));
}

/// What LuaJIT makes of Kong's shifts: `bit.lshift(2, 61)` is `2 << 29` in 32 bits, `bit.lshift(4, 61)` is -2^31.
#[test]
fn bits_of_the_running_kongs_priority() {
    let kong = |route: &RouteFields| weight_in(COMPATIBLE, RouteOrder::Kong, route);
    let route = RouteFields {
        methods: strings(&["GET"]),
        paths: strings(&["~/a"]),
        headers: vec![("X".to_owned(), strings(&["1"]))],
        regex_priority: 5,
        ..RouteFields::default()
    };
    assert_eq!(kong(&route), 1 << 51 | 3 << 29 | 1 << 20 | 5 << 19);
    let four = RouteFields { hosts: strings(&["a.com"]), ..route.clone() };
    assert_eq!(kong(&four), 0xFFFF_FFFF_8000_0000 | 1 << 20 | 5 << 19);
    let plain = RouteFields { hosts: strings(&["a.com"]), paths: strings(&["/abc"]), ..RouteFields::default() };
    assert_eq!(kong(&plain), 1 << 60 | 2 << 29 | 4);
    // Parts that overlap are joined by `or`, and what leaves 32 bits is lost.
    let priority = |regex_priority| kong(&RouteFields { regex_priority, ..route.clone() });
    assert_eq!(priority(0), priority(2), "the bit of one header");
    assert_eq!(priority(1), priority(3));
    assert_eq!(priority(1 << 13 | 5), priority(5));
    assert_eq!(priority(1 << 12), 0xFFFF_FFFF_8000_0000 | 3 << 29 | 1 << 20);
    assert_eq!(priority(-1), 0xFFFF_FFFF_FFF8_0000);
    let expressions = weight_in(Flavor::Expressions, RouteOrder::Kong, &four);
    assert!(expressions > expression_rank(1 << 40, Id::nil()).weight);
}

#[test]
fn stream_priority() {
    let peer = |ip, port| vec![Peer::new(ip, port).unwrap()];
    let stream = |snis: &[&str], sources, destinations| {
        let route = RouteFields {
            protocols: strings(&["tcp"]),
            snis: strings(snis),
            sources,
            destinations,
            ..RouteFields::default()
        };
        weight(COMPATIBLE, &route)
    };
    assert_eq!(stream(&["a"], vec![], vec![]), 1 << 61);
    assert_eq!(stream(&[], peer(Some("10.0.0.1"), Some(1)), vec![]), 12 << 4);
    assert_eq!(stream(&[], vec![], peer(Some("10.0.0.0/8"), None)), 1);
    assert_eq!(stream(&[], peer(None, Some(1)), peer(Some("::1"), None)), 1 << 61 | 4 << 4 | 8);
    assert_eq!(Peer::new(Some("10.0.0"), None), None);
}

#[test]
fn order_of_the_oldest_flavor() {
    let ranks = |routes: &[RouteFields]| {
        let all: Vec<u128> = routes.iter().map(|route| weight(Flavor::Traditional, route)).collect();
        assert!(all.windows(2).all(|pair| pair[0] > pair[1]), "{all:?}");
    };
    let route = RouteFields::default;
    let peer = |ip, port| vec![Peer::new(ip, port).unwrap()];
    ranks(&[
        RouteFields { sources: peer(Some("10.0.0.1"), Some(80)), ..route() },
        RouteFields { sources: peer(Some("10.0.0.1"), None), ..route() },
        RouteFields { sources: peer(Some("10.0.0.0/8"), Some(80)), ..route() },
        RouteFields { sources: peer(None, Some(80)), ..route() },
        RouteFields { sources: peer(Some("10.0.0.0/8"), None), ..route() },
        RouteFields { destinations: peer(Some("10.0.0.1"), None), ..route() },
    ]);
    ranks(&[
        RouteFields { hosts: strings(&["a"]), paths: strings(&["/a"]), ..route() },
        RouteFields { hosts: strings(&["a"]), methods: strings(&["GET"]), ..route() },
        RouteFields { hosts: strings(&["*.a:80"]), ..route() },
        RouteFields { hosts: strings(&["a"]), ..route() },
        RouteFields { hosts: strings(&["*.a"]), ..route() },
        RouteFields { paths: strings(&["~/a"]), regex_priority: 1, ..route() },
        RouteFields { paths: strings(&["~/a"]), ..route() },
        RouteFields { paths: strings(&["/aaaaaa"]), regex_priority: 9, ..route() },
        RouteFields { paths: strings(&["/aaaaa"]), created_at: 1, ..route() },
        RouteFields { paths: strings(&["/aaaaa"]), created_at: 2, ..route() },
    ]);
}

#[test]
fn fields_become_conditions() {
    let route = RouteFields {
        hosts: strings(&["Example.com:80", "*.a.com", "b.*"]),
        snis: strings(&["a.com.", "*.b.com"]),
        headers: vec![("X_Foo".to_owned(), strings(&["Bar", "~*^A\\D"]))],
        protocols: strings(&["http", "grpcs"]),
        ..RouteFields::default()
    };
    let (_, conditions, _) = split_and_rank(Flavor::Expressions, RouteOrder::Documented, &route).remove(0);
    let implied_port = ImpliedPort::Listener;
    let expect = [
        HostMatch { host: HostPattern::Exact("example.com".into()), port: Some(80), implied_port },
        HostMatch { host: HostPattern::Suffix(".a.com".into()), port: None, implied_port },
        HostMatch { host: HostPattern::Prefix("b.".into()), port: None, implied_port },
    ];
    assert_eq!(conditions.hosts, expect);
    assert_eq!(conditions.snis, [HostPattern::Exact("a.com".into()), HostPattern::Suffix(".b.com".into())]);
    assert_eq!(&*conditions.headers[0].name, "x-foo");
    assert_eq!(conditions.headers[0].any_of, [TextMatch::Exact("bar".into()), TextMatch::Regex("^a\\d".into())]);
    assert_eq!(conditions.wires, [Wire::Http, Wire::Https]);
    assert!(wires(&strings(&["https"])).is_empty());
    assert!(split_and_rank(COMPATIBLE, RouteOrder::Documented, &route)[0].1.wires.is_empty());
}
