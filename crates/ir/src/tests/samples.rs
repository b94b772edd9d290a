//! Random records, of every table and with every variant.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::{collection, option};
use serde_json::{Value, json};

use crate::policy::*;
use crate::*;

/// Ids are from here down.
pub(super) const IDS: u8 = 6;

pub(super) fn id(n: u8) -> Id {
    // Wider than numbers in JSON.
    Id::from_u128(u128::MAX - u128::from(n))
}

fn any_id() -> impl Strategy<Value = Id> {
    (0..IDS).prop_map(id)
}

fn text() -> impl Strategy<Value = Box<str>> {
    prop::sample::select(vec!["", "a", "b.example", "ü\"\\\n", "*"]).prop_map(Into::into)
}

fn texts() -> impl Strategy<Value = Vec<Box<str>>> {
    collection::vec(text(), 0..3)
}

fn origin() -> impl Strategy<Value = Origin> {
    (prop::sample::select(vec!["kong", "kuma"]), 0..IDS, option::of(text())).prop_map(|(front_end, n, name)| {
        let mut origin = Origin::new(front_end, "things", id(n));
        origin.name = name;
        origin
    })
}

fn document() -> impl Strategy<Value = Document> {
    prop_oneof![
        Just(Document::from("{}")),
        Just(Document::new("{\"id\":\u{1},\"x\":\u{8}}".into(), vec!["[5]".into()])),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        Value::Null,
        json!(true),
        json!(u64::MAX),
        json!(-7),
        json!(0.5),
        json!("text"),
        json!({"b": 1, "a": {"z": [1.0, null], "y": "x"}}),
        json!({"key": "k", "a": []}),
    ])
}

fn host() -> impl Strategy<Value = Host> {
    (text(), 0_u16..3).prop_map(|(host, port)| Host { host, port })
}

fn certificate() -> impl Strategy<Value = Certificate> {
    let pair = (text(), text()).prop_map(|(chain, key)| KeyPair { chain, key });
    (origin(), collection::vec(pair, 0..2), texts()).prop_map(|(origin, pairs, server_names)| Certificate {
        origin,
        pairs,
        server_names,
    })
}

fn identity() -> impl Strategy<Value = Identity> {
    let pair = (text(), text()).prop_map(|(chain, key)| KeyPair { chain, key });
    (origin(), text(), option::of(pair)).prop_map(|(origin, id, pair)| Identity { origin, id, pair })
}

fn mutual_tls() -> impl Strategy<Value = MutualTls> {
    let peer = prop_oneof![text().prop_map(PeerMatch::Exact), text().prop_map(PeerMatch::Within)];
    (any_id(), collection::vec(peer, 0..3), any::<bool>()).prop_map(|(identity, peers, clear_text)| MutualTls {
        identity,
        peers,
        clear_text,
    })
}

fn listener() -> impl Strategy<Value = Listener> {
    let terminated = (collection::vec(any_id(), 0..2), collection::vec(any_id(), 0..2), any::<bool>()).prop_map(
        |(certificates, client_trust_bundles, client_required)| {
            let tls13_only = client_required;
            TlsTermination { certificates, client_trust_bundles, client_required, tls13_only }
        },
    );
    let tls = prop_oneof![
        Just(ListenerTls::Node),
        terminated.prop_map(ListenerTls::Certificates),
        mutual_tls().prop_map(ListenerTls::Identity),
    ];
    let kinds = vec![ListenerKind::Http, ListenerKind::Stream, ListenerKind::Detect, ListenerKind::Udp];
    let captures = vec![Capture::Direct, Capture::Redirect, Capture::Transparent];
    let what = (prop::sample::select(kinds), prop::sample::select(captures), option::of(tls));
    (origin(), option::of(any_id()), text(), what, any::<u16>(), any::<bool>()).prop_map(
        |(origin, group, name, (kind, capture, tls), port, flag)| Listener {
            origin,
            group,
            name,
            address: ([127, 0, 0, 1], port).into(),
            kind,
            tls,
            http2: flag,
            proxy_protocol: !flag,
            capture,
            backlog: u32::from(port),
            mapped_port: flag.then_some(port),
        },
    )
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let algorithm = prop_oneof![
        Just(Algorithm::RoundRobin),
        Just(Algorithm::LeastConnections),
        Just(Algorithm::ConsistentHashing),
        Just(Algorithm::Latency),
        (text(), text()).prop_map(|(cookie, path)| Algorithm::Sticky { cookie, path }),
    ];
    let health = (0.0..=100.0, 0_u8..9, texts()).prop_map(|(threshold_percent, successes, paths)| HealthChecks {
        active: Active {
            headers: paths.into_iter().map(|path| (path, "v".into())).collect(),
            counts: Counts { successes, healthy_statuses: vec![200, u16::from(successes)], ..Counts::default() },
            ..Active::default()
        },
        threshold_percent,
        ..HealthChecks::default()
    });
    let flags = (option::of(text()), option::of(any_id()), any::<bool>(), document());
    // Boxed: strategies are large, and tests run on small stacks.
    let policies = (option::of(outlier()), option::of(circuit()), option::of(locality_policy())).boxed();
    let health = health.boxed();
    (origin(), algorithm, any::<u32>(), (hash_input(), hash_input()), (health, policies), flags).prop_map(
        |(
            origin,
            algorithm,
            slots,
            (hash_on, hash_fallback),
            (health, (outlier, circuit, locality)),
            (host_header, client_certificate, srv, document),
        )| {
            Cluster {
                origin,
                algorithm,
                slots,
                hash_on,
                hash_fallback,
                health,
                outlier: outlier.map(Box::new),
                circuit: circuit.map(Box::new),
                locality: locality.map(Box::new),
                subset_fallback: if srv { SubsetFallback::AnyEndpoint } else { SubsetFallback::Fail },
                host_header,
                client_certificate,
                use_srv_name: srv,
                document,
            }
        },
    )
}

