//! Lua's patterns: classes, sets, `* + - ?`, anchors, captures, back references, `%b` and `%f`.
//!
//! Matching backtracks, so every comparison is a step of the budget. The depth of recursion depends on the length of
//! the pattern, and is limited as in Lua.

use super::{Budget, Failure, Value};

const CAPTURES_MAX: usize = 32;

/// Maximum nesting of calls.
const DEPTH_MAX: usize = 200;

#[derive(Clone, Copy, Default)]
struct Capture {
    start: usize,
    length: Length,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Length {
    /// The end is not reached yet.
    #[default]
    Open,
    /// `()`: captures only the position.
    Position,
    Bytes(usize),
}

/// The matcher of a pattern on a text. The pattern has no leading `^` if [`Matcher::match_at`] is used.
pub(super) struct Matcher<'m> {
    subject: &'m [u8],
    pattern: &'m [u8],
    captures: [Capture; CAPTURES_MAX],
    level: usize,
    depth: usize,
    budget: &'m mut Budget,
}

/// Whether a pattern contains special characters.
pub(super) fn has_specials(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| b"^$*+?.([%-".contains(byte))
}

fn malformed(what: &'static str) -> Failure {
    Failure::new(what)
}

impl<'m> Matcher<'m> {
    pub(super) fn new(subject: &'m [u8], pattern: &'m [u8], budget: &'m mut Budget) -> Self {
        Self { subject, pattern, captures: [Capture::default(); CAPTURES_MAX], level: 0, depth: 0, budget }
    }

    /// The first match at or after `init`.
    pub(super) fn search(&mut self, init: usize) -> Result<Option<(usize, usize)>, Failure> {
        if let Some(rest) = self.pattern.strip_prefix(b"^") {
            self.pattern = rest;
            return Ok(self.match_at(init)?.map(|end| (init, end)));
        }
        for at in init..=self.subject.len() {
            if let Some(end) = self.match_at(at)? {
                return Ok(Some((at, end)));
            }
        }
        Ok(None)
    }

    /// The end of a match that starts at `at`.
    pub(super) fn match_at(&mut self, at: usize) -> Result<Option<usize>, Failure> {
        self.level = 0;
        self.matches(at, 0)
    }

