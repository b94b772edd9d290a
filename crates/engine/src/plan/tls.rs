//! TLS with clients, as a generation has it.

use std::collections::HashMap;
use std::sync::Arc;

use cardinal_ir::{Certificate, Code, Diagnostic, Id, Ir, Origin, Severity};
use cardinal_net::tls::{self, Names, ServerSettings};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;

use super::Registry;

/// TLS of the three kinds of listeners.
pub struct TlsPlan {
    /// HTTP with HTTP/2.
    pub http2: Arc<ServerConfig>,
    /// HTTP without.
    pub http1: Arc<ServerConfig>,
    /// Streams: no ALPN.
    pub stream: Arc<ServerConfig>,
    /// Certificates by name.
    pub names: Arc<Names>,
}

impl TlsPlan {
    /// Reads all certificates. One that cannot be used is left out and said.
    pub(super) fn build(ir: &Ir, registry: &Registry) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let mut names = Names::default();
        names.add("*", &[registry.self_signed().map_err(|error| vec![node_error(error.to_string())])?]);
        let mut usable: HashMap<Id, Vec<Arc<CertifiedKey>>> = HashMap::new();
        for (id, certificate) in ir.certificates.iter() {
            match pairs(certificate) {
                Ok(pairs) => {
                    usable.insert(*id, pairs);
                }
                Err(message) => diagnostics.push(Diagnostic {
                    severity: Severity::Error,
                    code: Code::Certificate,
                    origin: certificate.origin.clone(),
                    path: "cert".to_owned(),
                    message,
                    hint: None,
                }),
            }
        }
        if let Some(pairs) = ir.node.default_certificate.and_then(|id| usable.get(&id)) {
            names.add("*", pairs);
        }
        for (id, certificate) in ir.certificates.iter() {
            if let Some(pairs) = usable.get(id) {
                for name in &certificate.server_names {
                    names.add(name, pairs);
                }
            }
        }
        let (provider, unknown) = tls::provider(&ir.node.cipher_suites);
        for name in unknown {
            diagnostics.push(Diagnostic {
                severity: Severity::Warning,
                ..node_error(format!("cipher suite {name:?} is not offered by this program's TLS library"))
            });
        }
        let names = Arc::new(names);
        let config = |http2: bool, alpn: bool| {
            tls::server_config(ServerSettings {
                provider: Arc::clone(&provider),
                names: Arc::clone(&names),
                http2,
                alpn,
                client_authorities: ir.node.client_authorities.as_deref().map(str::to_owned),
                client_required: ir.node.client_certificate_required,
                tls13_only: ir.node.tls13_only,
                ticketer: registry.ticketer(),
            })
            .map_err(|error| vec![node_error(error.to_string())])
        };
        let plan =
            Self { http2: config(true, true)?, http1: config(false, true)?, stream: config(false, false)?, names };
        Ok((plan, diagnostics))
    }
}

fn pairs(certificate: &Certificate) -> Result<Vec<Arc<CertifiedKey>>, String> {
    let read = |pair: &cardinal_ir::KeyPair| tls::certified_key(&pair.chain, &pair.key).map_err(|e| e.to_string());
    certificate.pairs.iter().map(read).collect()
}

fn node_error(message: String) -> Diagnostic {
    let origin = Origin { kind: "node".into(), ..Origin::default() };
    Diagnostic { severity: Severity::Error, code: Code::Certificate, origin, path: String::new(), message, hint: None }
}
