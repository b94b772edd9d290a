//! The proxies: each is started on core 0 with one worker, configured for the same load, and stopped when dropped.
//!
//! There is a module for each program, which starts it and writes its configuration for a [`Site`].

mod cardinal;
mod envoy;
mod haproxy;
mod nginx;
mod relay;
mod site;
#[cfg(test)]
mod tests;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use self::site::Site;
pub(crate) use self::site::{KEY, Setup};
use crate::cores;
use crate::load::{Kind, request};

/// Time limit for a proxy to start, and to stop.
const START_MAX: Duration = Duration::from_secs(60);
const END_MAX: Duration = Duration::from_secs(5);
/// Time limit for a single response.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Interval between polls.
const LOOK: Duration = Duration::from_millis(10);

/// A program that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Program {
    Nginx,
    Haproxy,
    Envoy,
    /// Copies bytes in both directions without parsing them: the lower bound of the cost of a proxy
    Relay,
    /// Another build of Cardinal, given by --baseline
    Baseline,
    Cardinal,
}

impl Program {
    /// The programs that proxy HTTP.
    pub(crate) const PROXIES: &[Self] = &[Self::Nginx, Self::Haproxy, Self::Envoy, Self::Baseline, Self::Cardinal];
    /// All programs.
    pub(crate) const ALL: &[Self] =
        &[Self::Nginx, Self::Haproxy, Self::Envoy, Self::Relay, Self::Baseline, Self::Cardinal];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
            Self::Relay => "relay",
            Self::Baseline => "baseline",
            Self::Cardinal => "Cardinal",
        }
    }
}

/// The paths of the programs.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) cardinal: PathBuf,
    /// An earlier build of Cardinal.
    pub(crate) baseline: Option<PathBuf>,
    pub(crate) nginx: PathBuf,
    pub(crate) haproxy: PathBuf,
    pub(crate) envoy: PathBuf,
    /// This program, which also implements the relay.
    pub(crate) relay: PathBuf,
}

impl Programs {
    /// The path of a program; if it is missing, an error that explains how to install it.
    pub(crate) fn path(&self, program: Program) -> Result<&PathBuf> {
        let path = match program {
            Program::Nginx => &self.nginx,
            Program::Haproxy => &self.haproxy,
            Program::Envoy => &self.envoy,
            Program::Relay => &self.relay,
            Program::Baseline => self.baseline.as_ref().context("there is no baseline: name one with --baseline")?,
            Program::Cardinal => &self.cardinal,
        };
        ensure!(path.exists(), "there is no {} (scripts/install-test-deps.sh --bench installs it)", path.display());
        Ok(path)
    }

    /// The first line of a program's version output; the relay has none.
    pub(crate) fn version(&self, program: Program) -> Result<String> {
        let flag = match program {
            Program::Nginx | Program::Haproxy => "-v",
            Program::Envoy | Program::Baseline | Program::Cardinal => "--version",
            Program::Relay => return Ok(String::new()),
        };
        let path = self.path(program)?;
        let output = Command::new(path).arg(flag).output().with_context(|| format!("cannot run {}", path.display()))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        Ok(version(program, line).to_owned())
    }
}

/// Parses the version from the first line of a program's version output.
fn version(program: Program, line: &str) -> &str {
    let word = |at: usize| line.split_whitespace().nth(at).unwrap_or(line);
    match program {
        Program::Nginx => line.rsplit('/').next().unwrap_or(line),
        Program::Haproxy => word(2),
        // `PATH  version: REVISION/VERSION/Clean/RELEASE/BoringSSL`
        Program::Envoy => line.split("version:").nth(1).and_then(|v| v.split('/').nth(1)).unwrap_or(line),
        Program::Baseline | Program::Cardinal => word(1),
        Program::Relay => line,
    }
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) program: Program,
    child: Child,
    site: Site,
}

impl Peer {
    /// Starts a proxy in front of `upstream` and waits until it is listening.
    pub(crate) fn start(programs: &Programs, program: Program, setup: &Setup, upstream: SocketAddr) -> Result<Self> {
        let mut peer = Self::spawn(programs, program, setup, upstream)?;
        peer.wait_until_open().map_err(|error| anyhow!("{error:#}; {}", peer.log()))?;
        Ok(peer)
    }

