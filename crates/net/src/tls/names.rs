//! [`Names`]: selects the certificate for a server name.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates by server name.
#[derive(Debug, Default)]
pub struct Names {
    exact: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// `*.x`, by `.x`.
    suffix: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// `x.*`, by `x.`.
    prefix: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

impl Names {
    /// Uses `pairs` (of different key types, preferred first) for a name: exact, `*.x`, `x.*`, or `*` for all others.
    pub fn add(&mut self, name: &str, pairs: &[Arc<CertifiedKey>]) {
        let name = name.to_ascii_lowercase();
        if name == "*" {
            self.default = pairs.to_vec();
        } else if let Some(suffix) = name.strip_prefix('*') {
            self.suffix.insert(suffix.into(), pairs.to_vec());
        } else if let Some(prefix) = name.strip_suffix('*') {
            self.prefix.insert(prefix.into(), pairs.to_vec());
        } else {
            self.exact.insert(name.into(), pairs.to_vec());
        }
    }

    /// The pairs for a server name (as in Kong: exact, then `*.` for the first label, then `.*` for the last, then
    /// default).
    pub fn find(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(name) = name else { return &self.default };
        let lower;
        let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            lower.as_str()
        } else {
            name
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Some(found) = self.exact.get(name) {
            return found;
        }
        let suffix = name.find('.').and_then(|at| self.suffix.get(name.get(at..)?));
        let prefix = || name.rfind('.').and_then(|at| self.prefix.get(name.get(..=at)?));
        suffix.or_else(prefix).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.find(hello.server_name());
        let schemes = hello.signature_schemes();
        pairs.iter().find(|pair| pair.key.choose_scheme(schemes).is_some()).or(pairs.first()).cloned()
    }
}
