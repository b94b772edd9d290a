//! The results in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::metric::Metric;
use crate::peers::Program;
use crate::results::{Entry, Outcome, Results, Rounds, Spread};
use crate::scenario::{Aim, Group, SCENARIOS, Scenario};

/// The text between these lines of the page is generated.
const BEGIN: &str = "<!-- measured -->\n";
const END: &str = "<!-- end: measured -->";
/// The program that is compared with the others.
const CARDINAL: &str = Program::Cardinal.name();
/// The other programs.
const OTHERS: [Program; 4] = [Program::Nginx, Program::Haproxy, Program::Envoy, Program::Relay];

/// The page with the text between the lines replaced; `None` if a line is missing.
pub(super) fn replaced(page: &str, tables: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_old, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n\n{END}{after}", tables.trim()))
}

/// All results. `plots` lists the existing plot files.
pub(super) fn tables(results: &Results, plots: &[&str]) -> String {
    let mut text = head(results);
    text.push_str(&summary(results));
    let usual = usual(results);
    for group in Group::ALL {
        let scenarios = SCENARIOS.iter().filter(|s| s.group == *group);
        let found: Vec<_> = scenarios.filter_map(|s| Some((s, results.scenarios.get(s.name)?))).collect();
        if found.is_empty() {
            continue;
        }
        write!(text, "\n### {}\n", group.title()).ok();
        let file = format!("{}.svg", group.file());
        if plots.contains(&file.as_str()) {
            write!(text, "\n![{}](benchmarks/{file})\n", group.title()).ok();
        }
        for (scenario, entry) in found {
            write!(text, "\n{}", section(scenario, entry)).ok();
            if entry.programs.iter().any(|(name, version)| usual.get(name) != Some(version)) {
                write!(text, "\nMeasured at another time: {}.\n", listed(&entry.programs)).ok();
            }
        }
    }
    text
}

fn head(results: &Results) -> String {
    let mut text = format!("- machine: {}\n", results.machine);
    for (name, version) in usual(results) {
        writeln!(text, "- {name} {version}").ok();
    }
    text
}

/// The version of each program used in most scenarios.
fn usual(results: &Results) -> BTreeMap<String, String> {
    let mut counts: BTreeMap<&String, BTreeMap<&String, usize>> = BTreeMap::new();
    for (name, version) in results.scenarios.values().flat_map(|entry| &entry.programs) {
        *counts.entry(name).or_default().entry(version).or_default() += 1;
    }
    let most = counts.into_iter().filter_map(|(name, versions)| {
        let (version, _) = versions.into_iter().max_by_key(|(_, count)| *count)?;
        Some((name.clone(), version.clone()))
    });
    most.collect()
}

fn listed(programs: &BTreeMap<String, String>) -> String {
    programs.iter().map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join("; ")
}

/// Cardinal's ratios to the others.
fn summary(results: &Results) -> String {
    let mut text = format!(
        "\nCardinal's ratios to the others: median [smallest - largest of the rounds], and what is aimed at.\n\n\
         | | {} |\n|---|{}\n",
        OTHERS.map(Program::name).join(" | "),
        "---|".repeat(OTHERS.len())
    );
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.base() == Some(Program::Nginx.name())) {
        let Some(entry) = results.scenarios.get(scenario.name) else { continue };
        match &entry.outcome {
            Outcome::Measured(rounds) => {
                for metric in compared(scenario) {
                    let cells = OTHERS.map(|other| ratio_cell(scenario, rounds, metric, other));
                    let what = if metric == scenario.headline && metric.more_is_better() {
                        scenario.title.to_owned()
                    } else {
                        format!("{}: {}", scenario.title, metric.title())
                    };
                    writeln!(text, "| {what}{} | {} |", note(metric), cells.join(" | ")).ok();
                }
            }
            Outcome::TooBusy { .. } | Outcome::Failed { .. } => {
                writeln!(text, "| {} | not measured |{}", scenario.title, " |".repeat(OTHERS.len() - 1)).ok();
            }
        }
    }
    text
}

fn note(metric: Metric) -> &'static str {
    if metric.more_is_better() { "" } else { " (less is better)" }
}

/// The compared metrics: the headline, and metrics with a target relative to other programs.
pub(super) fn compared(scenario: &Scenario) -> Vec<Metric> {
    let mut metrics = vec![scenario.headline];
    for aim in scenario.aims.iter().filter(|aim| aim.to.is_some()) {
        if !metrics.contains(&aim.metric) {
            metrics.push(aim.metric);
        }
    }
    metrics
}

/// The target in comparison with a program.
pub(super) fn aim(scenario: &Scenario, metric: Metric, to: Program) -> Option<&'static Aim> {
    scenario.aims.iter().find(|aim| aim.metric == metric && aim.to == Some(to))
}

