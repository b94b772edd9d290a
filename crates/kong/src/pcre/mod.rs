//! PCRE to the syntax of the regex crates: [`translate`].
//!
//! Kong's `traditional` router matches paths and headers with PCRE, byte by byte and without Unicode tables. The result
//! starts with `(?-u)`, which makes the engines match bytes as well, and is otherwise written in the syntax that `regex`
//! and `fancy-regex` have in common: names and numbers of groups stay as they are. What PCRE refuses is an error, and so
//! is what it accepts and these engines cannot do.

mod class;
mod escape;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

/// Why a pattern cannot be translated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PcreError {
    /// PCRE refuses it.
    #[error("{what} at offset {at}")]
    Invalid {
        /// The mistake.
        what: &'static str,
        /// Where, in bytes.
        at: usize,
    },
    /// PCRE accepts it, and there is nothing like it here.
    #[error("{construct} at offset {at} is not supported")]
    Unsupported {
        /// What it is.
        construct: String,
        /// Where, in bytes.
        at: usize,
    },
}

type Result<T> = std::result::Result<T, PcreError>;

/// A pattern of PCRE in our syntax.
pub(crate) fn translate(pattern: &str) -> Result<String> {
    // What `\12` means depends on how many groups the whole pattern has.
    let mut counting = Translator::new(pattern, usize::MAX);
    counting.run()?;
    let groups = counting.groups;
    let mut translator = Translator::new(pattern, groups);
    translator.run()?;
    if translator.reference_max > groups {
        return Err(invalid("reference to non-existent subpattern", pattern.len()));
    }
    if let Some((_, at)) = translator.named_references.iter().find(|(name, _)| !translator.names.contains(name)) {
        return Err(invalid("reference to non-existent subpattern", *at));
    }
    Ok(format!("(?-u){}", translator.out))
}

fn invalid(what: &'static str, at: usize) -> PcreError {
    PcreError::Invalid { what, at }
}

fn unsupported(construct: impl Into<String>, at: usize) -> PcreError {
    PcreError::Unsupported { construct: construct.into(), at }
}

/// Groups within each other, as PCRE limits them.
const DEPTH_MAX: usize = 250;
const REPEAT_MAX: u32 = 65_535;

/// Options that are in force.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    /// `x`: white space and comments count for nothing.
    extended: bool,
    /// `m`: `^` and `$` match at lines.
    multiline: bool,
    /// `U`: quantifiers are lazy, and `?` makes them greedy.
    ungreedy: bool,
    /// `n`: groups without a name do not capture.
    no_capture: bool,
}

/// A group that is open.
struct Open {
    options: Options,
    /// Where it starts in the output.
    start: usize,
    /// `(?(1)yes|no)`: one `|` at most.
    conditional: bool,
    /// Alternatives so far.
    alternatives: usize,
}

struct Translator<'p> {
    text: &'p [u8],
    at: usize,
    out: String,
    options: Options,
    open: Vec<Open>,
    /// Where the last item that a quantifier can follow starts in the output.
    item: Option<usize>,
    groups: usize,
    /// Groups of the whole pattern, once they are counted.
    groups_total: usize,
    reference_max: usize,
    names: Vec<String>,
    named_references: Vec<(String, usize)>,
}

