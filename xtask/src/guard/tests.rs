use super::counts::{Counts, FILE, Verdict, grouped, row};
use super::valgrind::{collected, functions};
use super::{Work, built, choose, works};
use crate::workspace;

fn counts(made_by: &str, of: &[(&str, u64)]) -> Counts {
    Counts { made_by: made_by.to_owned(), of: of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect() }
}

#[test]
fn three_percent_more_are_allowed_and_no_more() {
    let check = |stored, now, expect| assert_eq!(Verdict::of(Some(stored), now), expect, "{now} against {stored}");
    check(10_000, 10_000, Verdict::Same);
    check(10_000, 10_300, Verdict::Same);
    check(10_000, 10_301, Verdict::Grew);
    check(10_000, 20_000, Verdict::Grew);
    check(10_000, 9_700, Verdict::Same);
    check(10_000, 9_699, Verdict::Shrank);
    check(10_000, 0, Verdict::Shrank);
    check(u64::MAX, u64::MAX, Verdict::Same);
    assert_eq!(Verdict::of(None, 10_000), Verdict::New);
}

#[test]
fn the_file_reads_as_it_was_written() {
    let written = counts("rustc 1.95.0 for x, valgrind-3.19.0", &[("h2", 91_000), ("plain", 34_000)]);
    assert_eq!(Counts::parse(&written.to_string()).unwrap(), written);
}

#[test]
fn a_broken_file_is_refused() {
    let check = |text: &str, expect: &str| {
        let error = format!("{:#}", Counts::parse(text).unwrap_err());
        assert!(error.contains(expect), "{error}");
    };
    check("plain", "line 1: no number");
    check("# a comment\nplain many", "line 2: `many` is no number");
    check("plain 0", "some instructions");
    check("plain 1\n\nplain 2", "line 3: `plain` a second time");
}

#[test]
fn the_file_of_the_repository_is_whole() {
    let stored = Counts::parse(&std::fs::read_to_string(workspace::root().join(FILE)).unwrap()).unwrap();
    assert!(stored.made_by.starts_with("rustc "), "{}", stored.made_by);
    assert!(stored.of.contains_key("plain"));
    assert_eq!(std::fs::read_to_string(workspace::root().join(FILE)).unwrap(), stored.to_string());
}

#[test]
fn a_part_is_updated_only_where_the_rest_was_counted_alike() {
    let stored = counts("a", &[("h2", 9), ("plain", 5)]);
    let part = stored.clone().updated(counts("a", &[("plain", 4)]), false).unwrap();
    assert_eq!(part, counts("a", &[("h2", 9), ("plain", 4)]));
    assert!(stored.clone().updated(counts("b", &[("plain", 4)]), false).is_err());
    assert_eq!(stored.updated(counts("b", &[("plain", 4)]), true).unwrap(), counts("b", &[("plain", 4)]));
}

#[test]
fn rows_line_up_and_say_the_change() {
    assert_eq!(row("plain", Some(34_000), 35_700), "plain           34 000       35 700    +5.0 %");
    assert_eq!(row("down64k", Some(1_000_000), 990_000), "down64k      1 000 000      990 000    -1.0 %");
    assert_eq!(row("new", None, 5), "new                  -            5       new");
    assert_eq!(grouped(7), "7");
    assert_eq!(grouped(1_234_567), "1 234 567");
}

#[test]
fn what_callgrind_says_is_read() {
    let said =
        "==7== Callgrind, a call-graph generating cache profiler\n==7== Events    : Ir\n==7== Collected : 123456\n";
    assert_eq!(collected(said), Some(123_456));
    assert_eq!(collected("==7== Collected : 0\n"), None);
    assert_eq!(collected("==7== Command: x\n"), None);
}

#[test]
fn functions_are_summed_over_the_files_of_what_they_inline() {
    let text = "Ir\n9,000  PROGRAM TOTALS\n\nIr  file:function\n\n\
                4,000  src/a.rs:<a::B as c::D>::e [/bin/x]\n\
                3,000  /rustc/core/ptr.rs:<a::B as c::D>::e [/bin/x]\n\
                2,000  ???:memcpy [/lib/libc.so.6]\n    1  src/a.rs:rare [/bin/x]\n";
    let expect = [(70, "<a::B as c::D>::e".to_owned()), (20, "memcpy".to_owned())];
    assert_eq!(functions(text, 100, false), expect);
    assert_eq!(functions(text, 100, true), [(40, expect[0].1.clone()), expect[1].clone()]);
}

#[test]
fn workloads_are_chosen_by_name() {
    let all = works("plain 2000\nh2 1000\nnone 0\nbroken\n");
    let work = |name: &str, requests| Work { name: name.to_owned(), requests };
    assert_eq!(all, [work("plain", 2_000), work("h2", 1_000)]);
    assert_eq!(choose(&all, &[]).unwrap(), all);
    assert_eq!(choose(&all, &["h2".to_owned()]).unwrap(), [work("h2", 1_000)]);
    assert_eq!(
        choose(&all, &["h3".to_owned()]).unwrap_err().to_string(),
        "there is no workload `h3`; there are plain, h2"
    );
}

#[test]
fn the_program_is_the_one_that_cargo_names() {
    let said = "{\"reason\":\"compiler-artifact\",\"executable\":null}\nnot json\n\
                {\"reason\":\"compiler-artifact\",\"executable\":\"/t/profiling/cardinal-guard\"}\n";
    assert_eq!(built(said).unwrap().to_str(), Some("/t/profiling/cardinal-guard"));
    assert_eq!(built(""), None);
}
