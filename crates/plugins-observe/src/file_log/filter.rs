//! Writing records to a file, on the control runtime.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cardinal_base::descriptors;
use cardinal_base::log::open_append;
use cardinal_sdk::queue::{DeliveryError, Queue, Settings, User};
use cardinal_sdk::{BuildCx, BuildError, Filter, LogCx, Phases};
use serde_json::Value;

use crate::custom_fields::CustomFields;

/// Lines written at a time.
const BATCH: usize = 1_000;

/// Lines and bytes that may wait for a slow disk; beyond, the oldest are dropped.
const LINES_MAX: usize = 100_000;
const BYTES_MAX: usize = 64 << 20;

struct FileLog {
    fields: CustomFields,
    queue: User<Bytes>,
}

/// The file, open between batches unless it is to be opened anew.
struct Target {
    path: PathBuf,
    reopen: bool,
    file: Mutex<Option<File>>,
}

pub(super) fn build(config: &Value, cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let path = config.get("path").and_then(Value::as_str);
    let path = path.ok_or_else(|| BuildError::new("config.path", "required field missing"))?;
    let reopen = config.get("reopen").and_then(Value::as_bool).unwrap_or(false);
    let settings = Settings {
        name: format!("file-log {path}{}", if reopen { " (reopened)" } else { "" }),
        max_batch_size: BATCH,
        max_coalescing_delay: Duration::ZERO,
        max_entries: LINES_MAX,
        max_bytes: Some(BYTES_MAX),
        // A file that cannot be written now is not waited for: newer lines would be lost instead.
        max_retry_time: Duration::ZERO,
        ..Settings::default()
    };
    let target = Arc::new(Target { path: path.into(), reopen, file: Mutex::default() });
    let queue = Queue::open(cx.services, settings, move |lines: Vec<Bytes>| {
        let target = Arc::clone(&target);
        async move {
            let written = tokio::task::spawn_blocking(move || target.write(&lines));
            written.await.unwrap_or_else(|error| Err(error.to_string().into()))
        }
    });
    Ok(Arc::new(FileLog { fields: CustomFields::read(config)?, queue: queue.used_by(cx) }))
}

impl Filter for FileLog {
    fn phases(&self) -> Phases {
        Phases::LOG
    }

    fn on_log(&self, cx: &LogCx<'_>) {
        let mut line = self.fields.line(cx);
        line.push(b'\n');
        self.queue.push(line.into());
    }
}

impl Target {
    fn write(&self, lines: &[Bytes]) -> Result<(), DeliveryError> {
        let failed = |error: io::Error| format!("{}: {error}", self.path.display());
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = match open.take() {
            Some(file) => file,
            None => open_append(&self.path).map_err(|error| {
                // Nothing is written yet, so that the lines can be written as soon as there is a descriptor.
                let is_local = descriptors::is_local(&error);
                DeliveryError { is_local, reason: failed(error), ..DeliveryError::default() }
            })?,
        };
        file.write_all(&lines.concat()).map_err(failed)?;
        if !self.reopen {
            *open = Some(file);
        }
        Ok(())
    }
}
