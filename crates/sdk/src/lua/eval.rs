//! Evaluation.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::{Comparison, Environment, Failure, Function, Node, Operator, Value, number, strings};

/// Maximum length of a text created by an expression.
const TEXT_MAX: usize = 256 << 10;

/// Number of steps of one budget. A step is a node or a comparison of a pattern; all together take some milliseconds at
/// worst.
const STEPS_MAX: u32 = 500_000;

/// The remaining budget of an evaluation.
#[derive(Debug)]
pub struct Budget {
    steps: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: STEPS_MAX }
    }
}

impl Budget {
    pub(super) fn step(&mut self) -> Result<(), Failure> {
        self.spend(1)
    }

    pub(super) fn spend(&mut self, steps: u32) -> Result<(), Failure> {
        match self.steps.checked_sub(steps) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => Err(Failure::new("the expression takes too many steps")),
        }
    }

    /// Checks the length of a text under construction.
    pub(super) fn text_grown(&self, len: usize) -> Result<(), Failure> {
        if len > TEXT_MAX { Err(Failure::new("resulting string too large")) } else { Ok(()) }
    }

    /// Checks the length of a text; copying it costs steps too.
    pub(super) fn text(&mut self, len: usize) -> Result<(), Failure> {
        self.text_grown(len)?;
        self.spend(u32::try_from(len / 16).unwrap_or(u32::MAX))
    }
}

impl Node {
    pub(super) fn evaluate<'a>(
        &'a self,
        environment: &'a dyn Environment,
        budget: &mut Budget,
    ) -> Result<Value<'a>, Failure> {
        budget.step()?;
        match self {
            Self::Constant(value) => Ok(value.borrowed()),
            Self::Index(table, key) => index(environment, *table, &key.evaluate(environment, budget)?),
            Self::Call(function, arguments) => environment.call(*function, &all(arguments, environment, budget)?),
            Self::Standard(..) | Self::Method(..) => {
                Ok(self.values(environment, budget)?.into_iter().next().unwrap_or(Value::Nil))
            }
            Self::First(inner) => inner.evaluate(environment, budget),
            Self::Or(nodes) => last_or(nodes, environment, budget, |value| value.is_true()),
            Self::And(nodes) => last_or(nodes, environment, budget, |value| !value.is_true()),
            Self::Concat(nodes) => concat(nodes, environment, budget),
            Self::Not(inner) => Ok(Value::Boolean(!inner.evaluate(environment, budget)?.is_true())),
            Self::Negate(inner) => Ok(Value::Number(-operand(&inner.evaluate(environment, budget)?)?)),
            Self::Length(inner) => match inner.evaluate(environment, budget)? {
                Value::Text(text) => Ok(Value::length(text.len())),
                other => Err(Failure::new(format!("attempt to get length of a {} value", other.type_name()))),
            },
            Self::Compare(comparison, left, right) => {
                let (left, right) = (left.evaluate(environment, budget)?, right.evaluate(environment, budget)?);
                compare(*comparison, &left, &right).map(Value::Boolean)
            }
            Self::Arithmetic(operator, left, right) => {
                let (left, right) = (left.evaluate(environment, budget)?, right.evaluate(environment, budget)?);
                Ok(Value::Number(operator.apply(operand(&left)?, operand(&right)?)))
            }
        }
    }

    /// All values, for functions with several results.
    fn values<'a>(&'a self, environment: &'a dyn Environment, budget: &mut Budget) -> Result<Vec<Value<'a>>, Failure> {
        match self {
            Self::Standard(function, arguments) => call(*function, &all(arguments, environment, budget)?, budget),
            Self::Method(object, function, name, arguments) => {
                let object = object.evaluate(environment, budget)?;
                match &object {
                    Value::Text(_) => {}
                    other => {
                        let kind = other.type_name();
                        return Err(Failure::new(format!("attempt to call method '{name}' on a {kind} value")));
                    }
                }
                let mut given = vec![object];
                given.extend(all(arguments, environment, budget)?);
                call(*function, &given, budget)
            }
            other => other.evaluate(environment, budget).map(|value| vec![value]),
        }
    }
}

/// Arguments: the first value of each, and all values of the last.
fn all<'a>(
    nodes: &'a [Node],
    environment: &'a dyn Environment,
    budget: &mut Budget,
) -> Result<Vec<Value<'a>>, Failure> {
    let Some((last, before)) = nodes.split_last() else { return Ok(Vec::new()) };
    let mut values = Vec::with_capacity(nodes.len());
    for node in before {
        values.push(node.evaluate(environment, budget)?);
    }
    values.extend(last.values(environment, budget)?);
    Ok(values)
}

