//! The end of an exchange: its failure is counted and logged, filters and the access log see it.

use cardinal_http::Failure;
use cardinal_sdk::{LogCx, Phases, Services};

use super::failure_log::{self, Line};
use super::scratch::Scratch;
use crate::plan::{Chain, NOT_CHOSEN, Phase};
use crate::policy::telemetry;
use crate::worker::Worker;

/// Counts and logs a failure, once, here where it is handled.
pub(crate) fn note(worker: &Worker, s: &mut Scratch, failure: &Failure) {
    let kind = failure.kind();
    worker.counters().failed(kind);
    s.exchange.failure = Some(kind);
    failure_log::write(Line::of(kind), s, failure);
}

/// The log phase, and the access log.
pub(crate) fn log_end(worker: &Worker, services: &Services, chain: &Chain, s: &Scratch, answered: bool) {
    run_log(services, chain, s, answered);
    if s.trace.is_some() {
        telemetry::finish(s, answered, || worker.random());
    }
    if let Some(log) = &worker.node.access_log {
        log.write(services, s, answered);
    }
}

/// Chooses instances for a request that no filter saw before its response: one without a route.
pub(crate) fn choose_all(chain: &Chain, s: &mut Scratch) {
    s.choices.clear();
    s.exchange.slots.reset(chain.len());
    for slot in 0..u16::try_from(chain.len()).unwrap_or(u16::MAX) {
        s.choices.push(chain.choose(slot, &s.exchange));
    }
}

/// Runs the log phase. `answered`: a response head was sent.
fn run_log(services: &Services, chain: &Chain, s: &Scratch, answered: bool) {
    for slot in chain.list(Phase::Log) {
        let choice = s.choices.get(usize::from(*slot)).copied().unwrap_or(NOT_CHOSEN);
        let Some(filter) = chain.filter(*slot, choice, Phases::LOG) else { continue };
        filter.on_log(&LogCx {
            request: &s.request,
            response: answered.then_some(&s.response),
            exchange: &s.exchange,
            path: &s.path,
            services,
            slot: usize::from(*slot),
        });
    }
}
