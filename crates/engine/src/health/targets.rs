//! Health states of addresses for metrics.

use cardinal_balance::State;
use cardinal_ir::{Cluster, Origin};
use cardinal_sdk::TargetHealth;

use crate::plan::Registry;

/// Health of all addresses of all balanced groups, for metrics. A backend with a single host has no group.
pub(crate) fn targets(registry: &Registry) -> Vec<TargetHealth> {
    let mut targets = Vec::new();
    for group in registry.groups() {
        let Some(name) = group_name(&group.spec()) else { continue };
        for member in group.status().members {
            let target: Box<str> = format!("{}:{}", member.host, member.port).into();
            let one = |address: Box<str>, state| TargetHealth {
                upstream: name.clone(),
                target: target.clone(),
                address,
                state: metric_state(state),
            };
            if member.addresses.is_empty() {
                targets.push(one("".into(), State::DnsError));
            }
            targets.extend(member.addresses.iter().map(|a| one(a.address.to_string().into(), a.state)));
        }
    }
    targets.sort_by(|a, b| (&a.upstream, &a.target, &a.address).cmp(&(&b.upstream, &b.target, &b.address)));
    targets
}

/// The name of the user's upstream; `None` for a group that no user created.
pub(crate) fn group_name(spec: &Cluster) -> Option<Box<str>> {
    if spec.origin == Origin::default() {
        return None;
    }
    Some(spec.origin.name.clone().unwrap_or_else(|| spec.origin.id.to_string().into()))
}

/// State names of Kong's metrics.
const fn metric_state(state: State) -> &'static str {
    match state {
        State::Healthy => "healthy",
        State::Unhealthy => "unhealthy",
        State::HealthChecksOff => "healthchecks_off",
        State::DnsError => "dns_error",
    }
}
