//! Handover of listening sockets from one process to its successor, so that no connection is refused in between.
//!
//! The serving process listens on a Unix socket in its data directory. A successor asks for copies of the sockets,
//! starts serving on them, and confirms that; then the old process drains. Until the confirmation nothing changes for
//! it. Of several successors one has its [`TakeoverLock`] at a time; the next one takes over from it.
//!
//! A process that would listen on other addresses is no successor: it was given the data directory by mistake, and does not
//! start. With `--takeover` it is one all the same.
//!
//! Start at [`offer`] (the serving side) and [`inherit`] (the successor's).

mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cardinal_engine::Handover;
use cardinal_ir::{Listener, ListenerKind};
use rustix::net::sockopt::socket_peercred;
use tokio::sync::mpsc::Sender;

use super::Event;
use super::signals::check_stop;
use wire::{Batch, Request};

const FILE: &str = "handover.sock";
/// For one message.
const PATIENCE: Duration = Duration::from_secs(10);
/// From the sockets to the word that they are served: a large configuration takes its time.
const START_MAX: Duration = Duration::from_secs(120);

const TAKEOVER_LOCK_FILE: &str = "handover.lock";
/// For another successor to end or to serve: it may be given as long as its predecessor gives it.
pub(super) const TAKEOVER_WAIT_MAX: Duration = START_MAX;
/// How often a successor that waits for the lock tries it.
const TAKEOVER_PAUSE: Duration = Duration::from_millis(50);
/// Number of attempts to get the sockets from the serving process.
const ATTEMPTS_MAX: usize = 5;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);

/// Listens for a successor from now on. A failure is logged, and no handover is possible.
pub(super) fn offer(data_dir: &Path, events: Sender<Event>) {
    let listen = || -> Result<()> {
        let listener = bind(data_dir)?;
        let listening = std::thread::Builder::new().name("hand-over".to_owned());
        listening.spawn(move || attend(&listener, &events))?;
        Ok(())
    };
    if let Err(error) = listen() {
        tracing::warn!("the listening sockets cannot be offered to a new process: {error:#}");
    }
}

/// Binds to a temporary name and renames it, so that a predecessor's socket is replaced in one step.
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
fn attend(listener: &UnixListener, events: &Sender<Event>) {
    loop {
        let result = listener.accept().context("accept").and_then(|(stream, _)| hand_over(&stream, events));
        match result {
            Ok(true) => return,
            Ok(false) => {}
            // The next successor must see that no process listens.
            Err(error) if error.is::<Ending>() => return,
            Err(error) => {
                tracing::warn!("socket handover failed, this process keeps serving: {error:#}");
                // Should accepting itself fail, then not in a busy loop.
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Gives a successor the sockets, and waits for its word. Whether it has taken over.
fn hand_over(stream: &UnixStream, events: &Sender<Event>) -> Result<bool> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let peer = socket_peercred(stream)?;
    let own = rustix::process::geteuid();
    ensure!(peer.uid == own || peer.uid.is_root(), "user {} may not take the sockets", peer.uid.as_raw());
    let pid = peer.pid.as_raw_nonzero().get();
    let mut sockets = None;
    loop {
        match wire::read_request(stream)? {
            Request::Take { from } => {
                if sockets.is_none() {
                    tracing::info!(pid, "process {pid} asks for the listening sockets");
                    sockets = Some(ask_for_sockets(events)?);
                }
                wire::send_batch(stream, sockets.as_deref().unwrap_or_default(), from)?;
                stream.set_read_timeout(Some(START_MAX))?;
            }
            Request::Ready => break,
            Request::Decline => {
                tracing::info!(pid, "process {pid} listens on other addresses and does not take over");
                return Ok(false);
            }
        }
    }
    ensure!(sockets.is_some(), "the new process took no sockets");
    events.blocking_send(Event::Succeeded).map_err(|_| Ending)?;
    Ok(true)
}

fn ask_for_sockets(events: &Sender<Event>) -> Result<Vec<Handover>> {
    let (reply, answer) = sync_channel(1);
    events.blocking_send(Event::Sockets(reply)).map_err(|_| Ending)?;
    match answer.recv_timeout(START_MAX) {
        Ok(sockets) => Ok(sockets?),
        Err(RecvTimeoutError::Disconnected) => Err(Ending.into()),
        Err(RecvTimeoutError::Timeout) => bail!("the process is busy"),
    }
}

/// The process acts on no events any more.
#[derive(Debug)]
struct Ending;

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the process is ending")
    }
}

impl std::error::Error for Ending {}

/// The right to take over. One process has it at a time, from before it asks for sockets until it listens for a
/// successor of its own, or ends.
#[derive(Debug)]
pub(super) struct TakeoverLock {
    /// Locked while it is open. The file is not removed: waiting processes have it open, too.
    _file: File,
}

impl TakeoverLock {
    /// Waits until no other process takes over, but not for ever.
    ///
    /// # Errors
    /// It takes another one too long, or there can be no lock.
    pub(super) fn wait(data_dir: &Path, patience: Duration) -> Result<Self> {
        let path = data_dir.join(TAKEOVER_LOCK_FILE);
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        // That of an earlier start can be locked on a file system that has become read-only.
        let open = open.or_else(|error| match error.kind() {
            ErrorKind::ReadOnlyFilesystem => File::open(&path),
            _ => Err(error),
        });
        let file = open.with_context(|| format!("cannot open {}", path.display()))?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
                Err(TryLockError::WouldBlock) => {}
            }
            if waited.is_zero() {
                tracing::info!("waiting for another process that is taking over in {}", data_dir.display());
            }
            ensure!(
                waited < patience,
                "another process has been taking over in {} for {} s and is not serving yet: stop it, or start this one \
                 later",
                data_dir.display(),
                patience.as_secs()
            );
            check_stop()?;
            std::thread::sleep(TAKEOVER_PAUSE);
            waited += TAKEOVER_PAUSE;
        }
    }
}

