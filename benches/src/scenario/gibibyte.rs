//! Memory of Cardinal while a gibibyte goes through it in either direction.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{Bench, serving};
use crate::load::{GIBIBYTE, Load, Work};
use crate::peers::Peer;
use crate::procfs;
use crate::report::mib;

const BLOCK: usize = 128 * 1024;
/// Nothing may stand still for longer.
const STEP_MAX: Duration = Duration::from_secs(20);

pub(super) fn run(bench: &Bench) -> Result<String> {
    let mut load = Load::new(&Work::plain(1024))?;
    let peer = Peer::cardinal(bench, load.upstream()?)?;
    let (up, down) = serving(&mut load, |_| {
        peer.ask()?;
        Ok((added(&peer, up)?, added(&peer, down)?))
    })?;
    let row = |name, (start, more, time): (u64, u64, Duration)| {
        format!("| {name} | {} | {} | {:.2} |\n", mib(start), mib(more), 1.0 / time.as_secs_f64())
    };
    Ok(format!(
        "### Memory while 1 GiB passes\n\n| direction | MiB before | MiB added at the peak | GiB/s |\n|---|---|---|---|\n{}{}",
        row("request body", up),
        row("response body", down)
    ))
}

/// Resident KiB before, KiB more at the peak, and the time it took.
fn added(peer: &Peer, pass: fn(&Peer) -> Result<()>) -> Result<(u64, u64, Duration)> {
    let before = procfs::rss_kib(peer.worker)?;
    procfs::forget_peak(peer.worker)?;
    let start = Instant::now();
    pass(peer)?;
    Ok((before, procfs::peak_kib(peer.worker)?.saturating_sub(before), start.elapsed()))
}

fn connect(peer: &Peer) -> Result<TcpStream> {
    let stream = TcpStream::connect(peer.http)?;
    stream.set_read_timeout(Some(STEP_MAX))?;
    stream.set_write_timeout(Some(STEP_MAX))?;
    Ok(stream)
}

/// Sends a gibibyte; the answer comes when the upstream has all of it.
fn up(peer: &Peer) -> Result<()> {
    let mut stream = connect(peer)?;
    let head = format!("POST /v1/upload HTTP/1.1\r\nHost: shop.bench.test\r\nContent-Length: {GIBIBYTE}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let block = vec![b'x'; BLOCK];
    for _block in 0..GIBIBYTE / BLOCK as u64 {
        stream.write_all(&block).context("the body was not taken")?;
    }
    read(&mut stream, 1024)
}

/// Asks for a gibibyte.
fn down(peer: &Peer) -> Result<()> {
    let mut stream = connect(peer)?;
    stream.write_all(b"GET /v1/gibibyte HTTP/1.1\r\nHost: shop.bench.test\r\n\r\n")?;
    read(&mut stream, GIBIBYTE)
}

/// Reads an answer with a body of so many bytes.
fn read(stream: &mut TcpStream, body: u64) -> Result<()> {
    let mut buffer = vec![0; BLOCK];
    let mut head = Vec::new();
    let mut left = loop {
        let n = stream.read(&mut buffer).context("no answer")?;
        ensure!(n > 0, "the connection was closed");
        head.extend_from_slice(buffer.get(..n).unwrap_or_default());
        if let Some(end) = memchr::memmem::find(&head, b"\r\n\r\n") {
            ensure!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
            break body.checked_sub((head.len() - end - 4) as u64).context("too many bytes")?;
        }
    };
    while left > 0 {
        let n = stream.read(&mut buffer).context("the body stopped")?;
        ensure!(n > 0, "{left} bytes are missing");
        left = left.checked_sub(n as u64).context("too many bytes")?;
    }
    Ok(())
}
