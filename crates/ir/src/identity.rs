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

/// A certificate with its key, and the names it serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// The user's object.
    pub origin: Origin,
    /// Chain and key, one or two of them with different key types.
    pub pairs: Vec<KeyPair>,
    /// Server names, exact, `*.x` or `x.*`, lower-case. `*` is the default certificate.
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
    /// The SPIFFE trust domain that the certificates are the roots of: `example.org`. A trust domain has one bundle.
    /// `None`: authorities that other records name.
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
    /// Certificate and key, which must be those of the ID. `None`: the node gets them, and their successors, from whoever
    /// issues them; until then connections by this identity fail.
    pub pair: Option<KeyPair>,
}

/// Who may call.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Principal {
    /// The user's object.
    pub origin: Origin,
    /// The name (Kong: `username`).
    pub name: Option<Box<str>>,
    /// The name in somebody else's books.
    pub custom_id: Option<Box<str>>,
    /// Groups it is a member of.
    pub groups: Vec<Id>,
    /// Behind [`Principal::document`].
    pub document: Document,
}

documented!(Principal { origin, name, custom_id, groups });

/// A group that filter sets may be scoped to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrincipalGroup {
    /// The user's object.
    pub origin: Origin,
    /// The name. Where a principal is in several groups, the alphabetically first one with a set wins.
    pub name: Box<str>,
}

/// What a principal proves itself with, or what is attached to it (an ACL group is a credential of kind `acl`).
#[derive(Clone, Default)]
pub struct Credential {
    /// The user's object.
    pub origin: Origin,
    /// What credentials of one kind mostly share; read as if it were here.
    attributes: Arc<Attributes>,
    /// Whose it is.
    pub principal: Id,
    /// What requests name it by: the key, the user name, the issuer. Unique within the kind unless the kind is an
    /// attachment that only its principal leads to.
    pub lookup: Lookup,
}

/// What requests name a [`Credential`] by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A name that is no secret. It does not begin with [`SecretRef::PREFIX`].
    Text(Box<str>),
    /// The name is the secret itself: an API key.
    Secret(SecretRef),
}

/// What a [`Credential`] is, apart from who it is.
#[derive(Debug, Default, PartialEq)]
pub struct Attributes {
    /// The plugin that reads it.
    pub kind: Box<str>,
    /// What its plugin's schema describes, with references in the place of secrets. Where [`Credential::lookup`] is one of
    /// the fields there is `null` in its place; see [`Credential::complete_data`].
    pub data: Value,
    /// The field that is the lookup.
    lookup_field: Option<Box<str>>,
}

impl Attributes {
    /// Of a credential with these data, whose field of this name is its lookup: that is taken out.
    pub fn new(kind: &str, mut data: Value, lookup_field: &str) -> Self {
        let field = data.get_mut(lookup_field);
        let lookup_field = field.is_some().then(|| lookup_field.into());
        if let Some(field) = field {
            *field = Value::Null;
        }
        Self { kind: kind.into(), data, lookup_field }
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
    /// A credential whose attributes others may share.
    pub fn new(origin: Origin, attributes: Arc<Attributes>, principal: Id, lookup: Lookup) -> Self {
        Self { origin, attributes, principal, lookup }
    }

    /// The same with the secrets of `secrets` in its data. Its lookup stays as it is.
    ///
    /// # Errors
    /// The first reference that cannot be resolved.
    pub fn resolved(&self, secrets: &Secrets) -> Result<Cow<'_, Self>, UnresolvedSecret> {
        let Cow::Owned(data) = secrets.resolve_value(&self.data)? else { return Ok(Cow::Borrowed(self)) };
        let attributes = Attributes { kind: self.kind.clone(), data, lookup_field: self.lookup_field.clone() };
        let (origin, lookup) = (self.origin.clone(), self.lookup.clone());
        Ok(Cow::Owned(Self { origin, attributes: Arc::new(attributes), principal: self.principal, lookup }))
    }

    /// Calls `visit` with each secret that it refers to.
    pub(crate) fn secrets(&self, visit: &mut dyn FnMut(SecretRef)) {
        if let Lookup::Secret(reference) = self.lookup {
            visit(reference);
        }
        references_in(&self.data, visit);
    }

    /// All that its plugin's schema describes.
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
            && (alike || (self.kind == other.kind && self.complete_data() == other.complete_data()))
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
}

impl Serialize for Credential {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (origin, kind) = (Cow::Borrowed(&self.origin), Cow::Borrowed(&*self.kind));
        let (lookup, data) = (Cow::Borrowed(&self.lookup), self.complete_data());
        Form { origin, kind, principal: self.principal, lookup, data }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Credential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Form { origin, kind, principal, lookup, data } = Form::deserialize(deserializer)?;
        let attributes = Attributes { kind: kind.into(), data, lookup_field: None };
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
