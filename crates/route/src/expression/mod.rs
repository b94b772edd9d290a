//! The expression language of Kong's `expressions` router flavor: text in, [`Predicate`] out.
//!
//! ```text
//! expression = group ("&&" group)*          group = term ("||" term)*
//! term       = comparison | "!"? "(" expression ")"
//! comparison = operand operator literal     operand = field | ("lower" | "any") "(" operand ")"
//! ```
//!
//! `||` binds *tighter* than `&&`, as in Kong's reference engine (`atc-router`), whose grammar, types and verdicts this
//! module follows. Differences: it bounds length and nesting, and refuses field names that could never have a value
//! (`http.path.segments.x`), as Kong does one level above.

mod error;
mod fields;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

pub use error::{ExpressionError, Mistake};

use cardinal_ir::{Predicate, Traffic};

/// Longest expression, bytes.
pub const LENGTH_MAX: usize = 64 << 10;

/// Parses an expression over the fields of requests.
pub fn parse(text: &str) -> Result<Predicate, ExpressionError> {
    parse_for(text, Traffic::Http)
}

/// Parses an expression over the fields that one kind of traffic has; connections have `net.*` and `tls.*`.
pub fn parse_for(text: &str, traffic: Traffic) -> Result<Predicate, ExpressionError> {
    if text.len() > LENGTH_MAX {
        return Err(ExpressionError::at(text, 0, Mistake::TooLong));
    }
    parser::Parser::new(text, traffic).parse().map_err(|(offset, mistake)| ExpressionError::at(text, offset, mistake))
}
