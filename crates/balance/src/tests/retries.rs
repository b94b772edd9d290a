//! Retry budgets: against a naive count, and from several threads at once.

use std::sync::atomic::{AtomicI64, Ordering};

use cardinal_base::{Rng as _, SeededRng};

use crate::Retries;

/// Random requests that begin, are retried and end, on workers of which some share a shard. What is granted is what a
/// naive count grants, and all counts return to zero.
#[test]
fn a_budget_grants_what_a_naive_count_grants() {
    let (mut granted, mut refused) = (0, 0);
    for seed in 0..200 {
        let (retries, mut rng) = (Retries::default(), SeededRng::new(seed));
        let (percent, min) = (u32::try_from(rng.below(120)).unwrap(), u32::try_from(rng.below(5)).unwrap());
        // Worker, and whether a retry is in progress.
        let mut requests: Vec<(usize, bool)> = Vec::new();
        for _ in 0..500 {
            let worker = usize::try_from(rng.below(40)).unwrap();
            let at = usize::try_from(rng.below(requests.len().max(1) as u64)).unwrap();
            match rng.below(5) {
                0 | 1 => {
                    retries.request_started(worker);
                    requests.push((worker, false));
                }
                2 if !requests.is_empty() => {
                    let (worker, retrying) = requests.swap_remove(at);
                    retries.request_ended(worker);
                    if retrying {
                        retries.retry_ended(worker);
                    }
                }
                _ => {
                    let under_way = requests.iter().filter(|(_, retrying)| *retrying).count();
                    let limit = (requests.len() * percent as usize / 100).max(min as usize);
                    let Some((worker, retrying)) = requests.get_mut(at).filter(|(_, retrying)| !*retrying) else {
                        continue;
                    };
                    *retrying = retries.start_retry(*worker, percent, min);
                    assert_eq!(*retrying, under_way < limit, "seed {seed}: {under_way} of {limit}");
                    granted += usize::from(*retrying);
                    refused += usize::from(!*retrying);
                }
            }
            let under_way = requests.iter().filter(|(_, retrying)| *retrying).count();
            let expect = (i64::try_from(requests.len()).unwrap(), i64::try_from(under_way).unwrap());
            assert_eq!(retries.counts(), expect, "seed {seed}");
        }
    }
    assert!(granted > 1_000 && refused > 1_000, "{granted} granted, {refused} refused");
}

/// A cluster that fails: every request is retried as often as it may. With a budget, the load that retries add stays
/// at its share.
#[test]
fn the_load_of_retries_stays_at_its_share() {
    let retries = Retries::default();
    let (mut first, mut again) = (0_u32, 0_u32);
    for round in 0..1_000 {
        // A hundred requests in progress at any time, each of which fails.
        let worker = round % 8;
        for _ in 0..100 {
            retries.request_started(worker);
            first += 1;
        }
        let granted = (0..100).filter(|_| retries.start_retry(worker, 20, 3)).count();
        again += u32::try_from(granted).unwrap();
        (0..granted).for_each(|_| retries.retry_ended(worker));
        (0..100).for_each(|_| retries.request_ended(worker));
    }
    assert_eq!((first, again), (100_000, 20_000));
    assert_eq!(retries.counts(), (0, 0));
}

#[test]
fn threads_do_not_exceed_a_budget_together() {
    let (retries, under_way) = (Retries::default(), AtomicI64::new(0));
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (retries, under_way) = (&retries, &under_way);
            scope.spawn(move || {
                for _ in 0..20_000 {
                    if retries.start_retry(worker, 0, 3) {
                        assert!(under_way.fetch_add(1, Ordering::SeqCst) < 3);
                        under_way.fetch_sub(1, Ordering::SeqCst);
                        retries.retry_ended(worker);
                    }
                }
            });
        }
    });
    assert_eq!(retries.counts(), (0, 0));
}
