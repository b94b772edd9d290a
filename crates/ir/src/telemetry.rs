//! Distributed tracing: which requests are traced, how trace contexts are propagated, and where spans are exported.

use serde::{Deserialize, Serialize};

use crate::{Id, Origin};

/// Tracing of requests. At most one record applies to a request: see [`resolve::telemetry`](crate::resolve::telemetry).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// The user's object.
    pub origin: Origin,
    /// The requests to which it applies.
    pub scope: TelemetryScope,
    /// Among the records whose scopes match a request, the one with the highest precedence is used. Computed by the
    /// front end.
    pub precedence: u32,
    /// Which requests are traced.
    pub sampling: Sampling,
    /// The headers with trace contexts.
    pub propagation: Propagation,
    /// Attributes of every span.
    pub tags: Vec<SpanTag>,
    /// Resource attributes by name: `service.name`. The engine adds `service.name`, `service.version` and
    /// `service.instance.id` if they are absent.
    pub resource: Vec<(Box<str>, Box<str>)>,
    /// Where spans are exported. Without it, contexts are propagated and no spans are recorded.
    pub exporter: Option<SpanExporter>,
}

/// The requests to which tracing applies: all parts that are set must match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TelemetryScope {
    /// Requests that arrive at the listeners of this group; `None` is the default group. Ignored if
    /// [`route`](Self::route) is set: a route itself belongs to a group.
    pub listeners: Option<Id>,
    /// Requests of this route (the origin id, so that it applies to every part of a split route).
    pub route: Option<Id>,
    /// Requests to this backend.
    pub backend: Option<Id>,
}

/// Which requests are traced, in percent from 0 to 100. The request's own decision takes precedence: a request whose
/// context is not sampled is not traced; `client_percent` applies to requests that ask to be traced, and
/// `random_percent` to requests without a decision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// For requests that ask to be traced: by a sampled context, or by the header `x-client-trace-id`.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub client_percent: f64,
    /// For requests without a decision.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub random_percent: f64,
    /// Upper limit on both.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub overall_percent: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { client_percent: 100.0, random_percent: 100.0, overall_percent: 100.0 }
    }
}

/// The headers with trace contexts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Propagation {
    /// Formats to extract from a request, in this order; the first one found is used. If empty, the client's context is
    /// ignored: every request starts a trace.
    pub extract: Vec<TraceFormat>,
    /// Names of request headers to remove afterwards.
    pub clear: Vec<Box<str>>,
    /// Formats to inject into upstream requests. If empty, nothing is injected, and the client's headers are unchanged.
    pub inject: Vec<TraceInjection>,
    /// The format for [`TraceInjection::Preserve`] if the request has no context.
    pub default_format: TraceFormat,
}

impl Default for Propagation {
    fn default() -> Self {
        Self {
            extract: vec![TraceFormat::W3c, TraceFormat::B3],
            clear: Vec::new(),
            inject: vec![TraceInjection::Preserve],
            default_format: TraceFormat::W3c,
        }
    }
}

/// A format of trace context headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceFormat {
    /// `traceparent` and `tracestate` (W3C Trace Context).
    #[default]
    W3c,
    /// `X-B3-TraceId` and related headers. Extraction also reads the single header `b3`, which takes precedence.
    B3,
    /// The single header `b3`.
    B3Single,
    /// `x-datadog-trace-id` and related headers.
    Datadog,
    /// `uber-trace-id`
    Jaeger,
    /// `ot-tracer-traceid` and related headers (OpenTracing).
    Ot,
    /// `X-Amzn-Trace-Id` (AWS X-Ray).
    Aws,
    /// `X-Cloud-Trace-Context` (Google Cloud).
    Gcp,
}

impl TraceFormat {
    /// All formats.
    pub const ALL: [Self; 8] =
        [Self::W3c, Self::B3, Self::B3Single, Self::Datadog, Self::Jaeger, Self::Ot, Self::Aws, Self::Gcp];

