//! File descriptors of the process, and errors that mean that the process or the machine has run out of a resource.
//!
//! The system gives out the lowest number that is free. A connection that gets a number at or above the ceiling is one
//! too many: the numbers from there to the limit of the process are kept for the node itself, that is for the status
//! listener, files of configuration and logs, and DNS.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// Descriptors of connections have numbers below this.
static CEILING: AtomicI32 = AtomicI32::new(RawFd::MAX);

/// Keeps the descriptors from this number on for the node itself.
pub fn set_ceiling(first_reserved: u64) {
    CEILING.store(RawFd::try_from(first_reserved).unwrap_or(RawFd::MAX), Ordering::Relaxed);
}

/// Fails, as the system does when there is no descriptor left, if this one is kept for the node itself. To be called
/// with each new socket of a connection, to a client or to an upstream.
///
/// # Errors
/// `EMFILE`.
pub fn check(socket: &impl AsRawFd) -> io::Result<()> {
    if socket.as_raw_fd() < CEILING.load(Ordering::Relaxed) {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::EMFILE))
}

/// Whether a connection should rather be closed than kept for later, as its number is among the last that connections
/// may have: those are for connections that are in use.
pub fn is_scarce(socket: &impl AsRawFd) -> bool {
    let ceiling = CEILING.load(Ordering::Relaxed);
    socket.as_raw_fd() >= ceiling - ceiling / 8
}

/// Descriptors that the process has open now, where the system reports it.
pub fn open_count() -> Option<u64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

/// Whether an error means that no descriptor is left, of the process or of the machine.
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Whether an error is local and not the peer's: the process or the machine has run out of descriptors, memory or
/// ports.
pub fn is_local(error: &io::Error) -> bool {
    is_exhausted(error)
        || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL))
        || error.kind() == io::ErrorKind::OutOfMemory
}

/// Whether reading a file may work a little later, although nothing about the file changes.
pub fn is_transient(error: &io::Error) -> bool {
    let passing =
        matches!(error.raw_os_error(), Some(libc::EIO | libc::EINTR | libc::EAGAIN | libc::ESTALE | libc::EBUSY));
    passing || is_local(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_of_the_node_is_told_from_a_failure_of_the_peer() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL] {
            assert!(is_local(&io::Error::from_raw_os_error(code)), "{code}");
        }
        for code in [libc::ECONNREFUSED, libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ECONNRESET] {
            assert!(!is_local(&io::Error::from_raw_os_error(code)), "{code}");
        }
        assert!(open_count().is_some_and(|count| count > 2));
    }
}
