//! Counting requests and refusing those beyond a limit.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cardinal_ir::Id;
use cardinal_sdk::{BuildCx, BuildError, CredentialRef, Filter, Flow, HeadCx, Phases, Reply, ResponseCx, Verdict};
use serde_json::Value;
use smallvec::SmallVec;

use super::identifier;
use super::local::Counters;
use super::quota::{Limits, Quota, Usage, limited};
use super::remote::Remote;
use super::window::Period;

/// Text that a request is counted by. Long enough for what counters are named by, so that it stays off the heap.
pub(super) type Key = SmallVec<[u8; 128]>;

struct RateLimiting {
    limits: Limits,
    by: By,
    scope: Scope,
    hide_headers: bool,
    fault_tolerant: bool,
    status: u16,
    message: Box<str>,
    sliding: bool,
    policy: Policy,
    /// The second in which a failure was last logged: at most one line a second is logged.
    complained: AtomicU64,
}

/// Route and service of the plugin instance: an instance without them has one counter over all routes.
#[derive(Clone, Copy)]
pub(super) struct Scope {
    pub(super) route: Id,
    pub(super) service: Id,
}

enum Policy {
    Local(Arc<Counters>),
    Redis(Remote),
}

enum By {
    Consumer,
    Credential,
    Ip,
    Service,
    Header(Box<[u8]>),
    Path(Box<[u8]>),
}

pub(super) fn build(config: &Value, cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let text = |field: &str| config.get(field).and_then(Value::as_str);
    let flag = |field: &str| config.get(field).and_then(Value::as_bool).unwrap_or(false);
    let limits = Period::ALL.map(|period| config.get(period.name()).and_then(Value::as_f64));
    if limited(&limits).next().is_none() {
        return Err(BuildError::new("config", "at least one limit is required"));
    }
    let scope = Scope { route: cx.route.unwrap_or(Id::nil()), service: cx.backend.unwrap_or(Id::nil()) };
    let sliding = text("window_type") == Some("sliding");
    let policy = match text("policy") {
        Some("redis") => Policy::Redis(Remote::build(config, cx.services, scope, limits, sliding)?),
        None | Some("local") => {
            Policy::Local(cx.services.shared.get_or_insert("rate-limiting counters", Counters::default))
        }
        Some(other) => {
            return Err(BuildError::new("config.policy", format!("'{other}' needs a database; use local or redis")));
        }
    };
    let status = config.get("error_code").and_then(Value::as_f64).unwrap_or(429.0);
    if !(100.0..=599.0).contains(&status) {
        return Err(BuildError::new("config.error_code", "must be a status from 100 to 599"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within limits")]
    let status = status as u16;
    Ok(Arc::new(RateLimiting {
        limits,
        by: limit_by(text("limit_by"), text("header_name"), text("path"))?,
        scope,
        hide_headers: flag("hide_client_headers"),
        fault_tolerant: flag("fault_tolerant"),
        status,
        message: text("error_message").unwrap_or("API rate limit exceeded").into(),
        sliding,
        policy,
        complained: AtomicU64::new(0),
    }))
}

fn limit_by(by: Option<&str>, header: Option<&str>, path: Option<&str>) -> Result<By, BuildError> {
    let missing = |field| move || BuildError::new(field, "required field missing");
    Ok(match by {
        Some("credential") => By::Credential,
        Some("ip") => By::Ip,
        Some("service") => By::Service,
        Some("header") => By::Header(header.ok_or_else(missing("config.header_name"))?.as_bytes().into()),
        Some("path") => By::Path(path.ok_or_else(missing("config.path"))?.as_bytes().into()),
        _ => By::Consumer,
    })
}

impl Filter for RateLimiting {
    fn phases(&self) -> Phases {
        if self.hide_headers { Phases::REQUEST } else { Phases::REQUEST.and(Phases::RESPONSE) }
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        let now = cx.services.clock.unix().seconds();
        let mut key = Key::new();
        match &self.policy {
            Policy::Local(counters) => {
                key.extend_from_slice(self.scope.route.as_bytes());
                key.extend_from_slice(self.scope.service.as_bytes());
                self.push_identifier(cx, &mut key);
                let usage = counters.count(&key, &self.limits, now, self.sliding);
                match self.verdict(cx, Ok(usage), now) {
                    Verdict::Reply(reply) => Flow::Reply(reply),
                    _ => Flow::Continue,
                }
            }
            Policy::Redis(remote) => {
                self.push_identifier(cx, &mut key);
                Flow::Wait(Box::pin(async move {
                    let usage = remote.count(&key, now).await;
                    self.verdict(cx, usage, now)
                }))
            }
        }
    }

    fn on_response_head(&self, cx: &mut ResponseCx<'_>) {
        if let Some(quota) = cx.state::<Quota>().copied() {
            quota.write(&mut cx.response.headers);
        }
    }
}

impl RateLimiting {
    fn verdict(&self, cx: &mut HeadCx<'_>, usage: Result<Usage, String>, now: u64) -> Verdict {
        let usage = match usage {
            Ok(usage) => usage,
            Err(reason) if self.fault_tolerant => {
                if self.complained.swap(now, Ordering::Relaxed) != now {
                    tracing::error!(reason, "rate-limiting: failed to get usage; requests pass");
                }
                return Verdict::Continue;
            }
            Err(reason) => return Verdict::Fail(reason),
        };
        let quota = Quota::decide(&self.limits, &usage, now);
        if !self.hide_headers {
            cx.set_state(quota);
        }
        if quota.refused {
            return Verdict::Reply(Box::new(Reply::error(self.status, Cow::Owned(self.message.to_string()))));
        }
        Verdict::Continue
    }

    /// What the request is counted by; the client's address where the request does not have it.
    fn push_identifier(&self, cx: &HeadCx<'_>, key: &mut Key) {
        let identity = &cx.exchange.identity;
        let credential = || identity.credential.as_ref().map(CredentialRef::id);
        match &self.by {
            By::Consumer => match (&identity.principal, credential()) {
                (Some(principal), _) => return push_id(principal.id, key),
                (None, Some(credential)) => return identifier::push_text("credential", credential.as_bytes(), key),
                (None, None) => {}
            },
            By::Credential => {
                if let Some(credential) = credential() {
                    return identifier::push_text("credential", credential.as_bytes(), key);
                }
            }
            By::Service => {
                if let Some(backend) = &cx.exchange.backend {
                    return push_id(backend.id(), key);
                }
            }
            By::Header(name) => {
                if let Some(value) = cx.request.headers.get(name) {
                    return identifier::push_text("header", value, key);
                }
            }
            By::Path(path) => {
                if *cx.path == **path {
                    return key.extend_from_slice(path);
                }
            }
            By::Ip => {}
        }
        // Writing to memory does not fail.
        write!(key, "{}", cx.client_ip()).unwrap_or_default();
    }
}

fn push_id(id: Id, key: &mut Key) {
    key.extend_from_slice(id.hyphenated().encode_lower(&mut [0; uuid::fmt::Hyphenated::LENGTH]).as_bytes());
}
