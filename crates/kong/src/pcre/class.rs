//! Classes: `[...]`.

use super::escape::Escape;
use super::{Result, Translator, invalid, push_hex, unsupported};

/// Names of POSIX classes, which both engines support.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

impl Translator<'_> {
    /// A class; its first bracket is taken.
    pub(super) fn class(&mut self) -> Result<()> {
        let mut class = String::from("[");
        if self.take("^") {
            class.push('^');
        }
        let mut is_first = true;
        let mut is_quoted = false;
        // The byte before, which a `-` may make the start of a range.
        let mut before: Option<u8> = None;
        loop {
            let item_at = self.at;
            let Some(byte) = self.peek() else {
                return Err(invalid("missing terminating ] for character class", self.text.len()));
            };
            if byte == b'\\' && self.take(r"\E") {
                is_quoted = false;
                continue;
            }
            if !is_quoted && self.take(r"\Q") {
                is_quoted = true;
                continue;
            }
            if byte == b']' && !is_first && !is_quoted {
                self.at += 1;
                break;
            }
            is_first = false;
            if byte == b'-'
                && !is_quoted
                && before.is_some()
                && !matches!(self.text.get(self.at + 1), None | Some(b']'))
            {
                self.at += 1;
                let low = before.take().unwrap_or_default();
                let after = self.at;
                match self.class_item(false, item_at)? {
                    Escape::Byte(high) if high < low => {
                        return Err(invalid("range out of order in character class", item_at));
                    }
                    Escape::Byte(high) => {
                        class.push('-');
                        push_hex(&mut class, high);
                    }
                    // `-` before a set is itself.
                    Escape::Set(..) => {
                        push_hex(&mut class, b'-');
                        self.at = after;
                    }
                }
                continue;
            }
            match self.class_item(is_quoted, item_at)? {
                Escape::Byte(byte) => {
                    push_hex(&mut class, byte);
                    before = Some(byte);
                }
                Escape::Set(set, negated) => {
                    push_set(&mut class, set, negated);
                    before = None;
                }
            }
        }
        class.push(']');
        self.push_item(&plainer(&class));
        Ok(())
    }

    /// A byte or a set within a class.
    fn class_item(&mut self, is_quoted: bool, at: usize) -> Result<Escape> {
        let Some(byte) = self.peek() else {
            return Err(invalid("missing terminating ] for character class", self.text.len()));
        };
        if !is_quoted
            && byte == b'['
            && matches!(self.text.get(self.at + 1), Some(b':' | b'.' | b'='))
            && let Some(set) = self.posix(at)?
        {
            return Ok(set);
        }
        self.at += 1;
        if byte != b'\\' || is_quoted {
            return Ok(Escape::Byte(byte));
        }
        match self.peek() {
            Some(b'b') => {
                self.at += 1;
                Ok(Escape::Byte(8))
            }
            Some(b'B' | b'R' | b'X') => Err(invalid("escape sequence is invalid in character class", at)),
            Some(b'N') => Err(invalid(r"\N is not supported in a class", at)),
            _ => self.common_escape(at),
        }
    }

    /// `[:name:]`; `None` where it only starts like that.
    fn posix(&mut self, at: usize) -> Result<Option<Escape>> {
        let rest = self.rest();
        let mark = rest.get(1).copied().unwrap_or_default();
        let inner = rest.get(2..).unwrap_or_default();
        let Some(len) = inner.windows(2).position(|two| two == [mark, b']']) else { return Ok(None) };
        let name = &inner[..len];
        if name.iter().any(|byte| matches!(byte, b']' | b'\\' | b'[')) {
            return Ok(None);
        }
        if mark != b':' {
            return Err(invalid("POSIX collating elements are not supported", at));
        }
        let (name, negated) = name.strip_prefix(b"^").map_or((name, false), |name| (name, true));
        let Some(known) = POSIX.iter().find(|known| known.as_bytes() == name) else {
            return Err(if matches!(name, b"<" | b">") {
                unsupported("a word boundary [[:<:]] or [[:>:]]", at)
            } else {
                invalid("unknown POSIX class name", at)
            });
        };
        self.at += 2 + len + 2;
        Ok(Some(Escape::Set(posix_set(known), negated)))
    }
}

/// Appends a set to a class.
fn push_set(class: &mut String, set: &str, negated: bool) {
    if negated {
        class.push_str("[^");
        class.push_str(set);
        class.push(']');
    } else {
        class.push_str(set);
    }
}

/// The members of a POSIX class.
fn posix_set(name: &str) -> &'static str {
    match name {
        "alnum" => "0-9A-Za-z",
        "alpha" => "A-Za-z",
        "ascii" => r"\x00-\x7F",
        "blank" => r"\x09\x20",
        "cntrl" => r"\x00-\x1F\x7F",
        "digit" => "0-9",
        "graph" => r"\x21-\x7E",
        "lower" => "a-z",
        "print" => r"\x20-\x7E",
        "punct" => r"\x21-\x2F\x3A-\x40\x5B-\x60\x7B-\x7E",
        "space" => r"\x09-\x0D\x20",
        "upper" => "A-Z",
        "word" => "0-9A-Z_a-z",
        _ => "0-9A-Fa-f",
    }
}

/// The class with letters, digits, `/` and `_` as themselves.
fn plainer(class: &str) -> String {
    let mut out = String::with_capacity(class.len());
    let mut rest = class;
    while let Some(at) = rest.find(r"\x") {
        out.push_str(&rest[..at]);
        let digits = rest.get(at + 2..at + 4).unwrap_or_default();
        match u8::from_str_radix(digits, 16) {
            Ok(byte) if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_') => out.push(char::from(byte)),
            _ => out.push_str(&rest[at..at + 4]),
        }
        rest = &rest[at + 4..];
    }
    out.push_str(rest);
    out
}
