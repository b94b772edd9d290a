//! Values as YAML in blocks.

use std::fmt::Write as _;

use serde_json::Value;

/// The text of a value.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(list) if !list.is_empty() => block(value, 0, &mut out),
        scalar => {
            inline(scalar, &mut out);
            out.push('\n');
        }
    }
    out
}

/// The lines of a map or list that is not empty.
fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = |out: &mut String| out.extend(std::iter::repeat_n("  ", depth));
    match value {
        Value::Object(map) => {
            for (at, (name, value)) in map.iter().enumerate() {
                // The first entry of a map in a list follows the dash.
                if at > 0 || !out.ends_with("- ") {
                    indent(out);
                }
                scalar(name, out);
                out.push(':');
                below(value, depth, out);
            }
        }
        Value::Array(list) => {
            for value in list {
                indent(out);
                out.push_str("- ");
                match value {
                    Value::Object(map) if !map.is_empty() => block(value, depth + 1, out),
                    other => {
                        inline(other, out);
                        out.push('\n');
                    }
                }
            }
        }
        other => inline(other, out),
    }
}

/// What follows the colon of an entry.
fn below(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, depth + 1, out);
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            out.push('\n');
            block(value, depth, out);
        }
        other => {
            out.push(' ');
            inline(other, out);
            out.push('\n');
        }
    }
}

/// A value within a line.
fn inline(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => scalar(text, out),
        Value::Array(list) => {
            out.push('[');
            for (at, value) in list.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                inline(value, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (at, (name, value)) in map.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                scalar(name, out);
                out.push_str(": ");
                inline(value, out);
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            write!(out, "{value}").ok();
        }
    }
}

/// A text, in quotes unless no parser takes it for anything else.
fn scalar(text: &str, out: &mut String) {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c == ' ' || c.is_alphanumeric() || c.is_ascii_graphic() => out.push(c),
            c if u32::from(c) > 0xffff => drop(write!(out, "\\U{:08x}", u32::from(c))),
            c => drop(write!(out, "\\u{:04x}", u32::from(c))),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use cardinal_kong::declarative::{Data, Node, parse};
    use serde_json::{Map, json};

    use super::*;

    fn value(node: &Node) -> Value {
        match &node.data {
            Data::List(list) => list.iter().map(value).collect(),
            Data::Map(map) => {
                map.iter().map(|(name, _, node)| (name.to_string(), value(node))).collect::<Map<_, _>>().into()
            }
            Data::Scalar(scalar) => scalar.into(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let given = json!({
            "services": [{"name": "a", "tags": ["x", "1"], "routes": [{"paths": ["/"], "headers": {"x-a": ["~^1$"]}}]}, {}],
            "empty": [], "none": {}, "null": null, "list": [[1, 2], [{"a": 1.5}], []],
            "texts": ["", " a ", "true", "No", "1e3", "a: b", "- a", "# x", "~", "a\nb\r\t\u{7}", "\u{85}\u{2028}\u{feff}",
                "ä \u{1f600}", "it's \"x\" \\ /", "2026-01-01", "{a}", "%x", "!x", "&a", "*a", "null", "nan", ".inf"],
        });
        let written = text(&given);
        let read = parse(&written).unwrap_or_else(|error| panic!("{error:?}\n{written}"));
        assert_eq!(value(&read), given, "{written}");
        assert!(written.contains("- name: a\n  tags:") || written.contains("- name: a\n    tags:"), "{written}");
    }
}
