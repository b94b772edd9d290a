//! Verifying a change finds the same problems as verifying the whole generation.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::samples::{id, named_route};
use crate::policy::{AccessRule, Authorization, ClientMatch};
use crate::*;

fn origin(n: u8) -> Origin {
    Origin::new("test", "thing", id(n))
}

/// A record of each table with references, which refer to `a`.
fn records(n: u8, a: u8) -> Vec<Record> {
    let (origin, to) = (origin(n), id(a));
    let route = Route {
        rank: Rank { weight: 0, tie: if a == 3 { 3 } else { id(n).as_u128() } },
        action: match n {
            0 => Action::Split([id(9), to].map(|backend| WeightedBackend { backend, weight: 0 }).into()),
            _ => (a < 4).then_some(to).into(),
        },
        policies: (a == 4).then(|| {
            let mirrors = vec![policy::Mirror { backend: to, ..policy::Mirror::default() }];
            Box::new(policy::RoutePolicies { mirrors, ..Default::default() })
        }),
        ..named_route(n)
    };
    let tls = UpstreamTls { client_certificate: (n > 2).then_some(to), trust_bundles: vec![to], ..Default::default() };
    let backend = Backend {
        origin: origin.clone(),
        tls: (a < 3).then_some(tls),
        target: Target::Cluster { id: to, port: 1, subset: Labels::default() },
        ..Default::default()
    };
    let attributes = Arc::new(Attributes::new("key", json!({}), "key"));
    let scope = Scope {
        listeners: (a == 5).then_some(to),
        backend: (a == 1).then_some(to),
        principal: (a != 1).then_some(to),
        group: (n == 2).then_some(to),
        route: None,
    };
    vec![
        Record::Certificate(Certificate { origin: origin.clone(), ..Default::default() }.into()),
        Record::TrustBundle(TrustBundle { origin: origin.clone(), ..Default::default() }.into()),
        Record::Cluster(
            Cluster { origin: origin.clone(), client_certificate: (a > 3).then_some(to), ..Default::default() }.into(),
        ),
        Record::Endpoint(Endpoint { origin: origin.clone(), cluster: to, ..Default::default() }.into()),
        Record::Backend(backend.into()),
        Record::Route(route.into()),
        Record::PrincipalGroup(PrincipalGroup { origin: origin.clone(), name: "g".into() }.into()),
        Record::Principal(Principal { origin: origin.clone(), groups: vec![to], ..Default::default() }.into()),
        Record::Credential(Credential::new(origin.clone(), attributes, to, "k".into()).into()),
        Record::FilterSet(FilterSet { origin: origin.clone(), scope, ..Default::default() }.into()),
        Record::ListenerGroup(ListenerGroup { origin: origin.clone(), name: "l".into() }.into()),
        Record::Telemetry(
            Telemetry {
                origin: origin.clone(),
                scope: TelemetryScope { listeners: scope.listeners, route: None, backend: (a != 1).then_some(to) },
                ..Default::default()
            }
            .into(),
        ),
        Record::Policy(policy(origin, scope, (a > 2).then_some(to)).into()),
    ]
}

fn policy(origin: Origin, scope: Scope, allowed: Option<Id>) -> Policy {
    let clients = allowed.into_iter().map(ClientMatch::Principal).collect();
    let rule = AccessRule { clients, ..AccessRule::default() };
    let spec = PolicySpec::Authorization(Authorization { rules: vec![rule], ..Authorization::default() });
    Policy { origin, scope, spec, ..Policy::default() }
}

fn remove(ir: &mut Ir, kind: RecordKind, id: &Id) {
    let table = json!({ (id.to_string()): null });
    let (delta, rejected) = IrDelta::from_value(json!({ (kind.as_str()): table }));
    assert!(rejected.is_empty() && delta.len() == 1, "{kind:?}: {rejected:?}");
    ir.apply(delta);
}

fn edit(ir: &mut Ir, (table, n, a, put): (usize, u8, u8, bool)) {
    let record = records(n, a).swap_remove(table);
    if put {
        ir.insert(id(n), record);
    } else {
        remove(ir, record.kind(), &id(n));
    }
}

fn texts(found: impl IntoIterator<Item = Diagnostic>) -> Vec<String> {
    let mut texts: Vec<String> = found.into_iter().map(|d| format!("{d} {}", d.path)).collect();
    texts.sort();
    texts
}

proptest! {
    #[test]
    fn what_changes_is_enough(
        edits in proptest::collection::vec(
            proptest::collection::vec((0_usize..11, 0_u8..6, 0_u8..6, proptest::bool::weighted(0.7)), 1..4), 1..40),
    ) {
        let mut verified = Verified::new(Arc::default()).unwrap();
        for edits in edits {
            let mut next = (**verified.ir()).clone();
            edits.into_iter().for_each(|e| edit(&mut next, e));
            let whole = texts(next.verify());
            let delta = verified.ir().diff(&next);
            match verified.advance(Arc::new(next), &delta) {
                Ok(newer) => {
                    prop_assert_eq!(whole, Vec::<String>::new());
                    verified = newer;
                }
                Err(found) => prop_assert_eq!(texts(found.into_vec()), whole),
            }
        }
    }
}

#[test]
fn every_reference_is_verified() {
    // No record refers to an existing one.
    for record in records(4, 2).into_iter().chain(records(2, 1)).chain(records(5, 5)) {
        let mut ir = Ir::default();
        let kind = record.kind();
        ir.insert(id(0), record.clone());
        let found = texts(ir.verify());
        let expected = references(&record);
        assert_eq!(found.len(), expected.len(), "{kind:?}: {found:?}");
        assert!(expected.iter().all(|field| found.iter().any(|text| text.ends_with(field))), "{kind:?}: {found:?}");
    }
    let mut ir = Ir::default();
    ir.insert(id(0), Record::Route(Route { action: Action::Forward(id(9)), ..named_route(0) }.into()));
    let expected = format!("thing {}", id(0)).replace("thing", "routes");
    assert_eq!(
        texts(ir.verify()),
        [format!("{expected}: action.backend: references unknown id {} of backends action.backend", id(9))]
    );
}

fn references(record: &Record) -> Vec<&'static str> {
    let mut fields = Vec::new();
    let mut visit = |field, _, _| fields.push(field);
    record.references(&mut visit);
    fields
}
