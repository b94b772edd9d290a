//! `cardinal run`: the life of a node.
//!
//! One thread decides everything: it waits for an [`Event`] or an update of the configuration, and handles it. Threads for
//! signals, file changes and successors only send events and requests.

mod cluster;
mod control;
mod data_dir;
mod descriptors;
mod file_source;
mod handover;
mod incomplete;
mod kept;
mod last_good_text;
mod listen_error;
mod log_level;
mod logs;
mod node;
mod node_id;
mod quiet;
mod secret_key;
mod signals;
mod source;
mod watch;
mod writable;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::mpsc::SyncSender;

use anyhow::{Context as _, Result};
use cardinal_engine::Handover;
use cardinal_sdk::PluginDef;
use tokio::sync::mpsc::{Receiver, channel};

use crate::args::RunArgs;
use crate::config::{Refusal, Site};
use crate::out;

use node::{Node, Senders};
use source::Source;

pub(crate) use signals::stop_signal;

/// Capacity of the queues of events and requests. Further ones of the same kind are redundant.
const EVENTS_MAX: usize = 64;

/// What the node reacts to.
#[derive(Debug)]
pub(crate) enum Event {
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
    let RunArgs { files, config, role, settings, data_dir, takeover, new_store, workers, .. } = args;
    let RunArgs { strict, writable, log_level, log_format, access_log, .. } = args;
    let mut site = Site::new(plugins, [files, config].concat(), settings, env);
    if let Some(role) = role {
        site.set("role", role.setting());
    }
    if let Some(workers) = workers {
        site.set("nginx_worker_processes", workers.to_string());
    }
    if let Some(level) = log_level {
        site.set("log_level", level);
    }
    if let Some(path) = access_log {
        site.set("proxy_access_log", path);
    }
    let (events, received) = channel(EVENTS_MAX);
    let (requests, requested) = channel(EVENTS_MAX);
    let senders = Senders { events, requests };
    signals::listen(senders.clone())?;
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
    let (node, source) = match Node::start(
        site,
        preferences,
        logs,
        node::Options { data_dir, takeover, new_store, strict, writable, started, descriptors_max },
        (senders, requested),
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
    serve(node, source, received)?;
    Ok(ExitCode::SUCCESS)
}

/// Handles events until one of them ends the loop. While the node drains, events are rejected.
fn serve(node: Node, source: Source, events: Receiver<Event>) -> Result<()> {
    let acting = act(&node, source, events);
    // The source and the receiver are gone afterwards.
    let end = match node.runtime() {
        Some(runtime) => runtime.block_on(acting),
        None => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.context("the main thread")?.block_on(acting)
        }
    };
    match end {
        End::Succeeded => node.give_way(),
        End::Asked => node.drain("stopping"),
        End::Alone => node.drain("internal error: the event threads have ended"),
    }
    Ok(())
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

/// Follows the source of the configuration, and acts on events until one of them is the end. Both happen on this thread,
/// one after the other.
async fn act(node: &Node, mut source: Source, mut events: Receiver<Event>) -> End {
    let mut following = std::pin::pin!(node.follow(&mut source));
    loop {
        let event = tokio::select! {
            biased;
            event = events.recv() => event,
            () = &mut following => None,
        };
        match event {
            Some(Event::ReopenLogs) => node.reopen_logs(),
            Some(Event::Sockets(reply)) => {
                // A successor that went away meanwhile needs no answer.
                reply.try_send(node.sockets()).ok();
            }
            Some(Event::Stop) => return End::Asked,
            Some(Event::Succeeded) => return End::Succeeded,
            None => return End::Alone,
        }
    }
}
