//! [`Body`]: a request body in the form that filters require (streamed or buffered), and its size limit.

use std::cell::Cell;
use std::pin::Pin;

use bytes::Bytes;
use cardinal_http::{Failure, FailureKind};
use cardinal_ir::Limits;

use crate::exchange::Scratch;
use crate::plan::Plan;

/// A request body that can be read completely.
pub(crate) trait Body {
    /// The length of the body, 0 without a body; `None` if it is only known when the body ends.
    fn length(&self) -> Option<u64>;

    /// Reads the complete body, up to `max` bytes.
    fn whole<'a>(
        &'a mut self,
        plan: &'a Plan,
        s: &'a mut Scratch,
        max: u64,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + 'a>>;

    /// Waits this many milliseconds, at least 1; fails if the client disconnects meanwhile.
    fn pause<'a>(&'a mut self, s: &'a Scratch, ms: u64) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

    /// 64 random bits: the next number of the series with the given state.
    fn random(&self, series: &Cell<u64>) -> u64 {
        splitmix(series)
    }
}

/// The next number of a series (SplitMix64).
fn splitmix(series: &Cell<u64>) -> u64 {
    let state = series.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    series.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Maximum size of the request body, bytes.
pub(super) fn body_max(limits: &Limits, s: &Scratch) -> u64 {
    let node = if limits.body_bytes_max == 0 { u64::MAX } else { limits.body_bytes_max };
    s.exchange.request_body_max.map_or(node, |(max, _)| max.min(node))
}

/// Refuses a body whose declared length exceeds the limit, before any further processing.
pub(crate) fn check_body_length(limits: &Limits, s: &Scratch, length: Option<u64>) -> Result<(), Failure> {
    match length {
        Some(length) if length > body_max(limits, s) => {
            Err(Failure::new(FailureKind::BodyTooLarge, "Content-Length over the limit"))
        }
        _ => Ok(()),
    }
}
