//! [`Server`]: the control plane's side of one connection. No I/O: messages go in by [`Server::receive`] and come out of
//! [`Server::poll`], whenever the connection takes one.

use std::collections::VecDeque;
use std::sync::Arc;

use cardinal_base::Tick;
use cardinal_ir::{Digest, Id, SecretRef};

use super::health::TargetHealth;
use super::history::{GenerationId, History, Published};
use super::report::{NodeInfo, ProtocolVersion, Report};
use super::transfer::{Base, HeldRecords, Transfer};
use super::wire::{HeldVersions, Hello, PART_BYTES, Request, Response, SECRET_TYPE, SILENCE_MS_MAX, WireNode};

/// Records and secrets that a data plane may list. A list that is longer counts as empty.
const LISTED_MAX: usize = 4_000_000;

/// What operators said about targets that waits for one data plane.
const HEALTH_MAX: usize = 1_000;

/// How a [`Server`] behaves.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// The version of the protocol.
    pub protocol: ProtocolVersion,
    /// The peer is authenticated and the connection encrypted, or within this process: secrets may be sent.
    pub is_secure: bool,
    /// Milliseconds without a message after which the data plane counts as gone. It sends one every third of that.
    pub silence_ms_max: u64,
    /// Bytes of records after which a part of a generation is complete.
    pub part_bytes: usize,
}

impl ServerOptions {
    /// Those of this version of the program.
    pub fn new(is_secure: bool) -> Self {
        let (protocol, silence_ms_max) = (ProtocolVersion::CURRENT, SILENCE_MS_MAX);
        Self { protocol, is_secure, silence_ms_max, part_bytes: PART_BYTES }
    }
}

/// Why a connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The data plane has another version of the protocol.
    #[error("the data plane has version {theirs} of the stream protocol, this control plane has {ours}")]
    Protocol {
        /// Its major version.
        theirs: u32,
        /// The major version of this program.
        ours: u32,
    },
    /// A message is not one that may come now.
    #[error("the data plane sent a message that is not expected: {0}")]
    Unexpected(&'static str),
    /// Secrets are asked for on a connection that is not fit for them.
    #[error("the data plane subscribes to secrets, which are sent to authenticated peers only")]
    Insecure,
    /// Nothing came for a long time.
    #[error("the data plane sent nothing for {0} ms")]
    Silent(u64),
}

/// What a connection is at.
#[derive(Debug)]
enum Phase {
    /// The subscription has not come.
    New,
    /// The list of what the data plane has is being read.
    Listing(HeldRecords),
    /// Generations are sent.
    Sending,
}

/// The control plane's side of one connection.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    phase: Phase,
    node: Option<NodeInfo>,
    protocol: ProtocolVersion,
    secrets: bool,
    /// What the data plane said it has.
    held: Option<GenerationId>,
    /// What the data plane has.
    base: Base,
    transfer: Option<Transfer>,
    /// The transfer whose acknowledgement is waited for.
    unacknowledged: Option<String>,
    transfers: u64,
    report: Report,
    versions_wanted: bool,
    heartbeat_wanted: bool,
    /// What operators said about targets, and was not sent yet.
    health: VecDeque<TargetHealth>,
    heard_at: Tick,
    /// Number of the generation of which all parts were sent last.
    sent: u64,
}

impl Server {
    /// A connection that begins now.
    pub fn new(options: ServerOptions, now: Tick) -> Self {
        Self {
            options,
            phase: Phase::New,
            node: None,
            protocol: options.protocol,
            secrets: false,
            held: None,
            base: Base::Nothing,
            transfer: None,
            unacknowledged: None,
            transfers: 0,
            report: Report::default(),
            versions_wanted: false,
            heartbeat_wanted: false,
            health: VecDeque::new(),
            heard_at: now,
            sent: 0,
        }
    }

    /// The data plane, once it has subscribed.
    pub fn node(&self) -> Option<&NodeInfo> {
        self.node.as_ref()
    }

    /// The version of the protocol that both sides use.
    pub fn protocol(&self) -> ProtocolVersion {
        self.protocol
    }

    /// What the data plane reported last.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// When the last message came.
    pub fn heard_at(&self) -> Tick {
        self.heard_at
    }

    /// Number of the generation of which all parts were sent last; 0 if there is none.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// When [`Server::check`] is to be called.
    pub fn deadline(&self) -> Tick {
        self.heard_at.plus_millis(self.options.silence_ms_max)
    }

    /// Whether the data plane is still there.
    ///
    /// # Errors
    /// When it was silent for too long.
    pub fn check(&self, now: Tick) -> Result<(), ServerError> {
        if now < self.deadline() { Ok(()) } else { Err(ServerError::Silent(self.options.silence_ms_max)) }
    }

    /// Passes on what an operator said about a target. A data plane that reads too slowly misses the oldest.
    pub fn set_health(&mut self, health: TargetHealth) {
        if self.health.len() >= HEALTH_MAX {
            self.health.pop_front();
        }
        self.health.push_back(health);
    }

    /// Takes a message.
    ///
    /// # Errors
    /// When the connection is to be closed.
    pub fn receive(&mut self, request: Request, history: &History, now: Tick) -> Result<(), ServerError> {
        self.heard_at = now;
        let Request { node, response_nonce, error_detail, hello, versions, report } = request;
        let is_ping = hello.is_none() && versions.is_none() && report.is_none();
        if let Some(report) = report {
            let refusal = error_detail.map(|status| status.message);
            self.report =
                Report::of_wire(report, refusal).ok_or(ServerError::Unexpected("a report without a history"))?;
        }
        if let Some(hello) = hello {
            self.subscribe(node, &hello, history)?;
        } else if matches!(self.phase, Phase::New) {
            return Err(ServerError::Unexpected("the first one is not a subscription"));
        }
        if let Some(versions) = versions {
            self.list(&versions)?;
        }
        if !response_nonce.is_empty() && self.unacknowledged.as_ref() == Some(&response_nonce) {
            self.unacknowledged = None;
        }
        self.heartbeat_wanted |= is_ping;
        Ok(())
    }

