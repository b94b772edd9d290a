//! [`Sockets`]: the listening sockets of the node, and the workers that accept on them.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cardinal_ir::{Capture, Code, Diagnostic, Id, Listener, ListenerKind, Severity};
use cardinal_net::arrival::bind_transparent;
use cardinal_net::{bind_tcp, bind_udp, is_taken};
use tokio::sync::Notify;

use crate::outcome::EngineError;
use crate::plan::{ListenerPlan, Plan, is_same_socket};

/// A listening socket handed over from one process to the next.
#[derive(Debug)]
pub struct Handover {
    /// The configured address.
    pub address: SocketAddr,
    /// The kind of listener.
    pub kind: ListenerKind,
    /// The socket.
    pub socket: Socket,
}

/// A bound socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// UDP.
    Udp(UdpSocket),
}

impl Socket {
    pub(crate) fn try_clone(&self) -> std::io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Udp(socket) => Self::Udp(socket.try_clone()?),
        })
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr(),
            Self::Udp(socket) => socket.local_addr(),
        }
    }

    /// Binds a socket for a listener.
    fn bind(listener: &Listener, address: SocketAddr) -> std::io::Result<Self> {
        Ok(match (listener.kind, listener.capture) {
            (ListenerKind::Udp, _) => Self::Udp(bind_udp(address)?.socket),
            (_, Capture::Transparent) => {
                Self::Tcp(bind_transparent(address, listener.backlog).map_err(std::io::Error::other)?.socket)
            }
            _ => Self::Tcp(bind_tcp(address, listener.backlog)?.socket),
        })
    }
}

/// A listener on which a worker accepts.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    /// The record, by which connections look up the current settings; `None` for a listener of the node's settings.
    pub(crate) record: Option<Id>,
    /// The listener at the time when the socket was opened.
    pub(crate) listener: Arc<Listener>,
}

impl Listening {
    /// The listener in a plan, with its record, or the one that has taken over its address; `None` if no listener uses
    /// the address.
    pub(crate) fn current(&self, plan: &Plan) -> Option<(Option<Id>, Arc<Listener>)> {
        let Some(id) = self.record else { return Some((None, Arc::clone(&self.listener))) };
        let found = |plan: &Arc<ListenerPlan>| (Some(plan.id), Arc::clone(&plan.listener));
        match plan.listeners.get(&id) {
            Some(now)
                if Arc::ptr_eq(&now.listener, &self.listener) || is_same_socket(&self.listener, &now.listener) =>
            {
                Some(found(now))
            }
            moved => {
                plan.listeners.iter().find(|other| takes_over(&other.listener, &self.listener)).or(moved).map(found)
            }
        }
    }
}

/// Messages to workers.
pub(crate) enum Command {
    /// Accept on a socket with this number.
    Accept(u64, Listening, Socket),
    /// Stop accepting on the socket of this number, and close its connections after their current request; the
    /// remaining ones are closed after the given time.
    Close(u64, Option<Id>, Duration),
    /// Close connections that are no longer allowed. After the given time, if any, also close those that the listener
    /// would not serve with its current settings.
    Review(Option<Duration>),
    /// Stop accepting on all sockets.
    StopAccepting,
    /// Drain: close connections after their current request; stop when none are left, or after the given time.
    Drain(Duration),
    /// Stop immediately.
    End,
}

/// The command queue of one worker. Senders never wait. The queue needs no bound: it holds at most as many commands as
/// listeners changed since the worker last read it.
#[derive(Default)]
pub(crate) struct Mailbox {
    commands: Mutex<VecDeque<Command>>,
    arrived: Notify,
}

impl Mailbox {
    pub(crate) fn send(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push_back(command);
        self.arrived.notify_one();
    }

    /// The next command. Only one task may receive.
    pub(crate) async fn receive(&self) -> Command {
        loop {
            let next = self.commands.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match next {
                Some(command) => return command,
                None => self.arrived.notified().await,
            }
        }
    }
}

/// The sockets of a worker, with their numbers.
pub(crate) type WorkerSockets = Vec<(u64, Listening, Socket)>;

/// All listening sockets of the node.
#[derive(Default)]
pub(crate) struct Sockets {
    state: Mutex<State>,
    next_number: AtomicU64,
}

#[derive(Default)]
struct State {
    workers: Vec<Arc<Mailbox>>,
    open: Vec<Open>,
}

/// An open listener, with one socket per worker.
struct Open {
    number: u64,
    listening: Listening,
    bound: SocketAddr,
    sockets: Vec<Socket>,
}

/// Whether the socket receives datagrams, and its address.
type Place = (bool, SocketAddr);

fn place(listener: &Listener, bound: SocketAddr) -> Place {
    (listener.kind == ListenerKind::Udp, bound)
}

/// An open listener of a record.
struct Known {
    number: u64,
    record: Option<Id>,
    listener: Arc<Listener>,
    place: Place,
}

