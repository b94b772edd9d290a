//! [`FilesApi`]: the configuration of files as the Admin API shows it, and configurations that clients post.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context as Hash, SHA256};
use cardinal_control::api::Declarative;
use cardinal_control::{Fault, SnapshotStore};
use cardinal_kong::declarative::{Change, export};
use cardinal_kong::{Registry, Snapshot};
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Bytes of the hash that clients see, as long as the one of Kong.
const HASH_BYTES: usize = 16;

/// The configuration of a node without a database, for the Admin API.
#[derive(Debug)]
pub(in crate::run) struct FilesApi {
    store: Arc<SnapshotStore>,
    registry: Arc<Registry>,
    hash: Mutex<String>,
    posts: Sender<Post>,
    /// One configuration is loaded at a time.
    turn: Arc<Semaphore>,
}

/// A configuration that a client posts.
#[derive(Debug)]
pub(in crate::run) struct Post {
    /// YAML or JSON.
    pub(in crate::run) text: String,
    /// Errors are listed by entity.
    pub(in crate::run) flatten_errors: bool,
    answer: oneshot::Sender<Result<Value, Fault>>,
    turn: OwnedSemaphorePermit,
}

impl Post {
    /// Tells the client. One that went away needs no answer.
    pub(in crate::run) fn answer(self, result: Result<Value, Fault>) {
        // Before the client knows, so that it can post the next one.
        drop(self.turn);
        self.answer.send(result).ok();
    }
}

impl FilesApi {
    /// Nothing is loaded yet. What clients post is received there.
    pub(super) fn new(store: Arc<SnapshotStore>, registry: Arc<Registry>) -> (Arc<Self>, Receiver<Post>) {
        let (posts, received) = channel(1);
        let (hash, turn) = (Mutex::new(empty_hash()), Arc::new(Semaphore::new(1)));
        (Arc::new(Self { store, registry, hash, posts, turn }), received)
    }

    /// Shows what is served from now on, and was read from these texts; the changes by which a client made them.
    pub(in crate::run) fn publish<'t>(
        &self,
        entities: Arc<Snapshot>,
        texts: impl IntoIterator<Item = &'t str>,
        changes: Option<&[Change]>,
    ) {
        let hash = if entities.is_empty() { empty_hash() } else { hash(texts) };
        match changes {
            Some(changes) => self.store.replace_written(entities, changes),
            None => self.store.replace(entities),
        }
        *self.hash.lock().unwrap_or_else(PoisonError::into_inner) = hash;
    }

    /// What is served.
    pub(in crate::run) fn snapshot(&self) -> Arc<Snapshot> {
        self.store.snapshot()
    }

    /// The revision of what is served.
    pub(in crate::run) fn revision(&self) -> u64 {
        self.store.revision()
    }

    async fn load(&self, text: String, flatten_errors: bool) -> Result<Value, Fault> {
        let ending = || Fault::message(503, "Kong currently exiting");
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else {
            return Err(Fault::message(429, "Currently loading previous configuration"));
        };
        let (answer, answered) = oneshot::channel();
        let post = Post { text, flatten_errors, answer, turn };
        self.posts.send(post).await.map_err(|_| ending())?;
        answered.await.map_err(|_| ending())?
    }
}

impl Declarative for FilesApi {
    fn text(&self) -> String {
        export(&self.store.snapshot(), &self.registry)
    }

    fn hash(&self) -> String {
        self.hash.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_served(&self, text: &str) -> bool {
        self.hash() == hash([text])
    }

    fn replace(&self, text: String, flatten_errors: bool) -> cardinal_control::FutureOf<'_, Result<Value, Fault>> {
        Box::pin(self.load(text, flatten_errors))
    }
}

/// Clients take zeros for a node that has no configuration.
fn empty_hash() -> String {
    "0".repeat(HASH_BYTES * 2)
}

/// The hash of texts, each with its length.
fn hash<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let mut hash = Hash::new(&SHA256);
    for text in texts {
        hash.update(&text.len().to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finish().as_ref().iter().take(HASH_BYTES).fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").ok();
        out
    })
}
