//! Runs filters, phase by phase.

use std::cell::Cell;

use bytes::Bytes;
use cardinal_http::{Failure, FailureKind};
use cardinal_sdk::{BodyCx, Chunk, HeadCx, Phases, Reply, RequestId, ResponseCx, Verdict};

use super::body::Body;
use crate::exchange::Scratch;
use crate::plan::{Chain, NOT_CHOSEN, Phase, Plan};

/// Runs the request phase. `Ok(Some(reply))` when a filter answered; its later filters' request phases are skipped, but
/// which of them apply is settled, for the phases that follow.
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
    // All slots are visited, so that instances are chosen in order, each by who is authenticated by then.
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
            let mut cx = HeadCx {
                request: &mut s.request,
                exchange: &mut s.exchange,
                upstream: &mut s.upstream,
                services: &plan.services,
                directory: &plan.directory,
                path: &s.path,
                body_length: body.length(),
                random: &|| body.random(&series),
                slot: usize::from(slot),
            };
            let verdict = filter.on_request_head(&mut cx).settle().await;
            let new = place(s.upstream.body.as_ref());
            if let Some((_, len)) = new.filter(|_| new != body_before) {
                // The filter has replaced the body, of which all that is held so far was counted.
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
                    let source = format!("{}: {reason}", chain.name(slot));
                    failed = Some(Failure::new(FailureKind::Filter, "a plugin failed").with_source(source));
                    break;
                }
            }
        }
    }
    failed.map_or(Ok(answer), Err)
}

/// What a filter's randomness starts from: the id of a request is random itself, drawn by the worker.
#[allow(clippy::cast_possible_truncation, reason = "one half is random enough")]
fn seed(id: RequestId, slot: u16) -> u64 {
    id.0 as u64 ^ u64::from(slot).rotate_right(16)
}

/// Address and length of a body, by which a filter's replacement is told from the body before it.
fn place(body: Option<&Bytes>) -> Option<(usize, usize)> {
    body.map(|body| (body.as_ptr().addr(), body.len()))
}

/// Runs the response head phase.
pub(crate) fn run_response(plan: &Plan, chain: &Chain, s: &mut Scratch) {
    for slot in chain.list(Phase::Response) {
        let choice = s.choices.get(usize::from(*slot)).copied().unwrap_or(NOT_CHOSEN);
        let Some(filter) = chain.filter(*slot, choice, Phases::RESPONSE) else { continue };
        filter.on_response_head(&mut ResponseCx {
            response: &mut s.response,
            request: &s.request,
            exchange: &mut s.exchange,
            services: &plan.services,
            slot: usize::from(*slot),
        });
    }
}

/// Runs the response body phase on one part.
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
