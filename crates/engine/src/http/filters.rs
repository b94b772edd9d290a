//! Runs filters, phase by phase.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use cardinal_http::{Failure, FailureKind};
use cardinal_net::Timer;
use cardinal_sdk::{
    AttemptCx, BodyCx, BodyMode, Chunk, FilterDecision, FilterStep, HeadCx, Phases, Reply, RequestId, ResponseCx,
    Source, Verdict,
};

use super::body::Body;
use super::halt::Halt;
use crate::exchange::Scratch;
use crate::exchange::failure_log::{self, Line};
use crate::plan::{Chain, NOT_CHOSEN, Phase, Plan};

/// Runs the request phase. Returns `Ok(Some(reply))` if a filter replied: the request phase of later filters is
/// skipped, but it is still determined which of them apply, for the phases that follow.
pub(crate) async fn run_request(
    plan: &Plan,
    chain: &Chain,
    s: &mut Scratch,
    body: &mut dyn Body,
) -> Result<Option<Box<Reply>>, Failure> {
    s.choices.clear();
    s.choices.resize(chain.len(), NOT_CHOSEN);
    s.exchange.slots.reset(chain.len());
    let mut answer = None;
    let mut failed = None;
    let mut wanted = chain.list(Phase::Request).iter().peekable();
    // All slots are visited, so that filter instances are selected in order, each for the consumer authenticated so
    // far.
    for slot in 0..u16::try_from(chain.len()).unwrap_or(u16::MAX) {
        let choice = chain.choose(slot, &s.exchange);
        if let Some(place) = s.choices.get_mut(usize::from(slot)) {
            *place = choice;
        }
        let runs = wanted.next_if(|next| **next == slot).is_some() && answer.is_none() && failed.is_none();
        let Some(filter) = chain.filter(slot, choice, Phases::REQUEST).filter(|_| runs) else { continue };
        let series = Cell::new(seed(s.exchange.id, slot));
        loop {
            let body_before = place(s.upstream.body.as_ref());
            let directory = plan.directory_of(s.exchange.route.as_ref());
            let mut cx = HeadCx {
                request: &mut s.request,
                exchange: &mut s.exchange,
                upstream: &mut s.upstream,
                services: &plan.services,
                directory,
                path: &s.path,
                body_length: body.length(),
                random: &|| body.random(&series),
                slot: usize::from(slot),
            };
            let verdict = filter.on_request_head(&mut cx).settle().await;
            let new = place(s.upstream.body.as_ref());
            if let Some((_, len)) = new.filter(|_| new != body_before) {
                // The filter has replaced the body; everything buffered so far was counted.
                failed = s.recount(&plan.services.memory, s.exchange.held.bytes(), len).err();
            }
            match verdict {
                _ if failed.is_some() => break,
                Verdict::Continue => break,
                Verdict::Reply(reply) => {
                    answer = Some(reply);
                    break;
                }
                Verdict::NeedBody { max } => match body.whole(plan, s, max).await {
                    Ok(whole) => s.upstream.body = Some(whole),
                    Err(failure) => {
                        failed = Some(failure);
                        break;
                    }
                },
                Verdict::Delay { ms } => match body.pause(s, ms).await {
                    Ok(()) => {}
                    Err(failure) => {
                        failed = Some(failure);
                        break;
                    }
                },
                Verdict::Fail(reason) => {
                    failed = Some(filter_failed(chain, slot, &reason));
                    break;
                }
            }
        }
    }
    failed.map_or(Ok(answer), Err)
}

/// The seed of a filter's random numbers. It is derived from the request id, which the worker draws at random.
#[allow(clippy::cast_possible_truncation, reason = "one half is random enough")]
fn seed(id: RequestId, slot: u16) -> u64 {
    id.0 as u64 ^ u64::from(slot).rotate_right(16)
}

/// Address and length of a body: detects that a filter has replaced it.
fn place(body: Option<&Bytes>) -> Option<(usize, usize)> {
    body.map(|body| (body.as_ptr().addr(), body.len()))
}

/// The failure of a filter.
pub(super) fn filter_failed(chain: &Chain, slot: u16, reason: &str) -> Failure {
    let source = format!("{}: {reason}", chain.name(slot));
    Failure::new(FailureKind::Filter, "a plugin failed").with_source(source)
}

