//! Rate limit: limits the requests or connections of this node. See [`RateLimit`].

use std::sync::Arc;

use cardinal_base::Tick;
use cardinal_ir::policy::{LimitBy, Limiter, RateLimit, TokenBucket};
use cardinal_sdk::rate::{self, Counters, Key, Limits, Quota, push_address, push_identifier};
use cardinal_sdk::{
    Admit, BuildError, ConnectCx, Filter, FilterStep, Flow, HeadCx, Phases, Reply, ResponseCx, Services,
};

use super::building::{PolicyCx, check_fields};
use super::{Event, PolicyCounts};

/// The default status of rejected requests.
const TOO_MANY_REQUESTS: u16 = 429;

/// A compiled rate limit.
pub(super) struct Limit {
    limiter: Counting,
    by: LimitBy,
    /// The key prefix of this policy's counters.
    prefix: Key,
    counters: Arc<Counters>,
    status: u16,
    message: Box<str>,
    set_headers: Vec<(Box<str>, Box<str>)>,
    add_headers: Vec<(Box<str>, Box<str>)>,
    hide_headers: bool,
    counts: Arc<PolicyCounts>,
}

enum Counting {
    Windows { limits: Limits, sliding: bool },
    Bucket(TokenBucket),
}

impl Limit {
    pub(super) fn build(spec: &RateLimit, cx: &PolicyCx<'_>) -> Result<Self, BuildError> {
        let status = if spec.status == 0 { TOO_MANY_REQUESTS } else { spec.status };
        if !(100..=599).contains(&status) {
            return Err(BuildError::new("spec.status", "must be a status from 100 to 599"));
        }
        check_fields("spec.set_headers", &spec.set_headers)?;
        check_fields("spec.add_headers", &spec.add_headers)?;
        // The two kinds of limiters use different clocks.
        let (limiter, counters) = match &spec.limiter {
            Limiter::Windows(windows) => {
                let limits = rate::limits(windows);
                if limits.iter().flatten().next().is_none() {
                    return Err(BuildError::new("spec.limiter", "at least one limit is required"));
                }
                // A limit of NaN would not limit anything.
                if !windows.limits.iter().all(|window| window.limit.is_finite() && window.limit >= 0.0) {
                    return Err(BuildError::new("spec.limiter", "a limit must be a number, and not below 0"));
                }
                (Counting::Windows { limits, sliding: windows.sliding }, "rate limit windows")
            }
            Limiter::Bucket(bucket) => (Counting::Bucket(*bucket), "rate limit buckets"),
        };
        Ok(Self {
            limiter,
            by: spec.by.clone(),
            prefix: prefix(cx),
            counters: cx.services.shared.get_or_insert(counters, Counters::default),
            status,
            message: spec.message.clone(),
            set_headers: spec.set_headers.clone(),
            add_headers: spec.add_headers.clone(),
            hide_headers: spec.hide_headers,
            counts: cx.services.shared.get_or_insert(PolicyCounts::KEY, PolicyCounts::default),
        })
    }

    /// Counts a request or connection, unless the limit is reached.
    fn count(&self, key: &[u8], services: &Services) -> Outcome {
        match &self.limiter {
            Counting::Windows { limits, sliding } => {
                let now = services.clock.unix().seconds();
                let quota = Quota::decide(limits, &self.counters.count(key, limits, now, *sliding), now);
                Outcome { refused: quota.refused, quota: Some(quota) }
            }
            Counting::Bucket(bucket) => {
                let now_ms = services.clock.tick().millis_since(Tick::default());
                Outcome { refused: !self.counters.take(key, *bucket, now_ms), quota: None }
            }
        }
    }

    fn refusal(&self) -> Reply {
        let mut reply = Reply::error(self.status, self.message.to_string());
        for (name, value) in &self.set_headers {
            reply.headers.set(name.as_bytes(), value.as_bytes());
        }
        for (name, value) in &self.add_headers {
            reply.headers.append(name.as_bytes(), value.as_bytes());
        }
        reply
    }
}

struct Outcome {
    refused: bool,
    quota: Option<Quota>,
}

/// Instances of a plugin share counters with others of the same route and service; any other policy has its own.
fn prefix(cx: &PolicyCx<'_>) -> Key {
    let mut prefix = Key::new();
    if cx.of_plugin {
        // An instance for all routes counts for those of its tenant alone.
        prefix.extend_from_slice(cx.scope.route.or(cx.scope.listeners).unwrap_or_default().as_bytes());
        prefix.extend_from_slice(cx.scope.backend.unwrap_or_default().as_bytes());
    } else {
        prefix.extend_from_slice(cx.id.as_bytes());
    }
    prefix.extend_from_slice(&cx.order.to_be_bytes());
    prefix
}

impl Filter for Limit {
    fn phases(&self) -> Phases {
        let requests = Phases::REQUEST.and(Phases::CONNECT);
        let tells = matches!(self.limiter, Counting::Windows { .. }) && !self.hide_headers;
        if tells { requests.and(Phases::RESPONSE) } else { requests }
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        let mut key = self.prefix.clone();
        push_identifier(&self.by, cx, &mut key);
        let outcome = self.count(&key, cx.services);
        if let Some(quota) = outcome.quota.filter(|_| !self.hide_headers) {
            cx.set_state(quota);
        }
        if !outcome.refused {
            return Flow::Continue;
        }
        self.counts.add(Event::Limited);
        Flow::reply(self.refusal())
    }

    fn on_response_head<'a>(&'a self, cx: &'a mut ResponseCx<'_>) -> FilterStep<'a> {
        if let Some(quota) = cx.state::<Quota>().copied() {
            quota.write(&mut cx.response.headers);
        }
        FilterStep::Continue
    }

    fn on_connect(&self, cx: &mut ConnectCx<'_>) -> Admit {
        let mut key = self.prefix.clone();
        if self.by != LimitBy::All {
            push_address(cx.exchange.client.ip, &mut key);
        }
        if !self.count(&key, cx.services).refused {
            return Admit::Yes;
        }
        self.counts.add(Event::Limited);
        Admit::No
    }
}

#[cfg(test)]
mod tests;
