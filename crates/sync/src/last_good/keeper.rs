//! [`Keeper`]: saves each configuration that is served, and tries again where that fails for a while.

use std::io;
use std::path::Path;

use cardinal_base::Tick;

use super::{LastGood, SaveError, Saved};
use crate::Backoff;

/// Saves each configuration that is served. What cannot be saved because the node has run out of something, such as file
/// descriptors, is saved later.
#[derive(Debug)]
pub struct Keeper {
    file: LastGood,
    /// What is to be saved.
    unsaved: Option<Saved>,
    backoff: Backoff,
    /// The error that was logged last, while it lasts.
    logged: Option<String>,
}

impl Keeper {
    /// Keeps configurations in this directory, which is created for this user alone if it does not exist.
    ///
    /// # Errors
    /// When the directory cannot be created.
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

    /// Saves a configuration that is served from now on, and says whether it is saved. One that could not be saved before
    /// is forgotten.
    pub fn keep(&mut self, saved: Saved, now: Tick) -> bool {
        self.unsaved = Some(saved);
        self.backoff.reset();
        self.attempt(now)
    }

    /// Milliseconds until [`Keeper::retry`] is to be called; `None` while there is nothing to save.
    pub fn wait_ms(&self, now: Tick) -> Option<u64> {
        self.backoff.wait_ms(now)
    }

    /// Saves what could not be saved before, if it is time, and says whether it is saved now.
    pub fn retry(&mut self, now: Tick) -> bool {
        self.backoff.is_due(now) && self.attempt(now)
    }

    /// Whether there is something that is to be saved later.
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
            // The next configuration is the next attempt.
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
