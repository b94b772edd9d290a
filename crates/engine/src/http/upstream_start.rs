//! The first step of an upstream call: sends the request head on a connection.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use cardinal_http::h1::Framing;
use cardinal_http::{Failure, FailureKind, Retry as Repeat};
use cardinal_net::{NetError, Peer, StreamGuard};

use super::forward::UPSTREAM_WRITE_STALL;
use super::upstream::{AcquiredConnection, Transport};
use super::upstream_head::Outgoing;
use crate::exchange::Scratch;
use crate::plan::{BackendPlan, Chain, Plan, RoutePlan};
use crate::worker::Worker;

/// Maximum number of informational responses before the final one; they are not flow-controlled, so they are counted.
pub(super) const INTERIM_MAX: usize = 32;

/// A request on its way to a backend.
pub(super) struct UpstreamCall<'x> {
    pub(super) worker: &'x Rc<Worker>,
    pub(super) plan: &'x Plan,
    pub(super) route: &'x RoutePlan,
    pub(super) backend: &'x Arc<BackendPlan>,
    /// The filters of the request.
    pub(super) chain: &'x Arc<Chain>,
}

/// The parts of [`AcquiredConnection`] that remain once its transport is in use.
pub(super) struct Way {
    pub(super) picked: cardinal_balance::Picked,
    pub(super) key: cardinal_net::PoolKey,
    pub(super) requests: u32,
    pub(super) _guard: Option<StreamGuard>,
}

impl UpstreamCall<'_> {
    /// Writes the request head.
    pub(super) async fn start(
        &self,
        reached: AcquiredConnection,
        s: &Scratch,
        framing: Framing,
        upgrade: Option<&[u8]>,
    ) -> Result<(Peer, Way), Failure> {
        let AcquiredConnection { transport, picked, key, requests } = reached;
        let outgoing = Outgoing::new(s, self.plan.node(), framing, upgrade)?;
        let way = |guard| Way { picked, key, requests, _guard: guard };
        match transport {
            Transport::H1(mut h1) => {
                h1.start_writing(framing, |out| outgoing.write_h1(out));
                Ok((Peer::H1(h1), way(None)))
            }
            Transport::H2(client, guard) => {
                let target = outgoing.target(self.backend.tls.is_some());
                let broken = |error: NetError| {
                    Failure::new(FailureKind::UpstreamReset, "opening a stream")
                        .with_source(error)
                        .with_retry(Repeat::Safe)
                };
                let ready = poll_fn(|cx| client.poll_ready(cx));
                let ready = s.up_timer.limit(s.timeouts.write_ms, ready).await;
                let late = || UPSTREAM_WRITE_STALL.failure(s.timeouts.write_ms).with_retry(Repeat::Safe);
                ready.ok_or_else(late)?.map_err(broken)?;
                let end = framing == Framing::None;
                let stream = client.open(&target, end, |fields| outgoing.write_h2(fields)).map_err(broken)?;
                Ok((Peer::H2(Box::new(stream)), way(Some(guard))))
            }
        }
    }
}
