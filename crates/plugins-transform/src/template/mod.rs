//! Values with `$(...)` in them.
//!
//! Kong evaluates Lua between the parentheses. Here a small part of Lua is understood, which covers what templates are
//! used for: `headers.name`, `headers["name"]`, the same of `query_params`, `uri_captures` and `shared`, text and
//! number literals, `nil`, `true`, `false`, `or`, `and`, `..` and parentheses. Anything else is refused when the
//! configuration is loaded.

mod parse;

use cardinal_http::{HeaderList, query};
use cardinal_sdk::Captures;

#[cfg(test)]
mod tests;

/// Query arguments looked at, as in Kong.
const ARGUMENTS_MAX: usize = 100;

/// Text with expressions in it.
#[derive(Debug, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, PartialEq)]
enum Part {
    Text(Box<str>),
    Value(Expression),
}

#[derive(Debug, PartialEq)]
enum Expression {
    Lookup(Source, Box<str>),
    Literal(Literal),
    Or(Box<Expression>, Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Join(Box<Expression>, Box<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    Headers,
    QueryParams,
    UriCaptures,
    Shared,
}

/// What an expression comes to.
#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Nil,
    Boolean(bool),
    Text(Vec<u8>),
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
        parse::template(text).map(Self)
    }

    /// Whether it is plain text for which `is` holds.
    pub(crate) fn is_text(&self, is: fn(&str) -> bool) -> bool {
        matches!(self.0.as_slice(), [Part::Text(text)] if is(text))
    }

    /// The text, with the values of expressions in their places; nothing for those that come to nothing.
    pub(crate) fn render(&self, environment: &Environment<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Value(expression) => expression.evaluate(environment).write(&mut out),
            }
        }
        out
    }
}

impl Expression {
    fn evaluate(&self, environment: &Environment<'_>) -> Literal {
        match self {
            Self::Literal(literal) => literal.clone(),
            Self::Lookup(source, name) => environment.look_up(*source, name),
            Self::Or(left, right) => match left.evaluate(environment) {
                Literal::Nil | Literal::Boolean(false) => right.evaluate(environment),
                value => value,
            },
            Self::And(left, right) => match left.evaluate(environment) {
                value @ (Literal::Nil | Literal::Boolean(false)) => value,
                Literal::Boolean(true) | Literal::Text(_) => right.evaluate(environment),
            },
            Self::Join(left, right) => {
                let mut text = Vec::new();
                left.evaluate(environment).write(&mut text);
                right.evaluate(environment).write(&mut text);
                Literal::Text(text)
            }
        }
    }
}

impl Literal {
    /// `nil` and `false` are nothing, as in Kong.
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil | Self::Boolean(false) => {}
            Self::Boolean(true) => out.extend_from_slice(b"true"),
            Self::Text(text) => out.extend_from_slice(text),
        }
    }
}

impl Environment<'_> {
    fn look_up(&self, source: Source, name: &str) -> Literal {
        let text = |value: Option<&[u8]>| value.map_or(Literal::Nil, |value| Literal::Text(value.to_vec()));
        match source {
            Source::Headers => match self.headers.get(name.as_bytes()) {
                // OpenResty lets `_` stand for `-`, so that names can be written behind a dot.
                None if name.contains('_') => text(self.headers.get(name.replace('_', "-").as_bytes())),
                found => text(found),
            },
            Source::QueryParams => query::arguments(self.query.unwrap_or_default(), ARGUMENTS_MAX)
                .find(|(key, _)| key == name.as_bytes())
                .map_or(Literal::Nil, |(_, value)| value.map_or(Literal::Boolean(true), Literal::Text)),
            Source::UriCaptures => text(self.captures.get(name).map(str::as_bytes)),
            // What plugins share with each other: none of those that are here shares anything.
            Source::Shared => Literal::Nil,
        }
    }
}
