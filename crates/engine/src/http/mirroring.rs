//! Sends copies of requests to the mirrors of their route. Mirroring never delays or fails a request: copies that
//! cannot be made are counted and dropped.

use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use cardinal_balance::Outcome;
use cardinal_base::{Reservation, task};
use cardinal_http::h1::{Framing, keep_alive, response_framing};
use cardinal_http::{Failure, FailureKind, Name, Side};
use cardinal_ir::Timeouts;
use cardinal_ir::policy::Mirror;
use cardinal_net::{NetError, Peer};

use super::forward::TransferError;
use super::halt::Halt;
use super::response_head::{head_failure, head_limits, poll_head};
use super::upstream::acquire_connection;
use super::upstream_start::{INTERIM_MAX, UpstreamCall};
use crate::exchange::{Copies, Scratch, picked_text, report_failure};
use crate::plan::{BackendPlan, Plan, RoutePlan};
use crate::policy::circuit;
use crate::policy::mirror::{Fate, Place, is_chosen, mark_host};
use crate::worker::{PlanRef, Worker};

/// Maximum number of response bytes read so that the connection can be reused; if the response is longer, the
/// connection is closed.
const DISCARD_MAX: u64 = 1 << 20;

/// Limit on an exchange with a backend that has no timeouts, milliseconds.
const EXCHANGE_MS_MAX: u64 = 180_000;

/// The copies of a request, until its body is complete.
pub(super) struct MirrorCopies {
    worker: Rc<Worker>,
    route: RoutePlan,
    copies: Vec<Copy>,
    body: Vec<u8>,
    held: Reservation,
}

/// The copy for one mirror.
struct Copy {
    scratch: Box<Scratch>,
    backend: Arc<BackendPlan>,
    body_bytes_max: u64,
    keep_host: bool,
    place: Place,
}

impl fmt::Debug for MirrorCopies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MirrorCopies({} of {} bytes)", self.copies.len(), self.body.len())
    }
}

/// Makes a copy of the request for each selected mirror of the route. The upstream request is final at this point; the
/// body follows.
pub(super) fn copies(
    worker: &Rc<Worker>,
    plan: &Plan,
    route: &RoutePlan,
    s: &Scratch,
    length: Option<u64>,
) -> Option<Box<MirrorCopies>> {
    let mirrors = &route.route.policies.as_ref()?.mirrors;
    let chosen = mirrors.iter().filter(|mirror| is_chosen(mirror, || worker.random()));
    let made = chosen.filter_map(|mirror| {
        let copy = copy(worker, plan, mirror, s, length);
        copy.map_err(|fate| worker.counters().mirrored(fate)).ok()
    });
    let copies: Vec<Copy> = made.collect();
    let (worker, route) = (Rc::clone(worker), route.clone());
    (!copies.is_empty())
        .then(|| Box::new(MirrorCopies { worker, route, copies, body: Vec::new(), held: Reservation::default() }))
}

fn copy(worker: &Worker, plan: &Plan, mirror: &Mirror, s: &Scratch, length: Option<u64>) -> Result<Copy, Fate> {
    if s.request.headers.known(Name::Upgrade).is_some() {
        return Err(Fate::Upgrade);
    }
    if length.is_some_and(|length| length > mirror.body_bytes_max) {
        return Err(Fate::BodyTooLarge);
    }
    let backend = plan.backend(&mirror.backend).ok_or(Fate::NoBackend)?;
    let place = worker.mirrors.enter().ok_or(Fate::InFlightLimit)?;
    Ok(Copy {
        scratch: copy_of(worker, s),
        backend: Arc::clone(backend),
        body_bytes_max: mirror.body_bytes_max,
        keep_host: mirror.keep_host,
        place,
    })
}

/// Builds the scratch from which the head of the copy is made and its endpoint is chosen.
fn copy_of(worker: &Worker, s: &Scratch) -> Box<Scratch> {
    let mut copy = worker.take_scratch();
    copy.start(&s.exchange.client);
    copy.request = s.request.clone();
    copy.path.extend_from_slice(&s.path);
    copy.prefix.extend_from_slice(&s.prefix);
    copy.host_port = s.host_port;
    if let Some(host) = s.upstream.host() {
        copy.upstream.set_host(host.as_bytes());
    }
    let (to, from) = (&mut copy.exchange, &s.exchange);
    to.id = from.id;
    to.original.clone_from(&from.original);
    to.captures.clone_from(&from.captures);
    to.identity.clone_from(&from.identity);
    to.upstream_uri.extend_from_slice(&from.upstream_uri);
    copy
}

