use std::sync::Arc;

use cardinal_ir::policy::{
    ClientMatch, HeaderCondition, IdentityMatch, PathCondition, RequestCondition, ValueCondition,
};
use cardinal_ir::{Attributes, Credential, Id, Ir, Origin, PolicySpec, Principal};
use cardinal_plugins_auth::acl;
use cardinal_plugins_security::ip_restriction;
use cardinal_sdk::testing::Bench;
use cardinal_sdk::{ReplyBody, TlsInfo};
use serde_json::{Value, json};

use super::*;
use crate::policy::tests::{bench, bench_of, bench_with, built};

// The behaviour of Kong's ip-restriction.

/// Checks a request over HTTP and a stream connection.
async fn check_address(config: Value, ip: &str, expect: Result<(), (u16, &str)>) {
    let mut bench = bench(&ip_restriction::PLUGIN, config.clone());
    bench.exchange.client.ip = ip.parse().unwrap();
    let reply = bench.request().await;
    let said = match reply.as_ref().map(|reply| (reply.status, &reply.body)) {
        None => Ok(()),
        Some((status, ReplyBody::Error(text))) => Err((status, &**text)),
        Some(other) => panic!("{other:?}"),
    };
    assert_eq!(said, expect, "{config} {ip}");
    let mut cx = ConnectCx { exchange: &mut bench.exchange, services: &bench.services, slot: 0 };
    let admit = if expect.is_ok() { Admit::Yes } else { Admit::No };
    assert_eq!(bench.filter.on_connect(&mut cx), admit, "{config} {ip}");
}

#[tokio::test]
async fn lists() {
    let refused = |text: &'static str| Err((403, text));
    let deny = || json!({"deny": ["127.0.0.0/8", "2001:db8::/32"]});
    check_address(deny(), "127.0.0.1", refused("IP address not allowed: 127.0.0.1")).await;
    check_address(deny(), "::ffff:127.9.9.9", refused("IP address not allowed: 127.9.9.9")).await;
    check_address(deny(), "128.0.0.0", Ok(())).await;
    check_address(deny(), "2001:db8:ffff::1", refused("IP address not allowed: 2001:db8:ffff::1")).await;
    check_address(deny(), "2001:db9::", Ok(())).await;
    let allow = || json!({"allow": ["10.1.2.3/16", "::1"]});
    check_address(allow(), "10.1.255.255", Ok(())).await;
    check_address(allow(), "::ffff:10.1.0.0", Ok(())).await;
    check_address(allow(), "10.2.0.0", refused("IP address not allowed: 10.2.0.0")).await;
    check_address(allow(), "::1", Ok(())).await;
    check_address(allow(), "::2", refused("IP address not allowed: ::2")).await;
    let both = || json!({"allow": ["10.0.0.0/8"], "deny": ["10.0.0.66"]});
    check_address(both(), "10.0.0.65", Ok(())).await;
    check_address(both(), "10.0.0.66", refused("IP address not allowed: 10.0.0.66")).await;
    check_address(json!({"allow": [], "deny": ["10.0.0.66"]}), "10.0.0.65", Ok(())).await;
    check_address(json!({"allow": ["::/0"]}), "10.0.0.65", Ok(())).await;
    check_address(json!({"allow": ["::ffff:10.0.0.0/104"]}), "10.255.0.1", Ok(())).await;
}

#[tokio::test]
async fn status_and_message() {
    let config = json!({"deny": ["0.0.0.0/0"], "status": 401, "message": "Go away"});
    check_address(config, "192.0.2.1", Err((401, "Go away"))).await;
}

// The behaviour of Kong's acl.

/// An [`Ir`] to which consumers are added.
#[derive(Default)]
struct World(Ir);

/// The id of the consumer with this number.
fn consumer_id(number: u128) -> Id {
    Id::from_u128(0xc0 << 64 | number)
}

impl World {
    /// Adds a consumer named `name` with custom id `custom-<name>`.
    fn consumer(mut self, number: u128, name: &str) -> Self {
        let record = Principal {
            origin: Origin::default(),
            name: Some(name.into()),
            custom_id: Some(format!("custom-{name}").into()),
            groups: Vec::new(),
            tenant: None,
            document: json!({"username": name}).to_string().into(),
        };
        self.0.principals.insert(consumer_id(number), record);
        self
    }