fn labels() -> impl Strategy<Value = Labels> {
    collection::vec((text(), text()), 0..3).prop_map(|pairs| Labels::new(pairs).unwrap())
}

fn locality() -> impl Strategy<Value = Locality> {
    (text(), text(), text()).prop_map(|(region, zone, subzone)| Locality { region, zone, subzone })
}

fn circuit() -> impl Strategy<Value = CircuitLimits> {
    any::<[Option<u32>; 4]>().prop_map(|[max_connections, max_pending, max_requests, max_retries]| CircuitLimits {
        max_connections,
        max_pending,
        max_requests,
        max_retries,
    })
}

fn outlier() -> impl Strategy<Value = OutlierDetection> {
    let rate = (any::<u32>(), 0.0..=9.0).prop_map(|(minimum_hosts, stdev_factor)| SuccessRate {
        minimum_hosts,
        request_volume: 7,
        stdev_factor,
    });
    let share = any::<u32>().prop_map(|request_volume| FailurePercentage { request_volume, ..Default::default() });
    (any::<[bool; 3]>(), any::<[u32; 4]>(), any::<[u64; 3]>(), option::of(rate), option::of(share)).prop_map(
        |(flags, [max_ejection_percent, total, gateway, local_origin], times, success_rate, failure_percentage)| {
            let [enabled, split_local_origin, returns_on_probe] = flags;
            let [interval_ms, base_ejection_ms, max_ejection_ms] = times;
            OutlierDetection {
                enabled,
                interval_ms,
                base_ejection_ms,
                max_ejection_ms,
                max_ejection_percent,
                split_local_origin,
                returns_on_probe,
                detectors: Detectors { total, gateway, local_origin, success_rate, failure_percentage },
            }
        },
    )
}

fn locality_policy() -> impl Strategy<Value = LocalityPolicy> {
    let set = prop_oneof![
        Just(ZoneSet::None),
        Just(ZoneSet::Any),
        texts().prop_map(ZoneSet::AnyExcept),
        texts().prop_map(ZoneSet::Only),
    ];
    let rules = collection::vec((texts(), set).prop_map(|(from, to)| FailoverRule { from, to }), 0..3);
    let affinity = collection::vec((text(), any::<u32>()).prop_map(|(label, weight)| Affinity { label, weight }), 0..3);
    let zones = (affinity, any::<u32>(), rules, any::<bool>()).prop_map(|(affinity, rest_weight, failover, last)| {
        let unlisted = if last { Unlisted::Last } else { Unlisted::Unused };
        ZonePreference { affinity, rest_weight, failover, unlisted }
    });
    (any::<[u32; 2]>(), option::of(zones)).prop_map(|([overprovisioning_percent, panic_percent], zones)| {
        LocalityPolicy { overprovisioning_percent, panic_percent, zones }
    })
}

