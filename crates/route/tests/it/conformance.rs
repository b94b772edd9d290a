//! The recorded cases of Kong's router, one request each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use cardinal_ir::{Id, Origin, PathHandling, Rewrite, Route, Traffic, Wire};
use cardinal_route::upstream_uri::Parts;
use cardinal_route::{Headers, Request, Router, normalize_path, split_host};
use serde_json::Value;

use crate::rank::{Flavor, Peer, RouteFields, RouteOrder, split_and_rank};

#[test]
fn traditional() {
    let Some(cases) = cases() else { return };
    let wrong: Vec<_> = cases.iter().filter_map(|case| difference(case, Flavor::Traditional)).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(cases.len(), 106);
}

/// The default flavor answers alike, but for `path_handling` v1, which only the oldest flavor has.
#[test]
fn traditional_compatible() {
    let Some(cases) = cases() else { return };
    let wrong: Vec<_> = cases.iter().filter_map(|case| difference(case, Flavor::TraditionalCompatible)).collect();
    let unexplained: Vec<_> = wrong.iter().filter(|line| !line.contains(", v1.")).collect();
    println!("{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    assert!(!wrong.is_empty());
}

fn cases() -> Option<Vec<Value>> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/kong/router.json");
    let text = std::fs::read_to_string(cardinal_test_tools::data!(file)?).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

struct HeaderMap(Vec<(String, String)>);

impl Headers for HeaderMap {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
        for (key, value) in &self.0 {
            if key == name && visit(value.as_bytes()).is_break() {
                return;
            }
        }
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        // An empty list was recorded as an empty object.
        Value::Null | Value::Object(_) => Vec::new(),
        Value::Array(list) => list.iter().map(|text| text.as_str().unwrap().to_owned()).collect(),
        text => vec![text.as_str().unwrap().to_owned()],
    }
}

fn header_list(value: &Value) -> Vec<(String, Vec<String>)> {
    let headers = value.as_object();
    headers.into_iter().flatten().map(|(name, values)| (name.clone(), texts(values))).collect()
}

fn peers(value: &Value) -> Vec<Peer> {
    let peers = value.as_array().into_iter().flatten();
    peers
        .map(|peer| Peer::new(peer["ip"].as_str(), peer["port"].as_u64().map(|port| port.try_into().unwrap())).unwrap())
        .collect()
}

/// A route of a case: its records, and what its upstream path is made of.
fn lower(entry: &Value, number: usize, flavor: Flavor) -> (Id, Vec<(Id, Arc<Route>)>) {
    let route = &entry["route"];
    let id = route["id"].as_str().map_or(Id::from_u128(number as u128 + 1), |id| id.parse().unwrap());
    let fields = RouteFields {
        id,
        protocols: texts(&route["protocols"]),
        methods: texts(&route["methods"]),
        hosts: texts(&route["hosts"]),
        paths: texts(&route["paths"]),
        headers: header_list(&route["headers"]),
        snis: texts(&route["snis"]),
        sources: peers(&route["sources"]),
        destinations: peers(&route["destinations"]),
        regex_priority: route["regex_priority"].as_i64().unwrap_or(0),
        created_at: 0,
    };
    let is_v1 = route["path_handling"] == "v1" && flavor == Flavor::Traditional;
    let rewrite = Rewrite {
        strip_path: route["strip_path"] == true,
        path_handling: if is_v1 { PathHandling::V1 } else { PathHandling::V0 },
        preserve_host: false,
    };
    let records =
        split_and_rank(flavor, RouteOrder::Documented, &fields).into_iter().map(|(split, conditions, rank)| {
            let record = Route {
                origin: Origin::new("test", "routes", id),
                group: None,
                rank,
                traffic: Traffic::Http,
                matches: conditions.into(),
                rewrite: rewrite.clone(),
                ..Route::default()
            };
            (split, Arc::new(record))
        });
    (id, records.collect())
}

/// How the answer to a case differs from what was recorded.
fn difference(case: &Value, flavor: Flavor) -> Option<String> {
    let entries = case["routes"].as_array().unwrap();
    let lowered: Vec<_> = entries.iter().enumerate().map(|(at, entry)| lower(entry, at, flavor)).collect();
    let base = |id: Id| {
        let at = lowered.iter().position(|(other, _)| *other == id).unwrap();
        (entries[at]["service"]["path"].as_str().unwrap_or("/"), !entries[at]["service"].is_null())
    };
    let (router, diagnostics) = Router::from_routes(lowered.iter().flat_map(|(_, records)| records.iter().cloned()));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");

    let request = &case["request"];
    let raw = request["uri"].as_str().unwrap_or_default().as_bytes();
    // The recorded calls are of two functions, of which one is handed the path normalized.
    let path = if request["vars"].is_null() { raw.into() } else { normalize_path(raw) };
    let host = request["host"].as_str().map(split_host);
    let wire = match request["scheme"].as_str() {
        Some("https") => Wire::Https,
        // A stream with a server name is TLS that was terminated.
        Some("tcp") if request["sni"].is_string() => Wire::Tls,
        Some("tcp") => Wire::Tcp,
        Some("tls") => Wire::Tls,
        _ => Wire::Http,
    };
    let default_port = if wire == Wire::Https { 443 } else { 80 };
    let host_port = host.as_ref().and_then(|(_, port)| *port).unwrap_or(default_port);
    let address = |ip: &str, port: &str, default: u16| {
        let ip = request[ip].as_str().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ip| ip.parse().unwrap());
        SocketAddr::new(ip, request[port].as_u64().map_or(default, |port| port.try_into().unwrap()))
    };
    let headers = header_list(&request["headers"]).into_iter();
    let headers = headers.flat_map(|(name, values)| {
        let name = name.replace('_', "-");
        values.into_iter().map(move |value| (name.clone(), value))
    });
    let headers = HeaderMap(headers.collect());
    let found = router.find(&Request {
        wire,
        method: request["method"].as_str().unwrap_or_default(),
        host: host.as_ref().map(|(name, _)| &**name),
        host_port: host.as_ref().and_then(|(_, port)| *port),
        path: &path,
        query: b"",
        headers: &headers,
        sni: request["sni"].as_str(),
        source: address("src_ip", "src_port", 0),
        destination: address("dst_ip", "dst_port", host_port),
    });

    let upstream = found.and_then(|found| {
        let (base, has_service) = base(found.route.origin.id);
        let parts = Parts {
            base,
            path: &path,
            matched: found.path_len,
            strip: found.route.rewrite.strip_path,
            handling: found.route.rewrite.path_handling,
        };
        let mut out = Vec::new();
        parts.write(&mut out);
        has_service.then(|| String::from_utf8(out).unwrap())
    });
    let expect = &case["expect"];
    // Some recorded routes have no id, so their match shows only in its upstream path.
    let route = expect["route"].as_str().map(str::to_owned);
    let found_id = found.map(|found| found.route.origin.id).filter(|id| id.as_u128() > 1000).map(|id| id.to_string());
    let same = found_id == route && upstream.as_deref() == expect["upstream_uri"].as_str();
    let got = format!("got {found_id:?} {upstream:?}, recorded {route:?} {}", expect["upstream_uri"]);
    (!same).then(|| format!("{}: {got}", case["about"]))
}
