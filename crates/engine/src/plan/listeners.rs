//! [`Listeners`]: the listeners of a generation, with their TLS settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use cardinal_ir::{
    Capture, Code, Diagnostic, Id, Ir, Listener, ListenerKind, ListenerTls, MutualTls, NodeSettings, Origin, Severity,
    TlsTermination,
};
use cardinal_net::identity::IdentityServer;
use cardinal_net::tls::{self, Names, ServerSettings, ServerTls};

use super::changes::Changes;
use super::identities::policy_of;
use super::{Registry, TlsPlan};

/// The usable listeners of a generation, and the problems of the others.
#[derive(Clone, Default)]
pub(crate) struct Listeners {
    plans: BTreeMap<Id, Arc<ListenerPlan>>,
    problems: BTreeMap<Id, Diagnostic>,
}

/// A listener, ready to accept.
pub(crate) struct ListenerPlan {
    /// The record's id.
    pub(crate) id: Id,
    pub(crate) listener: Arc<Listener>,
    pub(crate) tls: TlsPolicy,
}

/// The TLS policy of a listener.
pub(crate) enum TlsPolicy {
    /// Clear text.
    Clear,
    /// By the node's settings: [`TlsPlan`].
    Node,
    /// With certificates of the generation.
    Certificates(ServerTls),
    /// Mutual TLS by SPIFFE identities.
    Identity {
        server: Arc<IdentityServer>,
        /// Clients may also connect without TLS.
        clear_text: bool,
    },
}

impl TlsPolicy {
    /// Whether requests may still be served on a connection that was accepted with this verification (`None` for clear
    /// text) from a peer with this identity.
    pub(super) fn admits(&self, node: &TlsPlan, verification: Option<u64>, peer: Option<&str>) -> bool {
        match (self, verification) {
            (Self::Clear, verification) => verification.is_none(),
            (Self::Node, verification) => verification == Some(node.http2.verification()),
            (Self::Certificates(tls), verification) => verification == Some(tls.verification()),
            (Self::Identity { clear_text, .. }, None) => *clear_text,
            (Self::Identity { server, .. }, Some(own)) => {
                own == own_identity(server) && peer.is_some_and(|peer| server.policy().allows_verified(peer))
            }
        }
    }
}

impl TlsPolicy {
    /// Whether a peer with this verified identity (`None` without one) would be accepted now.
    pub(super) fn allows(&self, peer: Option<&str>) -> bool {
        match (self, peer) {
            (Self::Identity { server, .. }, Some(peer)) => server.accepts(peer),
            (Self::Identity { clear_text, .. }, None) => *clear_text,
            // Connections without peer identity are checked by `Listeners::admits`, at each request.
            (Self::Clear | Self::Node | Self::Certificates(_), _) => true,
        }
    }
}

/// The verification number of connections with this TLS policy, see [`Listeners::admits`].
pub(crate) fn own_identity(server: &IdentityServer) -> u64 {
    server.policy().identity().as_u64_pair().0
}

/// The input for planning listeners.
pub(super) struct ListenersCx<'x> {
    pub(super) ir: &'x Ir,
    pub(super) node: &'x NodeSettings,
    pub(super) tls: &'x TlsPlan,
    pub(super) registry: &'x Registry,
    pub(super) changes: &'x Changes,
}

impl Listeners {
    /// Plans the listeners of a generation. A listener whose settings cannot be used is left out and reported.
    pub(super) fn build(cx: &ListenersCx<'_>, previous: Option<&Self>) -> Self {
        let mut next = previous.cloned().unwrap_or_default();
        let tls_changed = cx.changes.touches_tls();
        let changed = |id: &Id| cx.changes.delta.listeners.iter().any(|change| change.id == *id);
        next.plans.retain(|id, _| cx.ir.listeners.contains(id));
        next.problems.retain(|id, _| cx.ir.listeners.contains(id));
        for (id, listener) in cx.ir.listeners.iter() {
            let is_known = next.plans.contains_key(id) || next.problems.contains_key(id);
            if is_known && !changed(id) && !(tls_changed && listener.tls.is_some()) {
                continue;
            }
            next.plans.remove(id);
            next.problems.remove(id);
            match check(listener).and_then(|()| cx.tls_policy(listener)) {
                Ok(tls) => {
                    let plan = ListenerPlan { id: *id, listener: Arc::clone(listener), tls };
                    next.plans.insert(*id, Arc::new(plan));
                }
                Err((path, message)) => {
                    next.problems.insert(*id, unusable(listener.origin.clone(), path, message));
                }
            }
        }
        next
    }

    pub(super) fn diagnostics(&self) -> impl Iterator<Item = Diagnostic> {
        self.problems.values().cloned()
    }

