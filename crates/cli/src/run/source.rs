//! [`Source`]: where the configuration of the node comes from, and to whom it is sent on.

use std::sync::Arc;

use cardinal_ir::{Diagnostics, Ir, Listener, Secrets, Verified};
use cardinal_stream::StreamSource;
use cardinal_sync::{Ack, ConfigSource, ConfigStatus, Next, Refusal, Update};

use super::cluster::Publisher;
use super::control::ControlSource;
use super::file_source::FileSource;

/// Where the configuration of the node comes from.
pub(super) enum Origin {
    /// Files.
    Files(Box<FileSource>),
    /// The store of the process.
    Store(Box<ControlSource>),
    /// Control planes.
    ControlPlanes(Box<StreamSource>),
}

/// The source of the configuration of the node. What is accepted is sent on to data planes, if there is a publisher.
pub(super) struct Source {
    origin: Origin,
    publisher: Option<Publisher>,
    /// The update that is to be acknowledged.
    pending: Option<Arc<Ir>>,
    secrets: Secrets,
    /// Number of the generation that was sent last, where the origin numbers none.
    published: u64,
}

impl Source {
    /// With the first update, which is to be acknowledged.
    pub(super) fn new(origin: Origin, first: &Update, publisher: Option<Publisher>) -> Self {
        let mut source = Self { origin, publisher, pending: None, secrets: Secrets::default(), published: 0 };
        source.note(first);
        source
    }

    /// What the source reports to.
    pub(super) fn status(&self) -> &Arc<ConfigStatus> {
        match &self.origin {
            Origin::Files(source) => source.status(),
            Origin::Store(source) => source.status(),
            Origin::ControlPlanes(source) => source.status(),
        }
    }

    /// Listeners of the settings, and of the first configuration.
    pub(super) fn listeners(&self) -> Vec<Listener> {
        match &self.origin {
            Origin::Files(source) => source.listeners(),
            Origin::Store(source) => source.listeners(),
            Origin::ControlPlanes(source) => source.node().listeners.clone(),
        }
    }

    /// Why the engine does not start with the first configuration.
    pub(super) fn refusal_of_first(&self, found: Diagnostics) -> anyhow::Error {
        match &self.origin {
            Origin::Files(source) => source.refusal_of_first(found),
            Origin::Store(_) | Origin::ControlPlanes(_) => anyhow::anyhow!(found),
        }
    }

    /// What sends generations on.
    pub(super) fn publisher(&self) -> Option<&Publisher> {
        self.publisher.as_ref()
    }

    /// Acknowledges updates without serving them, beginning with the first: they are only sent on.
    pub(super) async fn send_on(&mut self, first: Update) {
        let (mut verified, mut generation) = (Verified::default(), 0);
        let mut update = Some(first);
        while let Some(next) = update {
            generation += 1;
            let ack = match verified.advance(Arc::clone(next.generation()), next.delta()) {
                Ok(newer) => {
                    verified = newer;
                    Ack::Applied { generation, diagnostics: Vec::new() }
                }
                Err(found) => Ack::Refused(Refusal::Invalid(found)),
            };
            self.ack(ack);
            update = self.next().await;
        }
    }

    fn note(&mut self, update: &Update) {
        if self.publisher.is_some() {
            self.pending = Some(Arc::clone(update.generation()));
            if let Some(secrets) = update.secrets() {
                self.secrets = secrets.clone();
            }
        }
    }
}

impl ConfigSource for Source {
    fn next(&mut self) -> Next<'_> {
        Box::pin(async {
            let update = match &mut self.origin {
                Origin::Files(source) => source.next().await,
                Origin::Store(source) => source.next().await,
                Origin::ControlPlanes(source) => source.next().await,
            }?;
            self.note(&update);
            Some(update)
        })
    }

    fn ack(&mut self, ack: Ack) {
        let is_applied = ack.is_applied();
        match &mut self.origin {
            Origin::Files(source) => source.ack(ack),
            Origin::Store(source) => source.ack(ack),
            Origin::ControlPlanes(source) => source.ack(ack),
        }
        let Some((publisher, generation)) = self.publisher.as_ref().zip(self.pending.take()) else { return };
        if is_applied {
            self.published = match &self.origin {
                Origin::Store(source) => source.revision(),
                Origin::Files(_) | Origin::ControlPlanes(_) => self.published + 1,
            };
            publisher.publish(&generation, self.secrets.clone(), self.published);
        }
    }
}
