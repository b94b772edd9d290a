use super::*;
use crate::temp::TempTree;

/// The cycles of a crate with these files.
fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let tree = TempTree::new();
    tree.file("src/lib.rs", "mod a;\nmod b;\nmod c;\nmod d;\n");
    for (path, text) in files {
        tree.file(&format!("src/{path}"), text);
    }
    cycles(&Crate::read(&tree.path().join("src")).unwrap()).iter().map(|cycle| cycle.join(" ")).collect()
}

#[test]
fn a_circle_is_found_whatever_form_its_paths_have() {
    let back = ("b.rs", "use super::a::A;\npub struct B(A);\n");
    for text in [
        "use crate::b::B;",
        "use crate::{\n    b::{self, B},\n};",
        "use super::b::B as Other;",
        "use crate::b;\nfn f(_: b::B) {}",
        "use crate::b as other;\nfn f(_: other::B) {}",
        "fn f(_: Vec<crate::b::B>) {}",
        "fn f() { super::b::B::new(\"//\"); }",
        "use crate::b::*;",
        "fn f() { '\"'; crate::b::f() }",
    ] {
        assert_eq!(circles(&[("a.rs", text), back]), ["a.rs b.rs a.rs"], "{text}");
    }
}

#[test]
fn texts_comments_and_tests_import_nothing() {
    let back = ("b.rs", "use super::a::A;\n");
    for text in [
        "// use crate::b::B;",
        "/// See [`crate::b::B`].\nstruct A;",
        "const A: &str = \"crate::b::B\";",
        "const A: &str = r#\"\" crate::b::B\"#;",
        "#[cfg(test)]\nuse crate::b::B;",
        "#[cfg(test)]\nmod tests {\n    use crate::b::B;\n    fn f() {\n    }\n}",
        "#[cfg(test)]\nfn f() {\n    crate::b::f();\n}",
        "use cardinal::b::B;",
    ] {
        assert_eq!(circles(&[("a.rs", text), back]), Vec::<String>::new(), "{text}");
    }
    assert_eq!(circles(&[("a/mod.rs", "mod tests;"), ("a/tests.rs", "use crate::b::B;"), back]), Vec::<String>::new());
}

#[test]
fn what_follows_tests_is_checked() {
    let text = "#[cfg(test)]\nmod tests;\n#[cfg(test)]\nfn f() {\n}\nuse crate::b::B;\n";
    assert_eq!(circles(&[("a.rs", text), ("b.rs", "use crate::a::A;")]), ["a.rs b.rs a.rs"]);
}

#[test]
fn exports_lead_to_the_file_that_defines() {
    let folder = ("a/mod.rs", "mod x;\nmod y;\npub(crate) use x::X;\npub use self::y::Y;\n");
    let sound = [folder, ("a/x.rs", "pub struct X;"), ("a/y.rs", "use super::X;\npub struct Y(X);")];
    assert_eq!(circles(&sound), Vec::<String>::new());
    let wrong = [folder, ("a/x.rs", "use crate::a::Y;"), ("a/y.rs", "use super::X;\npub struct Y(X);")];
    assert_eq!(circles(&wrong), ["a/x.rs a/y.rs a/x.rs"]);
    // A path to an item that the parent defines itself leads to the parent.
    let wrong = [("a/mod.rs", "mod x;\nuse x::X;\npub struct Of(X);"), ("a/x.rs", "use super::Of;\npub struct X;")];
    assert_eq!(circles(&wrong), ["a/mod.rs a/x.rs a/mod.rs"]);
}

#[test]
fn an_item_may_be_named_like_its_module() {
    let folder = ("a/mod.rs", "mod x;\npub(crate) use x::x;\n");
    let files = [folder, ("a/x.rs", "use crate::b::B;\npub fn x() {}"), ("b.rs", "use crate::a::x;\npub struct B;")];
    assert_eq!(circles(&files), ["a/x.rs b.rs a/x.rs"]);
}

#[test]
fn each_group_is_reported_once_by_a_shortest_circle() {
    let files = [
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "use crate::{a::A, c::C};"),
        ("c.rs", "use crate::b::B;"),
        ("d/mod.rs", "mod e;\nuse e::E;\nstruct D;"),
        ("d/e.rs", "use super::D;"),
    ];
    assert_eq!(circles(&files), ["a.rs b.rs a.rs", "d/mod.rs d/e.rs d/mod.rs"]);
}

#[test]
fn crates_without_circular_imports_are_not_excused() {
    for place in NOT_YET {
        let sources = Crate::read(&crate::workspace::root().join(place).join("src")).unwrap();
        assert!(!cycles(&sources).is_empty(), "{place} has no circular imports: take it off NOT_YET");
    }
}