impl MirrorCopies {
    /// Completes the copies with a body that is already buffered.
    pub(super) fn complete_with(mut self, body: Bytes) {
        let budget = &self.worker.node.services.memory;
        if self.held.grow(budget, body.len()).is_err() {
            return self.drop_all(Fate::MemoryLimit);
        }
        self.send(body);
    }

    fn send(&mut self, body: Bytes) {
        let held = Rc::new(std::mem::take(&mut self.held));
        for copy in std::mem::take(&mut self.copies) {
            let (worker, route, body) = (Rc::clone(&self.worker), self.route.clone(), body.clone());
            let held = Rc::clone(&held);
            task::spawn_local("mirrored request", async move {
                deliver(&worker, route, copy, body).await;
                // The memory is released when the last copy has been sent.
                drop(held);
            });
        }
    }

    fn drop_all(&mut self, fate: Fate) {
        for _ in self.copies.drain(..) {
            self.worker.counters().mirrored(fate);
        }
    }
}

impl Copies for MirrorCopies {
    fn with(mut self: Box<Self>, data: &[u8]) -> Option<Box<dyn Copies>> {
        let (length, counters) = ((self.body.len() + data.len()) as u64, self.worker.counters());
        self.copies.retain(|copy| {
            let fits = length <= copy.body_bytes_max;
            if !fits {
                counters.mirrored(Fate::BodyTooLarge);
            }
            fits
        });
        if self.copies.is_empty() {
            return None;
        }
        let budget = &self.worker.node.services.memory;
        if self.held.make_room(budget, &mut self.body, data.len(), usize::MAX).is_err() {
            self.drop_all(Fate::MemoryLimit);
            return None;
        }
        self.body.extend_from_slice(data);
        Some(self)
    }

    fn complete(mut self: Box<Self>) {
        let body = Bytes::from(std::mem::take(&mut self.body));
        self.send(body);
    }
}

impl Drop for MirrorCopies {
    fn drop(&mut self) {
        self.drop_all(Fate::BodyIncomplete);
    }
}

/// Sends a copy and reads the response.
async fn deliver(worker: &Rc<Worker>, route: RoutePlan, copy: Copy, body: Bytes) {
    let Copy { mut scratch, backend, keep_host, place, .. } = copy;
    // Route and backend come from the request. The plan, which may be newer, supplies node settings only: a copy must
    // not keep the plan of its request in memory.
    let plan = worker.plan();
    let timer = Rc::clone(&scratch.down_timer);
    let sending = Sending { worker, plan: &plan, route: &route, backend: &backend, keep_host };
    scratch.timeouts = route.timeouts(&backend);
    let limit_ms = exchange_ms(&scratch.timeouts);
    let sent = timer.limit(limit_ms, Box::pin(sending.exchange(&mut scratch, body))).await;
    let fate = match sent {
        Some(Ok(())) => Fate::Answered,
        Some(Err(failure)) => {
            tracing::debug!(request_id = %scratch.exchange.id, ?failure, "a mirrored request failed");
            Fate::Failed
        }
        None => {
            tracing::debug!(request_id = %scratch.exchange.id, limit_ms, "a mirrored request took too long");
            Fate::Failed
        }
    };
    worker.counters().mirrored(fate);
    worker.give_scratch(scratch);
    drop(place);
}

/// Limit on an exchange, milliseconds.
fn exchange_ms(timeouts: &Timeouts) -> u64 {
    match timeouts.connect_ms.saturating_add(timeouts.write_ms).saturating_add(timeouts.read_ms) {
        0 => EXCHANGE_MS_MAX,
        sum => sum.min(EXCHANGE_MS_MAX),
    }
}

/// The upload of a copy.
struct Sending<'x> {
    worker: &'x Rc<Worker>,
    plan: &'x PlanRef,
    route: &'x RoutePlan,
    backend: &'x Arc<BackendPlan>,
    keep_host: bool,
}