impl<'p> Translator<'p> {
    fn new(pattern: &'p str, groups_total: usize) -> Self {
        Self {
            text: pattern.as_bytes(),
            at: 0,
            out: String::with_capacity(pattern.len()),
            options: Options::default(),
            open: Vec::new(),
            item: None,
            groups: 0,
            groups_total,
            reference_max: 0,
            names: Vec::new(),
            named_references: Vec::new(),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &'p [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Takes a text that comes next.
    fn take(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text.as_bytes());
        if is_next {
            self.at += text.len();
        }
        is_next
    }

    /// Takes what comes before `end`, and `end`.
    fn take_until(&mut self, end: u8, what: &'static str) -> Result<&'p str> {
        let rest = self.rest();
        let len = rest.iter().position(|byte| *byte == end).ok_or_else(|| invalid(what, self.text.len()))?;
        self.at += len + 1;
        std::str::from_utf8(&rest[..len]).map_err(|_| invalid(what, self.at))
    }

    fn run(&mut self) -> Result<()> {
        while let Some(byte) = self.peek() {
            let at = self.at;
            self.at += 1;
            match byte {
                b'\\' => self.escape(at)?,
                b'[' => self.class()?,
                b'(' => self.group(at)?,
                b')' => self.close(at)?,
                b'|' => self.alternative(at)?,
                b'*' | b'+' | b'?' => self.quantifier(char::from(byte).to_string(), at)?,
                b'{' => match self.counted() {
                    Some(count) => self.quantifier(count, at)?,
                    None => self.literal(b'{'),
                },
                b'^' => self.assertion("^"),
                b'$' => self.dollar(),
                b'.' => self.push_item("."),
                b' ' | b'\t' | b'\n' | b'\x0b' | b'\x0c' | b'\r' if self.options.extended => {}
                b'#' if self.options.extended => {
                    let rest = self.rest();
                    self.at += rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |line| line + 1);
                }
                _ => self.literal(byte),
            }
        }
        match self.open.last() {
            Some(_) => Err(invalid("missing closing parenthesis", self.text.len())),
            None => Ok(()),
        }
    }

    /// Appends what a quantifier can follow.
    fn push_item(&mut self, text: &str) {
        self.item = Some(self.out.len());
        self.out.push_str(text);
    }

    /// Appends what matches no text.
    fn assertion(&mut self, text: &str) {
        self.push_item(text);
    }

    fn literal(&mut self, byte: u8) {
        self.item = Some(self.out.len());
        push_byte(&mut self.out, byte);
    }

    /// The end of the text or, as Perl has it, the line end before it. The line end is taken: nothing can follow it.
    fn dollar(&mut self) {
        let text = if self.options.multiline { "$" } else { r"(?:\n?\z)" };
        self.assertion(text);
    }

    fn alternative(&mut self, at: usize) -> Result<()> {
        if let Some(open) = self.open.last_mut() {
            open.alternatives += 1;
            if open.conditional && open.alternatives > 2 {
                return Err(invalid("conditional subpattern contains more than two branches", at));
            }
        }
        self.item = None;
        self.out.push('|');
        Ok(())
    }

    /// What stands in braces if that is a quantifier; `{` is a character otherwise.
    fn counted(&mut self) -> Option<String> {
        let end = self.rest().iter().position(|byte| *byte == b'}')?;
        let inner = std::str::from_utf8(&self.rest()[..end]).ok()?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (low, high) = inner.split_once(',').map_or((inner, None), |(low, high)| (low, Some(high)));
        if !is_number(low) || !high.is_none_or(|high| high.is_empty() || is_number(high)) {
            return None;
        }
        self.at += end + 1;
        Some(format!("{{{inner}}}"))
    }

    fn quantifier(&mut self, text: String, at: usize) -> Result<()> {
        let item = self.item.take().ok_or_else(|| invalid("quantifier does not follow a repeatable item", at))?;
        if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            let number = |text: &str| match text.parse::<u32>() {
                Ok(number) if number <= REPEAT_MAX => Ok(number),
                _ => Err(invalid("number too big in {} quantifier", at)),
            };
            if let (low, Some(high)) = inner.split_once(',').map_or((inner, None), |(low, high)| (low, Some(high)))
                && number(low)? > if high.is_empty() { REPEAT_MAX } else { number(high)? }
            {
                return Err(invalid("numbers out of order in {} quantifier", at));
            }
            number(inner.split(',').next().unwrap_or_default())?;
        }
        self.out.push_str(&text);
        if self.take("+") {
            self.out.insert_str(item, "(?>");
            self.out.push(')');
        } else if self.take("?") != self.options.ungreedy {
            self.out.push('?');
        }
        Ok(())
    }

    fn close(&mut self, at: usize) -> Result<()> {
        let open = self.open.pop().ok_or_else(|| invalid("unmatched closing parenthesis", at))?;
        self.out.push(')');
        self.options = open.options;
        self.item = Some(open.start);
        Ok(())
    }

    /// Opens a group whose start is written already, from `start` on.
    fn opened(&mut self, start: usize, at: usize, conditional: bool) -> Result<()> {
        if self.open.len() == DEPTH_MAX {
            return Err(invalid("parentheses are too deeply nested", at));
        }
        self.open.push(Open { options: self.options, start, conditional, alternatives: 1 });
        self.item = None;
        Ok(())
    }

