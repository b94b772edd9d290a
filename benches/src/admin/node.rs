//! A `cardinal` process in one of its roles.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::http::Client;
use crate::procfs::{self, CpuTime};
use crate::temp::TempDir;

/// Time limits for a node to serve a configuration, and to end.
const READY_MAX: Duration = Duration::from_secs(900);
const END_MAX: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

/// A process, stopped when dropped.
pub(super) struct Node {
    child: Child,
    dir: TempDir,
    pub(super) admin: SocketAddr,
    pub(super) cluster: SocketAddr,
    pub(super) proxy: SocketAddr,
    status: SocketAddr,
    /// Where it listens besides, once it is ready.
    listens: Vec<SocketAddr>,
    program: PathBuf,
}

/// CPU time and memory of a process over a measurement.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) wall_s: f64,
    pub(super) cpu_s: f64,
    pub(super) peak_mib: f64,
    pub(super) rss_mib: f64,
}

impl Node {
    pub(super) fn control_plane(program: &Path) -> Result<Self> {
        Self::start(program, "control-plane", &[], None)
    }

    pub(super) fn data_plane(control: &Self) -> Result<Self> {
        let settings =
            [format!("cluster_control_plane={}", control.cluster), format!("cluster_join_token={}", control.token()?)];
        Self::start(&control.program, "data-plane", &settings, None)
    }

    /// A node that reads a file and serves it itself.
    pub(super) fn with_file(program: &Path, file: &str) -> Result<Self> {
        Self::start(program, "all", &[], Some(file))
    }

    fn start(program: &Path, role: &str, settings: &[String], file: Option<&str>) -> Result<Self> {
        let dir = TempDir::new(role)?;
        let [admin, cluster, proxy, status] = free()?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let mut command = Command::new(program);
        command.arg("run").arg("--data-dir").arg(dir.path().join("data")).args(["--access-log", "off"]);
        command.args(["--workers", "1", "--role", role]);
        if let Some(file) = file {
            command.arg("--config").arg(dir.file("kong.yaml", file)?);
        }
        let listeners = [
            if role == "data-plane" { "admin_listen=off".to_owned() } else { format!("admin_listen={admin}") },
            format!("status_listen={status}"),
        ];
        let cluster_listen = (role == "control-plane").then(|| format!("cluster_listen={cluster}"));
        let proxy_listen = (role != "control-plane").then(|| format!("proxy_listen={proxy}"));
        let all = listeners.iter().chain(&cluster_listen).chain(&proxy_listen).chain(settings);
        all.for_each(|setting| {
            command.arg("--set").arg(setting);
        });
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let program = program.to_owned();
        let listens = match role {
            "control-plane" => vec![admin, cluster],
            "data-plane" => vec![proxy],
            _ => vec![admin, proxy],
        };
        Ok(Self { child, dir, admin, cluster, proxy, status, listens, program })
    }

    /// Waits until it serves a configuration, and listens everywhere.
    pub(super) fn ready(&mut self) -> Result<()> {
        let since = Instant::now();
        while since.elapsed() < READY_MAX {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                bail!("cardinal ended with {status}: {log}");
            }
            let response = Client::connect(self.status).and_then(|mut client| client.get("bench", "/status/ready"));
            let listens = |at: &SocketAddr| TcpStream::connect(at).is_ok();
            if response.is_ok_and(|response| response.status == 200) && self.listens.iter().all(listens) {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        bail!("not ready in time")
    }

    /// Waits until what is in the store is served.
    pub(super) fn caught_up(&self) -> Result<()> {
        while self.metric("cardinal_store_revision_lag")? > 0.0 {
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    pub(super) fn metric(&self, name: &str) -> Result<f64> {
        let text = Client::connect(self.status)?.get("bench", "/metrics")?.body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).with_context(|| format!("there is no metric {name}"))
    }

    pub(super) fn token(&self) -> Result<String> {
        let data = self.dir.path().join("data");
        let made =
            Command::new(&self.program).args(["cluster", "token", "--ttl", "1h", "--data-dir"]).arg(data).output()?;
        ensure!(made.status.success(), "no join token: {}", String::from_utf8_lossy(&made.stderr));
        Ok(String::from_utf8(made.stdout)?.trim().to_owned())
    }

    pub(super) fn client(&self) -> Result<Client> {
        Client::connect(self.admin)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it costs the process to do `work`.
    pub(super) fn cost(&self, work: impl FnOnce() -> Result<()>) -> Result<Cost> {
        let pid = self.pid();
        procfs::forget_peak(pid)?;
        let (since, before) = (Instant::now(), CpuTime::read(pid)?.all_ns);
        work()?;
        self.cost_since(since, before)
    }

    /// What it has cost the process since this time, at which it had used so much CPU time.
    pub(super) fn cost_since(&self, since: Instant, cpu_ns: u64) -> Result<Cost> {
        let (wall_s, pid) = (since.elapsed().as_secs_f64(), self.child.id());
        let mib = |kib: u64| kib as f64 / 1024.0;
        Ok(Cost {
            wall_s,
            cpu_s: (CpuTime::read(pid)?.all_ns - cpu_ns) as f64 / 1e9,
            peak_mib: mib(procfs::peak_kib(pid)?),
            rss_mib: mib(procfs::rss_kib(pid)?),
        })
    }

    /// The size of the database with its write-ahead log.
    pub(super) fn database_mib(&self) -> Result<f64> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(self.dir.path().join("data"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().contains(".db") {
                bytes += entry.metadata()?.len();
            }
        }
        Ok(bytes as f64 / f64::from(1 << 20))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _sent = kill_process(pid, Signal::TERM);
        }
        let since = Instant::now();
        while since.elapsed() < END_MAX {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(LOOK);
        }
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Addresses that nobody listens on.
fn free<const N: usize>() -> Result<[SocketAddr; N]> {
    let held = (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
    let all = held.iter().map(TcpListener::local_addr).collect::<std::io::Result<Vec<_>>>()?;
    all.try_into().ok().context("no free ports")
}
