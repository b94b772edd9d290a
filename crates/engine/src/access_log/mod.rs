//! [`AccessLog`]: one line of JSON for each exchange that is over, in the shape of log records, to a file; a few words
//! on a terminal.
//!
//! Whoever serves only makes the line and puts it into a bounded queue; a thread of its own writes. What does not fit
//! is dropped and counted: a slow disk slows no request down.

mod brief;
mod writer;

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use cardinal_base::{Clock as _, SystemClock};
use cardinal_sdk::{LogCx, log};

use crate::http::Scratch;
use crate::plan::Plan;
use writer::{Destination, Writer};

/// Lines that wait to be written.
const LINES_MAX: usize = 16_384;
/// Their bytes.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// For [`AccessLog::flush`].
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a full queue is looked at again by [`AccessLog::flush`].
const FLUSH_PERIOD: Duration = Duration::from_millis(5);
/// Room for a usual line.
const LINE_BYTES: usize = 2_048;

/// Where access records go. Clones write to the same place; it is closed with the last one.
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    sender: SyncSender<Message>,
    counts: Arc<Counts>,
    /// People read it: a few words instead of a record.
    brief: bool,
}

/// What both ends of the queue look at.
#[derive(Debug, Default)]
struct Counts {
    /// Bytes of the lines in the queue.
    bytes: AtomicUsize,
    /// Lines that did not fit or could not be written, since the start.
    dropped: AtomicU64,
    /// The file is to be opened anew.
    reopen: AtomicBool,
}

/// What the writer is told.
#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Something but the queue changed.
    Look,
    /// Say so when everything before this is written.
    Flush(SyncSender<()>),
}

impl AccessLog {
    /// Writes to a file, at its end, or to `/dev/stdout` or `/dev/stderr` whatever those are.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread cannot be started.
    pub fn open(path: &str) -> io::Result<Self> {
        let brief = match path {
            "/dev/stdout" => io::stdout().is_terminal(),
            "/dev/stderr" => io::stderr().is_terminal(),
            _ => false,
        };
        Self::to(Destination::open(path)?, brief)
    }

    fn to(destination: Destination, brief: bool) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(LINES_MAX);
        let counts = Arc::<Counts>::default();
        let writer = Writer::new(destination, receiver, Arc::clone(&counts));
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run())?;
        Ok(Self(Arc::new(Queue { sender, counts, brief })))
    }

    /// Notes an exchange that is over. `answered`: a response head was sent.
    pub(crate) fn write(&self, plan: &Plan, s: &Scratch, answered: bool) {
        let mut line = Vec::with_capacity(LINE_BYTES);
        let cx = LogCx {
            request: &s.request,
            response: answered.then_some(&s.response),
            exchange: &s.exchange,
            services: &plan.services,
            // No filter's: there is no state to look at.
            slot: usize::MAX,
        };
        if self.0.brief {
            brief::write(&cx, &mut line);
        } else {
            log::write(&cx, &mut line);
        }
        line.push(b'\n');
        self.push(line);
    }

    fn push(&self, line: Vec<u8>) {
        let counts = &self.0.counts;
        let size = line.len();
        let fits = counts.bytes.fetch_add(size, Ordering::Relaxed) + size <= BYTES_MAX;
        if !fits || self.0.sender.try_send(Message::Line(line)).is_err() {
            counts.bytes.fetch_sub(size, Ordering::Relaxed);
            counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew, for those who move it away. Lines that were noted just before may still go to the old one;
    /// when the new one cannot be opened all do, and the reason is logged.
    pub fn reopen(&self) {
        self.0.counts.reopen.store(true, Ordering::Release);
        // A queue that is full keeps the writer awake anyway.
        self.0.sender.try_send(Message::Look).ok();
    }

    /// Waits until everything noted so far is written, for 5 seconds at most; `false` when that was not enough. Blocks
    /// the thread: not for those who serve.
    pub fn flush(&self) -> bool {
        let clock = SystemClock::new();
        let (written, wait) = sync_channel(1);
        let mut message = Message::Flush(written);
        while let Err(TrySendError::Full(back)) = self.0.sender.try_send(message) {
            if clock.tick().millis() >= FLUSH_TIMEOUT.as_secs() * 1_000 {
                return false;
            }
            message = back;
            std::thread::sleep(FLUSH_PERIOD);
        }
        let spent = Duration::from_micros(clock.tick().0);
        wait.recv_timeout(FLUSH_TIMEOUT.saturating_sub(spent)).is_ok()
    }

    /// Lines that did not fit or could not be written, since the start.
    pub fn dropped(&self) -> u64 {
        self.0.counts.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