    fn open(&mut self, text: &str, at: usize) -> Result<()> {
        let start = self.out.len();
        self.out.push_str(text);
        self.opened(start, at, false)
    }

    fn group(&mut self, at: usize) -> Result<()> {
        if self.peek() == Some(b'*') {
            return self.verb(at);
        }
        if !self.take("?") {
            if self.options.no_capture {
                return self.open("(?:", at);
            }
            self.groups += 1;
            return self.open("(", at);
        }
        // The longer of two that start alike comes first.
        for (text, ours) in [("<=", "(?<="), ("<!", "(?<!"), ("=", "(?="), ("!", "(?!"), (">", "(?>"), (":", "(?:")] {
            if self.take(text) {
                return self.open(ours, at);
            }
        }
        for (text, end) in [("P<", b'>'), ("<", b'>'), ("'", b'\'')] {
            if self.take(text) {
                let name = self.name(end)?;
                if self.names.iter().any(|other| other == name) {
                    return Err(invalid("two named subpatterns have the same name", at));
                }
                self.names.push(name.to_owned());
                self.groups += 1;
                return self.open(&format!("(?<{name}>"), at);
            }
        }
        if self.take("#") {
            self.take_until(b')', "missing ) after (?# comment")?;
            return Ok(());
        }
        if self.take("P=") {
            let name = self.name(b')')?;
            return self.named_reference(name, at);
        }
        if self.take("P>") || self.take("&") {
            let name = self.name(b')')?.to_owned();
            return self.call_named(&name, at);
        }
        if self.take("(") {
            return self.condition(at);
        }
        match self.peek() {
            Some(b'|') => Err(unsupported("a branch reset group (?|", at)),
            Some(b'C') => Err(unsupported("a callout (?C)", at)),
            Some(b'R') => Err(unsupported("recursion (?R)", at)),
            Some(b'0'..=b'9') => self.numbered_call(at),
            Some(b'+') | Some(b'-') if self.text.get(self.at + 1).is_some_and(u8::is_ascii_digit) => {
                self.numbered_call(at)
            }
            Some(_) => self.flags(at),
            None => Err(invalid("unrecognized character after (? or (?-", self.text.len())),
        }
    }

