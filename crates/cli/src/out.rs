//! Output to the terminal. A closed pipe is the end of the output, never a panic.
//!
//! All text of `check` and `explain` passes [`Screen`], which hides secrets. All text of every command passes
//! [`visible`], so that bytes of a file never control a terminal.

use std::borrow::Cow;
use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Stdout, Write as _};

use anyhow::Result;
use cardinal_base::log::visible;
use cardinal_kong::declarative::Hidden;
use serde_json::Value;

/// The output of a command that shows a configuration, without the secrets of that configuration.
pub(crate) struct Screen {
    hidden: Hidden,
    stdout: BufWriter<Stdout>,
}

impl Screen {
    pub(crate) fn new(hidden: Hidden) -> Self {
        Self { hidden, stdout: BufWriter::new(io::stdout()) }
    }

    /// Writes text to standard output.
    pub(crate) fn print(&mut self, text: &str) -> Result<()> {
        Ok(self.stdout.write_all(visible(&self.hidden.hide(text)).as_bytes())?)
    }

    /// Writes a line of JSON to standard output.
    pub(crate) fn print_json(&mut self, value: Value) -> Result<()> {
        self.print_value(value)?;
        Ok(self.stdout.write_all(b"\n")?)
    }

    /// Writes a value within a line of JSON to standard output.
    pub(crate) fn print_value(&mut self, value: Value) -> Result<()> {
        let text = self.hidden.hide_value(value).to_string();
        Ok(self.stdout.write_all(visible(&text).as_bytes())?)
    }

    /// Writes the members of an object, and the brace that ends it.
    pub(crate) fn print_members(&mut self, object: Value) -> Result<()> {
        let text = self.hidden.hide_value(object).to_string();
        Ok(self.stdout.write_all(visible(text.trim_start_matches('{')).as_bytes())?)
    }

    /// Writes text to standard error.
    pub(crate) fn complain(&self, text: &str) {
        complain(&self.hidden.hide(text));
    }

    /// Text for an error.
    pub(crate) fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.hidden.hide(text)
    }

    /// Writes what is still in the buffer.
    pub(crate) fn finish(mut self) -> Result<()> {
        Ok(self.stdout.flush()?)
    }
}

/// Writes text to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(visible(text).as_bytes())?;
    Ok(stdout.flush()?)
}

/// Writes text to standard error. Errors are ignored: there is no other place to report them.
pub(crate) fn complain(text: &str) {
    io::stderr().lock().write_all(visible(text).as_bytes()).ok();
}

/// Shows progress on a terminal.
pub(crate) fn progress(text: &str) {
    if io::stderr().is_terminal() {
        complain(&format!("{text}\n"));
    }
}

/// Whether the error is only that the reader closed the output.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe))
}

/// A number with its noun: `1 route`, `2 routes`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{number} {stem}ies"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_agree_with_numbers() {
        let all = [count(1, "route"), count(0, "route"), count(2, "entity"), count(3, "key")];
        assert_eq!(all, ["1 route", "0 routes", "2 entities", "3 keys"]);
    }

    #[test]
    fn only_a_closed_pipe_is_a_quiet_end() {
        let closed = anyhow::Error::from(io::Error::from(ErrorKind::BrokenPipe)).context("writing");
        assert!(is_closed(&closed));
        assert!(!is_closed(&anyhow::Error::from(io::Error::from(ErrorKind::NotFound))));
    }
}
