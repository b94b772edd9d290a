//! Log set-up: one line for each event, as text on a terminal and as JSON otherwise.
//!
//! Events go through a [`Sink`]: no thread that logs ever waits for standard error.

mod json;
mod sink;
mod visible;

use std::io::{self, IsTerminal as _, Write, stderr};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::reload::Handle;

pub use sink::{Destination, FLUSH_TIMEOUT, Sink, open_append};
pub use visible::visible;

/// Log format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// Whether lines to standard error are JSON.
    fn is_json(self) -> bool {
        match self {
            Self::Auto => !stderr().is_terminal(),
            Self::Text => false,
            Self::Json => true,
        }
    }
}

/// The log of the process, once it is installed.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    sink: Sink,
    json: bool,
}

/// Replaces the filter of the installed log.
static RELOAD: OnceLock<Reload> = OnceLock::new();

type Reload = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Installs the process-wide subscriber, writing to standard error.
///
/// `level` is one of `trace`, `debug`, `info`, `warn`, `error`, or a filter in the syntax of `tracing_subscriber`.
/// Returns the reason when `level` cannot be read or a subscriber is installed already.
pub fn install(level: &str, format: Format) -> Result<(), String> {
    let destination = Destination::open("/dev/stderr".as_ref()).map_err(|error| format!("standard error: {error}"))?;
    install_to(level, format, destination)
}

/// The same, writing to a destination that standard error leads to as well: the format goes by standard error. Panics
/// are logged as errors from then on.
pub fn install_to(level: &str, format: Format, destination: Destination) -> Result<(), String> {
    let filter = parse_filter(level)?;
    let json = format.is_json();
    let sink = Sink::start(destination, "log lines").map_err(|error| format!("the log's thread: {error}"))?;
    if LOG.set(Log { sink, json }).is_err() {
        return Err("a log is installed already".to_owned());
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(Queued)
        // It would write to the closed standard error, and panic.
        .log_internal_errors(false);
    let (installed, reload) = if json {
        let builder = builder.with_ansi(false).event_format(json::Json).with_filter_reloading();
        let reload = reload_by(builder.reload_handle());
        (builder.try_init(), reload)
    } else {
        // Values come from files and from peers: they must not control the terminal.
        let fields = debug_fn(|writer, field, value| match (field.name(), format!("{value:?}")) {
            ("message", text) => write!(writer, "{}", visible(&text)),
            (name, text) => write!(writer, "{name}={}", visible(&text)),
        });
        let builder = builder.with_ansi(stderr().is_terminal()).fmt_fields(fields.delimited(" "));
        let builder = builder.with_filter_reloading();
        let reload = reload_by(builder.reload_handle());
        (builder.try_init(), reload)
    };
    installed.map_err(|error| error.to_string())?;
    RELOAD.get_or_init(|| reload);
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Changes which events are logged from now on: `level` has the form of that of [`install`].
///
/// Events that are not logged cost one load, as before. An event that is logged takes a read lock on the filter.
///
/// # Errors
/// The level cannot be read, or no log is installed.
pub fn set_level(level: &str) -> Result<(), String> {
    let filter = parse_filter(level)?;
    RELOAD.get().ok_or_else(|| "no log is installed".to_owned())?(filter)
}

fn parse_filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level).map_err(|error| format!("log level {level:?}: {error}"))
}

fn reload_by<S: 'static>(handle: Handle<EnvFilter, S>) -> Reload {
    Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
}

/// Whether a log is installed that writes JSON.
pub fn is_json() -> bool {
    LOG.get().is_some_and(|log| log.json)
}

/// Adds text to the log as it is, if standard error is a terminal.
pub fn progress(text: &str) {
    if let Some(log) = LOG.get().filter(|_| stderr().is_terminal()) {
        log.sink.push(format!("{text}\n").into_bytes());
    }
}

/// Opens the log's file again, after it was moved away.
pub fn reopen() {
    if let Some(log) = LOG.get() {
        log.sink.reopen();
    }
}

/// Waits until everything logged so far is written, or `timeout` is over, or standard error has taken nothing for a
/// second: for the end of the process.
pub fn flush(timeout: Duration) {
    if let Some(log) = LOG.get() {
        // No output is left to report this to.
        log.sink.flush(timeout);
    }
}

/// Log lines that were dropped, since the start.
pub fn dropped() -> u64 {
    LOG.get().map_or(0, |log| log.sink.dropped())
}

/// The standard library would write to standard error, and wait for it.
fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("no message");
    tracing::error!(thread = thread.name().unwrap_or_default(), place, "panicked: {message}");
}

/// Puts events into the queue.
struct Queued;

impl<'a> MakeWriter<'a> for Queued {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        Self
    }
}

impl Write for Queued {
    /// Called once for each event, with all of its line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(log) = LOG.get() {
            log.sink.push(line.to_vec());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