/// Who may be taken over from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Takeover {
    /// A process that listens on these addresses: it is replaced by another version of itself.
    Same(BTreeSet<Place>),
    /// Any process, because that was asked for (`--takeover`).
    Any,
}

/// Whether datagrams are received, and the address as it was configured.
pub(super) type Place = (bool, SocketAddr);

impl Takeover {
    /// From a process that listens on the addresses of these listeners.
    pub(super) fn of_same<'l>(listeners: impl IntoIterator<Item = &'l Listener>) -> Self {
        Self::Same(
            listeners.into_iter().map(|listener| (listener.kind == ListenerKind::Udp, listener.address)).collect(),
        )
    }

    /// Fails if a process that listens on these sockets may not be taken over from.
    fn check(&self, sockets: &[Handover], data_dir: &Path, pid: i32) -> Result<()> {
        let Self::Same(own) = self else { return Ok(()) };
        let theirs: BTreeSet<Place> = sockets.iter().map(|h| (h.kind == ListenerKind::Udp, h.address)).collect();
        ensure!(
            *own == theirs,
            "the data directory {} is in use by process {pid}, which listens on other addresses ({}) than this process \
             ({}): give each process its own directory with --data-dir, or replace process {pid} with --takeover",
            data_dir.display(),
            places_text(&theirs),
            places_text(own),
        );
        Ok(())
    }
}

fn places_text(places: &BTreeSet<Place>) -> String {
    let text = |(udp, address): &Place| format!("{address}{}", if *udp { " udp" } else { "" });
    if places.is_empty() { "none".to_owned() } else { places.iter().map(text).collect::<Vec<_>>().join(", ") }
}

/// Copies of the sockets of the process that serves, which waits for the confirmation; none if no process serves. To be
/// called by the holder of the [`TakeoverLock`]: then the serving process does not change, unless it ends.
///
/// # Errors
/// A process serves, but is not to be taken over from, or does not hand over its sockets. New sockets would make two
/// processes serve.
pub(super) fn inherit(data_dir: &Path, takeover: &Takeover) -> Result<(Vec<Handover>, Option<Predecessor>)> {
    let mut attempt = 1;
    loop {
        let Some(predecessor) = Predecessor::find(data_dir)? else { return Ok((Vec::new(), None)) };
        let pid = predecessor.pid();
        let error = match predecessor.take() {
            Ok((sockets, predecessor)) => {
                if let Err(error) = takeover.check(&sockets, data_dir, pid) {
                    predecessor.decline();
                    return Err(error);
                }
                tracing::info!(pid, "took over {} from process {pid}", crate::out::count(sockets.len(), "socket"));
                return Ok((sockets, Some(predecessor)));
            }
            Err(error) => error,
        };
        if attempt == ATTEMPTS_MAX {
            let dir = data_dir.display();
            return Err(error.context(format!(
                "process {pid}, which uses the data directory {dir}, does not hand over its sockets: stop it, or give this \
                 process its own directory with --data-dir"
            )));
        }
        tracing::warn!("socket handover failed, retrying: {error:#}");
        check_stop()?;
        std::thread::sleep(ATTEMPT_PAUSE);
        attempt += 1;
    }
}

/// The process that serves now.
#[derive(Debug)]
pub(super) struct Predecessor {
    stream: UnixStream,
}

impl Predecessor {
    /// One that listens in the data directory.
    fn find(data_dir: &Path) -> Result<Option<Self>> {
        match UnixStream::connect(place(data_dir)) {
            Ok(stream) => Ok(Some(Self { stream })),
            Err(error) => match error.kind() {
                // No file, or one that a process left behind, or a path that is too long: no process serves.
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::InvalidInput => Ok(None),
                _ => Err(error).context("cannot connect to the running process to take over its sockets"),
            },
        }
    }

    /// Copies of its listening sockets.
    fn take(self) -> Result<(Vec<Handover>, Self)> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        self.stream.set_write_timeout(Some(PATIENCE))?;
        let mut all = Vec::new();
        loop {
            wire::send_request(&self.stream, Request::Take { from: all.len() })?;
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
        Ok((all, self))
    }

    /// Its process; 0 if the system does not tell.
    fn pid(&self) -> i32 {
        socket_peercred(&self.stream).map_or(0, |peer| peer.pid.as_raw_nonzero().get())
    }

    /// Reports that it is not taken over from. It keeps serving in any case.
    fn decline(self) {
        wire::send_request(&self.stream, Request::Decline).ok();
    }

    /// Confirms that the sockets are served: the old process drains.
    pub(super) fn tell_ready(self) {
        match wire::send_request(&self.stream, Request::Ready) {
            Ok(()) => tracing::info!("the previous process is draining"),
            Err(error) => tracing::warn!("cannot tell the previous process to drain: {error:#}"),
        }
    }
}