    /// Starts a proxy without waiting.
    pub(crate) fn spawn(programs: &Programs, program: Program, setup: &Setup, upstream: SocketAddr) -> Result<Self> {
        let path = programs.path(program)?;
        let site = Site::new(program, setup.clone(), upstream)?;
        let mut command = match program {
            Program::Nginx => nginx::command(path, &site),
            Program::Haproxy => haproxy::command(path, &site),
            Program::Envoy => envoy::command(path, &site),
            Program::Relay => Ok(relay::command(path, &site)),
            Program::Baseline | Program::Cardinal => cardinal::command(path, &site),
        }?;
        let log = std::fs::File::create(site.dir.path().join("output.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        cores::pin(cores::PROXY)?;
        let child = command.spawn();
        cores::pin(cores::LOAD)?;
        let child = child.with_context(|| format!("cannot start {}", program.name()))?;
        Ok(Self { program, child, site })
    }

    /// The process that serves requests.
    pub(crate) fn worker(&self) -> Result<u32> {
        match self.program {
            Program::Nginx => nginx::worker(self.child.id()),
            Program::Haproxy | Program::Envoy | Program::Relay | Program::Baseline | Program::Cardinal => {
                Ok(self.child.id())
            }
        }
    }

    /// The address for clients of a kind.
    pub(crate) fn address(&self, kind: Kind) -> SocketAddr {
        if self.program == Program::Relay {
            return self.site.tcp;
        }
        match kind {
            Kind::H1 | Kind::H1Fresh | Kind::WebSocket => self.site.http,
            Kind::H1Tls | Kind::TlsFull | Kind::H2Tls => self.site.tls,
            Kind::H2 | Kind::Grpc => self.site.h2c,
            Kind::Tcp => self.site.tcp,
        }
    }

    fn wait_until_open(&mut self) -> Result<()> {
        let start = Instant::now();
        for address in self.site.listens(self.program) {
            while TcpStream::connect(address).is_err() {
                self.runs()?;
                ensure!(start.elapsed() < START_MAX, "{} does not listen on {address}", self.program.name());
                std::thread::sleep(LOOK);
            }
        }
        Ok(())
    }

    /// Fails if the proxy has exited.
    pub(crate) fn runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended: {status}", self.program.name()),
            None => Ok(()),
        }
    }

    /// Sends one HTTP/1.1 request with `Connection: close`; the upstream must be running. Returns `false` unless the
    /// response has status 200.
    pub(crate) fn answers(&self) -> bool {
        let ask = || -> Result<bool> {
            let (host, path) = self.site.setup.target();
            let text = request(host, path).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
            let mut stream = TcpStream::connect(self.address(Kind::H1))?;
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            stream.write_all(text.as_bytes())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer.starts_with(b"HTTP/1.1 200"))
        };
        ask().unwrap_or(false)
    }

    /// Changes the configuration for the `n`th time. [`Self::generation`] shows when the change has been applied.
    pub(crate) fn change(&self, n: u32) -> Result<()> {
        self.site.extra.set(n);
        match self.program {
            Program::Nginx => {
                self.site.replace("nginx.conf", &nginx::file(&self.site))?;
                kill_process(Pid::from_child(&self.child), Signal::HUP).context("cannot signal nginx")
            }
            Program::Baseline | Program::Cardinal => self.site.replace("kong.yaml", &cardinal::file(&self.site)),
            Program::Haproxy | Program::Envoy | Program::Relay => {
                bail!("{} is not changed while it serves", self.program.name())
            }
        }
    }

    /// A number that changes with each applied change: for nginx, the newest worker.
    pub(crate) fn generation(&self) -> Result<u64> {
        match self.program {
            Program::Baseline | Program::Cardinal => cardinal::generation(self.site.status),
            Program::Nginx => nginx::newest_worker(self.child.id()).map(u64::from),
            Program::Haproxy | Program::Envoy | Program::Relay => Ok(0),
        }
    }

    /// The output of the program.
    pub(crate) fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.site.dir.path().join(name)).unwrap_or_default();
        let text = format!("{}{}", read("output.log"), read("error.log"));
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
        format!("{} wrote:\n{}", self.program.name(), last.join("\n"))
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
            std::thread::sleep(LOOK);
        }
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}
