use super::*;
use crate::temp::TempTree;

const LIB: &str = "//! What it is for.\n//!\n//! *Must not\n//! know*: the rest.\n";
const MANIFEST: &str = "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n";

/// The problems that tidy reports for a tree with one valid crate `a` and these files.
fn problems(files: &[(&str, &str)]) -> Vec<String> {
    let tree = TempTree::new();
    tree.file("crates/a/Cargo.toml", MANIFEST).file("crates/a/src/lib.rs", LIB);
    for (path, text) in files {
        tree.file(path, text);
    }
    check(tree.path()).unwrap().iter().map(ToString::to_string).collect()
}

/// The only problem of such a tree.
fn problem(files: &[(&str, &str)]) -> String {
    let found = problems(files);
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

#[test]
fn a_sound_tree_passes() {
    assert_eq!(problems(&[("crates/a/src/x/mod.rs", ""), ("crates/a/tests/it/main.rs", "")]), Vec::<String>::new());
}

#[test]
fn long_files_fail_but_long_tests_do_not() {
    let long = "// line\n".repeat(801);
    assert!(problem(&[("crates/a/src/x.rs", &long)]).starts_with("crates/a/src/x.rs: 801 lines"));
    assert_eq!(problems(&[("crates/a/src/x.rs", &long[8..])]), Vec::<String>::new());
    assert_eq!(problems(&[("crates/a/src/tests.rs", &long), ("crates/a/tests/it/x.rs", &long)]), Vec::<String>::new());
}

#[test]
fn lints_are_inherited() {
    let expect = "crates/a/Cargo.toml: does not inherit";
    assert!(problem(&[("crates/a/Cargo.toml", "[package]\nname = \"a\"\n")]).starts_with(expect));
    assert!(problem(&[("crates/a/Cargo.toml", "[lints]\nworkspace = false\n")]).starts_with(expect));
}

#[test]
fn a_library_says_what_it_must_not_know() {
    assert!(problem(&[("crates/a/src/lib.rs", "//! A library.\n")]).starts_with("crates/a/src/lib.rs: must open"));
    let late = "use x;\n//! *Must not know*\n";
    assert!(problem(&[("crates/a/src/lib.rs", late)]).starts_with("crates/a/src/lib.rs: must open"));
}

#[test]
fn empty_names_fail() {
    assert!(problem(&[("crates/a/src/utils.rs", "")]).starts_with("crates/a/src/utils.rs: `utils` says nothing"));
    assert!(problem(&[("crates/a/src/common/mod.rs", "")]).starts_with("crates/a/src/common: `common` says nothing"));
}

#[test]
fn module_roots_are_mod_rs() {
    let found = problem(&[("crates/a/src/x.rs", ""), ("crates/a/src/x/y.rs", "")]);
    assert_eq!(found, "crates/a/src/x.rs: the root of a module with a folder is x/mod.rs");
}

#[test]
fn a_crate_has_one_test_binary() {
    assert!(problem(&[("crates/a/tests/x.rs", "")]).starts_with("crates/a/tests/x.rs: a crate has one test binary"));
    assert!(problem(&[("crates/a/tests/x/main.rs", "")]).starts_with("crates/a/tests/x: a crate has one test binary"));
}

#[test]
fn tests_that_sleep_fail() {
    let sleep = concat!("    tokio::time::sl", "eep(SECOND).await;\n");
    let found = problem(&[("crates/a/tests/it/main.rs", sleep)]);
    assert!(found.starts_with("crates/a/tests/it/main.rs:1: a test does not sleep"), "{found}");
    assert!(problem(&[("crates/a/src/x/tests.rs", concat!("sl", "eep_until(then)\n"))]).contains("x/tests.rs:1"));
    let within = format!("fn f() {{\n{sleep}}}\n\n#[cfg(test)]\nmod tests {{\n{sleep}}}\n");
    assert!(problem(&[("crates/a/src/x.rs", &within)]).starts_with("crates/a/src/x.rs:7: "));
    let manual = concat!("    clock.sleep(SECOND).await;\n    // sl", "eep(SECOND)\n    fall_asleep();\n");
    assert_eq!(problems(&[("crates/a/src/tests.rs", manual), ("crates/a/src/x.rs", sleep)]), Vec::<String>::new());
}

#[test]
fn the_data_plane_waits_for_its_clock() {
    let text = "use tokio::time::timeout;\n";
    let net = |path| [("crates/net/Cargo.toml", MANIFEST), ("crates/net/src/lib.rs", LIB), (path, text)];
    assert!(problem(&net("crates/net/src/x.rs")).starts_with("crates/net/src/x.rs:1: wait for the node's clock"));
    assert_eq!(problems(&net("crates/net/src/tests.rs")), Vec::<String>::new());
    assert_eq!(problems(&[("crates/a/src/x.rs", text)]), Vec::<String>::new());
}

#[test]
fn ignored_tests_fail() {
    let text = concat!("#[test]\n#[", "ignore]\nfn x() {}\n");
    assert!(problem(&[("crates/a/src/tests.rs", text)]).starts_with("crates/a/src/tests.rs:2: "));
}

#[test]
fn words_of_user_visible_text_are_checked() {
    let of = |path: &str, text: &str| problem(&[(path, text)]);
    assert_eq!(
        of("docs/page.md", "# Title\n\nRequests that are\nunder\nway are cut off.\n"),
        "docs/page.md:3: \"under way\": write in progress, active, pending"
    );
    assert!(of("README.md", "Nobody is served.\n").starts_with("README.md:1: \"nobody\""));
    assert!(of("crates/a/README.md", "Whom to trust\n").starts_with("crates/a/README.md:1: \"whom\""));
    let log = "fn f() {\n    tracing::warn!(\"two requests \\\n    under \\\n    way\");\n}\n";
    assert!(of("crates/a/src/x.rs", log).starts_with("crates/a/src/x.rs:2: \"under way\""));
    assert!(of("crates/a/src/x.rs", "const A: &str = r#\"a \" nobody\"#;\n").starts_with("crates/a/src/x.rs:1: "));
    assert!(of("crates/a/src/x.rs", "const A: char = '\"';\nconst B: &str = \"says so\";\n").contains("x.rs:2: "));
    let cli = [
        ("crates/cli/Cargo.toml", MANIFEST),
        ("crates/cli/src/lib.rs", LIB),
        ("crates/cli/src/args/mod.rs", "/// Threads that serve\nstruct A;\n"),
    ];
    assert!(problem(&cli).starts_with("crates/cli/src/args/mod.rs:1: \"threads that serve\""));
}

#[test]
fn words_of_code_and_tests_are_not_checked() {
    for (path, text) in [
        ("docs/page.md", "```\nUSER nobody\n```\nThe user `nobody`. It is nobodyish.\n"),
        ("CHANGELOG.md", "Nobody.\n"),
        ("crates/a/src/tests.rs", "const A: &str = \"nobody\";\n"),
        ("crates/a/src/x.rs", "const A: &[u8] = b\"nobody\";\n"),
        ("crates/a/src/x.rs", "// \"nobody\"\nfn f() {}\n\n#[cfg(test)]\nmod tests { const A: &str = \"nobody\"; }\n"),
        ("crates/a/tests/it/main.rs", "const A: &str = \"nobody\";\n"),
    ] {
        assert_eq!(problems(&[(path, text)]), Vec::<String>::new(), "{path}");
    }
}

const FAMILY: &[(&str, &str)] = &[
    ("crates/plugins-x/Cargo.toml", MANIFEST),
    ("crates/plugins-x/src/one/mod.rs", "pub const PLUGIN: PluginDef = PluginDef {};\n"),
    ("crates/plugins-x/src/one/schema.rs", ""),
    ("crates/plugins-x/src/one/filter/mod.rs", ""),
    ("crates/plugins-x/src/one/tests.rs", ""),
    ("crates/plugins-x/src/one/README.md", "# one\n\n```yaml\nplugins: []\n```\n"),
];

fn family(plugins: &str, more: &[(&str, &str)]) -> Vec<String> {
    let lib = format!("{LIB}\npub const PLUGINS: &[&PluginDef] = &[{plugins}];\n");
    let mut files = FAMILY.to_vec();
    files.push(("crates/plugins-x/src/lib.rs", &lib));
    files.extend(more);
    problems(&files)
}

#[test]
fn plugin_folders_are_complete_and_registered() {
    assert_eq!(family("&one::PLUGIN", &[]), Vec::<String>::new());
    assert_eq!(family("", &[]), ["crates/plugins-x/src/one: is not in its family's PLUGINS"]);
    assert_eq!(
        family("&two::PLUGIN, &one::PLUGIN", &[]),
        ["crates/plugins-x/src/lib.rs: PLUGINS is not in alphabetical order"]
    );
    assert_eq!(
        family("&one::PLUGIN", &[("crates/plugins-x/src/one/README.md", "# one\n")]),
        ["crates/plugins-x/src/one/README.md: shows no configuration: add a ```yaml block"]
    );
    let bare = "pub const PLUGIN: PluginDef = PluginDef {};\n";
    assert_eq!(
        family("&one::PLUGIN, &two::PLUGIN", &[("crates/plugins-x/src/two/mod.rs", bare)]),
        ["README.md", "filter.rs", "schema.rs", "tests.rs"]
            .map(|part| format!("crates/plugins-x/src/two: has no {part}"))
    );
    let lowered = ("crates/plugins-x/src/two/lower.rs", "");
    assert_eq!(
        family("&one::PLUGIN, &two::PLUGIN", &[("crates/plugins-x/src/two/mod.rs", bare), lowered]),
        ["README.md", "schema.rs", "tests.rs"].map(|part| format!("crates/plugins-x/src/two: has no {part}"))
    );
    assert_eq!(family("&one::PLUGIN", &[("crates/plugins-x/src/two.rs", bare)]).len(), 1);
}

#[test]
fn programs_of_tests_are_declared() {
    let text = concat!("let c = Command::", "new(\"nginx\");\n");
    let found = problem(&[("crates/a/tests/it/x.rs", text)]);
    assert!(found.starts_with("crates/a/tests/it/x.rs:1: runs `nginx`: declare it"), "{found}");
    let testkit = [("crates/testkit/Cargo.toml", MANIFEST), ("crates/testkit/src/x.rs", text)];
    assert!(problem(&testkit).contains("runs `nginx`"));
    let shell = concat!("let c = Command::", "new(\"/bin/sh\");\n");
    assert_eq!(problems(&[("crates/a/src/x.rs", text), ("crates/a/tests/it/x.rs", shell)]), Vec::<String>::new());
}

#[test]
fn this_workspace_is_tidy() {
    let root = crate::workspace::root();
    assert_eq!(check(&root).unwrap(), Vec::new());
    assert_eq!(dependencies::check(&crate::workspace::metadata(&root).unwrap()).unwrap(), Vec::new());
}

#[test]
fn words_of_comments_are_checked_in_some_crates() {
    let text = "fn f() {}\n\n/// Checked: a body at\n/// hand.\nfn g() {}\n// `nobody` is a name.\n";
    let tests = "#[cfg(test)]\nmod tests {\n    // nobody\n}\n";
    let found = problems(&[
        ("crates/net/Cargo.toml", MANIFEST),
        ("crates/net/src/lib.rs", LIB),
        ("crates/net/src/x.rs", &format!("{text}{tests}")),
        ("crates/net/src/tests.rs", "// nobody\n"),
        ("crates/a/src/x.rs", text),
    ]);
    assert_eq!(found, ["crates/net/src/x.rs:3: \"at hand\": write buffered, available"]);
}
