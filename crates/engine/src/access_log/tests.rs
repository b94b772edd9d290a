use std::sync::Arc;

use cardinal_testkit::TempDir;

use super::*;
use crate::plan::Plan;

#[tokio::test]
async fn a_record_is_one_line_of_json() {
    use cardinal_base::ManualClock;

    let services = cardinal_sdk::testing::services(Arc::new(ManualClock::default()));
    let registry = crate::plan::Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap();
    let cx = crate::plan::PlanCx { plugins: &[], services, registry: &registry, previous: None };
    let (plan, _) = Plan::build(Default::default(), 1, &cx).unwrap();
    let wheel = cardinal_net::Wheel::new(Arc::new(ManualClock::default()));
    let mut s = Scratch::new(&wheel);
    assert!(s.request.set_target(b"/a?b=c"));
    s.request.headers.append(b"Host", b"a.example");
    s.exchange.original.target.extend_from_slice(b"/a?b=c");
    s.exchange.original.host.push_str("a.example");
    s.response.status = 204;

    let folder = TempDir::new("access-log");
    let path = folder.path().join("access.log");
    let log = AccessLog::open(&path).unwrap();
    log.write(&plan.services, &s, true);
    log.write(&plan.services, &s, false);
    assert!(log.flush());
    let text = folder.read("access.log");
    let records: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["request"]["uri"], "/a?b=c");
    assert_eq!(records[0]["response"]["status"], 204);
    // A client that disconnected before the response.
    assert_eq!(records[1]["response"]["status"], 499);

    let cx = LogCx {
        request: &s.request,
        response: Some(&s.response),
        exchange: &s.exchange,
        path: &s.path,
        services: &plan.services,
        slot: 0,
    };
    let mut words = Vec::new();
    super::brief::write(&cx, &mut words);
    assert_eq!(String::from_utf8(words).unwrap(), "0.0.0.0 GET /a?b=c 204 0 ms");
}
