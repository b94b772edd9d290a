//! Certificates, authorities, principals and their credentials.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::document::documented;
use crate::secret::references_in;
use crate::{Document, Id, Origin, SecretRef, Secrets, UnresolvedSecret};

/// A certificate with its key, and its server names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// The user's object.
    pub origin: Origin,
    /// Chain and key; one or two pairs with different key types.
    pub pairs: Vec<KeyPair>,
    /// Server names, exact, `*.x` or `x.*`, lower-case. `*` marks the default certificate.
    pub server_names: Vec<Box<str>>,
}

/// A chain and its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyPair {
    /// PEM, leaf first.
    pub chain: Box<str>,
    /// The key, in PEM.
    pub key: SecretRef,
}

/// Certificate authorities.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrustBundle {
    /// The user's object.
    pub origin: Origin,
    /// PEM: exactly one certificate, or several for a trust domain.
    pub certificate: Box<str>,
    /// The SPIFFE trust domain of which these are the root certificates: `example.org`. A trust domain has one bundle.
    /// `None` for authorities that other records refer to.
    pub trust_domain: Option<Box<str>>,
}

/// A SPIFFE identity of this node, proved in mutual TLS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// The user's object.
    pub origin: Origin,
    /// The SPIFFE ID: `spiffe://example.org/ns/default/sa/web`.
    pub id: Box<str>,
    /// Certificate and key, which must match the ID. `None`: an issuer supplies and rotates them on the node; until
    /// then, connections with this identity fail.
    pub pair: Option<KeyPair>,
}

/// An authenticated client.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Principal {
    /// The user's object.
    pub origin: Origin,
    /// The name (Kong: `username`).
    pub name: Option<Box<str>>,
    /// The id of the principal in an external system.
    pub custom_id: Option<Box<str>>,
    /// Groups it is a member of.
    pub groups: Vec<Id>,
    /// The tenant to whose requests it is known. Names and custom ids are unique within a tenant.
    pub tenant: Option<Box<Id>>,
    /// The data of [`Principal::document`].
    pub document: Document,
}

documented!(Principal { origin, name, custom_id, groups } sparse { tenant });

/// A group to which filter sets can be scoped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrincipalGroup {
    /// The user's object.
    pub origin: Origin,
    /// The name. If a principal is in several groups, the set of the alphabetically first group is used.
    pub name: Box<str>,
}

/// A credential of a principal, or an attachment of a principal (an ACL group is a credential of kind `acl`).
#[derive(Clone, Default)]
pub struct Credential {
    /// The user's object.
    pub origin: Origin,
    /// The attributes that credentials of one kind often share; they are accessible as fields of the credential.
    attributes: Arc<Attributes>,
    /// The owner.
    pub principal: Id,
    /// The value by which requests refer to it: the key, the user name, the issuer. Unique within kind and tenant, unless the
    /// kind is an attachment that is only found through its principal.
    pub lookup: Lookup,
}

/// The value by which requests refer to a [`Credential`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A name that is not secret. It does not begin with [`SecretRef::PREFIX`].
    Text(Box<str>),
    /// The name is itself the secret: an API key.
    Secret(SecretRef),
}

/// The kind and data of a [`Credential`], without its owner.
#[derive(Debug, Default, PartialEq)]
pub struct Attributes {
    /// The plugin that uses it.
    pub kind: Box<str>,
    /// The data, as described by the plugin's schema, with references in place of secrets. If [`Credential::lookup`] is
    /// one of the fields, it is `null` here; see [`Credential::complete_data`].
    pub data: Value,
    /// The tenant of its owner.
    pub tenant: Option<Id>,
    /// The name of the field that is the lookup.
    lookup_field: Option<Box<str>>,
}

impl Attributes {
    /// The attributes of a credential with this data; the field that is the lookup is removed.
    pub fn new(kind: &str, mut data: Value, lookup_field: &str) -> Self {
        let field = data.get_mut(lookup_field);
        let lookup_field = field.is_some().then(|| lookup_field.into());
        if let Some(field) = field {
            *field = Value::Null;
        }
        Self { kind: kind.into(), data, tenant: None, lookup_field }
    }

