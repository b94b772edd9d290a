//! Circular imports between the files of a crate: they indicate that a common lower file is missing.
//!
//! A path in a `use` or in code is resolved to the file that defines the named item. Re-exports are followed, so that a
//! `mod.rs` that declares the parts of a folder causes no cycle; declaring a module is not an import. Tests are left
//! out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::Result;

use super::words::literal;
use super::{entries, is_test, read, shown};
use crate::problem::Problem;

#[cfg(test)]
mod tests;

/// Crates that had circular imports before this check existed. A crate is removed from this list when it has none.
const NOT_YET: &[&str] = &[
    "benches",
    "crates/balance",
    "crates/base",
    "crates/cli",
    "crates/ir",
    "crates/kong",
    "crates/net",
    "crates/pki",
    "crates/plugins-observe",
    "crates/plugins-security",
    "crates/plugins-traffic",
    "crates/route",
    "crates/schema",
    "crates/sdk",
    "crates/sync",
    "crates/testkit",
    "xtask",
];

/// Checks the sources of one crate.
pub(super) fn check(root: &Path, folder: &Path, problems: &mut Vec<Problem>) -> Result<()> {
    let place = shown(root, folder);
    if NOT_YET.contains(&place.as_str()) {
        return Ok(());
    }
    for cycle in cycles(&Crate::read(&folder.join("src"))?) {
        let message = format!(
            "circular imports: {}; move what both need to a file below",
            cycle.iter().map(String::as_str).collect::<Vec<_>>().join(" -> ")
        );
        problems.push(Problem::new(place.clone(), message));
    }
    Ok(())
}

/// The names in a path.
type Names = Vec<String>;

/// A module: its file, and its references.
#[derive(Default)]
struct Module {
    file: String,
    /// Imports by `use`: the name, and the imported path.
    imports: HashMap<String, Names>,
    /// Paths that are resolved to the files that define the named items.
    paths: Vec<Names>,
}

/// The modules of a crate that are files, by their paths below the root.
#[derive(Default)]
struct Crate(BTreeMap<Names, Module>);

impl Crate {
    fn read(source: &Path) -> Result<Self> {
        let mut texts = Vec::new();
        collect(source, &mut Vec::new(), "", &mut texts)?;
        let known: BTreeSet<Names> = texts.iter().map(|(names, ..)| names.clone()).collect();
        let modules = texts.into_iter().map(|(names, file, text)| {
            let module = Module::of(&names, file, &text, &known);
            (names, module)
        });
        Ok(Self(modules.collect()))
    }

    /// The module whose file defines the item named by a path, if it belongs to this crate.
    fn definer(&self, path: &[String]) -> Option<&Names> {
        let mut path = path.to_vec();
        // Imports may be circular.
        for _ in 0..32 {
            let length = (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
            let (names, module) = self.0.get_key_value(&path[..length])?;
            match path.get(length).and_then(|first| module.imports.get(first)) {
                Some(from) if from[..] != path[..=length] => path = [from, &path[length + 1..]].concat(),
                _ => return Some(names),
            }
        }
        None
    }

    /// The module to which a path leads; `None` for the path of a module itself, as items in it have other paths. But
    /// an item may have the same name as a module.
    fn target(&self, path: &[String]) -> Option<&Names> {
        if !self.0.contains_key(path) {
            return self.definer(path);
        }
        let (last, above) = path.split_last()?;
        let from = self.0.get(above)?.imports.get(last)?;
        if from[..] == *path { None } else { self.definer(from) }
    }

    /// The modules to which each module refers, except itself.
    fn edges(&self) -> BTreeMap<&Names, BTreeSet<&Names>> {
        let of = |(names, module): (_, &'_ Module)| {
            let targets = module.paths.iter().filter_map(|path| self.target(path));
            (names, targets.filter(|target| *target != names).collect())
        };
        self.0.iter().map(of).collect()
    }
}

/// The modules below a folder, with their files and their code.
fn collect(folder: &Path, names: &mut Names, at: &str, out: &mut Vec<(Names, String, String)>) -> Result<()> {
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = format!("{at}{name}");
        if path.is_dir() {
            names.push(name);
            collect(&path, names, &format!("{file}/"), out)?;
            names.pop();
        } else if let Some(stem) = name.strip_suffix(".rs")
            && !is_test(&format!("/{file}"))
        {
            let mut own = names.clone();
            if !(stem == "mod" || (at.is_empty() && matches!(stem, "lib" | "main"))) {
                own.push(stem.to_owned());
            }
            out.push((own, file.clone(), code(&read(&path)?)));
        }
    }
    Ok(())
}

/// A source without comments, string literals and tests.
fn code(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(letter) = rest.chars().next() {
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some((_, end)) = literal(rest) {
            (end + 1).min(rest.len())
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\") {
            // A quote or an escape as a character literal does not begin a string literal.
            rest.get(2..).and_then(|after| after.find('\'')).map_or(rest.len(), |at| at + 3)
        } else {
            out.push(letter);
            letter.len_utf8()
        };
        rest = rest.get(end..).unwrap_or_default();
    }
    without_tests(&out)
}

