//! Configuration from standard input and from pipes.
//!
//! A stream can be read once. Its text is kept, so that a reload for another reason still has it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cardinal_kong::declarative::BYTES_MAX;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::io::Errno;

/// How long something may take to open a pipe for writing and write to it.
const WRITER_WAIT: Duration = Duration::from_secs(10);

/// Paths of standard input other than `-`.
const STDIN: [&str; 3] = ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];

/// Texts of streams, by path.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<BTreeMap<PathBuf, Arc<str>>>);

/// Whether a path is standard input or a pipe.
pub(crate) fn is_stream(path: &Path) -> bool {
    if path == Path::new("-") {
        return true;
    }
    let Ok(found) = fs::metadata(path) else { return false };
    let kind = found.file_type();
    kind.is_fifo() || (is_stdin(path) && (kind.is_char_device() || kind.is_socket()))
}

/// What messages call it.
pub(crate) fn name_of(path: &Path) -> String {
    if is_stdin(path) { "<stdin>".to_owned() } else { path.display().to_string() }
}

pub(crate) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-") || STDIN.iter().any(|known| path == Path::new(known))
}

impl Streams {
    /// The text of a stream: what it had when it was first read.
    pub(crate) fn text(&self, path: &Path) -> Result<Arc<str>, String> {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // All names of standard input are one stream.
        let key = if is_stdin(path) { Path::new("-") } else { path };
        if let Some(text) = texts.get(key) {
            return Ok(Arc::clone(text));
        }
        let text: Arc<str> = read_stream(path)?.into();
        texts.insert(key.to_owned(), Arc::clone(&text));
        Ok(text)
    }
}

/// Reads a stream to its end.
pub(crate) fn read_stream(path: &Path) -> Result<String, String> {
    let bytes =
        if is_stdin(path) { read_all(std::io::stdin().lock()) } else { read_all(open_pipe(path, WRITER_WAIT)?) };
    let bytes = bytes.map_err(|error| error.to_string())?;
    if bytes.len() > BYTES_MAX {
        return Err(format!("it has more than {} MiB", BYTES_MAX >> 20));
    }
    super::files::text(bytes)
}

/// Opens a pipe that something writes to. Nothing may ever do so: opening it in the plain way would wait for that.
fn open_pipe(path: &Path, wait: Duration) -> Result<fs::File, String> {
    let told = |error: Errno| error.to_string();
    let pipe = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).map_err(told)?;
    let limit =
        Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(wait.subsec_nanos()) };
    let ready = poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&limit)).map_err(told)?;
    if ready == 0 {
        return Err(format!("nothing was written to this pipe within {} seconds", wait.as_secs()));
    }
    let flags = fcntl_getfl(&pipe).map_err(told)?;
    fcntl_setfl(&pipe, flags - OFlags::NONBLOCK).map_err(told)?;
    Ok(fs::File::from(pipe))
}

fn read_all(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use cardinal_testkit::TempDir;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::{Streams, is_stream, name_of, open_pipe};

    #[test]
    fn a_pipe_is_read_once_and_kept() {
        let folder = TempDir::new("streams");
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(is_stream(&pipe) && is_stream(Path::new("-")));
        assert!(!is_stream(folder.path()) && !is_stream(Path::new("/dev/zero")) && !is_stream(Path::new("/nowhere")));
        let error = open_pipe(&pipe, Duration::from_millis(1)).unwrap_err();
        assert!(error.contains("nothing was written to this pipe"), "{error}");
        let writer = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::write(pipe, "text").unwrap())
        };
        let streams = Streams::default();
        assert_eq!(&*streams.text(&pipe).unwrap(), "text");
        writer.join().unwrap();
        assert_eq!(&*streams.text(&pipe).unwrap(), "text", "it is kept");
    }

    #[test]
    fn standard_input_has_one_name() {
        for path in ["-", "/dev/stdin", "/dev/fd/0"] {
            assert_eq!(name_of(Path::new(path)), "<stdin>");
        }
        assert_eq!(name_of(Path::new("/dev/fd/63")), "/dev/fd/63");
    }
}
