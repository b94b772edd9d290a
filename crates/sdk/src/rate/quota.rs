//! The rate limit decision for a request by its counts, and the headers for the client.

use std::io::Write as _;

use cardinal_http::HeaderList;
use cardinal_ir::policy::Windows;
use smallvec::SmallVec;

use super::window::{PERIODS, Period};

/// The limit of each period, if any, in the order of [`Period::ALL`].
pub type Limits = [Option<f64>; PERIODS];

/// Number of requests counted so far in each period, without the current one.
pub type Usage = [u64; PERIODS];

/// The limits of a policy, by period.
pub fn limits(windows: &Windows) -> Limits {
    let mut limits = [None; PERIODS];
    for window in &windows.limits {
        if let Some(limit) = limits.get_mut(Period::from(window.period) as usize) {
            *limit = Some(window.limit);
        }
    }
    limits
}

/// The limits that are set.
pub fn limited(limits: &Limits) -> impl Iterator<Item = (usize, Period, f64)> {
    Period::ALL
        .into_iter()
        .zip(limits)
        .enumerate()
        .filter_map(|(at, (period, limit))| limit.map(|limit| (at, period, limit)))
}

/// Whether any limit is used up.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub fn is_used_up(limits: &Limits, usage: &Usage) -> bool {
    limits.iter().zip(usage).any(|(limit, used)| limit.is_some_and(|limit| limit - *used as f64 <= 0.0))
}

/// The decision for a request, and the values of the headers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// The request is rejected.
    pub refused: bool,
    rows: [Option<Row>; PERIODS],
    /// The window with the fewest remaining requests.
    tightest: Row,
    reset_s: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Row {
    limit: f64,
    remaining: f64,
}

impl Quota {
    /// Decides. `now` is in seconds.
    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn decide(limits: &Limits, usage: &Usage, now: u64) -> Self {
        let refused = is_used_up(limits, usage);
        let mut rows = [None; PERIODS];
        let mut tightest: Option<(Row, Period)> = None;
        for (at, period, limit) in limited(limits) {
            let left = limit - usage.get(at).copied().unwrap_or(0) as f64;
            // A rejected request is not counted, so windows that would have allowed it keep their number.
            let remaining = if !refused || left <= 0.0 { left - 1.0 } else { left }.max(0.0);
            let new = Row { limit, remaining };
            if let Some(row) = rows.get_mut(at) {
                *row = Some(new);
            }
            // Periods are in ascending order, so an equal one is longer.
            if tightest.is_none_or(|(best, _)| remaining <= best.remaining) {
                tightest = Some((new, period));
            }
        }
        let reset_s = tightest.map_or(1, |(_, period)| {
            let elapsed = now.saturating_sub(period.start(now));
            period.nominal().saturating_sub(elapsed).max(1)
        });
        Self { refused, rows, tightest: tightest.map(|(row, _)| row).unwrap_or_default(), reset_s }
    }

    /// Sets the headers for the client.
    pub fn write(&self, headers: &mut HeaderList) {
        for (period, row) in Period::ALL.into_iter().zip(&self.rows) {
            if let Some(row) = row {
                let (limit, remaining) = period.headers();
                headers.set_own(limit, &number(row.limit));
                headers.set_own(remaining, &number(row.remaining));
            }
        }
        headers.set_own(b"RateLimit-Limit", &number(self.tightest.limit));
        headers.set_own(b"RateLimit-Remaining", &number(self.tightest.remaining));
        let mut reset = itoa::Buffer::new();
        let reset = reset.format(self.reset_s).as_bytes();
        headers.set_own(b"RateLimit-Reset", reset);
        if self.refused {
            headers.set_own(b"Retry-After", reset);
        }
    }
}

/// A number in Lua's format: whole numbers without a fraction.
fn number(value: f64) -> SmallVec<[u8; 24]> {
    let mut text = SmallVec::new();
    #[allow(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    if value.fract() == 0.0 && value.abs() < 9e15 {
        text.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
        return text;
    }
    // Writing to memory does not fail.
    write!(text, "{value}").unwrap_or_default();
    text
}

#[cfg(test)]
mod tests {
    use cardinal_http::HeaderList;

    use super::{Quota, Usage};

    /// 2023-11-14T22:13:20Z
    const NOW: u64 = 1_700_000_000;

    fn check(limits: [Option<f64>; 6], usage: Usage, expect: &str) {
        let quota = Quota::decide(&limits, &usage, NOW);
        let mut headers = HeaderList::new();
        quota.write(&mut headers);
        let text: Vec<_> = headers
            .iter()
            .map(|(name, value)| {
                let name = String::from_utf8_lossy(name).replace("RateLimit", "");
                format!("{name}={}", String::from_utf8_lossy(value))
            })
            .collect();
        let verdict = if quota.refused { "refused" } else { "allowed" };
        assert_eq!(format!("{verdict} {}", text.join(" ")), expect);
    }

    #[test]
    fn headers_name_the_tightest_window() {
        let minute_and_hour = [None, Some(5.0), Some(10.0), None, None, None];
        check(
            minute_and_hour,
            [0, 1, 1, 0, 0, 0],
            "allowed X--Limit-Minute=5 X--Remaining-Minute=3 X--Limit-Hour=10 X--Remaining-Hour=8 \
             -Limit=5 -Remaining=3 -Reset=40",
        );
        check(
            minute_and_hour,
            [0, 1, 6, 0, 0, 0],
            "allowed X--Limit-Minute=5 X--Remaining-Minute=3 X--Limit-Hour=10 X--Remaining-Hour=3 \
             -Limit=10 -Remaining=3 -Reset=2800",
        );
    }

    #[test]
    fn a_refused_request_is_not_taken_off_other_windows() {
        check(
            [None, Some(5.0), Some(10.0), None, None, None],
            [0, 5, 7, 0, 0, 0],
            "refused X--Limit-Minute=5 X--Remaining-Minute=0 X--Limit-Hour=10 X--Remaining-Hour=3 \
             -Limit=5 -Remaining=0 -Reset=40 Retry-After=40",
        );
    }

    #[test]
    fn limits_may_have_fractions() {
        check(
            [None, None, None, None, None, Some(2.5)],
            [0, 0, 0, 0, 0, 1],
            "allowed X--Limit-Year=2.5 X--Remaining-Year=0.5 -Limit=2.5 -Remaining=0.5 -Reset=4067200",
        );
    }
}
