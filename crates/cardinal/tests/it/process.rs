//! The binary as a process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use cardinal_testkit::{PATIENCE, until_some_blocking};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The binary, with an environment of its own. Nodes have no Admin API unless they are told to: all of them would have the
/// same address.
pub(crate) fn cardinal() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardinal"));
    command.env_clear().env("KONG_ADMIN_LISTEN", "off").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn output(args: &[&str]) -> Output {
    cardinal().args(args).output().expect("the binary runs")
}

/// Standard output of a command that must succeed.
pub(crate) fn stdout(args: &[&str]) -> String {
    let output = output(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{args:?}: {}\n{}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// `cardinal run` as a process. Dropping it ends the process, by its id.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    /// Starts a node that listens on ports of the system's choice.
    pub(crate) fn run(config: &Path, more: &[&str]) -> Self {
        let config = config.display().to_string();
        let mut command = cardinal();
        command.args(["run", "--config", &config, "--workers", "2", "--access-log", "off"]);
        command.args(["--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=off"]).args(more);
        Self::start(command)
    }

    /// Starts a command that logs.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary runs");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, seen: Vec::new() }
    }

    /// Starts a command whose log is not read here.
    pub(crate) fn unread(mut command: Command) -> Self {
        let child = command.spawn().expect("the binary runs");
        Self { child, lines: channel().1, seen: Vec::new() }
    }

    /// Waits for a log line that contains `text`, and gives its message.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_line(text).0
    }

    /// Waits for a log line whose message contains `text`, and gives the message and the whole line.
    pub(crate) fn wait_for_line(&mut self, text: &str) -> (String, Value) {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line with {text:?}, but:\n{}", self.seen.join("\n"));
            };
            let json: Option<Value> = serde_json::from_str(&line).ok();
            let message = json.as_ref().and_then(|json| json["message"].as_str()).unwrap_or(&line).to_owned();
            self.seen.push(message.clone());
            if message.contains(text) {
                return (message, json.unwrap_or_default());
            }
        }
    }

    /// What was logged up to the line that was waited for last.
    pub(crate) fn seen(&self) -> &[String] {
        &self.seen
    }

    /// Where it listens, once it does.
    pub(crate) fn address(&mut self) -> SocketAddr {
        let line = self.wait_for("listening on ");
        let at = line.split_whitespace().nth(2).and_then(|at| at.parse().ok());
        at.unwrap_or_else(|| panic!("no address in {line:?}"))
    }

    /// Where it listens for traffic, and for status or Admin API requests, once it does.
    pub(crate) fn addresses(&mut self) -> (SocketAddr, SocketAddr) {
        let mut lines = [self.wait_for("listening on "), self.wait_for("listening on ")];
        lines.sort_by_key(|line| line.contains("(status") || line.contains("(admin"));
        let [proxy, status] = lines.map(|line| line.split_whitespace().nth(2).and_then(|at| at.parse().ok()));
        proxy.zip(status).expect("lines have addresses")
    }

    /// Nobody reads the log any more.
    pub(crate) fn close_log(&mut self) {
        // The thread that reads ends with the next line that it cannot pass on, and the pipe with it.
        self.lines = channel().1;
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Whether it has ended by now.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is a child").is_some()
    }

    /// Waits for its end.
    pub(crate) fn ends(&mut self) -> ExitStatus {
        let ended = || self.child.try_wait().expect("it is a child");
        until_some_blocking("the process to end", ended).expect("the process ends")
    }

    /// Sends a signal again and again: the node takes those that come together for one.
    pub(crate) fn signal_until_it_ends(&mut self, signal: Signal) {
        let ended = || {
            self.signal(signal);
            self.has_ended().then_some(())
        };
        until_some_blocking("the process to end", ended).expect("the process ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
