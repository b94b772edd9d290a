//! UDP sessions of one socket: who sends from one address talks to one endpoint, until both have been silent.
//!
//! Each worker has a socket of its own for a listener, and the kernel chooses among them by both ends' addresses, so
//! a session stays with its worker and nothing here is shared between threads.
//!
//! One task reads the clients' socket and passes datagrams on; each session has a task that connects, passes answers
//! back and writes the log record. A datagram that a socket does not take at once is dropped, as networks do: a queue
//! here would only make it late. Those that come while a session connects are kept, up to a limit.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use cardinal_balance::Picked;
use cardinal_base::{Tick, task};
use cardinal_http::{Failure, FailureKind, Retry};
use cardinal_ir::{Listener, Wire};
use cardinal_net::Timer;
use cardinal_sdk::{Admit, Client, Exchange};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use super::session::{Reached, Session};
use super::table::{Key, Table};
use crate::plan::{BackendPlan, RoutePlan};
use crate::worker::{ConnectionGuard, Worker};

/// No datagram is longer, so none is cut.
const DATAGRAM_MAX: usize = 64 * 1024;

/// Datagrams kept while a session connects.
const WAITING_MAX: usize = 16;

/// Bytes of them.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// How long a session waits for another answer once the socket is read no more, milliseconds.
const LINGER_MS: u64 = 1_000;

/// Pause after as many errors of the clients' socket in a row, and its length in milliseconds.
const ERRORS_IN_A_ROW: u32 = 32;
const PAUSE_MS: u64 = 100;

/// Warnings about a full table come at most this often, milliseconds.
const WARNING_MS: u64 = 1_000;

