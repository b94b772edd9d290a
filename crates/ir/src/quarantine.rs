//! Removes records with dangling references.

use crate::tables::Visit;
use crate::{Id, Ir, RecordKind, Rejected, Row, Table};

impl Ir {
    /// Removes all records that refer to missing records, and repeatedly those that refer to removed ones, until every
    /// reference is valid. To be called after records were rejected, so that the others can be served.
    pub fn remove_dangling(&mut self) -> Vec<Rejected> {
        let mut removed = Vec::new();
        loop {
            let mut dangling = Dangling { ir: self, found: Vec::new() };
            self.visit(&mut dangling);
            if dangling.found.is_empty() {
                return removed;
            }
            for (kind, id, reason) in dangling.found {
                self.remove(kind, &id);
                removed.push(Rejected { kind, id: id.to_string(), reason });
            }
        }
    }
}

struct Dangling<'i> {
    ir: &'i Ir,
    found: Vec<(RecordKind, Id, String)>,
}

impl Visit for Dangling<'_> {
    fn table<T: Row>(&mut self, table: &Table<T>) {
        for (id, record) in table.iter() {
            let mut missing = None;
            record.references(&mut |field, kind, id| {
                if missing.is_none() && !self.ir.contains(kind, &id) {
                    missing = Some(format!("{field} refers to {id} of {}, which was rejected", kind.as_str()));
                }
            });
            self.found.extend(missing.map(|reason| (T::KIND, *id, reason)));
        }
    }
}
