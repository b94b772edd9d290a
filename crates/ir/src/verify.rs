//! The verifier: invariants that every front end must keep. Runs after each lowering and before each publish.

use std::collections::HashSet;
use std::sync::Arc;

use crate::{
    Backend, Changed, Code, Credential, Diagnostic, Endpoint, FilterSet, Id, Ir, Origin, Principal, Route, Severity,
    Table, Target,
};

impl Ir {
    /// What is wrong with the generation; empty when it may be published.
    pub fn verify(&self) -> Vec<Diagnostic> {
        let mut check = Check { ir: self, found: Vec::new() };
        self.routes.values().for_each(|route| check.route(route));
        self.backends.values().for_each(|backend| check.backend(backend));
        self.endpoint.values().for_each(|endpoint| check.endpoint(endpoint));
        self.credentials.values().for_each(|credential| check.credential(credential));
        self.principals.values().for_each(|principal| check.principal(principal));
        self.filter_sets.values().for_each(|set| check.filter_set(set));
        if self.routes.iter().any(|(id, route)| !breaks_own_tie(id, route)) {
            check.ranks();
        }
        check.found
    }
}

/// A generation in which nothing is wrong: what the next one is verified against, at the cost of what changed.
#[derive(Clone, Debug)]
pub struct Verified {
    ir: Arc<Ir>,
    /// The tie of each route's rank is its own id, so that no two ranks are equal.
    own_ties: bool,
}

impl Verified {
    /// Verifies a whole generation.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(ir: Arc<Ir>) -> Result<Self, Vec<Diagnostic>> {
        let found = ir.verify();
        let own_ties = ir.routes.iter().all(|(id, route)| breaks_own_tie(id, route));
        if found.is_empty() { Ok(Self { ir, own_ties }) } else { Err(found) }
    }

    /// The generation.
    pub fn ir(&self) -> &Arc<Ir> {
        &self.ir
    }

    /// Verifies the generation that follows: the records that are not shared with this one, and, where records are
    /// gone, that nobody names them. Finds something exactly when [`Ir::verify`] does.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn advance(&self, newer: Arc<Ir>) -> Result<Self, Vec<Diagnostic>> {
        let (old, new) = (&*self.ir, &*newer);
        let mut check = Check { ir: new, found: Vec::new() };
        let routes = old.routes.changed(&new.routes);
        let own_ties = self.own_ties && present(&routes).all(|(id, route)| breaks_own_tie(&id, route));
        present(&routes).for_each(|(_, route)| check.route(route));
        present(&old.backends.changed(&new.backends)).for_each(|(_, backend)| check.backend(backend));
        present(&old.endpoint.changed(&new.endpoint)).for_each(|(_, endpoint)| check.endpoint(endpoint));
        present(&old.credentials.changed(&new.credentials)).for_each(|(_, credential)| check.credential(credential));
        present(&old.principals.changed(&new.principals)).for_each(|(_, principal)| check.principal(principal));
        present(&old.filter_sets.changed(&new.filter_sets)).for_each(|(_, set)| check.filter_set(set));
        check.gone(old);
        if !own_ties && !routes.is_empty() {
            check.ranks();
        }
        let found = check.found;
        if found.is_empty() { Ok(Self { ir: newer, own_ties }) } else { Err(found) }
    }
}

/// The records of the newer generation.
fn present<T>(changed: &[Changed<T>]) -> impl Iterator<Item = (Id, &T)> {
    changed.iter().filter_map(|change| Some((change.id, change.new.as_deref()?)))
}

fn breaks_own_tie(id: &Id, route: &Route) -> bool {
    route.rank.tie == id.as_u128()
}

/// The ids that a newer table has no more.
fn lost<T>(old: &Table<T>, new: &Table<T>) -> HashSet<Id> {
    old.changed(new).into_iter().filter(|change| change.new.is_none()).map(|change| change.id).collect()
}

struct Check<'c> {
    ir: &'c Ir,
    found: Vec<Diagnostic>,
}