/// Serves the UDP sessions of a socket for as long as the task lives. When it is ended, sessions go on until no more
/// answers come; they count as connections, so a worker that drains waits for them.
///
/// Of `Limits::udp_sessions_max` each worker has its share; see [`Table`] for what happens beyond.
pub(crate) async fn serve_udp(worker: Rc<Worker>, socket: UdpSocket, listener: Rc<Listener>) {
    let timer = Timer::new(&worker.wheel);
    let mut buffer = vec![0; DATAGRAM_MAX].into_boxed_slice();
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

/// A clients' socket and its sessions.
struct Server {
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    socket: UdpSocket,
    local: SocketAddr,
    flows: RefCell<Table<Rc<Flow>>>,
    /// For answers. A task borrows it only while it is polled.
    buffer: RefCell<Box<[u8]>>,
    /// Nobody reads the socket any more.
    closed: Cell<bool>,
    /// When a full table was last warned of.
    warned: Cell<Option<Tick>>,
}

/// A session, as its own task and the socket's both see it.
#[derive(Default)]
struct Flow {
    /// To the upstream, once there is one.
    upstream: OnceCell<UdpSocket>,
    /// What came before.
    waiting: RefCell<Waiting>,
    /// Bytes from the client.
    received: Cell<u64>,
    /// Bytes to the upstream.
    forwarded: Cell<u64>,
    dropped: Cell<u64>,
    /// What sending to the upstream met.
    error: RefCell<Option<io::Error>>,
    /// It has been silent for too long.
    over: Cell<bool>,
    /// Of its task.
    waker: RefCell<Option<Waker>>,
}

#[derive(Default)]
struct Waiting {
    datagrams: Vec<Box<[u8]>>,
    bytes: usize,
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
                    tracing::debug!(listener = %self.listener.name, %error, "receiving datagrams");
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
        let Some(guard) = ConnectionGuard::new(worker, limits.connections_max) else {
            self.full(limits.connections_max as usize, now);
            return None;
        };
        let mut client = Client::at(from, self.local);
        client.connection = worker.node.next_connection.fetch_add(1, Ordering::Relaxed);
        let mut session = Session::start(worker, &client, Wire::Udp, self.listener.mapped_port);
        let admitted = match session.take_route(Wire::Udp, session.find(Wire::Udp, None)) {
            Ok(()) => session.admit() == Admit::Yes,
            Err(failure) => {
                session.fail(&failure);
                false
            }
        };
        let flow = Rc::new(Flow::default());
        let key =
            if admitted { self.flows.borrow_mut().insert(from, Rc::clone(&flow), max, now) } else { None };
        let Some(key) = key else {
            session.finish();
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

impl Flow {
    /// Sends a datagram of the client to the upstream, or keeps it until there is one.
    fn pass(&self, data: &[u8]) {
        add(&self.received, data.len());
        match self.upstream.get() {
            Some(upstream) => self.send(upstream, data),
            None => {
                let mut waiting = self.waiting.borrow_mut();
                if waiting.datagrams.len() < WAITING_MAX && waiting.bytes + data.len() <= WAITING_BYTES_MAX {
                    waiting.bytes += data.len();
                    waiting.datagrams.push(data.into());
                } else {
                    add(&self.dropped, 1);
                }
            }
        }
    }

    /// Sends what was kept, and everything that comes from now on.
    fn connected(&self, upstream: UdpSocket) -> &UdpSocket {
        let upstream = self.upstream.get_or_init(|| upstream);
        for datagram in self.waiting.take().datagrams {
            self.send(upstream, &datagram);
        }
        upstream
    }

    fn send(&self, upstream: &UdpSocket, data: &[u8]) {
        match upstream.try_send(data) {
            Ok(count) => add(&self.forwarded, count),
            Err(error) => {
                add(&self.dropped, 1);
                if is_gone(&error) {
                    *self.error.borrow_mut() = Some(error);
                    self.wake();
                }
            }
        }
    }

    /// Has its task woken when something changes.
    fn wait(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Lets its task look at what has changed.
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// A session's task.
struct Run {
    server: Rc<Server>,
    flow: Rc<Flow>,
    client: SocketAddr,
    key: Key,
}

/// What came back.
#[derive(Default)]
struct Answers {
    /// Datagrams from the upstream.
    count: u64,
    /// Their bytes.
    received: u64,
    /// Bytes to the client.
    sent: u64,
    /// The socket is read no more: the last answers are waited for.
    lingering: bool,
}

impl Run {
    async fn run(self, mut session: Session) {
        let mut answers = Answers::default();
        let outcome = self.relay(&mut session, &mut answers).await;
        self.server.flows.borrow_mut().remove(self.key);
        let bytes = &mut session.exchange().bytes;
        (bytes.received, bytes.upstream_sent) = (self.flow.received.get(), self.flow.forwarded.get());
        (bytes.sent, bytes.upstream_received) = (answers.sent, answers.received);
        if self.flow.dropped.get() > 0 {
            let (request_id, dropped) = (session.exchange().id, self.flow.dropped.get());
            tracing::debug!(%request_id, client = %self.client, dropped, "datagrams of a session were dropped");
        }
        if let Err(failure) = outcome {
            session.fail(&failure);
        }
        session.finish();
    }

    /// Connects, and passes answers back until the session is over.
    async fn relay(&self, session: &mut Session, answers: &mut Answers) -> Result<(), Failure> {
        let Reached { transport, endpoint } = session.reach(open).await?;
        let upstream = self.flow.connected(transport);
        let timer = Timer::new(&self.server.worker.wheel);
        let outcome = poll_fn(|cx| self.poll(cx, upstream, &timer, answers)).await;
        match outcome {
            // What never answered may be there or not: it counts neither way.
            Ok(()) if answers.count > 0 => endpoint.succeeded(session),
            Ok(()) => {}
            Err(error) => {
                let failure = Failure::new(FailureKind::UpstreamConnect, "the upstream's network says so").with_source(error);
                endpoint.failed(session, &failure);
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Passes answers back. Ready when the session is over: silent for too long, or told by the network that the
    /// upstream is not there (ICMP). The client's next datagram then begins another, with an endpoint chosen anew.
    fn poll(
        &self,
        cx: &mut Context<'_>,
        upstream: &UdpSocket,
        timer: &Timer,
        answers: &mut Answers,
    ) -> Poll<io::Result<()>> {
        let server = &self.server;
        let mut buffer = server.buffer.borrow_mut();
        let (mut moved, mut errors) = (false, 0);
        loop {
            if let Some(error) = self.flow.error.take() {
                return Poll::Ready(Err(error));
            }
            if self.flow.over.get() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut buffer);
            match upstream.poll_recv(cx, &mut buf) {
                Poll::Ready(Ok(())) => {
                    moved = true;
                    self.answer(buf.filled(), answers);
                }
                Poll::Ready(Err(error)) if is_gone(&error) || errors == ERRORS_IN_A_ROW => {
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(Err(_)) => errors += 1,
                Poll::Pending => break,
            }
        }
        self.flow.wait(cx);
        if server.closed.get() {
            if moved || !std::mem::replace(&mut answers.lingering, true) {
                timer.arm(LINGER_MS);
            }
            if timer.poll_expired(cx) {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    fn answer(&self, data: &[u8], answers: &mut Answers) {
        let server = &self.server;
        answers.count += 1;
        answers.received += data.len() as u64;
        server.flows.borrow_mut().touch(self.key, server.worker.now());
        match server.socket.try_send_to(data, self.client) {
            Ok(count) => answers.sent += count as u64,
            Err(error) => {
                add(&self.flow.dropped, 1);
                if error.kind() != ErrorKind::WouldBlock {
                    tracing::debug!(client = %self.client, %error, "sending a datagram to a client");
                }
            }
        }
    }
}

/// A socket that talks to the endpoint only. "Connected" means that the system knows a way there.
async fn open(_: &RoutePlan, _: &BackendPlan, picked: &Picked, _: &Exchange) -> Result<UdpSocket, Failure> {
    let to = picked.address();
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let failed = |error: io::Error| {
        Failure::new(FailureKind::UpstreamConnect, "connecting").with_source(error).with_retry(Retry::Safe)
    };
    let socket = UdpSocket::bind(any).await.map_err(failed)?;
    socket.connect(to).await.map_err(failed)?;
    Ok(socket)
}

/// Whether an error says that the upstream cannot be reached. Others concern one datagram, which is lost: no room for
/// it now, too long for the way, forbidden.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
            | ErrorKind::NotConnected
    )
}

fn add(counter: &Cell<u64>, count: impl TryInto<u64>) {
    counter.set(counter.get().saturating_add(count.try_into().unwrap_or(u64::MAX)));
}
