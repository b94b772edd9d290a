//! What is particular to PostgreSQL: several control planes, lost connections, restarts.

use std::sync::Arc;
use std::time::Duration;

use cardinal_base::{ManualClock, SystemClock};
use cardinal_store::{
    CommitError, Expect, KeySource, PostgresOptions, SqlStore, Store, StoreError, StoreKey, Violation, verify,
};
use cardinal_testkit::{TempDir, until, until_some, within};
use futures_util::future::join_all;
use serde_json::json;

use crate::world::{Full, Subject, With as _, batch, clock, document, key, thing};
use cardinal_testkit::PostgresServer;

async fn open(options: &PostgresOptions) -> Subject {
    let clock = clock();
    let store = SqlStore::postgres(options.clone(), StoreKey::None, clock.clone()).await.unwrap();
    Subject::new(Arc::new(store), clock, ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_planes_share_a_database() {
    let Some(server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    let options = PostgresOptions { url: server.database() };
    // All of them find an empty database.
    let stores = join_all((0..4).map(|_| open(&options))).await;
    let mut watches: Vec<_> = stores.iter().map(|s| s.store.watch()).collect();
    stores[0].ok(vec![document("counter", json!(0)).put()]).await;
    const ROUNDS: u64 = 25;
    join_all(stores.iter().map(async |s| {
        let mut done = 0;
        while done < ROUNDS {
            let read = s.get("counter").await.unwrap();
            let next = json!(read.value.as_u64().unwrap() + 1);
            let write = document("counter", next).put_if(Expect::Revision(read.revision));
            match s.commit(vec![write]).await {
                Ok(_) => done += 1,
                Err(CommitError::Violation { violation: Violation::Expectation { .. }, .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    }))
    .await;
    let last = 1 + 4 * ROUNDS;
    for (s, watch) in stores.iter().zip(&mut watches) {
        // By notification: the clock of the poll stands still.
        within("the notification", watch.wait_for(|revision| *revision == last)).await.unwrap().unwrap();
        assert_eq!(s.get("counter").await.unwrap().value, json!(4 * ROUNDS));
    }
    let verified = verify(stores[3].store.log()).await.unwrap();
    assert_eq!((verified.revision, verified.entries), (last, last));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_refused() {
    let Some(server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    let options = PostgresOptions { url: server.database() };
    drop(open(&options).await);
    server.execute("test0", "UPDATE store_schema SET version = 99");
    let opened = SqlStore::postgres(options, StoreKey::None, clock()).await;
    assert!(matches!(opened, Err(StoreError::TooNew { found: 99, known: 2 })), "{opened:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_lose_no_notification() {
    let Some(server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    let options = PostgresOptions { url: server.database() };
    let (s, t) = (open(&options).await, open(&options).await);
    let mut watch = t.store.watch();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cardinal'";
    for round in 1..=5 {
        server.execute("test0", cut);
        // The first commit after the cut may find its connection closed, but not half of it is applied.
        let write = || vec![document("a", json!(round)).put(), document("b", json!(round)).put()];
        let committed = until_some("a commit", async || match s.commit(write()).await {
            Ok(committed) => Some(committed),
            Err(CommitError::Store(StoreError::Unavailable(_))) => None,
            Err(other) => panic!("{other:?}"),
        });
        let revision = committed.await.unwrap().revision;
        let clock = t.clock.clone();
        let seen = cardinal_testkit::while_time_passes(
            "the revision",
            &clock,
            Duration::from_millis(20),
            watch.wait_for(|seen| *seen == revision),
        );
        drop(seen.await.unwrap().unwrap());
        // A read gets a second connection, so readers notice nothing.
        server.execute("test0", cut);
        assert_eq!(t.get("b").await.unwrap().value, json!(round));
    }
    verify(s.store.log()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_control_plane_leads() {
    let Some(server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    let options = PostgresOptions { url: server.database() };
    let (s, t) = (open(&options).await, open(&options).await);
    let mut lead = s.store.try_lead().await.unwrap().unwrap();
    assert!(lead.is_held().await);
    assert!(t.store.try_lead().await.unwrap().is_none());
    // A leader that loses its connection knows, and another one takes its place.
    server.execute("test0", "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'");
    let taken = until_some("the lead", async || t.store.try_lead().await.unwrap()).await.unwrap();
    assert!(!lead.is_held().await);
    drop(taken);
    until_some("the lead", async || s.store.try_lead().await.unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_of_writes() {
    let Some(mut server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    let options = PostgresOptions { url: server.database() };
    let clock = Arc::new(SystemClock::new());
    let store: Arc<dyn Full> = Arc::new(SqlStore::postgres(options, StoreKey::None, clock).await.unwrap());
    let s = Subject::new(store, Arc::new(ManualClock::default()), ());
    let acknowledged = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let restarted = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writing = {
        let (s, acknowledged, restarted) = (s.clone(), acknowledged.clone(), restarted.clone());
        async move {
            let mut count = 0_u64;
            // Until some writes after the restart. While there is no server, writes may wait instead of failing.
            while !restarted.load(std::sync::atomic::Ordering::SeqCst) || count < 20 {
                let write = ["a", "b"].map(|id| document(id, json!(count)).put()).to_vec();
                match s.commit(write).await {
                    Ok(_) => {
                        acknowledged.store(count, std::sync::atomic::Ordering::SeqCst);
                        count += 1;
                    }
                    Err(CommitError::Store(StoreError::Unavailable(_))) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
    };
    let restarting = async {
        until("writes", || acknowledged.load(std::sync::atomic::Ordering::SeqCst) > 5).await.unwrap();
        tokio::task::spawn_blocking(move || {
            server.stop();
            server.run();
            server
        })
        .await
        .inspect(|_| restarted.store(true, std::sync::atomic::Ordering::SeqCst))
        .unwrap()
    };
    let ((), _server) = within("the restart", futures_util::future::join(writing, restarting)).await.unwrap();
    let count = acknowledged.load(std::sync::atomic::Ordering::SeqCst);
    let values = [s.get("a").await.unwrap().value, s.get("b").await.unwrap().value];
    assert_eq!(values[0], values[1]);
    assert!(values[0].as_u64().unwrap() >= count);
    verify(s.store.log()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_errors_are_clear() {
    let Some(mut server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    let options = PostgresOptions { url: server.database() };
    let s = open(&options).await;
    s.ok(vec![thing("a").put()]).await;
    server.stop();
    // Which server it is, and what is wrong.
    let error = s.store.get(key("a")).await.unwrap_err().to_string();
    let address = options.url.split(['@', '?']).nth(1).unwrap().to_owned();
    assert!(error.contains(&address) && error.contains("Connection refused"), "{error}");
    let secret = PostgresOptions { url: options.url.replace("cardinal@", "cardinal:PASSWORD@") };
    let error = SqlStore::postgres(secret, StoreKey::None, clock()).await.unwrap_err().to_string();
    assert!(error.contains("Connection refused") && !error.contains("PASSWORD"), "{error}");
    let commit = s.store.commit(batch(vec![thing("b").put()])).await;
    assert!(matches!(commit, Err(CommitError::Store(StoreError::Unavailable(_)))), "{commit:?}");
    assert!(s.store.status().await.is_err());
    let wrong = PostgresOptions { url: "postgres://user:PASSWORD@[".to_owned() };
    assert!(!format!("{wrong:?}").contains("PASSWORD"));
    let error = SqlStore::postgres(wrong, StoreKey::None, clock()).await.unwrap_err().to_string();
    assert!(!error.contains("PASSWORD"), "{error}");
    server.run();
    let found = until_some("the server", async || s.store.get(key("a")).await.ok()).await.unwrap();
    assert!(found.is_some());
    assert_eq!(s.ok(vec![thing("b").put()]).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_the_database_refuses() {
    let Some(server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    let options = PostgresOptions { url: server.database() };
    let s = open(&options).await;
    s.ok(vec![thing("a").put()]).await;
    // It fails in the middle of the batch, as it would on a full disk.
    server.execute("test0", "ALTER TABLE documents ADD CONSTRAINT full_disk CHECK (revision < 2)");
    let commit = s.commit(vec![thing("b").put()]).await;
    assert!(matches!(commit, Err(CommitError::Store(_))), "{commit:?}");
    assert_eq!(s.revision().await, 1);
    server.execute("test0", "ALTER TABLE documents DROP CONSTRAINT full_disk");
    assert_eq!(s.ok(vec![thing("b").put()]).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_encrypted() {
    let Some(server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    let (options, folder) = (PostgresOptions { url: server.database() }, TempDir::new("store"));
    let source = || KeySource::File { path: folder.path().join("key"), create: true };
    let load = async || Some(source().load().await.unwrap());
    let first = SqlStore::postgres(options.clone(), load().await, clock()).await.unwrap();
    let second = SqlStore::postgres(options.clone(), load().await, clock()).await.unwrap();
    let write = |text: &str| batch(vec![document("a", json!({ "key": text })).secret("/key").put()]);
    first.commit(write("HIDDEN")).await.unwrap();
    assert_eq!(second.get(key("a")).await.unwrap().unwrap().value, json!({ "key": "HIDDEN" }));
    let check = "DO $$ BEGIN IF EXISTS (SELECT 1 FROM documents WHERE position('HIDDEN'::bytea IN value) > 0) \
                 OR EXISTS (SELECT 1 FROM changes WHERE position('HIDDEN'::bytea IN new_value) > 0) \
                 THEN RAISE 'it is there'; END IF; END $$";
    server.execute("test0", check);
    assert!(matches!(SqlStore::postgres(options, StoreKey::None, clock()).await, Err(StoreError::Corrupt(_))));
}

/// Both find a database without a key, and make one. The one that comes second must not keep its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_keys_that_are_made_at_once_one_stays() {
    let Some(server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    let options = PostgresOptions { url: server.database() };
    drop(open(&options).await);
    // Both wait before they look for a key.
    let mut holder = <sqlx::PgConnection as sqlx::Connection>::connect(&options.url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE data_keys IN ACCESS EXCLUSIVE MODE").execute(&mut holder).await.unwrap();
    let mut watcher = <sqlx::PgConnection as sqlx::Connection>::connect(&options.url).await.unwrap();
    let folders = [TempDir::new("store"), TempDir::new("store")];
    let files = folders.each_ref().map(|folder| folder.path().join("key"));
    let start = |at: usize| {
        let key = StoreKey::From(KeySource::File { path: files[at].clone(), create: true });
        SqlStore::postgres(options.clone(), key, clock())
    };
    let releasing = async {
        let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'data_keys'::regclass AND NOT granted";
        let look = async || {
            let count: i64 = sqlx::query_scalar(waiting).fetch_one(&mut watcher).await.unwrap();
            (count == 2).then_some(())
        };
        until_some("both nodes to look for a key", look).await.unwrap();
        sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    };
    let (first, second, ()) = tokio::join!(start(0), start(1), releasing);
    let lost = usize::from(first.is_ok());
    let error = if lost == 0 { first.err() } else { second.err() };
    let error = error.expect("one of them comes second").to_string();
    assert!(error.contains("two nodes made a key") && error.contains("was removed: copy the key file"), "{error}");
    assert!(files[1 - lost].exists() && !files[lost].exists());
    // No other one is made at the next start.
    let error = start(lost).await.unwrap_err().to_string();
    assert!(error.contains("does not exist: copy it from a node") && !files[lost].exists(), "{error}");
    std::fs::copy(&files[1 - lost], &files[lost]).unwrap();
    start(lost).await.unwrap();
}
