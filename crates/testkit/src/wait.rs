//! Waiting in tests. This is the one place where a test pauses, always for the next look at a condition: a test waits
//! for what it needs, or moves a [`ManualClock`], and never for time to pass. `xtask tidy` checks it.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};
use cardinal_base::ManualClock;

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(2);

/// The future's value, or an error naming `what` when it takes longer than [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, future).await.map_err(|_| late(what))
}

/// Waits until the condition holds.
///
/// # Errors
/// Naming `what` when that takes longer than [`PATIENCE`].
pub async fn until(what: &str, is: impl Fn() -> bool) -> Result<()> {
    until_some(what, async || is().then_some(())).await
}

/// Waits until there is a value, for what has to be asked for.
///
/// # Errors
/// Naming `what` when that takes longer than [`PATIENCE`].
pub async fn until_some<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let looking = async {
        loop {
            if let Some(value) = look().await {
                return value;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    within(what, looking).await
}

/// The value once it stays the same for a while: for what has to come to rest.
///
/// # Errors
/// Naming `what` when that takes longer than [`PATIENCE`].
pub async fn settled(what: &str, value: impl Fn() -> u64) -> Result<u64> {
    const LOOKS: u32 = 75;
    let (mut last, mut same) = (value(), 0);
    let rests = async || {
        let now = value();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same == LOOKS).then_some(now)
    };
    until_some(what, rests).await
}

/// Between two looks at what another task or the system has still to do, in the peers of the test world.
pub(crate) async fn look_again() {
    tokio::time::sleep(LOOK).await;
}

/// [`until_some`] for a thread that has no runtime.
///
/// # Errors
/// Naming `what` when that takes longer than [`PATIENCE`].
pub fn until_some_blocking<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let looks = PATIENCE.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        if let Some(value) = look() {
            return Ok(value);
        }
        std::thread::sleep(LOOK);
    }
    Err(late(what))
}

/// The future's value, while time passes on a manual clock: it moves by `step` whenever the future has been pending for
/// a look. What real peers do in the meantime takes real time, so `step` must be small against limits that are not to
/// be reached.
///
/// # Errors
/// Naming `what` when that takes longer than [`PATIENCE`] of real time.
pub async fn while_time_passes<T>(
    what: &str,
    clock: &ManualClock,
    step: Duration,
    future: impl Future<Output = T>,
) -> Result<T> {
    let mut future = std::pin::pin!(future);
    let passing = async {
        loop {
            tokio::select! {
                biased;
                value = &mut future => return value,
                () = tokio::time::sleep(LOOK) => clock.advance(step),
            }
        }
    };
    within(what, passing).await
}

fn late(what: &str) -> anyhow::Error {
    anyhow!("waited {} s for {what}", PATIENCE.as_secs())
}
