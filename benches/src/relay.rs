//! A TCP relay: the same loop as a proxy, without parsing. Its cost is the lower bound of the measurement.
//!
//! One thread, edge-triggered, with one upstream connection per client connection.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

/// Size of a read, bytes.
const READ: usize = 64 * 1024;
/// Maximum number of reads of one side before other connections are served.
const READS_AT_ONCE: usize = 4;
const EVENTS: usize = 512;
const LISTENER: u64 = u64::MAX;
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Relays connections on `listen` to `upstream`, forever.
pub(crate) fn run(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    serve(&listener, upstream)
}

fn serve(listener: &TcpListener, upstream: SocketAddr) -> Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC).context("cannot make an epoll")?;
    epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut relay = Relay {
        epoll,
        upstream,
        pairs: Vec::new(),
        free: Vec::new(),
        unfinished: VecDeque::new(),
        buffer: vec![0; READ],
    };
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        let timeout = if relay.unfinished.is_empty() { None } else { Some(&AT_ONCE) };
        match epoll::wait(&relay.epoll, spare_capacity(&mut events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for events"),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => relay.accept(listener)?,
                token => relay.event(token, event.flags),
            }
        }
        for _pair in 0..relay.unfinished.len() {
            if let Some(at) = relay.unfinished.pop_front() {
                relay.pass(at);
            }
        }
    }
}

struct Relay {
    epoll: OwnedFd,
    upstream: SocketAddr,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    /// Pairs whose processing was interrupted to serve others.
    unfinished: VecDeque<usize>,
    buffer: Vec<u8>,
}

/// A client and its upstream connection.
struct Pair {
    sides: [Side; 2],
}

struct Side {
    stream: TcpStream,
    /// Data may be available.
    readable: bool,
    /// The peer has closed the connection; unread data may remain.
    ending: bool,
    /// All data was read and forwarded.
    ended: bool,
    /// Data not yet written to this side.
    pending: Vec<u8>,
}

/// Whether all available data was forwarded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passed {
    All,
    Unfinished,
}

struct Broken;

impl Relay {
    fn accept(&mut self, listener: &TcpListener) -> Result<()> {
        loop {
            match listener.accept() {
                Ok((client, _)) => self.add(client)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error).context("cannot accept"),
            }
        }
    }

    fn add(&mut self, client: TcpStream) -> Result<()> {
        client.set_nonblocking(true)?;
        let upstream = begin(self.upstream)?;
        let at = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        for (side, stream) in [&client, &upstream].into_iter().enumerate() {
            stream.set_nodelay(true)?;
            epoll::add(&self.epoll, stream, EventData::new_u64((at * 2 + side) as u64), flags)?;
        }
        if let Some(place) = self.pairs.get_mut(at) {
            *place = Some(Pair { sides: [Side::new(client), Side::new(upstream)] });
        }
        Ok(())
    }

    fn event(&mut self, token: u64, flags: EventFlags) {
        let at = token as usize / 2;
        let Some(Some(pair)) = self.pairs.get_mut(at) else { return };
        let Some(side) = pair.sides.get_mut(token as usize % 2) else { return };
        let over = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        side.readable |= flags.intersects(EventFlags::IN | over);
        side.ending |= flags.intersects(over);
        self.pass(at);
    }

    fn pass(&mut self, at: usize) {
        let Some(place) = self.pairs.get_mut(at) else { return };
        let Some(Pair { sides: [client, upstream] }) = place else { return };
        let passed =
            pass(client, upstream, &mut self.buffer).and_then(|up| Ok((up, pass(upstream, client, &mut self.buffer)?)));
        match passed {
            Ok((Passed::All, Passed::All)) if client.ended && upstream.ended => {}
            Ok((Passed::All, Passed::All)) => return,
            Ok(_) => {
                if !self.unfinished.contains(&at) {
                    self.unfinished.push_back(at);
                }
                return;
            }
            Err(Broken) => {}
        }
        *place = None;
        self.free.push(at);
    }
}

impl Side {
    fn new(stream: TcpStream) -> Self {
        Self { stream, readable: false, ending: false, ended: false, pending: Vec::new() }
    }
}

/// Forwards data from one side to the other.
fn pass(from: &mut Side, to: &mut Side, buffer: &mut [u8]) -> Result<Passed, Broken> {
    if !to.pending.is_empty() {
        let n = write(&mut to.stream, &to.pending)?;
        to.pending.drain(..n);
    }
    for _read in 0..READS_AT_ONCE {
        if from.ended || !from.readable || !to.pending.is_empty() {
            return Ok(Passed::All);
        }
        let n = match from.stream.read(buffer) {
            Ok(0) => {
                from.ended = true;
                // The other side may have disconnected already.
                to.stream.shutdown(Shutdown::Write).ok();
                return Ok(Passed::All);
            }
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return Err(Broken),
        };
        // Data that arrives later triggers another event.
        from.readable = n == buffer.len() || (from.ending && n > 0);
        let bytes = buffer.get(..n).unwrap_or_default();
        let taken = if n > 0 { write(&mut to.stream, bytes)? } else { 0 };
        to.pending.extend_from_slice(bytes.get(taken..).unwrap_or_default());
    }
    Ok(if from.readable { Passed::Unfinished } else { Passed::All })
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, Broken> {
    match stream.write(bytes) {
        Ok(n) => Ok(n),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(_) => Err(Broken),
    }
}

/// Opens a connection.
fn begin(to: SocketAddr) -> Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
        .context("cannot make a socket")?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => bail!("cannot connect to {to}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::thread;

    use super::*;

    /// A relay to an echo upstream that closes a connection when its client does.
    fn start() -> SocketAddr {
        let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, to) = (listener.local_addr().unwrap(), upstream.local_addr().unwrap());
        thread::spawn(move || {
            for stream in upstream.incoming() {
                let stream = stream.unwrap();
                thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        thread::spawn(move || serve(&listener, to));
        address
    }

    #[test]
    fn bytes_go_both_ways_and_ends_are_passed_on() {
        let relay = start();
        for size in [1, 1024, 5 << 20] {
            let mut stream = TcpStream::connect(relay).unwrap();
            let sent: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let mut writer = stream.try_clone().unwrap();
            let expect = sent.clone();
            let writing = thread::spawn(move || {
                writer.write_all(&sent).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            writing.join().unwrap();
            assert!(back == expect, "{size} bytes came back as {}", back.len());
        }
    }

    #[test]
    fn many_connections_are_served_at_the_same_time() {
        let relay = start();
        let mut streams: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(relay).unwrap()).collect();
        for round in 0..3u8 {
            for (at, stream) in streams.iter_mut().enumerate() {
                stream.write_all(&[round, at as u8]).unwrap();
            }
            for (at, stream) in streams.iter_mut().enumerate() {
                let mut back = [0; 2];
                stream.read_exact(&mut back).unwrap();
                assert_eq!(back, [round, at as u8]);
            }
        }
    }
}
