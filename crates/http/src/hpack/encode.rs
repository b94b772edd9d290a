//! [`Encoder`]: fields in, header blocks out.

use super::known::KNOWN;
use super::rules::{self, Habit, ID_AUTHORITY, ID_METHOD, IDS, field_hash, name_hash, same_name};
use super::table::{Label, Table};
use super::{ENTRY_OVERHEAD, TABLE_DEFAULT};
use crate::headers::Name;

/// Writes the header blocks of one connection: [`Encoder::start`], then the pseudo-header fields, then the others.
///
/// A field that comes the second time goes into the table, and is an index from then on: found with one comparison
/// while its value stays, and with one hash and one more comparison else. So what differs from message to message does
/// not push out what repeats, and needs no list of names, although the usual ones are known. A name that comes again,
/// with whatever value, is an index too. Secrets never go into the table.
///
/// Strings are not in the Huffman code. Of a date, a path, a request id and a length, 110 bytes, it would save 30, and
/// cost 2,000 instructions (with a table of codes and a register of 64 bits), as much as ten fields; copying them costs
/// 250. What repeats is in the table either way.
pub struct Encoder {
    table: Table,
    /// What the table is to be at the next block, and the least that it was to be since the last one.
    target: usize,
    lowest: usize,
    /// An entry of more than this, in RFC accounting, is not worth its place.
    entry_max: usize,
    seen: Box<Seen>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// With a table of [`TABLE_DEFAULT`].
    pub fn new() -> Self {
        Self {
            table: Table::new(TABLE_DEFAULT),
            target: TABLE_DEFAULT,
            lowest: TABLE_DEFAULT,
            entry_max: entry_max(TABLE_DEFAULT),
            seen: Box::default(),
        }
    }

    /// The peer's `SETTINGS_HEADER_TABLE_SIZE`. Takes effect with the next block; we use no more than
    /// [`TABLE_DEFAULT`].
    pub fn set_table_max(&mut self, peer: u32) {
        self.target = TABLE_DEFAULT.min(peer as usize);
        self.lowest = self.lowest.min(self.target);
    }

    /// Bytes of memory held: at most twice what the table may hold, rounded up to what vectors allocate, its entries,
    /// and somewhat over 1 KiB.
    pub fn capacity(&self) -> usize {
        self.table.capacity() + size_of::<Seen>()
    }

    /// Starts a block: signals changes of the table's size (RFC 7541 section 4.2).
    pub fn start(&mut self, out: &mut Vec<u8>) {
        if self.lowest == self.table.max() && self.target == self.lowest {
            return;
        }
        for size in [self.lowest, self.target] {
            if size != self.table.max() {
                self.table.resize(size);
                write_number(out, 0x20, 0x1f, size);
            }
        }
        self.lowest = self.target;
        self.entry_max = entry_max(self.target);
    }

