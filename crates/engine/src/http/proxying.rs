//! A request on its way to a backend and back.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use cardinal_balance::Outcome;
use cardinal_base::Permit;
use cardinal_http::h1::{
    Framing, HeadError, HeadLimits, Parsed, announces_body, keep_alive, parse_response, response_framing,
};
use cardinal_http::{Failure, FailureKind, Method, ResponseHead, Retry, Version};
use cardinal_ir::Limits;
use cardinal_net::h1::H1;
use cardinal_net::{NetError, Peer, StreamGuard};
use cardinal_sdk::{BodyMode, Source};

use super::Scratch;
use super::exchange::{
    BODY_RATE_MIN, Body, ClientBody, Collect, NO_ROOM, Session, Switched, Terms, Turn, body_max, collect, make_uri,
};
use super::facts::{switches_as_asked, upgrade};
use super::failure_log::{self, Line};
use super::filters::{run_body, run_response};
use super::forward::{
    Broken, Download, Patience, Progress, RESPONSE_BODY_STALL, UPSTREAM_STALL, UPSTREAM_WRITE_STALL, Upload,
    client_gone, unless_gone,
};
use super::reply::{self, send_continue};
use super::upstream::{Reached, Transport, picked_text, reach, report_failure};
use super::upstream_head::Outgoing;
use crate::plan::{BackendPlan, Plan, RoutePlan};
use crate::policy::circuit::{self, Afterwards};
use crate::worker::Worker;

/// Informational responses before the final one; they are not flow-controlled, so they are counted.
const INTERIM_MAX: usize = 32;

/// Bytes of an idempotent request's body that are held, so that another endpoint can be tried.
const REPLAY_MAX: u64 = 64 * 1024;

/// A request on its way to a backend.
pub(super) struct Proxying<'x> {
    pub(super) worker: &'x Rc<Worker>,
    pub(super) plan: &'x Plan,
    pub(super) route: &'x RoutePlan,
    pub(super) backend: &'x Arc<BackendPlan>,
}

/// An upstream that has the request, or is getting it, and has answered with a head.
struct Answering {
    up: Peer,
    reached: Way,
    upload: Upload,
}

/// What is left of [`Reached`] once its transport is in use.
struct Way {
    picked: cardinal_balance::Picked,
    key: cardinal_net::PoolKey,
    requests: u32,
    _guard: Option<StreamGuard>,
}

