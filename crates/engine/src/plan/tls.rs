//! Downstream TLS configuration of a generation.

use std::collections::HashMap;
use std::sync::Arc;

use cardinal_ir::{
    Certificate, Code, Diagnostic, Diagnostics, Id, Ir, NodeCertificate, NodeSettings, Origin, Secrets, Severity,
};
use cardinal_net::tls::{self, Names, ServerSettings, ServerTls};
use rustls::sign::CertifiedKey;

use super::Registry;

/// TLS settings of the three kinds of listeners.
pub struct TlsPlan {
    /// HTTP listeners with HTTP/2.
    pub http2: ServerTls,
    /// HTTP listeners without HTTP/2.
    pub http1: ServerTls,
    /// Stream listeners: no ALPN.
    pub stream: ServerTls,
    /// Certificates by name.
    pub names: Arc<Names>,
    /// Usable certificates, with the records they were read from.
    usable: Arc<HashMap<Id, Usable>>,
    problems: Vec<Diagnostic>,
}

#[derive(Clone)]
struct Usable {
    record: Arc<Certificate>,
    pairs: Vec<Arc<CertifiedKey>>,
}

impl TlsPlan {
    /// The TLS plan of a generation with equal certificates and settings.
    pub(super) fn share(&self) -> Self {
        Self {
            http2: self.http2.clone(),
            http1: self.http1.clone(),
            stream: self.stream.clone(),
            names: Arc::clone(&self.names),
            usable: Arc::clone(&self.usable),
            problems: self.problems.clone(),
        }
    }

    /// Whether requests may be served on a connection with this client verification; `None` is clear text. If clients
    /// are now verified differently, they have to reconnect.
    pub(crate) fn admits(&self, verification: Option<u64>) -> bool {
        verification.is_none_or(|verification| verification == self.http2.verification())
    }

    /// A usable certificate of the generation with its keys.
    pub(super) fn certificate(&self, id: &Id) -> Option<(&Certificate, &[Arc<CertifiedKey>])> {
        self.usable.get(id).map(|usable| (&*usable.record, &*usable.pairs))
    }

    /// The certificates that were left out, with the reasons.
    pub(super) fn diagnostics(&self) -> impl Iterator<Item = Diagnostic> {
        self.problems.iter().cloned()
    }

    /// Reads the certificates that `previous` does not contain. An unusable certificate is left out and reported.
    pub(super) fn build(
        (ir, secrets, node): (&Ir, &Secrets, &NodeSettings),
        registry: &Registry,
        previous: Option<&Self>,
    ) -> Result<Self, Diagnostics> {
        let self_signed = registry.self_signed().map_err(|error| node_error(Code::Certificate, error.to_string()))?;
        let (usable, mut problems) = read(ir, secrets, previous);
        let default = node.default_certificate.as_ref().map(|certificate| (certificate, node_pairs(certificate)));
        let default = match default {
            Some((_, Ok(pairs))) => pairs,
            Some((certificate, Err(message))) => {
                problems.push(error(certificate.origin.clone(), Code::Certificate, "cert", message));
                vec![self_signed]
            }
            None => vec![self_signed],
        };
        let names = Arc::new(by_name(ir, &usable, &default));
        let (provider, unknown) = tls::provider(&node.cipher_suites);
        for name in unknown {
            problems.push(Diagnostic {
                severity: Severity::Warning,
                ..node_error(
                    Code::Certificate,
                    format!("cipher suite {name:?} is not offered by this program's TLS library"),
                )
            });
        }
        let config = |http2: bool, alpn: bool| {
            tls::server_config(ServerSettings {
                provider: Arc::clone(&provider),
                names: Arc::clone(&names),
                http2,
                alpn,
                client_authorities: node.client_authorities.as_deref().map(str::to_owned),
                client_required: node.client_certificate_required,
                tls13_only: node.tls13_only,
                ticketer: registry.ticketer(),
            })
            .map_err(|error| Diagnostics::from(node_error(Code::Certificate, error.to_string())))
        };
        Ok(Self {
            http2: config(true, true)?,
            http1: config(false, true)?,
            stream: config(false, false)?,
            names,
            usable: Arc::new(usable),
            problems,
        })
    }
}

/// The usable certificates, and the problems of the others.
fn read(ir: &Ir, secrets: &Secrets, previous: Option<&TlsPlan>) -> (HashMap<Id, Usable>, Vec<Diagnostic>) {
    let (mut usable, mut problems) = (HashMap::new(), Vec::new());
    for (id, certificate) in ir.certificates.iter() {
        let known = previous.and_then(|previous| previous.usable.get(id));
        if let Some(known) = known.filter(|known| Arc::ptr_eq(&known.record, certificate)) {
            usable.insert(*id, known.clone());
            continue;
        }
        match pairs(certificate, secrets) {
            Ok(pairs) => {
                usable.insert(*id, Usable { record: Arc::clone(certificate), pairs });
            }
            Err((code, path, message)) => problems.push(error(certificate.origin.clone(), code, path, message)),
        }
    }
    (usable, problems)
}

fn by_name(ir: &Ir, usable: &HashMap<Id, Usable>, default: &[Arc<CertifiedKey>]) -> Names {
    let mut names = Names::default();
    names.add("*", default);
    for certificate in ir.certificates.iter().filter_map(|(id, _)| usable.get(id)) {
        for name in &certificate.record.server_names {
            names.add(name, &certificate.pairs);
        }
    }
    names
}

/// The problem of a certificate: the code, the field and a message.
type Problem = (Code, &'static str, String);

fn pairs(certificate: &Certificate, secrets: &Secrets) -> Result<Vec<Arc<CertifiedKey>>, Problem> {
    let read = |pair: &cardinal_ir::KeyPair| {
        let key = secrets.resolve(pair.key).map_err(|error| (Code::Secret, "key", error.to_string()))?;
        tls::certified_key(&pair.chain, key.expose()).map_err(|error| (Code::Certificate, "cert", error.to_string()))
    };
    certificate.pairs.iter().map(read).collect()
}

fn node_pairs(certificate: &NodeCertificate) -> Result<Vec<Arc<CertifiedKey>>, String> {
    let read = |pair: &cardinal_ir::PemPair| tls::certified_key(&pair.chain, &pair.key).map_err(|e| e.to_string());
    certificate.pairs.iter().map(read).collect()
}

pub(super) fn node_error(code: Code, message: String) -> Diagnostic {
    error(Origin::new("", "node", Default::default()), code, "", message)
}

fn error(origin: Origin, code: Code, path: &str, message: String) -> Diagnostic {
    let (severity, path) = (Severity::Error, path.to_owned());
    Diagnostic { severity, code, origin, location: None, path, message, hint: None }
}
