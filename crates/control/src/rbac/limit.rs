//! [`Failures`]: how many wrong tokens a client may send.

use std::collections::HashMap;

/// Wrong tokens that a client may send at once, and the seconds after which it may send another one.
const BURST: f64 = 20.0;
const REFILL_SECONDS: f64 = 3.0;
/// Clients that are remembered. A further one takes the place of those that have sent nothing wrong for a while.
const CLIENTS_MAX: usize = 4_096;

/// The wrong tokens of each client, by its address.
#[derive(Debug, Default)]
pub(super) struct Failures(HashMap<String, Failed>);

#[derive(Clone, Copy, Debug)]
struct Failed {
    count: f64,
    at: f64,
}

impl Failed {
    /// What is left of the count after a while.
    fn count_at(self, now: f64) -> f64 {
        (self.count - (now - self.at).max(0.0) / REFILL_SECONDS).max(0.0)
    }
}

impl Failures {
    /// Whether a client may send another token that is not known to be right. Times are in seconds.
    pub(super) fn admits(&self, client: &str, now: f64) -> bool {
        match self.0.get(client) {
            Some(failed) => failed.count_at(now) <= BURST - 1.0,
            // While the table is full, unknown clients have to wait.
            None => self.0.len() < CLIENTS_MAX || self.0.values().any(|failed| failed.count_at(now) <= 0.0),
        }
    }

    /// A client has sent a wrong token.
    pub(super) fn add(&mut self, client: &str, now: f64) {
        if self.0.len() >= CLIENTS_MAX && !self.0.contains_key(client) {
            self.0.retain(|_, failed| failed.count_at(now) > 0.0);
            if self.0.len() >= CLIENTS_MAX {
                return;
            }
        }
        let failed = self.0.entry(client.to_owned()).or_insert(Failed { count: 0.0, at: now });
        *failed = Failed { count: (failed.count_at(now) + 1.0).min(BURST), at: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_to_wait_after_many_wrong_tokens() {
        let mut failures = Failures::default();
        for _ in 0..20 {
            assert!(failures.admits("a", 100.0));
            failures.add("a", 100.0);
        }
        assert!(!failures.admits("a", 100.0) && !failures.admits("a", 102.0));
        assert!(failures.admits("b", 100.0) && failures.admits("a", 103.0));
        failures.add("a", 103.0);
        assert!(!failures.admits("a", 103.0) && failures.admits("a", 163.0));
    }

    #[test]
    fn the_number_of_clients_is_bounded() {
        let mut failures = Failures::default();
        for client in 0..CLIENTS_MAX + 10 {
            failures.add(&client.to_string(), 0.0);
        }
        assert_eq!(failures.0.len(), CLIENTS_MAX);
        assert!(!failures.admits("further", 1.0) && failures.admits("further", 3.0));
        failures.add("further", 3.0);
        assert_eq!(failures.0.len(), 1);
    }
}