    fn matches(&mut self, s: usize, p: usize) -> Result<Option<usize>, Failure> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(malformed("pattern too complex"));
        }
        let found = self.matches_within(s, p);
        self.depth -= 1;
        found
    }

    fn matches_within(&mut self, mut s: usize, mut p: usize) -> Result<Option<usize>, Failure> {
        loop {
            self.budget.step()?;
            let Some(item) = self.pattern.get(p).copied() else { return Ok(Some(s)) };
            let next = self.pattern.get(p + 1).copied();
            match (item, next) {
                (b'(', Some(b')')) => return self.open(s, p + 2, Length::Position),
                (b'(', _) => return self.open(s, p + 1, Length::Open),
                (b')', _) => return self.close(s, p + 1),
                (b'$', None) => return Ok((s == self.subject.len()).then_some(s)),
                (b'%', Some(b'b')) => match self.balanced(s, p + 2)? {
                    Some(end) => (s, p) = (end, p + 4),
                    None => return Ok(None),
                },
                (b'%', Some(b'f')) => match self.frontier(s, p + 2)? {
                    Some(end) => p = end,
                    None => return Ok(None),
                },
                (b'%', Some(digit)) if digit.is_ascii_digit() => match self.again(s, digit)? {
                    Some(end) => (s, p) = (end, p + 2),
                    None => return Ok(None),
                },
                _ => {
                    let end = self.item_end(p)?;
                    self.spend_on_set(p, end)?;
                    let here = self.fits(s, p, end);
                    match self.pattern.get(end) {
                        Some(b'?') => {
                            if here && let Some(found) = self.matches(s + 1, end + 1)? {
                                return Ok(Some(found));
                            }
                            p = end + 1;
                        }
                        Some(b'*') => return self.longest(s, p, end),
                        Some(b'+') => return if here { self.longest(s + 1, p, end) } else { Ok(None) },
                        Some(b'-') => return self.shortest(s, p, end),
                        _ if here => (s, p) = (s + 1, end),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    /// The end of the item that starts at `p`.
    fn item_end(&self, p: usize) -> Result<usize, Failure> {
        let mut at = p + 1;
        match self.pattern.get(p) {
            Some(b'%') if at < self.pattern.len() => Ok(at + 1),
            Some(b'%') => Err(malformed("malformed pattern (ends with '%')")),
            Some(b'[') => {
                if self.pattern.get(at) == Some(&b'^') {
                    at += 1;
                }
                // A bracket directly at the start is a member of the set.
                loop {
                    match self.pattern.get(at) {
                        None => return Err(malformed("malformed pattern (missing ']')")),
                        Some(b'%') => at += 2,
                        Some(_) => at += 1,
                    }
                    if self.pattern.get(at) == Some(&b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(at),
        }
    }

    /// Whether the byte at `s` matches the item from `p` to `end`.
    fn fits(&self, s: usize, p: usize, end: usize) -> bool {
        let Some(byte) = self.subject.get(s).copied() else { return false };
        match self.pattern.get(p) {
            Some(b'.') => true,
            Some(b'%') => self.pattern.get(p + 1).is_some_and(|class| in_class(byte, *class)),
            Some(b'[') => in_set(byte, self.pattern.get(p + 1..end - 1).unwrap_or_default()),
            other => other == Some(&byte),
        }
    }

    /// Spends the steps for one comparison with the item from `p` to `end`: a set may be as long as the pattern.
    fn spend_on_set(&mut self, p: usize, end: usize) -> Result<(), Failure> {
        self.budget.spend(u32::try_from((end - p) / 8).unwrap_or(u32::MAX))
    }

    fn longest(&mut self, s: usize, p: usize, end: usize) -> Result<Option<usize>, Failure> {
        let mut count = 0;
        while self.fits(s + count, p, end) {
            self.budget.step()?;
            self.spend_on_set(p, end)?;
            count += 1;
        }
        loop {
            if let Some(found) = self.matches(s + count, end + 1)? {
                return Ok(Some(found));
            }
            match count.checked_sub(1) {
                Some(fewer) => count = fewer,
                None => return Ok(None),
            }
        }
    }

    fn shortest(&mut self, mut s: usize, p: usize, end: usize) -> Result<Option<usize>, Failure> {
        loop {
            if let Some(found) = self.matches(s, end + 1)? {
                return Ok(Some(found));
            }
            self.spend_on_set(p, end)?;
            if !self.fits(s, p, end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn open(&mut self, s: usize, p: usize, length: Length) -> Result<Option<usize>, Failure> {
        let level = self.level;
        let place = self.captures.get_mut(level).ok_or_else(|| malformed("too many captures"))?;
        *place = Capture { start: s, length };
        self.level = level + 1;
        let found = self.matches(s, p)?;
        if found.is_none() {
            self.level = level;
        }
        Ok(found)
    }

    fn close(&mut self, s: usize, p: usize) -> Result<Option<usize>, Failure> {
        let open = self.captures.iter().take(self.level).rposition(|capture| capture.length == Length::Open);
        let open = open.ok_or_else(|| malformed("invalid pattern capture"))?;
        if let Some(capture) = self.captures.get_mut(open) {
            capture.length = Length::Bytes(s - capture.start);
        }
        let found = self.matches(s, p)?;
        if let (None, Some(capture)) = (found, self.captures.get_mut(open)) {
            capture.length = Length::Open;
        }
        Ok(found)
    }

    /// `%bxy`: from an `x` to the matching `y`.
    fn balanced(&mut self, s: usize, p: usize) -> Result<Option<usize>, Failure> {
        let (Some(open), Some(close)) = (self.pattern.get(p).copied(), self.pattern.get(p + 1).copied()) else {
            return Err(malformed("missing arguments to '%b'"));
        };
        if self.subject.get(s) != Some(&open) {
            return Ok(None);
        }
        let mut nesting = 1;
        let mut at = s + 1;
        while let Some(byte) = self.subject.get(at).copied() {
            self.budget.step()?;
            at += 1;
            if byte == close {
                nesting -= 1;
                if nesting == 0 {
                    return Ok(Some(at));
                }
            } else if byte == open {
                nesting += 1;
            }
        }
        Ok(None)
    }

    /// `%f[set]`: between a byte outside the set and one inside. Returns the end of the set.
    fn frontier(&mut self, s: usize, p: usize) -> Result<Option<usize>, Failure> {
        if self.pattern.get(p) != Some(&b'[') {
            return Err(malformed("missing '[' after '%f' in pattern"));
        }
        let end = self.item_end(p)?;
        self.spend_on_set(p, end)?;
        let set = self.pattern.get(p + 1..end - 1).unwrap_or_default();
        let before = s.checked_sub(1).and_then(|at| self.subject.get(at)).copied().unwrap_or(0);
        let here = self.subject.get(s).copied().unwrap_or(0);
        Ok((!in_set(before, set) && in_set(here, set)).then_some(end))
    }

    /// `%1`: the text of a capture, repeated.
    fn again(&mut self, s: usize, digit: u8) -> Result<Option<usize>, Failure> {
        let capture = usize::from(digit).checked_sub(usize::from(b'1')).filter(|at| *at < self.level);
        let capture = capture.and_then(|at| self.captures.get(at));
        let Some(Capture { start, length: Length::Bytes(length) }) = capture.copied() else {
            return Err(malformed("invalid capture index"));
        };
        self.budget.spend(u32::try_from(length / 16).unwrap_or(u32::MAX))?;
        let same = self.subject.get(s..s + length) == self.subject.get(start..start + length);
        Ok(same.then_some(s + length))
    }

    /// The captures of the last match.
    pub(super) fn captures<'a>(&mut self) -> Result<Vec<Value<'a>>, Failure> {
        (0..self.level).map(|at| self.capture(at)).collect()
    }

    fn capture<'a>(&mut self, at: usize) -> Result<Value<'a>, Failure> {
        let capture = self.captures.get(at).copied().unwrap_or_default();
        match capture.length {
            Length::Open => Err(malformed("unfinished capture")),
            Length::Position => Ok(Value::length(capture.start + 1)),
            Length::Bytes(length) => {
                self.budget.text(length)?;
                let text = self.subject.get(capture.start..capture.start + length).unwrap_or_default();
                Ok(Value::text(text.to_vec()))
            }
        }
    }

    /// Appends the replacement of a match from `start` to `end`.
    pub(super) fn replace(
        &mut self,
        replacement: &[u8],
        start: usize,
        end: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let mut bytes = replacement.iter().copied();
        while let Some(byte) = bytes.next() {
            match (byte, if byte == b'%' { bytes.next() } else { None }) {
                (b'%', Some(digit)) if digit.is_ascii_digit() => {
                    let number = usize::from(digit - b'0');
                    match number.checked_sub(1) {
                        // Without captures, the first one is the whole match.
                        None | Some(0) if number == 0 || self.level == 0 => {
                            out.extend_from_slice(self.subject.get(start..end).unwrap_or_default());
                        }
                        Some(at) if at < self.level => self.capture(at)?.write(out),
                        _ => return Err(malformed("invalid capture index")),
                    }
                }
                (b'%', Some(other)) => out.push(other),
                (byte, _) => out.push(byte),
            }
            self.budget.text_grown(out.len())?;
        }
        Ok(())
    }
}

/// Whether a byte belongs to the class of a letter after `%`.
fn in_class(byte: u8, class: u8) -> bool {
    let is = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'g' => byte.is_ascii_graphic(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => matches!(byte, b' ' | 9..=13),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is != class.is_ascii_uppercase()
}

/// Whether a byte is in a set, given without its brackets.
fn in_set(byte: u8, set: &[u8]) -> bool {
    let (is, set) = match set.strip_prefix(b"^") {
        Some(rest) => (false, rest),
        None => (true, set),
    };
    let mut at = 0;
    while let Some(first) = set.get(at).copied() {
        match (first, set.get(at + 1).copied(), set.get(at + 2).copied()) {
            (b'%', Some(class), _) => {
                if in_class(byte, class) {
                    return is;
                }
                at += 2;
            }
            (first, Some(b'-'), Some(last)) => {
                if (first..=last).contains(&byte) {
                    return is;
                }
                at += 3;
            }
            (first, ..) => {
                if first == byte {
                    return is;
                }
                at += 1;
            }
        }
    }
    !is
}