    /// Adds a credential of the consumer; its id is counted up from 1.
    fn credential(mut self, kind: &str, consumer: u128, lookup: &str, data: Value) -> Self {
        let id = Id::from_u128(self.0.credentials.len() as u128 + 1);
        let attributes = Arc::new(Attributes::new(kind, data, ""));
        let record = Credential::new(Origin::new("test", kind, id), attributes, consumer_id(consumer), lookup.into());
        self.0.credentials.insert(id, record);
        self
    }
}

/// Status, message and challenge of a reply; `pass` when there is none.
fn said(reply: Option<&Reply>) -> String {
    let Some(reply) = reply else { return "pass".to_owned() };
    let text = match &reply.body {
        ReplyBody::Empty | ReplyBody::Omitted => String::new(),
        ReplyBody::Error(text) => format!("error {text}"),
        ReplyBody::Message(text) => format!("message {text}"),
        ReplyBody::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    };
    match reply.headers.get_str("WWW-Authenticate") {
        Some(challenge) => format!("{} {text} [{challenge}]", reply.status),
        None => format!("{} {text}", reply.status),
    }
}

/// An upstream request header; empty if absent.
fn sent<'b>(bench: &'b Bench, name: &str) -> &'b str {
    bench.request.headers.get_str(name).unwrap_or_default()
}

const FORBIDDEN: &str = "403 error You cannot consume this service";
const UNAUTHORIZED: &str = "401 error Unauthorized";

/// The authentication of the request.
#[derive(Clone, Copy)]
enum Who {
    Nobody,
    Consumer(u128),
    Anonymous(u128),
    /// A credential without a consumer.
    Credential,
}

/// Consumer 1 is in `admin` and `dev`, 2 in `dev`, 3 in none.
fn members(config: Value) -> Bench {
    let group = |world: World, consumer, name: &str| world.credential("acl", consumer, name, json!({"group": name}));
    let mut world = World::default().consumer(1, "a").consumer(2, "b").consumer(3, "c");
    world = group(world, 1, "admin");
    world = group(world, 2, "dev");
    world = group(world, 1, "dev");
    bench_with(&acl::PLUGIN, config, &world.0)
}

async fn check_groups(config: Value, who: Who, groups: Option<&[&str]>, expect: &str) {
    let mut bench = members(config.clone());
    let credential = |principal| CredentialRef::foreign("x", principal);
    let principal = |bench: &Bench, n| bench.directory.principal(&consumer_id(n)).map(Arc::clone);
    let identity = &mut bench.exchange.identity;
    identity.authenticated_groups = groups.map(|g| g.iter().map(|g| (*g).into()).collect());
    match who {
        Who::Nobody => {}
        Who::Credential => identity.credential = Some(credential(None)),
        Who::Anonymous(n) => bench.exchange.identity.principal = principal(&bench, n),
        Who::Consumer(n) => {
            identity.credential = Some(credential(None));
            bench.exchange.identity.principal = principal(&bench, n);
        }
    }
    bench.header("x-consumer-groups", "forged").header("X-Authenticated-Groups", "forged");
    let said = match bench.request().await {
        Some(reply) => said(Some(&reply)),
        None => format!("[{}] [{}]", sent(&bench, "x-consumer-groups"), sent(&bench, "x-authenticated-groups")),
    };
    assert_eq!(said, expect, "{config} {groups:?}");
}

#[tokio::test]
async fn allow_lists() {
    let config = || json!({"allow": ["admin", "ops"]});
    check_groups(config(), Who::Nobody, None, UNAUTHORIZED).await;
    check_groups(config(), Who::Credential, None, FORBIDDEN).await;
    check_groups(config(), Who::Consumer(1), None, "[admin, dev] []").await;
    check_groups(config(), Who::Consumer(2), None, FORBIDDEN).await;
    check_groups(config(), Who::Consumer(3), None, FORBIDDEN).await;
    check_groups(config(), Who::Anonymous(1), None, "[admin, dev] []").await;
    check_groups(config(), Who::Anonymous(2), None, FORBIDDEN).await;
    check_groups(config(), Who::Anonymous(3), None, UNAUTHORIZED).await;
    check_groups(json!({"allow": ["dev"]}), Who::Consumer(2), None, "[dev] []").await;
    check_groups(json!({"allow": ["dev"], "hide_groups_header": true}), Who::Consumer(2), None, "[] []").await;
}

