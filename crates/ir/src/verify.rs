//! The verifier: checks the invariants of the IR. Runs after each lowering and before each publication.

use std::collections::HashSet;
use std::sync::Arc;

use crate::tables::{Visit, VisitDelta};
use crate::{Code, Delta, Diagnostic, Diagnostics, Id, Ir, IrDelta, Origin, RecordKind, Route, Row, Severity, Table};

impl Ir {
    /// The problems of the generation; empty if it may be published.
    pub fn verify(&self) -> Vec<Diagnostic> {
        let mut check = Check { ir: self, found: Vec::new() };
        self.visit(&mut All(&mut check));
        if self.routes.iter().any(|(id, route)| !breaks_own_tie(id, route)) {
            check.ranks();
        }
        check.found
    }
}

/// A valid generation: the next one is verified against it, at a cost that depends on the changes.
#[derive(Clone, Debug)]
pub struct Verified {
    ir: Arc<Ir>,
    /// The tie of each route's rank is its own id, so that no two ranks are equal.
    own_ties: bool,
}

/// Of the empty generation.
impl Default for Verified {
    fn default() -> Self {
        Self { ir: Arc::default(), own_ties: true }
    }
}

impl Verified {
    /// Verifies a whole generation.
    ///
    /// # Errors
    /// The problems of the generation.
    pub fn new(ir: Arc<Ir>) -> Result<Self, Diagnostics> {
        let own_ties = ir.routes.iter().all(|(id, route)| breaks_own_tie(id, route));
        match Diagnostics::of(ir.verify()) {
            None => Ok(Self { ir, own_ties }),
            Some(found) => Err(found),
        }
    }

    /// The generation.
    pub fn ir(&self) -> &Arc<Ir> {
        &self.ir
    }

    /// Verifies the generation `newer` that results from this one by `delta`: the changed records and, if records are
    /// removed, that no other record refers to them. Reports problems if and only if [`Ir::verify`] does.
    ///
    /// # Errors
    /// The problems of the generation.
    pub fn advance(&self, newer: Arc<Ir>, delta: &IrDelta) -> Result<Self, Diagnostics> {
        let mut check = Check { ir: &newer, found: Vec::new() };
        newer.visit_delta(delta, &mut Changed(&mut check));
        let mut removed = Removed::default();
        newer.visit_delta(delta, &mut removed);
        if !removed.kinds.is_empty() {
            newer.visit_delta(delta, &mut Unchanged { check: &mut check, removed: &removed });
        }
        let own_ties = self.own_ties && delta.routes.put().all(|(id, route)| breaks_own_tie(&id, route));
        if !own_ties && !delta.routes.is_empty() {
            check.ranks();
        }
        match Diagnostics::of(check.found) {
            None => Ok(Self { ir: newer, own_ties }),
            Some(found) => Err(found),
        }
    }
}

fn breaks_own_tie(id: &Id, route: &Route) -> bool {
    route.rank.tie == id.as_u128()
}

struct Check<'c> {
    ir: &'c Ir,
    found: Vec<Diagnostic>,
}

/// Checks all records.
struct All<'a, 'c>(&'a mut Check<'c>);

impl Visit for All<'_, '_> {
    fn table<T: Row>(&mut self, table: &Table<T>) {
        table.values().for_each(|record| self.0.references(&**record));
    }
}

/// Checks the new and changed records.
struct Changed<'a, 'c>(&'a mut Check<'c>);

impl VisitDelta for Changed<'_, '_> {
    fn table<T: Row>(&mut self, _: &Table<T>, delta: &Delta<T>) {
        delta.put().for_each(|(_, record)| self.0.references(&**record));
    }
}

/// Collects the removed records.
#[derive(Default)]
struct Removed {
    kinds: HashSet<RecordKind>,
    records: HashSet<(RecordKind, Id)>,
}

impl VisitDelta for Removed {
    fn table<T: Row>(&mut self, _: &Table<T>, delta: &Delta<T>) {
        for id in delta.removed() {
            self.kinds.insert(T::KIND);
            self.records.insert((T::KIND, id));
        }
    }
}

/// Checks the other records of tables that may refer to removed ones.
struct Unchanged<'a, 'c> {
    check: &'a mut Check<'c>,
    removed: &'a Removed,
}

impl VisitDelta for Unchanged<'_, '_> {
    fn table<T: Row>(&mut self, table: &Table<T>, delta: &Delta<T>) {
        if !T::REFERS_TO.iter().any(|kind| self.removed.kinds.contains(kind)) {
            return;
        }
        let changed: HashSet<Id> = delta.iter().map(|change| change.id).collect();
        for (_, record) in table.iter().filter(|(id, _)| !changed.contains(id)) {
            let mut is_broken = false;
            record.references(&mut |_, kind, id| is_broken |= self.removed.records.contains(&(kind, id)));
            if is_broken {
                self.check.references(&**record);
            }
        }
    }
}

impl Check<'_> {
    fn references<T: Row>(&mut self, record: &T) {
        record.references(&mut |field, kind, id| {
            debug_assert!(T::REFERS_TO.contains(&kind), "{field} refers to {kind:?}");
            if !self.ir.contains(kind, &id) {
                self.invariant(record.origin(), field, format!("references unknown id {id} of {}", kind.as_str()));
            }
        });
    }

    /// The order of routes must be total; otherwise two nodes could serve one generation differently.
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

    fn invariant(&mut self, origin: &Origin, path: &str, message: String) {
        self.found.push(Diagnostic {
            severity: Severity::Error,
            code: Code::Invariant,
            origin: origin.clone(),
            location: None,
            path: path.to_owned(),
            message,
            hint: None,
        });
    }
}
