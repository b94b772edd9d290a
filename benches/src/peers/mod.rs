//! The proxies: each is started on core 0 with one worker and configured for the same work, and ended when dropped.

mod cardinal;
mod nginx;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::cores;
use crate::load::request;
use crate::scenario::Bench;
use crate::temp::TempDir;

/// How long a proxy may take to start, and to end.
const START_MAX: Duration = Duration::from_secs(20);
const END_MAX: Duration = Duration::from_secs(5);
/// The one answer of the check must come within this time.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Where things are while a proxy is being configured.
struct Site {
    dir: TempDir,
    upstream: SocketAddr,
    http: SocketAddr,
    tls: SocketAddr,
}

/// A proxy that serves.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// The process that does the work.
    pub(crate) worker: u32,
    pub(crate) http: SocketAddr,
    /// Serves HTTP/1.1 and HTTP/2 over TLS.
    pub(crate) tls: SocketAddr,
    child: Child,
    dir: TempDir,
}

impl Peer {
    /// Starts Cardinal in front of `upstream`.
    pub(crate) fn cardinal(bench: &Bench, upstream: SocketAddr) -> Result<Self> {
        let site = Site::new("cardinal", upstream)?;
        let command = cardinal::command(&bench.cardinal, &site)?;
        Self::start("Cardinal", command, site)
    }

    /// Starts nginx in front of `upstream`.
    pub(crate) fn nginx(bench: &Bench, upstream: SocketAddr) -> Result<Self> {
        let site = Site::new("nginx", upstream)?;
        let command = nginx::command(&bench.nginx, &site)?;
        let mut peer = Self::start("nginx", command, site)?;
        peer.worker = nginx::worker(peer.child.id())?;
        Ok(peer)
    }

    fn start(name: &'static str, mut command: Command, site: Site) -> Result<Self> {
        let log = std::fs::File::create(site.dir.path().join("output.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        cores::pin(cores::PROXY)?;
        let child = command.spawn();
        cores::pin(cores::LOAD)?;
        let child = child.with_context(|| format!("cannot start {name}"))?;
        let mut peer = Self { name, worker: child.id(), http: site.http, tls: site.tls, child, dir: site.dir };
        peer.wait_until_open().with_context(|| peer.log())?;
        Ok(peer)
    }

    fn wait_until_open(&mut self) -> Result<()> {
        let start = Instant::now();
        for address in [self.http, self.tls] {
            while TcpStream::connect(address).is_err() {
                if let Some(status) = self.child.try_wait()? {
                    bail!("{} ended: {status}", self.name);
                }
                ensure!(start.elapsed() < START_MAX, "{} does not listen on {address}", self.name);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Sends one request that is to close the connection, and gives the whole answer; the upstream must be served.
    pub(crate) fn ask(&self) -> Result<String> {
        let text = request("orders", "search").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let mut stream = TcpStream::connect(self.http)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(text.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).with_context(|| format!("{} does not answer", self.name))?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(answer.starts_with("HTTP/1.1 200"), "{} answered: {answer}\n{}", self.name, self.log());
        Ok(answer)
    }

    /// What it wrote while it ran.
    fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        format!("{} wrote:\n{}{}", self.name, read("output.log"), read("error.log"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let asked = kill_process(pid, Signal::TERM);
        let start = Instant::now();
        while asked.is_ok() && start.elapsed() < END_MAX {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

impl Site {
    fn new(name: &str, upstream: SocketAddr) -> Result<Self> {
        // Both are held until both are known, so that they differ.
        let (http, tls) = (free()?, free()?);
        let site = Self { dir: TempDir::new(name)?, upstream, http: http.local_addr()?, tls: tls.local_addr()? };
        let made =
            rcgen::generate_simple_self_signed(["*.bench.test".to_owned()]).context("cannot make a certificate")?;
        site.dir.file("cert.pem", &made.cert.pem())?;
        site.dir.file("key.pem", &made.signing_key.serialize_pem())?;
        Ok(site)
    }
}

fn free() -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")
}
