//! [`Sink`]: lines on their way to a file, a pipe or a terminal, through a bounded queue and a thread of its own.
//!
//! [`Sink::push`] never blocks and never waits for the destination: a line that does not fit into the queue is dropped
//! and counted. All logs of the node are written this way, so that a destination without a reader, a full disk or a
//! hung mount cannot block the worker or control threads.

mod destination;
mod writer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::{Clock as _, SystemClock, Tick};

pub use destination::{Destination, open_append};
use writer::Writer;

/// Lines that wait to be written.
const LINES_MAX: usize = 16_384;
/// Bytes of the lines that wait to be written.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest time that [`Sink::flush`] waits.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// [`Sink::flush`] gives up a destination that has taken nothing for so long.
const STALL_MS: u64 = 1_000;
/// How often [`Sink::flush`] checks the state of the queue.
const FLUSH_PERIOD: Duration = Duration::from_millis(10);

/// The sending side of a log. Clones write to the same destination, which is closed with the last of them.
#[derive(Clone, Debug)]
pub struct Sink {
    sender: SyncSender<Message>,
    counts: Arc<Counts>,
}

/// State that both ends of the queue share.
#[derive(Debug, Default)]
struct Counts {
    /// Bytes of the lines in the queue.
    bytes: AtomicUsize,
    /// Lines that did not fit or could not be written, since the start.
    dropped: AtomicU64,
    /// Writes that the destination has taken, since the start.
    written: AtomicU64,
    /// The destination is to be opened again.
    reopen: AtomicBool,
}

/// A message to the writer.
#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Something other than the queue changed.
    Look,
    /// Confirm when everything before this is written.
    Flush(SyncSender<()>),
}

impl Sink {
    /// Starts the thread that writes. `what` names the lines in log messages about them: `access records`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(destination: Destination, what: &'static str) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(LINES_MAX);
        let counts = Arc::<Counts>::default();
        let writer = Writer::new(destination, receiver, Arc::clone(&counts), what);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.run())?;
        Ok(Self { sender, counts })
    }

    /// Adds a line, which ends with a line feed. Never blocks.
    pub fn push(&self, line: Vec<u8>) {
        let counts = &self.counts;
        let size = line.len();
        let fits = counts.bytes.fetch_add(size, Ordering::Relaxed) + size <= BYTES_MAX;
        if !fits || self.sender.try_send(Message::Line(line)).is_err() {
            counts.bytes.fetch_sub(size, Ordering::Relaxed);
            counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file again, after it was moved away. It is done by the thread that writes: lines that were pushed just
    /// before may still go to the old file, and so do all lines for as long as the new one cannot be opened.
    pub fn reopen(&self) {
        self.counts.reopen.store(true, Ordering::Release);
        // A full queue keeps the writer awake anyway.
        self.sender.try_send(Message::Look).ok();
    }

    /// Waits until everything pushed so far is written: at most `timeout`, and no longer than a second without
    /// progress. `false` when that was not enough. Blocks the calling thread.
    pub fn flush(&self, timeout: Duration) -> bool {
        let clock = SystemClock::new();
        let (written, confirmed) = sync_channel(1);
        let mut message = Some(Message::Flush(written));
        let (mut progress, mut progressed) = (self.counts.written.load(Ordering::Relaxed), Tick(0));
        loop {
            if let Some(unsent) = message.take() {
                match self.sender.try_send(unsent) {
                    Ok(()) => {}
                    Err(TrySendError::Full(back)) => message = Some(back),
                    Err(TrySendError::Disconnected(_)) => return false,
                }
            }
            match wait(&confirmed, message.is_none()) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let (now, written) = (clock.tick(), self.counts.written.load(Ordering::Relaxed));
            if written != progress {
                (progress, progressed) = (written, now);
            }
            if now.since(Tick(0)) >= timeout || now.millis_since(progressed) >= STALL_MS {
                return false;
            }
        }
    }

    /// Lines that did not fit or could not be written, since the start.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

/// Waits briefly for the confirmation of a flush that was requested already.
fn wait(confirmed: &Receiver<()>, asked: bool) -> Result<(), RecvTimeoutError> {
    if asked {
        return confirmed.recv_timeout(FLUSH_PERIOD);
    }
    std::thread::sleep(FLUSH_PERIOD);
    Err(RecvTimeoutError::Timeout)
}

#[cfg(test)]
mod tests;
