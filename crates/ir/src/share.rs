//! [`Ir::sharing`]: what two generations have in common is kept once.

use std::sync::Arc;

use crate::{
    Backend, Certificate, Credential, Endpoint, Endpoints, FilterSet, Ir, Listener, Origin, Principal, PrincipalGroup,
    Route, Table, Trust,
};

/// A record that was made of an object of the user's.
pub trait Record: PartialEq {
    /// The object; `None` for what has no place of its own.
    fn origin(&self) -> Option<&Origin>;
}

macro_rules! records {
    ($($record:ident),*) => {
        $(impl Record for $record {
            fn origin(&self) -> Option<&Origin> {
                Some(&self.origin)
            }
        })*
    };
}

records!(Backend, Certificate, Credential, Endpoint, Endpoints, FilterSet, Principal, PrincipalGroup, Route, Trust);

impl Record for Listener {
    fn origin(&self) -> Option<&Origin> {
        None
    }
}

impl Ir {
    /// The same generation with the records of an older one wherever they are equal, so that whoever goes from one to
    /// the other sees at a glance what stayed. A record that only moved in its file is the old one, which is told its
    /// new place.
    pub fn sharing(self, older: &Ir) -> Self {
        let Self { node, listeners, routes, filter_sets, backends, endpoints, endpoint, .. } = self;
        Self {
            node,
            listeners: listeners.sharing(&older.listeners),
            routes: routes.sharing(&older.routes),
            filter_sets: filter_sets.sharing(&older.filter_sets),
            backends: backends.sharing(&older.backends),
            endpoints: endpoints.sharing(&older.endpoints),
            endpoint: endpoint.sharing(&older.endpoint),
            certificates: self.certificates.sharing(&older.certificates),
            trusts: self.trusts.sharing(&older.trusts),
            principals: self.principals.sharing(&older.principals),
            groups: self.groups.sharing(&older.groups),
            credentials: self.credentials.sharing(&older.credentials),
        }
    }
}

impl<T: Record> Table<T> {
    /// The same table with the records, and where no id came or went the structure, of an older one.
    fn sharing(self, older: &Self) -> Self {
        let mut changes = Vec::new();
        older.each_unshared(&self, |id, old, new| match (old, new) {
            (Some(old), Some(new)) if old == new => stays::<T>(old, new),
            (_, new) => changes.push((id, new.map(Arc::clone))),
        });
        if changes.len() > self.len() / 4 {
            // So many changes would leave chunks half empty.
            let mut new = changes.into_iter().peekable();
            let records = self.iter().map(|(id, record)| {
                while new.next_if(|(other, _)| other < id).is_some() {}
                let changed = new.next_if(|(other, _)| other == id).is_some();
                let kept = older.get(id).filter(|_| !changed).unwrap_or(record);
                (*id, Arc::clone(kept))
            });
            return Self::from_shared(records.collect());
        }
        let mut shared = older.clone();
        for (id, new) in changes {
            match new {
                Some(record) => drop(shared.insert_shared(id, record)),
                None => drop(shared.remove(&id)),
            }
        }
        shared
    }
}

fn stays<T: Record>(old: &T, new: &T) {
    if let (Some(old), Some(new)) = (old.origin(), new.origin()) {
        old.moved_with(new);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Id;

    fn group(n: u8, line: u32) -> PrincipalGroup {
        let noun = Arc::new(crate::Noun { file: Some("f".into()), ..Default::default() });
        let origin = Origin::at(&noun, Id::nil(), None, line, 1);
        PrincipalGroup { origin, name: n.to_string().into() }
    }

    proptest! {
        #[test]
        fn what_is_equal_is_the_same_and_the_rest_is_new(
            a in proptest::collection::btree_map(0_u128..400, 0_u8..4, 0..400),
            b in proptest::collection::btree_map(0_u128..400, 0_u8..4, 0..400),
        ) {
            let table = |m: &std::collections::BTreeMap<u128, u8>, line| -> Table<PrincipalGroup> {
                m.iter().map(|(id, n)| (Id::from_u128(*id), group(*n, line))).collect()
            };
            let (older, newer) = (table(&a, 1), table(&b, 2));
            let (same, ir) = (newer.clone(), Ir { groups: newer, ..Ir::default() });
            let shared = ir.sharing(&Ir { groups: older.clone(), ..Ir::default() }).groups;
            prop_assert_eq!(&shared, &same);
            for (id, record) in shared.iter() {
                let kept = older.get(id).is_some_and(|old| Arc::ptr_eq(old, record));
                prop_assert_eq!(kept, a.get(&id.as_u128()) == b.get(&id.as_u128()));
                prop_assert_eq!(record.origin.location().map(|at| at.line), Some(2));
            }
        }
    }
}
