//! Control planes, data planes and their database on machines of their own, which lose each other and are replaced.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use cardinal_test_tools::{Need, missing, tools};
use cardinal_testkit::{EchoServer, Isolation, Machine, Network, PostgresServer, TempDir, isolated, until_some};
use rustix::process::Signal;
use serde_json::json;

use crate::cluster::{Control, Data, Load, Place};
use crate::history::text;

/// How long the database is away. Requests are sent all the time.
const AWAY: Duration = Duration::from_secs(30);

/// Two control planes, three data planes, and what they are started with.
struct Cluster {
    database: Vec<String>,
    token: String,
    control_machines: [Machine; 2],
    data_machines: [Machine; 3],
    control_homes: [TempDir; 2],
    data_homes: [TempDir; 3],
    /// The version of the binary that is started, if it is not the tested one.
    other: Option<PathBuf>,
}

impl Cluster {
    fn new(network: &mut Network, server: &PostgresServer, key: &str, other: Option<PathBuf>) -> Self {
        let mut database =
            vec!["database=postgres".to_owned(), "pg_user=cardinal".into(), "pg_database=cluster".into()];
        database.extend([format!("pg_host={}", server.address()), format!("pg_port={}", server.port()), key.into()]);
        // Only the machines of the test reach the Admin API.
        database.push("enforce_rbac=off".into());
        Self {
            database,
            token: String::new(),
            control_machines: [(); 2].map(|()| network.machine()),
            data_machines: [(); 3].map(|()| network.machine()),
            control_homes: [(); 2].map(|()| TempDir::new("control")),
            data_homes: [(); 3].map(|()| TempDir::new("data")),
            other,
        }
    }

    fn database(&self) -> Vec<&str> {
        self.database.iter().flat_map(|set| ["--set", set]).collect()
    }

    /// Where the control planes listen for data planes.
    fn addresses(&self) -> [SocketAddr; 2] {
        self.control_machines.each_ref().map(|machine| SocketAddr::new(machine.address(), 8005))
    }

    fn control(&self, at: usize) -> Control {
        let place = Place { machine: Some(&self.control_machines[at]), other: self.other.as_deref() };
        let address = self.addresses()[at].to_string();
        Control::start_on(&place, &self.control_homes[at], &address, &self.database())
    }

    fn data(&self, at: usize) -> Data {
        let machine = &self.data_machines[at];
        let place = Place { machine: Some(machine), other: self.other.as_deref() };
        let listen = format!("proxy_listen={}", SocketAddr::new(machine.address(), 8000));
        let controls = self.addresses().map(|address| address.to_string()).join(",");
        Data::start_on(&place, &self.data_homes[at], &controls, &["--set", &self.token, "--set", &listen])
    }
}

async fn all_serve(planes: &[Data; 3], path: &str) {
    for plane in planes {
        plane.serves(path, 200).await;
    }
}

/// No request fails while control planes are killed, the database is out of reach for half a minute without its peers
/// being told, and all processes are replaced, one after the other. `CARDINAL_TEST_OLD_BINARY` is another version of the
/// binary, which is replaced by the tested one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_are_lost_and_replaced_under_load() {
    const PACKAGE: &str = env!("CARGO_PKG_NAME");
    let Some(_) = tools!("unshare", "nsenter", "ip", "iptables", "postgresql") else { return };
    if !rustix::process::geteuid().is_root() {
        missing(PACKAGE, Need::Optional, "PostgreSQL in a namespace: only root can start it there");
        return;
    }
    let other = std::env::var_os("CARDINAL_TEST_OLD_BINARY").map(PathBuf::from);
    if !isolated(PACKAGE, "machines::machines_are_lost_and_replaced_under_load", Isolation::Network) {
        return;
    }
    let mut network = Network::new();
    let Some(server) = PostgresServer::start_on(PACKAGE, network.machine()) else { return };
    server.execute("postgres", "CREATE DATABASE cluster");
    let keys = TempDir::new("keys");
    let key = keys.write("store.key", "0123456789abcdef".repeat(4));
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let echo = EchoServer::start_at(SocketAddr::new(Network::ADDRESS, 0), "backend", None).await.unwrap();
    let url = echo.url();

    let mut cluster = Cluster::new(&mut network, &server, &format!("store_key=file:{}", key.display()), other);
    let mut controls = [0, 1].map(|at| cluster.control(at));
    controls[0].add_route("orders", &url).await;
    let token = text(&cluster.control_homes[0], &[&["cluster", "token"][..], &cluster.database()].concat());
    cluster.token = format!("cluster_join_token={}", token.trim());
    let mut planes = [0, 1, 2].map(|at| cluster.data(at));
    all_serve(&planes, "/orders").await;
    let load = Load::start(&planes.each_ref().map(|plane| plane.proxy));

    for at in [0, 1] {
        controls[at].process.signal(Signal::KILL);
        controls[1 - at].add_route(&format!("without-{at}"), &url).await;
        all_serve(&planes, &format!("/without-{at}")).await;
        controls[at] = cluster.control(at);
    }

    let machine = server.machine().expect("the server has one");
    machine.cut();
    let mut refused = 0;
    let refusing = async {
        loop {
            for control in &controls {
                let (status, told) = control.send("PUT", "/services/lost", json!({"url": "http://a.test"})).await;
                assert!(status >= 500, "{status} {told}");
                refused += 1;
            }
        }
    };
    let over: Result<(), _> = tokio::time::timeout(AWAY, refusing).await;
    assert!(over.is_err(), "it goes on for the whole time");
    machine.mend();
    assert!(refused > 2, "writes are refused soon");
    for (at, control) in controls.iter().enumerate() {
        let is_back = async || {
            let (status, _) = control.send("PUT", &format!("/services/back-{at}"), json!({"url": url})).await;
            (status == 200).then_some(())
        };
        until_some("a write after the cut", is_back).await.unwrap();
        control.add_route(&format!("after-{at}"), &url).await;
        all_serve(&planes, &format!("/after-{at}")).await;
    }

    cluster.other = None;
    for at in [0, 1] {
        controls[at].process.signal(Signal::TERM);
        assert_eq!(controls[at].process.ends().code(), Some(0));
        controls[at] = cluster.control(at);
        controls[at].add_route(&format!("new-{at}"), &url).await;
        all_serve(&planes, &format!("/new-{at}")).await;
    }
    for (at, plane) in planes.iter_mut().enumerate() {
        let mut old = std::mem::replace(plane, cluster.data(at));
        assert_eq!(old.process.ends().code(), Some(0));
    }
    controls[1].add_route("last", &url).await;
    all_serve(&planes, "/last").await;
    assert!(load.end().await > 100);
}
