//! [`Encoder`]: fields in, header blocks out.

use super::known::KNOWN;
use super::rules::{self, Habit, field_hash, known_hash, name_hash, same_name};
use super::table::{Label, Table};
use super::{ENTRY_OVERHEAD, TABLE_DEFAULT};
use crate::headers::Name;

/// Writes the header blocks of one connection: [`Encoder::start`], then the pseudo-header fields, then the others.
///
/// A field that comes the second time goes into the table, and is an index from then on, found with one hash and one
/// comparison. So what differs from message to message does not push out what repeats, and needs no list of names,
/// although the usual ones are known. A name that comes again, with whatever value, is an index too. Secrets never go
/// into the table.
///
/// Strings are not in the Huffman code. Writing it takes about ten instructions a byte and copying a tenth of one, and
/// what is left to be written out once the table has what repeats is mostly digits, dates and paths, of which it saves a
/// quarter.
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
    /// and 1 KiB.
    pub fn capacity(&self) -> usize {
        self.table.capacity() + size_of::<Seen>()
    }

    /// Starts a block: says what became of the table's size (RFC 7541 section 4.2).
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
            _ => self.repeating(&Wanted::pseudo(2, b":method"), method, out),
        }
    }

    /// `:scheme`
    pub fn scheme(&mut self, https: bool, out: &mut Vec<u8>) {
        out.push(if https { 0x87 } else { 0x86 });
    }

    /// `:authority`
    pub fn authority(&mut self, authority: &[u8], out: &mut Vec<u8>) {
        self.repeating(&Wanted::pseudo(1, b":authority"), authority, out);
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

    /// A field that is not a pseudo-header field. The name may be in any case, and `known` must be [`Name::of`] it or
    /// [`Name::Other`].
    pub fn field(&mut self, known: Name, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let (wanted, habit) = Wanted::of(known, name);
        match habit {
            Habit::Repeats => self.repeating(&wanted, value, out),
            Habit::Cookie if value.len() < COOKIE_MIN => self.literal(NEVER, &wanted, value, out),
            Habit::Varies | Habit::Cookie => _ = self.varying(&wanted, value, out),
            Habit::Secret => self.literal(NEVER, &wanted, value, out),
        }
    }

    /// A field that came with [`super::Field::sensitive`], or is known to be a secret.
    pub fn sensitive(&mut self, known: Name, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let (wanted, _) = Wanted::of(known, name);
        self.literal(NEVER, &wanted, value, out);
    }

    /// A field whose value may come again.
    fn repeating(&mut self, wanted: &Wanted<'_>, value: &[u8], out: &mut Vec<u8>) {
        if wanted.size(value) > self.entry_max {
            return self.literal(PLAIN, wanted, value, out);
        }
        let hash = field_hash(wanted.hash, value);
        let number = match self.seen.look(hash) {
            Some(number) => {
                if let Some(index) = self.table.index_of(number)
                    && let Some((name, old, label)) = self.table.get(index)
                    && wanted.is(name, label)
                    && old == value
                {
                    return write_number(out, 0x80, 0x7f, FIRST + index);
                }
                self.insert(wanted, value, out)
            }
            None => self.varying(wanted, value, out),
        };
        self.seen.note(hash, number, &self.table);
    }

    /// A field whose value is not worth a place, unless its name is. The number of its entry if it became one.
    fn varying(&mut self, wanted: &Wanted<'_>, value: &[u8], out: &mut Vec<u8>) -> u32 {
        if wanted.index == 0 && wanted.size(value) <= self.entry_max {
            match self.seen.look(wanted.hash) {
                None => self.seen.note(wanted.hash, 0, &self.table),
                Some(number) if self.entry_of_name(wanted, number).is_none() => {
                    return self.insert(wanted, value, out);
                }
                Some(_) => {}
            }
        }
        self.literal(PLAIN, wanted, value, out);
        0
    }

    /// Writes a field out and puts it into the table.
    fn insert(&mut self, wanted: &Wanted<'_>, value: &[u8], out: &mut Vec<u8>) -> u32 {
        self.literal(INSERT, wanted, value, out);
        let label = Label { known: wanted.known, pseudo: None, legal_name: true, legal_value: true };
        let number = self.table.insert(wanted.name, value, label);
        self.table.lower_newest();
        if wanted.index == 0 {
            self.seen.note(wanted.hash, number, &self.table);
        }
        number
    }

    /// Writes a field out, with an index for its name if there is one.
    fn literal(&self, (form, mask): (u8, u8), wanted: &Wanted<'_>, value: &[u8], out: &mut Vec<u8>) {
        let index = if wanted.index != 0 {
            usize::from(wanted.index)
        } else {
            let entry = self.seen.look(wanted.hash).and_then(|number| self.entry_of_name(wanted, number));
            entry.map_or(0, |index| FIRST + index)
        };
        write_number(out, form, mask, index);
        if index == 0 {
            write_number(out, 0, 0x7f, wanted.name.len());
            out.extend(wanted.name.iter().map(u8::to_ascii_lowercase));
        }
        write_string(out, value);
    }

    /// The index of the entry of this number if it has the name.
    fn entry_of_name(&self, wanted: &Wanted<'_>, number: u32) -> Option<usize> {
        let index = self.table.index_of(number)?;
        let (name, _, label) = self.table.get(index)?;
        wanted.is(name, label).then_some(index)
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

/// The name of a field that is to be written.
struct Wanted<'x> {
    known: Name,
    name: &'x [u8],
    hash: u64,
    /// In the static table, or 0.
    index: u8,
}

impl<'x> Wanted<'x> {
    #[inline]
    fn of(known: Name, name: &'x [u8]) -> (Self, Habit) {
        let (hash, rule) = if known == Name::Other {
            let hash = name_hash(name);
            (hash, rules::of(name, hash))
        } else {
            (known_hash(known), rules::of_known(known))
        };
        (Self { known, name, hash, index: rule.index }, rule.habit)
    }

    fn pseudo(index: u8, name: &'static [u8]) -> Self {
        Self { known: Name::Other, name, hash: u64::from(index) << 56, index }
    }

    fn size(&self, value: &[u8]) -> usize {
        self.name.len() + value.len() + ENTRY_OVERHEAD
    }

    /// Whether an entry has this name.
    #[inline]
    fn is(&self, name: &[u8], label: Label) -> bool {
        label.known == self.known && (self.known != Name::Other || same_name(name, self.name))
    }
}

/// Hashes of fields and of names that have come lately, and the numbers of their entries. Two places for each hash; what
/// finds none free is forgotten.
struct Seen {
    sets: [[Slot; 2]; SETS],
}

const SETS: usize = 64;

impl Default for Seen {
    fn default() -> Self {
        Self { sets: [[Slot::default(); 2]; SETS] }
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
    #[inline]
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
        let Some(slots) = self.sets.get_mut(set) else { return };
        let free = |slot: &Slot| table.index_of(slot.number).is_none();
        // Of two that are free, not always the same, so that what varies seldom makes forgotten what repeats.
        let [one, other] = slots;
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
}

/// The set and the tag of a hash.
fn place(hash: u64) -> (usize, u32) {
    (hash as usize % SETS, (hash >> 32) as u32 | 1)
}

/// Writes a number behind the bits of the form (RFC 7541 section 5.1).
#[inline(always)]
fn write_number(out: &mut Vec<u8>, form: u8, mask: u8, value: usize) {
    if value < usize::from(mask) {
        out.push(form | value as u8);
    } else {
        write_long_number(out, form, mask, value);
    }
}

#[inline(never)]
fn write_long_number(out: &mut Vec<u8>, form: u8, mask: u8, value: usize) {
    out.push(form | mask);
    let mut rest = value - usize::from(mask);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    write_number(out, 0, 0x7f, text.len());
    out.extend_from_slice(text);
}
