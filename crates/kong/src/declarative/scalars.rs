//! What a plain scalar of YAML means to Kong: the rules of lyaml, which are those of YAML 1.1 with a few differences.
//!
//! A leading zero makes a number octal, `0o10` is text; `yes`, `on` and the like are booleans in three spellings each;
//! `1:30` is a number to base 60; underscores may stand in numbers; dates are text.

use serde_json::Number;

use super::source::Scalar;

/// Longest plain scalar that is looked at: no number or word is longer.
pub(super) const LEN_MAX: usize = 64;

/// The value of a plain scalar, or `None` when it is text. Numbers that are not finite are the parser's to refuse.
pub(super) fn resolve(text: &str) -> Option<Scalar> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Scalar::Null),
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Some(Scalar::Bool(true)),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Some(Scalar::Bool(false)),
        _ => {}
    }
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let number = octal(digits).or_else(|| decimal(digits)).or_else(|| float(text, digits));
    let number = number.or_else(|| hexadecimal(digits)).or_else(|| binary(digits)).or_else(|| base_60(digits))?;
    let number = if is_negative { -number } else { number };
    // Lua has one type of number: whole ones look like integers.
    if number.fract() == 0.0 && number.abs() < 9e15 {
        return Some(Scalar::Number((number as i64).into()));
    }
    Number::from_f64(number).map(Scalar::Number)
}

/// Digits to a base, without underscores; at least one.
fn digits(text: &str, base: u32) -> Option<f64> {
    let mut sum = None;
    for c in text.chars().filter(|c| *c != '_') {
        sum = Some(sum.unwrap_or(0.0) * f64::from(base) + f64::from(c.to_digit(base)?));
    }
    sum
}

fn octal(text: &str) -> Option<f64> {
    digits(text.strip_prefix('0')?, 8)
}

fn decimal(text: &str) -> Option<f64> {
    text.bytes().all(|b| b.is_ascii_digit() || b == b'_').then(|| digits(text, 10))?
}

fn float(whole: &str, unsigned: &str) -> Option<f64> {
    let has_mark = unsigned.contains(['.', 'e', 'E']);
    let is_plain = unsigned.bytes().all(|b| b.is_ascii_digit() || b"._eE+-".contains(&b));
    let has_digit = unsigned.split(['e', 'E']).next().is_some_and(|n| n.bytes().any(|b| b.is_ascii_digit()));
    if !has_mark || !is_plain || !has_digit {
        return None;
    }
    let number: f64 = whole.replace('_', "").trim_start_matches(['+', '-']).parse().ok()?;
    number.is_finite().then_some(number)
}

fn hexadecimal(text: &str) -> Option<f64> {
    digits(text.strip_prefix("0x")?, 16)
}

fn binary(text: &str) -> Option<f64> {
    let rest = text.strip_prefix("0b")?.trim_start_matches('_');
    if rest.len() < 2 { None } else { digits(rest, 2) }
}

/// `1:30`, `190:20:30`, `1:30.5`.
fn base_60(text: &str) -> Option<f64> {
    let (text, fraction) = match text.split_once('.') {
        Some((text, fraction)) if fraction.bytes().all(|b| b.is_ascii_digit()) && !fraction.is_empty() => {
            (text, format!("0.{fraction}").parse::<f64>().ok()?)
        }
        Some(_) => return None,
        None => (text, 0.0),
    };
    let (first, rest) = text.split_once(':')?;
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if first.is_empty() || !is_number(first) || !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut sum = first.parse::<f64>().ok()?;
    for part in rest.split(':').filter(|part| !part.is_empty()) {
        if !is_number(part) {
            return None;
        }
        sum = sum * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(sum + fraction)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn scalars_mean_what_lyaml_makes_of_them() {
        for (text, expected) in [
            ("0b11", json!(3)),
            ("0x1F", json!(31)),
            ("-0x1F", json!(-31)),
            ("0x_1", json!(1)),
            ("1_000", json!(1000)),
            ("0_7", json!(7)),
            ("08", json!(8)),
            ("007", json!(7)),
            ("-010", json!(-8)),
            ("0777", json!(511)),
            ("1:30", json!(90)),
            ("190:20:30", json!(685_230)),
            ("1:30.5", json!(90.5)),
            ("60:00", json!(3600)),
            ("+1", json!(1)),
            ("1e3", json!(1000)),
            ("5.", json!(5)),
            ("-.5", json!(-0.5)),
            ("1_0.5", json!(10.5)),
            ("1__0", json!(10)),
            ("_1", json!(1)),
            ("._5", json!(0.5)),
            ("-0", json!(0)),
            ("00", json!(0)),
            ("~", Value::Null),
            ("Null", Value::Null),
            ("On", json!(true)),
            ("NO", json!(false)),
        ] {
            assert_eq!(resolve(text).map(|scalar| Value::from(&scalar)), Some(expected), "{text}");
        }
        let texts = "0o10 0o 0B11 0X1f nUll tRUE oN nO y n Y 2001-01-01 2001-12-14t21:59:43.10-05:00 1e 0x 0b 0b1 0b2 \
                     0.1.2 10.0.0.1 0-1 1- . + 1,000 e . -. .e1 1:x 1: :1 = << a1";
        for text in texts.split_whitespace() {
            assert_eq!(resolve(text), None, "{text}");
        }
    }
}
