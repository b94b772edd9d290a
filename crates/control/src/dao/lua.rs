//! Values as Lua tables in one line, as Kong's messages show them.

use std::fmt::Write as _;

use serde_json::Value;

/// `{name="x",service={id="..."}}`: the keys in ascending order. Kong: `pl.pretty.write(value, "")`.
pub(super) fn table<'v>(fields: impl IntoIterator<Item = (&'v str, &'v Value)>) -> String {
    let mut fields: Vec<_> = fields.into_iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    let mut out = String::from("{");
    for (at, (name, value)) in fields.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        if is_name(name) {
            out.push_str(name);
        } else {
            write!(out, "[\"{name}\"]").ok();
        }
        out.push('=');
        push(&mut out, value);
    }
    out.push('}');
    out
}

fn push(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => drop(write!(out, "{number}")),
        Value::String(text) => push_text(out, text),
        Value::Array(list) => {
            out.push('{');
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                push(out, value);
            }
            out.push('}');
        }
        Value::Object(map) => out.push_str(&table(map.iter().map(|(name, value)| (name.as_str(), value)))),
    }
}

/// Lua's `%q`.
fn push_text(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            letter => out.push(letter),
        }
    }
    out.push('"');
}

fn is_name(text: &str) -> bool {
    let mut letters = text.bytes();
    letters.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && letters.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_those_of_kongs_messages() {
        let value = json!({"name": "a\"b", "consumer": null, "service": {"id": "x"}, "n-1": [1, true]});
        let fields = value.as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value));
        assert_eq!(table(fields), r#"{consumer=null,["n-1"]={1,true},name="a\"b",service={id="x"}}"#);
    }
}
