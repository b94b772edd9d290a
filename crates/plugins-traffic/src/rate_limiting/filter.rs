//! Counting requests in a Redis server and refusing those beyond a limit. Instances that count in this node's memory are
//! policies: see [`lower`](super::lower).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cardinal_ir::Id;
use cardinal_ir::policy::{LimitBy, Limiter};
use cardinal_sdk::rate::{self, Key, Limits, Quota, Usage, push_identifier};
use cardinal_sdk::{BuildCx, BuildError, Filter, FilterStep, Flow, HeadCx, Phases, Reply, ResponseCx, Verdict};
use serde_json::Value;

use super::lower;
use super::remote::Remote;

struct RateLimiting {
    limits: Limits,
    by: LimitBy,
    hide_headers: bool,
    fault_tolerant: bool,
    status: u16,
    message: Box<str>,
    remote: Remote,
    /// The second in which a failure was last logged: at most one line a second is logged.
    complained: AtomicU64,
}

/// Route and service of the plugin instance: an instance without them has one counter over all routes.
#[derive(Clone, Copy)]
pub(super) struct Scope {
    pub(super) route: Id,
    pub(super) service: Id,
}

pub(super) fn build(config: &Value, cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let limit = lower::rate_limit(config)?;
    let Limiter::Windows(windows) = &limit.limiter else {
        return Err(BuildError::new("config", "at least one limit is required"));
    };
    let (limits, sliding) = (rate::limits(windows), windows.sliding);
    // An instance for all routes counts for those of its tenant alone.
    let route = cx.route.or(cx.listeners).unwrap_or(Id::nil());
    let scope = Scope { route, service: cx.backend.unwrap_or(Id::nil()) };
    Ok(Arc::new(RateLimiting {
        limits,
        by: limit.by,
        hide_headers: limit.hide_headers,
        fault_tolerant: config.get("fault_tolerant").and_then(Value::as_bool).unwrap_or(false),
        status: limit.status,
        message: limit.message,
        remote: Remote::build(config, cx.services, scope, limits, sliding)?,
        complained: AtomicU64::new(0),
    }))
}

impl Filter for RateLimiting {
    fn phases(&self) -> Phases {
        if self.hide_headers { Phases::REQUEST } else { Phases::REQUEST.and(Phases::RESPONSE) }
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        let now = cx.services.clock.unix().seconds();
        let mut key = Key::new();
        push_identifier(&self.by, cx, &mut key);
        Flow::Wait(Box::pin(async move {
            let usage = self.remote.count(&key, now).await;
            self.verdict(cx, usage, now)
        }))
    }

    fn on_response_head<'a>(&'a self, cx: &'a mut ResponseCx<'_>) -> FilterStep<'a> {
        if let Some(quota) = cx.state::<Quota>().copied() {
            quota.write(&mut cx.response.headers);
        }
        FilterStep::Continue
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
            return Verdict::Reply(Box::new(Reply::error(self.status, self.message.to_string())));
        }
        Verdict::Continue
    }
}
