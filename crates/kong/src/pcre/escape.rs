//! What stands after a backslash, outside and inside of classes.

use super::{PcreError, Result, Translator, invalid, unsupported};

/// The meaning of an escape.
pub(super) enum Escape {
    /// A byte.
    Byte(u8),
    /// A set of bytes, as items of a class, and whether all others are meant.
    Set(&'static str, bool),
}

pub(super) const HORIZONTAL: &str = r"\x09\x20\xA0";
pub(super) const VERTICAL: &str = r"\x0A-\x0D\x85";

impl Translator<'_> {
    /// An escape outside of classes; the backslash is taken.
    pub(super) fn escape(&mut self, at: usize) -> Result<()> {
        let Some(byte) = self.peek() else { return Err(invalid(r"\ at end of pattern", self.text.len())) };
        self.at += 1;
        match byte {
            b'Q' => self.quoted(),
            b'E' => {}
            b'A' | b'G' => self.assertion(r"\A"),
            b'z' => self.assertion(r"\z"),
            b'Z' => self.assertion(r"(?:\n?\z)"),
            b'b' => self.assertion(r"\b"),
            b'B' => self.assertion(r"\B"),
            // The start of the match is not used: paths match from their start.
            b'K' => {}
            b'R' => self.push_item(r"(?>\r\n|[\x0A-\x0D\x85])"),
            b'N' if self.peek() == Some(b'{') => return Err(unsupported(r"\N{name}", at)),
            b'N' => self.push_item(r"[^\n]"),
            b'C' => self.push_item("(?s:.)"),
            b'X' => return Err(unsupported(r"\X", at)),
            b'g' => return self.group_reference(at),
            b'k' => {
                let end = match self.peek() {
                    Some(b'<') => b'>',
                    Some(b'{') => b'}',
                    Some(b'\'') => b'\'',
                    _ => return Err(invalid(r"\k is not followed by a braced, angle-bracketed, or quoted name", at)),
                };
                self.at += 1;
                let name = self.name(end)?;
                return self.named_reference(name, at);
            }
            b'1'..=b'9' => return self.digits(at),
            _ => {
                self.at -= 1;
                match self.common_escape(at)? {
                    Escape::Byte(byte) => self.literal(byte),
                    Escape::Set(set, false) => self.push_item(&format!("[{set}]")),
                    Escape::Set(set, true) => self.push_item(&format!("[^{set}]")),
                }
            }
        }
        Ok(())
    }

    /// `\Q...\E`
    fn quoted(&mut self) {
        let rest = self.rest();
        let len = rest.windows(2).position(|two| two == br"\E").unwrap_or(rest.len());
        rest[..len].iter().for_each(|byte| self.literal(*byte));
        self.at += (len + 2).min(rest.len());
    }

