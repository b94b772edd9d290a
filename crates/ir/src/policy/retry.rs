//! [`Retry`]: when a request is retried, how often, and after which delay.

use serde::{Deserialize, Serialize};

/// When a request is sent to an endpoint again, and after which delay. Endpoints that were already tried are avoided
/// while there are others.
///
/// A request whose body has been partly forwarded is only retried if the body is buffered: at most 64 KiB, within the
/// memory budget for bodies. A response is only dropped for a retry while nothing of it has been sent to the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// Number of retries; 0 disables retries.
    pub attempts: u16,
    /// Conditions for a retry; one of them must hold.
    pub conditions: Vec<RetryCondition>,
    /// Methods that are retried.
    pub methods: RetryMethods,
    /// The request must match one of these; empty for no such requirement.
    pub request_headers: Vec<HeaderCheck>,
    /// The delay before a retry.
    pub backoff: Backoff,
    /// The delay before a retry if the response requests one; replaces `backoff` in this case.
    pub rate_limited: Option<RateLimitedBackoff>,
    /// Limit on concurrent retries; `None` is unlimited.
    pub budget: Option<RetryBudget>,
    /// Timeout of one attempt, from the end of the request to the end of the response, milliseconds; 0 is off.
    pub per_try_timeout_ms: u64,
    /// Timeout of one attempt without any bytes transferred in either direction, milliseconds; 0 is off.
    pub per_try_idle_timeout_ms: u64,
}

/// A condition for a retry. A front end whose term covers several of them lists each: Envoy's `5xx`, for example, is
/// [`ServerError`](Self::ServerError), [`Reset`](Self::Reset), [`ConnectFailure`](Self::ConnectFailure) and
/// [`PerTryTimeout`](Self::PerTryTimeout).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryCondition {
    /// Connecting failed: refused, timed out, or TLS failed.
    ConnectFailure,
    /// The connection or the stream ended before a response head, for any reason.
    Reset,
    /// The connection or the stream ended before the request reached the upstream.
    ResetBeforeRequest,
    /// The upstream refused the stream without processing it (`REFUSED_STREAM`, or a preceding `GOAWAY`).
    RefusedStream,
    /// The upstream did not read the request, or did not respond, in time: `write_ms` and `read_ms` of
    /// [`Timeouts`](super::Timeouts), and the timeouts of an attempt.
    Timeout,
    /// The timeouts of an attempt: [`Retry::per_try_timeout_ms`] and [`Retry::per_try_idle_timeout_ms`].
    PerTryTimeout,
    /// The status is 500 to 599.
    ServerError,
    /// The status is 502, 503 or 504.
    GatewayError,
    /// The status is 409.
    Retriable4xx,
    /// This status.
    Status(u16),
    /// The response has this header.
    ResponseHeader(HeaderCheck),
    /// `grpc-status` in the response head (a response without messages, "trailers only") has this value.
    Grpc(GrpcCode),
}

/// A gRPC status that can be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrpcCode {
    /// 1.
    Cancelled,
    /// 4.
    DeadlineExceeded,
    /// 8.
    ResourceExhausted,
    /// 13.
    Internal,
    /// 14.
    Unavailable,
}

impl GrpcCode {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::Cancelled => 1,
            Self::DeadlineExceeded => 4,
            Self::ResourceExhausted => 8,
            Self::Internal => 13,
            Self::Unavailable => 14,
        }
    }
}

/// Methods that are retried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryMethods {
    /// If the request may have reached an upstream, only idempotent methods (RFC 9110 section 9.2.2); otherwise all
    /// methods.
    #[default]
    Idempotent,
    /// All methods: the upstream is known to tolerate repeated requests.
    Any,
    /// Exactly these methods, idempotent or not.
    Listed(Vec<Box<str>>),
}

/// A condition on a header of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderCheck {
    /// Name, case-insensitive.
    pub name: Box<str>,
    /// The condition on its values.
    pub value: HeaderValue,
}

/// A condition on the values of a header. One matching value suffices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderValue {
    /// The header is present.
    #[default]
    Present,
    /// The header is absent.
    Absent,
    /// Exactly this value.
    Exact(Box<str>),
    /// A value that begins with this text.
    Prefix(Box<str>),
}

/// Exponential backoff with full jitter: the delay before retry `n` (from 1) is random between 0 and `base_ms * (2^n -
/// 1)`, but below `max_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backoff {
    /// Milliseconds; 0 is no delay.
    pub base_ms: u64,
    /// Milliseconds; 0 is ten times `base_ms`.
    pub max_ms: u64,
}

/// A delay requested by the response. Up to half of it is added at random, so that clients do not return
/// simultaneously.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimitedBackoff {
    /// Headers that contain the delay; the first usable one is used.
    pub headers: Vec<ResetHeader>,
    /// Maximum delay, milliseconds; a header with a longer delay is ignored.
    pub max_ms: u64,
}

/// A header that contains a delay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResetHeader {
    /// Name, case-insensitive: `Retry-After`, `X-RateLimit-Reset`.
    pub name: Box<str>,
    /// The format of its value.
    pub format: ResetFormat,
}

/// The format of the value of a [`ResetHeader`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetFormat {
    /// Seconds from now, or an HTTP date (both forms of `Retry-After`, RFC 9110 section 10.2.3).
    #[default]
    Seconds,
    /// Seconds since 1970.
    UnixTimestamp,
}

/// A limit on concurrent retries to a cluster, for the whole node: as a share of the requests to it that are subject to
/// a budget, so that retries do not multiply the load of a failing cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryBudget {
    /// Retries in progress, as a percentage of the requests in progress.
    pub percent: u32,
    /// Number of concurrent retries that is always allowed.
    pub min_concurrency: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, min_concurrency: 3 }
    }
}
