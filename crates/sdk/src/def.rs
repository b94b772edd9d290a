//! The definition of a plugin.

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
    /// The name in configurations: `key-auth`.
    pub name: &'static str,
    /// One sentence for the documentation.
    pub summary: &'static str,
    /// Position in the filter chain: higher priorities run first. Kong's number if Kong has the plugin. Unique for each
    /// plugin.
    pub priority: i32,
    /// Schema of `config`.
    pub schema: fn() -> Schema,
    /// The plugin's entities: credentials, and attachments of principals.
    pub entities: &'static [EntityDef],
    /// Scopes of instances besides the global one.
    pub scopes: Scopes,
    /// Supported protocols, in Kong's order (the default of an instance's `protocols`).
    pub protocols: &'static [&'static str],
    /// How requests are handled if an instance cannot be built.
    pub failure: FailureMode,
    /// Builds an instance from valid parameters. Called when a generation is planned, off the request path.
    pub build: Build,
    /// Converts parameters into the policy with the same effect. Called by front ends; if it returns a policy, `build`
    /// is not called.
    pub lower: Option<Lower>,
}

impl PluginDef {
    /// [`PluginDef::build`] of a plugin whose instances are all lowered to policies.
    pub const NO_FILTER: Build =
        |_, _| Err(BuildError::new("config", "the plugin has no filter of its own: it is a policy"));
}

/// See [`PluginDef::lower`]. `Ok(None)`: these parameters need a filter.
pub type Lower = fn(&Value) -> Result<Option<PolicySpec>, BuildError>;

/// See [`PluginDef::build`].
pub type Build = fn(&Value, &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError>;

/// How requests are handled if an instance cannot be built, and TLS handshakes if an instance fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureMode {
    /// Fail open: they are served without the instance. For plugins that do not protect anything and do not change
    /// anything on which clients or upstreams depend: logs, metrics, ids.
    Open,
    /// Fail closed: requests receive status 500, connections are closed. For all other plugins.
    Closed,
}

impl FailureMode {
    /// The name in tables: `open`, `closed`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// The possible scopes of a plugin instance.
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
    /// All scopes.
    pub const ALL: Self = Self { route: true, service: true, consumer: true, consumer_group: true };
    /// All scopes that are known before authentication.
    pub const NO_CONSUMER: Self = Self { route: true, service: true, consumer: false, consumer_group: false };
}

/// Protocols of HTTP plugins.
pub const HTTP_PROTOCOLS: &[&str] = &["grpc", "grpcs", "http", "https"];

/// An entity of a plugin; it always belongs to a consumer.
#[derive(Debug)]
pub struct EntityDef {
    /// Name in declarative files: `keyauth_credentials`.
    pub name: &'static str,
    /// Name in Admin API paths: `key-auths`; the nested form is `/consumers/{c}/` and `nested`.
    pub collection: &'static str,
    /// Name in nested Admin API paths: `key-auth`.
    pub nested: &'static str,
    /// The kind by which [`Directory`](crate::Directory) finds it: the plugin's name.
    pub kind: &'static str,
    /// Schema of its own fields, without `id`, `created_at`, `tags` and `consumer`.
    pub schema: fn() -> Schema,
    /// The field by which requests refer to it. Unique, unless the entity is an attachment (`unique` is false).
    pub lookup: &'static str,
    /// Whether `lookup` is unique over all consumers (a key) or only within one (an ACL group).
    pub unique: bool,
    /// Fields that are secrets, in addition to those that the schema marks as encrypted; possibly including `lookup`.
    /// Records contain references in their place.
    pub secrets: &'static [&'static str],
    /// Transforms a valid record before it is stored, such as hashing a password.
    pub seal: Option<Seal>,
    /// Prepares a credential for requests, such as parsing keys. References in its data have been replaced by the
    /// secrets. If it returns an error, the credential is left out.
    pub prepare: Option<Prepare>,
}

/// See [`EntityDef::seal`].
#[derive(Debug)]
pub struct Seal {
    /// The field that is transformed. It cannot be set without a consumer.
    pub field: &'static str,
    /// Transforms the record. `principal` is its consumer.
    pub run: fn(&mut Value, principal: Id),
}

/// See [`EntityDef::prepare`].
pub type Prepare = fn(&Credential) -> Result<Prepared, String>;

/// The result of preparing a credential at plan time.
pub type Prepared = Arc<dyn Any + Send + Sync>;

/// The input for building an instance.
#[derive(Debug)]
pub struct BuildCx<'x> {
    /// The node.
    pub services: &'x Services,
    /// The instance id.
    pub id: Id,
    /// The listener group or the tenant whose requests it is for; `None` is the default group.
    pub listeners: Option<Id>,
    /// The route to which it is scoped.
    pub route: Option<Id>,
    /// The service to which it is scoped.
    pub backend: Option<Id>,
    /// The consumer to which it is scoped.
    pub principal: Option<Id>,
}

/// Why an instance cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct BuildError {
    /// The field path, dotted.
    pub path: String,
    /// The error message.
    pub message: String,
}

impl BuildError {
    /// An error about a field.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}