    pub(crate) fn get(&self, id: &Id) -> Option<&Arc<ListenerPlan>> {
        self.plans.get(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<ListenerPlan>> {
        self.plans.values()
    }

    /// Calls [`TlsPolicy::admits`]. Connections of a listener that was removed, moved, or assigned to other routes are
    /// not admitted.
    pub(super) fn admits(
        &self,
        (id, was): (&Id, &Arc<Listener>),
        node: &TlsPlan,
        verification: Option<u64>,
        peer: Option<&str>,
    ) -> bool {
        let is_same =
            |now: &Arc<Listener>| Arc::ptr_eq(now, was) || (now.group == was.group && is_same_socket(was, now));
        self.plans.get(id).is_some_and(|plan| is_same(&plan.listener) && plan.tls.admits(node, verification, peer))
    }
}

/// The problem of a listener: the field and a message.
type Problem = (&'static str, String);

fn check(listener: &Listener) -> Result<(), Problem> {
    let refuse = |path, message: &str| Err((path, message.to_owned()));
    match listener.kind {
        ListenerKind::Status => refuse("kind", "the status listener is opened by the settings of the node"),
        ListenerKind::Udp if listener.tls.is_some() => refuse("tls", "datagrams have no TLS"),
        ListenerKind::Udp if listener.proxy_protocol => refuse("proxy_protocol", "datagrams have no PROXY header"),
        ListenerKind::Udp if listener.capture != cardinal_ir::Capture::Direct => {
            refuse("capture", "datagrams are not captured")
        }
        _ => Ok(()),
    }
}

impl ListenersCx<'_> {
    fn tls_policy(&self, listener: &Listener) -> Result<TlsPolicy, Problem> {
        match &listener.tls {
            None => Ok(TlsPolicy::Clear),
            Some(ListenerTls::Node) => Ok(TlsPolicy::Node),
            Some(ListenerTls::Certificates(spec)) => self.certificates(listener, spec).map(TlsPolicy::Certificates),
            Some(ListenerTls::Identity(spec)) => self.identity(listener, spec),
        }
    }

    fn certificates(&self, listener: &Listener, spec: &TlsTermination) -> Result<ServerTls, Problem> {
        let mut names = Names::default();
        for (number, id) in spec.certificates.iter().enumerate() {
            let unusable = || ("tls.certificates", format!("certificate {id} cannot be used"));
            let (certificate, pairs) = self.tls.certificate(id).ok_or_else(unusable)?;
            if number == 0 {
                names.add("*", pairs);
            }
            for name in &certificate.server_names {
                names.add(name, pairs);
            }
        }
        if spec.certificates.is_empty() {
            return Err(("tls.certificates", "a listener with TLS needs a certificate".to_owned()));
        }
        let bundle = |id: &Id| {
            let missing = || ("tls.client_trust_bundles", format!("references unknown id {id}"));
            self.ir.trust_bundles.get(id).map(|bundle| &*bundle.certificate).ok_or_else(missing)
        };
        let authorities: Vec<&str> = spec.client_trust_bundles.iter().map(bundle).collect::<Result<_, _>>()?;
        if spec.client_required && authorities.is_empty() {
            let message = "clients that must have a certificate need authorities to be verified by";
            return Err(("tls.client_trust_bundles", message.to_owned()));
        }
        tls::server_config(ServerSettings {
            provider: tls::provider(&self.node.cipher_suites).0,
            names: Arc::new(names),
            http2: listener.http2,
            alpn: listener.kind != ListenerKind::Stream,
            client_authorities: (!authorities.is_empty()).then(|| authorities.join("\n")),
            client_required: spec.client_required,
            tls13_only: spec.tls13_only,
            ticketer: self.registry.ticketer(),
        })
        .map_err(|error| ("tls", error.to_string()))
    }

    fn identity(&self, listener: &Listener, spec: &MutualTls) -> Result<TlsPolicy, Problem> {
        let alpn: &[&[u8]] = match (listener.kind, listener.http2) {
            (ListenerKind::Stream, _) => &[],
            (_, true) => &[b"h2", b"http/1.1"],
            (_, false) => &[b"http/1.1"],
        };
        let policy = policy_of(spec).map_err(|message| ("tls.peers", message))?.with_alpn(alpn);
        let server = self.registry.identities().server(&policy).map_err(|error| ("tls", error.to_string()))?;
        Ok(TlsPolicy::Identity { server, clear_text: spec.clear_text })
    }
}

fn unusable(origin: Origin, path: &str, message: String) -> Diagnostic {
    let (severity, code, path) = (Severity::Error, Code::Listener, path.to_owned());
    Diagnostic { severity, code, origin, location: None, path, message, hint: None }
}

/// Whether both listeners can use the same socket. For datagrams, sessions identify the listener by its socket.
pub(crate) fn is_same_socket(old: &Listener, new: &Listener) -> bool {
    let socket = |listener: &Listener| {
        let Listener { address, kind, capture, backlog, group, mapped_port, .. } = *listener;
        let of_datagrams = (kind == ListenerKind::Udp).then_some((group, mapped_port));
        (address, kind == ListenerKind::Udp, capture == Capture::Transparent, backlog, of_datagrams)
    };
    socket(old) == socket(new)
}
