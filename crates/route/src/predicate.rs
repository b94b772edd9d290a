//! Compiled predicates: Kong's expressions as its `atc-router` executes them.

use std::net::IpAddr;
use std::ops::ControlFlow;

use cardinal_ir::{Field, Literal, Op, Predicate};
use ipnet::IpNet;
use memchr::memmem;
use smallvec::SmallVec;

use crate::pattern::{Pattern, PatternError};
use crate::query;
use crate::request::Request;
use crate::rule::PathTrace;

/// Levels of nesting that a predicate may have.
pub(crate) const DEPTH_MAX: usize = 128;

/// Why a predicate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PredicateError {
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("the expression is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    #[error("the operator does not fit the types of its operands")]
    Types,
}

/// A predicate with its patterns compiled.
#[derive(Debug)]
pub(crate) enum Node {
    All(Box<[Node]>),
    Any(Box<[Node]>),
    Not(Box<Node>),
    Test(Box<Test>),
}

/// One comparison.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) field: Field,
    /// Header name with dashes, where the field is a header.
    header: Box<str>,
    lower: bool,
    any: bool,
    check: Check,
}

/// An operator with its operand.
#[derive(Debug)]
enum Check {
    Text(Op, Box<str>),
    Pattern(Pattern),
    Int(Op, i64),
    Ip(Op, IpAddr),
    Net { net: IpNet, inside: bool },
}

/// What kind of value a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldType {
    Text,
    Int,
    Ip,
}

/// The type of a field.
pub(crate) fn type_of(field: &Field) -> FieldType {
    match field {
        Field::SegmentCount | Field::SourcePort | Field::DestinationPort => FieldType::Int,
        Field::SourceIp | Field::DestinationIp => FieldType::Ip,
        Field::Protocol
        | Field::Sni
        | Field::Method
        | Field::Host
        | Field::Path
        | Field::Segments(..)
        | Field::Header(_)
        | Field::Query(_) => FieldType::Text,
    }
}

impl Node {
    pub(crate) fn compile(predicate: &Predicate) -> Result<Self, PredicateError> {
        Self::compile_below(predicate, DEPTH_MAX)
    }

    fn compile_below(predicate: &Predicate, levels: usize) -> Result<Self, PredicateError> {
        let below = levels.checked_sub(1).ok_or(PredicateError::TooDeep)?;
        let list = |list: &[Predicate]| -> Result<Box<[Self]>, _> {
            list.iter().map(|node| Self::compile_below(node, below)).collect()
        };
        Ok(match predicate {
            Predicate::All(all) => Self::All(list(all)?),
            Predicate::Any(any) => Self::Any(list(any)?),
            Predicate::Not(inner) => Self::Not(Box::new(Self::compile_below(inner, below)?)),
            Predicate::Compare { field, lower, any, op, value } => {
                let check = Check::compile(type_of(field), *op, value)?;
                if *lower && type_of(field) != FieldType::Text {
                    return Err(PredicateError::Types);
                }
                let header = match field {
                    Field::Header(name) => name.to_ascii_lowercase().replace('_', "-").into(),
                    _ => "".into(),
                };
                Self::Test(Box::new(Test { field: field.clone(), header, lower: *lower, any: *any, check }))
            }
        })
    }

    /// Executes the predicate. Matches of the path leave their trace even where they do not decide.
    pub(crate) fn eval<'r>(&'r self, request: &Request<'_>, trace: &mut PathTrace<'r>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|node| node.eval(request, trace)),
            Self::Any(any) => any.iter().any(|node| node.eval(request, trace)),
            Self::Not(inner) => !inner.eval(request, trace),
            Self::Test(test) => test.eval(request, trace),
        }
    }
}

impl Check {
    fn compile(field: FieldType, op: Op, value: &Literal) -> Result<Self, PredicateError> {
        use Op::{
            Contains, EndsWith, Equal, Greater, GreaterOrEqual, In, Less, LessOrEqual, NotEqual, NotIn, Regex,
            StartsWith,
        };
        Ok(match (field, op, value) {
            (FieldType::Text, Regex, Literal::Text(text)) => Self::Pattern(Pattern::anywhere(text)?),
            (FieldType::Text, Equal | NotEqual | StartsWith | EndsWith | Contains, Literal::Text(text)) => {
                Self::Text(op, text.clone())
            }
            (FieldType::Int, Equal | NotEqual | Greater | GreaterOrEqual | Less | LessOrEqual, Literal::Int(int)) => {
                Self::Int(op, *int)
            }
            (FieldType::Ip, Equal | NotEqual, Literal::Ip(ip)) => Self::Ip(op, *ip),
            (FieldType::Ip, In | NotIn, Literal::Net(net)) => Self::Net { net: *net, inside: op == In },
            _ => return Err(PredicateError::Types),
        })
    }

    fn int(&self, value: i64) -> bool {
        let Self::Int(op, operand) = self else { return false };
        match op {
            Op::Equal => value == *operand,
            Op::NotEqual => value != *operand,
            Op::Greater => value > *operand,
            Op::GreaterOrEqual => value >= *operand,
            Op::Less => value < *operand,
            Op::LessOrEqual => value <= *operand,
            Op::Regex | Op::StartsWith | Op::EndsWith | Op::In | Op::NotIn | Op::Contains => false,
        }
    }

