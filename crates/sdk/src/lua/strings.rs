//! The string functions.

use std::borrow::Cow;

use super::pattern::{Matcher, has_specials};
use super::{Budget, Failure, Function, METHODS, Value, number};

pub(super) fn call<'a>(
    function: Function,
    given: &[Value<'a>],
    budget: &mut Budget,
) -> Result<Vec<Value<'a>>, Failure> {
    let call = Call { function, given };
    let subject = call.text(0)?;
    let one = |value| Ok(vec![value]);
    match function {
        Function::Find => find(&call, &subject, budget),
        Function::Match => find_captures(&call, &subject, budget),
        Function::Gsub => gsub(&call, &subject, budget),
        Function::Len => one(Value::length(subject.len())),
        Function::Lower => call.made(subject.to_ascii_lowercase(), budget),
        Function::Upper => call.made(subject.to_ascii_uppercase(), budget),
        Function::Reverse => call.made(subject.iter().rev().copied().collect(), budget),
        Function::Sub => {
            let (start, end) = (call.integer(1)?, call.integer_or(2, -1)?);
            let range = range(subject.len(), start, end);
            one(Value::Text(match subject {
                Cow::Borrowed(text) => Cow::Borrowed(text.get(range).unwrap_or_default()),
                Cow::Owned(text) => Cow::Owned(text.get(range).unwrap_or_default().to_vec()),
            }))
        }
        Function::Rep => rep(&call, &subject, budget),
        // Not string functions.
        Function::ToNumber | Function::ToString | Function::Type => one(Value::Nil),
    }
}

struct Call<'c, 'a> {
    function: Function,
    given: &'c [Value<'a>],
}

impl<'a> Call<'_, 'a> {
    fn name(&self) -> &'static str {
        METHODS.iter().find(|(_, function)| *function == self.function).map_or("", |(name, _)| name)
    }

    fn bad(&self, at: usize, expected: &str) -> Failure {
        let got = self.given.get(at).map_or("no value", Value::type_name);
        Failure::new(format!("bad argument #{} to '{}' ({expected} expected, got {got})", at + 1, self.name()))
    }

    /// A text, or a number as text.
    fn text(&self, at: usize) -> Result<Cow<'a, [u8]>, Failure> {
        match self.given.get(at) {
            Some(Value::Text(text)) => Ok(text.clone()),
            Some(Value::Number(value)) => Ok(Cow::Owned(number::write(*value).into_bytes())),
            _ => Err(self.bad(at, "string")),
        }
    }

    fn integer(&self, at: usize) -> Result<i64, Failure> {
        let number = self.given.get(at).and_then(Value::as_number).ok_or_else(|| self.bad(at, "number"))?;
        // Saturates: positions beyond a text are clamped to its ends.
        #[allow(clippy::cast_possible_truncation, reason = "towards zero, as Lua does")]
        Ok(number as i64)
    }

    fn integer_or(&self, at: usize, default: i64) -> Result<i64, Failure> {
        match self.given.get(at) {
            None | Some(Value::Nil) => Ok(default),
            Some(_) => self.integer(at),
        }
    }

    fn made(&self, text: Vec<u8>, budget: &mut Budget) -> Result<Vec<Value<'a>>, Failure> {
        budget.text(text.len())?;
        Ok(vec![Value::text(text)])
    }
}

/// The bytes from position `start` to `end`, both counted from 1, or from the end if negative.
fn range(len: usize, start: i64, end: i64) -> std::ops::Range<usize> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_end = |at: i64| if at < 0 { at.saturating_add(len).saturating_add(1) } else { at };
    let (start, end) = (from_end(start).max(1), from_end(end).min(len));
    match (usize::try_from(start - 1), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start < end => start..end,
        _ => 0..0,
    }
}

