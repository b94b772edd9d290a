//! Fault injection: delays, errors and slow responses, for testing clients. See [`Fault`].

use std::num::NonZeroU64;
use std::sync::Arc;

use cardinal_ir::policy::{Fault, FaultAbort, FaultBandwidth, FaultDelay, FaultStatus};
use cardinal_sdk::{BuildError, Filter, Flow, HeadCx, Phases, Reply};

use super::building::{PolicyCx, final_status};
use super::{Event, PolicyCounts};

/// The message of injected errors.
const MESSAGE: &str = "fault injected";

/// Maximum delay, milliseconds: an hour.
const DELAY_MS_MAX: u64 = 3_600_000;

/// The compiled faults.
pub(super) struct Faults {
    delay: Option<FaultDelay>,
    abort: Option<FaultAbort>,
    bandwidth: Option<FaultBandwidth>,
    counts: Arc<PolicyCounts>,
}

/// Marks that the request was already selected or not selected for a delay.
struct Delayed;

impl Faults {
    pub(super) fn build(spec: &Fault, cx: &PolicyCx<'_>) -> Result<Self, BuildError> {
        let percents = [
            ("spec.delay.percent", spec.delay.map(|delay| delay.percent)),
            ("spec.abort.percent", spec.abort.map(|abort| abort.percent)),
            ("spec.bandwidth.percent", spec.bandwidth.map(|bandwidth| bandwidth.percent)),
        ];
        for (field, percent) in percents {
            if percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
                return Err(BuildError::new(field, "must be a number from 0 to 100"));
            }
        }
        if spec.delay.is_some_and(|delay| delay.delay_ms > DELAY_MS_MAX) {
            return Err(BuildError::new("spec.delay.delay_ms", format!("must be at most {DELAY_MS_MAX}")));
        }
        match spec.abort.map(|abort| abort.status) {
            Some(FaultStatus::Http(status)) => drop(final_status("spec.abort.status", status)?),
            Some(FaultStatus::Grpc(17..)) => {
                return Err(BuildError::new("spec.abort.status", "must be a gRPC status from 0 to 16"));
            }
            Some(FaultStatus::Grpc(_)) | None => {}
        }
        let counts = cx.services.shared.get_or_insert(PolicyCounts::KEY, PolicyCounts::default);
        Ok(Self { delay: spec.delay, abort: spec.abort, bandwidth: spec.bandwidth, counts })
    }
}

impl Filter for Faults {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        if let Some(delay) = &self.delay
            && cx.state::<Delayed>().is_none()
            && delay.delay_ms > 0
            && hits(delay.percent, (cx.random)())
        {
            cx.set_state(Delayed);
            self.counts.add(Event::Delayed);
            return Flow::Delay { ms: delay.delay_ms };
        }
        if let Some(abort) = self.abort.filter(|abort| hits(abort.percent, (cx.random)())) {
            self.counts.add(Event::Aborted);
            return Flow::reply(reply(abort.status));
        }
        if let Some(bandwidth) = self.bandwidth.filter(|bandwidth| hits(bandwidth.percent, (cx.random)())) {
            self.counts.add(Event::Throttled);
            cx.limit_response_rate(NonZeroU64::new(bandwidth.bytes_per_second).unwrap_or(NonZeroU64::MIN));
        }
        Flow::Continue
    }
}

fn reply(status: FaultStatus) -> Reply {
    match status {
        FaultStatus::Http(status) => Reply::error(status, MESSAGE),
        FaultStatus::Grpc(status) => Reply::new(200)
            .with_header("Content-Type", "application/grpc")
            .with_header("grpc-status", &status.to_string())
            .with_header("grpc-message", MESSAGE),
    }
}

/// Whether an event with a probability of `percent` occurs for this random number. 100 is always, 0 never.
fn hits(percent: f64, random: u64) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "53 bits are plenty")]
    let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
    share * 100.0 < percent
}

#[cfg(test)]
mod tests;
