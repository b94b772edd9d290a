//! `docs/conformance.md`: a section for each suite, with which the next run is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context as _, Result};

use super::{Outcome, Report, SUITES, Suite, known};

/// The path of the page below the root.
pub(super) const PAGE: &str = "docs/conformance.md";

const HEAD: &str = "# Conformance

Results of external conformance suites and of real clients against `cardinal`. `cargo xtask conform` runs the suites whose
tools it can obtain and writes this page. A case that fails and is not listed here, or fewer cases that pass, fails the
command.
";

/// The placeholder for missing results.
const NOT_RUN: &str = "Not run yet.";

/// The page: sections by the name of the suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page(BTreeMap<String, String>);

/// The results in a section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) passed: usize,
    pub(super) failed: BTreeSet<String>,
}

impl Page {
    /// Reads a page, which may be empty.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let sections = text.split("\n## ").skip(1);
        let split =
            |section: &str| section.split_once('\n').map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()));
        sections.map(|section| split(section).context("a section without text")).collect::<Result<_>>().map(Self)
    }

    /// The committed results of a suite.
    pub(super) fn section(&self, suite: &str) -> Option<Section> {
        let text = self.0.get(suite)?;
        let (_, rest) = text.split_once(" cases: ")?;
        let passed = rest.split(' ').next()?.parse().ok()?;
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        let failed = rows.filter_map(|row| row.split(" | ").next());
        // Case names are separated by commas outside of the code spans.
        let failed = failed.flat_map(|cell| cell.trim_end_matches('`').split("`, `")).map(str::to_owned).collect();
        Some(Section { passed, failed })
    }

    /// Replaces a section by new results.
    pub(super) fn set(&mut self, suite: &Suite, report: &Report) {
        self.0.insert(suite.name.to_owned(), section(suite, report));
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for suite in &SUITES {
            let none = format!("{}\n\n{NOT_RUN}", suite.about);
            write!(f, "\n## {}\n\n{}\n", suite.name, self.0.get(suite.name).unwrap_or(&none))?;
        }
        Ok(())
    }
}

/// `146 cases: 145 passed, 1 failed, 0 skipped`.
pub(super) fn counts(report: &Report) -> String {
    let count = |is: fn(&Outcome) -> bool| report.cases.iter().filter(|case| is(&case.outcome)).count();
    format!(
        "{} cases: {} passed, {} failed, {} skipped",
        report.cases.len(),
        count(|outcome| *outcome == Outcome::Passed),
        count(|outcome| matches!(outcome, Outcome::Failed(_))),
        count(|outcome| *outcome == Outcome::Skipped),
    )
}

fn section(suite: &Suite, report: &Report) -> String {
    let mut out = format!("{}\n\nWith {}: {}.", suite.about, report.tool, counts(report));
    let mut reasons = BTreeMap::<&str, Vec<&str>>::new();
    for case in failed(report) {
        reasons.entry(known::reason(suite.name, case).unwrap_or("Not known.")).or_default().push(case);
    }
    if !reasons.is_empty() {
        out.push_str("\n\n| failed | reason |\n|---|---|\n");
        for (reason, cases) in &reasons {
            out.push_str(&format!("| `{}` | {reason} |\n", cases.join("`, `")));
        }
    }
    out.trim_end().to_owned()
}

fn failed(report: &Report) -> BTreeSet<&str> {
    let failed = report.cases.iter().filter(|case| matches!(case.outcome, Outcome::Failed(_)));
    failed.map(|case| case.name.as_str()).collect()
}

/// The results of a report that are worse than in the committed page.
pub(super) fn worse(suite: &str, before: Option<Section>, report: &Report) -> Vec<String> {
    let mut worse = Vec::new();
    let passed = report.cases.iter().filter(|case| case.outcome == Outcome::Passed).count();
    if let Some(before) = &before
        && passed < before.passed
    {
        worse.push(format!("{suite}: {passed} cases passed; {} are in {PAGE}", before.passed));
    }
    for case in &report.cases {
        let Outcome::Failed(text) = &case.outcome else { continue };
        let is_new = before.as_ref().is_some_and(|before| !before.failed.contains(&case.name));
        if is_new || known::reason(suite, &case.name).is_none() {
            let why = if is_new { "failed, and is not in the page" } else { "failed without a reason in known.rs" };
            worse.push(format!("{suite}: `{}` {why}: {}", case.name, text.trim()));
        }
    }
    worse
}
