//! A backend that tells what reached it, over HTTP/1.1, HTTP/2 and WebSocket, and misbehaves when asked to.
//!
//! A request says how it wants to be answered in its `X-Echo` header or its `echo` query argument; see `behaviour.rs` for the words.
//! Without either, the answer is 200 with a [`Report`] as JSON. gRPC calls (by content type) get each message back, and
//! a WebSocket handshake opens a WebSocket that sends each frame back.

mod behaviour;
mod h1;
mod h2;
mod report;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use cardinal_base::task;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

#[cfg(test)]
mod tests;

pub use report::Report;

use crate::socket::Socket;
use report::Peer;

/// Reports that are kept for [`EchoServer::seen`].
const SEEN_MAX: usize = 10_000;

/// The backend. Dropping it closes its connections. How a request asks for an answer is told in `echo/behaviour.rs`:
/// `X-Echo: status:503,delay:50`, or `?echo=bytes:1000000`.
#[derive(Debug)]
pub struct EchoServer {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    name: String,
    tls: Option<Arc<ServerConfig>>,
    connections: AtomicU64,
    requests: AtomicU64,
    seen: Mutex<VecDeque<Report>>,
    failures: Mutex<Vec<String>>,
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl EchoServer {
    /// Starts one in the clear. It speaks HTTP/1.1, and HTTP/2 to who starts with its preface.
    pub async fn start(name: &str) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), name, None).await.expect("127.0.0.1 has a free port")
    }

    /// Starts one with TLS. It speaks what ALPN chooses.
    pub async fn start_tls(name: &str, config: Arc<ServerConfig>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_at(address, name, Some(config)).await.expect("127.0.0.1 has a free port")
    }

    /// Starts one at an address: one that comes back where another one was.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start_at(address: SocketAddr, name: &str, tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            name: name.to_owned(),
            tls,
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            seen: Mutex::default(),
            failures: Mutex::default(),
        });
        let accepting = task::spawn("echo server", accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL: `http://127.0.0.1:PORT`, or `https`.
    pub fn url(&self) -> String {
        let scheme = if self.state.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// How many connections it accepted.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many request heads came.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Reports of the last requests whose bodies came whole, oldest first.
    pub fn seen(&self) -> Vec<Report> {
        lock(&self.state.seen).iter().cloned().collect()
    }

    /// What went wrong on connections: malformed requests, cut off bodies. A peer that behaves leaves none.
    pub fn failures(&self) -> Vec<String> {
        lock(&self.state.failures).clone()
    }
}

impl State {
    fn keep(&self, report: Report) {
        let mut seen = lock(&self.seen);
        if seen.len() == SEEN_MAX {
            seen.pop_front();
        }
        seen.push_back(report);
    }

    fn failed(&self, connection: u64, error: &anyhow::Error) {
        let mut failures = lock(&self.failures);
        if failures.len() < SEEN_MAX {
            failures.push(format!("connection {connection}: {error:#}"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // Dropped with this task, and its connections with it.
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let number = state.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let state = Arc::clone(&state);
        connections.spawn(async move {
            if let Err(error) = serve(tcp, number, &state).await {
                state.failed(number, &error);
            }
        });
    }
}

async fn serve(tcp: TcpStream, connection: u64, state: &Arc<State>) -> Result<()> {
    tcp.set_nodelay(true)?;
    let Some(config) = &state.tls else {
        let h2 = starts_h2(&tcp).await?;
        let peer = Peer { connection, ..Peer::default() };
        return serve_http(Socket::Plain(tcp), h2, peer, state).await;
    };
    let tls = TlsAcceptor::from(Arc::clone(config)).accept(tcp).await.context("the TLS handshake failed")?;
    let session = tls.get_ref().1;
    let peer = Peer {
        connection,
        sni: session.server_name().map(str::to_owned),
        client_certificate: session.peer_certificates().is_some_and(|chain| !chain.is_empty()),
    };
    let h2 = session.alpn_protocol() == Some(b"h2");
    serve_http(Socket::Tls(Box::new(tls.into())), h2, peer, state).await
}

async fn serve_http(socket: Socket, h2: bool, peer: Peer, state: &Arc<State>) -> Result<()> {
    if h2 { h2::serve(socket, peer, state).await } else { h1::serve(socket, &peer, state).await }
}

/// Whether the client starts with HTTP/2's preface; looks without taking bytes.
async fn starts_h2(tcp: &TcpStream) -> Result<bool> {
    const PREFACE: &[u8] = b"PRI ";
    let mut first = [0; PREFACE.len()];
    loop {
        let count = tcp.peek(&mut first).await?;
        if count == PREFACE.len() || count == 0 || !PREFACE.starts_with(&first[..count]) {
            return Ok(first == PREFACE);
        }
        // Part of the preface is there: the rest is on its way.
        crate::wait::look_again().await;
    }
}
