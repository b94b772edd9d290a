//! [`Scratch`]: per-request memory that is reused across requests.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use cardinal_balance::AddressKey;
use cardinal_base::{Budget, Exhausted, Tick};
use cardinal_http::{Failure, FailureKind, HeaderList, RequestHead, ResponseHead};
use cardinal_ir::Timeouts;
use cardinal_net::{Timer, Wheel};
use cardinal_sdk::{Client, Exchange, UpstreamRequest};
use smallvec::SmallVec;

use super::call_state::CallState;
use super::copies::Copies;
use crate::policy::telemetry::RequestTrace;

/// The message for a request whose body cannot be buffered.
pub(crate) const NO_ROOM: &str = "the memory budget for bodies is exhausted";

/// Maximum memory of one scratch that is kept for reuse.
const KEPT_MAX: usize = 64 * 1024;

/// The per-request memory.
pub(crate) struct Scratch {
    pub(crate) request: RequestHead,
    pub(crate) response: ResponseHead,
    pub(crate) exchange: Exchange,
    pub(crate) upstream: UpstreamRequest,
    /// Normalized path.
    pub(crate) path: Vec<u8>,
    /// Port in the client's Host header.
    pub(crate) host_port: Option<u16>,
    /// Length of the prefix of `path` that the route matched.
    pub(crate) matched: Option<usize>,
    /// Value of `X-Forwarded-Prefix`; empty if there is none.
    pub(crate) prefix: Vec<u8>,
    /// The Host to send upstream.
    pub(crate) host: String,
    /// The cached time, until the next wait.
    looked: Option<Tick>,
    /// A buffer for composing field values.
    pub(crate) text: RefCell<String>,
    /// Fields of the current attempt, which replace those of the request.
    pub(crate) attempt_headers: HeaderList,
    /// The selected candidate of each slot.
    pub(crate) choices: Vec<u16>,
    /// Endpoints already tried by this request.
    pub(crate) tried: SmallVec<[AddressKey; 4]>,
    /// Mirror copies that wait for the body of the request.
    pub(crate) copies: Option<Box<dyn Copies>>,
    /// The trace data of the request; `None` without tracing.
    pub(crate) trace: Option<RequestTrace>,
    /// Timeouts for the backend, including those of the route.
    pub(crate) timeouts: Timeouts,
    /// Retry state and limits of the whole request.
    pub(crate) call: CallState,
    /// Timer for waits on the upstream.
    pub(crate) up_timer: Rc<Timer>,
    /// Timer for waits on the client.
    pub(crate) down_timer: Rc<Timer>,
}

impl Scratch {
    pub(crate) fn new(wheel: &Rc<Wheel>) -> Self {
        let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            request: RequestHead::default(),
            response: ResponseHead::default(),
            exchange: Exchange::new(Client::at(nowhere, nowhere)),
            upstream: UpstreamRequest::default(),
            path: Vec::new(),
            host_port: None,
            matched: None,
            prefix: Vec::new(),
            host: String::new(),
            looked: None,
            text: RefCell::default(),
            attempt_headers: HeaderList::new(),
            choices: Vec::new(),
            tried: SmallVec::new(),
            copies: None,
            trace: None,
            timeouts: Timeouts::default(),
            call: CallState::default(),
            up_timer: Rc::new(Timer::new(wheel)),
            down_timer: Rc::new(Timer::new(wheel)),
        }
    }

    /// The time cached since the last wait, or else the result of `look`.
    pub(crate) fn looked_at(&mut self, look: impl FnOnce() -> Tick) -> Tick {
        *self.looked.get_or_insert_with(look)
    }

    /// Invalidates the cached time after a wait.
    pub(crate) fn time_passed(&mut self) {
        self.looked = None;
    }

    /// Frees the request body once it cannot be sent again.
    pub(crate) fn free_request_body(&mut self) {
        self.upstream.body = None;
        self.exchange.held.shrink(usize::MAX);
    }

    /// Updates the reservation for a body of `len` bytes that replaces one for which `counted` bytes are reserved.
    pub(crate) fn recount(&mut self, budget: &Arc<Budget>, counted: usize, len: usize) -> Result<(), Failure> {
        let held = &mut self.exchange.held;
        held.shrink(counted.saturating_sub(len));
        let grown = held.grow(budget, len.saturating_sub(counted));
        grown.map_err(|Exhausted| Failure::new(FailureKind::Overloaded, NO_ROOM))
    }

    /// Prepares the scratch for a request of this client.
    pub(crate) fn start(&mut self, client: &Client) {
        self.request.clear();
        self.response.clear();
        self.exchange.clear();
        self.exchange.client.clone_from(client);
        self.upstream.clear();
        self.path.clear();
        self.host_port = None;
        self.matched = None;
        self.prefix.clear();
        self.host.clear();
        self.looked = None;
        self.attempt_headers.clear();
        self.choices.clear();
        self.tried.clear();
        self.copies = None;
        self.trace = None;
    }

    /// Drops the remains of a request. Returns `false` if the scratch holds so much memory that it should be freed.
    pub(crate) fn trim(&mut self) -> bool {
        self.exchange.clear();
        self.exchange.client.tls = None;
        self.exchange.client.passed_server_name = None;
        self.exchange.client.peer_identity = None;
        self.upstream.body = None;
        self.copies = None;
        self.trace = None;
        self.call.clear();
        let held = self.request.headers.capacity() + self.response.headers.capacity() + self.path.capacity();
        self.up_timer.disarm();
        self.down_timer.disarm();
        held <= KEPT_MAX
    }
}
