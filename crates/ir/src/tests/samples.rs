//! Random records of all tables and with all variants.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::{collection, option};
use serde_json::{Value, json};

use crate::policy::*;
use crate::*;

/// Ids are below this number.
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

fn secret_ref() -> impl Strategy<Value = SecretRef> {
    any::<u8>().prop_map(|number| SecretKey::default().reference(&number.to_string()))
}

fn certificate() -> impl Strategy<Value = Certificate> {
    let pair = (text(), secret_ref()).prop_map(|(chain, key)| KeyPair { chain, key });
    (origin(), collection::vec(pair, 0..2), texts()).prop_map(|(origin, pairs, server_names)| Certificate {
        origin,
        pairs,
        server_names,
    })
}

fn identity() -> impl Strategy<Value = Identity> {
    let pair = (text(), secret_ref()).prop_map(|(chain, key)| KeyPair { chain, key });
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

fn value_match() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        Just(ValueMatch::Present),
        text().prop_map(ValueMatch::Exact),
        text().prop_map(ValueMatch::Prefix),
        text().prop_map(ValueMatch::Regex),
    ]
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
    let paths = prop_oneof![
        text().prop_map(PathMatch::Prefix),
        text().prop_map(PathMatch::Regex),
        text().prop_map(PathMatch::Exact),
        text().prop_map(PathMatch::SegmentPrefix),
        text().prop_map(PathMatch::FullRegex),
    ];
    let value = prop_oneof![
        text().prop_map(TextMatch::Exact),
        text().prop_map(TextMatch::Regex),
        value_match().prop_map(TextMatch::Value),
        Just(TextMatch::Absent),
    ];
    let queries = (text(), collection::vec(value_match(), 0..2)).prop_map(|(name, any_of)| QueryMatch { name, any_of });
    let headers = (text(), collection::vec(value, 0..2)).prop_map(|(name, any_of)| HeaderMatch { name, any_of });
    let nets = prop::sample::select(vec![None, "10.0.0.0/8".parse().ok(), "2001:db8::/32".parse().ok()]);
    let sources = (nets, option::of(any::<u16>())).prop_map(|(net, port)| AddrMatch { net, port });
    let selection = prop_oneof![Just(Selection::ByRank), any::<u128>().prop_map(|order| Selection::ByKinds { order })];
    let wires = prop::sample::subsequence(vec![Wire::Http, Wire::Https, Wire::TlsPassthrough, Wire::Udp], 0..3);
    let conditions = (
        texts(),
        collection::vec(hosts, 0..3),
        collection::vec(paths, 0..3),
        (collection::vec(headers, 0..2), collection::vec(queries, 0..2)),
        collection::vec(pattern(), 0..2),
        collection::vec(sources, 0..2),
        wires,
        selection,
    )
        .prop_map(|(methods, hosts, paths, (headers, queries), snis, sources, wires, selection)| {
            let destinations = sources.iter().rev().cloned().collect();
            Criteria { methods, hosts, paths, headers, queries, snis, sources, destinations, wires, selection }.into()
        });
    let predicate = prop::sample::select(vec![
        Predicate::All(vec![Predicate::Any(Vec::new()), Predicate::Not(Box::new(Predicate::All(Vec::new())))]),
        Predicate::Any(Vec::new()),
    ]);
    prop_oneof![conditions, predicate.prop_map(Matches::Predicate)]
}

fn path_rewrite() -> impl Strategy<Value = PathRewrite> {
    prop_oneof![text().prop_map(PathRewrite::Full), text().prop_map(PathRewrite::Prefix)]
}

