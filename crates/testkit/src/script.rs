//! A peer that does exactly what it is told, rules or no rules.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use cardinal_base::task;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::socket::Socket;
use crate::within;

/// What a [`ScriptedPeer`] does next on a connection.
#[derive(Clone, Debug)]
pub enum Step {
    /// Reads until these bytes have come; drops everything up to and with them.
    Await(Vec<u8>),
    /// Reads exactly these bytes; anything else ends the play with an error.
    Expect(Vec<u8>),
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends bytes one by one, with a pause before each.
    Trickle(Vec<u8>, Duration),
    /// Sends the same bytes again and again, until the other side has gone or so many bytes were sent.
    Flood(Vec<u8>, u64),
    /// Waits.
    Pause(Duration),
    /// Sends nothing more, and goes on reading.
    Finish,
    /// Ends the connection with a TCP reset; without [`Step::Reset`] the end of the play is a normal close.
    Reset,
    /// Reads until the other side closes.
    Drain,
}

impl Step {
    /// [`Step::Send`] of text.
    pub fn send(text: impl AsRef<[u8]>) -> Self {
        Self::Send(text.as_ref().to_vec())
    }

    /// [`Step::Await`] of text; `Step::until("\r\n\r\n")` takes a request head.
    pub fn until(text: impl AsRef<[u8]>) -> Self {
        Self::Await(text.as_ref().to_vec())
    }
}

/// What happens on one connection.
pub type Play = Vec<Step>;

/// Listens on loopback and plays one [`Play`] on each connection: the first on the first, and the last one on all
/// that come after.
#[derive(Debug)]
pub struct ScriptedPeer {
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Log {
    received: Vec<Vec<u8>>,
    errors: Vec<String>,
    flooded: u64,
}

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl ScriptedPeer {
    /// Starts one.
    pub async fn start(plays: Vec<Play>) -> Self {
        Self::listen(None, plays).await
    }

    async fn listen(tls: Option<Arc<ServerConfig>>, plays: Vec<Play>) -> Self {
        assert!(!plays.is_empty(), "a peer needs something to play");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("127.0.0.1 has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let log = Arc::new(Mutex::new(Log::default()));
        let accepting = task::spawn("scripted peer", accept(listener, tls, plays, Arc::clone(&log)));
        Self { address, log, accepting }
    }

    /// Starts one whose connections begin with TLS; plays go on inside it.
    pub async fn start_tls(config: Arc<ServerConfig>, plays: Vec<Play>) -> Self {
        Self::listen(Some(config), plays).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came, one entry a connection, in the order they were accepted.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).received.clone()
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).received.len()
    }

    /// How many bytes of [`Step::Flood`] the other sides have taken so far.
    pub fn flooded(&self) -> u64 {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).flooded
    }

    /// Plays that could not be played to their end, and why.
    pub fn errors(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).errors.clone()
    }
}

async fn accept(listener: TcpListener, tls: Option<Arc<ServerConfig>>, plays: Vec<Play>, log: Arc<Mutex<Log>>) {
    let mut playing = JoinSet::new();
    let mut number = 0;
    while let Ok((tcp, _)) = listener.accept().await {
        while playing.try_join_next().is_some() {}
        let play = plays[number.min(plays.len() - 1)].clone();
        log.lock().unwrap_or_else(PoisonError::into_inner).received.push(Vec::new());
        playing.spawn(enter(tcp, tls.clone(), number, play, Arc::clone(&log)));
        number += 1;
    }
}

/// Starts TLS where there is to be any, then plays.
async fn enter(tcp: TcpStream, tls: Option<Arc<ServerConfig>>, number: usize, play: Play, log: Arc<Mutex<Log>>) {
    let socket = match tls {
        None => Socket::Plain(tcp),
        Some(config) => match TlsAcceptor::from(config).accept(tcp).await {
            Ok(tls) => Socket::Tls(Box::new(tls.into())),
            Err(error) => {
                let text = format!("connection {number}: the TLS handshake failed: {error}");
                log.lock().unwrap_or_else(PoisonError::into_inner).errors.push(text);
                return;
            }
        },
    };
    Stage { socket, pending: Vec::new(), number, log }.perform(play).await;
}

struct Stage {
    socket: Socket,
    pending: Vec<u8>,
    number: usize,
    log: Arc<Mutex<Log>>,
}

impl Stage {
    async fn perform(mut self, play: Play) {
        for step in play {
            if matches!(step, Step::Reset) {
                let _closed = self.socket.reset();
                return;
            }
            let shown = format!("{step:?}");
            let result = within(&shown, self.step(step)).await.and_then(|result| result);
            if let Err(error) = result {
                let text = format!("connection {}: {shown}: {error}", self.number);
                self.log.lock().unwrap_or_else(PoisonError::into_inner).errors.push(text);
                return;
            }
        }
    }

    async fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Await(bytes) => loop {
                if let Some(at) = find(&self.pending, &bytes) {
                    self.pending.drain(..at + bytes.len());
                    return Ok(());
                }
                if !self.read().await? {
                    bail!("the connection ended");
                }
            },
            Step::Expect(bytes) => {
                while self.pending.len() < bytes.len() && bytes.starts_with(&self.pending) {
                    if !self.read().await? {
                        bail!("the connection ended");
                    }
                }
                if !self.pending.starts_with(&bytes) {
                    bail!("got b\"{}\"", self.pending.escape_ascii());
                }
                self.pending.drain(..bytes.len());
            }
            Step::Send(bytes) => self.socket.write_all(&bytes).await?,
            Step::Trickle(bytes, pause) => {
                for byte in bytes {
                    tokio::time::sleep(pause).await;
                    self.socket.write_all(&[byte]).await?;
                }
            }
            Step::Flood(bytes, max) => {
                let mut sent = 0;
                while sent < max && self.socket.write_all(&bytes).await.is_ok() {
                    sent += bytes.len() as u64;
                    self.log.lock().unwrap_or_else(PoisonError::into_inner).flooded += bytes.len() as u64;
                }
            }
            Step::Pause(time) => tokio::time::sleep(time).await,
            Step::Finish => self.socket.shutdown().await?,
            Step::Drain => while self.read().await? {},
            Step::Reset => {}
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<bool> {
        let before = self.pending.len();
        self.pending.reserve(16 * 1024);
        let count = self.socket.read_buf(&mut self.pending).await?;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.received[self.number].extend_from_slice(&self.pending[before..]);
        Ok(count > 0)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len().max(1)).position(|window| window == needle)
}
