//! Text that cannot control a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with control characters, and characters that change the direction of text, as `\\u001b`: the form of JSON, so
/// that JSON text stays the same value. Line ends and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_control(c) {
            // A String takes all that is written.
            write!(out, "\\u{:04x}", u32::from(c)).ok();
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn is_control(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let text = "a\u{1b}[2J\r\u{7f}\u{9b}1m\u{202e}\tb\n";
        assert_eq!(visible(text), "a\\u001b[2J\\u000d\\u007f\\u009b1m\\u202e\tb\n");
        let json = serde_json::json!(["\u{1b}\u{9b}\u{202e}"]);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&visible(&json.to_string())).unwrap(), json);
        assert!(matches!(visible("\u{e4} ├─"), Cow::Borrowed(_)));
    }
}