fn hash_input() -> impl Strategy<Value = HashInput> {
    prop_oneof![
        Just(HashInput::None),
        Just(HashInput::Principal),
        Just(HashInput::Ip),
        text().prop_map(HashInput::Header),
        (text(), text()).prop_map(|(name, path)| HashInput::Cookie { name, path }),
        Just(HashInput::Path),
        text().prop_map(HashInput::Query),
        text().prop_map(HashInput::Capture),
    ]
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (origin(), any_id(), host(), any::<[u32; 2]>(), locality().boxed(), labels().boxed()).prop_map(
        |(origin, cluster, host, [weight, priority], locality, labels)| Endpoint {
            origin,
            cluster,
            host,
            weight,
            priority,
            locality,
            labels,
        },
    )
}

fn backend() -> impl Strategy<Value = Backend> {
    let target = prop_oneof![
        host().prop_map(Target::Host),
        (any_id(), any::<u16>(), labels().boxed()).prop_map(|(id, port, subset)| Target::Cluster { id, port, subset }),
    ];
    let identity = (mutual_tls(), option::of(text()))
        .prop_map(|(tls, server_name)| Box::new(UpstreamIdentity { tls, server_name }));
    let certificate = (option::of(any_id()), option::of(identity));
    let tls = (any::<bool>(), option::of(0_u8..3), collection::vec(any_id(), 0..2), certificate).prop_map(
        |(verify, verify_depth, trust_bundles, (client_certificate, identity))| UpstreamTls {
            verify,
            verify_depth,
            trust_bundles,
            client_certificate,
            identity,
        },
    );
    let http =
        prop::sample::select(vec![None, Some(HttpVersion::H1), Some(HttpVersion::H2), Some(HttpVersion::Negotiate)]);
    let rest = (option::of(text()), any::<u64>(), any::<u16>(), texts(), document());
    (origin(), any::<bool>(), http, option::of(tls), target, rest).prop_map(
        |(origin, flag, http, tls, target, (path, read_ms, retries, upgrade_protocols, document))| Backend {
            origin,
            l4: if flag { L4::Udp } else { L4::Tcp },
            http,
            grpc: flag,
            tls,
            target,
            path,
            timeouts: Timeouts { read_ms, ..Timeouts::default() },
            retries,
            upgrade_protocols,
            document,
        },
    )
}

fn matches() -> impl Strategy<Value = Matches> {
    let pattern = || {
        prop_oneof![
            text().prop_map(HostPattern::Exact),
            text().prop_map(HostPattern::Suffix),
            text().prop_map(HostPattern::Prefix),
        ]
    };
    let implied = prop::sample::select(vec![ImpliedPort::Listener, ImpliedPort::Scheme, ImpliedPort::None]);
    let hosts = (pattern(), option::of(any::<u16>()), implied).prop_map(|(host, port, implied_port)| HostMatch {
        host,
        port,
        implied_port,
    });
    let paths = prop_oneof![text().prop_map(PathMatch::Prefix), text().prop_map(PathMatch::Regex)];
    let value = prop_oneof![text().prop_map(TextMatch::Exact), text().prop_map(TextMatch::Regex)];
    let headers = (text(), collection::vec(value, 0..2)).prop_map(|(name, any_of)| HeaderMatch { name, any_of });
    let nets = prop::sample::select(vec![None, "10.0.0.0/8".parse().ok(), "2001:db8::/32".parse().ok()]);
    let sources = (nets, option::of(any::<u16>())).prop_map(|(net, port)| AddrMatch { net, port });
    let selection = prop_oneof![Just(Selection::ByRank), any::<u128>().prop_map(|order| Selection::ByKinds { order })];
    let wires = prop::sample::subsequence(vec![Wire::Http, Wire::Https, Wire::TlsPassthrough, Wire::Udp], 0..3);
    let conditions = (
        texts(),
        collection::vec(hosts, 0..3),
        collection::vec(paths, 0..3),
        collection::vec(headers, 0..2),
        collection::vec(pattern(), 0..2),
        collection::vec(sources, 0..2),
        wires,
        selection,
    )
        .prop_map(|(methods, hosts, paths, headers, snis, sources, wires, selection)| {
            let destinations = sources.iter().rev().cloned().collect();
            Criteria { methods, hosts, paths, headers, snis, sources, destinations, wires, selection }.into()
        });
    let predicate = prop::sample::select(vec![
        Predicate::All(vec![Predicate::Any(Vec::new()), Predicate::Not(Box::new(Predicate::All(Vec::new())))]),
        Predicate::Any(Vec::new()),
    ]);
    prop_oneof![conditions, predicate.prop_map(Matches::Predicate)]
}

