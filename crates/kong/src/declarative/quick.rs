//! Reads the YAML that nearly all files are written in, many times faster than the parser of the whole language: block
//! lists and maps, scalars of one line, flow collections, comments; and JSON.
//!
//! What is beyond that, or wrong in any way, gets no answer here, and the whole text is read again by the parser, which
//! is what defines the outcome: a test with random texts holds this reader to it, places included.

use std::collections::HashSet;

use super::source::{Data, Key, Node, Place, Scalar, VALUES_MAX, shared};

/// Nesting that is left to the parser, which has a limit of its own.
const DEPTH_MAX: usize = 32;
/// Longest key; the language has a limit for them.
const KEY_MAX: usize = 200;
/// Maps larger than this look for equal keys by hash.
const FEW_KEYS: usize = 16;

/// Scalars that the parser resolves.
type Resolve<'r> = dyn Fn(&str) -> Option<Scalar> + 'r;

/// The tree of a text, or `None` if the full parser is needed. `resolve` gives the value of a plain scalar that is
/// neither obviously text nor a whole number.
pub(super) fn parse(text: &str, resolve: &Resolve<'_>) -> Option<Node> {
    // Tabs, other line ends, and characters that take more than one byte.
    if text.bytes().any(|b| !matches!(b, b'\n' | 0x20..=0x7e)) {
        return None;
    }
    let keys = HashSet::new();
    let mut reader =
        Reader { bytes: text.as_bytes(), text, at: 0, line: 0, start: 0, indent: 0, resolve, values: 0, keys };
    reader.next_line()?;
    let root = match reader.peek()? {
        b'{' => {
            let root = reader.flow(true, 0)?;
            reader.end_of_line()?;
            root
        }
        _ if reader.indent == 0 => reader.block(0)?,
        _ => return None,
    };
    (reader.is_done() && reader.values < VALUES_MAX / 4).then_some(root)
}

