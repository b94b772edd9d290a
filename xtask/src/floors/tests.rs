use serde_json::json;

use super::*;

/// Name, floor, dependencies with their kinds.
type Crate<'a> = (&'a str, Option<u64>, &'a [(&'a str, Option<&'a str>)]);

/// Checks crates given as (name, floor, [(dependency, kind)]); returns `crate: message` lines.
fn problems(crates: &[Crate<'_>]) -> Vec<String> {
    let packages: Vec<_> = crates
        .iter()
        .map(|(name, floor, dependencies)| {
            let dependencies: Vec<_> = dependencies.iter().map(|(n, kind)| json!({"name": n, "kind": kind})).collect();
            json!({"name": name, "metadata": floor.map(|f| json!({"floor": f})), "dependencies": dependencies})
        })
        .collect();
    check(&json!({ "packages": packages })).iter().map(ToString::to_string).collect()
}

#[test]
fn lower_floors_and_foreign_crates_are_fine() {
    let crates: &[Crate<'_>] =
        &[("base", Some(0), &[("serde", None)]), ("http", Some(1), &[("base", None), ("base", Some("build"))])];
    assert_eq!(problems(crates), Vec::<String>::new());
}

#[test]
fn siblings_and_higher_floors_are_refused() {
    let crates: &[Crate<'_>] =
        &[("base", Some(0), &[("http", Some("build"))]), ("http", Some(1), &[("ir", None)]), ("ir", Some(1), &[])];
    assert_eq!(
        problems(crates),
        [
            "base: is on floor 0 and depends on http on floor 1; only lower floors are allowed",
            "http: is on floor 1 and depends on ir on floor 1; only lower floors are allowed",
        ]
    );
}

#[test]
fn development_dependencies_may_point_up() {
    let crates: &[Crate<'_>] = &[("base", Some(0), &[("testkit", Some("dev"))]), ("testkit", Some(5), &[])];
    assert_eq!(problems(crates), Vec::<String>::new());
}

#[test]
fn a_crate_without_a_floor_is_named() {
    let crates: &[Crate<'_>] = &[("new", None, &[]), ("xtask", None, &[("new", None)])];
    assert_eq!(problems(crates), ["new: declares no floor: add `floor = N` to [package.metadata]"]);
}

#[test]
fn nothing_depends_on_developer_commands() {
    let crates: &[Crate<'_>] = &[("base", Some(0), &[("xtask", None)]), ("xtask", None, &[])];
    assert_eq!(problems(crates), ["base: depends on xtask, which stands outside the floors"]);
}

#[test]
fn this_workspace_stands() {
    let metadata = crate::workspace::metadata(&crate::workspace::root()).unwrap();
    assert!(metadata["packages"].as_array().unwrap().len() > 10);
    assert_eq!(check(&metadata), Vec::new());
}
