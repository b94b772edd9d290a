//! Distributed tracing: which requests are traced, how trace contexts travel, and where spans go.

use serde::{Deserialize, Serialize};

use crate::{Id, Origin};

/// Tracing of requests. At most one record applies to a request: see [`resolve::telemetry`](crate::resolve::telemetry).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// The user's object.
    pub origin: Origin,
    /// What requests it is for.
    pub scope: TelemetryScope,
    /// Among records whose scopes hold for a request, the highest wins. The front end computes it.
    pub precedence: u32,
    /// Which requests are traced.
    pub sampling: Sampling,
    /// Which headers carry trace contexts.
    pub propagation: Propagation,
    /// Attributes that every span gets.
    pub tags: Vec<SpanTag>,
    /// What the spans are of, by name: `service.name`. The engine adds `service.name`, `service.version` and
    /// `service.instance.id` where they are absent.
    pub resource: Vec<(Box<str>, Box<str>)>,
    /// Where spans go. Without it, contexts are propagated and no spans are made.
    pub exporter: Option<SpanExporter>,
}

/// What requests tracing is for: all parts that are set must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TelemetryScope {
    /// Requests that arrive at the listeners of this group; `None` is the default group. It does not count where
    /// [`route`](Self::route) is set: a route has a group itself.
    pub listeners: Option<Id>,
    /// Requests of this route (the origin id, so that it holds for every part of a split route).
    pub route: Option<Id>,
    /// Requests to this backend.
    pub backend: Option<Id>,
}

/// Which requests are traced, in percent from 0 to 100. The request's own decision comes first: one whose context says
/// that it is not sampled is not traced; `client_percent` applies to one that asks to be traced, and `random_percent` to
/// one that leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// Of requests that ask to be traced: by a sampled context, or by the header `x-client-trace-id`.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub client_percent: f64,
    /// Of requests that say nothing about it.
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

/// Which headers carry trace contexts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Propagation {
    /// Formats to look for in a request, in this order; the first that is found counts. Empty ignores the client's
    /// context: every request starts a trace.
    pub extract: Vec<TraceFormat>,
    /// Names of request headers to remove after that.
    pub clear: Vec<Box<str>>,
    /// Formats that upstreams get. Empty injects nothing, and leaves the client's headers as they are.
    pub inject: Vec<TraceInjection>,
    /// What [`TraceInjection::Preserve`] injects when no context was found in the request.
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

/// Headers that carry a trace context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceFormat {
    /// `traceparent` and `tracestate` (W3C Trace Context).
    #[default]
    W3c,
    /// `X-B3-TraceId` and its siblings. Extraction also takes the single header `b3`, which goes first.
    B3,
    /// The single header `b3`.
    B3Single,
    /// `x-datadog-trace-id` and its siblings.
    Datadog,
    /// `uber-trace-id`
    Jaeger,
    /// `ot-tracer-traceid` and its siblings (OpenTracing).
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

/// Which format an upstream gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceInjection {
    /// The format that the request came with, or [`Propagation::default_format`].
    Preserve,
    /// This one.
    Format(TraceFormat),
}

/// An attribute that every span gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpanTag {
    /// Name of the attribute.
    pub name: Box<str>,
    /// Where the value comes from.
    pub value: TagValue,
}

/// Where the value of an attribute comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagValue {
    /// This text.
    Literal(Box<str>),
    /// A request header.
    Header {
        /// Its name.
        name: Box<str>,
        /// The value when the request has no such header; `None` leaves the attribute out.
        default: Option<Box<str>>,
    },
}

impl Default for TagValue {
    fn default() -> Self {
        Self::Literal(Box::default())
    }
}

/// Where spans go, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpanExporter {
    /// What the collector speaks.
    pub protocol: SpanProtocol,
    /// The collector: `http://` or `https://` with the whole path, such as `http://collector:4318/v1/traces`. For
    /// [`SpanProtocol::OtlpGrpc`] without a path: `http://collector:4317`.
    pub url: Box<str>,
    /// Headers of each call, such as those with an API key; for gRPC, its metadata. A value may be a reference to a secret,
    /// as in free-form values.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Do not verify the collector's certificate.
    pub insecure: bool,
    /// Compress what is sent with gzip.
    pub gzip: bool,
    /// Limit on a call, milliseconds.
    pub timeout_ms: u64,
    /// What waits for the collector.
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

/// What a collector speaks.
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

/// What waits for a collector: the spans of so many requests. When the queue is full, the oldest ones are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpanQueue {
    /// Requests of one call at most; 0 counts as 1.
    pub batch_requests_max: u32,
    /// How long a batch may wait to be full, milliseconds.
    pub batch_delay_ms: u64,
    /// Requests that may wait; 0 counts as 1.
    pub requests_max: u32,
    /// Memory of what waits, bytes.
    pub bytes_max: u64,
    /// A batch that fails later than this after its first try is dropped, milliseconds; 0 tries once.
    pub retry_ms_max: u64,
    /// Before the first retry, milliseconds; it doubles with each.
    pub retry_delay_ms: u64,
    /// Between retries at most, also when the collector asks for more, milliseconds.
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