/// Waits for the decision of a filter, up to the time limit of its setting.
async fn settle(
    step: FilterStep<'_>,
    timer: &Timer,
    (setting, limit_ms): (&'static str, u64),
) -> Result<FilterDecision, Failure> {
    let late = || Failure::new(FailureKind::Filter, "a plugin has not finished waiting").within(setting, limit_ms);
    match step {
        FilterStep::Continue => Ok(FilterDecision::Continue),
        FilterStep::Reply(reply) => Ok(FilterDecision::Reply(reply)),
        FilterStep::Fail(reason) => Ok(FilterDecision::Fail(reason)),
        FilterStep::Wait(future) => timer.limit(limit_ms, future).await.ok_or_else(late),
    }
}

/// Runs the attempt phase, before the request is sent to `endpoint`.
pub(super) async fn run_attempt(plan: &Plan, chain: &Chain, s: &mut Scratch, endpoint: SocketAddr) -> Result<(), Halt> {
    s.attempt_headers.clear();
    let (timer, limit) = (Rc::clone(&s.up_timer), ("connect_timeout", s.timeouts.connect_ms));
    for slot in chain.list(Phase::Attempt) {
        let choice = s.choices.get(usize::from(*slot)).copied().unwrap_or(NOT_CHOSEN);
        let Some(filter) = chain.filter(*slot, choice, Phases::ATTEMPT) else { continue };
        let mut cx = AttemptCx {
            request: &s.request,
            headers: &mut s.attempt_headers,
            endpoint,
            host: &s.host,
            number: s.exchange.tries.len(),
            body: s.upstream.body.as_ref(),
            exchange: &mut s.exchange,
            services: &plan.services,
            slot: usize::from(*slot),
        };
        let decision = settle(filter.on_attempt(&mut cx), &timer, limit).await?;
        match decision {
            FilterDecision::Continue => {}
            FilterDecision::Reply(reply) => return Err(Halt::Replied(reply)),
            FilterDecision::Fail(reason) => return Err(filter_failed(chain, *slot, &reason).into()),
        }
    }
    s.time_passed();
    Ok(())
}

/// Converts a reply into the response of the scratch, and returns its body.
pub(super) type MakeResponse = fn(&Plan, &mut Scratch, Reply) -> Bytes;

/// Runs the response head phase. Waits are limited by `limit`. If a filter replies, `make` replaces the response by
/// this reply, the later filters see the new response, and its body is returned.
pub(super) async fn run_response(
    plan: &Plan,
    chain: &Chain,
    s: &mut Scratch,
    limit: (&'static str, u64),
    make: MakeResponse,
) -> Result<Option<Bytes>, Failure> {
    let mut replaced = None;
    let timer = Rc::clone(&s.down_timer);
    for slot in chain.list(Phase::Response) {
        let choice = s.choices.get(usize::from(*slot)).copied().unwrap_or(NOT_CHOSEN);
        let Some(filter) = chain.filter(*slot, choice, Phases::RESPONSE) else { continue };
        let mut cx = ResponseCx {
            response: &mut s.response,
            request: &s.request,
            exchange: &mut s.exchange,
            services: &plan.services,
            slot: usize::from(*slot),
        };
        let step = filter.on_response_head(&mut cx);
        if matches!(step, FilterStep::Continue) {
            continue;
        }
        let decision = settle(step, &timer, limit).await;
        s.time_passed();
        let failure = match decision {
            Ok(FilterDecision::Continue) => continue,
            Ok(FilterDecision::Reply(reply)) if (200..=999).contains(&reply.status) => {
                // The response body phases requested for the previous body do not apply to this one.
                s.exchange.body_mode = BodyMode::Pass;
                replaced = Some(make(plan, s, *reply));
                s.exchange.source = Source::Local;
                continue;
            }
            Ok(FilterDecision::Reply(_)) => {
                Failure::new(FailureKind::UnsendableHead, "a filter's reply has a status that ends no request")
            }
            Ok(FilterDecision::Fail(reason)) => filter_failed(chain, *slot, &reason),
            Err(failure) => failure,
        };
        // The response to a failure does not depend on filters.
        if s.exchange.failure.is_none() {
            return Err(failure);
        }
        failure_log::write(Line::of(failure.kind()), s, &failure);
    }
    Ok(replaced)
}

/// Runs the response body phase on one chunk.
pub(crate) fn run_body(plan: &Plan, chain: &Chain, s: &mut Scratch, data: Bytes, last: bool) -> Bytes {
    let mut chunk = Chunk { data, last };
    for slot in chain.list(Phase::Body) {
        let choice = s.choices.get(usize::from(*slot)).copied().unwrap_or(NOT_CHOSEN);
        let Some(filter) = chain.filter(*slot, choice, Phases::RESPONSE_BODY) else { continue };
        let mut cx = BodyCx {
            response: &s.response,
            request: &s.request,
            exchange: &mut s.exchange,
            services: &plan.services,
            slot: usize::from(*slot),
        };
        filter.on_response_body(&mut cx, &mut chunk);
    }
    chunk.data
}
