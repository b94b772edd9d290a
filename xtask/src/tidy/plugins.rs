//! Plugin folders: complete, registered, in alphabetical order.

use std::path::Path;

use anyhow::Result;

use super::{entries, read, shown};
use crate::new_plugin::registry;
use crate::problem::Problem;

/// The files of each plugin's folder other than `mod.rs`.
const PARTS: [&str; 4] = ["README.md", FILTER, "schema.rs", "tests.rs"];

/// The behaviour of a plugin.
const FILTER: &str = "filter.rs";

/// Replaces the filter file if a plugin's parameters are always lowered to a policy.
const LOWERING: &str = "lower.rs";

/// Checks the plugin folders of one family.
pub(super) fn check(root: &Path, family: &Path, problems: &mut Vec<Problem>) -> Result<()> {
    let lib = family.join("src/lib.rs");
    let registered = registry::plugins(&read(&lib)?);
    if !registered.is_sorted() {
        problems.push(Problem::new(shown(root, &lib), "PLUGINS is not in alphabetical order"));
    }
    for path in entries(&family.join("src"))? {
        if path.is_dir() && path.join("mod.rs").exists() && exports_plugin(&read(&path.join("mod.rs"))?) {
            check_plugin(root, &path, &registered, problems)?;
        } else if path.extension().is_some_and(|e| e == "rs") && exports_plugin(&read(&path)?) {
            problems
                .push(Problem::new(shown(root, &path), "a plugin is a folder; `cargo xtask new-plugin` lays one out"));
        }
    }
    Ok(())
}

fn check_plugin(root: &Path, folder: &Path, registered: &[String], problems: &mut Vec<Problem>) -> Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let place = shown(root, folder);
    if !registered.contains(&name) {
        problems.push(Problem::new(place.clone(), "is not in its family's PLUGINS"));
    }
    let is_there = |part: &str| part_exists(folder, part) || (part == FILTER && part_exists(folder, LOWERING));
    for part in PARTS.iter().filter(|part| !is_there(part)) {
        problems.push(Problem::new(place.clone(), format!("has no {part}")));
    }
    let manual = folder.join("README.md");
    if manual.exists() && !has_yaml(&read(&manual)?) {
        problems.push(Problem::new(shown(root, &manual), "shows no configuration: add a ```yaml block"));
    }
    Ok(())
}

/// A large part may be a folder with the same name.
fn part_exists(folder: &Path, part: &str) -> bool {
    let module = part.strip_suffix(".rs").is_some_and(|module| folder.join(module).join("mod.rs").exists());
    module || folder.join(part).exists()
}

fn exports_plugin(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("pub const PLUGIN:") || line.starts_with("pub static PLUGIN:"))
}

fn has_yaml(manual: &str) -> bool {
    manual.lines().any(|line| line.trim_end() == "```yaml")
}
