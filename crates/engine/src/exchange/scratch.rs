//! [`Scratch`]: the memory of a request, used again and again.

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

/// Why a request whose body cannot be held is not served.
pub(crate) const NO_ROOM: &str = "the memory budget for bodies is exhausted";

/// More memory than this in one scratch is not kept.
const KEPT_MAX: usize = 64 * 1024;

/// The memory of a request.
pub(crate) struct Scratch {
    pub(crate) request: RequestHead,
    pub(crate) response: ResponseHead,
    pub(crate) exchange: Exchange,
    pub(crate) upstream: UpstreamRequest,
    /// Normalized path.
    pub(crate) path: Vec<u8>,
    /// Port in the client's Host header.
    pub(crate) host_port: Option<u16>,
    /// Length of the part of `path` that the route matched.
    pub(crate) matched: Option<usize>,
    /// Value of `X-Forwarded-Prefix`; empty for none.
    pub(crate) prefix: Vec<u8>,
    /// Host that goes upstream.
    pub(crate) host: String,
    /// The time, while no wait has come since it was looked at.
    looked: Option<Tick>,
    /// A place to write text in, before it is a field.
    pub(crate) text: RefCell<String>,
    /// Fields of the current attempt, which replace those of the request.
    pub(crate) attempt_headers: HeaderList,
    /// Which candidate of each slot applies.
    pub(crate) choices: Vec<u16>,
    /// Endpoints that this request has tried.
    pub(crate) tried: SmallVec<[AddressKey; 4]>,
    /// Copies for mirrors that wait for the body of the request.
    pub(crate) copies: Option<Box<dyn Copies>>,
    /// Its part in a trace; `None` where no tracing applies.
    pub(crate) trace: Option<RequestTrace>,
    /// Time limits towards the backend, with those of the route.
    pub(crate) timeouts: Timeouts,
    /// Retries and limits of the request as a whole.
    pub(crate) call: CallState,
    /// Waits on the way to the upstream.
    pub(crate) up_timer: Rc<Timer>,
    /// Waits on the way to the client.
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

    /// The time as it was looked at since the last wait, or else by `look`.
    pub(crate) fn looked_at(&mut self, look: impl FnOnce() -> Tick) -> Tick {
        *self.looked.get_or_insert_with(look)
    }

    /// Something was waited for: the time is another one.
    pub(crate) fn time_passed(&mut self) {
        self.looked = None;
    }

    /// Frees the request body, once it is not sent to an upstream any more.
    pub(crate) fn free_request_body(&mut self) {
        self.upstream.body = None;
        self.exchange.held.shrink(usize::MAX);
    }

    /// Counts a body of `len` bytes that replaces one of which `counted` bytes are counted.
    pub(crate) fn recount(&mut self, budget: &Arc<Budget>, counted: usize, len: usize) -> Result<(), Failure> {
        let held = &mut self.exchange.held;
        held.shrink(counted.saturating_sub(len));
        let grown = held.grow(budget, len.saturating_sub(counted));
        grown.map_err(|Exhausted| Failure::new(FailureKind::Overloaded, NO_ROOM))
    }

    /// Makes it ready for a request of this client.
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

    /// Lets go of what a request left behind; `false` when so much memory is held that it is better freed.
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
