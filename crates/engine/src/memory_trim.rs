//! Memory that a burst of connections and requests needed goes back to the system after it.
//!
//! The C library keeps what is freed between things that are still in use, for ever if nobody asks for it: a node that was busy once
//! would look busy for as long as it lives.

use std::sync::Arc;
use std::time::Duration;

use cardinal_base::memory::release_free;

use crate::counters::Totals;
use crate::node::Node;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);

/// How long the workers take to give up what the burst has left on their shelves ([`cardinal_base::ObjectPool`]).
const SETTLE: Duration = Duration::from_secs(15);

/// How long nothing is given back after the last time: it takes the allocator's locks for some milliseconds.
const PAUSE: Duration = Duration::from_secs(30);

/// Connections and requests whose memory is worth it.
const WORTH: u64 = 500;

/// Watches for the ends of bursts.
#[derive(Debug, Default)]
struct Tide {
    highest: u64,
}

impl Tide {
    /// Whether a burst is over: an eighth of it, or less, is left.
    fn is_out(&mut self, totals: &Totals) -> bool {
        let level = totals.active + totals.serving;
        self.highest = self.highest.max(level);
        let out = self.highest >= WORTH && level <= self.highest / 8;
        if out {
            self.highest = level;
        }
        out
    }
}

/// Gives memory back after bursts, for as long as the node lives.
pub(crate) async fn after_bursts(node: Arc<Node>) {
    let mut tide = Tide::default();
    loop {
        node.services.clock.sleep(EVERY).await;
        if tide.is_out(&node.totals()) {
            node.services.clock.sleep(SETTLE).await;
            // It does not touch a request's thread; a panic in it is the C library's.
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
        let mut tide = Tide::default();
        let mut look = |active, serving| tide.is_out(&Totals { active, serving, ..Totals::default() });
        assert!(![(0, 0), (400, 90), (0, 0)].map(|(active, serving)| look(active, serving)).contains(&true));
        assert_eq!([(400, 200), (100, 0), (75, 0), (0, 0)].map(|(a, s)| look(a, s)), [false, false, true, false]);
        assert_eq!([(4_000, 0), (500, 0), (500, 0)].map(|(a, s)| look(a, s)), [false, true, false]);
    }
}
