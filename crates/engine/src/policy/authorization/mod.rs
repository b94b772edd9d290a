//! Authorization: which clients may connect, and which requests they may send. See [`Authorization`].

mod requests;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cardinal_http::{HeaderList, RequestHead};
use cardinal_ir::policy::{AccessAction, AccessRule, Authorization, GroupSource, Refusal, RefusalMessage};
use cardinal_sdk::{
    Admit, BuildError, ConnectCx, CredentialRef, Directory, Exchange, Filter, Flow, HeadCx, Identity, Phases, Reply,
    Services,
};

use super::building::{PolicyCx, final_status};
use super::clients::Groups;
use super::{Clients, Event, PolicyCounts};
use requests::Requests;

/// A compiled authorization.
pub(super) struct Access {
    rules: Box<[Rule]>,
    allow_by_default: bool,
    shadow: bool,
    refusal: Refusal,
    unidentified_refusal: Option<Refusal>,
    groups: Option<Box<GroupSource>>,
    counts: Arc<PolicyCounts>,
    label: String,
    /// The second of the last logged shadow denial: at most one line per second is logged.
    logged: AtomicU64,
}

struct Rule {
    action: AccessAction,
    clients: Clients,
    server_names: Box<[Box<str>]>,
    requests: Requests,
}

/// The request to authorize; `None` for a connection.
type Asked<'x> = Option<(&'x RequestHead, &'x [u8])>;

/// The result of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decision {
    allowed: bool,
    /// A rule in shadow mode would have denied the request.
    shadow_denied: bool,
}

impl Access {
    pub(super) fn build(spec: &Authorization, cx: &PolicyCx<'_>) -> Result<Self, BuildError> {
        final_status("spec.refusal.status", spec.refusal.status)?;
        if let Some(refusal) = &spec.unidentified_refusal {
            final_status("spec.unidentified_refusal.status", refusal.status)?;
        }
        Ok(Self {
            rules: spec.rules.iter().map(Rule::new).collect(),
            allow_by_default: spec.allow_by_default,
            shadow: spec.shadow,
            refusal: spec.refusal.clone(),
            unidentified_refusal: spec.unidentified_refusal.clone(),
            groups: spec.groups.clone(),
            counts: cx.services.shared.get_or_insert(PolicyCounts::KEY, PolicyCounts::default),
            label: cx.label.clone(),
            logged: AtomicU64::new(0),
        })
    }

    /// Evaluates the rules: the first rule that matches and allows or denies is decisive.
    fn decide(&self, exchange: &Exchange, groups: Option<Groups<'_>>, asked: Asked<'_>) -> Decision {
        let mut shadow_denied = false;
        for rule in &self.rules {
            if !rule.matches(exchange, groups, asked) {
                continue;
            }
            match rule.action {
                AccessAction::Allow => return Decision { allowed: true, shadow_denied },
                AccessAction::Deny => return Decision { allowed: false, shadow_denied },
                AccessAction::ShadowDeny => shadow_denied = true,
            }
        }
        Decision { allowed: self.allow_by_default, shadow_denied }
    }

    /// Counts and logs a decision; returns whether the client is allowed.
    fn enforce(&self, decision: Decision, exchange: &Exchange, services: &Services) -> bool {
        let would_deny = decision.shadow_denied || (self.shadow && !decision.allowed);
        let passes = decision.allowed || self.shadow;
        if would_deny {
            self.counts.add(Event::ShadowDenied);
            let now = services.clock.unix().seconds();
            if self.logged.swap(now, Ordering::Relaxed) != now {
                let (policy, client) = (&*self.label, exchange.client.ip);
                let identity = exchange.client.peer_identity.as_deref().unwrap_or_default();
                tracing::info!(policy, %client, identity, "would be denied (shadow mode)");
            }
        }
        self.counts.add(if passes { Event::Allowed } else { Event::Denied });
        if !passes {
            tracing::debug!(policy = &*self.label, client = %exchange.client.ip, "denied");
        }
        passes
    }

