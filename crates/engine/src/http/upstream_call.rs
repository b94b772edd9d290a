//! Sends a request to a backend and forwards the response, with retries.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use cardinal_balance::Outcome;
use cardinal_http::h1::{Framing, announces_body, keep_alive, response_framing};
use cardinal_http::{Failure, FailureKind, Method, ResponseHead, Retry as Repeat, Version};
use cardinal_ir::policy::Retry;
use cardinal_net::Peer;
use cardinal_sdk::{BodyMode, ChunkAccess, Source, TryState};

use super::body::{Body, body_max};
use super::client_body::ClientBody;
use super::collect::{BODY_RATE_MIN, Collect, Terms, collect};
use super::filters::run_body;
use super::forward::{
    Download, Progress, RESPONSE_BODY_STALL, StallTimer, TransferError, UPSTREAM_STALL, Upload, check_watch,
    client_gone, unless_gone,
};
use super::halt::Halt;
use super::mirroring::copies;
use super::reply::{self, send_continue};
use super::request_body::{self, BodyFilters, upstream_framing};
use super::request_info::{switches_as_asked, upgrade};
use super::response_head::{head_failure, head_limits, poll_head};
use super::session::{RequestContext, Session, Switched};
use super::upstream::acquire_connection;
use super::upstream_head::make_uri;
use super::upstream_start::{INTERIM_MAX, UpstreamCall, Way};
use crate::exchange::failure_log::{self, Line};
use crate::exchange::{CallState, Lasting, NO_ROOM, Replay, Scratch, TunnelLimits, picked_text, report_failure};
use crate::policy::circuit;
use crate::policy::retry::{
    Attempt, BudgetGuard, Delay, Situation, decide, failed_attempt, may_repeat, watches_responses,
};
use crate::policy::timeouts::Watch;
use crate::policy::{headers, telemetry};

/// Maximum number of request body bytes that are kept for a retry at another endpoint.
const REPLAY_MAX: u64 = 64 * 1024;

/// Maximum number of bytes read of a response that is dropped for a retry, to keep its connection. If the rest is
/// longer or has not arrived, the connection is closed.
const DROPPED_MAX: usize = 16 * 1024;

/// An upstream that has sent a response head; the request may still be uploading.
struct Answering {
    up: Peer,
    reached: Way,
    upload: Upload,
}

/// The step after an attempt.
enum Next<'t> {
    /// The outcome of the attempt is the outcome of the request.
    Answer(Result<Answering, Halt>),
    /// A further attempt, after this future.
    Retry(Pin<Box<dyn Future<Output = Result<(), Failure>> + 't>>),
}