#[tokio::test]
async fn deny_lists() {
    let config = || json!({"deny": ["admin"]});
    check_groups(config(), Who::Nobody, None, UNAUTHORIZED).await;
    check_groups(config(), Who::Consumer(1), None, FORBIDDEN).await;
    check_groups(config(), Who::Consumer(2), None, "[dev] []").await;
    check_groups(config(), Who::Consumer(3), None, "[] []").await;
    check_groups(config(), Who::Anonymous(3), None, "[] []").await;
}

#[tokio::test]
async fn groups_that_authentication_vouches_for() {
    let allow = || json!({"allow": ["oidc"]});
    let always = || json!({"allow": ["oidc"], "always_use_authenticated_groups": true});
    check_groups(allow(), Who::Nobody, Some(&["oidc", "x"]), "[] [oidc, x]").await;
    check_groups(allow(), Who::Nobody, Some(&["x"]), FORBIDDEN).await;
    check_groups(allow(), Who::Credential, Some(&["oidc"]), "[] [oidc]").await;
    check_groups(allow(), Who::Anonymous(1), Some(&["oidc"]), "[] [oidc]").await;
    check_groups(allow(), Who::Consumer(1), Some(&["oidc"]), FORBIDDEN).await;
    check_groups(always(), Who::Consumer(1), Some(&["oidc"]), "[] [oidc]").await;
    check_groups(always(), Who::Consumer(1), Some(&[]), FORBIDDEN).await;
    check_groups(
        json!({"allow": ["dev"], "always_use_authenticated_groups": true}),
        Who::Consumer(2),
        None,
        "[dev] []",
    )
    .await;
    check_groups(json!({"deny": ["oidc"]}), Who::Nobody, Some(&["oidc"]), FORBIDDEN).await;
    check_groups(json!({"deny": ["oidc"]}), Who::Nobody, Some(&[]), "[] []").await;
}

#[tokio::test]
async fn consumer_groups_count_where_they_are_asked_for() {
    let group = cardinal_ir::Id::from_u128(7);
    let mut world = World::default().consumer(1, "a");
    let record = world.0.principals.get(&consumer_id(1)).map(|record| (**record).clone()).unwrap();
    let record = cardinal_ir::Principal { groups: vec![group], ..record };
    world.0.principals.insert(consumer_id(1), record);
    let banks = cardinal_ir::PrincipalGroup { origin: cardinal_ir::Origin::default(), name: "Partner Banks".into() };
    world.0.groups.insert(group, banks);
    for (list, include, expected) in [
        ("allow", json!(true), "[Partner Banks] []"),
        ("allow", json!(false), FORBIDDEN),
        ("allow", Value::Null, FORBIDDEN),
        ("deny", json!(true), FORBIDDEN),
        ("deny", json!(false), "[] []"),
    ] {
        let config = json!({list: ["Partner Banks"], "include_consumer_groups": include});
        let mut bench = bench_with(&acl::PLUGIN, config.clone(), &world.0);
        bench.exchange.identity.credential = Some(CredentialRef::foreign("x", None));
        bench.exchange.identity.principal = bench.directory.principal(&consumer_id(1)).map(Arc::clone);
        let said = match bench.request().await {
            Some(reply) => said(Some(&reply)),
            None => format!("[{}] [{}]", sent(&bench, "x-consumer-groups"), sent(&bench, "x-authenticated-groups")),
        };
        assert_eq!(said, expected, "{config}");
    }
}

// Rules.

fn rule(action: AccessAction, clients: Vec<ClientMatch>) -> AccessRule {
    AccessRule { action, clients, ..AccessRule::default() }
}

fn identity(text: &str) -> ClientMatch {
    ClientMatch::Identity(match text.split_once(' ') {
        Some(("prefix", text)) => IdentityMatch::Prefix(text.into()),
        Some(("domain", text)) => IdentityMatch::TrustDomain(text.into()),
        _ => IdentityMatch::Exact(text.into()),
    })
}

fn with_rules(rules: Vec<AccessRule>) -> Bench {
    bench_of(PolicySpec::Authorization(Authorization { rules, ..Authorization::default() }))
}

