//! Tests do not sleep: they wait for a condition (`cardinal_testkit::until` and its kin) or move a `ManualClock`. For that
//! the data plane waits for the node's clock.

use super::is_test;
use crate::problem::Problem;

/// Files that may pause, and why.
const MAY_PAUSE: &[(&str, &str)] = &[
    ("crates/testkit/src/wait.rs", "the one place that pauses between two looks at a condition"),
    ("crates/testkit/src/echo/behaviour.rs", "a peer that is slow on purpose"),
    ("crates/testkit/src/script.rs", "a peer that is slow on purpose"),
];

/// Code that waits for the node's clock.
const CLOCKED: [&str; 5] =
    ["crates/balance/src/", "crates/engine/src/", "crates/net/src/", "crates/plugins-", "crates/sdk/src/"];

/// Files among it that wait for the machine's, and why.
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

/// Whether a line calls a function that sleeps. Methods are those of clocks.
fn sleeps(line: &str) -> bool {
    ["sleep(", "sleep_until("].iter().any(|call| {
        line.match_indices(call).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|c| c == ':' || !(c.is_alphanumeric() || matches!(c, '_' | '.')))
        })
    })
}
