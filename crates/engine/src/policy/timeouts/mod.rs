//! Limits on a request as a whole: request, idle, stream and per-try timeouts. [`Deadlines`] is pure; [`Watch`] waits on the
//! worker's timer wheel. The limits between two operations (connect, read, write) are with the operations.

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::task::Context;

use cardinal_ir::Timeouts;
use cardinal_ir::policy::Retry;
use cardinal_net::{Timer, Wheel};

/// No deadline.
const NEVER: u64 = u64::MAX;

/// The limit that has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// From the end of the request to the end of the response.
    Request,
    /// Maximum lifetime of the exchange.
    Stream,
    /// No bytes were transferred.
    Idle,
    /// From the end of the request to the end of the response, of one attempt.
    PerTry,
    /// No bytes were transferred in one attempt.
    PerTryIdle,
}

/// The deadlines of a request. Times are milliseconds of one clock.
#[derive(Debug)]
pub(crate) struct Deadlines {
    request_ms: u64,
    idle_ms: u64,
    stream_ms: u64,
    try_ms: u64,
    try_idle_ms: u64,
    started: u64,
    /// When the request was received completely; [`NEVER`] before that.
    complete: u64,
    /// When the request had been sent completely in the current attempt.
    sent: u64,
    /// Time of the last transfer.
    active: u64,
    /// When the current attempt started, or the last transfer in it; [`NEVER`] between attempts.
    try_active: u64,
    /// The transfer counter at that time.
    moved: u64,
}

impl Deadlines {
    /// The deadlines of a request that begins now; `None` if there are no limits.
    pub(crate) fn new(timeouts: &Timeouts, retry: Option<&Retry>, now: u64) -> Option<Self> {
        let (try_ms, try_idle_ms) = retry.map_or((0, 0), |r| (r.per_try_timeout_ms, r.per_try_idle_timeout_ms));
        let Timeouts { request_ms, idle_ms, stream_ms, .. } = *timeouts;
        let any = request_ms | idle_ms | stream_ms | try_ms | try_idle_ms;
        (any != 0).then_some(Self {
            request_ms,
            idle_ms,
            stream_ms,
            try_ms,
            try_idle_ms,
            started: now,
            complete: NEVER,
            sent: NEVER,
            active: now,
            try_active: NEVER,
            moved: 0,
        })
    }

    /// The request has been received completely. Later calls have no effect.
    pub(crate) fn request_complete(&mut self, now: u64) {
        self.complete = self.complete.min(now);
    }

    /// An attempt starts: it has a connection.
    pub(crate) fn try_started(&mut self, now: u64) {
        (self.sent, self.try_active, self.active, self.moved) = (NEVER, now, now, 0);
    }

    /// The request has been sent completely in the current attempt. Later calls have no effect until the next attempt.
    pub(crate) fn try_sent(&mut self, now: u64) {
        self.request_complete(now);
        self.sent = self.sent.min(now);
    }

    /// The current attempt ended without a response.
    pub(crate) fn try_ended(&mut self) {
        (self.sent, self.try_active) = (NEVER, NEVER);
    }

    /// Updates the transfer counter of the current attempt.
    pub(crate) fn saw(&mut self, moved: u64, now: u64) {
        if self.moved != moved {
            (self.moved, self.active) = (moved, now);
            if self.try_active != NEVER {
                self.try_active = now;
            }
        }
    }

    /// The earliest deadline and its limit; [`NEVER`] if there is none.
    pub(crate) fn next(&self) -> (u64, Expiry) {
        let at = |since: u64, limit_ms: u64| if limit_ms == 0 { NEVER } else { since.saturating_add(limit_ms) };
        let all = [
            (at(self.complete, self.request_ms), Expiry::Request),
            (at(self.started, self.stream_ms), Expiry::Stream),
            (at(self.active, self.idle_ms), Expiry::Idle),
            (at(self.sent, self.try_ms), Expiry::PerTry),
            (at(self.try_active, self.try_idle_ms), Expiry::PerTryIdle),
        ];
        // Of equal deadlines, the limit that excludes a further attempt is reported.
        all.into_iter().min_by_key(|(at, _)| *at).unwrap_or((NEVER, Expiry::Request))
    }

    /// Milliseconds until the request times out as a whole, by its request or stream timeout.
    pub(crate) fn left_ms(&self, now: u64) -> Option<u64> {
        let at = |since: u64, limit_ms: u64| (limit_ms != 0 && since != NEVER).then(|| since.saturating_add(limit_ms));
        let ends = [at(self.complete, self.request_ms), at(self.started, self.stream_ms)];
        ends.into_iter().flatten().min().map(|end| end.saturating_sub(now))
    }

    /// The rest of the maximum lifetime, for a tunnel that follows; 0 for no limit.
    pub(crate) fn stream_left_ms(&self, now: u64) -> u64 {
        let left = self.started.saturating_add(self.stream_ms).saturating_sub(now);
        if self.stream_ms == 0 { 0 } else { left.max(1) }
    }

