//! Expiry and retention over a store in memory, with a clock that stands still.

use cardinal_base::ManualClock;
use cardinal_store::{MemoryStore, NewDocument};
use serde_json::json;

use super::*;

struct World {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    registry: Arc<Registry>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        clock.advance(Duration::from_secs(1_000_000));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        Self { store, clock, registry: Arc::new(Registry::new(cardinal_plugins_auth::PLUGINS)) }
    }

    fn keeper(&self, retention: Retention) -> Housekeeper {
        let store: Arc<dyn Logged> = self.store.clone();
        Housekeeper::new(store, self.registry.clone(), self.clock.clone(), retention)
    }

    fn key_auth(&self, id: &str, ttl: Value) -> Write {
        #[allow(clippy::cast_precision_loss, reason = "a small number")]
        let created = (self.clock.unix().0 / 1_000) as f64;
        let value = json!({ "id": id, "key": id, "ttl": ttl, "created_at": created });
        let key = Key::new("keyauth_credentials", id);
        let (uniques, references, tags, secrets) = (vec![], vec![], vec![], vec![]);
        Write::Put(
            Box::new(NewDocument { key, space: "".into(), value, uniques, references, tags, secrets }),
            Expect::Any,
        )
    }

    async fn write(&self, writes: Vec<Write>) {
        let batch = Batch { author: Author::default(), writes, revision: None };
        self.store.commit(batch).await.unwrap();
    }

    async fn ids(&self) -> Vec<String> {
        let page = self.store.list(Query::all("keyauth_credentials")).await.unwrap();
        page.documents.iter().map(|document| document.key.id.to_string()).collect()
    }
}

#[tokio::test]
async fn expired_entities_are_deleted() {
    let world = World::new();
    world
        .write(vec![world.key_auth("a", json!(10)), world.key_auth("b", json!(null)), world.key_auth("c", json!(30))])
        .await;
    let mut keeper = world.keeper(Retention::default());
    assert_eq!(keeper.round().await.unwrap().expired, 0);
    // One comes later, one lives longer than it was to, one is deleted.
    world
        .write(vec![world.key_auth("d", json!(12)), world.key_auth("e", json!(5)), world.key_auth("f", json!(5))])
        .await;
    world.write(vec![world.key_auth("e", json!(500))]).await;
    world.write(vec![Write::Delete(Key::new("keyauth_credentials", "f"), Expect::Any)]).await;
    world.clock.advance(Duration::from_secs(9));
    assert_eq!(keeper.round().await.unwrap().expired, 0);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(keeper.round().await.unwrap().expired, 1);
    assert_eq!(world.ids().await, ["b", "c", "d", "e"]);
    world.clock.advance(Duration::from_secs(100));
    assert_eq!(keeper.round().await.unwrap().expired, 2);
    assert_eq!(world.ids().await, ["b", "e"]);
    let newest = world.store.generations(None, 1).await.unwrap().remove(0);
    assert_eq!((&*newest.author.via, newest.changes), ("expiry", 2));
    // Nothing has expired since, and no revision is made.
    assert_eq!(keeper.round().await.unwrap().expired, 0);
    assert_eq!(world.store.head().await.unwrap().revision, newest.revision);
}

#[tokio::test]
async fn what_was_written_since_stays() {
    let world = World::new();
    world.write(vec![world.key_auth("a", json!(10)), world.key_auth("b", json!(10))]).await;
    let keeper = world.keeper(Retention::default());
    let mut lives = keeper.all_lives().await.unwrap();
    world.write(vec![world.key_auth("a", json!(500))]).await;
    let over = ["a", "b"].map(|id| Key::new("keyauth_credentials", id)).to_vec();
    assert_eq!(keeper.delete(&mut lives, over).await.unwrap(), 1);
    assert_eq!(world.ids().await, ["a"]);
}

#[tokio::test]
async fn many_are_deleted_in_batches() {
    let world = World::new();
    let many = BATCH_MAX * BATCHES_MAX + 7;
    world.write((0..many).map(|n| world.key_auth(&format!("{n:06}"), json!(1))).collect()).await;
    world.clock.advance(Duration::from_secs(1));
    let mut keeper = world.keeper(Retention::default());
    assert_eq!(keeper.round().await.unwrap().expired, BATCH_MAX * BATCHES_MAX);
    assert_eq!(keeper.round().await.unwrap().expired, 7);
    assert_eq!(world.ids().await.len(), 0);
}

#[tokio::test]
async fn the_log_is_shortened() {
    let world = World::new();
    let oldest = async || world.store.head().await.unwrap().oldest;
    for n in 0..10 {
        world.write(vec![world.key_auth(&n.to_string(), json!(null))]).await;
        world.clock.advance(Duration::from_secs(86_400));
    }
    world.keeper(Retention::default()).round().await.unwrap();
    assert_eq!(oldest().await, 0, "for ever");
    world.keeper(Retention { days: 8, revisions_max: 100 }).round().await.unwrap();
    assert_eq!(oldest().await, 2);
    let mut keeper = world.keeper(Retention { days: 0, revisions_max: 3 });
    keeper.round().await.unwrap();
    assert_eq!(oldest().await, 7);
    // What a leader has read is read anew when the log no longer reaches back to it.
    world.write(vec![world.key_auth("late", json!(1))]).await;
    world.write(vec![world.key_auth("x", json!(null))]).await;
    world.write(vec![world.key_auth("y", json!(null))]).await;
    world.store.prune(12).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(keeper.round().await.unwrap().expired, 1);
    cardinal_store::verify(&*world.store).await.unwrap();
}

#[tokio::test]
async fn one_of_several_leads() {
    let world = World::new();
    let (mut one, mut other) = (world.keeper(Retention::default()), world.keeper(Retention::default()));
    assert!(!one.round().await.unwrap().is_follower);
    assert!(other.round().await.unwrap().is_follower);
    assert!(!one.round().await.unwrap().is_follower);
    drop(one);
    assert!(!other.round().await.unwrap().is_follower);
}
