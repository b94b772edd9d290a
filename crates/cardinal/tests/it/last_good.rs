//! A node whose files cannot be served starts with what was served last.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use cardinal_testkit::{EchoServer, H1Client, TempDir};
use rustix::process::Signal;
use serde_json::json;

use crate::kong_yaml;
use crate::process::Process;

struct Stage {
    folder: TempDir,
    config: PathBuf,
    good: String,
    _echo: EchoServer,
}

impl Stage {
    /// A node that has served a file, and has ended.
    async fn served() -> Self {
        let stage = Self::new().await;
        let mut node = stage.run();
        node.address();
        node.signal(Signal::TERM);
        assert!(node.ends().success());
        stage
    }

    async fn new() -> Self {
        let (folder, echo) = (TempDir::new("last-good"), EchoServer::start("backend").await);
        let good = kong_yaml(&echo.url());
        let config = folder.write("kong.yaml", &good);
        Self { folder, config, good, _echo: echo }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn saved(&self) -> PathBuf {
        self.data().join("last-good.bin")
    }

    fn run(&self) -> Process {
        Process::run(&self.config, &["--data-dir", &self.data().display().to_string()])
    }

    /// The reason that a start with these files fails.
    fn not_started(&self, reason: &str) {
        let mut node = self.run();
        node.wait_for(reason);
        node.wait_for("not started");
        assert_eq!(node.ends().code(), Some(1));
    }
}

async fn status_of(address: SocketAddr, path: &str) -> u16 {
    H1Client::connect(address).await.unwrap().get(path, "a.example", &[]).await.unwrap().status
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_without_its_file() {
    let stage = Stage::served().await;
    assert_eq!((mode(&stage.data()), mode(&stage.saved())), (0o700, 0o600));
    std::fs::remove_file(&stage.config).unwrap();
    for _ in 0..2 {
        let mut node = stage.run();
        let address = node.address();
        assert!(
            node.seen().iter().any(|line| line.starts_with("generation 1: 1 consumer, 1 service, 2 routes")),
            "{:?}",
            node.seen()
        );
        assert_eq!(status_of(address, "/open").await, 200);
        assert_eq!(status_of(address, "/private").await, 401, "filters are part of it");
        node.signal(Signal::TERM);
        assert!(node.ends().success());
    }
    // The file comes back while the node runs; records that are equal stay as they are.
    let mut node = stage.run();
    let address = node.address();
    stage.folder.write("kong.yaml", stage.good.replace("/open", "/other"));
    node.wait_for("generation 2");
    assert_eq!((status_of(address, "/open").await, status_of(address, "/other").await), (404, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_configuration_that_is_damaged_is_not_served() {
    let stage = Stage::served().await;
    stage.folder.write("kong.yaml", "services: [");
    let good = std::fs::read(stage.saved()).unwrap();
    let mut newer = good.clone();
    newer[11] = 9;
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let truncated = good[..good.len() - 40].to_vec();
    for (bytes, reason) in [
        (truncated, "last-good.bin is damaged: its checksum is wrong"),
        (flipped, "last-good.bin is damaged: its checksum is wrong"),
        (Vec::new(), "last-good.bin is damaged: it ends early"),
        (newer, "last-good.bin has format version 9, which this version of the program cannot read"),
    ] {
        std::fs::write(stage.saved(), bytes).unwrap();
        // Not what an earlier version saved either: it is older.
        stage.folder.write("data/last-good.json", json!({"version": 1, "files": []}).to_string());
        stage.not_started(&format!("there is no last known good configuration: {}", stage.data().display()));
        let mut node = stage.run();
        node.wait_for(reason);
    }
    std::fs::write(stage.saved(), &good).unwrap();
    stage.run().wait_for("serving the last known good configuration, from 1 saved file");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_previous_version_saved_is_read_once() {
    let stage = Stage::new().await;
    let old = json!({"version": 1, "files": [{"name": "kong.yaml", "text": stage.good}]}).to_string();
    let old_file = stage.folder.write("data/last-good.json", old);
    stage.folder.write("kong.yaml", "services: [");
    let mut node = stage.run();
    let address = node.address();
    assert!(node.seen().iter().any(|line| line.contains("last-good.json: the configuration is saved in another form")));
    assert!(!old_file.exists() && stage.saved().exists());
    assert_eq!(status_of(address, "/open").await, 200);
    node.signal(Signal::TERM);
    assert!(node.ends().success());
    assert_eq!(status_of(stage.run().address(), "/open").await, 200);
}

/// A rejected file changes nothing about what was saved.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_generation_is_saved_and_no_rejected_one() {
    let stage = Stage::new().await;
    let mut node = stage.run();
    node.address();
    stage.folder.write("kong.yaml", stage.good.replace("/open", "/second"));
    node.wait_for("generation 2");
    stage.folder.write("kong.yaml", "services: [");
    node.wait_for("is refused, generation 2 stays");
    node.signal(Signal::TERM);
    assert!(node.ends().success());
    let mut node = stage.run();
    let address = node.address();
    assert_eq!((status_of(address, "/open").await, status_of(address, "/second").await), (404, 200));
}

/// The directory was made by somebody else, and its files were copied there without their modes.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_open_to_others_is_reported_and_its_files_are_closed() {
    let stage = Stage::served().await;
    let open = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let key = stage.data().join("secret-key");
    open(&key, 0o644);
    open(&stage.saved(), 0o640);
    open(&stage.data(), 0o755);
    let mut node = stage.run();
    node.address();
    let data = stage.data().display().to_string();
    let told = format!("the data directory {data} is open to other users (mode 0755): run 'chmod 700 {data}'");
    assert!(node.seen().contains(&told), "{:?}", node.seen());
    assert_eq!([mode(&key), mode(&stage.saved()), mode(&stage.data())], [0o600, 0o600, 0o755]);
    node.signal(Signal::TERM);
    assert!(node.ends().success());
    open(&stage.data(), 0o700);
    let mut node = stage.run();
    node.address();
    assert!(!node.seen().iter().any(|line| line.contains("other users")), "{:?}", node.seen());
}
