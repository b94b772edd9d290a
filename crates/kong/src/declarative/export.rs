//! A configuration as a declarative file, as Kong exports it. Kong: `kong/db/declarative/export.lua`.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::snapshot::Snapshot;
use crate::entities::Registry;

/// Words that YAML 1.1 does not read as text.
const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// The YAML text of a file with all entities. References are ids, and what is hashed is not hashed again.
pub fn export(snapshot: &Snapshot, registry: &Registry) -> String {
    let mut out = String::from("_format_version: \"3.0\"\n_transform: false\n");
    for kind in registry.kinds().filter(|kind| snapshot.count(kind.name) > 0) {
        writeln!(out, "{}:", kind.name).ok();
        for mut entity in snapshot.of(kind.name) {
            for (field, _) in kind.references() {
                if let Some(id) = entity.reference(field) {
                    entity.value.insert(field.to_owned(), id.to_string().into());
                }
            }
            if kind.name == "certificates" {
                // They are entities of their own.
                entity.value.shift_remove("snis");
            }
            item(&entity.value, 0, &mut out);
        }
    }
    if !snapshot.memberships().is_empty() {
        out.push_str("consumer_group_consumers:\n");
        for (consumer, groups) in snapshot.memberships() {
            for group in groups {
                let texts = [("consumer", consumer), ("consumer_group", group)];
                let fields = texts.map(|(field, id)| (field.to_owned(), id.to_string().into()));
                item(&fields.into_iter().collect(), 0, &mut out);
            }
        }
    }
    out
}

/// A map as an item of a list.
fn item(fields: &Map<String, Value>, indent: usize, out: &mut String) {
    let mut lead = format!("{:indent$}- ", "");
    for (name, value) in fields {
        out.push_str(&lead);
        field(name, value, indent + 2, out);
        lead = format!("{:1$}", "", indent + 2);
    }
    if fields.is_empty() {
        out.push_str(&lead);
        out.push_str("{}\n");
    }
}

/// `name: value` without the spaces before it.
fn field(name: &str, value: &Value, indent: usize, out: &mut String) {
    out.push_str(&text(name));
    out.push(':');
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            for (name, value) in map {
                write!(out, "{:1$}", "", indent + 2).ok();
                field(name, value, indent + 2, out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            list.iter().for_each(|value| element(value, indent, out));
        }
        value => {
            out.push(' ');
            scalar(value, out);
        }
    }
}

fn element(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) => item(map, indent, out),
        // Lists in lists are rare.
        value => {
            write!(out, "{:indent$}- ", "").ok();
            scalar(value, out);
        }
    }
}

fn scalar(value: &Value, out: &mut String) {
    match value {
        Value::String(string) => out.push_str(&text(string)),
        Value::Array(_) | Value::Object(_) => out.push_str(&escaped(&value.to_string())),
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
    out.push('\n');
}

/// A text, in quotes unless nothing could take it for anything else.
fn text(text: &str) -> String {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let is_plain = text.bytes().next().is_some_and(is_letter)
        && text.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { escaped(&Value::from(text).to_string()) }
}

/// JSON as YAML: characters that YAML 1.1 takes for line ends, or does not allow, are escaped.
fn escaped(json: &str) -> String {
    let is_special =
        |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    if !json.contains(is_special) {
        return json.to_owned();
    }
    json.chars().fold(String::with_capacity(json.len()), |mut out, c| {
        if is_special(c) {
            write!(out, "\\u{:04x}", u32::from(c)).ok();
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Source, load};
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn what_is_exported_is_read_back_as_it_was() {
        let (registry, settings) = (Registry::new(&[]), Settings::default());
        let document = json!({
            "_format_version": "3.0",
            "services": [{ "name": "s", "host": "a.test", "tags": ["yes", "1.5", "a: b # c", "\u{2028}x"],
                "routes": [{ "name": "off", "paths": ["/a", "~/b\\d+$"], "headers": { "x-1": ["'\"", "0x10", "~"] } }] }],
            "consumers": [{ "username": "null", "custom_id": "0777", "groups": [{ "name": "gold" }] }],
            "consumer_groups": [{ "name": "gold" }],
            "upstreams": [{ "name": "up", "targets": [{ "target": "127.0.0.1:80" }] }],
        });
        let read = |text: &str| load(&[Source::new("a.yaml", text)], &registry, &settings).unwrap();
        let first = read(&document.to_string());
        let text = export(&first, &registry);
        assert!(text.starts_with("_format_version: \"3.0\"\n_transform: false\n"), "{text}");
        assert!(text.contains("\n- id: "), "{text}");
        assert_eq!(read(&text).entities_json(), first.entities_json(), "{text}");
        assert_eq!(export(&read(&text), &registry), text);
    }

    #[test]
    fn texts_that_are_something_else_in_yaml_are_quoted() {
        for (given, expect) in
            [("a-b.c", "a-b.c"), ("No", "\"No\""), ("", "\"\""), ("1", "\"1\""), ("a\u{85}", "\"a\\u0085\"")]
        {
            assert_eq!(text(given), expect);
        }
    }
}
