use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cardinal_base::{Clock as _, ManualClock};
use serde_json::json;

use super::{DeliveryError, Entry, Loss, Queue, Settings, drain};
use crate::{Services, testing};

type Seen = Arc<Mutex<Vec<Vec<String>>>>;

fn services() -> (Services, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    (testing::services(clock.clone()), clock)
}

fn settings(record: serde_json::Value) -> Settings {
    Settings::from_config("test", &record)
}

/// A queue whose handler fails the first `failures` times and records later batches.
fn queue(services: &Services, settings: Settings, failures: usize) -> (Arc<Queue<String>>, Seen, Arc<AtomicUsize>) {
    let (seen, calls) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
    let (kept, counted) = (Arc::clone(&seen), Arc::clone(&calls));
    let queue = Queue::open(services, settings, move |batch: Vec<String>| {
        let failed = counted.fetch_add(1, Ordering::SeqCst) < failures;
        if !failed {
            kept.lock().unwrap().push(batch);
        }
        async move { if failed { Err("refused".to_owned()) } else { Ok(()) } }
    });
    (queue, seen, calls)
}

fn push(queue: &Queue<String>, entries: &[&str]) {
    entries.iter().for_each(|entry| queue.push((*entry).to_owned()));
}

fn batches(seen: &Seen) -> Vec<String> {
    seen.lock().unwrap().iter().map(|batch| batch.join(" ")).collect()
}

#[tokio::test]
async fn a_full_batch_goes_at_once_and_the_rest_after_the_delay() {
    let (services, clock) = services();
    let (queue, seen, _) = queue(&services, settings(json!({"max_batch_size": 2, "max_coalescing_delay": 5})), 0);
    push(&queue, &["a", "b", "c"]);
    clock.pass(Duration::from_secs(1)).await;
    assert_eq!(batches(&seen), ["a b"]);
    assert_eq!(queue.len(), 1);
    clock.pass(Duration::from_secs(5)).await;
    assert_eq!(batches(&seen), ["a b", "c"]);
    assert!(queue.is_empty());
}

#[tokio::test]
async fn a_shortage_of_the_node_loses_no_entries() {
    for max_retry_time in [0, 1] {
        let (services, clock) = services();
        let record = json!({"max_coalescing_delay": 0, "max_retry_time": max_retry_time, "initial_retry_delay": 0.5});
        let (seen, calls) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
        let (kept, counted) = (Arc::clone(&seen), Arc::clone(&calls));
        let queue = Queue::open(&services, settings(record), move |batch: Vec<String>| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            if number == 20 {
                kept.lock().unwrap().push(batch);
            }
            async move {
                match number {
                    20 => Ok(()),
                    _ => Err(DeliveryError {
                        reason: "no descriptors".to_owned(),
                        is_local: number < 20,
                        ..DeliveryError::default()
                    }),
                }
            }
        });
        push(&queue, &["a"]);
        clock.pass(Duration::from_secs(25)).await;
        assert_eq!((batches(&seen), queue.dropped()), (vec!["a".to_owned()], 0), "{max_retry_time}");
        // The limit applies to failures of the receiver.
        push(&queue, &["b"]);
        clock.pass(Duration::from_secs(25)).await;
        assert_eq!((batches(&seen), queue.dropped()), (vec!["a".to_owned()], 1), "{max_retry_time}");
    }
}

#[tokio::test]
async fn the_oldest_entries_make_room() {
    let (services, clock) = services();
    let record = json!({"max_batch_size": 9, "max_coalescing_delay": 5, "max_entries": 2});
    let (queue, seen, _) = queue(&services, settings(record), 0);
    push(&queue, &["a", "b", "c"]);
    assert_eq!(queue.dropped(), 1);
    clock.pass(Duration::from_secs(6)).await;
    assert_eq!(batches(&seen), ["b c"]);
}

#[tokio::test]
async fn bytes_are_limited_too() {
    let (services, clock) = services();
    let record = json!({"max_batch_size": 9, "max_coalescing_delay": 5, "max_bytes": 5});
    let (queue, seen, _) = queue(&services, settings(record), 0);
    push(&queue, &["aa", "bb", "ccc", "too long"]);
    assert_eq!(queue.dropped(), 2, "aa made room for ccc, and the long one never fits");
    clock.pass(Duration::from_secs(6)).await;
    assert_eq!(batches(&seen), ["bb ccc"]);
}