fn counts(bench: &Bench) -> [u64; 3] {
    let counts = bench.services.shared.get_or_insert(PolicyCounts::KEY, PolicyCounts::default);
    [Event::Allowed, Event::Denied, Event::ShadowDenied].map(|event| counts.get(event))
}

fn connect(bench: &mut Bench) -> Admit {
    let mut cx = ConnectCx { exchange: &mut bench.exchange, services: &bench.services, slot: 0 };
    bench.filter.on_connect(&mut cx)
}

#[tokio::test]
async fn identities_are_compared_and_absence_denies() {
    let check = async |wanted: &str, proved: Option<&str>, expect: bool| {
        for action in [AccessAction::Allow, AccessAction::Deny] {
            let mut bench = bench_of(PolicySpec::Authorization(Authorization {
                rules: vec![rule(action, vec![identity(wanted)])],
                allow_by_default: action == AccessAction::Deny,
                ..Authorization::default()
            }));
            bench.exchange.client.peer_identity = proved.map(Into::into);
            let allowed = bench.request().await.is_none();
            assert_eq!(allowed, expect == (action == AccessAction::Allow), "{wanted} {proved:?}");
            assert_eq!(connect(&mut bench) == Admit::Yes, allowed);
        }
    };
    let web = Some("spiffe://example.org/ns/shop/sa/web");
    check("spiffe://example.org/ns/shop/sa/web", web, true).await;
    check("spiffe://example.org/ns/shop/sa/we", web, false).await;
    check("prefix spiffe://example.org/ns/shop/", web, true).await;
    check("prefix spiffe://example.org/ns/sho/", web, false).await;
    check("prefix ", web, false).await;
    check("domain example.org", web, true).await;
    check("domain example", web, false).await;
    check("domain example.org", Some("spiffe://example.org.evil/ns"), false).await;
    check("domain example.org", Some("https://example.org/"), false).await;
    for wanted in ["spiffe://example.org/ns/shop/sa/web", "prefix s", "prefix ", "domain example.org", "domain ", ""] {
        check(wanted, None, false).await;
        check(wanted, Some(""), false).await;
    }
    // The client has no known properties, and the default is to deny.
    let mut bench = bench_of(PolicySpec::default());
    assert_eq!(bench.request().await.map(|reply| reply.status), Some(403));
    assert_eq!(connect(&mut bench), Admit::No);
}

/// Kuma's MeshTrafficPermission: a match of `deny` denies; otherwise a match of `allow` or `allowWithShadowDeny`
/// allows, and the latter is counted; otherwise, the request is denied.
#[tokio::test]
async fn denials_come_before_shadow_denials_and_these_before_permissions() {
    let clients = |text: &str| vec![identity(text)];
    let rules = || {
        vec![
            rule(AccessAction::Deny, clients("prefix spiffe://d/bad/")),
            rule(AccessAction::ShadowDeny, clients("prefix spiffe://d/ns/old/")),
            rule(AccessAction::Allow, clients("prefix spiffe://d/ns/old/")),
            rule(AccessAction::Allow, clients("prefix spiffe://d/ns/")),
            rule(AccessAction::Allow, clients("domain d")),
        ]
    };
    for (proved, allowed, expect) in [
        ("spiffe://d/bad/x", false, [0, 1, 0]),
        ("spiffe://d/ns/old/x", true, [1, 0, 1]),
        ("spiffe://d/ns/new", true, [1, 0, 0]),
        ("spiffe://e/ns/new", false, [0, 1, 0]),
    ] {
        let mut bench = with_rules(rules());
        bench.exchange.client.peer_identity = Some(proved.into());
        assert_eq!((bench.request().await.is_none(), counts(&bench)), (allowed, expect), "{proved}");
        assert_eq!(connect(&mut bench) == Admit::Yes, allowed, "{proved}");
    }
    // A shadow denial does not allow a request by itself.
    let mut bench = with_rules(vec![rule(AccessAction::ShadowDeny, clients("domain d"))]);
    bench.exchange.client.peer_identity = Some("spiffe://d/x".into());
    assert_eq!((bench.request().await.is_some(), counts(&bench)), (true, [0, 1, 1]));
}

#[tokio::test]
async fn shadow_mode_counts_and_refuses_nothing() {
    let mut bench = bench_of(PolicySpec::Authorization(Authorization { shadow: true, ..Authorization::default() }));
    assert!(bench.request().await.is_none());
    assert_eq!((connect(&mut bench), counts(&bench)), (Admit::Yes, [2, 0, 2]));
}

