//! Retries: whether a request is sent again, and after which delay. [`decide`] is pure; `http::upstream_call` applies
//! its result.

mod budget;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use budget::BudgetGuard;
pub(crate) use text::retry_text;

use cardinal_base::UnixMillis;
use cardinal_http::{Failure, FailureKind, HeaderList, RequestHead, ResponseHead, Retry as Verdict};
use cardinal_ir::policy::{HeaderCheck, HeaderValue, ResetFormat, Retry, RetryCondition, RetryMethods};

use super::timeouts::Expiry;

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attempt<'x> {
    /// There was no response.
    Failed {
        /// The cause.
        cause: Cause,
        /// No byte of the request reached the upstream, or the upstream guarantees that it has not processed the
        /// request.
        unsent: bool,
    },
    /// There was a response.
    Response(&'x ResponseHead),
}

/// Why there was no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Connecting failed.
    Connect,
    /// The connection or the stream ended.
    Reset,
    /// A timeout towards the upstream expired.
    Timeout,
    /// A timeout of this attempt alone expired.
    PerTryTimeout,
}

/// A retry to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delay {
    /// Delay before the retry, milliseconds.
    pub(crate) ms: u64,
    pub(crate) reason: Reason,
}

/// The reason of a retry: the label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    ConnectFailure,
    Reset,
    RefusedStream,
    Timeout,
    PerTryTimeout,
    Status,
    Header,
    GrpcStatus,
}

impl Reason {
    pub(crate) const ALL: [Self; 8] = [
        Self::ConnectFailure,
        Self::Reset,
        Self::RefusedStream,
        Self::Timeout,
        Self::PerTryTimeout,
        Self::Status,
        Self::Header,
        Self::GrpcStatus,
    ];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::ConnectFailure => "connect_failure",
            Self::Reset => "reset",
            Self::RefusedStream => "refused_stream",
            Self::Timeout => "timeout",
            Self::PerTryTimeout => "per_try_timeout",
            Self::Status => "status",
            Self::Header => "header",
            Self::GrpcStatus => "grpc_status",
        }
    }
}

/// The input of a decision besides the policy and the attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'x> {
    /// Number of retries so far.
    pub(crate) retries: u16,
    pub(crate) request: &'x RequestHead,
    /// The whole request can be sent again: its body has not been forwarded yet, or is buffered.
    pub(crate) replayable: bool,
    /// Milliseconds until the request times out as a whole; `None` for no limit.
    pub(crate) left_ms: Option<u64>,
    pub(crate) now: UnixMillis,
}

/// Decides whether and when a request is sent again after an attempt. `random` returns a number below its argument.
pub(crate) fn decide(
    retry: &Retry,
    attempt: Attempt<'_>,
    situation: &Situation<'_>,
    random: impl FnOnce(u64) -> u64,
) -> Option<Delay> {
    if situation.retries >= retry.attempts || !situation.replayable {
        return None;
    }
    let reason = retry.conditions.iter().find_map(|condition| reason(condition, attempt))?;
    let unsent = matches!(attempt, Attempt::Failed { unsent: true, .. });
    if !sends_again(retry, situation.request, unsent) {
        return None;
    }
    let asked_ms = match attempt {
        Attempt::Response(response) => asked_wait_ms(retry, &response.headers, situation.now),
        Attempt::Failed { .. } => None,
    };
    let ms = match asked_ms {
        Some(ms) => ms.saturating_add(random(ms / 2)),
        None => random(backoff_max_ms(retry, situation.retries)),
    };
    situation.left_ms.is_none_or(|left_ms| ms < left_ms).then_some(Delay { ms, reason })
}

/// Whether the policy retries after some responses.
pub(crate) fn watches_responses(retry: &Retry) -> bool {
    retry.conditions.iter().any(|condition| {
        matches!(
            condition,
            RetryCondition::ServerError
                | RetryCondition::GatewayError
                | RetryCondition::Retriable4xx
                | RetryCondition::Status(_)
                | RetryCondition::ResponseHeader(_)
                | RetryCondition::Grpc(_)
        )
    })
}

/// Whether a request of this method may be retried after it has reached an upstream, so that its body should be
/// buffered.
pub(crate) fn may_repeat(retry: &Retry, request: &RequestHead) -> bool {
    sends_again(retry, request, false)
}

fn sends_again(retry: &Retry, request: &RequestHead, unsent: bool) -> bool {
    let by_method = match &retry.methods {
        RetryMethods::Idempotent => unsent || request.method.is_idempotent(),
        RetryMethods::Any => true,
        RetryMethods::Listed(methods) => methods.iter().any(|method| **method == *request.method.as_str()),
    };
    let headers = &retry.request_headers;
    by_method && (headers.is_empty() || headers.iter().any(|check| has(&request.headers, check)))
}

/// The reason to retry if an attempt satisfies a condition.
fn reason(condition: &RetryCondition, attempt: Attempt<'_>) -> Option<Reason> {
    match attempt {
        Attempt::Failed { cause, unsent } => reason_of_failure(condition, cause, unsent),
        Attempt::Response(response) => reason_of_response(condition, response),
    }
}

