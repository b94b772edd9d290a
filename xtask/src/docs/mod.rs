//! `gen`: the generated parts of `docs/`.
//!
//! A generated part is enclosed by two comments with its name; the text around them is written by hand.

mod entities;
mod failures;
mod markdown;
mod plugins;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use cardinal_kong::{Registry, settings};
use cardinal_sdk::PluginDef;

use crate::problem::Problem;

#[cfg(test)]
mod tests;

/// A generated part.
struct Part {
    /// The path of the file below the root.
    file: &'static str,
    /// Its name in the comments.
    name: &'static str,
    /// Its text.
    text: String,
}

/// All families of plugins.
fn families() -> [(&'static str, &'static [&'static PluginDef]); 5] {
    [
        ("auth", cardinal_plugins_auth::PLUGINS),
        ("observe", cardinal_plugins_observe::PLUGINS),
        ("security", cardinal_plugins_security::PLUGINS),
        ("traffic", cardinal_plugins_traffic::PLUGINS),
        ("transform", cardinal_plugins_transform::PLUGINS),
    ]
}

fn parts() -> Vec<Part> {
    let all: Vec<_> = families().into_iter().flat_map(|(_, plugins)| plugins.iter().copied()).collect();
    let registry = Registry::new(&all);
    let compatibility = "docs/compatibility.md";
    vec![
        Part { file: "README.md", name: "status", text: plugins::status(&registry) },
        Part { file: compatibility, name: "entities", text: entities::tables(&all) },
        Part { file: compatibility, name: "plugins", text: plugins::comparison(&registry) },
        Part { file: compatibility, name: "plugin-fields", text: plugins::tables(&registry) },
        Part { file: "docs/configuration.md", name: "settings", text: settings::table::manual() },
        Part { file: "docs/failures.md", name: "kinds", text: failures::kinds() },
        Part { file: "docs/plugins.md", name: "plugins", text: plugins::index(&families()) },
    ]
}

/// The files that are out of date.
pub(crate) fn stale(root: &Path) -> Result<Vec<Problem>> {
    let files = rendered(root)?;
    let stale = files.iter().filter(|(_, (before, after))| before != after);
    Ok(stale.map(|(file, _)| Problem::new(*file, "is not what the schemas say: run `cargo xtask gen`")).collect())
}

/// Writes the files that are out of date; returns their names.
pub(crate) fn write(root: &Path) -> Result<Vec<&'static str>> {
    let mut written = Vec::new();
    for (file, (before, after)) in rendered(root)? {
        if before != after {
            fs::write(root.join(file), after).with_context(|| format!("cannot write {file}"))?;
            written.push(file);
        }
    }
    Ok(written)
}

/// Each file with its text before and after.
fn rendered(root: &Path) -> Result<BTreeMap<&'static str, (String, String)>> {
    let mut files = BTreeMap::new();
    for part in parts() {
        if !files.contains_key(part.file) {
            let text =
                fs::read_to_string(root.join(part.file)).with_context(|| format!("cannot read {}", part.file))?;
            files.insert(part.file, (text.clone(), text));
        }
        if let Some((_, after)) = files.get_mut(part.file) {
            *after = replace(after, part.name, &part.text).with_context(|| part.file)?;
        }
    }
    Ok(files)
}

/// Replaces the part with this name in `page`.
fn replace(page: &str, name: &str, text: &str) -> Result<String> {
    let (open, close) = (format!("<!-- generated: {name} -->"), format!("<!-- end: {name} -->"));
    let (Some((before, rest)), Some((_, after))) = (page.split_once(&open), page.split_once(&close)) else {
        bail!("has no part between `{open}` and `{close}`");
    };
    if !rest.contains(&close) {
        bail!("`{close}` stands before `{open}`");
    }
    Ok(format!("{before}{open}\n\n{}\n\n{close}{after}", text.trim()))
}
