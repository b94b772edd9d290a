//! [`Pipe`]: what bytes lie in between two sockets. A thread lends a bounded number, and keeps a few for the next time.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Pipes that a thread lends at a time; whoever comes then reads and writes. Two descriptors each.
pub(super) const LENT_MAX: usize = 32;

/// Pipes that a thread keeps.
pub(super) const KEPT: usize = 8;

/// What a pipe has room for, in bytes if they were pages of their own. Parts of packets take a place each, whatever
/// their size, so that much less than this may fill it.
const SIZE: usize = 1024 * 1024;

/// A pipe with less room is not worth its cost: users beyond their share of pages (`pipe-user-pages-soft`) get them.
const SIZE_MIN: usize = 64 * 1024;

thread_local! {
    static FREE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
    static LENT: Cell<usize> = const { Cell::new(0) };
    /// The system refused one: it is not asked again for a while.
    static REFUSED: Cell<bool> = const { Cell::new(false) };
    /// One was lent since idle ones were looked for.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe that is lent. Given back when dropped, and closed if bytes are in it.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// An empty pipe, if there is one to lend.
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

    /// Takes bytes from a socket. The pipe has to be empty: it is then the socket that has no more. 0 when none have
    /// come, the stream has ended, or it is not to be had this way.
    pub(super) fn take(&mut self, source: &TcpStream, max: usize) -> io::Result<usize> {
        let Some(ends) = self.ends.as_ref().filter(|_| self.held == 0) else { return Ok(0) };
        let taken = source.try_io(Interest::READABLE, || {
            match splice(source, None, &ends.write, None, max, FLAGS) {
                // Reading finds the same, and is waited with: the socket stays readable until it does. There are bytes
                // that only reading gets by: those that are urgent.
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
            // It was not readable after all.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Gives bytes to a socket. The pipe must not be empty: it is then the socket that takes no more.
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
        // One that cannot be made larger may do as it is.
        let size = fcntl_setpipe_size(&write, SIZE).or_else(|_| rustix::pipe::fcntl_getpipe_size(&write));
        (size.ok()? >= SIZE_MIN).then_some(Ends { read, write })
    });
    REFUSED.set(made.is_none());
    made
}

/// Closes this thread's pipes if none was needed since the last call, and lets it ask again for those that the system
/// refused. To be called from time to time.
pub fn release_idle() {
    REFUSED.set(false);
    if !BUSY.replace(false) {
        FREE.with_borrow_mut(Vec::clear);
    }
}

/// Pipes that this thread lends and keeps.
#[cfg(test)]
pub(super) fn counts() -> (usize, usize) {
    (LENT.get(), FREE.with_borrow(Vec::len))
}
