use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock};

use cardinal_base::{SeededRng, SystemClock};
use cardinal_kong::{Settings, Source, load};
use serde_json::{Value, json};

use super::*;
use crate::dao::FutureOf;
use crate::{Dao, Fault, Tenant};

/// Answers writes as it is told, and keeps what was to be written.
#[derive(Debug, Default)]
struct Script {
    store: OnceLock<Arc<SnapshotStore>>,
    answers: Mutex<VecDeque<Result<(), WriteError>>>,
    written: Mutex<Vec<(u64, Vec<EntityChange>)>>,
}

impl Writer for Script {
    fn write(&self, revision: u64, changes: Vec<EntityChange>) -> FutureOf<'_, Result<(), WriteError>> {
        Box::pin(async move {
            self.written.lock().unwrap().push((revision, changes));
            let answer = self.answers.lock().unwrap().pop_front().expect("no more writes");
            if answer == Err(WriteError::Reloaded) {
                self.store.get().unwrap().replace(snapshot(&json!([{ "name": "b", "host": "b.test" }])));
            }
            answer
        })
    }
}

fn snapshot(services: &Value) -> Arc<Snapshot> {
    let text = json!({ "_format_version": "3.0", "services": services }).to_string();
    Arc::new(load(&[Source::new("a", text)], &Registry::new(&[]), &Settings::default()).unwrap())
}

struct World {
    dao: Dao,
    script: Arc<Script>,
}

impl World {
    fn new(answers: impl IntoIterator<Item = Result<(), WriteError>>) -> Self {
        let registry = Arc::new(Registry::new(&[]));
        let script = Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), ..Script::default() });
        let writer = Arc::clone(&script) as Arc<dyn Writer>;
        let store = Arc::new(SnapshotStore::written_by(Arc::clone(&registry), writer));
        store.replace(snapshot(&json!([{ "name": "a", "host": "a.test" }])));
        script.store.set(Arc::clone(&store)).unwrap();
        let dao = Dao::new(store, registry, Arc::new(SystemClock::new()), SeededRng::new(7)).over_files();
        Self { dao, script }
    }

    async fn create(&self, service: Value) -> Result<serde_json::Map<String, Value>, Fault> {
        let Value::Object(fields) = service else { panic!("{service}") };
        let kind = self.dao.registry().kind("services").unwrap();
        self.dao.insert(&Tenant::new(cardinal_store::Author::default()), kind, fields).await
    }

    fn revisions(&self) -> Vec<u64> {
        self.script.written.lock().unwrap().iter().map(|(revision, _)| *revision).collect()
    }
}

#[tokio::test]
async fn a_batch_is_decided_again_on_what_was_loaded_meanwhile() {
    let world = World::new([Err(WriteError::Reloaded), Ok(())]);
    let made = world.create(json!({ "name": "c", "host": "c.test" })).await.unwrap();
    let kind = world.dao.registry().kind("services").unwrap();
    let id = cardinal_kong::declarative::usual_id(kind, &made).unwrap();
    assert_eq!(made["id"], id.to_string(), "a file gives it the same id");
    assert_eq!(world.revisions(), [1, 2]);
    // What was loaded has the name already.
    let world = World::new([Err(WriteError::Reloaded)]);
    let fault = world.create(json!({ "name": "b", "host": "c.test" })).await.unwrap_err();
    assert_eq!(world.revisions(), [1]);
    assert!(matches!(fault.status, 400 | 409), "{fault}");
}

#[tokio::test]
async fn failures_have_their_status() {
    for (error, status) in [
        (WriteError::Conflict("a".to_owned()), 409),
        (WriteError::Refused("b".to_owned()), 400),
        (WriteError::Unwritable("c".to_owned()), 500),
        (WriteError::Ending, 503),
    ] {
        let world = World::new([Err(error.clone())]);
        let fault = world.create(json!({ "name": "c", "host": "c.test" })).await.unwrap_err();
        assert_eq!(fault.status, status, "{error}");
    }
    let world = World::new([Err(WriteError::Reloaded), Err(WriteError::Reloaded)]);
    let fault = world.create(json!({ "name": "c", "host": "c.test" })).await.unwrap_err();
    assert_eq!(fault.status, 409);
    let world = World::new([]);
    let fault = world.create(json!({ "name": "a", "host": "c.test" })).await.unwrap_err();
    assert_eq!((fault.status, world.revisions()), (409, Vec::new()), "what breaks a rule is not written");
}
