//! The upstream: answers each request with the same six fields and a body.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use memchr::memmem;
use rustix::event::epoll::{self, EventData, EventFlags};

use super::{GIBIBYTE, LISTENER, UPSTREAM, head};

/// Long bodies are written in pieces of this size.
const BLOCK: usize = 128 * 1024;
/// Pieces written before other connections get their turn.
const BLOCKS_AT_ONCE: usize = 4;
/// Heads longer than this are not served.
const HEAD_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Upstream {
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    texts: Texts,
}

/// What is answered.
#[derive(Debug)]
struct Texts {
    /// Head and body of the usual answer.
    usual: Vec<u8>,
    /// The head before a gibibyte.
    long: Vec<u8>,
    block: Vec<u8>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// A head that is not complete.
    head: Vec<u8>,
    /// Bytes of the request's body still to come, and whether the request asked for a gibibyte.
    body: Option<(u64, bool)>,
    /// What is still to be written of the usual answer or the long head: its kind and where to go on.
    unsent: Option<(bool, usize)>,
    /// Bytes of a long body still to be written.
    long_left: u64,
    /// The loop waits until this can be written to.
    waits_to_write: bool,
}

impl Upstream {
    /// Listens on a free port of the loopback address.
    pub(super) fn bind(epoll: &OwnedFd, body: usize) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen for the upstream")?;
        listener.set_nonblocking(true)?;
        epoll::add(epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let mut usual = answer_head(body as u64);
        usual.resize(usual.len() + body, b'x');
        let texts = Texts { usual, long: answer_head(GIBIBYTE), block: vec![b'x'; BLOCK] };
        Ok(Self { listener, connections: Vec::new(), free: Vec::new(), texts })
    }

    pub(super) fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().context("the upstream has no address")
    }

    /// Accepts what waits.
    pub(super) fn accept(&mut self, epoll: &OwnedFd) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("the upstream cannot accept"),
            };
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            epoll::add(epoll, &stream, EventData::new_u64(UPSTREAM + slot as u64), EventFlags::IN)?;
            if let Some(place) = self.connections.get_mut(slot) {
                *place = Some(Connection::new(stream));
            }
        }
    }

    /// Reads and writes on a connection; the number of requests that were answered.
    pub(super) fn ready(&mut self, epoll: &OwnedFd, slot: u64, buffer: &mut [u8]) -> u64 {
        let slot = slot as usize;
        let Some(place) = self.connections.get_mut(slot) else { return 0 };
        let Some(connection) = place else { return 0 };
        let outcome = connection.ready(&self.texts, buffer);
        if outcome.is_err() || connection.watch(epoll, UPSTREAM + slot as u64).is_err() {
            // The proxy closed, which it may do at any time; what was lost shows at the client.
            *place = None;
            self.free.push(slot);
        }
        outcome.unwrap_or(0)
    }
}

/// The connection is over.
struct Closed;

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, head: Vec::new(), body: None, unsent: None, long_left: 0, waits_to_write: false }
    }

    fn ready(&mut self, texts: &Texts, buffer: &mut [u8]) -> Result<u64, Closed> {
        if self.is_writing() {
            self.write(texts)?;
            return Ok(0);
        }
        let n = match self.stream.read(buffer) {
            Ok(0) => return Err(Closed),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(_) => return Err(Closed),
        };
        let Some(long) = self.read(buffer.get(..n).unwrap_or_default())? else { return Ok(0) };
        self.unsent = Some((long, 0));
        self.long_left = if long { GIBIBYTE } else { 0 };
        self.write(texts)?;
        Ok(1)
    }

    /// Takes bytes of a request. When it is complete, whether it asked for a gibibyte. Requests are not pipelined.
    fn read(&mut self, bytes: &[u8]) -> Result<Option<bool>, Closed> {
        if let Some((left, long)) = self.body {
            return self.read_body(left, long, bytes.len());
        }
        if self.head.is_empty()
            && let Some(end) = head::end(bytes)
        {
            return self.read_head(bytes, end);
        }
        self.head.extend_from_slice(bytes);
        let whole = std::mem::take(&mut self.head);
        match head::end(&whole) {
            Some(end) => self.read_head(&whole, end),
            None if whole.len() > HEAD_MAX => Err(Closed),
            None => {
                self.head = whole;
                Ok(None)
            }
        }
    }

    fn read_head(&mut self, bytes: &[u8], end: usize) -> Result<Option<bool>, Closed> {
        let (head, rest) = bytes.split_at(end);
        let line = memchr::memchr(b'\r', head).and_then(|at| head.get(..at)).unwrap_or_default();
        let long = memmem::find(line, b"gibibyte").is_some();
        let length = if line.starts_with(b"GET") { 0 } else { head::content_length(head).unwrap_or(0) };
        self.read_body(length, long, rest.len())
    }

    fn read_body(&mut self, left: u64, long: bool, arrived: usize) -> Result<Option<bool>, Closed> {
        let left = left.checked_sub(arrived as u64).ok_or(Closed)?;
        self.body = (left > 0).then_some((left, long));
        Ok((left == 0).then_some(long))
    }

    fn is_writing(&self) -> bool {
        self.unsent.is_some() || self.long_left > 0
    }

    fn write(&mut self, texts: &Texts) -> Result<(), Closed> {
        while let Some((long, at)) = self.unsent {
            let text = if long { &texts.long } else { &texts.usual };
            match self.put(text.get(at..).unwrap_or_default())? {
                Some(n) => self.unsent = (at + n < text.len()).then_some((long, at + n)),
                None => return Ok(()),
            }
        }
        for _block in 0..BLOCKS_AT_ONCE {
            let size = self.long_left.min(BLOCK as u64) as usize;
            if size == 0 {
                break;
            }
            match self.put(texts.block.get(..size).unwrap_or_default())? {
                Some(n) => self.long_left -= n as u64,
                None => break,
            }
        }
        Ok(())
    }

    /// Writes; nothing when the socket takes nothing now.
    fn put(&mut self, bytes: &[u8]) -> Result<Option<usize>, Closed> {
        match self.stream.write(bytes) {
            Ok(0) => Err(Closed),
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(_) => Err(Closed),
        }
    }

    /// Tells the loop what is waited for, when that changed.
    fn watch(&mut self, epoll: &OwnedFd, token: u64) -> Result<(), Closed> {
        let writing = self.is_writing();
        if writing != self.waits_to_write {
            let flags = if writing { EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(epoll, &self.stream, EventData::new_u64(token), flags).map_err(|_| Closed)?;
            self.waits_to_write = writing;
        }
        Ok(())
    }
}

fn answer_head(body: u64) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n\
         Cache-Control: no-store\r\nX-Frame-Options: DENY\r\nContent-Length: {body}\r\n\r\n"
    )
    .into_bytes()
}
