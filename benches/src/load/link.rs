//! A non-blocking TCP connection of the load, with or without TLS.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::tls::Session;

/// Size of a read, bytes.
pub(super) const READ: usize = 64 * 1024;
/// Space for an incomplete TLS record before the bytes read.
const CARRIED: usize = 20 * 1024;

/// The reason why a connection failed.
pub(super) type LinkError = &'static str;
const CLOSED: LinkError = "the other side closed the connection";
const RESET: LinkError = "the connection broke";

/// Read buffers shared by all connections.
#[derive(Debug)]
pub(super) struct Buffers {
    raw: Vec<u8>,
    plain: Vec<u8>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self { raw: vec![0; READ + CARRIED], plain: Vec::with_capacity(READ + CARRIED) }
    }
}

#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    token: u64,
    tls: Option<Box<Session>>,
    /// The connection has not been established yet.
    connecting: bool,
    /// The socket accepted less than was written.
    blocked: bool,
    /// The events registered with epoll.
    watched: Option<EventFlags>,
}

impl Link {
    /// Opens a connection.
    pub(super) fn open(
        to: SocketAddr,
        token: u64,
        tls: Option<(&Arc<ClientConfig>, &ServerName<'static>)>,
    ) -> Result<Self> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
            .context("cannot make a socket")?;
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot connect to {to}")),
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let tls = tls.map(|(config, name)| Session::new(config, name).map(Box::new)).transpose()?;
        Ok(Self { stream, token, tls, connecting: true, blocked: false, watched: None })
    }

    /// Wraps an accepted connection.
    pub(super) fn accepted(stream: TcpStream, token: u64) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, token, tls: None, connecting: false, blocked: false, watched: None })
    }

    /// Whether the connection is established, as far as known.
    pub(super) fn is_open(&self) -> bool {
        !self.connecting && self.tls.as_ref().is_none_or(|session| session.is_open())
    }

    /// Processes an event.
    pub(super) fn event(&mut self, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.connecting = false;
            self.blocked = false;
        }
    }

    /// Reads up to [`READ`] available bytes; empty if none are available.
    pub(super) fn read<'b>(&mut self, buffers: &'b mut Buffers) -> Result<&'b [u8], LinkError> {
        let Buffers { raw, plain } = buffers;
        let Some(session) = &mut self.tls else {
            let n = receive(&mut self.stream, raw.get_mut(..READ).unwrap_or_default())?;
            return Ok(raw.get(..n).unwrap_or_default());
        };
        let carried = session.restore(raw)?;
        let n = receive(&mut self.stream, raw.get_mut(carried..).unwrap_or_default())?;
        plain.clear();
        session.take(raw.get_mut(..carried + n).unwrap_or_default(), plain)?;
        Ok(plain)
    }

    /// Writes bytes; returns how many were taken: fewer if the socket is full, none during a handshake.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<usize, LinkError> {
        let Some(session) = &mut self.tls else {
            let n = send(&mut self.stream, bytes)?;
            self.blocked = n < bytes.len();
            self.connecting &= n == 0;
            return Ok(n);
        };
        let taken = session.seal(bytes)?;
        self.flush()?;
        Ok(taken)
    }

    /// Flushes the TLS output.
    pub(super) fn flush(&mut self) -> Result<(), LinkError> {
        let Some(session) = &mut self.tls else { return Ok(()) };
        let waiting = session.outgoing();
        if !waiting.is_empty() {
            let n = send(&mut self.stream, waiting)?;
            self.blocked = n < waiting.len();
            self.connecting &= n == 0;
            session.sent(n);
        }
        Ok(())
    }

    /// Updates the registered events: readable if received bytes are wanted, writable if output is pending.
    pub(super) fn watch(&mut self, epoll: &OwnedFd, reads: bool, writes: bool) -> Result<()> {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, reads);
        flags.set(EventFlags::OUT, self.connecting || self.blocked || writes);
        if self.watched == Some(flags) {
            return Ok(());
        }
        let data = EventData::new_u64(self.token);
        match self.watched.replace(flags) {
            None => epoll::add(epoll, &self.stream, data, flags),
            Some(_) => epoll::modify(epoll, &self.stream, data, flags),
        }
        .context("cannot watch a connection")
    }

    /// Closes the connection with a reset, so that its port is free immediately (no TIME_WAIT).
    pub(super) fn abort(self) {
        // If the socket is already closed, there is nothing to set.
        sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).ok();
    }
}

fn receive(stream: &mut TcpStream, into: &mut [u8]) -> Result<usize, LinkError> {
    match stream.read(into) {
        Ok(0) => Err(CLOSED),
        Ok(n) => Ok(n),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(_) => Err(RESET),
    }
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, LinkError> {
    match stream.write(bytes) {
        Ok(n) => Ok(n),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(_) => Err(RESET),
    }
}