    /// `:status`, of three digits.
    pub fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                debug_assert!((100..1000).contains(&status), "no status");
                let digit = |value: u16| b'0' + (value % 10) as u8;
                out.extend_from_slice(&[8, 3, digit(status / 100), digit(status / 10), digit(status)]);
                return;
            }
        };
        out.push(0x80 | index);
    }

    /// `:method`
    pub fn method(&mut self, method: &[u8], out: &mut Vec<u8>) {
        match method {
            b"GET" => out.push(0x82),
            b"POST" => out.push(0x83),
            _ => self.write(&Wanted::pseudo(ID_METHOD, b":method"), method, out),
        }
    }

    /// `:scheme`
    pub fn scheme(&mut self, https: bool, out: &mut Vec<u8>) {
        out.push(if https { 0x87 } else { 0x86 });
    }

    /// `:authority`
    pub fn authority(&mut self, authority: &[u8], out: &mut Vec<u8>) {
        self.write(&Wanted::pseudo(ID_AUTHORITY, b":authority"), authority, out);
    }

    /// `:path`, which does not go into the table: it may hold secrets, and paths that come again would not stay long.
    pub fn path(&mut self, path: &[u8], out: &mut Vec<u8>) {
        match path {
            b"/" => out.push(0x84),
            _ => {
                out.push(4);
                write_string(out, path);
            }
        }
    }

    /// A field that is not a pseudo-header field. The name is a token in any case, and `known` must be [`Name::of`] it
    /// or [`Name::Other`].
    pub fn field(&mut self, known: Name, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let rule = rules::of_id(known as u8);
        if rule.habit == Habit::Varies {
            return literal(PLAIN, usize::from(rule.index), name, value, out);
        }
        self.write(&Wanted::of(known, name), value, out);
    }

    /// A field that came with [`super::Field::sensitive`], or is known to be a secret.
    pub fn sensitive(&mut self, known: Name, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let wanted = Wanted::of(known, name);
        let entry = self.latest(&wanted).map(|(index, _, label)| (index, label));
        let sort = wanted.sort(entry);
        literal(NEVER, sort.name_index, name, value, out);
    }

    #[inline(always)]
    fn write(&mut self, wanted: &Wanted<'_>, value: &[u8], out: &mut Vec<u8>) {
        let entry = match self.latest(wanted) {
            // Most often it is what it was.
            Some((index, latest, _)) if latest == value => return write_number(out, 0x80, 0x7f, FIRST + index),
            Some((index, _, label)) => Some((index, label)),
            None => None,
        };
        self.write_changed(wanted, entry, value, out);
    }

    /// Index, value and label of the entry that was last used for this name.
    #[inline(always)]
    fn latest(&self, wanted: &Wanted<'_>) -> Option<(usize, &[u8], Label)> {
        let index = self.table.index_of(self.seen.latest(wanted))?;
        let (name, value, label) = self.table.get(index)?;
        wanted.is(name, label).then_some((index, value, label))
    }

    /// A field that is not the same as the last of its name, for which there may be an entry.
    #[inline(never)]
    fn write_changed(&mut self, wanted: &Wanted<'_>, entry: Option<(usize, Label)>, value: &[u8], out: &mut Vec<u8>) {
        let sort = wanted.sort(entry);
        match sort.habit {
            Habit::Varies => _ = self.varying(wanted, sort, value, out),
            Habit::Repeats => self.repeating(wanted, sort, value, out),
            Habit::Cookie if value.len() >= COOKIE_MIN => literal(PLAIN, sort.name_index, wanted.name, value, out),
            Habit::Cookie | Habit::Secret => literal(NEVER, sort.name_index, wanted.name, value, out),
        }
    }

    /// A field whose value may come again.
    fn repeating(&mut self, wanted: &Wanted<'_>, sort: Sort, value: &[u8], out: &mut Vec<u8>) {
        if wanted.size(value) > self.entry_max {
            return literal(PLAIN, sort.name_index, wanted.name, value, out);
        }
        let hash = field_hash(wanted.hash, value);
        let number = match self.seen.look(hash) {
            Some(number) => {
                if let Some(index) = self.table.index_of(number)
                    && let Some((name, old, label)) = self.table.get(index)
                    && wanted.is(name, label)
                    && old == value
                {
                    self.seen.set_latest(wanted, number, &self.table);
                    return write_number(out, 0x80, 0x7f, FIRST + index);
                }
                self.insert(wanted, sort, value, out)
            }
            None => self.varying(wanted, sort, value, out),
        };
        self.seen.note(hash, number, &self.table);
    }

    /// A field whose value is not worth a place, unless its name is. The number of its entry if it became one.
    #[inline(always)]
    fn varying(&mut self, wanted: &Wanted<'_>, sort: Sort, value: &[u8], out: &mut Vec<u8>) -> u32 {
        if sort.name_index == 0 && wanted.size(value) <= self.entry_max {
            if wanted.id != 0 || self.seen.look(wanted.hash).is_some() {
                return self.insert(wanted, sort, value, out);
            }
            self.seen.note(wanted.hash, 0, &self.table);
        }
        literal(PLAIN, sort.name_index, wanted.name, value, out);
        0
    }

    /// Writes a field out and puts it into the table.
    fn insert(&mut self, wanted: &Wanted<'_>, sort: Sort, value: &[u8], out: &mut Vec<u8>) -> u32 {
        literal(INSERT, sort.name_index, wanted.name, value, out);
        let number = self.table.insert(wanted.name, value, Label::legal(Name::Other, None, sort.id));
        self.seen.set_latest(wanted, number, &self.table);
        number
    }
}

/// The index of the newest entry.
const FIRST: usize = KNOWN + 1;

/// Forms of fields that are written out, and the bits of their first bytes that hold the name's index (RFC 7541 section
/// 6.2).
const INSERT: (u8, u8) = (0x40, 0x3f);
const PLAIN: (u8, u8) = (0x00, 0x0f);
const NEVER: (u8, u8) = (0x10, 0x0f);

/// Cookies shorter than this may be guessed.
const COOKIE_MIN: usize = 20;

/// Values of more than some 250 bytes are rare and seldom the same; and no entry is to push out many others.
fn entry_max(table_max: usize) -> usize {
    (table_max / 4).min(ENTRY_OVERHEAD + 32 + 256)
}

/// Entries of other names are known by their place among the [`rules`], from this number on.
const ID_RULES: u8 = 32;
const _: () = assert!(ID_RULES as usize == IDS);

/// The name of a field that is to be written.
struct Wanted<'x> {
    name: &'x [u8],
    /// 0 for [`Name::Other`], which is identified by hash and text.
    id: u8,
    hash: u64,
}

impl<'x> Wanted<'x> {
    #[inline(always)]
    fn of(known: Name, name: &'x [u8]) -> Self {
        // Many names are respelled ones.
        let id = if known == Name::Respelled { 0 } else { known as u8 };
        Self { name, id, hash: if id == 0 { name_hash(name) } else { u64::from(id) << 32 } }
    }

    fn pseudo(id: u8, name: &'static [u8]) -> Self {
        Self { name, id, hash: u64::from(id) << 32 }
    }

    fn size(&self, value: &[u8]) -> usize {
        self.name.len() + value.len() + ENTRY_OVERHEAD
    }

