//! `new-plugin`: the folder of a plugin that compiles and passes its own test.

pub(crate) mod registry;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

#[cfg(test)]
mod tests;

/// The parameters of the new plugin.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name in configurations, in lower case with hyphens: `request-stamp`.
    name: String,
    /// The family it belongs to.
    #[arg(long, value_enum, default_value = "traffic")]
    family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Family {
    Auth,
    Observe,
    Security,
    Traffic,
    Transform,
}

impl Family {
    const ALL: [Self; 5] = [Self::Auth, Self::Observe, Self::Security, Self::Traffic, Self::Transform];

    const fn folder(self) -> &'static str {
        match self {
            Self::Auth => "crates/plugins-auth",
            Self::Observe => "crates/plugins-observe",
            Self::Security => "crates/plugins-security",
            Self::Traffic => "crates/plugins-traffic",
            Self::Transform => "crates/plugins-transform",
        }
    }
}

/// The files of a new plugin; `@NAME@` is its name, `@MODULE@` its module, `@TYPE@` its type, `@PRIORITY@` its priority.
const FILES: [(&str, &str); 5] = [
    ("mod.rs", include_str!("template/mod.rs.txt")),
    ("schema.rs", include_str!("template/schema.rs.txt")),
    ("filter.rs", include_str!("template/filter.rs.txt")),
    ("tests.rs", include_str!("template/tests.rs.txt")),
    ("README.md", include_str!("template/README.md.txt")),
];

/// Writes the folder and registers the plugin; returns the next steps.
pub(crate) fn run(root: &Path, args: &Args) -> Result<String> {
    check_name(&args.name)?;
    let module = args.name.replace('-', "_");
    for family in Family::ALL {
        let taken = root.join(family.folder()).join("src").join(&module);
        ensure!(!taken.exists(), "{} is there already", taken.display());
    }
    let family = root.join(args.family.folder());
    let lib = family.join("src/lib.rs");
    let text = fs::read_to_string(&lib).with_context(|| format!("cannot read {}", lib.display()))?;
    let registered = registry::with_plugin(&text, &module)?;
    let priority = free_priority(root)?;
    let folder = family.join("src").join(&module);
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (file, template) in FILES {
        let path = folder.join(file);
        let text = fill(template, &args.name, &module, priority);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    fs::write(&lib, registered).with_context(|| format!("cannot write {}", lib.display()))?;
    Ok(next_steps(args, &folder, priority))
}

fn next_steps(args: &Args, folder: &Path, priority: i32) -> String {
    let package = args.family.folder().replace("crates/", "cardinal-");
    let name = &args.name;
    format!(
        "{name} is in {}\n\
         \n  cargo test -p {package} {}   its test passes\n\
         \nNext: say in schema.rs what users may write, in filter.rs what happens, in README.md how to use it.\n\
         It has priority {priority}, which nobody else has: higher runs first; choose its place in mod.rs.",
        folder.display(),
        name.replace('-', "_"),
    )
}

fn check_name(name: &str) -> Result<()> {
    let words = name.split('-').all(|word| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    });
    ensure!(words, "a plugin's name is words in lower case joined by hyphens, like request-stamp; not `{name}`");
    ensure!(name.len() <= 64, "a plugin's name has at most 64 characters");
    if ["mod", "lib", "tests", "type", "self", "super", "crate", "use", "move", "match"].contains(&name) {
        bail!("`{name}` has a meaning in Rust; add a word to it");
    }
    Ok(())
}

fn fill(template: &str, name: &str, module: &str, priority: i32) -> String {
    template
        .replace("@NAME@", name)
        .replace("@MODULE@", module)
        .replace("@TYPE@", &type_name(name))
        .replace("@PRIORITY@", &priority.to_string())
}

/// Converts `request-stamp` to `RequestStamp`.
fn type_name(name: &str) -> String {
    let capital =
        |word: &str| word.chars().take(1).map(|c| c.to_ascii_uppercase()).chain(word.chars().skip(1)).collect();
    name.split('-').map(capital).collect::<Vec<String>>().concat()
}

/// The lowest positive priority that no plugin uses.
fn free_priority(root: &Path) -> Result<i32> {
    let mut taken = BTreeSet::new();
    for family in Family::ALL {
        for folder in plugin_folders(&root.join(family.folder()).join("src"))? {
            let text = fs::read_to_string(folder.join("mod.rs")).unwrap_or_default();
            taken.extend(text.lines().filter_map(priority_of));
        }
    }
    (1..).find(|priority| !taken.contains(priority)).context("no priority is free")
}

fn plugin_folders(source: &Path) -> Result<Vec<PathBuf>> {
    if !source.exists() {
        return Ok(Vec::new());
    }
    let list = fs::read_dir(source).with_context(|| format!("cannot list {}", source.display()))?;
    Ok(list
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect())
}

/// The number in a line `priority: 1_000,`.
fn priority_of(line: &str) -> Option<i32> {
    line.trim().strip_prefix("priority:")?.trim().trim_end_matches(',').replace('_', "").parse().ok()
}