    fn refuse(&self, exchange: &Exchange, groups: Option<Groups<'_>>) -> Reply {
        let is_known = exchange.identity.is_authenticated() || groups.is_some_and(Groups::are_known);
        let refusal = self.unidentified_refusal.as_ref().filter(|_| !is_known).unwrap_or(&self.refusal);
        Reply::error(refusal.status, text(&refusal.message, exchange.client.ip))
    }
}

fn text(message: &RefusalMessage, client: IpAddr) -> Cow<'static, str> {
    match message {
        RefusalMessage::Text(text) => text.to_string().into(),
        RefusalMessage::WithClientAddress(text) => format!("{text}{}", client.to_canonical()).into(),
    }
}

impl Rule {
    fn new(spec: &AccessRule) -> Self {
        Self {
            action: spec.action,
            clients: Clients::new(&spec.clients),
            server_names: spec.server_names.iter().map(|name| name.to_ascii_lowercase().into()).collect(),
            requests: Requests::new(&spec.requests),
        }
    }

    fn matches(&self, exchange: &Exchange, groups: Option<Groups<'_>>, asked: Asked<'_>) -> bool {
        let is_named = |name: &str| self.server_names.iter().any(|known| **known == *name);
        self.clients.contain(exchange, groups)
            && (self.server_names.is_empty() || exchange.client.server_name().is_some_and(is_named))
            && match asked {
                Some((request, path)) => self.requests.contain(request, path),
                // A condition that cannot be evaluated must not allow access.
                None => self.requests.is_empty() || self.action != AccessAction::Allow,
            }
    }
}

impl Filter for Access {
    fn phases(&self) -> Phases {
        Phases::REQUEST.and(Phases::CONNECT)
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        let source = self.groups.as_deref();
        if let Some(source) = source {
            // Group headers of the client are ignored.
            cx.request.headers.remove_spellings(&[source.own_header.as_bytes(), source.vouched_header.as_bytes()]);
        }
        let groups = source.and_then(|source| groups(source, &cx.exchange.identity, cx.directory));
        let decision = self.decide(cx.exchange, groups, Some((cx.request, cx.path)));
        if !self.enforce(decision, cx.exchange, cx.services) {
            return Flow::reply(self.refuse(cx.exchange, groups));
        }
        if let (Some(source), Some(groups)) = (source.filter(|source| source.send_headers), groups) {
            write_names(&mut cx.request.headers, source, groups);
        }
        Flow::Continue
    }

    fn on_connect(&self, cx: &mut ConnectCx<'_>) -> Admit {
        let decision = self.decide(cx.exchange, None, None);
        if self.enforce(decision, cx.exchange, cx.services) { Admit::Yes } else { Admit::No }
    }
}

/// The groups by which a request is authorized; `None` if the client is not authenticated.
fn groups<'g>(source: &GroupSource, identity: &'g Identity, directory: &'g Directory) -> Option<Groups<'g>> {
    let vouched = identity.authenticated_groups.as_deref().map(Groups::Vouched);
    let principal = identity.principal.as_ref().map(|principal| principal.id);
    let Some(id) = principal.or(identity.credential.as_ref().and_then(CredentialRef::principal)) else {
        return vouched;
    };
    if vouched.is_some() && (source.vouched_first || !identity.is_authenticated()) {
        return vouched;
    }
    let own = directory.attached(&source.credential_kind, &id);
    let entry = if source.principal_groups { directory.principal(&id) } else { None };
    Some(Groups::Own(own, entry.map_or(&[][..], |entry| &entry.group_names)))
}

/// Sets the header that informs the upstream of the groups. A single group needs no allocation.
fn write_names(headers: &mut HeaderList, source: &GroupSource, groups: Groups<'_>) {
    let header = match groups {
        Groups::Vouched(_) => &source.vouched_header,
        Groups::Own(..) => &source.own_header,
    };
    let mut names = groups.names();
    let (first, second) = (names.next().unwrap_or_default(), names.next());
    let Some(second) = second else {
        headers.set(header.as_bytes(), first.as_bytes());
        return;
    };
    let mut text = [first, second].join(", ");
    for name in names {
        text.push_str(", ");
        text.push_str(name);
    }
    headers.set(header.as_bytes(), text.as_bytes());
}

#[cfg(test)]
mod tests;
