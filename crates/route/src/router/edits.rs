//! [`Edits`]: what turns one generation of a router into the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use cardinal_ir::{Code, Diagnostic, Id, Matches, Route, Selection, Severity};

use super::RouteTable;
use crate::rule::Compiled;
use crate::slots::Slots;

/// What changes.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// Slots whose record was removed.
    pub(super) removed: Vec<u32>,
    pub(super) put: Vec<Put>,
}

/// A record that is new, or replaces that of a slot.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) id: Id,
    pub(super) slot: Option<u32>,
    pub(super) route: Arc<Route>,
}

/// So many changes are made one by one, and one more for so many routes; with more, all is built anew.
const FEW: usize = 16;
const ROUTES_FOR_ONE: usize = 256;

impl Edits {
    /// What makes `slots` hold those of `routes`, which are in the order of their ids, that are in `table`.
    pub(super) fn between<'n>(
        slots: &Slots,
        routes: impl Iterator<Item = (Id, &'n Arc<Route>)>,
        table: Option<RouteTable>,
    ) -> Self {
        let mut edits = Self::default();
        let mut old = slots.iter_by_id().peekable();
        for (id, route) in routes {
            while let Some((slot, _)) = old.next_if(|(_, compiled)| compiled.id != id && compiled.id < id) {
                edits.removed.push(slot);
            }
            let same = old.next_if(|(_, compiled)| compiled.id == id);
            if same.is_some_and(|(_, compiled)| Arc::ptr_eq(&compiled.route, route)) {
                continue;
            }
            let slot = same.map(|(slot, _)| slot);
            edits.push(id, slot, Some(route), table);
        }
        edits.removed.extend(old.map(|(slot, _)| slot));
        edits
    }

    /// What changes of single records come to.
    pub(super) fn of_changes(slots: &Slots, changes: BTreeMap<Id, Option<Arc<Route>>>, table: RouteTable) -> Self {
        let mut edits = Self::default();
        for (id, route) in changes {
            let slot = slots.find(&id);
            let old = slot.and_then(|slot| slots.get(slot)).map(|compiled| &compiled.route);
            let is_same = old.zip(route.as_ref()).is_some_and(|(old, new)| Arc::ptr_eq(old, new));
            if !is_same {
                edits.push(id, slot, route.as_ref(), Some(table));
            }
        }
        edits
    }

    fn push(&mut self, id: Id, slot: Option<u32>, route: Option<&Arc<Route>>, table: Option<RouteTable>) {
        match route.filter(|route| table.is_none_or(|table| table.holds(route))) {
            Some(route) => self.put.push(Put { id, slot, route: Arc::clone(route) }),
            None => self.removed.extend(slot),
        }
    }

    pub(super) fn are_none(&self) -> bool {
        self.removed.is_empty() && self.put.is_empty()
    }

    /// Whether there is a route among them that is selected by kinds.
    pub(super) fn have_selection_by_kinds(&self) -> bool {
        self.put.iter().any(|put| match &put.route.matches {
            Matches::Conditions(conditions) => conditions.selection != Selection::ByRank,
            Matches::Predicate(_) => false,
        })
    }

    /// Whether to build a router anew, which has so many routes, is rather less work.
    pub(super) fn are_many(&self, routes: usize) -> bool {
        self.removed.len() + self.put.len() > FEW + routes / ROUTES_FOR_ONE
    }
}

impl Put {
    /// Compiles the route, or returns what is wrong with it.
    pub(super) fn compile(self) -> Result<Compiled, Box<Diagnostic>> {
        let Self { id, route, .. } = self;
        Compiled::new(id, Arc::clone(&route)).map_err(|error| {
            Box::new(Diagnostic {
                severity: Severity::Error,
                code: Code::Pattern,
                origin: route.origin.clone(),
                location: None,
                path: error.path,
                message: error.message,
                hint: None,
            })
        })
    }
}
