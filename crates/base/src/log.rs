//! Log set-up: one line an event, for people on a terminal and as JSON otherwise.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines look.
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

/// Installs the process-wide subscriber, writing to standard error.
///
/// `level` is one of `trace`, `debug`, `info`, `warn`, `error`, or a filter in the syntax of `tracing_subscriber`.
/// Returns the reason when `level` cannot be read or a subscriber is installed already.
pub fn install(level: &str, format: Format) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| format!("log level {level:?}: {error}"))?;
    let json = match format {
        Format::Auto => !stderr().is_terminal(),
        Format::Text => false,
        Format::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(StandardError)
        // It would tell standard error that standard error is gone, and panic.
        .log_internal_errors(false);
    let installed = if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.with_ansi(stderr().is_terminal()).try_init()
    };
    installed.map_err(|error| error.to_string())
}

struct StandardError;

impl<'a> MakeWriter<'a> for StandardError {
    type Writer = std::io::Stderr;

    fn make_writer(&'a self) -> Self::Writer {
        stderr()
    }
}