    /// A name that ends with a character.
    fn name(&mut self, end: u8) -> Result<&'p str> {
        let at = self.at;
        let name = self.take_until(end, "syntax error in subpattern name (missing terminator?)")?;
        let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match name.bytes().next() {
            None => Err(invalid("subpattern name expected", at)),
            Some(b'0'..=b'9') => Err(invalid("subpattern name must start with a non-digit", at)),
            Some(_) if is_word => Ok(name),
            Some(_) => Err(invalid("syntax error in subpattern name (missing terminator?)", at)),
        }
    }

    /// `(?1)`, `(?+1)`, `(?-1)`
    fn numbered_call(&mut self, at: usize) -> Result<()> {
        let text = self.take_until(b')', "missing closing parenthesis")?;
        let group = self.number_of(text, at)?;
        if group == 0 {
            return Err(unsupported("recursion (?0)", at));
        }
        self.reference(group);
        self.push_item(&format!(r"\g<{group}>"));
        Ok(())
    }

    /// The number of a group, which may be relative.
    fn number_of(&self, text: &str, at: usize) -> Result<usize> {
        let unknown = || invalid("reference to non-existent subpattern", at);
        let (sign, digits) = match text.as_bytes().first() {
            Some(b'-') => (-1, &text[1..]),
            Some(b'+') => (1, &text[1..]),
            _ => (0, text),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid("digit expected", at));
        }
        let number: usize = digits.parse().map_err(|_| unknown())?;
        match sign {
            0 => Ok(number),
            1 => Ok(self.groups + number),
            _ => self.groups.checked_sub(number).map(|before| before + 1).filter(|_| number > 0).ok_or_else(unknown),
        }
    }

    fn reference(&mut self, group: usize) {
        self.reference_max = self.reference_max.max(group);
    }

    fn named_reference(&mut self, name: &str, at: usize) -> Result<()> {
        self.named_references.push((name.to_owned(), at));
        self.push_item(&format!(r"\k<{name}>"));
        Ok(())
    }

    fn call_named(&mut self, name: &str, at: usize) -> Result<()> {
        self.named_references.push((name.to_owned(), at));
        self.push_item(&format!(r"\g<{name}>"));
        Ok(())
    }

    /// `(?(1)`, `(?(<name>)`, `(?('name')`, `(?(name)`
    fn condition(&mut self, at: usize) -> Result<()> {
        if matches!(self.peek(), Some(b'?' | b'*')) {
            return Err(unsupported("an assertion as a condition (?(?", at));
        }
        let text = self.take_until(b')', "missing closing parenthesis for condition")?;
        let name = text
            .strip_prefix('<')
            .and_then(|text| text.strip_suffix('>'))
            .or_else(|| text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')))
            .unwrap_or(text);
        let start = self.out.len();
        match name.as_bytes().first() {
            Some(b'0'..=b'9' | b'+' | b'-') => {
                let group = self.number_of(name, at)?;
                self.reference(group);
                let _ = write!(self.out, "(?({group})");
            }
            _ if name == "R" || name.starts_with("R&") || name == "DEFINE" || name.starts_with("VERSION") => {
                return Err(unsupported(format!("the condition (?({name})"), at));
            }
            _ => {
                self.named_references.push((name.to_owned(), at));
                let _ = write!(self.out, "(?(<{name}>)");
            }
        }
        self.opened(start, at, true)
    }

    /// `(?i)`, `(?i-s:`, `(?^)`
    fn flags(&mut self, at: usize) -> Result<()> {
        let mut options = self.options;
        let (mut on, mut off) = (String::new(), String::new());
        if self.take("^") {
            options = Options { ungreedy: options.ungreedy, ..Options::default() };
            off.push_str("ims");
        }
        let mut value = true;
        loop {
            let flag_at = self.at;
            let byte = self.peek().ok_or_else(|| invalid("missing closing parenthesis", flag_at))?;
            self.at += 1;
            let passed_on = if value { &mut on } else { &mut off };
            match byte {
                b'-' if value => value = false,
                b'i' | b's' => add_flag(passed_on, char::from(byte)),
                b'm' => {
                    options.multiline = value;
                    add_flag(passed_on, 'm');
                }
                b'x' => options.extended = value,
                b'U' => options.ungreedy = value,
                b'n' => options.no_capture = value,
                b'J' if value => return Err(unsupported("the option J (names that several groups have)", flag_at)),
                b'J' => {}
                b')' | b':' => {
                    off.retain(|flag| !on.contains(flag));
                    let minus = if off.is_empty() { "" } else { "-" };
                    let flags = format!("(?{on}{minus}{off}");
                    return self.with_flags(&flags, options, byte == b':', at);
                }
                _ => return Err(invalid("unrecognized character after (? or (?-", flag_at)),
            }
        }
    }

    fn with_flags(&mut self, flags: &str, options: Options, group: bool, at: usize) -> Result<()> {
        if group {
            self.open(&format!("{flags}:"), at)?;
        } else {
            if flags != "(?" {
                self.out.push_str(flags);
                self.out.push(')');
            }
            self.item = None;
        }
        self.options = options;
        Ok(())
    }

    /// `(*FAIL)` and what else there is.
    fn verb(&mut self, at: usize) -> Result<()> {
        let text = self.take_until(b')', "missing closing parenthesis")?;
        match text {
            "*FAIL" | "*F" => {
                self.push_item("(?!)");
                Ok(())
            }
            _ => Err(unsupported(format!("the verb ({text})"), at)),
        }
    }
}

fn add_flag(flags: &mut String, flag: char) {
    if !flags.contains(flag) {
        flags.push(flag);
    }
}

/// Appends a byte as itself, or escaped where it means something or is not ASCII.
fn push_byte(out: &mut String, byte: u8) {
    match byte {
        b'\\' | b'.' | b'+' | b'*' | b'?' | b'(' | b')' | b'|' | b'[' | b']' | b'{' | b'}' | b'^' | b'$' | b'#'
        | b'&' | b'~' => {
            out.push('\\');
            out.push(char::from(byte));
        }
        b' '..=b'~' => out.push(char::from(byte)),
        _ => push_hex(out, byte),
    }
}

fn push_hex(out: &mut String, byte: u8) {
    let _ = write!(out, r"\x{byte:02X}");
}