impl Check<'_> {
    fn route(&mut self, route: &Route) {
        self.reference(&route.origin, "backend", route.backend, &self.ir.backends);
    }

    fn backend(&mut self, backend: &Backend) {
        if let Target::Endpoints { id, .. } = backend.target {
            self.reference(&backend.origin, "target", Some(id), &self.ir.endpoints);
        }
        if let Some(tls) = &backend.tls {
            let client = tls.client_certificate;
            self.reference(&backend.origin, "tls.client_certificate", client, &self.ir.certificates);
            for trust in &tls.trusts {
                self.reference(&backend.origin, "tls.trusts", Some(*trust), &self.ir.trusts);
            }
        }
    }

    fn endpoint(&mut self, endpoint: &Endpoint) {
        self.reference(&endpoint.origin, "endpoints", Some(endpoint.endpoints), &self.ir.endpoints);
    }

    fn credential(&mut self, credential: &Credential) {
        self.reference(&credential.origin, "principal", Some(credential.principal), &self.ir.principals);
    }

    fn principal(&mut self, principal: &Principal) {
        for group in &principal.groups {
            self.reference(&principal.origin, "groups", Some(*group), &self.ir.groups);
        }
    }

    fn filter_set(&mut self, set: &FilterSet) {
        let scope = &set.scope;
        self.reference(&set.origin, "scope.principal", scope.principal, &self.ir.principals);
        self.reference(&set.origin, "scope.group", scope.group, &self.ir.groups);
    }

    /// Who names what the older generation had and this one has not. Only where something is gone are the tables
    /// looked through that may name it, and records are looked at closer only if they do.
    fn gone(&mut self, old: &Ir) {
        let ir = self.ir;
        let backends = lost(&old.backends, &ir.backends);
        let endpoints = lost(&old.endpoints, &ir.endpoints);
        let certificates = lost(&old.certificates, &ir.certificates);
        let trusts = lost(&old.trusts, &ir.trusts);
        let principals = lost(&old.principals, &ir.principals);
        let groups = lost(&old.groups, &ir.groups);
        let is_in = |set: &HashSet<Id>, id: Option<Id>| id.is_some_and(|id| set.contains(&id));
        if !backends.is_empty() {
            let shared = unchanged(&old.routes, &ir.routes);
            shared.filter(|r| is_in(&backends, r.backend)).for_each(|r| self.route(r));
        }
        if !(endpoints.is_empty() && certificates.is_empty() && trusts.is_empty()) {
            unchanged(&old.backends, &ir.backends).for_each(|b| self.backend(b));
            unchanged(&old.endpoint, &ir.endpoint).for_each(|e| self.endpoint(e));
        }
        if !principals.is_empty() {
            let shared = unchanged(&old.credentials, &ir.credentials);
            shared.filter(|c| principals.contains(&c.principal)).for_each(|c| self.credential(c));
        }
        if !groups.is_empty() {
            unchanged(&old.principals, &ir.principals).for_each(|p| self.principal(p));
        }
        if !(principals.is_empty() && groups.is_empty()) {
            unchanged(&old.filter_sets, &ir.filter_sets).for_each(|set| self.filter_set(set));
        }
    }

    /// The order of routes must be total, or two nodes could serve one generation differently.
    fn ranks(&mut self) {
        let mut routes: Vec<_> = self.ir.routes.values().map(|r| (r.traffic as u8, r.rank, r)).collect();
        routes.sort_by_key(|(traffic, rank, _)| (*traffic, *rank));
        for pair in routes.windows(2) {
            if let [(t1, r1, _), (t2, r2, route)] = pair
                && (t1, r1) == (t2, r2)
            {
                self.invariant(&route.origin, "rank", "two routes have the same rank".to_owned());
            }
        }
    }

    fn reference<T>(&mut self, origin: &Origin, path: &str, id: Option<Id>, table: &Table<T>) {
        if let Some(id) = id
            && !table.contains(&id)
        {
            self.invariant(origin, path, format!("names {id}, which is not in this generation"));
        }
    }

    fn invariant(&mut self, origin: &Origin, path: &str, message: String) {
        self.found.push(Diagnostic {
            severity: Severity::Error,
            code: Code::Invariant,
            origin: origin.clone(),
            path: path.to_owned(),
            message,
            hint: None,
        });
    }
}

