//! [`Rules`]: constraints on one value. Texts and order are those of `validation_errors` and
//! `validators_order` in `kong/db/schema/init.lua`.

use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

use crate::validate::{lua_text, quoted};
use crate::{Errors, Field, Kind};

/// A regular expression with its source.
#[derive(Clone, Debug)]
pub struct Pattern(Arc<Regex>);

impl Pattern {
    /// Compiles a pattern that is written in the program.
    ///
    /// # Panics
    /// When it does not compile: the first use of a schema in a test shows it.
    pub fn new(pattern: &'static str) -> Self {
        match Regex::new(pattern) {
            Ok(regex) => Self(Arc::new(regex)),
            Err(e) => panic!("pattern {pattern:?} of a schema does not compile: {e}"),
        }
    }

    /// The source.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn found_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// The latest time that an entity may have been made or changed at, in seconds since the epoch: the end of the year 9999.
pub(crate) const TIMESTAMP_MAX: f64 = 253_402_300_799.0;

/// A check in code.
#[derive(Clone, Copy, Debug)]
pub enum Validator {
    /// Over text; other values pass.
    Text(fn(&str) -> Result<(), String>),
    /// Over any value.
    Value(fn(&Value) -> Result<(), String>),
}

impl Validator {
    pub(crate) fn run(&self, value: &Value) -> Result<(), String> {
        match self {
            Self::Value(check) => check(value),
            Self::Text(check) => value.as_str().map_or(Ok(()), check),
        }
    }
}

/// Rules about one value. Also the conditions of [`conditional`](crate::conditional) checks.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "named after the methods of `Field`, which are documented")]
pub struct Rules {
    pub required: bool,
    pub eq: Option<Value>,
    pub ne: Option<Value>,
    pub one_of: Vec<Value>,
    pub not_one_of: Vec<Value>,
    pub gt: Option<f64>,
    pub timestamp: bool,
    pub uuid: bool,
    pub is_regex: bool,
    pub between: Option<(f64, f64)>,
    pub len_eq: Option<usize>,
    pub len_min: Option<usize>,
    pub len_max: Option<usize>,
    pub starts_with: Option<&'static str>,
    pub shape: Option<&'static str>,
    pub not_match: Option<Pattern>,
    pub match_none: Vec<(Pattern, &'static str)>,
    pub matches: Option<Pattern>,
    pub match_all: Vec<(Pattern, &'static str)>,
    pub match_any: Option<(Vec<Pattern>, &'static str)>,
    pub contains: Option<Value>,
    pub validators: Vec<Validator>,
    pub exclusive_subsets: &'static [&'static [&'static str]],
    pub elements: Option<Box<Rules>>,
}

/// No rules yet; the start of a condition: `rules().eq("redis")`.
pub fn rules() -> Rules {
    Rules::default()
}

impl Rules {
    /// A value must be there.
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Exactly this value.
    pub fn eq(mut self, value: impl Into<Value>) -> Self {
        self.eq = Some(value.into());
        self
    }

    /// Any value but this one.
    pub fn ne(mut self, value: impl Into<Value>) -> Self {
        self.ne = Some(value.into());
        self
    }

    /// One of these values.
    pub fn one_of<T: Into<Value>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        self.one_of = values.into_iter().map(Into::into).collect();
        self
    }

    /// None of these values.
    pub fn not_one_of<T: Into<Value>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        self.not_one_of = values.into_iter().map(Into::into).collect();
        self
    }

    /// Greater than.
    pub fn gt(mut self, limit: impl Into<f64>) -> Self {
        self.gt = Some(limit.into());
        self
    }

    /// Within limits, both included.
    pub fn between(mut self, low: impl Into<f64>, high: impl Into<f64>) -> Self {
        self.between = Some((low.into(), high.into()));
        self
    }

    /// At least this many elements.
    pub fn len_min(mut self, n: usize) -> Self {
        self.len_min = Some(n);
        self
    }

    /// Text in which the regular expression is found.
    pub fn matches(mut self, pattern: &'static str) -> Self {
        self.matches = Some(Pattern::new(pattern));
        self
    }

    /// A list that has this element.
    pub fn contains(mut self, value: impl Into<Value>) -> Self {
        self.contains = Some(value.into());
        self
    }

    /// A list all of whose elements follow these rules, instead of those of the field's own elements.
    pub fn elements(mut self, rules: Rules) -> Self {
        self.elements = Some(Box::new(rules));
        self
    }

    /// Exactly this many bytes or elements.
    pub fn len_eq(mut self, n: usize) -> Self {
        self.len_eq = Some(n);
        self
    }

    /// The rules of `field` with those of `self` laid over them.
    pub(crate) fn over(&self, field: &Field) -> Field {
        let mut out = field.clone();
        let (base, top) = (&mut out.rules, self.clone());
        base.eq = top.eq.or(base.eq.take());
        base.ne = top.ne.or(base.ne.take());
        if !top.one_of.is_empty() {
            base.one_of = top.one_of;
        }
        if !top.not_one_of.is_empty() {
            base.not_one_of = top.not_one_of;
        }
        base.gt = top.gt.or(base.gt);
        base.between = top.between.or(base.between);
        base.len_eq = top.len_eq.or(base.len_eq);
        base.len_min = top.len_min.or(base.len_min);
        base.len_max = top.len_max.or(base.len_max);
        base.matches = top.matches.or(base.matches.take());
        base.contains = top.contains.or(base.contains.take());
        base.validators.extend(top.validators);
        if let (Some(rules), Kind::Array(of) | Kind::Set(of)) = (top.elements, &mut out.kind) {
            of.rules = *rules;
        }
        if self.required {
            out.required = Some(true);
        }
        out
    }

    /// Whether a value fails these rules as a condition for a reason that is seen at once. Spares saying why.
    pub(crate) fn plainly_fails(&self, value: &Value) -> bool {
        let none_of = |rules: &Self, value: &Value| {
            !rules.one_of.is_empty() && !value.is_null() && !rules.one_of.iter().any(|v| same(v, value))
        };
        let list = || value.as_array().map_or(&[][..], Vec::as_slice);
        none_of(self, value)
            || self.contains.as_ref().is_some_and(|wanted| value.is_array() && !list().iter().any(|v| same(v, wanted)))
            || self.elements.as_ref().is_some_and(|rules| list().iter().any(|value| none_of(rules, value)))
    }

    /// Checks a value that is not `null` and has the right type.
    pub(crate) fn run(&self, field: &Field, value: &Value) -> Result<(), Errors> {
        let result = self.run_values(value).and_then(|()| self.run_numbers(value));
        let result = result.and_then(|()| self.run_lengths(field, value)).and_then(|()| self.run_text(value));
        let result = result.and_then(|()| self.run_lists(value));
        result.map_err(|text| Errors::Message(field.message.map_or(text, str::to_owned)))
    }

    fn run_values(&self, value: &Value) -> Result<(), String> {
        if let Some(wanted) = &self.eq
            && !same(wanted, value)
        {
            return Err(format!("value must be {}", lua_text(wanted)));
        }
        if let Some(unwanted) = &self.ne
            && same(unwanted, value)
        {
            return Err(format!("value must not be {}", lua_text(value)));
        }
        if self.not_one_of.iter().any(|v| same(v, value)) {
            return Err(format!("must not be one of: {}", list(&self.not_one_of)));
        }
        if !self.one_of.is_empty() && !self.one_of.iter().any(|v| same(v, value)) {
            return Err(format!("expected one of: {}", list(&self.one_of)));
        }
        Ok(())
    }

    fn run_numbers(&self, value: &Value) -> Result<(), String> {
        let number = value.as_f64();
        if let (Some(limit), Some(n)) = (self.gt, number)
            && n <= limit
        {
            return Err(format!("value must be greater than {limit}"));
        }
        if self.timestamp && number.is_some_and(|n| n <= 0.0 || n > TIMESTAMP_MAX) {
            return Err("expected a valid timestamp".to_owned());
        }
        if self.uuid && !value.as_str().is_some_and(is_uuid) {
            return Err("expected a valid UUID".to_owned());
        }
        if self.is_regex
            && let Some(text) = value.as_str()
            && Regex::new(text).is_err()
        {
            return Err(format!("not a valid regex: {text}"));
        }
        if let (Some((low, high)), Some(n)) = (self.between, number)
            && (n < low || n > high)
        {
            return Err(format!("value should be between {} and {}", low.trunc(), high.trunc()));
        }
        Ok(())
    }

    fn run_lengths(&self, field: &Field, value: &Value) -> Result<(), String> {
        let Some(len) = length(value) else { return Ok(()) };
        // Kong refuses empty text unless a schema allows it.
        let floor = if matches!(field.kind, Kind::String) { Some(1) } else { None };
        if let Some(n) = self.len_eq
            && len != n
        {
            return Err(format!("length must be {n}"));
        }
        if let Some(n) = self.len_min.or(floor)
            && len < n
        {
            return Err(format!("length must be at least {n}"));
        }
        if let Some(n) = self.len_max
            && len > n
        {
            return Err(format!("length must be at most {n}"));
        }
        Ok(())
    }

    fn run_text(&self, value: &Value) -> Result<(), String> {
        let Some(text) = value.as_str() else { return Ok(()) };
        if let Some(start) = self.starts_with
            && !text.starts_with(start)
        {
            return Err(format!("should start with: {start}"));
        }
        if self.not_match.as_ref().is_some_and(|p| p.found_in(text)) {
            return Err(format!("invalid value: {text}"));
        }
        if let Some((_, message)) = self.match_none.iter().find(|(p, _)| p.found_in(text)) {
            return Err((*message).to_owned());
        }
        if self.matches.as_ref().is_some_and(|p| !p.found_in(text)) {
            return Err(format!("invalid value: {text}"));
        }
        if let Some((_, message)) = self.match_all.iter().find(|(p, _)| !p.found_in(text)) {
            return Err((*message).to_owned());
        }
        if let Some((patterns, message)) = &self.match_any
            && !patterns.iter().any(|p| p.found_in(text))
        {
            return Err((*message).to_owned());
        }
        Ok(())
    }

    fn run_lists(&self, value: &Value) -> Result<(), String> {
        if let (Some(wanted), Some(list)) = (&self.contains, value.as_array())
            && !list.iter().any(|v| same(v, wanted))
        {
            return Err(format!("expected to contain: {}", lua_text(wanted)));
        }
        for validator in &self.validators {
            validator.run(value)?;
        }
        if let (false, Some(list)) = (self.exclusive_subsets.is_empty(), value.as_array()) {
            return exclusive(self.exclusive_subsets, list);
        }
        Ok(())
    }
}

fn exclusive(groups: &[&[&str]], list: &[Value]) -> Result<(), String> {
    let mut found: Vec<&[&str]> = Vec::new();
    for text in list.iter().filter_map(Value::as_str) {
        if let Some(group) = groups.iter().find(|g| g.contains(&text))
            && !found.contains(group)
        {
            found.push(group);
        }
    }
    if found.len() <= 1 {
        return Ok(());
    }
    let groups: Vec<String> = found.iter().map(|g| format!("({})", quoted(g))).collect();
    Err(format!("these sets are mutually exclusive: {}", groups.join(", ")))
}

/// Equality as Lua sees it: 1 and 1.0 are the same.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    if let (Value::String(a), Value::String(b)) = (a, b) {
        return a == b;
    }
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b.to_ascii_lowercase()),
        })
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.len()),
        Value::Array(list) => Some(list.len()),
        Value::Object(map) => Some(map.len()),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn list(values: &[Value]) -> String {
    values.iter().map(lua_text).collect::<Vec<_>>().join(", ")
}
