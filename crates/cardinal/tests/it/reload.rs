//! Configuration changes while traffic flows.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use cardinal_testkit::{EchoServer, H1Client, TempDir};
use rustix::process::Signal;

use crate::kong_yaml;
use crate::process::Process;

async fn status(address: SocketAddr, path: &str) -> u16 {
    H1Client::connect(address).await.unwrap().get(path, "a.example", &[]).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_are_served_and_broken_ones_are_not() {
    let (folder, echo) = (TempDir::new("reload"), EchoServer::start("backend").await);
    let good = kong_yaml(&echo.url());
    let config = folder.write("kong.yaml", &good);
    let mut node = Process::run(&config, &[]);
    let address = node.address();
    assert_eq!(status(address, "/new").await, 404);
    folder.write("kong.yaml", good.replace("[/open]", "[/new]"));
    node.wait_for("generation 2");
    assert_eq!((status(address, "/new").await, status(address, "/open").await), (200, 404));
    folder.write("kong.yaml", good.replace("paths: [/private]", "pahts: [/private]"));
    let message = node.wait_for("is refused, generation 2 stays");
    assert!(message.contains("kong.yaml:10:5") && message.contains("did you mean 'paths'?"), "{message}");
    assert_eq!((status(address, "/new").await, status(address, "/open").await), (200, 404));
    // Written again as it is served: nothing to do. The signal comes later, and its generation is the next one.
    folder.write("kong.yaml", &good);
    node.wait_for("generation 3");
    folder.write("kong.yaml", &good);
    node.signal(Signal::HUP);
    node.wait_for("generation 4");
    assert_eq!(status(address, "/open").await, 200);
    std::fs::remove_file(&config).unwrap();
    node.wait_for("is refused, generation 4 stays: cannot read");
    assert_eq!(status(address, "/open").await, 200);
}

/// As by `: > kong.yaml` before the new contents come.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_emptied_stays_served_as_it_was() {
    let (folder, echo) = (TempDir::new("reload"), EchoServer::start("backend").await);
    let good = kong_yaml(&echo.url());
    let config = folder.write("kong.yaml", &good);
    let mut node = Process::run(&config, &[]);
    let address = node.address();
    folder.write("kong.yaml", "");
    node.wait_for("is refused, generation 1 stays: expected an object");
    assert_eq!(status(address, "/open").await, 200);
    folder.write("kong.yaml", good.replace("[/open]", "[/new]"));
    node.wait_for("generation 2");
    assert_eq!(status(address, "/new").await, 200);
}

/// As Kubernetes updates files: a link beside them is swapped.
#[tokio::test(flavor = "multi_thread")]
async fn swapped_links_are_noticed() {
    let (folder, echo) = (TempDir::new("reload"), EchoServer::start("backend").await);
    let good = kong_yaml(&echo.url());
    folder.write("..1/kong.yaml", &good);
    symlink("..1", folder.path().join("..data")).unwrap();
    symlink("..data/kong.yaml", folder.path().join("kong.yaml")).unwrap();
    let mut node = Process::run(&folder.path().join("kong.yaml"), &[]);
    let address = node.address();
    for (generation, path) in [(2, "/two"), (3, "/three")] {
        folder.write(&format!("..{generation}/kong.yaml"), good.replace("[/open]", &format!("[{path}]")));
        swap(folder.path(), &format!("..{generation}"));
        node.wait_for(&format!("generation {generation}"));
        assert_eq!(status(address, path).await, 200);
        std::fs::remove_dir_all(folder.path().join(format!("..{}", generation - 1))).unwrap();
    }
}

fn swap(folder: &Path, target: &str) {
    symlink(target, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_gain_files() {
    let (folder, echo) = (TempDir::new("reload"), EchoServer::start("backend").await);
    folder.write("conf.d/10.yaml", kong_yaml(&echo.url()));
    let mut node = Process::run(&folder.path().join("conf.d"), &[]);
    let address = node.address();
    assert_eq!(status(address, "/more").await, 404);
    let more = format!(
        r#"{{"_format_version": "3.0", "services": [{{"name": "more", "url": "{}", "routes": [{{"name": "more", "paths": ["/more"]}}]}}]}}"#,
        echo.url()
    );
    folder.write("conf.d/20.json", more);
    node.wait_for("generation 2");
    assert_eq!((status(address, "/more").await, status(address, "/open").await), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_read_again() {
    let (folder, echo) = (TempDir::new("reload"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let conf = folder.write("kong.conf", "headers = server_tokens\n");
    let mut node = Process::run(&config, &["-C", &conf.display().to_string()]);
    let address = node.address();
    let via = || async {
        let response = H1Client::connect(address).await.unwrap().get("/open", "a.example", &[]).await.unwrap();
        response.header("via").is_some()
    };
    assert!(via().await);
    folder.write("kong.conf", "headers = off\nlog_level = info\n");
    node.wait_for("these settings changed and take effect after a restart: log_level");
    node.wait_for("generation 2");
    assert!(!via().await);
    folder.write("kong.conf", "headers = of\n");
    node.wait_for("is refused, generation 2 stays: ");
    assert!(!via().await);
}
