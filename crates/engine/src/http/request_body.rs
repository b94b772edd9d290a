//! Passes request body chunks through the filters that process them.

use bytes::Bytes;
use cardinal_http::RequestHead;
use cardinal_http::h1::Framing;
use cardinal_sdk::{Chunk, ChunkAccess, Exchange, FilterDecision, Phases, RequestBodyCx};

use super::filters::filter_failed;
use super::halt::Halt;
use crate::exchange::Scratch;
use crate::plan::{Chain, NOT_CHOSEN, Phase, Plan};

/// Starts passing the request body through the filters that process its chunks: immediately if the body is buffered,
/// otherwise as it is streamed.
pub(super) fn start(plan: &Plan, chain: &Chain, s: &mut Scratch) -> Result<(), Halt> {
    let Some(body) = s.upstream.body.take() else {
        s.call.keep_filtered(Some(Box::default()));
        return Ok(());
    };
    let place = body.as_ptr();
    let made = BodyFilters::new(plan, chain, s).run(body, true)?;
    if made.as_ptr() != place {
        s.recount(&plan.services.memory, s.exchange.held.bytes(), made.len())?;
    }
    s.upstream.body = Some(made);
    Ok(())
}

/// The framing of the request body for the upstream; `client` is the framing used by the client.
pub(super) fn upstream_framing(s: &Scratch, client: Framing) -> Framing {
    match &s.upstream.body {
        Some(body) if body.is_empty() => Framing::None,
        Some(body) => Framing::Length(body.len() as u64),
        // The length is unknown until the filters have processed the whole body.
        None if s.exchange.request_chunks == ChunkAccess::Change => Framing::Chunked,
        None => client,
    }
}

/// The filters of a request while its body is forwarded.
pub(super) struct BodyFilters<'x> {
    pub(super) plan: &'x Plan,
    pub(super) chain: &'x Chain,
    pub(super) choices: &'x [u16],
    pub(super) request: &'x RequestHead,
    pub(super) exchange: &'x mut Exchange,
}

impl<'x> BodyFilters<'x> {
    pub(super) fn new(plan: &'x Plan, chain: &'x Chain, s: &'x mut Scratch) -> Self {
        Self { plan, chain, choices: &s.choices, request: &s.request, exchange: &mut s.exchange }
    }

    /// Runs the filters on a chunk.
    pub(super) fn run(&mut self, data: Bytes, last: bool) -> Result<Bytes, Halt> {
        let mut chunk = Chunk { data, last };
        for slot in self.chain.list(Phase::RequestBody) {
            let choice = self.choices.get(usize::from(*slot)).copied().unwrap_or(NOT_CHOSEN);
            let Some(filter) = self.chain.filter(*slot, choice, Phases::REQUEST_BODY) else { continue };
            let before = (self.exchange.request_chunks == ChunkAccess::Read).then(|| chunk.data.clone());
            let mut cx = RequestBodyCx {
                request: self.request,
                exchange: self.exchange,
                services: &self.plan.services,
                slot: usize::from(*slot),
            };
            let decision = filter.on_request_body(&mut cx, &mut chunk);
            chunk.last = last;
            match decision {
                FilterDecision::Continue => {}
                FilterDecision::Reply(reply) => return Err(Halt::Replied(reply)),
                FilterDecision::Fail(reason) => return Err(filter_failed(self.chain, *slot, &reason).into()),
            }
            // The content length already sent to the upstream would be wrong.
            if before.is_some_and(|before| !is_same(&before, &chunk.data)) {
                let reason = "the plugin has changed a request body that it asked only to read";
                return Err(filter_failed(self.chain, *slot, reason).into());
            }
        }
        Ok(chunk.data)
    }
}

fn is_same(one: &Bytes, other: &Bytes) -> bool {
    one.len() == other.len() && (one.as_ptr() == other.as_ptr() || one == other)
}
