use std::path::{Path, PathBuf};

use super::*;
use crate::metric::{Metric, Sample};
use crate::results::{Outcome, Results};
use crate::temp::TempDir;

/// Results with each outcome: measured ratios and values, too busy, failed, older, left out.
fn fixed() -> Results {
    Results::read(&golden("results.json")).unwrap()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/testdata").join(name)
}

/// Compares with the golden file, or updates it.
fn check(name: &str, text: &str) {
    let path = golden(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expect = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expect, "{name} differs; UPDATE_GOLDEN=1 writes it anew. It is now:\n{text}");
}

#[test]
fn the_page_is_that_of_the_golden_file() {
    let results = fixed();
    let plots = plot::all(&results);
    let names: Vec<&str> = plots.iter().map(|(name, _)| name.as_str()).collect();
    check("page.md", &page::tables(&results, &names));
}

#[test]
fn plots_are_those_of_the_golden_files() {
    let plots = plot::all(&fixed());
    let names: Vec<&str> = plots.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["requests.svg", "memory.svg", "changes.svg"]);
    for (name, svg) in &plots {
        check(name, svg);
    }
}

#[test]
fn plots_are_well_formed() {
    for (name, svg) in plot::all(&fixed()) {
        let (mut open, mut rest) = (Vec::new(), svg.as_str());
        while let Some((_, tag)) = rest.split_once('<') {
            let (tag, after) = tag.split_once('>').unwrap();
            rest = after;
            if let Some(end) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(end), "{name}");
            } else if !tag.ends_with('/') {
                open.push(tag.split_whitespace().next().unwrap());
            }
        }
        assert!(open.is_empty(), "{name}: {open:?}");
    }
}

#[test]
fn only_what_is_between_the_lines_is_replaced() {
    let old = "# Page\n<!-- measured -->\nold\n<!-- end: measured -->\nText\n";
    let new = "# Page\n<!-- measured -->\n\n| new |\n\n<!-- end: measured -->\nText\n";
    assert_eq!(page::replaced(old, "\n| new |\n").unwrap(), new);
    assert_eq!(page::replaced("# Page\n", "x"), None);
}

#[test]
fn page_plots_and_results_are_written_and_one_scenario_can_be_replaced() {
    let docs = TempDir::new("report").unwrap();
    docs.file("benchmarks.md", "Before\n<!-- measured -->\n<!-- end: measured -->\nAfter\n").unwrap();
    write(docs.path(), &fixed()).unwrap();
    let mut all = Results::read(&docs.path().join(RESULTS)).unwrap();
    let mut newer = all.clone();
    newer.scenarios.retain(|name, _| name == "plain");
    let Outcome::Measured(rounds) = &mut newer.scenarios.get_mut("plain").unwrap().outcome else { panic!("measured") };
    for round in &mut rounds.rounds {
        round[0] = Sample::from([(Metric::PerCpuSecond, 1.0)]);
    }
    all.merge(newer).unwrap();
    write(docs.path(), &all).unwrap();
    let page = std::fs::read_to_string(docs.path().join("benchmarks.md")).unwrap();
    assert!(page.starts_with("Before\n") && page.ends_with("After\n"), "{page}");
    assert!(page.contains("| nginx | 1 | 1.00 [1.00 - 1.00] |"), "{page}");
    assert!(page.contains("(`idle`)") && page.contains("](benchmarks/requests.svg)"), "{page}");
    let svg = std::fs::read_to_string(docs.path().join("benchmarks/requests.svg")).unwrap();
    assert!(svg.starts_with("<svg "), "{svg}");
}
