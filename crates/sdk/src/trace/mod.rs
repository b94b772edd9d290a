//! Trace contexts in request headers: W3C Trace Context, B3, Datadog and others, in both directions. No I/O, and no
//! allocation but where a `tracestate` has to be shortened or tags have to be rewritten.
//!
//! [`extract`] reads what a client sent, [`inject`] writes what an upstream gets. What a header says is never trusted to
//! be well-formed: what cannot be read counts as absent.

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

/// Identifies a trace; never zero. Displays as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// `None` for zero, which no trace has.
    pub fn new(id: u128) -> Option<Self> {
        NonZeroU128::new(id).map(Self)
    }

    /// A random one, of two random numbers.
    pub fn random(mut random: impl FnMut() -> u64) -> Self {
        let id = u128::from(random()) << 64 | u128::from(random());
        Self(NonZeroU128::new(id).unwrap_or(NonZeroU128::MIN))
    }

    /// As a number.
    pub const fn get(self) -> u128 {
        self.0.get()
    }

    /// The upper 64 bits; 0 in traces of systems that have shorter ids.
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

/// Identifies a span within its trace; never zero. Displays as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    /// `None` for zero, which no span has.
    pub fn new(id: u64) -> Option<Self> {
        NonZeroU64::new(id).map(Self)
    }

    /// A random one, of a random number.
    pub fn random(random: impl FnOnce() -> u64) -> Self {
        Self(NonZeroU64::new(random()).unwrap_or(NonZeroU64::MIN))
    }

    /// As a number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.get())
    }
}

/// What a request says about the trace that it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteContext {
    /// Where it was found. Never [`TraceFormat::B3`] for the single header.
    pub format: TraceFormat,
    /// The trace; `None` where the client only says whether to trace the request.
    pub trace_id: Option<TraceId>,
    /// The client's span; `None` when the client has none, or when it does not say.
    pub span_id: Option<SpanId>,
    /// Whether the client traces the request; `None` leaves it to the receiver.
    pub sampled: Option<bool>,
    /// The client wants the trace to be kept whatever the sampling (B3's debug flag, Datadog's priority 2).
    pub debug: bool,
}

/// What an upstream is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span whose children the upstream's spans are.
    pub span_id: SpanId,
    /// Whether the request is traced.
    pub sampled: bool,
    /// The trace is to be kept whatever the sampling. Only with `sampled`.
    pub debug: bool,
}

/// The context of the first of these formats that a request has.
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

/// Sets the headers of a format. `received` is the format that the request's own context was found in: `tracestate` and
/// Datadog's tags are passed on only with a context of their own format, and removed otherwise, because they belong to
/// another trace then. Doing it again with another context replaces the first.
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

/// The only value of a header; `None` when there are several, which contradict each other.
fn only<'h>(headers: &'h HeaderList, name: &[u8]) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name);
    let first = values.next()?;
    values.next().is_none().then_some(first)
}
