//! `kill -9` while eight writers write: every acknowledged batch is there, and none in part.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use cardinal_store::{Query, SqlStore, SqliteOptions, Store as _, StoreKey, verify};
use cardinal_testkit::TempDir;
use serde_json::json;

use crate::world::{With as _, batch, clock, document};

const WRITERS: u64 = 8;
/// Where the writers of the process below find their store.
const FOLDER: &str = "CARDINAL_STORE_CRASH_FOLDER";
/// How often the process is killed, if not [`ROUNDS`] times.
const ROUNDS_VARIABLE: &str = "CARDINAL_STORE_CRASH_ROUNDS";
const ROUNDS: u64 = 20;

fn options(folder: &std::path::Path) -> SqliteOptions {
    SqliteOptions { path: folder.join("store.db"), pages_max: None }
}

/// The process that is killed. As a test of its own it does nothing.
#[test]
#[allow(clippy::disallowed_methods, reason = "the test that starts this process tells it what to do")]
fn the_process_that_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(SqlStore::sqlite(options(folder.as_ref()), StoreKey::None, clock()).await.unwrap());
        futures_util::future::join_all((0..WRITERS).map(|writer| write(store.clone(), writer))).await;
    });
}

/// Counts up in two documents of a batch; says so when it is committed.
async fn write(store: Arc<SqlStore>, writer: u64) {
    let read = store.list(Query::all(format!("left{writer}"))).await.unwrap();
    let mut count = read.documents.first().and_then(|one| one.value.as_u64()).unwrap_or(0);
    loop {
        count += 1;
        let name = format!("{writer}-{count}");
        let sides = ["left", "right"].map(|side| format!("{side}{writer}/count"));
        let writes = sides.map(|id| document(&id, json!(count)).named(&name).put()).to_vec();
        store.commit(batch(writes)).await.unwrap();
        let mut output = std::io::stdout().lock();
        writeln!(output, "ACK {writer} {count}").unwrap();
        output.flush().unwrap();
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Runs the process until it has acknowledged some batches; gives all that it has until it is dead.
fn acknowledged(folder: &TempDir, enough: u64) -> Vec<(usize, u64)> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::the_process_that_is_killed", "--nocapture"]).env(FOLDER, folder.path());
    let mut child = Killed(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap());
    let (mut all, mut line) = (Vec::new(), String::new());
    while lines.read_line(&mut line).unwrap() > 0 {
        let mut words = line.split_whitespace();
        if words.next() == Some("ACK") && line.ends_with('\n') {
            let numbers: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
            all.push((numbers[0] as usize, numbers[1]));
            if all.len() as u64 == enough {
                child.0.kill().unwrap();
            }
        }
        line.clear();
    }
    all
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "long runs are asked for by the environment")]
async fn acknowledged_batches_survive() {
    let rounds = std::env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let folder = TempDir::new("store");
    let mut counts = [0; WRITERS as usize];
    for round in 0..rounds {
        // Any number will do, as long as it is another one each time.
        let acknowledged = acknowledged(&folder, 1 + round * 37 % 101);
        assert!(!acknowledged.is_empty());
        for (writer, count) in acknowledged {
            counts[writer] = count.max(counts[writer]);
        }
        let store = SqlStore::sqlite(options(folder.path()), StoreKey::None, clock()).await.unwrap();
        let mut revision = 0;
        for (writer, count) in counts.iter_mut().enumerate() {
            let mut sides = Vec::new();
            for side in ["left", "right"] {
                let read = store.list(Query::all(format!("{side}{writer}"))).await.unwrap();
                sides.push(read.documents.first().map_or(0, |one| one.value.as_u64().unwrap()));
                let name = format!("{writer}-{}", sides[0]).into();
                let found = store.find(format!("{side}{writer}").into(), "name".into(), name).await.unwrap();
                assert_eq!(found, read.documents.first().cloned());
            }
            assert_eq!(sides[0], sides[1], "round {round}: a batch was applied in part");
            assert!(sides[0] >= *count, "round {round}: {count} was acknowledged, {} is there", sides[0]);
            *count = sides[0];
            revision += sides[0];
        }
        let verified = verify(&store).await.unwrap();
        assert_eq!((verified.revision, verified.entries), (revision, 2 * revision));
    }
}
