//! Health checks: runs the probes that balanced groups ask for, tells of what changed, and lists states for metrics.
//!
//! Which address is probed when, and what a result means, the groups decide; here is the I/O.

mod grpc;
mod probe;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cardinal_balance::health::Signal;
use cardinal_balance::{Event, Group, Observed, Probe, ProbeOutcome, State};
use cardinal_base::{Tick, task};
use cardinal_ir::{Cluster, Id, Origin};
use cardinal_net::tls::{ClientSettings, TlsError, client_config};
use cardinal_sdk::TargetHealth;
use rustls::ClientConfig;

use crate::http::target_text;
use crate::node::Node;
use crate::plan::{Plan, Registry, client_pair};

/// Groups are looked at this often at least: those of a new generation may want probes at once.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// And this often at most.
const LOOK_PERIOD_MIN: Duration = Duration::from_millis(5);

/// Health of all addresses of all balanced groups, for metrics. A backend that names one host has no group.
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

/// What users call the group; `None` for one that no user made.
pub(crate) fn group_name(spec: &Cluster) -> Option<Box<str>> {
    if spec.origin == Origin::default() {
        return None;
    }
    Some(spec.origin.name.clone().unwrap_or_else(|| spec.origin.id.to_string().into()))
}

/// As Kong's metrics spell it.
const fn metric_state(state: State) -> &'static str {
    match state {
        State::Healthy => "healthy",
        State::Unhealthy => "unhealthy",
        State::HealthChecksOff => "healthchecks_off",
        State::DnsError => "dns_error",
    }
}

/// Runs probes for as long as the task lives. Probes under way end by themselves.
pub(crate) async fn run_probes(node: Arc<Node>) {
    let prober = Arc::new(Prober { node, configs: Mutex::default() });
    loop {
        let now = prober.now();
        let next = prober.look(now);
        let wait = next.map_or(LOOK_PERIOD, |next| next.since(now));
        prober.node.services.clock.sleep(wait.clamp(LOOK_PERIOD_MIN, LOOK_PERIOD)).await;
    }
}

/// What probes have in common.
struct Prober {
    node: Arc<Node>,
    configs: Mutex<Configs>,
}

/// TLS settings of one generation.
#[derive(Default)]
struct Configs {
    generation: u64,
    made: HashMap<ConfigKey, Option<Arc<ClientConfig>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ConfigKey {
    verify: bool,
    http2: bool,
    /// The certificate to show.
    client: Option<Id>,
}

impl Prober {
    fn now(&self) -> Tick {
        self.node.services.clock.tick()
    }

    /// Starts all probes that are due, and says when to look again.
    fn look(self: &Arc<Self>, now: Tick) -> Option<Tick> {
        let mut next = None;
        for group in self.node.shared.registry.groups() {
            self.start(&group, now);
            next = next.into_iter().chain(group.next_due(now)).min();
        }
        next
    }

    /// Starts the probes of a group that are due, and tells of what changed in it.
    fn start(self: &Arc<Self>, group: &Arc<Group>, now: Tick) {
        group.evaluate(now);
        for event in group.take_events() {
            tell(group, &event);
        }
        for probe in group.due(now) {
            let (prober, group) = (Arc::clone(self), Arc::clone(group));
            // Nobody waits for it: its result goes to the group.
            drop(task::spawn("health probe", async move {
                let (outcome, detail) = probe::run(&prober, &probe).await;
                let detail = detail.as_deref().unwrap_or_default();
                tracing::debug!(host = %probe.host, address = %probe.address, ?outcome, detail, "health probe");
                let shown = (!detail.is_empty()).then_some(&detail as &dyn std::fmt::Display);
                group.probe_result_with(probe.key, outcome, shown, prober.now());
                // Its place is free for one that waits.
                prober.start(&group, prober.now());
            }));
        }
    }