fn reason_of_failure(condition: &RetryCondition, cause: Cause, unsent: bool) -> Option<Reason> {
    use RetryCondition as On;
    match (cause, condition) {
        (Cause::Connect, On::ConnectFailure) => Some(Reason::ConnectFailure),
        (Cause::Reset, On::Reset | On::ResetBeforeRequest | On::RefusedStream) if unsent => Some(Reason::RefusedStream),
        (Cause::Reset, On::Reset) => Some(Reason::Reset),
        (Cause::Timeout, On::Timeout) => Some(Reason::Timeout),
        (Cause::PerTryTimeout, On::Timeout | On::PerTryTimeout) => Some(Reason::PerTryTimeout),
        _ => None,
    }
}

fn reason_of_response(condition: &RetryCondition, response: &ResponseHead) -> Option<Reason> {
    let status = response.status;
    // A response with status 101 cannot be dropped.
    if status < 200 {
        return None;
    }
    let by = |is: bool, reason: Reason| is.then_some(reason);
    match condition {
        RetryCondition::ServerError => by((500..=599).contains(&status), Reason::Status),
        RetryCondition::GatewayError => by(matches!(status, 502..=504), Reason::Status),
        RetryCondition::Retriable4xx => by(status == 409, Reason::Status),
        RetryCondition::Status(listed) => by(status == *listed, Reason::Status),
        RetryCondition::ResponseHeader(check) => by(has(&response.headers, check), Reason::Header),
        RetryCondition::Grpc(code) => {
            let sent = response.headers.get_str("grpc-status").and_then(|text| text.parse().ok());
            by(sent == Some(code.number()), Reason::GrpcStatus)
        }
        RetryCondition::ConnectFailure
        | RetryCondition::Reset
        | RetryCondition::ResetBeforeRequest
        | RetryCondition::RefusedStream
        | RetryCondition::Timeout
        | RetryCondition::PerTryTimeout => None,
    }
}

fn has(headers: &HeaderList, check: &HeaderCheck) -> bool {
    let mut values = headers.get_all(check.name.as_bytes());
    match &check.value {
        HeaderValue::Present => values.next().is_some(),
        HeaderValue::Absent => values.next().is_none(),
        HeaderValue::Exact(text) => values.any(|value| value == text.as_bytes()),
        HeaderValue::Prefix(text) => values.any(|value| value.starts_with(text.as_bytes())),
    }
}

/// The delay requested by a response.
fn asked_wait_ms(retry: &Retry, headers: &HeaderList, now: UnixMillis) -> Option<u64> {
    let policy = retry.rate_limited.as_ref()?;
    let usable = |ms: &u64| (1..=policy.max_ms).contains(ms);
    let wait = |name: &str, format| headers.get_str(name).and_then(|text| wait_ms(text.trim(), format, now));
    policy.headers.iter().find_map(|header| wait(&header.name, header.format).filter(usable))
}

/// The delay in milliseconds from the value of a header; `None` if the value is invalid or in the past.
fn wait_ms(text: &str, format: ResetFormat, now: UnixMillis) -> Option<u64> {
    let at_ms = |at: u64| at.saturating_mul(1_000).checked_sub(now.0);
    match (format, text.parse::<u64>()) {
        (ResetFormat::Seconds, Ok(seconds)) => Some(seconds.saturating_mul(1_000)),
        (ResetFormat::UnixTimestamp, Ok(at)) => at_ms(at),
        (ResetFormat::UnixTimestamp, Err(_)) => None,
        (ResetFormat::Seconds, Err(_)) => {
            let at = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
            at_ms(at.as_secs())
        }
    }
}

/// Upper bound of the random delay before the next retry.
fn backoff_max_ms(retry: &Retry, retries: u16) -> u64 {
    let backoff = &retry.backoff;
    let max_ms = if backoff.max_ms == 0 { backoff.base_ms.saturating_mul(10) } else { backoff.max_ms };
    let steps = 1_u64.checked_shl(u32::from(retries) + 1).map_or(u64::MAX, |power| power - 1);
    backoff.base_ms.saturating_mul(steps).min(max_ms)
}

/// The retry category of a failure; `None` for failures that are never retried. `expired` is the expired limit of the
/// request or of the attempt.
pub(crate) fn failed_attempt(failure: &Failure, expired: Option<Expiry>) -> Option<Attempt<'static>> {
    let cause = match (failure.kind(), expired) {
        (_, Some(Expiry::Request | Expiry::Idle | Expiry::Stream)) => return None,
        // The client has not sent its body: a retry would wait for it, too.
        (FailureKind::BodyTimeout, _) => return None,
        (_, Some(Expiry::PerTry | Expiry::PerTryIdle)) => Cause::PerTryTimeout,
        (FailureKind::UpstreamConnect | FailureKind::UpstreamConnectTimeout | FailureKind::UpstreamTls, _) => {
            Cause::Connect
        }
        // Another address may still have a free port.
        (FailureKind::Overloaded, _) if failure.retry() == Verdict::Safe => Cause::Connect,
        (FailureKind::UpstreamReset, _) => Cause::Reset,
        (FailureKind::UpstreamTimeout | FailureKind::UpstreamWriteTimeout, _) => Cause::Timeout,
        _ => return None,
    };
    let unsent = match failure.retry() {
        Verdict::Safe => true,
        Verdict::IfIdempotent => false,
        Verdict::Never => return None,
    };
    Some(Attempt::Failed { cause, unsent })
}
