use proptest::prelude::*;

use super::classes::{Class, Classes};
use super::*;

/// A naive model of [`Classes`]: a list from the least to the most recently used.
#[derive(Default)]
struct Naive {
    order: Vec<(u64, String, Class, u32)>,
}

impl Naive {
    /// Returns the value of the evicted class.
    fn class(&mut self, settings: u64, name: &str, class: Class, max: usize) -> Option<u32> {
        let found = self.order.iter().position(|(s, n, ..)| *s == settings && n == name);
        if let Some(at) = found {
            let entry = self.order.remove(at);
            assert_eq!(entry.2, class, "a known class keeps its name");
            self.order.push(entry);
            return None;
        }
        let evicted = if self.order.len() >= max { Some(self.order.remove(0).3) } else { None };
        assert!(self.order.iter().all(|(_, _, other, _)| *other != class), "two classes have one name");
        self.order.push((settings, name.to_owned(), class, 0));
        evicted
    }
}

#[derive(Clone, Debug)]
enum Step {
    Class(u64, String),
    /// Writes to the class that was returned this many steps ago.
    Write(usize, u32),
    Evict,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u64..3, "[a-e]{1,2}").prop_map(|(settings, name)| Step::Class(settings, name)),
        4 => (0_usize..12, 1_u32..).prop_map(|(back, value)| Step::Write(back, value)),
        1 => Just(Step::Evict),
    ]
}

proptest! {
    #[test]
    fn classes_are_evicted_by_last_use(steps in prop::collection::vec(step(), 0..200), max in 1_usize..8) {
        let (mut classes, mut naive) = (Classes::<u32>::default(), Naive::default());
        let mut given: Vec<Class> = Vec::new();
        for step in steps {
            match step {
                Step::Class(settings, name) => {
                    let (class, evicted) = classes.class(settings, &name, max);
                    prop_assert_eq!(evicted, naive.class(settings, &name, class, max));
                    given.push(class);
                }
                Step::Write(back, value) => {
                    let Some(class) = given.iter().rev().nth(back).copied() else { continue };
                    let expect = naive.order.iter_mut().find(|(_, _, c, _)| *c == class);
                    prop_assert_eq!(classes.get_mut(class).copied(), expect.as_ref().map(|entry| entry.3));
                    if let (Some(place), Some(entry)) = (classes.get_mut(class), expect) {
                        (*place, entry.3) = (value, value);
                    }
                }
                Step::Evict => {
                    let expect = if naive.order.is_empty() { None } else { Some(naive.order.remove(0).3) };
                    prop_assert_eq!(classes.evict(), expect);
                }
            }
            prop_assert_eq!(classes.len(), naive.order.len());
            for (_, _, class, value) in &naive.order {
                prop_assert_eq!(classes.get_mut(*class).copied(), Some(*value));
            }
        }
    }
}

const LIMITS: Limits = Limits { idle_max: 4, requests_max: 0, idle_timeout_ms: 60_000, classes_max: 2 };

fn connection() -> Box<H1> {
    let (io, peer) = tokio::io::duplex(64);
    // The peer stays open: a closed connection would not be taken.
    std::mem::forget(peer);
    Box::new(H1::new(crate::Io::Memory(io), b""))
}

#[test]
fn one_class_makes_room_at_a_time() {
    let mut pool = Pool::default();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let key = |pool: &mut Pool, name: &str| PoolKey { address, class: pool.class(99, name, &LIMITS) };
    let (a, b) = (key(&mut pool, "a"), key(&mut pool, "b"));
    let clear = PoolKey { address, class: pool.class(1, "", &LIMITS) };
    for kept in [a, b, clear] {
        pool.put(kept, connection(), 1, &LIMITS, Tick(0));
    }
    assert_eq!((pool.counts(), pool.evicted()), ((3, 0), 0));
    // Using `a` again makes `b` the least recently used one.
    assert_eq!(key(&mut pool, "a"), a);
    let c = key(&mut pool, "c");
    assert_eq!((pool.counts(), pool.evicted()), ((2, 0), 1));
    assert!(pool.take(&b, &LIMITS, Tick(0)).is_none());
    // A request that started in an evicted class leaves no connection behind, and finds none.
    pool.put(c, connection(), 1, &LIMITS, Tick(0));
    pool.put(b, connection(), 1, &LIMITS, Tick(0));
    assert_eq!(pool.counts(), (3, 0));
    assert!(pool.take(&b, &LIMITS, Tick(0)).is_none() && pool.join_opening(&b).is_none());
    assert!(pool.take(&a, &LIMITS, Tick(0)).is_some() && pool.take(&clear, &LIMITS, Tick(0)).is_some());
    // A lowered limit is applied by the next sweep.
    pool.sweep(&Limits { classes_max: 1, ..LIMITS }, Tick(0));
    assert_eq!((pool.counts(), pool.evicted()), ((1, 0), 2));
}
