//! [`Changes`]: what a generation does not share with the one before it. All that planning costs follows from it.

use cardinal_ir::{Backend, Certificate, Changed, Endpoint, Endpoints, FilterSet, Ir, Route, Trust};
use cardinal_sdk::DirectoryChanges;

/// The records that two generations do not share.
pub(super) struct Changes {
    /// The node's settings are others.
    pub(super) node: bool,
    pub(super) routes: Vec<Changed<Route>>,
    pub(super) filter_sets: Vec<Changed<FilterSet>>,
    pub(super) backends: Vec<Changed<Backend>>,
    pub(super) endpoints: Vec<Changed<Endpoints>>,
    pub(super) endpoint: Vec<Changed<Endpoint>>,
    pub(super) certificates: Vec<Changed<Certificate>>,
    pub(super) trusts: Vec<Changed<Trust>>,
    pub(super) directory: DirectoryChanges,
}

impl Changes {
    /// What turns `old` into `new`.
    pub(super) fn between(old: &Ir, new: &Ir) -> Self {
        Self {
            node: old.node != new.node,
            routes: old.routes.changed(&new.routes),
            filter_sets: old.filter_sets.changed(&new.filter_sets),
            backends: old.backends.changed(&new.backends),
            endpoints: old.endpoints.changed(&new.endpoints),
            endpoint: old.endpoint.changed(&new.endpoint),
            certificates: old.certificates.changed(&new.certificates),
            trusts: old.trusts.changed(&new.trusts),
            directory: DirectoryChanges::between(old, new),
        }
    }

    /// All records.
    pub(super) fn all(ir: &Ir) -> Self {
        Self { node: true, ..Self::between(&Ir::default(), ir) }
    }

    /// Whether key material is others: certificates, authorities, the node's.
    pub(super) fn touches_tls(&self) -> bool {
        self.node || !self.certificates.is_empty() || !self.trusts.is_empty()
    }
}
