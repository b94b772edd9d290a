use std::io::Write;
use std::sync::{Condvar, Mutex};

use cardinal_testkit::TempDir;

use super::*;

fn lines(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("{{\"n\":{n}}}\n").into_bytes()).collect()
}

#[test]
fn lines_come_to_the_end_of_the_file_in_order() {
    let folder = TempDir::new("access-log");
    let path = folder.write("access.log", "before\n");
    let log = AccessLog::open(path.to_str().unwrap()).unwrap();
    let lines = lines(1_000);
    for line in &lines {
        log.push(line.clone());
    }
    assert!(log.flush());
    let expect = [b"before\n".as_slice(), &lines.concat()].concat();
    assert_eq!(folder.read("access.log").into_bytes(), expect);
    assert_eq!(log.dropped(), 0);
    assert_eq!(log.0.counts.bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let folder = TempDir::new("access-log");
    let path = folder.path().join("access.log");
    let log = AccessLog::open(path.to_str().unwrap()).unwrap();
    log.push(b"one\n".to_vec());
    assert!(log.flush());
    std::fs::rename(&path, folder.path().join("old.log")).unwrap();
    log.push(b"two\n".to_vec());
    assert!(log.flush());
    log.reopen();
    assert!(log.flush());
    log.clone().push(b"three\n".to_vec());
    assert!(log.flush());
    assert_eq!(folder.read("old.log"), "one\ntwo\n");
    assert_eq!(folder.read("access.log"), "three\n");
}

#[test]
fn a_file_that_cannot_be_opened_is_said() {
    let folder = TempDir::new("access-log");
    let missing = folder.path().join("no/such/folder.log");
    assert_eq!(AccessLog::open(missing.to_str().unwrap()).unwrap_err().kind(), io::ErrorKind::NotFound);
    AccessLog::open("/dev/stderr").unwrap();
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
fn what_does_not_fit_is_dropped_and_counted() {
    let gate = Gate::default();
    let log = AccessLog::to(Destination::of(gate.clone()), false).unwrap();
    let line = vec![b'x'; 1024 * 1024];
    let pushed = 100;
    for _ in 0..pushed {
        log.push(line.clone());
    }
    let dropped = log.dropped();
    assert!((60..=68).contains(&dropped), "{dropped}");
    gate.open();
    assert!(log.flush());
    assert_eq!(gate.passed(), (pushed - dropped) * line.len() as u64);
    assert_eq!(log.dropped(), dropped);
}

#[test]
fn many_small_lines_are_bounded_by_number() {
    let gate = Gate::default();
    let log = AccessLog::to(Destination::of(gate.clone()), false).unwrap();
    let pushed = 3 * LINES_MAX + BATCH_LINES;
    for _ in 0..pushed {
        log.push(b"x\n".to_vec());
    }
    assert!(log.dropped() > 0);
    gate.open();
    assert!(log.flush());
    assert_eq!(gate.passed(), 2 * (pushed as u64 - log.dropped()));
}

/// So many of the lines above fit into the batch that the writer holds.
const BATCH_LINES: usize = 256 * 1024 / 2;

#[test]
fn lines_that_cannot_be_written_are_counted() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = AccessLog::to(Destination::of(Full), false).unwrap();
    log.push(b"x\n".to_vec());
    assert!(log.flush());
    assert_eq!(log.dropped(), 1);
}

#[tokio::test]
async fn a_record_is_one_line_of_json() {
    use cardinal_base::ManualClock;

    let services = cardinal_sdk::testing::services(Arc::new(ManualClock::default()));
    let registry = crate::plan::Registry::new().unwrap();
    let cx = crate::plan::PlanCx { plugins: &[], services, registry: &registry, previous: None };
    let (plan, _) = Plan::build(Arc::default(), 1, &cx).unwrap();
    let wheel = cardinal_net::Wheel::new(Arc::new(ManualClock::default()));
    let mut s = Scratch::new(&wheel);
    assert!(s.request.set_target(b"/a?b=c"));
    s.request.headers.append(b"Host", b"a.example");
    s.exchange.original.target.extend_from_slice(b"/a?b=c");
    s.exchange.original.host.push_str("a.example");
    s.response.status = 204;

    let folder = TempDir::new("access-log");
    let path = folder.path().join("access.log");
    let log = AccessLog::open(path.to_str().unwrap()).unwrap();
    log.write(&plan, &s, true);
    log.write(&plan, &s, false);
    assert!(log.flush());
    let text = folder.read("access.log");
    let records: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["request"]["uri"], "/a?b=c");
    assert_eq!(records[0]["response"]["status"], 204);
    // A client that left before.
    assert_eq!(records[1]["response"]["status"], 499);

    let cx = LogCx {
        request: &s.request,
        response: Some(&s.response),
        exchange: &s.exchange,
        services: &plan.services,
        slot: 0,
    };
    let mut words = Vec::new();
    super::brief::write(&cx, &mut words);
    assert_eq!(String::from_utf8(words).unwrap(), "0.0.0.0 GET /a?b=c 204 0 ms");
}
