//! Contexts of the phases between the request head and the response head: request body chunks, and attempts.

use std::net::SocketAddr;

use bytes::Bytes;
use cardinal_http::{HeaderList, RequestHead};

use crate::exchange::Exchange;
use crate::services::Services;

/// How filters process chunks of the upstream request body. The strongest requirement of all filters applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChunkAccess {
    /// Not processed: bytes are forwarded without filters.
    #[default]
    None,
    /// Read only. The body keeps its `Content-Length`; a filter that changes a chunk fails the request.
    Read,
    /// Chunks may be changed, held back and added. A streamed body is sent upstream without `Content-Length`.
    Change,
}

/// The request body phase: a chunk of the body on its way to the upstream.
pub struct RequestBodyCx<'x> {
    /// The upstream request.
    pub request: &'x RequestHead,
    /// The properties of the exchange.
    pub exchange: &'x mut Exchange,
    /// The node.
    pub services: &'x Services,
    /// This filter's slot.
    pub slot: usize,
}

impl RequestBodyCx<'_> {
    /// The state of this filter.
    pub fn state<T: Send + 'static>(&mut self) -> Option<&mut T> {
        self.exchange.slots.get_mut(self.slot)
    }

    /// Stores state for later calls and phases of this filter.
    pub fn set_state<T: Send + 'static>(&mut self, state: T) {
        self.exchange.slots.set(self.slot, state);
    }
}

/// The attempt phase: the endpoint is selected, and nothing has been sent to it.
pub struct AttemptCx<'x> {
    /// The upstream request, without `headers`.
    pub request: &'x RequestHead,
    /// Header fields of this attempt: they replace fields of the request with the same name, and are cleared for the
    /// next attempt. Connection-specific and framing fields are not sent.
    pub headers: &'x mut HeaderList,
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// The value of `Host` for the upstream.
    pub host: &'x str,
    /// Number of the attempt, from 1.
    pub number: usize,
    /// The request body, if it is buffered; `None` if it is streamed.
    pub body: Option<&'x Bytes>,
    /// The properties of the exchange. [`Exchange::upstream_uri`] is the upstream path and query.
    pub exchange: &'x mut Exchange,
    /// The node.
    pub services: &'x Services,
    /// This filter's slot.
    pub slot: usize,
}

impl AttemptCx<'_> {
    /// The state of this filter.
    pub fn state<T: Send + 'static>(&mut self) -> Option<&mut T> {
        self.exchange.slots.get_mut(self.slot)
    }

    /// Stores state for later attempts and phases of this filter.
    pub fn set_state<T: Send + 'static>(&mut self, state: T) {
        self.exchange.slots.set(self.slot, state);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cardinal_http::ResponseHead;
    use cardinal_schema::{field, record, string};
    use serde_json::json;

    use super::*;
    use crate::testing::Bench;
    use crate::{
        Chunk, FailureMode, Filter, FilterDecision, FilterStep, Flow, HTTP_PROTOCOLS, HeadCx, Phases, PluginDef, Reply,
        ResponseCx, Scopes, Source,
    };

    /// Counts the bytes of the body, and signs attempts with the count.
    struct Counting;

    impl Filter for Counting {
        fn phases(&self) -> Phases {
            Phases::REQUEST.and(Phases::REQUEST_BODY).and(Phases::ATTEMPT).and(Phases::RESPONSE)
        }

        fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
            cx.want_body_chunks(ChunkAccess::Change);
            // A weaker requirement has no effect.
            cx.want_body_chunks(ChunkAccess::Read);
            cx.set_state(0_usize);
            Flow::Continue
        }

        fn on_request_body(&self, cx: &mut RequestBodyCx<'_>, chunk: &mut Chunk) -> FilterDecision {
            let Some(count) = cx.state::<usize>() else { return FilterDecision::Fail("no state".to_owned()) };
            *count += chunk.data.len();
            if *count > 5 {
                return FilterDecision::reply(Reply::new(413));
            }
            chunk.data = chunk.data.to_ascii_uppercase().into();
            FilterDecision::Continue
        }

        fn on_attempt<'a>(&'a self, cx: &'a mut AttemptCx<'_>) -> FilterStep<'a> {
            FilterStep::Wait(Box::pin(async move {
                let count = cx.state::<usize>().copied().unwrap_or_default();
                let text = format!("{} {} {count}", cx.number, cx.endpoint);
                cx.headers.set(b"X-Attempt", text.as_bytes());
                FilterDecision::Continue
            }))
        }

        fn on_response_head<'a>(&'a self, cx: &'a mut ResponseCx<'_>) -> FilterStep<'a> {
            match cx.response.status {
                200 => FilterStep::Continue,
                _ => FilterStep::reply(Reply::new(502)),
            }
        }
    }

    static COUNTING: PluginDef = PluginDef {
        name: "counting",
        summary: "Counts.",
        priority: 1,
        schema: || record([field("unused", string())]),
        entities: &[],
        scopes: Scopes::ALL,
        protocols: HTTP_PROTOCOLS,
        failure: FailureMode::Closed,
        build: |_, _| Ok(Arc::new(Counting)),
        lower: None,
    };

    #[tokio::test]
    async fn a_bench_runs_all_phases() {
        let mut bench = Bench::new(&COUNTING, json!({}));
        assert!(bench.request().await.is_none());
        assert_eq!(bench.exchange.request_chunks, ChunkAccess::Change);
        let (made, decision) = bench.request_part(b"abc", false);
        assert!(matches!(decision, FilterDecision::Continue) && made == "ABC");
        let endpoint = SocketAddr::from(([127, 0, 0, 1], 80));
        let (headers, decision) = bench.attempt(2, endpoint).await;
        assert!(matches!(decision, FilterDecision::Continue));
        assert_eq!(headers.get(b"x-attempt"), Some(&b"2 127.0.0.1:80 3"[..]));
        let (_, decision) = bench.request_part(b"def", true);
        assert!(matches!(decision, FilterDecision::Reply(reply) if reply.status == 413));
        let mut response = ResponseHead::default();
        response.status = 200;
        bench.response(&mut response, Source::Upstream);
        response.status = 404;
        let decision = bench.response_decision(&mut response, Source::Upstream).await;
        assert!(matches!(decision, FilterDecision::Reply(reply) if reply.status == 502));
        // The next request starts from the initial state.
        assert_eq!(bench.get("/").exchange.request_chunks, ChunkAccess::None);
    }
}
