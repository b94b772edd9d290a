//! The floors: a crate may only depend on crates of strictly lower floors, so there are no cycles and no dependencies
//! between siblings.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::problem::Problem;

#[cfg(test)]
mod tests;

/// Crates outside the floors; no crate may depend on them.
const OUTSIDE: [&str; 3] = ["cardinal-bench", "cardinal-guard", "xtask"];

/// Checks the dependencies in `cargo metadata`. Development dependencies are exempt.
pub(crate) fn check(metadata: &Value) -> Vec<Problem> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let floors: BTreeMap<&str, Option<u64>> =
        packages.iter().map(|p| (name(p), p["metadata"]["floor"].as_u64())).collect();
    let mut problems = Vec::new();
    for package in packages {
        let this = name(package);
        let floor = floors.get(this).copied().flatten();
        if floor.is_none() && !OUTSIDE.contains(&this) {
            problems.push(Problem::new(this, "declares no floor: add `floor = N` to [package.metadata]"));
        }
        let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
        for dependency in dependencies.iter().filter(|d| d["kind"] != "dev") {
            let target = name(dependency);
            let Some(target_floor) = floors.get(target) else { continue };
            if let Some(message) = wrong(this, floor, target, *target_floor) {
                problems.push(Problem::new(this, message));
            }
        }
    }
    problems.sort();
    problems
}

fn wrong(this: &str, floor: Option<u64>, target: &str, target_floor: Option<u64>) -> Option<String> {
    if OUTSIDE.contains(&target) {
        return Some(format!("depends on {target}, which stands outside the floors"));
    }
    if OUTSIDE.contains(&this) {
        return None;
    }
    match (floor, target_floor) {
        (Some(floor), Some(below)) if below >= floor => {
            Some(format!("is on floor {floor} and depends on {target} on floor {below}; only lower floors are allowed"))
        }
        _ => None,
    }
}

fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap_or_default()
}
