//! `cardinal run`: the life of a node.
//!
//! One thread decides everything: it waits for an [`Event`] and handles it. Threads for signals, file changes and
//! successors only send events.

mod descriptors;
mod handover;
mod last_good;
mod logs;
mod node;
mod node_id;
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
use crate::config::{Refusal, Site};
use crate::out;

use node::Node;

pub(crate) use signals::stop_signal;

/// Files that change together have this long to become quiet.
const QUIET_MS: u64 = 200;
/// After so long they are read even if they never do.
const QUIET_MS_MAX: u64 = 1_000;
/// First and longest pause before a configuration that could not be read is read again.
const RETRY_MS_MIN: u64 = 200;
const RETRY_MS_MAX: u64 = 5_000;
/// Capacity of the event queue. Further events of the same kind are redundant.
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
    /// Graceful shutdown (SIGTERM, SIGINT).
    Stop,
    /// A successor requests copies of the listening sockets.
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
    node::warn_of_settings(&preferences.notes);
    let descriptors_max = descriptors::raise();
    let node = match Node::start(
        site,
        preferences,
        logs,
        node::Options { data_dir, strict, started, descriptors_max },
        events,
    ) {
        Ok(node) => node,
        Err(error) => {
            match error.downcast_ref::<Refusal>() {
                // With what was done about it before.
                Some(refusal) if error.chain().count() > 1 => {
                    node::log_refusal(&format!("not started: {error}"), refusal)
                }
                Some(refusal) => node::log_refusal("not started", refusal),
                None => tracing::error!("not started: {error:#}"),
            }
            return Ok(ExitCode::FAILURE);
        }
    };
    serve(node, received);
    Ok(ExitCode::SUCCESS)
}

/// Handles events until one of them ends the loop. While the node drains, events are rejected.
fn serve(mut node: Node, events: Receiver<Event>) {
    let end = act(&mut node, &events);
    drop(events);
    match end {
        End::Succeeded => node.give_way(),
        End::Asked => node.drain("stopping"),
        End::Alone => node.drain("internal error: the event threads have ended"),
    }
}

/// Why a node ends.
#[derive(Debug)]
enum End {
    /// A successor serves.
    Succeeded,
    /// A stop was requested.
    Asked,
    /// The threads that send events have ended, although they should run as long as the process.
    Alone,
}

/// Acts on events until one of them is the end.
fn act(node: &mut Node, events: &Receiver<Event>) -> End {
    let clock = SystemClock::new();
    let (mut quiet, mut retry) = (Quiet::default(), Backoff::default());
    loop {
        let now = clock.tick();
        let wait = quiet.wait_ms(now).into_iter().chain(retry.wait_ms(now)).min();
        match events.recv_timeout(wait.map_or(Duration::from_secs(3600), Duration::from_millis)) {
            Ok(Event::Reload) => {
                (quiet, retry) = (Quiet::default(), Backoff::default());
                let failed = node.reload(true);
                retry.note(failed, true, clock.tick());
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
                let failed = node.reload(retry.forced);
                retry.note(failed, retry.forced, clock.tick());
            }
            Err(RecvTimeoutError::Timeout) if retry.wait_ms(clock.tick()) == Some(0) => {
                let failed = node.reload(retry.forced);
                retry.note(failed, retry.forced, clock.tick());
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

/// When a configuration that could not be read is read again.
#[derive(Debug, Default)]
struct Backoff {
    at: Option<Tick>,
    delay_ms: u64,
    /// It is to be served whether it changed or not.
    forced: bool,
}

impl Backoff {
    /// Notes an attempt.
    fn note(&mut self, failed: bool, forced: bool, now: Tick) {
        if !failed {
            *self = Self::default();
            return;
        }
        self.delay_ms = (self.delay_ms * 2).clamp(RETRY_MS_MIN, RETRY_MS_MAX);
        (self.at, self.forced) = (Some(now.plus_millis(self.delay_ms)), forced);
    }

    fn wait_ms(&self, now: Tick) -> Option<u64> {
        // Rounded up, or the wait would end just before its time.
        self.at.map(|at| at.0.saturating_sub(now.0).div_ceil(1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_read_are_tried_again_at_growing_intervals() {
        let mut retry = Backoff::default();
        let now = Tick::from_millis(1_000);
        let mut waits = Vec::new();
        for _ in 0..8 {
            retry.note(true, true, now);
            waits.push(retry.wait_ms(now).unwrap());
        }
        assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
        assert_eq!((retry.wait_ms(Tick::from_millis(7_000)), retry.forced), (Some(0), true));
        retry.note(false, true, now);
        assert_eq!((retry.wait_ms(now), retry.forced), (None, false));
    }

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
