//! A PostgreSQL server of Debian's package, with its own data on a free port.

use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use cardinal_test_tools::{Need, missing, tools};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Machine, Network, TempDir, free_port, until_some_blocking};

/// The server. It ends when this is dropped.
#[derive(Debug)]
pub struct PostgresServer {
    folder: TempDir,
    binaries: PathBuf,
    machine: Option<Machine>,
    port: u16,
    child: Option<Child>,
    databases: AtomicU32,
}

impl PostgresServer {
    /// Starts a server; `None` after a report if it is not installed. The crate under test is for the report.
    pub fn start(package: &str) -> Option<Self> {
        Self::start_at(package, None)
    }

    /// Starts a server on a machine of its own. Needs root.
    pub fn start_on(package: &str, machine: Machine) -> Option<Self> {
        Self::start_at(package, Some(machine))
    }

    fn start_at(package: &str, machine: Option<Machine>) -> Option<Self> {
        let [_] = tools!("postgresql")?;
        let Some(binaries) = binaries() else {
            missing(package, Need::Required, "the server is not in /usr/lib/postgresql");
            return None;
        };
        let folder = TempDir::new("postgres");
        let (port, databases) = (free_port(), AtomicU32::new(0));
        let mut server = Self { folder, binaries, machine, port, child: None, databases };
        if let Some((user, group)) = other_user() {
            chown(server.folder.path(), Some(user), Some(group)).unwrap();
        }
        let mut command = server.command("initdb");
        command.args(["--no-sync", "--auth=trust", "--username=cardinal", "--encoding=UTF8", "--locale=C.UTF-8"]);
        let output = command.arg("--pgdata").arg(server.data()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        if server.machine.is_some() {
            let clients = File::options().append(true).open(server.data().join("pg_hba.conf"));
            writeln!(clients.unwrap(), "host all all {} trust", Network::RANGE).unwrap();
        }
        server.run();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let program = self.binaries.join(program);
        let mut command = match (&self.machine, other_user()) {
            (None, None) => Command::new(program),
            (None, Some((user, group))) => {
                let mut command = Command::new(program);
                command.uid(user).gid(group);
                command
            }
            (Some(machine), other) => {
                let mut command = machine.enter();
                if let Some((user, group)) = other {
                    command.args([format!("--setuid={user}"), format!("--setgid={group}")]);
                }
                command.arg("--").arg(program);
                command
            }
        };
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// The machine it runs on, if it has one of its own.
    pub fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// Where it listens.
    pub fn address(&self) -> IpAddr {
        self.machine.as_ref().map_or(Ipv4Addr::LOCALHOST.into(), Machine::address)
    }

    /// Starts the process, after [`Self::stop`] as well.
    pub fn run(&mut self) {
        let mut command = self.command("postgres");
        let (data, sockets) = (self.data(), self.folder.path());
        let settings = [
            format!("listen_addresses={}", self.address()),
            format!("port={}", self.port),
            format!("unix_socket_directories={}", sockets.display()),
            "fsync=off".to_owned(),
            "max_connections=200".to_owned(),
            "shared_buffers=32MB".to_owned(),
        ];
        command.arg("-D").arg(data);
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        let output = File::create(self.folder.path().join("output")).unwrap();
        command.stdout(output.try_clone().unwrap()).stderr(output);
        self.child = Some(command.spawn().unwrap());
        until_some_blocking("PostgreSQL to start", || {
            assert!(self.child.as_mut()?.try_wait().unwrap().is_none(), "{}", self.folder.read("output"));
            let output = self.folder.read("output");
            output.contains("database system is ready to accept connections").then_some(())
        })
        .unwrap();
    }

    /// Ends the process at once, as a crash would.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = Pid::from_child(&child);
        // An immediate shutdown: connections are cut and nothing is written, but shared memory is freed.
        kill_process(pid, Signal::QUIT).ok();
        child.wait().unwrap();
    }

    /// Makes an empty database; its URL.
    pub fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://cardinal@{}:{}/{database}?sslmode=disable", self.address(), self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Executes statements.
    pub fn execute(&self, database: &str, sql: &str) {
        let mut command = self.command("psql");
        command.args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--command", sql]).arg(self.url(database));
        let output = command.stdout(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where the programs of the newest installed server are.
fn binaries() -> Option<PathBuf> {
    let versions = Path::new("/usr/lib/postgresql").read_dir().ok()?;
    let mut found: Vec<PathBuf> = versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).collect();
    found.retain(|folder| folder.join("postgres").is_file());
    found.sort();
    found.pop()
}

/// PostgreSQL refuses to run as root: the user and group to run as instead.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("the package has created the user");
    let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
    Some((fields.next().unwrap(), fields.next().unwrap()))
}
