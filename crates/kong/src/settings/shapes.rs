//! Values from text: flags, numbers, sizes, times.

use super::table::Shape;

impl Shape {
    /// Whether a text has this shape; of addresses only that there are any.
    pub(super) fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Flag => flag(text).map(drop),
            Self::Int(low, high) => int(text, low, high).map(drop),
            Self::Size => size(text).map(drop),
            Self::Time => time_ms(text).map(drop),
            Self::Word(words) if !words.contains(&text) => {
                Err(format!("expected one of: {}, not '{text}'", words.join(", ")))
            }
            Self::Word(_) | Self::Text | Self::List | Self::Listen => Ok(()),
        }
    }
}

/// `on` or `off`.
pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err(format!("expected on or off, not '{text}'")),
    }
}

/// A whole number within limits.
pub(super) fn int(text: &str, low: i64, high: i64) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(n) if (low..=high).contains(&n) => Ok(n),
        Ok(n) if high == i64::MAX => Err(format!("{n} is less than {low}")),
        Ok(n) => Err(format!("{n} is not between {low} and {high}")),
        Err(_) => Err(format!("expected a whole number, not '{text}'")),
    }
}

/// Bytes: `8k`, `10m`, `1g`, `0`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("expected a size such as 8k, 10m or 1g, not '{text}'");
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 1 << 10),
        Some(b'm') => (&lower[..lower.len() - 1], 1 << 20),
        Some(b'g') => (&lower[..lower.len() - 1], 1 << 30),
        _ => (lower.as_str(), 1),
    };
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(bad)
}

/// Milliseconds: `60` and `60s` are seconds, `500ms`, `1m`, `2h`, `1d`, `1w`; several are added, as nginx does: `1h 30m`.
pub(super) fn time_ms(text: &str) -> Result<u64, String> {
    let bad = || format!("expected a time such as 60s, 500ms or 1m, not '{text}'");
    let mut rest = text.trim();
    let mut sum = 0.0;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let factor = match unit {
            "ms" => 1.0,
            "" | "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            "w" => 604_800_000.0,
            _ => return Err(bad()),
        };
        sum += digits.parse::<f64>().map_err(|_| bad())? * factor;
        rest = after.trim_start();
        if rest.is_empty() {
            break;
        }
    }
    if sum.is_finite() && sum < 1e15 { Ok(sum as u64) } else { Err(bad()) }
}

/// Parts between commas, without blanks around them.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}