#[tokio::test]
async fn retries_wait_twice_as_long_each_time_up_to_a_limit() {
    let (services, clock) = services();
    let record = json!({"initial_retry_delay": 1, "max_retry_delay": 3, "max_retry_time": 60});
    let (queue, seen, calls) = queue(&services, settings(record), 4);
    let start = clock.tick();
    push(&queue, &["a"]);
    clock.pass_until(drain(&services, Duration::from_secs(100))).await;
    assert_eq!(batches(&seen), ["a"]);
    assert_eq!(calls.load(Ordering::SeqCst), 5);
    assert_eq!(clock.tick().since(start).as_secs(), 1 + 2 + 3 + 3);
    assert_eq!(queue.dropped(), 0);
}

#[tokio::test]
async fn a_batch_is_lost_after_the_retry_time() {
    let (services, clock) = services();
    let record = json!({"initial_retry_delay": 1, "max_retry_delay": 1, "max_retry_time": 2.5});
    let (queue, seen, calls) = queue(&services, settings(record), 4);
    push(&queue, &["a", "b"]);
    clock.pass(Duration::from_secs(30)).await;
    assert_eq!(batches(&seen), ["b"]);
    assert_eq!(calls.load(Ordering::SeqCst), 5, "at 0, 1, 2 and 3 seconds, then the next batch");
    assert_eq!(queue.dropped(), 1);
}

#[tokio::test]
async fn the_same_name_and_parameters_are_the_same_queue() {
    let (services, clock) = services();
    let record = json!({"max_batch_size": 9, "max_coalescing_delay": 5});
    let (first, seen, _) = queue(&services, settings(record.clone()), 0);
    push(&first, &["a"]);
    let (second, newer, _) = queue(&services, settings(record), 0);
    assert!(Arc::ptr_eq(&first, &second));
    drop(first);
    push(&second, &["b"]);
    let (other, ..) = queue(&services, settings(json!({"max_batch_size": 8})), 0);
    assert!(!Arc::ptr_eq(&second, &other));
    clock.pass(Duration::from_secs(6)).await;
    assert_eq!(batches(&newer), ["a b"], "entries survive, and the newer handler gets them");
    assert!(batches(&seen).is_empty());
}

#[tokio::test]
async fn a_dropped_queue_delivers_what_it_has() {
    let (services, clock) = services();
    let record = json!({"max_batch_size": 9, "max_coalescing_delay": 3600});
    let (abandoned, seen, _) = queue(&services, settings(record.clone()), 0);
    push(&abandoned, &["a"]);
    drop(abandoned);
    let (_fresh, ..) = queue(&services, settings(record), 0);
    assert_eq!(clock.pass_until(drain(&services, Duration::from_secs(1))).await, 0);
    assert_eq!(batches(&seen), ["a"]);
}

#[tokio::test]
async fn draining_does_not_wait_for_batches_and_ends_at_its_deadline() {
    let (services, clock) = services();
    let record = json!({"max_batch_size": 9, "max_coalescing_delay": 3600, "initial_retry_delay": 5});
    let (good, seen, _) = queue(&services, settings(record.clone()), 0);
    push(&good, &["a"]);
    let (bad, ..) = queue(&services, Settings::from_config("bad", &record), 1_000);
    push(&bad, &["b", "c"]);
    let start = clock.tick();
    assert_eq!(clock.pass_until(drain(&services, Duration::from_secs(7))).await, 2);
    assert_eq!(clock.tick().since(start).as_secs(), 7);
    assert_eq!(batches(&seen), ["a"]);
}

#[tokio::test]
async fn without_a_limit_on_deliveries_each_entry_goes_by_itself() {
    let (services, clock) = services();
    let running = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&running);
    let record = json!({"concurrency_limit": -1, "max_batch_size": 10, "max_entries": 3});
    let queue = Queue::open(&services, settings(record), move |batch: Vec<String>| {
        assert_eq!(batch.len(), 1);
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<Result<(), String>>()
    });
    push(&queue, &["a", "b", "c"]);
    clock.pass(Duration::from_secs(1)).await;
    assert_eq!(running.load(Ordering::SeqCst), 3);
    push(&queue, &["d"]);
    assert_eq!(queue.dropped(), 1, "what is under way is limited by max_entries");
}

#[tokio::test]
async fn a_handler_that_panics_loses_its_batch_alone() {
    let (services, clock) = services();
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let queue = Queue::open(&services, settings(json!({})), move |batch: Vec<String>| {
        assert_ne!(batch, ["bad"], "on purpose");
        kept.lock().unwrap().push(batch);
        async { Ok::<(), String>(()) }
    });
    push(&queue, &["bad", "good"]);
    assert_eq!(clock.pass_until(drain(&services, Duration::from_secs(1))).await, 0);
    assert_eq!(batches(&seen), ["good"]);
}

