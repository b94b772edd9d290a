//! [`Strangers`]: connections that have not shown a certificate yet.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Bounds the connections without a certificate, altogether and of one address, so that they take nothing from data planes that
/// have one.
#[derive(Debug)]
pub(crate) struct Strangers {
    max: usize,
    of_address_max: usize,
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of a connection; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Stranger {
    of: Arc<Strangers>,
    address: IpAddr,
}

impl Strangers {
    pub(crate) fn new(max: usize, of_address_max: usize) -> Self {
        Self { max, of_address_max, held: Mutex::default() }
    }

    /// A place for a connection of this address, if there is one.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Stranger> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.values().sum::<usize>() >= self.max {
            return None;
        }
        let own = held.entry(address).or_default();
        if *own >= self.of_address_max {
            return None;
        }
        *own += 1;
        Some(Stranger { of: Arc::clone(self), address })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut held = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = held.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_does_not_take_the_places_of_others() {
        let strangers = Arc::new(Strangers::new(3, 2));
        let admit = |last: u8| strangers.admit(IpAddr::from([10, 0, 0, last]));
        let (first, second) = (admit(1), admit(1));
        assert!(first.is_some() && second.is_some() && admit(1).is_none(), "two of an address");
        let third = admit(2);
        assert!(third.is_some() && admit(3).is_none(), "three altogether");
        drop((first, third));
        assert!(admit(1).is_some());
        drop(second);
        assert!(strangers.held.lock().unwrap().is_empty(), "nothing is kept about addresses");
    }
}
