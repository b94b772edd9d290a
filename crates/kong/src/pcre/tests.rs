use proptest::prelude::*;
use serde_json::json;

use super::{PcreError, translate};
use crate::declarative::load_value;
use crate::entities::Registry;
use crate::lower::lower;
use crate::settings::{RouterFlavor, Settings};

fn check(pattern: &str, expect: &str) {
    assert_eq!(translate(pattern), Ok(format!("(?-u){expect}")), "{pattern}");
}

fn check_error(pattern: &str, expect: &str) {
    assert_eq!(translate(pattern).unwrap_err().to_string(), expect, "{pattern}");
}

#[test]
fn plain_patterns_stay_as_they_are() {
    for pattern in ["/a", "/a/b-c_d", r"/a\.b", "/(a|b)/(?:c|d)*?x{2,3}", "/(?<id>a)/(?i)b", "^/a", "/(?i:a)(?-s:b)"] {
        check(pattern, pattern);
    }
    check("/(?P<id>a)/(?'x'b)", "/(?<id>a)/(?<x>b)");
    check("/café", r"/caf\xC3\xA9");
}

#[test]
fn braces_that_are_no_quantifier_are_characters() {
    check("/{id}/x", r"/\{id\}/x");
    check("/a{,3}{x", r"/a\{,3\}\{x");
    check("/a]", r"/a\]");
    check("/a{2}b{2,}c{2,3}?", "/a{2}b{2,}c{2,3}?");
}

#[test]
fn quoting_ends_where_it_says_or_at_the_end() {
    check(r"/\Qa.b(\E.c", r"/a\.b\(.c");
    check(r"/\Qa+", r"/a\+");
    check(r"/\Qab\E+\E", "/ab+");
}

#[test]
fn atomic_groups_and_possessive_quantifiers() {
    check("/(?>a+)b", "/(?>a+)b");
    check("/a++b", "/(?>a+)b");
    check("/(ab)*+", "/(?>(ab)*)");
    check("/[ab]{2,3}+", r"/(?>[ab]{2,3})");
    check("/é?+", r"/\xC3(?>\xA9?)");
}

#[test]
fn look_around_references_and_calls() {
    check("/(?=a)(?!b)(?<=c)(?<!d)", "/(?=a)(?!b)(?<=c)(?<!d)");
    check(r"/(a)\1", r"/(a)(?:\1)");
    check(r"/(a)(b)\g{-1}\g1\g{2}", r"/(a)(b)(?:\2)(?:\1)(?:\2)");
    check(r"/(?<n>a)\k<n>\k{n}\k'n'(?P=n)\g{n}", r"/(?<n>a)\k<n>\k<n>\k<n>\k<n>\k<n>");
    check("/(a)(?1)(?-1)(?<n>b)(?&n)(?P>n)", r"/(a)\g<1>\g<1>(?<n>b)\g<n>\g<n>");
    check("/(a)?(?(1)b|c)", "/(a)?(?(1)b|c)");
    check("/(?<n>a)?(?(<n>)b)(?('n')c)", "/(?<n>a)?(?(<n>)b)(?(<n>)c)");
    // There are no twelve groups, so that is the character with this octal number.
    check(r"/(a)\12", r"/(a)\x0A");
    check(r"/\101\0\x41\x{41}\o{101}\cA", r"/A\x00AAA\x01");
}

#[test]
fn classes_are_about_bytes() {
    check(r"/\d\w\s\h", r"/[0-9][0-9A-Z_a-z][\x09-\x0D\x20][\x09\x20\xA0]");
    check(r"/\D\W", "/[^0-9][^0-9A-Z_a-z]");
    check("/[^/]+", "/[^/]+");
    check("/[]a-c-]", r"/[\x5Da-c\x2D]");
    check("/[^]]", r"/[^\x5D]");
    check(r"/[\w.-]", r"/[0-9A-Z_a-z\x2E\x2D]");
    check(r"/[\d-z]", r"/[0-9\x2Dz]");
    check(r"/[a-\d]", r"/[a\x2D0-9]");
    check("/[[:alpha:][:^digit:]x]", "/[A-Za-z[^0-9]x]");
    check("/[[:]", r"/[\x5B\x3A]");
    check("/[é&&~~-]", r"/[\xC3\xA9\x26\x26\x7E\x7E\x2D]");
    check(r"/[\Q^]\E]", r"/[\x5E\x5D]");
    check(r"/[\b\x41-\x43]", r"/[\x08A-C]");
}

#[test]
fn ends_of_the_text() {
    check("/a$", r"/a(?:\n?\z)");
    check(r"/a\Z\z\A\b", r"/a(?:\n?\z)\z\A\b");
    check("(?m)/a$", "(?m)/a$");
    check(r"/a\Kb\R", r"/ab(?>\r\n|[\x0A-\x0D\x85])");
}

