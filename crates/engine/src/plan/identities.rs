//! Loads identities and trust bundles of a generation into the node's identity store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cardinal_ir::{
    Code, Delta, Diagnostic, Id, Identity, Ir, MutualTls, Origin, PeerMatch, Secrets, Severity, TrustBundle,
};
use cardinal_net::identity::{IdentityPolicy, IdentityStore, PeerRule};
use cardinal_pki::{self as pki, SpiffeId, TrustDomain, X509Svid};

use super::changes::Changes;

/// Problems of identities and trust bundles, by their ids.
pub(super) type Problems = BTreeMap<Id, Diagnostic>;

/// Prepared changes of the store. Unusable entries are left out and reported; the store then lacks the identity or
/// trust domain, so that handshakes with it fail.
#[derive(Default)]
pub(super) struct Prepared {
    /// Identities to set; `None` removes one.
    identities: Vec<(Id, Option<X509Svid>)>,
    set: Vec<pki::TrustBundle>,
    removed: Vec<TrustDomain>,
}

impl Prepared {
    /// Prepares the changes of the store.
    pub(super) fn new((ir, secrets): (&Ir, &Secrets), changes: &Changes, problems: &mut Problems) -> Self {
        let mut prepared = Self::default();
        prepared.identities(&changes.delta.identities, secrets, problems);
        prepared.bundles(ir, &changes.delta.trust_bundles, problems);
        prepared
    }

    fn identities(&mut self, changes: &Delta<Identity>, secrets: &Secrets, problems: &mut Problems) {
        for change in changes {
            problems.remove(&change.id);
            let had_pair = change.old.as_ref().is_some_and(|old| old.pair.is_some());
            let svid = change.new.as_ref().map(|new| read(new, secrets)).transpose();
            match svid {
                Ok(Some(Some(svid))) => self.identities.push((change.id, Some(svid))),
                // The issuer of its certificates has set them, or will.
                Ok(Some(None)) if !had_pair => {}
                Ok(_) => self.identities.push((change.id, None)),
                Err((code, path, message)) => {
                    self.identities.push((change.id, None));
                    let origin = change.new.as_ref().map(|new| new.origin.clone()).unwrap_or_default();
                    problems.insert(change.id, Diagnostic { code, ..unusable(origin, path, message) });
                }
            }
        }
    }

    fn bundles(&mut self, ir: &Ir, changes: &Delta<TrustBundle>, problems: &mut Problems) {
        let domain_of = |bundle: &Arc<TrustBundle>| bundle.trust_domain.clone();
        let mut touched = BTreeSet::new();
        for change in changes {
            problems.remove(&change.id);
            touched.extend(change.old.iter().chain(&change.new).filter_map(domain_of));
        }
        // If several records name one domain, one of them is used; the choice must not depend on the order of changes.
        for name in touched {
            let mut of_domain =
                ir.trust_bundles.iter().filter(|(_, bundle)| bundle.trust_domain.as_ref() == Some(&name));
            let first = of_domain.next();
            for (id, bundle) in of_domain {
                let message = format!("trust domain {name} has another trust bundle");
                problems.insert(*id, unusable(bundle.origin.clone(), "trust_domain", message));
            }
            let domain = match TrustDomain::parse(&name) {
                Ok(domain) => domain,
                Err(error) => {
                    if let Some((id, bundle)) = first {
                        problems.insert(*id, unusable(bundle.origin.clone(), "trust_domain", error.to_string()));
                    }
                    continue;
                }
            };
            let Some((id, bundle)) = first else {
                self.removed.push(domain);
                continue;
            };
            match pki::TrustBundle::from_pem(domain.clone(), &bundle.certificate) {
                Ok(read) => {
                    problems.remove(id);
                    self.set.push(read);
                }
                Err(error) => {
                    self.removed.push(domain);
                    problems.insert(*id, unusable(bundle.origin.clone(), "certificate", error.to_string()));
                }
            }
        }
    }

    /// Applies all changes atomically.
    pub(super) fn store(self, store: &IdentityStore, problems: &mut Problems, ir: &Ir) {
        let Self { identities, set, removed } = self;
        if identities.is_empty() && set.is_empty() && removed.is_empty() {
            return;
        }
        let Ok(()) = store.update::<std::convert::Infallible>(|update| {
            removed.iter().for_each(|domain| update.remove_bundle(domain));
            set.into_iter().for_each(|bundle| update.set_bundle(bundle));
            for (id, svid) in &identities {
                update.remove_identity(*id);
                let Some(svid) = svid else { continue };
                if let Err(error) = update.set_identity(*id, svid) {
                    let origin = ir.identities.get(id).map(|identity| identity.origin.clone()).unwrap_or_default();
                    problems.insert(*id, unusable(origin, "pair.key", error.to_string()));
                }
            }
            Ok(())
        });
    }
}

/// The certificate of an identity whose record contains one.
fn read(identity: &Identity, secrets: &Secrets) -> Result<Option<X509Svid>, (Code, &'static str, String)> {
    let unusable = |path| move |error: &dyn std::fmt::Display| (Code::Certificate, path, error.to_string());
    let id = SpiffeId::parse(&identity.id).map_err(|error| unusable("id")(&error))?;
    let Some(pair) = &identity.pair else { return Ok(None) };
    let key = secrets.resolve(pair.key).map_err(|error| (Code::Secret, "pair.key", error.to_string()))?;
    let svid = X509Svid::from_pem(&pair.chain, key.expose()).map_err(|error| unusable("pair")(&error))?;
    if *svid.id() != id {
        return Err((Code::Certificate, "pair.chain", format!("the certificate is of {}", svid.id().as_str())));
    }
    Ok(Some(svid))
}

/// The policy of a record, without ALPN. The error is the message for an unreadable policy.
pub(super) fn policy_of(tls: &MutualTls) -> Result<IdentityPolicy, String> {
    let id = |text: &str| SpiffeId::parse(text).map_err(|error| format!("{text}: {error}"));
    let rule = |peer: &PeerMatch| match peer {
        PeerMatch::Exact(text) => id(text).map(PeerRule::Exact),
        PeerMatch::Within(text) => id(text).map(PeerRule::Within),
    };
    let peers: Vec<PeerRule> = tls.peers.iter().map(rule).collect::<Result<_, _>>()?;
    Ok(IdentityPolicy::new(tls.identity, peers))
}

fn unusable(origin: Origin, path: &str, message: String) -> Diagnostic {
    let (severity, code, path) = (Severity::Error, Code::Certificate, path.to_owned());
    Diagnostic { severity, code, origin, location: None, path, message, hint: None }
}
