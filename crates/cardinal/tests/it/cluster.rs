//! Control planes and data planes as processes.

use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cardinal_testkit::{EchoServer, H1Client, Machine, PostgresServer, TempDir, free_port, until_some};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::history::text;
use crate::process::{Process, cardinal, output, stdout};

/// What is started, and on which machine.
pub(crate) struct Place<'a> {
    /// On this one otherwise.
    pub(crate) machine: Option<&'a Machine>,
    /// Another version of the binary.
    pub(crate) other: Option<&'a Path>,
}

impl Place<'_> {
    fn here() -> Self {
        Self { machine: None, other: None }
    }

    fn program(&self) -> Command {
        self.other.map_or_else(cardinal, |path| {
            let mut command = Command::new(path);
            command.env_clear().env("KONG_ADMIN_LISTEN", "off");
            command
        })
    }

    fn address(&self) -> IpAddr {
        self.machine.map_or(Ipv4Addr::LOCALHOST.into(), Machine::address)
    }

    fn enter(&self, command: Command) -> Command {
        match self.machine {
            Some(machine) => machine.on(&command),
            None => command,
        }
    }
}

/// A control plane, and where it listens.
pub(crate) struct Control {
    pub(crate) process: Process,
    admin: SocketAddr,
    status: SocketAddr,
    pub(crate) cluster: SocketAddr,
}

impl Control {
    fn start(data: &TempDir, cluster: &str, more: &[&str]) -> Self {
        Self::start_on(&Place::here(), data, cluster, more)
    }

    pub(crate) fn start_on(place: &Place<'_>, data: &TempDir, cluster: &str, more: &[&str]) -> Self {
        let (mut command, host) = (place.program(), place.address());
        command.args(["run", "--role", "control-plane", "--data-dir"]).arg(data.path());
        command.args(["--set", &format!("status_listen={host}:0"), "--set", &format!("admin_listen={host}:0")]);
        command.args(["--set", &format!("cluster_listen={cluster}")]).args(more);
        let mut process = Process::start(place.enter(command));
        let mut lines = [(); 3].map(|()| process.wait_for("listening on "));
        lines.sort_by_key(|line| ["(admin", "(status", "(data planes"].map(|kind| !line.contains(kind)));
        let [admin, status, cluster] = lines.map(|line| line.split_whitespace().nth(2).unwrap().parse().unwrap());
        Self { process, admin, status, cluster }
    }

    pub(crate) async fn send(&self, method: &str, target: &str, body: Value) -> (u16, Value) {
        send(self.admin, method, target, body).await
    }

    /// A service and a route that leads to it.
    pub(crate) async fn add_route(&self, name: &str, url: &str) {
        assert_eq!(self.send("PUT", &format!("/services/{name}"), json!({"url": url})).await.0, 200);
        let route = json!({"paths": [format!("/{name}")], "service": {"name": name}});
        assert_eq!(self.send("PUT", &format!("/routes/{name}"), route).await.0, 200);
    }

    /// The data planes, once they satisfy this.
    async fn data_planes(&self, is: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let look = async || {
            let (_, list) = self.send("GET", "/clustering/data-planes", Value::Null).await;
            list["data"].as_array().cloned().filter(|found| is(found))
        };
        until_some("data planes", look).await.unwrap()
    }

    pub(crate) fn stop(mut self) -> SocketAddr {
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.ends().code(), Some(0));
        self.cluster
    }
}

async fn send(to: SocketAddr, method: &str, target: &str, body: Value) -> (u16, Value) {
    let (text, fields) = (body.to_string(), [("Content-Type", "application/json")]);
    let (fields, text) = if body.is_null() { (&fields[..0], "") } else { (&fields[..], text.as_str()) };
    let mut client = H1Client::connect(to).await.unwrap();
    let response = client.request(method, target, "localhost", fields, text.as_bytes()).await.unwrap();
    (response.status, serde_json::from_slice(&response.body).unwrap_or(Value::Null))
}

/// A data plane, and where it listens.
pub(crate) struct Data {
    pub(crate) process: Process,
    pub(crate) proxy: SocketAddr,
    status: SocketAddr,
}

