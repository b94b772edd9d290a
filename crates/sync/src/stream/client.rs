//! [`Client`]: the data plane's side of the stream. No I/O: messages go in by [`Client::receive`] and come out of
//! [`Client::poll`]. It outlives its connections.

use std::collections::VecDeque;
use std::sync::Arc;

use cardinal_base::Tick;

use super::health::TargetHealth;
use super::held::Held;
use super::history::GenerationId;
use super::received::{ClientError, ClientOptions, Received};
use super::receiving::{BadPart, Receiving};
use super::report::{Rejection, Report};
use super::wire::{HeldVersions, Hello, Part, Request, Response, WireStatus};

/// `INVALID_ARGUMENT` of gRPC: some or all records cannot be served.
const INVALID_ARGUMENT: i32 = 3;

/// What operators said about targets that waits to be taken.
const HEALTH_MAX: usize = 1_000;

/// How hard it is tried to get the records that the control plane has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resync {
    /// By the fingerprint of what the node has.
    Fingerprint,
    /// By the versions of all records.
    Versions,
    /// From the beginning.
    Whole,
}

/// The data plane's side of the stream.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    held: Held,
    receiving: Option<Receiving>,
    ready: Option<Received>,
    resync: Resync,
    hello_wanted: bool,
    /// The list of versions that is being sent.
    listing: VecDeque<HeldVersions>,
    /// The nonce to acknowledge with the next report; `None` if no report is to be sent.
    reporting: Option<String>,
    report: Report,
    /// Connections so far.
    connections: u64,
    heard_at: Tick,
    sent_at: Tick,
    newest: u64,
    /// What operators said about targets.
    health: Vec<TargetHealth>,
}

impl Client {
    /// A data plane that has this.
    pub fn new(options: ClientOptions, held: Held) -> Self {
        let mut report = Report::default();
        if let Some(id) = held.id {
            (report.history, report.number, report.served, report.is_applied) =
                (id.history, id.number, id.number, true);
        }
        Self {
            options,
            held,
            receiving: None,
            ready: None,
            resync: Resync::Fingerprint,
            hello_wanted: false,
            listing: VecDeque::new(),
            reporting: None,
            report,
            connections: 0,
            heard_at: Tick::default(),
            sent_at: Tick::default(),
            newest: 0,
            health: Vec::new(),
        }
    }

    /// What it has received.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Number of the newest generation that the control plane has mentioned.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// What it reported last.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// A connection begins. What came in part by another one is forgotten.
    pub fn connected(&mut self, now: Tick) {
        self.connections += 1;
        (self.heard_at, self.sent_at) = (now, now);
        self.disconnected();
        self.hello_wanted = true;
    }

    /// The connection has ended.
    pub fn disconnected(&mut self) {
        (self.receiving, self.reporting, self.hello_wanted) = (None, None, false);
        self.listing.clear();
        self.resync = Resync::Fingerprint;
    }

    /// When [`Client::check`] and [`Client::poll`] are to be called, if nothing happens before.
    pub fn deadline(&self) -> Tick {
        let ping_at = self.sent_at.plus_millis(self.options.silence_ms_max / 3);
        ping_at.min(self.heard_at.plus_millis(self.options.silence_ms_max))
    }

    /// Whether the control plane is still there.
    ///
    /// # Errors
    /// When it was silent for too long.
    pub fn check(&self, now: Tick) -> Result<(), ClientError> {
        let silence_ms_max = self.options.silence_ms_max;
        if now < self.heard_at.plus_millis(silence_ms_max) { Ok(()) } else { Err(ClientError::Silent(silence_ms_max)) }
    }

    /// The next message, if there is one.
    pub fn poll(&mut self, now: Tick) -> Option<Request> {
        let request = self.next_request(now)?;
        self.sent_at = now;
        Some(request)
    }

    /// A generation that is complete, and newer than the one that was taken before.
    pub fn take(&mut self) -> Option<Received> {
        self.ready.take()
    }

    /// What operators said about targets since the last call.
    pub fn take_health(&mut self) -> Vec<TargetHealth> {
        std::mem::take(&mut self.health)
    }

    /// Whether [`Client::take`] has one.
    pub fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// The outcome of a generation: it is served without these records, or refused as a whole for this reason.
    pub fn acknowledge(&mut self, received: &Received, refusal: Option<String>, rejected: Vec<Rejection>) {
        let is_applied = refusal.is_none();
        let served = if is_applied { received.id.number } else { self.report.served };
        let report = Report {
            history: received.id.history,
            number: received.id.number,
            is_applied,
            served,
            refusal,
            ..Report::default()
        };
        self.report = report.with_rejections(received.left_out.iter().cloned().chain(rejected));
        let (connection, nonce) = &received.nonce;
        let is_current = *connection == self.connections;
        self.reporting = Some(if is_current { nonce.clone() } else { String::new() });
    }

