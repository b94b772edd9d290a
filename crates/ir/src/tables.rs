//! `tables!`: the only list of tables. It generates [`Ir`], [`RecordKind`], [`Record`], [`IrDelta`], and all code
//! that visits every table.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::secret::references_in;
use crate::{
    Backend, Certificate, Change, Cluster, Credential, Delta, Endpoint, FilterSet, Id, Identity, Listener,
    ListenerGroup, ListenerTls, Origin, Policy, Principal, PrincipalGroup, Route, SecretRef, Table, Telemetry,
    TrustBundle,
};

/// There is no table of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTable(pub Box<str>);

impl std::fmt::Display for UnknownTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is no table {:?}", self.0)
    }
}

impl std::error::Error for UnknownTable {}

/// The properties that each record type provides for its table.
pub trait Row: Clone + Default + PartialEq + Serialize + DeserializeOwned {
    /// The table.
    const KIND: RecordKind;
    /// The tables to which its records may refer.
    const REFERS_TO: &'static [RecordKind];

    /// The user's object from which the record was lowered.
    fn origin(&self) -> &Origin;

    /// Calls `visit` with the field, the table and the id of each reference to another record. The table is one of
    /// [`Row::REFERS_TO`].
    fn references(&self, visit: &mut dyn FnMut(&'static str, RecordKind, Id));

    /// Calls `visit` with each secret to which the record refers.
    fn secrets(&self, visit: &mut dyn FnMut(SecretRef));
}

macro_rules! tables {
    ($($(#[doc = $doc:literal])+ $table:ident: $record:ident,)+) => {
        /// The records of one generation. Cloning shares them.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Ir {
            $($(#[doc = $doc])+ #[serde(skip_serializing_if = "Table::is_empty")] pub $table: Table<$record>,)+
        }

        /// The table of a record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum RecordKind {
            $(#[doc = concat!("A record of [`Ir::", stringify!($table), "`].")] $record,)+
        }

        impl RecordKind {
            /// All kinds, in the order of the tables.
            pub const ALL: &'static [Self] = &[$(Self::$record),+];

            /// The name of the table: `routes`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$record => stringify!($table),)+
                }
            }

            /// The name of the record type: `Route`.
            pub fn type_name(self) -> &'static str {
                match self {
                    $(Self::$record => stringify!($record),)+
                }
            }

            /// The kind whose record type has this name.
            pub fn of_type(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.type_name() == name)
            }
        }

        impl std::str::FromStr for RecordKind {
            type Err = UnknownTable;

            /// The kind of the table with this name.
            fn from_str(table: &str) -> Result<Self, UnknownTable> {
                match table {
                    $(stringify!($table) => Ok(Self::$record),)+
                    other => Err(UnknownTable(other.into())),
                }
            }
        }

        /// A record of any table.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record {
            $(#[doc = concat!("Of [`Ir::", stringify!($table), "`].")] $record(Arc<$record>),)+
        }

        impl Record {
            /// The table of the record.
            pub fn kind(&self) -> RecordKind {
                match self {
                    $(Self::$record(_) => RecordKind::$record,)+
                }
            }

            /// The user's object from which the record was lowered.
            pub fn origin(&self) -> &Origin {
                match self {
                    $(Self::$record(record) => record.origin(),)+
                }
            }

            /// Calls `visit` with the field, the table and the id of each reference to another record.
            pub fn references(&self, visit: &mut dyn FnMut(&'static str, RecordKind, Id)) {
                match self {
                    $(Self::$record(record) => record.references(visit),)+
                }
            }

            /// The [binary form](crate::binary).
            ///
            /// # Errors
            /// When a value has no such form; records always have one.
            pub fn encode(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
                match self {
                    $(Self::$record(record) => crate::binary::encode(&**record),)+
                }
            }

            /// Reads a record of this kind from its [binary form](crate::binary).
            ///
            /// # Errors
            /// When the bytes are not such a record, or have a variant that this version does not know.
            pub fn decode(kind: RecordKind, bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
                match kind {
                    $(RecordKind::$record => crate::binary::decode(bytes).map(|record| Self::$record(Arc::new(record))),)+
                }
            }

            /// The hash of the record, without its id. Equal records have equal hashes, on every node.
            pub fn digest(&self) -> crate::Digest {
                match self {
                    $(Self::$record(record) => crate::digest::of_row(&**record),)+
                }
            }
        }

        /// The changes from one generation to another, by table. See [`Ir::diff`] and [`Ir::apply`].
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct IrDelta {
            $(
                #[doc = concat!("Changes of [`Ir::", stringify!($table), "`].")]
                #[serde(skip_serializing_if = "Delta::is_empty")]
                pub $table: Delta<$record>,
            )+
        }

        impl IrDelta {
            /// Whether there are no changes.
            pub fn is_empty(&self) -> bool {
                $(self.$table.is_empty())&&+
            }

            /// The number of changed records.
            pub fn len(&self) -> usize {
                0 $(+ self.$table.len())+
            }

            /// Calls `visit` with the table and the id of each changed record.
            pub fn for_each_id(&self, mut visit: impl FnMut(RecordKind, Id)) {
                $(self.$table.iter().for_each(|change| visit(RecordKind::$record, change.id));)+
            }
        }

        impl Ir {
            /// The changes from `self` to `newer`. The cost depends on the parts that they do not share.
            pub fn diff(&self, newer: &Self) -> IrDelta {
                IrDelta { $($table: self.$table.diff(&newer.$table),)+ }
            }

            /// Applies the changes. Returns the effective ones, with the records that they replaced: `delta` may come
            /// from another process, without them.
            pub fn apply(&mut self, delta: IrDelta) -> IrDelta {
                IrDelta { $($table: self.$table.apply(delta.$table),)+ }
            }

            /// Whether there is a record with this kind and id.
            pub fn contains(&self, kind: RecordKind, id: &Id) -> bool {
                match kind {
                    $(RecordKind::$record => self.$table.contains(id),)+
                }
            }

            /// The record with this kind and id.
            pub fn get(&self, kind: RecordKind, id: &Id) -> Option<Record> {
                match kind {
                    $(RecordKind::$record => self.$table.get(id).map(|record| Record::$record(Arc::clone(record))),)+
                }
            }

            /// Calls `visit` with each secret to which the records refer, once per reference.
            pub fn secrets(&self, visit: &mut dyn FnMut(SecretRef)) {
                $(self.$table.values().for_each(|record| record.secrets(visit));)+
            }

            /// `delta` plus the records that refer to a secret for which `is_affected` returns true, as if they were
            /// replaced by themselves.
            pub fn with_affected(&self, delta: IrDelta, is_affected: &dyn Fn(SecretRef) -> bool) -> IrDelta {
                IrDelta { $($table: crate::delta::with_affected(&self.$table, delta.$table, is_affected),)+ }
            }

            /// Adds or replaces a record in its [binary encoding](crate::binary).
            ///
            /// # Errors
            /// If the bytes are not a valid record, or contain a variant unknown to this version.
            pub fn insert_encoded(
                &mut self,
                kind: RecordKind,
                id: Id,
                bytes: &[u8],
            ) -> Result<(), rmp_serde::decode::Error> {
                match kind {
                    $(RecordKind::$record => drop(self.$table.insert(id, crate::binary::decode(bytes)?)),)+
                }
                Ok(())
            }

            /// Removes a record; returns whether it existed.
            pub fn remove(&mut self, kind: RecordKind, id: &Id) -> bool {
                match kind {
                    $(RecordKind::$record => self.$table.remove(id).is_some(),)+
                }
            }

            /// Adds a record, or replaces the one with its kind and id.
            pub fn insert(&mut self, id: Id, record: Record) {
                match record {
                    $(Record::$record(record) => drop(self.$table.insert_shared(id, record)),)+
                }
            }

            /// The number of records.
            pub fn len(&self) -> usize {
                0 $(+ self.$table.len())+
            }

            /// Whether there are no records.
            pub fn is_empty(&self) -> bool {
                $(self.$table.is_empty())&&+
            }
        }

        /// A visitor of all tables, independent of the record type.
        pub(crate) trait Visit {
            fn table<T: Row>(&mut self, table: &Table<T>);
        }

        /// A visitor of all tables and their changes.
        pub(crate) trait VisitDelta {
            fn table<T: Row>(&mut self, table: &Table<T>, delta: &Delta<T>);
        }

        impl Ir {
            pub(crate) fn visit(&self, visitor: &mut impl Visit) {
                $(visitor.table(&self.$table);)+
            }

            pub(crate) fn visit_delta(&self, delta: &IrDelta, visitor: &mut impl VisitDelta) {
                $(visitor.table(&self.$table, &delta.$table);)+
            }
        }

        /// Decodes the tables of a JSON object one record at a time.
        pub(crate) mod read {
            use super::*;
            use crate::decode::{Rejected, read_changes, read_table};

            impl Ir {
                /// Decodes a generation written by another version of this program. Unknown fields and tables are
                /// ignored; a record that cannot be decoded, such as one with an unknown variant, is rejected on its
                /// own.
                pub fn from_value(value: serde_json::Value) -> (Self, Vec<Rejected>) {
                    let (mut tables, mut rejected) = (value, Vec::new());
                    let ir = Self { $($table: read_table(&mut tables, &mut rejected),)+ };
                    (ir, rejected)
                }
            }

            impl IrDelta {
                /// Decodes changes written by another version of this program, as [`Ir::from_value`] does.
                pub fn from_value(value: serde_json::Value) -> (Self, Vec<Rejected>) {
                    let (mut tables, mut rejected) = (value, Vec::new());
                    let delta = Self { $($table: read_changes(&mut tables, &mut rejected),)+ };
                    (delta, rejected)
                }
            }
        }
    };
}

tables! {
    /// Server and client certificates.
    certificates: Certificate,
    /// Certificate authorities.
    trust_bundles: TrustBundle,
    /// SPIFFE identities of the node.
    identities: Identity,
    /// Listeners that share routes, and tenants.
    listener_groups: ListenerGroup,
    /// Sockets to accept traffic on.
    listeners: Listener,
    /// Load-balanced sets of endpoints.
    clusters: Cluster,
    /// The endpoints of the clusters.
    endpoints: Endpoint,
    /// Destinations of requests.
    backends: Backend,
    /// Conditions on requests, and the handling of matches.
    routes: Route,
    /// Named groups of principals to which filter sets can be scoped.
    groups: PrincipalGroup,
    /// Authenticated clients: consumers, workloads.
    principals: Principal,
    /// Credentials and attachments of principals.
    credentials: Credential,
    /// Filters and their scopes.
    filter_sets: FilterSet,
    /// Policies and their scopes.
    policies: Policy,
    /// Tracing: which requests are traced, and where spans are exported.
    telemetry: Telemetry,
}

/// Implements [`Row`] for a record with a field `origin`. References are listed as `"field" in Table: expression`,
/// where the expression is an iterator of ids. `secrets` is followed by a function that visits the secrets of the
/// record, if it has any.
macro_rules! row {
    (
        $record:ident |$this:ident| { $($field:literal in $kind:ident: $ids:expr),* $(,)? }
        $(secrets $secrets:expr)?
    ) => {
        impl Row for $record {
            const KIND: RecordKind = RecordKind::$record;
            const REFERS_TO: &'static [RecordKind] = &[$(RecordKind::$kind),*];

            fn origin(&self) -> &Origin {
                &self.origin
            }

            fn references(&self, visit: &mut dyn FnMut(&'static str, RecordKind, Id)) {
                let ($this, _) = (self, &visit);
                $($ids.into_iter().for_each(|id| visit($field, RecordKind::$kind, id));)*
            }

            fn secrets(&self, visit: &mut dyn FnMut(SecretRef)) {
                let _ = &visit;
                $(let of: fn(&Self, &mut dyn FnMut(SecretRef)) = $secrets; of(self, visit);)?
            }
        }
    };
}

row!(Certificate | _this | {} secrets |this, visit| this.pairs.iter().for_each(|pair| visit(pair.key)));
row!(TrustBundle | _this | {});
row!(Identity | _this | {} secrets |this, visit| this.pair.iter().for_each(|pair| visit(pair.key)));
row!(ListenerGroup | _this | {});
row!(Listener |this| {
    "group" in ListenerGroup: this.group,
    "tls.identity" in Identity: match &this.tls {
        Some(ListenerTls::Identity(tls)) => Some(tls.identity),
        _ => None,
    },
    "tls.certificates" in Certificate: match &this.tls {
        Some(ListenerTls::Certificates(tls)) => tls.certificates.clone(),
        _ => Vec::new(),
    },
    "tls.client_trust_bundles" in TrustBundle: match &this.tls {
        Some(ListenerTls::Certificates(tls)) => tls.client_trust_bundles.clone(),
        _ => Vec::new(),
    },
});
row!(Cluster |this| { "client_certificate" in Certificate: this.client_certificate });
row!(Endpoint |this| { "cluster" in Cluster: [this.cluster] });
row!(Backend |this| {
    "target" in Cluster: this.target.cluster(),
    "tls.client_certificate" in Certificate: this.tls.as_ref().and_then(|tls| tls.client_certificate),
    "tls.trust_bundles" in TrustBundle: this.tls.iter().flat_map(|tls| tls.trust_bundles.iter().copied()),
    "tls.identity" in Identity: this.tls.as_ref().and_then(|tls| tls.identity.as_ref()).map(|own| own.tls.identity),
});
row!(Route |this| {
    "group" in ListenerGroup: this.group,
    "action.backend" in Backend: this.action.backends().map(|to| to.backend),
    "policies.mirrors.backend" in Backend:
        this.policies.iter().flat_map(|policies| policies.mirrors.iter().map(|mirror| mirror.backend)),
});
row!(PrincipalGroup | _this | {});
row!(Principal |this| {
    "groups" in PrincipalGroup: this.groups.iter().copied(),
    "tenant" in ListenerGroup: this.tenant.as_deref().copied(),
});
row!(Credential |this| {
    "principal" in Principal: [this.principal],
    "tenant" in ListenerGroup: this.tenant,
} secrets Credential::secrets);
row!(FilterSet |this| {
    "scope.listeners" in ListenerGroup: this.scope.listeners,
    "scope.backend" in Backend: this.scope.backend,
    "scope.principal" in Principal: this.scope.principal,
    "scope.group" in PrincipalGroup: this.scope.group,
} secrets |this, visit| this.filters.iter().for_each(|filter| references_in(&filter.params, visit)));
row!(Telemetry |this| {
    "scope.listeners" in ListenerGroup: this.scope.listeners,
    "scope.backend" in Backend: this.scope.backend,
} secrets |this, visit| {
    let headers = this.exporter.iter().flat_map(|exporter| &exporter.headers);
    headers.filter_map(|(_, value)| value.parse().ok()).for_each(visit)
});

row!(Policy |this| {
    "scope.listeners" in ListenerGroup: this.scope.listeners,
    "scope.backend" in Backend: this.scope.backend,
    "scope.principal" in Principal: this.scope.principal,
    "scope.group" in PrincipalGroup: this.scope.group,
    "spec.rules.clients" in Principal: this.spec.principals(),
} secrets |this, visit| this.plugin.iter().for_each(|plugin| references_in(&plugin.params, visit)));

/// The change of the record with an id, for tests and callers that edit records directly.
impl<T: Row> From<(Id, Option<T>)> for Change<T> {
    fn from((id, record): (Id, Option<T>)) -> Self {
        Self { id, old: None, new: record.map(Arc::new) }
    }
}
