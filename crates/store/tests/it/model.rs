//! Random batches: every store does the same, and what is stored keeps the rules.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use cardinal_store::{
    Batch, CommitError, Expect, Key, MemoryStore, NewDocument, PostgresOptions, Query, SqlStore, SqliteOptions,
    StoreKey, TagFilter, Write, documents_at, verify,
};
use cardinal_testkit::TempDir;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::world::{Full, With as _, batch, clock, document, key};
use cardinal_testkit::PostgresServer;

const IDS: usize = 8;
const KINDS: [&str; 2] = ["things", "others"];

fn id() -> impl Strategy<Value = String> {
    (0..KINDS.len(), 0..IDS).prop_map(|(kind, id)| format!("{}/{id}", KINDS[kind]))
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        12 => Just(Expect::Any),
        1 => Just(Expect::Absent),
        2 => Just(Expect::Present),
        1 => (0_u64..6).prop_map(Expect::Revision),
    ]
}

fn put() -> impl Strategy<Value = NewDocument> {
    let references = prop::collection::vec((id(), any::<bool>()), 0..3);
    let names = prop::collection::vec(0..12_u8, 0..2);
    let tags = prop::collection::vec(0..4_u8, 0..3);
    (id(), references, names, tags, 0..3_u8, 0..2_u8).prop_map(|(id, references, names, tags, value, space)| {
        let mut new = document(&id, json!({ "value": value, "s": ["x"] })).within(&space.to_string()).secret("/s/0");
        for (to, cascades) in references {
            new = if cascades { new.below(&to) } else { new.restricted_by(&to) };
        }
        for name in names {
            new = new.named(&name.to_string());
        }
        for tag in tags {
            new = new.tagged(&[&tag.to_string()]);
        }
        new
    })
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        3 => (put(), expect()).prop_map(|(new, expect)| new.put_if(expect)),
        1 => (id(), expect()).prop_map(|(id, expect)| Write::Delete(key(&id), expect)),
    ]
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let writes = (prop::collection::vec(write(), 1..5), prop::option::weighted(0.2, 0..5_usize)).prop_map(anew);
    let one = (writes, prop::option::weighted(0.05, 0_u64..4));
    let one = one.prop_map(|(writes, revision)| Batch { revision, ..batch(writes) });
    prop::collection::vec(one, 1..25)
}

/// One of the documents that are written may be deleted first.
fn anew((mut writes, at): (Vec<Write>, Option<usize>)) -> Vec<Write> {
    let put = at.and_then(|at| writes.get(at));
    if let Some(Write::Put(new, _)) = put {
        writes.insert(0, Write::Delete(new.key.clone(), Expect::Any));
    }
    writes
}

/// What was written, by what the store said of it.
#[derive(Default)]
struct Model(BTreeMap<Key, NewDocument>);

impl Model {
    fn apply(&mut self, batch: &Batch, deleted: &[Key]) {
        for write in &batch.writes {
            if let Write::Put(new, _) = write {
                self.0.insert(new.key.clone(), (**new).clone());
            }
        }
        for key in deleted {
            self.0.remove(key);
        }
        self.check();
    }

    /// Looks at every document: this is what the indexes of a store must not get wrong.
    fn check(&self) {
        let mut owners = HashMap::new();
        for (key, document) in &self.0 {
            for unique in &document.uniques {
                let owner = owners.insert((key.kind.clone(), unique.clone()), key);
                assert!(owner.is_none_or(|owner| owner == key), "{owner:?} and {key} have the same {unique:?}");
            }
            for reference in &document.references {
                assert!(self.0.contains_key(&reference.to), "{key} references {}, which is gone", reference.to);
            }
        }
    }

    /// Whether the batch breaks a rule, found out by trying.
    fn must_fail(&self, batch: &Batch) -> bool {
        let mut after = self.0.clone();
        let (mut written, mut gone) = (HashSet::new(), HashSet::new());
        for write in &batch.writes {
            let is_first = match write {
                Write::Put(new, _) => {
                    after.insert(new.key.clone(), (**new).clone());
                    written.insert(new.key.clone())
                }
                Write::Delete(key, _) => {
                    after.remove(key);
                    !written.contains(key) && gone.insert(key.clone())
                }
            };
            if !is_first {
                return true;
            }
        }
        let is_gone = |gone: &HashSet<Key>, key: &Key| gone.contains(key) && self.0.contains_key(key);
        let cascades = cardinal_store::OnDelete::Cascade;
        loop {
            let below: Vec<Key> = after
                .values()
                .filter(|one| !written.contains(&one.key))
                .filter(|one| one.references.iter().any(|r| r.on_delete == cascades && is_gone(&gone, &r.to)))
                .map(|one| one.key.clone())
                .collect();
            if below.is_empty() {
                break;
            }
            after.retain(|key, _| !below.contains(key));
            gone.extend(below);
        }
        let forbids = |one: &NewDocument| {
            !written.contains(&one.key) && one.references.iter().any(|reference| is_gone(&gone, &reference.to))
        };
        if after.values().any(forbids) {
            return true;
        }
        let mut owners = HashMap::new();
        after.iter().any(|(key, document)| {
            let clashes = document
                .uniques
                .iter()
                .any(|unique| owners.insert((key.kind.clone(), unique.clone()), key).is_some_and(|owner| owner != key));
            clashes || document.references.iter().any(|reference| !after.contains_key(&reference.to))
        })
    }
}