#[test]
fn options() {
    check("(?x)/a b # c\n d(?-x: e)", "/abd(?: e)");
    check("/(?U)a+b+?", "/a+?b+");
    check("/(?n)(a)(?<x>b)", "/(?:a)(?<x>b)");
    check("/(?^:a)", "/(?-ims:a)");
    check("/(?i-i)a(?ii)b", "/(?i)a(?i)b");
    check("/a(?#comment)b", "/ab");
    check("/((?x)a b)c d", "/(ab)c d");
}

#[test]
fn what_pcre_refuses() {
    check_error("/(a", "missing closing parenthesis at offset 3");
    check_error("/a)", "unmatched closing parenthesis at offset 2");
    check_error("/[a", "missing terminating ] for character class at offset 3");
    check_error("/+*", "quantifier does not follow a repeatable item at offset 2");
    check_error("/a{3,2}", "numbers out of order in {} quantifier at offset 2");
    check_error("/a{65536}", "number too big in {} quantifier at offset 2");
    check_error("/[z-a]", "range out of order in character class at offset 3");
    check_error(r"/\y", r"unrecognized character follows \ at offset 1");
    check_error(r"/a\", r"\ at end of pattern at offset 3");
    check_error(r"/\1", "reference to non-existent subpattern at offset 3");
    check_error("/(?&x)", "reference to non-existent subpattern at offset 1");
    check_error("/(?<n>a)(?<n>b)", "two named subpatterns have the same name at offset 8");
    check_error("/(?<1>a)", "subpattern name must start with a non-digit at offset 4");
    check_error("/[[:nope:]]", "unknown POSIX class name at offset 2");
    check_error("/(?y)", "unrecognized character after (? or (?- at offset 3");
    check_error(r"/\x{100}", r"character code point value in \x{} or \o{} is too large at offset 1");
    check_error(&"(".repeat(300), "parentheses are too deeply nested at offset 250");
}

#[test]
fn what_cannot_be_done_here_is_named() {
    for (pattern, expect) in [
        ("/(?|a|b)", "a branch reset group (?| at offset 1 is not supported"),
        ("/a(?R)", "recursion (?R) at offset 2 is not supported"),
        ("/a(*COMMIT)b", "the verb (*COMMIT) at offset 2 is not supported"),
        (r"/\p{L}", r"\p (a Unicode property) at offset 1 is not supported"),
        (r"/\X", r"\X at offset 1 is not supported"),
        ("/(?C1)", "a callout (?C) at offset 1 is not supported"),
        ("/(?(?=a)b|c)", "an assertion as a condition (?(? at offset 1 is not supported"),
    ] {
        assert!(matches!(translate(pattern), Err(PcreError::Unsupported { .. })), "{pattern}");
        check_error(pattern, expect);
    }
}

/// The result for a path in a flavor: rejected with the file, an error of the route, or served.
fn fate(flavor: RouterFlavor, path: &str) -> Result<(), String> {
    let settings = Settings { router_flavor: flavor, ..Settings::default() };
    let registry = Registry::with_flavor(&[], flavor);
    let file = json!({ "_format_version": "3.0", "routes": [{ "name": "r", "paths": [path] }] });
    let snapshot = load_value(&file, &registry, &settings).map_err(|errors| errors.fields().to_string())?;
    match lower(&snapshot, &registry, &settings).2.first() {
        Some(diagnostic) => Err(format!("{}: {}", diagnostic.path, diagnostic.message)),
        None => Ok(()),
    }
}

#[test]
fn only_the_oldest_flavor_takes_pcre() {
    use RouterFlavor::{Traditional, TraditionalCompatible};
    for path in ["~/{id}/x", r"~/\Qa.b\E", "~/(?>a+)b"] {
        assert_eq!(fate(Traditional, path), Ok(()), "{path}");
        assert!(fate(TraditionalCompatible, path).unwrap_err().contains("invalid regex"), "{path}");
    }
    let wrong = fate(Traditional, "~/(a").unwrap_err();
    assert!(wrong.contains("invalid regex: '/(a' (PCRE returned: missing closing parenthesis at offset 3)"), "{wrong}");
    let unsupported = "paths[0]: the regular expression cannot be used: recursion (?R) at offset 2 is not supported";
    assert_eq!(fate(Traditional, "~/a(?R)").unwrap_err(), unsupported);
}

proptest! {
    /// Whatever is written, the answer is a pattern or an error.
    #[test]
    fn any_text_is_translated_or_refused(text in r"[/a1(){}\[\]?*+|\\^$.:<>=!'&,#PQEgkxdRnimsU\-é]{0,24}") {
        if let Ok(translated) = translate(&text) {
            prop_assert!(translated.starts_with("(?-u)"));
        }
    }
}