impl Data {
    fn start(data: &TempDir, control_planes: &str, more: &[&str]) -> Self {
        Self::start_on(&Place::here(), data, control_planes, more)
    }

    pub(crate) fn start_on(place: &Place<'_>, data: &TempDir, control_planes: &str, more: &[&str]) -> Self {
        let (mut command, host) = (place.program(), place.address());
        command.args(["run", "--role", "data-plane", "--workers", "1", "--access-log", "off", "--data-dir"]);
        command.arg(data.path());
        command.env("KONG_PROXY_LISTEN", format!("{host}:0")).env("KONG_STATUS_LISTEN", format!("{host}:0"));
        command.args(["--set", &format!("cluster_control_plane={control_planes}")]).args(more);
        let mut process = Process::start(place.enter(command));
        let (proxy, status) = process.addresses();
        Self { process, proxy, status }
    }

    async fn get(&self, path: &str) -> u16 {
        let mut client = H1Client::connect(self.proxy).await.unwrap();
        client.get(path, "api.test", &[]).await.unwrap().status
    }

    pub(crate) async fn serves(&self, path: &str, status: u16) {
        let look = async || (self.get(path).await == status).then_some(());
        until_some(&format!("{path} is answered with {status}"), look).await.unwrap();
    }

    fn stop(mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.ends().code(), Some(0));
    }
}

fn token(data: &TempDir) -> String {
    format!("cluster_join_token={}", text(data, &["cluster", "token", "--ttl", "10m"]).trim())
}

#[tokio::test]
async fn data_planes_join_follow_and_outlive_their_control_plane() {
    let (folder, data, echo) = (TempDir::new("control"), TempDir::new("data"), EchoServer::start("backend").await);
    let control = Control::start(&folder, "127.0.0.1:0", &[]);
    let is_ready = async || (send(control.status, "GET", "/status/ready", Value::Null).await.0 == 200).then_some(());
    until_some("a control plane that is ready", is_ready).await.unwrap();
    control.add_route("orders", &echo.url()).await;
    let address = control.cluster.to_string();
    let labels = "cluster_dp_labels=region:eu";
    let plane = Data::start(&data, &address, &["--set", &token(&folder), "--set", labels]);
    plane.serves("/orders", 200).await;
    assert_eq!(send(plane.status, "GET", "/status/ready", Value::Null).await.0, 200);
    // An edit, with a secret.
    assert_eq!(control.send("POST", "/routes/orders/plugins", json!({"name": "key-auth"})).await.0, 201);
    plane.serves("/orders", 401).await;
    assert_eq!(control.send("PUT", "/consumers/anna", json!({})).await.0, 200);
    assert_eq!(control.send("POST", "/consumers/anna/key-auth", json!({"key": "annas"})).await.0, 201);
    plane.serves("/orders?apikey=annas", 200).await;
    let planes = control.data_planes(|found| found.len() == 1 && found[0]["lag"] == 0).await;
    let (shown, hash) = (&planes[0], planes[0]["config_hash"].as_str().unwrap());
    assert!(hash.len() == 32 && hash.chars().any(|digit| digit != '0'), "{shown}");
    assert_eq!(
        (&shown["labels"]["region"], &shown["sync_status"], &shown["connected"]),
        (&json!("eu"), &json!("normal"), &json!(true))
    );
    let (status, old) = control.send("GET", "/clustering/status", Value::Null).await;
    assert_eq!((status, old.as_object().unwrap().len()), (200, 1));
    assert_eq!(control.send("GET", "/", Value::Null).await.1["configuration"]["role"], "control_plane");

    // The control plane is gone, and the data plane starts anew.
    let address = control.stop().to_string();
    plane.serves("/orders?apikey=annas", 200).await;
    plane.stop();
    let plane = Data::start(&data, &address, &[]);
    assert_eq!([plane.get("/orders").await, plane.get("/orders?apikey=annas").await], [401, 200]);
    let control = Control::start(&folder, &address, &[]);
    control.add_route("bills", &echo.url()).await;
    plane.serves("/bills", 200).await;
    assert_eq!(plane.get("/orders").await, 401);
    plane.stop();
    control.data_planes(|found| found.len() == 1 && found[0]["connected"] == false).await;
    control.stop();
}

