//! The thread that writes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use cardinal_base::{Clock, SystemClock, Tick};

use super::{Counts, Message};

/// Lines are written together up to about so many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// How often trouble is told at most, in milliseconds.
const REPORT_PERIOD_MS: u64 = 10_000;

/// Where lines go.
pub(super) struct Destination {
    out: Box<dyn Write + Send>,
    /// The file, where there is one to open anew.
    path: Option<PathBuf>,
}

impl Destination {
    pub(super) fn open(path: &str) -> io::Result<Self> {
        // These are opened by descriptor: a path to a socket or a closed terminal cannot be.
        let descriptor = match path {
            "/dev/stdout" => io::stdout().as_fd().try_clone_to_owned()?,
            "/dev/stderr" => io::stderr().as_fd().try_clone_to_owned()?,
            path => return Ok(Self { out: Box::new(open(path.as_ref())?), path: Some(path.into()) }),
        };
        Ok(Self { out: Box::new(File::from(descriptor)), path: None })
    }

    #[cfg(test)]
    pub(super) fn of(out: impl Write + Send + 'static) -> Self {
        Self { out: Box::new(out), path: None }
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// The thread that writes.
pub(super) struct Writer {
    destination: Destination,
    receiver: Receiver<Message>,
    counts: Arc<Counts>,
    clock: SystemClock,
    batch: Vec<u8>,
    batch_lines: u64,
    /// When trouble was told last, and how much of it.
    reported: Option<Tick>,
    reported_dropped: u64,
    error: Option<io::Error>,
}

impl Writer {
    pub(super) fn new(destination: Destination, receiver: Receiver<Message>, counts: Arc<Counts>) -> Self {
        Self {
            destination,
            receiver,
            counts,
            clock: SystemClock::new(),
            batch: Vec::new(),
            batch_lines: 0,
            reported: None,
            reported_dropped: 0,
            error: None,
        }
    }

    /// Writes until nobody can send any more.
    pub(super) fn run(mut self) {
        loop {
            match self.receiver.recv_timeout(Duration::from_millis(REPORT_PERIOD_MS)) {
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
                    // Whoever asked may have given up.
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
        let result = self.destination.out.write_all(&self.batch).and_then(|()| self.destination.out.flush());
        if let Err(error) = result {
            self.counts.dropped.fetch_add(self.batch_lines, Ordering::Relaxed);
            self.error = Some(error);
        }
        self.batch_lines = 0;
        self.batch.clear();
        self.batch.shrink_to(2 * BATCH_BYTES);
    }

    /// Does what is asked for beside the queue.
    fn look(&mut self) {
        if self.counts.reopen.swap(false, Ordering::Acquire)
            && let Some(path) = &self.destination.path
        {
            match open(path) {
                Ok(file) => self.destination.out = Box::new(file),
                Err(error) => tracing::error!(path = %path.display(), %error, "the access log cannot be opened anew"),
            }
        }
        self.report(false);
    }

    /// Tells of trouble, not too often.
    fn report(&mut self, last: bool) {
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        let now = self.clock.tick();
        let early = self.reported.is_some_and(|at| now.millis_since(at) < REPORT_PERIOD_MS);
        if dropped == self.reported_dropped || (early && !last) {
            return;
        }
        let count = dropped - self.reported_dropped;
        match self.error.take() {
            Some(error) => tracing::error!(dropped = count, %error, "access records cannot be written"),
            None => {
                tracing::warn!(dropped = count, "access records were dropped: they come faster than they are written")
            }
        }
        (self.reported, self.reported_dropped) = (Some(now), dropped);
    }
}