/// The records that both tables share: what changed is verified anyway.
fn unchanged<'t, T>(old: &'t Table<T>, new: &'t Table<T>) -> impl Iterator<Item = &'t T> {
    let changed: HashSet<Id> = old.changed(new).into_iter().map(|change| change.id).collect();
    new.iter().filter(move |(id, _)| !changed.contains(id)).map(|(_, record)| &**record)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Attributes, Criteria, Document, Rank, Require, Rewrite, Traffic};

    fn id(n: u8) -> Id {
        Id::from_u128(n.into())
    }

    fn origin(n: u8) -> Origin {
        Origin::new("test", "thing", id(n))
    }

    fn route(n: u8, backend: Option<u8>, tie: u8) -> Route {
        Route {
            origin: origin(n),
            rank: Rank { weight: 0, tie: tie.into() },
            traffic: Traffic::Http,
            matches: Criteria::default().into(),
            backend: backend.map(id),
            rewrite: Rewrite::default(),
            require: Require::default(),
            request_buffering: true,
            response_buffering: true,
            document: Document::from("{}"),
        }
    }

    fn backend(n: u8, endpoints: u8) -> Backend {
        Backend {
            origin: origin(n),
            l4: crate::L4::Tcp,
            http: None,
            grpc: false,
            tls: Some(crate::UpstreamTls { client_certificate: None, trusts: vec![], ..Default::default() }),
            target: Target::Endpoints { id: id(endpoints), port: 1 },
            path: None,
            timeouts: crate::Timeouts { connect_ms: 1, read_ms: 1, write_ms: 1 },
            retries: 0,
            upgrade_protocols: Vec::new(),
            document: "{}".into(),
        }
    }

    fn group(n: u8) -> crate::Endpoints {
        crate::Endpoints {
            origin: origin(n),
            algorithm: crate::Algorithm::RoundRobin,
            slots: 1,
            hash_on: crate::HashInput::None,
            hash_fallback: crate::HashInput::None,
            health: Default::default(),
            host_header: None,
            client_certificate: None,
            use_srv_name: false,
            document: "{}".into(),
        }
    }

    fn principal(n: u8, groups: Vec<Id>) -> Principal {
        Principal { origin: origin(n), name: None, custom_id: None, groups, document: "{}".into() }
    }

    /// One edit: a table, an id, and two numbers for what the record names.
    fn edit(ir: &mut Ir, (table, n, a, put): (u8, u8, u8, bool)) {
        let named = id(a);
        match (table, put) {
            (0, true) => drop(ir.routes.insert(id(n), route(n, (a < 4).then_some(a), if a == 3 { a } else { n }))),
            (0, false) => drop(ir.routes.remove(&id(n))),
            (1, true) => drop(ir.backends.insert(id(n), backend(n, a))),
            (1, false) => drop(ir.backends.remove(&id(n))),
            (2, true) => drop(ir.endpoints.insert(id(n), group(n))),
            (2, false) => drop(ir.endpoints.remove(&id(n))),
            (3, true) => drop(ir.principals.insert(id(n), principal(n, vec![named]))),
            (3, false) => drop(ir.principals.remove(&id(n))),
            (4, true) => {
                let attributes = Arc::new(Attributes::new("key", serde_json::json!({}), "key"));
                ir.credentials.insert(id(n), Credential::new(origin(n), attributes, named, "k".into()));
            }
            (4, false) => drop(ir.credentials.remove(&id(n))),
            (5, true) => {
                ir.groups.insert(id(n), crate::PrincipalGroup { origin: origin(n), name: "g".into() });
            }
            (5, false) => drop(ir.groups.remove(&id(n))),
            (6, true) => {
                let scope = crate::Scope { principal: Some(named), ..Default::default() };
                ir.filter_sets.insert(id(n), FilterSet { origin: origin(n), scope, precedence: 0, filters: vec![] });
            }
            (6, false) => drop(ir.filter_sets.remove(&id(n))),
            (_, true) => {
                let host = crate::Host { host: "h".into(), port: 1 };
                let (endpoints, weight, failover) = (named, 1, false);
                ir.endpoint.insert(id(n), Endpoint { origin: origin(n), endpoints, host, weight, failover });
            }
            (_, false) => drop(ir.endpoint.remove(&id(n))),
        }
    }

    proptest! {
        #[test]
        fn what_changed_is_enough(
            edits in proptest::collection::vec(
                proptest::collection::vec((0_u8..8, 0_u8..6, 0_u8..6, proptest::bool::weighted(0.7)), 1..4), 1..40),
        ) {
            let mut verified = Verified::new(Arc::default()).unwrap();
            for edits in edits {
                let mut next = (**verified.ir()).clone();
                edits.into_iter().for_each(|e| edit(&mut next, e));
                let texts = |found: &[Diagnostic]| {
                    let mut texts: Vec<String> = found.iter().map(|d| format!("{d} {}", d.path)).collect();
                    texts.sort();
                    texts
                };
                let whole = next.verify();
                match verified.advance(Arc::new(next)) {
                    Ok(newer) => {
                        prop_assert_eq!(texts(&whole), Vec::<String>::new());
                        verified = newer;
                    }
                    Err(found) => prop_assert_eq!(texts(&found), texts(&whole)),
                }
            }
        }
    }
}
