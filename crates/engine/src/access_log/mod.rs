//! [`AccessLog`]: one line of JSON for each exchange that is over, in the shape of log records, to a file; a few words
//! on a terminal.
//!
//! Whoever serves only makes the line and puts it into the bounded queue of a [`Sink`]: a slow disk slows no request
//! down.

mod brief;

use std::io::{self, IsTerminal as _};
use std::path::Path;

use cardinal_base::log::{Destination, FLUSH_TIMEOUT, Sink};
use cardinal_sdk::{LogCx, Services, log};

use crate::exchange::Scratch;

/// Room for a usual line.
const LINE_BYTES: usize = 2_048;

/// Where access records go. Clones write to the same place; it is closed with the last one.
#[derive(Clone, Debug)]
pub struct AccessLog {
    sink: Sink,
    /// People read it: a few words instead of a record.
    brief: bool,
}

impl AccessLog {
    /// Writes to a file, at its end, or to `/dev/stdout` or `/dev/stderr` whatever those are.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread cannot be started.
    pub fn open(path: &Path) -> io::Result<Self> {
        let brief = match path.to_str() {
            Some("/dev/stdout") => io::stdout().is_terminal(),
            Some("/dev/stderr") => io::stderr().is_terminal(),
            _ => false,
        };
        Ok(Self { sink: Sink::start(Destination::open(path)?, "access records")?, brief })
    }

    /// Notes an exchange that is over. `answered`: a response head was sent.
    pub(crate) fn write(&self, services: &Services, s: &Scratch, answered: bool) {
        let mut line = Vec::with_capacity(LINE_BYTES);
        let cx = LogCx {
            request: &s.request,
            response: answered.then_some(&s.response),
            exchange: &s.exchange,
            path: &s.path,
            services,
            // No filter's: there is no state to look at.
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

    /// Opens the file again, after it was moved away. Lines that were noted just before may still go to the old one;
    /// while the new one cannot be opened all do, and the reason is logged.
    pub fn reopen(&self) {
        self.sink.reopen();
    }

    /// Waits until everything noted so far is written: at most 5 seconds, and no longer than a second without progress;
    /// `false` when that was not enough. Blocks the thread: not for those who serve.
    pub fn flush(&self) -> bool {
        self.sink.flush(FLUSH_TIMEOUT)
    }

    /// Lines that did not fit or could not be written, since the start.
    pub fn dropped(&self) -> u64 {
        self.sink.dropped()
    }
}

#[cfg(test)]
mod tests;
