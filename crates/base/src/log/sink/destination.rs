//! [`Destination`]: the file, pipe or terminal that lines are written to.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where lines go.
pub struct Destination {
    pub(super) out: Box<dyn Write + Send>,
    /// The file, if it can be opened again.
    path: Option<PathBuf>,
    /// Called with each file that is opened.
    opened: fn(&File) -> io::Result<()>,
}

impl Destination {
    /// A file, to be appended to; `/dev/stdout` and `/dev/stderr` are the process's own, whatever they lead to.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, |_| Ok(()))
    }

    /// The same; `opened` is called with the file, and with each one that takes its place later.
    ///
    /// # Errors
    /// When the file cannot be opened, or `opened` fails.
    pub fn open_with(path: &Path, opened: fn(&File) -> io::Result<()>) -> io::Result<Self> {
        let file = open_append(path)?;
        opened(&file)?;
        // What the process was started with cannot be opened again.
        let path = standard(path).is_none().then(|| path.to_owned());
        Ok(Self { out: Box::new(file), path, opened })
    }

    /// The file that is opened again by [`Sink::reopen`](super::Sink::reopen).
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            let file = open_append(path)?;
            (self.opened)(&file)?;
            self.out = Box::new(file);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn of(out: impl Write + Send + 'static) -> Self {
        Self { out: Box::new(out), path: None, opened: |_| Ok(()) }
    }
}

/// One of the process's own outputs.
#[derive(Clone, Copy)]
enum Standard {
    Out,
    Error,
}

fn standard(path: &Path) -> Option<Standard> {
    match path.to_str()? {
        "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => Some(Standard::Out),
        "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => Some(Standard::Error),
        _ => None,
    }
}

/// Opens a file to append lines to; creates it if missing. Opening never blocks: a named pipe without a reader
/// is opened too, and fills.
///
/// # Errors
/// When it cannot be opened.
pub fn open_append(path: &Path) -> io::Result<File> {
    // These are duplicated: a path to a socket or a closed terminal cannot be opened.
    match standard(path) {
        Some(Standard::Out) => return Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        Some(Standard::Error) => return Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
        None => {}
    }
    let mut options = OpenOptions::new();
    options.append(true);
    if !std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        return options.create(true).mode(0o644).open(path);
    }
    // With a reader of its own, the process neither waits for one nor loses the pipe when the last one leaves.
    match options.clone().read(true).open(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => options.custom_flags(libc::O_NONBLOCK).open(path),
        opened => opened,
    }
}
