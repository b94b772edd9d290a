//! The results page, its plots, and the file from which both are generated: a pure function of the results.

mod page;
mod plot;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context as _, Result};

pub(crate) use self::page::section;
use crate::results::Results;

/// The results, below the documentation folder.
pub(crate) const RESULTS: &str = "benchmarks/results.json";
/// The page, and the folder of plots and results.
const PAGE: &str = "benchmarks.md";
const FOLDER: &str = "benchmarks";

/// Writes results, plots and page below `docs`.
pub(crate) fn write(docs: &Path, results: &Results) -> Result<()> {
    std::fs::create_dir_all(docs.join(FOLDER)).context("cannot make docs/benchmarks")?;
    put(&docs.join(RESULTS), &results.text()?)?;
    let plots = plot::all(results);
    for (name, svg) in &plots {
        put(&docs.join(FOLDER).join(name), svg)?;
    }
    let path = docs.join(PAGE);
    let old = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let names: Vec<&str> = plots.iter().map(|(name, _)| name.as_str()).collect();
    let new = page::replaced(&old, &page::tables(results, &names))
        .context("docs/benchmarks.md has lost the lines between which the results go")?;
    put(&path, &new)
}

fn put(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
