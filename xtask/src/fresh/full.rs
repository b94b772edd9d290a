//! The full form: runs the README's two commands, which build everything in the system.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use super::room::{Network, Room};
use super::{Times, copy_tree, stopwatch, succeed};

/// The ports of the quick start.
const PORTS: [u16; 5] = [8000, 8443, 8001, 8007, 9080];

/// Requests of the README's tour and their expected statuses.
const REQUESTS: [(u16, &str, &str); 5] = [
    (8000, "/hello", "200"),
    (8000, "/private", "401"),
    (8001, "/services/echo", "200"),
    (8007, "/status", "200"),
    (9080, "/", "200"),
];

/// Time limit for `make run` to build and start.
const START_MAX: Duration = Duration::from_secs(60 * 60);

/// Time limit for it to stop after Ctrl-C.
const STOP_MAX: Duration = Duration::from_secs(60);

/// The path of the source tree in the system.
const TREE: &str = "/root/cardinal";

pub(super) fn run(root: &Path, room: &Room, with_crates: bool, times: &mut Times) -> Result<bool> {
    for port in PORTS {
        // The commands download packages, so they use the network of this machine.
        ensure!(TcpListener::bind(address(port)).is_ok(), "port {port} of the quick start is taken on this machine");
    }
    copy_tree(root, &room.path(TREE))?;
    if with_crates {
        room.carry_in_crates()?;
    }
    let tree = Path::new(TREE);
    let shell = |text: &str| {
        let mut command = room.command(Network::Shared, tree, "/bin/sh");
        command.args(["-c", text]);
        command
    };
    // Prerequisites in the README except Rust.
    times.step("apt-get install make", || {
        succeed(&mut shell("apt-get update -qq && apt-get install -y -qq --no-install-recommends make"))
    })?;
    times.step("make run, until it answers, and Ctrl-C", || quick_start(room, tree))?;
    // All tools that tests need are installed by then.
    let test = "CARDINAL_REQUIRE_ALL=1 make test";
    times.step("make test", || Ok(shell(test).status().context("cannot run make test")?.success()))
}

/// Runs `make run` until the quick start responds, then stops it like Ctrl-C.
fn quick_start(room: &Room, tree: &Path) -> Result<()> {
    // A shell without job control starts its background jobs with SIGINT ignored, which children inherit.
    let mut command = room.command(Network::Shared, tree, "env");
    command.args(["--default-signal=INT", "make", "run"]).process_group(0);
    let mut child = command.spawn().context("cannot run make")?;
    let answered = wait_for_answers(&mut child);
    // In any case, no processes may be left.
    let ended = stop(&mut child);
    answered?;
    let status = ended?;
    println!("make run ended after Ctrl-C with {status}");
    for port in PORTS {
        ensure!(TcpListener::bind(address(port)).is_ok(), "after Ctrl-C, something still listens on port {port}");
    }
    Ok(())
}

fn wait_for_answers(child: &mut Child) -> Result<()> {
    let clock = stopwatch();
    while TcpStream::connect(address(PORTS[0])).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("make run ended by itself: {status}");
        }
        ensure!(clock() < START_MAX, "make run does not listen after {} s", START_MAX.as_secs());
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("the quick start listens after {} s", clock().as_secs());
    for port in PORTS {
        TcpStream::connect(address(port)).with_context(|| format!("port {port} of the quick start"))?;
    }
    for (port, path, expected) in REQUESTS {
        let status = status_of(port, path).with_context(|| format!("GET {path} on port {port}"))?;
        ensure!(status == expected, "GET {path} on port {port} answers {status}, not {expected}");
        println!("GET {path} on port {port}: {status}");
    }
    Ok(())
}

fn stop(child: &mut Child) -> Result<ExitStatus> {
    let group = Pid::from_child(child);
    let _sent = kill_process_group(group, Signal::INT);
    let clock = stopwatch();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if clock() > STOP_MAX {
            let _killed = kill_process_group(group, Signal::KILL);
            let _status = child.wait();
            bail!("make run did not end within {} s after Ctrl-C", STOP_MAX.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The status code of a GET request.
fn status_of(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address(port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let line = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
    line.split(' ').nth(1).map(str::to_owned).with_context(|| format!("no status in {line:?}"))
}
