//! How a plugin describes itself.

use std::any::Any;
use std::sync::Arc;

use cardinal_ir::{Credential, Id, PolicySpec};
use cardinal_schema::Schema;
use serde_json::Value;

use crate::filter::Filter;
use crate::services::Services;

/// A plugin. Each plugin's folder exports one constant of this type, named `PLUGIN`.
#[derive(Debug)]
pub struct PluginDef {
    /// The name users write: `key-auth`.
    pub name: &'static str,
    /// One sentence for the manual.
    pub summary: &'static str,
    /// Place in the order: higher runs first. Kong's number where Kong has the plugin. Different for each plugin.
    pub priority: i32,
    /// Description of `config`.
    pub schema: fn() -> Schema,
    /// Entities it brings: credentials, and what is attached to principals.
    pub entities: &'static [EntityDef],
    /// What an instance may be scoped to besides globally.
    pub scopes: Scopes,
    /// Protocols it may be configured for, in Kong's order (the default of an instance's `protocols`).
    pub protocols: &'static [&'static str],
    /// What happens to requests for an instance that cannot be built.
    pub failure: FailureMode,
    /// Makes an instance. Called when a generation is planned, off the request path, for parameters that are valid.
    pub build: Build,
    /// Turns parameters into the policy that has the same effect. Front ends call it; where there is a policy, `build` is
    /// not called.
    pub lower: Option<Lower>,
}

impl PluginDef {
    /// [`PluginDef::build`] of a plugin all of whose instances are lowered to policies.
    pub const NO_FILTER: Build =
        |_, _| Err(BuildError::new("config", "the plugin has no filter of its own: it is a policy"));
}

/// See [`PluginDef::lower`]. `Ok(None)`: these parameters need a filter.
pub type Lower = fn(&Value) -> Result<Option<PolicySpec>, BuildError>;

/// See [`PluginDef::build`].
pub type Build = fn(&Value, &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError>;

/// What happens to requests for an instance that cannot be built, and to TLS handshakes in which an instance fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureMode {
    /// They are served without the instance. For plugins that protect nothing and change nothing that clients or
    /// upstreams depend on: logs, metrics, ids.
    Open,
    /// They fail with status 500, connections are closed. For all others.
    Closed,
}

impl FailureMode {
    /// For tables: `open`, `closed`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// What a plugin instance may be scoped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes {
    /// A route.
    pub route: bool,
    /// A service.
    pub service: bool,
    /// A consumer.
    pub consumer: bool,
    /// A consumer group.
    pub consumer_group: bool,
}

impl Scopes {
    /// Anything.
    pub const ALL: Self = Self { route: true, service: true, consumer: true, consumer_group: true };
    /// Anything that is known before authentication.
    pub const NO_CONSUMER: Self = Self { route: true, service: true, consumer: false, consumer_group: false };
}

/// Protocols of HTTP plugins.
pub const HTTP_PROTOCOLS: &[&str] = &["grpc", "grpcs", "http", "https"];

/// An entity that a plugin brings; it always belongs to a consumer.
#[derive(Debug)]
pub struct EntityDef {
    /// Name in declarative files: `keyauth_credentials`.
    pub name: &'static str,
    /// Name in Admin API paths: `key-auths`; the nested form is `/consumers/{c}/` and `nested`.
    pub collection: &'static str,
    /// Name in nested Admin API paths: `key-auth`.
    pub nested: &'static str,
    /// The kind that [`Directory`](crate::Directory) finds it under: the plugin's name.
    pub kind: &'static str,
    /// Description of its own fields, without `id`, `created_at`, `tags` and `consumer`.
    pub schema: fn() -> Schema,
    /// The field that requests name it by. Unique, unless the entity is attached (`unique` is false).
    pub lookup: &'static str,
    /// Whether `lookup` is unique over all consumers (a key) or only within one (an ACL group).
    pub unique: bool,
    /// Fields that are secrets, besides those that the schema marks as encrypted. `lookup` may be one of them. Records hold
    /// references in their place.
    pub secrets: &'static [&'static str],
    /// Changes a valid record before it is kept: hashes a password.
    pub seal: Option<Seal>,
    /// Makes ready what requests need: parses keys. References in its data have been replaced by the secrets. An error
    /// leaves the credential out.
    pub prepare: Option<Prepare>,
}

/// See [`EntityDef::seal`].
#[derive(Debug)]
pub struct Seal {
    /// The field that is changed. It cannot be set without a consumer.
    pub field: &'static str,
    /// Changes the record. `principal` is its consumer.
    pub run: fn(&mut Value, principal: Id),
}

/// See [`EntityDef::prepare`].
pub type Prepare = fn(&Credential) -> Result<Prepared, String>;

/// What a plugin made of a credential at plan time.
pub type Prepared = Arc<dyn Any + Send + Sync>;

/// What building an instance may use.
#[derive(Debug)]
pub struct BuildCx<'x> {
    /// The node.
    pub services: &'x Services,
    /// The instance's id.
    pub id: Id,
    /// The route it is scoped to.
    pub route: Option<Id>,
    /// The service it is scoped to.
    pub backend: Option<Id>,
    /// The consumer it is scoped to.
    pub principal: Option<Id>,
}

/// Why an instance cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct BuildError {
    /// The field, dotted.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl BuildError {
    /// An error about a field.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}