impl Proxying<'_> {
    pub(super) async fn run(&self, turn: &mut Turn<'_>) -> Result<(), Failure> {
        let Turn { down, s, session, .. } = turn;
        make_uri(s);
        if session.framing == Framing::None && s.upstream.body.is_none() {
            s.upstream.body = Some(Bytes::new());
        }
        let mut tries_left = self.backend.backend.retries;
        if let Framing::Length(length) = session.framing
            && s.upstream.body.is_none()
            // A body of no length is waited for all the same: in HTTP/2 its end may show that the length was a lie.
            && (length == 0 || (tries_left > 0 && self.is_held(length, s)))
        {
            let whole = ClientBody { down, session }.whole(self.plan, s, REPLAY_MAX).await?;
            s.time_passed();
            s.upstream.body = Some(whole);
        }
        let mut _retrying: Option<Permit> = None;
        let answering = loop {
            let failure = match self.attempt(down, s, session).await {
                Ok(answering) => break answering,
                Err(failure) => failure,
            };
            if tries_left == 0 || !may_retry(&failure, s) {
                return Err(failure);
            }
            if _retrying.is_none() {
                let Ok(permit) = circuit::retry(self.worker, &self.backend.group) else { return Err(failure) };
                _retrying = permit;
            }
            tries_left -= 1;
            failure_log::write(Line::Retry, s, &failure);
        };
        self.answer(answering, turn).await
    }

    /// Whether a body of this length is held for another try.
    fn is_held(&self, length: u64, s: &Scratch) -> bool {
        let fits = |length| s.exchange.held.fits(&self.plan.services.memory, length);
        length <= REPLAY_MAX && s.request.method.is_idempotent() && usize::try_from(length).is_ok_and(fits)
    }

    /// Sends the request to one endpoint and waits for the response head.
    async fn attempt(&self, down: &mut Peer, s: &mut Scratch, session: &mut Session) -> Result<Answering, Failure> {
        let protocol = upgrade(&s.request, &self.backend.backend.upgrade_protocols);
        let protocol = protocol.filter(|_| matches!(down, Peer::H1(_)));
        let upgrading = protocol.is_some();
        let reached =
            unless_gone(down, pin!(reach(self.worker, self.plan, self.route, self.backend, s, upgrading))).await?;
        let streamed = s.upstream.body.is_none();
        if streamed {
            send_continue(self.plan, down, session, s).await?;
        }
        let framing = match &s.upstream.body {
            Some(body) if body.is_empty() => Framing::None,
            Some(body) => Framing::Length(body.len() as u64),
            None => session.framing,
        };
        let (mut up, way) = unless_gone(down, pin!(self.start(reached, s, framing, protocol.as_deref()))).await?;
        let max = streamed.then(|| body_max(&self.plan.node().limits, s));
        let mut upload = Upload::new(s.upstream.body.clone(), max, self.passed_trailers());
        let now = s.now(self.worker);
        s.exchange.timing.upstream_sent.get_or_insert(now);
        let waited = self.wait_for_head(down, &mut up, &mut upload, s).await;
        let waited = waited.and_then(|()| check_switch(protocol.as_deref(), &s.response));
        if let Err(failure) = waited {
            s.time_passed();
            if let (FailureKind::UpstreamTimeout, Peer::H2(h2)) = (failure.kind(), &mut up) {
                h2.doubt();
            }
            if failure.kind().side() == cardinal_http::Side::Upstream {
                report_failure(self.worker, &self.backend.group, &way.picked, s, &failure);
            }
            // A client's body that has begun to move cannot be sent again. What the upstream did not answer in time may
            // have taken effect, like what it broke off.
            let retry = match failure.retry() {
                _ if streamed && upload.has_begun() => Retry::Never,
                Retry::Never if failure.kind().side() == cardinal_http::Side::Upstream => Retry::IfIdempotent,
                retry => retry,
            };
            return Err(failure.with_retry(retry).with_target(|| picked_text(&way.picked)));
        }
        Ok(Answering { up, reached: way, upload })
    }

    /// Names of the trailer fields of the request that go upstream.
    fn passed_trailers(&self) -> Box<[Box<str>]> {
        let named = self.plan.node().request_trailers.iter();
        named.filter(|name| !self.route.chain.owns_header(name.as_bytes())).cloned().collect()
    }

    /// Writes the request head.
    async fn start(
        &self,
        reached: Reached,
        s: &Scratch,
        framing: Framing,
        upgrade: Option<&[u8]>,
    ) -> Result<(Peer, Way), Failure> {
        let Reached { transport, picked, key, requests } = reached;
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
                        .with_retry(Retry::Safe)
                };
                let ready = poll_fn(|cx| client.poll_ready(cx));
                let ready = s.up_timer.limit(self.backend.backend.timeouts.write_ms, ready).await;
                let late =
                    || UPSTREAM_WRITE_STALL.failure(self.backend.backend.timeouts.write_ms).with_retry(Retry::Safe);
                ready.ok_or_else(late)?.map_err(broken)?;
                let end = framing == Framing::None;
                let stream = client.open(&target, end, |fields| outgoing.write_h2(fields)).map_err(broken)?;
                Ok((Peer::H2(Box::new(stream)), way(Some(guard))))
            }
        }
    }

    /// Sends the body while waiting for the response head. Informational heads are passed on.
    async fn wait_for_head(
        &self,
        down: &mut Peer,
        up: &mut Peer,
        upload: &mut Upload,
        s: &mut Scratch,
    ) -> Result<(), Failure> {
        for _ in 0..=INTERIM_MAX {
            self.wait_for_any_head(down, up, upload, s).await?;
            s.time_passed();
            if s.response.status >= 200 || s.response.status == 101 {
                s.exchange.timing.upstream_head = Some(s.now(self.worker));
                return Ok(());
            }
            // The client has had its 100 from us.
            if s.response.status != 100 && s.request.version != Version::H10 {
                reply::send_informational(self.plan, down, s).await?;
            }
        }
        Err(Failure::new(FailureKind::UpstreamProtocol, "too many informational responses"))
    }

    async fn wait_for_any_head(
        &self,
        down: &mut Peer,
        up: &mut Peer,
        upload: &mut Upload,
        s: &mut Scratch,
    ) -> Result<(), Failure> {
        let (node, timeouts) = (self.plan.node(), &self.backend.backend.timeouts);
        let limits = head_limits(&node.limits);
        let mut sending = Patience::upload(&s.up_timer, &node.limits, timeouts);
        let mut waiting = Patience::download(&s.down_timer, &node.limits, timeouts, UPSTREAM_STALL);
        let response = &mut s.response;
        let mut sent = upload.moved > 0;
        poll_fn(|cx| {
            // The answer first: an upstream may answer and close before it has read the whole body. Before it has the
            // head it does not answer.
            if std::mem::replace(&mut sent, true)
                && let Poll::Ready(outcome) = poll_head(cx, up, response, &limits)
            {
                return Poll::Ready(outcome.map_err(|error| head_failure(error, &limits)));
            }
            match upload.poll(cx, down, up) {
                Ok(_) if upload.misses_end_of(down) && down.poll_gone(cx).is_ready() => {
                    return Poll::Ready(Err(client_gone("while waiting for the upstream")));
                }
                Ok(Progress::Done) => waiting.check(cx, Progress::Upstream, 0)?,
                Ok(progress) => sending.check(cx, progress, upload.moved)?,
                // An upstream that takes no more may have answered.
                Err(Broken::Upstream(error)) => match poll_head(cx, up, response, &limits) {
                    Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                    _ => return Poll::Ready(Err(head_failure(error, &limits))),
                },
                Err(broken) => return Poll::Ready(Err(broken.failure())),
            }
            // Flushing may have let the answer in.
            poll_head(cx, up, response, &limits).map_err(|error| head_failure(error, &limits))
        })
        .await
    }

    /// Gives the response to the client.
    async fn answer(&self, mut answering: Answering, turn: &mut Turn<'_>) -> Result<(), Failure> {
        let s = &mut *turn.s;
        let status = s.response.status;
        if let Some(attempt) = s.exchange.tries.last_mut() {
            attempt.status = Some(status);
        }
        s.exchange.source = Source::Upstream;
        // What must not have a body and announces one may send it: nobody else gets it.
        let reusable = keep_alive(s.response.version, &s.response.headers)
            && !(status == 204 && announces_body(&s.response.headers))
            && s.request.method != Method::Connect;
        let framing = response_framing(&s.request.method, &s.response)
            .map_err(|error| Failure::new(FailureKind::UpstreamProtocol, "response framing").with_source(error))
            .map_err(|failure| failure.with_target(|| picked_text(&answering.reached.picked)))?;
        if answering.upload.is_done() {
            // There is no further try that would need it.
            s.free_request_body();
        }
        if let Peer::H1(h1) = &mut answering.up {
            h1.start_reading_response(if status == 101 { Framing::UntilClose } else { framing });
        }
        if status == 101 {
            return self.switch(answering, turn);
        }
        super::upstream_head::strip_response(&mut s.response);
        run_response(self.plan, &self.route.chain, s);
        let outcome = self.body(&mut answering, framing, turn).await;
        turn.s.exchange.bytes.received += answering.upload.received();
        let outcome = outcome.map_err(|failure| failure.with_target(|| picked_text(&answering.reached.picked)));
        self.report(&answering.reached, turn.s, status, &outcome);
        self.keep(answering, reusable && outcome.is_ok(), turn.s);
        outcome
    }

    /// Passes the response body on, by way of filters that want it.
    async fn body(&self, answering: &mut Answering, framing: Framing, turn: &mut Turn<'_>) -> Result<(), Failure> {
        let s = &mut *turn.s;
        if let BodyMode::Whole(max) = s.exchange.body_mode
            && framing != Framing::None
        {
            let before = s.exchange.held.bytes();
            let whole = Box::pin(self.whole(answering, framing, max, turn.down, s)).await?;
            s.time_passed();
            let counted = s.exchange.held.bytes().saturating_sub(before);
            let place = whole.as_ptr();
            let body = run_body(self.plan, &self.route.chain, s, whole, true);
            if body.as_ptr() != place {
                s.recount(&self.plan.services.memory, counted, body.len())?;
            }
            return reply::send_whole(turn, body).await;
        }
        if framing != Framing::None && reply::is_to_head(s) {
            // The upstream was asked with another method: the client gets the head alone.
            return reply::send(turn, framing, Bytes::new()).await;
        }
        let filtered = s.exchange.body_mode != BodyMode::Pass;
        let known = s.response.headers.known(cardinal_http::Name::ContentLength).is_some();
        let framing = match framing {
            Framing::Length(length) if !filtered || known => Framing::Length(length),
            Framing::None if reply::is_bodyless(s) => Framing::None,
            // The upstream was asked with HEAD, and the client waits for a body.
            Framing::None => Framing::Length(0),
            // A head that is all there is stays so: gRPC tells an error by it ("trailers only").
            _ if !filtered && matches!(answering.up, Peer::H2(_)) && answering.up.body_done() => match turn.down {
                Peer::H1(_) => Framing::Length(0),
                Peer::H2(_) => Framing::None,
            },
            _ => Framing::UntilClose,
        };
        let sent = reply::start_response(turn, framing);
        sent.map_err(|error| Broken::Client(error).failure())?;
        let mut download = Download::new(filtered);
        let outcome = self.pump(answering, &mut download, turn.down, turn.s).await;
        let s = &mut *turn.s;
        s.exchange.bytes.body_sent += download.moved;
        s.exchange.bytes.sent += download.moved;
        if !answering.upload.is_done() {
            // The answer came before the request was over: the rest of it has no reader.
            turn.session.keep_alive = false;
        }
        outcome
    }

    /// Moves both bodies until the response is through.
    async fn pump(
        &self,
        answering: &mut Answering,
        download: &mut Download,
        down: &mut Peer,
        s: &mut Scratch,
    ) -> Result<(), Failure> {
        let (limits, timeouts) = (&self.plan.node().limits, &self.backend.backend.timeouts);
        let timers = (Rc::clone(&s.up_timer), Rc::clone(&s.down_timer));
        let mut sending = Patience::upload(&timers.0, limits, timeouts);
        let mut receiving = Patience::download(&timers.1, limits, timeouts, RESPONSE_BODY_STALL);
        let Answering { up, upload, .. } = answering;
        let mut uploading = !upload.is_done();
        let mut waited = false;
        let mut filter = |data, last| run_body(self.plan, &self.route.chain, s, data, last);
        let outcome = poll_fn(|cx| {
            if uploading {
                uploading = upload_rest(cx, upload, down, up, &mut sending)?;
            }
            let progress = download.poll(cx, down, up, &mut filter).map_err(Broken::failure)?;
            if progress == Progress::Done {
                return Poll::Ready(Ok(()));
            }
            let unseen = !uploading || upload.misses_end_of(down);
            if unseen && progress == Progress::Upstream && down.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(client_gone("while receiving the response")));
            }
            waited = true;
            receiving.check(cx, progress, download.moved)?;
            Poll::Pending
        })
        .await;
        drop((sending, receiving));
        if waited {
            s.time_passed();
        }
        outcome
    }

    /// The whole response body, for filters that need it so. What is left of the request body moves on meanwhile.
    async fn whole(
        &self,
        answering: &mut Answering,
        framing: Framing,
        max: u64,
        down: &mut Peer,
        s: &mut Scratch,
    ) -> Result<Bytes, Failure> {
        let (limits, timeouts) = (&self.plan.node().limits, &self.backend.backend.timeouts);
        let max = max.min(limits.buffered_body_bytes_max);
        let expected = match framing {
            Framing::Length(length) => length,
            _ => max,
        };
        let terms = Terms {
            max,
            expected,
            timeout_ms: timeouts.read_ms,
            late: RESPONSE_BODY_STALL,
            slowest: BODY_RATE_MIN,
            budget: &self.plan.services.memory,
        };
        let mut sending = Patience::upload(&s.up_timer, limits, timeouts);
        let Answering { up, upload, .. } = answering;
        let mut uploading = !upload.is_done();
        let meanwhile = |cx: &mut Context<'_>, up: &mut Peer| {
            if uploading {
                uploading = upload_rest(cx, upload, down, up, &mut sending)?;
            }
            let unseen = !uploading || upload.misses_end_of(down);
            let gone = unseen && down.poll_gone(cx).is_ready();
            if gone { Err(client_gone("while receiving the response")) } else { Ok(()) }
        };
        let read = collect(up, &terms, &s.down_timer, &mut s.exchange.held, meanwhile).await;
        read.map_err(|error| match error {
            Collect::NoRoom => Failure::new(FailureKind::Overloaded, NO_ROOM),
            Collect::TooLarge => Failure::new(FailureKind::UpstreamProtocol, "response body too large for a filter"),
            Collect::Broken(error) => Broken::Upstream(error).failure(),
            Collect::Failed(failure) => failure,
        })
    }

    /// Leaves HTTP: both sides are connected byte by byte from here on.
    fn switch(&self, answering: Answering, turn: &mut Turn<'_>) -> Result<(), Failure> {
        run_response(self.plan, &self.route.chain, turn.s);
        reply::start_switch(turn);
        turn.session.keep_alive = false;
        let (Peer::H1(_), Peer::H1(upstream)) = (&*turn.down, answering.up) else {
            return Err(Failure::new(FailureKind::UpstreamProtocol, "101 over HTTP/2"));
        };
        let Way { picked, .. } = answering.reached;
        let timeouts = &self.backend.backend.timeouts;
        turn.session.switched = Some(Box::new(Switched {
            upstream,
            picked,
            group: Arc::clone(&self.backend.group),
            idle_ms: timeouts.read_ms.max(timeouts.write_ms),
            chain: Arc::clone(&self.route.chain),
            services: self.plan.services.clone(),
        }));
        Ok(())
    }

    /// Tells the balancer how it went.
    fn report(&self, way: &Way, s: &mut Scratch, status: u16, outcome: &Result<(), Failure>) {
        let now = s.now(self.worker);
        let upstream_failed =
            outcome.as_ref().is_err_and(|failure| failure.kind().side() == cardinal_http::Side::Upstream);
        self.backend.group.report(
            &way.picked,
            if upstream_failed { Outcome::TcpFailure } else { Outcome::Status(status) },
            now,
        );
        if let Some(attempt) = s.exchange.tries.last() {
            self.backend.group.report(&way.picked, Outcome::Ok { latency: now.since(attempt.tick) }, now);
        }
    }

    /// Keeps the connection for the next request, if it is in order.
    fn keep(&self, answering: Answering, reusable: bool, s: &mut Scratch) {
        let Answering { up, reached, upload } = answering;
        let h1 = match up {
            Peer::H1(h1) => h1,
            Peer::H2(h2) => {
                let Way { picked, _guard, .. } = reached;
                drop((h2, _guard));
                return circuit::stream_ended(self.worker, &self.backend.group, &picked);
            }
        };
        if reusable && upload.is_done() && h1.body_done() && h1.unread().is_empty() {
            let limits = Worker::pool_limits(self.plan);
            let (key, requests) = (reached.key, reached.requests + 1);
            let mut keep = |h1| self.worker.pool.borrow_mut().put(key, h1, requests, &limits, s.now(self.worker));
            match circuit::afterwards(self.worker, &h1) {
                Afterwards::Keep => keep(h1),
                Afterwards::Offer(seat) => {
                    keep(h1);
                    seat.offer();
                }
                Afterwards::Close => {}
            }
        }
    }
}

