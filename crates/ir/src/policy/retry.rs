//! [`Retry`]: when a request is sent again, how often, and after what wait.

use serde::{Deserialize, Serialize};

/// When a request is sent to an endpoint again, and after what wait. Endpoints that a request has tried are not tried
/// again while there are others.
///
/// A request whose body has begun to move is sent again only if the body is held: one of at most 64 KiB, within the memory
/// budget for bodies. A response is dropped for another try only as long as nothing of it was sent to the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// Tries after the first one; 0 is off.
    pub attempts: u16,
    /// What is tried again: any of these.
    pub conditions: Vec<RetryCondition>,
    /// Which methods are sent again.
    pub methods: RetryMethods,
    /// The request must have one of these; empty for no such requirement.
    pub request_headers: Vec<HeaderCheck>,
    /// The wait before a retry.
    pub backoff: Backoff,
    /// The wait before a retry when the response says how long to wait; takes the place of `backoff` then.
    pub rate_limited: Option<RateLimitedBackoff>,
    /// Limit on retries that are in progress at once; `None` is unlimited.
    pub budget: Option<RetryBudget>,
    /// From the end of the request until the end of the response of one try, in milliseconds; 0 is off.
    pub per_try_timeout_ms: u64,
    /// How long one try may go without a byte moving in either direction, in milliseconds; 0 is off.
    pub per_try_idle_timeout_ms: u64,
}

/// What is tried again. A front end whose term stands for several of them lists each: Envoy's `5xx`, for example, is
/// [`ServerError`](Self::ServerError), [`Reset`](Self::Reset), [`ConnectFailure`](Self::ConnectFailure) and
/// [`PerTryTimeout`](Self::PerTryTimeout).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryCondition {
    /// There was no connection: refused, not in time, or TLS failed.
    ConnectFailure,
    /// The connection or the stream ended before a response head, for whatever reason.
    Reset,
    /// The connection or the stream ended, and the request had not reached the upstream.
    ResetBeforeRequest,
    /// The upstream refused the stream without looking at it (`REFUSED_STREAM`, or `GOAWAY` before it).
    RefusedStream,
    /// The upstream did not take the request, or did not respond, in time: `write_ms` and `read_ms` of
    /// [`Timeouts`](super::Timeouts), and the timeouts of a try.
    Timeout,
    /// The timeouts of a try: [`Retry::per_try_timeout_ms`] and [`Retry::per_try_idle_timeout_ms`].
    PerTryTimeout,
    /// The status is 500 to 599.
    ServerError,
    /// The status is 502, 503 or 504.
    GatewayError,
    /// The status is 409.
    Retriable4xx,
    /// The status is this.
    Status(u16),
    /// The response has this header.
    ResponseHeader(HeaderCheck),
    /// `grpc-status` in the response head (a response without messages, "trailers only") is this.
    Grpc(GrpcCode),
}

/// A status of gRPC that may be worth another try.
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

/// Which methods are sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryMethods {
    /// A request that may have reached an upstream only if its method is idempotent (RFC 9110 section 9.2.2); one that
    /// has not, whatever its method.
    #[default]
    Idempotent,
    /// All: the upstream is known to bear repeated requests.
    Any,
    /// These, whether or not they are idempotent, and no others.
    Listed(Vec<Box<str>>),
}

/// A condition on a header of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderCheck {
    /// Name, in any case.
    pub name: Box<str>,
    /// What its values must be.
    pub value: HeaderValue,
}

/// What the values of a header must be. One that satisfies the condition suffices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderValue {
    /// There is one.
    #[default]
    Present,
    /// There is none.
    Absent,
    /// It is this.
    Exact(Box<str>),
    /// It starts with this.
    Prefix(Box<str>),
}

/// An exponential wait with full jitter: the wait before retry `n` (from 1) is random between 0 and
/// `base_ms * (2^n - 1)`, but below `max_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backoff {
    /// In milliseconds; 0 is no wait.
    pub base_ms: u64,
    /// In milliseconds; 0 is ten times `base_ms`.
    pub max_ms: u64,
}

/// A wait that the response asks for. Up to half of it is added at random, so that clients do not return at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimitedBackoff {
    /// Headers that tell the wait; the first that is there and can be used counts.
    pub headers: Vec<ResetHeader>,
    /// A header that asks for more is not used, in milliseconds.
    pub max_ms: u64,
}

/// A header that tells how long to wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResetHeader {
    /// Name, in any case: `Retry-After`, `X-RateLimit-Reset`.
    pub name: Box<str>,
    /// What its value is.
    pub format: ResetFormat,
}

/// What the value of a [`ResetHeader`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetFormat {
    /// Seconds from now, or an HTTP date (both forms of `Retry-After`, RFC 9110 section 10.2.3).
    #[default]
    Seconds,
    /// Seconds since 1970.
    UnixTimestamp,
}

/// A limit on retries to a cluster that are in progress at once, on the whole node: as a share of the requests to it that are
/// subject to a budget, so that retries do not multiply the load of a cluster that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryBudget {
    /// Retries in progress, in percent of the requests in progress.
    pub percent: u32,
    /// So many retries may be in progress whatever that comes to.
    pub min_concurrency: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, min_concurrency: 3 }
    }
}