    /// The name, as in the serial form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::W3c => "w3c",
            Self::B3 => "b3",
            Self::B3Single => "b3_single",
            Self::Datadog => "datadog",
            Self::Jaeger => "jaeger",
            Self::Ot => "ot",
            Self::Aws => "aws",
            Self::Gcp => "gcp",
        }
    }
}

/// The format to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceInjection {
    /// The format of the client's context, or [`Propagation::default_format`].
    Preserve,
    /// This format.
    Format(TraceFormat),
}

/// An attribute of every span.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpanTag {
    /// Name of the attribute.
    pub name: Box<str>,
    /// The source of the value.
    pub value: TagValue,
}

/// The source of an attribute's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagValue {
    /// This text.
    Literal(Box<str>),
    /// A request header.
    Header {
        /// Its name.
        name: Box<str>,
        /// The value if the request has no such header; `None` omits the attribute.
        default: Option<Box<str>>,
    },
}

impl Default for TagValue {
    fn default() -> Self {
        Self::Literal(Box::default())
    }
}

/// Where and how spans are exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpanExporter {
    /// The protocol of the collector.
    pub protocol: SpanProtocol,
    /// The collector: `http://` or `https://` with the complete path, such as `http://collector:4318/v1/traces`. For
    /// [`SpanProtocol::OtlpGrpc`] without a path: `http://collector:4317`.
    pub url: Box<str>,
    /// Headers of each call, such as those with an API key; for gRPC, its metadata. A value may be a reference to a secret,
    /// as in free-form values.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Do not verify the collector's certificate.
    pub insecure: bool,
    /// Compress requests with gzip.
    pub gzip: bool,
    /// Timeout of a call, milliseconds.
    pub timeout_ms: u64,
    /// The export queue.
    pub queue: SpanQueue,
}

impl Default for SpanExporter {
    fn default() -> Self {
        Self {
            protocol: SpanProtocol::default(),
            url: Box::default(),
            headers: Vec::new(),
            insecure: false,
            gzip: false,
            timeout_ms: 10_000,
            queue: SpanQueue::default(),
        }
    }
}

/// The protocol of a collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanProtocol {
    /// OpenTelemetry protocol: protobuf over HTTP.
    #[default]
    OtlpHttp,
    /// OpenTelemetry protocol: gRPC.
    OtlpGrpc,
    /// Zipkin JSON, version 2.
    Zipkin,
    /// JSON for the API v0.4 of a Datadog agent.
    Datadog,
}

impl SpanProtocol {
    /// The name, as in the serial form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OtlpHttp => "otlp_http",
            Self::OtlpGrpc => "otlp_grpc",
            Self::Zipkin => "zipkin",
            Self::Datadog => "datadog",
        }
    }
}

/// The export queue. When it is full, the oldest spans are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpanQueue {
    /// Maximum number of traced requests per call; 0 is treated as 1.
    pub batch_requests_max: u32,
    /// How long to wait for a batch to fill up, milliseconds.
    pub batch_delay_ms: u64,
    /// Maximum number of queued requests; 0 is treated as 1.
    pub requests_max: u32,
    /// Maximum memory of the queue, bytes.
    pub bytes_max: u64,
    /// Time after the first attempt at which a failed batch is dropped, milliseconds; with 0, there are no retries.
    pub retry_ms_max: u64,
    /// Delay before the first retry, milliseconds; it doubles with each retry.
    pub retry_delay_ms: u64,
    /// Maximum delay between retries, also if the collector requests more, milliseconds.
    pub retry_delay_ms_max: u64,
}

impl Default for SpanQueue {
    fn default() -> Self {
        Self {
            batch_requests_max: 200,
            batch_delay_ms: 1_000,
            requests_max: 10_000,
            bytes_max: 32 * 1024 * 1024,
            retry_ms_max: 60_000,
            retry_delay_ms: 500,
            retry_delay_ms_max: 30_000,
        }
    }
}
