//! Parameters of a queue.

use std::time::Duration;

use serde_json::Value;

/// Parameters of a queue: Kong's `queue` record.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The name in logs, which together with the parameters identifies the queue. It has to include everything that
    /// distinguishes queues, such as the destination.
    pub name: String,
    /// Maximum number of entries per batch.
    pub max_batch_size: usize,
    /// How long to wait for a batch to fill up, from its first entry on.
    pub max_coalescing_delay: Duration,
    /// Maximum number of entries in the queue; the oldest are dropped.
    pub max_entries: usize,
    /// Maximum size of the queue, bytes; the oldest entries are dropped.
    pub max_bytes: Option<usize>,
    /// Time after the first attempt at which a failed batch is dropped.
    pub max_retry_time: Duration,
    /// Delay before the first retry; doubles with each retry.
    pub initial_retry_delay: Duration,
    /// Maximum delay between retries.
    pub max_retry_delay: Duration,
    /// Each entry is delivered immediately and separately (Kong: `concurrency_limit: -1`); `max_entries` limits the
    /// number in progress.
    pub parallel: bool,
}

impl Default for Settings {
    /// Kong's defaults, without a name.
    fn default() -> Self {
        Self {
            name: String::new(),
            max_batch_size: 1,
            max_coalescing_delay: Duration::from_secs(1),
            max_entries: 10_000,
            max_bytes: None,
            max_retry_time: Duration::from_secs(60),
            initial_retry_delay: Duration::from_millis(10),
            max_retry_delay: Duration::from_secs(60),
            parallel: false,
        }
    }
}

impl Settings {
    /// Reads a valid `queue` record; absent values have Kong's defaults.
    pub fn from_config(name: impl Into<String>, record: &Value) -> Self {
        let default = Self::default();
        let count = |field: &str| record.get(field).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let seconds = |field: &str| record.get(field).and_then(Value::as_f64).and_then(seconds);
        Self {
            name: name.into(),
            max_batch_size: count("max_batch_size").unwrap_or(default.max_batch_size).max(1),
            max_coalescing_delay: seconds("max_coalescing_delay").unwrap_or(default.max_coalescing_delay),
            max_entries: count("max_entries").unwrap_or(default.max_entries).max(1),
            max_bytes: count("max_bytes"),
            max_retry_time: seconds("max_retry_time").unwrap_or(default.max_retry_time),
            initial_retry_delay: seconds("initial_retry_delay").unwrap_or(default.initial_retry_delay),
            max_retry_delay: seconds("max_retry_delay").unwrap_or(default.max_retry_delay),
            parallel: record.get("concurrency_limit").and_then(Value::as_i64) == Some(-1),
        }
    }

    /// Applies two legacy settings of loggers (Kong: `get_plugin_params`): `queue_size` unless 1, `flush_timeout`
    /// unless 2.
    #[must_use]
    pub fn with_old_names(mut self, config: &Value) -> Self {
        let size = config.get("queue_size").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        if let Some(size) = size.filter(|n| *n > 1) {
            self.max_batch_size = size;
            tracing::warn!(queue = %self.name, "queue_size is deprecated, use queue.max_batch_size instead");
        }
        let delay = config.get("flush_timeout").and_then(Value::as_f64).filter(|s| (*s - 2.0).abs() > f64::EPSILON);
        if let Some(delay) = delay.and_then(seconds) {
            self.max_coalescing_delay = delay;
            tracing::warn!(queue = %self.name, "flush_timeout is deprecated, use queue.max_coalescing_delay instead");
        }
        let retries = config.get("retry_count").and_then(Value::as_u64);
        if retries.is_some_and(|n| n != 10) {
            tracing::warn!(queue = %self.name, "retry_count no longer works, use queue.max_retry_time instead");
        }
        self
    }

    pub(super) fn key(&self) -> String {
        format!("{self:?}")
    }
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok()
}
