//! Changes of the Admin API, written back to the files that the configuration comes from.
//!
//! A change is edited into the texts, read as any text is, written beside the file, served, and only then put in the place
//! of the file: what a client is told to be written is served and on the disk, and what cannot be written is not served.

use std::path::Path;

use cardinal_control::WriteError;
use cardinal_kong::declarative::{Change, Meaning, edit};
use cardinal_kong::{LoadErrors, Source};
use cardinal_sync::Update;
use tokio::sync::mpsc::Receiver;

use super::super::control::{Api, WriteRequest};
use super::draft::Draft;
use super::{FileSource, Pending};
use crate::config::{Reading, Refusal, Texts};

/// A change that is served and is to be written.
pub(super) struct Write {
    request: WriteRequest,
    drafts: Vec<Draft>,
}

impl Write {
    /// Tells the client why its change is not served.
    pub(super) fn refuse(self, refusal: &Refusal) {
        self.request.answer(Err(WriteError::Refused(refusal.summary())));
    }
}

/// The next change of a client; never ready if none are taken.
pub(super) async fn next(writes: Option<&mut Receiver<WriteRequest>>) -> WriteRequest {
    if let Some(writes) = writes
        && let Some(write) = writes.recv().await
    {
        return write;
    }
    std::future::pending().await
}

impl FileSource {
    /// Prepares a change. If the files were changed by something else, they are loaded first.
    pub(super) fn begin_write(&mut self, request: WriteRequest) -> Option<Update> {
        match self.try_write(&request) {
            Ok(Begun::Unchanged) => request.answer(Ok(())),
            Ok(Begun::Update(update, drafts)) => {
                if let Some(pending) = &mut self.pending {
                    pending.write = Some(Write { request, drafts });
                }
                return Some(update);
            }
            Ok(Begun::Reload(update)) => {
                self.waiting = Some(request);
                return Some(update);
            }
            Err(error) => request.answer(Err(error)),
        }
        None
    }

    fn try_write(&mut self, request: &WriteRequest) -> Result<Begun, WriteError> {
        let conflict = |refusal: Refusal| {
            let why = refusal.summary();
            WriteError::Conflict(format!("the files on the disk are not what is served, and cannot be loaded: {why}"))
        };
        let preferences = self.site.settings().map_err(conflict)?;
        let texts = self.site.texts(&preferences).map_err(conflict)?;
        if texts.digest != self.texts {
            let update = self.try_read(true).map_err(|refusal| {
                self.failed(&refusal, false);
                conflict(refusal)
            })?;
            return update.map(Begun::Reload).ok_or(WriteError::Reloaded);
        }
        let Some(Api { shared, .. }) = &self.api else { return Err(WriteError::Ending) };
        if shared.revision() != request.revision {
            return Err(WriteError::Reloaded);
        }
        let registry = self.site.registry(&preferences.settings).map_err(conflict)?;
        let fill = |files: &[Source]| -> Result<Vec<Source>, Box<LoadErrors>> { self.site.fill_sources(files) };
        let meaning = Meaning { registry: &registry, settings: &preferences.settings, fill: &fill };
        let filled = fill(&texts.sources).map_err(|errors| conflict(Refusal::Load(errors)))?;
        let sources = edit(&filled, &shared.snapshot(), &request.changes, &meaning)
            .map_err(|error| WriteError::Conflict(error.to_string()))?;
        let changed: Vec<(&Source, &Source)> =
            texts.sources.iter().zip(&sources).filter(|(old, new)| old.text != new.text).collect();
        if changed.is_empty() {
            return Ok(Begun::Unchanged);
        }
        let reading = Reading { strict: self.strict, keep_entities: true, is_posted: false };
        let loaded = self
            .site
            .lowered(&preferences.settings, &sources, reading)
            .map_err(|refusal| WriteError::Refused(refusal.summary()))?;
        let drafts = changed.iter().map(|(old, new)| Draft::write(Path::new(&new.name), &old.text, &new.text));
        let drafts = drafts.collect::<Result<Vec<_>, _>>().map_err(WriteError::Unwritable)?;
        let texts = Texts { digest: preferences.digest(&sources), sources };
        Ok(Begun::Update(self.prepare(loaded, texts, false), drafts))
    }

    /// Puts the drafts of a change that is served in the place of the files; tells whether it is done. Otherwise the files
    /// are loaded again.
    pub(super) fn end_write(&mut self, pending: &mut Pending, generation: u64) -> Option<Vec<Change>> {
        let Write { request, drafts } = pending.write.take()?;
        let error = match drafts.iter().all(Draft::is_current) {
            true => match apply(&drafts) {
                Ok(()) => {
                    self.tried = pending.texts.digest;
                    let changes = request.changes.clone();
                    pending.written = Some(request);
                    return Some(changes);
                }
                Err(why) => WriteError::Unwritable(why),
            },
            false => WriteError::Reloaded,
        };
        // The engine serves what is not in the files: they are loaded again, whatever they say.
        self.generation = generation;
        (self.served, self.node) = (std::sync::Arc::clone(&pending.generation), std::sync::Arc::clone(&pending.node));
        self.secrets = std::mem::take(&mut pending.secrets);
        self.texts = Default::default();
        self.reload_now = true;
        match error {
            WriteError::Reloaded => self.waiting = Some(request),
            error => request.answer(Err(error)),
        }
        None
    }

    /// Tells clients that their changes are written, or are to be decided again on what is served now.
    pub(super) fn tell_writers(&mut self, pending: &mut Pending) {
        if let Some(written) = pending.written.take() {
            written.answer(Ok(()));
        }
        self.tell_waiting(None);
    }

    /// Tells a client whose change met other changes of the files that these are loaded.
    pub(super) fn tell_waiting(&mut self, refusal: Option<&Refusal>) {
        let Some(request) = self.waiting.take() else { return };
        request.answer(Err(match refusal {
            None => WriteError::Reloaded,
            Some(refusal) => WriteError::Conflict(format!(
                "the files were changed by something else, and cannot be loaded: {}",
                refusal.summary()
            )),
        }));
    }
}

/// What comes of a change.
enum Begun {
    /// It is in the files already.
    Unchanged,
    /// It is to be served, and written then.
    Update(Update, Vec<Draft>),
    /// The files were changed by something else, which is to be served first.
    Reload(Update),
}

/// Replaces files, all of them or none.
fn apply(drafts: &[Draft]) -> Result<(), String> {
    for (at, draft) in drafts.iter().enumerate() {
        if let Err(error) = draft.apply() {
            drafts.iter().take(at).for_each(Draft::undo);
            return Err(error);
        }
    }
    Ok(())
}
