//! The parser, by recursive descent.

use cardinal_ir::{Field, Literal, Op, Predicate, Traffic};
use regex::RegexBuilder;

use crate::pattern::COMPILED_MAX;
use crate::predicate::{DEPTH_MAX, FieldType, type_of};

use super::error::Mistake;
use super::fields;
use super::lexer::{Cursor, Fault};

pub(super) struct Parser<'t> {
    cursor: Cursor<'t>,
    traffic: Traffic,
}

/// A field and the functions applied to it.
struct Operand {
    field: Field,
    lower: bool,
    any: bool,
}

impl<'t> Parser<'t> {
    pub(super) fn new(text: &'t str, traffic: Traffic) -> Self {
        Self { cursor: Cursor::new(text), traffic }
    }

    pub(super) fn parse(mut self) -> Result<Predicate, Fault> {
        let predicate = self.expression(DEPTH_MAX / 3)?;
        self.cursor.skip_space();
        if !self.cursor.rest().is_empty() {
            return self.fault(Mistake::Expected("&&, || or the end"));
        }
        Ok(predicate)
    }

    /// Groups joined by `&&`. Each level of parentheses makes up to three levels of the predicate.
    fn expression(&mut self, levels: usize) -> Result<Predicate, Fault> {
        let levels = match levels.checked_sub(1) {
            Some(levels) => levels,
            None => return self.fault(Mistake::TooDeep),
        };
        self.joined("&&", Predicate::All, |parser| parser.joined("||", Predicate::Any, |parser| parser.term(levels)))
    }

    fn joined(
        &mut self,
        operator: &str,
        join: fn(Vec<Predicate>) -> Predicate,
        mut part: impl FnMut(&mut Self) -> Result<Predicate, Fault>,
    ) -> Result<Predicate, Fault> {
        let first = part(self)?;
        let mut more = Vec::new();
        loop {
            self.cursor.skip_space();
            if !self.cursor.take(operator) {
                break;
            }
            more.push(part(self)?);
        }
        if more.is_empty() {
            return Ok(first);
        }
        more.insert(0, first);
        Ok(join(more))
    }

    fn term(&mut self, levels: usize) -> Result<Predicate, Fault> {
        self.cursor.skip_space();
        let negated = self.cursor.take("!");
        self.cursor.skip_space();
        if !self.cursor.take("(") {
            if negated {
                return self.fault(Mistake::Expected("( after !"));
            }
            return self.comparison();
        }
        let inner = self.expression(levels)?;
        self.cursor.skip_space();
        if !self.cursor.take(")") {
            return self.fault(Mistake::Expected("&&, || or )"));
        }
        Ok(if negated { Predicate::Not(Box::new(inner)) } else { inner })
    }

    fn comparison(&mut self) -> Result<Predicate, Fault> {
        let start = self.cursor.offset();
        let operand = self.operand()?;
        self.cursor.skip_space();
        let Some(op) = self.cursor.operator() else {
            return self.fault(Mistake::Expected("an operator: == != ~ ^= =^ > >= < <= in, not in, contains"));
        };
        self.cursor.skip_space();
        let literal_at = self.cursor.offset();
        let value = self.cursor.literal()?;
        check_types(&operand, op, &value).map_err(|message| (start, Mistake::Types(message)))?;
        if let (Op::Regex, Literal::Text(text)) = (op, &value) {
            let built = RegexBuilder::new(text).size_limit(COMPILED_MAX).build();
            built.map_err(|error| (literal_at, Mistake::Pattern(error.to_string())))?;
        }
        let Operand { field, lower, any } = operand;
        Ok(Predicate::Compare { field, lower, any, op, value })
    }

    /// A field, or functions around one.
    fn operand(&mut self) -> Result<Operand, Fault> {
        let (mut lower, mut any, mut open) = (false, false, 0_usize);
        loop {
            self.cursor.skip_space();
            let start = self.cursor.offset();
            let Some(name) = self.cursor.name() else { return self.fault(Mistake::Expected("a field or (")) };
            let mut ahead = self.cursor;
            ahead.skip_space();
            if ahead.take("(") {
                self.cursor = ahead;
                match name {
                    "lower" => lower = true,
                    "any" => any = true,
                    _ => return Err((start, Mistake::Function(name.to_owned()))),
                }
                open += 1;
                continue;
            }
            let Some(field) = fields::field(name, self.traffic) else {
                let nearest = fields::nearest(name, self.traffic);
                return Err((start, Mistake::Field { name: name.to_owned(), nearest }));
            };
            for _ in 0..open {
                self.cursor.skip_space();
                if !self.cursor.take(")") {
                    return self.fault(Mistake::Expected(")"));
                }
            }
            return Ok(Operand { field, lower, any });
        }
    }

    fn fault<T>(&self, mistake: Mistake) -> Result<T, Fault> {
        Err((self.cursor.offset(), mistake))
    }
}

fn check_types(operand: &Operand, op: Op, value: &Literal) -> Result<(), &'static str> {
    let field = type_of(&operand.field);
    if operand.lower && field != FieldType::Text {
        return Err("lower() takes a text field");
    }
    match (op, field, value) {
        (Op::Regex, FieldType::Text, Literal::Text(_)) => Ok(()),
        (Op::Regex, ..) => Err("~ compares a text field with a string"),
        (Op::In | Op::NotIn, FieldType::Ip, Literal::Net(_)) => Ok(()),
        (Op::In | Op::NotIn, ..) => Err("in and not in compare an address field with a network"),
        (Op::StartsWith | Op::EndsWith | Op::Contains, FieldType::Text, Literal::Text(_)) => Ok(()),
        (Op::StartsWith | Op::EndsWith | Op::Contains, ..) => {
            Err("^=, =^ and contains compare a text field with a string")
        }
        (Op::Greater | Op::GreaterOrEqual | Op::Less | Op::LessOrEqual, FieldType::Int, Literal::Int(_)) => Ok(()),
        (Op::Greater | Op::GreaterOrEqual | Op::Less | Op::LessOrEqual, ..) => {
            Err(">, >=, < and <= compare a number field with a number")
        }
        (Op::Equal | Op::NotEqual, FieldType::Text, Literal::Text(_))
        | (Op::Equal | Op::NotEqual, FieldType::Int, Literal::Int(_))
        | (Op::Equal | Op::NotEqual, FieldType::Ip, Literal::Ip(_)) => Ok(()),
        (Op::Equal | Op::NotEqual, FieldType::Text, _) => Err("a text field is compared with a string"),
        (Op::Equal | Op::NotEqual, FieldType::Int, _) => Err("a number field is compared with a number"),
        (Op::Equal | Op::NotEqual, FieldType::Ip, _) => {
            Err("an address field is compared with an address, or by in with a network")
        }
    }
}