async fn run(store: &dyn Full, batches: Vec<Batch>) {
    let memory = MemoryStore::new(clock());
    let mut model = Model::default();
    for batch in batches {
        let (expected, found) =
            (cardinal_store::Store::commit(&memory, batch.clone()).await, store.commit(batch.clone()).await);
        assert_eq!(format!("{expected:?}"), format!("{found:?}"));
        match &expected {
            Ok(committed) => {
                assert!(!model.must_fail(&batch), "the batch breaks a rule: {batch:?}");
                model.apply(&batch, &committed.deleted);
            }
            Err(CommitError::Violation { violation: cardinal_store::Violation::Expectation { .. }, .. }) => {}
            Err(CommitError::Violation { .. }) => {
                assert!(model.must_fail(&batch), "the batch breaks no rule: {batch:?}")
            }
            Err(CommitError::Stale { .. }) => {}
            Err(CommitError::Store(error)) => panic!("{error}"),
        }
        assert_eq!(reads(&memory).await, reads(store).await);
    }
    let (_, documents) = store.snapshot().await.unwrap();
    let values: Vec<_> = documents.iter().map(|one| (&one.key, &one.value)).collect();
    assert_eq!(values, model.0.iter().map(|(key, new)| (key, &new.value)).collect::<Vec<_>>());
    verify(store.log()).await.unwrap();
}

/// Everything that can be read, but for hashes: encryption changes what they cover.
async fn reads(store: &dyn Full) -> String {
    let mut text = format!("{:?} {:?}", store.snapshot().await.unwrap(), store.generations(None, 100).await.unwrap());
    for mut change in store.changes(0, 10_000).await.unwrap() {
        change.hash = [0; 32];
        text += &format!("{change:?}");
    }
    for kind in KINDS {
        let mut queries = vec![Query::all(kind)];
        for n in ["0", "1", "3"] {
            queries.push(Query { space: Some(n.into()), ..Query::all(kind) });
            queries.push(Query { tags: TagFilter::All(vec![n.into(), "1".into()]), ..Query::all(kind) });
            queries.push(Query { tags: TagFilter::Any(vec![n.into(), "2".into()]), limit: 2, ..Query::all(kind) });
            let reference = Some(("cascade0".into(), key(&format!("things/{n}"))));
            queries.push(Query { reference, after: Some("2".into()), ..Query::all(kind) });
        }
        for query in queries {
            text += &format!("{:?}", store.list(query).await.unwrap());
        }
        for name in 0..12 {
            let found = store.find(kind.into(), "name".into(), name.to_string().into()).await.unwrap();
            text += &format!("{found:?}");
        }
    }
    let middle = store.status().await.unwrap().revision / 2;
    text + &format!("{:?}", documents_at(store.store(), middle).await.unwrap())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn property(cases: u32, test: impl Fn(Vec<Batch>)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&batches(), |batches| {
        test(batches);
        Ok(())
    });
    run.unwrap();
}

#[test]
fn sqlite_does_what_memory_does() {
    let runtime = runtime();
    property(40, |batches| {
        runtime.block_on(async {
            let folder = TempDir::new("store");
            let source = cardinal_store::KeySource::File { path: folder.path().join("key"), create: true };
            let options = SqliteOptions { path: folder.path().join("store.db"), pages_max: None };
            let store = SqlStore::sqlite(options, Some(source.load().await.unwrap()), clock()).await.unwrap();
            run(&store, batches).await;
        });
    });
}

#[test]
fn postgres_does_what_memory_does() {
    let Some(server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    let runtime = runtime();
    property(8, |batches| {
        runtime.block_on(async {
            let options = PostgresOptions { url: server.database() };
            let store = SqlStore::postgres(options, StoreKey::None, clock()).await.unwrap();
            run(&store, batches).await;
        });
    });
}

#[tokio::test]
async fn the_model_finds_a_broken_rule() {
    // So that the checks above are known to check something.
    let mut model = Model::default();
    let new = batch(vec![document("things/1", json!(1)).named("x").put()]);
    model.apply(&new, &[]);
    assert!(model.must_fail(&batch(vec![document("things/2", json!(1)).named("x").put()])));
    assert!(model.must_fail(&batch(vec![document("things/2", json!(1)).below("no").put()])));
    assert!(!model.must_fail(&new));
    let store: Arc<dyn Full> = Arc::new(MemoryStore::new(clock()));
    run(&*store, vec![new]).await;
}
