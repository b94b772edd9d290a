//! A real Redis server for tests.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;

/// A server of its own, ended with the value.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    folder: Option<PathBuf>,
}

impl Server {
    /// `None`, after a report, where Redis is not installed.
    pub(crate) async fn start(arguments: &[&str]) -> Option<Self> {
        Self::start_on(free_port(), arguments).await
    }

    pub(crate) async fn start_on(port: u16, arguments: &[&str]) -> Option<Self> {
        let [program] = cardinal_test_tools::tools!("redis-server")?;
        let child = Command::new(program)
            .args(["--port", &port.to_string(), "--save", "", "--daemonize", "no", "--bind", "127.0.0.1"])
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, folder: None };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Some(server);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("redis-server does not listen on port {port}");
    }

    /// A server with TLS and a self-made certificate.
    pub(crate) async fn start_tls() -> Option<Self> {
        let (plain, port) = (free_port(), free_port());
        let key = rcgen::generate_simple_self_signed(vec!["redis.test".to_owned()]).unwrap();
        let folder = std::env::temp_dir().join(format!("cardinal-redis-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&cert_file, key.cert.pem()).unwrap();
        std::fs::write(&key_file, key.signing_key.serialize_pem()).unwrap();
        let (cert_file, key_file) = (cert_file.to_str().unwrap(), key_file.to_str().unwrap());
        let tls_port = port.to_string();
        let mut server = Self::start_on(
            plain,
            &[
                "--tls-port",
                &tls_port,
                "--tls-cert-file",
                cert_file,
                "--tls-key-file",
                key_file,
                "--tls-auth-clients",
                "no",
            ],
        )
        .await?;
        server.port = port;
        server.folder = Some(folder);
        Some(server)
    }

    /// What a command answers.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut cmd = redis::Cmd::new();
        command.iter().for_each(|part| {
            cmd.arg(*part);
        });
        cmd.query_async(&mut connection).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        if let Some(folder) = &self.folder {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
