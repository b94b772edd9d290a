//! Configurations that clients post to `/config`: each becomes a generation, as one that is read from files.

use std::sync::Arc;

use cardinal_control::Fault;
use cardinal_kong::declarative::Change;
use cardinal_kong::{Snapshot, Source};
use cardinal_sync::{Refusal as EngineRefusal, Update};
use serde_json::json;
use tokio::sync::mpsc::Receiver;

use super::super::control::Post;
use super::super::node::log_refusal;
use super::{FileSource, Pending};
use crate::config::{Reading, Refusal, Texts};

/// The name of a posted text in messages.
const NAME: &str = "POST /config";

/// The next configuration that a client posts; never ready if there is no API.
pub(super) async fn next(posts: Option<&mut Receiver<Post>>) -> Post {
    if let Some(posts) = posts
        && let Some(post) = posts.recv().await
    {
        return post;
    }
    std::future::pending().await
}

impl FileSource {
    /// Reads a posted configuration. One that is rejected here changes nothing.
    pub(super) fn read_post(&mut self, post: Post) -> Option<Update> {
        match self.try_read_post(&post.text) {
            Ok(update) => {
                if let Some(pending) = &mut self.pending {
                    pending.about.posted = true;
                    pending.post = Some(post);
                }
                Some(update)
            }
            Err(refusal) => {
                self.refuse_post(post, &refusal);
                None
            }
        }
    }

    fn try_read_post(&mut self, text: &str) -> Result<Update, Refusal> {
        let preferences = self.site.settings()?;
        let sources = vec![Source::new(NAME, text)];
        let reading = Reading { strict: self.strict, keep_entities: true, is_posted: true };
        let loaded = self.site.lowered(&preferences.settings, &sources, reading)?;
        // The texts of the files stay as they are: only a change replaces what was posted.
        Ok(self.prepare(loaded, Texts { sources, digest: self.texts }, false))
    }

    /// Tells a client why its configuration is not served.
    pub(super) fn refuse_post(&self, post: Post, refusal: &Refusal) {
        log_refusal(&format!("a posted configuration is refused, generation {} stays", self.generation), refusal);
        let fault = fault(refusal, post.flatten_errors);
        post.answer(Err(fault));
    }

    /// Shows the entities that are served from now on; the changes by which a client made them.
    pub(super) fn publish(&self, pending: &mut Pending, changes: Option<&[Change]>) -> Arc<Snapshot> {
        let entities = pending.loaded.entities.take().unwrap_or_default();
        if let Some(api) = &self.api {
            let texts = pending.texts.sources.iter().map(|source| &*source.text);
            api.shared.publish(Arc::clone(&entities), texts, changes);
        }
        entities
    }
}

/// The refusal of the engine, for people.
pub(super) fn of_engine(pending: &Pending, refusal: EngineRefusal) -> Refusal {
    match refusal {
        EngineRefusal::Invalid(found) => pending.loaded.refused(found, &pending.texts),
        EngineRefusal::Failed(why) => Refusal::Internal(anyhow::anyhow!(why)),
    }
}

fn fault(refusal: &Refusal, flatten_errors: bool) -> Fault {
    match refusal {
        Refusal::Load(errors) => Fault { status: 400, body: errors.to_kong_json(flatten_errors) },
        Refusal::Incomplete(..) => {
            let mut body = json!({ "code": 14, "name": "invalid declarative configuration",
                "message": refusal.summary(), "fields": {} });
            if let (true, Some(body)) = (flatten_errors, body.as_object_mut()) {
                body.insert("flattened_errors".to_owned(), json!([]));
            }
            Fault { status: 400, body }
        }
        Refusal::Settings { .. } | Refusal::Read { .. } | Refusal::Internal(_) => {
            Fault::message(500, &refusal.summary())
        }
    }
}
