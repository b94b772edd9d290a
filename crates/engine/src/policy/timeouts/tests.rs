//! Deadlines: single cases, against a naive model, and on the timer wheel.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use cardinal_base::{ManualClock, Rng as _, SeededRng};

use super::*;

fn timeouts(request_ms: u64, idle_ms: u64, stream_ms: u64) -> Timeouts {
    Timeouts { request_ms, idle_ms, stream_ms, ..Timeouts::default() }
}

fn per_try(try_ms: u64, idle_ms: u64) -> Retry {
    Retry { per_try_timeout_ms: try_ms, per_try_idle_timeout_ms: idle_ms, ..Retry::default() }
}

#[test]
fn requests_without_limits_are_not_watched() {
    assert!(Deadlines::new(&Timeouts::default(), Some(&Retry::default()), 0).is_none());
    assert!(Deadlines::new(&Timeouts::default(), None, 0).is_none());
    assert!(Deadlines::new(&Timeouts::default(), Some(&per_try(0, 1)), 0).is_some());
}

#[test]
fn the_request_timeout_runs_from_the_end_of_the_request() {
    let mut deadlines = Deadlines::new(&timeouts(100, 0, 0), None, 1_000).unwrap();
    assert_eq!((deadlines.next().0, deadlines.left_ms(1_050)), (NEVER, None));
    deadlines.request_complete(1_200);
    deadlines.request_complete(1_250);
    assert_eq!((deadlines.next(), deadlines.left_ms(1_260)), ((1_300, Expiry::Request), Some(40)));
    assert_eq!(deadlines.left_ms(2_000), Some(0));
}

#[test]
fn each_try_has_its_own_timeouts() {
    let mut deadlines = Deadlines::new(&timeouts(1_000, 0, 0), Some(&per_try(100, 30)), 0).unwrap();
    deadlines.request_complete(0);
    assert_eq!(deadlines.next(), (1_000, Expiry::Request));
    deadlines.try_started(10);
    assert_eq!(deadlines.next(), (40, Expiry::PerTryIdle));
    deadlines.try_sent(20);
    deadlines.saw(5, 39);
    assert_eq!(deadlines.next(), (69, Expiry::PerTryIdle));
    deadlines.saw(6, 100);
    assert_eq!(deadlines.next(), (120, Expiry::PerTry));
    deadlines.try_ended();
    assert_eq!(deadlines.next(), (1_000, Expiry::Request), "while waiting between tries");
    deadlines.try_started(500);
    assert_eq!(deadlines.next(), (530, Expiry::PerTryIdle));
}

#[test]
fn a_tunnel_gets_what_is_left_of_the_lifetime() {
    let deadlines = Deadlines::new(&timeouts(0, 0, 100), None, 1_000).unwrap();
    assert_eq!((deadlines.stream_left_ms(1_030), deadlines.stream_left_ms(1_100)), (70, 1));
    let deadlines = Deadlines::new(&timeouts(0, 7, 0), None, 1_000).unwrap();
    assert_eq!(deadlines.stream_left_ms(1_030), 0);
}

/// The events of a request so far, for a model that computes everything from them.
#[derive(Default)]
struct History {
    complete: Option<u64>,
    try_started: Option<u64>,
    try_sent: Option<u64>,
    moves: Vec<u64>,
}

impl History {
    /// The first time at which a limit expires if no further event occurs.
    fn end(&self, t: &Timeouts, r: &Retry, started: u64) -> Option<u64> {
        let last = self.moves.iter().copied().max().unwrap_or(started);
        let in_try = self.try_started.map(|at| self.moves.iter().copied().filter(|m| *m >= at).max().unwrap_or(at));
        let limits = [
            (Some(started), t.stream_ms),
            (self.complete, t.request_ms),
            (Some(last), t.idle_ms),
            (self.try_sent, r.per_try_timeout_ms),
            (in_try, r.per_try_idle_timeout_ms),
        ];
        limits.into_iter().filter(|(_, ms)| *ms > 0).filter_map(|(since, ms)| since.map(|since| since + ms)).min()
    }
}

#[test]
fn deadlines_are_what_the_history_says() {
    for seed in 0..2_000 {
        let mut rng = SeededRng::new(seed);
        let mut ms = |chance: u64| if rng.below(chance) == 0 { 0 } else { 1 + rng.below(400) };
        let (t, r) = (timeouts(ms(3), ms(3), ms(3)), per_try(ms(3), ms(3)));
        let Some(mut deadlines) = Deadlines::new(&t, Some(&r), 50) else { continue };
        let (mut history, mut now, mut moved) = (History::default(), 50, 0);
        for _ in 0..60 {
            now += rng.below(40);
            match rng.below(5) {
                0 => {
                    deadlines.request_complete(now);
                    history.complete.get_or_insert(now);
                }
                1 if history.try_started.is_none() => {
                    deadlines.try_started(now);
                    (history.try_started, moved) = (Some(now), 0);
                    history.moves.push(now);
                }
                2 if history.try_started.is_some() => {
                    deadlines.try_sent(now);
                    history.complete.get_or_insert(now);
                    history.try_sent.get_or_insert(now);
                }
                3 if history.try_started.is_some() => {
                    moved += 1;
                    deadlines.saw(moved, now);
                    history.moves.push(now);
                }
                4 => {
                    deadlines.try_ended();
                    (history.try_started, history.try_sent) = (None, None);
                }
                _ => deadlines.saw(moved, now),
            }
            let expect = history.end(&t, &r, 50).unwrap_or(NEVER);
            assert_eq!(deadlines.next().0, expect, "seed {seed}: {t:?} {r:?}");
        }
    }
}

#[test]
fn a_watch_expires_once_its_limit_has_passed() {
    let clock = Arc::new(ManualClock::default());
    let wheel = Wheel::new(clock.clone());
    clock.advance(Duration::from_secs(3_600));
    let cx = Context::from_waker(Waker::noop());
    let mut watch = Watch::start(&timeouts(0, 500, 2_000), None, &wheel).unwrap();
    let step = |ms: u64| {
        for _ in 0..ms / 10 {
            clock.advance(Duration::from_millis(10));
            wheel.fire();
        }
    };
    watch.try_started();
    assert_eq!(watch.poll(&cx, 0), None, "however long the wheel stood still");
    for moved in 1..=3 {
        step(400);
        assert_eq!(watch.poll(&cx, moved), None, "something moved");
    }
    step(450);
    assert_eq!(watch.poll(&cx, 3), None);
    step(100);
    assert_eq!(watch.poll(&cx, 3), Some((Expiry::Idle, 500)));
    assert_eq!(watch.expired(), Some(Expiry::Idle));
    assert_eq!(watch.try_ended(), Some(Expiry::Idle));
    watch.try_started();
    assert_eq!(watch.poll(&cx, 0), None);
    step(300);
    assert_eq!(watch.poll(&cx, 1), Some((Expiry::Stream, 2_000)));
}

#[test]
fn limits_that_are_off_are_not_shown() {
    assert_eq!(timeouts_text(&Timeouts::default()), "connect 60000 ms, read 60000 ms, write 60000 ms");
    let off = Timeouts { connect_ms: u64::MAX, read_ms: 0, write_ms: 0, ..timeouts(5, 0, 7) };
    assert_eq!(timeouts_text(&off), "request 5 ms, stream 7 ms");
    assert_eq!(timeouts_text(&Timeouts { connect_ms: 0, ..timeouts(0, 0, 0) }), "read 60000 ms, write 60000 ms");
}
