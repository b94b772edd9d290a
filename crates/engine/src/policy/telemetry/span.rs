//! [`Span`]: a finished span in the form that exporters send.

use std::borrow::Cow;

use cardinal_sdk::trace::{SpanId, TraceId};

/// Maximum length of an attribute, bytes; longer values are truncated.
const TEXT_MAX: usize = 1_024;
/// Maximum length of a `tracestate`, bytes.
pub(super) const STATE_MAX: usize = 512;

/// The kind of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request from a client.
    Server,
    /// An attempt to reach an upstream.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(Cow<'static, str>),
    Number(i64),
}

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) trace_id: TraceId,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    /// The parent belongs to another process.
    pub(super) parent_is_remote: bool,
    pub(super) trace_state: String,
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Nanoseconds since 1970.
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) attributes: Vec<(Cow<'static, str>, Value)>,
    pub(super) is_error: bool,
}

/// The spans of a finished request.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) spans: Vec<Span>,
    /// Memory used by the spans, bytes.
    pub(super) bytes: usize,
}

impl Finished {
    pub(super) fn new(spans: Vec<Span>) -> Self {
        let bytes = spans.iter().map(Span::bytes).sum();
        Self { spans, bytes }
    }
}

impl Span {
    fn bytes(&self) -> usize {
        let of_value = |value: &Value| match value {
            Value::Text(Cow::Owned(text)) => text.len(),
            Value::Text(Cow::Borrowed(_)) | Value::Number(_) => 0,
        };
        let attributes = self.attributes.iter().map(|(_, value)| size_of::<(Cow<'_, str>, Value)>() + of_value(value));
        size_of::<Self>() + self.name.len() + self.trace_state.len() + attributes.sum::<usize>()
    }

    pub(super) fn text(&mut self, name: impl Into<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) {
        self.attributes.push((name.into(), Value::Text(text.into())));
    }

    /// Adds an attribute with text received from a peer.
    pub(super) fn bytes_of(&mut self, name: &'static str, bytes: &[u8]) {
        self.text(name, shown(bytes));
    }

    pub(super) fn number(&mut self, name: &'static str, number: impl Into<i64>) {
        self.attributes.push((name.into(), Value::Number(number.into())));
    }
}

/// Text received from a peer, truncated.
pub(super) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..TEXT_MAX).unwrap_or(bytes)).into_owned()
}
