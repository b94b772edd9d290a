use proptest::prelude::*;

use super::*;

/// The fast reader gives the same result as the parser, or none.
fn check(text: &str) -> bool {
    let Some(quick) = quick::parse(text, &meaning) else { return false };
    let whole = parse_whole(text).unwrap_or_else(|e| panic!("{text:?} is wrong: {e:?}"));
    assert!((quick, Vec::new()) == whole, "{text:?}: {:?}", quick::parse(text, &meaning));
    true
}

const FILE: &str = r#"_format_version: "3.0"  # comment
_info:
  defaults: {service: {retries: 3, path: /a}}
services:
- name: orders
  url: http://orders.internal:8080/base
  retries: 4
  tags: [a, 'b c', "d\"e", 10.0.0.1, 1.5]

  routes:
    - name: orders-route
      paths: ["/orders", '~/x(?<a>.*)$', /plain ]
      strip_path: false
      hosts:
      - example.com
      - '*.example.com'
      # a comment
      regex_priority: -1
    - {name: r2, paths: [/b], methods: []}
  plugins:
  -   name: key-auth
      config:
        key_names: [apikey]
        anonymous: ~
        hide: yes
        empty: {}
consumers:
- username: it's
  custom_id: 007
  keyauth_credentials:
  - key: a#b
  - key: null
"#;

#[test]
fn most_files_are_read_quickly() {
    assert!(check(FILE));
    assert!(check(&parse_whole(FILE).unwrap().0.to_value().to_string()));
    let pretty = serde_json::to_string_pretty(&parse_whole(FILE).unwrap().0.to_value()).unwrap();
    assert!(check(&pretty));
}

#[rustfmt::skip]
    const SCALARS: &[&str] = &[
            "a",
            "true",
            "yes",
            "No",
            "y",
            "n",
            "N",
            "on",
            "null",
            "Null",
            "nan",
            "inf",
            "Infinity",
            "0",
            "00",
            "010",
            "0x10",
            "0o7",
            "1_000",
            "1e3",
            "1.",
            ".5",
            "-1",
            "-",
            "-a",
            "--",
            "1:30",
            "10.0.0.1",
            "2001-01-01",
            "/a b",
            "~",
            "~/a",
            "~a",
            "a: b",
            "a:b",
            "a:",
            "a #b",
            "a#b",
            "_a",
            "_1",
            "?",
            "? a",
            "!a",
            "&a",
            "*a",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "a,b",
            "[a",
            "a]",
            "{",
            "'a",
            "'a' b",
            "'a''b'",
            "\"a\\x41\"",
            "\"a\\tb\"",
            "\"\\u0041\"",
            "123456789012345678901",
            "{a: b}",
            "{a: }",
            "{a}",
            "{a: b,}",
            "[a, ]",
            "[a b]",
            "[a: b]",
            "{a:b}",
            "{\"a\":b}",
            "[1, 2]",
            "[*a]",
            "[a #b]",
            "<<",
            "e5",
            "a - b",
            "a-",
            "1-",
            "=",
            "0b1",
            "+1",
            "é",
        ];

#[test]
fn scalars_mean_what_the_parser_says() {
    for scalar in SCALARS {
        for text in [
            format!("k: {scalar}\n"),
            format!("- {scalar}"),
            format!("[{scalar}]"),
            format!("{{a: {scalar}}}"),
            format!("{scalar}: 1"),
            format!("{{{scalar}: 1}}"),
            format!("a:\n  {scalar}"),
            format!("a: {scalar}\n b"),
        ] {
            check(&text);
        }
    }
}

#[test]
fn columns_decide_as_in_the_parser() {
    for text in [
        "a:\n- b\n- c\nd: e",
        "a:\n  - b\n - c",
        "a:\n b: c\n  d: e",
        "a:\n  b: c\n d: e",
        "- a: b\n  c: d\n- e",
        "- - a\n  - b",
        "- a: b\n c: d",
        "a: b\n- c",
        " a: b",
        "  a: b\nc: d",
        "a:\n\n\n  b: c\n\n",
        "a:\n# x\n  b: c # y\n#z",
        "a: b\n  c",
        "a:\nb: c",
        "-\n  a: b",
        "- a\n-b",
        "a: 'b\n c'",
        "a: [b,\n c]",
        "{\n\"a\": 1\n}",
        "{\n\"a\":\n1}",
        "{\"a\": 1}\nb",
        "{\"a\": 1} # c",
        "{\"a\": 1}#c",
        "{\"a\"\n: 1}",
        "{\n- 1}",
        "---\na: b",
        "a: b\n---\nc: d",
        "a: b\n...",
        "a: |\n  b",
        "a: 1\na: 2",
        "a: {b: 1, b: 2}",
        "# only",
        "",
        "a: 'x' # y",
        "a: 'x'# y",
        "a: [b] # y",
        "a: [b]# y",
        "a:  b",
        "a :b",
        "a : b",
        "-  a:  b\n   c: d",
        "- a: b\n   c: d",
        "a:\n    - b: c\n      d: e\n    - f: g",
        "a: b\n# c\n  d: e",
        "a:\n  b:\n  - c\n  d: e",
        "a:\n  b:\n  - c\n d: e",
        "[a]",
        "a",
        "a:\n- b: c\n- d\n-",
        "- a:\n  - b\n  c: d",
        "- a:\n- b",
    ] {
        check(text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn random_edits_of_a_file_are_read_alike(
        edits in proptest::collection::vec(
            (any::<proptest::sample::Index>(), 0_usize..4, "[ \\n:#'\"\\[\\]{},a1/~&*|?-]{0,3}"), 1..4),
        json in any::<bool>(),
    ) {
        let mut text = FILE.to_owned();
        if json {
            text = serde_json::to_string_pretty(&parse_whole(FILE).unwrap().0.to_value()).unwrap();
        }
        for (at, len, new) in edits {
            let at = at.index(text.len());
            let end = (at + len).min(text.len());
            text.replace_range(at..end, &new);
        }
        check(&text);
    }

    #[test]
    fn random_texts_are_read_alike(
        lines in proptest::collection::vec((0_usize..4, "(- ){0,2}([ab]|null|x-y)?(:|: |: 1|: '|: \\[1, b\\]|: \\{|: b #c|: \"d\"|)( [#:a])?"), 0..8),
    ) {
        let text: String = lines.iter().map(|(indent, rest)| format!("{}{rest}\n", " ".repeat(*indent))).collect();
        check(&text);
    }
}
