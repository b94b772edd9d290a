//! The selection of records, and sampling.

use std::sync::Arc;

use cardinal_ir::{Id, Ir, Origin, Sampling, Secrets, SpanExporter, Telemetry, TelemetryScope, resolve};
use proptest::prelude::*;

use super::{SAMPLING_BASE, TelemetryPlan, TelemetryPlans};

fn id(number: u8) -> Id {
    Id::from_u128(u128::from(number))
}

fn record(route: Option<u8>, backend: Option<u8>, precedence: u32) -> Telemetry {
    let scope = TelemetryScope { listeners: None, route: route.map(id), backend: backend.map(id) };
    Telemetry { scope, precedence, ..Telemetry::default() }
}

fn services() -> cardinal_sdk::Services {
    crate::offline::offline_services(&cardinal_ir::NodeSettings::default())
}

fn sampled(sampling: Sampling, asked: Option<bool>, random: u64) -> bool {
    let record = Telemetry { sampling, ..Telemetry::default() };
    let plan = TelemetryPlan::new(id(1), Arc::new(record), &Secrets::default(), &services());
    plan.is_sampled(asked, || random)
}

type Edit = (u8, Option<(Option<u8>, Option<u8>, u32)>);

fn edits() -> impl Strategy<Value = Vec<Vec<Edit>>> {
    let id = || proptest::option::of(0_u8..3);
    let edit = (0_u8..8, proptest::option::weighted(0.8, (id(), id(), 0_u32..4)));
    proptest::collection::vec(proptest::collection::vec(edit, 1..4), 1..20)
}

proptest! {
    #[test]
    fn what_applies_is_what_is_resolved(edits in edits()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let (services, mut ir) = (services(), Ir::default());
        let mut plans: Option<Arc<TelemetryPlans>> = None;
        for edits in edits {
            for (number, put) in edits {
                match put {
                    Some((route, backend, precedence)) => {
                        drop(ir.telemetry.insert(id(number), record(route, backend, precedence)));
                    }
                    None => drop(ir.telemetry.remove(&id(number))),
                }
            }
            let newer = TelemetryPlans::build((&ir, &Secrets::default()), plans.as_ref(), &services);
            for route in [None, Some(0), Some(1), Some(2), Some(9)] {
                for backend in [None, Some(0), Some(1), Some(2), Some(9)] {
                    let (route, backend) = (route.map(id), backend.map(id));
                    let found = newer.as_ref().and_then(|plans| plans.find(None, route, backend)).map(|plan| plan.id);
                    let expect = resolve::telemetry(&ir, None, route, backend).map(|(id, _)| id);
                    prop_assert_eq!(found, expect, "{:?} {:?}", route, backend);
                }
            }
            // Unchanged records keep their plan, and with it their queue.
            for (id, record) in ir.telemetry.iter() {
                let plan = |plans: &Option<Arc<TelemetryPlans>>| plans.as_ref().and_then(|p| p.all.get(id)).cloned();
                if let (Some(old), Some(new)) = (plan(&plans), plan(&newer)) {
                    prop_assert_eq!(Arc::ptr_eq(&old.record, record), Arc::ptr_eq(&old, &new));
                }
            }
            plans = newer;
        }
    }
}

#[tokio::test]
async fn requests_are_sampled_by_what_they_ask_for() {
    let all = Sampling::default();
    assert!(sampled(all, None, u64::MAX) && sampled(all, Some(true), u64::MAX));
    assert!(!sampled(all, Some(false), 0), "the client's decision against it holds");
    let none = Sampling { random_percent: 0.0, ..all };
    assert!(!sampled(none, None, 0) && sampled(none, Some(true), u64::MAX));
    let distrust = Sampling { client_percent: 0.0, ..all };
    assert!(sampled(distrust, None, u64::MAX) && !sampled(distrust, Some(true), 0));
    // The overall limit applies to both percentages; it is not a factor.
    let limited = Sampling { client_percent: 10.0, random_percent: 100.0, overall_percent: 25.0 };
    let percent = SAMPLING_BASE / 100;
    for (asked, limit) in [(Some(true), 10), (None, 25)] {
        assert!(sampled(limited, asked, limit * percent - 1), "{asked:?}");
        assert!(!sampled(limited, asked, limit * percent), "{asked:?}");
    }
    let few = Sampling { random_percent: 0.001, ..all };
    assert!(sampled(few, None, 9_999) && !sampled(few, None, 10_000));
}

#[tokio::test]
async fn what_cannot_be_used_is_said() {
    let check = |change: &dyn Fn(&mut Telemetry), expect: &[&str]| {
        let mut record = Telemetry { origin: Origin::new("test", "tracing", id(7)), ..Telemetry::default() };
        change(&mut record);
        let mut ir = Ir::default();
        ir.telemetry.insert(id(1), record);
        let plans = TelemetryPlans::build((&ir, &Secrets::default()), None, &services()).unwrap();
        let texts: Vec<String> = plans.diagnostics().iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expect.len(), "{texts:?}");
        assert!(texts.iter().zip(expect).all(|(text, part)| text.contains(part)), "{texts:?}");
        plans
    };
    let exporter = |url: &str| Some(SpanExporter { url: url.into(), ..SpanExporter::default() });
    let good = check(&|record| record.exporter = exporter("http://collector:4318/v1/traces?key=secret"), &[]);
    assert_eq!(
        good.find(None, None, None).unwrap().destination().as_deref(),
        Some("http://collector:4318/v1/traces (otlp_http)")
    );
    for url in ["", "collector:4318", "ftp://a/", "http://user:secret@a/", "http://a b/"] {
        let plans = check(&|record| record.exporter = exporter(url), &["exporter: url: not an http or https URL"]);
        assert_eq!(plans.find(None, None, None).unwrap().destination(), None, "contexts are propagated all the same");
    }
    let malformed = |record: &mut Telemetry| {
        let headers = vec![("x".into(), "a\r\nb".into())];
        record.exporter = Some(SpanExporter { headers, url: "http://a".into(), ..SpanExporter::default() });
    };
    check(&malformed, &["the field \"x\" is malformed"]);
    for percent in [-1.0, 100.5, f64::NAN] {
        check(&|record| record.sampling.client_percent = percent, &["not within 0 and 100"]);
    }
}