impl Sending<'_> {
    async fn exchange(&self, s: &mut Scratch, body: Bytes) -> Result<(), Failure> {
        let Self { worker, plan, route, backend, .. } = *self;
        let reached = acquire_connection(worker, plan, (route, backend, None), s, false).await;
        let reached = reached.map_err(Halt::into_failure)?;
        // Set only now: the TLS server name comes from the backend.
        if !self.keep_host {
            mark_host(&mut s.host);
        }
        let framing = if body.is_empty() { Framing::None } else { Framing::Length(body.len() as u64) };
        let call = UpstreamCall { worker, plan, route, backend, chain: &plan.group(route.route.group).unrouted };
        let (mut up, way) = call.start(reached, s, framing, None).await?;
        let outcome = self.answer(&mut up, s, body).await;
        s.time_passed();
        match outcome {
            Ok(reusable) => {
                backend.group.report(&way.picked, Outcome::Status(s.response.status), s.now(worker));
                match up {
                    Peer::H1(h1) if reusable && h1.body_done() && h1.unread().is_empty() => {
                        circuit::keep(worker, plan, (way.key, h1, way.requests + 1), s.now(worker));
                    }
                    up => call.let_go(up, way),
                }
                Ok(())
            }
            Err(failure) => {
                if failure.kind().side() == Side::Upstream {
                    report_failure(worker, &backend.group, &way.picked, s, &failure);
                }
                let failure = failure.with_target(|| picked_text(&way.picked));
                call.let_go(up, way);
                Err(failure)
            }
        }
    }

    /// Sends the body and reads the response. Returns whether the connection can be reused.
    async fn answer(&self, up: &mut Peer, s: &mut Scratch, mut body: Bytes) -> Result<bool, Failure> {
        let limits = head_limits(&self.plan.node().limits);
        let mut sending = Upload::Body;
        for _ in 0..=INTERIM_MAX {
            let response = &mut s.response;
            let head = poll_fn(|cx| {
                // The upstream may have responded before it stopped reading.
                let broken = sending.poll(cx, up, &mut body).err();
                match (poll_head(cx, up, response, &limits), broken) {
                    (Poll::Pending, Some(error)) => Poll::Ready(Err(error)),
                    (polled, _) => polled,
                }
            });
            head.await.map_err(|error| head_failure(error, &limits))?;
            if s.response.status >= 200 || s.response.status == 101 {
                break;
            }
        }
        if s.response.status < 200 {
            return Err(Failure::new(FailureKind::UpstreamProtocol, "no final response"));
        }
        let framing = response_framing(&s.request.method, &s.response)
            .map_err(|error| Failure::new(FailureKind::UpstreamProtocol, "response framing").with_source(error))?;
        if let Peer::H1(h1) = up {
            h1.start_reading_response(framing);
        }
        let is_read = discard(up).await.map_err(|error| TransferError::Upstream(error).failure())?;
        let in_order = is_read && matches!(sending, Upload::Done);
        Ok(in_order && keep_alive(s.response.version, &s.response.headers))
    }
}

/// The state of the upload of a copy's body.
enum Upload {
    Body,
    Flush,
    Done,
}

impl Upload {
    fn poll(&mut self, cx: &mut Context<'_>, up: &mut Peer, body: &mut Bytes) -> Result<(), NetError> {
        while matches!(self, Self::Body) {
            if body.is_empty() {
                up.finish(None)?;
                *self = Self::Flush;
                break;
            }
            match up.poll_send(cx, body) {
                Poll::Ready(sent) => body.advance(sent?),
                Poll::Pending => return Ok(()),
            }
        }
        if let (Self::Flush, Poll::Ready(flushed)) = (&self, up.poll_flush(cx)) {
            flushed?;
            *self = Self::Done;
        }
        Ok(())
    }
}

/// Reads a body to its end; `false` if it is too long.
async fn discard(up: &mut Peer) -> Result<bool, NetError> {
    let mut left = DISCARD_MAX;
    poll_fn(|cx| {
        loop {
            if !std::task::ready!(up.poll_body(cx))? {
                return Poll::Ready(Ok(true));
            }
            let count = up.data().len();
            up.consume(count);
            match left.checked_sub(count as u64) {
                Some(rest) => left = rest,
                None => return Poll::Ready(Ok(false)),
            }
        }
    })
    .await
}