/// The difference between the sockets of two generations.
#[derive(Default)]
pub(crate) struct SocketChange {
    opened: Vec<Open>,
    /// Numbers of the sockets to close.
    closed: Vec<u64>,
    /// Listeners with a changed record that keep their socket.
    kept: Vec<(u64, Arc<Listener>)>,
    /// Listeners that cannot be opened, with the reasons.
    pub(crate) failed: Vec<Diagnostic>,
}

impl Sockets {
    /// Opens the listeners of the node's settings, with one socket for each of `workers` workers, or takes over those
    /// of a predecessor.
    ///
    /// # Errors
    /// If one of them cannot be opened.
    pub(crate) fn open_node(
        &self,
        listeners: &[Listener],
        workers: usize,
        inherited: &mut Vec<Handover>,
    ) -> Result<(), EngineError> {
        for listener in listeners {
            let listening = Listening { record: None, listener: Arc::new(listener.clone()) };
            let failed = |error| EngineError::Listen { name: listener.name.clone(), address: listener.address, error };
            let open = self.open(listening, workers, inherited).map_err(failed)?;
            self.lock().open.push(open);
        }
        Ok(())
    }

    fn open(&self, listening: Listening, workers: usize, inherited: &mut Vec<Handover>) -> std::io::Result<Open> {
        let listener = &*listening.listener;
        let wanted = if listener.kind == ListenerKind::Status { 1 } else { workers };
        let fits = |h: &mut Handover| h.address == listener.address && h.kind == listener.kind;
        let mut sockets: Vec<Socket> = inherited.extract_if(.., fits).map(|h| h.socket).collect();
        let mut bound = listener.address;
        if let Some(first) = sockets.first() {
            bound = first.local_addr()?;
        } else if is_taken(bound, listener.kind == ListenerKind::Udp) {
            tracing::warn!(
                listener = %listener.name,
                "another process listens on {bound}: the kernel distributes connections between both processes"
            );
        }
        while sockets.len() < wanted {
            let socket = Socket::bind(listener, bound)?;
            // All sockets of a listener use the port that the system chose for the first one.
            bound = socket.local_addr()?;
            sockets.push(socket);
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        Ok(Open { number, listening, bound, sockets })
    }

    /// Opens the new sockets of a plan. Nothing is served on them, and nothing is closed, before [`Self::commit`].
    pub(crate) fn prepare(&self, plan: &Plan, workers: usize, inherited: &mut Vec<Handover>) -> SocketChange {
        let mut change = SocketChange::default();
        let (mut known, mut taken) = self.known();
        let mut new = Vec::new();
        for ListenerPlan { id, listener, .. } in plan.listeners.iter().map(|plan| &**plan) {
            let same =
                known.iter().position(|open| open.record == Some(*id) && is_same_socket(&open.listener, listener));
            let Some(at) = same else {
                new.push((*id, listener));
                continue;
            };
            let open = known.swap_remove(at);
            taken.push(open.place);
            if !Arc::ptr_eq(&open.listener, listener) {
                change.kept.push((open.number, Arc::clone(listener)));
            }
        }
        for (id, listener) in new {
            // With two sockets on one address, the kernel would distribute connections between both listeners,
            // regardless of their TLS settings and routes.
            let opened = match taken.contains(&place(listener, listener.address)) {
                true => Err(std::io::Error::other("another listener of this node has the address")),
                false => {
                    inherited.extend(self.left_behind(listener, &known));
                    let listening = Listening { record: Some(id), listener: Arc::clone(listener) };
                    self.open(listening, workers, inherited)
                }
            };
            match opened {
                Ok(open) => {
                    taken.push(place(listener, open.bound));
                    change.opened.push(open);
                }
                Err(error) => change.failed.push(cannot_listen(listener, &error)),
            }
        }
        change.closed = known.into_iter().map(|open| open.number).collect();
        change
    }

    /// Copies of the sockets of a removed listener, for the listener that takes over its address: connections in their
    /// queues are not lost. If copying fails, new sockets are opened.
    fn left_behind(&self, listener: &Listener, known: &[Known]) -> Vec<Handover> {
        let Some(goes) = known.iter().find(|open| takes_over(listener, &open.listener)) else { return Vec::new() };
        let state = self.lock();
        let sockets = state.open.iter().filter(|open| open.number == goes.number).flat_map(|open| &open.sockets);
        let copies: std::io::Result<Vec<Socket>> = sockets.map(Socket::try_clone).collect();
        let Listener { address, kind, .. } = *listener;
        copies.unwrap_or_default().into_iter().map(|socket| Handover { address, kind, socket }).collect()
    }

    /// The open listeners of records, and the addresses of the node's own listeners, which stay open.
    fn known(&self) -> (Vec<Known>, Vec<Place>) {
        let state = self.lock();
        let (mut known, mut taken) = (Vec::new(), Vec::new());
        for Open { number, listening, bound, .. } in &state.open {
            let Listening { record, listener } = listening.clone();
            let place = place(&listener, *bound);
            match record {
                None => taken.push(place),
                Some(_) => known.push(Known { number: *number, record, listener, place }),
            }
        }
        (known, taken)
    }

    /// Starts serving on the opened sockets, and closes the removed ones. Connections of removed listeners may continue
    /// for `drain`.
    pub(crate) fn commit(&self, change: SocketChange, drain: Duration) {
        let SocketChange { opened, closed, kept, failed: _ } = change;
        let mut state = self.lock();
        for (number, listener) in kept {
            state.open.iter_mut().filter(|open| open.number == number).for_each(|open| {
                open.listening.listener = Arc::clone(&listener);
            });
        }
        for number in closed {
            let Some(at) = state.open.iter().position(|open| open.number == number) else { continue };
            let open = state.open.swap_remove(at);
            tracing::info!(listener = %open.listening.listener.name, address = %open.bound, "listener closed");
            state.tell(|_| Some(Command::Close(number, open.listening.record, drain)));
        }
        for open in opened {
            tracing::info!(listener = %open.listening.listener.name, address = %open.bound, "listening");
            let mut copies: Vec<_> = open.sockets.iter().map(Socket::try_clone).collect();
            state.tell(|worker| {
                match copies
                    .get_mut(worker)
                    .map(|copy| std::mem::replace(copy, Err(std::io::ErrorKind::NotFound.into())))
                {
                    Some(Ok(socket)) => Some(Command::Accept(open.number, open.listening.clone(), socket)),
                    Some(Err(error)) => {
                        tracing::error!(listener = %open.listening.listener.name, %error, "a worker cannot listen");
                        None
                    }
                    None => None,
                }
            });
            state.open.push(open);
        }
        state.tell(|_| Some(Command::Review(Some(drain))));
    }

    /// Tells all workers to close connections that are no longer allowed.
    pub(crate) fn review(&self) {
        self.lock().tell(|_| Some(Command::Review(None)));
    }

    /// The sockets of each worker.
    ///
    /// # Errors
    /// If the process has no free descriptors.
    pub(crate) fn per_worker(&self, workers: usize) -> std::io::Result<Vec<WorkerSockets>> {
        let mut all: Vec<WorkerSockets> = (0..workers).map(|_| Vec::new()).collect();
        for open in self.lock().open.iter().filter(|open| open.listening.listener.kind != ListenerKind::Status) {
            for (number, socket) in open.sockets.iter().enumerate() {
                if let Some(place) = all.get_mut(number % workers) {
                    place.push((open.number, open.listening.clone(), socket.try_clone()?));
                }
            }
        }
        Ok(all)
    }

    /// Sets the workers that receive further changes.
    pub(crate) fn set_workers(&self, workers: Vec<Arc<Mailbox>>) {
        self.lock().workers = workers;
    }

    /// A copy of the status socket of this listener.
    ///
    /// # Errors
    /// If the process has no free descriptors.
    pub(crate) fn status_socket(&self, address: SocketAddr) -> std::io::Result<Option<TcpListener>> {
        let is_own = |open: &&Open| {
            open.listening.listener.kind == ListenerKind::Status && open.listening.listener.address == address
        };
        let state = self.lock();
        let sockets = state.open.iter().find(is_own).and_then(|open| open.sockets.first());
        match sockets {
            Some(Socket::Tcp(socket)) => socket.try_clone().map(Some),
            _ => Ok(None),
        }
    }

    /// The listening addresses, with ports that the system assigned.
    pub(crate) fn addresses(&self) -> Vec<(Arc<Listener>, SocketAddr)> {
        self.lock().open.iter().map(|open| (Arc::clone(&open.listening.listener), open.bound)).collect()
    }

    /// Copies of all sockets, for a successor process.
    ///
    /// # Errors
    /// If the process has no free descriptors.
    pub(crate) fn handover(&self) -> std::io::Result<Vec<Handover>> {
        let state = self.lock();
        let copies = state.open.iter().flat_map(|open| {
            let Listener { address, kind, .. } = *open.listening.listener;
            open.sockets.iter().map(move |socket| Ok(Handover { address, kind, socket: socket.try_clone()? }))
        });
        copies.collect()
    }

    /// Closes this process's copies.
    pub(crate) fn clear(&self) {
        self.lock().open.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Sends each worker the command that `command` returns for its number.
    fn tell(&self, mut command: impl FnMut(usize) -> Option<Command>) {
        for (number, worker) in self.workers.iter().enumerate() {
            if let Some(command) = command(number) {
                worker.send(command);
            }
        }
    }
}

/// Whether a listener can use the sockets of another one. Datagram sockets are closed with their sessions, and a port
/// assigned by the system need not be kept.
fn takes_over(new: &Listener, old: &Listener) -> bool {
    new.kind != ListenerKind::Udp && new.address.port() != 0 && is_same_socket(old, new)
}

fn cannot_listen(listener: &Listener, error: &std::io::Error) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: Code::Listener,
        origin: listener.origin.clone(),
        location: None,
        path: "address".to_owned(),
        message: format!("cannot listen on {}: {error}", listener.address),
        hint: None,
    }
}
