//! Tests of the resolver with a scripted client and with real datagrams.

mod scripted;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use cardinal_base::{ManualClock, UnixMillis};
use cardinal_ir::Resolver;
use tokio::runtime::Handle;

use super::{Answer, Dns, DnsError, Lookup};

fn settings() -> Resolver {
    Resolver { hosts_file: "/nonexistent/hosts".into(), stale_ttl_s: 60, ..Resolver::default() }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(UnixMillis(0)))
}

fn dns(settings: &Resolver, clock: &Arc<ManualClock>, wire: impl Lookup) -> Dns {
    Dns::with_lookup(settings, Arc::clone(clock) as _, Handle::current(), Box::new(wire)).unwrap()
}

/// Addresses as text, with `/weight` if an SRV record has one.
fn text(result: &Result<Answer, DnsError>) -> String {
    match result {
        Ok(answer) => {
            let addresses = answer.addresses().map(|a| match a.weight {
                Some(weight) => format!("{}/{weight}", a.addr),
                None => a.addr.to_string(),
            });
            addresses.collect::<Vec<_>>().join(" ")
        }
        Err(error) => error.to_string(),
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Lets runnable tasks run.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
