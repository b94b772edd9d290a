//! Properties of the records of all tables.

mod samples;
mod verify;

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{Digest, Ir, IrDelta, Record, RecordKind, Rejected, binary};
use samples::{ir, record};

/// A copy of a generation that shares no records with it.
fn unshared(ir: &Ir) -> Ir {
    serde_json::from_str(&serde_json::to_string(ir).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn records_survive_text_values_and_the_binary_form(ir in ir()) {
        let text = serde_json::to_string(&ir).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Ir>(&text).unwrap(), &ir);
        let value = serde_json::to_value(&ir).unwrap();
        prop_assert_eq!(&serde_json::from_value::<Ir>(value.clone()).unwrap(), &ir);
        prop_assert_eq!(&Ir::from_value(value), &(ir.clone(), Vec::new()));
        let bytes = binary::encode(&ir).unwrap();
        prop_assert_eq!(&binary::decode::<Ir>(&bytes).unwrap(), &ir);
        let mut written = Vec::new();
        binary::write(&ir, &mut written).unwrap();
        prop_assert_eq!(written, bytes);
    }

    #[test]
    fn records_survive_one_by_one(ir in ir()) {
        let mut read = Ir::default();
        ir.for_each_encoded(&mut |kind, id, bytes| {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            read.insert_encoded(kind, id, bytes).unwrap();
            Ok::<_, Box<dyn std::error::Error>>(())
        }).unwrap();
        prop_assert_eq!(&read, &ir);
    }

    #[test]
    fn a_record_is_read_from_the_form_that_its_hash_is_of(record in record()) {
        let bytes = record.encode().unwrap();
        prop_assert_eq!(Digest::of_encoded(&bytes), record.digest());
        prop_assert_eq!(Digest::from_bytes(*record.digest().as_bytes()), record.digest());
        let kind = RecordKind::of_type(record.kind().type_name()).unwrap();
        prop_assert_eq!(Record::decode(kind, &bytes).unwrap(), record);
    }

    #[test]
    fn no_reference_dangles_after_removing_what_does(ir in ir()) {
        let mut served = ir.clone();
        let removed = served.remove_dangling();
        prop_assert_eq!(removed.len() + served.len(), ir.len());
        prop_assert!(served.remove_dangling().is_empty());
        let dangles = |found: &crate::Diagnostic| found.message.starts_with("references unknown id");
        prop_assert!(!served.verify().iter().any(dangles));
        prop_assert_eq!(removed.is_empty(), !ir.verify().iter().any(dangles));
    }

    #[test]
    fn applying_a_difference_gives_the_newer_generation(a in ir(), b in ir()) {
        let delta = a.diff(&b);
        let mut applied = a.clone();
        prop_assert_eq!(&applied.apply(delta.clone()), &delta);
        prop_assert_eq!(&applied, &b);
        prop_assert_eq!(a.diff(&applied), delta.clone());
        // The same changes from another process, without the previous records.
        for received in [
            serde_json::from_str::<IrDelta>(&serde_json::to_string(&delta).unwrap()).unwrap(),
            binary::decode(&binary::encode(&delta).unwrap()).unwrap(),
            IrDelta::from_value(serde_json::to_value(&delta).unwrap()).0,
        ] {
            let mut applied = a.clone();
            prop_assert_eq!(&applied.apply(received), &delta);
            prop_assert_eq!(&applied, &b);
        }
        prop_assert!(b.diff(&unshared(&b)).is_empty());
        let mut again = b.clone();
        prop_assert!(again.apply(delta).is_empty(), "nothing is left to do");
    }

    #[test]
    fn records_that_do_not_change_stay_shared(a in ir(), b in ir()) {
        let mut applied = a.clone();
        let delta = applied.apply(a.diff(&unshared(&b)));
        for kind in RecordKind::ALL {
            let mut changed = std::collections::HashSet::new();
            delta.for_each_id(|of, id| {
                if of == *kind {
                    changed.insert(id);
                }
            });
            for n in 0..samples::IDS {
                let id = samples::id(n);
                let (old, new) = (a.get(*kind, &id), applied.get(*kind, &id));
                prop_assert_eq!(changed.contains(&id), old != new);
                if let (false, Some(Record::Route(old)), Some(Record::Route(new))) = (changed.contains(&id), old, new) {
                    prop_assert!(std::sync::Arc::ptr_eq(&old, &new));
                }
            }
        }
    }

    #[test]
    fn hashes_are_equal_exactly_when_records_are(a in record(), b in record(), x in ir(), y in ir()) {
        prop_assert_eq!(a.kind() == b.kind() && a.digest() == b.digest(), a == b);
        prop_assert_eq!(x.digest() == y.digest(), x == y);
        prop_assert_eq!(x.digest(), unshared(&x).digest());
        prop_assert_eq!(x.digest() == Digest::EMPTY, x.is_empty());
    }

    #[test]
    fn the_last_change_of_a_record_counts(a in ir(), routes in proptest::collection::vec((0..samples::IDS, any::<bool>()), 0..8)) {
        let changes = routes.iter().map(|(n, put)| (samples::id(*n), put.then(|| samples::named_route(*n))));
        let delta = IrDelta { routes: changes.collect(), ..IrDelta::default() };
        let mut applied = a.clone();
        applied.apply(delta);
        for n in 0..samples::IDS {
            let last = routes.iter().rev().find(|(other, _)| *other == n);
            let now = applied.routes.get(&samples::id(n));
            match last {
                None => prop_assert_eq!(now, a.routes.get(&samples::id(n))),
                Some((_, put)) => prop_assert_eq!(now.map(|r| (**r).clone()), put.then(|| samples::named_route(n))),
            }
        }
    }
}

