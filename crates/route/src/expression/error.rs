//! What is wrong with an expression, and where.

use crate::predicate::DEPTH_MAX;

use super::LENGTH_MAX;

/// A mistake and its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {mistake}")]
pub struct ExpressionError {
    /// Offset in the text, bytes.
    pub offset: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub mistake: Mistake,
}

/// What may be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// Too long.
    #[error("the expression is longer than {LENGTH_MAX} bytes")]
    TooLong,
    /// Too deep.
    #[error("the expression is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// Something else was due.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A text without its end.
    #[error("the string has no end")]
    OpenString,
    /// No such escape in a text.
    #[error("unknown escape; \\\\, \\\", \\n, \\r and \\t are known, or write r#\"...\"#")]
    Escape,
    /// A number out of range.
    #[error("the number does not fit into 64 bits")]
    Number,
    /// Not an address or a network.
    #[error("{0}")]
    Address(&'static str),
    /// No such function.
    #[error("no function is called {0:?}; there are lower() and any()")]
    Function(String),
    /// No such field.
    #[error("there is no field {name:?}{}", .nearest.as_ref().map(|n| format!("; did you mean {n:?}?")).unwrap_or_default())]
    Field {
        /// As written.
        name: String,
        /// The field with the most similar name, if one is similar.
        nearest: Option<String>,
    },
    /// Operand, operator and literal do not go together.
    #[error("{0}")]
    Types(&'static str),
    /// The regular expression is wrong; its own message.
    #[error("{0}")]
    Pattern(String),
}

impl ExpressionError {
    pub(super) fn at(text: &str, offset: usize, mistake: Mistake) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Self { offset, line, column, mistake }
    }
}
