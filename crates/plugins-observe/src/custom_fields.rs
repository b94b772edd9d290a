//! `custom_fields_by_lua`: fields that a logger sets in its records, or removes from them.
//!
//! Kong runs Lua for each record. Here a chunk may return a constant: `return "text"`, a number, `true`, `false`, `nil`.
//! Anything else is refused when the configuration is loaded.

use bytes::Bytes;
use cardinal_sdk::{BuildError, LogCx, log};
use serde_json::Value;

/// Dotted paths and what they are set to; `None` removes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct CustomFields(Vec<(Box<str>, Option<Value>)>);

impl CustomFields {
    /// From a logger's configuration.
    pub(crate) fn read(config: &Value) -> Result<Self, BuildError> {
        let chunks = config.get("custom_fields_by_lua").and_then(Value::as_object);
        let fields = chunks.into_iter().flatten().map(|(path, chunk)| {
            let chunk = chunk.as_str().unwrap_or_default();
            match constant(chunk) {
                Some(value) => Ok((path.as_str().into(), value)),
                None => Err(BuildError::new(
                    format!("config.custom_fields_by_lua.{path}"),
                    format!(
                        "cannot run '{chunk}': Lua code does not run here; only 'return' with a text, a number, a \
                         boolean or nil is understood"
                    ),
                )),
            }
        });
        fields.collect::<Result<_, _>>().map(Self)
    }

    /// The record of an exchange, with these fields, as one line of JSON without a line end.
    pub(crate) fn line(&self, cx: &LogCx<'_>) -> Vec<u8> {
        let mut line = Vec::with_capacity(2_048);
        if self.0.is_empty() {
            log::write(cx, &mut line);
            return line;
        }
        let mut record = log::record(cx);
        for (path, value) in &self.0 {
            if let Err(reason) = log::set_field(&mut record, path, value.clone()) {
                tracing::error!(reason, "a custom field cannot be set");
            }
        }
        record.to_string().into_bytes()
    }

    /// The same, to be queued.
    pub(crate) fn entry(&self, cx: &LogCx<'_>) -> Bytes {
        self.line(cx).into()
    }
}

/// What a chunk returns, if it is a constant: `Some(None)` is `nil`.
fn constant(chunk: &str) -> Option<Option<Value>> {
    let chunk = chunk.trim().strip_suffix(';').unwrap_or(chunk.trim()).trim();
    let rest = chunk.strip_prefix("return")?;
    let text = rest.trim();
    if !text.is_empty() && !rest.starts_with(|c: char| c.is_whitespace() || c == '"' || c == '\'') {
        return None;
    }
    match text {
        "" | "nil" => return Some(None),
        "true" => return Some(Some(true.into())),
        "false" => return Some(Some(false.into())),
        _ => {}
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Some(whole.into()));
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
    if let Some(number) = text.parse::<f64>().ok().filter(|_| numeric).and_then(serde_json::Number::from_f64) {
        return Some(Some(Value::Number(number)));
    }
    literal(text).map(|text| Some(text.into()))
}

/// A text in quotes.
fn literal(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut out = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.push(match characters.next()? {
                'n' => '\n',
                't' => '\t',
                plain @ ('\\' | '"' | '\'') => plain,
                _ => return None,
            }),
            other if other == quote => return None,
            other => out.push(other),
        }
    }
    // `"a\"` has no end.
    let escapes = inner.chars().rev().take_while(|c| *c == '\\').count();
    (escapes % 2 == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{CustomFields, constant};

    #[test]
    fn constants_are_understood() {
        let check = |chunk: &str, expect: Option<Value>| assert_eq!(constant(chunk), Some(expect), "{chunk}");
        check("return 'a'", Some(json!("a")));
        check(" return \"a \\\"b\\\" \\\\ \\n\" ; ", Some(json!("a \"b\" \\ \n")));
        check("return''", Some(json!("")));
        check("return 5", Some(json!(5)));
        check("return -0.5", Some(json!(-0.5)));
        check("return true", Some(json!(true)));
        check("return\tfalse", Some(json!(false)));
        check("return nil", None);
        check("return", None);
    }

    #[test]
    fn code_is_refused_with_the_reason() {
        for chunk in [
            "return kong.request.get_path()",
            "return 'a' .. 'b'",
            "return 'a",
            "return 'a\\'",
            "returnx",
            "return5",
            "return inf",
            "local x = 1 return x",
            "",
            "return '\\65'",
        ] {
            let config = json!({"custom_fields_by_lua": {"a.b": chunk}});
            let error = CustomFields::read(&config).unwrap_err();
            assert_eq!(error.path, "config.custom_fields_by_lua.a.b");
            assert!(error.message.contains("Lua code does not run here"), "{chunk}: {error}");
        }
    }
}
