use std::collections::BTreeSet;

use super::page::{Page, Section, worse};
use super::*;

fn case(name: &str, outcome: Outcome) -> Case {
    Case { name: name.to_owned(), outcome }
}

fn report(failed: &[&str], passed: usize) -> Report {
    let mut cases: Vec<_> = failed.iter().map(|name| case(name, Outcome::Failed("text".to_owned()))).collect();
    cases.extend((0..passed).map(|n| case(&format!("passed {n}"), Outcome::Passed)));
    Report { tool: "x 1".to_owned(), cases }
}

/// A case with a reason.
const PREFACE: &str = "http2/3.5 Sends invalid connection preface";

#[test]
fn a_page_is_read_as_it_was_written() {
    let mut page = Page::default();
    page.set(&h2spec::CLEARTEXT, &report(&[PREFACE], 145));
    page.set(&clients::SUITE, &report(&[], 3));
    let text = page.to_string();
    assert!(text.contains("With x 1: 146 cases: 145 passed, 1 failed, 0 skipped."), "{text}");
    assert!(text.contains("| `http2/3.5 Sends invalid connection preface` | Bytes that are no preface"), "{text}");
    let again = Page::parse(&text).unwrap();
    assert_eq!(again.to_string(), text);
    let failed = BTreeSet::from([PREFACE.to_owned()]);
    assert_eq!(again.section("h2spec, cleartext"), Some(Section { passed: 145, failed }));
    assert_eq!(again.section("Clients"), Some(Section { passed: 3, failed: BTreeSet::new() }));
    assert_eq!(again.section("tlsfuzzer"), None);
}

#[test]
fn cases_with_one_reason_are_in_one_row() {
    let mut page = Page::default();
    page.set(&cache_tests::SUITE, &report(&["vary-a", "vary-b", "304-x"], 1));
    let read = Page::parse(&page.to_string()).unwrap().section("http-cache-tests").unwrap();
    assert_eq!(read.failed, ["vary-a", "vary-b", "304-x"].map(str::to_owned).into());
}

#[test]
fn worse_results_are_named() {
    let before = || Some(Section { passed: 2, failed: BTreeSet::from([PREFACE.to_owned()]) });
    let suite = "h2spec, cleartext";
    assert_eq!(worse(suite, before(), &report(&[PREFACE], 2)), Vec::<String>::new());
    assert_eq!(worse(suite, before(), &report(&[], 3)), Vec::<String>::new());
    assert_eq!(
        worse(suite, before(), &report(&[PREFACE], 1)),
        ["h2spec, cleartext: 1 cases passed; 2 are in docs/conformance.md"]
    );
    assert!(worse(suite, before(), &report(&["other"], 2))[0].contains("`other` failed, and is not in the page"));
    assert!(worse(suite, None, &report(&["other"], 2))[0].contains("without a reason"));
    assert_eq!(worse(suite, None, &report(&[PREFACE], 2)), Vec::<String>::new());
}

#[test]
fn the_report_of_h2spec_is_read() {
    let xml = "<testsuite><testcase package=\"http2/1\" classname=\"a &#34;b&#34;\" time=\"0\"></testcase>\n\
        <testcase package=\"http2/2\" classname=\"c\" time=\"0\">\n<failure>x</failure></testcase>\
        <testcase package=\"http2/3\" classname=\"d\" time=\"0\"><skipped/></testcase></testsuite>";
    let expected = [
        case("http2/1 a \"b\"", Outcome::Passed),
        case("http2/2 c", Outcome::Failed("<failure>x</failure>".to_owned())),
        case("http2/3 d", Outcome::Skipped),
    ];
    assert_eq!(h2spec::cases(xml), expected);
}

#[test]
fn the_summary_of_tlsfuzzer_is_read() {
    let text =
        "...\nTest end\n====\nTOTAL: 4\nSKIP: 1\nPASS: 2\nXFAIL: 0\nFAIL: 1\nXPASS: 0\n====\nFAILED:\n\t'a - b'\n";
    let found = tlsfuzzer::cases_of("s", text);
    assert_eq!(found.len(), 4);
    assert_eq!(found.iter().filter(|case| case.outcome == Outcome::Passed).count(), 2);
    assert_eq!(found[3].name, "s: a - b");
    assert!(tlsfuzzer::cases_of("s", "Traceback").is_empty());
}

#[test]
fn results_of_the_cache_tests_are_read() {
    assert_eq!(cache_tests::case("x", &serde_json::json!(true)).outcome, Outcome::Passed);
    assert_eq!(cache_tests::case("x", &serde_json::Value::Null).outcome, Outcome::Skipped);
    let failed = cache_tests::case("x", &serde_json::json!(["Assertion", "why"])).outcome;
    assert_eq!(failed, Outcome::Failed("[\"Assertion\",\"why\"]".to_owned()));
}

/// The committed page equals the output of the command, and every failure in it has a reason.
#[test]
fn the_committed_page_is_well_formed() {
    let text = std::fs::read_to_string(crate::workspace::root().join(PAGE)).unwrap();
    let page = Page::parse(&text).unwrap();
    assert_eq!(page.to_string(), text);
    for suite in &SUITES {
        for case in page.section(suite.name).map(|section| section.failed).unwrap_or_default() {
            assert!(known::reason(suite.name, &case).is_some(), "{}: {case}", suite.name);
        }
    }
}

#[test]
fn results_of_go_tests_are_read() {
    let text = "=== RUN   TestA\n--- PASS: TestA (0.00s)\n=== RUN   TestB\n    b_test.go:3: wrong\n--- FAIL: TestB (0.01s)\n    \
                --- FAIL: TestB/sub (0.00s)\n=== RUN   TestC\n    c_test.go:9: skipping\n--- SKIP: TestC (0.00s)\nFAIL\n";
    let failed = Outcome::Failed("b_test.go:3: wrong".to_owned());
    let expect = [case("TestA", Outcome::Passed), case("TestB", failed), case("TestC", Outcome::Skipped)];
    assert_eq!(go_kong::cases(text), expect);
}

#[test]
fn the_report_of_schemathesis_is_read() {
    let report = serde_json::json!({
        "operations": { "total": 4, "tested": 3 },
        "failures": [
            { "code": "ST101", "title": "Server error", "operations": ["PUT /a"] },
            { "code": "ST108", "title": "Response violates schema", "operations": ["PUT /a", "GET /b"] },
        ],
        "errors": [{ "title": "Runtime Error", "count": 1 }],
    });
    let failed = |name: &str, title: &str| case(name, Outcome::Failed(title.to_owned()));
    let expect = [
        case("operation", Outcome::Passed),
        failed("PUT /a ST101", "Server error"),
        failed("PUT /a ST108", "Response violates schema"),
        failed("GET /b ST108", "Response violates schema"),
        failed("error", "=\nwhy"),
    ];
    assert_eq!(schemathesis::cases(&report, "= ERRORS ==\nwhy"), expect);
    assert!(schemathesis::cases(&serde_json::json!({ "operations": { "tested": 0 } }), "").is_empty());
}
