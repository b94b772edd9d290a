use std::sync::Arc;
use std::task::{Context, Wake};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Wakes(std::sync::atomic::AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>, wakes: &Arc<Wakes>) -> std::task::Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Arc::clone(wakes).into()))
}

#[test]
fn a_manual_clock_wakes_only_tasks_whose_deadline_has_passed() {
    let clock = ManualClock::default();
    let [early, late] = [Arc::<Wakes>::default(), Arc::default()];
    let count = |wakes: &Wakes| wakes.0.load(std::sync::atomic::Ordering::SeqCst);
    let mut first = std::pin::pin!(clock.sleep(SECOND));
    let mut second = std::pin::pin!(clock.sleep(2 * SECOND));
    assert!(poll(first.as_mut(), &early).is_pending() && poll(second.as_mut(), &late).is_pending());
    assert_eq!(clock.next_deadline(), Some(Tick::from_millis(1_000)));
    clock.advance(SECOND - Duration::from_micros(1));
    assert_eq!((count(&early), count(&late)), (0, 0));
    assert!(poll(first.as_mut(), &early).is_pending());
    clock.advance(Duration::from_micros(1));
    assert_eq!((count(&early), count(&late)), (1, 0));
    assert!(poll(first, &early).is_ready() && poll(second.as_mut(), &late).is_pending());
    assert_eq!(clock.next_deadline(), Some(Tick::from_millis(2_000)));
    clock.advance(10 * SECOND);
    assert!(poll(second, &late).is_ready());
}

#[test]
fn a_dropped_sleep_is_forgotten() {
    let clock = ManualClock::default();
    {
        let mut sleep = Box::pin(clock.sleep(SECOND));
        assert!(poll(sleep.as_mut(), &Arc::default()).is_pending());
    }
    assert_eq!(clock.next_deadline(), None);
}

#[test]
fn a_limit_ends_a_future_and_a_future_that_is_ready_wins() {
    let clock = ManualClock::default();
    let wakes = Arc::default();
    let mut limited = std::pin::pin!(timeout(&clock, SECOND, std::future::pending::<()>()));
    assert!(poll(limited.as_mut(), &wakes).is_pending());
    clock.advance(SECOND);
    assert_eq!(poll(limited, &wakes), std::task::Poll::Ready(Err(Elapsed)));
    let ready = std::pin::pin!(timeout(&clock, Duration::ZERO, std::future::ready(7)));
    assert_eq!(poll(ready, &wakes), std::task::Poll::Ready(Ok(7)));
    let unlimited = std::pin::pin!(timeout(&clock, Duration::MAX, std::future::pending::<()>()));
    clock.advance(SECOND);
    assert!(poll(unlimited, &wakes).is_pending());
}

#[test]
fn another_thread_can_wait_for_a_manual_clock() {
    let clock = Arc::new(ManualClock::default());
    let (started, has_started) = std::sync::mpsc::channel();
    let waiting = Arc::clone(&clock);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        started.send(()).unwrap();
        runtime.block_on(waiting.sleep_until(Tick::from_millis(60_000)));
        waiting.tick()
    });
    has_started.recv().unwrap();
    // Whether the thread has begun to wait or not.
    clock.advance(60 * SECOND);
    assert_eq!(thread.join().unwrap(), Tick::from_millis(60_000));
}

#[tokio::test]
async fn the_system_clock_is_waited_for() {
    let clock = SystemClock::new();
    let deadline = clock.tick().plus(Duration::from_millis(2));
    clock.sleep_until(deadline).await;
    assert!(clock.tick() >= deadline);
    clock.sleep_until(Tick(0)).await;
    assert_eq!(timeout(&clock, Duration::ZERO, clock.sleep_until(Tick(u64::MAX))).await, Err(Elapsed));
}

#[tokio::test]
async fn time_passes_from_deadline_to_deadline() {
    let clock = Arc::new(ManualClock::default());
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (ticking, told) = (Arc::clone(&clock), Arc::clone(&seen));
    let repeating = crate::task::spawn("repeating", async move {
        loop {
            ticking.sleep(SECOND).await;
            told.lock().unwrap().push(ticking.tick().millis());
        }
    });
    clock.pass(Duration::from_millis(2_500)).await;
    assert_eq!((seen.lock().unwrap().as_slice(), clock.tick().millis()), ([1_000, 2_000].as_slice(), 2_500));
    assert_eq!(clock.pass_until(async { clock.sleep(SECOND).await }).await, ());
    assert_eq!(clock.tick().millis(), 3_500);
    repeating.abort();
}
