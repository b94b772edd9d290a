//! A small, bounded part of Lua: single expressions, as configurations have them in templates and log fields.
//!
//! Expressions are parsed when a configuration is loaded and evaluated for each request. They follow Lua 5.1 as
//! OpenResty runs it: precedence, short circuits, comparison, conversion between texts and numbers, and the string
//! functions with their patterns. There are no statements, variables, tables or user-defined functions. What an
//! expression may read is given by [`Names`] and [`Environment`].
//!
//! Everything is bounded. The parser limits nesting and size; evaluation has a [`Budget`] of steps and a limit on the
//! length of texts, so that neither a pattern nor a repetition can hold up a worker.
//!
//! Start at [`Expression::parse`], then `eval.rs`.

mod eval;
mod number;
mod parse;
mod pattern;
mod strings;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use eval::Budget;

/// An expression that was parsed.
#[derive(Debug, PartialEq)]
pub struct Expression(Node);

/// What an expression can evaluate to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `nil`
    Nil,
    /// `true`, `false`
    Boolean(bool),
    /// A number.
    Number(f64),
    /// A string of bytes.
    Text(Cow<'a, [u8]>),
}

/// Names that expressions may use besides the standard functions.
#[derive(Debug)]
pub struct Names {
    /// Tables that are indexed by a key, such as `headers` in `headers.host`.
    pub tables: &'static [&'static str],
    /// Tables without content: anything in them is `nil`, at any depth.
    pub empty_tables: &'static [&'static str],
    /// Functions, with their dots: `kong.request.get_header`.
    pub functions: &'static [&'static str],
}

/// The values behind [`Names`], for one request.
pub trait Environment {
    /// The value under `key` in the table at this place of [`Names::tables`].
    fn index(&self, table: usize, key: &[u8]) -> Value<'_>;
    /// The result of the function at this place of [`Names::functions`].
    ///
    /// # Errors
    /// When the arguments are not what the function takes.
    fn call(&self, function: usize, arguments: &[Value<'_>]) -> Result<Value<'_>, Failure>;
}

/// Why an expression could not be evaluated, in Lua's words where Lua has the same error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub Cow<'static, str>);

#[derive(Debug, PartialEq)]
enum Node {
    Constant(Value<'static>),
    /// A table's place, and the key.
    Index(usize, Box<Node>),
    /// A function's place, and its arguments.
    Call(usize, Vec<Node>),
    Standard(Function, Vec<Node>),
    /// `text:name(...)`
    Method(Box<Node>, Function, &'static str, Vec<Node>),
    /// The first value, where there may be several.
    First(Box<Node>),
    Or(Vec<Node>),
    And(Vec<Node>),
    Concat(Vec<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Length(Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    Arithmetic(Operator, Box<Node>, Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
}

/// Functions of the standard library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Find,
    Gsub,
    Len,
    Lower,
    Match,
    Rep,
    Reverse,
    Sub,
    ToNumber,
    ToString,
    Type,
    Upper,
}

/// String functions, which can be called as methods too.
const METHODS: &[(&str, Function)] = &[
    ("find", Function::Find),
    ("gsub", Function::Gsub),
    ("len", Function::Len),
    ("lower", Function::Lower),
    ("match", Function::Match),
    ("rep", Function::Rep),
    ("reverse", Function::Reverse),
    ("sub", Function::Sub),
    ("upper", Function::Upper),
];

/// Other functions.
const GLOBALS: &[(&str, Function)] =
    &[("tonumber", Function::ToNumber), ("tostring", Function::ToString), ("type", Function::Type)];

impl Expression {
    /// Parses the whole of `text`.
    ///
    /// # Errors
    /// What is not understood, and where.
    pub fn parse(text: &str, names: &Names) -> Result<Self, String> {
        let (expression, rest) = Self::parse_prefix(text, names)?;
        if rest.trim().is_empty() { Ok(expression) } else { Err(format!("unexpected '{}'", excerpt(rest.trim()))) }
    }

    /// Parses the expression that `text` starts with; also the text after it.
    ///
    /// # Errors
    /// What is not understood, and where.
    pub fn parse_prefix<'t>(text: &'t str, names: &Names) -> Result<(Self, &'t str), String> {
        parse::expression(text, names).map(|(node, rest)| (Self(node), rest))
    }

    /// Evaluates it. Of several values only the first is returned.
    ///
    /// # Errors
    /// What Lua cannot do either, and what exceeds the budget.
    pub fn evaluate<'a>(&'a self, environment: &'a dyn Environment, budget: &mut Budget) -> Result<Value<'a>, Failure> {
        self.0.evaluate(environment, budget)
    }
}

impl<'a> Value<'a> {
    /// A text.
    pub fn text(text: impl Into<Cow<'a, [u8]>>) -> Self {
        Self::Text(text.into())
    }

    /// A text where there is one, else `nil`.
    pub fn optional(text: Option<impl Into<Cow<'a, [u8]>>>) -> Self {
        text.map_or(Self::Nil, Self::text)
    }

    /// Whether a condition with this value holds: not for `nil` and `false`.
    pub fn is_true(&self) -> bool {
        !matches!(self, Self::Nil | Self::Boolean(false))
    }

    /// What `tostring` makes of it.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => out.extend_from_slice(b"nil"),
            Self::Boolean(true) => out.extend_from_slice(b"true"),
            Self::Boolean(false) => out.extend_from_slice(b"false"),
            Self::Number(number) => out.extend_from_slice(number::write(*number).as_bytes()),
            Self::Text(text) => out.extend_from_slice(text),
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Boolean(_) => "boolean",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
        }
    }
}

impl Failure {
    fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self(text.into())
    }
}

/// The start of a text, for messages.
pub(crate) fn excerpt(text: &str) -> &str {
    let end = text.char_indices().nth(40).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}
