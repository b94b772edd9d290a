//! Secrets that come from outside of the files: variables that were filled in, and references to vaults. Output shows
//! the expression or reference in their place.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use cardinal_ir::Diagnostic;
use cardinal_schema::is_reference;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::excerpt::{MASK, is_secret};
use super::snapshot::Snapshot;
use super::source::Source;
use crate::entities::Registry;
use crate::lower::vault_of;
use crate::settings::Settings;

/// Shortest value that is hidden: shorter ones are no secrets, and stand in every text.
const LENGTH_MIN: usize = 3;
/// Shorter values are hidden only where they are a word.
const WORD_MIN: usize = 4;
/// Shortest part of a value that is hidden by itself, such as the host of a URL. Shorter ones are common words, which
/// stand in texts that have nothing to do with the value; user and password of a URL are hidden in any case.
const PART_MIN: usize = 8;
/// Parts of values that are no secrets.
const PUBLIC: &[&str] =
    &["application", "authorization", "example.com", "localhost", "localhost.localdomain", "multipart", "postgresql"];

/// Keys of JSON output that are no names of fields, and YAML's words.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "column", "complete", "differences", "documented", "entities", "entity", "entity_id", "entity_name", "entity_type",
    "error", "errors", "false", "field", "fields", "file", "flattened_errors", "help", "kong", "label", "left_out",
    "line", "location", "message", "null", "pairs", "plugin", "reply", "route", "route_order", "service", "severity",
    "true", "upstream_host", "upstream_uri", "valid", "verdict", "warnings",
];

/// Texts that must not be shown, with what is shown instead. The serial form holds the secrets.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hidden {
    /// By their first byte, longer ones first: one may be part of another.
    needles: BTreeMap<u8, Vec<Needle>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Needle {
    /// In lower case: hosts and names of headers are not shown as they were written.
    text: Vec<u8>,
    shown: String,
    /// It matches only as a whole word.
    whole_word: bool,
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hidden").finish_non_exhaustive()
    }
}

impl Hidden {
    /// The values that were filled in where the files have expressions.
    pub fn of_files(files: &[Source], registry: &Registry) -> Self {
        let mut hidden = Self::default();
        for (value, expression) in files.iter().filter_map(|file| file.filled.as_ref()).flat_map(|f| f.values()) {
            let shown: Vec<&str> = expression.split_whitespace().collect();
            hidden.add(value, &shown.join(" "), registry);
        }
        hidden.sort();
        hidden
    }

    /// Adds the secrets that references of these entities resolve to.
    #[must_use]
    pub fn with_references(mut self, snapshot: &Snapshot, registry: &Registry, settings: &Settings) -> Self {
        let vaults = snapshot.of("vaults").filter_map(|vault| vault_of(&vault)).collect();
        let mut references = Vec::new();
        for kind in snapshot.kinds() {
            snapshot
                .of(kind)
                .for_each(|entity| entity.value.values().for_each(|v| find_references(v, &mut references)));
        }
        references.sort();
        references.dedup();
        for reference in references {
            if let Ok(secret) = settings.secrets.resolve(&reference, &vaults) {
                self.add(&secret, &reference, registry);
            }
        }
        self.sort();
        self
    }

    /// A value, in the forms in which it may be shown.
    fn add(&mut self, value: &str, shown: &str, registry: &Registry) {
        let value = value.trim();
        self.add_text(value, shown, false, registry);
        // As YAML reads it within quotes.
        self.add_text(&value.replace("''", "'"), shown, false, registry);
        if let Ok(unescaped) = serde_json::from_str::<String>(&format!("\"{value}\"")) {
            self.add_text(&unescaped, shown, false, registry);
        }
        self.add_text(&value.replace('\\', "\\\\"), shown, false, registry);
        if value.contains('\n') {
            value.lines().for_each(|line| self.add_text(line.trim(), shown, false, registry));
        }
        let parts = value.split(|c: char| c.is_whitespace() || "/:@?&=,;[]{}\"'<>|".contains(c));
        let parts = parts.filter(|part| part.len() >= PART_MIN && !is_public(part));
        for part in parts.chain(credentials(value)).filter(|part| part.len() < value.len()) {
            self.add_text(part, MASK, true, registry);
        }
    }

    fn add_text(&mut self, text: &str, shown: &str, is_part: bool, registry: &Registry) {
        // Names of kinds and fields are not secret, and the keys of JSON output must stay.
        let is_name = RESERVED.contains(&text) || registry.names().contains(text) || registry.kind(text).is_some();
        if text.len() < LENGTH_MIN || is_name || is_own_host(text) {
            return;
        }
        let whole_word = is_part || text.len() < WORD_MIN || text.bytes().all(|b| b.is_ascii_digit());
        let text = text.to_ascii_lowercase().into_bytes();
        let Some(first) = text.first() else { return };
        let all = self.needles.entry(*first).or_default();
        if all.iter().all(|needle| needle.text != text) {
            all.push(Needle { text, shown: shown.to_owned(), whole_word });
        }
    }

