//! Writing for who called: a closed pipe is the end of the output, never a panic.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use anyhow::Result;

/// Writes text to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Writes text to standard error. When nobody can read it, nobody can be told.
pub(crate) fn complain(text: &str) {
    io::stderr().lock().write_all(text.as_bytes()).ok();
}

/// Tells who waits at a terminal what is going on.
pub(crate) fn progress(text: &str) {
    if io::stderr().is_terminal() {
        complain(&format!("{text}\n"));
    }
}

/// Whether this is only that nobody reads the output any more.
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