#[test]
fn the_order_of_keys_in_free_form_values_does_not_count() {
    let set = |text: &str| crate::FilterSet {
        filters: vec![crate::Filter { params: Arc::new(serde_json::from_str(text).unwrap()), ..Default::default() }],
        ..Default::default()
    };
    let (a, b) =
        (set(r#"{"a":{"x":1,"y":[{"p":0.0,"q":2}]},"b":2}"#), set(r#"{"b":2,"a":{"y":[{"q":2,"p":-0.0}],"x":1}}"#));
    assert_eq!(a, b);
    assert_eq!(Record::FilterSet(a.into()).digest(), Record::FilterSet(b.into()).digest());
}

#[test]
fn the_tracing_of_the_highest_precedence_applies() {
    use crate::{Telemetry, TelemetryScope, resolve};
    let mut ir = Ir::default();
    let scopes =
        [(None, None, 1), (Some(1), None, 3), (None, Some(2), 2), (Some(1), Some(2), 4), (Some(3), Some(2), 0)];
    for (n, (route, backend, precedence)) in (0..).zip(scopes) {
        let scope =
            TelemetryScope { listeners: None, route: route.map(samples::id), backend: backend.map(samples::id) };
        let telemetry = Telemetry { scope, precedence, ..Telemetry::default() };
        ir.insert(samples::id(n), Record::Telemetry(telemetry.into()));
    }
    // Of two equal records, the one with the lower id applies, which is the higher number here.
    let same = Telemetry { precedence: 1, ..Telemetry::default() };
    ir.insert(samples::id(5), Record::Telemetry(same.into()));
    let find = |route: Option<u8>, backend: Option<u8>| {
        let found = resolve::telemetry(&ir, None, route.map(samples::id), backend.map(samples::id));
        found.and_then(|(id, _)| (0..samples::IDS).find(|n| samples::id(*n) == id))
    };
    let cases =
        [(None, None, 5), (Some(0), Some(0), 5), (Some(1), Some(0), 1), (Some(0), Some(2), 2), (Some(1), Some(2), 3)];
    for (route, backend, expect) in cases {
        assert_eq!(find(route, backend), Some(expect), "{route:?} {backend:?}");
    }
    assert_eq!(find(Some(3), Some(2)), Some(2), "its own has the lowest precedence");
    ir.telemetry = Default::default();
    assert_eq!(resolve::telemetry(&ir, None, None, None), None);
}

#[test]
fn the_place_in_a_file_is_not_a_part_of_a_record() {
    let text = serde_json::to_string(&crate::Route::default()).unwrap();
    assert!(!text.contains("line") && !text.contains("file"), "{text}");
}

#[test]
fn a_record_of_a_newer_version_is_read_as_far_as_possible() {
    let (a, b, c) = (samples::id(1), samples::id(2), samples::id(3));
    let mut ir = Ir::default();
    ir.insert(a, Record::Route(samples::named_route(1).into()));
    let mut value = serde_json::to_value(&ir).unwrap();
    let route = value["routes"][a.to_string()].clone();
    // Unknown fields and tables are ignored, missing fields have their defaults.
    let mut other = route.clone();
    other["mood"] = json!("sunny");
    other.as_object_mut().unwrap().remove("traffic");
    value["routes"][b.to_string()] = other;
    value["planets"] = json!({"x": {}});
    // An unknown variant only rejects its record, and so does an invalid id.
    let mut strange = route.clone();
    strange["traffic"] = json!("smoke-signals");
    value["routes"][c.to_string()] = strange.clone();
    value["routes"]["x"] = route;
    value["clusters"] = json!([]);
    let (read, rejected) = Ir::from_value(value.clone());
    assert_eq!(read.routes.len(), 2);
    assert_eq!(read.routes.get(&a), read.routes.get(&b));
    assert_eq!(rejected_ids(&rejected), [("clusters", ""), ("routes", c.to_string().as_str()), ("routes", "x")]);
    assert!(rejected[1].reason.contains("smoke-signals"), "{rejected:?}");

    let delta = json!({"routes": {(a.to_string()): null, (c.to_string()): strange}});
    let (delta, rejected) = IrDelta::from_value(delta);
    assert_eq!(rejected_ids(&rejected), [("routes", c.to_string().as_str())]);
    let mut read = read;
    read.apply(delta);
    assert_eq!(read.routes.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [b]);
    for other in [Value::Null, json!([]), json!({"routes": null})] {
        assert!(Ir::from_value(other).0.is_empty());
    }
}

fn rejected_ids(rejected: &[Rejected]) -> Vec<(&str, &str)> {
    rejected.iter().map(|r| (r.kind.as_str(), r.id.as_str())).collect()
}