#[test]
fn settings_come_from_a_queue_record_and_old_names() {
    let config = json!({"queue_size": 5, "flush_timeout": 3, "retry_count": 4});
    let settings = Settings::from_config("n", &json!({"max_entries": 7, "max_bytes": 99, "max_retry_time": 0.5}))
        .with_old_names(&config);
    assert_eq!(settings.max_batch_size, 5);
    assert_eq!(settings.max_coalescing_delay, Duration::from_secs(3));
    assert_eq!((settings.max_entries, settings.max_bytes), (7, Some(99)));
    assert_eq!(settings.max_retry_time, Duration::from_millis(500));
    let plain = Settings::from_config("n", &json!({})).with_old_names(&json!({"queue_size": 1, "flush_timeout": 2}));
    assert_eq!(plain, Settings { name: "n".into(), ..Settings::default() });
}

#[tokio::test]
async fn entries_take_no_more_than_their_part_of_the_memory() {
    let (services, clock) = services();
    services.memory.set_max(400);
    let (queue, _, _) = queue(&services, settings(json!({"max_coalescing_delay": 100, "max_batch_size": 1_000})), 0);
    for _ in 0..5 {
        queue.push("x".repeat(30));
    }
    assert_eq!((queue.len(), queue.dropped(), services.memory.used()), (3, 2, 90));
    let totals = super::totals(&services.shared);
    assert_eq!((totals.entries, totals.dropped), (3, 2));
    assert_eq!(clock.pass_until(drain(&services, Duration::from_secs(1))).await, 0);
    assert_eq!(services.memory.used(), 0);
}

/// An entry that records why it is lost.
#[derive(Clone)]
struct Noted(&'static str, Arc<Mutex<Vec<(&'static str, Loss)>>>);

impl Entry for Noted {
    fn size(&self) -> usize {
        self.0.len()
    }

    fn lost(&self, reason: Loss) {
        self.1.lock().unwrap().push((self.0, reason));
    }
}

#[tokio::test]
async fn entries_learn_why_they_are_lost() {
    let (services, clock) = services();
    let lost = Arc::default();
    let record = json!({"max_batch_size": 1, "max_coalescing_delay": 0, "max_entries": 2, "max_bytes": 9,
        "max_retry_time": 1, "initial_retry_delay": 1});
    let queue = Queue::open(&services, settings(record), |batch: Vec<Noted>| async move {
        match batch[0].0 {
            "refused" => Err(DeliveryError { is_final: true, ..DeliveryError::from("no".to_owned()) }),
            "late" => Err(DeliveryError::from("not now".to_owned())),
            _ => Ok(()),
        }
    });
    for name in ["refused", "late", "ok", "old", "a", "b", "much too long"] {
        queue.push(Noted(name, Arc::clone(&lost)));
        if !matches!(name, "old" | "a" | "b" | "much too long") {
            clock.pass(Duration::from_secs(5)).await;
        }
    }
    let (refused, late, full) = (Loss::Refused, Loss::Undelivered, Loss::NoRoom);
    assert_eq!(*lost.lock().unwrap(), [("refused", refused), ("late", late), ("old", full), ("much too long", full)]);
    assert_eq!(queue.dropped(), 4);
}

#[tokio::test]
async fn a_receiver_may_ask_for_a_longer_pause_within_the_limit() {
    let (services, clock) = services();
    let record = json!({"max_coalescing_delay": 0, "initial_retry_delay": 1, "max_retry_delay": 20});
    let times = Arc::new(Mutex::new(Vec::new()));
    let (called, time) = (Arc::clone(&times), clock.clone());
    let queue = Queue::open(&services, settings(record), move |_: Vec<String>| {
        let mut times = called.lock().unwrap();
        times.push(time.tick().millis() / 1_000);
        let asked = [Some(7), Some(1), Some(100), None].get(times.len() - 1).copied().flatten();
        let error = DeliveryError { retry_after: asked.map(Duration::from_secs), .."later".to_owned().into() };
        let done = times.len() == 5;
        async move { if done { Ok(()) } else { Err(error) } }
    });
    push(&queue, &["a"]);
    clock.pass_until(drain(&services, Duration::from_secs(100))).await;
    // The queue's own delays are 1, 2, 4 and 8 seconds.
    assert_eq!(*times.lock().unwrap(), [0, 7, 7 + 2, 9 + 20, 29 + 8]);
}
