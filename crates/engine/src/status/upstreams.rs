//! The status page `/status/upstreams` and the metrics of balanced groups.

use cardinal_balance::{AddressStatus, EjectionCounts, Group, GroupStatus, LimitStatus, MemberStatus};
use cardinal_base::Tick;
use cardinal_base::metrics::MetricText;
use serde_json::{Map, Value, json};

use crate::health::group_name;
use crate::node::Node;

/// Groups of the users' clusters, by name.
fn groups(node: &Node) -> Vec<(Box<str>, GroupStatus)> {
    let named = |group: &std::sync::Arc<Group>| Some((group_name(&group.spec())?, group.status()));
    let mut groups: Vec<_> = node.shared.registry.groups().iter().filter_map(named).collect();
    groups.sort_by(|(a, one), (b, other)| (a, one.id).cmp(&(b, other.id)));
    groups
}

/// The page: each upstream with its targets, their health and ejections, and its limits.
pub(super) fn page(node: &Node) -> Value {
    let now = node.services.clock.tick();
    let upstreams: Vec<Value> = groups(node).iter().map(|(name, status)| upstream(name, status, now)).collect();
    json!({ "upstreams": upstreams })
}

fn upstream(name: &str, status: &GroupStatus, now: Tick) -> Value {
    let mut shown = json!({
        "name": name,
        "health": status.state.as_str(),
        "serves": status.serves,
        "panics": status.panics,
        "targets": status.members.iter().map(|member| target(member, now)).collect::<Vec<_>>(),
    });
    if let (Some(counts), Some(shown)) = (&status.ejections, shown.as_object_mut()) {
        shown.insert("ejections".to_owned(), ejections(counts));
    }
    if let (false, Some(shown)) = (status.limits.is_empty(), shown.as_object_mut()) {
        let limits = status.limits.iter().map(|limit| (limit.kind.label().to_owned(), self::limit(limit)));
        shown.insert("limits".to_owned(), Value::Object(limits.collect()));
    }
    shown
}

fn ejections(counts: &EjectionCounts) -> Value {
    let made: Map<String, Value> =
        counts.made.iter().map(|(detector, made)| (detector.label().to_owned(), (*made).into())).collect();
    json!({ "active": counts.active, "prevented": counts.prevented, "made": made })
}

fn limit(limit: &LimitStatus) -> Value {
    json!({ "max": limit.max, "used": limit.used, "rejected": limit.rejected })
}

fn target(member: &MemberStatus, now: Tick) -> Value {
    let mut shown = json!({
        "target": format!("{}:{}", member.host, member.port),
        "health": member.state.as_str(),
        "weight": member.node_weight,
        "priority": member.priority,
        "addresses": member.addresses.iter().map(|shown| address(shown, now)).collect::<Vec<_>>(),
    });
    let Some(fields) = shown.as_object_mut() else { return shown };
    let locality = member.place.locality.to_string();
    if !locality.is_empty() {
        fields.insert("locality".to_owned(), locality.into());
    }
    if !member.place.labels.is_empty() {
        let labels = member.place.labels.iter().map(|(key, value)| (key.to_owned(), value.into()));
        fields.insert("labels".to_owned(), Value::Object(labels.collect()));
    }
    shown
}

fn address(address: &AddressStatus, now: Tick) -> Value {
    let mut shown = json!({ "address": address.address.to_string(), "health": address.state.as_str() });
    if let (Some(ejection), Some(shown)) = (address.ejection, shown.as_object_mut()) {
        let (detector, left_ms) = (ejection.detector.label(), ejection.until.millis_since(now));
        let ejection = json!({ "detector": detector, "left_ms": left_ms, "times": ejection.times });
        shown.insert("ejection".to_owned(), ejection);
    }
    shown
}

/// Metrics of groups that have circuit breakers or outlier detection. Other groups add nothing.
pub(super) fn metrics(node: &Node, text: &mut MetricText) {
    let groups = groups(node);
    let ejecting: Vec<_> = groups.iter().filter_map(|(name, s)| Some((&**name, s.ejections.as_deref()?))).collect();
    if !ejecting.is_empty() {
        text.head("upstream_ejections_total", "counter", "Ejections of targets, by upstream and detector.");
        for (name, counts) in &ejecting {
            for (detector, made) in &counts.made {
                let labels = [("upstream", *name), ("detector", detector.label())];
                text.line("upstream_ejections_total", &labels, made);
            }
        }
        text.head("upstream_ejections_active", "gauge", "Targets that are ejected now, by upstream.");
        for (name, counts) in &ejecting {
            text.line("upstream_ejections_active", &[("upstream", name)], counts.active);
        }
        let help = "Ejections that max_ejection_percent prevented, by upstream.";
        text.head("upstream_ejections_prevented_total", "counter", help);
        for (name, counts) in &ejecting {
            text.line("upstream_ejections_prevented_total", &[("upstream", name)], counts.prevented);
        }
    }
    let limited: Vec<_> = groups.iter().flat_map(|(name, s)| s.limits.iter().map(move |l| (&**name, l))).collect();
    if !limited.is_empty() {
        text.head("upstream_limit_used", "gauge", "What is used of the limits of upstreams, by upstream and limit.");
        for (name, limit) in &limited {
            text.line("upstream_limit_used", &[("upstream", name), ("limit", limit.kind.label())], limit.used);
        }
        let help = "Requests, retries and sessions that a limit of an upstream rejected, by upstream and limit.";
        text.head("upstream_limit_rejected_total", "counter", help);
        for (name, limit) in &limited {
            let labels = [("upstream", *name), ("limit", limit.kind.label())];
            text.line("upstream_limit_rejected_total", &labels, limit.rejected);
        }
    }
    let panicking: Vec<_> = groups.iter().filter(|(_, status)| status.panics).collect();
    if !panicking.is_empty() {
        let help = "Upstreams that use all targets because too few are available.";
        text.head("upstream_panics", "gauge", help);
        panicking.iter().for_each(|(name, _)| text.line("upstream_panics", &[("upstream", name)], 1));
    }
}
