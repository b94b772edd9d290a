//! Numbers in Lua's formats.

/// `%.14g`.
pub(super) fn write(number: f64) -> String {
    const DIGITS: i32 = 14;
    if number.is_nan() {
        return if number.is_sign_negative() { "-nan" } else { "nan" }.to_owned();
    }
    if number.is_infinite() {
        return if number < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    let scientific = format!("{number:.13e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..DIGITS).contains(&exponent) {
        let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or_default();
        return trimmed(&format!("{number:.decimals$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Parses a number: decimal or hexadecimal, with optional white space around it.
pub(super) fn read(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => integer(hex, 16)?,
        None if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => digits.parse().ok()?,
        None => return None,
    };
    Some(if negative { -number } else { number })
}

/// Parses a whole number in a base from 2 to 36.
pub(super) fn integer(digits: &str, base: u32) -> Option<f64> {
    if digits.is_empty() {
        return None;
    }
    digits.chars().try_fold(0.0, |sum, digit| Some(sum * f64::from(base) + f64::from(digit.to_digit(base)?)))
}

#[cfg(test)]
mod tests {
    use super::{read, write};

    #[test]
    fn numbers_are_written_as_lua_does() {
        let check = |number: f64, expect: &str| assert_eq!(write(number), expect);
        check(0.0, "0");
        check(-0.0, "-0");
        check(5.0, "5");
        check(-2.5, "-2.5");
        check(0.1, "0.1");
        check(1.0 / 3.0, "0.33333333333333");
        check(99_999_999_999_999.0, "99999999999999");
        check(1e14, "1e+14");
        check(1.5e300, "1.5e+300");
        check(1e-5, "1e-05");
        check(0.0001, "0.0001");
        check(0.999_999_999_999_999_9, "1");
        check(f64::INFINITY, "inf");
        check(f64::NEG_INFINITY, "-inf");
    }

    #[test]
    fn texts_are_read_as_lua_does() {
        let check = |text: &str, expect: Option<f64>| assert_eq!(read(text.as_bytes()), expect, "{text}");
        check(" 10 ", Some(10.0));
        check("0x1F", Some(31.0));
        check("-0x10", Some(-16.0));
        check("1e2", Some(100.0));
        check(".5", Some(0.5));
        check("5.", Some(5.0));
        for none in ["", " ", "inf", "nan", "1 2", "0x", "1a", "--1", "e5", "\u{a0}1"] {
            check(none, None);
        }
    }
}