    fn ip(&self, value: IpAddr) -> bool {
        match self {
            Self::Ip(op, operand) => (value == *operand) == (*op == Op::Equal),
            Self::Net { net, inside } => net.contains(&value) == *inside,
            Self::Text(..) | Self::Pattern(_) | Self::Int(..) => false,
        }
    }

    fn text<'r>(&'r self, value: &[u8], trace: &mut PathTrace<'r>) -> bool {
        match self {
            Self::Pattern(pattern) => match pattern.find(value) {
                Some(len) => trace.found(len, Some(pattern)),
                None => false,
            },
            Self::Text(op, operand) => {
                let operand = operand.as_bytes();
                let holds = match op {
                    Op::Equal => value == operand,
                    Op::NotEqual => return value != operand,
                    Op::StartsWith => value.starts_with(operand),
                    Op::EndsWith => value.ends_with(operand),
                    Op::Contains => return memmem::find(value, operand).is_some(),
                    _ => false,
                };
                holds && trace.found(operand.len(), None)
            }
            Self::Int(..) | Self::Ip(..) | Self::Net { .. } => false,
        }
    }
}

impl Test {
    pub(crate) fn eval<'r>(&'r self, request: &Request<'_>, trace: &mut PathTrace<'r>) -> bool {
        // Only comparisons of the whole path define which part of it matched.
        let ignored = &mut PathTrace::default();
        match &self.field {
            Field::Path => self.text(request.path, trace),
            Field::Protocol => self.text(request.wire.as_str().as_bytes(), ignored),
            Field::Sni => request.sni.is_some_and(|sni| self.text(sni.as_bytes(), ignored)),
            Field::Method => self.text(request.method.as_bytes(), ignored),
            Field::Host => request.host.is_some_and(|host| self.text(host.as_bytes(), ignored)),
            Field::SegmentCount => self.check.int(i64::try_from(segments(request.path).count()).unwrap_or(i64::MAX)),
            Field::Segments(first, last) => {
                segment_range(request.path, *first, *last).is_some_and(|text| self.text(text, ignored))
            }
            Field::Header(_) => self.over(|visit| request.headers.each(&self.header, visit)),
            Field::Query(name) => self.over(|visit| query::each(request.query, name, visit)),
            Field::SourceIp => self.check.ip(request.source_ip()),
            Field::SourcePort => self.check.int(request.source.port().into()),
            Field::DestinationIp => self.check.ip(request.destination_ip()),
            Field::DestinationPort => self.check.int(request.destination.port().into()),
        }
    }

    fn text<'r>(&'r self, value: &[u8], trace: &mut PathTrace<'r>) -> bool {
        if self.lower {
            with_lower(value, |value| self.check.text(value, trace))
        } else {
            self.check.text(value, trace)
        }
    }

    /// All values must hold, or any of them; false where there is none.
    fn over(&self, each: impl FnOnce(&mut dyn FnMut(&[u8]) -> ControlFlow<()>)) -> bool {
        let mut holds = None;
        each(&mut |value| {
            let one = self.text(value, &mut PathTrace::default());
            holds = Some(one);
            if one == self.any { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        holds.unwrap_or(false)
    }
}

/// Hands on a value in lower case; on the stack unless it is long or not ASCII.
pub(crate) fn with_lower<T>(value: &[u8], then: impl FnOnce(&[u8]) -> T) -> T {
    if value.is_ascii() {
        if !value.iter().any(u8::is_ascii_uppercase) {
            return then(value);
        }
    } else if let Ok(text) = std::str::from_utf8(value) {
        return then(text.to_lowercase().as_bytes());
    }
    let mut lower: SmallVec<[u8; 256]> = SmallVec::from_slice(value);
    lower.make_ascii_lowercase();
    then(&lower)
}

/// Segments of a path, without the empty ones at its end.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut path = path.get(1..).unwrap_or_default();
    while let Some(shorter) = path.strip_suffix(b"/") {
        path = shorter;
    }
    let count = if path.is_empty() { 0 } else { usize::MAX };
    path.split(|byte| *byte == b'/').take(count)
}

/// The part of a path from one segment up to and including another.
fn segment_range(path: &[u8], first: u16, last: u16) -> Option<&[u8]> {
    let (first, last) = (usize::from(first), usize::from(last));
    let mut start = 1;
    let mut from = None;
    for (number, segment) in segments(path).enumerate() {
        if number == first {
            from = Some(start);
        }
        if number == last {
            return path.get(from?..start + segment.len());
        }
        start += segment.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_of_a_path() {
        assert_eq!(segments(b"/").count(), 0);
        assert_eq!(segments(b"").count(), 0);
        assert_eq!(segments(b"/a/b/").count(), 2);
        assert_eq!(segment_range(b"/a/b/c", 0, 0), Some(&b"a"[..]));
        assert_eq!(segment_range(b"/a/b/c", 1, 2), Some(&b"b/c"[..]));
        assert_eq!(segment_range(b"/a/b/c", 1, 3), None);
        assert_eq!(segment_range(b"/a/b/c", 1, 0), None);
        assert_eq!(segment_range(b"/a/b/c/", 2, 2), Some(&b"c"[..]));
    }

    #[test]
    fn lower_case() {
        for (value, expect) in [("ABC", "abc"), ("abc", "abc"), ("\u{c9}A", "\u{e9}a")] {
            with_lower(value.as_bytes(), |value| assert_eq!(value, expect.as_bytes()));
        }
        with_lower(b"A\xff", |value| assert_eq!(value, b"a\xff"));
    }
}
