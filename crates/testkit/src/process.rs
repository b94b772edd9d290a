//! Real servers as processes, on free ports, with everything they write in a directory of their own.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::certs::Issued;
use crate::port::free_port;
use crate::temp::TempDir;
use crate::until_some_blocking;

/// A server process. Dropping it ends the process, by its id, and removes its directory.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
}

impl Server {
    /// Redis without persistence; `arguments` are added to its command line.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn redis(arguments: &[&str]) -> Result<Self> {
        Self::redis_on(free_port(), arguments)
    }

    /// The same on a given port, such as that of a server that has ended.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn redis_on(port: u16, arguments: &[&str]) -> Result<Self> {
        let (folder, mut command) = redis(arguments)?;
        command.args(["--port", &port.to_string()]);
        Self::run("redis", command, folder, port)
    }

    /// Redis that speaks only TLS, with this certificate.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn redis_tls(issued: &Issued, arguments: &[&str]) -> Result<Self> {
        let (folder, mut command) = redis(arguments)?;
        command.args(["--port", "0", "--tls-auth-clients", "no"]);
        command.arg("--tls-cert-file").arg(folder.write("cert.pem", &issued.cert_pem));
        command.arg("--tls-key-file").arg(folder.write("key.pem", &issued.key_pem));
        Self::start("redis", command, folder, |command, port| {
            command.args(["--tls-port", &port.to_string()]);
        })
    }

    /// nginx in the foreground with this `http { ... }` content; `PORT` in it becomes the port it must listen on, `DIR`
    /// its directory.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn nginx(http: &str) -> Result<Self> {
        let folder = TempDir::new("nginx");
        let port = free_port();
        let dir = folder.path().display().to_string();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {dir}/{kind};\n"))
            .concat();
        let http = http.replace("PORT", &port.to_string()).replace("DIR", &dir);
        let text = format!(
            "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\n\
             events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n{temporary}{http}\n}}\n"
        );
        let config = folder.write("nginx.conf", text);
        let mut command = program("nginx")?;
        command.arg("-p").arg(folder.path()).arg("-c").arg(config).arg("-e").arg(folder.path().join("error.log"));
        Self::run("nginx", command, folder, port)
    }

    /// MariaDB with an empty database, which lets everybody in.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn mariadb() -> Result<Self> {
        let folder = TempDir::new("mariadb");
        let path = folder.path().display();
        let mut command = program("mariadbd")?;
        command.args(["--no-defaults", "--user=root", "--skip-grant-tables", "--bind-address=127.0.0.1"]);
        command.args(["--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M"]);
        command.args([
            format!("--datadir={path}"),
            format!("--socket={path}/socket"),
            format!("--pid-file={path}/pid"),
        ]);
        Self::start("mariadbd", command, folder, |command, port| {
            command.arg(format!("--port={port}"));
        })
    }

    /// An SMTP server (aiosmtpd), which writes the messages that it takes to its output.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn smtp() -> Result<Self> {
        let mut command = program("python3-smtp")?;
        command.args(["-u", "-m", "aiosmtpd", "--nosetuid", "--class", "aiosmtpd.handlers.Debugging", "stdout"]);
        Self::start("aiosmtpd", command, TempDir::new("smtp"), |command, port| {
            command.arg("--listen").arg(format!("127.0.0.1:{port}"));
        })
    }

    /// Any server: `with_port` adds the port to the command line. It is ready when the port takes connections. What it
    /// writes goes to the file `output` in its directory.
    ///
    /// # Errors
    /// When it cannot be started, ends at once, or takes no connections in time.
    pub fn start(
        name: &str,
        mut command: Command,
        folder: TempDir,
        with_port: impl FnOnce(&mut Command, u16),
    ) -> Result<Self> {
        let port = free_port();
        with_port(&mut command, port);
        Self::run(name, command, folder, port)
    }

    fn run(name: &str, mut command: Command, folder: TempDir, port: u16) -> Result<Self> {
        let output = File::create(folder.path().join("output"))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut server = Self { child, folder, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        server.wait_until_ready(name)?;
        Ok(server)
    }

    fn wait_until_ready(&mut self, name: &str) -> Result<()> {
        let ready = until_some_blocking("connections to be taken", || {
            if TcpStream::connect_timeout(&self.address, Duration::from_millis(200)).is_ok() {
                return Some(Ok(()));
            }
            let status = self.child.try_wait().transpose()?;
            let log = || format!("{}{}", self.folder.read("output"), self.folder.read("error.log"));
            Some(status.map_err(Into::into).and_then(|status| bail!("{name} ended with {status}: {}", log())))
        });
        ready.with_context(|| format!("{name} takes no connections: {}", self.folder.read("output")))?
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its directory.
    pub fn folder(&self) -> &TempDir {
        &self.folder
    }

    /// Ends it now, without giving it time; its port refuses connections afterwards.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Redis without persistence and without a port.
fn redis(arguments: &[&str]) -> Result<(TempDir, Command)> {
    let folder = TempDir::new("redis");
    let mut command = program("redis-server")?;
    let dir = folder.path().display().to_string();
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &dir]).args(arguments);
    Ok((folder, command))
}

fn program(name: &str) -> Result<Command> {
    let path = cardinal_test_tools::find(name);
    Ok(Command::new(
        path.with_context(|| format!("{name} is not installed; scripts/install-test-deps.sh installs it"))?,
    ))
}
