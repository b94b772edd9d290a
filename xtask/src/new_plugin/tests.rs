use super::*;
use crate::temp::TempTree;

const LIB: &str =
    "//! The family.\n\nuse cardinal_sdk::PluginDef;\n\n/// All.\npub const PLUGINS: &[&PluginDef] = &[];\n";

fn args(name: &str, family: Family) -> Args {
    Args { name: name.to_owned(), family }
}

fn tree() -> TempTree {
    let tree = TempTree::new();
    for family in Family::ALL {
        tree.file(&format!("{}/src/lib.rs", family.folder()), LIB);
    }
    tree
}

#[test]
fn a_plugin_is_laid_out_and_registered() {
    let tree = tree();
    let said = run(tree.path(), &args("request-stamp", Family::Transform)).unwrap();
    assert!(said.contains("cargo test -p cardinal-plugins-transform request_stamp"), "{said}");
    let folder = "crates/plugins-transform/src/request_stamp";
    for (file, _) in FILES {
        let text = tree.text(&format!("{folder}/{file}"));
        assert!(!text.contains('@'), "{file} has an open place: {text}");
    }
    assert!(tree.text(&format!("{folder}/mod.rs")).contains("name: \"request-stamp\""));
    assert!(tree.text(&format!("{folder}/filter.rs")).contains("struct RequestStamp"));
    assert_eq!(
        tree.text("crates/plugins-transform/src/lib.rs"),
        "//! The family.\n\nuse cardinal_sdk::PluginDef;\n\npub mod request_stamp;\n\n/// All.\n\
         pub const PLUGINS: &[&PluginDef] = &[&request_stamp::PLUGIN];\n"
    );
    assert!(run(tree.path(), &args("request-stamp", Family::Auth)).is_err(), "the name is taken in another family");
}

#[test]
fn what_is_laid_out_is_tidy() {
    let tree = tree();
    run(tree.path(), &args("request-stamp", Family::Traffic)).unwrap();
    let manifest = "[lints]\nworkspace = true\n";
    for family in Family::ALL {
        tree.file(&format!("{}/Cargo.toml", family.folder()), manifest);
    }
    let problems = crate::tidy::check(tree.path()).unwrap();
    let about_it: Vec<_> = problems.iter().filter(|p| p.place.contains("request_stamp")).collect();
    assert!(about_it.is_empty(), "{about_it:?}");
}

#[test]
fn each_new_plugin_has_its_own_priority() {
    let tree = tree();
    tree.file("crates/plugins-auth/src/old/mod.rs", "    priority: 1,\n")
        .file("crates/plugins-observe/src/old/mod.rs", "    priority: 1_000,\n    priority: 2,\n");
    run(tree.path(), &args("a", Family::Traffic)).unwrap();
    run(tree.path(), &args("b", Family::Traffic)).unwrap();
    assert!(tree.text("crates/plugins-traffic/src/a/mod.rs").contains("priority: 3,"));
    assert!(tree.text("crates/plugins-traffic/src/b/mod.rs").contains("priority: 4,"));
}

#[test]
fn lists_stay_in_order() {
    let two = "pub mod a;\npub mod c;\n\npub const PLUGINS: &[&PluginDef] = &[&a::PLUGIN, &c::PLUGIN];\n";
    let three = registry::with_plugin(two, "b").unwrap();
    assert_eq!(
        three,
        "pub mod a;\npub mod b;\npub mod c;\n\npub const PLUGINS: &[&PluginDef] = &[&a::PLUGIN, &b::PLUGIN, &c::PLUGIN];\n"
    );
    assert_eq!(registry::plugins(&three), ["a", "b", "c"]);
    let last = registry::with_plugin(two, "d").unwrap();
    assert!(last.starts_with("pub mod a;\npub mod c;\npub mod d;\n"), "{last}");
    assert!(registry::with_plugin(two, "c").is_err());
    assert!(registry::with_plugin("mod a;\n", "b").is_err());
}

#[test]
fn long_lists_are_broken_as_rustfmt_does() {
    let names = ["ip_restriction", "request_size_limiting", "request_termination"];
    let mut lib = LIB.replace("= &[]", "= &[&cors::PLUGIN]");
    for name in names {
        lib = registry::with_plugin(&lib, name).unwrap();
    }
    let second_line = "=\n    &[&cors::PLUGIN, &ip_restriction::PLUGIN, &request_size_limiting::PLUGIN, \
                       &request_termination::PLUGIN];\n";
    assert!(lib.ends_with(second_line), "{lib}");
    let lib = registry::with_plugin(&lib, "request_validator").unwrap();
    let many_lines = "= &[\n    &cors::PLUGIN,\n    &ip_restriction::PLUGIN,\n    &request_size_limiting::PLUGIN,\n    \
                      &request_termination::PLUGIN,\n    &request_validator::PLUGIN,\n];\n";
    assert!(lib.ends_with(many_lines), "{lib}");
    let all = ["cors", names[0], names[1], names[2], "request_validator"];
    assert_eq!(registry::plugins(&lib), all);
}

#[test]
fn names_are_checked() {
    for bad in ["", "A", "a_b", "a-", "-a", "a--b", "1a", "a b", "../a", "mod"] {
        let refused = run(tree().path(), &args(bad, Family::Traffic)).is_err();
        assert!(refused, "{bad}");
    }
}

#[test]
fn the_templates_use_the_sdk_that_is_there() {
    // The compiler treats the templates as text; the names in them must exist.
    let sdk = fs::read_to_string(crate::workspace::root().join("crates/sdk/src/def.rs")).unwrap();
    let (_, definition) = sdk.split_once("pub struct PluginDef {").unwrap();
    let (definition, _) = definition.split_once("\n}").unwrap();
    let fields =
        definition.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':')).map(|(name, _)| name);
    for field in fields {
        assert!(FILES[0].1.contains(&format!("    {field}: ")), "the template sets no `{field}`");
    }
}
