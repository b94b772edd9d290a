//! The thread that writes.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::{Counts, Destination, Message};
use crate::{Clock as _, SystemClock, Tick};

/// Lines are written together up to about so many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// Dropped lines are reported at most this often, in milliseconds.
const REPORT_PERIOD_MS: u64 = 10_000;
/// How often a file that cannot be opened again is tried.
const REOPEN_PERIOD: Duration = Duration::from_millis(500);
/// Pause before another write to a descriptor that somebody made non-blocking and that takes nothing now.
const RETRY_PERIOD: Duration = Duration::from_millis(10);

/// The thread that writes.
pub(super) struct Writer {
    destination: Destination,
    receiver: Receiver<Message>,
    counts: Arc<Counts>,
    what: &'static str,
    clock: SystemClock,
    batch: Vec<u8>,
    batch_lines: u64,
    /// The last write ended within a line.
    torn: bool,
    /// When dropped lines were reported last, and how many.
    reported: Option<Tick>,
    reported_dropped: u64,
    error: Option<io::Error>,
    /// When it was reported last that the file cannot be opened again.
    reopen_reported: Option<Tick>,
}

impl Writer {
    pub(super) fn new(
        destination: Destination,
        receiver: Receiver<Message>,
        counts: Arc<Counts>,
        what: &'static str,
    ) -> Self {
        Self {
            destination,
            receiver,
            counts,
            what,
            clock: SystemClock::new(),
            batch: Vec::new(),
            batch_lines: 0,
            torn: false,
            reported: None,
            reported_dropped: 0,
            error: None,
            reopen_reported: None,
        }
    }

    /// Writes until the last sender is dropped.
    pub(super) fn run(mut self) {
        loop {
            let reopening = self.counts.reopen.load(Ordering::Acquire);
            let wait = if reopening { REOPEN_PERIOD } else { Duration::from_millis(REPORT_PERIOD_MS) };
            match self.receiver.recv_timeout(wait) {
                Ok(first) => self.take(first),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return self.report(true),
            }
        }
    }

    /// Takes a message and those that wait behind it, and writes.
    fn take(&mut self, first: Message) {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    self.counts.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                    self.batch.extend_from_slice(&line);
                    self.batch_lines += 1;
                }
                Message::Look => {
                    self.write();
                    self.look();
                }
                Message::Flush(written) => {
                    self.write();
                    // The caller may have timed out.
                    written.try_send(()).ok();
                }
            }
            next = if self.batch.len() < BATCH_BYTES { self.receiver.try_recv().ok() } else { None };
        }
        self.write();
        self.look();
    }

    fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if std::mem::take(&mut self.torn) {
            self.batch.insert(0, b'\n');
        }
        let mut written = 0;
        if let Err(error) = self.write_batch(&mut written) {
            self.torn = self.batch.get(..written).and_then(<[u8]>::last).is_some_and(|byte| *byte != b'\n');
            self.counts.dropped.fetch_add(self.batch_lines, Ordering::Relaxed);
            self.error = Some(error);
        }
        self.batch_lines = 0;
        self.batch.clear();
        self.batch.shrink_to(2 * BATCH_BYTES);
    }

    fn write_batch(&mut self, written: &mut usize) -> io::Result<()> {
        while let Some(rest) = self.batch.get(*written..).filter(|rest| !rest.is_empty()) {
            match self.destination.out.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.counts.written.fetch_add(1, Ordering::Relaxed);
                    *written += count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_PERIOD),
                Err(error) => return Err(error),
            }
        }
        self.destination.out.flush()
    }

    /// Handles requests other than lines: reopen and flush.
    fn look(&mut self) {
        if self.counts.reopen.swap(false, Ordering::Acquire)
            && let Err(error) = self.destination.reopen()
        {
            // Until it succeeds, or is requested again.
            self.counts.reopen.store(true, Ordering::Release);
            let now = self.clock.tick();
            if self.reopen_reported.is_none_or(|at| now.millis_since(at) >= REPORT_PERIOD_MS) {
                self.reopen_reported = Some(now);
                let path = self.destination.path().unwrap_or("".as_ref()).display().to_string();
                tracing::error!(path, %error, "cannot reopen the file for {}; retrying", self.what);
            }
        }
        self.report(false);
    }

    /// Reports dropped lines, not too often.
    fn report(&mut self, last: bool) {
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        let now = self.clock.tick();
        let early = self.reported.is_some_and(|at| now.millis_since(at) < REPORT_PERIOD_MS);
        if dropped == self.reported_dropped || (early && !last) {
            return;
        }
        let count = dropped - self.reported_dropped;
        match self.error.take() {
            Some(error) => tracing::error!(dropped = count, %error, "{count} {} could not be written", self.what),
            None => tracing::warn!(
                dropped = count,
                "{count} {} were dropped: the destination did not take them in time",
                self.what
            ),
        }
        (self.reported, self.reported_dropped) = (Some(now), dropped);
    }
}
