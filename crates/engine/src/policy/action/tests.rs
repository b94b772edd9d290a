use std::net::SocketAddr;
use std::sync::Arc;

use cardinal_base::ManualClock;
use cardinal_net::Wheel;
use cardinal_sdk::Client;

use super::*;

/// A request for `http://a.test/old/x?q=1`, of whose path `/old` was matched, on a listener with this port.
fn request(listener_port: u16) -> Scratch {
    let mut s = Scratch::new(&Wheel::new(Arc::new(ManualClock::default())));
    let address = SocketAddr::from(([127, 0, 0, 1], listener_port));
    s.start(&Client::at(address, address));
    s.exchange.original.host.push_str("a.test");
    s.exchange.original.port = listener_port;
    s.exchange.original.target.extend_from_slice(b"/old/%78?q=1");
    s.path.extend_from_slice(b"/old/x");
    s.matched = Some(4);
    s
}

fn check(redirect: &Redirect, s: &Scratch, expect: &str) {
    assert_eq!(String::from_utf8(location(redirect, s)).unwrap(), expect, "{redirect:?}");
}

#[test]
fn parts_that_are_not_set_are_those_of_the_request() {
    let none = Redirect::default();
    check(&none, &request(80), "http://a.test/old/%78?q=1");
    check(&none, &request(8080), "http://a.test:8080/old/%78?q=1");
    let host = Redirect { host: Some("b.test".into()), ..none.clone() };
    check(&host, &request(8080), "http://b.test:8080/old/%78?q=1");
    let https = Redirect { scheme: Some(Scheme::Https), ..none.clone() };
    check(&https, &request(8080), "https://a.test/old/%78?q=1");
    check(&Redirect { port: Some(8443), ..https.clone() }, &request(80), "https://a.test:8443/old/%78?q=1");
    check(&Redirect { port: Some(443), ..https }, &request(80), "https://a.test/old/%78?q=1");
    check(&Redirect { port: Some(443), ..none.clone() }, &request(80), "http://a.test:443/old/%78?q=1");
    let mut nameless = request(80);
    nameless.exchange.original.host.clear();
    check(&none, &nameless, "/old/%78?q=1");
}

#[test]
fn paths_are_replaced_and_queries_kept() {
    let path = |path| Redirect { path: Some(path), ..Redirect::default() };
    check(&path(PathRewrite::Full("/new".into())), &request(80), "http://a.test/new?q=1");
    check(&path(PathRewrite::Full("/new?r=2".into())), &request(80), "http://a.test/new?r=2");
    check(&path(PathRewrite::Full("".into())), &request(80), "http://a.test/?q=1");
    check(&path(PathRewrite::Full("n w".into())), &request(80), "http://a.test/n%20w?q=1");
    check(&path(PathRewrite::Prefix("/new/".into())), &request(80), "http://a.test/new/x?q=1");
    check(&path(PathRewrite::Prefix("".into())), &request(80), "http://a.test/x?q=1");
    let mut bare = request(80);
    bare.exchange.original.target.truncate(8);
    check(&path(PathRewrite::Prefix("/new".into())), &bare, "http://a.test/new/x");
}

#[test]
fn trusted_proxies_tell_what_the_client_sees() {
    let none = Redirect::default();
    let with = |trusted: bool, fields: &[(&str, &str)]| {
        let mut s = request(8000);
        s.exchange.client.trusted = trusted;
        s.exchange.client.https = trusted && fields.contains(&("X-Forwarded-Proto", "https"));
        for (name, value) in fields {
            assert!(s.request.headers.append(name.as_bytes(), value.as_bytes()));
        }
        s
    };
    let proto = ("X-Forwarded-Proto", "https");
    check(&none, &with(true, &[proto]), "https://a.test/old/%78?q=1");
    check(&none, &with(false, &[proto]), "http://a.test:8000/old/%78?q=1");
    check(&none, &with(true, &[proto, ("X-Forwarded-Port", "444")]), "https://a.test:444/old/%78?q=1");
    let host = ("X-Forwarded-Host", "Front.test:81, inner");
    check(&none, &with(true, &[host]), "http://front.test:81/old/%78?q=1");
    check(&none, &with(false, &[host]), "http://a.test:8000/old/%78?q=1");
    check(&none, &with(true, &[("X-Forwarded-Host", "a b")]), "http://a.test:8000/old/%78?q=1");
}

#[test]
fn direct_responses_are_as_they_are_written() {
    let response = DirectResponse {
        status: 404,
        headers: vec![("Content-Type".into(), "text/plain".into()), ("X-A".into(), "b".into())],
        body: "gone".into(),
    };
    let of = |action: Action| reply(&Route { action, ..Route::default() }, &request(80));
    let reply = of(Action::Respond(response.into())).unwrap();
    assert_eq!((reply.status, reply.headers.get(b"x-a")), (404, Some(&b"b"[..])));
    assert!(matches!(reply.body, ReplyBody::Bytes(body) if body == "gone"));
    let empty = of(Action::Respond(DirectResponse::default().into())).unwrap();
    assert!(matches!((empty.status, empty.body), (200, ReplyBody::Empty)));
    assert!(of(Action::None).is_none());
}

/// Without a host the location is a path, which must not begin like that of another host.
#[test]
fn a_location_without_a_host_stays_here() {
    for (path, expect) in [
        (None, "/evil.test/x?q=1"),
        (Some(PathRewrite::Prefix("".into())), "/evil.test/x?q=1"),
        (Some(PathRewrite::Full("///evil.test".into())), "/evil.test?q=1"),
    ] {
        let mut s = request(80);
        s.exchange.original.host.clear();
        s.exchange.original.target = b"//evil.test/x?q=1".to_vec();
        (s.path, s.matched) = (b"/old//evil.test/x".to_vec(), Some(4));
        check(&Redirect { path, ..Redirect::default() }, &s, expect);
    }
}
