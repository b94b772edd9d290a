use std::net::SocketAddr;
use std::time::Duration;

use cardinal_base::{Clock, ManualClock, Rng, SeededRng, Tick};

use super::Table;

const IDLE_MS: u64 = 1_000;

fn client(number: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], u16::try_from(number).unwrap()))
}

/// A table with a manual clock.
struct World {
    table: Table<u64>,
    clock: ManualClock,
}

impl World {
    fn new() -> Self {
        Self { table: Table::new(), clock: ManualClock::default() }
    }

    fn wait(&mut self, ms: u64) -> Vec<u64> {
        self.clock.advance(Duration::from_millis(ms));
        let now = self.clock.tick();
        std::iter::from_fn(|| self.table.expire(IDLE_MS, now)).collect()
    }

    fn insert(&mut self, number: u64, max: usize) -> Option<super::Key> {
        self.table.insert(client(number), number, max, self.clock.tick())
    }

    fn hear(&mut self, number: u64) -> Option<u64> {
        self.table.hear(&client(number), self.clock.tick()).copied()
    }
}

#[test]
fn sessions_end_in_the_order_of_their_last_datagrams() {
    let mut world = World::new();
    let keys: Vec<_> = (1..=4).map(|number| world.insert(number, 10).unwrap()).collect();
    assert!(world.wait(600).is_empty());
    assert_eq!(world.hear(2), Some(2));
    assert!(world.wait(300).is_empty());
    world.table.touch(keys[0], world.clock.tick());
    assert_eq!(world.table.deadline(IDLE_MS), Some(Tick::from_millis(1_000)));
    assert!(world.wait(99).is_empty());
    assert_eq!(world.wait(1), [3, 4]);
    assert_eq!(world.table.deadline(IDLE_MS), Some(Tick::from_millis(1_600)));
    assert_eq!(world.wait(10_000), [2, 1]);
    assert_eq!((world.table.len(), world.table.deadline(IDLE_MS)), (0, None));
    assert_eq!(world.hear(1), None);
}

#[test]
fn a_full_table_takes_nobody_until_somebody_leaves() {
    let mut world = World::new();
    let first = world.insert(1, 2).unwrap();
    world.insert(2, 2).unwrap();
    assert_eq!(world.insert(3, 2), None);
    assert_eq!(world.hear(3), None);
    assert_eq!(world.table.remove(first), Some(1));
    let third = world.insert(3, 2).unwrap();
    assert_ne!(first, third, "a place that is used again has another key");
    assert_eq!(world.table.remove(first), None);
    world.clock.advance(Duration::from_millis(10));
    world.table.touch(first, world.clock.tick());
    assert_eq!(world.table.iter().copied().collect::<Vec<_>>(), [3, 2]);
    assert_eq!(world.wait(990), [2, 3], "a key that is gone moves nobody");
}

#[test]
fn a_clock_that_steps_back_ends_nobody_early() {
    let mut world = World::new();
    world.clock.advance(Duration::from_secs(5));
    world.insert(1, 1).unwrap();
    assert_eq!(world.table.hear(&client(1), Tick::from_millis(10)), Some(&1));
    assert!(world.wait(999).is_empty());
    assert_eq!(world.wait(1), [1]);
}

/// The required behaviour of the table, implemented without regard to speed.
#[derive(Default)]
struct Naive(Vec<(u64, Tick)>);

impl Naive {
    fn hear(&mut self, number: u64, now: Tick) -> bool {
        let Some(at) = self.0.iter().position(|(n, _)| *n == number) else { return false };
        self.0.remove(at);
        self.0.push((number, now));
        true
    }
}

#[test]
fn it_does_what_a_naive_table_does() {
    for seed in 0..50 {
        let mut rng = SeededRng::new(seed);
        let (mut world, mut naive) = (World::new(), Naive::default());
        let mut keys = std::collections::HashMap::new();
        for _ in 0..2_000 {
            let now = world.clock.tick();
            let number = 1 + rng.below(12);
            match rng.below(10) {
                0..=4 => {
                    let known = naive.hear(number, now);
                    assert_eq!(world.hear(number), known.then_some(number), "seed {seed}");
                    if !known {
                        let key = world.insert(number, 8);
                        assert_eq!(key.is_some(), naive.0.len() < 8, "seed {seed}");
                        if let Some(key) = key {
                            naive.0.push((number, now));
                            keys.insert(number, key);
                        }
                    }
                }
                5 | 6 => {
                    // The key may belong to a session that has ended.
                    if let Some(key) = keys.get(&number) {
                        naive.hear(number, now);
                        world.table.touch(*key, now);
                    }
                }
                7 => {
                    if let Some(key) = keys.get(&number) {
                        let at = naive.0.iter().position(|(n, _)| *n == number);
                        assert_eq!(world.table.remove(*key), at.map(|at| naive.0.remove(at).0), "seed {seed}");
                    }
                }
                _ => {
                    let ended = world.wait(rng.below(600));
                    let now = world.clock.tick();
                    let late = |seen: Tick| now >= seen.plus_millis(IDLE_MS);
                    let expect: Vec<u64> = naive.0.iter().filter(|(_, seen)| late(*seen)).map(|(n, _)| *n).collect();
                    naive.0.retain(|(_, seen)| !late(*seen));
                    assert_eq!(ended, expect, "seed {seed}");
                }
            }
            let order: Vec<u64> = naive.0.iter().rev().map(|(n, _)| *n).collect();
            assert_eq!(world.table.iter().copied().collect::<Vec<_>>(), order, "seed {seed}");
        }
    }
}
