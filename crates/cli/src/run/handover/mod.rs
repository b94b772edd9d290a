//! Listening sockets on their way from one process to its successor, so that no connection is refused in between.
//!
//! The serving process listens on a Unix socket in its data directory. A successor asks for copies of the sockets,
//! starts serving on them, and says so; then the old process drains. Until that word nothing changes for the old one.
//!
//! Start at [`offer`] (the serving side) and [`Predecessor`] (the successor's).

mod wire;

#[cfg(test)]
mod tests;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cardinal_engine::Handover;
use rustix::net::sockopt::socket_peercred;

use super::Event;
use wire::{Batch, Wish};

const FILE: &str = "handover.sock";
/// For one message.
const PATIENCE: Duration = Duration::from_secs(10);
/// From the sockets to the word that they are served: a large configuration takes its time.
const START_MAX: Duration = Duration::from_secs(120);

/// Listens for a successor from now on. When that is not possible, it is said, and nothing is handed over.
pub(super) fn offer(data_dir: &Path, events: SyncSender<Event>) {
    let listen = || -> Result<()> {
        let listener = bind(data_dir)?;
        let listening = std::thread::Builder::new().name("hand-over".to_owned());
        listening.spawn(move || attend(&listener, &events))?;
        Ok(())
    };
    if let Err(error) = listen() {
        tracing::warn!("sockets cannot be handed over to a successor: {error:#}");
    }
}

/// Binds beside the place and moves there, so that a predecessor's socket is replaced in one step.
fn bind(data_dir: &Path) -> Result<UnixListener> {
    let path = place(data_dir);
    let draft = data_dir.join(format!("{FILE}.{}", std::process::id()));
    fs::remove_file(&draft).ok();
    let listener = UnixListener::bind(&draft).with_context(|| format!("cannot listen on {}", draft.display()))?;
    // The data directory is closed to others, too, but it may have been made by someone else.
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))?;
    fs::rename(&draft, &path).with_context(|| format!("cannot listen on {}", path.display()))?;
    Ok(listener)
}

fn place(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

/// Serves successors, one after the other, until one of them has taken over.
fn attend(listener: &UnixListener, events: &SyncSender<Event>) {
    loop {
        let result = listener.accept().context("accept").and_then(|(stream, _)| hand_over(&stream, events));
        match result {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!("the hand-over did not happen, this process goes on: {error:#}");
                // Should accepting itself fail, then not in a busy loop.
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Gives a successor the sockets, and waits for its word.
fn hand_over(stream: &UnixStream, events: &SyncSender<Event>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let peer = socket_peercred(stream)?;
    let own = rustix::process::geteuid();
    ensure!(peer.uid == own || peer.uid.is_root(), "user {} may not take the sockets", peer.uid.as_raw());
    let mut sockets = None;
    while let Wish::Take { from } = wire::read_wish(stream)? {
        if sockets.is_none() {
            tracing::info!(pid = peer.pid.as_raw_nonzero().get(), "a successor takes the sockets");
            sockets = Some(ask_for_sockets(events)?);
        }
        wire::send_batch(stream, sockets.as_deref().unwrap_or_default(), from)?;
        stream.set_read_timeout(Some(START_MAX))?;
    }
    ensure!(sockets.is_some(), "the successor took no sockets");
    events.send(Event::Succeeded).context("the process is ending")
}

fn ask_for_sockets(events: &SyncSender<Event>) -> Result<Vec<Handover>> {
    let (reply, answer) = sync_channel(1);
    events.send(Event::Sockets(reply)).context("the process is ending")?;
    Ok(answer.recv_timeout(START_MAX).context("the process is busy")??)
}

/// The process that serves now.
#[derive(Debug)]
pub(super) struct Predecessor {
    stream: UnixStream,
}

impl Predecessor {
    /// One that listens in the data directory.
    pub(super) fn find(data_dir: &Path) -> Option<Self> {
        // No file, or one that a process left behind: nobody serves.
        let stream = UnixStream::connect(place(data_dir)).ok()?;
        Some(Self { stream })
    }

    /// Copies of its listening sockets.
    pub(super) fn take(self) -> Result<(Vec<Handover>, Self)> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        self.stream.set_write_timeout(Some(PATIENCE))?;
        let mut all = Vec::new();
        loop {
            wire::send_wish(&self.stream, Wish::Take { from: all.len() })?;
            let Batch { total, sockets } = wire::read_batch(&self.stream)?;
            let got = sockets.len();
            all.extend(sockets);
            if all.len() >= total {
                break;
            }
            if got == 0 {
                bail!("only {} of {total} sockets came", all.len());
            }
        }
        tracing::info!("{} taken over", crate::out::count(all.len(), "socket"));
        Ok((all, self))
    }

    /// Says that its sockets are served: it drains.
    pub(super) fn tell_ready(self) {
        match wire::send_wish(&self.stream, Wish::Ready) {
            Ok(()) => tracing::info!("the predecessor drains"),
            Err(error) => tracing::warn!("the predecessor could not be told to drain: {error:#}"),
        }
    }
}