#[tokio::test]
async fn requests_are_compared() {
    let condition =
        |methods: &[&str], path: Option<PathCondition>, header: Option<(&str, ValueCondition)>| RequestCondition {
            methods: methods.iter().map(|method| (*method).into()).collect(),
            paths: path.into_iter().collect(),
            headers: header.into_iter().map(|(name, value)| HeaderCondition { name: name.into(), value }).collect(),
        };
    let exact = |text: &str| Some(PathCondition::Exact(text.into()));
    let prefix = |text: &str| Some(PathCondition::Prefix(text.into()));
    let header = |value: ValueCondition| Some(("X-Team", value));
    for (condition, expect) in [
        (condition(&[], None, None), true),
        (condition(&["POST", "GET"], None, None), true),
        (condition(&["get"], None, None), false),
        (condition(&[], exact("/a/b"), None), true),
        (condition(&[], exact("/a"), None), false),
        (condition(&[], prefix("/a"), None), true),
        (condition(&[], prefix("/a/"), None), true),
        (condition(&[], prefix("/a/b"), None), true),
        (condition(&[], prefix("/a/bc"), None), false),
        (condition(&[], prefix("/a/b/c"), None), false),
        (condition(&[], prefix("/"), None), true),
        (condition(&[], prefix("/aa"), None), false),
        (condition(&[], None, header(ValueCondition::Present)), true),
        (condition(&[], None, header(ValueCondition::Absent)), false),
        (condition(&[], None, header(ValueCondition::Exact("two".into()))), true),
        (condition(&[], None, header(ValueCondition::Exact("tw".into()))), false),
        (condition(&[], None, header(ValueCondition::Prefix("tw".into()))), true),
        (condition(&["GET"], prefix("/a"), header(ValueCondition::Exact("three".into()))), false),
    ] {
        let said = format!("{condition:?}");
        let allow = AccessRule { requests: vec![condition], ..rule(AccessAction::Allow, Vec::new()) };
        let mut bench = with_rules(vec![allow]);
        bench.get("/a/b?c").header("x-team", "one").header("X_Team", "two");
        assert_eq!(bench.request().await.is_none(), expect, "{said}");
    }
}

#[tokio::test]
async fn connections_are_never_allowed_by_conditions_on_requests() {
    let requests = || vec![RequestCondition { methods: vec!["GET".into()], ..RequestCondition::default() }];
    let of = |action| AccessRule { requests: requests(), ..rule(action, Vec::new()) };
    let mut allowing = with_rules(vec![of(AccessAction::Allow)]);
    assert_eq!((connect(&mut allowing), allowing.request().await.is_none()), (Admit::No, true));
    let mut denying = with_rules(vec![of(AccessAction::Deny), rule(AccessAction::Allow, Vec::new())]);
    denying.request.method = cardinal_http::Method::Post;
    assert_eq!((connect(&mut denying), denying.request().await.is_none()), (Admit::No, true));
}

#[tokio::test]
async fn server_names_are_compared() {
    let allow = AccessRule { server_names: vec!["Shop.Test".into()], ..rule(AccessAction::Allow, Vec::new()) };
    for (sni, expect) in [(None, false), (Some("shop.test"), true), (Some("other.test"), false)] {
        let mut bench = with_rules(vec![allow.clone()]);
        let tls = sni.map(|sni| TlsInfo { sni: Some(sni.into()), ..TlsInfo::default() });
        bench.exchange.client.tls = tls.map(Arc::new);
        assert_eq!((bench.request().await.is_none(), connect(&mut bench) == Admit::Yes), (expect, expect), "{sni:?}");
    }
}

#[tokio::test]
async fn refusals_need_a_final_status() {
    let bench = with_rules(Vec::new());
    let refusal = || Refusal { status: 199, ..Refusal::default() };
    for (spec, field) in [
        (Authorization { refusal: refusal(), ..Authorization::default() }, "spec.refusal.status"),
        (
            Authorization { unidentified_refusal: Some(refusal()), ..Authorization::default() },
            "spec.unidentified_refusal.status",
        ),
    ] {
        let error = built(&PolicySpec::Authorization(spec), 0, &bench.services).err();
        assert_eq!(error.map(|error| error.path).as_deref(), Some(field));
    }
}
