//! Signals, as events.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cardinal_base::{Clock as _, SystemClock, Tick, log};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::Event;
use super::file_source::Request;
use super::node::Senders;

/// A future that resolves at a stop signal. From now on the signals do not end the process by themselves, and SIGHUP has no
/// effect.
pub(crate) fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    // Its default action, which ends the process, stays replaced.
    drop(signal(SignalKind::hangup())?);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// A terminal and the parent process may both send a stop signal in one moment: signals within this time count as one.
const ONE_STOP_MS: u64 = 300;
/// How often a stop event is offered again to a queue that is full.
const OFFER_PERIOD: Duration = Duration::from_millis(20);
/// For the last log lines when a second signal ends the process.
const LAST_FLUSH: Duration = Duration::from_millis(100);

/// A stop signal was received.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Fails if a stop signal was received: for waits during the start, when no event is handled yet.
pub(super) fn check_stop() -> Result<()> {
    ensure!(!STOPPING.load(Ordering::Relaxed), "the process was asked to stop");
    Ok(())
}

/// Reports signals as events from now on. A second stop signal ends the process at once, whatever its other threads are
/// doing: this thread never waits for one of them.
pub(super) fn listen(senders: Senders) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("signals")?;
    // Installed here, so that none is missed.
    let all = {
        let _entered = runtime.enter();
        Signals {
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        }
    };
    let tell = std::thread::Builder::new().name("signals".to_owned());
    tell.spawn(move || runtime.block_on(all.tell(&senders))).context("signals")?;
    Ok(())
}

struct Signals {
    hangup: Signal,
    reopen: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    async fn tell(mut self, Senders { events, requests }: &Senders) {
        let (clock, mut stopping, mut undelivered) = (SystemClock::default(), None::<Tick>, false);
        loop {
            let event = tokio::select! {
                _ = self.hangup.recv() => {
                    // A full queue holds the same request already.
                    requests.try_send(Request::Reload).ok();
                    continue;
                }
                _ = self.reopen.recv() => Event::ReopenLogs,
                _ = self.terminate.recv() => Event::Stop,
                _ = self.interrupt.recv() => Event::Stop,
                _ = self.quit.recv() => Event::Stop,
                () = tokio::time::sleep(OFFER_PERIOD), if undelivered => {
                    undelivered = is_full(events, Event::Stop);
                    continue;
                }
            };
            if !matches!(event, Event::Stop) {
                // A full queue holds the same event already.
                events.try_send(event).ok();
                continue;
            }
            match stopping {
                Some(since) if clock.tick().millis_since(since) < ONE_STOP_MS => {}
                Some(_) => end_at_once(),
                None => {
                    stopping = Some(clock.tick());
                    STOPPING.store(true, Ordering::Relaxed);
                    undelivered = is_full(events, event);
                }
            }
        }
    }
}

/// Sends an event; whether there was no room for it.
fn is_full(events: &Sender<Event>, event: Event) -> bool {
    matches!(events.try_send(event), Err(TrySendError::Full(_)))
}

fn end_at_once() -> ! {
    tracing::warn!("second stop signal: stopping immediately");
    log::flush(LAST_FLUSH);
    std::process::exit(1)
}