fn action() -> impl Strategy<Value = Action> {
    let weighted = (any_id(), any::<u32>()).prop_map(|(backend, weight)| WeightedBackend { backend, weight });
    let scheme = prop::sample::select(vec![Scheme::Http, Scheme::Https]);
    let redirect =
        (option::of(scheme), option::of(text()), option::of(any::<u16>()), option::of(path_rewrite()), any::<u16>());
    let redirect =
        redirect.prop_map(|(scheme, host, port, path, status)| Redirect { scheme, host, port, path, status });
    let headers = collection::vec((text(), text()), 0..2);
    let response = (any::<u16>(), headers, text());
    let response = response.prop_map(|(status, headers, body)| DirectResponse { status, headers, body });
    prop_oneof![
        Just(Action::None),
        any_id().prop_map(Action::Forward),
        collection::vec(weighted, 0..3).prop_map(|list| Action::Split(list.into())),
        redirect.prop_map(|redirect| Action::Redirect(redirect.into())),
        response.prop_map(|response| Action::Respond(response.into())),
    ]
}

fn route_policies() -> impl Strategy<Value = policy::RoutePolicies> {
    let mirror = (any_id(), 0.0..=100.0, any::<u64>(), any::<bool>()).prop_map(
        |(backend, percent, body_bytes_max, keep_host)| policy::Mirror { backend, percent, body_bytes_max, keep_host },
    );
    let edits = || {
        let pairs = || collection::vec((text(), text()), 0..2);
        (texts(), pairs(), pairs()).prop_map(|(remove, set, add)| policy::HeaderEdits { remove, set, add })
    };
    let rewrite =
        (option::of(text()), option::of(path_rewrite())).prop_map(|(host, path)| policy::UrlRewrite { host, path });
    let overrides =
        any::<[Option<u64>; 6]>().prop_map(|[connect_ms, read_ms, write_ms, request_ms, idle_ms, stream_ms]| {
            policy::TimeoutOverrides { connect_ms, read_ms, write_ms, request_ms, idle_ms, stream_ms }
        });
    let heads = (option::of(edits()), option::of(edits()), option::of(rewrite));
    (collection::vec(mirror, 0..3), heads, option::of(retry().prop_map(Arc::new)), option::of(overrides)).prop_map(
        |(mirrors, (request_headers, response_headers, rewrite), retry, timeouts)| policy::RoutePolicies {
            mirrors,
            request_headers,
            response_headers,
            rewrite,
            retry,
            timeouts,
        },
    )
}

