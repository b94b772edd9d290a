//! `name:value` texts, as both transformers write them.

use serde_json::Value;

/// Takes `name:value` apart; several colons in the middle count as one. The value may be empty.
pub(crate) fn split(text: &str) -> (&str, &str) {
    match text.split_once(':') {
        Some((name, value)) => (name, value.trim_start_matches(':')),
        None => (text, ""),
    }
}

/// The texts of a list in a configuration.
pub(crate) fn texts<'c>(config: &'c Value, group: &str, list: &str) -> impl Iterator<Item = &'c str> {
    config
        .get(group)
        .and_then(|group| group.get(list))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// Kong's check of header names in pairs.
pub(crate) fn check_header(text: &str) -> Result<(), String> {
    check_header_name(split(text).0)
}

/// The same where the value is a header name too.
pub(crate) fn check_header_pair(text: &str) -> Result<(), String> {
    let (name, value) = split(text);
    check_header_name(name).and_then(|()| check_header_name(value))
}

fn check_header_name(name: &str) -> Result<(), String> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !name.is_empty() && name.bytes().all(ok) { Ok(()) } else { Err(format!("'{name}' is not a valid header")) }
}