fn ratio_cell(scenario: &Scenario, rounds: &Rounds, metric: Metric, other: Program) -> String {
    let Some(ratio) = rounds.ratio(CARDINAL, other.name(), metric) else { return String::new() };
    let aim = aim(scenario, metric, other).map_or_else(String::new, |aim| {
        format!("; {} {}: {}", if metric.more_is_better() { "≥" } else { "≤" }, aim.at, verdict(aim, ratio.median))
    });
    format!("{}{aim}", spread_text(ratio))
}

fn verdict(aim: &Aim, value: f64) -> &'static str {
    if aim.is_met(value) { "met" } else { "**missed**" }
}

fn spread_text(ratio: Spread) -> String {
    format!("{:.2} [{:.2} - {:.2}]", ratio.median, ratio.min, ratio.max)
}

/// One scenario: its description, the table, and the conditions of the measurement.
pub(crate) fn section(scenario: &Scenario, entry: &Entry) -> String {
    let mut text = format!("#### {} (`{}`)\n\n{}\n\n", scenario.title, scenario.name, scenario.about);
    match &entry.outcome {
        Outcome::Measured(rounds) => {
            text.push_str(&table(scenario, rounds));
            let seconds = (entry.seconds * 100.0).round() / 100.0;
            let length = if seconds > 0.0 { format!(" of {seconds} s") } else { String::new() };
            write!(text, "\n{}{length} for each", counted(rounds.rounds.len(), "measurement")).ok();
            if rounds.repeated > 0 {
                write!(text, "; {} more because something else used core 0", rounds.repeated).ok();
            }
            text.push_str(".\n");
            text.push_str(&absolute_aims(scenario, rounds));
            if let Some(ratio) = rounds.ratio(CARDINAL, Program::Baseline.name(), scenario.headline) {
                writeln!(text, "Ratio to the baseline: {}.", spread_text(ratio)).ok();
            }
        }
        Outcome::TooBusy { repeated } => {
            writeln!(text, "Not measured: something else used core 0 in {repeated} measurements.").ok();
        }
        Outcome::Failed { why } => {
            writeln!(text, "Not measured: {}.", why.lines().next().unwrap_or_default()).ok();
        }
    }
    for line in &entry.left_out {
        writeln!(text, "Left out: {}.", line.lines().next().unwrap_or_default()).ok();
    }
    text
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// The proxies, in the order of measurement.
fn table(scenario: &Scenario, rounds: &Rounds) -> String {
    let columns = scenario.columns();
    // A column of zeros that only shows the absence of events is left out.
    let columns: Vec<Metric> = columns
        .into_iter()
        .filter(|metric| {
            let something = rounds.names.iter().any(|name| rounds.sum(name, *metric).is_some_and(|sum| sum > 0.0));
            something || *metric == Metric::Errors && rounds.sum(CARDINAL, *metric).is_some()
        })
        .collect();
    let base = scenario.base().filter(|base| rounds.names.iter().any(|name| name == base));
    let mut heads = vec!["proxy".to_owned()];
    for metric in &columns {
        heads.push(metric.title().to_owned());
        if *metric == scenario.headline {
            heads.extend(base.map(|base| format!("ratio to {base}")));
        }
    }
    let mut text = format!("| {} |\n|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
    for name in &rounds.names {
        let mut cells = vec![name.clone()];
        for metric in &columns {
            cells.push(cell(rounds, name, *metric));
            if *metric == scenario.headline {
                let ratio = base.map(|base| rounds.ratio(name, base, *metric).map_or_else(String::new, spread_text));
                cells.extend(ratio);
            }
        }
        writeln!(text, "| {} |", cells.join(" | ")).ok();
    }
    text
}

fn cell(rounds: &Rounds, name: &str, metric: Metric) -> String {
    let value = if metric.is_count() {
        rounds.sum(name, metric)
    } else {
        rounds.spread(name, metric).map(|spread| spread.median)
    };
    value.map_or_else(String::new, |value| metric.show(value))
}

/// Absolute targets.
fn absolute_aims(scenario: &Scenario, rounds: &Rounds) -> String {
    let mut text = String::new();
    for aim in scenario.aims.iter().filter(|aim| aim.to.is_none()) {
        let Some(spread) = rounds.spread(CARDINAL, aim.metric) else { continue };
        let (title, value) = (aim.metric.title(), aim.metric.show(spread.median));
        writeln!(text, "Aimed at for Cardinal: {title} ≤ {}; {value}: {}.", aim.at, verdict(aim, spread.median)).ok();
    }
    text
}
