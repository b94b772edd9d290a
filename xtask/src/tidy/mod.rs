//! Rules of this repository that the compiler does not check: sizes, names, module roots, opening comments, plugin
//! folders, words, front ends named in lower crates, circular imports.

mod cycles;
pub(crate) mod dependencies;
mod neutral;
mod plugins;
mod sleeps;
mod tools;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::problem::Problem;

#[cfg(test)]
mod tests;

/// Maximum number of lines of a source file, without tests.
const LINES_MAX: usize = 800;

/// Files that may be longer, with the reasons.
const LONG: &[(&str, &str)] = &[];

/// Names that do not describe the contents.
const EMPTY_NAMES: [&str; 10] =
    ["utils", "util", "helpers", "helper", "common", "manager", "misc", "stuff", "shared_utils", "managers"];

/// Checks the crates below `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let folders = crate_folders(root)?;
    for folder in &folders {
        check_crate(root, folder, &mut problems)?;
    }
    neutral::check(root, &mut problems)?;
    words::check(root, &folders, &mut problems)?;
    problems.sort();
    Ok(problems)
}

/// The folders with a manifest in `crates/`, `benches` and `xtask`.
fn crate_folders(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders: Vec<_> =
        entries(&root.join("crates"))?.into_iter().filter(|f| f.join("Cargo.toml").exists()).collect();
    folders
        .extend(["benches", "benches/guard", "xtask"].map(|name| root.join(name)).into_iter().filter(|f| f.exists()));
    Ok(folders)
}

fn check_crate(root: &Path, folder: &Path, problems: &mut Vec<Problem>) -> Result<()> {
    let manifest = folder.join("Cargo.toml");
    if !inherits_lints(&read(&manifest)?) {
        let message = "does not inherit the workspace's lints: add `[lints]` with `workspace = true`";
        problems.push(Problem::new(shown(root, &manifest), message));
    }
    let lib = folder.join("src/lib.rs");
    if lib.exists() && !says_what_it_must_not_know(&read(&lib)?) {
        let message =
            "must open with a comment that says what the crate is for, what it *must not know*, and where to start";
        problems.push(Problem::new(shown(root, &lib), message));
    }
    for part in ["src", "tests", "benches"] {
        let path = folder.join(part);
        if path.exists() {
            check_folder(root, &path, problems)?;
        }
    }
    check_test_binaries(root, folder, problems)?;
    cycles::check(root, folder, problems)?;
    if folder.file_name().is_some_and(|n| n.to_string_lossy().starts_with("plugins-")) {
        plugins::check(root, folder, problems)?;
    }
    Ok(())
}

/// Separate test binaries: their measurements must not be affected by other tests.
const OWN_BINARIES: [&str; 1] = ["crates/kong/tests/memory.rs"];

/// One test binary for each crate: linking is the slowest part of testing.
fn check_test_binaries(root: &Path, folder: &Path, problems: &mut Vec<Problem>) -> Result<()> {
    let tests = folder.join("tests");
    if !tests.exists() {
        return Ok(());
    }
    for path in entries(&tests)? {
        let is_rust = path.extension().is_some_and(|e| e == "rs");
        let is_own = OWN_BINARIES.iter().any(|own| path == root.join(own));
        if !is_own && (is_rust || (path.join("main.rs").exists() && !path.ends_with("it"))) {
            problems
                .push(Problem::new(shown(root, &path), "a crate has one test binary, tests/it/main.rs; move it there"));
        }
    }
    Ok(())
}

fn check_folder(root: &Path, folder: &Path, problems: &mut Vec<Problem>) -> Result<()> {
    for path in entries(folder)? {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_rust = path.extension().is_some_and(|e| e == "rs");
        if (path.is_dir() || is_rust) && EMPTY_NAMES.contains(&stem.as_str()) {
            let message = format!("`{stem}` says nothing; name it after what is inside");
            problems.push(Problem::new(shown(root, &path), message));
        }
        if path.is_dir() {
            let root_file = path.with_extension("rs");
            if root_file.exists() {
                let message = format!("the root of a module with a folder is {stem}/mod.rs");
                problems.push(Problem::new(shown(root, &root_file), message));
            }
            check_folder(root, &path, problems)?;
        } else if is_rust {
            check_file(root, &path, problems)?;
        }
    }
    Ok(())
}

fn check_file(root: &Path, path: &Path, problems: &mut Vec<Problem>) -> Result<()> {
    let text = read(path)?;
    let place = shown(root, path);
    let lines = text.lines().count();
    if lines > LINES_MAX && !is_test(&place) && !LONG.iter().any(|(long, _)| *long == place) {
        let message = format!(
            "{lines} lines; {LINES_MAX} are allowed: split it, or list it with a reason in xtask/src/tidy/mod.rs"
        );
        problems.push(Problem::new(place.clone(), message));
    }
    if is_test(&place) || place.starts_with("crates/testkit/") {
        tools::check(&place, path, problems)?;
    }
    sleeps::check(&place, &text, problems);
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with(concat!("#[", "ignore")) {
            problems.push(Problem::new(format!("{place}:{}", at + 1), "a test that is ignored tests nothing"));
        }
    }
    Ok(())
}

fn is_test(place: &str) -> bool {
    place.ends_with("/tests.rs") || place.contains("/tests/")
}

fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines.find(|line| !line.is_empty()) == Some("workspace = true")
}

/// Only checks the comment at the top of the file. Emphasis may occur in the middle of the words.
fn says_what_it_must_not_know(text: &str) -> bool {
    let opening: String = text.lines().take_while(|line| line.starts_with("//!")).map(|l| format!("{l} ")).collect();
    let plain: String =
        opening.to_lowercase().replace("//!", " ").chars().filter(|c| !matches!(c, '*' | '_')).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ").contains("must not know")
}

/// The entries of a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = list.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}