fn rep<'a>(call: &Call<'_, 'a>, subject: &[u8], budget: &mut Budget) -> Result<Vec<Value<'a>>, Failure> {
    let count = usize::try_from(call.integer(1)?.max(0)).unwrap_or(usize::MAX);
    let separator = match call.given.get(2) {
        None | Some(Value::Nil) => Cow::Borrowed(&b""[..]),
        Some(_) => call.text(2)?,
    };
    let each = subject.len().saturating_add(separator.len());
    budget.text(each.saturating_mul(count))?;
    if each == 0 {
        return Ok(vec![Value::text(&b""[..])]);
    }
    let mut text = Vec::with_capacity(each.saturating_mul(count));
    for n in 0..count {
        if n > 0 {
            text.extend_from_slice(&separator);
        }
        text.extend_from_slice(subject);
    }
    Ok(vec![Value::text(text)])
}

/// The start position of a search; `None` beyond the end.
fn start(call: &Call<'_, '_>, at: usize, len: usize) -> Result<Option<usize>, Failure> {
    let init = call.integer_or(at, 1)?;
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let start = if init < 0 { init.saturating_add(len) } else { init - 1 }.max(0);
    Ok(usize::try_from(start).ok().filter(|_| start <= len))
}

fn find<'a>(call: &Call<'_, 'a>, subject: &[u8], budget: &mut Budget) -> Result<Vec<Value<'a>>, Failure> {
    let pattern = call.text(1)?;
    let Some(init) = start(call, 2, subject.len())? else { return Ok(vec![Value::Nil]) };
    let plain = call.given.get(3).is_some_and(Value::is_true);
    if plain || !has_specials(&pattern) {
        budget.spend(u32::try_from(subject.len() / 16).unwrap_or(u32::MAX))?;
        let rest = subject.get(init..).unwrap_or_default();
        return Ok(match memchr::memmem::find(rest, &pattern) {
            Some(at) => vec![Value::length(init + at + 1), Value::length(init + at + pattern.len())],
            None => vec![Value::Nil],
        });
    }
    let mut matcher = Matcher::new(subject, &pattern, budget);
    let Some((start, end)) = matcher.search(init)? else { return Ok(vec![Value::Nil]) };
    let mut found = vec![Value::length(start + 1), Value::length(end)];
    found.extend(matcher.captures()?);
    Ok(found)
}

fn find_captures<'a>(call: &Call<'_, 'a>, subject: &[u8], budget: &mut Budget) -> Result<Vec<Value<'a>>, Failure> {
    let pattern = call.text(1)?;
    let Some(init) = start(call, 2, subject.len())? else { return Ok(vec![Value::Nil]) };
    let mut matcher = Matcher::new(subject, &pattern, budget);
    let Some((start, end)) = matcher.search(init)? else { return Ok(vec![Value::Nil]) };
    let captures = matcher.captures()?;
    if captures.is_empty() {
        return call.made(subject.get(start..end).unwrap_or_default().to_vec(), budget);
    }
    Ok(captures)
}

fn gsub<'a>(call: &Call<'_, 'a>, subject: &[u8], budget: &mut Budget) -> Result<Vec<Value<'a>>, Failure> {
    let pattern = call.text(1)?;
    let replacement = call
        .text(2)
        .map_err(|_| Failure::new(format!("{}; tables and functions are not supported", call.bad(2, "string"))))?;
    let max = call.integer_or(3, i64::MAX)?;
    let (anchored, pattern) = match pattern.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, &*pattern),
    };
    let (mut out, mut at, mut count) = (Vec::new(), 0, 0_i64);
    while count < max {
        let mut matcher = Matcher::new(subject, pattern, budget);
        let end = matcher.match_at(at)?;
        if let Some(end) = end {
            count += 1;
            matcher.replace(&replacement, at, end, &mut out)?;
        }
        budget.text_grown(out.len())?;
        match (end, subject.get(at)) {
            (Some(end), _) if end > at => at = end,
            (_, Some(byte)) => {
                out.push(*byte);
                at += 1;
            }
            (_, None) => break,
        }
        if anchored {
            break;
        }
    }
    out.extend_from_slice(subject.get(at..).unwrap_or_default());
    budget.text(out.len())?;
    #[allow(clippy::cast_precision_loss, reason = "texts are far shorter than 2^53")]
    Ok(vec![Value::text(out), Value::Number(count as f64)])
}