#[tokio::test]
async fn a_shared_certificate_as_in_kongs_hybrid_mode() {
    let [folder, data, certificates] = ["control", "data", "certificates"].map(TempDir::new);
    let echo = EchoServer::start("backend").await;
    let printed = stdout(&["cluster", "cert", &certificates.path().display().to_string()]);
    // The output is for kong.conf.
    let conf = certificates.write("kong.conf", &printed).display().to_string();
    let twice = output(&["cluster", "cert", &certificates.path().display().to_string()]);
    assert_eq!(twice.status.code(), Some(1), "a key is not overwritten");
    let control = Control::start(&folder, "127.0.0.1:0", &["-C", &conf]);
    control.add_route("orders", &echo.url()).await;
    let plane = Data::start(&data, &control.cluster.to_string(), &["-C", &conf]);
    plane.serves("/orders", 200).await;
    // Another certificate is refused.
    let other = TempDir::new("certificates");
    stdout(&["cluster", "cert", &other.path().display().to_string()]);
    let [cert, key] = ["cert=", "cert_key="].map(|name| {
        let file = if name == "cert=" { "cluster.crt" } else { "cluster.key" };
        format!("cluster_{name}{}", other.path().join(file).display())
    });
    let stranger = TempDir::new("data");
    let mut stranger = Data::start(&stranger, &control.cluster.to_string(), &["--set", &cert, "--set", &key]);
    stranger.process.wait_for("the TLS handshake failed");
    assert_eq!(send(stranger.status, "GET", "/status/ready", Value::Null).await.0, 503);
    assert_eq!(stranger.get("/orders").await, 404);
    control.stop();
}

/// A control plane of files, which Kong does not have.
#[tokio::test]
async fn the_entities_of_files_are_sent_to_data_planes() {
    let [folder, data, files] = ["control", "data", "files"].map(TempDir::new);
    let echo = EchoServer::start("backend").await;
    stdout(&["cluster", "cert", &files.path().display().to_string()]);
    let set = |name: &str, file: &str| format!("{name}={}", files.path().join(file).display());
    let (cert, key) = (set("cluster_cert", "cluster.crt"), set("cluster_cert_key", "cluster.key"));
    let entities = |path: &str| {
        format!("_format_version: '3.0'\nservices:\n- url: {}\n  routes: [{{paths: [{path}]}}]\n", echo.url())
    };
    let file = files.write("kong.yaml", entities("/orders")).display().to_string();
    let more = ["--config", &file, "--set", &cert, "--set", &key];
    let control = Control::start(&folder, "127.0.0.1:0", &more);
    let plane = Data::start(&data, &control.cluster.to_string(), &["--set", &cert, "--set", &key]);
    plane.serves("/orders", 200).await;
    files.write("kong.yaml", entities("/bills"));
    plane.serves("/bills", 200).await;
    assert_eq!(plane.get("/orders").await, 404);
    // A file that is refused changes nothing.
    files.write("kong.yaml", "services: 1");
    let mut control = control;
    control.process.wait_for("refused");
    assert_eq!(plane.get("/bills").await, 200);
}

#[tokio::test]
async fn what_a_role_needs_is_said() {
    let folder = TempDir::new("roles");
    let file = folder.write("kong.yaml", "_format_version: '3.0'\n").display().to_string();
    let data = folder.path().display().to_string();
    let control_plane = ["--set", "cluster_control_plane=127.0.0.1:1"];
    for (args, expected) in [
        (vec!["--role", "data-plane"], "cluster_control_plane: needed when role is data_plane"),
        (
            [&["--role", "data-plane", "--config", &file][..], &control_plane].concat(),
            "a data plane gets its entities from control planes",
        ),
        ([&["--role", "data-plane"][..], &control_plane].concat(), "make a token with 'cardinal cluster token'"),
        (
            [&["--role", "data-plane", "--set", "cluster_join_token=x"][..], &control_plane].concat(),
            "the join token is not valid",
        ),
        (vec!["--role", "control-plane", "--config", &file], "a control plane without a store needs cluster_cert"),
        (vec!["--role", "controlplane"], "a similar value exists: 'control-plane'"),
    ] {
        let mut command = cardinal();
        command.args(["run", "--data-dir", &data]).args(&args);
        command.args(["--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=off"]);
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains(expected), "{args:?}: {told}");
    }
}

