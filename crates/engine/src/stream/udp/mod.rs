//! UDP sessions of one socket: who sends from one address talks to one endpoint, until both have been silent.
//!
//! Each worker has a socket of its own for a listener, and the kernel chooses among them by both ends' addresses, so
//! a session stays with its worker and nothing here is shared between threads.
//!
//! One task reads the clients' socket and passes datagrams on; each session has a task that connects, passes answers
//! back and writes the log record. A datagram that a socket does not take at once is dropped, as networks do: a queue
//! here would only make it late. Those that come while a session connects are kept, up to a limit.

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

/// No datagram is longer, so none is cut.
const DATAGRAM_MAX: usize = 64 * 1024;

/// How long the pause after errors is, milliseconds.
const PAUSE_MS: u64 = 100;

/// Warnings about a full table come at most this often, milliseconds.
const WARNING_MS: u64 = 1_000;

/// Serves the UDP sessions of a socket for as long as the task lives. When it is ended, sessions go on until no more
/// answers come; they count as connections, so a worker that drains waits for them.
///
/// Of `Limits::udp_sessions_max` each worker has its share; see [`Table`] for what happens beyond.
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

/// Tells the sessions when the socket is read no more.
struct Closing(Rc<Server>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.closed.set(true);
        self.0.flows.borrow().iter().for_each(|flow| flow.wake());
    }
}

impl Server {
    /// Reads what has come, and ends sessions that are silent. Never ready.
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
                // A little late rather than a little early, and then again.
                Some(next) => timer.arm(next.millis_since(now) + 1),
                None => timer.disarm(),
            }
            if !timer.poll_expired(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Passes a datagram of a client on.
    fn datagram(self: &Rc<Self>, from: SocketAddr, data: &[u8]) {
        let now = self.worker.now();
        let known = self.flows.borrow_mut().hear(&from, now).map(Rc::clone);
        if let Some(flow) = known.or_else(|| self.begin(from, now)) {
            flow.pass(data);
        }
    }

    /// Begins a session, if the client may have one. Route and filters are asked here, so that refusing a flood costs
    /// no task.
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

    /// Counts a client that is not taken, and says so now and then.
    fn full(&self, limit: usize, now: Tick) {
        self.worker.counters().failed(FailureKind::Overloaded);
        if self.warned.get().is_none_or(|last| now.millis_since(last) >= WARNING_MS) {
            self.warned.set(Some(now));
            tracing::warn!(listener = %self.listener.name, limit, "datagrams refused: too many sessions are open");
        }
    }

    /// Ends sessions that are silent; says when to look again.
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
