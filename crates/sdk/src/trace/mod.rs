//! Trace contexts in request headers: W3C Trace Context, B3, Datadog and others, in both directions. No I/O, and no
//! allocation except for shortening a `tracestate` or rewriting tags.
//!
//! [`extract`] reads the client's headers, [`inject`] writes the headers for an upstream. Malformed values are treated
//! as absent.

mod b3;
mod datadog;
mod text;
mod vendor;
mod w3c;

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use cardinal_http::HeaderList;
use cardinal_ir::TraceFormat;

#[cfg(test)]
mod tests;

/// Identifies a trace; never zero. Displayed as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// `None` for zero, which is not a valid id.
    pub fn new(id: u128) -> Option<Self> {
        NonZeroU128::new(id).map(Self)
    }

    /// A random id, from two random numbers.
    pub fn random(mut random: impl FnMut() -> u64) -> Self {
        let id = u128::from(random()) << 64 | u128::from(random());
        Self(NonZeroU128::new(id).unwrap_or(NonZeroU128::MIN))
    }

    /// The id as a number.
    pub const fn get(self) -> u128 {
        self.0.get()
    }

    /// The upper 64 bits; 0 for traces of systems with shorter ids.
    #[allow(clippy::cast_possible_truncation, reason = "shifted to 64 bits")]
    pub const fn upper(self) -> u64 {
        (self.get() >> 64) as u64
    }

    /// The lower 64 bits.
    #[allow(clippy::cast_possible_truncation, reason = "the lower part is meant")]
    pub const fn lower(self) -> u64 {
        self.get() as u64
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.get())
    }
}

/// Identifies a span within its trace; never zero. Displayed as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    /// `None` for zero, which is not a valid id.
    pub fn new(id: u64) -> Option<Self> {
        NonZeroU64::new(id).map(Self)
    }

    /// A random id, from a random number.
    pub fn random(random: impl FnOnce() -> u64) -> Self {
        Self(NonZeroU64::new(random()).unwrap_or(NonZeroU64::MIN))
    }

    /// The id as a number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.get())
    }
}

/// The trace context of a received request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteContext {
    /// The format in which it was found. Never [`TraceFormat::B3`] for the single header.
    pub format: TraceFormat,
    /// The trace id; `None` if the client only sends a sampling decision.
    pub trace_id: Option<TraceId>,
    /// The id of the client's span; `None` if absent.
    pub span_id: Option<SpanId>,
    /// Whether the client traces the request; `None` leaves the decision to the receiver.
    pub sampled: Option<bool>,
    /// The client wants the trace to be kept regardless of sampling (B3's debug flag, Datadog's priority 2).
    pub debug: bool,
}

/// The trace context sent to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace id.
    pub trace_id: TraceId,
    /// The parent of the upstream's spans.
    pub span_id: SpanId,
    /// Whether the request is traced.
    pub sampled: bool,
    /// The trace is to be kept regardless of sampling. Only with `sampled`.
    pub debug: bool,
}

/// Extracts the context in the first of these formats that a request has.
pub fn extract(headers: &HeaderList, formats: &[TraceFormat]) -> Option<RemoteContext> {
    formats.iter().find_map(|format| match format {
        TraceFormat::W3c => w3c::extract(headers),
        TraceFormat::B3 => b3::extract_single(headers).or_else(|| b3::extract_multi(headers)),
        TraceFormat::B3Single => b3::extract_single(headers),
        TraceFormat::Datadog => datadog::extract(headers),
        TraceFormat::Jaeger => vendor::extract_jaeger(headers),
        TraceFormat::Ot => vendor::extract_ot(headers),
        TraceFormat::Aws => vendor::extract_aws(headers),
        TraceFormat::Gcp => vendor::extract_gcp(headers),
    })
}

/// Sets the headers of a format. `received` is the format in which the request's own context was found: `tracestate`
/// and Datadog's tags are only forwarded with a context of their own format, and removed otherwise, because they then
/// belong to another trace. Calling it again replaces the previous context.
pub fn inject(headers: &mut HeaderList, format: TraceFormat, context: &SpanContext, received: Option<TraceFormat>) {
    match format {
        TraceFormat::W3c => w3c::inject(headers, context, received == Some(format)),
        TraceFormat::B3 => b3::inject_multi(headers, context),
        TraceFormat::B3Single => b3::inject_single(headers, context),
        TraceFormat::Datadog => datadog::inject(headers, context, received == Some(format)),
        TraceFormat::Jaeger => vendor::inject_jaeger(headers, context),
        TraceFormat::Ot => vendor::inject_ot(headers, context),
        TraceFormat::Aws => vendor::inject_aws(headers, context),
        TraceFormat::Gcp => vendor::inject_gcp(headers, context),
    }
}

/// The only value of a header; `None` if there are several, possibly contradictory ones.
fn only<'h>(headers: &'h HeaderList, name: &[u8]) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name);
    let first = values.next()?;
    values.next().is_none().then_some(first)
}
