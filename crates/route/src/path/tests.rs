use std::borrow::Cow;

use proptest::prelude::*;

use super::{decode, is_normal, normalize_path, resolve};

fn check(path: &str, expect: &str) {
    assert_eq!(normalize_path(path.as_bytes()), expect.as_bytes(), "{path}");
}

#[test]
fn dot_segments_and_slashes() {
    check("", "");
    check("/", "/");
    check("//", "/");
    check("/a//b///c", "/a/b/c");
    check("/a/./b", "/a/b");
    check("/a/../b", "/b");
    check("/a/b/..", "/a/");
    check("/a/.", "/a/");
    check("/../../x", "/x");
    check("/a/../../../x", "/x");
    check("a/../b", "/b");
    check("../x", "x");
    check("./x", "x");
    check(".", "");
    check("..", "");
    check("/route../req", "/route../req");
    check("/.well-known/x", "/.well-known/x");
    check("/...", "/...");
    check("*", "*");
}

#[test]
fn triplets() {
    check("/%61bc", "/abc");
    check("/a%2fb", "/a%2Fb");
    check("/a%2Fb", "/a%2Fb");
    check("/%2e%2e/x", "/x");
    check("/%252e", "/%252e");
    check("/100%", "/100%");
    check("/%zz", "/%zz");
    check("/%c3%a9 x", "/\u{e9} x");
    assert_eq!(normalize_path(b"/%ff").as_ref(), b"/\xff");
}

#[test]
fn normal_paths_are_borrowed() {
    for path in ["/", "/a/b.c/d", "/x%2Fy", "/.hidden", "/a.", "/..."] {
        assert!(matches!(normalize_path(path.as_bytes()), Cow::Borrowed(_)), "{path}");
    }
}

proptest! {
    #[test]
    fn the_short_cut_agrees(path in "[/./%a2eEfF5c0-]{0,24}") {
        let long = resolve(&decode(path.as_bytes()));
        let own = normalize_path(path.as_bytes());
        prop_assert_eq!(own.as_ref(), &long[..]);
        prop_assert_eq!(is_normal(path.as_bytes()), long == path.as_bytes());
    }

    #[test]
    fn any_bytes_do(path in proptest::collection::vec(any::<u8>(), 0..64)) {
        normalize_path(&path);
    }
}
