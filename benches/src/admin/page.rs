//! The section of the results page.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::node::Cost;
use super::{Loaded, Measured};

/// The text between these lines of the page is generated.
const BEGIN: &str = "<!-- measured: administration -->\n";
const END: &str = "<!-- end: measured: administration -->";
/// Aimed at for an edit: milliseconds at the 99th percentile, and bytes.
const LIVE_MS_MAX: f64 = 50.0;
const BYTES_MAX: f64 = 10_240.0;

pub(super) fn write(docs: &Path, section: &str) -> Result<()> {
    let path = docs.join("benchmarks.md");
    let page = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let new = replaced(&page, section).context("docs/benchmarks.md has lost the lines of the administration")?;
    std::fs::write(&path, new).with_context(|| format!("cannot write {}", path.display()))
}

fn replaced(page: &str, section: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_old, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n\n{END}{after}", section.trim()))
}

pub(super) fn section(measured: &Measured, machine: &str, note: Option<&str>) -> String {
    let mut text = format!("- machine: {machine}\n");
    note.iter().for_each(|note| writeln!(text, "- {note}").unwrap_or_default());
    loading(&mut text, measured);
    edits(&mut text, measured);
    planes(&mut text, measured);
    text
}

fn loading(text: &mut String, measured: &Measured) {
    let rows = [
        (format!("one request each, {} connections", measured.connections), measured.one_by_one),
        ("batches of 1,000 writes, one connection".to_owned(), measured.batches),
    ];
    let rows: Vec<(String, Cost, Option<f64>)> = rows
        .into_iter()
        .filter_map(|(what, loaded)| loaded.map(|Loaded { cost, database_mib }| (what, cost, Some(database_mib))))
        .chain(measured.file.map(|cost| ("declarative file, from the start to ready".to_owned(), cost, None)))
        .collect();
    if rows.is_empty() {
        return;
    }
    let count = measured.entities;
    write!(
        text,
        "\n#### Loading {count} routes and {count} consumers with a key each\n\n\
         | | wall time s | CPU s | peak RSS MiB | RSS MiB afterwards | SQLite MiB |\n|---|---|---|---|---|---|\n"
    )
    .ok();
    for (what, cost, database) in rows {
        let database = database.map_or_else(String::new, |mib| format!("{mib:.0}"));
        let Cost { wall_s, cpu_s, peak_mib, rss_mib } = cost;
        writeln!(text, "| {what} | {wall_s:.1} | {cpu_s:.1} | {peak_mib:.0} | {rss_mib:.0} | {database} |").ok();
    }
}

fn edits(text: &mut String, measured: &Measured) {
    if measured.edits.is_empty() {
        return;
    }
    write!(
        text,
        "\n#### From the PATCH of a route to the first request routed by it\n\nA control plane, a data plane, {} edits, \
         each 50 ms after the one before is live. Milliseconds.\n\n\
         | routes and consumers | p50 | p99 | max | p99 of the response to the PATCH | bytes sent | CPU ms control plane | \
         CPU ms data plane | RSS MiB control plane | RSS MiB data plane |\n|---|---|---|---|---|---|---|---|---|---|\n",
        measured.edit_count
    )
    .ok();
    for (count, edits, control, data) in &measured.edits {
        let live = edits.live;
        writeln!(
            text,
            "| {count} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {:.1} | {:.1} | {:.0} | {:.0} |",
            live.p50,
            live.p99,
            live.max,
            edits.replied.p99,
            edits.bytes,
            edits.control_cpu_ms,
            edits.data_cpu_ms,
            control.rss_mib,
            data.rss_mib
        )
        .ok();
    }
    text.push('\n');
    for (count, edits, ..) in &measured.edits {
        let verdict = |is_met: bool| if is_met { "met" } else { "**missed**" };
        writeln!(
            text,
            "Aimed at with {count}: p99 ≤ {LIVE_MS_MAX} ms: {}; bytes ≤ {BYTES_MAX}: {}.",
            verdict(edits.live.p99 <= LIVE_MS_MAX),
            verdict(edits.bytes <= BYTES_MAX)
        )
        .ok();
    }
}

fn planes(text: &mut String, measured: &Measured) {
    let Some(planes) = &measured.planes else { return };
    let [least, middle, most] = planes.edit_s;
    let (start, edits) = (planes.start, planes.edits);
    write!(
        text,
        "\n#### {} simulated data planes on one control plane, {} routes\n\nThe data planes share this machine and one \
         process; each joins by a token, and saves each configuration.\n\n| | |\n|---|---|\n\
         | until all have joined and have the configuration | {:.1} s |\n\
         | CPU time of the control plane for that | {:.1} s |\n\
         | from a PATCH until all have acknowledged it: median [min - max] of {} | {middle:.2} s [{least:.2} - {most:.2}] |\n\
         | CPU time of the control plane for an edit | {:.0} ms |\n\
         | bytes of an edit for one data plane | {:.0} |\n\
         | RSS of the control plane, peak | {:.0} MiB, {:.0} MiB |\n\
         | refused connections and streams | {:.0} |\n",
        planes.count,
        measured.plane_routes,
        start.wall_s,
        start.cpu_s,
        planes.edit_count,
        edits.cpu_s * 1e3 / planes.edit_count.max(1) as f64,
        planes.bytes,
        edits.rss_mib,
        edits.peak_mib,
        planes.refused
    )
    .ok();
}

#[cfg(test)]
mod tests {
    use super::super::edits::{Edits, Times};
    use super::*;

    #[test]
    fn the_section_is_replaced_and_names_what_was_missed() {
        let slow = Edits { live: Times { p50: 9.0, p99: 50.1, max: 60.0 }, bytes: 900.0, ..Edits::default() };
        let edits = vec![(7, slow, Cost::default(), Cost::default())];
        let text = section(&Measured { edits, ..Measured::default() }, "2 cores", Some("busy"));
        assert!(text.starts_with("- machine: 2 cores\n- busy\n"), "{text}");
        assert!(text.contains("Aimed at with 7: p99 ≤ 50 ms: **missed**; bytes ≤ 10240: met."), "{text}");
        assert!(!text.contains("Loading") && !text.contains("simulated"), "{text}");
        let page = format!("a\n{BEGIN}old\n{END}\nb\n");
        assert_eq!(replaced(&page, "new\n").unwrap(), format!("a\n{BEGIN}\nnew\n\n{END}\nb\n"));
        assert_eq!(replaced("a", "new"), None);
    }
}