fn route() -> impl Strategy<Value = Route> {
    let require = (option::of(Just(426_u16)), any::<bool>(), any::<bool>())
        .prop_map(|(tls, grpc, plain_only)| Require { tls, grpc, plain_only });
    let rank = (any::<u128>(), any::<u128>()).prop_map(|(weight, tie)| Rank { weight, tie });
    (origin(), rank, any::<[bool; 4]>(), matches(), any::<[Option<u8>; 2]>(), require, document()).prop_map(
        |(origin, rank, [stream, strip_path, buffered, v1], matches, ids, require, document)| {
            let [backend, group] = ids.map(|number| number.map(|number| id(number % IDS)));
            Route {
                origin,
                group,
                rank,
                traffic: if stream { Traffic::Stream } else { Traffic::Http },
                matches,
                backend,
                rewrite: Rewrite {
                    strip_path,
                    path_handling: if v1 { PathHandling::V1 } else { PathHandling::V0 },
                    preserve_host: v1,
                },
                require,
                request_buffering: buffered,
                response_buffering: strip_path,
                document,
            }
        },
    )
}

/// A route that differs from those of other numbers.
pub(super) fn named_route(n: u8) -> Route {
    Route { origin: Origin::new("test", "routes", id(n)), document: "{}".into(), ..Route::default() }
}

fn principal() -> impl Strategy<Value = Principal> {
    (origin(), option::of(text()), option::of(text()), collection::vec(any_id(), 0..3), document())
        .prop_map(|(origin, name, custom_id, groups, document)| Principal { origin, name, custom_id, groups, document })
}

fn credential() -> impl Strategy<Value = Credential> {
    (origin(), prop::sample::select(vec!["key-auth", "acl"]), value(), any_id(), text()).prop_map(
        |(origin, kind, data, principal, lookup)| {
            Credential::new(origin, Arc::new(Attributes::new(kind, data, "key")), principal, lookup)
        },
    )
}

fn filter_set() -> impl Strategy<Value = FilterSet> {
    let filter = (text(), value(), option::of(text())).prop_map(|(kind, params, instance_name)| Filter {
        kind,
        params: params.into(),
        wires: vec![Wire::Tls],
        instance_name,
    });
    let scope = (option::of(any_id()), option::of(any_id()), option::of(any_id()), option::of(any_id()))
        .prop_map(|(route, backend, principal, group)| Scope { route, backend, principal, group });
    (origin(), scope, any::<u32>(), collection::vec(filter, 0..3))
        .prop_map(|(origin, scope, precedence, filters)| FilterSet { origin, scope, precedence, filters })
}

/// A record of any table.
pub(super) fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        certificate().prop_map(|r| Record::Certificate(r.into())),
        (origin(), text(), option::of(text())).prop_map(|(origin, certificate, trust_domain)| {
            Record::TrustBundle(TrustBundle { origin, certificate, trust_domain }.into())
        }),
        identity().prop_map(|r| Record::Identity(r.into())),
        (origin(), text()).prop_map(|(origin, name)| Record::ListenerGroup(ListenerGroup { origin, name }.into())),
        listener().prop_map(|r| Record::Listener(r.into())),
        cluster().prop_map(|r| Record::Cluster(r.into())),
        endpoint().prop_map(|r| Record::Endpoint(r.into())),
        backend().prop_map(|r| Record::Backend(r.into())),
        route().prop_map(|r| Record::Route(r.into())),
        (origin(), text()).prop_map(|(origin, name)| Record::PrincipalGroup(PrincipalGroup { origin, name }.into())),
        principal().prop_map(|r| Record::Principal(r.into())),
        credential().prop_map(|r| Record::Credential(r.into())),
        filter_set().prop_map(|r| Record::FilterSet(r.into())),
    ]
}

/// A generation with records of several tables. References may lead nowhere.
pub(super) fn ir() -> impl Strategy<Value = Ir> {
    collection::vec((any_id(), record()), 0..24).prop_map(|records| {
        let mut ir = Ir::default();
        records.into_iter().for_each(|(id, record)| ir.insert(id, record));
        ir
    })
}
