//! Memory of Cardinal with many idle connections, each of which did one request.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Bench, serving};
use crate::load::{HOSTS, Load, PATHS, Work, request};
use crate::peers::Peer;
use crate::procfs;
use crate::report::mib;

/// Connections that are open at the end.
const CONNECTIONS: usize = 10_000;
/// Connections with a request under way at the same time.
const AT_ONCE: usize = 64;
/// After this time connections are at rest.
const REST: Duration = Duration::from_secs(3);
/// The body of an answer, and how long one may take.
const BODY: usize = 1024;
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub(super) fn run(bench: &Bench) -> Result<String> {
    let mut load = Load::new(&Work::plain(BODY))?;
    let peer = Peer::cardinal(bench, load.upstream()?)?;
    serving(&mut load, |_| {
        peer.ask()?;
        let start = procfs::rss_kib(peer.worker)?;
        let mut streams = Vec::with_capacity(CONNECTIONS);
        while streams.len() < CONNECTIONS {
            wave(&peer, &mut streams)?;
        }
        std::thread::sleep(REST);
        let idle = procfs::rss_kib(peer.worker)?;
        let each = idle.saturating_sub(start) as f64 / CONNECTIONS as f64;
        Ok(format!(
            "### Memory with {CONNECTIONS} idle connections\n\n| | |\n|---|---|\n| at start | {} MiB |\n\
             | with {CONNECTIONS} idle keep-alive connections that did one request each | {} MiB |\n\
             | for each connection | {each:.1} KiB |\n",
            mib(start),
            mib(idle),
        ))
    })
}

/// Opens connections, and does one request on each.
fn wave(peer: &Peer, streams: &mut Vec<TcpStream>) -> Result<()> {
    let first = streams.len();
    for at in first..CONNECTIONS.min(first + AT_ONCE) {
        let mut stream = TcpStream::connect(peer.http).with_context(|| format!("connection {at}"))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let (host, path) = (HOSTS.get(at % 4).copied(), PATHS.get(at / 4 % 4).copied());
        stream.write_all(request(host.unwrap_or_default(), path.unwrap_or_default()).as_bytes())?;
        streams.push(stream);
    }
    let mut buffer = [0; 4096];
    for (at, stream) in streams.iter_mut().enumerate().skip(first) {
        let mut answer = Vec::new();
        while !is_complete(&answer) {
            let n = stream.read(&mut buffer).with_context(|| format!("answer on connection {at}"))?;
            ensure!(n > 0, "connection {at} was closed");
            answer.extend_from_slice(buffer.get(..n).unwrap_or_default());
        }
    }
    Ok(())
}

fn is_complete(answer: &[u8]) -> bool {
    let end = memchr::memmem::find(answer, b"\r\n\r\n");
    answer.starts_with(b"HTTP/1.1 200") && end.is_some_and(|end| answer.len() == end + 4 + BODY)
}
