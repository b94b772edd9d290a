//! [`Keeper`]: saves each active configuration, and retries if saving fails temporarily.

use std::io;
use std::path::Path;

use cardinal_base::Tick;

use super::{LastGood, SaveError, Saved};
use crate::Backoff;

/// Saves each active configuration. If saving fails because the node has run out of a resource, such as file
/// descriptors, it is retried.
#[derive(Debug)]
pub struct Keeper {
    file: LastGood,
    /// The configuration still to be saved.
    unsaved: Option<Saved>,
    backoff: Backoff,
    /// The last logged error, as long as it persists.
    logged: Option<String>,
}

impl Keeper {
    /// Keeps configurations in this directory, which is created with access for the current user only if it does not
    /// exist.
    ///
    /// # Errors
    /// If the directory cannot be created.
    pub fn open(folder: &Path) -> io::Result<Self> {
        LastGood::open(folder).map(Self::new)
    }

    /// Keeps configurations in this file.
    pub fn new(file: LastGood) -> Self {
        Self { file, unsaved: None, backoff: Backoff::default(), logged: None }
    }

    /// The file.
    pub fn file(&self) -> &LastGood {
        &self.file
    }

    /// Saves a newly active configuration; returns whether it was saved. A previous unsaved one is dropped.
    pub fn keep(&mut self, saved: Saved, now: Tick) -> bool {
        self.unsaved = Some(saved);
        self.backoff.reset();
        self.attempt(now)
    }

    /// Milliseconds until [`Keeper::retry`] has to be called; `None` if nothing is unsaved.
    pub fn wait_ms(&self, now: Tick) -> Option<u64> {
        self.backoff.wait_ms(now)
    }

    /// Retries saving if it is due; returns whether the configuration was saved.
    pub fn retry(&mut self, now: Tick) -> bool {
        self.backoff.is_due(now) && self.attempt(now)
    }

    /// Whether a configuration is still unsaved.
    pub fn has_unsaved(&self) -> bool {
        self.unsaved.is_some()
    }

    fn attempt(&mut self, now: Tick) -> bool {
        let Some(saved) = &self.unsaved else {
            self.backoff.reset();
            return false;
        };
        if let Err(error) = self.file.save(saved) {
            self.failed(&error, now);
            return false;
        }
        self.unsaved = None;
        self.backoff.reset();
        if self.logged.take().is_some() {
            tracing::info!("the last known good configuration is saved");
        }
        true
    }

    fn failed(&mut self, error: &SaveError, now: Tick) {
        let text = error.to_string();
        if error.is_transient() {
            self.backoff.failed(now);
        } else {
            // The next attempt happens with the next configuration.
            self.unsaved = None;
            self.backoff.reset();
        }
        if self.logged.as_ref() != Some(&text) {
            let next = if error.is_transient() { "; it is tried again" } else { "" };
            tracing::warn!("the last known good configuration cannot be saved: {text}{next}");
            self.logged = Some(text);
        }
    }
}