/// The authority for data planes is no entity.
#[tokio::test]
async fn a_rollback_keeps_the_authority() {
    let (folder, data, echo) = (TempDir::new("control"), TempDir::new("data"), EchoServer::start("backend").await);
    text(&folder, &["store", "migrate"]);
    let control = Control::start(&folder, "127.0.0.1:0", &[]);
    control.add_route("orders", &echo.url()).await;
    let plane = Data::start(&data, &control.cluster.to_string(), &["--set", &token(&folder)]);
    plane.serves("/orders", 200).await;
    text(&folder, &["rollback", "0"]);
    plane.serves("/orders", 404).await;
    let shown = text(&folder, &["show", "1"]);
    assert!(shown.contains("cluster") && !shown.contains("PRIVATE"), "{shown}");
    let address = control.stop().to_string();
    let control = Control::start(&folder, &address, &[]);
    control.add_route("bills", &echo.url()).await;
    plane.serves("/bills", 200).await;
    control.stop();
}

/// Requests to data planes, one after the other, until the test ends.
pub(crate) struct Load {
    tasks: JoinSet<(usize, Vec<String>)>,
    stop: Arc<AtomicBool>,
}

impl Load {
    pub(crate) fn start(proxies: &[SocketAddr]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for &proxy in proxies {
            let stop = Arc::clone(&stop);
            tasks.spawn(async move {
                let (mut count, mut failed) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let get = async || H1Client::connect(proxy).await?.get("/orders", "api.test", &[]).await;
                    match get().await {
                        Ok(response) if response.status == 200 => {}
                        Ok(response) => failed.push(format!("{proxy}: {}", response.status)),
                        Err(error) => failed.push(format!("{proxy}: {error:#}")),
                    }
                    count += 1;
                }
                (count, failed)
            });
        }
        Self { tasks, stop }
    }

    /// How many there were; none may have failed.
    pub(crate) async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut count = 0;
        for (requests, failed) in self.tasks.join_all().await {
            assert_eq!(failed, Vec::<String>::new());
            count += requests;
        }
        count
    }
}

