//! Calendar windows, in UTC.

use cardinal_base::civil::{date_of_day, day_of_date};
use cardinal_ir::policy::RatePeriod;

/// A period in which requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day, from midnight to midnight.
    Day,
    /// A month, from its first day to that of the next month.
    Month,
    /// A year, from January 1st.
    Year,
}

impl From<RatePeriod> for Period {
    fn from(period: RatePeriod) -> Self {
        match period {
            RatePeriod::Second => Self::Second,
            RatePeriod::Minute => Self::Minute,
            RatePeriod::Hour => Self::Hour,
            RatePeriod::Day => Self::Day,
            RatePeriod::Month => Self::Month,
            RatePeriod::Year => Self::Year,
        }
    }
}

impl From<Period> for RatePeriod {
    fn from(period: Period) -> Self {
        match period {
            Period::Second => Self::Second,
            Period::Minute => Self::Minute,
            Period::Hour => Self::Hour,
            Period::Day => Self::Day,
            Period::Month => Self::Month,
            Period::Year => Self::Year,
        }
    }
}

/// Number of periods.
pub const PERIODS: usize = 6;

const DAY_S: u64 = 86_400;

impl Period {
    /// In ascending order of length.
    pub const ALL: [Self; PERIODS] = [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Month, Self::Year];

    /// The name in the configuration and in keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Names of the two response headers.
    pub const fn headers(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Second => (b"X-RateLimit-Limit-Second", b"X-RateLimit-Remaining-Second"),
            Self::Minute => (b"X-RateLimit-Limit-Minute", b"X-RateLimit-Remaining-Minute"),
            Self::Hour => (b"X-RateLimit-Limit-Hour", b"X-RateLimit-Remaining-Hour"),
            Self::Day => (b"X-RateLimit-Limit-Day", b"X-RateLimit-Remaining-Day"),
            Self::Month => (b"X-RateLimit-Limit-Month", b"X-RateLimit-Remaining-Month"),
            Self::Year => (b"X-RateLimit-Limit-Year", b"X-RateLimit-Remaining-Year"),
        }
    }

    /// Length in seconds as assumed by Kong, which is also the lifetime of counters.
    pub const fn nominal(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => DAY_S,
            Self::Month => 30 * DAY_S,
            Self::Year => 365 * DAY_S,
        }
    }

    /// Start of the window that contains `now`. Times are seconds since 1970.
    pub fn start(self, now: u64) -> u64 {
        match self {
            Self::Second => now,
            Self::Minute | Self::Hour | Self::Day => now - now % self.nominal(),
            Self::Month | Self::Year => {
                let (year, month, _) = date_of_day(now / DAY_S);
                first_day(year, if self == Self::Month { month } else { 1 }) * DAY_S
            }
        }
    }

    /// Start of the window after the one that starts at `start`.
    pub fn next(self, start: u64) -> u64 {
        match self {
            Self::Second | Self::Minute | Self::Hour | Self::Day => start + self.nominal(),
            Self::Month | Self::Year => {
                let (year, month, _) = date_of_day(start / DAY_S);
                let day = match (self, month) {
                    (Self::Month, 1..=11) => first_day(year, month + 1),
                    _ => first_day(year + 1, 1),
                };
                day * DAY_S
            }
        }
    }

    /// Start of the window before the one that starts at `start`.
    pub fn previous(self, start: u64) -> u64 {
        start.checked_sub(1).map_or(0, |before| self.start(before))
    }

    /// The share of the previous window's count that lies within one window's length before `now`.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn share(self, previous: u64, now: u64) -> u64 {
        let start = self.start(now);
        let (end, elapsed) = (self.next(start), now - start);
        let length = end - start;
        // The previous window counts fully in the first second; a window of one second has no other.
        (previous as f64 * (length - elapsed) as f64 / length as f64).floor() as u64
    }
}

/// The day since 1970 on which a month (from 1) starts.
fn first_day(year: u64, month: u64) -> u64 {
    day_of_date(year, month, 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Period;

    fn time(text: &str) -> u64 {
        text.parse::<jiff::Timestamp>().unwrap().as_second().try_into().unwrap()
    }

    #[test]
    fn windows_follow_the_calendar() {
        let check = |period: Period, now: &str, start: &str, next: &str| {
            let found = period.start(time(now));
            assert_eq!(found, time(start), "{period:?} {now}");
            assert_eq!(period.next(found), time(next), "{period:?} {now}");
            assert_eq!(period.previous(time(next)), found, "{period:?} {now}");
        };
        check(Period::Second, "2024-02-29T12:34:56Z", "2024-02-29T12:34:56Z", "2024-02-29T12:34:57Z");
        check(Period::Minute, "2024-02-29T12:34:56Z", "2024-02-29T12:34:00Z", "2024-02-29T12:35:00Z");
        check(Period::Hour, "2024-02-29T12:34:56Z", "2024-02-29T12:00:00Z", "2024-02-29T13:00:00Z");
        check(Period::Day, "2024-02-29T12:34:56Z", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z");
        check(Period::Month, "2024-02-29T12:34:56Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z");
        check(Period::Month, "2023-12-31T23:59:59Z", "2023-12-01T00:00:00Z", "2024-01-01T00:00:00Z");
        check(Period::Month, "2100-02-28T00:00:00Z", "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z");
        check(Period::Year, "2024-02-29T12:34:56Z", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
        check(Period::Year, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1971-01-01T00:00:00Z");
    }

    #[test]
    fn every_month_of_four_centuries_agrees_with_the_calendar() {
        let mut month = time("1970-01-01T00:00:00Z");
        for year in 1970..2370 {
            for number in 1..=12 {
                assert_eq!(month, time(&format!("{year}-{number:02}-01T00:00:00Z")));
                month = Period::Month.next(month);
            }
        }
    }

    #[test]
    fn the_previous_window_fades() {
        let check = |now: &str, expect: u64| assert_eq!(Period::Minute.share(60, time(now)), expect, "{now}");
        check("2024-02-29T12:34:00Z", 60);
        check("2024-02-29T12:34:15Z", 45);
        check("2024-02-29T12:34:59Z", 1);
    }
}
