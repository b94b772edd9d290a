//! The verifier: invariants that every front end must keep. Runs after each lowering and before each publish.

use crate::{Code, Diagnostic, Id, Ir, Origin, Severity, Target};

impl Ir {
    /// What is wrong with the generation; empty when it may be published.
    pub fn verify(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for route in self.routes.values() {
            check_reference(&mut found, &route.origin, "backend", route.backend, |id| self.backends.contains(id));
        }
        for backend in self.backends.values() {
            if let Target::Endpoints { id, .. } = backend.target {
                check_reference(&mut found, &backend.origin, "target", Some(id), |id| self.endpoints.contains(id));
            }
            if let Some(tls) = &backend.tls {
                let client = tls.client_certificate;
                check_reference(&mut found, &backend.origin, "tls.client_certificate", client, |id| {
                    self.certificates.contains(id)
                });
                for trust in &tls.trusts {
                    check_reference(&mut found, &backend.origin, "tls.trusts", Some(*trust), |id| {
                        self.trusts.contains(id)
                    });
                }
            }
        }
        for endpoint in self.endpoint.values() {
            let parent = Some(endpoint.endpoints);
            check_reference(&mut found, &endpoint.origin, "endpoints", parent, |id| self.endpoints.contains(id));
        }
        for credential in self.credentials.values() {
            let owner = Some(credential.principal);
            check_reference(&mut found, &credential.origin, "principal", owner, |id| self.principals.contains(id));
        }
        self.verify_principals(&mut found);
        self.verify_ranks(&mut found);
        found
    }

    fn verify_principals(&self, found: &mut Vec<Diagnostic>) {
        for principal in self.principals.values() {
            for group in &principal.groups {
                check_reference(found, &principal.origin, "groups", Some(*group), |id| self.groups.contains(id));
            }
        }
        for set in self.filter_sets.values() {
            let scope = &set.scope;
            check_reference(found, &set.origin, "scope.principal", scope.principal, |id| self.principals.contains(id));
            check_reference(found, &set.origin, "scope.group", scope.group, |id| self.groups.contains(id));
        }
    }

    /// The order of routes must be total, or two nodes could serve one generation differently.
    fn verify_ranks(&self, found: &mut Vec<Diagnostic>) {
        let mut routes: Vec<_> = self.routes.values().map(|r| (r.traffic as u8, r.rank, r)).collect();
        routes.sort_by_key(|(traffic, rank, _)| (*traffic, *rank));
        for pair in routes.windows(2) {
            if let [(t1, r1, _), (t2, r2, route)] = pair
                && (t1, r1) == (t2, r2)
            {
                let message = "two routes have the same rank".to_owned();
                found.push(invariant(&route.origin, "rank", message));
            }
        }
    }
}

fn check_reference(
    found: &mut Vec<Diagnostic>,
    origin: &Origin,
    path: &str,
    id: Option<Id>,
    exists: impl Fn(&Id) -> bool,
) {
    if let Some(id) = id
        && !exists(&id)
    {
        found.push(invariant(origin, path, format!("names {id}, which is not in this generation")));
    }
}

fn invariant(origin: &Origin, path: &str, message: String) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: Code::Invariant,
        origin: origin.clone(),
        path: path.to_owned(),
        message,
        hint: None,
    }
}
