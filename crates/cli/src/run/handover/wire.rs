//! Messages between a process and its successor: lines of JSON, with descriptors attached to those that carry sockets.

use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, bail, ensure};
use cardinal_engine::{Handover, Socket};
use cardinal_ir::ListenerKind;
use rustix::net::sockopt::socket_type;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketType, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// Processes of another version are not understood.
const VERSION: u32 = 1;
/// Longest line.
const LINE_MAX: usize = 64 * 1024;
/// Most sockets at once; the system allows 253.
const BATCH_MAX: usize = 64;
/// Most sockets in all.
const TOTAL_MAX: usize = 65_536;

/// Messages of a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Request {
    /// The sockets from this one on.
    Take { from: usize },
    /// They are served.
    Ready,
    /// They are not needed: the other process listens elsewhere, and does not take over. Processes before this request
    /// was added report it as a failed handover, and keep serving.
    Decline,
}

#[derive(Serialize, Deserialize)]
struct RequestLine {
    version: u32,
    #[serde(rename = "wish")]
    request: Request,
}

/// The response to [`Request::Take`]; one descriptor for each entry is attached.
#[derive(Serialize, Deserialize)]
struct BatchLine {
    version: u32,
    total: usize,
    sockets: Vec<SocketLine>,
}

#[derive(Serialize, Deserialize)]
struct SocketLine {
    address: SocketAddr,
    kind: ListenerKind,
}

/// Some of the sockets.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) total: usize,
    pub(super) sockets: Vec<Handover>,
}

pub(super) fn send_request(mut stream: &UnixStream, request: Request) -> Result<()> {
    let mut line = serde_json::to_vec(&RequestLine { version: VERSION, request })?;
    line.push(b'\n');
    stream.write_all(&line).context("the other process does not listen")
}

pub(super) fn read_request(mut stream: &UnixStream) -> Result<Request> {
    let mut line = Vec::new();
    let mut byte = [0];
    // One at a time: the next line may follow, and is not ours.
    while !line.ends_with(b"\n") {
        ensure!(line.len() < LINE_MAX, "the other process says too much");
        ensure!(stream.read(&mut byte).context("the other process says nothing")? == 1, "the other process has gone");
        line.extend_from_slice(&byte);
    }
    let line: RequestLine = serde_json::from_slice(&line).context("the other process is not understood")?;
    ensure!(line.version == VERSION, "the other process is of version {} of the hand-over", line.version);
    Ok(line.request)
}

pub(super) fn send_batch(stream: &UnixStream, all: &[Handover], from: usize) -> Result<()> {
    let part: Vec<&Handover> = all.iter().skip(from).take(BATCH_MAX).collect();
    let sockets = part.iter().map(|h| SocketLine { address: h.address, kind: h.kind }).collect();
    let mut line = serde_json::to_vec(&BatchLine { version: VERSION, total: all.len(), sockets })?;
    line.push(b'\n');
    let descriptors: Vec<BorrowedFd<'_>> = part.iter().map(|handover| descriptor(&handover.socket)).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ensure!(beside.push(SendAncillaryMessage::ScmRights(&descriptors)), "too many sockets at once");
    }
    let sent = sendmsg(stream, &[IoSlice::new(&line)], &mut beside, SendFlags::NOSIGNAL)?;
    // The descriptors went with the first byte.
    let mut rest = stream;
    rest.write_all(line.get(sent..).unwrap_or_default()).context("the other process does not listen")
}

pub(super) fn read_batch(stream: &UnixStream) -> Result<Batch> {
    let (mut line, mut descriptors) = (Vec::new(), Vec::new());
    while !line.ends_with(b"\n") {
        ensure!(line.len() < LINE_MAX, "the other process says too much");
        let count = receive(stream, &mut line, &mut descriptors).context("the other process says nothing")?;
        ensure!(count > 0, "the other process has gone");
    }
    let line: BatchLine = serde_json::from_slice(&line).context("the other process is not understood")?;
    ensure!(line.version == VERSION, "the other process is of version {} of the hand-over", line.version);
    ensure!(line.total <= TOTAL_MAX, "{} sockets are too many", line.total);
    ensure!(line.sockets.len() == descriptors.len(), "sockets got lost");
    let sockets = line.sockets.into_iter().zip(descriptors);
    let sockets = sockets
        .map(|(line, fd)| Ok(Handover { address: line.address, kind: line.kind, socket: adopt(line.kind, fd)? }));
    Ok(Batch { total: line.total, sockets: sockets.collect::<Result<_>>()? })
}

fn receive(stream: &UnixStream, line: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> Result<usize> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    ensure!(!got.flags.contains(ReturnFlags::CTRUNC), "sockets got lost: are there descriptors left?");
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    line.extend_from_slice(bytes.get(..got.bytes).unwrap_or_default());
    Ok(got.bytes)
}

fn descriptor(socket: &Socket) -> BorrowedFd<'_> {
    match socket {
        Socket::Tcp(socket) => socket.as_fd(),
        Socket::Udp(socket) => socket.as_fd(),
    }
}

/// Makes a socket of a descriptor, which must be one of the right kind.
fn adopt(kind: ListenerKind, descriptor: OwnedFd) -> Result<Socket> {
    let expected = if kind == ListenerKind::Udp { SocketType::DGRAM } else { SocketType::STREAM };
    if socket_type(&descriptor).context("what came is not a socket")? != expected {
        bail!("a socket of another kind came");
    }
    if kind == ListenerKind::Udp {
        let socket = UdpSocket::from(descriptor);
        socket.set_nonblocking(true)?;
        return Ok(Socket::Udp(socket));
    }
    let socket = TcpListener::from(descriptor);
    socket.set_nonblocking(true)?;
    Ok(Socket::Tcp(socket))
}
