//! A file of SQLite that others use, too: commits of another process, and copies.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use cardinal_store::{SqlStore, SqliteOptions, Store as _, StoreKey, verify};
use cardinal_testkit::{TempDir, until, within};

use crate::sqlite::subject;
use crate::world::{With as _, clock, delete, thing};

#[tokio::test]
async fn commits_of_another_process_are_seen_within_100_ms() {
    let folder = TempDir::new("store");
    let (_first, s) = subject(&folder, None).await;
    let clock = clock();
    let options = SqliteOptions { path: folder.path().join("store.db"), pages_max: None };
    let second = SqlStore::sqlite(options, StoreKey::None, clock.clone()).await.unwrap();
    let mut seen = second.watch();
    s.ok(vec![thing("a").put()]).await;
    until("the store waits", || clock.next_deadline().is_some()).await.unwrap();
    clock.advance(Duration::from_millis(100));
    within("the commit is seen", seen.changed()).await.unwrap().unwrap();
    assert_eq!(*seen.borrow(), 1);
}

#[tokio::test]
async fn a_copy_is_a_store_of_one_revision() {
    let (folder, copies) = (TempDir::new("store"), TempDir::new("copies"));
    let (store, s) = subject(&folder, None).await;
    s.ok(vec![thing("a").named("n").put(), thing("b").below("a").put()]).await;
    let copy = copies.path().join("store.db");
    store.copy_to(&copy).await.unwrap();
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(store.copy_to(&copy).await.is_err(), "a file is not replaced");
    s.ok(vec![delete("a")]).await;
    let (copied, c) = subject(&copies, None).await;
    assert_eq!(c.find("things", "name", "n").await.as_deref(), Some("a"));
    assert_eq!(verify(&*copied).await.unwrap().revision, 1);
    copied.close().await;
    let names = std::fs::read_dir(copies.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["store.db"], "the file is complete by itself");
}
