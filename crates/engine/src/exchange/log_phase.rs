//! The log phase at the end of an exchange: counts and logs its failure, runs log filters, writes the access log.

use cardinal_http::Failure;
use cardinal_sdk::{LogCx, Phases, Services};

use super::failure_log::{self, Line};
use super::scratch::Scratch;
use crate::plan::{Chain, NOT_CHOSEN, Phase};
use crate::policy::telemetry;
use crate::worker::Worker;

/// Counts and logs a failure; called once, where the failure is handled.
pub(crate) fn note(worker: &Worker, s: &mut Scratch, failure: &Failure) {
    let kind = failure.kind();
    worker.counters().failed(kind);
    s.exchange.failure = Some(kind);
    failure_log::write(Line::of(kind), s, failure);
}

/// Runs the log phase and writes the access log.
pub(crate) fn log_end(worker: &Worker, services: &Services, chain: &Chain, s: &Scratch, answered: bool) {
    run_log(services, chain, s, answered);
    if s.trace.is_some() {
        telemetry::finish(s, answered, || worker.random());
    }
    if let Some(log) = &worker.node.access_log {
        log.write(services, s, answered);
    }
}

/// Selects filter instances for a request without a route, which no filter has seen before its response.
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