    /// TLS for a probe; otherwise what comes of a probe without it. Settings that cannot be used are logged once a
    /// generation.
    fn tls(&self, probe: &Probe, http2: bool) -> Result<Arc<ClientConfig>, ProbeOutcome> {
        let plan = self.node.plan().ok_or(ProbeOutcome::NotRun)?;
        let settings = &probe.settings;
        let key = ConfigKey { verify: settings.health.active.verify, http2, client: settings.client_certificate };
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if configs.generation != plan.generation {
            *configs = Configs { generation: plan.generation, made: HashMap::new() };
        }
        let make = || {
            client_settings(&plan, key).and_then(|settings| client_config(&settings)).inspect_err(|error| {
                let group = group_name(settings).unwrap_or_default();
                tracing::warn!(upstream = %group, %error, "health probes cannot use TLS");
            })
        };
        if let Some(made) = configs.made.get(&key) {
            return made.clone().ok_or(ProbeOutcome::TcpFailure);
        }
        match make() {
            Err(error) if error.is_transient() => Err(ProbeOutcome::NotRun),
            made => configs.made.entry(key).or_insert(made.ok()).clone().ok_or(ProbeOutcome::TcpFailure),
        }
    }
}

fn client_settings(plan: &Plan, key: ConfigKey) -> Result<ClientSettings, TlsError> {
    let client = key.client.map(|id| client_pair(&plan.ir, plan.secrets(), id)).transpose()?;
    let alpn: &[u8] = if key.http2 { b"h2" } else { b"http/1.1" };
    Ok(ClientSettings {
        verify: key.verify,
        authorities: plan.node.upstream_authorities.as_deref().map(str::to_owned),
        client,
        alpn: vec![alpn.to_vec()],
        ..ClientSettings::default()
    })
}

fn tell(group: &Group, event: &Event) {
    let Some(name) = group_name(&group.spec()) else { return };
    match event {
        Event::Address { host, address, healthy, cause, observed, .. } => {
            let target = target_text(host, *address);
            let reason = observed.as_ref().map_or_else(|| "set by hand".to_owned(), |seen| reason(seen, cause));
            if *healthy {
                tracing::info!(upstream = %name, target, cause, reason, "target {target} of upstream {name} is healthy: {reason}");
            } else {
                tracing::warn!(upstream = %name, target, cause, reason, "target {target} of upstream {name} is unhealthy: {reason}");
            }
        }
        Event::Name { host, port, failure: Some(reason) } => {
            let target = format!("{host}:{port}");
            tracing::warn!(upstream = %name, target, reason = %reason, "target {target} of upstream {name} cannot be resolved: {reason}");
        }
        Event::Name { host, port, failure: None } => {
            let target = format!("{host}:{port}");
            tracing::info!(upstream = %name, target, "target {target} of upstream {name} resolves again");
        }
        Event::Ejected { host, address, detector, lasts, detail, .. } => {
            let (target, detector, lasts_ms) = (target_text(host, *address), detector.label(), lasts.as_millis());
            let reason = detail.as_deref().map_or_else(String::new, |detail| format!(": {detail}"));
            tracing::warn!(upstream = %name, target, detector, lasts_ms, "target {target} of upstream {name} is ejected for {lasts_ms} ms by the detector {detector}{reason}");
        }
        Event::Returned { host, address, .. } => {
            let target = target_text(host, *address);
            tracing::info!(upstream = %name, target, "target {target} of upstream {name} is no longer ejected");
        }
        Event::Panic { panics: true } => {
            tracing::warn!(upstream = %name, "upstream {name} has too few available targets: all are used, healthy or not");
        }
        Event::Panic { panics: false } => {
            tracing::info!(upstream = %name, "upstream {name} has enough available targets again");
        }
        Event::Group { healthy: true } => tracing::info!(upstream = %name, "upstream {name} has healthy targets"),
        Event::Group { healthy: false } => tracing::warn!(upstream = %name, "upstream {name} has no healthy targets"),
    }
}

/// What changed a verdict, in words: `3 connection failures (traffic): ...`.
fn reason(observed: &Observed, cause: &str) -> String {
    let (one, many) = match observed.signal {
        Signal::Success => ("success", "successes"),
        Signal::Http => ("HTTP failure", "HTTP failures"),
        Signal::Tcp => ("connection failure", "connection failures"),
        Signal::Timeout => ("timeout", "timeouts"),
    };
    let what = if observed.count == 1 { one } else { many };
    let last = match (observed.signal, observed.status) {
        (_, Some(status)) => format!(", the last with status {status}"),
        (Signal::Http, None) => ", the last with an invalid response".to_owned(),
        (Signal::Success | Signal::Tcp | Signal::Timeout, None) => String::new(),
    };
    let place = if cause == "probe" { "active checks" } else { "traffic" };
    let detail = observed.detail.as_deref().map_or_else(String::new, |detail| format!(": {detail}"));
    format!("{} {what}{last} ({place}){detail}", observed.count)
}

#[cfg(test)]
pub(crate) mod tests;