    /// Whether an entry has this name.
    #[inline(always)]
    fn is(&self, name: &[u8], label: Label) -> bool {
        if self.id == 0 { same_name(name, self.name) } else { label.id == self.id }
    }

    /// How it is written, by the index and label of an entry of its name if there is one.
    #[inline(always)]
    fn sort(&self, entry: Option<(usize, Label)>) -> Sort {
        let (id, rule) = match entry {
            _ if self.id != 0 => (self.id, rules::of_id(self.id)),
            Some((_, label)) => (label.id, rules::at(label.id.saturating_sub(ID_RULES))),
            None => match rules::of(self.name, self.hash) {
                (0, rule) => (0, rule),
                (place, rule) => (ID_RULES + place, rule),
            },
        };
        let name_index = match entry {
            Some((index, _)) if rule.index == 0 => FIRST + index,
            _ => usize::from(rule.index),
        };
        Sort { id, habit: rule.habit, name_index }
    }
}

/// How a field is written.
#[derive(Clone, Copy)]
struct Sort {
    id: u8,
    habit: Habit,
    /// The index of an entry with its name, or 0.
    name_index: usize,
}

/// What has come lately: by the hash of a field the number of its entry, and by that of a name the number of the entry
/// that was last used for it. There are two places for each hash; what finds none free is forgotten.
struct Seen {
    sets: [[Slot; 2]; SETS],
    /// By the number of the name.
    known: [u32; IDS],
}

const SETS: usize = 64;

impl Default for Seen {
    fn default() -> Self {
        Self { sets: [[Slot::default(); 2]; SETS], known: [0; IDS] }
    }
}

#[derive(Clone, Copy, Default)]
struct Slot {
    tag: u32,
    /// 0 when it has no entry.
    number: u32,
}

impl Seen {
    /// The number of the hash's entry, 0 if it has come but has none.
    #[inline(always)]
    fn look(&self, hash: u64) -> Option<u32> {
        let (set, tag) = place(hash);
        let [first, second] = self.sets.get(set)?;
        if first.tag == tag {
            Some(first.number)
        } else if second.tag == tag {
            Some(second.number)
        } else {
            None
        }
    }

    fn note(&mut self, hash: u64, number: u32, table: &Table) {
        let (set, tag) = place(hash);
        let Some([one, other]) = self.sets.get_mut(set) else { return };
        let free = |slot: &Slot| table.index_of(slot.number).is_none();
        // Of two that are free, not always the same, so that what varies seldom makes forgotten what repeats.
        let (one, other) = if tag & 2 == 0 { (one, other) } else { (other, one) };
        let slot = if one.tag == tag || (other.tag != tag && free(one)) {
            one
        } else if other.tag == tag || free(other) {
            other
        } else {
            return;
        };
        *slot = Slot { tag, number };
    }

    /// The number of the entry that was last used for this name, or 0.
    #[inline(always)]
    fn latest(&self, wanted: &Wanted<'_>) -> u32 {
        if wanted.id == 0 {
            self.look(wanted.hash).unwrap_or(0)
        } else {
            self.known.get(usize::from(wanted.id)).copied().unwrap_or(0)
        }
    }

    fn set_latest(&mut self, wanted: &Wanted<'_>, number: u32, table: &Table) {
        if wanted.id == 0 {
            self.note(wanted.hash, number, table);
        } else if let Some(latest) = self.known.get_mut(usize::from(wanted.id)) {
            *latest = number;
        }
    }
}

/// The set and the tag of a hash.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "some of the bits are what is wanted")]
fn place(hash: u64) -> (usize, u32) {
    (hash as usize % SETS, (hash >> 32) as u32 | 1)
}

/// Writes a field out; the name is written too if there is no index for it.
fn literal((form, mask): (u8, u8), name_index: usize, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    write_number(out, form, mask, name_index);
    if name_index == 0 {
        write_name(out, name);
    }
    write_string(out, value);
}

#[inline(never)]
fn write_name(out: &mut Vec<u8>, name: &[u8]) {
    write_number(out, 0, 0x7f, name.len());
    // Copied first: then several bytes are made lower-case at a time.
    let start = out.len();
    out.extend_from_slice(name);
    if let Some(copy) = out.get_mut(start..) {
        copy.make_ascii_lowercase();
    }
}

#[inline(always)]
fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    write_number(out, 0, 0x7f, text.len());
    out.extend_from_slice(text);
}

/// Writes a number behind the bits of the form (RFC 7541 section 5.1).
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "what is cast is less than 128")]
fn write_number(out: &mut Vec<u8>, form: u8, mask: u8, value: usize) {
    match value.checked_sub(usize::from(mask)) {
        None => out.push(form | value as u8),
        Some(rest @ ..0x80) => out.extend_from_slice(&[form | mask, rest as u8]),
        Some(rest) => write_long_number(out, form | mask, rest),
    }
}

#[cold]
#[allow(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn write_long_number(out: &mut Vec<u8>, first: u8, mut rest: usize) {
    out.push(first);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
