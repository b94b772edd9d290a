use cardinal_base::{Rng as _, SeededRng};
use cardinal_ir::PolicySpec;
use cardinal_sdk::ReplyBody;

use super::*;
use crate::policy::tests::{bench_of, built};

fn delay(percent: f64) -> Option<FaultDelay> {
    Some(FaultDelay { delay_ms: 250, percent })
}

fn abort(status: FaultStatus, percent: f64) -> Option<FaultAbort> {
    Some(FaultAbort { status, percent })
}

fn bandwidth(bytes_per_second: u64, percent: f64) -> Option<FaultBandwidth> {
    Some(FaultBandwidth { bytes_per_second, percent })
}

#[tokio::test]
async fn faults_hit_by_their_percentages() {
    let (http, never) = (FaultStatus::Http(418), u64::MAX);
    for (fault, random, expect) in [
        (Fault::default(), 0, (0, None, None)),
        (Fault { delay: delay(100.0), abort: abort(http, 100.0), ..Fault::default() }, never, (250, Some(418), None)),
        (Fault { delay: delay(99.9), abort: abort(http, 99.9), ..Fault::default() }, never, (0, None, None)),
        (Fault { delay: delay(0.1), abort: abort(http, 0.0), ..Fault::default() }, 0, (250, None, None)),
        (Fault { bandwidth: bandwidth(1_000, 100.0), ..Fault::default() }, never, (0, None, Some(1_000))),
        (Fault { bandwidth: bandwidth(0, 1.0), ..Fault::default() }, 0, (0, None, Some(1))),
        (Fault { bandwidth: bandwidth(9, 0.0), ..Fault::default() }, 0, (0, None, None)),
    ] {
        let said = format!("{fault:?} {random}");
        let mut bench = bench_of(PolicySpec::Fault(fault));
        bench.random = random;
        let status = bench.request().await.map(|reply| reply.status);
        let rate = bench.exchange.response_rate_max.map(NonZeroU64::get);
        assert_eq!((bench.delayed_ms, status, rate), expect, "{said}");
        let counts = bench.services.shared.get_or_insert(PolicyCounts::KEY, PolicyCounts::default);
        let counted = [Event::Delayed, Event::Aborted, Event::Throttled].map(|event| counts.get(event));
        assert_eq!(counted, [u64::from(expect.0 > 0), u64::from(status.is_some()), u64::from(rate.is_some())]);
    }
}

#[test]
fn draws_are_fair() {
    let mut rng = SeededRng::new(3);
    for percent in [0.0, 0.5, 25.0, 99.5, 100.0] {
        let hit = (0..100_000).filter(|_| hits(percent, rng.next_u64())).count();
        assert!((hit as f64 / 1_000.0 - percent).abs() < 0.5, "{percent}: {hit}");
    }
    assert!(hits(100.0, u64::MAX) && !hits(0.0, 0));
}

#[tokio::test]
async fn errors_are_http_or_grpc() {
    let fault = Fault { abort: abort(FaultStatus::Grpc(14), 100.0), ..Fault::default() };
    let reply = bench_of(PolicySpec::Fault(fault)).request().await.unwrap();
    assert_eq!((reply.status, reply.headers.get_str("grpc-status")), (200, Some("14")));
    let fault = Fault { abort: abort(FaultStatus::default(), 100.0), ..Fault::default() };
    let reply = bench_of(PolicySpec::Fault(fault)).request().await.unwrap();
    assert_eq!(reply.status, 503);
    assert!(matches!(&reply.body, ReplyBody::Error(text) if text == MESSAGE));
}

#[tokio::test]
async fn faults_that_cannot_be_injected_are_refused() {
    let bench = bench_of(PolicySpec::Fault(Fault::default()));
    let refused = |fault: Fault, field: &str| {
        let error = built(&PolicySpec::Fault(fault), 0, &bench.services).err().map(|error| error.path);
        assert_eq!(error.as_deref(), Some(field));
    };
    refused(Fault { delay: delay(100.1), ..Fault::default() }, "spec.delay.percent");
    refused(Fault { delay: delay(f64::NAN), ..Fault::default() }, "spec.delay.percent");
    let long = Some(FaultDelay { delay_ms: DELAY_MS_MAX + 1, percent: 1.0 });
    refused(Fault { delay: long, ..Fault::default() }, "spec.delay.delay_ms");
    refused(Fault { abort: abort(FaultStatus::Http(101), 1.0), ..Fault::default() }, "spec.abort.status");
    refused(Fault { abort: abort(FaultStatus::Grpc(17), 1.0), ..Fault::default() }, "spec.abort.status");
    refused(Fault { bandwidth: bandwidth(1, -1.0), ..Fault::default() }, "spec.bandwidth.percent");
}
