//! The report of a skipped test.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Whether a test may be skipped where everything is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The machine lacks something that the tests' installation provides.
    Required,
    /// Something that not every machine can have.
    Optional,
}

/// Reports that the test of the current thread is skipped: on standard error, past the test runner's capture, and in the
/// file that `CARDINAL_SKIPS` names.
///
/// # Panics
/// If the need is [`Need::Required`] and `CARDINAL_REQUIRE_ALL` is set.
pub fn missing(package: &str, need: Need, reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a thread without a name");
    assert!(
        need == Need::Optional || !is_set("CARDINAL_REQUIRE_ALL"),
        "{package} {test}: {reason} (CARDINAL_REQUIRE_ALL is set, so this is a failure)"
    );
    let line = line(package, test, need, reason);
    // In one write each: tests run at the same time.
    let _printed = std::io::stderr().write_all(format!("skipped: {line}").as_bytes());
    if let Some(path) = std::env::var_os("CARDINAL_SKIPS") {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        assert!(written.is_ok(), "cannot write {}: {written:?}", path.display());
    }
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0")
}

pub(crate) fn line(package: &str, test: &str, need: Need, reason: &str) -> String {
    let kind = match need {
        Need::Required => "missing tool",
        Need::Optional => "optional",
    };
    format!("{package} {test}: {reason} ({kind})\n")
}
