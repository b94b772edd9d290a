use std::process::Command;

use super::*;
use crate::report::line;

#[test]
fn the_list_is_sound() {
    let all = parse(LIST).unwrap();
    for tool in &all {
        assert_eq!(all.iter().filter(|other| other.name == tool.name).count(), 1, "{} is listed twice", tool.name);
        assert!(tool.package.is_some() || tool.uses == [Use::Optional], "{}", tool.name);
    }
}

#[test]
fn wrong_lines_are_errors() {
    for (text, error) in [
        ("nginx test command:nginx", "a line has four columns"),
        ("nginx tests command:nginx nginx", "unknown use `tests`"),
        ("nginx test nginx nginx", "unknown probe `nginx`"),
        ("nginx test command:nginx -", "only an optional tool may have no package"),
    ] {
        assert!(parse(text).unwrap_err().ends_with(error), "{text}");
    }
    assert_eq!(parse("# a comment\n\n").unwrap(), Vec::new());
}

#[test]
fn every_probe_finds_what_is_there() {
    let probe = |text: &str| parse(&format!("x test {text} x")).unwrap().remove(0).probe.find();
    assert!(probe("command:sh").is_some_and(|path| path.ends_with("sh")));
    assert_eq!(probe("command:no-such-program-anywhere"), None);
    assert_eq!(probe("file:/proc/self/stat"), Some("/proc/self/stat".into()));
    assert_eq!(probe("file:/no/such/file"), None);
    assert_eq!(probe("cache:no/such/file"), None);
    assert_eq!(probe("python:no_such_module_anywhere"), None);
}

#[test]
#[should_panic(expected = "`no-such-tool` is not in scripts/tools.txt")]
fn a_tool_outside_the_list_fails_its_test() {
    let _found = tools!("no-such-tool");
}

#[test]
fn a_line_of_the_report_names_test_and_reason() {
    assert_eq!(line("a-crate", "x::y", Need::Required, "no z"), "a-crate x::y: no z (missing tool)\n");
    assert_eq!(line("a-crate", "x::y", Need::Optional, "no z"), "a-crate x::y: no z (optional)\n");
}

/// Runs a test of this module in a process of its own with this environment: whether it passed, and what it reported.
fn run(test: &str, environment: &[(&str, &str)]) -> (bool, String, String) {
    let report =
        std::env::temp_dir().join(format!("cardinal-skips-{}-{test}-{}", std::process::id(), environment.len()));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("tests::{test}")]).env("CARDINAL_SKIPS", &report).env(ROLE, "skip");
    command.env_remove("CARDINAL_REQUIRE_ALL").envs(environment.iter().copied());
    let output = command.output().unwrap();
    let lines = std::fs::read_to_string(&report).unwrap_or_default();
    std::fs::remove_file(&report).ok();
    (output.status.success(), lines, String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Set where the tests below are to skip themselves.
const ROLE: &str = "CARDINAL_TEST_TOOLS_ROLE";

#[test]
fn without_a_tool() {
    if std::env::var_os(ROLE).is_some() {
        missing("a-crate", Need::Required, "no z");
    }
}

#[test]
fn without_data() {
    if std::env::var_os(ROLE).is_some() {
        assert_eq!(data("a-crate", Path::new("/no/such/recording.json")), None);
    }
}

#[test]
fn skips_are_visible_and_collected() {
    let (passed, lines, output) = run("without_a_tool", &[]);
    assert!(passed, "{output}");
    assert_eq!(lines, "a-crate tests::without_a_tool: no z (missing tool)\n");
    assert!(output.contains("skipped: a-crate tests::without_a_tool: no z"), "{output}");
}

#[test]
fn a_missing_tool_fails_where_everything_is_required() {
    let (passed, lines, output) = run("without_a_tool", &[("CARDINAL_REQUIRE_ALL", "1")]);
    assert!(!passed, "{output}");
    assert!(output.contains("tests::without_a_tool: no z (CARDINAL_REQUIRE_ALL is set"), "{output}");
    assert_eq!(lines, "");
    assert!(run("without_a_tool", &[("CARDINAL_REQUIRE_ALL", "0")]).0);
}

#[test]
fn missing_optional_data_never_fails() {
    let (passed, lines, output) = run("without_data", &[("CARDINAL_REQUIRE_ALL", "1")]);
    assert!(passed, "{output}");
    assert_eq!(lines, "a-crate tests::without_data: the optional data recording.json is not there (optional)\n");
}