fn last_or<'a>(
    nodes: &'a [Node],
    environment: &'a dyn Environment,
    budget: &mut Budget,
    is_result: fn(&Value<'_>) -> bool,
) -> Result<Value<'a>, Failure> {
    let mut value = Value::Nil;
    for node in nodes {
        value = node.evaluate(environment, budget)?;
        if is_result(&value) {
            break;
        }
    }
    Ok(value)
}

fn concat<'a>(nodes: &'a [Node], environment: &'a dyn Environment, budget: &mut Budget) -> Result<Value<'a>, Failure> {
    let mut text = Vec::new();
    for node in nodes {
        let value = node.evaluate(environment, budget)?;
        if !matches!(value, Value::Text(_) | Value::Number(_)) {
            return Err(Failure::new(format!("attempt to concatenate a {} value", value.type_name())));
        }
        value.write(&mut text);
        budget.text(text.len())?;
    }
    Ok(Value::text(text))
}

fn index<'a>(environment: &'a dyn Environment, table: usize, key: &Value<'_>) -> Result<Value<'a>, Failure> {
    Ok(match key {
        Value::Text(key) => environment.index(table, key),
        Value::Number(key) => environment.index(table, number::write(*key).as_bytes()),
        Value::Nil | Value::Boolean(_) => Value::Nil,
    })
}

fn compare(comparison: Comparison, left: &Value<'_>, right: &Value<'_>) -> Result<bool, Failure> {
    match comparison {
        Comparison::Equal => return Ok(left == right),
        Comparison::Unequal => return Ok(left != right),
        Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => {}
    }
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.partial_cmp(right),
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (left, right) if left.type_name() == right.type_name() => {
            return Err(Failure::new(format!("attempt to compare two {} values", left.type_name())));
        }
        (left, right) => {
            let (left, right) = (left.type_name(), right.type_name());
            return Err(Failure::new(format!("attempt to compare {left} with {right}")));
        }
    };
    Ok(match comparison {
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    })
}

/// A number, or a numeric text.
fn operand(value: &Value<'_>) -> Result<f64, Failure> {
    value
        .as_number()
        .ok_or_else(|| Failure::new(format!("attempt to perform arithmetic on a {} value", value.type_name())))
}

impl Operator {
    fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
            Self::Modulo => left - (left / right).floor() * right,
            Self::Power => left.powf(right),
        }
    }
}

fn call<'a>(function: Function, given: &[Value<'a>], budget: &mut Budget) -> Result<Vec<Value<'a>>, Failure> {
    let first = given.first();
    let one = |value| Ok(vec![value]);
    match function {
        Function::Type => one(Value::text(first.ok_or_else(|| missing("type"))?.type_name().as_bytes())),
        Function::ToString => {
            let mut text = Vec::new();
            first.ok_or_else(|| missing("tostring"))?.write(&mut text);
            budget.text(text.len())?;
            one(Value::text(text))
        }
        Function::ToNumber => one(to_number(given)?.map_or(Value::Nil, Value::Number)),
        _ => strings::call(function, given, budget),
    }
}

fn missing(name: &str) -> Failure {
    Failure::new(format!("bad argument #1 to '{name}' (value expected)"))
}

fn to_number(given: &[Value<'_>]) -> Result<Option<f64>, Failure> {
    let value = given.first().ok_or_else(|| missing("tonumber"))?;
    match given.get(1) {
        None | Some(Value::Nil) => Ok(value.as_number()),
        Some(base) => {
            let base = base.as_number().filter(|base| (2.0..=36.0).contains(base));
            let base = base.ok_or_else(|| Failure::new("bad argument #2 to 'tonumber' (base out of range)"))?;
            let mut text = Vec::new();
            value.write(&mut text);
            let text = String::from_utf8_lossy(&text);
            let text = text.trim_ascii();
            let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 2 to 36")]
            let number = number::integer(digits, base as u32);
            Ok(number.map(|number| if negative { -number } else { number }))
        }
    }
}

impl Value<'_> {
    fn borrowed(&self) -> Value<'_> {
        match self {
            Self::Nil => Value::Nil,
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Number(value) => Value::Number(*value),
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
        }
    }

    /// A length or a position.
    #[allow(clippy::cast_precision_loss, reason = "texts are far shorter than 2^53")]
    pub(super) fn length(len: usize) -> Self {
        Self::Number(len as f64)
    }

    /// The number used in arithmetic.
    pub(super) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => number::read(text),
            Self::Nil | Self::Boolean(_) => None,
        }
    }
}