/// Moves the rest of the request body while the response comes. `false` when there is nothing more to move.
fn upload_rest(
    cx: &mut Context<'_>,
    upload: &mut Upload,
    down: &mut Peer,
    up: &mut Peer,
    sending: &mut Patience<'_>,
) -> Result<bool, Failure> {
    match upload.poll(cx, down, up) {
        Ok(Progress::Done) => Ok(false),
        Ok(progress) => sending.check(cx, progress, upload.moved).map(|()| true),
        // An upstream need not read a request to its end to answer it.
        Err(Broken::Upstream(_)) => Ok(false),
        Err(broken) => Err(broken.failure()),
    }
}

/// Refuses a response with status 101 to a request that did not ask for it, or not for that protocol.
fn check_switch(asked: Option<&[u8]>, response: &ResponseHead) -> Result<(), Failure> {
    let as_asked = response.status != 101 || asked.is_some_and(|asked| switches_as_asked(asked, &response.headers));
    let refused = || Failure::new(FailureKind::UpstreamProtocol, "101 with a protocol that was not asked for");
    as_asked.then_some(()).ok_or_else(refused)
}

/// Whether another endpoint may be tried (nginx's `proxy_next_upstream error timeout`, as Kong sets it).
fn may_retry(failure: &Failure, s: &Scratch) -> bool {
    match failure.kind() {
        FailureKind::UpstreamConnect
        | FailureKind::UpstreamConnectTimeout
        | FailureKind::UpstreamTls
        | FailureKind::UpstreamReset
        | FailureKind::UpstreamTimeout
        | FailureKind::UpstreamWriteTimeout => match failure.retry() {
            Retry::Safe => true,
            Retry::IfIdempotent => s.request.method.is_idempotent(),
            Retry::Never => false,
        },
        FailureKind::Overloaded => failure.retry() == Retry::Safe,
        _ => false,
    }
}

