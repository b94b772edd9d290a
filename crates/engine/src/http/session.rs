//! [`Session`]: the downstream side of a request, and [`RequestContext`]: the worker and plan that serve it.

use std::rc::Rc;
use std::sync::Arc;

use cardinal_balance::{Group, Picked};
use cardinal_http::h1::Framing;
use cardinal_net::Peer;
use cardinal_net::h1::H1;
use cardinal_sdk::Services;

use crate::exchange::{Scratch, TunnelLimits};
use crate::plan::{Chain, GroupPlan, Plan};
use crate::worker::Worker;

/// Maximum number of bytes read in a lingering close.
pub(crate) const LINGER_MAX: usize = 1024 * 1024;

/// The downstream side of one request.
pub(super) struct Session {
    /// The framing of the request body.
    pub(super) framing: Framing,
    /// The client waits for `100 Continue`.
    pub(super) expects_continue: bool,
    /// The connection may serve another request.
    pub(super) keep_alive: bool,
    /// A response head was sent.
    pub(super) answered: bool,
    /// The response was cut short: the connection must not look as if it were complete.
    pub(super) aborted: bool,
    /// The client and the upstream have switched to another protocol.
    pub(super) switched: Option<Box<Switched>>,
}

impl Session {
    pub(super) fn new(framing: Framing, expects_continue: bool, keep_alive: bool) -> Self {
        Self { framing, expects_continue, keep_alive, answered: false, aborted: false, switched: None }
    }
}

/// A request being served: the worker, the plan, and the downstream connection.
pub(super) struct RequestContext<'x> {
    pub(super) worker: &'x Rc<Worker>,
    pub(super) plan: &'x Plan,
    /// Routes of the listener's group.
    pub(super) group: &'x GroupPlan,
    pub(super) down: &'x mut Peer,
    pub(super) s: &'x mut Scratch,
    pub(super) session: &'x mut Session,
}

/// A request that has switched to another protocol. It holds only the parts of the plan that its end needs: it may last
/// for days and would otherwise keep a whole plan, with all routes of a generation, in memory.
pub(super) struct Switched {
    pub(super) upstream: Box<H1>,
    pub(super) picked: Picked,
    pub(super) group: Arc<Group>,
    pub(super) limits: TunnelLimits,
    pub(super) chain: Arc<Chain>,
    pub(super) services: Services,
}
