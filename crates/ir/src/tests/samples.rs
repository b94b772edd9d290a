//! Random records, of every table and with every variant.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::{collection, option};
use serde_json::{Value, json};

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
    (origin(), algorithm, any::<u32>(), (hash_input(), hash_input()), health, flags).prop_map(
        |(
            origin,
            algorithm,
            slots,
            (hash_on, hash_fallback),
            health,
            (host_header, client_certificate, srv, document),
        )| {
            Cluster {
                origin,
                algorithm,
                slots,
                hash_on,
                hash_fallback,
                health,
                host_header,
                client_certificate,
                use_srv_name: srv,
                document,
            }
        },
    )
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
    (origin(), any_id(), host(), any::<u32>(), any::<bool>())
        .prop_map(|(origin, cluster, host, weight, failover)| Endpoint { origin, cluster, host, weight, failover })
}

fn backend() -> impl Strategy<Value = Backend> {
    let target = prop_oneof![
        host().prop_map(Target::Host),
        (any_id(), any::<u16>()).prop_map(|(id, port)| Target::Cluster { id, port }),
    ];
    let tls = (any::<bool>(), option::of(0_u8..3), collection::vec(any_id(), 0..2), option::of(any_id())).prop_map(
        |(verify, verify_depth, trust_bundles, client_certificate)| UpstreamTls {
            verify,
            verify_depth,
            trust_bundles,
            client_certificate,
        },
    );
    let http =
        prop::sample::select(vec![None, Some(HttpVersion::H1), Some(HttpVersion::H2), Some(HttpVersion::Negotiate)]);
    let rest = (option::of(text()), timeouts(), option::of(retry()), texts(), document());
    (origin(), any::<bool>(), http, option::of(tls), target, rest).prop_map(
        |(origin, flag, http, tls, target, (path, timeouts, retry, upgrade_protocols, document))| Backend {
            origin,
            l4: if flag { L4::Udp } else { L4::Tcp },
            http,
            grpc: flag,
            tls,
            target,
            path,
            timeouts,
            retry: retry.map(Arc::new),
            upgrade_protocols,
            document,
        },
    )
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    any::<[u64; 6]>().prop_map(|[connect_ms, read_ms, write_ms, request_ms, idle_ms, stream_ms]| Timeouts {
        connect_ms,
        read_ms,
        write_ms,
        request_ms,
        idle_ms,
        stream_ms,
    })
}

fn header_check() -> impl Strategy<Value = policy::HeaderCheck> {
    let value = prop_oneof![
        Just(policy::HeaderValue::Present),
        Just(policy::HeaderValue::Absent),
        text().prop_map(policy::HeaderValue::Exact),
        text().prop_map(policy::HeaderValue::Prefix),
    ];
    (text(), value).prop_map(|(name, value)| policy::HeaderCheck { name, value })
}

fn retry() -> BoxedStrategy<policy::Retry> {
    use policy::{Backoff, GrpcCode, RateLimitedBackoff, ResetFormat, ResetHeader, RetryBudget, RetryCondition};
    let codes = [
        GrpcCode::Cancelled,
        GrpcCode::DeadlineExceeded,
        GrpcCode::ResourceExhausted,
        GrpcCode::Internal,
        GrpcCode::Unavailable,
    ];
    let condition = prop_oneof![
        prop::sample::select(vec![
            RetryCondition::ConnectFailure,
            RetryCondition::Reset,
            RetryCondition::ResetBeforeRequest,
            RetryCondition::RefusedStream,
            RetryCondition::Timeout,
            RetryCondition::PerTryTimeout,
            RetryCondition::ServerError,
            RetryCondition::GatewayError,
            RetryCondition::Retriable4xx,
        ]),
        any::<u16>().prop_map(RetryCondition::Status),
        header_check().prop_map(RetryCondition::ResponseHeader),
        prop::sample::select(codes.to_vec()).prop_map(RetryCondition::Grpc),
    ];
    let methods = prop_oneof![
        Just(policy::RetryMethods::Idempotent),
        Just(policy::RetryMethods::Any),
        texts().prop_map(policy::RetryMethods::Listed),
    ];
    let format = prop::sample::select(vec![ResetFormat::Seconds, ResetFormat::UnixTimestamp]);
    let header = (text(), format).prop_map(|(name, format)| ResetHeader { name, format });
    let rate_limited = (collection::vec(header, 0..2), any::<u64>())
        .prop_map(|(headers, max_ms)| RateLimitedBackoff { headers, max_ms });
    let budget = any::<(u32, u32)>().prop_map(|(percent, min_concurrency)| RetryBudget { percent, min_concurrency });
    (
        (any::<u16>(), collection::vec(condition, 0..4), methods, collection::vec(header_check(), 0..2)),
        any::<[u64; 4]>(),
        option::of(rate_limited),
        option::of(budget),
    )
        .prop_map(|((attempts, conditions, methods, request_headers), times, rate_limited, budget)| {
            let [base_ms, max_ms, per_try_timeout_ms, per_try_idle_timeout_ms] = times;
            policy::Retry {
                attempts,
                conditions,
                methods,
                request_headers,
                backoff: Backoff { base_ms, max_ms },
                rate_limited,
                budget,
                per_try_timeout_ms,
                per_try_idle_timeout_ms,
            }
        })
        .boxed()
}

fn route_policies() -> BoxedStrategy<policy::RoutePolicies> {
    let overrides =
        any::<[Option<u64>; 6]>().prop_map(|[connect_ms, read_ms, write_ms, request_ms, idle_ms, stream_ms]| {
            policy::TimeoutOverrides { connect_ms, read_ms, write_ms, request_ms, idle_ms, stream_ms }
        });
    (option::of(retry().prop_map(Arc::new)), option::of(overrides))
        .prop_map(|(retry, timeouts)| policy::RoutePolicies { retry, timeouts })
        .boxed()
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
    let policies = option::of(route_policies().prop_map(Box::new));
    (origin(), rank, any::<[bool; 4]>(), matches(), option::of(any_id()), require, (policies, document())).prop_map(
        |(origin, rank, [stream, strip_path, buffered, v1], matches, backend, require, (policies, document))| Route {
            origin,
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
            policies,
            document,
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
        (origin(), text())
            .prop_map(|(origin, certificate)| Record::TrustBundle(TrustBundle { origin, certificate }.into())),
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
        records.into_iter().for_each(|(id, record)| super::put(&mut ir, id, record));
        ir
    })
}
