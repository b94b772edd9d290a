//! The trace that a request of the Admin API belongs to, by the header `traceparent`.
//!
//! It goes with the task that answers the request: to log lines, and by [`ObservedStore`](crate::ObservedStore) to the
//! change log. W3C Trace Context, section 3.2: <https://www.w3.org/TR/trace-context/#traceparent-header>.

use std::fmt;

/// Identifies a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace(u128);

tokio::task_local! {
    static CURRENT: Trace;
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Trace {
    /// The trace of a value of `traceparent`; `None` if it is malformed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_readable = is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
        // Later versions may append fields.
        if !is_readable || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0).map(Self)
    }

    /// Runs a future as part of the trace.
    pub(crate) async fn cover<T>(trace: Option<Self>, future: impl Future<Output = T>) -> T {
        match trace {
            Some(trace) => CURRENT.scope(trace, future).await,
            None => future.await,
        }
    }

    /// The trace that the current task works for.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(|trace| *trace).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(Trace::parse(text).map(|trace| trace.to_string()).as_deref(), expected, "{text}");
    }

    #[tokio::test]
    async fn traces_are_read() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        check(&format!("00-{id}-00f067aa0ba902b7-01"), Some(id));
        check(&format!("01-{id}-00f067aa0ba902b7-01-more"), Some(id));
        check(&format!("00-{id}-00f067aa0ba902b7-01-more"), None);
        check(&format!("ff-{id}-00f067aa0ba902b7-01"), None);
        check(&format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None);
        check(&format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()), None);
        check(&format!("00-{id}-00f067aa0ba902b7"), None);
        check("", None);
        let trace = Trace::parse(&format!("00-{id}-00f067aa0ba902b7-01"));
        assert_eq!(Trace::cover(trace, async { Trace::current() }).await, trace);
        assert_eq!(Trace::current(), None);
    }
}
