//! Memory with idle connections, each after one request.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Bench, rounds, serving, start};
use crate::load::{HOSTS, Kind, Load, PATHS, Work, request};
use crate::metric::{Metric, Sample};
use crate::peers::{Peer, Program, Setup};
use crate::procfs;
use crate::results::Outcome;
use crate::sample::mib;

/// Numbers of open connections: first few, then many.
const FEW: usize = 64;
const MANY: usize = 10_000;
/// Maximum number of connections with a request in flight.
const CONCURRENT_MAX: usize = 64;
/// Time after which connections are considered idle.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// Size of a response body, and time limit of a response.
const BODY: usize = 1024;
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub(super) fn run(bench: &Bench, left_out: &mut Vec<String>) -> Result<Outcome> {
    let mut load = Load::new(&Work::plain(BODY))?;
    let upstream = load.upstream()?;
    let peers = start(bench, Program::PROXIES, left_out, |program| {
        let peer = Peer::start(&bench.programs, program, &Setup::Http, upstream)?;
        let answers = serving(&mut load, |_| Ok(peer.answers()))?;
        ensure!(answers, "it does not answer; {}", peer.log());
        Ok(peer)
    })?;
    let names = peers.iter().map(|peer| peer.program.name().to_owned()).collect();
    // Not repeated: in a second run, memory of the first one would still be allocated.
    serving(&mut load, |_| {
        rounds::run(bench, 1, names, |at| {
            let Some(peer) = peers.get(at) else { unreachable!("a name for each peer") };
            measure(peer)
        })
    })
}

fn measure(peer: &Peer) -> Result<Sample> {
    let rss = || procfs::rss_kib(peer.worker()?);
    let start = rss()?;
    let mut streams = Vec::with_capacity(MANY);
    open(peer, &mut streams, FEW)?;
    std::thread::sleep(SETTLE_TIME);
    let few = rss()?;
    open(peer, &mut streams, MANY)?;
    std::thread::sleep(SETTLE_TIME);
    let many = rss()?;
    Ok(Sample::from([
        (Metric::RssStart, mib(start)),
        (Metric::Rss64, mib(few)),
        (Metric::Rss10k, mib(many)),
        (Metric::IdleKib, many.saturating_sub(start) as f64 / MANY as f64),
    ]))
}

/// Opens connections until there are `count`.
fn open(peer: &Peer, streams: &mut Vec<TcpStream>, count: usize) -> Result<()> {
    while streams.len() < count {
        wave(peer, streams, count)?;
    }
    Ok(())
}

/// Opens some connections, and sends one request on each.
fn wave(peer: &Peer, streams: &mut Vec<TcpStream>, count: usize) -> Result<()> {
    let first = streams.len();
    for at in first..count.min(first + CONCURRENT_MAX) {
        let mut stream = TcpStream::connect(peer.address(Kind::H1)).with_context(|| format!("connection {at}"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_body() {
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n".to_vec();
        assert!(!is_complete(&answer));
        answer.extend([b'x'; BODY]);
        assert!(is_complete(&answer));
        answer.push(b'x');
        assert!(!is_complete(&answer));
    }
}