impl UpstreamCall<'_> {
    pub(super) async fn run(&self, context: &mut RequestContext<'_>) -> Result<(), Halt> {
        let RequestContext { down, s, session, .. } = context;
        make_uri(s);
        if session.framing == Framing::None && s.upstream.body.is_none() {
            s.upstream.body = Some(Bytes::new());
        }
        let begun = self.call(s);
        s.call.put_back(begun);
        if s.upstream.body.is_none() {
            self.hold_body(down, s, session).await?;
        }
        if s.exchange.request_chunks != ChunkAccess::None {
            request_body::start(self.plan, self.chain, s)?;
        }
        if let (Some(watch), Some(_)) = (s.call.watch(), &s.upstream.body) {
            watch.request_complete();
        }
        if self.route.route.policies.is_some() {
            self.mirror(s, session);
        }
        let own = self.route.route.policies.as_ref().and_then(|policies| policies.retry.as_deref());
        let watches = own.map_or(self.backend.watches_responses, watches_responses);
        let answering = loop {
            let attempt = match self.attempt(down, s, session).await {
                Ok(answering) if !watches => break answering,
                attempt => attempt,
            };
            match self.next_try(attempt, down, s) {
                Next::Answer(outcome) => break outcome?,
                Next::Retry(prepare) => prepare.await?,
            }
        };
        self.answer(answering, context).await
    }

    /// Copies the request for the mirrors of the route. If the body is not buffered, the copies are sent when it has
    /// been forwarded.
    fn mirror(&self, s: &mut Scratch, session: &Session) {
        let length = match upstream_framing(s, session.framing) {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let Some(copies) = copies(self.worker, self.plan, self.route, s, length) else { return };
        match &s.upstream.body {
            Some(body) => copies.complete_with(body.clone()),
            None => s.copies = Some(copies),
        }
    }

    /// The retry settings that apply to the request.
    fn retry(&self) -> Option<&Retry> {
        self.route.retry(self.backend)
    }

    fn call(&self, s: &Scratch) -> CallState {
        let retry = self.retry();
        let watch = Watch::start(&s.timeouts, retry, &self.worker.wheel);
        let has_budget = retry.is_some_and(|retry| retry.budget.is_some());
        let budget = has_budget.then(|| BudgetGuard::new(&self.backend.group, self.worker.index));
        let lasts = watch.is_some() || budget.is_some();
        CallState(lasts.then(|| Box::new(Lasting { watch, budget, ..Lasting::default() })))
    }

    /// Makes sure that the request body can be sent again if a retry may need it: a body whose declared length is small
    /// enough is read completely before an endpoint is chosen; of a body without a length, the part already sent is
    /// kept.
    async fn hold_body(&self, down: &mut Peer, s: &mut Scratch, session: &mut Session) -> Result<(), Failure> {
        let repeats = self.retry().is_some_and(|retry| may_repeat(retry, &s.request));
        match session.framing {
            // A body of length 0 is read too: in HTTP/2 the end of the stream may show that the length was wrong.
            Framing::Length(length) if length == 0 || (repeats && self.is_held(length, s)) => {
                let whole = ClientBody { down, session }.whole(self.plan, s, REPLAY_MAX).await?;
                s.time_passed();
                s.upstream.body = Some(whole);
            }
            Framing::Chunked | Framing::UntilClose if repeats => {
                let held = s.exchange.held.split(0);
                s.call.keep_replay(Some(Replay::new(REPLAY_MAX as usize, held, &self.plan.services.memory)));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a body of this length is buffered for a retry.
    fn is_held(&self, length: u64, s: &Scratch) -> bool {
        let fits = |length| s.exchange.held.fits(&self.plan.services.memory, length);
        length <= REPLAY_MAX && usize::try_from(length).is_ok_and(fits)
    }

    /// Determines the step after an attempt. It is not async, so that the future of a request needs no space for
    /// dropping an attempt, which is rare.
    fn next_try<'t>(&'t self, attempt: Result<Answering, Halt>, down: &'t mut Peer, s: &'t mut Scratch) -> Next<'t> {
        match self.decide(&attempt, s) {
            None => Next::Answer(attempt),
            Some(delay) => Next::Retry(Box::pin(self.prepare_retry(attempt, delay, down, s))),
        }
    }

    /// Whether and when the request is sent again after this attempt.
    fn decide(&self, outcome: &Result<Answering, Halt>, s: &mut Scratch) -> Option<Delay> {
        let retry = self.retry()?;
        let now = self.worker.unix(s.now(self.worker));
        let (attempt, replayable) = match outcome {
            Ok(answering) => (Attempt::Response(&s.response), answering.upload.is_repeatable()),
            Err(Halt::Failed(failure)) => {
                let expired = s.call.watch().and_then(Watch::try_ended);
                (failed_attempt(failure, expired)?, true)
            }
            Err(Halt::Replied(_)) => return None,
        };
        let situation = Situation {
            retries: u16::try_from(s.exchange.tries.len().saturating_sub(1)).unwrap_or(u16::MAX),
            request: &s.request,
            replayable,
            left_ms: s.call.watch().and_then(|watch| watch.left_ms()),
            now,
        };
        let delay = decide(retry, attempt, &situation, |bound| self.worker.random_below(bound))?;
        // Permits come first: they are released on drop if the retry budget refuses.
        let permit = if s.call.has_permit() { None } else { circuit::retry(self.worker, &self.backend.group).ok()? };
        if let (Some(Lasting { budget: Some(guard), .. }), Some(budget)) = (s.call.0.as_deref_mut(), retry.budget)
            && !guard.start_retry(budget)
        {
            self.worker.counters().retry_budget_exhausted();
            return None;
        }
        s.call.keep_permit(permit);
        self.worker.counters().retried(delay.reason);
        Some(delay)
    }

    /// Drops the remains of an attempt, and waits for the backoff.
    async fn prepare_retry(
        &self,
        attempt: Result<Answering, Halt>,
        delay: Delay,
        down: &mut Peer,
        s: &mut Scratch,
    ) -> Result<(), Failure> {
        match attempt {
            Ok(answering) => {
                failure_log::write_retry(s, delay.reason.label(), &picked_text(&answering.reached.picked));
                s.call.watch().and_then(Watch::try_ended);
                let replay = self.drop_response(answering, s).await;
                s.call.keep_replay(replay);
            }
            Err(halt) => failure_log::write(Line::Retry, s, &halt.into_failure()),
        }
        if delay.ms > 0 {
            let timer = Rc::clone(&s.up_timer);
            timer.arm(delay.ms);
            let wait = async {
                timer.expired().await;
                Ok(())
            };
            let waited = unless_gone(down, s.call.watch(), pin!(wait)).await;
            timer.disarm();
            s.time_passed();
            waited?;
        }
        Ok(())
    }

    /// Drops a response before a retry: nothing of it has been sent to the client. Its connection is kept if the rest
    /// of the response has already arrived. Returns the kept part of the request body.
    async fn drop_response(&self, mut answering: Answering, s: &mut Scratch) -> Option<Box<Replay>> {
        let status = s.response.status;
        if let Some(attempt) = s.exchange.tries.last_mut() {
            (attempt.status, attempt.state) = (Some(status), Some(TryState::Next));
        }
        self.report(&answering.reached, s, status, false);
        if s.trace.is_some() {
            let now = s.now(self.worker);
            telemetry::attempt_ended(s, now);
        }
        s.copies = answering.upload.copies.take();
        s.call.keep_filtered(answering.upload.filtered.take());
        let replay = answering.upload.take_replay();
        let framing = response_framing(&s.request.method, &s.response).ok().filter(|_| is_reusable(s));
        let (Some(framing), Peer::H1(h1)) = (framing, &mut answering.up) else {
            let Answering { up, reached, .. } = answering;
            self.let_go(up, reached);
            return replay;
        };
        h1.start_reading_response(framing);
        self.skip_body(answering, s).await;
        replay
    }

    /// Reads the part of an unwanted response body that has already arrived, and keeps the connection if that completes
    /// the body.
    async fn skip_body(&self, mut answering: Answering, s: &mut Scratch) {
        let Peer::H1(h1) = &mut answering.up else {
            let Answering { up, reached, .. } = answering;
            return self.let_go(up, reached);
        };
        let mut left = DROPPED_MAX;
        let is_read = poll_fn(|cx| {
            loop {
                match h1.poll_body(cx) {
                    Poll::Ready(Ok(true)) if h1.data().len() <= left => {
                        let count = h1.data().len();
                        left -= count;
                        h1.consume(count);
                    }
                    Poll::Ready(Ok(false)) => return Poll::Ready(true),
                    Poll::Ready(_) | Poll::Pending => return Poll::Ready(false),
                }
            }
        });
        let is_read = is_read.await;
        self.keep(answering, is_read, s);
    }

    /// Sends the request to one endpoint and waits for the response head.
    async fn attempt(&self, down: &mut Peer, s: &mut Scratch, session: &mut Session) -> Result<Answering, Halt> {
        let protocol = upgrade(&s.request, &self.backend.backend.upgrade_protocols);
        let protocol = protocol.filter(|_| matches!(down, Peer::H1(_)));
        let upgrading = protocol.is_some();
        let (worker, plan) = (self.worker, self.plan);
        // The watch is polled in parallel with code that uses the rest of the scratch.
        let mut call = s.call.take();
        let to = (self.route, self.backend, Some(&**self.chain));
        let reached = unless_gone(down, call.watch(), pin!(acquire_connection(worker, plan, to, s, upgrading))).await;
        s.call.put_back(call);
        let reached = reached?;
        let streamed = s.upstream.body.is_none();
        if streamed {
            send_continue(self.plan, down, session, s).await?;
        }
        let framing = upstream_framing(s, session.framing);
        if s.trace.is_some() {
            telemetry::before_attempt(s, || self.worker.random());
        }
        let mut call = s.call.take();
        let started = unless_gone(down, call.watch(), pin!(self.start(reached, s, framing, protocol.as_deref()))).await;
        s.call.put_back(call);
        let (up, way) = started?;
        let max = streamed.then(|| body_max(&self.plan.node().limits, s));
        let mut upload = Upload::new(s.upstream.body.clone(), max, self.passed_trailers(), s.call.take_replay());
        upload.copies = s.copies.take();
        upload.filtered = s.call.take_filtered();
        let mut answering = Answering { up, reached: way, upload };
        if let Some(watch) = s.call.watch() {
            watch.try_started();
        }
        let now = s.now(self.worker);
        s.exchange.timing.upstream_sent.get_or_insert(now);
        let waited = self.wait_for_head(down, &mut answering, s).await;
        let waited = waited.and_then(|()| check_switch(protocol.as_deref(), &s.response).map_err(Halt::from));
        let failure = match waited {
            Ok(()) => return Ok(answering),
            Err(Halt::Failed(failure)) => failure,
            Err(replied) => return Err(replied),
        };
        s.time_passed();
        let Answering { mut up, reached: way, mut upload } = answering;
        // If there is a further attempt, the copies continue with the data that it reads from the client.
        s.copies = upload.copies.take();
        if let (FailureKind::UpstreamTimeout, Peer::H2(h2)) = (failure.kind(), &mut up) {
            h2.mark_suspect();
        }
        if s.call.blames_upstream(&failure) {
            report_failure(self.worker, &self.backend.group, &way.picked, s, &failure);
        }
        // A client's body that has been partly forwarded and was not kept cannot be sent again. A request that timed
        // out or was interrupted at the upstream may have taken effect.
        let repeat = match failure.retry() {
            _ if !upload.is_repeatable() => Repeat::Never,
            Repeat::Never if failure.kind().side() == cardinal_http::Side::Upstream => Repeat::IfIdempotent,
            repeat => repeat,
        };
        s.call.keep_filtered(upload.filtered.take());
        s.call.keep_replay(upload.take_replay());
        let failure = failure.with_retry(repeat).with_target(|| picked_text(&way.picked));
        self.let_go(up, way);
        Err(failure.into())
    }

    /// Names of the trailer fields of the request that are forwarded.
    fn passed_trailers(&self) -> Box<[Box<str>]> {
        let named = self.plan.node().request_trailers.iter();
        named.filter(|name| !self.chain.owns_header(name.as_bytes())).cloned().collect()
    }

    /// Sends the body while waiting for the response head. Informational responses are forwarded.
    async fn wait_for_head(&self, down: &mut Peer, answering: &mut Answering, s: &mut Scratch) -> Result<(), Halt> {
        for _ in 0..=INTERIM_MAX {
            self.wait_for_any_head(down, answering, s).await?;
            s.time_passed();
            if s.response.status >= 200 || s.response.status == 101 {
                s.exchange.timing.upstream_head = Some(s.now(self.worker));
                return Ok(());
            }
            // The gateway has already sent `100 Continue` itself.
            if s.response.status != 100 && s.request.version != Version::H10 {
                reply::send_informational(self.plan, down, s).await?;
            }
        }
        Err(Failure::new(FailureKind::UpstreamProtocol, "too many informational responses").into())
    }

    async fn wait_for_any_head(&self, down: &mut Peer, answering: &mut Answering, s: &mut Scratch) -> Result<(), Halt> {
        let node = self.plan.node();
        let limits = head_limits(&node.limits);
        let mut sending = StallTimer::upload(&s.up_timer, &node.limits, &s.timeouts);
        let mut waiting = StallTimer::download(&s.down_timer, &node.limits, &s.timeouts, UPSTREAM_STALL);
        let Scratch { response, call, choices, request, exchange, .. } = s;
        let mut filters = BodyFilters { plan: self.plan, chain: self.chain, choices, request, exchange };
        let Answering { up, upload, .. } = answering;
        let mut sent = upload.moved > 0;
        poll_fn(|cx| {
            // The response is polled first: an upstream may respond and close before it has read the whole body. It
            // does not respond before it has received the head.
            if std::mem::replace(&mut sent, true)
                && let Poll::Ready(outcome) = poll_head(cx, up, response, &limits)
            {
                return Poll::Ready(outcome.map_err(|error| head_failure(error, &limits).into()));
            }
            let progress = match upload.poll(cx, down, up, &mut filters) {
                Ok(_) if upload.misses_end_of(down) && down.poll_gone(cx).is_ready() => {
                    return Poll::Ready(Err(client_gone("while waiting for the upstream").into()));
                }
                Ok(Progress::Done) => waiting.check(cx, Progress::Upstream, 0).map(|()| Progress::Upstream)?,
                Ok(progress) => sending.check(cx, progress, upload.activity()).map(|()| progress)?,
                // The upstream may have responded before it stopped reading.
                Err(TransferError::Upstream(error)) => match poll_head(cx, up, response, &limits) {
                    Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                    _ => return Poll::Ready(Err(head_failure(error, &limits).into())),
                },
                Err(broken) => return Poll::Ready(Err(broken.halt())),
            };
            // Flushing may have made the response readable.
            let outcome = poll_head(cx, up, response, &limits).map_err(|error| head_failure(error, &limits).into());
            if let (Some(watch), Poll::Pending) = (call.watch(), &outcome) {
                if upload.is_finished() {
                    watch.try_sent();
                }
                let by_client = (progress == Progress::Client).then_some(FailureKind::BodyTimeout);
                check_watch(cx, watch, upload.activity(), by_client)?;
            }
            outcome
        })
        .await
    }

    /// Sends the response to the client.
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice, and this one is large")]
    fn answer(
        &self,
        mut answering: Answering,
        context: &mut RequestContext<'_>,
    ) -> impl Future<Output = Result<(), Halt>> {
        async move {
            let s = &mut *context.s;
            let status = s.response.status;
            answering.upload.stop_keeping();
            if let Some(attempt) = s.exchange.tries.last_mut() {
                attempt.status = Some(status);
            }
            s.exchange.source = Source::Upstream;
            let reusable = is_reusable(s);
            let framing = response_framing(&s.request.method, &s.response)
                .map_err(|error| Failure::new(FailureKind::UpstreamProtocol, "response framing").with_source(error))
                .map_err(|failure| failure.with_target(|| picked_text(&answering.reached.picked)))?;
            if answering.upload.is_done() {
                // No further attempt can need the request body.
                s.free_request_body();
            }
            if let Peer::H1(h1) = &mut answering.up {
                h1.start_reading_response(if status == 101 { Framing::UntilClose } else { framing });
            }
            if status != 101 {
                super::upstream_head::strip_response(&mut s.response);
                let policies = self.route.route.policies.as_deref();
                if let Some(edits) = policies.and_then(|policies| policies.response_headers.as_ref()) {
                    headers::edit(edits, &mut s.response.headers);
                }
            }
            let limit = ("read_timeout", s.timeouts.read_ms);
            if let Some(body) = reply::response_phase(context, self.chain, limit).await? {
                return Ok(Box::pin(self.replace(answering, reusable, body, context)).await?);
            }
            if status == 101 {
                return Ok(self.switch(answering, context)?);
            }
            let outcome = self.body(&mut answering, framing, context).await;
            context.s.exchange.bytes.received += answering.upload.received();
            let target = || picked_text(&answering.reached.picked);
            let outcome = outcome.map_err(|halt| halt.map_failure(|failure| failure.with_target(target)));
            let failed = match &outcome {
                Err(Halt::Failed(failure)) => context.s.call.blames_upstream(failure),
                Err(Halt::Replied(_)) | Ok(()) => false,
            };
            self.report(&answering.reached, context.s, status, failed);
            self.keep(answering, reusable && outcome.is_ok(), context.s);
            outcome
        }
    }

    /// Sends a filter's reply in place of the upstream's response.
    async fn replace(
        &self,
        answering: Answering,
        reusable: bool,
        body: Bytes,
        context: &mut RequestContext<'_>,
    ) -> Result<(), Failure> {
        let s = &mut *context.s;
        s.exchange.bytes.received += answering.upload.received();
        if let Some(status) = s.exchange.tries.last().and_then(|attempt| attempt.status) {
            self.report(&answering.reached, s, status, false);
        }
        if reusable {
            self.skip_body(answering, s).await;
        } else {
            drop(answering);
        }
        s.free_request_body();
        reply::send_local(context, self.chain, body).await
    }

    /// Forwards the response body, through filters if they process it.
    async fn body(
        &self,
        answering: &mut Answering,
        framing: Framing,
        context: &mut RequestContext<'_>,
    ) -> Result<(), Halt> {
        let s = &mut *context.s;
        if let BodyMode::Whole(max) = s.exchange.body_mode
            && framing != Framing::None
        {
            let before = s.exchange.held.bytes();
            let whole = Box::pin(self.whole(answering, (framing, max), context.down, s)).await?;
            s.time_passed();
            let counted = s.exchange.held.bytes().saturating_sub(before);
            let place = whole.as_ptr();
            let body = run_body(self.plan, self.chain, s, whole, true);
            if body.as_ptr() != place {
                s.recount(&self.plan.services.memory, counted, body.len())?;
            }
            return Ok(reply::send_whole(context, body).await?);
        }
        if framing != Framing::None && reply::is_to_head(s) {
            // A filter changed the method for the upstream from the client's HEAD: the client receives the head only.
            return Ok(reply::send(context, framing, Bytes::new()).await?);
        }
        let filtered = s.exchange.body_mode != BodyMode::Pass;
        let known = s.response.headers.known(cardinal_http::Name::ContentLength).is_some();
        let framing = match framing {
            Framing::Length(length) if !filtered || known => Framing::Length(length),
            Framing::None if reply::is_bodyless(s) => Framing::None,
            // A filter changed the client's method to HEAD for the upstream: the client expects a body.
            Framing::None => Framing::Length(0),
            // A response that consists of a head only stays so: gRPC uses this for errors ("trailers only").
            _ if !filtered && matches!(answering.up, Peer::H2(_)) && answering.up.body_done() => match context.down {
                Peer::H1(_) => Framing::Length(0),
                Peer::H2(_) => Framing::None,
            },
            _ => Framing::UntilClose,
        };
        let sent = reply::start_response(context, framing);
        sent.map_err(|error| TransferError::Client(error).failure())?;
        let mut download = Download::new(filtered);
        if let Some(rate) = context.s.exchange.response_rate_max {
            download = download.with_rate(rate, &self.worker.wheel);
        }
        let outcome = self.pump(answering, &mut download, context.down, context.s).await;
        let s = &mut *context.s;
        s.exchange.bytes.body_sent += download.moved;
        s.exchange.bytes.sent += download.moved;
        if !answering.upload.is_done() {
            // The response ended before the request: the rest of the request is not read.
            context.session.keep_alive = false;
        }
        outcome
    }

    /// Forwards both bodies until the response is complete.
    async fn pump(
        &self,
        answering: &mut Answering,
        download: &mut Download,
        down: &mut Peer,
        s: &mut Scratch,
    ) -> Result<(), Halt> {
        let limits = &self.plan.node().limits;
        let timers = (Rc::clone(&s.up_timer), Rc::clone(&s.down_timer));
        let mut sending = StallTimer::upload(&timers.0, limits, &s.timeouts);
        let mut receiving = StallTimer::download(&timers.1, limits, &s.timeouts, RESPONSE_BODY_STALL);
        let Answering { up, upload, .. } = answering;
        let mut uploading = !upload.is_done();
        let mut waited = false;
        let mut call = s.call.take();
        let outcome = poll_fn(|cx| {
            if uploading {
                let mut filters = BodyFilters::new(self.plan, self.chain, s);
                uploading = upload_rest(cx, upload, (down, up), &mut filters, &mut sending)?;
            }
            let mut filter = |data, last| run_body(self.plan, self.chain, s, data, last);
            let progress = download.poll(cx, down, up, &mut filter).map_err(TransferError::failure)?;
            if progress == Progress::Done {
                return Poll::Ready(Ok(()));
            }
            let unseen = !uploading || upload.misses_end_of(down);
            let waits_for_client = progress == Progress::Client;
            if unseen && !waits_for_client && down.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(client_gone("while receiving the response").into()));
            }
            waited = true;
            receiving.check(cx, progress, download.moved)?;
            if let Some(watch) = call.watch() {
                let by_client = (progress == Progress::Client).then_some(FailureKind::ClientTimeout);
                let watched = watch_both(cx, watch, upload, download.moved, by_client);
                if watched.is_err() && progress != Progress::Upstream {
                    watch.excuse_upstream();
                }
                watched?;
            }
            Poll::Pending
        })
        .await;
        s.call.put_back(call);
        drop((sending, receiving));
        if waited {
            s.time_passed();
        }
        outcome
    }

    /// Collects the whole response body for filters that require it. The rest of the request body is forwarded
    /// meanwhile.
    async fn whole(
        &self,
        answering: &mut Answering,
        (framing, max): (Framing, u64),
        down: &mut Peer,
        s: &mut Scratch,
    ) -> Result<Bytes, Halt> {
        let limits = &self.plan.node().limits;
        let max = max.min(limits.buffered_body_bytes_max);
        let expected = match framing {
            Framing::Length(length) => length,
            _ => max,
        };
        let terms = Terms {
            max,
            expected,
            timeout_ms: s.timeouts.read_ms,
            late: RESPONSE_BODY_STALL,
            slowest: BODY_RATE_MIN,
            budget: &self.plan.services.memory,
        };
        let mut sending = StallTimer::upload(&s.up_timer, limits, &s.timeouts);
        let Answering { up, upload, .. } = answering;
        let mut uploading = !upload.is_done();
        let mut held = std::mem::take(&mut s.exchange.held);
        let Scratch { call, choices, request, exchange, down_timer, .. } = s;
        let mut filters = BodyFilters { plan: self.plan, chain: self.chain, choices, request, exchange };
        let meanwhile = |cx: &mut Context<'_>, up: &mut Peer, received: u64| {
            if uploading {
                uploading = upload_rest(cx, upload, (down, up), &mut filters, &mut sending)?;
            }
            let unseen = !uploading || upload.misses_end_of(down);
            let gone = unseen && down.poll_gone(cx).is_ready();
            if let Some(watch) = call.watch() {
                watch_both(cx, watch, upload, received, None)?;
            }
            if gone { Err(client_gone("while receiving the response").into()) } else { Ok(()) }
        };
        let read = collect(up, &terms, down_timer, &mut held, meanwhile).await;
        s.exchange.held = held;
        read.map_err(|error| match error {
            Collect::NoRoom => Failure::new(FailureKind::Overloaded, NO_ROOM).into(),
            Collect::TooLarge => {
                Failure::new(FailureKind::UpstreamProtocol, "response body too large for a filter").into()
            }
            Collect::TransferError(error) => TransferError::Upstream(error).failure().into(),
            Collect::Halted(halt) => halt,
        })
    }

    /// Switches protocols: both sides are connected as a byte tunnel from here on.
    fn switch(&self, answering: Answering, context: &mut RequestContext<'_>) -> Result<(), Failure> {
        reply::start_switch(context);
        context.session.keep_alive = false;
        let (Peer::H1(_), Peer::H1(upstream)) = (&*context.down, answering.up) else {
            return Err(Failure::new(FailureKind::UpstreamProtocol, "101 over HTTP/2"));
        };
        let Way { picked, .. } = answering.reached;
        let limits = TunnelLimits {
            idle_ms: context.s.timeouts.tunnel_idle_ms(),
            lifetime_ms: context.s.call.watch().map_or(0, |watch| watch.stream_left_ms()),
            stream_ms: context.s.timeouts.stream_ms,
        };
        context.session.switched = Some(Box::new(Switched {
            upstream,
            picked,
            group: Arc::clone(&self.backend.group),
            limits,
            chain: Arc::clone(self.chain),
            services: self.plan.services.clone(),
        }));
        Ok(())
    }

    /// Reports the outcome of the attempt to the balancer.
    fn report(&self, way: &Way, s: &mut Scratch, status: u16, failed: bool) {
        let now = s.now(self.worker);
        let group = &self.backend.group;
        group.report(&way.picked, if failed { Outcome::TcpFailure } else { Outcome::Status(status) }, now);
        if let Some(attempt) = s.exchange.tries.last() {
            group.report(&way.picked, Outcome::Ok { latency: now.since(attempt.tick) }, now);
        }
    }

    /// Releases a connection or stream that is not reused; this may leave a shared connection idle.
    pub(super) fn let_go(&self, up: Peer, way: Way) {
        let is_stream = matches!(up, Peer::H2(_));
        let Way { picked, _guard, .. } = way;
        drop((up, _guard));
        if is_stream {
            circuit::stream_ended(self.worker, &self.backend.group, &picked);
        }
    }

    /// Returns the connection to the pool if it can be reused.
    fn keep(&self, answering: Answering, reusable: bool, s: &mut Scratch) {
        let Answering { up, reached, upload } = answering;
        let h1 = match up {
            Peer::H1(h1) => h1,
            up @ Peer::H2(_) => return self.let_go(up, reached),
        };
        if reusable && upload.is_done() && h1.body_done() && h1.unread().is_empty() {
            circuit::keep(self.worker, self.plan, (reached.key, h1, reached.requests + 1), s.now(self.worker));
        }
    }
}

