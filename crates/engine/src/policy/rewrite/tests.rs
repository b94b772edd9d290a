use std::net::SocketAddr;
use std::sync::Arc;

use cardinal_base::ManualClock;
use cardinal_net::Wheel;
use cardinal_sdk::Client;

use super::*;

fn check(rewrite: &UrlRewrite, base: Option<&str>, expect: (Option<&str>, &str, Option<&str>)) {
    let mut s = Scratch::new(&Wheel::new(Arc::new(ManualClock::default())));
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    s.start(&Client::at(address, address));
    assert!(s.request.set_target(b"/old/x?q=1"));
    s.path.extend_from_slice(b"/old/x");
    s.matched = Some(4);
    s.upstream.path.extend_from_slice(b"/base/old/x");
    s.prefix.extend_from_slice(b"/old");
    apply(rewrite, base, &mut s);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (path, query) = (text(&s.upstream.path), s.request.query().map(text));
    assert_eq!((s.upstream.host(), &*path, query.as_deref()), expect, "{rewrite:?} {base:?}");
    assert_eq!(s.prefix.is_empty(), rewrite.path.is_some());
}

#[test]
fn hosts_and_paths_are_replaced() {
    let path = |path| UrlRewrite { path: Some(path), ..UrlRewrite::default() };
    let (full, prefix) = (|text: &str| PathRewrite::Full(text.into()), |text: &str| PathRewrite::Prefix(text.into()));
    check(&UrlRewrite::default(), None, (None, "/base/old/x", Some("q=1")));
    check(&path(full("/new")), None, (None, "/new", Some("q=1")));
    check(&path(full("/new?r=2")), None, (None, "/new", Some("r=2")));
    check(&path(full("")), Some("/"), (None, "/", Some("q=1")));
    check(&path(full("n w")), Some("/base/"), (None, "/base/n%20w", Some("q=1")));
    check(&path(prefix("/new")), None, (None, "/new/x", Some("q=1")));
    check(&path(prefix("/")), Some("/base"), (None, "/base/x", Some("q=1")));
    let host = |host: &str| UrlRewrite { host: Some(host.into()), path: None };
    check(&host("b.test:81"), None, (Some("b.test:81"), "/base/old/x", Some("q=1")));
    check(&host("no host"), None, (None, "/base/old/x", Some("q=1")));
}