/// What went wrong while a response head was waited for.
fn head_failure(error: NetError, limits: &HeadLimits) -> Failure {
    let kind = match &error {
        error if error.is_local() => FailureKind::Overloaded,
        NetError::Head(_) | NetError::BufferFull => FailureKind::UpstreamProtocol,
        NetError::H2(error) if !error.is_disconnect() => FailureKind::UpstreamProtocol,
        _ => FailureKind::UpstreamReset,
    };
    let retry = match &error {
        // The upstream says that it has done nothing for it.
        NetError::H2(error) if error.is_refusal() => Retry::Safe,
        // The request may have arrived: only what may be repeated is.
        _ => Retry::IfIdempotent,
    };
    let failure = match error {
        NetError::Head(HeadError::TooLarge | HeadError::LineTooLong) | NetError::BufferFull => {
            let text = format!("larger than upstream_max_head_size ({} bytes)", limits.head_bytes_max);
            Failure::new(kind, "response head too large").with_source(text)
        }
        NetError::Head(HeadError::TooMany) => {
            let text = format!("more than client_max_headers ({})", limits.header_count_max);
            Failure::new(kind, "too many fields in the response head").with_source(text)
        }
        error => Failure::new(kind, "waiting for the response").with_source(error),
    };
    failure.with_retry(retry)
}

