//! Services, to backends.

use std::sync::Arc;

use cardinal_ir::policy::{Retry, RetryCondition, RetryMethods};
use cardinal_ir::{Backend, Code, Host, HttpVersion, Id, L4, Labels, Target, Timeouts, UpstreamTls};

use super::{Lowering, endpoints::canonical, identity::known_certificate};
use crate::declarative::Entity;
use crate::entities::{TAG_UPSTREAM_HTTP2, upgrade_protocols};

impl Lowering<'_> {
    pub(super) fn services(&mut self) {
        self.snapshot.of("services").for_each(|entity| self.service(&entity));
    }

    pub(super) fn service(&mut self, entity: &Entity) {
        if !entity.flag("enabled") || known_certificate(self, "services", entity).is_err() {
            return;
        }
        let trust_bundles: Vec<Id> = entity.texts("ca_certificates").filter_map(|t| t.parse().ok()).collect();
        if let Some(id) = trust_bundles.iter().find(|id| !self.ir.trust_bundles.contains(id)) {
            let message = format!("there is no CA certificate {id}");
            self.refuse("services", entity, Code::Reference, "ca_certificates", message);
            return;
        }
        if let Some(mut backend) = self.backend(entity, trust_bundles) {
            backend.document = self.memory.documents.of("services", entity, &backend);
            self.ir.backends.insert(entity.id, backend);
        }
    }

    fn backend(&mut self, entity: &Entity, trust_bundles: Vec<Id>) -> Option<Backend> {
        let protocol = entity.text("protocol").unwrap_or("http");
        let http2 = entity.texts("tags").any(|t| t == TAG_UPSTREAM_HTTP2);
        let tls = matches!(protocol, "https" | "grpcs" | "tls").then(|| UpstreamTls {
            verify: entity.flag("tls_verify"),
            verify_depth: entity.int("tls_verify_depth").and_then(|n| u8::try_from(n).ok()),
            trust_bundles,
            client_certificate: entity.reference("client_certificate"),
            identity: None,
        });
        let ms = |name: &str| entity.int(name).and_then(|n| u64::try_from(n).ok()).unwrap_or(60_000);
        Some(Backend {
            origin: self.memory.origins.origin("services", entity),
            l4: if protocol == "udp" { L4::Udp } else { L4::Tcp },
            http: match (protocol, http2) {
                ("grpc" | "grpcs", _) | ("http", true) => Some(HttpVersion::H2),
                ("https", true) => Some(HttpVersion::Negotiate),
                ("http" | "https", false) => Some(HttpVersion::H1),
                _ => None,
            },
            grpc: matches!(protocol, "grpc" | "grpcs"),
            tls,
            target: self.target_of(entity)?,
            path: entity.text("path").map(Into::into),
            timeouts: Timeouts {
                connect_ms: ms("connect_timeout"),
                read_ms: ms("read_timeout"),
                write_ms: ms("write_timeout"),
                ..Timeouts::default()
            },
            retry: self.memory.retry(entity.int("retries").and_then(|n| u16::try_from(n).ok()).unwrap_or(5)),
            upgrade_protocols: upgrade_protocols(entity.texts("tags")),
            document: self.memory.no_document.clone(),
        })
    }

    /// The upstream that has the host's name, else the host.
    fn target_of(&mut self, entity: &Entity) -> Option<Target> {
        let host = entity.text("host").unwrap_or_default();
        let port = entity.int("port").and_then(|n| u16::try_from(n).ok()).unwrap_or(80);
        match self.names.upstream(entity.workspace(), host) {
            None => Some(Target::Host(Host { host: canonical(host), port })),
            Some(id) if self.ir.clusters.contains(&id) => Some(Target::Cluster { id, port, subset: Labels::default() }),
            Some(_) => {
                let message = format!("the upstream '{host}' cannot be used");
                self.refuse("services", entity, Code::Reference, "host", message);
                None
            }
        }
    }
}

/// What Kong has nginx do with `retries`: `proxy_next_upstream error timeout`, and non-idempotent requests that may have
/// reached an upstream are not repeated.
pub(super) fn retry(attempts: u16) -> Option<Arc<Retry>> {
    let conditions = vec![
        RetryCondition::ConnectFailure,
        RetryCondition::Reset,
        RetryCondition::RefusedStream,
        RetryCondition::Timeout,
    ];
    let retry = Retry { attempts, conditions, methods: RetryMethods::Idempotent, ..Retry::default() };
    (attempts > 0).then(|| Arc::new(retry))
}
