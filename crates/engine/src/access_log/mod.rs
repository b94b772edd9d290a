//! [`AccessLog`]: writes one line per finished exchange: JSON in the shape of log records to a file, or a short form to
//! a terminal.
//!
//! Worker threads only format the line and push it into the bounded queue of a [`Sink`], so that a slow disk does not
//! slow down requests.

mod brief;

use std::io::{self, IsTerminal as _};
use std::path::Path;

use cardinal_base::log::{Destination, FLUSH_TIMEOUT, Sink};
use cardinal_sdk::{LogCx, Services, log};

use crate::exchange::Scratch;

/// Capacity for a line of usual length.
const LINE_BYTES: usize = 2_048;

/// The destination of access records. Clones write to the same destination; it is closed with the last clone.
#[derive(Clone, Debug)]
pub struct AccessLog {
    sink: Sink,
    /// Write the short form, for people, instead of a JSON record.
    brief: bool,
}

impl AccessLog {
    /// Appends to a file, or writes to `/dev/stdout` or `/dev/stderr`, whatever kind of file these are.
    ///
    /// # Errors
    /// If the file cannot be opened or the thread cannot be started.
    pub fn open(path: &Path) -> io::Result<Self> {
        let brief = match path.to_str() {
            Some("/dev/stdout") => io::stdout().is_terminal(),
            Some("/dev/stderr") => io::stderr().is_terminal(),
            _ => false,
        };
        Ok(Self { sink: Sink::start(Destination::open(path)?, "access records")?, brief })
    }

    /// Records a finished exchange. `answered`: a response head was sent.
    pub(crate) fn write(&self, services: &Services, s: &Scratch, answered: bool) {
        let mut line = Vec::with_capacity(LINE_BYTES);
        let cx = LogCx {
            request: &s.request,
            response: answered.then_some(&s.response),
            exchange: &s.exchange,
            path: &s.path,
            services,
            // No filter: there is no filter state to read.
            slot: usize::MAX,
        };
        if self.brief {
            brief::write(&cx, &mut line);
        } else {
            log::write(&cx, &mut line);
        }
        line.push(b'\n');
        self.sink.push(line);
    }

    /// Reopens the file, for log rotation. Lines that were queued just before may still go to the old file. If the new
    /// file cannot be opened, all lines go to the old file, and the reason is logged.
    pub fn reopen(&self) {
        self.sink.reopen();
    }

    /// Waits until all queued lines are written: at most 5 seconds, and at most one second without progress; returns
    /// `false` if lines remain. Blocks the thread, so workers must not call it.
    pub fn flush(&self) -> bool {
        self.sink.flush(FLUSH_TIMEOUT)
    }

    /// Number of lines since the start that were dropped because the queue was full or writing failed.
    pub fn dropped(&self) -> u64 {
        self.sink.dropped()
    }
}

#[cfg(test)]
mod tests;
