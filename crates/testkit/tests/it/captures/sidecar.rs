//! A transparent proxy of a few lines, made of what `cardinal_net` has for one.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use cardinal_base::{Id, SystemClock, task};
use cardinal_net::{
    Arrival, Capture, Connector, Detection, Evidence, Io, Protocol, SniffTimeouts, Stage, Timer, Wheel, sniff,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

/// What it has seen of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) original_dst: Option<SocketAddr>,
    pub(super) protocol: Protocol,
    pub(super) evidence: Evidence,
    /// How long detection took.
    pub(super) sniffed_ms: u64,
}

/// Takes captured connections, and closes others; takes all that come directly, if that is what it is for.
#[derive(Clone)]
pub(super) struct Sidecar {
    pub(super) capture: Capture,
    pub(super) connector: Connector,
    /// Where it connects to instead of the original destination.
    pub(super) upstream: Option<SocketAddr>,
    seen: Rc<RefCell<Vec<Seen>>>,
    wheel: Rc<Wheel>,
}

impl Sidecar {
    pub(super) fn new(capture: Capture, connector: Connector) -> Self {
        let wheel = Wheel::new(Arc::new(SystemClock::new()));
        drop(task::spawn_local("wheel", Rc::clone(&wheel).run()));
        Self { capture, connector, upstream: None, seen: Rc::default(), wheel }
    }

    /// The connections that came since this was asked last.
    pub(super) fn take_seen(&self) -> Vec<Seen> {
        self.seen.take()
    }

    /// Serves what comes to `listener`, in the background.
    pub(super) fn serve(&self, listener: std::net::TcpListener) {
        let (sidecar, listener) = (self.clone(), TcpListener::from_std(listener).unwrap());
        drop(task::spawn_local("sidecar", async move {
            let bound = listener.local_addr().unwrap();
            while let Ok((tcp, peer)) = listener.accept().await {
                let sidecar = sidecar.clone();
                drop(task::spawn_local("connection", async move { sidecar.connection(tcp, peer, bound).await }));
            }
        }));
    }

    async fn connection(&self, tcp: TcpStream, peer: SocketAddr, bound: SocketAddr) {
        let mut arrival = Arrival::accepted(Id::nil(), bound, self.capture, (&tcp, peer), Protocol::Bytes).unwrap();
        if arrival.original_dst.is_none() && self.capture != Capture::Direct {
            let (protocol, evidence) = (arrival.protocol, Evidence::Declared);
            self.seen.borrow_mut().push(Seen { original_dst: None, protocol, evidence, sniffed_ms: 0 });
            return;
        }
        let destination = arrival.destination();
        let (started, mut client) = (self.wheel.now(), Io::Tcp(tcp));
        let detection = Detection::for_port(destination.port(), SniffTimeouts::default());
        let mut sniffed = sniff(&mut client, detection, &Timer::new(&self.wheel)).await.unwrap();
        arrival.protocol = sniffed.protocol;
        self.seen.borrow_mut().push(Seen {
            original_dst: arrival.original_dst,
            protocol: arrival.protocol,
            evidence: sniffed.evidence,
            sniffed_ms: self.wheel.now().millis_since(started),
        });
        let target = self.upstream.unwrap_or(destination);
        let mut server = self.connector.connect(target, None, None, &Stage::default()).await.unwrap().io;
        server.write_all(sniffed.prefix.filled()).await.unwrap();
        sniffed.prefix.consume(usize::MAX);
        sniffed.prefix.release();
        // How it ends shows on both sides.
        let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
