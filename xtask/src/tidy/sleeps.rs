//! Tests do not sleep: they wait for a condition (`cardinal_testkit::until` and similar) or advance a `ManualClock`.
//! For this, the data plane uses the node's clock for waiting.

use super::is_test;
use crate::problem::Problem;

/// Files that may sleep, with the reasons.
const MAY_PAUSE: &[(&str, &str)] = &[
    ("crates/testkit/src/wait.rs", "the one place that pauses between two looks at a condition"),
    ("crates/testkit/src/echo/behaviour.rs", "a peer that is slow on purpose"),
    ("crates/testkit/src/script.rs", "a peer that is slow on purpose"),
];

/// Code that uses the node's clock for waiting.
const CLOCKED: [&str; 5] =
    ["crates/balance/src/", "crates/engine/src/", "crates/net/src/", "crates/plugins-", "crates/sdk/src/"];

/// Files in it that use the system clock, with the reasons.
const MACHINE_TIME: &[(&str, &str)] =
    &[("crates/net/src/connect/mod.rs", "the pause between two address families is about the network")];

/// Checks a source file.
pub(super) fn check(place: &str, text: &str, problems: &mut Vec<Problem>) {
    let may_pause = MAY_PAUSE.iter().any(|(file, _)| *file == place);
    // Benchmarks measure in real time.
    if may_pause || !(place.starts_with("crates/") || place.starts_with("xtask/")) {
        return;
    }
    let is_clocked =
        CLOCKED.iter().any(|part| place.starts_with(part)) && !MACHINE_TIME.iter().any(|(file, _)| *file == place);
    let mut is_tested = is_test(place) || place.starts_with("crates/testkit/");
    for (at, line) in text.lines().enumerate() {
        is_tested |= line.starts_with("mod tests {") || line.starts_with("pub(crate) mod tests {");
        if is_clocked && !is_tested && line.contains(concat!("tokio::", "time")) {
            let message = "wait for the node's clock: `Clock::sleep`, `cardinal_base::timeout`";
            problems.push(Problem::new(format!("{place}:{}", at + 1), message));
        }
        if is_tested && !line.trim_start().starts_with("//") && sleeps(line) {
            let message =
                "a test does not sleep: wait for a condition with `cardinal_testkit::until`, or move a `ManualClock`";
            problems.push(Problem::new(format!("{place}:{}", at + 1), message));
        }
    }
}

/// Whether a line calls a function that sleeps. Methods named so belong to clocks.
fn sleeps(line: &str) -> bool {
    ["sleep(", "sleep_until("].iter().any(|call| {
        line.match_indices(call).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|c| c == ':' || !(c.is_alphanumeric() || matches!(c, '_' | '.')))
        })
    })
}
