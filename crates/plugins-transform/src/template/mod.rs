//! Values with `$(...)` in them.
//!
//! Kong evaluates Lua between the parentheses. Here it is one expression of [`cardinal_sdk::lua`], which may read
//! `headers`, `query_params`, `uri_captures` and `shared`. Anything else is refused when the configuration is loaded.

use std::borrow::Cow;

use cardinal_http::{HeaderList, query};
use cardinal_sdk::Captures;
use cardinal_sdk::lua::{Budget, Environment as Lookup, Expression, Failure, Names, Value};

#[cfg(test)]
mod tests;

/// Query arguments looked at, as in Kong.
const ARGUMENTS_MAX: usize = 100;

const NAMES: Names = Names {
    tables: &["headers", "query_params", "uri_captures"],
    // Plugins share nothing with each other.
    empty_tables: &["shared"],
    functions: &[],
};

const SUPPORTED: &str = "only expressions with headers, query_params, uri_captures, shared, literals, operators and \
                         the string functions are supported; other Lua code does not run here";

/// Text with expressions in it.
#[derive(Debug, PartialEq)]
pub(crate) struct Template {
    parts: Vec<Part>,
    /// As it was written.
    text: Box<str>,
}

#[derive(Debug, PartialEq)]
enum Part {
    Text(Box<str>),
    Value(Expression),
}

/// What expressions may look at: the request as it came to the plugin.
pub(crate) struct Environment<'r> {
    pub(crate) headers: &'r HeaderList,
    pub(crate) query: Option<&'r [u8]>,
    pub(crate) captures: &'r Captures,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Which expression is not understood, and what is.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("$(") {
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            let parsed = Expression::parse_prefix(after, &NAMES).and_then(|(expression, rest)| {
                let rest = rest.trim_start();
                rest.strip_prefix(')').map(|rest| (expression, rest)).ok_or_else(|| "')' expected".to_owned())
            });
            match parsed {
                Ok((expression, after)) => {
                    parts.push(Part::Value(expression));
                    rest = after;
                }
                Err(reason) => {
                    let at = text.len() - after.len() - "$(".len() + 1;
                    let reason = without_quotes(&reason);
                    return Err(format!("cannot read the expression at byte {at} of the value: {reason}: {SUPPORTED}"));
                }
            }
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self { parts, text: text.into() })
    }

    /// Whether it is plain text for which `is` holds.
    pub(crate) fn is_text(&self, is: fn(&str) -> bool) -> bool {
        matches!(self.parts.as_slice(), [Part::Text(text)] if is(text))
    }

    /// The text, with the values of expressions in their places; nothing for `nil` and `false`, as in Kong.
    ///
    /// # Errors
    /// When an expression cannot be evaluated for this request.
    pub(crate) fn render(&self, environment: &Environment<'_>) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut budget = Budget::default();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Value(expression) => {
                    let value = expression
                        .evaluate(environment, &mut budget)
                        .map_err(|failure| format!("cannot evaluate the template: {failure}"))?;
                    if value.is_true() {
                        value.write(&mut out);
                    }
                }
            }
        }
        Ok(out)
    }
}

/// What a message may quote besides punctuation: names that are known to be those of Lua and of proxies.
const ROOTS: [&str; 20] = [
    "coroutine",
    "debug",
    "function",
    "headers",
    "io",
    "kong",
    "local",
    "math",
    "ngx",
    "os",
    "query_params",
    "return",
    "shared",
    "string",
    "table",
    "template_environment",
    "tonumber",
    "tostring",
    "type",
    "uri_captures",
];

/// A reason without the parts of the value that it quotes: a value that is no template may be a secret with `$(` in it.
fn without_quotes(reason: &str) -> String {
    let mut out = String::with_capacity(reason.len());
    for (at, part) in reason.split('\'').enumerate() {
        if at > 0 {
            out.push('\'');
        }
        let is_method = out.ends_with("method '");
        let is_name = is_method || ROOTS.contains(&part.split('.').next().unwrap_or_default());
        let is_quoted = at % 2 == 1;
        out.push_str(if is_quoted && !is_name && part.contains(char::is_alphanumeric) { "***" } else { part });
    }
    out
}

impl Lookup for Environment<'_> {
    fn index(&self, table: usize, key: &[u8]) -> Value<'_> {
        match NAMES.tables.get(table) {
            Some(&"headers") => match self.headers.get(key) {
                // OpenResty treats `_` as `-`, so that names can be written after a dot.
                None if key.contains(&b'_') => {
                    let dashed: Vec<u8> = key.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
                    Value::optional(self.headers.get(&dashed))
                }
                found => Value::optional(found),
            },
            Some(&"query_params") => {
                let mut arguments = query::arguments(self.query.unwrap_or_default(), ARGUMENTS_MAX);
                match arguments.find(|(name, _)| name == key) {
                    None => Value::Nil,
                    Some((_, None)) => Value::Boolean(true),
                    Some((_, Some(value))) => Value::text(value),
                }
            }
            Some(_) => {
                Value::optional(std::str::from_utf8(key).ok().and_then(|key| self.captures.get(key)).map(str::as_bytes))
            }
            None => Value::Nil,
        }
    }

    fn call(&self, _function: usize, _arguments: &[Value<'_>]) -> Result<Value<'_>, Failure> {
        Err(Failure(Cow::Borrowed("there are no functions here")))
    }
}
