//! Unused dependencies: those that no source file of their crate names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::entries;
use crate::problem::Problem;

/// Dependencies that code does not name, with their purpose: crate, dependency, reason.
const NOT_NAMED: &[(&str, &str, &str)] = &[];

/// Checks the direct dependencies of each crate that `cargo metadata` lists.
pub(crate) fn check(metadata: &Value) -> Result<Vec<Problem>> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let manifests: Vec<PathBuf> = packages.iter().filter_map(|p| p["manifest_path"].as_str()).map(Into::into).collect();
    let folders: Vec<&Path> = manifests.iter().filter_map(|manifest| manifest.parent()).collect();
    let mut problems = Vec::new();
    for (package, folder) in packages.iter().zip(&folders) {
        let sources = Sources::read(folder, &folders)?;
        check_package(package, &sources, &mut problems);
    }
    problems.sort();
    Ok(problems)
}

fn check_package(package: &Value, sources: &Sources, problems: &mut Vec<Problem>) {
    let name = package["name"].as_str().unwrap_or_default();
    let all = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    for dependency in all {
        let target = dependency["name"].as_str().unwrap_or_default();
        let identifier = dependency["rename"].as_str().unwrap_or(target).replace('-', "_");
        if NOT_NAMED.iter().any(|(of, of_target, _)| *of == name && *of_target == target) {
            continue;
        }
        let message = match dependency["kind"].as_str() {
            // A second entry may add features of a dependency for tests only.
            Some("dev") if all.iter().any(|d| d["name"] == target && d["kind"].is_null()) => None,
            Some("dev") if sources.any(&identifier) => None,
            Some("dev") => Some("no file of this crate names it: remove the development dependency"),
            Some("build") if names(&sources.build, &identifier) => None,
            Some("build") => Some("build.rs does not name it: remove the build dependency"),
            _ if names(&sources.code, &identifier) => None,
            _ if sources.any(&identifier) => Some("only tests name it: move it to [dev-dependencies]"),
            _ => Some("no file of this crate names it: remove the dependency"),
        };
        problems.extend(message.map(|message| Problem::new(name, format!("{target}: {message}"))));
    }
}

/// The code of a crate, without comments.
#[derive(Debug, Default)]
struct Sources {
    code: String,
    tests: String,
    build: String,
}

impl Sources {
    fn read(folder: &Path, crates: &[&Path]) -> Result<Self> {
        let mut sources = Self::default();
        sources.collect(folder, folder, crates)?;
        Ok(sources)
    }

    fn collect(&mut self, folder: &Path, within: &Path, crates: &[&Path]) -> Result<()> {
        for path in entries(folder)? {
            let place = path.strip_prefix(within).unwrap_or(&path).to_string_lossy().into_owned();
            if path.is_dir() {
                // A crate may be inside the folder of another one.
                if !crates.contains(&path.as_path()) && place != "target" {
                    self.collect(&path, within, crates)?;
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let into = match place.as_str() {
                    "build.rs" => &mut self.build,
                    _ if place.starts_with("tests/") || place.contains("/tests/") || place.ends_with("/tests.rs") => {
                        &mut self.tests
                    }
                    _ => &mut self.code,
                };
                for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                    into.push_str(line);
                    into.push('\n');
                }
            }
        }
        Ok(())
    }

    fn any(&self, identifier: &str) -> bool {
        names(&self.code, identifier) || names(&self.tests, identifier)
    }
}

/// Whether code names this crate: as the start of a path, or by importing the crate itself.
fn names(code: &str, identifier: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(identifier).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + identifier.len()..]);
        if before.ends_with(is_word) || before.ends_with('.') || after.starts_with(is_word) {
            return false;
        }
        let is_root = before.ends_with("::") && !before[..before.len() - 2].ends_with(is_word);
        if before.ends_with("::") && !is_root {
            return false;
        }
        let imported = before.trim_end().rsplit(|c: char| !is_word(c)).next();
        after.trim_start().starts_with("::") || matches!(imported, Some("use" | "crate"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp::TempTree;

    #[test]
    fn paths_and_imports_name_a_crate() {
        for code in
            ["use a_b::C;", "a_b::c()", "::a_b::c()", "use a_b as x;", "extern crate a_b;", "#[a_b::test]", "use a_b;"]
        {
            assert!(names(code, "a_b"), "{code}");
        }
        for code in ["xa_b::c()", "a_bc::d()", "crate::a_b::c()", "x.a_b::<u8>()", "let a_b = 1;", "self::a_b::c()"] {
            assert!(!names(code, "a_b"), "{code}");
        }
    }

    #[test]
    fn dependencies_without_use_are_found() {
        let tree = TempTree::new();
        tree.file("x/src/lib.rs", "// one::comment\nuse two::Two;\n");
        tree.file("x/src/y/tests.rs", "use three::Three;\n").file("x/tests/it/main.rs", "four::f();\n");
        tree.file("x/build.rs", "fn main() { five::f() }\n").file("x/inner/src/lib.rs", "one::f();\n");
        let dependency = |name: &str, kind: Value| serde_json::json!({"name": name, "kind": kind});
        let package = |name: &str, folder: &str, dependencies: Vec<Value>| {
            let manifest = tree.path().join(folder).join("Cargo.toml");
            serde_json::json!({"name": name, "manifest_path": manifest, "dependencies": dependencies})
        };
        let mut all: Vec<_> = ["one", "two", "three"].map(|name| dependency(name, Value::Null)).into();
        all.extend(["two", "four", "six"].map(|name| dependency(name, "dev".into())));
        all.extend(["five", "two"].map(|name| dependency(name, "build".into())));
        all.push(serde_json::json!({"name": "other", "rename": "two", "kind": null}));
        let packages = [package("x", "x", all), package("inner", "x/inner", vec![dependency("one", Value::Null)])];
        let found = check(&serde_json::json!({ "packages": packages })).unwrap();
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "x: one: no file of this crate names it: remove the dependency",
                "x: six: no file of this crate names it: remove the development dependency",
                "x: three: only tests name it: move it to [dev-dependencies]",
                "x: two: build.rs does not name it: remove the build dependency",
            ]
        );
    }
}