fn head_limits(limits: &Limits) -> HeadLimits {
    let head_bytes_max = limits.response_head_bytes_max as usize;
    HeadLimits { head_bytes_max, line_bytes_max: head_bytes_max, header_count_max: limits.header_count_max as usize }
}

fn poll_head(
    cx: &mut Context<'_>,
    up: &mut Peer,
    head: &mut ResponseHead,
    limits: &HeadLimits,
) -> Poll<Result<(), NetError>> {
    match up {
        Peer::H1(h1) => poll_h1_head(cx, h1, head, limits),
        Peer::H2(h2) => h2.poll_response(cx, head),
    }
}

fn poll_h1_head(
    cx: &mut Context<'_>,
    h1: &mut H1,
    head: &mut ResponseHead,
    limits: &HeadLimits,
) -> Poll<Result<(), NetError>> {
    loop {
        if !h1.unread().is_empty() {
            head.clear();
            match parse_response(h1.unread(), limits, head) {
                Ok(Parsed::Complete(length)) => {
                    h1.consume_head(length);
                    return Poll::Ready(Ok(()));
                }
                Ok(Parsed::Partial) => {}
                Err(error) => return Poll::Ready(Err(NetError::Head(error))),
            }
        }
        match std::task::ready!(h1.poll_read_more(cx, limits.head_bytes_max)) {
            Ok(0) => return Poll::Ready(Err(NetError::Closed)),
            Ok(_) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}