/// Code without test-only items.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            out.push_str(line);
            out.push('\n');
            continue;
        }
        let mut depth = 0_usize;
        for line in lines.by_ref() {
            depth = (depth + line.matches('{').count()).saturating_sub(line.matches('}').count());
            if depth == 0 && line.trim_end().ends_with([';', '}']) {
                break;
            }
        }
    }
    out
}

impl Module {
    fn of(names: &Names, file: String, code: &str, known: &BTreeSet<Names>) -> Self {
        let mut module = Self { file, ..Self::default() };
        let (uses, rest) = split_uses(code);
        let child = |name: &str| known.contains(&[&names[..], &[name.to_owned()]].concat());
        for (is_exported, path, name) in uses {
            let Some(path) = absolute(names, &path, &child) else { continue };
            // Re-exports are followed from their users.
            if !is_exported {
                module.paths.push(path.clone());
            }
            module.imports.insert(name, path);
        }
        for path in paths_in(&rest) {
            let imported = path.first().and_then(|first| module.imports.get(first));
            let path = match imported {
                Some(from) => Some([from, &path[1..]].concat()),
                None => absolute(names, &path, &child),
            };
            module.paths.extend(path);
        }
        module
    }
}

/// A path from the root of the crate; `None` if it leads to another crate.
fn absolute(names: &Names, path: &[String], is_child: &dyn Fn(&str) -> bool) -> Option<Names> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([names, rest].concat()),
        "super" => {
            let ups = path.iter().take_while(|name| *name == "super").count();
            let above = names.get(..names.len().checked_sub(ups)?)?;
            Some([above, &path[ups..]].concat())
        }
        child if is_child(child) => Some([names, path].concat()),
        _ => None,
    }
}

/// A `use` declaration: whether it is a re-export, the path, and the name.
type Use = (bool, Names, String);

/// Splits the `use` items of a file from the rest of its code.
fn split_uses(code: &str) -> (Vec<Use>, String) {
    let (mut uses, mut rest) = (Vec::new(), String::new());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let item = line.trim_start();
        let visible = item.strip_prefix("pub").map(|after| after.split_once(") ").map_or(after, |(_, item)| item));
        let Some(start) = visible.unwrap_or(item).trim_start().strip_prefix("use ") else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let mut tree = start.to_owned();
        while !tree.contains(';') {
            let Some(more) = lines.next() else { break };
            tree.push_str(more);
        }
        let tree = tree.split(';').next().unwrap_or_default();
        leaves(tree, &[], &mut |path, name| uses.push((visible.is_some(), path, name)));
    }
    (uses, rest)
}

/// Calls `found` with each path in a `use` tree, and its name.
fn leaves(tree: &str, above: &[String], found: &mut dyn FnMut(Names, String)) {
    let tree = tree.trim();
    let names = |path: &str| -> Names {
        let own = path.split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
        above.iter().cloned().chain(own).collect()
    };
    let Some((path, inner)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
        let mut path = names(path);
        if path.len() > 1 && path.last().is_some_and(|name| name == "self") {
            path.pop();
        }
        if let Some(name) = alias.map(str::to_owned).or_else(|| path.last().cloned()) {
            found(path, name);
        }
        return;
    };
    let above = names(path);
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    leaves(&inner[start..at], &above, found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The paths with several segments in code.
fn paths_in(code: &str) -> Vec<Names> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = Vec::new();
    for piece in code.split(|c: char| !is_word(c) && c != ':') {
        let path: Names = piece.split("::").map(str::to_owned).collect();
        if path.len() > 1 && path.iter().take(2).all(|name| !name.is_empty() && !name.contains(':')) {
            out.push(path.into_iter().take_while(|name| !name.is_empty() && !name.contains(':')).collect());
        }
    }
    out
}

/// One cycle of files for each strongly connected group of files.
fn cycles(of: &Crate) -> Vec<Names> {
    let edges = of.edges();
    let mut found: Vec<Names> = Vec::new();
    let mut seen: BTreeSet<&Names> = BTreeSet::new();
    for start in edges.keys().copied() {
        if seen.contains(start) {
            continue;
        }
        let Some(circle) = way(&edges, start, start) else { continue };
        let is_in_group = |other: &&Names| way(&edges, start, other).is_some() && way(&edges, other, start).is_some();
        seen.extend(edges.keys().copied().filter(is_in_group));
        found.push(circle.iter().filter_map(|names| of.0.get(*names)).map(|module| module.file.clone()).collect());
    }
    found
}

/// A shortest path from one module to another, with at least one step.
fn way<'x>(edges: &BTreeMap<&'x Names, BTreeSet<&'x Names>>, from: &'x Names, to: &'x Names) -> Option<Vec<&'x Names>> {
    let mut before: BTreeMap<&Names, &Names> = BTreeMap::new();
    let mut next = vec![from];
    while !before.contains_key(to) {
        let mut further = Vec::new();
        for here in next {
            for there in edges.get(here).into_iter().flatten() {
                if !before.contains_key(there) {
                    before.insert(there, here);
                    further.push(*there);
                }
            }
        }
        if further.is_empty() {
            return None;
        }
        next = further;
    }
    let mut way = vec![to];
    loop {
        let here = before.get(way.last()?)?;
        way.push(here);
        if *here == from {
            way.reverse();
            return Some(way);
        }
    }
}
