//! Crates below the front ends must not name one: differences between front ends are data supplied by the front end.
//!
//! Comments may name the program whose behaviour is reproduced, and tests may use its names.

use std::path::Path;

use anyhow::Result;

use super::{entries, is_test, read, shown};
use crate::problem::Problem;

/// Crates that must not name a front end.
const CRATES: [&str; 10] = ["balance", "base", "engine", "http", "ir", "net", "pki", "route", "sdk", "sync"];

/// Names of front ends.
const NAMES: [&str; 2] = ["kong", "kuma"];

/// Files that may name one, with the reasons.
const ALLOWED: [(&str, &str); 2] = [
    ("crates/http/src/hpack/rules.rs", "names of fields that are known to differ in each response; others work too"),
    ("crates/sdk/src/log/mod.rs", "the one format of log records that plugins have"),
];

/// Checks the sources of these crates below `root`.
pub(super) fn check(root: &Path, problems: &mut Vec<Problem>) -> Result<()> {
    for name in CRATES {
        let folder = root.join("crates").join(name).join("src");
        if folder.exists() {
            check_folder(root, &folder, problems)?;
        }
    }
    Ok(())
}

fn check_folder(root: &Path, folder: &Path, problems: &mut Vec<Problem>) -> Result<()> {
    for path in entries(folder)? {
        let place = shown(root, &path);
        if path.is_dir() {
            check_folder(root, &path, problems)?;
        } else if path.extension().is_some_and(|e| e == "rs")
            && !is_test(&place)
            && !ALLOWED.iter().any(|(allowed, _)| *allowed == place)
        {
            for (line, name) in found(&read(&path)?) {
                let message = format!("names the front end {name:?}: let the front end supply what differs");
                problems.push(Problem::new(format!("{place}:{line}"), message));
            }
        }
    }
    Ok(())
}

/// Lines of code with the name of a front end, up to the tests at the end of the file.
fn found(text: &str) -> Vec<(usize, &'static str)> {
    let code = text.lines().take_while(|line| *line != "#[cfg(test)]");
    let code = code.enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.filter_map(|(at, line)| {
        let line = line.to_ascii_lowercase();
        NAMES.iter().find(|name| line.contains(*name)).map(|name| (at + 1, *name))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_and_comments_and_tests_are_not() {
        let text = "//! As Kong does.\nlet a = 1; // one\n    // Kong\nlet b = \"X-Kong-Id\";\nfn of_kuma() {}\n#[cfg(test)]\nkong\n";
        assert_eq!(found(text), [(4, "kong"), (5, "kuma")]);
    }
}
