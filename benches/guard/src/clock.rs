//! [`SteadyClock`]: a clock with the same times in each run.

use std::hint::black_box;
use std::time::Duration;

use cardinal_base::{Clock, ManualClock, Sleep, SystemClock, Tick, UnixMillis};

/// 2026-11-21T00:00:00Z.
const START: UnixMillis = UnixMillis(1_795_219_200_000);

/// A manual clock. Each reading also reads the system clock, so that the cost of a real reading is measured.
#[derive(Debug)]
pub(crate) struct SteadyClock {
    told: ManualClock,
    machine: SystemClock,
}

impl SteadyClock {
    pub(crate) fn new() -> Self {
        Self { told: ManualClock::at(START), machine: SystemClock::new() }
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.told.advance(by);
    }
}

impl Clock for SteadyClock {
    fn tick(&self) -> Tick {
        black_box(self.machine.tick());
        self.told.tick()
    }

    fn unix(&self) -> UnixMillis {
        black_box(self.machine.unix());
        self.told.unix()
    }

    fn sleep_until(&self, deadline: Tick) -> Sleep {
        self.told.sleep_until(deadline)
    }
}
