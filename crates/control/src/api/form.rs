//! Forms and queries: flat names and texts, to nested values of the types that a schema wants. Kong:
//! `kong/api/arguments.lua` and `kong/api/arguments_decoder.lua`.

use cardinal_schema::{Field, Kind, Schema};
use percent_encoding::percent_decode_str;
use serde_json::{Number, Value};

use crate::dao::{Fault, Fields};

/// Arguments of a form or query at most.
const ARGUMENTS_MAX: usize = 1_000;
/// Steps of a name at most.
const DEPTH_MAX: usize = 32;
/// The greatest position in a list: `a[1000]`.
const POSITION_MAX: usize = 1_000;

/// The arguments of a query or of a form in the same encoding.
///
/// # Errors
/// There are too many.
pub(super) fn of_query(text: &str) -> Result<Fields, Fault> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
        Some((name, value)) => (decoded(name), Value::String(decoded(value))),
        None => (decoded(pair), Value::Bool(true)),
    });
    nest(pairs)
}

/// The arguments of a form of parts (RFC 7578).
///
/// # Errors
/// The parts cannot be told apart, or there are too many.
pub(super) fn of_multipart(content_type: &str, body: &[u8]) -> Result<Fields, Fault> {
    let malformed = || Fault::message(400, "Cannot parse multipart body");
    let boundary = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then(|| value.trim_matches('"'))
    });
    let boundary = boundary.filter(|boundary| !boundary.is_empty()).ok_or_else(malformed)?;
    let text = String::from_utf8_lossy(body);
    let mut pairs = Vec::new();
    for part in text.split(&format!("--{boundary}")).skip(1) {
        if part.starts_with("--") {
            break;
        }
        let part = part.trim_start_matches("\r\n").trim_start_matches('\n');
        let (head, value) = part.split_once("\r\n\r\n").or_else(|| part.split_once("\n\n")).ok_or_else(malformed)?;
        let value = value.strip_suffix("\r\n").or_else(|| value.strip_suffix('\n')).unwrap_or(value);
        let name = head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            if !field.eq_ignore_ascii_case("content-disposition") {
                return None;
            }
            value
                .split(';')
                .find_map(|parameter| parameter.trim().strip_prefix("name=").map(|name| name.trim_matches('"')))
        });
        pairs.push((name.ok_or_else(malformed)?.to_owned(), Value::String(value.to_owned())));
    }
    nest(pairs)
}

/// A step into a value.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// `.name` or `[name]`
    Field(String),
    /// `[3]`, counted from 1
    Position(usize),
    /// `[]`
    Next,
}

/// The steps of a name: `a.b[1].c`.
fn steps(name: &str) -> Vec<Step> {
    let mut out = Vec::new();
    for part in name.split('.') {
        let (head, mut rest) = match part.find('[') {
            Some(at) => part.split_at(at),
            None => (part, ""),
        };
        if !head.is_empty() || rest.is_empty() {
            out.push(Step::Field(head.to_owned()));
        }
        while let Some(inner) = rest.strip_prefix('[') {
            let Some((index, after)) = inner.split_once(']') else {
                // Not a list: the text is a part of the name.
                if let Some(Step::Field(name)) = out.last_mut() {
                    name.push_str(rest);
                }
                return out;
            };
            out.push(match index.parse::<usize>() {
                _ if index.is_empty() => Step::Next,
                Ok(position @ 1..=POSITION_MAX) => Step::Position(position),
                _ => Step::Field(index.to_owned()),
            });
            rest = after;
        }
    }
    out
}

fn nest(pairs: impl IntoIterator<Item = (String, Value)>) -> Result<Fields, Fault> {
    let mut out = Value::Object(Fields::new());
    for (count, (name, value)) in pairs.into_iter().enumerate() {
        if count >= ARGUMENTS_MAX {
            return Err(Fault::message(400, "Too many arguments"));
        }
        let steps = steps(&name);
        if steps.len() > DEPTH_MAX {
            return Err(Fault::message(400, "Too many arguments"));
        }
        put(&mut out, &steps, value);
    }
    match out {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Fields::new()),
    }
}

/// Sets the value at the end of some steps. Of a repeated name, the values become a list.
fn put(at: &mut Value, steps: &[Step], value: Value) {
    let Some((step, rest)) = steps.split_first() else {
        *at = match std::mem::take(at) {
            Value::Null => value,
            Value::Array(mut list) => {
                list.push(value);
                Value::Array(list)
            }
            old => Value::Array(vec![old, value]),
        };
        return;
    };
    match step {
        Step::Field(name) => {
            if !at.is_object() {
                *at = Value::Object(Fields::new());
            }
            if let Value::Object(map) = at {
                put(map.entry(name.clone()).or_insert(Value::Null), rest, value);
            }
        }
        Step::Position(_) | Step::Next => {
            if !at.is_array() {
                *at = match std::mem::take(at) {
                    Value::Null => Value::Array(Vec::new()),
                    old => Value::Array(vec![old]),
                };
            }
            if let Value::Array(list) = at {
                let index = match step {
                    Step::Position(position) => position - 1,
                    _ => list.len(),
                };
                while list.len() <= index {
                    list.push(Value::Null);
                }
                if let Some(item) = list.get_mut(index) {
                    put(item, rest, value);
                }
            }
        }
    }
}

