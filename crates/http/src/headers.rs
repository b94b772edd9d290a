//! [`HeaderList`]: fields in their order, over one arena of bytes.

use std::ops::Range;

use crate::token::{eq_field_name, is_token, is_value, list_contains, trim};

/// Header names that the proxy itself acts on; found without comparing text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Name {
    /// Any other name.
    Other,
    /// `Accept`
    Accept,
    /// `Authorization`
    Authorization,
    /// `Connection`
    Connection,
    /// `Content-Length`
    ContentLength,
    /// `Content-Type`
    ContentType,
    /// `Cookie`
    Cookie,
    /// `Date`
    Date,
    /// `Expect`
    Expect,
    /// `Host`
    Host,
    /// `Keep-Alive`
    KeepAlive,
    /// `Proxy`
    Proxy,
    /// `Proxy-Connection`
    ProxyConnection,
    /// `Server`
    Server,
    /// `TE`
    Te,
    /// `Trailer`
    Trailer,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Upgrade`
    Upgrade,
    /// `Via`
    Via,
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `X-Forwarded-Host`
    XForwardedHost,
    /// `X-Forwarded-Port`
    XForwardedPort,
    /// `X-Forwarded-Proto`
    XForwardedProto,
    /// `X-Forwarded-Path`
    XForwardedPath,
    /// `X-Forwarded-Prefix`
    XForwardedPrefix,
    /// `X-Real-IP`
    XRealIp,
    /// A name that has `_` for `-` in one of the names above that the proxy writes itself or that concern a connection
    /// only: `X_Forwarded_For`. Receivers that treat the two characters as equal use it as that name.
    Respelled,
}

impl Name {
    /// Its place in a set of names.
    const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Names of 6 letters.
    const OF_6: [(Self, Key); 4] = [
        (Self::Accept, Key::new(b"accept")),
        (Self::Cookie, Key::new(b"cookie")),
        (Self::Expect, Key::new(b"expect")),
        (Self::Server, Key::new(b"server")),
    ];

    /// Names of 16 letters.
    const OF_16: [(Self, Key); 4] = [
        (Self::XForwardedHost, Key::new(b"x-forwarded-host")),
        (Self::XForwardedPort, Key::new(b"x-forwarded-port")),
        (Self::XForwardedPath, Key::new(b"x-forwarded-path")),
        (Self::ProxyConnection, Key::new(b"proxy-connection")),
    ];

    /// Names of 17 letters.
    const OF_17: [(Self, Key); 2] = [
        (Self::TransferEncoding, Key::new(b"transfer-encoding")),
        (Self::XForwardedProto, Key::new(b"x-forwarded-proto")),
    ];

    /// The name of this token, in any case.
    pub fn of(text: &[u8]) -> Self {
        // Each list is a constant: else it would be put together for each call.
        let candidates: &[(Self, Key)] = match text.len() {
            2 => const { &[(Self::Te, Key::new(b"te"))] },
            3 => const { &[(Self::Via, Key::new(b"via"))] },
            4 => const { &[(Self::Host, Key::new(b"host")), (Self::Date, Key::new(b"date"))] },
            5 => const { &[(Self::Proxy, Key::new(b"proxy"))] },
            6 => &Self::OF_6,
            7 => const { &[(Self::Upgrade, Key::new(b"upgrade")), (Self::Trailer, Key::new(b"trailer"))] },
            9 => const { &[(Self::XRealIp, Key::new(b"x-real-ip"))] },
            10 => const { &[(Self::Connection, Key::new(b"connection")), (Self::KeepAlive, Key::new(b"keep-alive"))] },
            12 => const { &[(Self::ContentType, Key::new(b"content-type"))] },
            13 => const { &[(Self::Authorization, Key::new(b"authorization"))] },
            14 => const { &[(Self::ContentLength, Key::new(b"content-length"))] },
            15 => const { &[(Self::XForwardedFor, Key::new(b"x-forwarded-for"))] },
            16 => &Self::OF_16,
            17 => &Self::OF_17,
            18 => const { &[(Self::XForwardedPrefix, Key::new(b"x-forwarded-prefix"))] },
            _ => return Self::Other,
        };
        let Some(key) = Key::of(text) else { return Self::Other };
        match candidates.iter().find(|(_, known)| *known == key) {
            Some((id, _)) => *id,
            None if key.has_underscore() => Self::respelled(text, candidates),
            None => Self::Other,
        }
    }

    /// [`Name::of`] a text with underscores, of which there are few.
    #[cold]
    fn respelled(text: &[u8], candidates: &[(Self, Key)]) -> Self {
        let dashed: Vec<u8> = text.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
        let key = Key::of(&dashed);
        let known = candidates.iter().find(|(id, known)| Some(*known) == key && *id != Self::ContentType);
        known.map_or(Self::Other, |_| Self::Respelled)
    }
}

/// The letters of a token of 2 to 24 bytes, in lower case, as numbers that overlap where the text is short. Tokens of
/// the same length that are equal but for case have the same key, and others have not: of the characters of tokens only
/// capitals, `^` and `_` lack the bit that is set here, and no known name has what the latter become.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key(u64, u64, u64);

impl Key {
    const CASE: u64 = u64::from_ne_bytes([0x20; 8]);

    /// The key of a known name.
    const fn new(text: &[u8]) -> Self {
        match Self::of(text) {
            Some(key) => key,
            None => panic!("a known name has 2 to 24 bytes"),
        }
    }

    /// Whether the token has a `_`, which with [`Self::CASE`] is the only byte of a token with these seven bits.
    const fn has_underscore(self) -> bool {
        const ONES: u64 = u64::from_ne_bytes([1; 8]);
        const UPPER: u64 = u64::from_ne_bytes([0x80; 8]);
        let Self(first, middle, last) = self;
        (first.wrapping_add(ONES) | middle.wrapping_add(ONES) | last.wrapping_add(ONES)) & UPPER != 0
    }

    const fn of(text: &[u8]) -> Option<Self> {
        let (first, middle, last) = match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
            (Some(first), Some(last)) => {
                let first_word = u64::from_le_bytes(*first);
                let middle = match text.split_at_checked(8) {
                    Some((_, [_, _, _, _, _, _, _, _, _, ..])) => match text.split_at(8).1.first_chunk::<8>() {
                        Some(middle) => u64::from_le_bytes(*middle),
                        None => 0,
                    },
                    _ => 0,
                };
                (first_word, middle, u64::from_le_bytes(*last))
            }
            _ => match (text.first_chunk::<4>(), text.last_chunk::<4>(), text) {
                (Some(first), Some(last), _) => {
                    (u32::from_le_bytes(*first) as u64, 0, u32::from_le_bytes(*last) as u64)
                }
                (_, _, [a, b, c]) => (u32::from_le_bytes([*a, *b, *c, 0]) as u64, 0, 0),
                (_, _, [a, b]) => (u32::from_le_bytes([*a, *b, 0, 0]) as u64, 0, 0),
                _ => return None,
            },
        };
        Some(Self(first | Self::CASE, middle | Self::CASE, last | Self::CASE))
    }
}

/// A field: name and value as places in the arena. When `line_end` is not 0, the bytes from the name to it are the
/// complete line `Name: value\r\n` and may be copied as they are.
#[derive(Clone, Copy, Debug)]
struct Field {
    name: u32,
    name_len: u32,
    value: u32,
    value_len: u32,
    line_end: u32,
    id: Name,
}

impl Field {
    fn name_range(&self) -> Range<usize> {
        self.name as usize..(self.name + self.name_len) as usize
    }

    fn value_range(&self) -> Range<usize> {
        self.value as usize..(self.value + self.value_len) as usize
    }
}

/// Header fields in the order they came, names in the case they came in. Reused from message to message: clearing
/// keeps the memory.
///
/// Names and values that are set must be legal (RFC 9110 section 5): a field that is not is dropped, because it
/// would change the framing of the message; [`HeaderList::append`] reports that.
#[derive(Clone, Debug, Default)]
pub struct HeaderList {
    arena: Vec<u8>,
    fields: Vec<Field>,
    /// Bits of the known names that may occur: that of one that occurs is set.
    seen: u32,
}

/// Offsets are 32 bits wide; heads are limited far below.
const ARENA_MAX: usize = 1 << 30;

impl HeaderList {
    /// An empty list.
    pub const fn new() -> Self {
        Self { arena: Vec::new(), fields: Vec::new(), seen: 0 }
    }

    /// Removes everything, keeping the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.fields.clear();
        self.seen = 0;
    }

    /// Drops the fields from this one on, for the codec; their bytes stay.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.fields.truncate(len);
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Bytes of all fields as lines of HTTP/1.
    pub fn line_bytes(&self) -> usize {
        self.fields.iter().map(|field| field.name_len as usize + field.value_len as usize + ": \r\n".len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Bytes of memory held.
    pub fn capacity(&self) -> usize {
        self.arena.capacity() + self.fields.capacity() * size_of::<Field>()
    }

    /// All fields in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|f| (self.slice(f.name_range()), self.slice(f.value_range())))
    }

    /// All fields in order, with the known among their names.
    pub fn iter_known(&self) -> impl Iterator<Item = (Name, &[u8], &[u8])> {
        self.fields.iter().map(|f| (f.id, self.slice(f.name_range()), self.slice(f.value_range())))
    }

    /// The first value of this name, without regard to case.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The first value as text; `None` when absent or not UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name.as_bytes()).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of this name.
    pub fn get_all<'a>(&'a self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |f| f.name_len as usize == name.len() && self.slice(f.name_range()).eq_ignore_ascii_case(name))
            .map(|f| self.slice(f.value_range()))
    }

    /// All fields of this name in any spelling: without regard to case, and `_` counts as `-`. CGI and its successors
    /// treat these names as equal.
    pub fn spellings<'a>(&'a self, name: &[u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.fields
            .iter()
            .filter(move |f| f.name_len as usize == name.len() && eq_field_name(self.slice(f.name_range()), name))
            .map(|f| (self.slice(f.name_range()), self.slice(f.value_range())))
    }

    /// The first value of a known name.
    pub fn known(&self, name: Name) -> Option<&[u8]> {
        if self.seen & name.bit() == 0 {
            return None;
        }
        self.fields.iter().find(|f| f.id == name).map(|f| self.slice(f.value_range()))
    }

    /// All values of a known name.
    pub fn known_all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let fields: &[Field] = if self.seen & name.bit() == 0 { &[] } else { &self.fields };
        fields.iter().filter(move |f| f.id == name).map(|f| self.slice(f.value_range()))
    }

    /// `false` if none of these names occurs, without looking at the fields. `true` means that one occurs or was
    /// removed.
    #[inline]
    pub fn may_have_known(&self, names: &[Name]) -> bool {
        names.iter().fold(0, |bits, name| bits | name.bit()) & self.seen != 0
    }

    /// Whether the name occurs.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// Whether any value of a known name has this element in its comma-separated list.
    pub fn known_list_contains(&self, name: Name, element: &[u8]) -> bool {
        self.known_all(name).any(|value| list_contains(value, element))
    }

    /// Adds a field at the end, without the spaces around the value, which are no part of it. `false` when the name or
    /// the value is illegal; then nothing changes.
    pub fn append(&mut self, name: &[u8], value: &[u8]) -> bool {
        self.append_parts(name, &[trim(value)])
    }

    /// [`HeaderList::append`] of a field whose name and value are known to be legal. `id` is the name's, as
    /// [`Name::of`] has it. Spaces around the value are left out.
    pub fn append_legal(&mut self, id: Name, name: &[u8], value: &[u8]) -> bool {
        debug_assert!(
            is_token(name) && is_value(value) && id == Name::of(name),
            "a field is not what it is said to be"
        );
        let value = trim(value);
        if self.arena.len() + name.len() + value.len() > ARENA_MAX {
            return false;
        }
        self.push_line(id, name, value);
        true
    }

    /// Adds a legal field as a complete line.
    #[inline]
    fn push_line(&mut self, id: Name, name: &[u8], value: &[u8]) {
        let start = self.arena.len();
        self.arena.reserve(name.len() + value.len() + 4);
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(b": ");
        self.arena.extend_from_slice(value);
        self.arena.extend_from_slice(b"\r\n");
        self.push_field(id, start, name.len(), start + name.len() + 2, value.len(), self.arena.len());
    }

    /// [`HeaderList::append`] of a value in parts.
    pub fn append_parts(&mut self, name: &[u8], parts: &[&[u8]]) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if !is_token(name)
            || !parts.iter().all(|part| is_value(part))
            || self.arena.len() + name.len() + len > ARENA_MAX
        {
            return false;
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(b": ");
        let value_start = self.arena.len();
        for part in parts {
            self.arena.extend_from_slice(part);
        }
        self.arena.extend_from_slice(b"\r\n");
        self.push_field(Name::of(name), start, name.len(), value_start, len, self.arena.len());
        true
    }

    /// [`HeaderList::set`] of a field that is legal by construction, at the end: the proxy's own.
    pub fn set_own(&mut self, name: &[u8], value: &[u8]) {
        debug_assert!(is_token(name) && is_value(value), "a field of the proxy's own is malformed");
        if self.position(name).is_some() {
            self.remove(name);
        }
        self.push_line(Name::of(name), name, value);
    }

    /// [`HeaderList::append_parts`] of a field that is legal by construction: the proxy's own. `id` is the name's, as
    /// [`Name::of`] has it.
    pub fn append_own(&mut self, id: Name, name: &[u8], parts: &[&[u8]]) {
        debug_assert!(
            is_token(name) && parts.iter().all(|part| is_value(part)) && id == Name::of(name),
            "a field of the proxy's own is malformed"
        );
        let start = self.arena.len();
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(b": ");
        let value_start = self.arena.len();
        for part in parts {
            self.arena.extend_from_slice(part);
        }
        let value_len = self.arena.len() - value_start;
        self.arena.extend_from_slice(b"\r\n");
        self.push_field(id, start, name.len(), value_start, value_len, self.arena.len());
    }

    /// Removes all fields of the name and adds one at the place of the first, or at the end.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> bool {
        let first = self.position(name);
        if !self.append(name, value) {
            return false;
        }
        if let Some(at) = first
            && let Some(new) = self.fields.pop()
        {
            self.fields.retain_after_removal(&self.arena, name);
            self.fields.insert(at.min(self.fields.len()), new);
        }
        true
    }

    /// [`HeaderList::set`] of a known name, which does nothing when this is the name's only value already.
    pub fn set_known(&mut self, id: Name, name: &[u8], value: &[u8]) {
        debug_assert!(id == Name::of(name), "a name is not what it is said to be");
        let is_set = {
            let mut values = self.known_all(id);
            values.next() == Some(value) && values.next().is_none()
        };
        if !is_set {
            self.set(name, value);
        }
    }

    /// Removes all fields of the name; returns whether there were any.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let before = self.fields.len();
        self.fields.retain_after_removal(&self.arena, name);
        before != self.fields.len()
    }

    /// Removes all fields of these names in any spelling: see [`HeaderList::spellings`].
    pub fn remove_spellings(&mut self, names: &[&[u8]]) {
        // Most names differ from all of these in their length.
        let bit = |name: &[u8]| 1_u64 << (name.len() & 63);
        let lengths = names.iter().fold(0, |lengths, name| lengths | bit(name));
        self.remove_if(|_, name, _| lengths & bit(name) != 0 && names.iter().any(|known| eq_field_name(name, known)));
    }

    /// [`HeaderList::set`] of a name that is not to be there in another spelling either. Without a legal value there is
    /// no such field afterwards.
    pub fn set_only(&mut self, name: &[u8], value: &[u8]) -> bool {
        self.remove_spellings(&[name]);
        self.append(name, value)
    }

    /// Removes all fields of a known name; returns whether there were any.
    pub fn remove_known(&mut self, name: Name) -> bool {
        let before = self.fields.len();
        if self.seen & name.bit() != 0 {
            self.fields.retain(|f| f.id != name);
        }
        before != self.fields.len()
    }

    /// Removes the fields for which `dead` is true.
    pub fn remove_if(&mut self, mut dead: impl FnMut(Name, &[u8], &[u8]) -> bool) {
        let arena = &self.arena;
        let slice = |range: Range<usize>| arena.get(range).unwrap_or_default();
        self.fields.retain(|f| !dead(f.id, slice(f.name_range()), slice(f.value_range())));
    }

    /// Renames all fields of the name; returns whether there were any.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> bool {
        if !is_token(to) {
            return false;
        }
        let mut renamed = false;
        for at in 0..self.fields.len() {
            let Some(field) = self.fields.get(at).copied() else { break };
            if !self.slice(field.name_range()).eq_ignore_ascii_case(from) {
                continue;
            }
            let value = self.slice(field.value_range()).to_vec();
            if self.append(to, &value)
                && let Some(new) = self.fields.pop()
                && let Some(slot) = self.fields.get_mut(at)
            {
                *slot = new;
                renamed = true;
            }
        }
        renamed
    }

    /// Writes all fields as HTTP/1 lines. Unchanged neighbours are copied as one run.
    pub fn write_h1(&self, out: &mut Vec<u8>) {
        self.write_h1_if(out, |_, _| true);
    }

    /// The same, for the fields for which `keep` is true.
    pub fn write_h1_if(&self, out: &mut Vec<u8>, mut keep: impl FnMut(Name, &[u8]) -> bool) {
        let mut run: Option<(usize, usize)> = None;
        for field in &self.fields {
            if !keep(field.id, self.slice(field.name_range())) {
                continue;
            }
            let (start, end) = (field.name as usize, field.line_end as usize);
            run = match run {
                Some((from, to)) if end != 0 && to == start => Some((from, end)),
                other => {
                    if let Some((from, to)) = other {
                        out.extend_from_slice(self.slice(from..to));
                    }
                    if end != 0 {
                        Some((start, end))
                    } else {
                        self.write_field(field, out);
                        None
                    }
                }
            };
        }
        if let Some((from, to)) = run {
            out.extend_from_slice(self.slice(from..to));
        }
    }

    fn write_field(&self, field: &Field, out: &mut Vec<u8>) {
        out.extend_from_slice(self.slice(field.name_range()));
        out.extend_from_slice(b": ");
        out.extend_from_slice(self.slice(field.value_range()));
        out.extend_from_slice(b"\r\n");
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.fields
            .iter()
            .position(|f| f.name_len as usize == name.len() && self.slice(f.name_range()).eq_ignore_ascii_case(name))
    }

    #[inline]
    fn slice(&self, range: Range<usize>) -> &[u8] {
        self.arena.get(range).unwrap_or_default()
    }

    /// Copies bytes into the arena; returns where they start. For the codec, which then adds fields that point there.
    pub(crate) fn push_raw(&mut self, bytes: &[u8]) -> usize {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        start
    }

    /// How many bytes the arena has.
    pub(crate) fn raw_len(&self) -> usize {
        self.arena.len()
    }

    /// Bytes of the arena.
    pub(crate) fn raw(&self, range: Range<usize>) -> &[u8] {
        self.slice(range)
    }

    #[allow(clippy::cast_possible_truncation, reason = "the arena is limited to ARENA_MAX")]
    #[allow(clippy::too_many_arguments, reason = "places of one field, called by the codec only")]
    pub(crate) fn push_field(
        &mut self,
        id: Name,
        name: usize,
        name_len: usize,
        value: usize,
        value_len: usize,
        line_end: usize,
    ) {
        self.seen |= id.bit();
        self.fields.push(Field {
            name: name as u32,
            name_len: name_len as u32,
            value: value as u32,
            value_len: value_len as u32,
            line_end: line_end as u32,
            id,
        });
    }
}

trait RetainAfterRemoval {
    fn retain_after_removal(&mut self, arena: &[u8], name: &[u8]);
}

impl RetainAfterRemoval for Vec<Field> {
    fn retain_after_removal(&mut self, arena: &[u8], name: &[u8]) {
        self.retain(|f| {
            f.name_len as usize != name.len()
                || !arena.get(f.name_range()).unwrap_or_default().eq_ignore_ascii_case(name)
        });
    }
}

impl<'a> FromIterator<(&'a [u8], &'a [u8])> for HeaderList {
    /// Illegal fields are left out.
    fn from_iter<I: IntoIterator<Item = (&'a [u8], &'a [u8])>>(fields: I) -> Self {
        let mut list = Self::new();
        for (name, value) in fields {
            list.append(name, value);
        }
        list
    }
}

/// Whether a field's name is `name`, which is lower-case with dashes: `_` counts as `-`, as many servers take one for the
/// other. What grants or denies by a field uses this, so that no spelling is missed.
pub fn is_called(field: &[u8], name: &[u8]) -> bool {
    let is_same =
        |(sent, wanted): (&u8, &u8)| sent.to_ascii_lowercase() == *wanted || (*sent == b'_' && *wanted == b'-');
    field.len() == name.len() && field.iter().zip(name).all(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Name, &str); 25] = [
        (Name::Accept, "Accept"),
        (Name::Authorization, "Authorization"),
        (Name::Connection, "Connection"),
        (Name::ContentLength, "Content-Length"),
        (Name::ContentType, "Content-Type"),
        (Name::Cookie, "Cookie"),
        (Name::Date, "Date"),
        (Name::Expect, "Expect"),
        (Name::Host, "Host"),
        (Name::KeepAlive, "Keep-Alive"),
        (Name::Proxy, "Proxy"),
        (Name::ProxyConnection, "Proxy-Connection"),
        (Name::Server, "Server"),
        (Name::Te, "TE"),
        (Name::Trailer, "Trailer"),
        (Name::TransferEncoding, "Transfer-Encoding"),
        (Name::Upgrade, "Upgrade"),
        (Name::Via, "Via"),
        (Name::XForwardedFor, "X-Forwarded-For"),
        (Name::XForwardedHost, "X-Forwarded-Host"),
        (Name::XForwardedPort, "X-Forwarded-Port"),
        (Name::XForwardedProto, "X-Forwarded-Proto"),
        (Name::XForwardedPath, "X-Forwarded-Path"),
        (Name::XForwardedPrefix, "X-Forwarded-Prefix"),
        (Name::XRealIp, "X-Real-IP"),
    ];

    #[test]
    fn the_size_of_lines_is_that_of_what_is_written() {
        let mut list = HeaderList::new();
        for (name, value) in [("Host", "a.example"), ("X-Empty", ""), ("Via", "1.1 a")] {
            assert!(list.append(name.as_bytes(), value.as_bytes()));
        }
        list.set(b"via", b"2 b, 1.1 a");
        list.remove(b"host");
        let mut out = Vec::new();
        list.write_h1(&mut out);
        assert_eq!(list.line_bytes(), out.len());
    }

    #[test]
    fn fields_are_found_in_any_spelling() {
        let mut list: HeaderList = [("X-A-B", "1"), ("x_a-b", "2"), ("X_A_B", "3"), ("X-A-Bc", "4"), ("XA-B-", "5")]
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let values = |list: &HeaderList| list.spellings(b"x-a-b").map(|(_, value)| value[0]).collect::<Vec<u8>>();
        assert_eq!(values(&list), b"123");
        assert!(list.set_only(b"X-A-B", b"6"));
        assert_eq!(values(&list), b"6");
        list.remove_spellings(&[b"x_a_b", b"xa_b_"]);
        assert_eq!(list.iter().collect::<Vec<_>>(), [(&b"X-A-Bc"[..], &b"4"[..])]);
        assert!(!list.set_only(b"x-a-bc", b"\n") && list.is_empty());
    }

    #[test]
    fn known_names_are_known_in_any_case_and_by_nothing_else() {
        for (name, text) in ALL {
            for text in [text.to_owned(), text.to_ascii_lowercase(), text.to_ascii_uppercase()] {
                assert_eq!(Name::of(text.as_bytes()), name, "{text}");
            }
            let token = (0..=255).filter(|byte| crate::token::is_tchar(*byte));
            for (at, byte) in (0..text.len()).flat_map(|at| token.clone().map(move |byte| (at, byte))) {
                let mut other = text.as_bytes().to_vec();
                other[at] = byte;
                let is_own = name != Name::ContentType;
                let expect = match () {
                    () if other.eq_ignore_ascii_case(text.as_bytes()) => name,
                    () if is_own && eq_field_name(&other, text.as_bytes()) => Name::Respelled,
                    () => Name::Other,
                };
                assert_eq!(Name::of(&other), expect, "{}", String::from_utf8_lossy(&other));
            }
        }
        for text in ["X_Forwarded_For", "x_forwarded-proto", "x-real_ip", "Transfer_Encoding", "content_LENGTH"] {
            assert_eq!(Name::of(text.as_bytes()), Name::Respelled, "{text}");
        }
        for text in ["content_type", "x_forwarded_foo", "user_agent", "___________________", "_"] {
            assert_eq!(Name::of(text.as_bytes()), Name::Other, "{text}");
        }
        for text in ["", "a", "ab", "x-forwarded-", "x-forwarded-prefixes", &"x".repeat(100)] {
            assert_eq!(Name::of(text.as_bytes()), Name::Other, "{text}");
        }
    }
}