    /// Takes a message.
    ///
    /// # Errors
    /// When the connection is to be closed.
    pub fn receive(&mut self, response: Response, now: Tick) -> Result<(), ClientError> {
        self.heard_at = now;
        self.newest = self.newest.max(response.newest);
        let health = response.health.iter().take(HEALTH_MAX.saturating_sub(self.health.len()));
        self.health.extend(health.filter_map(|health| TargetHealth::of_wire(health.clone())));
        if response.versions_wanted {
            self.listing = self.held.listed(self.options.with_secrets).into();
        }
        match response.part.clone() {
            Some(part) => self.receive_part(&part, response),
            None => Ok(()),
        }
    }

    fn receive_part(&mut self, part: &Part, response: Response) -> Result<(), ClientError> {
        let id = part.generation.as_ref().and_then(GenerationId::of_wire);
        let id = id.ok_or(ClientError::Unexpected("a part of a generation without a fingerprint"))?;
        if let Some(held) = self.held.id.filter(|held| held.history == id.history && held.number > id.number) {
            return Err(ClientError::Older { theirs: id.number, ours: held.number });
        }
        if self.hello_wanted {
            // Sent before the control plane knows what this node wants to compare.
            return Ok(());
        }
        if part.index == 0 {
            self.receiving = Some(Receiving::new(&self.held, id, part, response.nonce.clone()));
        }
        let next = self.receiving.as_mut().filter(|receiving| receiving.is_next(&id, part, &response.nonce));
        let receiving = next.ok_or(ClientError::Unexpected("a part of a generation without those before it"))?;
        receiving.take(response, self.options.generation_bytes_max).map_err(|bad| match bad {
            BadPart::Malformed(what) => ClientError::Unexpected(what),
            BadPart::TooLarge => ClientError::TooLarge(self.options.generation_bytes_max),
        })?;
        if part.last { self.finish() } else { Ok(()) }
    }

    /// All parts have come.
    fn finish(&mut self) -> Result<(), ClientError> {
        let Some(receiving) = self.receiving.take() else { return Ok(()) };
        let (id, nonce) = (receiving.id, receiving.nonce.clone());
        let Some(held) = receiving.finish(self.options.with_secrets) else {
            self.resync = match self.resync {
                Resync::Fingerprint => Resync::Versions,
                Resync::Versions => Resync::Whole,
                Resync::Whole => return Err(ClientError::Mismatch(id.number)),
            };
            self.hello_wanted = true;
            return Ok(());
        };
        self.resync = Resync::Fingerprint;
        self.held = held;
        let nonce = (self.connections, nonce);
        let (ir, left_out, refusal) = match self.held.view() {
            Ok(view) => (view.ir, view.left_out, None),
            Err(left_out) => (Arc::default(), left_out, Some("records that restrict access cannot be read")),
        };
        let (secrets, is_exact) = (self.held.secrets.clone(), self.held.is_exact());
        let received = Received { id, ir, secrets, left_out, is_exact, nonce };
        match refusal {
            // The generation before goes on being served.
            Some(refusal) => {
                self.ready = None;
                self.acknowledge(&received, Some(refusal.to_owned()), Vec::new());
            }
            None => self.ready = Some(received),
        }
        Ok(())
    }

    fn next_request(&mut self, now: Tick) -> Option<Request> {
        if std::mem::take(&mut self.hello_wanted) {
            self.listing.clear();
            return Some(self.hello());
        }
        if let Some(versions) = self.listing.pop_front() {
            return Some(Request { versions: Some(versions), ..Request::default() });
        }
        if let Some(response_nonce) = self.reporting.take() {
            let mut request = self.reported();
            request.response_nonce = response_nonce;
            return Some(request);
        }
        let is_silent = now >= self.sent_at.plus_millis(self.options.silence_ms_max / 3);
        is_silent.then(Request::default)
    }

    fn hello(&self) -> Request {
        let held = self.held.id.filter(|_| self.resync != Resync::Whole);
        let hello = Hello {
            protocol_major: self.options.protocol.major,
            protocol_minor: self.options.protocol.minor,
            secrets: self.options.with_secrets,
            held: held.map(GenerationId::to_wire),
            compare: self.resync == Resync::Versions,
        };
        Request { node: Some(self.options.node.to_wire()), hello: Some(hello), ..self.reported() }
    }

    fn reported(&self) -> Request {
        let is_complete = self.report.refusal.is_none() && self.report.rejected == 0;
        let message = || match &self.report.refusal {
            Some(refusal) => refusal.clone(),
            None => format!("{} records are not served", self.report.rejected),
        };
        let error_detail = (!is_complete).then(|| WireStatus { code: INVALID_ARGUMENT, message: message() });
        Request { report: Some(self.report.to_wire()), error_detail, ..Request::default() }
    }
}
