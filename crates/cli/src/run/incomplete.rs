//! What is missing from a configuration that is served, for logs and status pages.

use cardinal_ir::{Diagnostic, Rejected, Severity};
use cardinal_sync::{ConfigProblem, Incomplete, ProblemList};

/// Entities that are left out because of an error.
pub(super) fn left_out(diagnostics: &[Diagnostic]) -> ProblemList {
    ProblemList::by_entity(diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error))
}

pub(super) fn of_rejected(Rejected { kind, id, reason }: &Rejected) -> ConfigProblem {
    let (entity, message) = (format!("record {id} of {}", kind.as_str()), reason.to_string());
    ConfigProblem { entity, message, ..ConfigProblem::default() }
}

/// Entities that the line of a generation names.
const NAMED_MAX: usize = 5;

/// What is missing from a configuration, for the line of its generation.
pub(super) fn incomplete_text(Incomplete { left_out, missing_secrets }: &Incomplete) -> String {
    let mut text = String::new();
    for (what, list) in [("entities left out", left_out), ("secrets missing", missing_secrets)] {
        let named = list.first().iter().take(NAMED_MAX);
        let mut named: Vec<String> = named.map(|one| format!("{}: {}", one.entity, one.message)).collect();
        let more = list.count() - named.len();
        if more > 0 {
            named.push(format!("and {more} more"));
        }
        if !named.is_empty() {
            text.push_str(&format!("; {what}: {} ({})", list.count(), named.join("; ")));
        }
    }
    text
}

/// `42 s`, `5 min`, `3 h 5 min`, `2 d 3 h`.
pub(super) fn duration_text(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {} min", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

/// One line for everything that is left out or looks wrong.
pub(super) fn report(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        match diagnostic.severity {
            Severity::Error => tracing::error!("left out: {diagnostic}"),
            Severity::Warning => tracing::warn!("{diagnostic}"),
        }
    }
}

pub(super) fn report_rejected(rejected: &[Rejected]) {
    for Rejected { kind, id, reason } in rejected {
        tracing::error!("left out of the last known good configuration: record {id} of {}: {reason}", kind.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let texts = [0, 59, 60, 3_599, 11_100, 86_400 * 2 + 3_600 * 3].map(duration_text);
        assert_eq!(texts, ["0 s", "59 s", "1 min", "59 min", "3 h 5 min", "2 d 3 h"]);
    }

    #[test]
    fn the_line_of_a_generation_names_a_few_of_what_is_missing() {
        assert_eq!(incomplete_text(&Incomplete::default()), "");
        let problem = |n| ConfigProblem { entity: format!("plugin {n}"), message: "bad".into(), ..Default::default() };
        let left_out = (0..7).map(problem).collect();
        let missing_secrets = [problem(9)].into_iter().collect();
        let said = incomplete_text(&Incomplete { left_out, missing_secrets });
        assert!(said.starts_with("; entities left out: 7 (plugin 0: bad; plugin 1: bad; "), "{said}");
        assert!(said.ends_with("; and 2 more); secrets missing: 1 (plugin 9: bad)"), "{said}");
    }
}
