//! The contract of [`cardinal_store::Store`], kept by every store.

mod cases;
mod crash;
mod model;
mod postgres;
mod sqlite;
mod sqlite_shared;
mod world;

use std::sync::Arc;

use cardinal_store::{MemoryStore, PostgresOptions, SqlStore, SqliteOptions, StoreKey};
use cardinal_testkit::{PostgresServer, TempDir};

use self::world::{Subject, clock};

#[tokio::test]
async fn in_memory() {
    cases::contract(async || {
        let clock = clock();
        Subject::new(Arc::new(MemoryStore::new(clock.clone())), clock, ())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    cases::contract(async || {
        let (clock, folder) = (clock(), TempDir::new("store"));
        let options = SqliteOptions { path: folder.path().join("store.db"), pages_max: None };
        let store = SqlStore::sqlite(options, StoreKey::None, clock.clone()).await.unwrap();
        Subject::new(Arc::new(store), clock, folder)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    let Some(server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    cases::contract(async || {
        let clock = clock();
        let options = PostgresOptions { url: server.database() };
        let store = SqlStore::postgres(options, StoreKey::None, clock.clone()).await.unwrap();
        Subject::new(Arc::new(store), clock, ())
    })
    .await;
}