    fn sort(&mut self) {
        self.needles.values_mut().for_each(|all| all.sort_by_key(|needle| std::cmp::Reverse(needle.text.len())));
    }

    /// The text without secrets.
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.needles.is_empty() {
            return Cow::Borrowed(text);
        }
        let (mut out, mut at, mut copied) = (String::new(), 0, 0);
        while at < text.len() {
            match self.found(text.as_bytes(), at) {
                Some((length, shown)) => {
                    out.push_str(text.get(copied..at).unwrap_or_default());
                    out.push_str(shown);
                    at += length;
                    copied = at;
                }
                None => at += 1,
            }
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(text.get(copied..).unwrap_or_default());
        Cow::Owned(out)
    }

    /// The value without secrets, keys included.
    pub fn hide_value(&self, value: Value) -> Value {
        match value {
            _ if self.needles.is_empty() => value,
            Value::String(text) => self.hide(&text).into_owned().into(),
            Value::Number(number) => {
                let text = number.to_string();
                let hidden = self.hide(&text);
                if *hidden == *text { number.into() } else { hidden.into_owned().into() }
            }
            Value::Array(list) => list.into_iter().map(|value| self.hide_value(value)).collect(),
            Value::Object(map) => {
                Value::Object(map.into_iter().map(|(key, value)| self.hide_entry(key, value)).collect())
            }
            Value::Null | Value::Bool(_) => value,
        }
    }

    fn hide_entry(&self, key: String, value: Value) -> (String, Value) {
        match key.as_str() {
            // Places in a file.
            "line" | "column" if value.is_number() => (key, value),
            _ => (self.hide(&key).into_owned(), self.hide_value(value)),
        }
    }

    /// Takes secrets out of diagnostics.
    pub fn hide_in(&self, diagnostics: &mut [Diagnostic]) {
        if self.needles.is_empty() {
            return;
        }
        let hide = |text: &mut String| *text = self.hide(text).into_owned();
        for diagnostic in diagnostics {
            hide(&mut diagnostic.message);
            hide(&mut diagnostic.path);
            diagnostic.hint.iter_mut().for_each(hide);
            diagnostic.origin.name = diagnostic.origin.name.take().map(|name| self.hide(&name).into());
        }
    }

    /// Length and replacement of the secret that is at this place.
    fn found(&self, text: &[u8], at: usize) -> Option<(usize, &str)> {
        let rest = text.get(at..)?;
        let raw = rest.first()?.to_ascii_lowercase();
        let escaped = escape(rest).map(|(byte, _)| byte.to_ascii_lowercase()).filter(|byte| *byte != raw);
        let candidates =
            [Some(raw), escaped].into_iter().flatten().filter_map(|first| self.needles.get(&first)).flatten();
        let lengths = candidates.filter_map(|needle| Some((needle.length_at(text, at)?, needle.shown.as_str())));
        lengths.max_by_key(|(length, _)| *length)
    }
}

/// Whether a text is the node's own host, which every configuration may name.
fn is_own_host(text: &str) -> bool {
    let is_own = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    text.eq_ignore_ascii_case("localhost") || text.parse().is_ok_and(is_own)
}

/// Whether a part of a value stands in texts that have nothing to do with it: an address, a number, a common word.
fn is_public(part: &str) -> bool {
    let is_short_number = part.len() < 16 && part.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    PUBLIC.contains(&part) || is_short_number || part.parse::<IpAddr>().is_ok()
}

/// User and password of a URL, and the values of its arguments that are called secrets.
fn credentials(value: &str) -> impl Iterator<Item = &str> {
    let authority = value.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let user = authority.and_then(|authority| Some(authority.rsplit_once('@')?.0));
    let arguments = value.split(['?', '&', ';', '#', ' ', ',']).filter_map(|argument| argument.split_once(['=', ':']));
    let secrets = arguments.filter(|(name, _)| is_secret(name)).map(|(_, value)| value.trim());
    user.into_iter().flat_map(|user| user.split(':')).chain(secrets)
}

