//! Shared parts of authentication plugins: anonymous access, and how several of them work together.
//!
//! Without `anonymous`, each plugin must be satisfied (logical AND). With it, one that finds the request authenticated
//! is skipped, and one that cannot authenticate it lets it through as the anonymous consumer (logical OR). Kong:
//! `logical_OR_authentication` and `logical_AND_authentication` of its handlers.

use std::sync::Arc;

use cardinal_http::{Method, is_value};
use cardinal_sdk::{BuildError, CredentialRef, Flow, HeadCx, PrincipalEntry, Reply};

use crate::consumer_headers;

/// Which requests a plugin skips, and what happens to those that are not authenticated.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Id or name of the principal of requests that are not authenticated.
    pub(crate) anonymous: Option<Box<str>>,
    /// Whether `OPTIONS` requests must be authenticated, too.
    pub(crate) run_on_preflight: bool,
}

impl Gate {
    /// Whether the plugin skips this request. Skipping it does not change its consumer.
    pub(crate) fn skips(&self, cx: &mut HeadCx<'_>) -> bool {
        let is_preflight = !self.run_on_preflight && cx.request.method == Method::Options;
        if is_preflight && cx.exchange.identity.principal.is_none() {
            consumer_headers::remove(&mut cx.request.headers);
        }
        is_preflight || (self.anonymous.is_some() && cx.exchange.identity.is_authenticated())
    }

    /// Passes a request that is not authenticated as the anonymous principal, or rejects it.
    pub(crate) fn refuse(&self, cx: &mut HeadCx<'_>, refusal: impl FnOnce() -> Reply) -> Flow<'static> {
        let Some(name) = &self.anonymous else { return Flow::reply(refusal()) };
        let directory = cx.directory;
        let Some(principal) = directory.principal_by_id_or_name(name) else {
            let message = format!("anonymous consumer {name} is configured but doesn't exist");
            tracing::error!("{message}");
            return Flow::reply(Reply::error(500, message));
        };
        consumer_headers::write(&mut cx.request.headers, Some(principal), None);
        cx.authenticate(Some(Arc::clone(principal)), None);
        Flow::Continue
    }
}

/// The request is authenticated. `identifier` is sent to the upstream.
pub(crate) fn admit(
    cx: &mut HeadCx<'_>,
    principal: &Arc<PrincipalEntry>,
    credential: CredentialRef,
    identifier: &str,
) -> Flow<'static> {
    consumer_headers::write(&mut cx.request.headers, Some(principal), Some(identifier));
    cx.authenticate(Some(Arc::clone(principal)), Some(credential));
    Flow::Continue
}

/// A value for `WWW-Authenticate`, checked once so that it cannot fail to be sent.
pub(crate) fn challenge(text: String) -> Result<Box<str>, BuildError> {
    if is_value(text.as_bytes()) {
        return Ok(text.into());
    }
    Err(BuildError::new("realm", "must not contain control characters: it is sent in a header"))
}

/// A configuration that its schema has completed, as the plugin's own type.
pub(crate) fn parse_config<T: serde::de::DeserializeOwned>(config: &serde_json::Value) -> Result<T, BuildError> {
    T::deserialize(config).map_err(|error| BuildError::new("config", error.to_string()))
}
