use std::io::Write;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex};

use super::*;

/// A folder of its own, removed with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cardinal-sink-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn file(path: &std::path::Path) -> Sink {
    Sink::start(Destination::open(path).unwrap(), "lines").unwrap()
}

fn flush(sink: &Sink) -> bool {
    sink.flush(FLUSH_TIMEOUT)
}

#[test]
fn lines_come_to_the_end_of_the_file_in_order() {
    let folder = Folder::new("order");
    std::fs::write(folder.path("a.log"), "before\n").unwrap();
    let sink = file(&folder.path("a.log"));
    let lines: Vec<Vec<u8>> = (0..1_000).map(|n| format!("{{\"n\":{n}}}\n").into_bytes()).collect();
    for line in &lines {
        sink.push(line.clone());
    }
    assert!(flush(&sink));
    assert_eq!(folder.read("a.log").into_bytes(), [b"before\n".as_slice(), &lines.concat()].concat());
    assert_eq!((sink.dropped(), sink.counts.bytes.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_file_that_was_moved_away_is_opened_again() {
    let folder = Folder::new("moved");
    let sink = file(&folder.path("a.log"));
    sink.push(b"one\n".to_vec());
    assert!(flush(&sink));
    std::fs::rename(folder.path("a.log"), folder.path("old.log")).unwrap();
    sink.push(b"two\n".to_vec());
    assert!(flush(&sink));
    sink.reopen();
    assert!(flush(&sink));
    sink.clone().push(b"three\n".to_vec());
    assert!(flush(&sink));
    assert_eq!(folder.read("old.log"), "one\ntwo\n");
    assert_eq!(folder.read("a.log"), "three\n");
}

#[test]
fn a_file_that_cannot_be_opened_again_is_retried() {
    let folder = Folder::new("retried");
    std::fs::create_dir(folder.path("logs")).unwrap();
    let sink = file(&folder.path("logs/a.log"));
    std::fs::rename(folder.path("logs"), folder.path("old")).unwrap();
    sink.reopen();
    sink.push(b"one\n".to_vec());
    assert!(flush(&sink));
    assert_eq!(folder.read("old/a.log"), "one\n");
    std::fs::create_dir(folder.path("logs")).unwrap();
    while sink.counts.reopen.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    assert!(flush(&sink));
    sink.push(b"two\n".to_vec());
    assert!(flush(&sink));
    assert_eq!(folder.read("logs/a.log"), "two\n");
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let folder = Folder::new("missing");
    assert_eq!(open_append(&folder.path("no/such/folder.log")).unwrap_err().kind(), io::ErrorKind::NotFound);
    open_append("/dev/stderr".as_ref()).unwrap();
}

/// Takes nothing before the gate is open.
#[derive(Clone, Default)]
struct Gate {
    passed: Arc<Mutex<Passed>>,
    opened: Arc<Condvar>,
}

#[derive(Default)]
struct Passed {
    open: bool,
    bytes: usize,
}

impl Gate {
    fn open(&self) {
        self.passed.lock().unwrap().open = true;
        self.opened.notify_all();
    }

    fn passed(&self) -> u64 {
        self.passed.lock().unwrap().bytes as u64
    }
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut passed = self.opened.wait_while(self.passed.lock().unwrap(), |passed| !passed.open).unwrap();
        passed.bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_that_do_not_fit_are_dropped_and_counted() {
    let gate = Gate::default();
    let sink = Sink::start(Destination::of(gate.clone()), "lines").unwrap();
    let line = vec![b'x'; 1024 * 1024];
    let pushed = 100;
    for _ in 0..pushed {
        sink.push(line.clone());
    }
    let dropped = sink.dropped();
    assert!((60..=68).contains(&dropped), "{dropped}");
    assert!(!flush(&sink), "a destination that takes nothing is given up");
    gate.open();
    assert!(flush(&sink));
    assert_eq!(gate.passed(), (pushed - dropped) * line.len() as u64);
    assert_eq!(sink.dropped(), dropped);
}

#[test]
fn many_small_lines_are_bounded_by_number() {
    let gate = Gate::default();
    let sink = Sink::start(Destination::of(gate.clone()), "lines").unwrap();
    let pushed = 3 * LINES_MAX + BATCH_LINES;
    for _ in 0..pushed {
        sink.push(b"x\n".to_vec());
    }
    assert!(sink.dropped() > 0);
    gate.open();
    assert!(flush(&sink));
    assert_eq!(gate.passed(), 2 * (pushed as u64 - sink.dropped()));
}

/// So many of the lines above fit into the batch that the writer holds.
const BATCH_LINES: usize = 256 * 1024 / 2;

/// Takes the first bytes of a write, then fails, then takes everything.
#[derive(Clone, Default)]
struct Torn(Arc<Mutex<(usize, Vec<u8>)>>);

impl Write for Torn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        state.0 += 1;
        let count = match state.0 {
            1 => 3,
            2 => return Err(io::ErrorKind::StorageFull.into()),
            3 => return Err(io::ErrorKind::WouldBlock.into()),
            _ => bytes.len(),
        };
        state.1.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    let torn = Torn::default();
    let sink = Sink::start(Destination::of(torn.clone()), "lines").unwrap();
    sink.push(b"first\n".to_vec());
    assert!(flush(&sink));
    assert_eq!(sink.dropped(), 1);
    sink.push(b"second\n".to_vec());
    assert!(flush(&sink));
    assert_eq!(torn.0.lock().unwrap().1, b"fir\nsecond\n", "the next line begins on a line of its own");
    assert_eq!(sink.dropped(), 1);
}