/// Gives the values of a form the types that a schema wants. What cannot be converted stays a text, for the schema to
/// refuse.
pub(super) fn infer(fields: &mut Fields, schema: &Schema) {
    for (name, value) in fields.iter_mut() {
        let shorthand = || schema.shorthands.iter().find(|shorthand| shorthand.name == name).map(|s| &s.field);
        if let Some(field) = schema.field(name).or_else(shorthand) {
            infer_value(value, field);
        } else if name == "ttl" && schema.ttl {
            infer_number(value);
        }
    }
}

fn infer_value(value: &mut Value, field: &Field) {
    if value.as_str() == Some("") {
        *value = Value::Null;
        return;
    }
    match &field.kind {
        Kind::Integer | Kind::Number => infer_number(value),
        Kind::Boolean => match value.as_str() {
            Some("true") => *value = Value::Bool(true),
            Some("false") => *value = Value::Bool(false),
            _ => {}
        },
        Kind::Array(of) | Kind::Set(of) => {
            if value.is_null() {
                return;
            }
            if !value.is_array() {
                *value = Value::Array(vec![std::mem::take(value)]);
            }
            if let Value::Array(list) = value {
                list.iter_mut().for_each(|item| infer_value(item, of));
            }
        }
        Kind::Map(_, of) => {
            if let Value::Object(map) = value {
                map.values_mut().for_each(|item| infer_value(item, of));
            }
        }
        Kind::Record(schema) => {
            if let Value::Object(map) = value {
                infer(map, schema);
            }
        }
        Kind::String | Kind::Foreign(_) | Kind::Any | Kind::Json => {}
    }
}

fn infer_number(value: &mut Value) {
    let Some(text) = value.as_str() else { return };
    if let Ok(number) = text.parse::<i64>() {
        *value = number.into();
    } else if let Some(number) = text.parse().ok().and_then(Number::from_f64) {
        *value = Value::Number(number);
    }
}

#[cfg(test)]
mod tests {
    use cardinal_schema::{array, boolean, field, integer, map, record, string};
    use serde_json::json;

    use super::*;

    fn check(text: &str, expect: Value) {
        assert_eq!(Value::Object(of_query(text).unwrap()), expect, "{text}");
    }

    #[test]
    fn names_are_nested() {
        check("a=1&b=x+y%26", json!({"a": "1", "b": "x y&"}));
        check("a.b.c=1&a.b.d=2", json!({"a": {"b": {"c": "1", "d": "2"}}}));
        check("a[]=1&a[]=2", json!({"a": ["1", "2"]}));
        check("a=1&a=2&a=3", json!({"a": ["1", "2", "3"]}));
        check("a[2]=y&a[1]=x", json!({"a": ["x", "y"]}));
        check("m[key]=v&m[other].x=1", json!({"m": {"key": "v", "other": {"x": "1"}}}));
        check("a[1].b=1&a[2].b=2", json!({"a": [{"b": "1"}, {"b": "2"}]}));
        check("flag&empty=", json!({"flag": true, "empty": ""}));
        check("a[=1", json!({"a[": "1"}));
        check("a[99999999]=1", json!({"a": {"99999999": "1"}}));
        let many = vec!["a=1"; ARGUMENTS_MAX + 1].join("&");
        assert_eq!(of_query(&many).unwrap_err().status, 400);
    }

    #[test]
    fn parts_are_read() {
        let body =
            b"--x\r\nContent-Disposition: form-data; name=\"a.b\"\r\n\r\n1\r\n--x\r\ncontent-disposition: form-data; \
                     name=\"c\"; filename=\"f\"\r\nContent-Type: text/plain\r\n\r\nl1\r\nl2\r\n--x--\r\n";
        let fields = of_multipart("multipart/form-data; boundary=x", body).unwrap();
        assert_eq!(Value::Object(fields), json!({"a": {"b": "1"}, "c": "l1\r\nl2"}));
        assert_eq!(of_multipart("multipart/form-data", body).unwrap_err().status, 400);
        assert_eq!(of_multipart("multipart/form-data; boundary=x", b"--x\r\nno head").unwrap_err().status, 400);
    }

    #[test]
    fn texts_become_what_the_schema_wants() {
        let schema = record([
            field("n", integer()),
            field("on", boolean()),
            field("list", array(integer())),
            field("map", map(string(), integer())),
            field("inner", record([field("n", integer())])),
            field("text", string()),
        ]);
        let text = "n=5&on=true&list=1&map.a=2&inner.n=x&text=7&unknown=8";
        let mut fields = of_query(text).unwrap();
        infer(&mut fields, &schema);
        let expect = json!({"n": 5, "on": true, "list": [1], "map": {"a": 2}, "inner": {"n": "x"}, "text": "7",
            "unknown": "8"});
        assert_eq!(Value::Object(fields), expect);
        let mut fields = of_query("text=&list=").unwrap();
        infer(&mut fields, &schema);
        assert_eq!(Value::Object(fields), json!({"text": null, "list": null}));
    }
}
