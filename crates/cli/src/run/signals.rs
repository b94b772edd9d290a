//! Signals, as events.

use std::sync::mpsc::SyncSender;

use anyhow::{Context as _, Result};
use cardinal_base::{Clock as _, SystemClock, Tick};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Event;

/// A future that ends when the process is asked to. From now on the signals do not end it by themselves.
pub(crate) fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// A terminal, and whoever started the process, may both ask for the end, in one moment: that is one wish.
const ONE_WISH_MS: u64 = 300;

/// Tells of signals from now on. A second wish for the end ends the process at once.
pub(super) fn listen(events: SyncSender<Event>) -> Result<()> {
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
    tell.spawn(move || runtime.block_on(all.tell(&events))).context("signals")?;
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
    async fn tell(mut self, events: &SyncSender<Event>) {
        let (clock, mut stopping) = (SystemClock::default(), None::<Tick>);
        loop {
            let event = tokio::select! {
                _ = self.hangup.recv() => Event::Reload,
                _ = self.reopen.recv() => Event::ReopenLogs,
                _ = self.terminate.recv() => Event::Stop,
                _ = self.interrupt.recv() => Event::Stop,
                _ = self.quit.recv() => Event::Stop,
            };
            if matches!(event, Event::Stop) {
                match stopping {
                    Some(since) if clock.tick().millis_since(since) < ONE_WISH_MS => continue,
                    Some(_) => {
                        tracing::warn!("stopped at once: asked a second time");
                        std::process::exit(1);
                    }
                    None => stopping = Some(clock.tick()),
                }
            }
            // A full queue holds the same wish already, unless it is the last one, which must arrive.
            match event {
                Event::Stop => drop(events.send(event)),
                event => drop(events.try_send(event)),
            }
        }
    }
}
