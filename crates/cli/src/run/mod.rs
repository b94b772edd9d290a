//! `cardinal run`: a node, from its first line to its last.
//!
//! One thread decides everything: it waits for an [`Event`] and acts on it. Signals, file changes and a successor's
//! wishes come from threads of their own that do nothing but tell.

mod descriptors;
mod handover;
mod last_good;
mod logs;
mod node;
mod signals;
mod watch;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Result;
use cardinal_base::{Clock as _, SystemClock, Tick};
use cardinal_engine::Handover;
use cardinal_sdk::PluginDef;

use crate::args::RunArgs;
use crate::config::Site;
use crate::out;

use node::Node;

pub(crate) use signals::stop_signal;

/// Files that change together have this long to become quiet.
const QUIET_MS: u64 = 200;
/// After so long they are read even if they never do.
const QUIET_MS_MAX: u64 = 1_000;
/// Events that wait. More of one kind say nothing more.
const EVENTS_MAX: usize = 64;

/// What the node reacts to.
#[derive(Debug)]
pub(crate) enum Event {
    /// Read everything again (SIGHUP).
    Reload,
    /// Files may have changed.
    FilesChanged,
    /// Open log files anew (SIGUSR1).
    ReopenLogs,
    /// End after the requests under way (SIGTERM, SIGINT).
    Stop,
    /// A successor wants copies of the listening sockets.
    Sockets(SyncSender<std::io::Result<Vec<Handover>>>),
    /// The successor serves.
    Succeeded,
}

pub(crate) fn run(
    args: RunArgs,
    plugins: &'static [&'static PluginDef],
    started: crate::Started,
    env: BTreeMap<String, String>,
) -> Result<ExitCode> {
    let RunArgs { files, config, settings, data_dir, workers, strict, log_level, log_format, access_log } = args;
    let mut site = Site::new(plugins, [files, config].concat(), settings, env);
    if let Some(workers) = workers {
        site.set("nginx_worker_processes", workers.to_string());
    }
    if let Some(level) = log_level {
        site.set("log_level", level);
    }
    if let Some(path) = access_log {
        site.set("proxy_access_log", path);
    }
    let (events, received) = sync_channel(EVENTS_MAX);
    signals::listen(events.clone())?;
    let preferences = match site.settings() {
        Ok(preferences) => preferences,
        Err(refusal) => {
            out::complain(&refusal.render());
            return Ok(ExitCode::FAILURE);
        }
    };
    let logs = logs::Logs::open(&preferences.settings, log_format.into())?;
    for note in &preferences.notes {
        tracing::warn!("setting {note}");
    }
    descriptors::raise(preferences.settings.node.limits.connections_max);
    let node = match Node::start(site, preferences, logs, node::Options { data_dir, strict, started }, events) {
        Ok(node) => node,
        Err(error) => {
            tracing::error!("not started: {error:#}");
            return Ok(ExitCode::FAILURE);
        }
    };
    serve(node, received);
    Ok(ExitCode::SUCCESS)
}

/// Acts on events until one of them is the end. While the node drains nobody acts on them, and who sends some is told.
fn serve(mut node: Node, events: Receiver<Event>) {
    let end = act(&mut node, &events);
    drop(events);
    match end {
        End::Succeeded => node.give_way(),
        End::Asked => node.drain("stopping"),
        End::Alone => node.drain("nobody tells what to do"),
    }
}

/// Why a node ends.
#[derive(Debug)]
enum End {
    /// A successor serves.
    Succeeded,
    /// It was asked to.
    Asked,
    /// The threads that tell have gone, though they live as long as the process.
    Alone,
}

/// Acts on events until one of them is the end.
fn act(node: &mut Node, events: &Receiver<Event>) -> End {
    let clock = SystemClock::new();
    let mut quiet = Quiet::default();
    loop {
        let wait = quiet.wait_ms(clock.tick()).map_or(Duration::from_secs(3600), Duration::from_millis);
        match events.recv_timeout(wait) {
            Ok(Event::Reload) => {
                quiet = Quiet::default();
                node.reload(true);
            }
            Ok(Event::FilesChanged) => quiet.disturb(clock.tick()),
            Ok(Event::ReopenLogs) => node.reopen_logs(),
            Ok(Event::Sockets(reply)) => {
                // A successor that went away meanwhile needs no answer.
                reply.try_send(node.sockets()).ok();
            }
            Ok(Event::Stop) => return End::Asked,
            Ok(Event::Succeeded) => return End::Succeeded,
            Err(RecvTimeoutError::Timeout) if quiet.is_over(clock.tick()) => {
                quiet = Quiet::default();
                node.reload(false);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return End::Alone,
        }
    }
}

/// When files that change have become quiet.
#[derive(Debug, Default)]
struct Quiet {
    first: Option<Tick>,
    last: Option<Tick>,
}

impl Quiet {
    fn disturb(&mut self, now: Tick) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    fn wait_ms(&self, now: Tick) -> Option<u64> {
        let (first, last) = (self.first?, self.last?);
        let quiet = QUIET_MS.saturating_sub(now.millis_since(last));
        Some(quiet.min(QUIET_MS_MAX.saturating_sub(now.millis_since(first))))
    }

    fn is_over(&self, now: Tick) -> bool {
        self.wait_ms(now) == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_changes_is_one_change() {
        let mut quiet = Quiet::default();
        assert_eq!(quiet.wait_ms(Tick::from_millis(0)), None);
        quiet.disturb(Tick::from_millis(1_000));
        assert_eq!(quiet.wait_ms(Tick::from_millis(1_050)), Some(150));
        quiet.disturb(Tick::from_millis(1_150));
        assert_eq!(quiet.wait_ms(Tick::from_millis(1_200)), Some(150));
        assert!(quiet.is_over(Tick::from_millis(1_350)));
    }

    #[test]
    fn changes_that_never_end_are_looked_at_all_the_same() {
        let mut quiet = Quiet::default();
        for at in (0..=990).step_by(10) {
            quiet.disturb(Tick::from_millis(at));
            assert!(!quiet.is_over(Tick::from_millis(at)), "{at}");
        }
        assert!(quiet.is_over(Tick::from_millis(1_000)));
    }
}
