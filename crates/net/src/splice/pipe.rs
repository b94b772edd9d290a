//! [`Pipe`]: the pipe between two sockets. A thread lends a limited number of pipes, and keeps a few for reuse.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Maximum number of pipes lent at a time; further users read and write instead. Each needs two descriptors.
pub(super) const LENT_MAX: usize = 32;

/// Maximum number of pipes that a thread keeps.
pub(super) const KEPT: usize = 8;

/// Capacity of a pipe in bytes if all pages were full. Each fragment of a packet occupies a page slot regardless of its
/// size, so much less data may fill the pipe.
const SIZE: usize = 1024 * 1024;

/// Minimum useful capacity: users beyond their share of pages (`pipe-user-pages-soft`) get smaller pipes.
const SIZE_MIN: usize = 64 * 1024;

thread_local! {
    static FREE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
    static LENT: Cell<usize> = const { Cell::new(0) };
    /// The system refused a pipe: no further attempt is made for a while.
    static REFUSED: Cell<bool> = const { Cell::new(false) };
    /// A pipe was lent since the last check for idle ones.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A lent pipe. Returned for reuse when dropped; closed if it contains bytes.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// An empty pipe, if the limits allow.
    pub(super) fn lend() -> Option<Self> {
        if LENT.get() >= LENT_MAX || REFUSED.get() {
            return None;
        }
        let ends = FREE.with_borrow_mut(Vec::pop).or_else(make)?;
        LENT.set(LENT.get() + 1);
        BUSY.set(true);
        Some(Self { ends: Some(ends), held: 0 })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Splices bytes from a socket. The pipe has to be empty, so that blocking can only be due to the socket. Returns 0
    /// if no bytes have arrived, the stream has ended, or splicing is not possible.
    pub(super) fn take(&mut self, source: &TcpStream, max: usize) -> io::Result<usize> {
        let Some(ends) = self.ends.as_ref().filter(|_| self.held == 0) else { return Ok(0) };
        let taken = source.try_io(Interest::READABLE, || {
            match splice(source, None, &ends.write, None, max, FLAGS) {
                // A read finds the same condition, and waits for it: the socket stays readable until the read. Urgent
                // data can only be passed by reading.
                Ok(0) | Err(Errno::AGAIN | Errno::INTR) => Ok(0),
                Err(Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP | Errno::NOMEM) => {
                    REFUSED.set(true);
                    Ok(0)
                }
                Ok(count) => Ok(count),
                Err(error) => Err(error.into()),
            }
        });
        match taken {
            Ok(count) => {
                self.held = count;
                Ok(count)
            }
            // The socket was not readable after all.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Splices bytes to a socket. The pipe must not be empty, so that blocking can only be due to the socket.
    pub(super) fn give(&mut self, sink: &TcpStream) -> io::Result<usize> {
        let Some(ends) = self.ends.as_ref().filter(|_| self.held > 0) else { return Ok(0) };
        let count = splice(&ends.read, None, sink, None, self.held, FLAGS)?;
        self.held = self.held.saturating_sub(count);
        Ok(count)
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl Drop for Pipe {
    fn drop(&mut self) {
        LENT.set(LENT.get().saturating_sub(1));
        if let Some(ends) = self.ends.take().filter(|_| self.held == 0) {
            FREE.with_borrow_mut(|free| {
                if free.len() < KEPT {
                    free.push(ends);
                }
            });
        }
    }
}

fn make() -> Option<Ends> {
    let made = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok().and_then(|(read, write)| {
        cardinal_base::descriptors::check(&read).and_then(|()| cardinal_base::descriptors::check(&write)).ok()?;
        // If the capacity cannot be increased, the current one may suffice.
        let size = fcntl_setpipe_size(&write, SIZE).or_else(|_| rustix::pipe::fcntl_getpipe_size(&write));
        (size.ok()? >= SIZE_MIN).then_some(Ends { read, write })
    });
    REFUSED.set(made.is_none());
    made
}

/// Closes this thread's pipes if none was needed since the last call, and allows new attempts after the system refused
/// a pipe. To be called periodically.
pub fn release_idle() {
    REFUSED.set(false);
    if !BUSY.replace(false) {
        FREE.with_borrow_mut(Vec::clear);
    }
}

/// Numbers of pipes that this thread lends and keeps.
#[cfg(test)]
pub(super) fn counts() -> (usize, usize) {
    (LENT.get(), FREE.with_borrow(Vec::len))
}
