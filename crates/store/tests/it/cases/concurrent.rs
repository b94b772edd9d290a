//! Writers and readers at the same time.

use cardinal_store::{CommitError, Expect, Violation};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::world::{Subject, With as _, document, key};

const WRITERS: u64 = 8;
const ROUNDS: u64 = 25;

/// Runs this for each writer, on threads of their own where the runtime has them.
async fn writers(s: &Subject, write: impl AsyncFn(Subject, u64)) {
    join_all((0..WRITERS).map(|writer| write(s.clone(), writer))).await;
}

pub(super) async fn counters(s: Subject) {
    s.ok(vec![document("counter", json!(0)).put()]).await;
    writers(&s, async |s, writer| {
        let mut done = 0;
        while done < ROUNDS {
            let read = s.get("counter").await.unwrap();
            let next = json!(read.value.as_u64().unwrap() + 1);
            let own = document(&format!("own{writer}"), json!(done + 1)).put();
            let write = document("counter", next).put_if(Expect::Revision(read.revision));
            match s.commit(vec![write, own]).await {
                Ok(committed) => {
                    assert!(committed.changed);
                    done += 1;
                }
                Err(CommitError::Violation { at: 0, violation: Violation::Expectation { .. } }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert_eq!(s.get("counter").await.unwrap().value, json!(WRITERS * ROUNDS));
    assert_eq!(s.revision().await, 1 + WRITERS * ROUNDS, "each commit has a revision of its own, without gaps");
    for writer in 0..WRITERS {
        assert_eq!(s.get(&format!("own{writer}")).await.unwrap().value, json!(ROUNDS));
    }
    cardinal_store::verify(s.store.log()).await.unwrap();
}

pub(super) async fn readers_see_whole_batches(s: Subject) {
    let write = async |s: Subject, writer: u64| {
        for round in 0..ROUNDS {
            // Every other writer reads: all documents have the value of one batch.
            if writer.is_multiple_of(2) {
                let writes = (0..5).map(|n| document(&format!("d{n}"), json!([writer, round])).put());
                s.commit(writes.collect()).await.unwrap();
                continue;
            }
            let (revision, documents) = s.store.snapshot().await.unwrap();
            let values: Vec<&Value> = documents.iter().map(|document| &document.value).collect();
            assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{values:?}");
            assert!(documents.iter().all(|document| document.revision == revision));
            let changes = s.store.changes(revision, 1_000).await.unwrap();
            assert_eq!(changes.len() % 5, 0);
        }
    };
    writers(&s, write).await;
    assert!(s.store.get(key("d0")).await.unwrap().is_some());
}