    /// The next message, if there is one.
    pub fn poll(&mut self, history: &History) -> Option<Response> {
        let newest = history.newest();
        if self.versions_wanted || self.heartbeat_wanted {
            let versions_wanted = std::mem::take(&mut self.versions_wanted);
            self.heartbeat_wanted = false;
            let newest = newest.map_or(0, |newest| newest.id.number);
            return Some(Response { versions_wanted, newest, ..Response::default() });
        }
        if !matches!(self.phase, Phase::Sending) {
            return None;
        }
        // A target that is new comes first.
        let is_between = self.transfer.is_none() && self.unacknowledged.is_none();
        if is_between && !self.health.is_empty() && newest.is_none_or(|target| !self.lacks(target)) {
            let health = self.health.drain(..).map(|health| health.to_wire()).collect();
            let newest = newest.map_or(0, |newest| newest.id.number);
            return Some(Response { health, newest, ..Response::default() });
        }
        if is_between {
            let target = newest.filter(|target| self.lacks(target))?;
            self.transfers += 1;
            let nonce = self.transfers.to_string();
            self.transfer = Some(Transfer::new(&self.base, Arc::clone(target), self.secrets, nonce));
        }
        let transfer = self.transfer.as_mut()?;
        let response = transfer.next_part(self.options.part_bytes);
        if transfer.is_done() {
            self.unacknowledged = Some(transfer.nonce.clone());
            self.sent = transfer.target.id.number;
            self.held = Some(transfer.target.id);
            self.base = Base::Generation(Arc::clone(&transfer.target));
            self.transfer = None;
        }
        Some(response)
    }

    /// Whether a generation is to be sent: it is none that the data plane has, and none that is older. A control plane may
    /// lag behind another one that reads the same store.
    fn lacks(&self, target: &Published) -> bool {
        match &self.held {
            Some(held) if held.history == target.id.history && held.number > target.id.number => false,
            Some(held) => *held != target.id || !matches!(self.base, Base::Generation(_)),
            None => true,
        }
    }

    fn subscribe(&mut self, node: Option<WireNode>, hello: &Hello, history: &History) -> Result<(), ServerError> {
        let theirs = ProtocolVersion { major: hello.protocol_major, minor: hello.protocol_minor };
        let differs = ServerError::Protocol { theirs: theirs.major, ours: self.options.protocol.major };
        self.protocol = self.options.protocol.agreed(theirs).ok_or(differs)?;
        match node.and_then(NodeInfo::of_wire) {
            Some(node) => self.node = Some(node),
            None if self.node.is_some() => {}
            None => return Err(ServerError::Unexpected("a subscription without the id of the node")),
        }
        if hello.secrets && !self.options.is_secure {
            return Err(ServerError::Insecure);
        }
        self.secrets = hello.secrets;
        (self.transfer, self.unacknowledged) = (None, None);
        let held = match &hello.held {
            Some(held) => {
                let held = GenerationId::of_wire(held);
                Some(held.ok_or(ServerError::Unexpected("a generation without a fingerprint"))?)
            }
            None => None,
        };
        self.held = held;
        let known = held.and_then(|held| self.known(&held, history)).filter(|_| !hello.compare);
        (self.base, self.phase) = match (held, known) {
            (None, _) => (Base::Nothing, Phase::Sending),
            (Some(_), Some(known)) => (Base::Generation(known), Phase::Sending),
            (Some(_), None) => (Base::Nothing, Phase::Listing(HeldRecords::default())),
        };
        self.versions_wanted = matches!(self.phase, Phase::Listing(_));
        Ok(())
    }

    fn known(&self, held: &GenerationId, history: &History) -> Option<Arc<Published>> {
        let found = if self.secrets { history.find(held) } else { history.find_records(held.records) };
        found.map(Arc::clone)
    }

    fn list(&mut self, versions: &HeldVersions) -> Result<(), ServerError> {
        let Phase::Listing(held) = &mut self.phase else {
            // The data plane has subscribed anew while it was listing.
            return Ok(());
        };
        let unexpected = ServerError::Unexpected("a list of versions that is damaged");
        if held.records.len() + held.secrets.len() > LISTED_MAX {
            return Err(ServerError::Unexpected("a list of versions that is too long"));
        }
        if versions.type_name == SECRET_TYPE {
            let (ids, []) = versions.packed.as_chunks::<16>() else { return Err(unexpected) };
            let text = |id: &[u8; 16]| format!("{}{}", SecretRef::PREFIX, Id::from_bytes(*id).simple());
            held.secrets.extend(ids.iter().filter_map(|id| text(id).parse::<SecretRef>().ok()));
        } else {
            let (pairs, []) = versions.packed.as_chunks::<32>() else { return Err(unexpected) };
            for pair in pairs {
                let (id, version) = pair.split_at(16);
                let (Ok(id), Ok(version)) = (id.try_into(), version.try_into()) else { continue };
                let key = (Box::from(&*versions.type_name), Id::from_bytes(id));
                held.records.insert(key, Digest::from_bytes(version));
            }
        }
        if versions.last {
            self.base = Base::Listed(std::mem::take(held));
            self.phase = Phase::Sending;
        }
        Ok(())
    }
}