    /// An escape that means the same in classes; the backslash is taken.
    pub(super) fn common_escape(&mut self, at: usize) -> Result<Escape> {
        let Some(byte) = self.peek() else { return Err(invalid(r"\ at end of pattern", self.text.len())) };
        self.at += 1;
        Ok(match byte {
            b'd' => Escape::Set("0-9", false),
            b'D' => Escape::Set("0-9", true),
            b'w' => Escape::Set("0-9A-Z_a-z", false),
            b'W' => Escape::Set("0-9A-Z_a-z", true),
            b's' => Escape::Set(r"\x09-\x0D\x20", false),
            b'S' => Escape::Set(r"\x09-\x0D\x20", true),
            b'h' => Escape::Set(HORIZONTAL, false),
            b'H' => Escape::Set(HORIZONTAL, true),
            b'v' => Escape::Set(VERTICAL, false),
            b'V' => Escape::Set(VERTICAL, true),
            b'a' => Escape::Byte(7),
            b'e' => Escape::Byte(0x1b),
            b'f' => Escape::Byte(0x0c),
            b'n' => Escape::Byte(b'\n'),
            b'r' => Escape::Byte(b'\r'),
            b't' => Escape::Byte(b'\t'),
            b'c' => {
                let next = self.peek().filter(|next| matches!(next, b' '..=b'~'));
                let next = next.ok_or_else(|| invalid(r"\c must be followed by a printable ASCII character", at))?;
                self.at += 1;
                Escape::Byte(next.to_ascii_uppercase() ^ 0x40)
            }
            b'x' => Escape::Byte(self.hex(at)?),
            b'o' => {
                if !self.take("{") {
                    return Err(invalid(r"missing opening brace after \o", at));
                }
                let digits = self.take_until(b'}', r"missing terminating } for \o{")?;
                Escape::Byte(byte_of(digits, 8, at)?)
            }
            b'0'..=b'7' => {
                let rest = self.text.get(self.at - 1..).unwrap_or_default();
                let len = rest.iter().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
                self.at += len - 1;
                let digits = std::str::from_utf8(&rest[..len]).unwrap_or_default();
                Escape::Byte(byte_of(digits, 8, at)?)
            }
            b'p' | b'P' => return Err(unsupported(format!(r"\{} (a Unicode property)", char::from(byte)), at)),
            b'L' | b'l' | b'U' | b'u' => {
                return Err(invalid(r"PCRE2 does not support \F, \L, \l, \N{name}, \U, or \u", at));
            }
            _ if byte.is_ascii_alphanumeric() => return Err(invalid(r"unrecognized character follows \", at)),
            _ => Escape::Byte(byte),
        })
    }

    /// `\x`, `\xH`, `\xHH`, `\x{...}`; what follows the `x`.
    fn hex(&mut self, at: usize) -> Result<u8> {
        if self.take("{") {
            let digits = self.take_until(b'}', r"missing terminating } for \x{")?;
            return byte_of(digits, 16, at);
        }
        let rest = self.rest();
        let len = rest.iter().take(2).take_while(|byte| byte.is_ascii_hexdigit()).count();
        self.at += len;
        if len == 0 { Ok(0) } else { byte_of(std::str::from_utf8(&rest[..len]).unwrap_or_default(), 16, at) }
    }

    /// `\1`, or an octal number where there are not so many groups; the first digit is taken.
    fn digits(&mut self, at: usize) -> Result<()> {
        let start = self.at - 1;
        let rest = self.text.get(start..).unwrap_or_default();
        let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number: usize = std::str::from_utf8(&rest[..len]).unwrap_or_default().parse().unwrap_or(usize::MAX);
        if number < 10 || number <= self.groups_total.min(99_999) {
            self.at = start + len;
            return self.back_reference(number);
        }
        // `\8` and `\9` with more digits are no octal numbers.
        if matches!(rest.first(), Some(b'8' | b'9')) {
            return Err(invalid("reference to non-existent subpattern", at));
        }
        let len = rest.iter().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
        self.at = start + len;
        let byte = byte_of(std::str::from_utf8(&rest[..len]).unwrap_or_default(), 8, at)?;
        self.literal(byte);
        Ok(())
    }

    fn back_reference(&mut self, group: usize) -> Result<()> {
        self.reference(group);
        self.push_item(&format!(r"(?:\{group})"));
        Ok(())
    }

    /// `\g1`, `\g-1`, `\g{1}`, `\g{-1}`, `\g{name}`; `\g<...>` and `\g'...'` are calls.
    fn group_reference(&mut self, at: usize) -> Result<()> {
        if self.take("{") {
            let text = self.take_until(b'}', r"missing terminating } after \g{")?;
            if text.bytes().next().is_some_and(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+')) {
                let group = self.number_of(text, at)?;
                return self.back_reference(group);
            }
            return self.named_reference(text, at);
        }
        for (open, end) in [("<", b'>'), ("'", b'\'')] {
            if !self.take(open) {
                continue;
            }
            if !self.peek().is_some_and(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+')) {
                let name = self.name(end)?.to_owned();
                return self.call_named(&name, at);
            }
            let text = self.take_until(end, "missing terminator of a group's number")?;
            let group = self.number_of(text, at)?;
            if group == 0 {
                return Err(unsupported(r"recursion \g<0>", at));
            }
            self.reference(group);
            self.push_item(&format!(r"\g<{group}>"));
            return Ok(());
        }
        let rest = self.rest();
        let sign = usize::from(matches!(rest.first(), Some(b'-' | b'+')));
        let len = sign + rest.iter().skip(sign).take_while(|byte| byte.is_ascii_digit()).count();
        let text = std::str::from_utf8(&rest[..len]).unwrap_or_default();
        let group = self.number_of(text, at)?;
        self.at += len;
        self.back_reference(group)
    }
}

fn byte_of(digits: &str, radix: u32, at: usize) -> std::result::Result<u8, PcreError> {
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(invalid(r"non-hex or non-octal character in \x{} or \o{}", at));
    }
    let too_large = |_| invalid(r"character code point value in \x{} or \o{} is too large", at);
    u32::from_str_radix(digits, radix).map_err(too_large).and_then(|number| {
        u8::try_from(number).map_err(|_| invalid(r"character code point value in \x{} or \o{} is too large", at))
    })
}
