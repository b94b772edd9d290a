//! The dynamic table (RFC 7541 sections 2.3.2 and 4).

use std::collections::VecDeque;

use super::{ENTRY_OVERHEAD, Pseudo};
use crate::headers::Name;
use crate::token::{is_tchar, is_value};

/// What was found out about a field once, so that it need not be found out each time it is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) known: Name,
    pub(super) pseudo: Option<Pseudo>,
    pub(super) legal_name: bool,
    pub(super) legal_value: bool,
}

impl Label {
    /// That of a field of this name and a legal value.
    pub(super) fn of(name: &[u8]) -> Self {
        let pseudo = Pseudo::of(name);
        let token = if pseudo.is_some() { name.get(1..).unwrap_or_default() } else { name };
        let legal_name = !token.is_empty() && token.iter().all(|b| is_tchar(*b) && !b.is_ascii_uppercase());
        Self { known: if legal_name { Name::of(name) } else { Name::Other }, pseudo, legal_name, legal_value: true }
    }

    pub(super) fn with_value(self, value: &[u8]) -> Self {
        Self { legal_value: is_value(value), ..self }
    }
}

/// Fields in the order they were inserted, over one vector of bytes. Names and values are each in one piece: what is
/// inserted goes to the end of the vector, and the bytes of entries that have gone are taken out in front when there
/// are more of them than the table may hold. So a byte is moved about once in its life.
pub(super) struct Table {
    bytes: Vec<u8>,
    /// The oldest first.
    entries: VecDeque<Entry>,
    /// In RFC accounting.
    size: usize,
    max: usize,
    /// How many there have been, counted from 1: the number of the next.
    next: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    name_len: u32,
    value_len: u32,
    label: Label,
}

impl Entry {
    fn size(&self) -> usize {
        self.name_len as usize + self.value_len as usize + ENTRY_OVERHEAD
    }
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), entries: VecDeque::new(), size: 0, max, next: 1 }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Bytes of memory held.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Sets how large it may be, and lets go what is too much.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict(max);
    }

    /// Name, value and label of an entry; the newest is 0.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8], Label)> {
        let at = self.entries.len().checked_sub(index)?.checked_sub(1)?;
        let entry = self.entries.get(at)?;
        let (_, rest) = self.bytes.split_at_checked(entry.start as usize)?;
        let (name, rest) = rest.split_at_checked(entry.name_len as usize)?;
        let (value, _) = rest.split_at_checked(entry.value_len as usize)?;
        Some((name, value, entry.label))
    }

    /// The index of the entry of this number, if it is still there. After some billions of entries another may have
    /// the number.
    pub(super) fn index_of(&self, number: u32) -> Option<usize> {
        let index = self.next.wrapping_sub(number).wrapping_sub(1) as usize;
        (index < self.entries.len()).then_some(index)
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
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        let entry = Entry { start: start as u32, name_len: name.len() as u32, value_len: value.len() as u32, label };
        self.entries.push_back(entry);
        self.size += size;
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    /// Writes the name of the newest entry in lower case.
    pub(super) fn lower_newest(&mut self) {
        let Some(entry) = self.entries.back() else { return };
        let (start, end) = (entry.start as usize, (entry.start + entry.name_len) as usize);
        if let Some(name) = self.bytes.get_mut(start..end) {
            name.make_ascii_lowercase();
        }
    }

    /// Lets the oldest go until there is no more than this.
    fn evict(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_front() else { break };
            self.size -= entry.size();
        }
        if self.entries.is_empty() {
            self.bytes.clear();
        }
    }

    #[cold]
    fn compact(&mut self) {
        let dead = self.entries.front().map_or(0, |oldest| oldest.start);
        self.bytes.drain(..dead as usize);
        for entry in &mut self.entries {
            entry.start -= dead;
        }
    }
}