struct Reader<'t> {
    bytes: &'t [u8],
    text: &'t str,
    at: usize,
    /// The line that `at` is in, from 1, and where it starts.
    line: u32,
    start: usize,
    /// Spaces before its first character.
    indent: usize,
    resolve: &'t Resolve<'t>,
    values: usize,
    keys: HashSet<Key>,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn column(&self) -> usize {
        self.at - self.start
    }

    fn place(&self) -> Option<Place> {
        Some(Place { line: self.line, column: u32::try_from(self.column() + 1).ok()? })
    }

    fn node(&mut self, place: Place, data: Data) -> Node {
        self.values += 1;
        Node { place, data }
    }

    /// From the start of a line to the first one that has more than a comment; at the end of the text, there.
    fn next_line(&mut self) -> Option<()> {
        loop {
            self.line = self.line.checked_add(1)?;
            self.start = self.at;
            while self.peek() == Some(b' ') {
                self.at += 1;
            }
            self.indent = self.column();
            match self.peek() {
                None => return Some(()),
                Some(b'\n') => self.at += 1,
                Some(b'#') => self.skip_line(),
                // Directives and the marks of documents.
                Some(b'%') if self.indent == 0 => return None,
                Some(b'-' | b'.')
                    if self.indent == 0 && matches!(self.bytes.get(self.at..self.at + 3), Some(b"---" | b"...")) =>
                {
                    return None;
                }
                Some(_) => return Some(()),
            }
        }
    }

    fn skip_line(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.find('\n').map_or(rest.len(), |end| end + 1);
    }

    /// Nothing but a comment may follow on this line; goes to the next one.
    fn end_of_line(&mut self) -> Option<()> {
        let before = self.at;
        self.spaces();
        match self.peek() {
            None => return Some(()),
            Some(b'\n') => self.at += 1,
            Some(b'#') if self.at > before => self.skip_line(),
            Some(_) => return None,
        }
        self.next_line()
    }

    fn spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    fn at_dash(&self) -> bool {
        self.peek() == Some(b'-') && self.bytes.get(self.at + 1) == Some(&b' ')
    }

    /// A list or map whose first character is here.
    fn block(&mut self, depth: usize) -> Option<Node> {
        if depth > DEPTH_MAX {
            return None;
        }
        if self.at_dash() { self.block_list(depth, true) } else { self.block_map(depth) }
    }

    /// The items of a list; one that is not `indented` below its key has the place of its first item.
    fn block_list(&mut self, depth: usize, indented: bool) -> Option<Node> {
        let (mut place, column) = (self.place()?, self.column());
        let mut list = Vec::new();
        while !self.is_done() && self.indent == column && self.at_dash() {
            self.at += 1;
            self.spaces();
            if list.is_empty() && !indented {
                place = self.place()?;
            }
            let item = if self.is_key() { self.block_map(depth + 1)? } else { self.inline(column, depth + 1)? };
            list.push(item);
        }
        (self.is_done() || self.indent <= column).then(|| self.node(place, Data::List(list.into())))
    }

    fn block_map(&mut self, depth: usize) -> Option<Node> {
        if depth > DEPTH_MAX {
            return None;
        }
        let (place, column) = (self.place()?, self.column());
        let mut map: Vec<(Key, Place, Node)> = Vec::new();
        loop {
            let key_place = self.place()?;
            let key = self.block_key()?;
            self.spaces();
            let value = match self.peek() {
                None | Some(b'\n' | b'#') => {
                    self.end_of_line()?;
                    if self.is_done() {
                        return None;
                    } else if self.indent > column {
                        self.block(depth + 1)?
                    } else if self.indent == column && self.at_dash() {
                        self.block_list(depth + 1, false)?
                    } else {
                        return None;
                    }
                }
                Some(_) => self.inline(column, depth + 1)?,
            };
            map.push((shared(key, &mut self.keys), key_place, value));
            if self.is_done() || self.indent < column {
                break;
            }
            if self.indent > column || self.at_dash() {
                return None;
            }
        }
        distinct(&map).then(|| self.node(place, Data::Map(map.into())))
    }

    /// The length of the key that starts here, if one does.
    fn key_len(&self) -> Option<usize> {
        let rest = self.bytes.get(self.at..)?;
        let len = rest.iter().position(|b| !is_key_byte(*b))?;
        let ends = rest.get(len) == Some(&b':') && matches!(rest.get(len + 1), None | Some(b' ' | b'\n'));
        (ends && len > 0 && len <= KEY_MAX).then_some(len)
    }

    fn is_key(&self) -> bool {
        self.key_len().is_some()
    }

    /// A key and its colon.
    fn block_key(&mut self) -> Option<&'t str> {
        let len = self.key_len()?;
        let key = self.text.get(self.at..self.at + len)?;
        self.at += len + 1;
        is_plain_text(key).then_some(key)
    }

    /// A value within its line, for a list or map in this column; goes to the next line.
    fn inline(&mut self, column: usize, depth: usize) -> Option<Node> {
        let place = self.place()?;
        let node = match self.peek()? {
            b'[' | b'{' => self.flow(false, depth)?,
            b'"' | b'\'' => {
                let text = self.quoted()?;
                self.node(place, Data::Scalar(Scalar::String(text.into())))
            }
            _ => {
                let value = self.plain()?;
                self.node(place, Data::Scalar(value))
            }
        };
        self.end_of_line()?;
        // A deeper indented line would continue the scalar.
        (self.is_done() || self.indent <= column).then_some(node)
    }

    /// A plain scalar up to the end of the line or its comment.
    fn plain(&mut self) -> Option<Scalar> {
        let rest = self.text.get(self.at..)?;
        let line = rest.split('\n').next()?;
        let line = line.find(" #").map_or(line, |end| &line[..end]).trim_end_matches(' ');
        if line.contains(": ") || line.ends_with(':') {
            return None;
        }
        self.at += line.len();
        self.meaning(line)
    }

    fn meaning(&self, text: &str) -> Option<Scalar> {
        let (first, second) = (*text.as_bytes().first()?, text.as_bytes().get(1).copied());
        match first {
            b'a'..=b'z' | b'A'..=b'Z' if is_plain_text(text) => Some(text.into()),
            b'/' => Some(text.into()),
            b'~' if second == Some(b'/') => Some(text.into()),
            b'1'..=b'9' if text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse::<u64>().ok().map(|number| Scalar::Number(number.into()))
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => (self.resolve)(text),
            b'-' if second.is_some_and(|b| b.is_ascii_digit()) => (self.resolve)(text),
            b'~' if second.is_none() => (self.resolve)(text),
            _ => None,
        }
    }

    /// A scalar in quotes, within its line.
    fn quoted(&mut self) -> Option<String> {
        let quote = self.peek()?;
        let mut out = String::new();
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..)?;
            let stop = rest.bytes().position(|b| b == quote || b == b'\n' || (b == b'\\' && quote == b'"'))?;
            out.push_str(&rest[..stop]);
            self.at += stop + 1;
            match rest.as_bytes().get(stop..)? {
                [b'\'', b'\'', ..] => {
                    out.push('\'');
                    self.at += 1;
                }
                [b'\\', escaped @ (b'"' | b'\\' | b'/' | b'n' | b't'), ..] => {
                    out.push(match escaped {
                        b'n' => '\n',
                        b't' => '\t',
                        other => char::from(*other),
                    });
                    self.at += 1;
                }
                [b'\\' | b'\n', ..] => return None,
                _ => return Some(out),
            }
        }
    }

    /// A flow collection or a scalar within one; over several lines only where it is the whole text.
    fn flow(&mut self, lines: bool, depth: usize) -> Option<Node> {
        let place = self.place()?;
        match self.peek()? {
            _ if depth > DEPTH_MAX => None,
            b'[' => self.flow_list(place, lines, depth),
            b'{' => self.flow_map(place, lines, depth),
            b'"' | b'\'' => {
                let text = self.quoted()?;
                Some(self.node(place, Data::Scalar(Scalar::String(text.into()))))
            }
            _ => {
                let value = self.flow_plain()?;
                Some(self.node(place, Data::Scalar(value)))
            }
        }
    }

    fn flow_plain(&mut self) -> Option<Scalar> {
        let rest = self.text.get(self.at..)?;
        let len = rest.bytes().position(|b| !(b.is_ascii_alphanumeric() || b"_-./+~*".contains(&b)))?;
        let text = &rest[..len];
        let follows = rest.as_bytes().get(len..)?;
        if !matches!(follows.first(), Some(b',' | b']' | b'}' | b' ' | b'\n')) || text.starts_with('*') {
            return None;
        }
        self.at += len;
        // A plain scalar continues after spaces and line ends, so that one of the marks must be next.
        let next = follows.iter().find(|b| !matches!(b, b' ' | b'\n'));
        if !matches!(next, Some(b',' | b']' | b'}')) {
            return None;
        }
        self.meaning(text)
    }

    /// Spaces within a flow collection, and line ends where they may be.
    fn gap(&mut self, lines: bool) -> Option<()> {
        loop {
            self.spaces();
            match self.peek()? {
                b'\n' if lines => {
                    self.at += 1;
                    self.line = self.line.checked_add(1)?;
                    self.start = self.at;
                    self.spaces();
                    // Marks of documents, directives and comments are none here.
                    if self.column() == 0 && matches!(self.peek(), Some(b'-' | b'.' | b'%')) {
                        return None;
                    }
                }
                b'\n' | b'#' => return None,
                _ => return Some(()),
            }
        }
    }

    fn flow_list(&mut self, place: Place, lines: bool, depth: usize) -> Option<Node> {
        let mut list = Vec::new();
        self.at += 1;
        self.gap(lines)?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Some(self.node(place, Data::List(list.into())));
        }
        loop {
            list.push(self.flow(lines, depth + 1)?);
            self.gap(lines)?;
            let mark = self.peek()?;
            self.at += 1;
            match mark {
                b',' => self.gap(lines)?,
                b']' => return Some(self.node(place, Data::List(list.into()))),
                _ => return None,
            }
        }
    }

    fn flow_map(&mut self, place: Place, lines: bool, depth: usize) -> Option<Node> {
        let mut map: Vec<(Key, Place, Node)> = Vec::new();
        self.at += 1;
        self.gap(lines)?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Some(self.node(place, Data::Map(map.into())));
        }
        loop {
            let key_place = self.place()?;
            let key = match self.peek()? {
                b'"' | b'\'' => {
                    let key = self.quoted()?;
                    if key.is_empty() || key.len() > KEY_MAX || self.peek() != Some(b':') {
                        return None;
                    }
                    self.at += 1;
                    key
                }
                _ => self.block_key()?.to_owned(),
            };
            self.gap(lines)?;
            let value = self.flow(lines, depth + 1)?;
            map.push((shared(&key, &mut self.keys), key_place, value));
            self.gap(lines)?;
            let mark = self.peek()?;
            self.at += 1;
            match mark {
                b',' => self.gap(lines)?,
                b'}' => return distinct(&map).then(|| self.node(place, Data::Map(map.into()))),
                _ => return None,
            }
        }
    }
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Whether a plain scalar that starts with a letter or underscore means its own text, and not a boolean, nothing, or
/// what is not a number.
fn is_plain_text(text: &str) -> bool {
    const WORDS: [&str; 12] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity"];
    let starts_well = match text.as_bytes() {
        [b'_', second, ..] => second.is_ascii_alphabetic() || *second == b'_',
        [first, ..] => first.is_ascii_alphabetic(),
        [] => false,
    };
    starts_well && (text.len() > 8 || !WORDS.iter().any(|word| word.eq_ignore_ascii_case(text)))
}

/// Whether no key stands twice.
fn distinct(map: &[(Key, Place, Node)]) -> bool {
    if map.len() > FEW_KEYS {
        let mut seen = HashSet::with_capacity(map.len());
        return map.iter().all(|(key, ..)| seen.insert(&**key));
    }
    !map.iter().enumerate().any(|(n, (key, ..))| map.iter().take(n).any(|(other, ..)| other == key))
}
