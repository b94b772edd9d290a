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

/// A listening socket on its way from one process to the next.
#[derive(Debug)]
pub struct Handover {
    /// The address it was configured with.
    pub address: SocketAddr,
    /// What it serves.
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

/// A listener that a worker accepts for.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    /// The record, of which connections look up what holds now; `None` for a listener of the node's settings.
    pub(crate) record: Option<Id>,
    /// As it was when the socket was opened.
    pub(crate) listener: Arc<Listener>,
}

impl Listening {
    /// The listener as it is in a plan; `None` if it is gone.
    pub(crate) fn current(&self, plan: &Plan) -> Option<Arc<Listener>> {
        match self.record {
            None => Some(Arc::clone(&self.listener)),
            Some(id) => plan.listeners.get(&id).map(|plan| Arc::clone(&plan.listener)),
        }
    }
}

/// What workers are told.
pub(crate) enum Command {
    /// To accept on a socket, which has this number.
    Accept(u64, Listening, Socket),
    /// To accept no more on the socket of this number, and to let its connections end. What is left after so long is
    /// closed.
    Close(u64, Option<Id>, Duration),
    /// To close the connections that are not allowed any more.
    Review,
    /// To accept no more on any socket.
    StopAccepting,
    /// To let connections end after their request, and to end when all have, or after so long.
    Drain(Duration),
    /// To end at once.
    End,
}

/// The commands on their way to one worker. Senders never wait. There are as many commands as listeners change before the
/// worker looks, so that no bound is needed.
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

    /// The next command. For one receiver.
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

/// An open listener, with a socket for each worker.
struct Open {
    number: u64,
    listening: Listening,
    bound: SocketAddr,
    sockets: Vec<Socket>,
}

/// Whether datagrams are received, and where.
type Place = (bool, SocketAddr);

fn place(listener: &Listener, bound: SocketAddr) -> Place {
    (listener.kind == ListenerKind::Udp, bound)
}

/// A listener of a record that is open.
struct Known {
    number: u64,
    record: Option<Id>,
    listener: Arc<Listener>,
    place: Place,
}

/// What turns the sockets of one generation into those of the next.
#[derive(Default)]
pub(crate) struct SocketChange {
    opened: Vec<Open>,
    /// Numbers of those that go.
    closed: Vec<u64>,
    /// Listeners whose record changed, with the socket they keep.
    kept: Vec<(u64, Arc<Listener>)>,
    /// What cannot be listened on, and why.
    pub(crate) failed: Vec<Diagnostic>,
}

impl Sockets {
    /// Opens the listeners of the node's settings, a socket for each of so many workers, or takes those of a predecessor.
    ///
    /// # Errors
    /// One of them cannot be opened.
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
            // All of a listener's sockets have the port that the system chose for the first.
            bound = socket.local_addr()?;
            sockets.push(socket);
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        Ok(Open { number, listening, bound, sockets })
    }

    /// Opens what a plan has more than is open. Nothing is served on it, and nothing is closed, before [`Self::commit`].
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
            // The kernel would distribute connections between both, whatever their TLS and routes are.
            let opened = match taken.contains(&place(listener, listener.address)) {
                true => Err(std::io::Error::other("another listener of this node has the address")),
                false => {
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

    /// The open listeners of records, and the places of those of the node's settings, which stay.
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

    /// Serves on the sockets that were opened, and closes those that are gone. What connections of these have begun may
    /// take so long.
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
        state.tell(|_| Some(Command::Review));
    }

    /// Tells all workers to close the connections that are not allowed any more.
    pub(crate) fn review(&self) {
        self.lock().tell(|_| Some(Command::Review));
    }

    /// What each worker accepts on.
    ///
    /// # Errors
    /// The process has no descriptors left.
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

    /// From now on changes reach these workers.
    pub(crate) fn set_workers(&self, workers: Vec<Arc<Mailbox>>) {
        self.lock().workers = workers;
    }

    /// A copy of the status socket of this listener.
    ///
    /// # Errors
    /// The process has no descriptors left.
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

    /// Where is listened, with the ports that the system chose.
    pub(crate) fn addresses(&self) -> Vec<(Arc<Listener>, SocketAddr)> {
        self.lock().open.iter().map(|open| (Arc::clone(&open.listening.listener), open.bound)).collect()
    }

    /// Copies of all sockets, for a successor.
    ///
    /// # Errors
    /// The process has no descriptors left.
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
    /// Tells each worker what `command` gives for its number.
    fn tell(&self, mut command: impl FnMut(usize) -> Option<Command>) {
        for (number, worker) in self.workers.iter().enumerate() {
            if let Some(command) = command(number) {
                worker.send(command);
            }
        }
    }
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