/// Forwards the rest of the request body during the response. Returns `false` when nothing is left to forward.
fn upload_rest(
    cx: &mut Context<'_>,
    upload: &mut Upload,
    (down, up): (&mut Peer, &mut Peer),
    filters: &mut BodyFilters<'_>,
    sending: &mut StallTimer<'_>,
) -> Result<bool, Halt> {
    match upload.poll(cx, down, up, filters) {
        Ok(Progress::Done) => Ok(false),
        Ok(progress) => Ok(sending.check(cx, progress, upload.activity()).map(|()| true)?),
        // An upstream may respond without reading the whole request.
        Err(TransferError::Upstream(_)) => Ok(false),
        Err(broken) => Err(broken.halt()),
    }
}

/// Refuses a response with status 101 if the request did not ask for an upgrade, or asked for another protocol.
fn check_switch(asked: Option<&[u8]>, response: &ResponseHead) -> Result<(), Failure> {
    let as_asked = response.status != 101 || asked.is_some_and(|asked| switches_as_asked(asked, &response.headers));
    let refused = || Failure::new(FailureKind::UpstreamProtocol, "101 with a protocol that was not asked for");
    as_asked.then_some(()).ok_or_else(refused)
}

/// Whether the connection can serve another request after the response whose head has been read. If a response must not
/// have a body but announces one, the upstream may send it, and another client would receive it as a response.
fn is_reusable(s: &Scratch) -> bool {
    keep_alive(s.response.version, &s.response.headers)
        && !(s.response.status == 204 && announces_body(&s.response.headers))
        && s.request.method != Method::Connect
}

/// Fails if a limit on the whole request has expired while bodies are forwarded.
fn watch_both(
    cx: &Context<'_>,
    watch: &mut Watch,
    upload: &Upload,
    received: u64,
    by_client: Option<FailureKind>,
) -> Result<(), Failure> {
    if upload.is_finished() {
        watch.try_sent();
    }
    // The count is one higher than while waiting for the head, because the arrival of the head counts as activity.
    check_watch(cx, watch, upload.activity() + received + 1, by_client)
}
