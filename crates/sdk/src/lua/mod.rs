//! A small, bounded subset of Lua: single expressions, as used in templates and log fields of configurations.
//!
//! Expressions are parsed when a configuration is loaded and evaluated for each request. They follow Lua 5.1 as in
//! OpenResty: precedence, short-circuit evaluation, comparison, conversion between texts and numbers, and the string
//! functions with their patterns. There are no statements, variables, tables or user-defined functions. The accessible
//! data is defined by [`Names`] and [`Environment`].
//!
//! All resources are bounded. The parser limits nesting and size; evaluation has a [`Budget`] of steps and a limit on
//! the length of texts, so that neither a pattern nor a repetition can block a worker.
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

/// A parsed expression.
#[derive(Debug, PartialEq)]
pub struct Expression(Node);

/// The value of an expression.
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

/// Names available to expressions in addition to the standard functions.
#[derive(Debug)]
pub struct Names {
    /// Tables that are indexed by a key, such as `headers` in `headers.host`.
    pub tables: &'static [&'static str],
    /// Empty tables: anything in them is `nil`, at any depth.
    pub empty_tables: &'static [&'static str],
    /// Functions, with their dots: `kong.request.get_header`.
    pub functions: &'static [&'static str],
}

/// The values behind [`Names`], for one request.
pub trait Environment {
    /// The value under `key` in the table with this index in [`Names::tables`].
    fn index(&self, table: usize, key: &[u8]) -> Value<'_>;
    /// The result of the function with this index in [`Names::functions`].
    ///
    /// # Errors
    /// If the arguments are not valid for the function.
    fn call(&self, function: usize, arguments: &[Value<'_>]) -> Result<Value<'_>, Failure>;
}

/// Why an expression could not be evaluated, in the words of Lua if Lua has the same error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub Cow<'static, str>);

#[derive(Debug, PartialEq)]
enum Node {
    Constant(Value<'static>),
    /// A table's index, and the key.
    Index(usize, Box<Node>),
    /// A function's index, and its arguments.
    Call(usize, Vec<Node>),
    Standard(Function, Vec<Node>),
    /// `text:name(...)`
    Method(Box<Node>, Function, &'static str, Vec<Node>),
    /// The first of possibly several values.
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

/// String functions, which can also be called as methods.
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
    /// Parses all of `text`.
    ///
    /// # Errors
    /// The syntax error and its position.
    pub fn parse(text: &str, names: &Names) -> Result<Self, String> {
        let (expression, rest) = Self::parse_prefix(text, names)?;
        if rest.trim().is_empty() { Ok(expression) } else { Err(format!("unexpected {}", start_of(rest.trim()))) }
    }

    /// Parses the expression at the start of `text`; also returns the text after it.
    ///
    /// # Errors
    /// The syntax error and its position.
    pub fn parse_prefix<'t>(text: &'t str, names: &Names) -> Result<(Self, &'t str), String> {
        parse::expression(text, names).map(|(node, rest)| (Self(node), rest))
    }

    /// Evaluates the expression. Of several values, only the first is returned.
    ///
    /// # Errors
    /// Errors of Lua, and exceeding the budget.
    pub fn evaluate<'a>(&'a self, environment: &'a dyn Environment, budget: &mut Budget) -> Result<Value<'a>, Failure> {
        self.0.evaluate(environment, budget)
    }
}

impl<'a> Value<'a> {
    /// A text.
    pub fn text(text: impl Into<Cow<'a, [u8]>>) -> Self {
        Self::Text(text.into())
    }

    /// A text, or `nil` if there is none.
    pub fn optional(text: Option<impl Into<Cow<'a, [u8]>>>) -> Self {
        text.map_or(Self::Nil, Self::text)
    }

    /// Whether the value is true as a condition: everything except `nil` and `false`.
    pub fn is_true(&self) -> bool {
        !matches!(self, Self::Nil | Self::Boolean(false))
    }

    /// Writes the result of `tostring`.
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

/// The start of a text for messages: a name or a symbol. Literals may be secrets, and are not shown.
pub(crate) fn start_of(text: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '.';
    let quoted = |end: usize| format!("'{}'", text.get(..end).unwrap_or_default());
    match text.chars().next() {
        Some('"' | '\'') => "a text".to_owned(),
        Some('[') if text.starts_with("[[") || text.starts_with("[=") => "a text".to_owned(),
        Some(c) if c.is_ascii_digit() => "a number".to_owned(),
        Some(c) if is_name(c) => quoted(text.find(|c: char| !(is_name(c) || c.is_ascii_digit())).unwrap_or(text.len())),
        Some(c) => quoted(c.len_utf8()),
        None => "the end".to_owned(),
    }
}