impl Needle {
    /// How many bytes of the text it takes, if it is at this place.
    fn length_at(&self, text: &[u8], start: usize) -> Option<usize> {
        let is_word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80);
        if self.whole_word && start > 0 && is_word(text.get(start - 1)) {
            return None;
        }
        let mut at = start;
        for wanted in &self.text {
            at += match escape(text.get(at..)?) {
                _ if text.get(at)?.eq_ignore_ascii_case(wanted) => 1,
                Some((byte, length)) if byte.eq_ignore_ascii_case(wanted) => length,
                _ => return None,
            };
        }
        if self.whole_word && is_word(text.get(at)) { None } else { Some(at - start) }
    }
}

/// The byte that an escape sequence of a URI, of JSON or of Rust encodes, and the length of the sequence.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    match text {
        [b'+', ..] => Some((b' ', 1)),
        [b'%', a, b, ..] => Some((hex(&[*a, *b])?, 3)),
        [b'\\', b'u', b'0', b'0', a, b, ..] => Some((hex(&[*a, *b])?, 6)),
        [b'\\', b'u', b'{', a, b, b'}', ..] => Some((hex(&[*a, *b])?, 6)),
        [b'\\', b'u', b'{', a, b'}', ..] => Some((hex(&[*a])?, 5)),
        [b'\\', b'n', ..] => Some((b'\n', 2)),
        [b'\\', b'r', ..] => Some((b'\r', 2)),
        [b'\\', b't', ..] => Some((b'\t', 2)),
        [b'\\', quoted @ (b'"' | b'\'' | b'\\' | b'/'), ..] => Some((*quoted, 2)),
        _ => None,
    }
}

fn find_references(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) if is_reference(value) => out.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|value| find_references(value, out)),
        Value::Object(map) => map.values().for_each(|value| find_references(value, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hidden(values: &[&str]) -> Hidden {
        let mut hidden = Hidden::default();
        let registry = Registry::new(&[]);
        for (i, value) in values.iter().enumerate() {
            hidden.add(value, &format!("<{i}>"), &registry);
        }
        hidden.sort();
        hidden
    }

    fn check(values: &[&str], text: &str, expect: &str) {
        assert_eq!(hidden(values).hide(text), expect, "{values:?}");
    }

    #[test]
    fn values_are_found_in_every_form() {
        check(&["s3cret"], "x-key: s3cret, S3CRET", "x-key: <0>, <0>");
        check(&["a b/c\u{e9}"], "/x?k=a%20b%2fc%C3%A9&l=a+b/c\u{e9}", "/x?k=<0>&l=<0>");
        check(&["say \"hi\""], r#"{"k": "say \"hi\""}"#, r#"{"k": "<0>"}"#);
        check(&["two\nlines"], r#"two\nlines, "lines""#, r#"<0>, "<0>""#);
        check(&["back\\slash"], r#""back\\slash" back\slash"#, r#""<0>" <0>"#);
        check(&["it''s mine"], "it's mine", "<0>");
        check(&["esc\u{1b}ape"], r"esc\u001bape esc\u{1b}ape", "<0> <0>");
        check(&["abcd", "abcdef"], "abcdefg abcd", "<1>g <0>");
        check(
            &["http://me:pass@internal.test:8080/hook"],
            "host internal.test, port 8080, user me:pass, http",
            "host ***, port 8080, user me:***, http",
        );
        check(
            &["redis://:p4s@127.0.0.1:6379/0?token=t0k"],
            "p4s 127.0.0.1 6379 token t0k",
            "*** 127.0.0.1 6379 token ***",
        );
        check(
            &["http://127.0.0.1:18080/services/orders"],
            "upstream: / at host 127.0.0.1:18080, X-Real-IP: 127.0.0.1, localhost, orders",
            "upstream: / at host 127.0.0.1:18080, X-Real-IP: 127.0.0.1, localhost, orders",
        );
        check(&["127.0.0.1"], "X-Real-IP: 127.0.0.1", "X-Real-IP: 127.0.0.1");
        check(&["10.1.2.3"], "host 10.1.2.3", "host <0>");
    }

    #[test]
    fn short_values_are_hidden_as_words_and_public_ones_are_not() {
        check(&["abc"], "abc abcd", "<0> abcd");
        check(&["8080"], "h:8080/80801", "h:<0>/80801");
        check(&["ab"], "ab", "ab");
        check(&["host"], "host: x", "host: x");
        check(&["true"], "true", "true");
        check(&[], "any", "any");
    }

    #[test]
    fn keys_and_numbers_of_values_are_hidden() {
        let value = json!({"s3cret": [8080, 80], "line": 8080, "b": {"x": "a s3cret"}});
        let expect = json!({"<0>": ["<1>", 80], "line": 8080, "b": {"x": "a <0>"}});
        assert_eq!(hidden(&["s3cret", "8080"]).hide_value(value), expect);
        assert!(!format!("{:?}", hidden(&["s3cret"])).contains("s3cret"));
    }
}
