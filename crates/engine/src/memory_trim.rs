//! Returns free heap memory to the operating system after a burst of connections and requests.
//!
//! The C library keeps freed memory between live allocations until `malloc_trim` is called: without it, resident memory
//! would stay at its peak.

use std::sync::Arc;
use std::time::Duration;

use cardinal_base::memory::release_free;

use crate::counters::Totals;
use crate::node::Node;

/// Interval between checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Time after a burst until the workers have freed the objects in their pools ([`cardinal_base::ObjectPool`]).
const RELEASE_DELAY: Duration = Duration::from_secs(15);

/// Minimum time between two trims: a trim holds the allocator's locks for some milliseconds.
const PAUSE: Duration = Duration::from_secs(30);

/// Minimum number of connections and requests of a burst whose memory is worth trimming.
const BURST_MIN: u64 = 500;

/// Detects the ends of bursts.
#[derive(Debug, Default)]
struct BurstDetector {
    highest: u64,
}

impl BurstDetector {
    /// Whether a burst has ended: at most an eighth of it is left.
    fn has_burst_ended(&mut self, totals: &Totals) -> bool {
        let level = totals.active + totals.serving;
        self.highest = self.highest.max(level);
        let ended = self.highest >= BURST_MIN && level <= self.highest / 8;
        if ended {
            self.highest = level;
        }
        ended
    }
}

/// Trims the heap after bursts, for as long as the node lives.
pub(crate) async fn after_bursts(node: Arc<Node>) {
    let mut bursts = BurstDetector::default();
    loop {
        node.services.clock.sleep(CHECK_INTERVAL).await;
        if bursts.has_burst_ended(&node.totals()) {
            node.services.clock.sleep(RELEASE_DELAY).await;
            // The trim does not run on a worker thread; a panic in it could only come from the C library.
            tokio::task::spawn_blocking(release_free).await.ok();
            node.services.clock.sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_burst_is_seen_once() {
        let mut bursts = BurstDetector::default();
        let mut look = |active, serving| bursts.has_burst_ended(&Totals { active, serving, ..Totals::default() });
        assert!(![(0, 0), (400, 90), (0, 0)].map(|(active, serving)| look(active, serving)).contains(&true));
        assert_eq!([(400, 200), (100, 0), (75, 0), (0, 0)].map(|(a, s)| look(a, s)), [false, false, true, false]);
        assert_eq!([(4_000, 0), (500, 0), (500, 0)].map(|(a, s)| look(a, s)), [false, true, false]);
    }
}