    /// The configured value of a limit.
    pub(crate) fn limit_ms(&self, expiry: Expiry) -> u64 {
        match expiry {
            Expiry::Request => self.request_ms,
            Expiry::Stream => self.stream_ms,
            Expiry::Idle => self.idle_ms,
            Expiry::PerTry => self.try_ms,
            Expiry::PerTryIdle => self.try_idle_ms,
        }
    }
}

/// Waits for the [`Deadlines`].
pub(crate) struct Watch {
    deadlines: Deadlines,
    timer: Timer,
    /// The time for which the timer is armed; [`NEVER`] if it is not.
    armed: u64,
    expired: Option<Expiry>,
    /// The upstream did not cause the expiry.
    excused: bool,
}

impl Watch {
    /// Starts watching a request that begins now, if it has limits.
    pub(crate) fn start(timeouts: &Timeouts, retry: Option<&Retry>, wheel: &Rc<Wheel>) -> Option<Self> {
        // Most requests have no limits, and need not read the clock.
        let deadlines = Deadlines::new(timeouts, retry, 0)?;
        let now = wheel.now().millis();
        let deadlines = Deadlines { started: now, active: now, ..deadlines };
        Some(Self { deadlines, timer: Timer::new(wheel), armed: NEVER, expired: None, excused: false })
    }

    fn now(&self) -> u64 {
        self.timer.wheel().now().millis()
    }

    /// See [`Deadlines::request_complete`].
    pub(crate) fn request_complete(&mut self) {
        let now = self.now();
        self.deadlines.request_complete(now);
    }

    /// See [`Deadlines::try_started`].
    pub(crate) fn try_started(&mut self) {
        let now = self.now();
        self.deadlines.try_started(now);
    }

    /// See [`Deadlines::try_sent`].
    pub(crate) fn try_sent(&mut self) {
        if self.deadlines.sent == NEVER {
            let now = self.now();
            self.deadlines.try_sent(now);
        }
    }

    /// The current attempt ended; returns the limit that ended it, if one did.
    pub(crate) fn try_ended(&mut self) -> Option<Expiry> {
        self.deadlines.try_ended();
        let expired = self.expired.take();
        if expired.is_some() {
            self.timer.disarm();
            self.armed = NEVER;
        }
        expired
    }

    /// The expired limit.
    pub(crate) fn expired(&self) -> Option<Expiry> {
        self.expired
    }

    /// The response was delayed by the client, or by a limit on its rate.
    pub(crate) fn excuse_upstream(&mut self) {
        self.excused = true;
    }

    /// Whether [`Watch::excuse_upstream`] was called.
    pub(crate) fn is_upstream_excused(&self) -> bool {
        self.excused
    }

    /// See [`Deadlines::left_ms`].
    pub(crate) fn left_ms(&self) -> Option<u64> {
        self.deadlines.left_ms(self.now())
    }

    /// See [`Deadlines::stream_left_ms`].
    pub(crate) fn stream_left_ms(&self) -> u64 {
        self.deadlines.stream_left_ms(self.now())
    }

    /// The expired limit and its value; if none has expired, the task is woken at the next deadline. `moved`: the
    /// transfer counter of the current attempt.
    pub(crate) fn poll(&mut self, cx: &Context<'_>, moved: u64) -> Option<(Expiry, u64)> {
        let mut now = self.timer.wheel().seen_ms();
        self.deadlines.saw(moved, now);
        loop {
            let (at, expiry) = self.deadlines.next();
            if at == NEVER {
                return None;
            }
            // A timer that fires too early is rearmed then, instead of on each transferred byte.
            if at < self.armed {
                now = self.now();
                self.timer.arm(at.saturating_sub(now));
                self.armed = at;
            }
            if !self.timer.poll_expired(cx) {
                return None;
            }
            now = now.max(self.now());
            self.armed = NEVER;
            if at <= now {
                self.expired = Some(expiry);
                return Some((expiry, self.deadlines.limit_ms(expiry)));
            }
        }
    }
}

/// The active timeouts as text.
pub(crate) fn timeouts_text(timeouts: &Timeouts) -> String {
    let Timeouts { connect_ms, read_ms, write_ms, request_ms, idle_ms, stream_ms } = *timeouts;
    let all = [
        ("connect", connect_ms),
        ("read", read_ms),
        ("write", write_ms),
        ("request", request_ms),
        ("idle", idle_ms),
        ("stream", stream_ms),
    ];
    let on: Vec<String> =
        all.iter().filter(|(_, ms)| !matches!(*ms, 0 | u64::MAX)).map(|(name, ms)| format!("{name} {ms} ms")).collect();
    if on.is_empty() { "none".to_owned() } else { on.join(", ") }
}
