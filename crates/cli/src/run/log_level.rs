//! [`LogLevel`]: the minimum log level, which can be changed while the process runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cardinal_base::{Clock, log, task};

/// The minimum log level of the process, by Kong's names.
#[derive(Debug)]
pub(super) struct LogLevel {
    configured: String,
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    /// Changes which events are logged.
    install: fn(&str) -> Result<(), String>,
}

#[derive(Debug)]
struct State {
    level: String,
    /// Counts the changes: a timeout concerns only the change that it came with.
    change: u64,
}

impl LogLevel {
    /// The level that the log was opened with.
    pub(super) fn new(configured: &str, clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::installing(configured, clock, log::set_level)
    }

    fn installing(configured: &str, clock: Arc<dyn Clock>, install: fn(&str) -> Result<(), String>) -> Arc<Self> {
        let state = Mutex::new(State { level: configured.to_owned(), change: 0 });
        Arc::new(Self { configured: configured.to_owned(), state, clock, install })
    }

    /// The current level.
    pub(super) fn get(&self) -> String {
        self.lock().level.clone()
    }

    /// Changes the level for this many seconds, after which the configured one is used again; 0 is for ever. To be called
    /// on a runtime.
    ///
    /// # Errors
    /// The log does not take the level.
    pub(super) fn set(self: &Arc<Self>, level: &str, seconds: u64) -> Result<(), String> {
        // Before the change, which may hide it.
        tracing::warn!(level, seconds, "log level set to {level} {}", duration_text(seconds, &self.configured));
        let change = self.change(level, None)?.unwrap_or_default();
        if seconds > 0 {
            let own = Arc::clone(self);
            drop(task::spawn("log level timeout", async move {
                own.clock.sleep(Duration::from_secs(seconds)).await;
                own.restore(change);
            }));
        }
        Ok(())
    }

    /// Returns to the configured level, unless the level was changed since.
    fn restore(&self, change: u64) {
        let level = self.configured.as_str();
        match self.change(level, Some(change)) {
            Ok(Some(_)) => tracing::warn!(level, "log level set back to {level}"),
            Ok(None) => {}
            Err(error) => tracing::error!(level, "the log level cannot be set back: {error}"),
        }
    }

    /// The number of the change; `None` if another change came after the one that is expected.
    fn change(&self, level: &str, expected: Option<u64>) -> Result<Option<u64>, String> {
        let mut state = self.lock();
        if expected.is_some_and(|expected| expected != state.change) {
            return Ok(None);
        }
        (self.install)(filter(level))?;
        level.clone_into(&mut state.level);
        state.change += 1;
        Ok(Some(state.change))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn duration_text(seconds: u64, configured: &str) -> String {
    match seconds {
        0 => "until the process ends".to_owned(),
        seconds => format!("for {seconds} s, then back to {configured}"),
    }
}

/// The filter for Kong's level. `notice` has no equivalent: messages of the node itself, and warnings.
pub(super) fn filter(level: &str) -> &'static str {
    match level {
        "debug" => "debug",
        "info" => "info",
        "warn" => "warn",
        "error" | "crit" | "alert" | "emerg" => "error",
        _ => "warn,cardinal_cli=info,cardinal_sync=info",
    }
}

#[cfg(test)]
mod tests {
    use cardinal_base::ManualClock;

    use super::*;

    #[tokio::test]
    async fn a_level_lasts_for_its_timeout() {
        let clock = Arc::new(ManualClock::default());
        let level = LogLevel::installing("notice", Arc::clone(&clock) as _, |_| Ok(()));
        level.set("debug", 60).unwrap();
        clock.pass(Duration::from_secs(59)).await;
        assert_eq!(level.get(), "debug");
        // The timeout of a level that was replaced has no effect.
        level.set("info", 60).unwrap();
        clock.pass(Duration::from_secs(59)).await;
        assert_eq!(level.get(), "info");
        clock.pass(Duration::from_secs(1)).await;
        assert_eq!(level.get(), "notice");
        level.set("error", 0).unwrap();
        clock.pass(Duration::from_secs(1_000_000)).await;
        assert_eq!(level.get(), "error");
    }

    #[tokio::test]
    async fn a_level_that_cannot_be_set_changes_nothing() {
        let level = LogLevel::installing("notice", Arc::new(ManualClock::default()), |_| Err("broken".to_owned()));
        assert_eq!(level.set("debug", 0), Err("broken".to_owned()));
        assert_eq!(level.get(), "notice");
    }

    #[test]
    fn every_level_of_kong_is_one_here() {
        for (level, expected) in
            [("debug", "debug"), ("crit", "error"), ("notice", "warn,cardinal_cli=info,cardinal_sync=info")]
        {
            assert_eq!(filter(level), expected);
        }
    }
}
