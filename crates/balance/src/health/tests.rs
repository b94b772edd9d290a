use cardinal_base::{Rng, SeededRng};

use super::*;

const LIMIT: u8 = 3;

fn run(signals: &[Signal]) -> bool {
    let health = Health::default();
    for signal in signals {
        health.count(*signal, LIMIT);
    }
    health.available()
}

use Signal::{Http, Success, Tcp, Timeout};

#[test]
fn a_limit_of_one_kind_of_failure_changes_the_verdict() {
    assert!(run(&[Http, Http]));
    assert!(!run(&[Http, Http, Http]));
    // Kinds are counted apart.
    assert!(run(&[Http, Tcp, Timeout, Http, Tcp, Timeout]));
    assert!(!run(&[Http, Tcp, Timeout, Http, Tcp, Timeout, Timeout]));
}

#[test]
fn a_success_clears_all_failures_and_a_failure_the_successes() {
    assert!(run(&[Http, Http, Tcp, Success, Http, Http]));
    assert!(!run(&[Http, Http, Http, Success, Success, Tcp, Success, Success]));
    assert!(run(&[Http, Http, Http, Success, Success, Success]));
}

#[test]
fn a_limit_of_zero_counts_nothing_and_clears_nothing() {
    let health = Health::default();
    assert_eq!(health.count(Http, 2), None);
    assert_eq!(health.count(Success, 0), None);
    assert_eq!(health.count(Http, 2), Some(false));
    assert_eq!(health.count(Success, 0), None);
    assert!(!health.available());
}

#[test]
fn a_verdict_by_hand_clears_the_counters() {
    let health = Health::default();
    health.count(Tcp, 2);
    assert!(!health.set(true));
    assert_eq!(health.count(Tcp, 2), None);
    assert!(health.set(false));
    assert!(!health.available());
    assert_eq!(health.count(Success, 1), Some(true));
}

#[test]
fn counters_end_at_255() {
    let health = Health::default();
    for _ in 0..254 {
        assert_eq!(health.count(Http, 255), None);
    }
    assert_eq!(health.count(Http, 255), Some(false));
}

#[test]
fn statuses_are_sets() {
    let judge = Judge::new(&Counts {
        healthy_statuses: vec![200, 302, 999],
        unhealthy_statuses: vec![500, 302, 100],
        ..Counts::default()
    });
    assert_eq!(judge.signal(200), Some(Success));
    assert_eq!(judge.signal(302), Some(Success));
    assert_eq!(judge.signal(999), Some(Success));
    assert_eq!(judge.signal(500), Some(Http));
    assert_eq!(judge.signal(404), None);
    assert_eq!(judge.signal(65_535), None);
}

/// The rules once more, with plain fields.
#[derive(Default)]
struct Naive {
    counters: [u32; 4],
    unhealthy: bool,
    doubt: bool,
}

impl Naive {
    fn count(&mut self, signal: Signal, limits: [u8; 4]) {
        let kind = signal as usize;
        let good = signal == Success;
        if limits[kind] == 0 || (good != self.unhealthy && !self.doubt) {
            return;
        }
        self.counters[kind] = (self.counters[kind] + 1).min(255);
        if good {
            self.counters[1..].fill(0);
        } else {
            self.counters[0] = 0;
        }
        if self.counters[kind] >= u32::from(limits[kind]) {
            self.unhealthy = !good;
            self.doubt = false;
        } else if good == self.unhealthy {
            self.doubt = true;
        }
    }
}

#[test]
fn the_atomic_word_agrees_with_plain_fields_on_random_histories() {
    for seed in 0..300 {
        let mut rng = SeededRng::new(seed);
        let limits: [u8; 4] = std::array::from_fn(|_| rng.below(5) as u8);
        let (word, mut naive) = (Health::default(), Naive::default());
        for _ in 0..200 {
            let signal = [Success, Http, Tcp, Timeout][rng.below(4) as usize];
            let before = word.available();
            let turned = word.count(signal, limits[signal as usize]);
            naive.count(signal, limits);
            assert_eq!(word.available(), !naive.unhealthy, "seed {seed}");
            assert_eq!(turned, (before != word.available()).then_some(word.available()), "seed {seed}");
        }
    }
}
