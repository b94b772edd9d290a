//! One client connection: a request, its answer, the next request.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use rustix::event::epoll;

use super::response::{Progress, Response};
use super::work::{Work, h1_head};

#[derive(Debug)]
pub(super) struct Client {
    token: u64,
    proxy: SocketAddr,
    stream: TcpStream,
    request: Vec<u8>,
    /// The length of the body to come back.
    body: u64,
    response: Response,
}

impl Client {
    /// Connects and sends the first request. The token chooses one of the sixteen routes.
    pub(super) fn connect(epoll: &OwnedFd, token: u64, proxy: SocketAddr, work: &Work) -> Result<Self> {
        let targets = work.targets();
        let (host, path) = &targets[token as usize % targets.len()];
        let request = h1_head("GET", host, path, &work.headers).into_bytes();
        let stream = open(epoll, token, proxy)?;
        let mut client = Self { token, proxy, stream, request, body: work.down(), response: Response::default() };
        client.send().map_err(anyhow::Error::msg)?;
        Ok(client)
    }

    /// Reads what is there; true when an answer was complete, of which the next request follows. After an error of the
    /// peer the connection is a new one.
    pub(super) fn readable(&mut self, epoll: &OwnedFd, buffer: &mut [u8]) -> Result<Result<bool, &'static str>> {
        let outcome = self.receive(buffer);
        let reconnect = match outcome {
            Ok(Progress::More) => return Ok(Ok(false)),
            Ok(Progress::Done { close }) => close,
            Err(_) => true,
        };
        if reconnect {
            self.response = Response::default();
            self.stream = open(epoll, self.token, self.proxy)?;
        }
        let sent = self.send();
        Ok(outcome.and(sent).map(|()| true))
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<Progress, &'static str> {
        match self.stream.read(buffer) {
            Ok(0) => Err("the proxy closed the connection"),
            Ok(n) => self.response.push(buffer.get(..n).unwrap_or_default(), self.body),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Progress::More),
            Err(_) => Err("the connection broke"),
        }
    }

    /// Nothing is in the socket's buffer, so a request always fits.
    fn send(&mut self) -> Result<(), &'static str> {
        match self.stream.write(&self.request) {
            Ok(n) if n == self.request.len() => Ok(()),
            _ => Err("the request was not taken"),
        }
    }
}

fn open(epoll: &OwnedFd, token: u64, proxy: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(proxy).with_context(|| format!("cannot connect to {proxy}"))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    epoll::add(epoll, &stream, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?;
    Ok(stream)
}
