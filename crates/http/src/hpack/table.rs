//! The dynamic table (RFC 7541 sections 2.3.2 and 4).

use super::{ENTRY_OVERHEAD, Pseudo};
use crate::headers::Name;
use crate::token::{is_lower_token, is_value};

/// What was found out about a field once, so that it need not be found out each time it is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) known: Name,
    pub(super) pseudo: Option<Pseudo>,
    /// Bits [`LEGAL_NAME`] and [`LEGAL_VALUE`].
    legal: u8,
    /// The encoder's number for the name; 0 for the decoder.
    pub(super) id: u8,
}

const LEGAL_NAME: u8 = 1;
const LEGAL_VALUE: u8 = 2;

impl Label {
    /// That of a legal field.
    pub(super) const fn legal(known: Name, pseudo: Option<Pseudo>, id: u8) -> Self {
        Self { known, pseudo, legal: LEGAL_NAME | LEGAL_VALUE, id }
    }

    /// That of a field of this name and a legal value.
    pub(super) fn of(name: &[u8]) -> Self {
        let pseudo = Pseudo::of(name);
        let token = if pseudo.is_some() { name.get(1..).unwrap_or_default() } else { name };
        if !is_lower_token(token) {
            return Self { known: Name::Other, pseudo, legal: LEGAL_VALUE, id: 0 };
        }
        Self::legal(Name::of(name), pseudo, 0)
    }

    #[inline]
    pub(super) fn with_value(self, value: &[u8]) -> Self {
        let padded = matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
        let legal = self.legal & LEGAL_NAME | if is_value(value) && !padded { LEGAL_VALUE } else { 0 };
        Self { legal, ..self }
    }

    #[inline]
    pub(super) fn is_legal(self) -> bool {
        self.legal == LEGAL_NAME | LEGAL_VALUE
    }
}

/// Fields in the order they were inserted, over one vector of bytes. Names and values are each in one piece: what is
/// inserted goes to the end of the vector, and the bytes of entries that have gone are taken out in front when there
/// are more of them than the table may hold. So a byte is moved about once.
///
/// Entries have numbers, by which the encoder finds them again. After some billions of entries the numbers start
/// over: what is found is compared.
pub(super) struct Table {
    bytes: Vec<u8>,
    /// The entry of each number is at its remainder; the length is a power of two.
    ring: Vec<Entry>,
    /// The number of the oldest, and that of the next.
    first: u32,
    next: u32,
    /// In RFC accounting.
    size: usize,
    max: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    name_len: u32,
    value_len: u32,
    label: Label,
}

const NOTHING: Entry = Entry { start: 0, name_len: 0, value_len: 0, label: Label::legal(Name::Other, None, 0) };

/// An entry as it is found: name, value and label.
pub(super) type Found<'t> = (&'t [u8], &'t [u8], Label);

impl Table {
    pub(super) fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), ring: Vec::new(), first: 1, next: 1, size: 0, max }
    }

    #[inline]
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Bytes of memory held.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity() + self.ring.capacity() * size_of::<Entry>()
    }

    /// Sets how large it may be, and lets go what is too much.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict(max);
    }

    /// The entry of this index; the newest has 0.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "a table has far fewer entries than 2^32")]
    pub(super) fn get(&self, index: usize) -> Option<Found<'_>> {
        if index >= self.len() {
            return None;
        }
        let number = self.next.wrapping_sub(1).wrapping_sub(index as u32);
        let entry = self.ring.get(number as usize & self.ring.len().wrapping_sub(1))?;
        let (start, len) = (entry.start as usize, entry.name_len as usize + entry.value_len as usize);
        let (name, value) = self.bytes.get(start..start + len)?.split_at_checked(entry.name_len as usize)?;
        Some((name, value, entry.label))
    }

    /// The index of the entry of this number, if it is still there.
    #[inline(always)]
    pub(super) fn index_of(&self, number: u32) -> Option<usize> {
        let index = self.next.wrapping_sub(1).wrapping_sub(number) as usize;
        (index < self.len()).then_some(index)
    }

    /// Adds an entry, whose number is returned; lets go what it displaces. One that is larger than the table leaves
    /// nothing, not even itself (RFC 7541 section 4.4).
    #[allow(clippy::cast_possible_truncation, reason = "tables are limited far below 4 GiB")]
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8], label: Label) -> u32 {
        let len = name.len() + value.len();
        let size = len + ENTRY_OVERHEAD;
        if size > self.max {
            self.evict(0);
            return 0;
        }
        self.evict(self.max - size);
        if self.bytes.len() + len > 2 * self.max {
            self.compact();
        }
        if self.len() == self.ring.len() {
            self.grow();
        }
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        let number = self.next;
        if let Some(slot) = self.slot(number) {
            *slot = Entry { start, name_len: name.len() as u32, value_len: value.len() as u32, label };
        }
        self.size += size;
        self.next = number.wrapping_add(1);
        number
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.next.wrapping_sub(self.first) as usize
    }

    /// The place of a number; `None` while there are no places.
    fn slot(&mut self, number: u32) -> Option<&mut Entry> {
        let mask = self.ring.len().wrapping_sub(1);
        self.ring.get_mut(number as usize & mask)
    }

    /// Lets the oldest go until there is no more than this.
    fn evict(&mut self, size: usize) {
        while self.size > size && self.len() > 0 {
            let Some(entry) = self.slot(self.first).copied() else { break };
            self.size -= entry.name_len as usize + entry.value_len as usize + ENTRY_OVERHEAD;
            self.first = self.first.wrapping_add(1);
        }
        if self.len() == 0 {
            self.bytes.clear();
        }
    }

    #[cold]
    fn compact(&mut self) {
        let dead = if self.len() == 0 { 0 } else { self.slot(self.first).map_or(0, |entry| entry.start) };
        self.bytes.drain(..dead as usize);
        let mut number = self.first;
        while number != self.next {
            if let Some(entry) = self.slot(number) {
                entry.start -= dead;
            }
            number = number.wrapping_add(1);
        }
    }

    /// Makes the ring twice as large.
    #[cold]
    fn grow(&mut self) {
        let larger = vec![NOTHING; (self.ring.len() * 2).max(8)];
        let smaller = std::mem::replace(&mut self.ring, larger);
        let mask = smaller.len().wrapping_sub(1);
        let mut number = self.first;
        for _ in 0..smaller.len() {
            if let (Some(slot), Some(entry)) = (self.slot(number), smaller.get(number as usize & mask)) {
                *slot = *entry;
            }
            number = number.wrapping_add(1);
        }
    }
}
