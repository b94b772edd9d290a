//! The product under test: the binary on free ports, with its own upstream.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// Time limit for a server to listen.
const START_MAX: Duration = Duration::from_secs(30);

/// The gateway with all routes to the echo upstream, and additional processes of a suite. All are stopped when it is
/// dropped.
pub(super) struct Product {
    children: Vec<Child>,
    binary: PathBuf,
    pub(super) folder: PathBuf,
    /// HTTP/1.1, and HTTP/2 by prior knowledge.
    pub(super) http: u16,
    /// TLS with HTTP/1.1 and HTTP/2.
    pub(super) https: u16,
}

impl Product {
    pub(super) fn start(binary: &Path) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("cardinal-conform-{}", std::process::id()));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let (http, https, echo) = (free_port()?, free_port()?, free_port()?);
        let mut product = Self { children: Vec::new(), binary: binary.to_path_buf(), folder, http, https };
        let mut command = Command::new(binary);
        product.spawn(command.arg("echo").arg("--listen").arg(format!("127.0.0.1:{echo}")), echo)?;
        certificate(&product.folder)?;
        let text = format!(
            "_format_version: '3.0'\nservices:\n- name: all\n  url: http://127.0.0.1:{echo}\n  routes:\n  - name: all\n    \
             paths: [/]\n- name: grpc\n  url: grpc://127.0.0.1:{echo}\n  routes:\n  - name: grpc\n    \
             protocols: [grpc, grpcs]\n    paths: [/test.Echo/]\n"
        );
        let listen = format!("127.0.0.1:{http}, 127.0.0.1:{https} ssl http2");
        product.gateway("main", &text, &listen, https)?;
        Ok(product)
    }

    /// A directory for servers of one suite, with the product's certificate.
    pub(super) fn beside(&self) -> Result<Self> {
        let folder = self.folder.join("beside");
        fs::create_dir_all(&folder)?;
        for file in ["cert.pem", "key.pem"] {
            fs::copy(self.folder.join(file), folder.join(file))?;
        }
        Ok(Self { children: Vec::new(), binary: self.binary.clone(), folder, http: self.http, https: self.https })
    }

    /// Starts a gateway with this configuration.
    pub(super) fn gateway(&mut self, name: &str, config: &str, listen: &str, port: u16) -> Result<()> {
        let file = self.folder.join(format!("{name}.yaml"));
        fs::write(&file, config)?;
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--config").arg(file).arg("--data-dir").arg(self.folder.join(name));
        command.args(["--access-log", "off", "--log-format", "text"]);
        let key = self.folder.join("key.pem");
        let certificate = self.folder.join("cert.pem");
        for setting in [
            format!("proxy_listen={listen}"),
            "status_listen=off".to_owned(),
            "admin_listen=off".to_owned(),
            format!("ssl_cert={}", certificate.display()),
            format!("ssl_cert_key={}", key.display()),
        ] {
            command.arg("--set").arg(setting);
        }
        self.spawn(&mut command, port)
    }

    /// Starts a gateway with a store and the Admin API on this port.
    pub(super) fn with_store(&mut self, name: &str, admin: u16, settings: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--data-dir").arg(self.folder.join(name));
        command.args(["--access-log", "off", "--log-format", "text"]);
        command.args(["--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=off"]);
        command.args(["--set", &format!("admin_listen=127.0.0.1:{admin}")]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        self.spawn(&mut command, admin)
    }

    /// Starts a server and waits until its port accepts connections.
    pub(super) fn spawn(&mut self, command: &mut Command, port: u16) -> Result<()> {
        let name = format!("{command:?}");
        let log = fs::File::create(self.folder.join(format!("{port}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.children.push(command.spawn().with_context(|| format!("cannot start {name}"))?);
        let clock = crate::fresh::stopwatch();
        while TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_err() {
            if let Some(status) = self.children.last_mut().map(Child::try_wait).transpose()?.flatten() {
                let log = fs::read_to_string(self.folder.join(format!("{port}.log"))).unwrap_or_default();
                bail!("{name} ended with {status}: {log}");
            }
            ensure!(clock() < START_MAX, "{name} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            // The process may have exited by itself.
            let _killed = child.kill();
            let _status = child.wait();
        }
        let _removed = fs::remove_dir_all(&self.folder);
    }
}

/// A certificate with an RSA key, which all clients and suites accept.
fn certificate(folder: &Path) -> Result<()> {
    let openssl = super::program("openssl")?;
    let output = Command::new(openssl)
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("cert.pem"))
        .output()?;
    ensure!(output.status.success(), "openssl makes no certificate: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A free port.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