    /// The same for a credential of this tenant.
    #[must_use]
    pub fn of_tenant(self, tenant: Option<Id>) -> Self {
        Self { tenant, ..self }
    }
}

impl Default for Lookup {
    fn default() -> Self {
        Self::Text(Box::default())
    }
}

impl From<&str> for Lookup {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Lookup {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Secret(reference) => fmt::Display::fmt(reference, f),
        }
    }
}

impl Serialize for Lookup {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lookup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        if SecretRef::is_meant_by(&text) {
            return text.parse().map(Self::Secret).map_err(D::Error::custom);
        }
        Ok(Self::Text(text.into()))
    }
}

impl Credential {
    /// A credential whose attributes may be shared.
    pub fn new(origin: Origin, attributes: Arc<Attributes>, principal: Id, lookup: Lookup) -> Self {
        Self { origin, attributes, principal, lookup }
    }

    /// Replaces the references in its data by the secrets in `secrets`. The lookup is unchanged.
    ///
    /// # Errors
    /// The first unresolvable reference.
    pub fn resolved(&self, secrets: &Secrets) -> Result<Cow<'_, Self>, UnresolvedSecret> {
        let Cow::Owned(data) = secrets.resolve_value(&self.data)? else { return Ok(Cow::Borrowed(self)) };
        let (kind, lookup_field) = (self.kind.clone(), self.lookup_field.clone());
        let attributes = Attributes { kind, data, tenant: self.tenant, lookup_field };
        let (origin, lookup) = (self.origin.clone(), self.lookup.clone());
        Ok(Cow::Owned(Self { origin, attributes: Arc::new(attributes), principal: self.principal, lookup }))
    }

    /// Calls `visit` with each secret to which it refers.
    pub(crate) fn secrets(&self, visit: &mut dyn FnMut(SecretRef)) {
        if let Lookup::Secret(reference) = self.lookup {
            visit(reference);
        }
        references_in(&self.data, visit);
    }

    /// The complete data described by the plugin's schema.
    pub fn complete_data(&self) -> Value {
        let mut data = self.data.clone();
        if let Some(field) = self.lookup_field.as_ref().and_then(|field| data.get_mut(&**field)) {
            *field = Value::String(self.lookup.to_string());
        }
        data
    }
}

impl std::ops::Deref for Credential {
    type Target = Attributes;

    fn deref(&self) -> &Attributes {
        &self.attributes
    }
}

impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        let alike = Arc::ptr_eq(&self.attributes, &other.attributes) || self.attributes == other.attributes;
        self.lookup == other.lookup
            && self.principal == other.principal
            && self.origin == other.origin
            && (alike
                || (self.kind == other.kind
                    && self.tenant == other.tenant
                    && self.complete_data() == other.complete_data()))
    }
}

/// The serial form.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename = "Credential", default)]
struct Form<'c> {
    origin: Cow<'c, Origin>,
    kind: Cow<'c, str>,
    principal: Id,
    lookup: Cow<'c, Lookup>,
    #[serde(serialize_with = "crate::binary::in_key_order")]
    data: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<Id>,
}

impl Serialize for Credential {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (origin, kind) = (Cow::Borrowed(&self.origin), Cow::Borrowed(&*self.kind));
        let (lookup, data) = (Cow::Borrowed(&self.lookup), self.complete_data());
        Form { origin, kind, principal: self.principal, lookup, data, tenant: self.tenant }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Credential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Form { origin, kind, principal, lookup, data, tenant } = Form::deserialize(deserializer)?;
        let attributes = Attributes { kind: kind.into(), data, tenant, lookup_field: None };
        Ok(Self::new(origin.into_owned(), Arc::new(attributes), principal, lookup.into_owned()))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("origin", &self.origin)
            .field("kind", &self.kind)
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}
