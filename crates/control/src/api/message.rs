//! Requests, responses, and what the API is given.

use bytes::Bytes;
use cardinal_kong::settings::EnforceRbac;
use serde_json::{Value, json};

use crate::dao::{Fault, FutureOf};
use crate::rbac::SessionTimes;

/// Settings of the Admin API.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// The version of Kong that the API reports. Clients choose features by it.
    pub version: String,
    /// Name of the machine.
    pub hostname: String,
    /// The settings of the node that `GET /` shows, secrets masked.
    pub configuration: Value,
    /// Origins that browsers may send requests from, besides those on this machine: `https://manager.example`.
    pub origins: Vec<String>,
    /// Whether this process only controls data planes.
    pub is_control_plane: bool,
    /// Bytes of a request body at most.
    pub body_bytes_max: usize,
    /// Which rules of roles are enforced.
    pub enforce_rbac: EnforceRbac,
    /// How long sessions of browsers last.
    pub sessions: SessionTimes,
}

/// The configuration of a node without a database: one document. Kong: `kong/api/routes/config.lua`.
pub trait Declarative: Send + Sync + std::fmt::Debug {
    /// The configuration as a declarative file in YAML.
    fn text(&self) -> String;

    /// The hash of the configuration that is served; zeros if it is empty.
    fn hash(&self) -> String;

    /// Whether this text is what is served.
    fn is_served(&self, text: &str) -> bool;

    /// Replaces the configuration by that of a text in YAML or JSON. It is served when the future is ready. The result has
    /// all entities by kind and id.
    ///
    /// # Errors
    /// It is invalid, or another one is being loaded: status and body of the response.
    fn replace(&self, text: String, flatten_errors: bool) -> FutureOf<'_, Result<Value, Fault>>;
}

/// What says who sends a request.
#[derive(Clone, Default)]
pub struct Credentials {
    /// `Kong-Admin-Token`.
    pub token: Option<String>,
    /// `Authorization`.
    pub authorization: Option<String>,
    /// `Cookie`.
    pub cookie: Option<String>,
    /// `X-CSRF-Token`.
    pub csrf: Option<String>,
    /// Whether the connection has TLS.
    pub is_tls: bool,
}

/// Without the values.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let given = [&self.token, &self.authorization, &self.cookie, &self.csrf].map(Option::is_some);
        write!(f, "Credentials({given:?}, is_tls: {})", self.is_tls)
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`.
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// The query, without its `?`.
    pub query: String,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Origin`.
    pub origin: Option<String>,
    /// `Host`.
    pub host: Option<String>,
    /// Whether the client is on this machine.
    pub is_local: bool,
    /// `Access-Control-Request-Headers`.
    pub preflight_headers: Option<String>,
    /// Address of the client.
    pub from: String,
    /// Who sends it.
    pub credentials: Credentials,
    /// The body.
    pub body: Bytes,
}

const CONTENT_TYPE: &str = "content-type";

/// A response.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Header fields besides those that all responses have. With `content-type` among them, the body is text of this type
    /// instead of JSON.
    pub headers: Vec<(&'static str, String)>,
    /// The body; `None` for none.
    pub body: Option<Value>,
}

impl Response {
    pub(super) fn ok(body: Value) -> Self {
        Self { status: 200, headers: Vec::new(), body: Some(body) }
    }

    pub(super) fn text(content_type: &'static str, text: String) -> Self {
        let headers = vec![(CONTENT_TYPE, content_type.to_owned())];
        Self { status: 200, headers, body: Some(Value::String(text)) }
    }

    /// The body as it is sent.
    pub(super) fn body_text(&self) -> Option<String> {
        match &self.body {
            Some(Value::String(text)) if self.headers.iter().any(|(name, _)| *name == CONTENT_TYPE) => {
                Some(text.clone())
            }
            body => body.as_ref().map(Value::to_string),
        }
    }

    pub(super) fn created(body: Value) -> Self {
        Self { status: 201, ..Self::ok(body) }
    }

    pub(super) fn no_content() -> Self {
        Self { status: 204, headers: Vec::new(), body: None }
    }

    pub(super) fn message(status: u16, message: &str) -> Self {
        Self { status, ..Self::ok(json!({ "message": message })) }
    }
}

impl Response {
    /// The response with one more header field.
    pub(super) fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl From<Fault> for Response {
    fn from(fault: Fault) -> Self {
        // What is busy now is free again soon.
        let headers =
            if matches!(fault.status, 429 | 503) { vec![("retry-after", "1".to_owned())] } else { Vec::new() };
        Self { status: fault.status, headers, body: Some(fault.body) }
    }
}