/// No request fails while control planes are killed, the database crashes, and all processes are replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_control_planes_on_one_database_may_fail() {
    let Some(mut server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    server.execute("postgres", "CREATE DATABASE cluster");
    let keys = TempDir::new("keys");
    let key = keys.write("store.key", "0123456789abcdef".repeat(4));
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let key = format!("store_key=file:{}", key.display());
    let port = format!("pg_port={}", server.port());
    let database = ["database=postgres", "pg_user=cardinal", "pg_database=cluster", &port, &key];
    let database: Vec<&str> = database.iter().flat_map(|set| ["--set", *set]).collect();
    let echo = EchoServer::start("backend").await;

    let folders = ["control-1", "control-2"].map(TempDir::new);
    let mut controls = [0, 1].map(|at| Control::start(&folders[at], "127.0.0.1:0", &database));
    let addresses = [0, 1].map(|at| controls[at].cluster.to_string());
    controls[0].add_route("orders", &echo.url()).await;
    // A token of one of them, valid at both.
    let joining = text(&folders[1], &[&["cluster", "token"][..], &database].concat());
    let joining = format!("cluster_join_token={}", joining.trim());
    let homes = [(); 3].map(|()| TempDir::new("data"));
    let listens = [(); 3].map(|()| format!("proxy_listen=127.0.0.1:{}", free_port()));
    let start = |at: usize| Data::start(&homes[at], &addresses.join(","), &["--set", &joining, "--set", &listens[at]]);
    let mut planes = [0, 1, 2].map(start);
    for plane in &planes {
        plane.serves("/orders", 200).await;
    }
    let load = Load::start(&planes.each_ref().map(|plane| plane.proxy));
    let all_serve = async |planes: &[Data; 3], path: &str| {
        for plane in planes {
            plane.serves(path, 200).await;
        }
    };

    for at in [0, 1] {
        let other = 1 - at;
        controls[at].process.signal(Signal::KILL);
        let name = format!("without-{at}");
        controls[other].add_route(&name, &echo.url()).await;
        all_serve(&planes, &format!("/{name}")).await;
        controls[at] = Control::start(&folders[at], &addresses[at], &database);
        controls[at].add_route(&format!("with-{at}"), &echo.url()).await;
        all_serve(&planes, &format!("/with-{at}")).await;
    }

    server.stop();
    let (status, told) = controls[0].send("PUT", "/services/lost", json!({"url": "http://a.test"})).await;
    assert!(status >= 500, "{status} {told}");
    // A control plane that starts without the database has what it served last, and the certificates for data planes.
    controls[0].process.signal(Signal::TERM);
    assert_eq!(controls[0].process.ends().code(), Some(0));
    controls[0] = Control::start(&folders[0], &addresses[0], &database);
    let late = TempDir::new("data");
    let plane = Data::start(&late, &addresses[0], &["--set", &joining, "--set", "proxy_listen=127.0.0.1:0"]);
    plane.serves("/with-1", 200).await;
    drop(plane);
    server.run();
    let is_back = async || {
        let (status, _) = controls[1].send("PUT", "/services/back", json!({"url": echo.url()})).await;
        (status == 200).then_some(())
    };
    until_some("a write after the crash", is_back).await.unwrap();
    let is_back = async || (controls[0].send("GET", "/routes", Value::Null).await.0 == 200).then_some(());
    until_some("the control plane that started without the database", is_back).await.unwrap();
    controls[0].add_route("after", &echo.url()).await;
    all_serve(&planes, "/after").await;

    // What is said about a target at one control plane reaches the data planes of the other one.
    let checks = json!({"passive": {"unhealthy": {"tcp_failures": 1}}});
    assert_eq!(controls[0].send("PUT", "/upstreams/up", json!({"healthchecks": checks})).await.0, 200);
    let target = echo.address().to_string();
    assert_eq!(controls[0].send("POST", "/upstreams/up/targets", json!({"target": target})).await.0, 201);
    controls[0].add_route("checked", "http://up").await;
    all_serve(&planes, "/checked").await;
    let mark = format!("/upstreams/up/targets/{target}/unhealthy");
    assert_eq!(controls[0].send("PUT", &mark, Value::Null).await.0, 204);
    for plane in &planes {
        plane.serves("/checked", 503).await;
    }

    for (at, plane) in planes.iter_mut().enumerate() {
        let mut old = std::mem::replace(plane, start(at));
        assert_eq!(old.process.ends().code(), Some(0));
    }
    controls[1].add_route("last", &echo.url()).await;
    all_serve(&planes, "/last").await;
    assert!(load.end().await > 100);
}

/// A control plane has no target itself, and tells its data planes.
#[tokio::test]
async fn the_health_of_targets_is_told_to_all_data_planes() {
    let (folder, echo) = (TempDir::new("control"), EchoServer::start("backend").await);
    let control = Control::start(&folder, "127.0.0.1:0", &[]);
    let checks = json!({"passive": {"unhealthy": {"tcp_failures": 1}}});
    assert_eq!(control.send("POST", "/upstreams", json!({"name": "up", "healthchecks": checks})).await.0, 201);
    let target = echo.address().to_string();
    assert_eq!(control.send("POST", "/upstreams/up/targets", json!({"target": target})).await.0, 201);
    control.add_route("orders", "http://up").await;
    let joining = token(&folder);
    let homes = [(); 2].map(|()| TempDir::new("data"));
    let planes = homes.each_ref().map(|home| Data::start(home, &control.cluster.to_string(), &["--set", &joining]));
    for (state, status) in [("unhealthy", 503), ("healthy", 200)] {
        for plane in &planes {
            plane.serves("/orders", if status == 503 { 200 } else { 503 }).await;
        }
        let mark = format!("/upstreams/up/targets/{target}/{state}");
        assert_eq!(control.send("PUT", &mark, Value::Null).await.0, 204);
        for plane in &planes {
            plane.serves("/orders", status).await;
        }
    }
    let nowhere = format!("/upstreams/up/targets/{target}/1.2.3/unhealthy");
    assert_eq!(control.send("PUT", &nowhere, Value::Null).await.0, 400);
    assert!(text(&folder, &["history"]).contains("target_health"));
}
