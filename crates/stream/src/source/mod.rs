//! [`StreamSource`]: the configuration of a data plane, from its control planes.

mod link;
mod saver;

use std::path::Path;
use std::sync::Arc;

use cardinal_base::{Clock, SeededRng, task};
use cardinal_ir::{Ir, NodeSettings, SecretKey, Secrets};
use cardinal_sync::stream::{Client, ClientOptions, GenerationId, Held, Received, Reconnect, TargetHealth};
use cardinal_sync::{Ack, ConfigOutcome, ConfigSource, ConfigStatus, LastGood, LoadError, Next, Saved, Update};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::connect::ControlPlane;
use crate::credentials::Credentials;
use crate::rejected::Rejected;
use link::Link;
use saver::Saver;

/// How a [`StreamSource`] behaves.
#[derive(Debug)]
pub struct StreamSourceOptions {
    /// The control planes. A data plane is connected to one of them, and moves to the next one when that fails.
    pub control_planes: Vec<ControlPlane>,
    /// What the data plane says about itself, and the limits of the stream.
    pub client: ClientOptions,
    /// Settings of the node.
    pub node: Arc<NodeSettings>,
    /// The key that signs the last known good configuration.
    pub key: SecretKey,
    /// What became of the last generation, for status pages.
    pub status: Arc<ConfigStatus>,
    /// Takes what operators say about targets.
    pub health: Option<mpsc::Sender<TargetHealth>>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Why there is no source.
#[derive(Debug, thiserror::Error)]
pub enum StreamSourceError {
    /// No address.
    #[error("there is no control plane to connect to")]
    NoControlPlane,
    /// The data directory cannot be created.
    #[error("cannot create {}: {error}", .path.display())]
    Folder {
        /// The directory.
        path: std::path::PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// The configuration of a data plane, from its control planes.
///
/// The first update is the last known good configuration, if there is one: the node serves it whether or not a control plane
/// can be reached, and catches up by what has changed since. A file that was changed by somebody else is refused.
pub struct StreamSource {
    link: Arc<Link>,
    connecting: JoinHandle<()>,
    saver: Arc<Saver>,
    saving: JoinHandle<()>,
    node: Arc<NodeSettings>,
    status: Arc<ConfigStatus>,
    /// What was saved before the start, until it is taken.
    last_good: Option<Update>,
    is_started: bool,
    pending: Option<Pending>,
    /// What was acknowledged last.
    served: Arc<Ir>,
    rejected: Rejected,
}

/// An update that is to be acknowledged.
struct Pending {
    update: Update,
    /// `None` for the last known good configuration.
    received: Option<Received>,
}

impl StreamSource {
    /// Reads the last known good configuration in this directory, and begins to connect. To be called on a tokio runtime with
    /// I/O and time.
    ///
    /// # Errors
    /// When there are no addresses, or the directory cannot be used.
    pub fn start(
        folder: &Path,
        credentials: Credentials,
        options: StreamSourceOptions,
    ) -> Result<Self, StreamSourceError> {
        let StreamSourceOptions { control_planes, client, node, key, status, health, clock } = options;
        if control_planes.is_empty() {
            return Err(StreamSourceError::NoControlPlane);
        }
        let file =
            LastGood::open(folder).map_err(|error| StreamSourceError::Folder { path: folder.to_owned(), error })?;
        let file = file.signed(key);
        let (held, last_good) = load(&file, &node);
        let mut rng = SeededRng::from_system();
        let reconnect = Reconnect::new(control_planes.len(), &mut rng);
        let link = Arc::new(Link::new(Client::new(client, held), health, Arc::clone(&clock)));
        let connecting = task::spawn(
            "configuration stream: control planes",
            Arc::clone(&link).run(control_planes, credentials, reconnect, rng),
        );
        let saver = Arc::new(Saver::new(file, clock));
        let saving = task::spawn("configuration stream: last known good", Arc::clone(&saver).run());
        let (served, rejected) = (Arc::default(), Rejected::default());
        let (is_started, pending) = (false, None);
        Ok(Self { link, connecting, saver, saving, node, status, last_good, is_started, pending, served, rejected })
    }

    /// The first update, which is there at once: the last known good configuration, or an empty one. [`ConfigSource::next`] gives
    /// it otherwise, but waits for a control plane if there is none.
    pub fn first(&mut self) -> Update {
        let update = self.last_good.take().unwrap_or_else(|| Update::first(Arc::default(), Arc::clone(&self.node)));
        self.offer(update, None)
    }

    /// Settings of the node.
    pub fn node(&self) -> &Arc<NodeSettings> {
        &self.node
    }

    /// What became of the last generation.
    pub fn status(&self) -> &Arc<ConfigStatus> {
        &self.status
    }

    /// Whether it is connected to a control plane.
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Number of the newest generation that a control plane has mentioned; 0 if there is none.
    pub fn newest(&self) -> u64 {
        self.link.client().newest()
    }

    /// The generation that is served; `None` before the first one.
    pub fn served(&self) -> u64 {
        self.link.client().report().served
    }

    fn update(&mut self, received: Received) -> Update {
        let update = Update::between(&self.served, &received.ir).with_secrets(received.secrets.clone());
        self.offer(update, Some(received))
    }

    fn offer(&mut self, mut update: Update, received: Option<Received>) -> Update {
        if !std::mem::replace(&mut self.is_started, true) {
            update = update.with_node(Arc::clone(&self.node));
        }
        self.pending = Some(Pending { update: update.clone(), received });
        update
    }

    fn keep(&self, received: &Received, update: &Update) {
        let about = json!({"stream": {"generation": received.id.to_json(), "is_exact": received.is_exact}});
        let saved = Saved { ir: Arc::clone(update.generation()), secrets: received.secrets.clone(), about };
        self.saver.note(saved);
    }
}

/// What the client has, and the update, of the last known good configuration.
fn load(file: &LastGood, node: &Arc<NodeSettings>) -> (Held, Option<Update>) {
    let loaded = match file.load() {
        Ok(loaded) => loaded,
        Err(LoadError::Missing(_)) => return (Held::default(), None),
        Err(error) => {
            tracing::error!("the last known good configuration is not used: {error}");
            return (Held::default(), None);
        }
    };
    for rejected in &loaded.rejected {
        let (kind, id, reason) = (rejected.kind.as_str(), &rejected.id, &rejected.reason);
        tracing::warn!("a record of the last known good configuration is left out: {id} of {kind}: {reason}");
    }
    let stream = loaded.about.get("stream");
    let generation = stream.and_then(|stream| GenerationId::of_json(stream.get("generation")?));
    let is_exact = stream.and_then(|stream| stream.get("is_exact")).is_some_and(|exact| *exact == Value::Bool(true));
    let secrets: Secrets = loaded.secrets;
    let held = match generation {
        Some(generation) => {
            Held::restored(&loaded.ir, secrets.clone(), generation, is_exact && loaded.rejected.is_empty())
        }
        // Saved by a node that read its configuration from elsewhere.
        None => Held::default(),
    };
    (held, Some(Update::first(Arc::new(loaded.ir), Arc::clone(node)).with_secrets(secrets)))
}

impl ConfigSource for StreamSource {
    fn next(&mut self) -> Next<'_> {
        Box::pin(async {
            loop {
                if let Some(update) = self.last_good.take() {
                    return Some(self.offer(update, None));
                }
                // Noticed from here on, so that none is missed between looking and waiting.
                let link = Arc::clone(&self.link);
                let ready = link.ready();
                let received = link.client().take();
                if let Some(received) = received {
                    return Some(self.update(received));
                }
                ready.await;
            }
        })
    }

    fn ack(&mut self, ack: Ack) {
        let Some(Pending { update, received }) = self.pending.take() else { return };
        let rejections = self.rejected.after(&update, &ack);
        if ack.is_applied() {
            self.served = Arc::clone(update.generation());
        }
        // An empty one was made up.
        if received.is_some() || !update.generation().is_empty() {
            self.status.report(ConfigOutcome::of(&ack));
        }
        let refusal = match &ack {
            Ack::Applied { .. } => None,
            Ack::Refused(refusal) => Some(refusal.to_string()),
        };
        match received {
            Some(received) => {
                if refusal.is_none() {
                    self.keep(&received, &update);
                }
                self.link.client().acknowledge(&received, refusal, rejections);
                self.link.wake();
            }
            None => {
                if let Some(refusal) = refusal {
                    tracing::error!("the last known good configuration cannot be served: {refusal}");
                }
            }
        }
    }
}

impl Drop for StreamSource {
    fn drop(&mut self) {
        self.connecting.abort();
        self.saving.abort();
        // What came last may not be written yet.
        self.saver.save();
    }
}
