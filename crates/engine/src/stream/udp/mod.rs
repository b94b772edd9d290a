//! UDP sessions of one socket: datagrams from one client address go to one endpoint until the idle timeout.
//!
//! Each worker has its own socket per listener. The kernel selects the socket by both ends' addresses, so a session
//! stays on its worker and no state is shared between threads.
//!
//! One task reads the downstream socket and forwards datagrams; each session has a task that connects, forwards
//! responses and writes the log record. A datagram that would block on a socket is dropped, as in networks:
//! queueing would only delay it. Datagrams that arrive while a session connects are queued up to a limit.

mod flow;
mod run;
mod server;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use cardinal_base::{Tick, task};
use cardinal_http::FailureKind;
use cardinal_ir::Wire;
use cardinal_net::Timer;
use cardinal_sdk::{Admit, Client};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use super::session::Session;
use super::table::Table;
use crate::listening::Listening;
use crate::worker::{ConnectionGuard, Worker};
use flow::Flow;
use run::Run;
use server::{ERRORS_IN_A_ROW, Server};

/// Maximum length of a datagram, so none is truncated.
const DATAGRAM_MAX: usize = 64 * 1024;

/// Length of the pause after errors, milliseconds.
const PAUSE_MS: u64 = 100;

/// Minimum time between two warnings about a full table, milliseconds.
const WARNING_MS: u64 = 1_000;

/// Serves the UDP sessions of a socket until the task ends. The sessions then continue until no more responses arrive;
/// they count as connections, so a draining worker waits for them.
///
/// Each worker has an equal share of `Limits::udp_sessions_max`; see [`Table`] for sessions above the limit.
pub(crate) async fn serve_udp(worker: Rc<Worker>, socket: UdpSocket, listening: Listening) {
    let timer = Timer::new(&worker.wheel);
    let mut buffer = vec![0; DATAGRAM_MAX].into_boxed_slice();
    let listener = listening.listener;
    let server = Rc::new(Server {
        local: socket.local_addr().unwrap_or(listener.address),
        socket,
        worker,
        listener,
        flows: RefCell::new(Table::new()),
        buffer: RefCell::new(vec![0; DATAGRAM_MAX].into_boxed_slice()),
        closed: Cell::new(false),
        warned: Cell::new(None),
    });
    let _closing = Closing(Rc::clone(&server));
    poll_fn(|cx| server.poll(cx, &timer, &mut buffer)).await
}

/// Notifies the sessions when the socket is no longer read.
struct Closing(Rc<Server>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.closed.set(true);
        self.0.flows.borrow().iter().for_each(|flow| flow.wake());
    }
}

impl Server {
    /// Reads the received datagrams, and ends idle sessions. Never ready.
    fn poll(self: &Rc<Self>, cx: &mut Context<'_>, timer: &Timer, buffer: &mut [u8]) -> Poll<()> {
        let mut errors = 0;
        while errors < ERRORS_IN_A_ROW {
            let mut buf = ReadBuf::new(buffer);
            match self.socket.poll_recv_from(cx, &mut buf) {
                Poll::Ready(Ok(from)) => {
                    errors = 0;
                    self.datagram(from, buf.filled());
                }
                Poll::Ready(Err(error)) => {
                    errors += 1;
                    tracing::debug!(listener = %self.listener.name, %error, "cannot receive datagrams");
                }
                Poll::Pending => break,
            }
        }
        loop {
            let now = self.worker.now();
            let deadline = self.reap(now);
            let pause = (errors == ERRORS_IN_A_ROW).then(|| now.plus_millis(PAUSE_MS));
            match deadline.into_iter().chain(pause).min() {
                // The timer fires slightly late rather than early, to avoid a second wait.
                Some(next) => timer.arm(next.millis_since(now) + 1),
                None => timer.disarm(),
            }
            if !timer.poll_expired(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Forwards a datagram of a client.
    fn datagram(self: &Rc<Self>, from: SocketAddr, data: &[u8]) {
        let now = self.worker.now();
        let known = self.flows.borrow_mut().hear(&from, now).map(Rc::clone);
        if let Some(flow) = known.or_else(|| self.begin(from, now)) {
            flow.pass(data);
        }
    }

    /// Starts a session, if the client is admitted. Route lookup and filters run here, so that rejecting a flood does
    /// not spawn tasks.
    fn begin(self: &Rc<Self>, from: SocketAddr, now: Tick) -> Option<Rc<Flow>> {
        let worker = &self.worker;
        let plan = worker.plan();
        let limits = &plan.node().limits;
        let workers = worker.node.shared.counters.len().max(1);
        let max = (limits.udp_sessions_max as usize).div_ceil(workers);
        if self.flows.borrow().len() >= max {
            self.reap(now);
        }
        if self.flows.borrow().len() >= max {
            worker.counters().refused();
            self.full(max, now);
            return None;
        }
        let connections_max = worker.node.connections_max(limits.connections_max);
        let Some(guard) = ConnectionGuard::new(worker, connections_max) else {
            self.full(connections_max as usize, now);
            return None;
        };
        let mut client = Client::at(from, self.local);
        client.connection = worker.node.next_connection.fetch_add(1, Ordering::Relaxed);
        let mut session = Session::start(worker, &client, Wire::Udp, &self.listener);
        if let Err(failure) = session.take_route(Wire::Udp, session.find(Wire::Udp, None)) {
            session.end(Some(&failure));
            return None;
        }
        let admitted = session.admit() == Admit::Yes;
        let flow = Rc::new(Flow::default());
        let key = if admitted { self.flows.borrow_mut().insert(from, Rc::clone(&flow), max, now) } else { None };
        let Some(key) = key else {
            session.end(None);
            return None;
        };
        let run = Run { server: Rc::clone(self), flow: Rc::clone(&flow), client: from, key };
        drop(task::spawn_local("udp session", async move {
            let _guard = guard;
            run.run(session).await;
        }));
        Some(flow)
    }

    /// Counts a rejected client, and logs a warning from time to time.
    fn full(&self, limit: usize, now: Tick) {
        self.worker.counters().failed(FailureKind::Overloaded);
        if self.warned.get().is_none_or(|last| now.millis_since(last) >= WARNING_MS) {
            self.warned.set(Some(now));
            tracing::warn!(listener = %self.listener.name, limit, "datagrams refused: too many sessions are open");
        }
    }

    /// Ends idle sessions; returns when the next one expires.
    fn reap(&self, now: Tick) -> Option<Tick> {
        let idle_ms = self.worker.plan().node().limits.udp_idle_timeout_ms;
        let mut flows = self.flows.borrow_mut();
        while let Some(flow) = flows.expire(idle_ms, now) {
            flow.over.set(true);
            flow.wake();
        }
        flows.deadline(idle_ms)
    }
}
