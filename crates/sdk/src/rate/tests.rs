use cardinal_ir::policy::TokenBucket;

use super::Counters;

#[test]
fn a_bucket_does_not_go_back_in_time() {
    let counters = Counters::default();
    let bucket = TokenBucket { tokens: 2, interval_ms: 100 };
    let takes = |now_ms| counters.take(b"k", bucket, now_ms);
    assert!(takes(950) && takes(1_000));
    // A worker that read the clock earlier takes a token of the interval that has begun since.
    assert!(takes(999) && !takes(999) && !takes(1_099));
    assert!(takes(1_100));
    assert!(counters.take(b"other", bucket, 1_100));
    assert!(!counters.take(b"none", TokenBucket::default(), 1_100));
}

#[test]
fn counters_are_shared_by_threads() {
    let counters = std::sync::Arc::new(Counters::default());
    let bucket = TokenBucket { tokens: 1_000, interval_ms: 60_000 };
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let counters = std::sync::Arc::clone(&counters);
            std::thread::spawn(move || (0..500).filter(|_| counters.take(b"k", bucket, 5)).count())
        })
        .collect();
    let taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(taken, 1_000);
}

/// The counters of a policy survive its changes. Intervals of different lengths have different numbers.
#[test]
fn a_bucket_whose_interval_changes_is_filled() {
    let counters = Counters::default();
    let (short, long) = (TokenBucket { tokens: 1, interval_ms: 100 }, TokenBucket { tokens: 1, interval_ms: 60_000 });
    let day_ms = 86_400_000;
    assert!(counters.take(b"k", short, day_ms) && !counters.take(b"k", short, day_ms));
    assert!(counters.take(b"k", long, day_ms), "a new bucket is full");
    assert!(!counters.take(b"k", long, day_ms) && counters.take(b"k", long, day_ms + 60_000));
    assert!(counters.take(b"k", short, day_ms + 60_000) && !counters.take(b"k", short, day_ms + 60_099));
    let never = TokenBucket { tokens: 1, interval_ms: u64::MAX };
    assert!(counters.take(b"k", never, day_ms) && !counters.take(b"k", never, u64::MAX - 1));
}