fn route() -> impl Strategy<Value = Route> {
    let tls = prop::sample::select(vec![426, 301, 302, 307, 308]).prop_map(|status| TlsRequired::of(status).unwrap());
    let require = (option::of(tls), any::<bool>()).prop_map(|(tls, grpc)| Require { tls, grpc });
    let rank = (any::<u128>(), any::<u128>()).prop_map(|(weight, tie)| Rank { weight, tie });
    let policies = option::of(route_policies().prop_map(Box::new));
    let group = option::of(any_id());
    (origin(), (group, rank), any::<[bool; 5]>(), matches(), action(), require, (policies, document())).prop_map(
        |(
            origin,
            (group, rank),
            [stream, strip_path, buffered, v1, of_tenant],
            matches,
            action,
            require,
            (policies, document),
        )| Route {
            origin,
            group,
            of_tenant,
            rank,
            traffic: if stream { Traffic::Stream } else { Traffic::Http },
            matches,
            action,
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

/// A route that differs from those with other numbers.
pub(super) fn named_route(n: u8) -> Route {
    Route { origin: Origin::new("test", "routes", id(n)), document: "{}".into(), ..Route::default() }
}

fn principal() -> impl Strategy<Value = Principal> {
    (origin(), option::of(text()), option::of(text()), collection::vec(any_id(), 0..3), document()).prop_map(
        |(origin, name, custom_id, groups, document)| {
            let tenant = groups.first().map(|group| Box::new(*group));
            Principal { origin, name, custom_id, groups, tenant, document }
        },
    )
}

fn credential() -> impl Strategy<Value = Credential> {
    let lookup = prop_oneof![text().prop_map(Lookup::Text), secret_ref().prop_map(Lookup::Secret)];
    (origin(), prop::sample::select(vec!["key-auth", "acl"]), value(), any_id(), lookup).prop_map(
        |(origin, kind, data, principal, lookup)| {
            let tenant = principal.as_u128().is_multiple_of(2).then_some(principal);
            Credential::new(origin, Arc::new(Attributes::new(kind, data, "key").of_tenant(tenant)), principal, lookup)
        },
    )
}

fn scope() -> impl Strategy<Value = Scope> {
    (option::of(any_id()), option::of(any_id()), option::of(any_id()), option::of(any_id()), option::of(any_id()))
        .prop_map(|(listeners, route, backend, principal, group)| Scope { listeners, route, backend, principal, group })
}

fn filter_set() -> impl Strategy<Value = FilterSet> {
    let filter = (text(), value(), option::of(text())).prop_map(|(kind, params, instance_name)| Filter {
        kind,
        params: params.into(),
        wires: vec![Wire::Tls],
        instance_name,
    });
    (origin(), scope(), any::<u32>(), collection::vec(filter, 0..3))
        .prop_map(|(origin, scope, precedence, filters)| FilterSet { origin, scope, precedence, filters })
}

fn client_match() -> impl Strategy<Value = ClientMatch> {
    let network = prop::sample::select(vec!["10.0.0.0/8", "::1/128", "0.0.0.0/0"]);
    let identity = prop_oneof![
        text().prop_map(IdentityMatch::Exact),
        text().prop_map(IdentityMatch::Prefix),
        text().prop_map(IdentityMatch::TrustDomain),
    ];
    prop_oneof![
        network.prop_map(|text| ClientMatch::Network(text.parse().unwrap())),
        identity.prop_map(ClientMatch::Identity),
        text().prop_map(ClientMatch::Group),
        any_id().prop_map(ClientMatch::Principal),
        Just(ClientMatch::Authenticated),
        Just(ClientMatch::Unidentified),
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let message =
        prop_oneof![text().prop_map(RefusalMessage::Text), text().prop_map(RefusalMessage::WithClientAddress),];
    (any::<u16>(), message).prop_map(|(status, message)| Refusal { status, message })
}

fn access_rule() -> impl Strategy<Value = AccessRule> {
    let action = prop::sample::select(vec![AccessAction::Allow, AccessAction::Deny, AccessAction::ShadowDeny]);
    let value = prop_oneof![
        Just(ValueCondition::Present),
        Just(ValueCondition::Absent),
        text().prop_map(ValueCondition::Exact),
        text().prop_map(ValueCondition::Prefix),
    ];
    let header = (text(), value).prop_map(|(name, value)| HeaderCondition { name, value });
    let path = prop_oneof![text().prop_map(PathCondition::Exact), text().prop_map(PathCondition::Prefix)];
    let request = (texts(), collection::vec(path, 0..2), collection::vec(header, 0..2))
        .prop_map(|(methods, paths, headers)| RequestCondition { methods, paths, headers });
    (action, collection::vec(client_match(), 0..3), texts(), collection::vec(request, 0..2))
        .prop_map(|(action, clients, server_names, requests)| AccessRule { action, clients, server_names, requests })
}

fn authorization() -> impl Strategy<Value = PolicySpec> {
    let groups = (text(), any::<[bool; 3]>(), text(), text()).prop_map(|(kind, flags, own_header, vouched_header)| {
        let [principal_groups, vouched_first, send_headers] = flags;
        let credential_kind = kind;
        GroupSource { credential_kind, principal_groups, vouched_first, own_header, vouched_header, send_headers }
    });
    let rules = collection::vec(access_rule(), 0..3);
    (rules, any::<(bool, bool)>(), refusal(), option::of(refusal()), option::of(groups)).prop_map(
        |(rules, (allow_by_default, shadow), refusal, unidentified_refusal, groups)| {
            let groups = groups.map(Box::new);
            let all = Authorization { rules, allow_by_default, shadow, refusal, unidentified_refusal, groups };
            PolicySpec::Authorization(all)
        },
    )
}

fn pairs() -> impl Strategy<Value = Vec<(Box<str>, Box<str>)>> {
    collection::vec((text(), text()), 0..2)
}

fn rate_limit() -> impl Strategy<Value = PolicySpec> {
    let periods = [
        RatePeriod::Second,
        RatePeriod::Minute,
        RatePeriod::Hour,
        RatePeriod::Day,
        RatePeriod::Month,
        RatePeriod::Year,
    ];
    let window =
        (prop::sample::select(periods.to_vec()), number()).prop_map(|(period, limit)| RateWindow { period, limit });
    let limiter = prop_oneof![
        (collection::vec(window, 0..3), any::<bool>())
            .prop_map(|(limits, sliding)| Limiter::Windows(Windows { limits, sliding })),
        any::<(u32, u64)>().prop_map(|(tokens, interval_ms)| Limiter::Bucket(TokenBucket { tokens, interval_ms })),
    ];
    let by = prop_oneof![
        Just(LimitBy::All),
        Just(LimitBy::ClientAddress),
        Just(LimitBy::Principal),
        Just(LimitBy::Credential),
        Just(LimitBy::Backend),
        text().prop_map(LimitBy::Header),
        text().prop_map(LimitBy::Path),
    ];
    (limiter, by, any::<u16>(), text(), pairs(), pairs(), any::<bool>()).prop_map(
        |(limiter, by, status, message, set_headers, add_headers, hide_headers)| {
            PolicySpec::RateLimit(RateLimit { limiter, by, status, message, set_headers, add_headers, hide_headers })
        },
    )
}

/// A number, including both zeros.
fn number() -> impl Strategy<Value = f64> {
    prop::sample::select(vec![0.0, -0.0, 0.5, 100.0])
}

fn fault() -> impl Strategy<Value = PolicySpec> {
    let status = prop_oneof![any::<u16>().prop_map(FaultStatus::Http), any::<u8>().prop_map(FaultStatus::Grpc)];
    let delay = (any::<u64>(), number()).prop_map(|(delay_ms, percent)| FaultDelay { delay_ms, percent });
    let abort = (status, number()).prop_map(|(status, percent)| FaultAbort { status, percent });
    let bandwidth =
        (any::<u64>(), number()).prop_map(|(bytes_per_second, percent)| FaultBandwidth { bytes_per_second, percent });
    (option::of(delay), option::of(abort), option::of(bandwidth))
        .prop_map(|(delay, abort, bandwidth)| PolicySpec::Fault(Fault { delay, abort, bandwidth }))
}

fn respond() -> impl Strategy<Value = PolicySpec> {
    let body = prop_oneof![
        Just(RespondBody::Empty),
        text().prop_map(RespondBody::Message),
        text().prop_map(RespondBody::Text),
        (option::of(text()), text()).prop_map(|(message, node_key)| RespondBody::Echo { message, node_key }),
    ];
    (any::<u16>(), pairs(), body, option::of(text()))
        .prop_map(|(status, headers, body, trigger)| PolicySpec::Respond(Respond { status, headers, body, trigger }))
}

fn policy() -> impl Strategy<Value = Policy> {
    let spec = prop_oneof![authorization(), rate_limit(), fault(), respond()];
    let plugin = (text(), option::of(text()), value()).prop_map(|(name, instance_name, params)| PluginInstance {
        name,
        instance_name,
        params: params.into(),
    });
    let clients = collection::vec(client_match(), 0..2);
    (origin(), scope(), clients, any::<(u32, i32)>(), option::of(plugin), spec).prop_map(
        |(origin, scope, clients, (precedence, order), plugin, spec)| {
            let wires = vec![Wire::Tcp];
            Policy { origin, scope, clients, precedence, order, wires, plugin, spec }
        },
    )
}

fn telemetry() -> impl Strategy<Value = Telemetry> {
    let format = || prop::sample::select(TraceFormat::ALL.to_vec());
    let inject = || prop_oneof![Just(TraceInjection::Preserve), format().prop_map(TraceInjection::Format)];
    let propagation = (collection::vec(format(), 0..3), texts(), collection::vec(inject(), 0..3), format())
        .prop_map(|(extract, clear, inject, default_format)| Propagation { extract, clear, inject, default_format });
    let percent = || prop_oneof![Just(-0.0), 0.0..=100.0];
    let sampling = (percent(), percent(), percent()).prop_map(|(client_percent, random_percent, overall_percent)| {
        Sampling { client_percent, random_percent, overall_percent }
    });
    let value = prop_oneof![
        text().prop_map(TagValue::Literal),
        (text(), option::of(text())).prop_map(|(name, default)| TagValue::Header { name, default }),
    ];
    let tags = collection::vec((text(), value).prop_map(|(name, value)| SpanTag { name, value }), 0..3);
    let protocol = prop::sample::select(vec![
        SpanProtocol::OtlpHttp,
        SpanProtocol::OtlpGrpc,
        SpanProtocol::Zipkin,
        SpanProtocol::Datadog,
    ]);
    let exporter = (protocol, text(), any::<[bool; 2]>(), any::<u64>(), any::<u32>()).prop_map(
        |(protocol, url, [insecure, gzip], timeout_ms, requests_max)| SpanExporter {
            protocol,
            headers: vec![(url.clone(), "v".into())],
            url,
            insecure,
            gzip,
            timeout_ms,
            queue: SpanQueue { requests_max, ..SpanQueue::default() },
        },
    );
    let scope = any::<[Option<u8>; 3]>().prop_map(|ids| {
        let [listeners, route, backend] = ids.map(|number| number.map(|number| id(number % IDS)));
        TelemetryScope { listeners, route, backend }
    });
    (origin(), scope, any::<u32>(), sampling, propagation, tags, option::of(exporter)).prop_map(
        |(origin, scope, precedence, sampling, propagation, tags, exporter)| Telemetry {
            origin,
            scope,
            precedence,
            sampling,
            propagation,
            resource: tags.iter().map(|tag| (tag.name.clone(), "v".into())).collect(),
            tags,
            exporter,
        },
    )
}

/// A record of any table.
pub(super) fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        certificate().prop_map(|r| Record::Certificate(r.into())).boxed(),
        (origin(), text(), option::of(text()))
            .prop_map(|(origin, certificate, trust_domain)| {
                Record::TrustBundle(TrustBundle { origin, certificate, trust_domain }.into())
            })
            .boxed(),
        identity().prop_map(|r| Record::Identity(r.into())).boxed(),
        (origin(), text())
            .prop_map(|(origin, name)| Record::ListenerGroup(ListenerGroup { origin, name }.into()))
            .boxed(),
        listener().prop_map(|r| Record::Listener(r.into())).boxed(),
        cluster().prop_map(|r| Record::Cluster(r.into())).boxed(),
        endpoint().prop_map(|r| Record::Endpoint(r.into())).boxed(),
        backend().prop_map(|r| Record::Backend(r.into())).boxed(),
        route().prop_map(|r| Record::Route(r.into())).boxed(),
        (origin(), text())
            .prop_map(|(origin, name)| Record::PrincipalGroup(PrincipalGroup { origin, name }.into()))
            .boxed(),
        principal().prop_map(|r| Record::Principal(r.into())).boxed(),
        credential().prop_map(|r| Record::Credential(r.into())).boxed(),
        filter_set().prop_map(|r| Record::FilterSet(r.into())),
        policy().prop_map(|r| Record::Policy(r.into())),
        telemetry().prop_map(|r| Record::Telemetry(r.into())),
    ]
}

/// A generation with records of several tables. References may dangle.
pub(super) fn ir() -> impl Strategy<Value = Ir> {
    collection::vec((any_id(), record()), 0..24).prop_map(|records| {
        let mut ir = Ir::default();
        records.into_iter().for_each(|(id, record)| ir.insert(id, record));
        ir
    })
}
